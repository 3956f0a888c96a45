//! How fast the counter ticks: two-point estimates over a baseline that grows.
//!
//! Between two [anchors](Anchor), each a bracketed reading of the reference, the rate is the
//! reference's difference over the counter's, and wrong by at most the half widths of both brackets
//! over the baseline. So precision is a matter of waiting: brackets of 70 ticks are 6 ppm after 5 ms
//! at the very worst, and 0.6 ppb after a minute. (What is measured is much better than that,
//! because the reference is read at about the same place in every narrow bracket.)

use super::{
    ticks,
    witness::{Bracket, Sample},
};

/// The baseline, once it has grown: from this to twice this while samples are frequent, and never
/// less than this however rare they are.
const MIN_LONG_NS: u64 = 32_000_000_000;

/// How old the recent anchor becomes, at least and at most twice that, while samples are frequent.
const RECENT_NS: u64 = 50_000_000;

/// A point that counter and reference have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Anchor {
    /// The middle of the bracket.
    pub(crate) tick: u64,
    /// How many ticks earlier or later it may have been. Rounded up.
    pub(crate) half_ticks: u64,
    /// What the reference read.
    pub(crate) ns: u64,
    /// The same point for `CLOCK_MONOTONIC_RAW`.
    raw: Option<RawPoint>,
}

/// A point that `CLOCK_MONOTONIC_RAW` and the reference have in common: the former was read somewhere
/// between two readings of the latter, however long that took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct RawPoint {
    raw_ns: u64,
    half_ns: u64,
    ns: u64,
}

impl RawPoint {
    fn new(sample: &Sample) -> Option<Self> {
        let (from_ns, to_ns) = (sample.bracket.monotonic_ns, sample.monotonic_after_ns);
        let width_ns = to_ns.checked_sub(from_ns)?;
        // By the raw clock, the width is another by what a kernel slews: an eighth at the most.
        let half_ns = (width_ns / 2).saturating_add(width_ns / 8).saturating_add(1);
        Some(Self { raw_ns: sample.raw_ns?, half_ns, ns: from_ns.midpoint(to_ns) })
    }

    /// The raw clock's anchor, as a counter of nanoseconds.
    fn anchor(self) -> Anchor {
        Anchor { tick: self.raw_ns, half_ticks: self.half_ns, ns: self.ns, raw: None }
    }
}

impl Anchor {
    /// The anchor that a sample is; `None` if the counter went back in its bracket.
    pub(crate) fn of(sample: &Sample) -> Option<Self> {
        Some(Self { raw: RawPoint::new(sample), ..Self::new(&sample.bracket)? })
    }

    /// The anchor that a bracket is; `None` if the counter went back inside it.
    pub(crate) fn new(bracket: &Bracket) -> Option<Self> {
        let width = bracket.after.checked_sub(bracket.before)?;
        Some(Self {
            tick: bracket.before + width / 2,
            half_ticks: width.div_ceil(2),
            ns: bracket.monotonic_ns,
            raw: None,
        })
    }

    /// The same, known less well by so many ticks.
    pub(crate) fn wider_by(self, ticks: u64) -> Self {
        Self { half_ticks: self.half_ticks.saturating_add(ticks), ..self }
    }

    /// Nanoseconds of the reference since `earlier`, zero if it went back.
    pub(crate) fn ns_since(&self, earlier: &Self) -> u64 {
        self.ns.saturating_sub(earlier.ns)
    }
}

/// A rate and what it may be off. Both in nanoseconds a tick, with 32 fractional bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) mult: u64,
    pub(crate) bound: u64,
}

impl Rate {
    /// The rate between two anchors; `None` unless both clocks have moved on.
    ///
    /// The reference's own granularity counts as a nanosecond at each end.
    pub(crate) fn between(from: &Anchor, to: &Anchor) -> Option<Self> {
        let ticks = to.tick.checked_sub(from.tick).filter(|ticks| *ticks > 0)?;
        let mult = ticks::mult_nearest(to.ns.checked_sub(from.ns)?, ticks);
        if mult == 0 {
            return None;
        }
        let half_ticks = from.half_ticks.saturating_add(to.half_ticks);
        let bound = ticks::scale_ceil(mult, half_ticks, ticks)
            .saturating_add(ticks::mult_nearest(2, ticks))
            .saturating_add(2);
        Some(Self { mult, bound })
    }

