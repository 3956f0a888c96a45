//! What a timeout costs that doesn't run out: created, armed, dropped. Nearly all of them end so.
//!
//! ```text
//! cargo bench --bench arm_cancel                                # everything
//! cargo bench --bench arm_cancel -- '^arm_cancel/.*/1x0$'       # one thread, none live
//! cargo bench --bench arm_cancel -- /deadbeat                   # one system
//! RUSTFLAGS='--cfg tokio_unstable' cargo bench --bench arm_cancel -- tokio
//! ```
//!
//! - `arm_cancel/{system}/{threads}x{live}`: one timeout, created, polled once to `Pending` and
//!   dropped, while `live` others of the same system are armed for the next 60 to 600 s by the same
//!   threads. Timeouts are log-uniform from 10 ms to 10 s. With two threads, the figure is
//!   the wall time of one operation on one of them, which is the same as with one thread if they don't
//!   meet.
//! - `arm_here_cancel_there/{system}`: armed on one thread, sent to another in batches over a bounded
//!   channel, dropped there. The figure is the time that the two threads spend on one timer
//!   together, without the channel and the waiting, so it compares with `1x0` above. The timers stay in
//!   places that were allocated beforehand, and each has a waker of its own.
//!
//! `floor` is an ordered clock read, and a waker cloned and dropped; `nothing` is the harness: a future
//! that does nothing. `std-btreemap` is a map under a lock that nobody drives; `std-binaryheap`
//! a heap under one, from which what was cancelled is swept out when it is more than what is live. What
//! to keep in mind of the others:
//!
//! - `tokio` is entered by the measured threads, its two workers being idle; `tokio-alt` is
//!   measured inside its tasks, which yield every 256 timeouts.
//! - `pingora` rounds to 10 ms, shares a node among the timeouts of a tick, and leaves it there until
//!   then. It comes last: its thread wakes up 100 times a second from then on.
//! - `futures-timer` arms when created, and is not asked to hold a million.

mod support;

use std::{
    cell::RefCell,
    future::Future,
    hint::black_box,
    pin::Pin,
    sync::{Arc, Barrier},
    task::Waker,
    time::Duration,
};

use criterion::{Criterion, criterion_group, criterion_main};
use support::{
    RUN, System, Timeouts, arm, arm_and_cancel, group, is_test, now, scale, standing,
    systems::{
        AsyncIo, Deadbeat, Floor, FuturesTimer, LockedHeap, LockedMap, Nothing, Pingora, Tokio,
    },
    waker,
};
use tokio::sync::mpsc::{
    Receiver, Sender, UnboundedReceiver, UnboundedSender, channel, unbounded_channel,
};

const LIVE: [(usize, &str); 4] = [(0, "0"), (1_000, "1k"), (1 << 16, "64k"), (1_000_000, "1M")];
const THREADS: [usize; 2] = [1, 2];
/// Batches under way between two threads.
const BATCHES: usize = 4;

// Arm and cancel on the same thread.

fn arm_cancel<S: System>(c: &mut Criterion) {
    let mut group = group(c, format!("arm_cancel/{}", S::NAME));
    for threads in THREADS {
        for (live, label) in LIVE {
            let id = format!("{threads}x{label}");
            if live > S::MAX_LIVE {
                eprintln!("arm_cancel/{}/{id}: skipped, more than it can hold", S::NAME);
                continue;
            }
            // Built when first used, so that a filter saves the time.
            let crew = RefCell::new(None);
            group.bench_function(id, |b| {
                let mut crew = crew.borrow_mut();
                let live = if is_test() { live.min(1000) } else { live };
                let crew = crew.get_or_insert_with(|| Crew::new::<S>(threads, live));
                b.iter_custom(|iters| crew.measure(iters));
            });
        }
    }
}

/// Threads that keep their standing timers from one sample to the next.
struct Crew {
    jobs: Vec<UnboundedSender<u64>>,
    results: UnboundedReceiver<Duration>,
}

impl Crew {
    fn new<S: System>(threads: usize, live: usize) -> Self {
        let system = S::start(threads);
        let (tell, results) = unbounded_channel();
        let start = Arc::new(Barrier::new(threads));
        let jobs = (0..threads)
            .map(|thread| {
                let (job, jobs) = unbounded_channel();
                let (system, tell, start) = (system.clone(), tell.clone(), start.clone());
                system.clone().spawn(async move {
                    work(&system, thread as u64, live / threads, jobs, &tell, &start).await;
                    // Last of all: the crew is gone when all of these are.
                    drop(tell);
                });
                job
            })
            .collect();
        let mut crew = Self { jobs, results };
        // The standing timers are there, and the driver has had the time to sort them, after this.
        crew.measure(10_000);
        crew
    }

    /// The mean over the threads of what each took for `iters`.
    fn measure(&mut self, iters: u64) -> Duration {
        for job in &self.jobs {
            job.send(iters).expect("the thread waits for it");
        }
        let times = self.jobs.iter().map(|_| self.results.blocking_recv().expect("a result"));
        let total: Duration = times.sum();
        total / u32::try_from(self.jobs.len()).expect("few threads")
    }
}

impl Drop for Crew {
    fn drop(&mut self) {
        self.jobs.clear();
        // Until the standing timers are gone: they are not to be removed at the next one's expense.
        while self.results.blocking_recv().is_some() {}
    }
}

