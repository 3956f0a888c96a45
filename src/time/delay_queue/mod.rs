//! Items that come out when they are due.
//!
//! # How it works
//!
//! The items are on a [`Wheel`] of the queue's own, and one [`Sleep`] waits for the next of them. The
//! wheel is moved to the next expiration at a time, rather than to the present, so that it never
//! hands out more than the items of one deadline. What is inserted with a deadline before the
//! wheel's present, which takes a deadline in the past, would find no order there, and is sorted in
//! `overdue`.
//!
//! # Invariants
//!
//! 1. An item is in `overdue` if and only if its deadline is before the wheel's present. Such an
//!    item is due before all others.
//! 2. What the wheel has found and not handed out has one deadline: the wheel's present.
//! 3. While a task waits for a deadline, `sleep` is armed for the wheel's next expiration or for
//!    before, or the task has been woken.
//! 4. The waker of a task that waits is in `waker`; the task is woken when the queue becomes empty
//!    under it, or when it waited for a first item and one comes.
//! 5. An item's key is that of its place on the wheel, unless `renamed` has it: then the item was
//!    moved, and its key is that of a place it had before.
//! 6. `first`, if it is set, is the earliest item of the wheel, which an overdue one may be ahead of.

mod item;
mod room;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::pin::Pin;
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures_core::Stream;

use super::error::TimekeeperStopped;
use super::{Instant, Sleep};
use crate::driver;
use crate::wheel::{self, Wheel};

pub use item::{Expired, Key, StaleKey};
use item::{Item, stale};
use room::Renamed;

/// Items, each with a deadline, that come out when they are due.
///
/// One task owns the queue, and waits for all items with one timer. Use it as a [`Stream`], or by
/// [`poll_expired`](Self::poll_expired). It is on the [`Timekeeper`](crate::Timekeeper) that is
/// current when it is created.
///
/// # Order
///
/// Items come in the order of their deadlines, to the nanosecond, and those with the same deadline in
/// the order in which they were given it.
///
/// # Timing
///
/// Never early. The task is woken for the next item as by a [`Sleep`]: an insert, reset or removal
/// moves the timer if the next deadline changes, without another poll. It is also woken when the last
/// item is removed under it, to find that the queue is empty, and when one comes into a queue that
/// it found empty. Where many items are close together it may be woken some time ahead of them,
/// once, to sort them.
///
/// # Keys
///
/// A [`Key`] is stale as soon as its item has come out or was removed. A stale key is an error, and
/// never names another item, however often the place is used again. The methods that take a key
/// panic if it is stale, as tokio's do; their `try_` twins say so.
///
/// # Complexity
///
/// Insert, remove and reset are *O*(1), and so is coming out, amortised; no allocation an item, once
/// there is room. What is given a deadline before that of an item that has come out already is sorted
/// in *O*(log *n*) among its like. An empty queue takes about 17 KiB. Memory is for the most items
/// that it ever held; it is given back by [`compact`](Self::compact), and when the queue is dropped.
///
/// # Cancel safety
///
/// An item leaves the queue only when it is returned: waiting for the next one loses nothing when
/// it is dropped.
///
/// # Examples
///
/// Entries of a cache that expire:
///
/// ```
/// use deadbeat::time::{DelayQueue, Duration, Instant};
/// use smol::stream::StreamExt;
///
/// # deadbeat::Manual::new().block_on(async {
/// let start = Instant::now();
/// let mut expirations = DelayQueue::new();
/// let apple = expirations.insert("apple", Duration::from_secs(30));
/// let banana = expirations.insert("banana", Duration::from_secs(20));
/// let cherry = expirations.insert("cherry", Duration::from_secs(10));
///
/// expirations.reset(&cherry, Duration::from_secs(40));
/// assert_eq!(expirations.remove(&apple).into_inner(), "apple");
///
/// while let Some(expired) = expirations.next().await {
///     println!("{} at {:?}", expired.get_ref(), start.elapsed());
///     if expired.key() == banana {
///         assert_eq!(expired.deadline(), start + Duration::from_secs(20));
///     }
/// }
/// assert_eq!(start.elapsed(), Duration::from_secs(40));
/// assert!(expirations.try_remove(&apple).is_none());
/// # });
/// ```
pub struct DelayQueue<T> {
    wheel: Wheel<Item<T>>,
    /// By deadline and order.
    overdue: BTreeMap<(u64, u64), wheel::Key>,
    /// How many deadlines have been given out.
    ordered: u64,
    /// A time that has certainly come: saves reading the clock for each of many items that are due.
    reached: u64,
    sleep: Sleep,
    waiting: Waiting,
    waker: Option<Waker>,
    /// The earliest item of the wheel, once somebody has asked: its deadline, and where it is.
    first: OnceLock<(u64, wheel::Key)>,
    /// Nothing, unless items were moved and are still there.
    renamed: Option<Box<Renamed>>,
}

