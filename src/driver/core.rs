//! What the threads that arm and the driver share: shards, nodes, and the word that says when the
//! driver will wake.
//!
//! # Park and kick
//!
//! `next_wake` is 0 while the driver is awake (it looks at every inbox again before it parks, so
//! nobody needs to call it), else the time at which it will wake, and [`NEVER`] when it sleeps without
//! end or there is no driver thread. Who arms pushes first, then fences, then compares; who parks
//! publishes first, then fences, then looks at the inboxes a last time. So either the driver sees the
//! push, or the pusher sees that it must kick. Orders (a shutdown, the last handle dropped) reach the
//! driver in the same way. `parked` makes it one system call however many
//! arm at once: whoever swaps it to 0 makes the call.

use std::fmt;
use std::sync::Arc;

use crossbeam_utils::CachePadded;

use super::engine::Engine;
use super::fork;
use super::local;
use super::node::NEVER;
use super::park::{PARKED, Parker};
use super::pool::Pool;
use super::shard::Shard;
use super::spin::Spin;
use super::stats::Counters;
use crate::clock::Clock;
use crate::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering::*, fence,
};
use crate::sync::{Mutex, lock, thread};
use crate::wheel::backlog::Policy;

/// One Timekeeper's shared state.
pub(crate) struct Core {
    pub(crate) clock: Clock,
    /// In which life of the process it was made.
    epoch: u64,
    pub(super) pool: Pool,
    shards: Mutex<Shards>,
    /// Grows with every new shard, so that the driver knows when to look.
    shards_version: AtomicUsize,
    /// For threads that are past their thread-locals: one shard for all of them, under a lock.
    inject: Mutex<Arc<Shard>>,
    wake: CachePadded<Wake>,
    /// One of the constants below; changed under `lifecycle`'s lock.
    phase: AtomicU8,
    pub(super) lifecycle: Mutex<Lifecycle>,
    /// A shutdown was asked for: the driver thread sees to it.
    pub(super) stop_requested: AtomicBool,
    /// How many public handles there are.
    pub(super) handles: AtomicUsize,
    pub(super) counters: Counters,
    pub(super) options: Options,
    /// A timer looks at the clock before it is armed, even if it was in the future when it was made:
    /// because a test may have moved the clock in between, or to spin.
    pub(super) looks_twice: bool,
    /// What timers with spin have learned; `None`: none have.
    pub(super) spin: Option<Spin>,
    pub(super) parker: Parker,
}

/// What a builder can choose.
#[derive(Clone, Debug, Default)]
pub(super) struct Options {
    pub(super) name: Option<String>,
    pub(super) spin: bool,
    /// Nobody drives this one but its user.
    pub(super) manual: bool,
    /// Lives as long as the process, and is not counted.
    pub(super) immortal: bool,
}

#[derive(Debug, Default)]
struct Shards {
    all: Vec<Arc<Shard>>,
    orphans: Vec<Arc<Shard>>,
}

#[derive(Debug)]
struct Wake {
    next: AtomicU64,
    parked: AtomicU32,
}

/// There is no driver thread; the first arming starts one. (Or time is moved by hand.)
pub(super) const IDLE: u8 = 0;
/// A driver thread runs.
pub(super) const RUNNING: u8 = 1;
/// Shut down.
pub(super) const STOPPED: u8 = 2;

/// The engine while no driver thread has it, and what is left of the last thread.
#[derive(Debug)]
pub(super) struct Lifecycle {
    pub(super) engine: Option<Box<Engine>>,
    pub(super) thread: Option<thread::JoinHandle<()>>,
}

/// Why a timer can't be armed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// The Timekeeper was shut down.
    ShutDown,
    /// It was made by a parent process, and its driver thread is there.
    Forked,
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ShutDown => "the timekeeper of this timer was shut down before its deadline",
            Self::Forked => {
                "the timekeeper of this timer was made before a fork and has no driver in the child"
            }
        })
    }
}

