//! When the next thing is due: a hierarchical timer wheel as a plain data structure.
//!
//! [`Wheel`] is for your own event loop. It has no clock, thread, lock or task: it is told what
//! time it is, and answers what is due and when to ask again.
//!
//! ```
//! use deadbeat::wheel::Wheel;
//!
//! let mut wheel = Wheel::new(0);
//! wheel.insert(1_000_000, "hello");
//! let cancelled = wheel.insert(2_000_000, "never seen");
//! wheel.insert(3_000_000, "bye");
//! assert_eq!(wheel.remove(cancelled), Some("never seen"));
//!
//! let mut seen = vec![];
//! while let Some(at) = wheel.next_expiration() {
//!     // Here a real loop waits for I/O until `at`, and then reads its clock.
//!     let mut more = true;
//!     while more {
//!         more = wheel.advance(at, 256).more;
//!         while let Some(expired) = wheel.pop_expired() {
//!             seen.push((expired.deadline_ns, expired.value));
//!         }
//!     }
//! }
//! assert_eq!(seen, [(1_000_000, "hello"), (3_000_000, "bye")]);
//! ```
//!
//! # Promises
//!
//! - **Never early.** A timer expires in the first [`advance`](Wheel::advance) whose `now_ns` is at
//!   or after its exact deadline. Nothing is rounded: there is no tick.
//! - **In order.** What one `advance` finds comes by deadline, and by the order in which it was
//!   armed where deadlines are equal.
//! - **Once or cancelled.** A key is stale as soon as its timer has expired or has been removed, and
//!   a stale key does nothing.
//! - **Bounded.** Insert, remove and reset are *O*(1), at any number of timers. Expiry is amortised
//!   *O*(1) a timer, and `advance` takes a budget, so a storm can be spread over many turns.
//! - **All of time.** Any `u64` is a deadline and a now; nothing overflows or wraps, near zero, near
//!   `u64::MAX`, or after however many years of uptime.
//!
//! # What it does not do
//!
//! It does not shrink by itself: memory is proportional to the most timers that were ever live at
//! once, until [`shrink_to_fit`](Wheel::shrink_to_fit) is called. It does not move timers, so that
//! gives back what comes after the last live one. It does not round: see [`coalesce()`] for timers that
//! may be late. It is not shared: wrap it, or keep one per thread.
//!
//! How it works, and why so, is in `docs/wheel.md`.

#![forbid(unsafe_code)]

pub(crate) mod backlog;
mod coalesce;
pub(crate) mod list;
pub(crate) mod raw;
mod slab;

#[cfg(any(test, fuzzing))]
pub mod harness;
#[cfg(test)]
mod tests;

use std::fmt;

use list::{Entries, List};
use raw::{FIRST_FOREIGN_SLOT, Raw};
use slab::Slab;

pub use coalesce::coalesce;
pub use slab::Key;

/// Timers, each with a deadline and a value.
///
/// Times are nanoseconds since an origin of your choice: the start of the process, boot, an epoch.
/// A deadline may be any `u64`, also one that has passed: then it is found by the next
/// [`advance`](Self::advance).
///
/// Expired timers are handed out one by one by [`pop_expired`](Self::pop_expired), rather than to a
/// callback, so that the code which handles one has the wheel to itself: it may arm the timer
/// again, cancel others that are due at the same time, return early, or panic. Nothing is lost,
/// whatever it does, except the one value that it had been given.
pub struct Wheel<T> {
    raw: Raw,
    slab: Slab<T>,
    /// What `advance` has found and `pop_expired` has not handed out.
    ready: List,
    now: u64,
    /// What one `advance` sorts. Empty between calls, kept for its memory.
    batch: Vec<Due>,
    /// How many changes there were since the invariants were last checked.
    #[cfg(debug_assertions)]
    unchecked: usize,
}

impl<T> Wheel<T> {
    /// Creates an empty wheel whose [`now`](Self::now) is `start_ns`. Allocates about 17 KiB.
    ///
    /// Any start is correct, zero included; one near the present saves the first timers a few moves
    /// from level to level.
    ///
    /// # Examples
    ///
    /// ```
    /// let wheel = deadbeat::wheel::Wheel::<u32>::new(1_700_000_000_000_000_000);
    /// assert!(wheel.is_empty());
    /// assert_eq!(wheel.next_expiration(), None);
    /// ```
    #[must_use]
    pub fn new(start_ns: u64) -> Self {
        Self::with_capacity(start_ns, 0)
    }

