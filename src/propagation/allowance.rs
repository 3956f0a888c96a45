//! What a callee has less than its caller, set or measured.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::clock::saturating_ns;

/// Beside the round trip, for what both ends do with an answer.
const MARGIN: Duration = Duration::from_millis(1);

/// What is set aside of a call's time for the way there and back, so that a callee that gives up can still
/// say so in time: a fixed length, or the measured round trip and a millisecond.
///
/// # Examples
///
/// ```
/// use deadbeat::propagation::http::{Allowance, ClientLayer, Rtt};
/// use deadbeat::time::Duration;
///
/// // Of one endpoint: whoever has the connection tells it what round trips take.
/// let rtt = Rtt::new();
/// let allowance = Allowance::measured(&rtt);
/// let client = ClientLayer::new().allowance(allowance.clone());
///
/// assert_eq!(allowance.get(), Duration::ZERO);
/// rtt.observe(Duration::from_micros(800));
/// assert_eq!(allowance.get(), Duration::from_micros(1800));
/// // It is the same as this:
/// let client = ClientLayer::new().allowance(Duration::from_micros(1800));
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Allowance {
    /// Without a round trip.
    fixed: Duration,
    measured: Option<Rtt>,
    at_most: Duration,
}

impl Allowance {
    /// Nothing is set aside.
    pub const NONE: Self = Self::fixed(Duration::ZERO);

    /// Always as much.
    pub const fn fixed(allowance: Duration) -> Self {
        Self { fixed: allowance, measured: None, at_most: Duration::MAX }
    }

    /// As much as `rtt` has been lately, and 1 ms. While nothing is known: [`or`](Self::or), by default
    /// nothing. Never more than [`at_most`](Self::at_most), by default 1 s, and never more than a half of what a
    /// call has left: it is sent all the same.
    pub fn measured(rtt: &Rtt) -> Self {
        let at_most = Duration::from_secs(1);
        Self { fixed: Duration::ZERO, measured: Some(rtt.clone()), at_most }
    }

    /// So much while nothing was measured. Default: nothing.
    pub const fn or(mut self, allowance: Duration) -> Self {
        self.fixed = allowance;
        self
    }

    /// Never more than this. Calls that have no more time left than the allowance aren't sent, so a round trip
    /// that was measured across a suspension must not make it as long as that. Default: 1 s if it is
    /// measured, otherwise there is none. Disabled by: `Duration::MAX`.
    pub const fn at_most(mut self, most: Duration) -> Self {
        self.at_most = most;
        self
    }

    /// How much of what remains is set aside: of one that is measured never more than a half, so that no call is kept
    /// from being sent by a single round trip that was slow. (Were it, none would be answered, and none measured anew.)
    #[cfg(feature = "http")]
    pub(crate) fn of(&self, remaining: Duration) -> Duration {
        match self.measured {
            Some(_) => self.get().min(remaining / 2),
            None => self.get(),
        }
    }

    /// How much it is now, of calls that have more than twice that left.
    #[must_use]
    pub fn get(&self) -> Duration {
        let measured = self.measured.as_ref().and_then(Rtt::get);
        measured.map_or(self.fixed, |rtt| rtt.saturating_add(MARGIN)).min(self.at_most)
    }
}

impl Default for Allowance {
    /// [`NONE`](Self::NONE).
    fn default() -> Self {
        Self::NONE
    }
}

impl From<Duration> for Allowance {
    fn from(allowance: Duration) -> Self {
        Self::fixed(allowance)
    }
}

/// How long a round trip to an endpoint takes: a handle, whose clones are one.
///
/// Smoothed as TCP does ([RFC 6298](https://www.rfc-editor.org/rfc/rfc6298#section-2)): each observation
/// counts for an eighth. Not the least of a window, which is the length of an idle way: an allowance that is
/// made of that is too short just when the way is busy, and calls run late. And it takes one word, without a
/// clock.
///
/// # Complexity
///
/// *O*(1), no lock: a load to read, a compare-and-swap to observe.
///
/// # Examples
///
/// ```
/// use deadbeat::propagation::http::Rtt;
/// use deadbeat::time::Duration;
///
/// let rtt = Rtt::new();
/// assert_eq!(rtt.get(), None);
/// rtt.observe(Duration::from_millis(8));
/// rtt.observe(Duration::from_millis(16));
/// assert_eq!(rtt.get(), Some(Duration::from_millis(9)));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Rtt(Arc<AtomicU64>);