impl Core {
    pub(super) fn new(clock: Clock, options: Options) -> Arc<Self> {
        let inject = Arc::new(Shard::new());
        // By hand, nobody has to be woken; else there is no driver yet, and the first arming calls.
        let next = if options.manual { 0 } else { NEVER };
        let now = clock.now().as_nanos();
        let storms = if options.manual { Policy::EARLIEST } else { Policy::FRESH };
        Arc::new(Self {
            clock,
            epoch: fork::epoch(),
            pool: Pool::new(),
            shards: Mutex::new(Shards { all: vec![inject.clone()], orphans: Vec::new() }),
            shards_version: AtomicUsize::new(1),
            inject: Mutex::new(inject),
            wake: CachePadded::new(Wake { next: AtomicU64::new(next), parked: AtomicU32::new(0) }),
            phase: AtomicU8::new(IDLE),
            lifecycle: Mutex::new(Lifecycle {
                engine: Some(Box::new(Engine::new(now, storms))),
                thread: None,
            }),
            stop_requested: AtomicBool::new(false),
            handles: AtomicUsize::new(0),
            counters: Counters::default(),
            looks_twice: options.manual || options.spin,
            spin: options.spin.then(Spin::new),
            options,
            parker: Parker::new(),
        })
    }

    // Shards.

    /// A shard for a thread that has none: one that another thread left, else a new one.
    pub(super) fn adopt_shard(&self) -> Arc<Shard> {
        let mut shards = lock(&self.shards);
        if let Some(shard) = shards.orphans.pop() {
            return shard;
        }
        let shard = Arc::new(Shard::new());
        shards.all.push(shard.clone());
        // Ordering: release the list; the lock orders it for whoever looks because of this.
        self.shards_version.store(shards.all.len(), Release);
        shard
    }

    /// Takes a shard back from a thread that ends.
    pub(super) fn orphan_shard(&self, shard: Arc<Shard>) {
        lock(&self.shards).orphans.push(shard);
    }

    /// Runs `f` with the shard of the calling thread, which `f` may use as its owner.
    #[inline]
    pub(super) fn with_shard<R>(self: &Arc<Self>, f: impl FnOnce(&Shard) -> R) -> R {
        match local::shard(self) {
            Some(shard) => f(shard),
            // The thread is past its thread-locals: the lock makes us the owner for a moment.
            None => f(&lock(&self.inject)),
        }
    }

    /// Brings the engine's list of shards up to date.
    pub(super) fn refresh_shards(&self, known: &mut usize, engine: &mut Engine) {
        // Ordering: acquire; a shard that comes later is seen behind the fence before parking, since
        // its version was stored before the push that would have to be seen.
        let version = self.shards_version.load(Acquire);
        if version != *known {
            *known = version;
            engine.set_shards(lock(&self.shards).all.clone());
        }
    }

    pub(super) fn shard_count(&self) -> usize {
        lock(&self.shards).all.len()
    }

    pub(super) fn armed(&self) -> u64 {
        lock(&self.shards).all.iter().fold(0, |sum, shard| sum.wrapping_add(shard.armed()))
    }

    // Park and kick: the side that arms.

    /// Makes sure that the driver comes by `deadline`. After the push, and a fence.
    ///
    /// # Errors
    ///
    /// The Timekeeper was shut down.
    #[inline]
    pub(super) fn ensure_wake(self: &Arc<Self>, deadline: u64) -> Result<(), Stopped> {
        // Ordering: behind the caller's fence (module doc).
        if deadline < self.wake.next.load(Relaxed) { self.kick() } else { Ok(()) }
    }

    /// Wakes the driver if it is parked, starts one if there is none.
    #[cold]
    pub(super) fn kick(self: &Arc<Self>) -> Result<(), Stopped> {
        // Ordering: acquire what was published before `next`; the swap decides who makes the call.
        if self.wake.parked.swap(0, AcqRel) != 0 {
            self.counters.kick();
            self.parker.unpark(&self.wake.parked);
            return Ok(());
        }
        // Ordering: `phase` was stored before the `next` that brought us here.
        match self.phase.load(Acquire) {
            RUNNING => Ok(()),
            STOPPED => Err(Stopped::ShutDown),
            _ => self.start(),
        }
    }

    /// Wakes the driver although nothing is due, so that it looks at its orders.
    pub(super) fn summon(&self) {
        // Ordering: Dekker's, as for a push: either the driver sees the orders in its last look, or
        // it is parked and seen here.
        fence(SeqCst);
        // Ordering: release the orders.
        if self.wake.parked.swap(0, AcqRel) != 0 {
            self.parker.unpark(&self.wake.parked);
        }
    }