    /// How far apart the two are.
    pub(crate) fn distance(&self, other: &Self) -> u64 {
        self.mult.abs_diff(other.mult)
    }

    /// By how many parts per billion `after` is faster.
    pub(crate) fn change_ppb(&self, after: &Self) -> i64 {
        let change = i128::from(after.mult) - i128::from(self.mult);
        let ppb = change * 1_000_000_000 / i128::from(self.mult.max(1));
        i64::try_from(ppb).unwrap_or(i64::MAX)
    }

    /// The bound, in parts per billion.
    pub(crate) fn bound_ppb(&self) -> u64 {
        ticks::scale_ceil(1_000_000_000, self.bound, self.mult)
    }

    /// Whether both can be right: they are no further apart than their bounds allow.
    pub(crate) fn agrees(&self, other: &Self) -> bool {
        self.distance(other) <= self.bound.saturating_add(other.bound)
    }

    /// Whether `to` is where this rate has it, seen from `from`, within the error bars and `noise_ns`.
    pub(crate) fn predicts(&self, from: &Anchor, to: &Anchor, noise_ns: u64) -> bool {
        let (Some(dt), Some(ns)) = (to.tick.checked_sub(from.tick), to.ns.checked_sub(from.ns))
        else {
            return false;
        };
        let half_ticks = from.half_ticks.saturating_add(to.half_ticks);
        let tolerance = ticks::ns_ceil(half_ticks, self.mult)
            .saturating_add(ticks::ns_ceil(dt, self.bound))
            .saturating_add(noise_ns);
        ticks::ns_floor(dt, self.mult).abs_diff(ns) <= tolerance
    }

    /// The same rate with `more` to its bound.
    pub(crate) fn doubtful_by(self, more: u64) -> Self {
        Self { bound: self.bound.saturating_add(more), ..self }
    }
}

/// The anchors that are kept: five, whatever the baseline.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window {
    /// Where the baseline begins.
    base: Anchor,
    /// Where it will begin once it is too long.
    next_base: Option<Anchor>,
    /// One from a moment ago, to tell a slight change of rate that the last interval is too short
    /// to show from the long baseline that would average it away.
    recent: Anchor,
    next_recent: Anchor,
    last: Anchor,
}

impl Window {
    pub(crate) fn new(base: Anchor) -> Self {
        Self { base, next_base: None, recent: base, next_recent: base, last: base }
    }

    /// The last anchor.
    pub(crate) fn last(&self) -> &Anchor {
        &self.last
    }

    /// One that is up to 100 ms old while samples are frequent, and older than the last otherwise.
    pub(crate) fn recent(&self) -> &Anchor {
        &self.recent
    }

    /// How long the baseline would be with `anchor` at its end.
    pub(crate) fn baseline_ns(&self, anchor: &Anchor) -> u64 {
        anchor.ns_since(&self.base)
    }

    /// The rate over the whole baseline, were `anchor` its end.
    pub(crate) fn rate_to(&self, anchor: &Anchor) -> Option<Rate> {
        Rate::between(&self.base, anchor)
    }

    /// The rate of `CLOCK_MONOTONIC_RAW` over the whole baseline.
    pub(crate) fn raw_rate(&self) -> Option<Rate> {
        Rate::between(&self.base.raw?.anchor(), &self.last.raw?.anchor())
    }

