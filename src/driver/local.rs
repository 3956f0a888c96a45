//! What a thread keeps for itself: which Timekeeper it has entered, and its shards.

use std::cell::{Cell, RefCell};
use std::ptr;
use std::sync::{Arc, Weak};

use super::core::Core;
use super::lane::Lane;
use super::shard::Shard;

struct Hot {
    /// The shard used last for each class of time, and of which core it is. Both stay allocated while they
    /// stand here, since `OWNED` has the shard and a weak reference to the core: so no other core has its
    /// address. (Another lane may well have that of one whose core has ended.)
    shard: [Cell<*const Shard>; 2],
    core: [Cell<*const Core>; 2],
    /// `OWNED` is gone: the thread is ending.
    ending: Cell<bool>,
    /// The Timekeeper that was entered last; null: none.
    entered: Cell<*const Core>,
    /// The serial number of the guard that did it, and the last one that was given.
    serial: Cell<u64>,
    next_serial: Cell<u64>,
}

impl Hot {
    const fn new() -> Self {
        Self {
            shard: [const { Cell::new(ptr::null()) }; 2],
            core: [const { Cell::new(ptr::null()) }; 2],
            ending: Cell::new(false),
            entered: Cell::new(ptr::null()),
            serial: Cell::new(0),
            next_serial: Cell::new(0),
        }
    }

    /// Because `OWNED` is about to let go of shards.
    fn forget_shards(&self) {
        for class in 0..2 {
            self.shard[class].set(ptr::null());
            self.core[class].set(ptr::null());
        }
    }
}

#[cfg(not(deadbeat_shuttle))]
thread_local! {
    // Without a destructor, so that access costs no check and works to the very end of the thread.
    static HOT: Hot = const { Hot::new() };
    static OWNED: Owned = const { Owned(RefCell::new(Vec::new())) };
}

#[cfg(deadbeat_shuttle)]
crate::sync::thread_local! {
    static HOT: Hot = Hot::new();
    static OWNED: Owned = Owned(RefCell::new(Vec::new()));
}

/// The thread's shards, one for each lane that it has armed on.
struct Owned(RefCell<Vec<Own>>);

struct Own {
    core: Weak<Core>,
    elapsed: bool,
    shard: Arc<Shard>,
}

impl Drop for Owned {
    fn drop(&mut self) {
        // Without a destructor of its own it is still there; a model checker's may not be.
        let _ = HOT.try_with(|hot| {
            hot.ending.set(true);
            hot.forget_shards();
        });
        for Own { core, elapsed, shard } in self.0.get_mut().drain(..) {
            // In a forked child, nobody needs it, and the lock may be held for ever.
            if let Some(core) = core.upgrade().filter(|core| !core.is_forked()) {
                core.lane(elapsed).orphan_shard(shard);
            }
        }
    }
}

/// The calling thread's shard of `lane`, which is one of `core`'s, and of which it is the owner; `None`
/// when the thread is ending.
#[inline]
pub(super) fn shard<'a>(core: &Arc<Core>, lane: &'a Lane) -> Option<&'a Shard> {
    let class = usize::from(lane.elapsed);
    let (hot_core, hot_shard) =
        HOT.try_with(|hot| (hot.core[class].get(), hot.shard[class].get())).ok()?;
    let is_hot = ptr::eq(hot_core, Arc::as_ptr(core));
    let shard = if is_hot { hot_shard } else { find(core, lane)?.cast_const() };
    // SAFETY: `OWNED` holds it, and so does the core, which the caller holds.
    Some(unsafe { &*shard })
}

/// Whether the calling thread is the owner of `shard`, as far as it can tell quickly.
#[inline]
pub(super) fn owns(elapsed: bool, shard: *const Shard) -> bool {
    HOT.try_with(|hot| ptr::eq(hot.shard[usize::from(elapsed)].get(), shard)).unwrap_or(false)
}

#[cold]
fn find(core: &Arc<Core>, lane: &Lane) -> Option<*mut Shard> {
    if HOT.with(|hot| hot.ending.get()) {
        return None;
    }
    OWNED
        .try_with(|owned| {
            let mut owned = owned.0.borrow_mut();
            let found = owned.iter().position(|own| {
                own.elapsed == lane.elapsed && ptr::eq(own.core.as_ptr(), Arc::as_ptr(core))
            });
            let index = found.unwrap_or_else(|| {
                // Timekeepers that have ended take their shards with them, those of both classes.
                HOT.with(Hot::forget_shards);
                owned.retain(|own| own.core.strong_count() > 0);
                let shard = lane.adopt_shard();
                owned.push(Own { core: Arc::downgrade(core), elapsed: lane.elapsed, shard });
                owned.len() - 1
            });
            let shard = Arc::as_ptr(&owned[index].shard);
            HOT.with(|hot| {
                let class = usize::from(lane.elapsed);
                hot.shard[class].set(shard);
                hot.core[class].set(Arc::as_ptr(core));
            });
            shard.cast_mut()
        })
        .ok()
}

/// The core that the thread has entered, or null.
#[inline]
pub(super) fn entered() -> *const Core {
    HOT.with(|hot| hot.entered.get())
}

/// What a guard must put back.
#[derive(Debug)]
pub(super) struct Outer {
    core: *const Core,
    serial: u64,
    /// The guard's own, unlike every other's of the thread.
    own_serial: u64,
}

/// Enters. The guard must keep `core` alive for as long as it exists itself, forgotten or not.
pub(super) fn enter(core: *const Core) -> Outer {
    HOT.with(|hot| {
        let own_serial = hot.next_serial.get() + 1;
        hot.next_serial.set(own_serial);
        Outer {
            core: hot.entered.replace(core),
            serial: hot.serial.replace(own_serial),
            own_serial,
        }
    })
}

/// Leaves. Returns false if another guard stands in between; then nothing is current any more, since
/// what that guard would put back may be gone by then.
pub(super) fn leave(outer: &Outer) -> bool {
    HOT.with(|hot| {
        let in_order = hot.serial.get() == outer.own_serial;
        hot.entered.set(if in_order { outer.core } else { ptr::null() });
        hot.serial.set(if in_order { outer.serial } else { 0 });
        in_order
    })
}

#[cfg(all(test, not(any(deadbeat_loom, deadbeat_shuttle))))]
mod tests {
    use std::task::{Context, Waker};
    use std::time::Duration;

    use crate::Manual;
    use crate::clock::{Class, Elapsed, Instant};
    use crate::time::Sleep;

    /// Arms a timer, and lets it fire.
    fn fires<C: Class>(manual: &Manual, deadline: Instant<C>) -> bool {
        let mut sleep: Sleep<C> = manual.timekeeper().sleep_until(deadline);
        let mut poll = || sleep.try_poll(&mut Context::from_waker(Waker::noop()));
        assert!(poll().is_pending());
        manual.fast_forward(Duration::from_secs(1));
        poll().is_ready()
    }

    /// The lane of elapsed time is where that of the one before was.
    #[test]
    fn one_timekeeper_after_another_has_its_own_shards_of_each_class() {
        for round in 0..100 {
            let manual = Manual::new();
            let clock = manual.timekeeper().clock();
            if round % 3 > 0 {
                assert!(fires(&manual, clock.now() + Duration::from_secs(1)), "round {round}");
            }
            if round % 3 < 2 {
                let lease: Instant<Elapsed> = clock.now_elapsed() + Duration::from_secs(1);
                assert!(fires(&manual, lease), "round {round}");
            }
        }
    }
}
