//! The wheel's one algorithm, over anybody's entries.
//!
//! [`Raw`] knows lists, bitmaps and a cursor; what an entry is, and where it lives, is the business
//! of an [`Entries`]: [`Wheel`](super::Wheel) brings a slab, the driver its pool of nodes. Entries
//! are named by index, so this file needs no pointer and no `unsafe`.
//!
//! # Levels
//!
//! A time is read as eleven digits of six bits, one level a digit and one slot a digit's value: a
//! slot of level *l* is 64^*l* ns wide, and eleven levels cover every `u64`. An entry lives on the
//! level of the highest digit in which its time differs from the cursor, in the slot of its own
//! value of that digit. Both are a count of leading zeros and a shift.
//!
//! Level 0 is exact: a slot there is one nanosecond. So there is no tick, nothing to round, and no
//! special case for an entry that shares a tick with `now` but isn't due yet: such an entry is on a
//! level whose slot starts by `now`, goes to a lower one, and on the lowest the question can't
//! arise. The two levels below 4 µs cost 3 KiB a wheel and nothing an operation, since
//! an entry visits them only if somebody asks while `now` is that close to it.
//!
//! # Invariants
//!
//! Checked by [`Raw::invariants`], relied on everywhere:
//!
//! 1. Each entry is in one list, its `slot` names that list, and the lists' lengths add up to `len`.
//! 2. A slot's entries lie within the slot. Its `min` is not above any of them.
//! 3. Every occupied slot starts after the cursor, except the *open* one, which contains it. So no
//!    slot is behind the cursor, and none holds entries a rotation away.
//! 4. Hence the lowest occupied level holds the earliest slot, and its lowest set bit names it.
//! 5. What was inserted at or before the cursor waits in the *late* list, which is taken first.
//! 6. An open slot holds at least one entry. The cursor stays where it is until it holds none.
//!
//! Moving the cursor forward, as far as the first occupied slot, keeps all of this: cursor and
//! entry still first differ in the same digit. Then that slot is opened, and the cursor moves on
//! inside it, to now if it can: what isn't due goes back relative to there, and so passes over the
//! levels that it would leave again at once.

use std::{fmt, ops::RangeInclusive};

#[cfg(test)]
mod tests;

/// No entry: the end of what a `u32` can name.
pub(crate) const NIL: u32 = u32::MAX;
/// The `slot` of an entry that is in no list.
pub(crate) const NO_SLOT: u16 = u16::MAX;
/// The first `slot` that [`Raw`] never uses: its caller may keep lists of its own from here on.
pub(crate) const FIRST_FOREIGN_SLOT: u16 = 706;
/// How often, at most, [`Raw::take`] returns an entry before it is due: once a level above the
/// lowest.
#[cfg(any(test, fuzzing))]
pub(crate) const MAX_CASCADES: usize = LEVELS - 1;

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
}

/// A first-in, first-out list through the entries.
///
/// It keeps both of its ends, so that an insertion touches one other entry, the last, which is the
/// most likely to be in cache; a ring through the head would touch two.
#[derive(Clone, Copy, Debug)]
pub(crate) struct List {
    head: u32,
    tail: u32,
    len: u32,
    /// A lower bound of the `when`s in the list: exact while it only grows, stale after removals
    /// until it is empty.
    min: u64,
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
        e.set_next(i, NIL);
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
        if prev == NIL {
            debug_assert_eq!(self.head, i, "of another list");
            self.head = next;
        } else {
            e.set_next(prev, next);
        }
        if next == NIL {
            debug_assert_eq!(self.tail, i, "of another list");
            self.tail = prev;
        } else {
            e.set_prev(next, prev);
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
        let (_, next) = e.links(i);
        self.head = next;
        if next == NIL {
            self.tail = NIL;
        } else {
            e.set_prev(next, NIL);
        }
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
    #[cfg(any(test, fuzzing))]
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
            assert_eq!(e.links(i).0, prev, "entry {i} of slot {slot} has a wrong prev");
            assert!(first <= when && when <= last, "{when} not in {first}..={last}, slot {slot}");
            assert!(self.min <= when, "slot {slot}: min {} above {when}", self.min);
            (prev, i) = (i, e.links(i).1);
        }
        assert_eq!((i, self.tail), (NIL, prev), "slot {slot} does not end after {}", self.len);
        assert!(self.len > 0 || self.min == u64::MAX, "slot {slot}: not reset when emptied");
    }
}