    // Park and kick: the driver's side.

    /// Says until when the driver is going to sleep. False if it must look again first: something was
    /// pushed, or there are orders. `orphaned` is what the driver knows of
    /// [`is_orphaned`](Self::is_orphaned).
    pub(super) fn publish_wake(
        &self,
        next: u64,
        engine: &Engine,
        known_shards: usize,
        orphaned: bool,
    ) -> bool {
        // Ordering: published by the fence.
        self.wake.parked.store(PARKED, Relaxed);
        self.wake.next.store(next, Relaxed);
        // Ordering: the driver's half of the protocol (module doc).
        fence(SeqCst);
        if engine.has_mail()
            || self.shards_changed(known_shards)
            || self.stop_requested.load(Acquire)
            || (!orphaned && self.is_orphaned())
        {
            self.retract_wake();
            return false;
        }
        true
    }

    /// Whether there are shards that the engine does not know. Behind a fence.
    pub(super) fn shards_changed(&self, known_shards: usize) -> bool {
        // Ordering: behind the fence.
        self.shards_version.load(Acquire) != known_shards
    }

    /// Whether nobody holds a handle any more.
    pub(super) fn is_orphaned(&self) -> bool {
        // Ordering: acquire what the last holder did; it summons the driver afterwards.
        !self.options.immortal && self.handles.load(Acquire) == 0
    }

    /// Whether any timer is armed that will ever come due. Looks first where it found one last; *O*(1)
    /// while that one is pending, else up to *O*(nodes).
    pub(super) fn any_pending(&self, last: &mut usize) -> bool {
        self.pool.find(last, |node| {
            let seen = node.see();
            seen.live() && seen.deadline < NEVER - 1
        })
    }

    /// The driver is awake.
    pub(super) fn retract_wake(&self) {
        // Ordering: a kicker that still sees the old values makes one call too many.
        self.wake.next.store(0, Relaxed);
        self.wake.parked.store(0, Relaxed);
    }

    /// What the parker waits on: 0 means "get up".
    pub(super) fn parked(&self) -> &AtomicU32 {
        &self.wake.parked
    }

    /// Makes every arming come to [`kick`](Self::kick): nobody will look at the inboxes.
    pub(super) fn no_driver(&self, phase: u8) {
        // Ordering: release, read by `kick` before anything is made of `next`.
        self.phase.store(phase, Release);
        self.wake.parked.store(0, Release);
        self.wake.next.store(NEVER, Release);
        // Ordering: Dekker's, against an arming that still saw the old `next`.
        fence(SeqCst);
    }

    pub(super) fn set_running(&self) {
        // Ordering: as above.
        self.phase.store(RUNNING, Release);
    }

    pub(super) fn phase(&self) -> u8 {
        // Ordering: pairs with the stores above.
        self.phase.load(Acquire)
    }

    /// The version of the list of shards.
    #[cfg(all(test, deadbeat_loom))]
    pub(super) fn shards_seen(&self) -> usize {
        self.shards_version.load(Acquire)
    }

    /// Whether [`ensure_wake`](Self::ensure_wake) would start a driver thread.
    #[cfg(all(test, deadbeat_loom))]
    pub(super) fn must_start(&self, deadline: u64) -> bool {
        deadline < self.wake.next.load(Relaxed)
            && self.wake.parked.swap(0, AcqRel) == 0
            && self.phase.load(Acquire) == IDLE
    }

    #[cfg(all(test, deadbeat_loom))]
    pub(super) fn is_parked(&self) -> bool {
        self.wake.parked.load(Acquire) != 0
    }

    /// Whether nothing fires any more: after a shutdown, or in a forked child.
    #[inline]
    pub(super) fn is_stopped(&self) -> bool {
        self.phase() == STOPPED || self.is_forked()
    }

    /// Whether this is a copy in a forked child, whose locks may be held for ever. (By hand it is as
    /// good as the original, unless threads shared that.)
    #[inline]
    pub(super) fn is_forked(&self) -> bool {
        !fork::is_epoch(self.epoch) && !self.options.manual
    }
}

impl fmt::Debug for Core {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Core")
            .field("clock", &self.clock)
            .field("options", &self.options)
            .field("phase", &self.phase())
            .finish_non_exhaustive()
    }
}
