//! One moment on `std`'s clock and on ours, by which instants are carried over.

use std::sync::OnceLock;
use std::time::{Duration, Instant as StdInstant};

use super::{Clock, Instant};

/// How often the pair is taken, to keep the one in which the thread was disturbed least.
const TRIES: usize = 8;

/// Fixed for the process, one for each kind of clock: there and back is exact, and whoever asks gets
/// the same answer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Epoch {
    pub(crate) std: StdInstant,
    /// At `std` or just after it.
    pub(crate) ours: Instant,
}

impl Epoch {
    pub(crate) fn of(clock: &Clock) -> Self {
        static SYSTEM: OnceLock<Epoch> = OnceLock::new();
        let system = SYSTEM.get_or_init(Self::measure);
        if clock.is_manual() {
            // From the origin on, so that all that a clock of this kind can say is expressible.
            Self { std: system.std, ours: Instant::from_nanos(0) }
        } else {
            *system
        }
    }

    /// Takes the pair: from CLOCK_MONOTONIC itself, so that no error of our clock at this moment
    /// stays in it.
    fn measure() -> Self {
        let clock = Clock::system();
        let (_, epoch) = (0..TRIES)
            .map(|_| {
                let before = clock.sample().monotonic_ns;
                #[expect(clippy::disallowed_methods, reason = "this is about that very clock")]
                let std = StdInstant::now();
                let after = clock.sample().monotonic_ns;
                // The later of the two: what comes from `std` is rounded up, and so never early.
                (after.abs_diff(before), Self { std, ours: Instant::from_nanos(after) })
            })
            .min_by_key(|(width, _)| *width)
            .expect("at least one try");
        epoch
    }

    /// Our instant as `std`'s; what that can't express becomes about thirty years after the epoch, or
    /// the epoch if it lies before.
    #[inline]
    pub(crate) fn std(&self, ours: Instant) -> StdInstant {
        const THIRTY_YEARS: Duration = Duration::from_hours(24 * 365 * 30);
        let there = match ours.checked_duration_since(self.ours) {
            Some(after) => {
                self.std.checked_add(after).or_else(|| self.std.checked_add(THIRTY_YEARS))
            }
            None => self.std.checked_sub(self.ours.duration_since(ours)),
        };
        there.unwrap_or(self.std)
    }

    /// `std`'s instant as ours, saturating: what is too far ahead is never.
    #[inline]
    pub(crate) fn ours(&self, std: StdInstant) -> Instant {
        match std.checked_duration_since(self.std) {
            Some(after) => self.ours + after,
            None => self.ours - self.std.duration_since(std),
        }
    }
}