impl Rtt {
    /// In ns: nothing is known.
    const UNKNOWN: u64 = 0;

    /// One of which nothing is known.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A round trip has taken `rtt`.
    pub fn observe(&self, rtt: Duration) {
        let rtt_ns = saturating_ns(rtt).max(1);
        let smoothed = |known_ns: u64| match known_ns {
            Self::UNKNOWN => rtt_ns,
            // Both parts are less than the greater of the two.
            _ => (known_ns - known_ns / 8 + rtt_ns / 8).max(1),
        };
        // Ordering: Relaxed: a number that nothing else depends on.
        let mut known_ns = self.0.load(Relaxed);
        while let Err(now_ns) =
            // Ordering: Relaxed, both, as above.
            self.0.compare_exchange_weak(known_ns, smoothed(known_ns), Relaxed, Relaxed)
        {
            known_ns = now_ns;
        }
    }

    /// How long it has taken lately; `None` as long as nothing was observed.
    #[must_use]
    pub fn get(&self) -> Option<Duration> {
        // Ordering: Relaxed, as above.
        let ns = self.0.load(Relaxed);
        (ns != Self::UNKNOWN).then(|| Duration::from_nanos(ns))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn what_is_not_known_is_what_was_set() {
        let rtt = Rtt::new();
        let allowance = Allowance::measured(&rtt).or(5 * MS);
        assert_eq!(Allowance::measured(&rtt).get(), Duration::ZERO);
        assert_eq!(allowance.get(), 5 * MS);
        rtt.observe(Duration::ZERO);
        assert_eq!(allowance.get(), MS + Duration::from_nanos(1));
    }

    #[cfg(feature = "http")]
    #[test]
    fn one_that_is_measured_keeps_no_call_from_being_sent() {
        let rtt = Rtt::new();
        rtt.observe(250 * MS);
        assert_eq!(Allowance::measured(&rtt).of(1000 * MS), 251 * MS);
        assert_eq!(Allowance::measured(&rtt).of(200 * MS), 100 * MS);
        assert_eq!(Allowance::fixed(250 * MS).of(200 * MS), 250 * MS);
    }

    #[test]
    fn a_round_trip_across_a_suspension_does_not_keep_calls_from_being_sent() {
        let rtt = Rtt::new();
        rtt.observe(Duration::MAX);
        assert_eq!(Allowance::measured(&rtt).get(), Duration::from_secs(1));
        assert_eq!(Allowance::measured(&rtt).at_most(9 * MS).get(), 9 * MS);
        assert_eq!(Allowance::fixed(Duration::MAX).get(), Duration::MAX);
    }

    proptest! {
        #[test]
        fn it_is_between_the_shortest_and_the_longest(
            all in prop::collection::vec(1_u64.., 1..50),
        ) {
            let rtt = Rtt::new();
            for ns in &all {
                rtt.observe(Duration::from_nanos(*ns));
            }
            let ns = saturating_ns(rtt.get().unwrap());
            // But for what the divisions have left.
            let least = all.iter().min().unwrap().saturating_sub(7);
            prop_assert!(least <= ns && ns <= all.iter().max().unwrap().saturating_add(7));
        }

        #[test]
        fn it_follows(from in 1_u64..1 << 40, to in 1_u64..1 << 40) {
            let rtt = Rtt::new();
            rtt.observe(Duration::from_nanos(from));
            for _ in 0..400 {
                rtt.observe(Duration::from_nanos(to));
            }
            let ns = saturating_ns(rtt.get().unwrap());
            prop_assert!(ns.abs_diff(to) < 16, "{ns} of {to}");
        }
    }
}
