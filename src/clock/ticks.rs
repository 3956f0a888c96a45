//! Every rounding between counter ticks, nanoseconds and [`Duration`], in one place.
//!
//! A line of the [discipline](super::discipline) has its slope as a multiplier with
//! [`FRACTION`] fractional bits: nanoseconds = ticks × multiplier / 2³².

use std::time::Duration;

/// Fractional bits of a multiplier (nanoseconds a tick).
pub(crate) const FRACTION: u32 = 32;

/// Nanoseconds in a second.
pub(crate) const NANOS_PER_SEC: u64 = 1_000_000_000;

/// Exact up to `u64::MAX` nanoseconds (584 years), and that much beyond it.
pub(crate) const fn saturating_ns(duration: Duration) -> u64 {
    let ns = duration.as_nanos();
    if ns > u64::MAX as u128 {
        u64::MAX
    } else {
        #[expect(clippy::cast_possible_truncation, reason = "compared just above")]
        {
            ns as u64
        }
    }
}

/// Exact, or `None` beyond `u64::MAX` nanoseconds.
pub(crate) fn checked_ns(duration: Duration) -> Option<u64> {
    u64::try_from(duration.as_nanos()).ok()
}
