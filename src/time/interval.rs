//! Ticks, a period apart.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use super::error::TimekeeperStopped;
use super::{Instant, Sleep};
use crate::clock::saturating_ns;
use crate::driver::{self, Timekeeper};

/// Ticks every `period`, the first time at once.
///
/// Equal to [`interval_at`]`(Instant::now(), period)`.
///
/// # Panics
///
/// If `period` is zero.
///
/// # Examples
///
/// ```
/// use deadbeat::time::{Duration, Instant, interval, sleep};
///
/// # deadbeat::Manual::new().block_on(async {
/// let start = Instant::now();
/// let mut interval = interval(Duration::from_millis(10));
/// interval.tick().await; // at once
/// sleep(Duration::from_millis(7)).await; // work is part of the period
/// interval.tick().await;
/// assert_eq!(start.elapsed(), Duration::from_millis(10));
/// # });
/// ```
#[track_caller]
pub fn interval(period: Duration) -> Interval {
    let core = driver::current();
    let start = core.clock.now();
    Interval::new(Sleep::on(core, start), period)
}

/// Ticks at `start`, and then every `period`.
///
/// A `start` that has passed counts as a missed tick, see [`MissedTickBehavior`].
///
/// # Panics
///
/// If `period` is zero.
///
/// # Examples
///
/// ```
/// use deadbeat::time::{Duration, Instant, interval_at};
///
/// # deadbeat::Manual::new().block_on(async {
/// let start = Instant::now() + Duration::from_millis(50);
/// let mut interval = interval_at(start, Duration::from_millis(10));
/// assert_eq!(interval.tick().await, start);
/// assert_eq!(interval.tick().await, start + Duration::from_millis(10));
/// # });
/// ```
#[track_caller]
pub fn interval_at(start: Instant, period: Duration) -> Interval {
    Interval::new(Sleep::on(driver::current(), start), period)
}

impl Timekeeper {
    /// As [`interval`](crate::time::interval()), on this Timekeeper, whichever is current.
    ///
    /// # Panics
    ///
    /// If `period` is zero.
    ///
    /// # Examples
    ///
    /// ```
    /// use deadbeat::time::Duration;
    ///
    /// let manual = deadbeat::Manual::new();
    /// let mut interval = manual.timekeeper().interval(Duration::from_secs(1));
    /// manual.block_on(async {
    ///     let first = interval.tick().await;
    ///     assert_eq!(interval.tick().await - first, Duration::from_secs(1));
    /// });
    /// ```
    #[track_caller]
    pub fn interval(&self, period: Duration) -> Interval {
        Interval::new(self.sleep_until(self.now()), period)
    }
}

/// What an [`Interval`] does about ticks that it has missed: those that nobody took before the next
/// was due, because the work in between took too long, or the process was stopped or suspended.
///
/// With a period of 50 and work that once takes 120, started by the tick at 50:
///
/// ```text
/// on time  0    50        100       150       200       250       300
/// Burst    0    50                         170 170    200       250       300
/// Delay    0    50                         170              220       270
/// Skip     0    50                         170        200       250       300
/// ```
///
/// # After a gap
///
/// Ticks that fell due while the process was kept from running (it was stopped, frozen or starved for 50
/// ms or more, or the machine was restored and `CLOCK_MONOTONIC` leapt ahead) are one tick, whatever is
/// chosen here: a second's stall is no reason for a hundred ticks in a row. The others are counted
/// ([`Interval::coalesced`]). A suspension of the machine is no active time, and makes none late.
///
/// # What counts as missed
///
/// Any lateness does, without tokio's tolerance of 5 ms, which makes up for timers that tick in
/// milliseconds. It matters to [`Delay`](Self::Delay) alone: see there for what it tolerates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "tokio's, and matched on by its users")]
pub enum MissedTickBehavior {
    /// Makes up for missed ticks, one after the other without a pause, until it has caught up. The
    /// number of ticks is right in the end.
    ///
    /// # Examples
    ///
    /// ```
    /// use deadbeat::time::{Duration, Instant, interval, sleep};
    ///
    /// # deadbeat::Manual::new().block_on(async {
    /// let mut interval = interval(Duration::from_millis(50));
    /// let start = interval.tick().await;
    /// sleep(Duration::from_millis(120)).await;
    /// for (due, taken) in [(50, 120), (100, 120), (150, 150)] {
    ///     assert_eq!(interval.tick().await - start, Duration::from_millis(due));
    ///     assert_eq!(start.elapsed(), Duration::from_millis(taken));
    /// }
    /// # });
    /// ```
    #[default]
    Burst,