/// A hierarchical timer wheel without storage. See the module's documentation.
///
/// Times are nanoseconds since any origin.
pub(crate) struct Raw {
    /// A lower bound of now. Moves forward only.
    cursor: u64,
    len: usize,
    /// The levels that have an occupied slot, and each level's occupied slots.
    levels: u16,
    occupied: [u64; LEVELS],
    /// The slot that contains the cursor, while it is being emptied; else `NO_SLOT`.
    open: u16,
    /// The open slot is being spread over the lower levels, due or not.
    sorting: bool,
    /// The name of the late list: one of the two after the last slot, so that a wheel and its
    /// backlog never use the same.
    late: u16,
    lists: Box<[List; LISTS]>,
}

impl Raw {
    /// An empty wheel whose cursor is at `start`.
    pub(crate) fn new(start: u64) -> Self {
        Self {
            cursor: start,
            len: 0,
            levels: 0,
            occupied: [0; LEVELS],
            open: NO_SLOT,
            sorting: false,
            late: LATE,
            lists: Box::new([List::EMPTY; LISTS]),
        }
    }

    /// How many entries are linked.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// A lower bound of now: not after the latest time that the wheel has been given.
    #[inline]
    pub(crate) fn cursor(&self) -> u64 {
        self.cursor
    }

    /// Links an entry that is in no list, and stores its `when`. One that is at or before the
    /// cursor is the next to be taken.
    ///
    /// Also the way back for an entry that [`take`](Self::take) returned before it was due: it lands
    /// on a lower level than it came from. *O*(1).
    #[inline]
    pub(crate) fn insert<E: Entries>(&mut self, e: &mut E, i: u32, when: u64) {
        let slot = if when <= self.cursor { self.late } else { slot_of(self.cursor, when) };
        self.push(e, i, when, slot);
    }

    /// As [`insert`](Self::insert), and never ahead of an entry that has the same `when` and came
    /// first. *O*(1).
    ///
    /// The two differ while a slot is being emptied between calls of [`take`](Self::take): what has
    /// not been taken from it would be overtaken by what is inserted below it. So not for an entry
    /// that `take` returned: that would go back to where it came from.
    #[inline]
    pub(crate) fn insert_in_turn<E: Entries>(&mut self, e: &mut E, i: u32, when: u64) {
        if self.open != NO_SLOT && bounds(self.cursor, self.open).contains(&when) {
            self.push(e, i, when, self.open);
        } else {
            self.insert(e, i, when);
        }
    }

    #[inline]
    fn push<E: Entries>(&mut self, e: &mut E, i: u32, when: u64, slot: u16) {
        debug_assert_eq!(e.slot(i), NO_SLOT, "entry {i} is in a list already");
        e.set_when(i, when);
        self.lists[usize::from(slot)].push_back(e, i, slot);
        self.len += 1;
        if slot < LATE {
            let (level, digit) = split(slot);
            self.levels |= 1 << level;
            self.occupied[level] |= 1 << digit;
        }
    }

    /// Unlinks an entry of this wheel. Where it is, it says itself, and it is not derived from its
    /// time again: that would be wrong after the cursor has moved. *O*(1).
    #[inline]
    pub(crate) fn remove<E: Entries>(&mut self, e: &mut E, i: u32) {
        let slot = e.slot(i);
        debug_assert_ne!(slot, NO_SLOT, "entry {i} is in no list");
        self.lists[usize::from(slot)].unlink(e, i);
        self.unlinked(slot);
    }

    /// The bookkeeping after an entry has left list `slot`.
    #[inline]
    fn unlinked(&mut self, slot: u16) {
        self.len -= 1;
        if self.lists[usize::from(slot)].is_empty() && slot < LATE {
            let (level, digit) = split(slot);
            self.occupied[level] &= !(1 << digit);
            if self.occupied[level] == 0 {
                self.levels &= !(1 << level);
            }
            // Else the slot would still count as open when it is next filled, a rotation on.
            if self.open == slot {
                self.open = NO_SLOT;
            }
        }
    }

