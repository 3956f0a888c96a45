//! Entries, by index, and a list through them.

/// No entry: the end of what a `u32` can name.
pub(crate) const NIL: u32 = u32::MAX;
/// The `slot` of an entry that is in no list.
pub(crate) const NO_SLOT: u16 = u16::MAX;

/// Where entries live: by index, the four fields that the wheel keeps in each.
///
/// The wheel is the only writer of an entry's fields while the entry is linked, and reads them only
/// then; what the storage keeps in them in the meantime, a free list say, is its own affair.
pub(crate) trait Entries {
    /// The time that the entry was inserted with.
    fn when(&self, i: u32) -> u64;
    fn set_when(&mut self, i: u32, when: u64);
    /// The previous and the next entry of the same list.
    fn links(&self, i: u32) -> (u32, u32);
    fn set_prev(&mut self, i: u32, prev: u32);
    fn set_next(&mut self, i: u32, next: u32);
    /// The list that the entry is in, or [`NO_SLOT`].
    fn slot(&self, i: u32) -> u16;
    fn set_slot(&mut self, i: u32, slot: u16);
    /// Says that the entry will be looked at soon.
    #[inline]
    fn prefetch(&self, _i: u32) {}
}

/// A first-in, first-out list through the entries.
///
/// It keeps both of its ends, so that an insertion touches one other entry, the last, which is the
/// most likely to be in cache; a ring through the head would touch two. The first entry's `prev` and the
/// last one's `next` mean nothing, so that taking an entry from an end touches no other at all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List {
    head: u32,
    tail: u32,
    pub(super) len: u32,
    /// A lower bound of the `when`s in the list: exact while it only grows, stale after removals
    /// until it is empty.
    pub(super) min: u64,
}

impl List {
    pub(crate) const EMPTY: Self = Self { head: NIL, tail: NIL, len: 0, min: u64::MAX };

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.head == NIL
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len as usize
    }

    /// A time that no entry of the list is before; `None` if there is none.
    #[inline]
    pub(crate) fn min(&self) -> Option<u64> {
        (!self.is_empty()).then_some(self.min)
    }

    /// Appends an entry that is in no list; `slot` is this list's name.
    #[inline]
    pub(crate) fn push_back<E: Entries>(&mut self, e: &mut E, i: u32, slot: u16) {
        e.set_slot(i, slot);
        e.set_prev(i, self.tail);
        if self.tail == NIL {
            self.head = i;
        } else {
            e.set_next(self.tail, i);
        }
        self.tail = i;
        self.len += 1;
        self.min = self.min.min(e.when(i));
    }

    /// Removes an entry of this list.
    #[inline]
    pub(crate) fn unlink<E: Entries>(&mut self, e: &mut E, i: u32) {
        e.set_slot(i, NO_SLOT);
        let (prev, next) = e.links(i);
        match (i == self.head, i == self.tail) {
            (false, false) => {
                e.set_next(prev, next);
                e.set_prev(next, prev);
            }
            (true, false) => self.head = next,
            (false, true) => self.tail = prev,
            (true, true) => (self.head, self.tail) = (NIL, NIL),
        }
        self.shrunk();
    }

    /// Removes and returns the entry that has waited longest.
    #[inline]
    pub(crate) fn pop_front<E: Entries>(&mut self, e: &mut E) -> Option<u32> {
        let i = self.head;
        if i == NIL {
            return None;
        }
        e.set_slot(i, NO_SLOT);
        if i == self.tail {
            (self.head, self.tail) = (NIL, NIL);
        } else {
            self.head = e.links(i).1;
            // It comes next, and may be far away.
            e.prefetch(self.head);
        }
        self.shrunk();
        Some(i)
    }

    /// Removes and returns the entry that came last.
    #[inline]
    pub(crate) fn pop_back<E: Entries>(&mut self, e: &mut E) -> Option<u32> {
        let i = self.tail;
        if i == NIL || i == self.head {
            return self.pop_front(e);
        }
        e.set_slot(i, NO_SLOT);
        self.tail = e.links(i).0;
        e.prefetch(self.tail);
        self.shrunk();
        Some(i)
    }

    #[inline]
    fn shrunk(&mut self) {
        self.len -= 1;
        if self.len == 0 {
            self.min = u64::MAX;
        }
    }

    /// The entries, longest waiting first.
    pub(crate) fn iter<E: Entries>(&self, e: &E) -> impl Iterator<Item = u32> {
        let mut next = self.head;
        (0..self.len).map(move |_| {
            let i = next;
            next = e.links(i).1;
            i
        })
    }

    /// Checks links, length, names and `min`, and that all entries are within `first..=last`.
    pub(crate) fn invariants<E: Entries>(&self, e: &E, slot: u16, first: u64, last: u64) {
        let (mut i, mut prev) = (self.head, NIL);
        for _ in 0..self.len {
            let when = e.when(i);
            assert_eq!(e.slot(i), slot, "entry {i} names another list");
            let linked = prev == NIL || e.links(i).0 == prev;
            assert!(linked, "entry {i} of slot {slot} has a wrong prev");
            assert!(first <= when && when <= last, "{when} not in {first}..={last}, slot {slot}");
            assert!(self.min <= when, "slot {slot}: min {} above {when}", self.min);
            prev = i;
            i = if i == self.tail { NIL } else { e.links(i).1 };
        }
        assert_eq!((i, self.tail), (NIL, prev), "slot {slot} does not end after {}", self.len);
        assert!(self.len > 0 || self.min == u64::MAX, "slot {slot}: not reset when emptied");
    }
}
