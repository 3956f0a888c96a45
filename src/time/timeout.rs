//! Waiting for a future, but not longer than until a moment.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;

use super::error::{Elapsed, TimekeeperStopped};
use super::{Sleep, sleep, sleep_until};
use crate::clock::{self, Active, Class};
use crate::driver::Timekeeper;

/// Waits for `future`, but not longer than `duration`.
///
/// Equal to [`timeout_at`]`(Instant::now() + duration, future)`, saturating. `Duration::MAX`, and
/// whatever else reaches beyond the end of time, means no timeout: it never elapses and arms
/// nothing. With a `duration` of zero, the future has its one poll.
///
/// # Timing
///
/// The future is polled first, so one that is ready wins, however late it is, and one that blocks in
/// its poll is not cut short. [`Elapsed`] comes no earlier than the deadline; how late, see [`Sleep`].
///
/// # Complexity
///
/// One clock read, no allocation. Nothing is armed if the future is ready at its first poll; else as
/// a [`Sleep`]: *O*(1) to arm and to cancel, without a lock.
///
/// # Cancel safety
///
/// Dropping it drops the future. When the time has elapsed the future is still there:
/// [`Timeout::into_inner`] gives it back.
///
/// # Examples
///
/// ```
/// use deadbeat::time::{Duration, sleep, timeout};
///
/// # deadbeat::Manual::new().block_on(async {
/// let answer = timeout(Duration::from_millis(50), async { 42 }).await;
/// assert_eq!(answer, Ok(42));
///
/// let never = timeout(Duration::from_millis(50), std::future::pending::<()>()).await;
/// assert_eq!(never.unwrap_err().to_string(), "deadline has elapsed");
/// # });
/// ```
#[inline]
pub fn timeout<F: IntoFuture>(duration: Duration, future: F) -> Timeout<F::IntoFuture> {
    Timeout::new(sleep(duration), future)
}

/// Waits for `future`, but not longer than until `deadline`.
///
/// If `deadline` has passed, the future has its one poll. [`Instant::FAR_FUTURE`](super::Instant::FAR_FUTURE) means no timeout:
/// it never elapses and arms nothing.
///
/// # Timing, complexity, cancel safety
///
/// As for [`timeout`], without the clock read.
///
/// # Examples
///
/// One deadline for two steps:
///
/// ```
/// use deadbeat::time::{Duration, Instant, sleep, timeout_at};
///
/// # deadbeat::Manual::new().block_on(async {
/// let deadline = Instant::now() + Duration::from_secs(1);
/// let step = || sleep(Duration::from_millis(600));
/// assert!(timeout_at(deadline, step()).await.is_ok());
/// assert!(timeout_at(deadline, step()).await.is_err());
/// assert_eq!(Instant::now(), deadline);
/// # });
/// ```
#[inline]
pub fn timeout_at<C: Class, F: IntoFuture>(
    deadline: clock::Instant<C>,
    future: F,
) -> Timeout<F::IntoFuture, C> {
    Timeout::new(sleep_until(deadline), future)
}

impl Timekeeper {
    /// As [`timeout`](crate::time::timeout()), on this Timekeeper, whichever is current.
    ///
    /// # Examples
    ///
    /// ```
    /// use deadbeat::{Timekeeper, time::Duration};
    ///
    /// let timekeeper = Timekeeper::builder().build();
    /// let late = timekeeper.timeout(Duration::from_micros(100), std::future::pending::<()>());
    /// assert!(deadbeat::block_on(late).is_err());
    /// ```
    #[inline]
    pub fn timeout<F: IntoFuture>(&self, duration: Duration, future: F) -> Timeout<F::IntoFuture> {
        Timeout::new(self.sleep(duration), future)
    }
}

pin_project! {
    /// The future of [`timeout`] and [`timeout_at`].
    ///
    /// It is `Unpin` if `F` is, and 56 bytes larger.
    ///
    /// # After completion
    ///
    /// Polled again it does the same again: polls the future, which must allow that, and if that is
    /// pending, is [`Elapsed`] again if it was.
    ///
    /// # Panics
    ///
    /// When polled, with the future pending, before the deadline after the Timekeeper was
    /// [shut down](crate::Timekeeper::shutdown); [`try_poll`](Self::try_poll) does not. When armed,
    /// as a [`Sleep`], if the driver thread can't be started.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct Timeout<F, C = Active>
    where
        C: Class,
    {
        #[pin]
        future: F,
        sleep: Sleep<C>,
    }
}

