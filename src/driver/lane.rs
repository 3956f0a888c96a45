//! What the timers of one class of time have to themselves: nodes, shards, and the word that says when
//! the driver will look at them next.
//!
//! A deadline of one class means nothing to the other, and so a node never changes its class. The lane of
//! elapsed time is made for the first timer that needs it.

use std::sync::Arc;

use crossbeam_utils::CachePadded;

use super::engine::Engine;
use super::node::NEVER;
use super::pool::Pool;
use super::shard::Shard;
use crate::clock::Clock;
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering::*};
use crate::sync::{Mutex, lock};

/// See the module's doc.
#[derive(Debug)]
pub(crate) struct Lane {
    /// Its deadlines are on `CLOCK_BOOTTIME`.
    pub(super) elapsed: bool,
    pub(super) pool: Pool,
    shards: Mutex<Shards>,
    /// Grows with every new shard, so that the driver knows when to look.
    shards_version: AtomicUsize,
    /// For threads that are past their thread-locals: one shard for all of them, under a lock.
    pub(super) inject: Mutex<Arc<Shard>>,
    /// When the driver looks next: see [`core`](super::core).
    next: CachePadded<AtomicU64>,
}

#[derive(Debug, Default)]
struct Shards {
    all: Vec<Arc<Shard>>,
    orphans: Vec<Arc<Shard>>,
}

impl Lane {
    /// A lane at which the driver looks `next`.
    pub(super) fn new(elapsed: bool, next: u64) -> Self {
        let inject = Arc::new(Shard::new());
        Self {
            elapsed,
            pool: Pool::new(),
            shards: Mutex::new(Shards { all: vec![inject.clone()], orphans: Vec::new() }),
            shards_version: AtomicUsize::new(1),
            inject: Mutex::new(inject),
            next: CachePadded::new(AtomicU64::new(next)),
        }
    }

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

    /// Brings the engine's list of shards up to date.
    pub(super) fn refresh_shards(&self, engine: &mut Engine) {
        // Ordering: acquire; a shard that comes later is seen behind the fence before parking, since
        // its version was stored before the push that would have to be seen.
        let version = self.shards_version.load(Acquire);
        if version != engine.known_shards {
            engine.set_shards(lock(&self.shards).all.clone());
            engine.known_shards = version;
        }
    }

    /// Whether there is something in an inbox, or in one of a shard that the engine does not know.
    /// Behind a fence.
    pub(super) fn has_news(&self, engine: &Engine) -> bool {
        // Ordering: behind the fence.
        engine.has_mail() || self.shards_version.load(Acquire) != engine.known_shards
    }

    pub(super) fn shard_count(&self) -> usize {
        lock(&self.shards).all.len()
    }

    pub(super) fn armed(&self) -> u64 {
        lock(&self.shards).all.iter().fold(0, |sum, shard| sum.wrapping_add(shard.armed()))
    }

    /// Whether any timer is armed that will ever come due. Looks first where it found one last; *O*(1)
    /// while that one is pending, else up to *O*(nodes).
    pub(super) fn any_pending(&self, last: &mut usize) -> bool {
        self.pool.find(last, |node| {
            let seen = node.see();
            seen.live() && seen.deadline < NEVER - 1
        })
    }

    /// Whether the driver may come too late for `deadline`. Behind a fence.
    #[inline]
    pub(super) fn is_late_for(&self, deadline: u64) -> bool {
        // Ordering: behind the caller's fence (see `core`).
        deadline < self.next.load(Relaxed)
    }

    /// Says when the driver looks next. A fence must follow, or nobody care.
    pub(super) fn set_next(&self, next: u64) {
        // Ordering: see the callers in `core`; release, for a driver that ends.
        self.next.store(next, Release);
    }

    /// What the lane's clock reads.
    pub(super) fn now_ns(&self, clock: &Clock) -> u64 {
        if self.elapsed { clock.now_elapsed().as_nanos() } else { clock.now().as_nanos() }
    }

    /// Whether a timer with this deadline may fire.
    #[inline]
    pub(super) fn has_come(&self, clock: &Clock, deadline: u64) -> bool {
        if self.elapsed {
            clock.now_elapsed().as_nanos() >= deadline
        } else {
            clock.has_come(deadline)
        }
    }
}
