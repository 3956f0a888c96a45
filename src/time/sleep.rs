//! Waiting for a moment.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::Instant;
use super::error::TimekeeperStopped;
use crate::clock::{self, Active, Class, Clock, saturating_ns};
use crate::driver::{self, Handle, Timekeeper, Timer};
use crate::wheel::coalesce;

/// Waits until `duration` has passed.
///
/// Equal to [`sleep_until`]`(Instant::now() + duration)`, saturating: a duration that reaches beyond
/// the end of time (584 years) never ends.
///
/// # Timing
///
/// Never completes early; how late depends on how fast the kernel wakes the driver and the executor
/// wakes the task. Nothing is rounded to milliseconds. See [`Sleep`].
///
/// While the clock isn't known to a microsecond, in the milliseconds after a fault of the counter for
/// example, `duration` is counted from the latest that now may be: it isn't cut short by a clock that is
/// behind.
///
/// On the system clock the first poll does not look at it again: if it comes after the deadline, it is
/// pending, and the driver wakes the task at once. [`sleep_until`] does look.
///
/// # Cancel safety
///
/// Dropping it cancels it; nothing is lost.
///
/// # Examples
///
/// ```
/// use deadbeat::time::{Duration, sleep};
///
/// # deadbeat::Manual::new().block_on(async {
/// sleep(Duration::from_micros(100)).await;
/// # });
/// ```
#[inline]
pub fn sleep(duration: Duration) -> Sleep {
    // The clock first: what comes before its fence, the fence waits for.
    let now = clock::with_current(Clock::now_at_latest);
    Sleep::ahead(driver::current(), now, duration)
}

/// Waits until `deadline`.
///
/// A deadline that has passed is ready at the first poll.
///
/// # Timing, cancel safety
///
/// As for [`sleep`].
///
/// # Examples
///
/// ```
/// use deadbeat::time::{Duration, Instant, sleep_until};
///
/// # deadbeat::Manual::new().block_on(async {
/// let deadline = Instant::now() + Duration::from_secs(1);
/// sleep_until(deadline).await;
/// assert_eq!(Instant::now(), deadline);
/// # });
/// ```
#[inline]
pub fn sleep_until<C: Class>(deadline: clock::Instant<C>) -> Sleep<C> {
    Sleep::on(driver::current(), deadline)
}

/// The future of [`sleep`] and [`sleep_until`].
///
/// It binds the Timekeeper that is current when it is created, and arms nothing before its first
/// poll. It is `Unpin`, `Send` and `Sync`, allocates nothing, and is 56 bytes.
///
/// # Timing
///
/// Never ready before the deadline as the Timekeeper's clock tells it, nor before CLOCK_MONOTONIC
/// reaches it. After the deadline: the time that the kernel takes to wake the driver thread, and the
/// executor to wake the task; with [`slack`](Self::with_slack), up to that much more.
///
/// Once it is pending, it is ready when the driver has found it due, and not by a look at the clock in
/// a poll: one that comes after the deadline and ahead of the driver finds it pending still.
///
/// # Two classes of time
///
/// Made of an [`Instant`] it is active: it waits while the machine runs, as every timer of tokio and
/// `std` on Linux does, and a suspension doesn't count. Made of an
/// [`Instant<Elapsed>`](crate::clock::Elapsed), it waits for the world: a suspension counts, and one that
/// fell due meanwhile is ready when the machine resumes. Leases, ages and deadlines of a peer are that.
///
/// ```
/// use deadbeat::clock::{Elapsed, Instant};
/// use deadbeat::time::{Duration, sleep_until};
///
/// # let manual = deadbeat::Manual::new();
/// # manual.block_on(async {
/// let lease_ends = Instant::<Elapsed>::now() + Duration::from_secs(10);
/// sleep_until(lease_ends).await;
/// assert!(Instant::<Elapsed>::now() >= lease_ends);
/// # });
/// ```
///
/// # After completion
///
/// It is fused: polled again, it is ready again. [`reset`](Self::reset) starts it anew.
///
/// # Complexity
///
/// *O*(1) to create, arm, re-poll, reset and drop. Arming takes a node from the thread's free list;
/// resetting to a later time is one store; dropping is one compare-and-swap. None of them takes a
/// lock. At most one arming of many wakes the driver thread, with one system call: one that is earlier
/// than everything that it waits for.
///
/// # Panics
///
/// When polled before the deadline after its Timekeeper was
/// [shut down](crate::Timekeeper::shutdown); [`try_poll`](Self::try_poll) does not.
///
/// When armed, if the driver thread isn't running and can't be started, because the system refuses
/// a thread: the first timer of a Timekeeper, as a rule. [`try_poll`](Self::try_poll) panics then,
/// too. The next arming tries again.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct Sleep<C: Class = Active> {
    deadline: clock::Instant<C>,
    slack_ns: u64,
    timer: Timer,
}

impl Sleep {
    /// Waits for `duration` from now, on the clock of `core`.
    #[inline]
    pub(crate) fn after(core: Handle, duration: Duration) -> Self {
        let now = core.clock.now_at_latest();
        Self::ahead(core, now, duration)
    }

    #[inline]
    fn ahead(core: Handle, now: Instant, duration: Duration) -> Self {
        let mut sleep = Self::on(core, now + duration);
        // No second look at the clock to arm what was in the future a moment ago.
        if duration > Duration::ZERO {
            sleep.timer.assume_ahead();
        }
        sleep
    }

    /// The deadline that is `duration` from now.
    #[inline]
    pub(crate) fn in_time(&self, duration: Duration) -> Instant {
        self.timer.core().clock.now_at_latest() + duration
    }

