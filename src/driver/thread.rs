//! The driver thread: runs the engine, wakes who is due, and sleeps on the kernel's clock in between.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use super::core::{Core, Engines, IDLE, Known, Next, RUNNING, STOPPED, Stopped};
use super::engine::Fired;
use super::lane::Lane;
use super::node::NEVER;
use super::park::{POLLING, Until};
use super::sys;
use crate::clock::Moment;
use crate::sync::atomic::Ordering::Acquire;
use crate::sync::{lock, thread};

/// Waking so much later than asked is a stall: the process was kept from running.
///
/// Ordinary preemption on a busy machine takes some milliseconds, up to a scheduling period or two.
pub(super) const STALL_NS: u64 = 50_000_000;

/// How often the driver looks while somebody wants to know of stalls: what is shorter than this may come
/// and go between two timers unnoticed, but for as much of it as falls beyond the look.
const WATCH_NS: u64 = 250_000_000;

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
                // The engines stay where they are until there is a thread to have them.
                let engines = lock(&core.lifecycle).engines.take();
                Driver::new(core, engines.expect("an idle core has its engines")).run();
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

    /// Tests the counter again, on a thread of its own.
    fn retest(&self) {
        let name = self.options.name.as_deref().unwrap_or("deadbeat");
        let clock = self.clock.clone();
        // Without a thread it is put off: the next turn asks again.
        let _ = sys::with_signals_blocked(|| {
            thread::Builder::new().name(format!("{name}-clock")).spawn(move || clock.retest())
        });
    }

    /// Wakes a batch, outside all locks.
    pub(super) fn wake_all(&self, lane: &Lane, fired: &mut Vec<Fired>) {
        if fired.is_empty() {
            return;
        }
        /// So many wakers share a reading of the clock, which costs a third of a timer.
        const READ_EVERY: usize = 8;
        let mut now = 0;
        let mut all = fired.drain(..);
        while let Some(Fired { deadline, waker }) = all.next() {
            if all.len().is_multiple_of(READ_EVERY) || now == 0 {
                now = if lane.elapsed {
                    lane.now_ns(&self.clock)
                } else {
                    self.clock.now_unordered().as_nanos()
                };
            }
            // Most often a task that nobody has touched since it went to sleep.
            if let Some(soon) = all.as_slice().get(2) {
                sys::prefetch(soon.waker.data());
            }
            self.counters.fired(now.saturating_sub(deadline));
            self.shielded(|| waker.wake());
        }
    }

    /// Runs what belongs to others. A panic is caught and counted.
    pub(super) fn shielded(&self, call: impl FnOnce()) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(call)) {
            self.counters.waker_panic();
            // What it threw is user data, too, and may throw again when dropped; then no more.
            if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
                std::mem::forget(again);
            }
        }
    }

    /// Stops for good: everything fires, so that whoever waits finds out. What is to be woken comes
    /// back, by lane.
    pub(super) fn stop(&self, engines: &mut Engines) -> [Vec<Fired>; 2] {
        self.no_driver(STOPPED);
        let mut fired = [const { Vec::new() }; 2];
        for ((lane, engine), fired) in engines.each(self).zip(&mut fired) {
            engine.stop(&lane.pool, fired);
        }
        fired
    }

    /// Wakes all that a stop has fired.
    pub(super) fn wake_stopped(&self, mut fired: [Vec<Fired>; 2]) {
        for (lane, fired) in self.lanes().zip(&mut fired) {
            self.wake_all(lane, fired);
        }
    }
}

struct Driver {
    core: Arc<Core>,
    engines: Option<Box<Engines>>,
    fired: Vec<Fired>,
    /// When it was to wake, by CLOCK_MONOTONIC, and what for; nothing has been found due since.
    asked: Option<Asked>,
    /// The end of the last turn: since then, nobody's code but this thread's own was run.
    quiet: Moment,
    /// Where a pending timer was last found in each lane, after the last handle was dropped.
    last_pending: [usize; 2],
}

/// What a sleep was for.
#[derive(Clone, Copy)]
struct Asked {
    /// When it was asked.
    at: Moment,
    /// `None`: until called.
    monotonic_ns: Option<u64>,
    /// For a look whether all is well, and no timer.
    to_watch: bool,
    /// In which way.
    mode: u32,
}

impl Driver {
    fn new(core: Arc<Core>, engines: Box<Engines>) -> Self {
        let quiet = core.clock.moment();
        Self {
            core,
            engines: Some(engines),
            fired: Vec::new(),
            asked: None,
            quiet,
            last_pending: [0; 2],
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
            let known = core.known();
            if known.orphaned && !core.any_pending(&mut self.last_pending) {
                if self.retire() {
                    return;
                }
                continue;
            }
            let engines = self.engines.as_deref().expect("running");
            let next = engines.next();
            let mode = core.parker.mode(next.elapsed != NEVER || known.hooked);
            if core.publish_wake(next, mode, engines, known) {
                self.sleep(next, mode, known);
                core.retract_wake();
            }
        }
    }