    /// Unlinks and returns the next entry to look at, if a slot that starts by `now` holds one, and
    /// moves the cursor into that slot; if none does, to `now`; never past `now`.
    ///
    /// The caller compares the entry's exact time with `now`, and either it is due, or it has to be
    /// [inserted](Self::insert) again, which moves it to a lower level (the cascade). This happens
    /// at most ten times to an entry, so a loop until `None` ends, after *O*(1) calls per entry. The
    /// caller may stop after any number of calls and go on at any later time.
    ///
    /// Slots come in the order of their times, and each is emptied before the next is looked at, so
    /// entries of different slots are in order; within one slot they are in order of insertion. A
    /// `now` that has gone back behind the cursor finds nothing. *O*(1).
    #[inline]
    pub(crate) fn take<E: Entries>(&mut self, e: &mut E, now: u64) -> Option<u32> {
        if now < self.cursor {
            // A late entry need not be due at such a time, and inserting it again would not help.
            return None;
        }
        let slot = self.next_slot(now, usize::MAX)?;
        let i = self.lists[usize::from(slot)].pop_front(e);
        self.unlinked(slot);
        i
    }

    /// As [`take`](Self::take), for a caller who fires in batches, sorts each, and wants their order
    /// to hold across batches, too: says with each entry whether it is *ripe*. One that is due and
    /// not ripe goes back by [`insert`](Self::insert), as if it were not due: the cascade sorts it.
    ///
    /// `room` is how many more entries the batch takes, this one included. What is in a slot that
    /// the batch takes whole is ripe; in a larger one, what has the time of the slot's earliest is, and
    /// what is a nanosecond from it. *O*(1).
    #[inline]
    pub(crate) fn take_sorted<E: Entries>(
        &mut self,
        e: &mut E,
        now: u64,
        room: usize,
    ) -> Option<(u32, bool)> {
        if now < self.cursor {
            return None;
        }
        let slot = self.next_slot(now, room)?;
        let list = &mut self.lists[usize::from(slot)];
        let earliest = list.min;
        let i = list.pop_front(e)?;
        self.unlinked(slot);
        let ripe = !self.sorting || !(SLOTS..LATE).contains(&slot) || {
            let when = e.when(i);
            // Lower slots hold what was earlier in this list.
            when == earliest && !self.overtakes(when)
        };
        Some((i, ripe))
    }

    /// The list to take from next. Opens a slot if none is: one with more than `room` entries at its
    /// start, so that even what is due in it goes to lower levels when inserted again.
    #[inline]
    fn next_slot(&mut self, now: u64, room: usize) -> Option<u16> {
        if !self.lists[usize::from(self.late)].is_empty() {
            return Some(self.late);
        }
        if self.open != NO_SLOT {
            return Some(self.open);
        }
        match self.first() {
            Some((slot, times)) if *times.start() <= now => {
                self.sorting = self.lists[usize::from(slot)].len() > room;
                self.cursor = if self.sorting { *times.start() } else { now.min(*times.end()) };
                self.open = slot;
                Some(slot)
            }
            _ => {
                self.cursor = now;
                None
            }
        }
    }

    /// Whether the entry that [`take`](Self::take) has just returned, though due at `when`, may have
    /// to wait for another, which is due no later. Inserted again, it takes its turn behind it.
    ///
    /// This happens if a slot was being emptied, some of it has moved to lower levels, and then,
    /// before the rest was taken, time went on. It needs to be asked only by a caller who promises
    /// the order between such calls. *O*(1).
    #[inline]
    pub(crate) fn overtakes(&self, when: u64) -> bool {
        // Slots that are not below the one that the entry was in start after it ends.
        self.first()
            .is_some_and(|(slot, _)| slot != self.open && self.lists[usize::from(slot)].min <= when)
    }

