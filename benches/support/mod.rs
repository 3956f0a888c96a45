//! What the benchmarks of armed timers share: the systems behind one trait, and small tools.
//!
//! "Armed" means: polled once to `Pending`, with a waker that is a real `Arc` kept elsewhere, so that
//! arming clones it and cancelling drops the clone. A timeout whose future is ready at the first
//! poll arms nothing, in any of these systems, and measures nothing.
#![allow(dead_code, reason = "each benchmark uses a part of it")]

pub(crate) mod alloc;
#[cfg(target_os = "linux")]
pub(crate) mod os;
pub(crate) mod systems;

use std::{
    future::{Future, Ready, ready},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Wake, Waker},
    thread,
    time::{Duration, Instant},
};

use criterion::{BenchmarkGroup, Criterion, measurement::WallTime};

/// A way to arm timeouts.
///
/// Measurements are written once, as futures that hardly ever wait: on plain threads, except for a
/// system whose timers have to be armed inside the tasks of a runtime.
pub(crate) trait System: Clone + Send + Sync + 'static {
    const NAME: &str;
    /// How many timers it can reasonably hold.
    const MAX_LIVE: usize = usize::MAX;

    /// Starts whatever it runs on, for timers that are armed by this many threads.
    fn start(threads: usize) -> Self;

    /// A timeout around a future that is never ready.
    fn timeout(&self, timeout: Duration) -> impl Future + Send + use<Self>;

    /// Runs `work` on this thread, where timeouts can be armed.
    fn run<F: Future>(&self, work: F) -> F::Output {
        deadbeat::block_on(work)
    }

    /// Runs `work` on a thread of its own, where timeouts can be armed.
    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        let system = self.clone();
        thread::Builder::new()
            .name("bench".into())
            .spawn(move || system.run(work))
            .expect("threads can be started");
    }

    /// Lets the system do what it leaves for the moments when a task waits. Every [`RUN`] timers.
    fn breathe(&self) -> impl Future<Output = ()> + Send {
        nothing()
    }
}

/// Timers between two breaths, and in a batch.
pub(crate) const RUN: usize = 256;

fn nothing() -> Ready<()> {
    ready(())
}

/// Arms a timeout and drops it.
#[inline]
pub(crate) fn arm_and_cancel<S: System>(system: &S, timeout: Duration, waker: &Waker) {
    arm(pin!(system.timeout(timeout)), waker);
}

/// Polls a timeout for the first time.
#[inline]
pub(crate) fn arm(timeout: Pin<&mut impl Future>, waker: &Waker) {
    let armed = timeout.poll(&mut Context::from_waker(waker));
    assert!(armed.is_pending(), "a timeout was over before it was armed");
}

/// Arms `count` timeouts on this thread, each 60 to 600 s ahead.
pub(crate) async fn standing<S: System>(
    system: &S,
    count: usize,
    seed: u64,
) -> Vec<Pin<Box<impl Future + Send + use<S>>>> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let waker = waker();
    let mut timers = Vec::with_capacity(count);
    while timers.len() < count {
        for _ in 0..RUN.min(count - timers.len()) {
            let mut timer =
                Box::pin(system.timeout(Duration::from_millis(rng.u64(60_000..600_000))));
            arm(timer.as_mut(), &waker);
            timers.push(timer);
        }
        system.breathe().await;
    }
    timers
}

/// Timeouts as services have them: log-uniform from 10 ms to 10 s, seeded.
pub(crate) struct Timeouts {
    /// As few as leave the cache to what is measured.
    table: Box<[Duration; 512]>,
    next: usize,
}

impl Timeouts {
    pub(crate) fn new(seed: u64) -> Self {
        let mut rng = fastrand::Rng::with_seed(seed);
        let timeout = |_| Duration::from_secs_f64(0.01 * 1000f64.powf(rng.f64()));
        Self { table: Box::new(std::array::from_fn(timeout)), next: 0 }
    }

    #[inline]
    pub(crate) fn next(&mut self) -> Duration {
        self.next = (self.next + 1) % self.table.len();
        self.table[self.next]
    }
}

/// A waker that counts how often it was called, on a cache line that is nobody else's.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn get(&self) -> u64 {
        // Ordering: acquire what the wakers did before.
        self.0.load(Ordering::Acquire)
    }
}

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Ordering: as above.
        self.0.fetch_add(1, Ordering::Release);
    }
}

pub(crate) fn waker() -> Waker {
    Waker::from(Arc::new(Count::default()))
}

/// The clock that everybody is measured with.
#[expect(clippy::disallowed_methods, reason = "the judge's clock is not the library's")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Of the time that `done` operations took, that of `iters`.
pub(crate) fn scale(total: Duration, iters: u64, done: u64) -> Duration {
    total.mul_f64(iters as f64 / done as f64)
}

/// Benchmarks of operations of nanoseconds, sampled briefly.
pub(crate) fn group(c: &mut Criterion, name: String) -> BenchmarkGroup<'_, WallTime> {
    let mut group = c.benchmark_group(name);
    group
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    group
}

/// Whether this is a run that only shows that everything works: `--test`, or `cargo test`.
pub(crate) fn is_test() -> bool {
    let mut bench = false;
    std::env::args().any(|arg| {
        bench |= arg == "--bench";
        arg == "--test"
    }) || !bench
}
