//! The driver thread: runs the engine, wakes who is due, and sleeps on the kernel's clock in between.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::core::{Core, IDLE, RUNNING, STOPPED, Stopped};
use super::engine::{Engine, Fired};
use super::node::NEVER;
use super::park::Until;
use super::sys;
use crate::sync::atomic::Ordering::Acquire;
use crate::sync::{lock, thread};

impl Core {
    /// Starts the driver thread if there is none.
    ///
    /// # Errors
    ///
    /// The Timekeeper was shut down.
    #[cold]
    pub(super) fn start(self: &Arc<Self>) -> Result<(), Stopped> {
        if self.options.manual {
            return Ok(());
        }
        let mut lifecycle = lock(&self.lifecycle);
        match self.phase() {
            RUNNING => return Ok(()),
            STOPPED => return Err(Stopped::ShutDown),
            _ => {}
        }
        let name = self.options.name.clone().unwrap_or_else(|| "deadbeat".to_owned());
        let core = self.clone();
        let clock = self.clock.clone();
        let spawned = sys::with_signals_blocked(|| {
            // The counter's self-test and first baseline take milliseconds; the first timers, on the
            // OS clock, need not wait for them. Without this thread they stay on that clock.
            if !clock.is_manual() {
                let _ = thread::Builder::new()
                    .name(format!("{name}-clock"))
                    .spawn(move || clock.warm_up());
            }
            thread::Builder::new().name(name).spawn(move || {
                // The engine stays where it is until there is a thread to have it.
                let engine = lock(&core.lifecycle).engine.take();
                Driver::new(core, engine.expect("an idle core has its engine")).run();
            })
        });
        match spawned {
            Ok(thread) => {
                lifecycle.thread = Some(thread);
                self.set_running();
                Ok(())
            }
            // As `std::thread::spawn` does: there is nobody to keep the promise. The next arming
            // tries again.
            Err(error) => panic!("the driver thread could not be started: {error}"),
        }
    }

    /// Wakes a batch, outside all locks.
    pub(super) fn wake_all(&self, fired: &mut Vec<Fired>) {
        if fired.is_empty() {
            return;
        }
        /// So many wakers share a reading of the clock, which costs a third of a timer.
        const READ_EVERY: usize = 8;
        let mut now = 0;
        let mut all = fired.drain(..);
        while let Some(Fired { deadline, waker }) = all.next() {
            if all.len().is_multiple_of(READ_EVERY) || now == 0 {
                now = self.clock.now_unordered().as_nanos();
            }
            // Most often a task that nobody has touched since it went to sleep.
            if let Some(soon) = all.as_slice().get(2) {
                sys::prefetch(soon.waker.data());
            }
            self.counters.fired(now.saturating_sub(deadline));
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
                self.counters.waker_panic();
                // What it threw is user data, too, and may throw again when dropped; then no more.
                if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
                    std::mem::forget(again);
                }
            }
        }
    }

    /// Stops for good: fires everything, so that whoever waits finds out.
    pub(super) fn stop(&self, engine: &mut Engine, fired: &mut Vec<Fired>) {
        self.no_driver(STOPPED);
        engine.stop(&self.pool, fired);
    }
}

struct Driver {
    core: Arc<Core>,
    engine: Option<Box<Engine>>,
    fired: Vec<Fired>,
    known_shards: usize,
    /// The time that was published is over, and nothing has been found due yet.
    waited: bool,
    /// Where a pending timer was last found, after the last handle was dropped.
    last_pending: usize,
}

impl Driver {
    fn new(core: Arc<Core>, engine: Box<Engine>) -> Self {
        Self {
            core,
            engine: Some(engine),
            fired: Vec::new(),
            known_shards: 0,
            waited: false,
            last_pending: 0,
        }
    }

    fn run(mut self) {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        self.core.counters.set_timer_slack(sys::minimise_timer_slack());
        self.core.retract_wake();
        let core = self.core.clone();
        loop {
            if self.turn() {
                continue;
            }
            // Ordering: acquire the orders that came with a summons.
            if core.stop_requested.load(Acquire) {
                return self.stop();
            }
            let engine = self.engine.as_deref().expect("running");
            let next = engine.next_expiration().unwrap_or(NEVER);
            let orphaned = core.is_orphaned();
            if orphaned && !core.any_pending(&mut self.last_pending) {
                if self.retire() {
                    return;
                }
                continue;
            }
            if core.publish_wake(next, engine, self.known_shards, orphaned) {
                self.sleep(next);
                core.retract_wake();
            }
        }
    }

    /// One turn of the engine, and the waking. Returns whether there is more to do at once.
    fn turn(&mut self) -> bool {
        let core = &self.core;
        let engine = self.engine.as_deref_mut().expect("running");
        core.refresh_shards(&mut self.known_shards, engine);
        let now = core.clock.sample().safe_ns;
        let more = engine.turn(&core.pool, now, &mut self.fired);
        if std::mem::take(&mut self.waited) {
            core.counters.wake(self.fired.is_empty());
        }
        core.wake_all(&mut self.fired);
        more
    }

    /// Sleeps until `next` on our clock, or until called.
    fn sleep(&mut self, next: u64) {
        let core = &self.core;
        self.waited = true;
        if next == NEVER {
            return core.parker.park(core.parked(), Until { monotonic_ns: None, now_ns: 0 });
        }
        let reading = core.clock.sample();
        let at = core.clock.kernel_deadline(next);
        core.parker
            .park(core.parked(), Until { monotonic_ns: Some(at), now_ns: reading.monotonic_ns });
    }

    /// No handle, no pending timer: the thread ends, and leaves the engine for the next.
    fn retire(&mut self) -> bool {
        let mut lifecycle = lock(&self.core.lifecycle);
        self.core.no_driver(IDLE);
        // A last look behind the fence: also at the nodes, since one that is armed where it stands in
        // the wheel is pushed to no inbox; and for a shutdown, which took us for running.
        let engine = self.engine.as_deref().expect("running");
        if engine.has_mail()
            || self.core.shards_changed(self.known_shards)
            // Ordering: as in `run`.
            || self.core.stop_requested.load(Acquire)
            || self.core.any_pending(&mut self.last_pending)
        {
            self.core.set_running();
            self.core.retract_wake();
            return false;
        }
        lifecycle.engine = self.engine.take();
        true
    }

    fn stop(mut self) {
        let mut engine = self.engine.take().expect("running");
        self.core.stop(&mut engine, &mut self.fired);
        lock(&self.core.lifecycle).engine = Some(engine);
        self.core.wake_all(&mut self.fired);
    }
}
