//! Our own timers, on a timekeeper for each run.

use super::{System, TimerThreads, poll_and_drop};
use crate::precision::host::Host;
use crate::precision::kernel::thread_named;
use crate::precision::round::Round;
use deadbeat::Timekeeper;
use deadbeat::time::Instant;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Deadbeat {
    host: Host,
    timekeeper: Timekeeper,
    thread_name: String,
    slack: Duration,
}

impl Deadbeat {
    /// A driver of its own, which spins before each deadline if asked to.
    pub(super) fn new(host: Host, spin: bool, slack: Duration) -> Self {
        // The driver of the run before may not have ended yet: each has a name of its own, within
        // the 15 bytes that the kernel keeps.
        static RUNS: AtomicU32 = AtomicU32::new(0);
        // Ordering: a number that nothing else hangs on.
        let thread_name = format!("deadbeat-{}", RUNS.fetch_add(1, Ordering::Relaxed));
        let timekeeper = Timekeeper::builder().name(&thread_name).spin(spin).build();
        // Starts the thread, and with it the clock's calibration, before it is measured.
        deadbeat::block_on(timekeeper.sleep_until(timekeeper.now() + Duration::from_millis(20)));
        Self { host, timekeeper, thread_name, slack }
    }
}

impl System for Deadbeat {
    fn host(&self) -> &Host {
        &self.host
    }

    fn start(&self, round: &Arc<Round>) -> io::Result<()> {
        let (timekeeper, slack) = (self.timekeeper.clone(), self.slack);
        self.host.spawn_round(round, move |_, deadline| {
            timekeeper.sleep_until(Instant::from_std(deadline)).with_slack(slack)
        });
        Ok(())
    }

    fn timer_threads(&self) -> TimerThreads {
        thread_named(&self.thread_name)
            .map_or(TimerThreads::Unknown, |thread| TimerThreads::Own(vec![thread]))
    }

    fn arm_and_drop(&self, timeout: Duration) -> Box<dyn FnMut() + Send> {
        let (timekeeper, slack) = (self.timekeeper.clone(), self.slack);
        Box::new(move || {
            poll_and_drop(timekeeper.sleep_until(Instant::now() + timeout).with_slack(slack));
        })
    }
}