    /// As [`new`](Self::new), with room for `capacity` timers.
    ///
    /// # Examples
    ///
    /// ```
    /// let wheel = deadbeat::wheel::Wheel::<u32>::with_capacity(0, 1024);
    /// assert!(wheel.capacity() >= 1024);
    /// ```
    #[must_use]
    pub fn with_capacity(start_ns: u64, capacity: usize) -> Self {
        Self {
            raw: Raw::new(start_ns),
            slab: Slab::with_capacity(capacity),
            ready: List::EMPTY,
            now: start_ns,
            batch: Vec::new(),
            #[cfg(debug_assertions)]
            unchecked: 0,
        }
    }

    /// How many timers are live: armed, or expired and not yet [popped](Self::pop_expired).
    #[must_use]
    pub fn len(&self) -> usize {
        self.raw.len() + self.ready.len()
    }

    /// Whether no timer is live.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many timers fit without another allocation.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.slab.capacity()
    }

    /// Makes room for `additional` more timers, if there isn't, so that arming them doesn't allocate.
    ///
    /// # Complexity
    ///
    /// *O*(capacity) if it has to allocate; else *O*(1).
    ///
    /// # Panics
    ///
    /// If that would be more than 2^32 - 1 timers.
    ///
    /// # Examples
    ///
    /// ```
    /// let mut wheel = deadbeat::wheel::Wheel::new(0);
    /// wheel.insert(250, 'a');
    /// wheel.reserve(100);
    /// assert!(wheel.capacity() >= 101);
    /// ```
    #[track_caller]
    pub fn reserve(&mut self, additional: usize) {
        let wanted = self.len().saturating_add(additional);
        assert!(wanted <= MAX, "room for {wanted} timers; at most 2^32 - 1 fit");
        self.slab.reserve(wanted);
    }

    /// Gives back the memory of what comes after the last live timer.
    ///
    /// Live timers stay where they are, because their keys say where that is. So how much this gives
    /// back is up to which of them are left: all of it if none is. Keys that are stale stay stale.
    ///
    /// # Complexity
    ///
    /// *O*(capacity).
    ///
    /// # Examples
    ///
    /// ```
    /// let mut wheel = deadbeat::wheel::Wheel::new(0);
    /// let first = wheel.insert(250, 0);
    /// let others: Vec<_> = (1..100).map(|i| wheel.insert(250, i)).collect();
    /// for key in others {
    ///     wheel.remove(key);
    /// }
    /// wheel.shrink_to_fit();
    /// assert!(wheel.capacity() < 100);
    /// assert_eq!(wheel.get(first), Some(&0));
    /// ```
    pub fn shrink_to_fit(&mut self) {
        self.slab.shrink_to_fit();
        self.batch.shrink_to_fit();
    }

    /// Gives back all memory that `len` timers don't need, by moving some: says of each which key it
    /// had, and which it has. `order` is to tell those with the same deadline apart, as they were
    /// armed.
    ///
    /// All that is expired and not popped is armed again. *O*(capacity), and *O*(*n* log *n*) for *n*
    /// timers.
    pub(crate) fn compact(&mut self, order: impl Fn(&T) -> u64, mut moved: impl FnMut(Key, Key)) {
        let live = |slab: &Slab<T>| -> Vec<u32> {
            (0..slab.end()).filter(|&i| slab.value(i).is_some()).collect()
        };
        for i in live(&self.slab) {
            self.unlink(i);
        }
        self.slab.compact(&mut moved);
        self.batch.shrink_to_fit();
        let mut all = live(&self.slab);
        all.sort_unstable_by_key(|&i| (self.slab.when(i), self.slab.value(i).map(&order)));
        for i in all {
            let when = self.slab.when(i);
            self.raw.insert_in_turn(&mut self.slab, i, when);
        }
    }

    /// The latest time that the wheel was told, in nanoseconds.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.now
    }

    /// Arms a timer.
    ///
    /// # Timing
    ///
    /// It expires in the first [`advance`](Self::advance) to `deadline_ns` or later; if that has
    /// passed, in the next one.
    ///
    /// # Complexity
    ///
    /// *O*(1). Allocates if there are more timers than ever before.
    ///
    /// # Panics
    ///
    /// If 2^32 - 1 timers are live.
    ///
    /// # Examples
    ///
    /// ```
    /// # let mut wheel = deadbeat::wheel::Wheel::new(0);
    /// let key = wheel.insert(250, 'a');
    /// assert_eq!(wheel.get(key), Some(&'a'));
    /// assert_eq!(wheel.next_expiration(), Some(250));
    /// ```
    #[inline]
    #[track_caller]
    pub fn insert(&mut self, deadline_ns: u64, value: T) -> Key {
        let key = self.slab.insert(value);
        self.raw.insert_in_turn(&mut self.slab, key.index(), deadline_ns);
        self.changed(1);
        key
    }

    /// Cancels a timer and returns its value; `None` if the key is stale.
    ///
    /// A timer that has expired can be cancelled as long as it has not been
    /// [popped](Self::pop_expired).
    ///
    /// # Complexity
    ///
    /// *O*(1).
    ///
    /// # Examples
    ///
    /// ```
    /// # let mut wheel = deadbeat::wheel::Wheel::new(0);
    /// let key = wheel.insert(250, 'a');
    /// assert_eq!(wheel.remove(key), Some('a'));
    /// assert_eq!(wheel.remove(key), None);
    /// ```
    #[inline]
    pub fn remove(&mut self, key: Key) -> Option<T> {
        let i = self.slab.find(key)?;
        self.unlink(i);
        let value = self.slab.remove(i);
        self.changed(1);
        value
    }

    /// Gives a timer another deadline, earlier or later, and the last place among those that have
    /// the same; `false` if the key is stale.
    ///
    /// A timer that has expired is armed again, as long as it has not been
    /// [popped](Self::pop_expired).
    ///
    /// # Complexity
    ///
    /// *O*(1), without allocation.
    ///
    /// # Examples
    ///
    /// ```
    /// # let mut wheel = deadbeat::wheel::Wheel::new(0);
    /// let key = wheel.insert(250, 'a');
    /// assert!(wheel.reset(key, 900));
    /// assert_eq!(wheel.deadline(key), Some(900));
    /// # wheel.remove(key);
    /// assert!(!wheel.reset(key, 1000));
    /// ```
    #[inline]
    pub fn reset(&mut self, key: Key, deadline_ns: u64) -> bool {
        let Some(i) = self.slab.find(key) else { return false };
        self.unlink(i);
        self.raw.insert_in_turn(&mut self.slab, i, deadline_ns);
        self.changed(1);
        true
    }

    #[inline]
    fn unlink(&mut self, i: u32) {
        if self.slab.slot(i) == READY {
            self.ready.unlink(&mut self.slab, i);
        } else {
            self.raw.remove(&mut self.slab, i);
        }
    }

    /// The value of a timer; `None` if the key is stale. *O*(1).
    #[must_use]
    pub fn get(&self, key: Key) -> Option<&T> {
        self.slab.value(self.slab.find(key)?)
    }

    /// The value of a timer; `None` if the key is stale. *O*(1).
    pub fn get_mut(&mut self, key: Key) -> Option<&mut T> {
        let i = self.slab.find(key)?;
        self.slab.value_mut(i)
    }

    /// Whether a timer is live, that is, the key is not stale. *O*(1).
    #[must_use]
    pub fn contains(&self, key: Key) -> bool {
        self.slab.find(key).is_some()
    }

    /// The deadline of a timer, in nanoseconds; `None` if the key is stale. *O*(1).
    #[must_use]
    pub fn deadline(&self, key: Key) -> Option<u64> {
        self.slab.find(key).map(|i| self.slab.when(i))
    }

    /// The timer that is handed out next, unless another comes before it or it goes: its key, its
    /// deadline in nanoseconds, and its value; `None` if no timer is live.
    ///
    /// To know when to wait until, ask for the [next expiration](Self::next_expiration) instead.
    ///
    /// # Complexity
    ///
    /// *O*(1) if one is ready to be [popped](Self::pop_expired); else *O*(*k*) for the *k* timers that
    /// share the first slot that holds any. That is few shortly before they are due, and can be all of
    /// them if they are due at about the same time and far ahead.
    ///
    /// # Examples
    ///
    /// ```
    /// # let mut wheel = deadbeat::wheel::Wheel::new(0);
    /// wheel.insert(900, 'b');
    /// let key = wheel.insert(250, 'a');
    /// assert_eq!(wheel.peek(), Some((key, 250, &'a')));
    /// ```
    #[must_use]
    pub fn peek(&self) -> Option<(Key, u64, &T)> {
        let ready = self.ready.iter(&self.slab).next();
        let i = ready.or_else(|| {
            let lists = self.raw.earliest();
            let all = lists.iter().flat_map(|list| list.iter(&self.slab));
            all.min_by_key(|&i| self.slab.when(i))
        })?;
        Some((self.slab.key(i), self.slab.when(i), self.slab.value(i)?))
    }

    /// When to call [`advance`](Self::advance) next, in nanoseconds; `None` if no timer is live.
    ///
    /// Ask again after every change to the wheel; a wait that is already under way has to be cut
    /// short only if the answer is earlier than before.
    ///
    /// # Timing
    ///
    /// Never after the earliest deadline, so nothing is late for having waited until then. It may
    /// be before it: where many timers share a slot, they are sorted out ahead of time, and where
    /// the earliest of a slot was removed, its deadline still counts. `advance` then finds nothing,
    /// once, and the next answer is later.
    ///
    /// Once `advance` has reported that there is no [`more`](Progress::more), and what it found has
    /// been popped, the answer is after [`now`](Self::now). So a loop that waits for it can't spin.
    ///
    /// # Complexity
    ///
    /// *O*(1).
    #[must_use]
    #[inline]
    pub fn next_expiration(&self) -> Option<u64> {
        // What is ready was due before anything else is.
        self.ready.min().or_else(|| self.raw.next_expiration())
    }

    /// Moves time forward to `now_ns`, and finds what is due, for [`pop_expired`] to hand out.
    ///
    /// At most `budget` timers are looked at. If that was too few, the result says that there is
    /// [`more`](Progress::more), and another call goes on where this one stopped. With a budget of
    /// zero, only time moves. A `now_ns` before [`now`](Self::now) counts as `now`: time that goes
    /// backwards stands still.
    ///
    /// # Timing
    ///
    /// What one call finds comes out in the order of deadlines, and in the order of arming where
    /// they are equal. If the budget ends a call, what the next one finds comes after all of that,
    /// though a part of it may have been due a little earlier: never where deadlines are equal.
    ///
    /// # Complexity
    ///
    /// *O*(*b* log *b*) for the *b* timers that are looked at, however many there are in all.
    /// A timer is looked at once when it is due, and at most ten times before; once in all if
    /// nothing asks for the time shortly before its deadline.
    ///
    /// # Examples
    ///
    /// ```
    /// # let mut wheel = deadbeat::wheel::Wheel::new(0);
    /// for deadline in [30, 10, 20] {
    ///     wheel.insert(deadline, ());
    /// }
    /// let progress = wheel.advance(25, usize::MAX);
    /// assert_eq!((progress.expired, progress.more), (2, false));
    /// assert_eq!(wheel.pop_expired().map(|it| it.deadline_ns), Some(10));
    /// assert_eq!(wheel.pop_expired().map(|it| it.deadline_ns), Some(20));
    /// assert_eq!(wheel.pop_expired().map(|it| it.deadline_ns), None);
    /// ```
    ///
    /// [`pop_expired`]: Self::pop_expired
    pub fn advance(&mut self, now_ns: u64, budget: usize) -> Progress {
        self.now = self.now.max(now_ns);
        for _ in 0..budget {
            let Some(index) = self.raw.take(&mut self.slab, self.now) else { break };
            let when = self.slab.when(index);
            if when <= self.now && !self.raw.overtakes(when) {
                self.batch.push(Due::new(when, self.batch.len(), index));
            } else {
                self.raw.insert(&mut self.slab, index, when);
            }
        }
        let expired = self.batch.len();
        self.batch.sort_unstable();
        for due in self.batch.drain(..) {
            self.ready.push_back(&mut self.slab, due.index(), READY);
        }
        self.changed(1 + expired);
        Progress { expired, more: self.raw.is_due(self.now) }
    }

    /// In debug builds, checks the invariants after as many changes as that looks at places, so that it
    /// costs a change *O*(1).
    #[inline]
    fn changed(&mut self, times: usize) {
        #[cfg(not(debug_assertions))]
        let _ = times;
        #[cfg(debug_assertions)]
        {
            self.unchecked += times;
            if self.unchecked > 1024 + self.slab.end() as usize {
                self.unchecked = 0;
                self.invariants();
            }
        }
    }

    /// Hands out the next timer that [`advance`](Self::advance) has found, and makes its key stale.
    ///
    /// # Complexity
    ///
    /// *O*(1).
    ///
    /// # Examples
    ///
    /// A heartbeat arms itself again:
    ///
    /// ```
    /// # let mut wheel = deadbeat::wheel::Wheel::new(0);
    /// wheel.insert(1_000, "beat");
    /// let mut beats = 0;
    /// for now in (0..=5_000).step_by(500) {
    ///     let _ = wheel.advance(now, 64);
    ///     while let Some(expired) = wheel.pop_expired() {
    ///         beats += 1;
    ///         wheel.insert(expired.deadline_ns + 1_000, expired.value);
    ///     }
    /// }
    /// assert_eq!(beats, 5);
    /// ```
    #[inline]
    pub fn pop_expired(&mut self) -> Option<Expired<T>> {
        let i = self.ready.pop_front(&mut self.slab)?;
        let (key, deadline_ns) = (self.slab.key(i), self.slab.when(i));
        Some(Expired { key, deadline_ns, value: self.slab.remove(i)? })
    }

    /// Cancels all timers and drops their values. Keeps the memory, and [`now`](Self::now).
    ///
    /// If dropping a value panics, the timers after it stay as they are.
    ///
    /// # Complexity
    ///
    /// *O*(capacity).
    ///
    /// # Examples
    ///
    /// ```
    /// # let mut wheel = deadbeat::wheel::Wheel::new(0);
    /// let key = wheel.insert(250, 'a');
    /// wheel.clear();
    /// assert!(wheel.is_empty() && !wheel.contains(key));
    /// ```
    pub fn clear(&mut self) {
        for i in 0..self.slab.end() {
            if self.slab.value(i).is_some() {
                self.unlink(i);
                drop(self.slab.remove(i));
            }
        }
    }

    /// All live timers, in no particular order: key, deadline in nanoseconds, and value.
    /// *O*(capacity).
    pub fn iter(&self) -> impl Iterator<Item = (Key, u64, &T)> {
        (0..self.slab.end())
            .filter_map(|i| Some((self.slab.key(i), self.slab.when(i), self.slab.value(i)?)))
    }

    /// Checks everything that the wheel relies on, for tests. *O*(capacity). Debug builds do so by
    /// themselves from time to time.
    ///
    /// # Panics
    ///
    /// If something is broken, which is a bug in this crate.
    pub fn invariants(&self) {
        self.raw.invariants(&self.slab);
        self.ready.invariants(&self.slab, READY, 0, self.now);
        assert_eq!(self.slab.invariants(), self.len(), "a timer is in no list");
        assert!(self.raw.cursor() <= self.now, "the cursor is ahead of now");
        assert!(self.batch.is_empty(), "a batch is left over");
    }
}

