//! Timeouts and pauses between the items of a stream.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_core::Stream;
use pin_project_lite::pin_project;

use super::error::Elapsed;
use super::{IdleTimer, Interval, Sleep, sleep};

/// What has to do with time of `tokio_stream::StreamExt`, for every stream.
///
/// Where that trait is in scope as well, a call of one of these methods is ambiguous: import either
/// it or this one, or call `StreamExt::timeout(stream, ..)` by its path.
pub trait StreamExt: Stream {
    /// Puts an error between items that are more than `duration` apart.
    ///
    /// Time counts from the call at first, and from each item on. The error comes once: after it
    /// nothing but the next item. The stream goes on in any case.
    ///
    /// `Duration::MAX` never elapses.
    ///
    /// # Examples
    ///
    /// ```
    /// use deadbeat::time::{Duration, StreamExt, sleep};
    /// use smol::stream::{StreamExt as _, unfold};
    ///
    /// # deadbeat::Manual::new().block_on(async {
    /// let items = unfold(1, |n| async move {
    ///     sleep(Duration::from_secs(n)).await;
    ///     (n < 4).then_some((n, n + 1))
    /// });
    /// let items: Vec<_> = items.timeout(Duration::from_millis(1500)).map(Result::ok).collect().await;
    /// assert_eq!(items, [Some(1), None, Some(2), None, Some(3), None]);
    /// # });
    /// ```
    fn timeout(self, duration: Duration) -> Timeout<Self>
    where
        Self: Sized,
    {
        Timeout { stream: Fuse::new(self), idle: IdleTimer::new(duration), elapsed: false }
    }

    /// Puts errors between items, one for each tick of `interval` that comes while an item is waited
    /// for. An item [resets](Interval::reset) the interval.
    ///
    /// With [`interval`](super::interval()), whose first tick is immediate, the first error is so too;
    /// [`interval_at`](super::interval_at) tells when it should come.
    ///
    /// # Examples
    ///
    /// ```
    /// use deadbeat::time::{Duration, Instant, StreamExt, interval_at, sleep};
    /// use smol::stream::{StreamExt as _, once_future};
    ///
    /// # deadbeat::Manual::new().block_on(async {
    /// let second = Duration::from_secs(1);
    /// let slow = once_future(async move { sleep(5 * second / 2).await });
    /// let items = slow.timeout_repeating(interval_at(Instant::now() + second, second));
    /// let items: Vec<_> = items.map(|item| item.is_ok()).collect().await;
    /// assert_eq!(items, [false, false, true]);
    /// # });
    /// ```
    fn timeout_repeating(self, interval: Interval) -> TimeoutRepeating<Self>
    where
        Self: Sized,
    {
        TimeoutRepeating { stream: Fuse::new(self), interval }
    }

    /// Pauses for `duration` after each item before the next is asked for.
    ///
    /// Zero is no pause; with `Duration::MAX` there is one item.
    ///
    /// # Examples
    ///
    /// ```
    /// use deadbeat::time::{Duration, Instant, StreamExt};
    /// use smol::stream::{self, StreamExt as _};
    ///
    /// # deadbeat::Manual::new().block_on(async {
    /// let start = Instant::now();
    /// let mut items = stream::iter(1..).throttle(Duration::from_secs(2));
    /// for secs in [0, 2, 4] {
    ///     items.next().await;
    ///     assert_eq!(start.elapsed(), Duration::from_secs(secs));
    /// }
    /// # });
    /// ```
    fn throttle(self, duration: Duration) -> Throttle<Self>
    where
        Self: Sized,
    {
        Throttle { stream: self, pause: sleep(duration), duration, paused: true }
    }
}

impl<S: Stream + ?Sized> StreamExt for S {}

pin_project! {
    /// The stream of [`StreamExt::timeout`]. Fused; `Unpin` if `S` is.
    ///
    /// # Panics
    ///
    /// As [`Sleep`] does: when the Timekeeper was shut down, or the driver thread can't be started.
    #[derive(Debug)]
    #[must_use = "streams do nothing unless polled"]
    pub struct Timeout<S> {
        #[pin]
        stream: Fuse<S>,
        idle: IdleTimer,
        // The error has been given, and no item since.
        elapsed: bool,
    }
}

