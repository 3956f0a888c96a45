//! The kernel's own sleep, which is the floor of all timers. The benchmarks use this file, too.

use std::num::NonZeroU64;
use std::time::{Duration, Instant};

use rustix::thread::ClockId as SleepClock;
use rustix::time::{ClockId, Timespec, clock_gettime};

use super::now;

/// Sleeps to absolute times with `clock_nanosleep` and a timer slack of 1 ns.
#[derive(Debug)]
pub(crate) struct Sleeper {
    /// The same moment on both clocks, `monotonic` not before `instant`.
    instant: Instant,
    monotonic: Duration,
}

impl Sleeper {
    /// Sets the calling thread's timer slack; the thread is to do nothing else but sleep.
    pub(crate) fn on_this_thread() -> Self {
        // Refused only where a sandbox filters `prctl`: the floor is then higher by the slack,
        // which the report of the box shows.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        let (_, instant, monotonic) = (0..32)
            .map(|_| {
                let before = now();
                let monotonic = monotonic();
                (before.elapsed(), before, monotonic)
            })
            .min()
            .expect("the range is not empty");
        // `monotonic` was read after `instant`: what is computed from the pair errs towards
        // late, by the width of the narrowest bracket, and never towards early.
        Self { instant, monotonic }
    }

    /// Sleeps until `deadline`, by one absolute sleep unless a signal interrupts it.
    pub(crate) fn sleep_until(&self, deadline: Instant) {
        let due = self.monotonic + deadline.saturating_duration_since(self.instant);
        let request = Timespec {
            tv_sec: due.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: due.subsec_nanos().into(),
        };
        while rustix::thread::clock_nanosleep_absolute(SleepClock::Monotonic, &request)
            == Err(rustix::io::Errno::INTR)
        {}
    }
}

fn monotonic() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    Duration::new(
        time.tv_sec.try_into().expect("CLOCK_MONOTONIC is not negative"),
        time.tv_nsec.try_into().expect("less than a second"),
    )
}
