//! A thread for each task, which parks until its deadline, with the timer slack that it inherits.

use super::{System, TimerThreads, cheapest_arm};
use crate::precision::host::Host;
use crate::precision::kernel::now;
use crate::precision::round::Round;
use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

/// Enough for what the threads do: there are hundreds.
const STACK_BYTES: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct StdThread {
    /// For the loads that run on one.
    host: Host,
}

impl StdThread {
    pub(super) fn new(host: Host) -> Self {
        Self { host }
    }
}

impl System for StdThread {
    fn host(&self) -> &Host {
        &self.host
    }

    fn start(&self, round: &Arc<Round>) -> io::Result<()> {
        for task in 0..round.tasks() {
            let round = Arc::clone(round);
            thread::Builder::new().stack_size(STACK_BYTES).spawn(move || {
                let deadline = round.begin(task);
                // `park_timeout` may return at any time.
                loop {
                    let left = deadline.saturating_duration_since(now());
                    if left.is_zero() {
                        break;
                    }
                    thread::park_timeout(left);
                }
                round.record(task);
            })?;
        }
        Ok(())
    }

    /// They have ended by the time that they could be asked.
    fn timer_threads(&self) -> TimerThreads {
        TimerThreads::Unknown
    }

    fn arm_and_drop(&self, _: Duration) -> Box<dyn FnMut() + Send> {
        cheapest_arm()
    }
}