impl<S: Stream> Stream for Timeout<S> {
    type Item = Result<S::Item, Elapsed>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.project();
        if let Poll::Ready(item) = this.stream.poll_next(cx) {
            if item.is_some() {
                this.idle.touch();
                *this.elapsed = false;
            }
            return Poll::Ready(item.map(Ok));
        }
        if *this.elapsed {
            return Poll::Pending;
        }
        ready!(Pin::new(this.idle).poll(cx));
        *this.elapsed = true;
        Poll::Ready(Some(Err(Elapsed::new())))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // At most one error before each item, and one before the end.
        let (lower, upper) = self.stream.size_hint();
        (lower, upper.and_then(|upper| upper.checked_mul(2)?.checked_add(1)))
    }
}

pin_project! {
    /// The stream of [`StreamExt::timeout_repeating`]. Fused; `Unpin` if `S` is.
    ///
    /// # Panics
    ///
    /// As [`Interval`] does: when the Timekeeper was shut down, or the driver thread can't be started.
    #[derive(Debug)]
    #[must_use = "streams do nothing unless polled"]
    pub struct TimeoutRepeating<S> {
        #[pin]
        stream: Fuse<S>,
        interval: Interval,
    }
}

impl<S: Stream> Stream for TimeoutRepeating<S> {
    type Item = Result<S::Item, Elapsed>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.project();
        if let Poll::Ready(item) = this.stream.poll_next(cx) {
            if item.is_some() {
                this.interval.reset();
            }
            return Poll::Ready(item.map(Ok));
        }
        ready!(this.interval.poll_tick(cx));
        Poll::Ready(Some(Err(Elapsed::new())))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // Errors come without end.
        (self.stream.size_hint().0, None)
    }
}

pin_project! {
    /// The stream of [`StreamExt::throttle`]. `Unpin` if `S` is.
    ///
    /// # After completion
    ///
    /// It is not fused: polled again after `None`, it polls the stream again, without a pause, and
    /// the stream must allow that. If the stream goes on, so does this.
    ///
    /// # Panics
    ///
    /// As [`Sleep`] does: when the Timekeeper was shut down, or the driver thread can't be started.
    #[derive(Debug)]
    #[must_use = "streams do nothing unless polled"]
    pub struct Throttle<S> {
        #[pin]
        stream: S,
        pause: Sleep,
        duration: Duration,
        // The pause after the last item is over.
        paused: bool,
    }
}

impl<S> Throttle<S> {
    /// The stream that is slowed down.
    pub fn get_ref(&self) -> &S {
        &self.stream
    }

    /// The stream that is slowed down. What is taken from it directly is not followed by a pause.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// The stream that is slowed down, without the pause.
    pub fn into_inner(self) -> S {
        self.stream
    }
}

impl<S: Stream> Stream for Throttle<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let this = self.project();
        if !*this.paused {
            ready!(Pin::new(&mut *this.pause).poll(cx));
            *this.paused = true;
        }
        let item = ready!(this.stream.poll_next(cx));
        if item.is_some() && !this.duration.is_zero() {
            this.pause.move_to(this.pause.in_time(*this.duration));
            *this.paused = false;
        }
        Poll::Ready(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.stream.size_hint()
    }
}

pin_project! {
    /// Lets go of a stream that has ended.
    #[derive(Debug)]
    struct Fuse<S> {
        #[pin]
        stream: Option<S>,
    }
}

impl<S: Stream> Fuse<S> {
    fn new(stream: S) -> Self {
        Self { stream: Some(stream) }
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<S::Item>> {
        let Some(stream) = self.as_mut().project().stream.as_pin_mut() else {
            return Poll::Ready(None);
        };
        let item = ready!(stream.poll_next(cx));
        if item.is_none() {
            self.project().stream.set(None);
        }
        Poll::Ready(item)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.stream.as_ref().map_or((0, Some(0)), Stream::size_hint)
    }
}

const _: () = {
    type Items = std::pin::Pin<Box<dyn Stream<Item = ()> + Send + Sync>>;
    super::plain::<Timeout<Items>>();
    super::plain::<TimeoutRepeating<Items>>();
    super::plain::<Throttle<Items>>();
};

#[cfg(test)]
mod tests {
    use smol::stream::{StreamExt as _, iter, pending, unfold};