    /// Starts anew from the tick that came late: ticks are taken no less than a period apart, but
    /// for what it tolerates.
    ///
    /// A tick that is no later than a wake-up may take, one millisecond, or an eighth of the period
    /// if that is less, doesn't count as missed: the next is then due a period after this one was
    /// due. So wake-ups that take some microseconds each don't add up.
    ///
    /// # Examples
    ///
    /// ```
    /// use deadbeat::time::{Duration, Instant, MissedTickBehavior, interval, sleep};
    ///
    /// # deadbeat::Manual::new().block_on(async {
    /// let mut interval = interval(Duration::from_millis(50));
    /// interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    /// let start = interval.tick().await;
    /// sleep(Duration::from_millis(120)).await;
    /// for taken in [120, 170, 220] {
    ///     interval.tick().await;
    ///     assert_eq!(start.elapsed(), Duration::from_millis(taken));
    /// }
    /// # });
    /// ```
    Delay,

    /// Leaves missed ticks out: the next is at a multiple of the period after the first, as ever.
    ///
    /// # Examples
    ///
    /// ```
    /// use deadbeat::time::{Duration, Instant, MissedTickBehavior, interval, sleep};
    ///
    /// # deadbeat::Manual::new().block_on(async {
    /// let mut interval = interval(Duration::from_millis(50));
    /// interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
    /// let start = interval.tick().await;
    /// sleep(Duration::from_millis(120)).await;
    /// for taken in [120, 150, 200] {
    ///     interval.tick().await;
    ///     assert_eq!(start.elapsed(), Duration::from_millis(taken));
    /// }
    /// # });
    /// ```
    Skip,
}

impl MissedTickBehavior {
    /// When the tick after the one that was due at `due` is due.
    #[inline]
    fn next(self, due: Instant, now: impl FnOnce() -> Instant, period: Duration) -> Instant {
        match self {
            // The clock has no say in it, and isn't read.
            Self::Burst => due + period,
            Self::Delay => {
                let now = now();
                if now - due > tolerance(period) { now + period } else { due + period }
            }
            Self::Skip => {
                let missed = (now() - due).as_nanos() / period.as_nanos();
                // Not more than there are nanoseconds, since `now` is one; so this can't overflow
                // before it is beyond the end of time, and then it saturates.
                let periods = u64::try_from(missed).unwrap_or(u64::MAX).saturating_add(1);
                due + Duration::from_nanos(saturating_ns(period).saturating_mul(periods))
            }
        }
    }
}

/// How late a tick may be taken without being missed: what waking up may take.
fn tolerance(period: Duration) -> Duration {
    (period / 8).min(Duration::from_millis(1))
}

/// Ticks without end. Made by [`interval`] and [`interval_at`].
///
/// # Timing
///
/// A tick completes as a [`Sleep`] does: never early, and late by a wake-up. Lateness of one tick
/// doesn't delay those after it, unless [`MissedTickBehavior`] says so.
///
/// A period that reaches beyond the end of time, `Duration::MAX` say, gives one tick, at the start.
///
/// # Complexity
///
/// *O*(1) a tick, without allocation or lock. Dropping it cancels it.
///
/// # Panics
///
/// Taking a tick panics if it isn't due and the Timekeeper was
/// [shut down](Timekeeper::shutdown); [`try_poll_tick`](Self::try_poll_tick) does not. Waiting for one
/// panics, as a [`Sleep`], if the driver thread can't be started.
#[derive(Debug)]
pub struct Interval {
    /// Due at the next tick. Armed while a poll for it is pending.
    sleep: Sleep,
    period: Duration,
    behavior: MissedTickBehavior,
    /// How long the process had been kept from running at the last tick.
    stalled_ns: u64,
    coalesced: u64,
}

impl Interval {
    #[track_caller]
    fn new(sleep: Sleep, period: Duration) -> Self {
        assert!(!period.is_zero(), "the period of an interval must not be zero");
        let stalled_ns = sleep.core().stalled_ns();
        Self { sleep, period, behavior: MissedTickBehavior::Burst, stalled_ns, coalesced: 0 }
    }

    /// Completes when the next tick is due; says when it was due.
    ///
    /// # Cancel safety
    ///
    /// A tick is taken only when this completes: in a `select!` that another branch wins, none is
    /// lost.
    pub async fn tick(&mut self) -> Instant {
        poll_fn(|cx| self.poll_tick(cx)).await
    }

