//! `async_io::Timer`, driven by that crate's own thread.

use super::{System, TimerThreads, poll_and_drop};
use crate::precision::host::Host;
use crate::precision::kernel::thread_named;
use crate::precision::round::Round;
use async_io::Timer;
use std::io;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug)]
pub(super) struct AsyncIo {
    host: Host,
}

impl AsyncIo {
    pub(super) fn new(host: Host) -> Self {
        // The thread starts with the first timer that is polled.
        poll_and_drop(Timer::after(Duration::from_secs(3600)));
        Self { host }
    }
}

impl System for AsyncIo {
    fn host(&self) -> &Host {
        &self.host
    }

    fn start(&self, round: &Arc<Round>) -> io::Result<()> {
        self.host.spawn_round(round, |_, deadline| Timer::at(deadline));
        Ok(())
    }

    fn timer_threads(&self) -> TimerThreads {
        thread_named("async-io")
            .map_or(TimerThreads::Unknown, |thread| TimerThreads::Own(vec![thread]))
    }

    fn arm_and_drop(&self, timeout: Duration) -> Box<dyn FnMut() + Send> {
        Box::new(move || poll_and_drop(Timer::after(timeout)))
    }
}
