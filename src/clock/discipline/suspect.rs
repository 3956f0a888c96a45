//! A disagreement between counter and reference, until it is known what it was.

use super::{Anchor, Instant, Jump, JumpKind, KERNEL_LIMIT, LEAP_NS, Passed, Rate, Sample, ticks};
use crate::clock::classify;

/// A jump, but for the time at which it was found out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    kind: JumpKind,
    size_ns: i64,
    rate_ppb: i64,
    passed: Passed,
}

impl Found {
    pub(super) fn new(kind: JumpKind, size_ns: i64, passed: Passed) -> Self {
        Self { kind, size_ns, rate_ppb: 0, passed }
    }

    /// A clock of the kernel's went back, by so much.
    pub(super) fn regression(lost_ns: u64, passed: Passed) -> Self {
        let size_ns = i64::try_from(lost_ns).map_or(i64::MIN, |ns| -ns);
        Self::new(JumpKind::OsRegression, size_ns, passed)
    }

    pub(crate) fn at(self, at: Instant) -> Jump {
        let Self { kind, size_ns, rate_ppb, passed } = self;
        Jump { kind, size_ns, rate_ppb, at, passed }
    }
}

/// A disagreement between counter and reference: a leap, if the rate is then what it was.
#[derive(Clone, Copy, Debug)]
pub(super) struct Suspect {
    /// By how much the reference got ahead of the counter.
    pub(super) ahead_ns: i64,
    /// And how much of that may be due to how long the two took to read.
    pub(super) within_ns: u64,
    /// The counter's rate before, and that of `CLOCK_MONOTONIC_RAW`.
    pub(super) rate: Rate,
    pub(super) raw_rate: Option<Rate>,
    pub(super) passed: Passed,
    /// The counter of this processor agrees with itself.
    pub(super) consistent_here: bool,
    /// The counter went wrong while the machine was suspended, as counters do.
    pub(super) excused: bool,
}

impl Suspect {
    /// What it was, if it was a leap.
    pub(super) fn kind(&self) -> JumpKind {
        classify::leap(&self.passed, self.ahead_ns, self.consistent_here).0
    }

    /// It was a leap; `None` if the machine was suspended meanwhile, which has been told.
    pub(super) fn leap(self) -> Option<Found> {
        let (kind, size_ns) = classify::leap(&self.passed, self.ahead_ns, self.consistent_here);
        (!self.excused).then(|| Found::new(kind, size_ns, self.passed))
    }

    /// It was a change of rate, to `rate`, and of `CLOCK_MONOTONIC_RAW`'s to `raw_rate`.
    pub(super) fn rate(self, rate: Rate, raw_rate: Option<Rate>) -> Found {
        let raw = self.raw_rate.zip(raw_rate).map(|(before, after)| before.change_ppb(&after));
        let (kind, rate_ppb) = classify::rate(self.rate.change_ppb(&rate), raw);
        Found { kind, size_ns: 0, rate_ppb, passed: self.passed }
    }
}

/// How far the counter went from one sample to the next; `None` if it went back within one.
pub(super) fn progress(rate: Rate, from: &Sample, to: &Sample) -> Option<i64> {
    let (from, to) = (Anchor::new(&from.bracket)?, Anchor::new(&to.bracket)?);
    let ns = |ticks| i64::try_from(ticks::ns_floor(ticks, rate.mult)).unwrap_or(i64::MAX);
    Some(match to.tick.checked_sub(from.tick) {
        Some(forward) => ns(forward),
        None => -ns(from.tick - to.tick),
    })
}

/// Whether counter and reference are further apart than any slew takes them.
pub(super) fn is_leap(apart_ns: i64, counter_ns: i64) -> bool {
    let most = counter_ns.unsigned_abs() / (KERNEL_LIMIT - 1) + LEAP_NS;
    apart_ns.unsigned_abs() > most
}