/// What the task that polled last waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waiting {
    /// It doesn't: it got an item, or has been woken.
    No,
    /// The next deadline.
    ForDeadline,
    /// The queue was empty.
    ForItem,
}

impl<T> DelayQueue<T> {
    /// An empty queue.
    ///
    /// # Examples
    ///
    /// ```
    /// let queue = deadbeat::time::DelayQueue::<u32>::new();
    /// assert!(queue.is_empty());
    /// ```
    pub fn new() -> Self {
        Self::with_capacity(0)
    }

    /// An empty queue with room for `capacity` items.
    ///
    /// # Examples
    ///
    /// ```
    /// let queue = deadbeat::time::DelayQueue::<u32>::with_capacity(10);
    /// assert!(queue.capacity() >= 10);
    /// ```
    pub fn with_capacity(capacity: usize) -> Self {
        let sleep = Sleep::on(driver::current(), Instant::FAR_FUTURE);
        let now = sleep.safe_now().as_nanos();
        Self {
            wheel: Wheel::with_capacity(now, capacity),
            overdue: BTreeMap::new(),
            ordered: 0,
            reached: now,
            sleep,
            waiting: Waiting::No,
            waker: None,
            first: OnceLock::new(),
            renamed: None,
        }
    }

    /// Adds an item that is due `timeout` from now. Saturates: with `Duration::MAX` it is never due.
    ///
    /// # Panics
    ///
    /// If there are 2^32 - 1 items.
    ///
    /// # Examples
    ///
    /// ```
    /// use deadbeat::time::{DelayQueue, Duration};
    ///
    /// let mut queue = DelayQueue::new();
    /// let key = queue.insert("item", Duration::from_secs(5));
    /// assert_eq!(queue.remove(&key).into_inner(), "item");
    /// ```
    #[track_caller]
    pub fn insert(&mut self, value: T, timeout: Duration) -> Key {
        self.insert_at(value, self.sleep.in_time(timeout))
    }

    /// Adds an item that is due at `deadline`; if that has passed, at once.
    ///
    /// # Panics
    ///
    /// If there are 2^32 - 1 items.
    ///
    /// # Examples
    ///
    /// ```
    /// use deadbeat::time::{DelayQueue, Duration, Instant};
    ///
    /// let mut queue = DelayQueue::new();
    /// let deadline = Instant::now() + Duration::from_secs(5);
    /// let key = queue.insert_at("item", deadline);
    /// assert_eq!(queue.deadline(&key), deadline);
    /// ```
    #[track_caller]
    pub fn insert_at(&mut self, value: T, deadline: Instant) -> Key {
        let (at, order) = (deadline.as_nanos(), self.next_order());
        let key = self.wheel.insert(at, Item { order, value });
        self.placed(at, order, key);
        self.changed();
        Key(key)
    }

    /// Takes the next item that is due.
    ///
    /// `None` says that the queue is empty. That need not be the end: the task is woken when an item
    /// comes.
    ///
    /// # Panics
    ///
    /// If the next item isn't due and the Timekeeper was
    /// [shut down](crate::Timekeeper::shutdown); [`try_poll_expired`](Self::try_poll_expired) does
    /// not. If it has to wait, as a [`Sleep`], and the driver thread can't be started.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::future::poll_fn;
    /// use deadbeat::time::{DelayQueue, Duration};
    ///
    /// # deadbeat::Manual::new().block_on(async {
    /// let mut queue = DelayQueue::new();
    /// queue.insert("item", Duration::from_secs(5));
    /// let expired = poll_fn(|cx| queue.poll_expired(cx)).await;
    /// assert_eq!(expired.map(|expired| expired.into_inner()), Some("item"));
    /// assert!(poll_fn(|cx| queue.poll_expired(cx)).await.is_none(), "empty");
    /// # });
    /// ```
    pub fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<Option<Expired<T>>> {
        self.try_poll_expired(cx).map(|expired| expired.unwrap_or_else(|stopped| stopped.raise()))
    }

