//! The deadlines of a round, fixed before it starts.
//!
//! The loop is open: no deadline depends on when an earlier one was met, so a stall shows in every
//! sample that it delays.

use super::round::Round;
use clap::ValueEnum;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How the deadlines of a round lie to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Phase {
    /// Spread over one timeout, uniformly at random.
    Staggered,
    /// All at the same instant.
    Together,
}

impl Phase {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Staggered => "staggered",
            Self::Together => "together",
        }
    }
}

/// What a round is made of; every system gets the same.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) tasks: usize,
    pub(crate) timeout: Duration,
    pub(crate) phase: Phase,
    pub(crate) seed: u64,
}

impl Plan {
    /// The deadlines of round `number`, counted from its start. The same plan and number give the
    /// same deadlines.
    pub(crate) fn offsets(&self, number: u32) -> impl Iterator<Item = Duration> {
        let Self { tasks, timeout, phase, seed } = *self;
        // Rounds draw from streams far apart: consecutive seeds would do, if the generator were
        // known never to correlate them.
        let mut rng = fastrand::Rng::with_seed(
            seed.wrapping_add(u64::from(number).wrapping_mul(0x9E37_79B9_7F4A_7C15)),
        );
        let span_ns = u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX).max(1);
        (0..tasks).map(move |_| match phase {
            Phase::Staggered => timeout + Duration::from_nanos(rng.u64(..span_ns)),
            Phase::Together => timeout,
        })
    }

    /// How long before its start a round is handed out: time to spawn its tasks.
    pub(crate) fn lead(&self) -> Duration {
        let tasks = u32::try_from(self.tasks).unwrap_or(u32::MAX);
        Duration::from_millis(10) + Duration::from_micros(20) * tasks
    }

    /// Round `number`, from `start` on.
    pub(crate) fn round(&self, number: u32, start: Instant) -> Arc<Round> {
        Arc::new(Round::new(self.offsets(number).map(|offset| start + offset).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: Plan =
        Plan { tasks: 1000, timeout: Duration::from_millis(50), phase: Phase::Staggered, seed: 7 };

    #[test]
    fn the_same_seed_gives_the_same_deadlines() {
        assert!(PLAN.offsets(3).eq(PLAN.offsets(3)));
    }

    #[test]
    fn another_round_or_seed_gives_others() {
        assert!(PLAN.offsets(3).ne(PLAN.offsets(4)));
        assert!(PLAN.offsets(3).ne(Plan { seed: 8, ..PLAN }.offsets(3)));
    }

    #[test]
    fn staggered_deadlines_fill_the_second_timeout_evenly() {
        let mut quarters = [0; 4];
        for offset in PLAN.offsets(0) {
            assert!(offset >= PLAN.timeout && offset < PLAN.timeout * 2);
            quarters[((offset - PLAN.timeout).as_millis() * 4 / 50) as usize] += 1;
        }
        assert!(quarters.iter().all(|&n| (180..320).contains(&n)), "{quarters:?}");
    }

    #[test]
    fn together_means_one_instant() {
        let plan = Plan { phase: Phase::Together, ..PLAN };
        assert!(plan.offsets(0).all(|offset| offset == plan.timeout));
        assert_eq!(plan.offsets(0).count(), 1000);
    }
}
