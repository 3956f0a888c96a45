//! The time of a call, which is read often.

use std::time::Duration;

use crate::clock::{Clock, Elapsed, Instant};
use crate::driver::with_current_clock;

/// Closer to a deadline than this, its own clock is asked.
const NEAR: Duration = Duration::from_millis(1);

/// Elapsed time, carried on from one reading by the clock of active time, which costs a half of it.
///
/// It is behind by what the machine was suspended for since then: good for an account, and to see that a
/// poll hasn't gone over a deadline. Whether anything is begun, read or sent is up to the true clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    elapsed: Instant<Elapsed>,
    active: Instant,
}

fn active() -> Instant {
    with_current_clock(Clock::now_unordered)
}

/// Whether `at` has come, `about` now: by the true clock where it may have.
pub(crate) fn has_come(at: Instant<Elapsed>, about: Instant<Elapsed>) -> bool {
    about + NEAR >= at && at <= Instant::now()
}

impl Pace {
    /// From `now` on.
    pub(crate) fn from(now: Instant<Elapsed>) -> Self {
        Self { elapsed: now, active: active() }
    }

    /// The reading that it began with.
    pub(crate) fn start(&self) -> Instant<Elapsed> {
        self.elapsed
    }

    /// The time now, about.
    pub(crate) fn now(&self) -> Instant<Elapsed> {
        self.elapsed + active().duration_since(self.active)
    }
}