    /// The latest time that has certainly come: what is due by then may fire.
    #[inline]
    pub(crate) fn safe_now(&self) -> Instant {
        Instant::from_nanos(self.timer.core().clock.sample().safe_ns)
    }
}

impl<C: Class> Sleep<C> {
    #[inline]
    pub(crate) fn on(core: Handle, deadline: clock::Instant<C>) -> Self {
        Self { deadline, slack_ns: 0, timer: Timer::new(core, C::ELAPSED) }
    }

    #[inline]
    pub(crate) fn core(&self) -> &Handle {
        self.timer.core()
    }

    /// What the clock says that its deadlines are on.
    #[inline]
    pub(crate) fn now(&self) -> clock::Instant<C> {
        C::read(&self.timer.core().clock)
    }

    /// Cancels what is armed, so that nobody is woken. The next poll arms again.
    #[inline]
    pub(crate) fn disarm(&mut self) {
        self.timer.release();
    }

    /// When it is due.
    pub fn deadline(&self) -> clock::Instant<C> {
        self.deadline
    }

    /// Whether it has completed: a poll has returned ready, or it was polled before, has fired since,
    /// and the next poll will. False for one that was never polled, whatever its deadline.
    pub fn is_elapsed(&self) -> bool {
        self.timer.is_elapsed(self.due())
    }

    /// Lets it be up to `slack` late, so that it can share a wake-up with others.
    ///
    /// It is then due at the roundest moment in `[deadline, deadline + slack]`, where timers with
    /// slack meet; keepalives, leases and idle timers should have some. Default: none. Takes effect
    /// when the timer is next armed or reset.
    ///
    /// # Examples
    ///
    /// ```
    /// use deadbeat::time::{Duration, Instant, sleep};
    ///
    /// # deadbeat::Manual::new().block_on(async {
    /// let start = Instant::now();
    /// sleep(Duration::from_secs(10)).with_slack(Duration::from_secs(1)).await;
    /// let took = start.elapsed();
    /// assert!((10..=11).contains(&took.as_secs()));
    /// # });
    /// ```
    pub fn with_slack(mut self, slack: Duration) -> Self {
        self.slack_ns = saturating_ns(slack);
        self
    }

    /// Moves the deadline, before or after completion, armed or not.
    ///
    /// A task that waits for it is woken at the new deadline without another poll, unless it was
    /// already woken for the old one: then that poll counts. If the new deadline has passed, the
    /// driver wakes the task at once, unless a poll comes first and is ready.
    ///
    /// # Complexity
    ///
    /// *O*(1); to a later time, one store.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::pin::{Pin, pin};
    /// use deadbeat::time::{Duration, Instant, sleep};
    ///
    /// # deadbeat::Manual::new().block_on(async {
    /// let start = Instant::now();
    /// let mut nap = pin!(sleep(Duration::from_secs(10)));
    /// nap.as_mut().reset(start + Duration::from_secs(2));
    /// nap.as_mut().await;
    /// assert_eq!(start.elapsed(), Duration::from_secs(2));
    ///
    /// // It is `Unpin`: no need to pin it for good.
    /// let mut again = sleep(Duration::ZERO);
    /// Pin::new(&mut again).reset(start + Duration::from_secs(3));
    /// again.await;
    /// assert_eq!(start.elapsed(), Duration::from_secs(3));
    /// # });
    /// ```
    pub fn reset(self: Pin<&mut Self>, deadline: clock::Instant<C>) {
        self.get_mut().move_to(deadline);
    }

    #[inline]
    pub(crate) fn move_to(&mut self, deadline: clock::Instant<C>) {
        self.deadline = deadline;
        self.timer.move_to(self.due());
    }

    /// When the timer is due, slack and all.
    #[inline]
    fn due(&self) -> u64 {
        coalesce(self.deadline.as_nanos(), self.slack_ns)
    }

    /// Polls as [`Future::poll`] does, but returns an error where that panics.
    ///
    /// # Errors
    ///
    /// The Timekeeper was shut down before the deadline.
    ///
    /// # Panics
    ///
    /// If the driver thread can't be started; see [`Sleep`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::future::poll_fn;
    /// use deadbeat::{Manual, time::Duration};
    ///
    /// let manual = Manual::new();
    /// let mut nap = manual.timekeeper().sleep(Duration::from_secs(1));
    /// manual.timekeeper().shutdown();
    /// let stopped = deadbeat::block_on(poll_fn(|cx| nap.try_poll(cx))).unwrap_err();
    /// assert!(!stopped.is_forked());
    /// ```
    #[inline]
    pub fn try_poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TimekeeperStopped>> {
        let due = self.due();
        self.timer.poll(cx, due).map_err(TimekeeperStopped::new)
    }
}

impl<C: Class> Future for Sleep<C> {
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.try_poll(cx).map(|slept| {
            if let Err(stopped) = slept {
                stopped.raise();
            }
        })
    }
}

impl Timekeeper {
    /// As [`sleep`](crate::time::sleep()), on this Timekeeper, whichever is current.
    ///
    /// # Examples
    ///
    /// ```
    /// use deadbeat::time::Duration;
    ///
    /// let manual = deadbeat::Manual::new();
    /// let nap = manual.timekeeper().sleep(Duration::from_secs(1));
    /// assert_eq!(nap.deadline(), manual.now() + Duration::from_secs(1));
    /// ```
    #[inline]
    pub fn sleep(&self, duration: Duration) -> Sleep {
        Sleep::after(self.core().clone(), duration)
    }
}

const _: () = {
    assert!(size_of::<Sleep>() <= 56);
    assert!(size_of::<Sleep<clock::Elapsed>>() <= 56);
    super::plain::<Sleep>();
};
