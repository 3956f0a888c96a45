//! A line: what ticks mean, for a short while.

use super::ticks;

/// How ticks become nanoseconds from a pivot on, until the horizon.
///
/// With a zero `mult` it isn't a line but an order: read the OS clock, and serve at least
/// `pivot_ns`. So the change between counter and OS clock is published like any other line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Line {
    /// The counter at the pivot. Of the order to read the OS clock: what to add to that.
    pub(crate) pivot_tick: u64,
    /// Our time at the pivot; of a line of the counter at most [`Line::MAX_PIVOT_NS`].
    pub(crate) pivot_ns: u64,
    /// Nanoseconds a tick, with 32 fractional bits.
    pub(crate) mult: u64,
    /// The horizon: how many ticks after the pivot the line may be read.
    ///
    /// Short enough (see [`Line::MAX_SPAN_NS`]) that `span_ticks * mult` fits into 64 bits.
    pub(crate) span_ticks: u64,
    /// How far from the reference our time may be at the pivot.
    pub(crate) error_ns: u64,
    /// How much that grows with every tick, with 32 fractional bits.
    pub(crate) error_mult: u64,
}

impl Line {
    pub(crate) const WORDS: usize = 6;

    /// The longest horizon: four seconds shifted by the fraction still fit into a word.
    pub(crate) const MAX_SPAN_NS: u64 = 4_000_000_000;

    /// The latest pivot: the latest instant, less the longest horizon.
    pub(crate) const MAX_PIVOT_NS: u64 = u64::MAX - Self::MAX_SPAN_NS;

    /// The order to read the OS clock, add `shift_ns`, and serve at least `floor_ns`.
    pub(crate) fn os(floor_ns: u64, shift_ns: u64) -> Self {
        Self { pivot_ns: floor_ns, pivot_tick: shift_ns, ..Self::default() }
    }

    #[inline(always)]
    pub(crate) fn from_words(words: [u64; Self::WORDS]) -> Self {
        let [pivot_tick, pivot_ns, mult, span_ticks, error_ns, error_mult] = words;
        Self { pivot_tick, pivot_ns, mult, span_ticks, error_ns, error_mult }
    }

    pub(crate) fn into_words(self) -> [u64; Self::WORDS] {
        let Self { pivot_tick, pivot_ns, mult, span_ticks, error_ns, error_mult } = self;
        [pivot_tick, pivot_ns, mult, span_ticks, error_ns, error_mult]
    }

    /// Whether this is the order to read the OS clock, told from the words of one that may be torn.
    #[inline(always)]
    pub(crate) fn words_are_os(words: &[u64; Self::WORDS]) -> bool {
        words[2] == 0
    }

    #[inline(always)]
    pub(crate) fn is_os(&self) -> bool {
        self.mult == 0
    }

    /// Our time at `stamp`, which is a tick, or the OS clock's time if the line is the order to
    /// read that. `None` before the pivot and beyond the horizon. Rounds down.
    #[inline(always)]
    pub(crate) fn value(&self, stamp: u64) -> Option<u64> {
        if self.is_os() {
            return Some(stamp.saturating_add(self.pivot_tick).max(self.pivot_ns));
        }
        // A stamp before the pivot wraps around to a long time after it.
        let dt = stamp.wrapping_sub(self.pivot_tick);
        if dt > self.span_ticks {
            return None;
        }
        // Neither overflows, see `span_ticks` and `pivot_ns`.
        Some(self.pivot_ns + ((dt * self.mult) >> ticks::FRACTION))
    }

    /// The line drawn on to `tick`, whatever the horizon; before the pivot, the pivot's value.
    pub(crate) fn extended(&self, tick: u64) -> u64 {
        let dt = tick.saturating_sub(self.pivot_tick);
        self.pivot_ns.saturating_add(ticks::ns_floor(dt, self.mult))
    }

    /// The latest time that this line can serve.
    pub(crate) fn last_ns(&self) -> u64 {
        self.pivot_ns.saturating_add(ticks::ns_floor(self.span_ticks, self.mult))
    }

    /// How far from the reference [`value`](Self::value) may be at `stamp`. Rounds up.
    pub(crate) fn error(&self, stamp: u64) -> u64 {
        if self.is_os() {
            return self.pivot_ns.saturating_sub(stamp.saturating_add(self.pivot_tick));
        }
        let dt = stamp.saturating_sub(self.pivot_tick);
        self.error_ns.saturating_add(ticks::ns_ceil(dt, self.error_mult))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF: u64 = 1 << (ticks::FRACTION - 1);

    fn line() -> Line {
        Line {
            pivot_tick: 1000,
            pivot_ns: 50,
            mult: HALF,
            span_ticks: 100,
            error_ns: 3,
            error_mult: 1,
        }
    }

    #[test]
    fn is_read_from_the_pivot_to_the_horizon_and_nowhere_else() {
        assert_eq!(line().value(999), None);
        assert_eq!(line().value(1000), Some(50));
        assert_eq!(line().value(1003), Some(51));
        assert_eq!(line().value(1100), Some(line().last_ns()));
        assert_eq!(line().value(1101), None);
    }

    #[test]
    fn drawn_on_it_neither_ends_nor_goes_back_nor_overflows() {
        assert_eq!(line().extended(0), 50);
        assert_eq!(line().extended(3000), 1050);
        assert_eq!(line().extended(u64::MAX), 50 + (u64::MAX - 1000) / 2);
        let late = Line { pivot_ns: Line::MAX_PIVOT_NS, ..line() };
        assert_eq!(late.extended(u64::MAX), u64::MAX);
        assert_eq!(late.value(1100), Some(Line::MAX_PIVOT_NS + 50));
    }

    #[test]
    fn the_longest_line_does_not_overflow() {
        for mult in [1, HALF, 42 << ticks::FRACTION, u64::MAX >> ticks::FRACTION] {
            let span_ticks = ticks::ticks_floor(Line::MAX_SPAN_NS, mult);
            assert!(u128::from(span_ticks) * u128::from(mult) <= u128::from(u64::MAX), "{mult}");
        }
    }

    #[test]
    fn the_os_clock_is_served_but_never_below_the_floor() {
        let os = Line::os(70, 0);
        assert_eq!((os.value(60), os.error(60)), (Some(70), 10));
        assert_eq!((os.value(u64::MAX), os.error(u64::MAX)), (Some(u64::MAX), 0));
        let shifted = Line::os(70, 20);
        assert_eq!((shifted.value(60), shifted.error(40)), (Some(80), 10));
        assert!(Line::words_are_os(&os.into_words()));
        assert!(!Line::words_are_os(&line().into_words()));
        assert_eq!(Line::from_words(line().into_words()), line());
    }
}
