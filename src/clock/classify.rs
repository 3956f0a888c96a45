//! What a disagreement of the witnesses was: pure functions of two samples.
//!
//! | pattern | what it was |
//! | --- | --- |
//! | `BOOTTIME` went ahead of `MONOTONIC` | suspend |
//! | `REALTIME` went away from both, and from the counter | wall step |
//! | the counter went back, or is ahead or behind and `REALTIME` went with `MONOTONIC` | counter fault |
//! | the same, but this processor's counter agrees with itself | skew between processors |
//! | `MONOTONIC` is ahead of the counter, and `REALTIME` went with the counter or with neither | restore |
//! | `MONOTONIC` went back, or is behind the counter and `REALTIME` went with that | OS regression |
//! | `MONOTONIC` against the counter at another rate, and against `MONOTONIC_RAW` too | slew |
//! | the same, and `MONOTONIC_RAW` went with `MONOTONIC` | rate step of the counter |
//!
//! (A stall shows in no clock: the driver sees it, because it wakes late.)
//!
//! The kernel's clocks are read one after the other, and the thread may be preempted in between. So each
//! is known as an interval: it was read between two readings of `CLOCK_MONOTONIC`. Two samples show a
//! jump only if their intervals have none in common: preemption alone is never taken for one.

use super::{jump::JumpKind, jump::Passed, witness::Sample};

/// Less than this between two kernel clocks is not looked at: 10 µs.
pub(crate) const APART_NS: i64 = 10_000;

/// And less than this of `CLOCK_BOOTTIME` is no suspension: 1 ms.
const SUSPENDED_NS: i64 = 1_000_000;

/// By how much a clock may be ahead of `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ahead {
    low: i64,
    high: i64,
}

impl Ahead {
    fn of(clock_ns: u64, sample: &Sample) -> Self {
        Self {
            low: signed_since(clock_ns, sample.monotonic_after_ns),
            high: signed_since(clock_ns, sample.bracket.monotonic_ns),
        }
    }

    fn less(self, other: Self) -> Self {
        Self { low: self.low.saturating_sub(other.high), high: self.high.saturating_sub(other.low) }
    }

    /// By how much it has moved since, zero if it may not have.
    fn moved_since(self, before: Self) -> i64 {
        let forward = self.low.saturating_sub(before.high);
        let back = before.low.saturating_sub(self.high);
        if forward.max(back) <= APART_NS {
            return 0;
        }
        let middle = |ahead: Self| ahead.low.midpoint(ahead.high);
        middle(self).saturating_sub(middle(before))
    }
}

/// How the kernel's clocks have moved against each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// How far `CLOCK_BOOTTIME` went ahead of `CLOCK_MONOTONIC`.
    pub(crate) boottime_ns: i64,
    /// How far `CLOCK_REALTIME` went away from both of them.
    pub(crate) realtime_ns: i64,
}

pub(crate) fn kernel_clocks(before: &Sample, after: &Sample) -> Kernel {
    let boottime = |sample: &Sample| Ahead::of(sample.boottime_ns, sample);
    let realtime = |sample: &Sample| Ahead::of(sample.realtime_ns, sample);
    let apart = |sample: &Sample| realtime(sample).less(boottime(sample));
    let from_monotonic = realtime(after).moved_since(realtime(before));
    let from_boottime = apart(after).moved_since(apart(before));
    let suspended_ns = boottime(after).moved_since(boottime(before));
    let is_suspension = suspended_ns.unsigned_abs() >= SUSPENDED_NS.unsigned_abs();
    Kernel {
        boottime_ns: if is_suspension { suspended_ns } else { 0 },
        // It goes with one of them; if it doesn't, it goes on through a suspension.
        realtime_ns: match (from_monotonic, from_boottime) {
            (0, _) | (_, 0) => 0,
            (_, by) if is_suspension => by,
            (by, _) => by,
        },
    }
}

/// How far each witness went from one sample to the next.
pub(crate) fn passed(before: &Sample, after: &Sample, counter_ns: Option<i64>) -> Passed {
    Passed {
        counter_ns,
        monotonic_ns: signed_since(after.bracket.monotonic_ns, before.bracket.monotonic_ns),
        boottime_ns: signed_since(after.boottime_ns, before.boottime_ns),
        realtime_ns: signed_since(after.realtime_ns, before.realtime_ns),
    }
}

/// How far the kernel's clock should have gone that didn't, by those that did: the median of three, the
/// lesser of two.
pub(crate) fn expected_ns(witnesses: [Option<i64>; 3]) -> u64 {
    let mut found: Vec<u64> =
        witnesses.into_iter().flatten().filter_map(|ns| u64::try_from(ns).ok()).collect();
    found.sort_unstable();
    match found[..] {
        [] => 0,
        [one] => one,
        [less, _] => less,
        [_, median, ..] => median,
    }
}

