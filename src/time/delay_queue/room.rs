//! How much memory a queue has: making room, and giving it back.

use std::collections::HashMap;

use super::{DelayQueue, Key};
use crate::wheel;

/// What the users of items call them that have been moved to another place of the wheel.
#[derive(Debug, Default)]
pub(super) struct Renamed {
    /// Where what has a name is.
    places: HashMap<Key, wheel::Key>,
    /// The name of what is there.
    names: HashMap<wheel::Key, Key>,
}

impl Renamed {
    fn insert(&mut self, name: Key, place: wheel::Key) {
        self.places.insert(name, place);
        self.names.insert(place, name);
    }

    /// The name of what was at `place`, and is not any more.
    fn remove(&mut self, place: wheel::Key) -> Option<Key> {
        let name = self.names.remove(&place)?;
        self.places.remove(&name);
        Some(name)
    }
}

impl<T> DelayQueue<T> {
    /// How many items fit without another allocation.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.wheel.capacity()
    }

    /// Makes room for `additional` more items, if there isn't.
    ///
    /// # Complexity
    ///
    /// *O*(capacity) if it has to; then it allocates.
    ///
    /// # Panics
    ///
    /// If that would be more than 2^32 - 1 items.
    ///
    /// # Examples
    ///
    /// ```
    /// use deadbeat::time::{DelayQueue, Duration};
    ///
    /// let mut queue = DelayQueue::new();
    /// queue.insert("item", Duration::from_secs(10));
    /// queue.reserve(10);
    /// assert!(queue.capacity() >= 11);
    /// ```
    #[track_caller]
    pub fn reserve(&mut self, additional: usize) {
        let wanted = self.len().saturating_add(additional);
        assert!(
            u32::try_from(wanted).is_ok_and(|wanted| wanted < u32::MAX),
            "a delay queue of {wanted} items; at most 2^32 - 1 fit"
        );
        self.wheel.reserve(additional);
    }

    /// Gives back the memory of what comes after the last item.
    ///
    /// Items stay where they are, so how much that is, is up to which of them are left. To give back
    /// all that they don't need, use [`compact`](Self::compact).
    ///
    /// # Complexity
    ///
    /// *O*(capacity).
    ///
    /// # Examples
    ///
    /// ```
    /// use deadbeat::time::{DelayQueue, Duration};
    ///
    /// let mut queue = DelayQueue::with_capacity(100);
    /// let key = queue.insert("item", Duration::from_secs(5));
    /// queue.shrink_to_fit();
    /// assert_eq!(queue.capacity(), 1);
    /// assert_eq!(queue.remove(&key).into_inner(), "item");
    /// ```
    pub fn shrink_to_fit(&mut self) {
        self.wheel.shrink_to_fit();
    }

    /// Gives back all memory that the items don't need: moves the last of them to where there is
    /// room, and shrinks the [`capacity`](Self::capacity) to their number.
    ///
    /// All keys stay as they are, valid or stale. Those of items that were moved are looked up in a
    /// table from now on, until the items have gone; that is some forty bytes each, and a hash where
    /// the key is used.
    ///
    /// # Complexity
    ///
    /// *O*(capacity), and *O*(*n* log *n*) for *n* items.
    ///
    /// # Examples
    ///
    /// ```
    /// use deadbeat::time::{DelayQueue, Duration};
    ///
    /// let mut queue = DelayQueue::with_capacity(10);
    /// let first = queue.insert(5, Duration::from_secs(5));
    /// let second = queue.insert(10, Duration::from_secs(10));
    /// let third = queue.insert(15, Duration::from_secs(15));
    /// queue.remove(&second);
    ///
    /// queue.compact();
    /// assert_eq!(queue.capacity(), 2);
    /// assert_eq!(queue.remove(&third).into_inner(), 15);
    /// assert_eq!(queue.remove(&first).into_inner(), 5);
    /// ```
    pub fn compact(&mut self) {
        self.wheel.shrink_to_fit();
        if self.capacity() == self.len() {
            return;
        }
        let mut renamed = self.renamed.take().map_or_else(Renamed::default, |renamed| *renamed);
        self.wheel.compact(
            |item| item.order,
            |from, to| {
                let name = renamed.remove(from).unwrap_or(Key(from));
                renamed.insert(name, to);
            },
        );
        self.first.take();
        self.overdue.clear();
        let now = self.wheel.now();
        let overdue = self.wheel.iter().filter(|&(_, at, _)| at < now);
        self.overdue.extend(overdue.map(|(key, at, item)| ((at, item.order), key)));
        self.renamed = (!renamed.places.is_empty()).then(|| Box::new(renamed));
        self.changed();
    }

    /// Where the item of that name is, if there is one.
    #[inline]
    pub(super) fn place(&self, name: &Key) -> wheel::Key {
        let moved = self.renamed.as_ref().and_then(|renamed| renamed.places.get(name));
        moved.copied().unwrap_or(name.0)
    }

    /// The name of the item that is there.
    #[inline]
    pub(super) fn name(&self, place: wheel::Key) -> Key {
        let moved = self.renamed.as_ref().and_then(|renamed| renamed.names.get(&place));
        moved.copied().unwrap_or(Key(place))
    }

    /// The name of the item that was there, and isn't any more.
    #[inline]
    pub(super) fn forget(&mut self, place: wheel::Key) -> Key {
        let Some(renamed) = &mut self.renamed else { return Key(place) };
        let name = renamed.remove(place).unwrap_or(Key(place));
        if renamed.places.is_empty() {
            self.renamed = None;
        }
        name
    }

    /// How many items have a name that is not that of their place.
    #[cfg(any(test, fuzzing))]
    pub(super) fn renamed(&self) -> usize {
        let Some(renamed) = &self.renamed else { return 0 };
        assert_eq!(renamed.places.len(), renamed.names.len());
        for (name, place) in &renamed.places {
            assert_eq!(renamed.names.get(place), Some(name));
            assert!(self.wheel.contains(*place) && !self.wheel.contains(name.0));
        }
        renamed.places.len()
    }
}