    /// One turn of each engine, and the waking. Returns whether there is more to do at once.
    fn turn(&mut self) -> bool {
        let core = &self.core;
        let asked = self.asked.take();
        // What has woken it may be that a clock was set.
        let look = asked.is_some_and(|asked| asked.mode == POLLING);
        let reading = if look { core.clock.look() } else { core.clock.sample() };
        if let Some(Asked { at, monotonic_ns: Some(until_ns), .. }) = asked {
            core.note_lateness(&at, until_ns, reading.monotonic_ns);
        }
        // Before what fell due meanwhile, so that it finds out that it was a jump.
        core.attend_to_jumps();
        if core.clock.is_retest_due(reading.monotonic_ns) {
            core.retest();
        }
        let mut more = false;
        let mut idle = true;
        for (lane, engine) in self.engines.as_deref_mut().expect("running").each(core) {
            let now = if lane.elapsed { lane.now_ns(&core.clock) } else { reading.safe_ns };
            more |= engine.turn(&lane.pool, now, &mut self.fired);
            idle &= self.fired.is_empty();
            core.wake_all(lane, &mut self.fired);
        }
        match asked {
            Some(asked) if asked.to_watch && idle => core.counters.watch(),
            Some(_) => core.counters.wake(idle),
            None => {}
        }
        self.quiet = core.clock.moment();
        more
    }

    /// Sleeps until something is due, or until called.
    fn sleep(&mut self, next: Next, mode: u32, known: Known) {
        let core = &self.core;
        let reading = core.clock.sample();
        // Right behind the last moment of quiet, so that no stall can hit in between.
        let at = core.clock.moment();
        core.note_lateness(&self.quiet, self.quiet.monotonic_ns, at.monotonic_ns);
        let mut until = Until { monotonic_now_ns: reading.monotonic_ns, ..Until::default() };
        if next.active != NEVER {
            until.monotonic_ns = Some(core.clock.kernel_deadline(next.active));
        }
        if next.elapsed != NEVER {
            until.boottime_ns = Some(core.clock.kernel_deadline_elapsed(next.elapsed));
            until.boottime_now_ns = core.clock.kernel_deadline_elapsed(core.elapsed_now_ns());
        }
        let mut to_watch = false;
        if known.watched {
            let look = reading.monotonic_ns.saturating_add(WATCH_NS);
            to_watch = until.monotonic().is_none_or(|at| at > look);
            if to_watch {
                until.monotonic_ns = Some(look);
            }
        }
        self.asked = Some(Asked { at, monotonic_ns: until.monotonic(), to_watch, mode });
        debug_assert!(mode != POLLING || until.boottime_ns.is_some() || known.hooked);
        core.parker.park(core.parked(), mode, until);
    }

    /// No handle, no pending timer: the thread ends, and leaves the engines for the next.
    fn retire(&mut self) -> bool {
        let mut lifecycle = lock(&self.core.lifecycle);
        self.core.no_driver(IDLE);
        // A last look behind the fence: also at the nodes, since one that is armed where it stands in
        // the wheel is pushed to no inbox; and for a shutdown, which took us for running.
        let engines = self.engines.as_deref().expect("running");
        if engines.have_news(&self.core)
            // Ordering: as in `run`.
            || self.core.stop_requested.load(Acquire)
            || self.core.any_pending(&mut self.last_pending)
        {
            self.core.set_running();
            self.core.retract_wake();
            return false;
        }
        lifecycle.engines = self.engines.take();
        true
    }

    fn stop(mut self) {
        let mut engines = self.engines.take().expect("running");
        let fired = self.core.stop(&mut engines);
        lock(&self.core.lifecycle).engines = Some(engines);
        self.core.wake_stopped(fired);
    }
}

impl Core {
    /// Notes how much later than it should have this thread went on, after nothing but a sleep until
    /// `until_ns`: by CLOCK_MONOTONIC, in which timers are late; and by most of the witnesses, which tell a
    /// stall from a leap of that clock. (What the leap was is for the clock to find out.)
    fn note_lateness(&self, since: &Moment, until_ns: u64, now_ns: u64) {
        let late_ns = now_ns.saturating_sub(until_ns);
        if late_ns < STALL_NS {
            return;
        }
        self.add_stalled(late_ns);
        let meant_ns = until_ns.saturating_sub(since.monotonic_ns);
        let stalled_ns = self.clock.since_ns(since).saturating_sub(meant_ns).min(late_ns);
        if stalled_ns >= STALL_NS {
            self.clock.add_stall(stalled_ns, self.clock.now());
        }
    }

    pub(super) fn elapsed_now_ns(&self) -> u64 {
        self.clock.now_elapsed().as_nanos()
    }
}