    /// Polls for the next tick; says when it was due. If pending, the task of the latest poll is
    /// woken when it is.
    pub fn poll_tick(&mut self, cx: &mut Context<'_>) -> Poll<Instant> {
        self.try_poll_tick(cx).map(|tick| tick.unwrap_or_else(|stopped| stopped.raise()))
    }

    /// Polls as [`poll_tick`](Self::poll_tick) does, but returns an error where that panics.
    ///
    /// # Errors
    ///
    /// The Timekeeper was shut down before the tick was due.
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
    /// let mut ticks = manual.timekeeper().interval(Duration::from_secs(1));
    /// manual.timekeeper().shutdown();
    /// deadbeat::block_on(async {
    ///     assert!(poll_fn(|cx| ticks.try_poll_tick(cx)).await.is_ok(), "the first is due at once");
    ///     assert!(poll_fn(|cx| ticks.try_poll_tick(cx)).await.is_err());
    /// });
    /// ```
    pub fn try_poll_tick(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Instant, TimekeeperStopped>> {
        ready!(self.sleep.try_poll(cx))?;
        let due = self.sleep.deadline();
        let from = due + self.coalesce(due);
        let next = self.behavior.next(from, || self.sleep.now(), self.period);
        // Arms nothing: that is for the poll that has to wait.
        self.sleep.move_to(next);
        Poll::Ready(Ok(due))
    }

    /// Counts the ticks that a gap swallowed besides the one that was due at `due`, and says how much
    /// later the last of them was.
    #[inline]
    fn coalesce(&mut self, due: Instant) -> Duration {
        let stalled_ns = self.sleep.core().stalled_ns();
        let gap_ns = stalled_ns - std::mem::replace(&mut self.stalled_ns, stalled_ns);
        if gap_ns == 0 { Duration::ZERO } else { self.coalesce_gap(due, gap_ns) }
    }

    #[cold]
    fn coalesce_gap(&mut self, due: Instant, gap_ns: u64) -> Duration {
        let period_ns = saturating_ns(self.period);
        let late_ns = saturating_ns(self.sleep.now() - due);
        // As many as were due, and no more than fit into the gap.
        let ticks = (late_ns / period_ns).min(gap_ns.div_ceil(period_ns));
        self.coalesced = self.coalesced.saturating_add(ticks);
        Duration::from_nanos(period_ns.saturating_mul(ticks))
    }

    /// How many ticks were left out because they fell due while the process was kept from running,
    /// whatever [`MissedTickBehavior`] says.
    ///
    /// # Examples
    ///
    /// ```
    /// use deadbeat::Manual;
    /// use deadbeat::time::Duration;
    ///
    /// let manual = Manual::new();
    /// let mut interval = manual.timekeeper().interval(Duration::from_millis(10));
    /// manual.block_on(interval.tick());
    /// let start = manual.now();
    /// manual.stall(Duration::from_secs(60)); // 6000 ticks fall due
    /// manual.block_on(interval.tick()); // one of them
    /// assert_eq!(interval.coalesced(), 5999);
    /// manual.block_on(interval.tick());
    /// assert_eq!(manual.now() - start, Duration::from_millis(60_010));
    /// ```
    pub fn coalesced(&self) -> u64 {
        self.coalesced
    }

    /// Makes the next tick due one period from now, and forgets missed ones.
    ///
    /// # Examples
    ///
    /// ```
    /// use deadbeat::time::{Duration, interval, sleep};
    ///
    /// # deadbeat::Manual::new().block_on(async {
    /// let mut interval = interval(Duration::from_millis(100));
    /// let start = interval.tick().await;
    /// sleep(Duration::from_millis(50)).await;
    /// interval.reset();
    /// interval.tick().await;
    /// assert_eq!(start.elapsed(), Duration::from_millis(150));
    /// # });
    /// ```
    pub fn reset(&mut self) {
        self.reset_after(self.period);
    }

    /// Makes the next tick due now, and forgets missed ones.
    ///
    /// # Examples
    ///
    /// ```
    /// use deadbeat::time::{Duration, interval, sleep};
    ///
    /// # deadbeat::Manual::new().block_on(async {
    /// let mut interval = interval(Duration::from_millis(100));
    /// let start = interval.tick().await;
    /// sleep(Duration::from_millis(50)).await;
    /// interval.reset_immediately();
    /// interval.tick().await;
    /// assert_eq!(start.elapsed(), Duration::from_millis(50));
    /// interval.tick().await;
    /// assert_eq!(start.elapsed(), Duration::from_millis(150));
    /// # });
    /// ```
    pub fn reset_immediately(&mut self) {
        self.reset_at(self.sleep.now());
    }

    /// Makes the next tick due `after` from now, and forgets missed ones.
    ///
    /// # Examples
    ///
    /// ```
    /// use deadbeat::time::{Duration, interval};
    ///
    /// # deadbeat::Manual::new().block_on(async {
    /// let mut interval = interval(Duration::from_millis(100));
    /// let start = interval.tick().await;
    /// interval.reset_after(Duration::from_millis(20));
    /// interval.tick().await;
    /// assert_eq!(start.elapsed(), Duration::from_millis(20));
    /// interval.tick().await;
    /// assert_eq!(start.elapsed(), Duration::from_millis(120));
    /// # });
    /// ```
    pub fn reset_after(&mut self, after: Duration) {
        self.reset_at(self.sleep.in_time(after));
    }

    /// Makes the next tick due at `deadline`, whatever the period, and forgets missed ones.
    ///
    /// A `deadline` that has passed is a missed tick, which [`MissedTickBehavior`] then deals with. A
    /// task that waits for a tick is woken at the new time without another poll.
    ///
    /// # Examples
    ///
    /// ```
    /// use deadbeat::time::{Duration, interval};
    ///
    /// # deadbeat::Manual::new().block_on(async {
    /// let mut interval = interval(Duration::from_millis(100));
    /// let start = interval.tick().await;
    /// interval.reset_at(start + Duration::from_millis(30));
    /// assert_eq!(interval.tick().await, start + Duration::from_millis(30));
    /// assert_eq!(interval.tick().await, start + Duration::from_millis(130));
    /// # });
    /// ```
    pub fn reset_at(&mut self, deadline: Instant) {
        self.sleep.move_to(deadline);
    }

    /// What it does about missed ticks. Default: [`MissedTickBehavior::Burst`].
    pub fn missed_tick_behavior(&self) -> MissedTickBehavior {
        self.behavior
    }

    /// Sets what it does about missed ticks, from the next tick that is taken on.
    pub fn set_missed_tick_behavior(&mut self, behavior: MissedTickBehavior) {
        self.behavior = behavior;
    }

    /// The period, as it was given.
    pub fn period(&self) -> Duration {
        self.period
    }
}

const _: () = {
    assert!(size_of::<Interval>() <= 112);
    super::plain::<Interval>();
};

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use proptest::prelude::*;

