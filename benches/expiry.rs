//! What a timer costs that does run out: taken from its place, its waker called.
//!
//! ```text
//! cargo bench --bench expiry
//! ```
//!
//! `expiry/{system}/{burst|spread|ordered}/{n}`: `n` timers with wakers that do nothing, and a time that is
//! moved by hand; the figure is the time of one timer, without arming it and without sorting it in. In a
//! burst, all are due at the same moment; spread, they are due in random order all over one second, of
//! which 1 ms passes at a time. Ordered is spread, but armed in the order of their deadlines, so that they
//! lie in memory as they are due: what the caches cost is the difference.
//!
//! A thin spread is a figure of the hand that moves the time: with 1000 timers in 1000 steps there is one
//! timer a step, and the figure is that of the step. Ours moves the manual clock, and takes its locks
//! and the turn's; tokio's is an `advance`, which yields to the runtime. Read it as no more than that; the
//! larger spreads, and the bursts, are about timers.
//!
//! - `deadbeat` is a `Manual` Timekeeper, whose turns are the driver's, and which writes a log beside
//!   (16 bytes a timer). What the driver does beyond (sleeping and waking up) depends on the kernel:
//!   see `expiry_real` in `figures.rs`, and `deadbeat precision`.
//! - `tokio` is a runtime of one thread whose time is paused, and goes by `advance`.
//! - `std-btreemap` takes the first of a map under a lock until the first is not due.
//! - `floor` has the wakers in a row, and calls them.

mod support;

use std::{
    cell::RefCell,
    future::Future,
    pin::Pin,
    task::{Context, Waker},
    time::{Duration, Instant},
};

use criterion::{Criterion, SamplingMode, criterion_group, criterion_main};
use deadbeat::Manual;
use support::{
    arm, is_test, now, scale,
    systems::{LockedMap, MapTimer},
};
use tokio::runtime::Runtime;

const POPULATIONS: [usize; 3] = [1_000, 1 << 16, 1_000_000];
const SEED: u64 = 0x5eed;

/// Timers that are armed, and a time that is moved by hand.
trait Driven {
    const NAME: &str;

    fn new() -> Self;
    /// Arms timers, and leaves them where they wait.
    fn arm(&mut self, delays: &[Duration]);
    /// Lets time pass in so many steps, and fires what falls due.
    fn pass(&mut self, step: Duration, steps: u32);
    /// Forgets the timers, all of which must have fired.
    fn clear(&mut self);
}

struct Deadbeat {
    manual: Manual,
    timers: Vec<deadbeat::time::Sleep>,
    logged: usize,
}

impl Driven for Deadbeat {
    const NAME: &str = "deadbeat";

    fn new() -> Self {
        Self { manual: Manual::new(), timers: Vec::new(), logged: 0 }
    }

    fn arm(&mut self, delays: &[Duration]) {
        // The log is as long as the life of the thing.
        self.logged += delays.len();
        if self.logged > 1 << 22 {
            self.manual = Manual::new();
            self.logged = delays.len();
        }
        let _entered = self.manual.enter();
        for &delay in delays {
            self.timers.push(deadbeat::time::sleep(delay));
        }
        for timer in &mut self.timers {
            arm(Pin::new(timer), Waker::noop());
        }
        // From the inbox to the wheel.
        self.manual.fast_forward(Duration::ZERO);
    }

    fn pass(&mut self, step: Duration, steps: u32) {
        for _ in 0..steps {
            // All of it at once, as for a driver that wakes up; `fast_forward` would stop at each
            // deadline.
            self.manual.clock().advance(step);
            self.manual.fast_forward(Duration::ZERO);
        }
    }

    fn clear(&mut self) {
        let mut cx = Context::from_waker(Waker::noop());
        for mut timer in self.timers.drain(..) {
            assert!(Pin::new(&mut timer).poll(&mut cx).is_ready(), "it was left out");
        }
    }
}

struct Tokio {
    runtime: Runtime,
    timers: Vec<Pin<Box<tokio::time::Sleep>>>,
}

impl Driven for Tokio {
    const NAME: &str = "tokio";

    fn new() -> Self {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(true).build().expect("a runtime");
        Self { runtime, timers: Vec::new() }
    }

