//! Where [`Wheel`](super::Wheel) keeps its entries: one vector, and keys that can't be mistaken.

use std::num::NonZeroU32;

use super::raw::{Entries, NIL, NO_SLOT};

/// Names a timer of one [`Wheel`](super::Wheel).
///
/// A key is stale as soon as its timer has expired or has been removed, and never names another
/// timer, however often its place is used again. Eight bytes, and so is `Option<Key>`.
///
/// It means nothing to a wheel other than the one that it is from: there it may be stale, or name
/// an unrelated timer.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Key {
    index: u32,
    generation: NonZeroU32,
}

impl Key {
    #[inline]
    pub(super) fn index(self) -> u32 {
        self.index
    }
}

/// Entries by index. Vacant ones form a list, the last vacated first: it is likely to be in cache.
pub(super) struct Slab<T> {
    nodes: Vec<Node<T>>,
    /// The first vacant node; each names the one after it in `next`.
    vacant: u32,
}

struct Node<T> {
    when: u64,
    prev: u32,
    next: u32,
    /// That of the present key, or of the next one. A node whose last generation is spent stays
    /// vacant for ever, with [`SPENT`].
    generation: u32,
    slot: u16,
    value: Option<T>,
}

impl<T> Slab<T> {
    pub(super) fn with_capacity(capacity: usize) -> Self {
        Self { nodes: Vec::with_capacity(capacity), vacant: NIL }
    }

    pub(super) fn capacity(&self) -> usize {
        self.nodes.capacity()
    }

    /// How many nodes there are, occupied or not.
    #[expect(clippy::cast_possible_truncation, reason = "insert keeps it below NIL")]
    pub(super) fn end(&self) -> u32 {
        self.nodes.len() as u32
    }

    /// Stores a value in a node that is in no list.
    ///
    /// # Panics
    ///
    /// If all indices are in use.
    #[inline]
    #[track_caller]
    pub(super) fn insert(&mut self, value: T) -> Key {
        if self.vacant == NIL {
            return self.grow(value);
        }
        let index = self.vacant;
        let node = &mut self.nodes[index as usize];
        self.vacant = node.next;
        node.value = Some(value);
        key(index, node.generation)
    }

    #[cold]
    #[track_caller]
    fn grow(&mut self, value: T) -> Key {
        let index = self.end();
        assert!(index < NIL, "more than {NIL} timers");
        self.nodes.push(Node {
            when: 0,
            prev: NIL,
            next: NIL,
            generation: 1,
            slot: NO_SLOT,
            value: Some(value),
        });
        key(index, 1)
    }

    /// The node that `key` names, unless it is stale.
    #[inline]
    pub(super) fn find(&self, key: Key) -> Option<u32> {
        let node = self.nodes.get(key.index as usize)?;
        (node.generation == key.generation.get()).then_some(key.index)
    }

    /// The key of an occupied node.
    #[inline]
    pub(super) fn key(&self, i: u32) -> Key {
        key(i, self.nodes[i as usize].generation)
    }

    #[inline]
    pub(super) fn value(&self, i: u32) -> Option<&T> {
        self.nodes[i as usize].value.as_ref()
    }

    #[inline]
    pub(super) fn value_mut(&mut self, i: u32) -> Option<&mut T> {
        self.nodes[i as usize].value.as_mut()
    }

    /// Vacates a node that is in no list, and makes its key stale.
    #[inline]
    pub(super) fn remove(&mut self, i: u32) -> Option<T> {
        let node = &mut self.nodes[i as usize];
        let value = node.value.take()?;
        node.generation = node.generation.wrapping_add(1);
        if node.generation != SPENT {
            node.next = self.vacant;
            self.vacant = i;
        }
        Some(value)
    }

    /// As if node `i` had been used so often that one more key can be given out.
    #[cfg(test)]
    pub(super) fn wear_out(&mut self, i: u32) {
        self.nodes[i as usize].generation = u32::MAX;
    }

    /// Checks that vacant nodes are in no list and can be found, and returns how many nodes are
    /// occupied. *O*(capacity).
    pub(super) fn invariants(&self) -> usize {
        let (mut vacant, mut free) = (0, self.vacant);
        while free != NIL {
            let node = &self.nodes[free as usize];
            assert!(node.value.is_none() && node.slot == NO_SLOT, "node {free} is not vacant");
            vacant += 1;
            assert!(vacant <= self.nodes.len(), "the vacant nodes form a ring");
            free = node.next;
        }
        let spent = self.nodes.iter().filter(|node| node.generation == SPENT).count();
        let occupied = self.nodes.iter().filter(|node| node.value.is_some()).count();
        assert_eq!(vacant + spent + occupied, self.nodes.len(), "a node is lost");
        occupied
    }
}

impl<T> Entries for Slab<T> {
    #[inline]
    fn when(&self, i: u32) -> u64 {
        self.nodes[i as usize].when
    }

    #[inline]
    fn set_when(&mut self, i: u32, when: u64) {
        self.nodes[i as usize].when = when;
    }

    #[inline]
    fn links(&self, i: u32) -> (u32, u32) {
        let node = &self.nodes[i as usize];
        (node.prev, node.next)
    }

    #[inline]
    fn set_prev(&mut self, i: u32, prev: u32) {
        self.nodes[i as usize].prev = prev;
    }

    #[inline]
    fn set_next(&mut self, i: u32, next: u32) {
        self.nodes[i as usize].next = next;
    }

    #[inline]
    fn slot(&self, i: u32) -> u16 {
        self.nodes[i as usize].slot
    }

    #[inline]
    fn set_slot(&mut self, i: u32, slot: u16) {
        self.nodes[i as usize].slot = slot;
    }
}

#[cfg(test)]
pub(super) const fn node_size<T>() -> usize {
    size_of::<Node<T>>()
}

#[inline]
fn key(index: u32, generation: u32) -> Key {
    // A spent node is never given out, so the fallback is never used.
    let generation = NonZeroU32::new(generation).unwrap_or(NonZeroU32::MIN);
    Key { index, generation }
}

/// What comes after the last generation.
const SPENT: u32 = 0;
