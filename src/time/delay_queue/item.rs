//! What is in a queue, what comes out of it, and the names of both.

use std::error::Error;
use std::fmt;

use crate::time::Instant;
use crate::wheel;

/// Names an item of one [`DelayQueue`](super::DelayQueue): eight bytes, and so is `Option<Key>`.
///
/// Stale, for ever, as soon as the item has come out or was removed. It means nothing to another
/// queue: there it may be stale, or name an unrelated item.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key(pub(super) wheel::Key);

/// An item that has come out of a [`DelayQueue`](super::DelayQueue), or was removed from it.
#[derive(Debug)]
pub struct Expired<T> {
    value: T,
    deadline: Instant,
    key: Key,
}

impl<T> Expired<T> {
    #[inline]
    pub(super) fn new(key: Key, at: u64, item: Item<T>) -> Self {
        Self { value: item.value, deadline: Instant::from_nanos(at), key }
    }

    /// The item.
    pub fn get_ref(&self) -> &T {
        &self.value
    }

    /// The item.
    pub fn get_mut(&mut self) -> &mut T {
        &mut self.value
    }

    /// The item.
    pub fn into_inner(self) -> T {
        self.value
    }

    /// When the item was due: exactly the deadline that it was given.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// The key that the item had. It is stale.
    pub fn key(&self) -> Key {
        self.key
    }
}

/// The item of a [`Key`] has come out of its [`DelayQueue`](super::DelayQueue), or was removed from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaleKey(pub(super) ());

impl fmt::Display for StaleKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stale key: the item has come out of the delay queue, or was removed from it")
    }
}

impl Error for StaleKey {}

#[cold]
#[track_caller]
pub(super) fn stale(key: &Key) -> ! {
    panic!("{}: {key:?}", StaleKey(()))
}

/// What the wheel holds.
pub(super) struct Item<T> {
    /// The place among those with the same deadline.
    pub(super) order: u64,
    pub(super) value: T,
}

const _: () = assert!(size_of::<Option<Key>>() == 8);
