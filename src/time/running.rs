//! Waiting for as long as this process could run: the amnesty for stalls.

use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;

use super::error::{Elapsed, TimekeeperStopped};
use super::{Instant, Sleep, sleep};
use crate::driver::{Handle, Timekeeper};

/// Waits until this process has been able to run for `duration`: *running time*.
///
/// It is for deadlines that are held against somebody else. A peer that has not answered a probe within
/// ten seconds is dead; but not if this process was stopped, frozen, starved or paused for nine of them,
/// and has not had the time to read the answer that lies in its socket. So time in which the process is
/// known to have been kept from running doesn't count: the deadline moves by as much.
///
/// What it isn't for: what is true of the world whether we ran or not. A lease runs out while its
/// holder is frozen; for that, wait for an [elapsed](crate::clock::Elapsed) instant.
///
/// # What counts as a stall
///
/// The driver thread went on at least 50 ms after the time that it had asked the kernel for, asleep or on
/// its way there
/// ([`JumpKind::Stall`](crate::clock::JumpKind::Stall)), or `CLOCK_MONOTONIC` leapt ahead because the
/// machine was restored or migrated ([`JumpKind::Restore`](crate::clock::JumpKind::Restore)). While such
/// a timer is pending, the driver asks to be woken every 250 ms for that: a stall that comes and goes in
/// between is forgiven but for the part before the next look, so less than 250 ms of it is held against
/// the peer. A suspension of the machine is no part of active time, and needs no amnesty.
/// [`Stats::stalled`](crate::Stats::stalled) is the sum. (What hits the driver while it is calling wakers
/// is not told from a waker that takes its time.)
///
/// # Timing, cancel safety, panics
///
/// As for [`sleep`](sleep()); never before `duration` has passed.
///
/// # Examples
///
/// ```
/// use deadbeat::Manual;
/// use deadbeat::time::{Duration, sleep, sleep_running};
///
/// let manual = Manual::new();
/// let patience = manual.spawn(async {
///     sleep_running(Duration::from_secs(10)).await;
///     deadbeat::time::Instant::now()
/// });
/// let start = manual.now();
/// manual.block_on(async { sleep(Duration::from_secs(1)).await });
/// manual.stall(Duration::from_secs(9)); // stopped by a debugger, say
/// let end = manual.block_on(patience);
/// assert_eq!(end - start, Duration::from_secs(19));
/// ```
pub fn sleep_running(duration: Duration) -> SleepRunning {
    SleepRunning::new(sleep(duration))
}

/// Runs a future until it completes, or this process has been able to run for `duration`: as
/// [`timeout`](super::timeout()), with [`sleep_running`] in the place of [`sleep`](sleep()).
///
/// # Errors
///
/// [`Elapsed`], when the time is over.
///
/// # Examples
///
/// ```
/// use deadbeat::Manual;
/// use deadbeat::time::{Duration, timeout_running};
///
/// Manual::new().block_on(async {
///     let answer = std::future::pending::<u8>();
///     assert!(timeout_running(Duration::from_secs(10), answer).await.is_err());
/// });
/// ```
pub fn timeout_running<F: IntoFuture>(
    duration: Duration,
    future: F,
) -> TimeoutRunning<F::IntoFuture> {
    TimeoutRunning { future: future.into_future(), sleep: sleep_running(duration) }
}

impl Timekeeper {
    /// As [`sleep_running`], on this Timekeeper, whichever is current.
    ///
    /// # Examples
    ///
    /// ```
    /// use deadbeat::time::Duration;
    ///
    /// let manual = deadbeat::Manual::new();
    /// let nap = manual.timekeeper().sleep_running(Duration::from_secs(1));
    /// assert_eq!(nap.deadline(), manual.now() + Duration::from_secs(1));
    /// ```
    pub fn sleep_running(&self, duration: Duration) -> SleepRunning {
        SleepRunning::new(self.sleep(duration))
    }
}

/// The future of [`sleep_running`].
///
/// # After completion
///
/// It is fused: polled again, it is ready again.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct SleepRunning {
    sleep: Sleep,
    /// How long the process had been kept from running up to now, as far as the deadline has moved.
    counted_ns: u64,
    watch: Option<Watch>,
}

/// Has the driver look out for stalls.
#[derive(Debug)]
struct Watch(Handle);