    /// Whether [`take`](Self::take) would return an entry. *O*(1).
    #[inline]
    pub(crate) fn is_due(&self, now: u64) -> bool {
        now >= self.cursor
            && (!self.lists[usize::from(self.late)].is_empty()
                || self.open != NO_SLOT
                || self.first().is_some_and(|(_, times)| *times.start() <= now))
    }

    /// When to call [`take`](Self::take) next; `None` if there is nothing to wait for.
    ///
    /// Never after the earliest `when`, and always after the `now` with which `take` last returned
    /// `None`, unless something was inserted before it since. In between:
    ///
    /// - for a slot of at most 32 entries, or one at most 4 µs wide, the earliest of them, so that
    ///   few timers cost no wake to cascade (a bound, if the earliest has been removed: then it
    ///   costs one such wake);
    /// - for another, the slot's start: it is spread over the lower levels ahead of time, or those
    ///   of its entries that are due first would be late by the time that this takes.
    ///
    /// *O*(1).
    #[inline]
    pub(crate) fn next_expiration(&self) -> Option<u64> {
        if self.is_empty() {
            return None;
        }
        let late = self.lists[usize::from(self.late)].min;
        // What is below an open slot overlaps with it in time.
        let open = if self.open == NO_SLOT { u64::MAX } else { self.due_from(self.open) };
        let first = self.first().map_or(u64::MAX, |(slot, _)| self.due_from(slot));
        Some(late.min(open).min(first))
    }

    #[inline]
    fn due_from(&self, slot: u16) -> u64 {
        let list = &self.lists[usize::from(slot)];
        if list.len <= THIN || slot < FIRST_WIDE_SLOT {
            list.min
        } else {
            *bounds(self.cursor, slot).start()
        }
    }

    /// The earliest occupied slot, and its times. If one is open, it may be that one.
    #[inline]
    fn first(&self) -> Option<(u16, RangeInclusive<u64>)> {
        if self.levels == 0 {
            return None;
        }
        let level = self.levels.trailing_zeros();
        let digit = self.occupied[level as usize].trailing_zeros();
        let slot = join(level, digit);
        Some((slot, bounds(self.cursor, slot)))
    }

    /// Moves everything in slots that start by `now` to `backlog`, and the cursor to `now`.
    ///
    /// For storms: the caller then serves the backlog and this wheel by turns, each in its own
    /// order, so that what is overdue doesn't hold up what is only now due. *O*(occupied slots):
    /// entries are not touched, however many there are.
    ///
    /// As long as the backlog isn't empty there is work to do, whatever
    /// [`next_expiration`](Self::next_expiration) says, which is about the wheel alone.
    ///
    /// A backlog belongs to one wheel. What is taken from it before it is due goes back to the
    /// wheel; and before an entry is removed, [`Backlog::holds`] tells from where.
    ///
    /// # Panics
    ///
    /// If `backlog` is not empty.
    pub(crate) fn split_due(&mut self, backlog: &mut Backlog, now: u64) {
        assert!(backlog.is_empty(), "the backlog still holds {} entries", backlog.len());
        let now = now.max(self.cursor);
        let due = &mut backlog.raw;
        (due.cursor, due.open, due.late) = (self.cursor, self.open, self.late);
        due.sorting = self.sorting;
        let mut levels = self.levels;
        while levels != 0 {
            let level = levels.trailing_zeros();
            levels &= levels - 1;
            let shift = level * BITS;
            let (past, here) = (now >> shift, self.cursor >> shift);
            let mut slots = self.occupied[level as usize];
            if past >> BITS == here >> BITS {
                slots &= u64::MAX >> (DIGIT - (past & DIGIT));
            }
            while slots != 0 {
                due.adopt(self, join(level, slots.trailing_zeros()));
                slots &= slots - 1;
            }
        }
        due.adopt(self, self.late);
        backlog.until = now;
        self.cursor = now;
        self.open = NO_SLOT;
        self.late = LATE + (LATE + 1 - self.late);
    }

