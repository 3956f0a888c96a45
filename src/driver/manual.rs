//! A Timekeeper whose time is moved by hand: for tests, with no thread and no waiting.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::core::{Core, Options};
use super::engine::{Engine, Fired as Due};
use super::executor::{Executor, JoinHandle};
use super::handle::Handle;
use super::node::NEVER;
use super::timekeeper::{Entered, Timekeeper};
use crate::clock::{Instant, ManualClock, Witness};
use crate::sync::{Mutex, lock};

/// A [`Timekeeper`] on a [`ManualClock`]: nothing fires but by a call of this handle.
///
/// It is for tests: a ten-minute timeout is tested in microseconds, and exactly. Two ways of use:
///
/// - [`block_on`](Self::block_on), its own executor: single-threaded, first woken first run, and
///   whenever nothing is left to run, time moves to the next deadline. Given the same futures (and no
///   I/O but in memory), every run is the same.
/// - Under any other executor, or without one: [`enter`](Timekeeper::enter) it where timers are
///   created, then [`fast_forward`](Self::fast_forward), or
///   [`advance`](Self::advance)`(..).await`. These promise what fires and in which order; that
///   tasks which were woken have run is up to their executor.
///
/// It may be shared between threads; only one of them should move time at a time.
///
/// # Examples
///
/// ```
/// use deadbeat::Manual;
/// use deadbeat::time::{Duration, Instant, sleep, timeout};
///
/// let manual = Manual::new();
/// manual.block_on(async {
///     let start = Instant::now();
///     let slow = sleep(Duration::from_secs(3600));
///     assert!(timeout(Duration::from_secs(60), slow).await.is_err());
///     assert_eq!(start.elapsed(), Duration::from_secs(60));
/// });
/// ```
#[derive(Clone, Debug)]
pub struct Manual {
    timekeeper: Timekeeper,
    clock: ManualClock,
    state: Arc<State>,
}

#[derive(Debug, Default)]
struct State {
    /// The engine's shards, as in the driver thread.
    known_shards: Mutex<usize>,
    log: Mutex<Vec<Fired>>,
    executor: Executor,
}

/// One firing, in the log of a [`Manual`] Timekeeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fired {
    /// When it was due: the deadline, with slack the time within it that was chosen.
    pub deadline: Instant,
    /// When it fired.
    pub at: Instant,
}

impl Manual {
    /// A Timekeeper on a new [`ManualClock`].
    pub fn new() -> Self {
        Self::with_clock(ManualClock::new())
    }

    /// A Timekeeper on a clock that others may hold, and move, too. What falls due when they do fires
    /// at the next call of this handle.
    pub fn with_clock(clock: ManualClock) -> Self {
        let options = Options { manual: true, ..Options::default() };
        let core = Handle::new(Core::new(clock.clock(), options));
        Self { timekeeper: Timekeeper::from_core(core), clock, state: Arc::default() }
    }

    /// The Timekeeper, to be handed to what is tested.
    pub fn timekeeper(&self) -> &Timekeeper {
        &self.timekeeper
    }

    /// The clock. Moving it directly fires nothing until the next call of this handle.
    pub fn clock(&self) -> &ManualClock {
        &self.clock
    }

    /// What the clock says.
    pub fn now(&self) -> Instant {
        self.timekeeper.now()
    }

    /// As [`Timekeeper::enter`].
    #[must_use = "leaves when the guard is dropped"]
    pub fn enter(&self) -> Entered {
        self.timekeeper.enter()
    }

