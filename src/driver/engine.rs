//! The driver's work, whoever does it: look at what was armed, fire what is due, say when to come
//! back. No clock, no waiting and no waking in here; `now` comes in, wakers go out.
//!
//! # One turn
//!
//! 1. Inboxes are drained into the list of nodes to look at.
//! 2. Up to [`BUDGET`] nodes are taken from the wheel. What is live and due is fired. What is live
//!    and on time elsewhere goes one level down. What is dead or has moved leaves the wheel and joins
//!    the list.
//! 3. Behind one fence, the list is settled: live nodes go where their deadline says, dead ones
//!    are left alone. (The fence is the driver's half of Dekker's protocol, see `node`.)
//!
//! # Storms
//!
//! A slot of the wheel is opened only if the turn can take all of it. When the next is larger, or the
//! budget ends and more is due, the slots that have started are split off as a backlog (see
//! [`backlog`](crate::wheel::backlog)). From then on a turn serves what falls due meanwhile with one
//! budget and the backlogs with another, so that what is fresh waits a turn or two at the most.

use std::ptr::NonNull;
use std::sync::Arc;
use std::task::Waker;

use super::node::{Fire, NEVER, Node, Seen};
use super::pool::{CHUNK, ChunkRef, Pool};
use super::shard::Shard;
use super::sys;
use crate::sync::atomic::{Ordering::SeqCst, fence};
use crate::wheel::backlog::{Backlogs, Policy};
use crate::wheel::list::{Entries, NO_SLOT};
use crate::wheel::raw::{Raw, Take};

/// How many nodes a turn takes from a wheel at the most.
#[cfg(not(any(deadbeat_loom, deadbeat_shuttle)))]
const BUDGET: usize = 512;
#[cfg(any(deadbeat_loom, deadbeat_shuttle))]
const BUDGET: usize = 2;

const _: () = assert!(Policy::FRESH.keep < BUDGET, "a crowd must not stay in the wheel");

/// What the driver alone owns.
#[derive(Debug)]
pub(crate) struct Engine {
    nodes: Nodes,
    shards: Vec<Arc<Shard>>,
    /// The version of that list.
    pub(super) known_shards: usize,
    wheel: Raw,
    /// What was due when a storm was noticed.
    backlogs: Backlogs,
    /// Nodes to look at behind the next fence.
    unsettled: Vec<u32>,
}

/// What is being served.
#[derive(Clone, Copy)]
enum From {
    Wheel,
    Backlog(usize),
    /// What was split off before it was due.
    Later,
}

/// A timer that has fired, and whom to tell.
#[derive(Debug)]
pub(crate) struct Fired {
    pub(crate) deadline: u64,
    pub(crate) waker: Waker,
}

impl Engine {
    pub(crate) fn new(now: u64, storms: Policy) -> Self {
        Self {
            nodes: Nodes { chunks: Vec::new() },
            shards: Vec::new(),
            known_shards: 0,
            wheel: Raw::new(now),
            backlogs: Backlogs::new(storms),
            unsettled: Vec::new(),
        }
    }

    /// The shards to drain, as long as nobody says otherwise.
    pub(crate) fn set_shards(&mut self, shards: Vec<Arc<Shard>>) {
        self.shards = shards;
    }

    /// Does one bounded piece of work and appends what has fired, in the order of deadlines.
    /// Returns whether there is more to do at once.
    pub(crate) fn turn(&mut self, pool: &Pool, now: u64, fired: &mut Vec<Fired>) -> bool {
        let first = fired.len();
        let drained = self.drain(pool);
        let share = BUDGET / (self.backlogs.len() + 1);
        for n in 0..self.backlogs.len() {
            self.expire(From::Backlog(n), now, share.max(1), fired);
        }
        let mut more = !self.expire(From::Later, now, share.max(1), fired);
        if !self.expire(From::Wheel, now, BUDGET, fired) {
            self.backlogs.split_due(&mut self.wheel, now);
            more = true;
        }
        self.settle(now, fired);
        self.backlogs.discard_empty();
        fired[first..].sort_by_key(|fired| fired.deadline);
        more || !drained || !self.backlogs.is_empty()
    }

    /// When to call [`turn`](Self::turn) next, if nothing new is armed. *O*(levels).
    pub(crate) fn next_expiration(&self) -> Option<u64> {
        debug_assert!(self.backlogs.is_empty(), "a backlog is due now");
        // A clock that has gone back finds nothing due before it has come to where it was.
        let next = self.wheel.next_expiration().into_iter().chain(self.backlogs.next_later()).min();
        next.map(|next| next.max(self.wheel.cursor()))
    }