    use super::*;
    use crate::Manual;
    use crate::time::{harness, sleep};

    const MS: Duration = Duration::from_millis(1);

    fn poll(interval: &mut Interval) -> Poll<Instant> {
        interval.poll_tick(&mut Context::from_waker(Waker::noop()))
    }

    /// The times of `n` ticks since the start, the work after the second of which takes `work`.
    fn ticks(behavior: MissedTickBehavior, work: Duration, n: usize) -> Vec<Duration> {
        let manual = Manual::new();
        manual.block_on(async {
            let start = manual.now();
            let mut interval = interval(50 * MS);
            interval.set_missed_tick_behavior(behavior);
            let mut times = vec![];
            for i in 0..n {
                interval.tick().await;
                times.push(start.elapsed());
                if i == 1 {
                    sleep(work).await;
                }
            }
            times
        })
    }

    #[test]
    fn the_table_of_behaviors_is_true() {
        use MissedTickBehavior::{Burst, Delay, Skip};
        let work = 120 * MS;
        let ms = |times: Vec<u32>| times.into_iter().map(|at| at * MS).collect::<Vec<_>>();
        assert_eq!(ticks(Burst, work, 7), ms(vec![0, 50, 170, 170, 200, 250, 300]));
        assert_eq!(ticks(Delay, work, 5), ms(vec![0, 50, 170, 220, 270]));
        assert_eq!(ticks(Skip, work, 6), ms(vec![0, 50, 170, 200, 250, 300]));
    }

    #[test]
    fn delay_tolerates_what_a_wake_up_takes_and_no_more() {
        let delayed = |work| ticks(MissedTickBehavior::Delay, work, 4)[3];
        assert_eq!(delayed(51 * MS), 150 * MS);
        let more = 51 * MS + Duration::from_nanos(1);
        assert_eq!(delayed(more), 100 * MS + more);
        assert_eq!(tolerance(80 * Duration::from_micros(1)), Duration::from_micros(10));
    }