    /// Polls as [`poll_expired`](Self::poll_expired) does, but returns an error where that panics.
    ///
    /// # Errors
    ///
    /// The Timekeeper was shut down before the next item was due. Items can still be removed.
    ///
    /// # Panics
    ///
    /// If the driver thread can't be started; see [`Sleep`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::future::poll_fn;
    /// use deadbeat::{Manual, time::{DelayQueue, Duration}};
    ///
    /// let manual = Manual::new();
    /// let _entered = manual.enter();
    /// let mut queue = DelayQueue::new();
    /// let key = queue.insert("item", Duration::from_secs(5));
    /// manual.timekeeper().shutdown();
    /// assert!(deadbeat::block_on(poll_fn(|cx| queue.try_poll_expired(cx))).is_err());
    /// assert_eq!(queue.remove(&key).into_inner(), "item");
    /// ```
    pub fn try_poll_expired(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Expired<T>>, TimekeeperStopped>> {
        self.waiting = Waiting::No;
        loop {
            if let Some(expired) = self.pop() {
                return Poll::Ready(Ok(Some(expired)));
            }
            let Some(next) = self.wheel.next_expiration() else {
                self.wait(Waiting::ForItem, cx.waker());
                self.sleep.disarm();
                return Poll::Ready(Ok(None));
            };
            if next > self.reached {
                self.reached = self.reached.max(self.sleep.safe_now().as_nanos());
            }
            if next <= self.reached {
                // Not to the present: see the module's documentation.
                let _ = self.wheel.advance(next, usize::MAX);
                continue;
            }
            self.aim(next);
            match self.sleep.try_poll(cx) {
                Poll::Ready(Ok(())) => self.reached = next,
                Poll::Ready(Err(stopped)) => return Poll::Ready(Err(stopped)),
                Poll::Pending => {
                    self.wait(Waiting::ForDeadline, cx.waker());
                    return Poll::Pending;
                }
            }
        }
    }

    /// Removes an item before it comes out, due or not.
    ///
    /// # Panics
    ///
    /// If the key is stale; [`try_remove`](Self::try_remove) does not.
    ///
    /// # Examples
    ///
    /// ```
    /// use deadbeat::time::{DelayQueue, Duration};
    ///
    /// let mut queue = DelayQueue::new();
    /// let key = queue.insert("item", Duration::from_secs(5));
    /// assert_eq!(queue.remove(&key).into_inner(), "item");
    /// assert!(queue.is_empty());
    /// ```
    #[track_caller]
    pub fn remove(&mut self, key: &Key) -> Expired<T> {
        match self.try_remove(key) {
            Some(removed) => removed,
            None => stale(key),
        }
    }

    /// Removes an item before it comes out, due or not; `None` if the key is stale.
    ///
    /// # Examples
    ///
    /// ```
    /// use deadbeat::time::{DelayQueue, Duration};
    ///
    /// let mut queue = DelayQueue::new();
    /// let key = queue.insert(1, Duration::from_secs(5));
    /// assert!(queue.try_remove(&key).is_some());
    /// let _in_its_place = queue.insert(2, Duration::from_secs(5));
    /// assert!(queue.try_remove(&key).is_none());
    /// ```
    pub fn try_remove(&mut self, key: &Key) -> Option<Expired<T>> {
        let place = self.place(key);
        let at = self.wheel.deadline(place)?;
        self.leaves(place, at);
        let item = self.wheel.remove(place)?;
        let removed = Expired::new(self.forget(place), at, item);
        self.changed();
        Some(removed)
    }

    /// Makes an item due `timeout` from now, due already or not.
    ///
    /// # Panics
    ///
    /// If the key is stale; [`try_reset`](Self::try_reset) does not.
    ///
    /// # Examples
    ///
    /// ```
    /// use deadbeat::time::{DelayQueue, Duration, Instant};
    ///
    /// # deadbeat::Manual::new().block_on(async {
    /// let mut queue = DelayQueue::new();
    /// let key = queue.insert("item", Duration::from_secs(5));
    /// queue.reset(&key, Duration::from_secs(10));
    /// assert_eq!(queue.deadline(&key), Instant::now() + Duration::from_secs(10));
    /// # });
    /// ```
    #[track_caller]
    pub fn reset(&mut self, key: &Key, timeout: Duration) {
        self.reset_at(key, self.sleep.in_time(timeout));
    }

    /// Makes an item due at `deadline`, due already or not; if that has passed, at once.
    ///
    /// # Panics
    ///
    /// If the key is stale; [`try_reset_at`](Self::try_reset_at) does not.
    #[track_caller]
    pub fn reset_at(&mut self, key: &Key, deadline: Instant) {
        if self.try_reset_at(key, deadline).is_err() {
            stale(key);
        }
    }

    /// As [`reset`](Self::reset), without its panic.
    ///
    /// # Errors
    ///
    /// The key is stale: the item has come out, or was removed.
    ///
    /// # Examples
    ///
    /// ```
    /// use deadbeat::time::{DelayQueue, Duration};
    ///
    /// let mut queue = DelayQueue::new();
    /// let key = queue.insert("item", Duration::from_secs(5));
    /// assert!(queue.try_reset(&key, Duration::from_secs(10)).is_ok());
    /// queue.clear();
    /// assert!(queue.try_reset(&key, Duration::from_secs(10)).is_err());
    /// ```
    pub fn try_reset(&mut self, key: &Key, timeout: Duration) -> Result<(), StaleKey> {
        self.try_reset_at(key, self.sleep.in_time(timeout))
    }

    /// As [`reset_at`](Self::reset_at), without its panic.
    ///
    /// # Errors
    ///
    /// The key is stale: the item has come out, or was removed.
    pub fn try_reset_at(&mut self, key: &Key, deadline: Instant) -> Result<(), StaleKey> {
        let place = self.place(key);
        let was = self.wheel.deadline(place).ok_or(StaleKey(()))?;
        self.leaves(place, was);
        let (at, order) = (deadline.as_nanos(), self.next_order());
        self.wheel.reset(place, at);
        if let Some(item) = self.wheel.get_mut(place) {
            item.order = order;
        }
        self.placed(at, order, place);
        self.changed();
        Ok(())
    }

    /// When an item is due.
    ///
    /// # Panics
    ///
    /// If the key is stale; [`try_deadline`](Self::try_deadline) does not.
    ///
    /// # Examples
    ///
    /// ```
    /// use deadbeat::time::{DelayQueue, Duration, Instant};
    ///
    /// let mut queue = DelayQueue::new();
    /// let deadline = Instant::now() + Duration::from_secs(5);
    /// let key = queue.insert_at("item", deadline);
    /// assert_eq!(queue.deadline(&key), deadline);
    /// ```
    #[track_caller]
    #[must_use]
    pub fn deadline(&self, key: &Key) -> Instant {
        match self.try_deadline(key) {
            Some(deadline) => deadline,
            None => stale(key),
        }
    }

    /// When an item is due; `None` if the key is stale.
    ///
    /// # Examples
    ///
    /// ```
    /// use deadbeat::time::{DelayQueue, Duration};
    ///
    /// let mut queue = DelayQueue::new();
    /// let key = queue.insert("item", Duration::from_secs(5));
    /// assert!(queue.try_deadline(&key).is_some());
    /// queue.remove(&key);
    /// assert!(queue.try_deadline(&key).is_none());
    /// ```
    #[must_use]
    pub fn try_deadline(&self, key: &Key) -> Option<Instant> {
        self.wheel.deadline(self.place(key)).map(Instant::from_nanos)
    }

    /// The key of the item that comes out next; `None` if the queue is empty.
    ///
    /// # Complexity
    ///
    /// *O*(1), amortised, as items come out. After a removal or reset of the very item that comes out
    /// next, those are looked at that share a slot of the wheel with it: all of them, at worst, if they
    /// are due at about the same time and far ahead.
    ///
    /// # Examples
    ///
    /// ```
    /// use deadbeat::time::{DelayQueue, Duration};
    ///
    /// let mut queue = DelayQueue::new();
    /// queue.insert("later", Duration::from_secs(10));
    /// let sooner = queue.insert("sooner", Duration::from_secs(5));
    /// assert_eq!(queue.peek(), Some(sooner));
    /// ```
    #[must_use]
    pub fn peek(&self) -> Option<Key> {
        self.peeked().map(|(_, place)| self.name(place))
    }

    /// The item that comes out next: its deadline, and where it is.
    fn peeked(&self) -> Option<(u64, wheel::Key)> {
        if let Some((&(at, _), &place)) = self.overdue.first_key_value() {
            return Some((at, place));
        }
        if let Some(&first) = self.first.get() {
            return Some(first);
        }
        let (place, at, _) = self.wheel.peek()?;
        Some(*self.first.get_or_init(|| (at, place)))
    }

    /// Removes all items and drops them. The room for them stays.
    ///
    /// # Examples
    ///
    /// ```
    /// use deadbeat::time::{DelayQueue, Duration};
    ///
    /// let mut queue = DelayQueue::new();
    /// queue.insert("item", Duration::from_secs(5));
    /// queue.clear();
    /// assert!(queue.is_empty());
    /// ```
    pub fn clear(&mut self) {
        self.overdue.clear();
        self.first.take();
        self.wheel.clear();
        self.renamed = None;
        self.changed();
    }

    /// How many items there are, due ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.wheel.len()
    }