    use super::*;
    use crate::Manual;
    use crate::time::{Instant, interval};

    const SECOND: Duration = Duration::from_secs(1);

    /// Items so many seconds apart.
    fn spaced(gaps: &'static [u64]) -> impl Stream<Item = u64> + Unpin {
        Box::pin(unfold(gaps, |gaps| async move {
            let (&gap, rest) = gaps.split_first()?;
            sleep(Duration::from_secs(gap)).await;
            Some((gap, rest))
        }))
    }

    /// What comes and when, in seconds since the start; an error is a zero.
    async fn log(mut stream: impl Stream<Item = Result<u64, Elapsed>> + Unpin) -> Vec<(u64, u64)> {
        let start = Instant::now();
        let mut log = vec![];
        while let Some(item) = stream.next().await {
            log.push((start.elapsed().as_secs(), item.unwrap_or(0)));
        }
        assert!(stream.next().await.is_none(), "fused");
        log
    }

    #[test]
    fn a_timeout_comes_once_between_items_and_counts_from_the_last() {
        Manual::new().block_on(async {
            let items = spaced(&[1, 9, 2, 4]).timeout(3 * SECOND);
            assert_eq!(items.size_hint(), (0, None));
            assert_eq!(log(items).await, [(1, 1), (4, 0), (10, 9), (12, 2), (15, 0), (16, 4)]);
        });
    }

    #[test]
    fn a_repeating_timeout_comes_until_there_is_an_item() {
        Manual::new().block_on(async {
            let items = spaced(&[1, 7, 2]).timeout_repeating(interval(3 * SECOND));
            assert_eq!(
                log(items).await,
                [(0, 0), (1, 1), (4, 0), (7, 0), (8, 7), (10, 2)],
                "the first tick of an interval is immediate"
            );
        });
    }

    #[test]
    fn timeouts_of_nothing_and_of_everything() {
        Manual::new().block_on(async {
            let mut never = pending::<()>().timeout(Duration::MAX);
            assert!(crate::time::timeout(1000 * SECOND, never.next()).await.is_err());
            let mut at_once = pending::<()>().timeout(Duration::ZERO);
            assert!(at_once.next().await.unwrap().is_err());
            let ready: Vec<_> = iter(0..3).timeout(Duration::ZERO).collect().await;
            assert_eq!(ready, [Ok(0), Ok(1), Ok(2)]);
            assert_eq!(iter(0..3).timeout(SECOND).size_hint(), (3, Some(7)));
            assert_eq!(iter(0..3).timeout_repeating(interval(SECOND)).size_hint(), (3, None));
        });
    }

    #[test]
    fn a_throttled_stream_pauses_after_items_and_not_before_the_first() {
        let manual = Manual::new();
        manual.block_on(async {
            let start = manual.now();
            let mut items = iter(0..3).throttle(SECOND);
            assert_eq!(items.size_hint(), (3, Some(3)));
            for at in 0..3 {
                assert_eq!(items.next().await, Some(at));
                assert_eq!(start.elapsed(), Duration::from_secs(at));
            }
            assert_eq!(items.next().await, None);
            assert_eq!(items.get_ref().size_hint(), (0, Some(0)));
            assert_eq!(items.get_mut().next().await, None);
            assert_eq!(items.into_inner().next().await, None);
        });
    }

    #[test]
    fn throttled_by_nothing_and_by_everything() {
        let manual = Manual::new();
        manual.block_on(async {
            assert_eq!(iter(0..5).throttle(Duration::ZERO).count().await, 5);
            assert_eq!(manual.timekeeper().stats().armed, 0);
            let mut one = iter(0..5).throttle(Duration::MAX);
            assert_eq!(one.next().await, Some(0));
            assert!(crate::time::timeout(1000 * SECOND, one.next()).await.is_err());
        });
    }
}
