//! The wheel alone, against other timer structures: no clock, no waker, no lock.
//!
//! ```text
//! cargo bench --bench wheel                       # everything, about ten minutes
//! cargo bench --bench wheel -- /pair/             # one operation
//! cargo bench --bench wheel -- deadbeat           # one system
//! ```
//!
//! Each figure is the time of one timer, in `wheel/{system}/{operation}/{population}`:
//!
//! - `insert`, `remove`: 256 timers in a row, beside a standing population, then taken back
//!   untimed; a removal is of a timer that was inserted shortly before, as those of RPCs are.
//! - `pair`: insert one, remove it.
//! - `remove_any`: removals from all over the standing population; what this costs at large ones
//!   are cache misses.
//! - `expire_burst`: all of the population is due within the same millisecond, in random order.
//! - `expire_spread`: it is due all over one second, and time moves by 1 ms a step.
//!
//! Timeouts are log-uniform from 1 µs to 1 h and seeded, except for `expire_*`. `slab` is the floor:
//! storage alone. What to keep in mind of the others:
//!
//! - `nexus`, `hhwt` and `bitwheel` have ticks of 1 ms; `deadbeat` and `btreemap` are exact.
//! - `hhwt` doesn't unlink what is cancelled; the wheel is rebuilt, untimed, before its garbage
//!   grows out of hand.
//! - `bitwheel` has 192 slots of 32 timers, and a `BTreeMap` for the rest. Its range is 4 minutes;
//!   longer timeouts are cut to that.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    hint::black_box,
    time::{Duration, Instant},
};

use bitwheel::timer::{PreciseWheelWithFailover, Timer, TimerHandle as BitwheelHandle};
use criterion::{Criterion, SamplingMode, criterion_group, criterion_main};
use deadbeat::wheel::{Key, Wheel};
use hierarchical_hash_wheel_timer::wheels::{
    Skip, TimerEntryWithDelay,
    cancellable::{CancellableTimerEntry, QuadWheelWithOverflow},
};

const POPULATIONS: [usize; 4] = [0, 4096, 65_536, 1 << 20];
/// Timers between two readings of the clock.
const RUN: usize = 256;
const SEED: u64 = 0x5eed;
const HOUR_NS: f64 = 3600e9;
const MILLI_NS: u64 = 1_000_000;

/// What a timer structure can do. Times are relative to its own now.
trait System {
    const NAME: &str;
    /// How many removals it takes before it has to be rebuilt.
    const MAX_GARBAGE: usize = usize::MAX;
    type Handle;

    fn new() -> Self;
    fn insert(&mut self, delay_ns: u64, value: u64) -> Self::Handle;
    fn remove(&mut self, handle: Self::Handle);
    /// Gives up the handle of a timer that is to expire.
    fn forget(&mut self, _handle: Self::Handle) {}
    /// Moves time on, and returns how many timers have expired.
    fn advance(&mut self, by_ns: u64) -> usize;
}

struct Deadbeat(Wheel<u64>);

impl System for Deadbeat {
    const NAME: &str = "deadbeat";
    type Handle = Key;

    fn new() -> Self {
        Self(Wheel::new(1_700_000_000_000_000_000))
    }

    fn insert(&mut self, delay_ns: u64, value: u64) -> Key {
        self.0.insert(self.0.now() + delay_ns, value)
    }

    fn remove(&mut self, handle: Key) {
        black_box(self.0.remove(handle));
    }

    fn advance(&mut self, by_ns: u64) -> usize {
        let now = self.0.now() + by_ns;
        let mut expired = 0;
        loop {
            let progress = self.0.advance(now, 256);
            while let Some(it) = self.0.pop_expired() {
                black_box(it.value);
                expired += 1;
            }
            if !progress.more {
                return expired;
            }
        }
    }
}

#[derive(Default)]
struct SortedMap {
    map: BTreeMap<(u64, u64), u64>,
    now: u64,
    next: u64,
}