    /// Takes over list `slot` of another wheel.
    fn adopt(&mut self, other: &mut Self, slot: u16) {
        let list = std::mem::replace(&mut other.lists[usize::from(slot)], List::EMPTY);
        self.lists[usize::from(slot)] = list;
        self.len += list.len();
        other.len -= list.len();
        if slot < LATE {
            let (level, digit) = split(slot);
            self.levels |= 1 << level;
            self.occupied[level] |= 1 << digit;
            other.occupied[level] &= !(1 << digit);
            if other.occupied[level] == 0 {
                other.levels &= !(1 << level);
            }
        }
    }

    /// Checks the module's invariants. *O*(entries).
    ///
    /// # Panics
    ///
    /// If one is broken.
    pub(crate) fn invariants<E: Entries>(&self, e: &E) {
        let mut len = 0;
        for (slot, list) in (0..).zip(self.lists.iter()) {
            len += list.len();
            if slot >= LATE {
                assert!(slot == self.late || list.is_empty(), "two late lists");
                list.invariants(e, slot, 0, u64::MAX);
                continue;
            }
            let (level, digit) = split(slot);
            let bit = self.occupied[level] >> digit & 1;
            assert_eq!(bit == 1, !list.is_empty(), "slot {slot}: wrong bit");
            if list.is_empty() {
                continue;
            }
            let (first, last) = bounds(self.cursor, slot).into_inner();
            list.invariants(e, slot, first, last);
            if slot == self.open {
                assert!(first <= self.cursor && self.cursor <= last, "slot {slot} is not open");
            } else {
                assert!(first > self.cursor, "slot {slot} is behind the cursor");
                assert_eq!(slot_of(self.cursor, first), slot, "slot {slot} is on a wrong level");
            }
        }
        assert_eq!(len, self.len, "length");
        for level in 0..LEVELS {
            assert_eq!(self.levels >> level & 1 == 1, self.occupied[level] != 0, "level {level}");
        }
        assert!(
            self.open == NO_SLOT || !self.lists[usize::from(self.open)].is_empty(),
            "an empty slot is open"
        );
    }
}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Raw")
            .field("cursor", &self.cursor)
            .field("len", &self.len)
            .field("next_expiration", &self.next_expiration())
            .finish_non_exhaustive()
    }
}

/// What [`Raw::split_due`] has put aside: a wheel that can only be emptied.
///
/// Nothing is inserted here that is not due, so all of its slots start by the time of the split, and all of
/// the wheel's after it; that is how [`holds`](Self::holds) tells them apart.
#[derive(Debug)]
pub(crate) struct Backlog {
    raw: Raw,
    /// The time of the split.
    until: u64,
}

impl Backlog {
    pub(crate) fn new() -> Self {
        Self { raw: Raw::new(0), until: 0 }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.raw.len()
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.raw.is_empty()
    }

    /// The time of the split.
    #[inline]
    pub(crate) fn until(&self) -> u64 {
        self.until
    }

    /// Whether a linked entry is here, rather than in the wheel. *O*(1).
    #[inline]
    pub(crate) fn holds<E: Entries>(&self, e: &E, i: u32) -> bool {
        if self.is_empty() {
            return false;
        }
        let slot = e.slot(i);
        if slot >= LATE {
            return slot == self.raw.late;
        }
        *bounds(e.when(i), slot).start() <= self.until
    }

    /// Unlinks an entry that is [here](Self::holds). *O*(1).
    #[inline]
    pub(crate) fn remove<E: Entries>(&mut self, e: &mut E, i: u32) {
        self.raw.remove(e, i);
    }

    /// Whether what is due at `when` would have been split off, and not been taken yet. *O*(1).
    #[inline]
    pub(crate) fn is_ahead(&self, when: u64) -> bool {
        !self.is_empty() && self.raw.cursor < when && when <= self.until
    }

    /// Puts back what was taken from here and is due, to sort it: it lands on a lower level; or adds
    /// what [is ahead](Self::is_ahead). *O*(1).
    #[inline]
    pub(crate) fn insert<E: Entries>(&mut self, e: &mut E, i: u32, when: u64) {
        debug_assert!(when <= self.until, "what is not due goes back to the wheel");
        self.raw.insert(e, i, when);
    }