    /// Whether there is no item.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.wheel.is_empty()
    }

    /// Takes the next of what is due as far as the wheel knows.
    fn pop(&mut self) -> Option<Expired<T>> {
        while let Some(((at, _), place)) = self.overdue.pop_first() {
            self.forget_first(place);
            if let Some(item) = self.wheel.remove(place) {
                return Some(Expired::new(self.forget(place), at, item));
            }
        }
        let expired = self.wheel.pop_expired()?;
        self.forget_first(expired.key);
        Some(Expired::new(self.forget(expired.key), expired.deadline_ns, expired.value))
    }

    fn next_order(&mut self) -> u64 {
        self.ordered += 1;
        self.ordered
    }

    /// Keeps the first invariant and the last for an item that has been given a deadline.
    #[inline]
    fn placed(&mut self, at: u64, order: u64, place: wheel::Key) {
        if at < self.wheel.now() {
            self.overdue.insert((at, order), place);
        }
        if let Some(first) = self.first.get_mut()
            && at < first.0
        {
            *first = (at, place);
        }
    }

    /// Keeps them for one that is about to lose its deadline.
    #[inline]
    fn leaves(&mut self, place: wheel::Key, at: u64) {
        if at < self.wheel.now()
            && let Some(item) = self.wheel.get(place)
        {
            self.overdue.remove(&(at, item.order));
        }
        self.forget_first(place);
    }

    #[inline]
    fn forget_first(&mut self, place: wheel::Key) {
        if self.first.get().is_some_and(|&(_, first)| first == place) {
            self.first.take();
        }
    }

    fn wait(&mut self, waiting: Waiting, waker: &Waker) {
        self.waiting = waiting;
        match &mut self.waker {
            Some(ours) => ours.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    /// Has the timer wait for `next`.
    #[inline]
    fn aim(&mut self, next: u64) {
        let next = Instant::from_nanos(next);
        if self.sleep.deadline() != next {
            self.sleep.move_to(next);
        }
    }

    /// Keeps the last two invariants, after items have come, gone or moved.
    #[inline]
    fn changed(&mut self) {
        if self.waiting == Waiting::No {
            return;
        }
        let next = self.wheel.next_expiration();
        let wake = match (self.waiting, next) {
            (Waiting::ForItem, next) => next.is_some(),
            (_, None) => {
                self.sleep.disarm();
                true
            }
            (_, Some(next)) => {
                let earlier = next < self.sleep.deadline().as_nanos();
                if earlier && next <= self.sleep.now().as_nanos() {
                    // Sooner than the driver could.
                    true
                } else {
                    self.aim(next);
                    false
                }
            }
        };
        if wake {
            self.waiting = Waiting::No;
            // User code, last of all.
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
    }

    /// Checks what can be checked of the module's invariants, for tests.
    #[cfg(any(test, fuzzing))]
    pub(super) fn invariants(&self) {
        self.wheel.invariants();
        let now = self.wheel.now();
        let mut overdue = 0;
        for (key, at, item) in self.wheel.iter() {
            assert!(item.order <= self.ordered);
            assert_eq!(self.overdue.get(&(at, item.order)) == Some(&key), at < now);
            overdue += usize::from(at < now);
        }
        assert_eq!(overdue, self.overdue.len(), "a stale key is overdue");
        assert!(now <= self.reached, "ahead of time");
        assert!(self.renamed() <= self.len());
        if let Some(&(at, place)) = self.first.get() {
            assert_eq!(self.wheel.deadline(place), Some(at));
            assert!(self.wheel.iter().all(|(_, other, _)| other >= at), "not the first");
        }
        match (self.waiting, self.wheel.next_expiration()) {
            (Waiting::No, _) => {}
            (Waiting::ForItem, next) => assert!(next.is_none() && self.waker.is_some()),
            (Waiting::ForDeadline, next) => {
                assert!(next.is_some_and(|next| self.sleep.deadline().as_nanos() == next));
                assert!(self.waker.is_some());
            }
        }
    }
}

/// Nothing in it is pinned.
impl<T> Unpin for DelayQueue<T> {}

impl<T> Default for DelayQueue<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// Ends, with `None`, whenever the queue is empty; goes on when it isn't any more.
impl<T> Stream for DelayQueue<T> {
    type Item = Expired<T>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Expired<T>>> {
        self.get_mut().poll_expired(cx)
    }
}

impl<T> fmt::Debug for DelayQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DelayQueue")
            .field("len", &self.len())
            .field("next", &self.wheel.next_expiration().map(Instant::from_nanos))
            .field("waiting", &self.waiting)
            .finish_non_exhaustive()
    }
}

const _: () = super::plain::<DelayQueue<String>>();