impl System for SortedMap {
    const NAME: &str = "btreemap";
    type Handle = (u64, u64);

    fn new() -> Self {
        Self::default()
    }

    fn insert(&mut self, delay_ns: u64, value: u64) -> (u64, u64) {
        let key = (self.now + delay_ns, self.next);
        self.next += 1;
        self.map.insert(key, value);
        key
    }

    fn remove(&mut self, handle: (u64, u64)) {
        black_box(self.map.remove(&handle));
    }

    fn advance(&mut self, by_ns: u64) -> usize {
        self.now += by_ns;
        let before = self.map.len();
        while let Some(first) = self.map.first_entry() {
            if first.key().0 > self.now {
                break;
            }
            black_box(first.remove());
        }
        before - self.map.len()
    }
}

struct Nexus {
    wheel: nexus_timer::Wheel<u64>,
    now: Instant,
    due: Vec<u64>,
}

impl System for Nexus {
    const NAME: &str = "nexus";
    type Handle = nexus_timer::TimerHandle<u64>;

    fn new() -> Self {
        let now = any_instant();
        Self { wheel: nexus_timer::Wheel::unbounded(4096, now), now, due: vec![] }
    }

    fn insert(&mut self, delay_ns: u64, value: u64) -> Self::Handle {
        self.wheel.schedule(self.now + Duration::from_nanos(delay_ns), value)
    }

    fn remove(&mut self, handle: Self::Handle) {
        black_box(self.wheel.cancel(handle));
    }

    fn forget(&mut self, handle: Self::Handle) {
        self.wheel.free(handle);
    }

    fn advance(&mut self, by_ns: u64) -> usize {
        self.now += Duration::from_nanos(by_ns);
        let expired = self.wheel.poll_and_rebalance(self.now, &mut self.due);
        for value in self.due.drain(..) {
            black_box(value);
        }
        expired
    }
}

struct Hhwt {
    wheel: QuadWheelWithOverflow<HhwtTimer>,
    next: u64,
}

#[derive(Debug)]
struct HhwtTimer {
    id: u64,
    delay: Duration,
    value: u64,
}

impl CancellableTimerEntry for HhwtTimer {
    type Id = u64;

    fn id(&self) -> &u64 {
        &self.id
    }
}

impl TimerEntryWithDelay for HhwtTimer {
    fn delay(&self) -> Duration {
        self.delay
    }
}

impl System for Hhwt {
    const NAME: &str = "hhwt";
    const MAX_GARBAGE: usize = 1 << 21;
    type Handle = u64;

    fn new() -> Self {
        Self { wheel: QuadWheelWithOverflow::new(), next: 0 }
    }

    fn insert(&mut self, delay_ns: u64, value: u64) -> u64 {
        let id = self.next;
        self.next += 1;
        // Less than a tick is refused as expired.
        let delay = Duration::from_nanos(delay_ns.max(MILLI_NS));
        self.wheel.insert(HhwtTimer { id, delay, value }).expect("not expired");
        id
    }

    fn remove(&mut self, handle: u64) {
        self.wheel.cancel(&handle).expect("live");
    }

    fn advance(&mut self, by_ns: u64) -> usize {
        let mut left = u32::try_from(by_ns / MILLI_NS).expect("a short time");
        let mut expired = 0;
        while left > 0 {
            match self.wheel.can_skip() {
                Skip::Empty => break,
                Skip::Millis(n) => {
                    self.wheel.skip(n.min(left));
                    left -= n.min(left);
                }
                Skip::None => {
                    for timer in self.wheel.tick() {
                        black_box(timer.value);
                        expired += 1;
                    }
                    left -= 1;
                }
            }
        }
        expired
    }
}

struct Bitwheel {
    wheel: Box<PreciseWheelWithFailover<BitwheelTimer>>,
    now: Instant,
}

struct BitwheelTimer(u64);

impl Timer for BitwheelTimer {
    type Context = ();

