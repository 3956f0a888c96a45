//! A timeout that activity pushes forward.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use super::error::TimekeeperStopped;
use super::{Instant, Sleep, sleep};

/// Completes when nothing has [touched](Self::touch) it for as long as its timeout.
///
/// For connections, sessions and caches: touch it for every message, and wait for it beside them.
/// The timeout counts from the creation at first.
///
/// # Timing
///
/// As a [`Sleep`] until [`deadline`](Self::deadline): never early, and late by a wake-up, with
/// [`slack`](Self::with_slack) by up to that much more. A touch that comes after the deadline and
/// before the poll that would have seen it counts: the timer goes on.
///
/// # Complexity
///
/// A touch is one read of the clock and a few stores, of which one is to shared memory, if it is
/// armed: no lock, no read-modify-write, nobody woken. The timer catches up by itself when its old
/// deadline comes: once a timeout, not once a touch.
///
/// # After completion
///
/// It is fused: polled again, it is ready again. A touch starts it anew.
///
/// # Cancel safety
///
/// It is `Unpin`: wait for `&mut idle`, and nothing is lost when another branch of a `select!` wins.
///
/// # Panics
///
/// When polled before the deadline after its Timekeeper was
/// [shut down](crate::Timekeeper::shutdown); [`try_poll`](Self::try_poll) does not. When armed, as a
/// [`Sleep`], if the driver thread can't be started.
///
/// # Examples
///
/// ```
/// use deadbeat::time::{Duration, IdleTimer, Instant, timeout};
///
/// # deadbeat::Manual::new().block_on(async {
/// # let mut messages = 3;
/// # async fn next_message() { deadbeat::time::sleep(Duration::from_secs(20)).await }
/// let start = Instant::now();
/// let mut idle = IdleTimer::new(Duration::from_secs(30));
/// loop {
///     tokio::select! {
///         () = next_message(), if messages > 0 => {
///             messages -= 1;
///             idle.touch();
///         }
///         () = &mut idle => break,
///     }
/// }
/// assert_eq!(start.elapsed(), Duration::from_secs(3 * 20 + 30));
/// # });
/// ```
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct IdleTimer {
    sleep: Sleep,
    timeout: Duration,
    touched: Instant,
}

impl IdleTimer {
    /// A timer that completes `timeout` after the last touch, or from now.
    ///
    /// With `Duration::MAX` it never completes; with zero, at once, unless touched with a time in the
    /// future.
    pub fn new(timeout: Duration) -> Self {
        let sleep = sleep(timeout);
        Self { touched: sleep.now(), sleep, timeout }
    }

    /// Lets it be up to `slack` late, so that it can share a wake-up with others: see
    /// [`Sleep::with_slack`]. A hundredth of the timeout is a good choice. Default: none.
    pub fn with_slack(mut self, slack: Duration) -> Self {
        self.sleep = self.sleep.with_slack(slack);
        self
    }

    /// Notes activity: the timeout counts from now.
    ///
    /// # Examples
    ///
    /// ```
    /// use deadbeat::time::{Duration, IdleTimer};
    ///
    /// let manual = deadbeat::Manual::new();
    /// let _entered = manual.enter();
    /// let mut idle = IdleTimer::new(Duration::from_secs(30));
    /// manual.fast_forward(Duration::from_secs(10));
    /// idle.touch();
    /// assert_eq!(idle.deadline() - manual.now(), Duration::from_secs(30));
    /// ```
    #[inline]
    pub fn touch(&mut self) {
        self.touch_at(self.sleep.now());
    }

    /// Notes activity at `instant`, for who has read the clock already.
    ///
    /// An instant before that of another touch changes nothing; one in the future is as good as any.
    ///
    /// # Examples
    ///
    /// ```
    /// use deadbeat::time::{Duration, IdleTimer, Instant};
    ///
    /// let mut idle = IdleTimer::new(Duration::from_secs(30));
    /// let arrived = Instant::now();
    /// idle.touch_at(arrived);
    /// assert_eq!(idle.deadline(), arrived + Duration::from_secs(30));
    /// idle.touch_at(arrived - Duration::from_secs(1));
    /// assert_eq!(idle.deadline(), arrived + Duration::from_secs(30));
    /// ```
    #[inline]
    pub fn touch_at(&mut self, instant: Instant) {
        // Equal counts as well: a touch starts a timer that has completed, whatever the clock says.
        if instant >= self.touched {
            self.touched = instant;
            self.sleep.move_to(instant + self.timeout);
        }
    }

    /// How long it waits after the last touch.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Changes how long it waits after the last touch; that one counts still. A shorter timeout may
    /// have it due at once.
    ///
    /// A task that waits for it is woken at the new time without another poll.
    ///
    /// # Examples
    ///
    /// ```
    /// use deadbeat::time::{Duration, IdleTimer, Instant};
    ///
    /// # deadbeat::Manual::new().block_on(async {
    /// let start = Instant::now();
    /// let mut idle = IdleTimer::new(Duration::from_secs(30));
    /// idle.set_timeout(Duration::from_secs(5)); // the peer has logged out
    /// idle.await;
    /// assert_eq!(start.elapsed(), Duration::from_secs(5));
    /// # });
    /// ```
    pub fn set_timeout(&mut self, timeout: Duration) {
        self.timeout = timeout;
        self.sleep.move_to(self.touched + timeout);
    }

