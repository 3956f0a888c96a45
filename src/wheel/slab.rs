//! Where [`Wheel`](super::Wheel) keeps its entries: one vector, and keys that can't be mistaken.

use std::collections::HashMap;
use std::num::NonZeroU32;

use super::list::{Entries, NIL, NO_SLOT};

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
    /// How many nodes are vacant for ever.
    spent: usize,
    /// The generation that a new node begins with: none of its place's keys, if the place has had a
    /// node before, is of that generation or a later one.
    fresh: u32,
    /// The exceptions: places whose nodes were given back when they had come far, and how far.
    worn: HashMap<u32, u32>,
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
        Self {
            nodes: Vec::with_capacity(capacity),
            vacant: NIL,
            spent: 0,
            fresh: FIRST,
            worn: HashMap::new(),
        }
    }

    /// How many values it has memory for.
    pub(super) fn capacity(&self) -> usize {
        self.nodes.capacity() - self.spent
    }

    /// Makes room for `wanted` values in all.
    pub(super) fn reserve(&mut self, wanted: usize) {
        let nodes = wanted.saturating_add(self.spent);
        self.nodes.reserve(nodes.saturating_sub(self.nodes.len()));
    }

    /// Gives back the memory of vacant nodes that no occupied one comes after, and of what is free
    /// beyond. Their places' keys stay stale. *O*(capacity).
    pub(super) fn shrink_to_fit(&mut self) {
        let last = self.nodes.iter().rposition(|node| node.value.is_some());
        let len = last.map_or(0, |last| last + 1);
        for (i, node) in (0..).zip(&self.nodes).skip(len) {
            if node.generation == SPENT {
                self.spent -= 1;
            }
            // One that began as far on would soon be spent.
            if node.generation == SPENT || node.generation > WORN {
                self.worn.insert(i, node.generation);
            } else {
                self.fresh = self.fresh.max(node.generation);
            }
        }
        self.nodes.truncate(len);
        self.nodes.shrink_to_fit();
        // The first place is the next to be used, so that the last ones may be given back.
        self.vacant = NIL;
        for (i, node) in (0..self.end()).zip(&mut self.nodes).rev() {
            if node.value.is_none() && node.generation != SPENT {
                node.next = self.vacant;
                self.vacant = i;
            }
        }
    }

    /// Moves values from the last nodes to the first vacant ones, and gives back the memory of the
    /// others. No value may be in a list; its time goes along. *O*(capacity).
    pub(super) fn compact(&mut self, mut moved: impl FnMut(Key, Key)) {
        let (mut vacant, mut end) = (0, self.nodes.len());
        loop {
            let free = |node: &Node<T>| node.value.is_none() && node.generation != SPENT;
            let Some(to) = self.nodes[vacant..end].iter().position(free) else { break };
            let to = vacant + to;
            let Some(from) = self.nodes[to..end].iter().rposition(|node| node.value.is_some())
            else {
                break;
            };
            let from = to + from;
            let [to_node, from_node] =
                self.nodes.get_disjoint_mut([to, from]).expect("a vacant one and an occupied one");
            (to_node.when, to_node.value) = (from_node.when, from_node.value.take());
            let was = from_node.generation;
            from_node.generation = was.wrapping_add(1);
            self.spent += usize::from(from_node.generation == SPENT);
            moved(key(index(from), was), key(index(to), to_node.generation));
            (vacant, end) = (to + 1, from);
        }
        self.shrink_to_fit();
    }

    /// How many nodes there are, occupied or not.
    pub(super) fn end(&self) -> u32 {
        index(self.nodes.len())
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
        loop {
            let index = self.end();
            assert!(index < NIL, "more than {NIL} timers");
            let generation = self.worn.remove(&index).unwrap_or(self.fresh);
            let mut node =
                Node { when: 0, prev: NIL, next: NIL, generation, slot: NO_SLOT, value: None };
            if generation == SPENT {
                self.spent += 1;
                self.nodes.push(node);
                continue;
            }
            node.value = Some(value);
            self.nodes.push(node);
            return key(index, generation);
        }
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
        if node.generation == SPENT {
            self.spent += 1;
        } else {
            node.next = self.vacant;
            self.vacant = i;
        }
        Some(value)
    }

    /// As if node `i` had been used so often that `left` more keys can be given out, and the present
    /// one is the first of them.
    #[cfg(test)]
    pub(super) fn wear_out(&mut self, i: u32, left: u32) {
        self.nodes[i as usize].generation = u32::MAX - left + 1;
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
        assert_eq!(spent, self.spent, "spent nodes");
        assert!((FIRST..=WORN).contains(&self.fresh), "new nodes would soon be spent");
        assert!(self.worn.keys().all(|&i| i >= self.end()), "a worn node is there");
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

#[inline]
#[expect(clippy::cast_possible_truncation, reason = "insert keeps it below NIL")]
fn index(i: usize) -> u32 {
    i as u32
}

/// The first generation, and what comes after the last.
const FIRST: u32 = 1;
const SPENT: u32 = 0;
/// From here on a node's generation is noted for itself when its memory is given back.
const WORN: u32 = u32::MAX / 2;