    /// Moves time by `duration` and fires what falls due on the way, each at its own time, in the
    /// order of deadlines. Returns how many fired.
    ///
    /// Wakers are called on this thread; tasks that they wake run when their executor gets to them, so
    /// what they arm meanwhile counts from the end. Where that matters, see
    /// [`advance`](Self::advance).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::atomic::{AtomicU32, Ordering};
    /// use std::sync::Arc;
    /// use deadbeat::{Manual, time::Duration};
    ///
    /// let manual = Manual::new();
    /// let fired = Arc::new(AtomicU32::new(0));
    /// for secs in [1, 2, 3] {
    ///     let fired = fired.clone();
    ///     let at = manual.now() + Duration::from_secs(secs);
    ///     manual.timekeeper().call_at(at, move || { fired.fetch_add(1, Ordering::Relaxed); }).detach();
    /// }
    /// assert_eq!(manual.fast_forward(Duration::from_secs(2)), 2);
    /// assert_eq!(fired.load(Ordering::Relaxed), 2);
    /// ```
    pub fn fast_forward(&self, duration: Duration) -> usize {
        let target = self.now() + duration;
        let mut fired = self.fire();
        while let Some(count) = self.step(target) {
            fired += count;
        }
        fired
    }

    /// Moves time by `duration`, letting woken tasks run on the way: stops at each deadline, fires,
    /// and yields to the executor some times before it goes on.
    ///
    /// On an executor of one thread, tokio's current-thread runtime for one, that lets chains of up to
    /// eight wake-ups run at the right time. On others, tasks may run later than the time that woke
    /// them.
    ///
    /// # Cancel safety
    ///
    /// Dropped half-way, time stays where it has come to.
    pub fn advance(&self, duration: Duration) -> Advance {
        Advance { manual: self.clone(), duration, target: None, yields: YIELDS }
    }

    /// Moves time to the next deadline of a live timer and fires what is due then. Returns that
    /// deadline; `None`, with time unmoved, if no timer is left. What is overdue fires at once.
    ///
    /// # Complexity
    ///
    /// *O*(nodes), to find the deadline exactly.
    pub fn advance_to_next(&self) -> Option<Instant> {
        let next = self.next_deadline()?;
        // To where time was, if the clock has been set back: nothing fires before.
        self.reach(next.max(self.horizon()));
        self.fire();
        Some(next)
    }

    /// The deadline of the live timer that is due first. A timer that waits for
    /// [`Instant::FAR_FUTURE`] never is.
    ///
    /// # Complexity
    ///
    /// *O*(nodes).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::{future::Future, pin::pin, task::{Context, Waker}};
    /// use deadbeat::{Manual, time::{Duration, sleep}};
    ///
    /// let manual = Manual::new();
    /// let _entered = manual.enter();
    /// let mut nap = pin!(sleep(Duration::from_secs(3)));
    /// assert!(nap.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    ///
    /// let deadline = manual.now() + Duration::from_secs(3);
    /// assert_eq!(manual.next_deadline(), Some(deadline));
    /// assert_eq!(manual.advance_to_next(), Some(deadline));
    /// assert_eq!(manual.fired()[0].deadline, deadline);
    /// ```
    pub fn next_deadline(&self) -> Option<Instant> {
        let mut first = NEVER - 1;
        self.core().pool.each(|node| {
            let seen = node.see();
            if seen.live() {
                first = first.min(seen.deadline);
            }
        });
        (first < NEVER - 1).then(|| Instant::from_nanos(first))
    }

    /// Everything that has fired so far, in order.
    pub fn fired(&self) -> Vec<Fired> {
        lock(&self.state.log).clone()
    }

    /// Runs `future`, and what was [`spawn`](Self::spawn)ed, to the end of `future`: polls what was
    /// woken, first woken first, and when nothing is left to run moves time to the next deadline.
    /// This Timekeeper is current meanwhile.
    ///
    /// It is not yet current where `future` is made: in `manual.block_on(sleep(..))` the sleep exists
    /// before the call, and is on the Timekeeper that was current outside, as a rule the global one,
    /// for which nobody moves time. So make timers inside of an `async` block:
    ///
    /// ```
    /// use deadbeat::time::{Duration, sleep};
    ///
    /// let manual = deadbeat::Manual::new();
    /// manual.block_on(async { sleep(Duration::from_secs(3600)).await });
    /// ```
    ///
    /// # Panics
    ///
    /// If `future` is pending, nothing is left to run, and no timer is left: it would hang. Also if a
    /// task panics, with its panic; and if another `block_on` of this Timekeeper is going on.
    pub fn block_on<F: Future>(&self, future: F) -> F::Output {
        let _entered = self.enter();
        self.state.executor.block_on(future, || {
            if self.advance_to_next().is_none() {
                panic!(
                    "deadlock at {:?}: the future is pending, and neither a task nor a timer is left",
                    self.now()
                );
            }
        })
    }

