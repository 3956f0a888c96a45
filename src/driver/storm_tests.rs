//! Storms on the real engine, with turns in the place of time.

use std::ops::RangeInclusive;
use std::sync::Arc;
use std::task::Waker;

use proptest::prelude::*;

use super::core::{Core, Options};
use super::engine::{Engine, Fired};
use super::shard::Shard;
use super::timer::arm;
use crate::clock::ManualClock;
use crate::wheel::backlog::Policy;

/// What a turn takes of the clock: some 50 µs for two budgets of 512 nodes.
const TURN_NS: u64 = 50_000;
const MS: u64 = 1_000_000;
/// The width of the narrowest slots that are spread ahead of time.
const SLOT: u64 = 1 << 18;

struct World {
    core: Arc<Core>,
    shard: Arc<Shard>,
    engine: Engine,
    now: u64,
    fired: Vec<(u64, u64)>,
}

impl World {
    fn new() -> Self {
        let core = Core::new(ManualClock::new().into(), Options::default());
        core.set_running();
        let shard = core.active.adopt_shard();
        let mut engine = Engine::new(0, Policy::FRESH);
        engine.set_shards(vec![shard.clone()]);
        Self { core, shard, engine, now: 0, fired: Vec::new() }
    }

    fn arm(&self, deadline: u64) {
        // SAFETY: the only thread that uses the shard.
        unsafe { arm(&self.core, &self.core.active, &self.shard, deadline, Waker::noop().clone()) };
    }

    /// One turn, and what it takes of the clock, or the way to the next, but at most to `stop`.
    /// Returns how many have fired with a deadline in `counted`.
    fn turn(&mut self, stop: u64, counted: &RangeInclusive<u64>) -> usize {
        let mut fired = Vec::new();
        let more = self.engine.turn(&self.core.active.pool, self.now, &mut fired);
        assert!(fired.is_sorted_by_key(|fired| fired.deadline), "a batch is in order");
        self.fired.extend(fired.iter().map(|Fired { deadline, .. }| (*deadline, self.now)));
        let next = if more { 0 } else { self.engine.next_expiration().unwrap_or(u64::MAX) };
        self.now = (self.now + TURN_NS).max(next.min(stop));
        fired.iter().filter(|fired| counted.contains(&fired.deadline)).count()
    }
}

/// `crowd` timers are due within `spread` of a moment, and a fresh one is armed every 20 µs for 1 ms
/// ahead until all of them have fired.
fn storm(crowd: usize, moments: &RangeInclusive<u64>, start: u64) -> World {
    let mut world = World { now: start, ..World::new() };
    let spread = moments.end() - moments.start() + 1;
    for i in 0..crowd as u64 {
        world.arm(moments.start() + i * 7919 % spread);
        if i % 4096 == 0 {
            // As the driver would, being called to a crowded inbox.
            world.turn(world.now, moments);
        }
    }
    // Nothing else is armed until shortly before it is due.
    world.now = world.now.max(moments.start() - 2 * MS);
    let mut next = world.now;
    let mut left = crowd;
    while left > 0 {
        while next <= world.now {
            if !moments.contains(&(next + MS)) {
                world.arm(next + MS);
            }
            next += 20_000;
        }
        left -= world.turn(next, moments);
    }
    world.engine.invariants();
    world
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases / 32,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn what_is_fresh_waits_a_few_turns_whatever_the_crowd(
        crowd in 1000..60_000_usize,
        ahead in 100..4000_u64,
        spread in prop::sample::select(vec![1, 500, 4000, 100_000]),
        start in 0..u64::MAX / 4,
    ) {
        let first = start + ahead * MS;
        let moments = first..=first + spread - 1;
        let world = storm(crowd, &moments, start);
        for (deadline, at) in &world.fired {
            prop_assert!(deadline <= at, "early");
            // What falls into the very slot of the crowd may take its turn among it.
            let fresh = !(first - SLOT..=first + spread + SLOT).contains(deadline);
            prop_assert!(!fresh || at - deadline < 2 * MS, "{deadline} at {at}, crowd {moments:?}");
        }
    }
}
