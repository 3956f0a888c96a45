//! A Timekeeper whose time is moved by hand: for tests, with no thread and no waiting.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::core::{Core, Next, Options};
use super::engine::{Engine, Fired as Due};
use super::executor::{Executor, JoinHandle};
use super::handle::Handle;
use super::node::NEVER;
use super::timekeeper::{Entered, Timekeeper};
use crate::clock::{Instant, ManualClock, Witness, saturating_ns};
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
    log: Mutex<Vec<Fired>>,
    executor: Executor,
}

/// One firing, in the log of a [`Manual`] Timekeeper.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fired {
    /// When it was due: the deadline, with slack the time within it that was chosen. Of an elapsed timer,
    /// as late before `at` as that was late.
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
        // What the first jump is measured from.
        clock.clock().look();
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
        let first = self.first();
        if first == NEXT_NEVER {
            return None;
        }
        let next = self.on_active_clock(first);
        // To where time was, if the clock has been set back: nothing fires before.
        self.reach(self.not_before_horizon(first));
        self.fire();
        Some(next)
    }

    /// Lets `duration` pass without a look at anything, as if the process had been stopped meanwhile; then
    /// fires all that has fallen due, once each, and puts the stall on record
    /// ([`JumpKind::Stall`](crate::clock::JumpKind::Stall)). Returns how many fired.
    ///
    /// # Examples
    ///
    /// ```
    /// use deadbeat::{Manual, time::Duration};
    ///
    /// let manual = Manual::new();
    /// let at = manual.now() + Duration::from_secs(1);
    /// manual.timekeeper().call_at(at, || {}).detach();
    /// assert_eq!(manual.stall(Duration::from_secs(10)), 1);
    /// assert_eq!(manual.timekeeper().stats().stalled, Duration::from_secs(10));
    /// ```
    pub fn stall(&self, duration: Duration) -> usize {
        let core = self.core();
        self.clock.advance(duration);
        core.clock.look();
        let ns = saturating_ns(duration);
        core.clock.add_stall(ns, core.clock.now());
        core.add_stalled(ns);
        self.fire()
    }

    /// Suspends the machine for `duration`: elapsed time and the wall clock go on, active time doesn't.
    /// Then fires what has fallen due, once each. Returns how many fired.
    ///
    /// # Examples
    ///
    /// ```
    /// use deadbeat::{Manual, clock::{Elapsed, Instant}, time::{Duration, sleep, sleep_until}};
    ///
    /// let manual = Manual::new();
    /// let both = manual.spawn(async {
    ///     let lease = sleep_until(Instant::<Elapsed>::now() + Duration::from_secs(60));
    ///     let work = sleep(Duration::from_secs(60));
    ///     lease.await;
    ///     work.await;
    /// });
    /// manual.block_on(async { deadbeat::time::sleep(Duration::from_secs(1)).await });
    /// let start = manual.now();
    /// manual.suspend(Duration::from_secs(3600));
    /// assert_eq!(manual.now(), start);
    /// manual.block_on(both);
    /// assert_eq!(manual.now() - start, Duration::from_secs(59));
    /// ```
    pub fn suspend(&self, duration: Duration) -> usize {
        let ns = i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
        self.clock.jump(Witness::Boottime, ns);
        self.clock.jump(Witness::Realtime, ns);
        self.core().clock.look();
        self.fire()
    }

    /// The deadline of the live timer that is due first. A timer that waits for
    /// [`Instant::FAR_FUTURE`] never is. An elapsed timer's is told as the active clock will read then,
    /// if the machine isn't suspended before.
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
        let first = self.first();
        (first != NEXT_NEVER).then(|| self.on_active_clock(first))
    }

    /// The deadlines that come first, exactly.
    fn first(&self) -> Next {
        let mut first = NEXT_NEVER;
        for lane in self.core().lanes() {
            let first = if lane.elapsed { &mut first.elapsed } else { &mut first.active };
            lane.pool.each(|node| {
                let seen = node.see();
                if seen.live() && seen.deadline < NEVER - 1 {
                    *first = seen.deadline.min(*first);
                }
            });
        }
        first
    }

    /// The earlier of two deadlines of different classes.
    fn on_active_clock(&self, next: Next) -> Instant {
        let wait_ns = next.elapsed.saturating_sub(self.core().elapsed_now_ns());
        let elapsed = self.now().as_nanos().saturating_add(wait_ns);
        Instant::from_nanos(if next.elapsed == NEVER {
            next.active
        } else {
            next.active.min(elapsed)
        })
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

    /// Not before the latest times that the engines have been given.
    fn not_before_horizon(&self, next: Next) -> Next {
        let lifecycle = lock(&self.core().lifecycle);
        let Some(engines) = lifecycle.engines.as_deref() else { return next };
        let elapsed = engines.elapsed.as_ref().map_or(0, Engine::cursor);
        Next {
            active: next.active.max(engines.active.cursor()),
            elapsed: next.elapsed.max(elapsed),
        }
    }

    fn core(&self) -> &Arc<Core> {
        self.timekeeper.core()
    }

    /// Fires what is due now.
    fn fire(&self) -> usize {
        let core = self.core();
        let mut fired = 0;
        loop {
            let reading = core.clock.sample();
            let leapt_ns = core.attend_to_jumps();
            core.add_stalled(leapt_ns);
            if core.clock.is_retest_due(reading.monotonic_ns) {
                core.clock.retest();
            }
            let mut batches = [const { (0, Vec::new()) }; 2];
            let more = {
                let mut lifecycle = lock(&core.lifecycle);
                let Some(engines) = lifecycle.engines.as_deref_mut() else { return fired };
                let mut more = false;
                for ((lane, engine), (now, due)) in engines.each(core).zip(&mut batches) {
                    *now = if lane.elapsed { lane.now_ns(&core.clock) } else { reading.safe_ns };
                    more |= engine.turn(&lane.pool, *now, due);
                    #[cfg(any(test, fuzzing))]
                    engine.invariants();
                }
                more
            };
            for (lane, (now, due)) in core.lanes().zip(&mut batches) {
                fired += due.len();
                self.log(due, *now, if lane.elapsed { reading.safe_ns } else { *now });
                // Outside the locks: wakers are user code.
                core.wake_all(lane, due);
            }
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
            .engines
            .as_deref()
            .map_or(NEXT_NEVER, |engines| engines.next());
        let active = next.active.min(target.as_nanos()).max(now.as_nanos());
        self.reach(Next { active, ..next });
        Some(self.fire())
    }

    /// Moves the clock forward until what is due at `stop` may fire: to `stop`, or past it by as much
    /// as a scripted clock may be wrong.
    fn reach(&self, stop: Next) {
        let core = self.core();
        loop {
            let active_ns = stop.active.saturating_sub(core.clock.sample().safe_ns);
            let elapsed_ns = stop.elapsed.saturating_sub(core.elapsed_now_ns());
            let wait_ns = if stop.elapsed == NEVER { active_ns } else { active_ns.min(elapsed_ns) };
            if wait_ns == 0 {
                return;
            }
            let at_ns = self.clock.witness(Witness::Monotonic);
            self.clock.set(Instant::from_nanos(at_ns.saturating_add(wait_ns)));
            if at_ns == u64::MAX {
                // The end of time, as the clock sees it.
                return;
            }
        }
    }

    /// Notes what has fired at `now` by the clock of its class, which is `active_ns` by the active one.
    fn log(&self, due: &[Due], now: u64, active_ns: u64) {
        let at = Instant::from_nanos(active_ns);
        lock(&self.state.log).extend(due.iter().map(|due| {
            let late_ns = now.saturating_sub(due.deadline);
            Fired { deadline: Instant::from_nanos(active_ns.saturating_sub(late_ns)), at }
        }));
    }
}

const NEXT_NEVER: Next = Next { active: NEVER, elapsed: NEVER };

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