impl<F, C: Class> Timeout<F, C> {
    #[inline]
    fn new(sleep: Sleep<C>, future: impl IntoFuture<IntoFuture = F>) -> Self
    where
        F: Future,
    {
        Self { future: future.into_future(), sleep }
    }

    /// The future that is waited for.
    pub fn get_ref(&self) -> &F {
        &self.future
    }

    /// The future that is waited for.
    pub fn get_mut(&mut self) -> &mut F {
        &mut self.future
    }

    /// The future that is waited for, without the timeout.
    pub fn into_inner(self) -> F {
        self.future
    }

    /// Lets it elapse up to `slack` late, so that it can share a wake-up with others: see
    /// [`Sleep::with_slack`].
    pub fn with_slack(mut self, slack: Duration) -> Self {
        self.sleep = self.sleep.with_slack(slack);
        self
    }
}

impl<F: Future, C: Class> Timeout<F, C> {
    /// Polls as [`Future::poll`] does, but returns an error where that panics.
    ///
    /// # Errors
    ///
    /// The future is pending, and the Timekeeper was shut down before the deadline.
    ///
    /// # Panics
    ///
    /// If the driver thread can't be started; see [`Sleep`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::{future::{pending, poll_fn}, pin::pin};
    /// use deadbeat::{Manual, time::Duration};
    ///
    /// let manual = Manual::new();
    /// let mut late = pin!(manual.timekeeper().timeout(Duration::from_secs(1), pending::<()>()));
    /// manual.timekeeper().shutdown();
    /// let polled = deadbeat::block_on(poll_fn(|cx| late.as_mut().try_poll(cx)));
    /// assert!(polled.is_err(), "neither ready nor elapsed");
    /// ```
    #[inline]
    pub fn try_poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Result<F::Output, Elapsed>, TimekeeperStopped>> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Ok(Ok(output)));
        }
        if this.sleep.deadline() == clock::Instant::FAR_FUTURE {
            return Poll::Pending;
        }
        ready!(this.sleep.try_poll(cx))?;
        Poll::Ready(Ok(Err(Elapsed::new())))
    }
}

impl<F: Future, C: Class> Future for Timeout<F, C> {
    type Output = Result<F::Output, Elapsed>;

    #[inline]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.try_poll(cx).map(|polled| polled.unwrap_or_else(|stopped| stopped.raise()))
    }
}

const _: () = {
    assert!(size_of::<Timeout<std::future::Ready<()>>>() <= 64);
    super::plain::<Timeout<std::future::Ready<()>>>();
};

#[cfg(test)]
mod tests {
    use std::future::{pending, poll_fn, ready};
    use std::pin::pin;
    use std::task::Waker;

    use super::*;
    use crate::Manual;
    use crate::time::Instant;

    const SECOND: Duration = Duration::from_secs(1);

    fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
        future.poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn elapses_at_the_deadline_and_not_a_nanosecond_earlier() {
        let manual = Manual::new();
        let mut late = pin!(manual.timekeeper().timeout(SECOND, pending::<()>()));
        assert!(poll(late.as_mut()).is_pending());
        manual.fast_forward(SECOND - Duration::from_nanos(1));
        assert!(poll(late.as_mut()).is_pending());
        manual.fast_forward(Duration::from_nanos(1));
        assert_eq!(poll(late.as_mut()), Poll::Ready(Err(Elapsed::new())));
        assert_eq!(poll(late.as_mut()), Poll::Ready(Err(Elapsed::new())), "fused");
    }

    #[test]
    fn a_future_that_is_ready_arms_nothing_and_wins_however_late() {
        let manual = Manual::new();
        let _entered = manual.enter();
        let past = manual.now() - SECOND;
        assert_eq!(poll(pin!(timeout(SECOND, ready(1)))), Poll::Ready(Ok(1)));
        assert_eq!(poll(pin!(timeout(Duration::ZERO, ready(2)))), Poll::Ready(Ok(2)));
        assert_eq!(poll(pin!(timeout_at(past, ready(3)))), Poll::Ready(Ok(3)));
        assert_eq!(manual.timekeeper().stats().armed, 0);
    }

