//! A queue of items that come out when they are due, as one task owns it: ours against tokio-util's.
//!
//! ```text
//! cargo bench --bench delay_queue
//! cargo bench --bench delay_queue -- /reset/      # one operation
//! ```
//!
//! Each figure is the time of one item, in `delay_queue/{system}/{operation}/{population}`. Three are
//! on the machine's clock, which each of them reads, except for `remove`, beside a standing population
//! that is due in 11 to 60 minutes, as the entries of a cache are. A task waits for an item that is due
//! before all others, so its timer is not moved.
//!
//! - `insert`, `remove`: 256 items in a row, then taken back untimed, or inserted untimed before.
//! - `reset`: items from all over the population, each to another time.
//! - `expire`: the population is due in random order all over one second, which has passed, by a
//!   clock that is moved by hand, when the queue is polled until it is empty.
//!
//! `tokio-util` rounds up to 1 ms, and makes a new timer, in a box, for what is next after each item;
//! `deadbeat` is exact, and keeps one timer. `floor` is a `slab`, and reads our clock where the others
//! read theirs.

mod support;

use std::{
    cell::RefCell,
    hint::black_box,
    task::{Context, Poll, Waker},
    time::Duration,
};

use criterion::{Criterion, SamplingMode, criterion_group, criterion_main};
use deadbeat::{Manual, clock::Clock};
use slab::Slab;
use support::{RUN, System, group, is_test, now, scale, systems};
use tokio::runtime::{self, EnterGuard, Runtime};

const POPULATIONS: [usize; 3] = [1_000, 1 << 16, 1_000_000];
const SEED: u64 = 0x5eed;
const SECOND: Duration = Duration::from_secs(1);
const FIRST: Duration = Duration::from_mins(10);

trait Queue {
    const NAME: &str;
    type Key;

    /// Empty, on the machine's clock or on one that is moved by hand.
    fn new(by_hand: bool) -> Self;
    fn insert(&mut self, timeout: Duration) -> Self::Key;
    fn remove(&mut self, key: &Self::Key);
    fn reset(&mut self, key: &Self::Key, timeout: Duration);
    /// Moves the clock, and fires what waits for it.
    fn pass(&mut self, time: Duration);
    /// Takes all that is due, and waits for the next.
    fn take(&mut self) -> usize;
}

struct Deadbeat {
    manual: Option<Manual>,
    queue: deadbeat::time::DelayQueue<u64>,
}

impl Queue for Deadbeat {
    const NAME: &str = "deadbeat";
    type Key = deadbeat::time::delay_queue::Key;

    fn new(by_hand: bool) -> Self {
        let manual = by_hand.then(Manual::new);
        let _entered = manual.as_ref().map(Manual::enter);
        Self { queue: deadbeat::time::DelayQueue::new(), manual }
    }

    fn insert(&mut self, timeout: Duration) -> Self::Key {
        self.queue.insert(0, timeout)
    }

    fn remove(&mut self, key: &Self::Key) {
        black_box(self.queue.remove(key));
    }

    fn reset(&mut self, key: &Self::Key, timeout: Duration) {
        self.queue.reset(key, timeout);
    }

    fn pass(&mut self, time: Duration) {
        let manual = self.manual.as_ref().expect("on a clock that is moved by hand");
        manual.clock().advance(time);
        manual.fast_forward(Duration::ZERO);
    }

    fn take(&mut self) -> usize {
        take(|cx| self.queue.poll_expired(cx))
    }
}

/// The runtime is never dropped: the guard borrows it.
struct TokioUtil {
    queue: tokio_util::time::DelayQueue<u64>,
    runtime: &'static Runtime,
    _entered: EnterGuard<'static>,
}

impl Queue for TokioUtil {
    const NAME: &str = "tokio-util";
    type Key = tokio_util::time::delay_queue::Key;

    fn new(by_hand: bool) -> Self {
        let mut builder = runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().start_paused(by_hand).build().expect("a runtime");
        let runtime: &Runtime = Box::leak(Box::new(runtime));
        let entered = runtime.enter();
        Self { queue: tokio_util::time::DelayQueue::new(), runtime, _entered: entered }
    }

    fn insert(&mut self, timeout: Duration) -> Self::Key {
        self.queue.insert(0, timeout)
    }

    fn remove(&mut self, key: &Self::Key) {
        black_box(self.queue.remove(key));
    }

    fn reset(&mut self, key: &Self::Key, timeout: Duration) {
        self.queue.reset(key, timeout);
    }

    fn pass(&mut self, time: Duration) {
        self.runtime.block_on(tokio::time::advance(time));
    }

    fn take(&mut self) -> usize {
        take(|cx| self.queue.poll_expired(cx))
    }
}

fn take<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<Option<T>>) -> usize {
    let mut cx = Context::from_waker(Waker::noop());
    let mut taken = 0;
    while let Poll::Ready(Some(item)) = poll(&mut cx) {
        black_box(item);
        taken += 1;
    }
    taken
}

/// Storage and the time, and nothing else.
struct Floor {
    clock: Clock,
    items: Slab<u64>,
    passed: bool,
}

impl Queue for Floor {
    const NAME: &str = "floor";
    type Key = usize;

    fn new(_: bool) -> Self {
        Self { clock: Clock::system(), items: Slab::new(), passed: false }
    }

    fn insert(&mut self, timeout: Duration) -> usize {
        self.items.insert((self.clock.now() + timeout).as_nanos())
    }