    #[test]
    fn a_skipped_tick_on_the_grid_is_taken_once() {
        let times = ticks(MissedTickBehavior::Skip, 100 * MS, 4);
        assert_eq!(times[2..], [150 * MS, 200 * MS]);
    }

    #[test]
    fn nothing_is_armed_until_a_poll_has_to_wait() {
        let manual = Manual::new();
        let mut interval = manual.timekeeper().interval(MS);
        let start = manual.now();
        assert_eq!(poll(&mut interval), Poll::Ready(start));
        assert_eq!(manual.timekeeper().stats().armed, 0);
        assert!(poll(&mut interval).is_pending());
        assert_eq!(manual.timekeeper().stats().armed, 1);
        manual.fast_forward(MS);
        assert_eq!(poll(&mut interval), Poll::Ready(start + MS));
        assert_eq!(manual.timekeeper().stats().live, 0);
        drop(interval);
        assert_eq!(manual.next_deadline(), None);
    }

    #[test]
    fn the_longest_period_gives_one_tick() {
        let manual = Manual::new();
        for behavior in
            [MissedTickBehavior::Burst, MissedTickBehavior::Delay, MissedTickBehavior::Skip]
        {
            let mut interval = manual.timekeeper().interval(Duration::MAX);
            interval.set_missed_tick_behavior(behavior);
            assert_eq!(interval.period(), Duration::MAX);
            assert!(poll(&mut interval).is_ready());
            assert!(poll(&mut interval).is_pending());
            manual.fast_forward(Duration::from_secs(1 << 32));
            assert!(poll(&mut interval).is_pending());
        }
    }

    #[test]
    fn the_shortest_period_ticks_every_nanosecond() {
        let manual = Manual::new();
        let mut interval = manual.timekeeper().interval(Duration::from_nanos(1));
        let start = manual.now();
        manual.fast_forward(Duration::from_nanos(2));
        for tick in 0..3 {
            assert_eq!(poll(&mut interval), Poll::Ready(start + Duration::from_nanos(tick)));
        }
        assert!(poll(&mut interval).is_pending());
        interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
        manual.fast_forward(Duration::from_secs(1 << 32));
        assert!(poll(&mut interval).is_ready());
        assert!(poll(&mut interval).is_pending());
    }

    #[test]
    fn a_reset_moves_what_a_task_waits_for() {
        let manual = Manual::new();
        let start = manual.now();
        let mut interval = manual.timekeeper().interval(100 * MS);
        assert!(poll(&mut interval).is_ready());
        assert!(poll(&mut interval).is_pending());
        interval.reset_at(start + 30 * MS);
        manual.fast_forward(29 * MS);
        assert!(poll(&mut interval).is_pending());
        manual.fast_forward(MS);
        assert_eq!(manual.fired().len(), 1);
        assert_eq!(poll(&mut interval), Poll::Ready(start + 30 * MS));
        assert!(poll(&mut interval).is_pending());
        interval.reset_after(200 * MS);
        manual.fast_forward(199 * MS);
        assert!(poll(&mut interval).is_pending());
        interval.reset_immediately();
        manual.fast_forward(Duration::ZERO);
        assert_eq!(poll(&mut interval), Poll::Ready(start + 229 * MS));
    }

    #[test]
    #[should_panic(expected = "the period of an interval must not be zero")]
    fn a_period_of_zero_panics() {
        let _ = interval(Duration::ZERO);
    }

    #[test]
    #[should_panic(expected = "the period of an interval must not be zero")]
    fn a_period_of_zero_panics_wherever_it_starts() {
        let _ = interval_at(Instant::FAR_FUTURE, Duration::ZERO);
    }

    #[test]
    fn after_a_shutdown_what_is_due_ticks_and_what_is_not_is_an_error() {
        let manual = Manual::new();
        let mut interval = manual.timekeeper().interval(MS);
        manual.timekeeper().shutdown();
        let mut cx = Context::from_waker(Waker::noop());
        assert!(matches!(interval.try_poll_tick(&mut cx), Poll::Ready(Ok(_))));
        assert!(matches!(interval.try_poll_tick(&mut cx), Poll::Ready(Err(_))));
    }

    proptest! {
        #[test]
        fn agrees_with_its_oracle(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            harness::interval(&bytes);
        }
    }
}