    #[test]
    fn without_time_left_the_future_has_one_poll() {
        let manual = Manual::new();
        let _entered = manual.enter();
        for mut late in [
            timeout(Duration::ZERO, pending::<()>()),
            timeout_at(manual.now(), pending()),
            timeout_at(manual.now() - SECOND, pending()),
            timeout_at(Instant::from_nanos(0), pending()),
        ] {
            assert_eq!(poll(pin!(&mut late)), Poll::Ready(Err(Elapsed::new())));
        }
        assert_eq!(manual.timekeeper().stats().armed, 0);
    }

    #[test]
    fn the_longest_duration_never_elapses() {
        let manual = Manual::new();
        let _entered = manual.enter();
        let mut endless = pin!(timeout(Duration::MAX, pending::<()>()));
        assert!(poll(endless.as_mut()).is_pending());
        manual.fast_forward(Duration::MAX);
        assert_eq!(manual.now(), Instant::FAR_FUTURE);
        assert!(poll(endless.as_mut()).is_pending());
        assert_eq!(manual.timekeeper().stats().armed, 0);
    }

    #[test]
    fn dropping_it_cancels_the_timer() {
        let manual = Manual::new();
        let mut late = Box::pin(manual.timekeeper().timeout(SECOND, pending::<()>()));
        assert!(poll(late.as_mut()).is_pending());
        assert_eq!(manual.next_deadline(), Some(manual.now() + SECOND));
        drop(late);
        assert_eq!(manual.next_deadline(), None);
    }

    #[test]
    fn the_future_can_be_looked_at_and_taken_back() {
        let manual = Manual::new();
        manual.block_on(async {
            let mut late = timeout(SECOND, sleep(2 * SECOND));
            assert_eq!(late.get_ref().deadline(), manual.now() + 2 * SECOND);
            assert!((&mut late).await.is_err());
            assert!(!late.get_mut().is_elapsed());
            late.into_inner().await;
        });
    }

    #[test]
    fn with_slack_it_elapses_within_it() {
        let manual = Manual::new();
        manual.block_on(async {
            let (start, slack) = (manual.now(), Duration::from_millis(100));
            assert!(timeout(SECOND, pending::<()>()).with_slack(slack).await.is_err());
            assert!((SECOND..=SECOND + slack).contains(&start.elapsed()));
        });
    }

    #[test]
    fn takes_what_can_become_a_future() {
        struct Request;
        impl IntoFuture for Request {
            type Output = u8;
            type IntoFuture = std::future::Ready<u8>;
            fn into_future(self) -> Self::IntoFuture {
                ready(7)
            }
        }
        let manual = Manual::new();
        manual.block_on(async {
            assert_eq!(timeout(SECOND, Request).await, Ok(7));
            assert_eq!(timeout_at(manual.now(), Request).await, Ok(7));
        });
    }

    #[test]
    fn a_busy_future_cannot_starve_the_timer() {
        let manual = Manual::new();
        manual.block_on(async {
            let mut left = 1000_u32;
            let busy = poll_fn(|cx| {
                left -= 1;
                if left == 0 {
                    manual.fast_forward(SECOND);
                }
                cx.waker().wake_by_ref();
                Poll::<()>::Pending
            });
            assert!(timeout(SECOND, busy).await.is_err());
            assert_eq!(left, 0);
        });
    }

    #[test]
    fn after_a_shutdown_it_is_an_error_but_never_an_early_expiry() {
        let manual = Manual::new();
        let mut waiting = pin!(manual.timekeeper().timeout(SECOND, pending::<()>()));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(poll(waiting.as_mut()).is_pending());
        manual.timekeeper().shutdown();
        assert!(matches!(waiting.as_mut().try_poll(&mut cx), Poll::Ready(Err(_))));
        manual.clock().advance(SECOND);
        assert_eq!(waiting.as_mut().try_poll(&mut cx), Poll::Ready(Ok(Err(Elapsed::new()))));
    }

    #[test]
    #[should_panic(expected = "shut down before its deadline")]
    fn after_a_shutdown_its_poll_panics() {
        let manual = Manual::new();
        manual.timekeeper().shutdown();
        let _ = poll(pin!(manual.timekeeper().timeout(SECOND, pending::<()>())));
    }
}