async fn work<S: System>(
    system: &S,
    seed: u64,
    live: usize,
    mut jobs: UnboundedReceiver<u64>,
    tell: &UnboundedSender<Duration>,
    start: &Barrier,
) {
    let standing = standing(system, live, seed).await;
    let mut timeouts = Timeouts::new(seed);
    let waker = waker();
    while let Some(iters) = jobs.recv().await {
        start.wait();
        let begin = now();
        let mut left = iters;
        while left > 0 {
            let run = left.min(RUN as u64);
            for _ in 0..run {
                arm_and_cancel(system, black_box(timeouts.next()), &waker);
            }
            left -= run;
            system.breathe().await;
        }
        let _ = tell.send(begin.elapsed());
    }
    drop(standing);
}

// Arm here, cancel there.

fn arm_here_cancel_there<S: System>(c: &mut Criterion) {
    let mut group = group(c, "arm_here_cancel_there".to_owned());
    let pair = RefCell::new(None);
    group.bench_function(S::NAME, |b| {
        let mut pair = pair.borrow_mut();
        let pair = pair.get_or_insert_with(|| {
            let system = S::start(2);
            let make = system.clone();
            Pair::new(&system, move |timeout| make.timeout(timeout))
        });
        b.iter_custom(|iters| pair.measure(iters));
    });
}

/// Timers on their way, in places that they don't own, with what dropping them took.
struct Batch<T> {
    places: Vec<Place<T>>,
    cancelling: Duration,
}

struct Place<T> {
    timer: Pin<Box<Option<T>>>,
    waker: Waker,
}

impl<T> Batch<T> {
    fn new() -> Self {
        let place = |_| Place { timer: Box::pin(None), waker: waker() };
        Self { places: (0..RUN).map(place).collect(), cancelling: Duration::ZERO }
    }
}

/// Two threads, of which the first arms.
struct Pair {
    jobs: UnboundedSender<u64>,
    results: UnboundedReceiver<Duration>,
}

impl Pair {
    fn new<S: System, T: Future + Send + 'static>(
        system: &S,
        make: impl Fn(Duration) -> T + Send + Sync + 'static,
    ) -> Self {
        let (jobs, job) = unbounded_channel();
        let (tell, results) = unbounded_channel();
        let (full, full_there) = channel(BATCHES);
        let (empty_there, empty) = channel(BATCHES);
        let here = system.clone();
        system.spawn(async move { arm_here(&here, make, job, &tell, &full, empty).await });
        let there = system.clone();
        system.spawn(async move { cancel_there(&there, full_there, &empty_there).await });
        Self { jobs, results }
    }

    fn measure(&mut self, iters: u64) -> Duration {
        self.jobs.send(iters).expect("the thread waits for it");
        self.results.blocking_recv().expect("a result")
    }
}

async fn arm_here<S: System, T: Future>(
    system: &S,
    make: impl Fn(Duration) -> T,
    mut jobs: UnboundedReceiver<u64>,
    tell: &UnboundedSender<Duration>,
    full: &Sender<Batch<T>>,
    mut empty: Receiver<Batch<T>>,
) {
    let mut timeouts = Timeouts::new(0);
    let mut at_home: Vec<Batch<T>> = (0..BATCHES).map(|_| Batch::new()).collect();
    while let Some(iters) = jobs.recv().await {
        let batches = iters.div_ceil(RUN as u64);
        let mut total = Duration::ZERO;
        for _ in 0..batches {
            let mut batch = match at_home.pop() {
                Some(batch) => batch,
                None => empty.recv().await.expect("the other thread outlives this one"),
            };
            total += batch.cancelling;
            let begin = now();
            for place in &mut batch.places {
                place.timer.set(Some(make(black_box(timeouts.next()))));
                arm(place.timer.as_mut().as_pin_mut().expect("just set"), &place.waker);
            }
            total += begin.elapsed();
            batch.cancelling = Duration::ZERO;
            full.send(batch).await.expect("the other thread outlives this one");
            system.breathe().await;
        }
        while at_home.len() < BATCHES {
            let mut batch = empty.recv().await.expect("the other thread outlives this one");
            total += std::mem::take(&mut batch.cancelling);
            at_home.push(batch);
        }
        let _ = tell.send(scale(total, iters, batches * RUN as u64));
    }
}

async fn cancel_there<S: System, T>(
    system: &S,
    mut full: Receiver<Batch<T>>,
    empty: &Sender<Batch<T>>,
) {
    while let Some(mut batch) = full.recv().await {
        let begin = now();
        for place in &mut batch.places {
            place.timer.set(None);
        }
        batch.cancelling = begin.elapsed();
        if empty.send(batch).await.is_err() {
            return;
        }
        system.breathe().await;
    }
}

fn all(c: &mut Criterion) {
    arm_cancel::<Nothing>(c);
    arm_cancel::<Floor>(c);
    arm_cancel::<Deadbeat>(c);
    arm_cancel::<Tokio>(c);
    #[cfg(tokio_unstable)]
    arm_cancel::<support::systems::TokioAlt>(c);
    arm_cancel::<AsyncIo>(c);
    arm_cancel::<FuturesTimer>(c);
    arm_cancel::<LockedMap>(c);
    arm_cancel::<LockedHeap>(c);

    arm_here_cancel_there::<Nothing>(c);
    arm_here_cancel_there::<Floor>(c);
    arm_here_cancel_there::<Deadbeat>(c);
    arm_here_cancel_there::<Tokio>(c);
    #[cfg(tokio_unstable)]
    arm_here_cancel_there::<support::systems::TokioAlt>(c);
    arm_here_cancel_there::<AsyncIo>(c);
    arm_here_cancel_there::<FuturesTimer>(c);
    arm_here_cancel_there::<LockedMap>(c);
    arm_here_cancel_there::<LockedHeap>(c);
}

/// After all others: see above.
fn pingora(c: &mut Criterion) {
    arm_cancel::<Pingora>(c);
    arm_here_cancel_there::<Pingora>(c);
}

criterion_group!(benches, all, pingora);
criterion_main!(benches);
