//! `tokio::time`, of either kind: the runtime decides which.

use super::{System, TimerThreads, poll_and_drop};
use crate::precision::host::Host;
use crate::precision::round::Round;
use std::io;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Tokio {
    host: Host,
}

impl Tokio {
    pub(super) fn new(host: Host) -> Self {
        Self { host }
    }
}

impl System for Tokio {
    fn host(&self) -> &Host {
        &self.host
    }

    fn start(&self, round: &Arc<Round>) -> io::Result<()> {
        self.host.spawn_round(round, |_, deadline| tokio::time::sleep_until(deadline.into()));
        Ok(())
    }

    /// Whichever worker is idle drives the timers.
    fn timer_threads(&self) -> TimerThreads {
        TimerThreads::Workers(self.host.workers())
    }

    fn arm_and_drop(&self, timeout: Duration) -> Box<dyn FnMut() + Send> {
        Box::new(move || poll_and_drop(tokio::time::sleep(timeout)))
    }
}
