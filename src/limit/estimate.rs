//! How long a call takes, by those that have been served of late.
//!
//! Exact ranks of a small sliding window, rather than a sketch: the last [`SAMPLES`] service times, sorted, none of
//! them older than [`HORIZON`]. It forgets a slow phase as fast as it meets calls that are not slow, and, if it
//! meets none at all, by time.

use std::time::Duration;

use crate::clock::{Elapsed, Instant};

/// How many are kept: enough for a rank of one in twenty, few enough that a change shows soon.
const SAMPLES: usize = 128;

/// Fewer than this many say nothing.
const ENOUGH: usize = 8;

/// How long a service time counts.
const HORIZON: Duration = Duration::from_secs(10);

/// Service times are kept in units of 1024 ns, rounded up: up to 73 minutes fit, and longer ones count as
/// that.
const UNIT_BITS: u32 = 10;

/// What is known of the service time.
///
/// # Complexity
///
/// *O*(1) for all it does: a new time moves [`SAMPLES`] numbers of four bytes at the most.
#[derive(Debug)]
pub(crate) struct Estimate {
    /// When each was served, and how long it took: a ring, oldest at `first`.
    ring: [(Instant<Elapsed>, u32); SAMPLES],
    first: usize,
    len: usize,
    /// The same, shortest first.
    sorted: [u32; SAMPLES],
    sum: u64,
}

impl Estimate {
    pub(crate) fn new() -> Self {
        Self {
            ring: [(Instant::from_nanos(0), 0); SAMPLES],
            first: 0,
            len: 0,
            sorted: [0; SAMPLES],
            sum: 0,
        }
    }

    /// A call that was served in `took`, up to `now`.
    pub(crate) fn add(&mut self, took: Duration, now: Instant<Elapsed>) {
        self.forget(now);
        if self.len == SAMPLES {
            self.remove_oldest();
        }
        let took = units(took);
        let at = self.sorted[..self.len].partition_point(|other| *other < took);
        self.sorted.copy_within(at..self.len, at + 1);
        self.sorted[at] = took;
        self.ring[(self.first + self.len) % SAMPLES] = (now, took);
        self.len += 1;
        self.sum += u64::from(took);
    }

    /// Lets go of what is too old at `now`.
    pub(crate) fn forget(&mut self, now: Instant<Elapsed>) {
        while self.len > 0 && now.duration_since(self.ring[self.first].0) > HORIZON {
            self.remove_oldest();
        }
    }

    fn remove_oldest(&mut self) {
        let (_, took) = self.ring[self.first];
        let at = self.sorted[..self.len].partition_point(|other| *other < took);
        debug_assert_eq!(self.sorted[at], took);
        self.sorted.copy_within(at + 1..self.len, at);
        self.first = (self.first + 1) % SAMPLES;
        self.len -= 1;
        self.sum -= u64::from(took);
    }

    /// The time within which that share of calls is served; `None` while too little is known.
    pub(crate) fn quantile(&self, share: f64) -> Option<Duration> {
        if self.len < ENOUGH {
            return None;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "a rank within the window"
        )]
        let rank = (share * self.len as f64).ceil() as usize;
        Some(duration(self.sorted[rank.clamp(1, self.len) - 1].into()))
    }

    /// How long a call takes in the mean; zero while nothing is known.
    pub(crate) fn mean(&self) -> Duration {
        duration(self.sum.checked_div(self.len as u64).unwrap_or(0))
    }
}

fn units(took: Duration) -> u32 {
    let units = took.as_nanos().div_ceil(1 << UNIT_BITS);
    u32::try_from(units).unwrap_or(u32::MAX)
}

fn duration(units: u64) -> Duration {
    Duration::from_nanos(units << UNIT_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    fn at(ms: u32) -> Instant<Elapsed> {
        Instant::from_nanos(1) + MS * ms
    }

    #[test]
    fn a_few_calls_say_nothing() {
        let mut estimate = Estimate::new();
        for i in 0..7 {
            estimate.add(20 * MS, at(i));
            assert_eq!(estimate.quantile(0.5), None);
        }
        estimate.add(20 * MS, at(8));
        let served = estimate.quantile(0.5).unwrap();
        assert!(served >= 20 * MS && served < 20 * MS + Duration::from_micros(2), "{served:?}");
    }

    #[test]
    fn it_forgets_what_is_old() {
        let mut estimate = Estimate::new();
        (0..100).for_each(|i| estimate.add(20 * MS, at(i)));
        estimate.forget(at(10_050));
        assert!(estimate.quantile(1.0).is_some());
        estimate.forget(at(10_100));
        assert_eq!((estimate.quantile(1.0), estimate.mean()), (None, Duration::ZERO));
    }

    #[test]
    fn no_time_is_too_long() {
        let mut estimate = Estimate::new();
        (0..200).for_each(|i| estimate.add(Duration::MAX, at(i)));
        assert!(estimate.quantile(0.0).unwrap() > Duration::from_secs(70 * 60));
        assert_eq!(estimate.mean(), estimate.quantile(1.0).unwrap());
    }

    proptest! {
        #[test]
        fn ranks_are_those_of_the_last_ones_sorted(
            times in prop::collection::vec((0_u32..300, 0_u32..50), 8..400),
            share in 0.0_f64..=1.0,
        ) {
            let mut estimate = Estimate::new();
            let mut now = 0;
            let mut all = Vec::new();
            for (pause, took) in times {
                now += pause;
                estimate.add(MS * took, at(now));
                all.push((now, duration(units(MS * took).into())));
            }
            let mut last: Vec<_> = all.iter().rev().take(SAMPLES)
                .filter(|(when, _)| now - when <= 10_000)
                .map(|(_, took)| *took)
                .collect();
            last.sort();
            let expected = (last.len() >= ENOUGH).then(|| {
                #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small")]
                let rank = (share * last.len() as f64).ceil() as usize;
                last[rank.max(1) - 1]
            });
            prop_assert_eq!(estimate.quantile(share), expected);
        }
    }
}
