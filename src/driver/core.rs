//! What the threads that arm and the driver share: shards, nodes, and the word that says when the
//! driver will wake.
//!
//! # Park and kick
//!
//! Each [lane](super::lane) has a word that is 0 while the driver is awake (it looks at every inbox again
//! before it parks, so nobody needs to call it), else the time at which it will wake, and [`NEVER`] when
//! it sleeps without end or there is no driver thread. Who arms pushes first, then fences, then compares; who parks
//! publishes first, then fences, then looks at the inboxes a last time. So either the driver sees the
//! push, or the pusher sees that it must kick. Orders (a shutdown, the last handle dropped) reach the
//! driver in the same way. `parked` makes it one system call however many
//! arm at once: whoever swaps it to 0 makes the call.

use std::fmt;
use std::sync::{Arc, OnceLock};

use crossbeam_utils::CachePadded;

use super::engine::Engine;
use super::fork;
use super::hooks::Hooks;
use super::lane::Lane;
use super::local;
use super::node::NEVER;
use super::park::Parker;
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
    pub(super) active: Lane,
    /// Made for the first elapsed timer. In here, and not in a box: threads compare lanes by address, which
    /// must not be another's as long as they have a weak reference to this core.
    elapsed: OnceLock<Lane>,
    /// How the driver sleeps, if it does: what a kicker swaps for 0 before it calls.
    parked: CachePadded<AtomicU32>,
    /// One of the constants below; changed under `lifecycle`'s lock.
    phase: AtomicU8,
    pub(super) lifecycle: Mutex<Lifecycle>,
    /// A shutdown was asked for: the driver thread sees to it.
    pub(super) stop_requested: AtomicBool,
    /// How many public handles there are.
    pub(super) handles: AtomicUsize,
    pub(super) counters: Counters,
    /// Who wants to be told of jumps.
    pub(super) hooks: Hooks,
    /// For how long this process is known to have been kept from running, in nanoseconds of active time.
    stalled_ns: AtomicU64,
    /// How many timers want to know about that in time, so that the driver has to look out for it.
    watchers: AtomicUsize,
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

/// There is no driver thread; the first arming starts one. (Or time is moved by hand.)
pub(super) const IDLE: u8 = 0;
/// A driver thread runs.
pub(super) const RUNNING: u8 = 1;
/// Shut down.
pub(super) const STOPPED: u8 = 2;

/// The engines while no driver thread has them, and what is left of the last thread.
#[derive(Debug)]
pub(super) struct Lifecycle {
    pub(super) engines: Option<Box<Engines>>,
    pub(super) thread: Option<thread::JoinHandle<()>>,
}

/// The driver's own half of each lane.
#[derive(Debug)]
pub(super) struct Engines {
    pub(super) active: Engine,
    /// Once there is such a lane.
    pub(super) elapsed: Option<Engine>,
    storms: Policy,
}

impl Engines {
    pub(super) fn new(now: u64, storms: Policy) -> Self {
        Self { active: Engine::new(now, storms), elapsed: None, storms }
    }

    /// The lanes of `core` with their engines, up to date.
    pub(super) fn each<'a>(
        &'a mut self,
        core: &'a Core,
    ) -> impl Iterator<Item = (&'a Lane, &'a mut Engine)> {
        if self.elapsed.is_none() && core.elapsed.get().is_some() {
            let now = core.clock.now_elapsed().as_nanos();
            self.elapsed = Some(Engine::new(now, self.storms));
        }
        let elapsed = core.elapsed.get().zip(self.elapsed.as_mut());
        [(&core.active, &mut self.active)].into_iter().chain(elapsed).map(|(lane, engine)| {
            lane.refresh_shards(engine);
            (lane, engine)
        })
    }

    /// When to look at each lane next.
    pub(super) fn next(&self) -> Next {
        let of = |engine: &Engine| engine.next_expiration().unwrap_or(NEVER);
        Next { active: of(&self.active), elapsed: self.elapsed.as_ref().map_or(NEVER, of) }
    }

    /// Whether anything was armed that the engines don't know of. Behind a fence.
    pub(super) fn have_news(&self, core: &Core) -> bool {
        core.active.has_news(&self.active)
            || match (core.elapsed.get(), &self.elapsed) {
                (Some(lane), Some(engine)) => lane.has_news(engine),
                (lane, _) => lane.is_some(),
            }
    }
}