    /// When it is due, unless touched before.
    pub fn deadline(&self) -> Instant {
        self.sleep.deadline()
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
    /// use deadbeat::{Manual, time::{Duration, IdleTimer}};
    ///
    /// let manual = Manual::new();
    /// let _entered = manual.enter();
    /// let mut idle = IdleTimer::new(Duration::from_secs(30));
    /// manual.timekeeper().shutdown();
    /// assert!(deadbeat::block_on(poll_fn(|cx| idle.try_poll(cx))).is_err());
    /// ```
    #[inline]
    pub fn try_poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TimekeeperStopped>> {
        self.sleep.try_poll(cx)
    }
}

impl Future for IdleTimer {
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.sleep).poll(cx)
    }
}

const _: () = {
    assert!(size_of::<IdleTimer>() <= 96);
    super::plain::<IdleTimer>();
};

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::Manual;

    const SECOND: Duration = Duration::from_secs(1);

    fn poll(idle: &mut IdleTimer) -> Poll<()> {
        Pin::new(idle).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn completes_a_timeout_after_the_last_touch() {
        let manual = Manual::new();
        let _entered = manual.enter();
        let mut idle = IdleTimer::new(3 * SECOND);
        for _ in 0..10 {
            assert!(poll(&mut idle).is_pending());
            manual.fast_forward(2 * SECOND);
            idle.touch();
        }
        manual.fast_forward(3 * SECOND - Duration::from_nanos(1));
        assert!(poll(&mut idle).is_pending());
        manual.fast_forward(Duration::from_nanos(1));
        assert!(poll(&mut idle).is_ready());
        assert!(poll(&mut idle).is_ready(), "fused");
    }

    #[test]
    fn touches_wake_nobody_and_arm_nothing() {
        let manual = Manual::new();
        let _entered = manual.enter();
        let mut idle = IdleTimer::new(SECOND);
        idle.touch();
        assert_eq!(manual.timekeeper().stats().armed, 0);
        assert!(poll(&mut idle).is_pending());
        for _ in 0..1000 {
            manual.fast_forward(Duration::from_millis(999));
            idle.touch();
        }
        let stats = manual.timekeeper().stats();
        assert_eq!((stats.armed, stats.fired, stats.kicks), (1, 0, 0));
        assert!(poll(&mut idle).is_pending());
    }

    #[test]
    fn a_touch_after_the_deadline_and_before_the_poll_counts() {
        let manual = Manual::new();
        let _entered = manual.enter();
        let mut idle = IdleTimer::new(SECOND);
        assert!(poll(&mut idle).is_pending());
        manual.fast_forward(2 * SECOND);
        idle.touch();
        assert!(poll(&mut idle).is_pending());
        manual.fast_forward(SECOND);
        assert!(poll(&mut idle).is_ready());
    }

    #[test]
    fn a_touch_starts_it_anew() {
        let manual = Manual::new();
        let _entered = manual.enter();
        let mut idle = IdleTimer::new(Duration::ZERO);
        assert!(poll(&mut idle).is_ready());
        idle.set_timeout(SECOND);
        idle.touch();
        assert!(poll(&mut idle).is_pending());
        manual.fast_forward(SECOND);
        assert!(poll(&mut idle).is_ready());
        idle.touch_at(manual.now() - SECOND);
        assert!(poll(&mut idle).is_ready(), "that one was no later than the last");
        idle.touch_at(manual.now());
        assert!(poll(&mut idle).is_pending());
    }

    #[test]
    fn another_timeout_counts_from_the_last_touch() {
        let manual = Manual::new();
        let _entered = manual.enter();
        let mut idle = IdleTimer::new(10 * SECOND);
        let start = manual.now();
        assert!(poll(&mut idle).is_pending());
        manual.fast_forward(4 * SECOND);
        idle.set_timeout(5 * SECOND);
        assert_eq!((idle.timeout(), idle.deadline()), (5 * SECOND, start + 5 * SECOND));
        manual.fast_forward(SECOND);
        assert_eq!(manual.fired().len(), 1, "moved forward while armed");
        assert!(poll(&mut idle).is_ready());
        idle.set_timeout(Duration::MAX);
        assert!(poll(&mut idle).is_pending());
        idle.touch();
        assert_eq!(idle.deadline(), Instant::FAR_FUTURE);
    }

    #[test]
    fn slack_is_kept_from_touch_to_touch() {
        let manual = Manual::new();
        manual.block_on(async {
            let slack = Duration::from_millis(100);
            let mut idle = IdleTimer::new(SECOND).with_slack(slack);
            let mut last = manual.now();
            assert!(poll(&mut idle).is_pending());
            for _ in 0..5 {
                manual.fast_forward(SECOND / 3);
                last = manual.now();
                idle.touch();
            }
            idle.await;
            assert!((SECOND..=SECOND + slack).contains(&last.elapsed()), "{:?}", last.elapsed());
        });
    }

    #[test]
    fn after_a_shutdown_it_is_an_error() {
        let manual = Manual::new();
        let _entered = manual.enter();
        let mut idle = IdleTimer::new(SECOND);
        manual.timekeeper().shutdown();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(matches!(idle.try_poll(&mut cx), Poll::Ready(Err(_))));
    }
}
