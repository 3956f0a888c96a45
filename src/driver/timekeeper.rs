//! The handle: which clock and which driver a timer is on.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::ptr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;

use super::core::{Core, IDLE, Options, STOPPED};
use super::fork;
use super::handle::Handle;
use super::local;
use super::node::NEVER;
use super::stats::Stats;
use crate::clock::{Class, Clock, Instant};
use crate::sync::atomic::Ordering::{AcqRel, Acquire, Release};
use crate::sync::{lock, thread};
use crate::time::Sleep;

/// A clock, a wheel and the thread that drives it.
///
/// Timers bind the *current* Timekeeper when they are created: the innermost one that the thread has
/// [`enter`](Self::enter)ed, else the [`global`](Self::global) one. Most programs need no other.
/// Cloning gives another handle of the same Timekeeper.
///
/// # Threads
///
/// The driver thread starts with the first timer that is armed and sleeps until the next one is due;
/// there is no tick. It blocks all signals and asks for a timer slack of 1 ns
/// ([`Stats::timer_slack`]).
///
/// # End
///
/// When the last handle is dropped, the thread goes on until the timers that are still pending have
/// ended, and then ends itself. A timer that is armed later starts it again. Cancelling wakes nobody,
/// so if the last pending timer is cancelled, the thread finds out when it next wakes: when that timer
/// would have been due, at the latest. Until then it sleeps. To end it at once, see
/// [`shutdown`](Self::shutdown).
///
/// # Fork
///
/// A forked child has no driver threads. There, the [`global`](Self::global) Timekeeper is a new one;
/// every other, and every timer, that was made before the fork is dead: it may be dropped, and
/// polling it is ready if the deadline has come, and else panics or returns an error as after a
/// shutdown. Anything else with it ([`stats`](Self::stats), say) may block for ever. This holds on
/// Linux since 4.14; elsewhere a fork is not noticed, and such timers never fire.
///
/// # Wakers
///
/// Wakers are called by the driver thread, outside all locks, in the order of deadlines within a
/// batch. One that panics is caught and counted. One that blocks makes every later timer of this
/// Timekeeper late by as much: wakers of all known executors only mark a task as runnable.
///
/// # Examples
///
/// ```
/// use deadbeat::Timekeeper;
/// use deadbeat::time::{Duration, sleep};
///
/// let timekeeper = Timekeeper::builder().name("lease-timers").build();
/// let nap = {
///     let _entered = timekeeper.enter();
///     sleep(Duration::from_micros(200)) // bound to `timekeeper`
/// };
/// deadbeat::block_on(nap);
/// assert_eq!(timekeeper.stats().fired, 1);
/// ```
pub struct Timekeeper {
    core: Handle,
}

impl Timekeeper {
    /// The Timekeeper of the process: on the system clock, started by its first timer, never ended.
    pub fn global() -> Self {
        Self { core: global() }
    }

    /// The Timekeeper that new timers of the calling thread bind: the innermost one entered, else the
    /// global one.
    pub fn current() -> Self {
        Self::from_core(current())
    }

    /// A builder for a Timekeeper of one's own.
    pub fn builder() -> Builder {
        Builder { options: Options::default(), clock: None }
    }

    pub(super) fn from_core(core: Handle) -> Self {
        // Ordering: a count; who brings it to zero orders with who looks.
        core.handles.fetch_add(1, AcqRel);
        Self { core }
    }

    pub(crate) fn core(&self) -> &Handle {
        &self.core
    }

    /// The clock that this Timekeeper's deadlines are on.
    pub fn clock(&self) -> &Clock {
        &self.core.clock
    }

    /// What the clock says now: what `Instant::now()` says while this Timekeeper is current.
    pub fn now(&self) -> Instant {
        self.core.clock.now()
    }

    /// Makes this Timekeeper the current one of the calling thread, until the guard is dropped.
    ///
    /// The guard is not `Send`: a task that moves between threads enters by
    /// [`scope`](Self::scope).
    ///
    /// # Panics
    ///
    /// The guard panics when guards of one thread are dropped in another order than the reverse of
    /// their creation.
    #[must_use = "leaves when the guard is dropped"]
    pub fn enter(&self) -> Entered {
        Entered::new(self.core.clone())
    }

    /// Runs `future` with this Timekeeper current in each of its polls.
    ///
    /// # Examples
    ///
    /// ```
    /// use deadbeat::Timekeeper;
    /// use deadbeat::time::{Duration, sleep};
    ///
    /// let timekeeper = Timekeeper::builder().build();
    /// deadbeat::block_on(timekeeper.scope(async { sleep(Duration::from_micros(50)).await }));
    /// assert_eq!(timekeeper.stats().fired, 1);
    /// ```
    pub fn scope<F: Future>(&self, future: F) -> Scope<F> {
        Scope { timekeeper: self.clone(), future }
    }

