//! A clock that moves only when told.

use std::time::Duration;

use super::{Clock, Instant, ticks};
use crate::sync::{Arc, Mutex, lock};

/// One hour: so that instants before the start exist.
const START_NS: u64 = 3_600_000_000_000;

/// A clock that moves only when told: time for tests.
///
/// Clones share the time. All threads that hold one, or a [`Clock`] made from one, see it move
/// together.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use deadbeat::clock::ManualClock;
///
/// let manual = ManualClock::new();
/// let clock = manual.clock();
/// let start = clock.now();
/// assert_eq!(clock.now(), start);
/// manual.advance(Duration::from_secs(2));
/// assert_eq!(clock.now() - start, Duration::from_secs(2));
/// ```
#[derive(Clone, Debug)]
pub struct ManualClock {
    time_ns: Arc<Mutex<u64>>,
}

impl ManualClock {
    /// A clock that reads one hour after its origin.
    pub fn new() -> Self {
        Self { time_ns: Arc::new(Mutex::new(START_NS)) }
    }

    /// Moves time forward by `duration`, at most to [`Instant::FAR_FUTURE`].
    pub fn advance(&self, duration: Duration) {
        let mut now = lock(&self.time_ns);
        *now = now.saturating_add(ticks::saturating_ns(duration));
    }

    /// Moves time to `instant`.
    pub fn set(&self, instant: Instant) {
        *lock(&self.time_ns) = instant.as_nanos();
    }

    /// The clock that shows this time.
    pub fn clock(&self) -> Clock {
        self.clone().into()
    }

    pub(super) fn read_ns(&self) -> u64 {
        *lock(&self.time_ns)
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}