/// Whom `CLOCK_REALTIME` bears out when counter and `CLOCK_MONOTONIC` are apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Counter,
    Monotonic,
    Neither,
}

impl Side {
    /// Whom it is closer to than half of the distance between the two.
    pub(crate) fn of(passed: &Passed) -> Self {
        let Some(counter_ns) = passed.counter_ns else { return Self::Neither };
        let half = passed.monotonic_ns.abs_diff(counter_ns) / 2;
        if passed.realtime_ns.abs_diff(counter_ns) < half {
            Self::Counter
        } else if passed.realtime_ns.abs_diff(passed.monotonic_ns) < half {
            Self::Monotonic
        } else {
            Self::Neither
        }
    }
}

/// What it is that a counter and `CLOCK_MONOTONIC` have leapt apart, and by how much the one to blame
/// went forward.
///
/// `ahead_ns` is by how much `CLOCK_MONOTONIC` got ahead; `consistent_here` says that the counter of the
/// processor that read it last agrees with what it read itself before.
pub(crate) fn leap(passed: &Passed, ahead_ns: i64, consistent_here: bool) -> (JumpKind, i64) {
    let counter_size = ahead_ns.saturating_neg();
    if consistent_here {
        return (JumpKind::CounterSkew, counter_size);
    }
    if passed.counter_ns.is_some_and(|ns| ns < 0) {
        return (JumpKind::CounterBack, counter_size);
    }
    match (Side::of(passed), ahead_ns > 0) {
        (Side::Counter | Side::Neither, true) => (JumpKind::Restore, ahead_ns),
        (Side::Monotonic, true) => (JumpKind::CounterBack, counter_size),
        (Side::Counter, false) => (JumpKind::OsRegression, ahead_ns),
        (Side::Monotonic | Side::Neither, false) => (JumpKind::CounterForward, counter_size),
    }
}

/// What a change of rate was: `counter_ppb` is by how much `CLOCK_MONOTONIC` runs faster against the
/// counter than before, `raw_ppb` against `CLOCK_MONOTONIC_RAW`, if that is known.
///
/// Without the latter, what a kernel can ask for (an eighth, a little over the 10 % that Linux accepts)
/// passes for a slew.
pub(crate) fn rate(counter_ppb: i64, raw_ppb: Option<i64>) -> (JumpKind, i64) {
    let is_slew = match raw_ppb {
        Some(raw) => raw.abs_diff(counter_ppb) < counter_ppb.unsigned_abs() / 2,
        None => counter_ppb.unsigned_abs() <= 125_000_000,
    };
    if is_slew {
        return (JumpKind::Slew, counter_ppb);
    }
    // The counter against the kernel's clock: the inverse ratio.
    const BILLION: i128 = 1_000_000_000;
    let ratio = (BILLION + i128::from(counter_ppb)).max(1);
    let inverse = BILLION * BILLION / ratio - BILLION;
    (JumpKind::RateStep, i64::try_from(inverse).unwrap_or(i64::MAX))
}

/// The signed difference of two times, saturating.
pub(crate) fn signed_since(later: u64, earlier: u64) -> i64 {
    if later >= earlier {
        i64::try_from(later - earlier).unwrap_or(i64::MAX)
    } else {
        i64::try_from(earlier - later).map_or(i64::MIN, |ns| -ns)
    }
}

