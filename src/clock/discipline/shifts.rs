//! What the kernel's clocks have lost by going back, and how that is made up for.

use super::suspect::{Found, is_leap};
use super::{JumpKind, Passed, SLIGHT, Sample};
use crate::clock::classify::{self, APART_NS, Side};

/// What is to be added to clocks that went back. Taken back when they leap forward again.
#[derive(Debug, Default)]
pub(crate) struct Shifts {
    pub(crate) monotonic_ns: u64,
    pub(crate) boottime_ns: u64,
}

impl Shifts {
    pub(super) const NONE: Self = Self { monotonic_ns: 0, boottime_ns: 0 };

    /// The sample as it is to be taken.
    pub(super) fn applied(&self, sample: &Sample) -> Sample {
        sample.shifted(self.monotonic_ns, self.boottime_ns)
    }

    /// Makes up for a `CLOCK_MONOTONIC` that went back since `last`, and takes that back when it leaps
    /// forward. `passed` is what the clocks showed, as they are.
    pub(super) fn shift_monotonic(
        &mut self,
        last: &Sample,
        sample: &mut Sample,
        passed: &Passed,
    ) -> Option<Found> {
        let Passed { counter_ns, boottime_ns, realtime_ns, .. } = *passed;
        let expected_ns = classify::expected_ns([counter_ns, Some(boottime_ns), Some(realtime_ns)]);
        let lost_ns = lost_ns(last, sample, passed, expected_ns);
        if lost_ns > 0 {
            self.monotonic_ns = self.monotonic_ns.saturating_add(lost_ns);
            *sample = sample.shifted(lost_ns, 0);
            return Some(Found::regression(lost_ns, *passed));
        }
        // What it has gained over the others, beyond what a slight slew could.
        let gained_ns =
            passed.monotonic_ns.saturating_sub(i64::try_from(expected_ns).unwrap_or(i64::MAX));
        let slew_ns = i64::try_from(expected_ns / SLIGHT).unwrap_or(i64::MAX);
        let most_ns = slew_ns
            .saturating_add(APART_NS)
            .saturating_add(last.width_ns())
            .saturating_add(sample.width_ns());
        if self.monotonic_ns == 0 || gained_ns <= most_ns {
            return None;
        }
        let back_ns = self.monotonic_ns.min(gained_ns.unsigned_abs());
        self.monotonic_ns -= back_ns;
        sample.bracket.monotonic_ns -= back_ns;
        sample.monotonic_after_ns =
            sample.monotonic_after_ns.saturating_sub(back_ns).max(sample.bracket.monotonic_ns);
        is_leap(gained_ns, counter_ns.unwrap_or(0))
            .then(|| Found::new(JumpKind::Restore, gained_ns, *passed))
    }

    /// The same for `CLOCK_BOOTTIME`, which ought to go with the reference at least.
    pub(super) fn shift_boottime(
        &mut self,
        last: &Sample,
        sample: &mut Sample,
        passed: &Passed,
    ) -> Option<Found> {
        let reference_ns = sample.bracket.monotonic_ns.saturating_sub(last.bracket.monotonic_ns);
        let due_ns = last.boottime_ns.saturating_add(reference_ns);
        if sample.boottime_ns < last.boottime_ns {
            let lost_ns = due_ns - sample.boottime_ns;
            self.boottime_ns = self.boottime_ns.saturating_add(lost_ns);
            *sample = sample.shifted(0, lost_ns);
            // One regression, not two, if the reference went with it.
            return (passed.monotonic_ns >= 0).then(|| Found::regression(lost_ns, *passed));
        }
        if self.boottime_ns > 0 && sample.boottime_ns > due_ns {
            let back_ns = self.boottime_ns.min(sample.boottime_ns - due_ns);
            self.boottime_ns -= back_ns;
            sample.boottime_ns -= back_ns;
        }
        None
    }
}

/// How much `CLOCK_MONOTONIC` has lost since `last`: it reads less, or has stayed so far behind the counter
/// as no slew explains, and `CLOCK_REALTIME` bears that out.
fn lost_ns(last: &Sample, sample: &Sample, passed: &Passed, expected_ns: u64) -> u64 {
    if sample.bracket.monotonic_ns < last.monotonic_after_ns {
        let due_ns = last.bracket.monotonic_ns.saturating_add(expected_ns);
        return due_ns.max(last.monotonic_after_ns) - sample.bracket.monotonic_ns;
    }
    let Some(counter_ns) = passed.counter_ns else { return 0 };
    let apart_ns = passed.monotonic_ns.saturating_sub(counter_ns);
    let is_behind =
        apart_ns < 0 && is_leap(apart_ns, counter_ns) && Side::of(passed) == Side::Counter;
    if is_behind { apart_ns.unsigned_abs() } else { 0 }
}
