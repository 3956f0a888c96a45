//! Where the time of a call goes, for its error and for metrics.

use std::cell::Cell;
use std::time::Duration;

use super::pace::Pace;
use super::stats::Stats;
use crate::clock::{Elapsed, Instant};
use crate::deadline::{Expired, Ledger, Phase};

/// That of one call, from its beginning to when this is dropped.
pub(crate) struct Account {
    ledger: Ledger,
    pace: Pace,
    #[cfg(feature = "metrics")]
    stats: Stats,
}

impl Account {
    /// Begins with the queue.
    pub(crate) fn begin(pace: Pace, stats: &Stats) -> Self {
        #[cfg(not(feature = "metrics"))]
        let _ = stats;
        Self {
            ledger: Ledger::begin(Phase::Queue, pace.start()),
            pace,
            #[cfg(feature = "metrics")]
            stats: stats.clone(),
        }
    }

    pub(crate) fn pace(&self) -> Pace {
        self.pace
    }

    pub(crate) fn phase(&self) -> Phase {
        self.ledger.phase()
    }

    pub(crate) fn enter(&mut self, phase: Phase, at: Instant<Elapsed>) {
        self.ledger.enter(phase, at);
    }

    /// The phase, and how long it has taken up to `now`.
    pub(crate) fn current(&self, now: Instant<Elapsed>) -> (Phase, Duration) {
        let phase = self.phase();
        (phase, self.ledger.spent(now).in_phase(phase))
    }

    /// Adds what is known so far.
    pub(crate) fn explain(&self, expired: Expired) -> Expired {
        expired.with_ledger(&self.ledger)
    }
}

#[cfg(feature = "metrics")]
impl Drop for Account {
    fn drop(&mut self) {
        self.stats.spent(&self.ledger.spent(self.pace.now()));
    }
}

thread_local! {
    static WAITS_IN: Cell<Option<Phase>> = const { Cell::new(None) };
}

/// Says what a service waits for which isn't ready: each time that it is asked.
#[cfg(feature = "channel")]
pub(crate) fn wait_in(phase: Phase) {
    WAITS_IN.set(Some(phase));
}

/// Asks a service whether it is ready. Returns also what it waits for: the queue, unless it says otherwise.
pub(crate) fn asking<R>(ask: impl FnOnce() -> R) -> (R, Phase) {
    let outer = WAITS_IN.take();
    let answer = ask();
    (answer, WAITS_IN.replace(outer).unwrap_or(Phase::Queue))
}