    /// A time that has been, so nothing is due before it. Not after any `now` of a [`turn`](Self::turn).
    pub(crate) fn cursor(&self) -> u64 {
        self.wheel.cursor()
    }

    /// Whether an inbox has something. Behind a fence, the last look before parking.
    pub(crate) fn has_mail(&self) -> bool {
        self.shards.iter().any(|shard| !shard.inbox.is_empty())
    }

    /// Returns whether that was all.
    fn drain(&mut self, pool: &Pool) -> bool {
        let Self { nodes, shards, unsettled, .. } = self;
        let mut all = true;
        for shard in shards {
            all &= shard.inbox.drain(|index| {
                nodes.learn(index, pool);
                nodes.get(index).clear_queued();
                unsettled.push(index);
            });
        }
        all
    }

    /// Takes up to `budget` nodes from the wheel or a backlog. Returns whether all that was due
    /// has been taken.
    fn expire(&mut self, from: From, now: u64, budget: usize, fired: &mut Vec<Fired>) -> bool {
        let now = match from {
            // Whatever the clock says by now: the moment of the split had come.
            From::Backlog(n) => now.max(self.backlogs.until(n)),
            From::Wheel | From::Later => now,
        };
        for room in (1..=budget).rev() {
            let e = &mut self.nodes;
            let taken = match from {
                From::Wheel => self.wheel.take_whole(e, now, room),
                From::Backlog(n) => self.backlogs.take_sorted(e, n, room),
                From::Later => self.backlogs.take_later(e, now, room),
            };
            let (index, ripe) = match taken {
                Take::Entry { i, ripe } => (i, ripe),
                Take::Crowd => return false,
                Take::Nothing => return true,
            };
            let node = self.nodes.get(index);
            let visit = node.visit();
            let seen = node.see();
            if !seen.live() || seen.deadline != visit {
                // Dead, or it has moved: out, and look again behind the fence.
                node.clear_visit();
                self.unsettled.push(index);
            } else if visit <= now && ripe {
                node.clear_visit();
                if !self.nodes.fire(index, seen, fired) {
                    self.unsettled.push(index);
                }
            } else {
                // One level down. The promise to come at `visit` stands all along, so this needs no
                // fence.
                let e = &mut self.nodes;
                match from {
                    From::Wheel => self.wheel.insert(e, index, visit),
                    From::Backlog(n) => self.backlogs.put_back(e, n, &mut self.wheel, index, visit),
                    From::Later => self.backlogs.put_back_later(e, index, visit),
                }
            }
        }
        false
    }

    fn settle(&mut self, now: u64, fired: &mut Vec<Fired>) {
        if self.unsettled.is_empty() {
            return;
        }
        // Ordering: the driver's half of Dekker's protocol: promises were withdrawn above, states and
        // deadlines are read below.
        fence(SeqCst);
        /// How many nodes to look ahead: about as many as fit into the time of a cache miss.
        const AHEAD: usize = 4;
        let mut unsettled = std::mem::take(&mut self.unsettled);
        for (i, &index) in unsettled.iter().enumerate() {
            if let Some(&soon) = unsettled.get(i + AHEAD) {
                self.nodes.prefetch(soon);
            }
            self.place(index, now, fired);
        }
        unsettled.clear();
        self.unsettled = unsettled;
    }

    /// Puts a node where its state and deadline say.
    fn place(&mut self, index: u32, now: u64, fired: &mut Vec<Fired>) {
        loop {
            let node = self.nodes.get(index);
            let seen = node.see();
            let linked = node.slot() != NO_SLOT;
            if !seen.live() || (linked && node.visit() <= seen.deadline) {
                // Nobody waits for it, or it will be visited in time.
                return;
            }
            if linked {
                self.unlink(index);
            }
            // What is due, and not before all that is still to be taken, takes its turn.
            if self.backlogs.insert_if_ahead(&mut self.nodes, index, seen.deadline) {
                return;
            }
            if seen.deadline > now || seen.deadline > self.wheel.cursor() {
                self.wheel.insert(&mut self.nodes, index, seen.deadline);
                return;
            }
            let node = self.nodes.get(index);
            node.clear_visit();
            if self.nodes.fire(index, seen, fired) {
                return;
            }
            // It was cancelled, armed or moved under our hands; and the promise was withdrawn.
            // Ordering: Dekker's again.
            fence(SeqCst);
        }
    }

