//! What time it is.

use std::time::Duration;

mod instant;
mod manual;
mod os;
mod ticks;

pub use instant::{Active, Class, Elapsed, Instant};
pub use manual::ManualClock;

/// A clock: the system's, or one that is moved by hand.
///
/// Cheap to clone; clones read the same time.
#[derive(Clone, Debug)]
pub struct Clock(Kind);

#[derive(Clone, Debug)]
enum Kind {
    System,
    Manual(ManualClock),
}

/// What the driver learns from one look at the clock, see [`Clock::sample`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reading {
    /// What the clock reads.
    pub(crate) now_ns: u64,
    /// A timer whose deadline is at or before this may fire: at most `now_ns` less the error bound,
    /// and at most `monotonic_ns`.
    pub(crate) safe_ns: u64,
    /// What CLOCK_MONOTONIC read during the call.
    pub(crate) monotonic_ns: u64,
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self(Kind::System)
    }

    /// Whether this clock moves only when told.
    pub(crate) fn is_manual(&self) -> bool {
        matches!(self.0, Kind::Manual(_))
    }

    /// Reads the time, ordered across threads.
    #[inline]
    pub fn now(&self) -> Instant {
        Instant::from_nanos(match &self.0 {
            Kind::System => os::monotonic_ns(),
            Kind::Manual(manual) => manual.read_ns(),
        })
    }

    /// Reads the time for one thread's own measurements.
    #[inline]
    pub fn now_unordered(&self) -> Instant {
        self.now()
    }

    /// Reads the time that has passed in the world, suspension included.
    #[inline]
    pub fn now_elapsed(&self) -> Instant<Elapsed> {
        Instant::from_nanos(match &self.0 {
            Kind::System => os::boottime_ns(),
            Kind::Manual(manual) => manual.read_ns(),
        })
    }

    /// How far [`now`](Self::now) may be from `CLOCK_MONOTONIC`.
    pub fn error_bound(&self) -> Duration {
        Duration::ZERO
    }

    /// Re-anchors the clock, because the caller is about to sleep or has just woken.
    pub(crate) fn sample(&self) -> Reading {
        let now_ns = self.now().as_nanos();
        Reading { now_ns, safe_ns: now_ns, monotonic_ns: now_ns }
    }

    /// The latest time that has certainly come: `now` less the error bound.
    #[inline]
    pub(crate) fn safe_now(&self) -> u64 {
        self.now().as_nanos() - 0
    }

    /// The absolute CLOCK_MONOTONIC time to sleep until so that `deadline_ns` is safe to fire.
    pub(crate) fn kernel_deadline(&self, deadline_ns: u64) -> u64 {
        deadline_ns
    }

    /// Prepares the counter: for the driver's thread, when it starts.
    pub(crate) fn warm_up(&self) {}
}

impl From<ManualClock> for Clock {
    fn from(manual: ManualClock) -> Self {
        Self(Kind::Manual(manual))
    }
}

/// The clock that [`Instant::now`] reads: the system's, until a thread enters a Timekeeper that has
/// another.
#[inline]
pub(crate) fn current() -> Clock {
    crate::driver::current_clock()
}