    /// A [`Sleep`] on this Timekeeper, whichever is current.
    pub fn sleep_until<C: Class>(&self, deadline: Instant<C>) -> Sleep<C> {
        Sleep::on(self.core.clone(), deadline)
    }

    /// What this Timekeeper has done, and what it holds.
    ///
    /// # Complexity
    ///
    /// *O*(nodes): every node is looked at, to tell the live ones.
    pub fn stats(&self) -> Stats {
        let mut stats = self.core.counters.read();
        for lane in self.core.lanes() {
            lane.pool.each(|node| {
                if node.see().live() {
                    stats.live += 1;
                } else if node.visit() != NEVER {
                    stats.garbage += 1;
                }
            });
            stats.armed = stats.armed.wrapping_add(lane.armed());
            stats.nodes += lane.pool.capacity();
            stats.shards += lane.shard_count() as u64;
        }
        stats.cancelled = stats.armed.saturating_sub(stats.fired).saturating_sub(stats.live);
        stats.stalled = Duration::from_nanos(self.core.stalled_ns());
        stats.wakes_on_resume = self.core.parker.wakes_on_resume();
        stats
    }

    /// Ends the Timekeeper for all its handles: every pending timer is woken, the driver thread
    /// ends, and nothing can be armed any more. Returns when the thread has ended, or at once when
    /// called by the thread itself (from a callback). A second call does nothing.
    ///
    /// What was pending finds out when it is polled next: a timer whose deadline has come is ready as
    /// ever; one whose deadline is still to come is never ready early, so its poll panics, as a timer
    /// of a tokio runtime that was shut down does. [`Sleep::try_poll`] returns an error instead.
    /// [`is_shut_down`](Self::is_shut_down) tells tasks that are woken. In a forked child, there is
    /// neither a thread to end nor anybody to wake.
    ///
    /// # Panics
    ///
    /// On the global Timekeeper, which everybody in the process shares.
    pub fn shutdown(&self) {
        assert!(!self.core.options.immortal, "the global Timekeeper can't be shut down");
        // Ordering: release, for the driver that acquires it.
        self.core.stop_requested.store(true, Release);
        if self.core.is_forked() {
            return;
        }
        let thread = {
            let mut lifecycle = lock(&self.core.lifecycle);
            match self.core.phase() {
                STOPPED => lifecycle.thread.take(),
                IDLE => {
                    let engines = lifecycle.engines.as_deref_mut();
                    let fired = engines.map(|engines| self.core.stop(engines));
                    drop(lifecycle);
                    if let Some(fired) = fired {
                        self.core.wake_stopped(fired);
                    }
                    return;
                }
                _ => {
                    self.core.summon();
                    lifecycle.thread.take()
                }
            }
        };
        if let Some(thread) = thread
            && thread.thread().id() != thread::current().id()
        {
            // The driver catches what its wakers throw; it has no panic of its own to pass on.
            let _ = thread.join();
        }
    }

    /// Whether [`shutdown`](Self::shutdown) has been called, on any handle.
    ///
    /// # Examples
    ///
    /// ```
    /// let timekeeper = deadbeat::Timekeeper::builder().build();
    /// assert!(!timekeeper.is_shut_down());
    /// timekeeper.shutdown();
    /// assert!(timekeeper.is_shut_down());
    /// ```
    pub fn is_shut_down(&self) -> bool {
        // Ordering: pairs with `shutdown`.
        self.core.stop_requested.load(Acquire)
    }
}

impl Clone for Timekeeper {
    fn clone(&self) -> Self {
        Self::from_core(self.core.clone())
    }
}

impl Drop for Timekeeper {
    fn drop(&mut self) {
        // Ordering: release what was done through this handle; the driver acquires.
        if self.core.handles.fetch_sub(1, AcqRel) > 1 || self.core.options.immortal {
            return;
        }
        if self.core.options.manual {
            // Nobody is left who could move time: what is pending would be so for ever.
            self.shutdown();
        } else {
            // The driver looks whether it is still needed.
            self.core.summon();
        }
    }
}

impl fmt::Debug for Timekeeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timekeeper")
            .field("global", &self.core.options.immortal)
            .field("name", &self.core.options.name)
            .field("clock", &self.core.clock)
            .field("shut_down", &self.is_shut_down())
            .finish()
    }
}