    fn remove(&mut self, key: &usize) {
        black_box(self.items.remove(*key));
    }

    fn reset(&mut self, key: &usize, timeout: Duration) {
        self.items[*key] = (self.clock.now() + timeout).as_nanos();
    }

    fn pass(&mut self, _: Duration) {
        self.passed = true;
    }

    fn take(&mut self) -> usize {
        if self.passed { self.items.drain().map(black_box).count() } else { 0 }
    }
}

/// A queue with its population, in the order in which it is reset.
struct Standing<Q: Queue> {
    queue: Q,
    keys: Vec<Q::Key>,
    next_key: usize,
    /// As few as leave the cache to what is measured.
    timeouts: [Duration; 512],
    next_timeout: usize,
}

impl<Q: Queue> Standing<Q> {
    fn new(population: usize) -> Self {
        let mut rng = fastrand::Rng::with_seed(SEED);
        let timeouts = std::array::from_fn(|_| Duration::from_millis(rng.u64(660_000..3_600_000)));
        let mut queue = Q::new(false);
        queue.insert(FIRST);
        let mut standing = Self { queue, keys: vec![], next_key: 0, timeouts, next_timeout: 0 };
        for _ in 1..population {
            let key = standing.insert();
            standing.keys.push(key);
        }
        rng.shuffle(&mut standing.keys);
        assert_eq!(standing.queue.take(), 0, "not due yet");
        standing
    }

    #[inline]
    fn timeout(&mut self) -> Duration {
        self.next_timeout = (self.next_timeout + 1) % self.timeouts.len();
        black_box(self.timeouts[self.next_timeout])
    }

    #[inline]
    fn insert(&mut self) -> Q::Key {
        let timeout = self.timeout();
        self.queue.insert(timeout)
    }

    #[inline]
    fn reset(&mut self) {
        let timeout = self.timeout();
        self.next_key = (self.next_key + 1) % self.keys.len();
        self.queue.reset(&self.keys[self.next_key], timeout);
    }
}

fn arming<Q: Queue>(c: &mut Criterion) {
    // Settles our clock, and starts our driver.
    systems::Deadbeat::start(1);
    for population in POPULATIONS {
        let id = population.to_string();
        let population = if is_test() { population.min(1000) } else { population };
        // Built when first used, so that a filter saves the time.
        let standing = RefCell::new(None);
        let mut keys = Vec::with_capacity(RUN);
        let mut bench = |op: &str, run: &mut dyn FnMut(&mut Standing<Q>) -> Duration| {
            let mut group = group(c, format!("delay_queue/{}/{op}", Q::NAME));
            group.bench_function(&id, |b| {
                let mut standing = standing.borrow_mut();
                let standing = standing.get_or_insert_with(|| Standing::new(population));
                b.iter_custom(|iters| {
                    let runs = iters.div_ceil(RUN as u64);
                    let total = (0..runs).map(|_| run(standing)).sum();
                    scale(total, iters, runs * RUN as u64)
                });
            });
        };
        bench("insert", &mut |s| {
            let time = timed(|| keys.extend((0..RUN).map(|_| s.insert())));
            keys.drain(..).for_each(|key| s.queue.remove(&key));
            time
        });
        bench("remove", &mut |s| {
            keys.extend((0..RUN).map(|_| s.insert()));
            timed(|| keys.drain(..).for_each(|key| s.queue.remove(&key)))
        });
        bench("reset", &mut |s| timed(|| (0..RUN).for_each(|_| s.reset())));
    }
}

fn expiring<Q: Queue>(c: &mut Criterion) {
    let mut group = c.benchmark_group(format!("delay_queue/{}/expire", Q::NAME));
    group
        .sampling_mode(SamplingMode::Flat)
        .sample_size(10)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(2));
    for population in POPULATIONS {
        let id = population.to_string();
        let population = if is_test() { population.min(1000) } else { population };
        let queue = RefCell::new(None);
        group.bench_function(id, |b| {
            let mut queue = queue.borrow_mut();
            let (queue, timeouts) = queue.get_or_insert_with(|| {
                let mut rng = fastrand::Rng::with_seed(SEED);
                let timeout = |_| Duration::from_nanos(rng.u64(1_000_000..1_000_000_000));
                (Q::new(true), (0..population).map(timeout).collect::<Vec<_>>())
            });
            b.iter_custom(|iters| {
                let rounds = iters.div_ceil(population as u64);
                let mut total = Duration::ZERO;
                for _ in 0..rounds {
                    for &timeout in timeouts.iter() {
                        queue.insert(timeout);
                    }
                    queue.pass(SECOND);
                    let mut taken = 0;
                    total += timed(|| taken = queue.take());
                    assert_eq!(taken, population, "some were left out");
                }
                scale(total, iters, rounds * population as u64)
            });
        });
    }
}

fn timed(run: impl FnOnce()) -> Duration {
    let begin = now();
    run();
    begin.elapsed()
}

fn all(c: &mut Criterion) {
    arming::<Floor>(c);
    arming::<Deadbeat>(c);
    arming::<TokioUtil>(c);
    // After those: once tokio's time was paused somewhere, it is slower to read everywhere.
    expiring::<Floor>(c);
    expiring::<Deadbeat>(c);
    expiring::<TokioUtil>(c);
}

criterion_group!(benches, all);
criterion_main!(benches);
