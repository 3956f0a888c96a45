//! The systems that arm timeouts, and the floors below them.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap, HashMap},
    future::{Future, pending},
    hint::black_box,
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use deadbeat::clock::Clock;
use tokio::runtime::Runtime;

use super::{System, now};

/// Ours, on the global Timekeeper.
#[derive(Clone)]
pub(crate) struct Deadbeat;

impl System for Deadbeat {
    const NAME: &str = "deadbeat";

    fn start(_: usize) -> Self {
        // Starts the driver, and leaves the clock the time that it takes to settle.
        deadbeat::block_on(deadbeat::time::sleep(Duration::from_millis(20)));
        Self
    }

    #[inline]
    fn timeout(&self, timeout: Duration) -> impl Future + Send + use<> {
        deadbeat::time::timeout(timeout, pending::<()>())
    }
}

/// A runtime with two workers, of which the measured threads are not a part: they have entered it.
#[derive(Clone)]
pub(crate) struct Tokio(Arc<Runtime>);

impl System for Tokio {
    const NAME: &str = "tokio";

    fn start(_: usize) -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        Self(Arc::new(builder.worker_threads(2).enable_time().build().expect("a runtime")))
    }

    #[inline]
    fn timeout(&self, timeout: Duration) -> impl Future + Send + use<> {
        tokio::time::timeout(timeout, pending::<()>())
    }

    fn run<F: Future>(&self, work: F) -> F::Output {
        let _entered = self.0.enter();
        deadbeat::block_on(work)
    }
}

/// The alternative timers: the measurement runs inside tasks, on as many workers as it has threads,
/// and yields from time to time, because they hand timers to the wheel when a worker parks.
#[cfg(tokio_unstable)]
#[derive(Clone)]
pub(crate) struct TokioAlt(Arc<Background>);

/// A runtime that one of its own tasks may be the last to hold.
#[cfg(tokio_unstable)]
struct Background(Option<Runtime>);

#[cfg(tokio_unstable)]
impl std::ops::Deref for Background {
    type Target = Runtime;

    fn deref(&self) -> &Runtime {
        self.0.as_ref().expect("there until it is dropped")
    }
}

#[cfg(tokio_unstable)]
impl Drop for Background {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(tokio_unstable)]
impl System for TokioAlt {
    const NAME: &str = "tokio-alt";

    fn start(threads: usize) -> Self {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(threads).enable_time().enable_alt_timer();
        Self(Arc::new(Background(Some(builder.build().expect("a runtime")))))
    }

    #[inline]
    fn timeout(&self, timeout: Duration) -> impl Future + Send + use<> {
        tokio::time::timeout(timeout, pending::<()>())
    }

    fn run<F: Future>(&self, work: F) -> F::Output {
        self.0.block_on(work)
    }

    fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.0.spawn(work);
    }

    fn breathe(&self) -> impl Future<Output = ()> + Send {
        tokio::task::yield_now()
    }
}

/// Its thread wakes 100 times a second from the first timer on: to be measured last.
#[derive(Clone)]
pub(crate) struct Pingora;

impl System for Pingora {
    const NAME: &str = "pingora";

    fn start(_: usize) -> Self {
        Self
    }

    #[inline]
    fn timeout(&self, timeout: Duration) -> impl Future + Send + use<> {
        pingora_timeout::fast_timeout::fast_timeout(timeout, pending::<()>())
    }
}

#[derive(Clone)]
pub(crate) struct AsyncIo;

impl System for AsyncIo {
    const NAME: &str = "async-io";

    fn start(_: usize) -> Self {
        Self
    }

    #[inline]
    fn timeout(&self, timeout: Duration) -> impl Future + Send + use<> {
        async_io::Timer::after(timeout)
    }
}

/// It arms when it is created.
#[derive(Clone)]
pub(crate) struct FuturesTimer;

impl System for FuturesTimer {
    const NAME: &str = "futures-timer";
    /// Its thread removes them one by one after they were dropped: seconds, at a million.
    const MAX_LIVE: usize = 1 << 16;

    fn start(_: usize) -> Self {
        Self
    }

    #[inline]
    fn timeout(&self, timeout: Duration) -> impl Future + Send + use<> {
        futures_timer::Delay::new(timeout)
    }
}

/// What one would write first: a map under a lock. Nobody drives it, so this is the half of a timer
/// that is measured here, and no more.
#[derive(Clone, Debug, Default)]
pub(crate) struct LockedMap(Arc<Mutex<Map>>);

#[derive(Debug, Default)]
struct Map {
    wakers: BTreeMap<(Instant, u64), Waker>,
    next: u64,
}

/// A timer in a [`LockedMap`].
#[derive(Debug)]
pub(crate) struct MapTimer {
    map: LockedMap,
    deadline: Instant,
    key: Option<(Instant, u64)>,
}

impl LockedMap {
    pub(crate) fn timer(&self, deadline: Instant) -> MapTimer {
        MapTimer { map: self.clone(), deadline, key: None }
    }

