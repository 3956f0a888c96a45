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

/// `ticks` at `mult`, rounded down. Saturates.
pub(crate) fn ns_floor(ticks: u64, mult: u64) -> u64 {
    saturate((u128::from(ticks) * u128::from(mult)) >> FRACTION)
}

/// `ticks` at `mult`, rounded up: for what is an upper bound. Saturates.
pub(crate) fn ns_ceil(ticks: u64, mult: u64) -> u64 {
    saturate((u128::from(ticks) * u128::from(mult)).div_ceil(1 << FRACTION))
}

/// The multiplier at which `ticks` make `ns`, rounded to nearest. Saturates; zero for zero `ticks`.
pub(crate) fn mult_nearest(ns: u64, ticks: u64) -> u64 {
    let ticks = u128::from(ticks);
    ((u128::from(ns) << FRACTION) + ticks / 2).checked_div(ticks).map_or(0, saturate)
}

/// The ticks that `ns` take at `mult`, rounded down. Saturates; zero for a zero `mult`.
pub(crate) fn ticks_floor(ns: u64, mult: u64) -> u64 {
    (u128::from(ns) << FRACTION).checked_div(u128::from(mult)).map_or(0, saturate)
}

/// `value × part / whole`, rounded down. Saturates; zero for a zero `whole`.
pub(crate) fn scale_floor(value: u64, part: u64, whole: u64) -> u64 {
    (u128::from(value) * u128::from(part)).checked_div(u128::from(whole)).map_or(0, saturate)
}

/// `value × part / whole`, rounded up. Saturates, for a zero `whole`, too.
pub(crate) fn scale_ceil(value: u64, part: u64, whole: u64) -> u64 {
    if whole == 0 {
        return u64::MAX;
    }
    saturate((u128::from(value) * u128::from(part)).div_ceil(u128::from(whole)))
}

/// Ticks a second at `mult`, for showing.
#[expect(clippy::cast_precision_loss, reason = "53 bits are far beyond the estimate's precision")]
pub(crate) fn hertz(mult: u64) -> f64 {
    (NANOS_PER_SEC as f64) * ((1_u64 << FRACTION) as f64) / (mult as f64)
}

/// `part` in parts per million of `whole`, for showing.
#[expect(clippy::cast_precision_loss, reason = "53 bits are far beyond the estimate's precision")]
pub(crate) fn ppm(part: u64, whole: u64) -> f64 {
    part as f64 * 1e6 / whole as f64
}

fn saturate(wide: u128) -> u64 {
    u64::try_from(wide).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_rounds_the_way_its_name_says() {
        // A third of a nanosecond a tick.
        let mult = mult_nearest(1, 3);
        assert_eq!(ns_floor(10, mult), 3);
        assert_eq!(ns_ceil(10, mult), 4);
        assert_eq!(ticks_floor(1, mult), 3);
        assert_eq!(scale_floor(10, 1, 3), 3);
        assert_eq!(scale_ceil(10, 1, 3), 4);
    }

    #[test]
    fn extremes_saturate() {
        assert_eq!(saturating_ns(Duration::MAX), u64::MAX);
        assert_eq!(checked_ns(Duration::MAX), None);
        assert_eq!(checked_ns(Duration::from_nanos(u64::MAX)), Some(u64::MAX));
        assert_eq!(ns_floor(u64::MAX, u64::MAX), u64::MAX);
        assert_eq!(ns_ceil(u64::MAX, u64::MAX), u64::MAX);
        assert_eq!(mult_nearest(u64::MAX, 1), u64::MAX);
        assert_eq!((mult_nearest(1, 0), ticks_floor(1, 0), scale_floor(1, 1, 0)), (0, 0, 0));
        assert_eq!(scale_ceil(1, 1, 0), u64::MAX);
    }
}