    fn arm(&mut self, delays: &[Duration]) {
        let _entered = self.runtime.enter();
        for &delay in delays {
            self.timers.push(Box::pin(tokio::time::sleep(delay)));
        }
        for timer in &mut self.timers {
            arm(timer.as_mut(), Waker::noop());
        }
    }

    fn pass(&mut self, step: Duration, steps: u32) {
        self.runtime.block_on(async {
            for _ in 0..steps {
                tokio::time::advance(step).await;
            }
        });
    }

    fn clear(&mut self) {
        assert!(self.timers.iter().all(|timer| timer.is_elapsed()), "some were left out");
        self.timers.clear();
    }
}

struct Std {
    map: LockedMap,
    timers: Vec<MapTimer>,
    now: Instant,
}

impl Driven for Std {
    const NAME: &str = "std-btreemap";

    fn new() -> Self {
        Self { map: LockedMap::default(), timers: Vec::new(), now: now() }
    }

    fn arm(&mut self, delays: &[Duration]) {
        for &delay in delays {
            self.timers.push(self.map.timer(self.now + delay));
        }
        for timer in &mut self.timers {
            arm(Pin::new(timer), Waker::noop());
        }
    }

    fn pass(&mut self, step: Duration, steps: u32) {
        for _ in 0..steps {
            self.now += step;
            while let Some(waker) = self.map.pop_due(self.now) {
                waker.wake();
            }
        }
    }

    fn clear(&mut self) {
        assert!(self.map.pop_due(self.now + Duration::from_hours(1)).is_none(), "left out");
        self.timers.clear();
    }
}

struct Floor(Vec<Waker>);

impl Driven for Floor {
    const NAME: &str = "floor";

    fn new() -> Self {
        Self(Vec::new())
    }

    fn arm(&mut self, delays: &[Duration]) {
        self.0.extend(delays.iter().map(|_| Waker::noop().clone()));
    }

    fn pass(&mut self, _: Duration, _: u32) {
        for waker in self.0.drain(..) {
            std::hint::black_box(waker).wake();
        }
    }

    fn clear(&mut self) {}
}

fn expiry<S: Driven>(c: &mut Criterion) {
    const MILLI: Duration = Duration::from_millis(1);
    let burst = |count| vec![Duration::from_secs(30); count];
    let spread = |count| -> Vec<Duration> {
        let mut rng = fastrand::Rng::with_seed(SEED);
        (0..count).map(|_| Duration::from_nanos(rng.u64(1_000_000..=1_000_000_000))).collect()
    };
    let ordered = |count| {
        let mut delays = spread(count);
        delays.sort_unstable();
        delays
    };
    for population in POPULATIONS {
        let population = if is_test() { population.min(1000) } else { population };
        measure::<S>(c, "burst", population, &burst, Duration::from_secs(30), 1);
        measure::<S>(c, "spread", population, &spread, MILLI, 1000);
        measure::<S>(c, "ordered", population, &ordered, MILLI, 1000);
    }
}

fn measure<S: Driven>(
    c: &mut Criterion,
    shape: &str,
    population: usize,
    delays: &dyn Fn(usize) -> Vec<Duration>,
    step: Duration,
    steps: u32,
) {
    let mut group = c.benchmark_group(format!("expiry/{}/{shape}", S::NAME));
    group
        .sampling_mode(SamplingMode::Flat)
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2));
    let standing = RefCell::new(None);
    group.bench_function(population.to_string(), |b| {
        let mut standing = standing.borrow_mut();
        let (system, delays) = standing.get_or_insert_with(|| (S::new(), delays(population)));
        b.iter_custom(|iters| {
            let rounds = iters.div_ceil(population as u64);
            let mut total = Duration::ZERO;
            for _ in 0..rounds {
                system.arm(delays);
                let begin = now();
                system.pass(step, steps);
                total += begin.elapsed();
                system.clear();
            }
            scale(total, iters, rounds * population as u64)
        });
    });
}

fn all(c: &mut Criterion) {
    expiry::<Floor>(c);
    expiry::<Deadbeat>(c);
    expiry::<Tokio>(c);
    expiry::<Std>(c);
}

criterion_group!(benches, all);
criterion_main!(benches);