    /// Appends `anchor`, and returns the rate over the whole baseline.
    ///
    /// If the recent anchor makes the better rate, because the base was measured badly, the
    /// baseline begins there from now on.
    pub(crate) fn push(&mut self, anchor: Anchor) -> Option<Rate> {
        let whole = self.rate_to(&anchor)?;
        let rate = match Rate::between(&self.recent, &anchor) {
            Some(rate) if rate.bound < whole.bound => {
                self.base = self.recent;
                self.next_base = None;
                rate
            }
            _ => whole,
        };
        if anchor.ns_since(&self.next_recent) >= RECENT_NS {
            self.recent = self.next_recent;
            self.next_recent = anchor;
        }
        match self.next_base {
            None if self.baseline_ns(&anchor) >= MIN_LONG_NS => self.next_base = Some(anchor),
            Some(next) if anchor.ns_since(&next) >= MIN_LONG_NS => {
                self.base = next;
                self.next_base = Some(anchor);
            }
            _ => {}
        }
        self.last = anchor;
        Some(rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MHZ_2300: u64 = 1_867_377_085; // 2^32 / 2.3, rounded

    fn anchor(tick: u64, half_ticks: u64, ns: u64) -> Anchor {
        Anchor { tick, half_ticks, ns, raw: None }
    }

    #[test]
    fn the_bound_is_the_half_widths_over_the_baseline() {
        let rate = Rate::between(&anchor(0, 50, 0), &anchor(2_300_000, 50, 1_000_000)).unwrap();
        assert_eq!(rate.mult, MHZ_2300);
        // 100 ticks in 2.3 million, and a nanosecond at each end of a million: 45.5 ppm.
        let ppm = ticks::ppm(rate.bound, rate.mult);
        assert!((45.4..45.6).contains(&ppm), "{ppm}");
    }

    #[test]
    fn clocks_that_stand_still_or_go_back_have_no_rate() {
        let from = anchor(1000, 1, 1000);
        for to in [(1000, 2000), (2000, 1000), (999, 2000), (2000, 999), (999, 999)] {
            assert_eq!(Rate::between(&from, &anchor(to.0, 1, to.1)), None, "{to:?}");
        }
    }

    #[test]
    fn a_counter_that_goes_back_in_the_bracket_makes_no_anchor() {
        assert_eq!(Anchor::new(&Bracket { before: 10, monotonic_ns: 1, after: 9 }), None);
        let odd = Bracket { before: 10, monotonic_ns: 1, after: 15 };
        assert_eq!(Anchor::new(&odd), Some(anchor(12, 3, 1)));
        let wide = Bracket { before: 0, monotonic_ns: 1, after: u64::MAX };
        assert_eq!(Anchor::new(&wide), Some(anchor(u64::MAX / 2, 1 << 63, 1)));
    }

    #[test]
    fn the_baseline_grows_to_a_minute_and_then_stays_above_half_of_that() {
        let mut window = Window::new(anchor(0, 30, 0));
        for second in 1..=500 {
            let now = anchor(second * 2_300_000_000, 30, second * ticks::NANOS_PER_SEC);
            let baseline = window.baseline_ns(&now);
            assert!(baseline >= MIN_LONG_NS.min(second * ticks::NANOS_PER_SEC));
            assert!(baseline <= 2 * MIN_LONG_NS);
            assert_eq!(window.push(now).unwrap().mult, MHZ_2300);
        }
    }

    #[test]
    fn a_long_silence_does_not_cost_the_baseline() {
        let mut window = Window::new(anchor(0, 30, 0));
        for second in [1, 500, 501, 2000, 2001, 2002] {
            let now = anchor(second * 2_300_000_000, 30, second * ticks::NANOS_PER_SEC);
            let baseline = window.baseline_ns(&now);
            assert!(baseline >= MIN_LONG_NS.min(second * ticks::NANOS_PER_SEC), "{second}");
            window.push(now);
        }
    }

    #[test]
    fn a_base_measured_badly_is_replaced() {
        let mut window = Window::new(anchor(0, 1_000_000, 0));
        for ms in [5, 60, 120, 180] {
            window.push(anchor(ms * 2_300_000, 30, ms * 1_000_000));
        }
        let rate = window.push(anchor(200 * 2_300_000, 30, 200_000_000)).unwrap();
        assert!(ticks::ppm(rate.bound, rate.mult) < 1.0);
    }

    #[test]
    fn the_recent_anchor_stays_recent() {
        let mut window = Window::new(anchor(0, 30, 0));
        for ms in 1..=1000 {
            let now = anchor(ms * 2_300_000, 30, ms * 1_000_000);
            window.push(now);
            let age = now.ns_since(window.recent());
            assert!(age <= 2 * RECENT_NS, "{age}");
            assert!(age >= RECENT_NS.min(ms * 1_000_000), "{age} at {ms}");
        }
    }
}