    fn fire(&mut self, (): &mut ()) {
        black_box(self.0);
    }
}

impl System for Bitwheel {
    const NAME: &str = "bitwheel";
    type Handle = BitwheelHandle;

    fn new() -> Self {
        let now = any_instant();
        Self { wheel: PreciseWheelWithFailover::boxed_with_epoch(now), now }
    }

    fn insert(&mut self, delay_ns: u64, value: u64) -> BitwheelHandle {
        let delay = Duration::from_nanos(delay_ns).min(Duration::from_mins(4));
        self.wheel.insert(self.now + delay, BitwheelTimer(value))
    }

    fn remove(&mut self, handle: BitwheelHandle) {
        black_box(self.wheel.cancel(handle).map(|timer| timer.0));
    }

    fn advance(&mut self, by_ns: u64) -> usize {
        self.now += Duration::from_nanos(by_ns);
        self.wheel.poll(self.now, &mut ())
    }
}

/// Storage and nothing else.
struct Floor(slab::Slab<u64>);

impl System for Floor {
    const NAME: &str = "slab";
    type Handle = usize;

    fn new() -> Self {
        Self(slab::Slab::new())
    }

    fn insert(&mut self, _delay_ns: u64, value: u64) -> usize {
        self.0.insert(value)
    }

    fn remove(&mut self, handle: usize) {
        black_box(self.0.remove(handle));
    }

    fn advance(&mut self, _by_ns: u64) -> usize {
        unreachable!("storage does not expire")
    }
}

/// A system with its standing population.
struct Standing<S: System> {
    system: S,
    population: Vec<S::Handle>,
    delays: Vec<u64>,
    next_delay: usize,
    removed: usize,
}

impl<S: System> Standing<S> {
    fn new(population: usize) -> Self {
        let mut rng = fastrand::Rng::with_seed(SEED);
        // More than fit in a cache would measure the reading of this table.
        #[expect(clippy::cast_possible_truncation, reason = "an hour is 2^42 ns")]
        let delays = (0..4096).map(|_| (1e3 * (HOUR_NS / 1e3).powf(rng.f64())) as u64).collect();
        let mut standing =
            Self { system: S::new(), population: vec![], delays, next_delay: 0, removed: 0 };
        for _ in 0..population {
            let handle = standing.insert();
            standing.population.push(handle);
        }
        // The order of arrival is not the order of removal.
        rng.shuffle(&mut standing.population);
        standing
    }

    #[inline]
    fn insert(&mut self) -> S::Handle {
        let delay = self.delays[self.next_delay % self.delays.len()];
        self.next_delay += 1;
        self.system.insert(black_box(delay), self.next_delay as u64)
    }

    #[inline]
    fn remove(&mut self, handle: S::Handle) {
        self.removed += 1;
        self.system.remove(black_box(handle));
    }

    /// Ends a run, untimed.
    fn clean(&mut self) {
        if self.removed > S::MAX_GARBAGE {
            *self = Self::new(self.population.len());
        }
    }

    /// Times of `iters` operations, of which each call of `run` does [`RUN`].
    fn measure(&mut self, iters: u64, mut run: impl FnMut(&mut Self) -> Duration) -> Duration {
        let runs = iters.div_ceil(RUN as u64);
        let total: Duration = (0..runs)
            .map(|_| {
                let time = run(self);
                self.clean();
                time
            })
            .sum();
        scale(total, iters, runs * RUN as u64)
    }
}