/// What the driver must know before it sleeps; whoever changes it summons the driver.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// Nobody holds a handle any more.
    pub(super) orphaned: bool,
    /// A timer wants to know of stalls.
    pub(super) watched: bool,
    /// Somebody wants to know of jumps.
    pub(super) hooked: bool,
}

/// When something is due, on the clock of each lane; [`NEVER`] if nothing is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Next {
    pub(super) active: u64,
    pub(super) elapsed: u64,
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
        // By hand, nobody has to be woken; else there is no driver yet, and the first arming calls.
        let next = if options.manual { 0 } else { NEVER };
        let now = clock.now().as_nanos();
        let storms = if options.manual { Policy::EARLIEST } else { Policy::FRESH };
        Arc::new(Self {
            hooks: Hooks::new(clock.jump_count()),
            clock,
            epoch: fork::epoch(),
            active: Lane::new(false, next),
            elapsed: OnceLock::new(),
            parked: CachePadded::new(AtomicU32::new(0)),
            phase: AtomicU8::new(IDLE),
            lifecycle: Mutex::new(Lifecycle {
                engines: Some(Box::new(Engines::new(now, storms))),
                thread: None,
            }),
            stop_requested: AtomicBool::new(false),
            handles: AtomicUsize::new(0),
            counters: Counters::default(),
            stalled_ns: AtomicU64::new(0),
            watchers: AtomicUsize::new(0),
            looks_twice: options.manual || options.spin,
            spin: options.spin.then(Spin::new),
            options,
            parker: Parker::new(),
        })
    }

    // Lanes and shards.

    /// The lane of active or elapsed time.
    #[inline]
    pub(super) fn lane(&self, elapsed: bool) -> &Lane {
        if elapsed { self.elapsed_lane() } else { &self.active }
    }

    fn elapsed_lane(&self) -> &Lane {
        self.elapsed.get_or_init(|| {
            // As for the other: by hand, nobody has to be woken. A driver that is parked does not know
            // of this lane, so the first arming calls it.
            Lane::new(true, if self.options.manual { 0 } else { NEVER })
        })
    }

    /// All lanes that there are.
    pub(super) fn lanes(&self) -> impl Iterator<Item = &Lane> {
        [&self.active].into_iter().chain(self.elapsed.get())
    }

    /// Runs `f` with the shard of the calling thread, which `f` may use as its owner.
    #[inline]
    pub(super) fn with_shard<R>(
        self: &Arc<Self>,
        elapsed: bool,
        f: impl FnOnce(&Lane, &Shard) -> R,
    ) -> R {
        let lane = self.lane(elapsed);
        match local::shard(self, lane) {
            Some(shard) => f(lane, shard),
            // The thread is past its thread-locals: the lock makes us the owner for a moment.
            None => f(lane, &lock(&lane.inject)),
        }
    }

    // Park and kick: the side that arms.

    /// Makes sure that the driver comes by `deadline`. After the push, and a fence.
    ///
    /// # Errors
    ///
    /// The Timekeeper was shut down.
    #[inline]
    pub(super) fn ensure_wake(
        self: &Arc<Self>,
        elapsed: bool,
        deadline: u64,
    ) -> Result<(), Stopped> {
        if self.lane(elapsed).is_late_for(deadline) { self.kick() } else { Ok(()) }
    }

    /// Wakes the driver if it is parked, starts one if there is none.
    #[cold]
    pub(super) fn kick(self: &Arc<Self>) -> Result<(), Stopped> {
        // Ordering: acquire what was published before `next`; the swap decides who makes the call.
        let parked = self.parked.swap(0, AcqRel);
        if parked != 0 {
            self.counters.kick();
            self.parker.unpark(&self.parked, parked);
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
        let parked = self.parked.swap(0, AcqRel);
        if parked != 0 {
            self.parker.unpark(&self.parked, parked);
        }
    }

    // Park and kick: the driver's side.

    /// Says until when the driver is going to sleep, and how (`parked`). False if it must look again
    /// first: something was armed, or there are orders.
    pub(super) fn publish_wake(
        &self,
        next: Next,
        parked: u32,
        engines: &Engines,
        known: Known,
    ) -> bool {
        // Ordering: published by the fence.
        self.parked.store(parked, Relaxed);
        self.set_next(next);
        // Ordering: the driver's half of the protocol (module doc).
        fence(SeqCst);
        if engines.have_news(self) || self.stop_requested.load(Acquire) || known != self.known() {
            self.retract_wake();
            return false;
        }
        true
    }

    fn set_next(&self, next: Next) {
        self.active.set_next(next.active);
        if let Some(lane) = self.elapsed.get() {
            lane.set_next(next.elapsed);
        }
    }

    /// What the driver sleeps by. Behind a fence, again: it may have changed.
    pub(super) fn known(&self) -> Known {
        Known { orphaned: self.is_orphaned(), watched: self.is_watched(), hooked: self.hooks.any() }
    }

    /// Whether nobody holds a handle any more.
    fn is_orphaned(&self) -> bool {
        // Ordering: acquire what the last holder did; it summons the driver afterwards.
        !self.options.immortal && self.handles.load(Acquire) == 0
    }

    /// Whether any timer is armed that will ever come due; see [`Lane::any_pending`].
    pub(super) fn any_pending(&self, last: &mut [usize; 2]) -> bool {
        self.lanes().zip(last).any(|(lane, last)| lane.any_pending(last))
    }

    /// The driver is awake.
    pub(super) fn retract_wake(&self) {
        // Ordering: a kicker that still sees the old values makes one call too many.
        self.set_next(Next { active: 0, elapsed: 0 });
        self.parked.store(0, Relaxed);
    }

    /// What the parker waits on: 0 means "get up".
    pub(super) fn parked(&self) -> &AtomicU32 {
        &self.parked
    }

    /// Makes every arming come to [`kick`](Self::kick): nobody will look at the inboxes.
    pub(super) fn no_driver(&self, phase: u8) {
        // Ordering: release, read by `kick` before anything is made of `next`.
        self.phase.store(phase, Release);
        self.parked.store(0, Release);
        self.set_next(Next { active: NEVER, elapsed: NEVER });
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

    /// Whether [`ensure_wake`](Self::ensure_wake) would start a driver thread.
    #[cfg(all(test, deadbeat_loom))]
    pub(super) fn must_start(&self, deadline: u64) -> bool {
        self.active.is_late_for(deadline)
            && self.parked.swap(0, AcqRel) == 0
            && self.phase.load(Acquire) == IDLE
    }

    #[cfg(all(test, deadbeat_loom))]
    pub(super) fn is_parked(&self) -> bool {
        self.parked.load(Acquire) != 0
    }

    // Stalls.

    /// For how long this process is known to have been kept from running.
    pub(crate) fn stalled_ns(&self) -> u64 {
        // Ordering: acquire, so that who was woken after a stall sees that it was one.
        self.stalled_ns.load(Acquire)
    }

    /// Adds to that.
    pub(super) fn add_stalled(&self, ns: u64) {
        // Ordering: release, before whoever fell due meanwhile is woken.
        let _ = self
            .stalled_ns
            .fetch_update(Release, Relaxed, |stalled| Some(stalled.saturating_add(ns)));
    }

    /// Has the driver look out for stalls.
    pub(crate) fn watch(&self) {
        // Ordering: the summons fences.
        if self.watchers.fetch_add(1, Relaxed) == 0 {
            self.summon();
        }
    }

    /// One less that wants it to.
    pub(crate) fn unwatch(&self) {
        // Ordering: a count; the driver looks out once too often.
        self.watchers.fetch_sub(1, Relaxed);
    }

    fn is_watched(&self) -> bool {
        // Ordering: read once more behind the driver's fence, in `publish_wake`.
        self.watchers.load(Relaxed) > 0
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