    fn unlink(&mut self, index: u32) {
        match self.backlogs.place(&self.nodes, index) {
            Some(place) => self.backlogs.remove(&mut self.nodes, place, index),
            None => self.wheel.remove(&mut self.nodes, index),
        }
    }

    /// Fires everything that is armed, due or not: the end of a Timekeeper. *O*(capacity).
    pub(crate) fn stop(&mut self, pool: &Pool, fired: &mut Vec<Fired>) {
        self.drain(pool);
        self.nodes.learn_all(pool);
        // Ordering: what was armed before the stop was announced is seen here, or sees it.
        fence(SeqCst);
        for index in 0..self.nodes.len() {
            let seen = self.nodes.get(index).see();
            if seen.live() {
                // A failure means that it is being cancelled or moved at this moment; an owner that
                // arms it again finds the Timekeeper stopped.
                let _ = self.nodes.fire(index, seen, fired);
            }
        }
        fired.sort_by_key(|fired| fired.deadline);
    }

    #[cfg(any(test, fuzzing))]
    pub(crate) fn invariants(&self) {
        self.wheel.invariants(&self.nodes);
        self.backlogs.invariants(&self.nodes);
    }
}

/// The pool's nodes as the driver sees them.
#[derive(Debug)]
struct Nodes {
    chunks: Vec<ChunkRef>,
}

impl Nodes {
    /// Makes sure that `index` is known.
    #[inline]
    fn learn(&mut self, index: u32, pool: &Pool) {
        if (index / CHUNK) as usize >= self.chunks.len() {
            self.learn_all(pool);
        }
    }

    fn learn_all(&mut self, pool: &Pool) {
        pool.refresh(&mut self.chunks);
    }

    #[expect(clippy::cast_possible_truncation, reason = "the pool counts nodes in u32")]
    fn len(&self) -> u32 {
        self.chunks.len() as u32 * CHUNK
    }

    #[inline]
    fn get(&self, index: u32) -> &Node {
        let chunk: NonNull<Node> = self.chunks[(index / CHUNK) as usize].nodes;
        // SAFETY: a chunk holds CHUNK nodes and lives as long as the pool, which outlives the engine.
        unsafe { chunk.add((index % CHUNK) as usize).as_ref() }
    }

    /// Fires a node that was seen live. Returns false if it has changed since.
    fn fire(&self, index: u32, seen: Seen, fired: &mut Vec<Fired>) -> bool {
        let node = self.get(index);
        match node.fire(seen) {
            Fire::Wake(waker) => fired.push(Fired { deadline: seen.deadline, waker }),
            Fire::WakeAndReturn(waker) => {
                fired.push(Fired { deadline: seen.deadline, waker });
                // SAFETY: shards outlive the pool; the node is ours, free, and of that shard.
                unsafe {
                    self.chunks[(index / CHUNK) as usize].home.as_ref().give_back(node);
                }
            }
            // Counted like the others. Its poll finds out by itself: nobody is to be woken.
            Fire::Seen => {
                fired.push(Fired { deadline: seen.deadline, waker: Waker::noop().clone() })
            }
            Fire::Changed => return false,
        }
        true
    }
}

impl Entries for Nodes {
    fn when(&self, i: u32) -> u64 {
        self.get(i).visit()
    }
    fn set_when(&mut self, i: u32, when: u64) {
        self.get(i).set_visit(when);
    }
    fn links(&self, i: u32) -> (u32, u32) {
        let links = self.get(i).links();
        (links.prev, links.next)
    }
    fn set_prev(&mut self, i: u32, prev: u32) {
        self.get(i).set_links(|links| links.prev = prev);
    }
    fn set_next(&mut self, i: u32, next: u32) {
        self.get(i).set_links(|links| links.next = next);
    }
    fn slot(&self, i: u32) -> u16 {
        self.get(i).slot()
    }
    fn set_slot(&mut self, i: u32, slot: u16) {
        self.get(i).set_slot(slot);
    }
    #[inline]
    fn prefetch(&self, i: u32) {
        sys::prefetch(self.get(i));
    }
}

const _: () = assert!(NEVER == u64::MAX, "the wheel's `when` of an unvisited node");