impl<T> fmt::Debug for Wheel<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wheel")
            .field("len", &self.len())
            .field("now", &self.now())
            .field("next_expiration", &self.next_expiration())
            .finish_non_exhaustive()
    }
}

/// A timer whose deadline has come.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub struct Expired<T> {
    /// The key that the timer had. It is stale.
    pub key: Key,
    /// The deadline that the timer had, in nanoseconds: how late it is, is the difference from now.
    pub deadline_ns: u64,
    /// The value that it was armed with.
    pub value: T,
}

/// What [`Wheel::advance`] has done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[must_use = "if there is more, it has to be asked for"]
#[non_exhaustive]
pub struct Progress {
    /// How many timers the call has found to be due.
    pub expired: usize,
    /// Whether the budget ended the call: another one with the same time has something to do.
    pub more: bool,
}

/// What sorts by deadline, then by the order in which the wheel had it: both in one number, and the
/// index below them, because a number is compared without a branch.
#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
struct Due(u128);

impl Due {
    #[inline]
    fn new(when: u64, order: usize, index: u32) -> Self {
        debug_assert!(u32::try_from(order).is_ok(), "there are fewer indices");
        Self(u128::from(when) << 64 | (order as u128) << 32 | u128::from(index))
    }

    #[inline]
    #[expect(clippy::cast_possible_truncation, reason = "the lowest of its parts")]
    fn index(self) -> u32 {
        self.0 as u32
    }
}

/// How many timers fit: one less than a `u32` has values, which is an index of none.
const MAX: usize = u32::MAX as usize;

/// The name of the list of what is ready.
const READY: u16 = FIRST_FOREIGN_SLOT;