#[cfg(all(test, not(any(deadbeat_loom, deadbeat_shuttle))))]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock::witness::Bracket;

    const S: i64 = 1_000_000_000;

    /// What the witnesses read at some time when all agree; `pause_ns` passes before each reading.
    fn sample(at_ns: u64, pauses_ns: [u64; 4]) -> Sample {
        let [a, b, c, d] = pauses_ns;
        let bracket = Bracket { before: at_ns, monotonic_ns: at_ns + a, after: at_ns + 2 * a };
        Sample {
            bracket,
            boottime_ns: at_ns + a + b + 50_000_000_000,
            realtime_ns: at_ns + a + b + c + 1_600_000_000_000_000_000,
            raw_ns: None,
            monotonic_after_ns: at_ns + a + b + c + d,
            cpu: None,
        }
    }

    fn plain(at_ns: u64) -> Sample {
        sample(at_ns, [20; 4])
    }

    const HOUR: u64 = 3_600_000_000_000;

    fn add(ns: u64, by: i64) -> u64 {
        ns.saturating_add_signed(by)
    }

    proptest! {
        #[test]
        fn preemption_between_the_readings_is_no_jump(
            before in prop::array::uniform4(0_u64..10_000_000_000),
            after in prop::array::uniform4(0_u64..10_000_000_000),
            gap in 0_u64..HOUR,
        ) {
            let (a, b) = (sample(HOUR, before), sample(3 * HOUR + gap, after));
            prop_assert_eq!(kernel_clocks(&a, &b), Kernel::default());
        }

        #[test]
        fn a_clock_that_moves_by_itself_is_named_with_its_size(
            size in prop_oneof![1_000_000_i64..10 * S, -10 * S..-1_000_000],
            gap in 0_u64..HOUR,
        ) {
            let (a, b) = (plain(HOUR), plain(3 * HOUR + gap));
            let wall = Sample { realtime_ns: add(b.realtime_ns, size), ..b };
            prop_assert_eq!(kernel_clocks(&a, &wall), Kernel { realtime_ns: size, boottime_ns: 0 });
            let boot = Sample { boottime_ns: add(b.boottime_ns, size), ..b };
            prop_assert_eq!(kernel_clocks(&a, &boot), Kernel { realtime_ns: 0, boottime_ns: size });
            // A real suspension takes the wall clock along.
            let slept = Sample { realtime_ns: add(b.realtime_ns, size), ..boot };
            prop_assert_eq!(kernel_clocks(&a, &slept), Kernel { realtime_ns: 0, boottime_ns: size });
        }

        #[test]
        fn leaps_are_laid_at_the_door_of_whoever_is_alone(
            size in prop_oneof![1_000_i64..100 * S, -100 * S..-1_000],
            gap in 101 * S..1000 * S,
        ) {
            let at = |counter, monotonic, realtime| Passed {
                counter_ns: Some(gap + counter),
                monotonic_ns: gap + monotonic,
                boottime_ns: gap + monotonic,
                realtime_ns: gap + realtime,
            };
            let (kind, by) = leap(&at(size, 0, 0), -size, false);
            let back_or_forward =
                if size > 0 { JumpKind::CounterForward } else { JumpKind::CounterBack };
            prop_assert_eq!((kind, by), (back_or_forward, size));
            let (kind, by) = leap(&at(0, size, 0), size, false);
            let jumped = if size > 0 { JumpKind::Restore } else { JumpKind::OsRegression };
            prop_assert_eq!((kind, by), (jumped, size));
            prop_assert_eq!(leap(&at(size, 0, 0), -size, true), (JumpKind::CounterSkew, size));
        }

        #[test]
        fn no_sample_is_too_strange(
            clocks in prop::array::uniform2(prop::array::uniform5(any::<u64>())),
            ahead in any::<i64>(),
            rates in any::<(i64, Option<i64>)>(),
        ) {
            let [a, b] = clocks.map(|[before, monotonic_ns, boottime_ns, realtime_ns, last]| Sample {
                bracket: Bracket { before, monotonic_ns, after: before },
                boottime_ns,
                realtime_ns,
                raw_ns: None,
                monotonic_after_ns: last,
                cpu: None,
            });
            kernel_clocks(&a, &b);
            let passed = passed(&a, &b, Some(ahead));
            leap(&passed, ahead, false);
            rate(rates.0, rates.1);
        }
    }

    #[test]
    fn a_counter_that_is_less_than_it_was_went_back_whatever_the_others_say() {
        let passed = Passed {
            counter_ns: Some(-5),
            monotonic_ns: 100,
            boottime_ns: 100,
            realtime_ns: 7_000_000,
        };
        assert_eq!(leap(&passed, 105, false), (JumpKind::CounterBack, -105));
    }

    #[test]
    fn the_raw_clock_tells_who_changed_the_rate() {
        assert_eq!(rate(50_000, Some(49_000)), (JumpKind::Slew, 50_000));
        assert_eq!(rate(83_333_000, None), (JumpKind::Slew, 83_333_000));
        assert_eq!(rate(-50_000, Some(0)), (JumpKind::RateStep, 50_002));
        // A counter of twice the rate has the kernel's clock at half.
        assert_eq!(rate(-500_000_000, None), (JumpKind::RateStep, 1_000_000_000));
    }

    #[test]
    fn the_missing_progress_is_what_most_of_the_others_say() {
        assert_eq!(expected_ns([Some(10), Some(3_600), Some(11)]), 11);
        assert_eq!(expected_ns([Some(10), None, Some(3_600)]), 10);
        assert_eq!(expected_ns([None, Some(-5), Some(7)]), 7);
        assert_eq!(expected_ns([None, Some(-5), None]), 0);
    }
}
