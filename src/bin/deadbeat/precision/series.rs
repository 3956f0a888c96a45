//! Every sample of one system under one load, and what they come to.

use super::kernel::Usage;
use super::load::Load;
use super::systems::Kind;
use hdrhistogram::Histogram;
use std::time::Duration;

/// One task that waited.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Sample {
    pub(crate) round: u32,
    /// The deadline, since the first round under this load began.
    pub(crate) deadline: Duration,
    /// Actual minus intended: below zero is early.
    pub(crate) lateness_ns: i64,
}

/// The samples of one system under one load, in no order, and what the system cost meanwhile.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) kind: Kind,
    pub(crate) load: Load,
    pub(crate) samples: Vec<Sample>,
    /// Of the threads that run its timers, over all rounds; `None` if it can't be known.
    pub(crate) usage: Option<Usage>,
    /// Whether those threads run the tasks as well.
    pub(crate) usage_has_tasks: bool,
    /// Tasks that began to wait when their deadline was over.
    pub(crate) armed_late: usize,
    /// Timeouts armed and dropped beside the samples, and in how long.
    pub(crate) churned: u64,
    pub(crate) churned_in: Duration,
}

impl Series {
    /// An empty series with room for `capacity` samples.
    pub(crate) fn new(kind: Kind, load: Load, capacity: usize) -> Self {
        Self {
            kind,
            load,
            samples: Vec::with_capacity(capacity),
            usage: Some(Usage::default()),
            usage_has_tasks: false,
            armed_late: 0,
            churned: 0,
            churned_in: Duration::ZERO,
        }
    }

    /// What the samples come to; `None` if there is none.
    pub(crate) fn summary(&self) -> Option<Summary> {
        Summary::of(self.samples.iter().map(|sample| sample.lateness_ns))
    }
}

/// The distribution of lateness.
///
/// Quantiles are within 0.1 %, from a histogram; an early sample counts as one of zero lateness
/// there. The rest is exact.
#[derive(Clone, Debug)]
pub(crate) struct Summary {
    pub(crate) n: usize,
    pub(crate) early: usize,
    pub(crate) mean_ns: f64,
    pub(crate) max_ns: i64,
    histogram: Histogram<u64>,
}

impl Summary {
    fn of(lateness_ns: impl Iterator<Item = i64>) -> Option<Self> {
        let mut histogram = Histogram::new(3).expect("3 digits are within 0 to 5");
        let (mut n, mut early, mut sum, mut max_ns) = (0, 0, 0_i128, i64::MIN);
        for sample in lateness_ns {
            n += 1;
            early += usize::from(sample < 0);
            sum += i128::from(sample);
            max_ns = max_ns.max(sample);
            histogram
                .record(u64::try_from(sample).unwrap_or(0))
                .expect("the histogram resizes itself");
        }
        (n > 0).then(|| Self { n, early, mean_ns: sum as f64 / n as f64, max_ns, histogram })
    }

    /// The lateness in µs that a share `p` of the samples does not exceed.
    pub(crate) fn quantile_us(&self, p: f64) -> f64 {
        let bucket_ns = self.histogram.value_at_quantile(p);
        // A bucket is named by its upper end, which may lie above every sample.
        bucket_ns.min(u64::try_from(self.max_ns).unwrap_or(0)) as f64 / 1e3
    }

    pub(crate) fn mean_us(&self) -> f64 {
        self.mean_ns / 1e3
    }

    pub(crate) fn max_us(&self) -> f64 {
        self.max_ns as f64 / 1e3
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_nothing_there_is_no_summary() {
        assert!(Summary::of(std::iter::empty()).is_none());
    }

    #[test]
    fn quantiles_are_those_of_the_sorted_samples() {
        let mut rng = fastrand::Rng::with_seed(1);
        let mut samples: Vec<i64> = (0..10_000).map(|_| rng.i64(0..5_000_000)).collect();
        let summary = Summary::of(samples.iter().copied()).expect("not empty");
        samples.sort_unstable();
        for (p, rank) in [(0.5, 5_000), (0.9, 9_000), (0.99, 9_900), (0.999, 9_990)] {
            let exact_us = samples[rank - 1] as f64 / 1e3;
            let error = (summary.quantile_us(p) - exact_us).abs();
            assert!(error <= exact_us * 1.001e-3, "p{p}: off by {error} of {exact_us}");
        }
        assert_eq!(summary.max_ns, samples[9_999]);
        assert_eq!(summary.quantile_us(1.0), samples[9_999] as f64 / 1e3);
    }

    #[test]
    fn early_is_counted_on_the_nanosecond() {
        let summary = Summary::of([-1, 0, 1, -2_000].into_iter()).expect("not empty");
        assert_eq!((summary.n, summary.early, summary.max_ns), (4, 2, 1));
        assert_eq!(summary.mean_us(), -0.5);
        assert_eq!(summary.quantile_us(0.5), 0.0);
    }
}