    /// Adds a task for [`block_on`](Self::block_on) to run. It is polled in there only, and stays
    /// where it is when a `block_on` ends before it. Dropping all handles drops it; one that it has
    /// itself counts.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        self.state.executor.spawn(future)
    }

    /// The latest time that the engine has been given.
    fn horizon(&self) -> Instant {
        let lifecycle = lock(&self.core().lifecycle);
        Instant::from_nanos(lifecycle.engine.as_deref().map_or(0, Engine::cursor))
    }

    fn core(&self) -> &Arc<Core> {
        self.timekeeper.core()
    }

    /// Fires what is due now.
    fn fire(&self) -> usize {
        let core = self.core();
        let mut due = Vec::new();
        let mut fired = 0;
        loop {
            let now = core.clock.sample().safe_ns;
            let more = {
                let mut lifecycle = lock(&core.lifecycle);
                let Some(engine) = lifecycle.engine.as_deref_mut() else { return fired };
                core.refresh_shards(&mut lock(&self.state.known_shards), engine);
                let more = engine.turn(&core.pool, now, &mut due);
                #[cfg(any(test, fuzzing))]
                engine.invariants();
                more
            };
            fired += due.len();
            self.log(&due, now);
            // Outside the locks: wakers are user code.
            core.wake_all(&mut due);
            if !more {
                return fired;
            }
        }
    }

    /// Goes to the next stop on the way to `target` and fires; `None` when it has come there.
    fn step(&self, target: Instant) -> Option<usize> {
        let now = self.now();
        if now >= target {
            return None;
        }
        let next = lock(&self.core().lifecycle)
            .engine
            .as_deref()
            .and_then(|engine| engine.next_expiration())
            .map_or(target, |ns| Instant::from_nanos(ns).min(target));
        self.reach(next.max(now));
        Some(self.fire())
    }

    /// Moves the clock forward until what is due at `stop` may fire: to `stop`, or past it by as much
    /// as a scripted clock may be wrong.
    fn reach(&self, stop: Instant) {
        let clock = &self.core().clock;
        let mut safe_ns = clock.sample().safe_ns;
        while safe_ns < stop.as_nanos() {
            let at_ns = self.clock.witness(Witness::Monotonic);
            self.clock.set(Instant::from_nanos(at_ns.saturating_add(stop.as_nanos() - safe_ns)));
            if at_ns == u64::MAX {
                // The end of time, as the clock sees it.
                return;
            }
            safe_ns = clock.sample().safe_ns;
        }
    }

    fn log(&self, due: &[Due], now: u64) {
        let at = Instant::from_nanos(now);
        lock(&self.state.log).extend(
            due.iter().map(|due| Fired { deadline: Instant::from_nanos(due.deadline), at }),
        );
    }
}

impl Default for Manual {
    fn default() -> Self {
        Self::new()
    }
}

/// How often [`Advance`] yields after something has fired.
const YIELDS: u32 = 8;

/// The future of [`Manual::advance`]: ready with the number of timers that fired.
///
/// # After completion
///
/// Polled again, it doesn't move time any further. It fires what has come due since, if anything, yields
/// as before, and is ready with the number of all that it has fired.
#[derive(Debug)]
#[must_use = "time moves when this is polled"]
pub struct Advance {
    manual: Manual,
    duration: Duration,
    target: Option<(Instant, usize)>,
    yields: u32,
}

impl Future for Advance {
    type Output = usize;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<usize> {
        let this = &mut *self;
        if this.yields > 0 {
            // First of all, too: tasks that were spawned before may not have armed yet.
            this.yields -= 1;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let (target, fired) = this.target.get_or_insert((this.manual.now() + this.duration, 0));
        let mut count = this.manual.fire();
        while count == 0 {
            match this.manual.step(*target) {
                Some(fired_now) => count = fired_now,
                None => return Poll::Ready(*fired),
            }
        }
        *fired += count;
        this.yields = YIELDS;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