/// Builds a [`Timekeeper`].
#[derive(Debug)]
#[must_use = "does nothing until built"]
pub struct Builder {
    options: Options,
    clock: Option<Clock>,
}

impl Builder {
    /// The name of the driver thread. Default: `deadbeat`.
    ///
    /// # Panics
    ///
    /// [`build`](Self::build) panics if it contains a NUL byte, as thread names can't.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.options.name = Some(name.into());
        self
    }

    /// Have timers woken a little before their deadlines, and spin the rest in their polls: a task
    /// then goes on within a microsecond or so of its deadline, instead of after the tens of
    /// microseconds that two wake-ups take. Default: off.
    ///
    /// How much before is learned from the observed latency (its 99th percentile, at most 150 µs).
    /// While a poll spins, its executor's thread does nothing else; a wait that is shorter than that
    /// is spun in its first poll. So this is for threads that have a processor to themselves and
    /// little else to do. When polls come much later than they should, because the processors are
    /// busy, spinning pauses. Callbacks never spin.
    pub fn spin(mut self, on: bool) -> Self {
        self.options.spin = on;
        self
    }

    /// The clock. Default: [`Clock::system`].
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Builds it. The thread starts with the first timer.
    ///
    /// # Panics
    ///
    /// If the name contains a NUL byte, or the clock is moved by hand: that takes a
    /// [`Manual`](crate::Manual) Timekeeper.
    pub fn build(self) -> Timekeeper {
        if let Some(name) = &self.options.name {
            assert!(!name.contains('\0'), "a thread's name can't contain a NUL byte: {name:?}");
        }
        let clock = self.clock.unwrap_or_else(Clock::system);
        assert!(!clock.is_manual(), "a clock that is moved by hand takes a `Manual` Timekeeper");
        Timekeeper::from_core(Handle::new(Core::new(clock, self.options)))
    }
}

#[inline]
fn global() -> Handle {
    // Ordering: acquire the core.
    let core = fork::global().load(Acquire);
    if core.is_null() {
        return make_global();
    }
    // SAFETY: made below.
    unsafe { Handle::immortal(core) }
}

/// Once in a process, and in each child that uses it. Without a lock, which a fork might copy locked.
#[cold]
fn make_global() -> Handle {
    let options = Options { immortal: true, ..Options::default() };
    // One reference for the life of the process, whatever becomes of the handles.
    let core = Arc::into_raw(Core::new(Clock::system(), options)).cast_mut();
    // Ordering: release the core; acquire another thread's.
    match fork::global().compare_exchange(ptr::null_mut(), core, AcqRel, Acquire) {
        // SAFETY: the reference is never given back.
        Ok(_) => unsafe { Handle::immortal(core) },
        Err(first) => {
            // SAFETY: from `into_raw` above, and known to nobody.
            drop(unsafe { Arc::from_raw(core) });
            // SAFETY: put there by the thread that came first, as above.
            unsafe { Handle::immortal(first) }
        }
    }
}

/// The Timekeeper that the calling thread has entered, else the global one.
#[inline]
pub(crate) fn current() -> Handle {
    let entered = local::entered();
    if entered.is_null() {
        global()
    } else {
        // SAFETY: the guard that put it there holds a handle, and takes it away when dropped.
        unsafe { Handle::clone_raw(entered) }
    }
}

/// Keeps a [`Timekeeper`] current on a thread. See [`Timekeeper::enter`].
#[derive(Debug)]
pub struct Entered {
    /// Keeps alive what the thread-local points to, even if this guard is forgotten.
    core: Handle,
    outer: local::Outer,
    /// Of one thread: not `Send`.
    _here: PhantomData<*const ()>,
}

impl Entered {
    fn new(core: Handle) -> Self {
        Self { outer: local::enter(core.as_ptr()), core, _here: PhantomData }
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        let in_order = local::leave(&self.outer);
        assert!(
            in_order || std::thread::panicking(),
            "guards of `Timekeeper::enter` dropped out of order ({:?})",
            self.core
        );
    }
}

pin_project! {
    /// The future of [`Timekeeper::scope`].
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Scope<F> {
        timekeeper: Timekeeper,
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for Scope<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let _entered = this.timekeeper.enter();
        this.future.poll(cx)
    }
}

/// Hands out the clock of the current Timekeeper. Does not start the global one.
#[inline]
pub(crate) fn with_current_clock<R>(f: impl FnOnce(&Clock) -> R) -> R {
    let entered = local::entered();
    if entered.is_null() {
        f(&Clock::system())
    } else {
        // SAFETY: as in `current`; `f` reads the clock, and drops no guard.
        f(unsafe { &(*entered).clock })
    }
}