fn arming<S: System>(c: &mut Criterion) {
    for population in POPULATIONS {
        // Built when first used, so that a filter saves the time.
        let standing = RefCell::new(None);
        let mut handles = Vec::with_capacity(RUN);
        let mut bench = |op: &str, run: &mut dyn FnMut(&mut Standing<S>) -> Duration| {
            group(c, S::NAME, op).bench_function(population.to_string(), |b| {
                let mut standing = standing.borrow_mut();
                let standing = standing.get_or_insert_with(|| Standing::<S>::new(population));
                b.iter_custom(|iters| standing.measure(iters, &mut *run));
            });
        };
        bench("insert", &mut |s| {
            let time = timed(|| handles.extend((0..RUN).map(|_| s.insert())));
            handles.drain(..).for_each(|handle| s.remove(handle));
            time
        });
        bench("remove", &mut |s| {
            handles.extend((0..RUN).map(|_| s.insert()));
            timed(|| handles.drain(..).for_each(|handle| s.remove(handle)))
        });
        bench("pair", &mut |s| {
            timed(|| {
                for _ in 0..RUN {
                    let handle = s.insert();
                    s.remove(handle);
                }
            })
        });
        if population > 0 {
            bench("remove_any", &mut |s| {
                handles.extend(s.population.drain(population - RUN..));
                let time = timed(|| handles.drain(..).for_each(|handle| s.remove(handle)));
                // Back in, and to another place in the order of removal.
                for _ in 0..RUN {
                    let handle = s.insert();
                    s.population.push(handle);
                    let other = (s.next_delay * 0x9e37) % s.population.len();
                    let last = s.population.len() - 1;
                    s.population.swap(other, last);
                }
                time
            });
        }
        if let Some(mut standing) = standing.into_inner() {
            for handle in std::mem::take(&mut standing.population) {
                standing.system.forget(handle);
            }
        }
    }
}

fn expiring<S: System>(c: &mut Criterion) {
    for population in &POPULATIONS[1..] {
        let population = *population;
        let mut rng = fastrand::Rng::with_seed(SEED);
        let mut bench = |op: &str, first: u64, span: u64, step: u64| {
            let delays: Vec<u64> = (0..population).map(|_| first + rng.u64(..span)).collect();
            group(c, S::NAME, op).bench_function(population.to_string(), |b| {
                let mut system = S::new();
                b.iter_custom(|iters| {
                    let rounds = iters.div_ceil(population as u64);
                    let mut total = Duration::ZERO;
                    for _ in 0..rounds {
                        for &delay in &delays {
                            let handle = system.insert(delay, delay);
                            system.forget(handle);
                        }
                        total += timed(|| {
                            let mut left = population - system.advance(first);
                            while left > 0 {
                                left -= system.advance(step);
                            }
                        });
                    }
                    scale(total, iters, rounds * population as u64)
                });
            });
        };
        bench("expire_burst", 30_000 * MILLI_NS, MILLI_NS, 100 * MILLI_NS);
        bench("expire_spread", MILLI_NS, 1_000 * MILLI_NS, MILLI_NS);
    }
}

fn group<'a>(
    c: &'a mut Criterion,
    system: &str,
    op: &str,
) -> criterion::BenchmarkGroup<'a, criterion::measurement::WallTime> {
    let mut group = c.benchmark_group(format!("wheel/{system}/{op}"));
    group
        .sampling_mode(SamplingMode::Flat)
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_millis(700));
    group
}

/// Of `done` operations' time, that of `iters`.
fn scale(total: Duration, iters: u64, done: u64) -> Duration {
    total.mul_f64(iters as f64 / done as f64)
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn timed(run: impl FnOnce()) -> Duration {
    let start = Instant::now();
    run();
    start.elapsed()
}

/// Where systems that only take an `Instant` begin.
#[expect(clippy::disallowed_methods, reason = "there is no other way to make one")]
fn any_instant() -> Instant {
    Instant::now()
}

fn all(c: &mut Criterion) {
    arming::<Floor>(c);
    arming::<Deadbeat>(c);
    arming::<SortedMap>(c);
    arming::<Nexus>(c);
    arming::<Hhwt>(c);
    arming::<Bitwheel>(c);
    expiring::<Deadbeat>(c);
    expiring::<SortedMap>(c);
    expiring::<Nexus>(c);
    expiring::<Hhwt>(c);
    expiring::<Bitwheel>(c);
}

criterion_group!(benches, all);
criterion_main!(benches);