impl Watch {
    fn new(core: Handle) -> Self {
        core.watch();
        Self(core)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.0.unwatch();
    }
}

impl SleepRunning {
    fn new(sleep: Sleep) -> Self {
        let counted_ns = sleep.core().stalled_ns();
        Self { sleep, counted_ns, watch: None }
    }

    /// When it is due, unless there is another stall before: moves with each that is known of.
    pub fn deadline(&self) -> Instant {
        self.sleep.deadline() + Duration::from_nanos(self.forgiven_ns())
    }

    /// Whether it has completed.
    pub fn is_elapsed(&self) -> bool {
        self.forgiven_ns() == 0 && self.sleep.is_elapsed()
    }

    fn forgiven_ns(&self) -> u64 {
        self.sleep.core().stalled_ns() - self.counted_ns
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
    pub fn try_poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), TimekeeperStopped>> {
        if self.sleep.is_elapsed() && self.watch.is_none() && self.forgiven_ns() == 0 {
            return self.sleep.try_poll(cx);
        }
        loop {
            if self.watch.is_none() {
                self.watch = Some(Watch::new(self.sleep.core().clone()));
            }
            let slept = ready!(self.sleep.try_poll(cx));
            let forgiven_ns = self.forgiven_ns();
            if slept.is_err() || forgiven_ns == 0 {
                self.watch = None;
                return Poll::Ready(slept);
            }
            self.counted_ns += forgiven_ns;
            let deadline = self.sleep.deadline() + Duration::from_nanos(forgiven_ns);
            self.sleep.move_to(deadline);
        }
    }
}

impl Future for SleepRunning {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.try_poll(cx).map(|slept| slept.unwrap_or_else(|stopped| stopped.raise()))
    }
}

pin_project! {
    /// The future of [`timeout_running`].
    ///
    /// # After completion
    ///
    /// As [`Timeout`](super::Timeout): it polls the inner future again.
    #[derive(Debug)]
    #[must_use = "futures do nothing unless polled"]
    pub struct TimeoutRunning<F> {
        #[pin]
        future: F,
        sleep: SleepRunning,
    }
}

impl<F: Future> Future for TimeoutRunning<F> {
    type Output = Result<F::Output, Elapsed>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(output) = this.future.poll(cx) {
            return Poll::Ready(Ok(output));
        }
        ready!(Pin::new(this.sleep).poll(cx));
        Poll::Ready(Err(Elapsed::new()))
    }
}

const _: () = super::plain::<SleepRunning>();

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;
    use crate::Manual;

    const SECOND: Duration = Duration::from_secs(1);

    fn poll(sleep: &mut SleepRunning) -> Poll<()> {
        Pin::new(sleep).poll(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn only_stalls_since_it_was_made_are_forgiven() {
        let manual = Manual::new();
        manual.stall(SECOND);
        let start = manual.now();
        let mut nap = manual.timekeeper().sleep_running(10 * SECOND);
        assert!(poll(&mut nap).is_pending());
        manual.stall(3 * SECOND);
        assert_eq!(nap.deadline(), start + 13 * SECOND);
        manual.fast_forward(7 * SECOND);
        assert!(!nap.is_elapsed() && poll(&mut nap).is_pending(), "three seconds are forgiven");
        // Another, in which it falls due.
        manual.stall(5 * SECOND);
        assert!(poll(&mut nap).is_pending());
        manual.fast_forward(3 * SECOND);
        assert!(nap.is_elapsed() && poll(&mut nap).is_ready());
        assert_eq!(manual.now(), start + 18 * SECOND);
        manual.stall(SECOND);
        assert!(poll(&mut nap).is_ready(), "it is over");
    }

    #[test]
    fn a_suspension_is_no_time_and_needs_no_amnesty() {
        let manual = Manual::new();
        let mut nap = manual.timekeeper().sleep_running(SECOND);
        assert!(poll(&mut nap).is_pending());
        manual.suspend(100 * SECOND);
        assert_eq!(manual.timekeeper().stats().stalled, Duration::ZERO);
        manual.fast_forward(SECOND);
        assert!(poll(&mut nap).is_ready());
    }

    #[test]
    fn after_a_shutdown_it_is_an_error() {
        let manual = Manual::new();
        let mut nap = manual.timekeeper().sleep_running(SECOND);
        manual.timekeeper().shutdown();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(matches!(nap.try_poll(&mut cx), Poll::Ready(Err(_))));
    }
}
