//! The first floor: one thread walks the deadlines by absolute sleeps, and reads the clock itself.

use super::{SleeperThread, System, TimerThreads, cheapest_arm};
use crate::precision::host::Host;
use crate::precision::kernel::now;
use crate::precision::round::Round;
use std::io;
use std::sync::Arc;
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Kernel {
    /// For the loads that run on one.
    host: Host,
    sleeper: SleeperThread,
}

impl Kernel {
    pub(super) fn new(host: Host) -> io::Result<Self> {
        Ok(Self { host, sleeper: SleeperThread::start()? })
    }
}

impl System for Kernel {
    fn host(&self) -> &Host {
        &self.host
    }

    fn start(&self, round: &Arc<Round>) -> io::Result<()> {
        let round = Arc::clone(round);
        let order = round.by_deadline();
        self.sleeper.run(move |sleeper| {
            for (task, deadline) in order {
                if now() < deadline {
                    sleeper.sleep_until(deadline);
                }
                round.record(task);
            }
        });
        Ok(())
    }

    fn timer_threads(&self) -> TimerThreads {
        self.sleeper.timer_threads()
    }

    fn arm_and_drop(&self, _: Duration) -> Box<dyn FnMut() + Send> {
        cheapest_arm()
    }
}