    /// The waker that is due first, if that is by `now`.
    pub(crate) fn pop_due(&self, now: Instant) -> Option<Waker> {
        let mut map = self.lock();
        let first = map.wakers.first_entry()?;
        (first.key().0 <= now).then(|| first.remove())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Map> {
        self.0.lock().expect("nothing panics under the lock")
    }
}

impl MapTimer {
    /// Moves an armed timer.
    pub(crate) fn move_to(&mut self, deadline: Instant) {
        let Some((_, id)) = self.key else { return };
        let mut map = self.map.lock();
        if let Some(waker) = self.key.and_then(|key| map.wakers.remove(&key)) {
            map.wakers.insert((deadline, id), waker);
            self.key = Some((deadline, id));
        }
    }
}

impl Future for MapTimer {
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let waker = cx.waker().clone();
        let mut map = self.map.lock();
        let key = (self.deadline, map.next);
        map.next += 1;
        map.wakers.insert(key, waker);
        drop(map);
        self.key = Some(key);
        Poll::Pending
    }
}

impl Drop for MapTimer {
    #[inline]
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let waker = self.map.lock().wakers.remove(&key);
            drop(waker);
        }
    }
}

impl System for LockedMap {
    const NAME: &str = "std-btreemap";

    fn start(_: usize) -> Self {
        Self::default()
    }

    #[inline]
    fn timeout(&self, timeout: Duration) -> impl Future + Send + use<> {
        self.timer(now() + timeout)
    }
}

/// What one would write next: a heap under a lock, from which nothing is removed before its time but
/// the waker. What is cancelled is swept out when it is more than what is live. Nobody drives it.
#[derive(Clone, Debug, Default)]
pub(crate) struct LockedHeap(Arc<Mutex<Heap>>);

#[derive(Debug, Default)]
struct Heap {
    deadlines: BinaryHeap<Reverse<(Instant, u64)>>,
    wakers: HashMap<u64, Waker>,
    next: u64,
}

struct HeapTimer {
    heap: LockedHeap,
    deadline: Instant,
    id: Option<u64>,
}

impl LockedHeap {
    fn lock(&self) -> std::sync::MutexGuard<'_, Heap> {
        self.0.lock().expect("nothing panics under the lock")
    }
}

impl Heap {
    /// Garbage that is not worth a sweep.
    const FEW: usize = 64;

    fn insert(&mut self, deadline: Instant, waker: Waker) -> u64 {
        let id = self.next;
        self.next += 1;
        self.deadlines.push(Reverse((deadline, id)));
        self.wakers.insert(id, waker);
        id
    }

    fn remove(&mut self, id: u64) -> Option<Waker> {
        let waker = self.wakers.remove(&id);
        if self.deadlines.len() > 2 * self.wakers.len() + Self::FEW {
            self.deadlines.retain(|Reverse((_, id))| self.wakers.contains_key(id));
        }
        waker
    }
}

impl Future for HeapTimer {
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let waker = cx.waker().clone();
        let id = self.heap.lock().insert(self.deadline, waker);
        self.id = Some(id);
        Poll::Pending
    }
}

impl Drop for HeapTimer {
    #[inline]
    fn drop(&mut self) {
        if let Some(id) = self.id {
            let waker = self.heap.lock().remove(id);
            drop(waker);
        }
    }
}

impl System for LockedHeap {
    const NAME: &str = "std-binaryheap";

    fn start(_: usize) -> Self {
        Self::default()
    }

    #[inline]
    fn timeout(&self, timeout: Duration) -> impl Future + Send + use<> {
        HeapTimer { heap: self.clone(), deadline: now() + timeout, id: None }
    }
}

/// The floor: what no timer that learns the time by itself and keeps a waker can do without. An
/// ordered read of the clock, our own; a clone of the waker, and its drop.
#[derive(Clone)]
pub(crate) struct Floor(Clock);

impl System for Floor {
    const NAME: &str = "floor";

    fn start(_: usize) -> Self {
        // Settles the clock.
        Deadbeat::start(1);
        Self(Clock::system())
    }

    #[inline]
    fn timeout(&self, timeout: Duration) -> impl Future + Send + use<> {
        black_box(self.0.now() + timeout);
        KeepWaker(None)
    }
}

struct KeepWaker(Option<Waker>);

impl Future for KeepWaker {
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0 = Some(cx.waker().clone());
        // As in a timer, it is not in a register when it is dropped.
        black_box(&mut self.0);
        Poll::Pending
    }
}

/// Nothing at all: what the harness takes for itself.
#[derive(Clone)]
pub(crate) struct Nothing;

impl System for Nothing {
    const NAME: &str = "nothing";
    /// There is nothing to hold.
    const MAX_LIVE: usize = 0;

    fn start(_: usize) -> Self {
        Self
    }

    #[inline]
    fn timeout(&self, timeout: Duration) -> impl Future + Send + use<> {
        black_box(timeout);
        pending::<()>()
    }
}