    /// As [`Raw::take`], with the time of the split; an entry that isn't due goes back to the wheel.
    #[cfg(any(test, fuzzing))]
    #[inline]
    pub(crate) fn take<E: Entries>(&mut self, e: &mut E) -> Option<u32> {
        self.raw.take(e, self.until)
    }

    /// As [`Raw::take_sorted`], with the time of the split.
    #[inline]
    pub(crate) fn take_sorted<E: Entries>(
        &mut self,
        e: &mut E,
        room: usize,
    ) -> Option<(u32, bool)> {
        self.raw.take_sorted(e, self.until, room)
    }

    /// Checks the module's invariants, and that it [holds](Self::holds) what it holds. *O*(entries).
    #[cfg(any(test, fuzzing))]
    pub(crate) fn invariants<E: Entries>(&self, e: &E) {
        self.raw.invariants(e);
        for list in self.raw.lists.iter() {
            for i in list.iter(e) {
                assert!(self.holds(e, i), "entry {i} is in the backlog and doesn't know");
            }
        }
    }
}

/// The roundest time within `[when_ns, when_ns + slack_ns]`: the one with the most trailing zero
/// bits, which is unique.
///
/// For timers that may be late by `slack_ns`. Those that are due about the same time meet on one
/// value, and so cost one wake; and a wheel takes a round time from the slot that it was put in
/// first, at the start of which it is due, without moving it from level to level.
///
/// Never before `when_ns`. The end of the range saturates at `u64::MAX`. *O*(1).
///
/// # Examples
///
/// ```
/// use deadbeat::wheel::coalesce;
///
/// assert_eq!(coalesce(1_000_000, 50_000), 1 << 20);
/// assert_eq!(coalesce(1_040_000, 50_000), 1 << 20);
/// assert_eq!(coalesce(1_000_000, 0), 1_000_000);
/// ```
#[inline]
#[must_use]
pub const fn coalesce(when_ns: u64, slack_ns: u64) -> u64 {
    let Some(before) = when_ns.checked_sub(1) else { return 0 };
    let end = when_ns.saturating_add(slack_ns);
    // Above their highest difference, `end` and what is just out of range agree; at it, `end` has a
    // one and the other a zero. So `end`, cleared below that bit, is in range, and nothing rounder
    // lies between.
    let bit = (before ^ end).ilog2();
    end >> bit << bit
}

/// Where `when` belongs, which is after `cursor`.
#[inline]
fn slot_of(cursor: u64, when: u64) -> u16 {
    debug_assert!(cursor < when);
    // A division by a constant, hence a multiplication and a shift.
    let level = (cursor ^ when).ilog2() / BITS;
    let digit = (when >> (level * BITS) & DIGIT) as u32;
    join(level, digit)
}

/// The times of the slot of that name that is in the same rotation of its level as `near`.
#[inline]
fn bounds(near: u64, slot: u16) -> RangeInclusive<u64> {
    let shift = u32::from(slot / SLOTS) * BITS;
    let start = (near >> shift & !DIGIT | u64::from(slot % SLOTS)) << shift;
    start..=start | ((1 << shift) - 1)
}

#[inline]
fn split(slot: u16) -> (usize, u16) {
    (usize::from(slot / SLOTS), slot % SLOTS)
}

#[inline]
fn join(level: u32, digit: u32) -> u16 {
    #[expect(clippy::cast_possible_truncation, reason = "a level is below 11, a digit below 64")]
    let slot = (level << BITS | digit) as u16;
    slot
}

/// Bits of a digit, the mask of the lowest, and how many values it has.
const BITS: u32 = 6;
const DIGIT: u64 = 63;
const SLOTS: u16 = 64;

const LEVELS: usize = 11;

/// The first list after the slots.
const LATE: u16 = 704;
/// All slots, and two late lists.
const LISTS: usize = FIRST_FOREIGN_SLOT as usize;

/// A slot with up to so many entries is emptied quickly enough once the first of them is due.
const THIN: u32 = 32;
/// Slots below this are narrower than a wake is precise: no use waking for one twice.
const FIRST_WIDE_SLOT: u16 = 3 * SLOTS;
