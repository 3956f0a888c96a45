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

use super::list::{Entries, List, NO_SLOT};

#[cfg(test)]
mod tests;

/// The first `slot` that [`Raw`] never uses: its caller may keep lists of its own from here on.
pub(crate) const FIRST_FOREIGN_SLOT: u16 = LATE + FAMILY;
/// How often, at most, [`Raw::take`] returns an entry before it is due: once a level above the
/// lowest.
#[cfg(any(test, fuzzing))]
pub(crate) const MAX_CASCADES: usize = LEVELS - 1;

/// What there is to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Take {
    Entry {
        i: u32,
        ripe: bool,
    },
    /// More than there is room for.
    Crowd,
    /// Nothing in a slot that has started.
    Nothing,
}

/// Which end of a list to take from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Front,
    Back,
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
    /// The name of the late list: one of those after the last slot, each of which one wheel of a
    /// family uses.
    late: u16,
    /// What to add to a list's number for its name in entries: so that they tell two wheels apart.
    names_from: u16,
    lists: Box<[List; LISTS]>,
}

impl Raw {
    /// An empty wheel whose cursor is at `start`.
    pub(crate) fn new(start: u64) -> Self {
        Self::of_family(start, 0)
    }

    /// As [`new`](Self::new), for a second wheel over the same entries: their `slot` tells which of
    /// the two they are in, being at least [`SECOND`] here, and below it in the other.
    pub(super) fn second(start: u64) -> Self {
        Self { names_from: SECOND, ..Self::new(start) }
    }

    /// As [`new`](Self::new), for the `n`th of up to [`FAMILY`] wheels among which lists are handed
    /// over; a wheel by itself is the zeroth.
    pub(super) fn of_family(start: u64, n: u16) -> Self {
        assert!(n < FAMILY, "wheel {n} of {FAMILY}");
        Self {
            cursor: start,
            len: 0,
            levels: 0,
            occupied: [0; LEVELS],
            open: NO_SLOT,
            sorting: false,
            late: LATE + n,
            names_from: 0,
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

    /// The name of the list of what was inserted late.
    #[inline]
    pub(super) fn late(&self) -> u16 {
        self.late
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
        self.lists[usize::from(slot)].push_back(e, i, self.names_from + slot);
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
        let slot = slot - self.names_from;
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
        let slot = self.next_slot(now)?;
        if slot != self.open && slot < LATE {
            self.open(slot, now);
        }
        let i = self.lists[usize::from(slot)].pop_front(e);
        self.unlinked(slot);
        i
    }

    /// As [`take`](Self::take), for a caller who fires in batches of up to `room` more entries and
    /// sorts each: takes only from slots that the batch can take whole.
    #[inline]
    pub(crate) fn take_whole<E: Entries>(&mut self, e: &mut E, now: u64, room: usize) -> Take {
        if now < self.cursor {
            return Take::Nothing;
        }
        let Some(slot) = self.next_slot(now) else { return Take::Nothing };
        if slot != self.open && slot < LATE {
            if self.lists[usize::from(slot)].len() > room {
                return Take::Crowd;
            }
            self.open(slot, now);
        }
        let i = self.lists[usize::from(slot)].pop_front(e).expect("an occupied slot");
        self.unlinked(slot);
        Take::Entry { i, ripe: true }
    }

    /// As [`take_whole`](Self::take_whole), from any slot: says with each entry of a larger one
    /// whether it is *ripe*. One that is due and not ripe goes back by [`insert`](Self::insert), as if
    /// it were not due: the cascade sorts it.
    ///
    /// Ripe is what is within `grain` of the earliest that is left, so that is how far the order may
    /// be off; what has the same time comes in no order. `end` says where a larger slot is taken from.
    /// *O*(1).
    #[inline]
    pub(crate) fn take_sorted<E: Entries>(
        &mut self,
        e: &mut E,
        now: u64,
        room: usize,
        grain: u64,
        end: End,
    ) -> Take {
        if now < self.cursor {
            return Take::Nothing;
        }
        let Some(slot) = self.next_slot(now) else { return Take::Nothing };
        if slot != self.open && slot < LATE {
            self.sorting = self.lists[usize::from(slot)].len() > room;
            // At its start, even what is due in it goes to lower levels when inserted again.
            let start = *bounds(self.cursor, slot).start();
            self.open(slot, if self.sorting { start } else { now });
        }
        let list = &mut self.lists[usize::from(slot)];
        let earliest = list.min;
        let sorting = self.sorting && slot == self.open;
        let i = match end {
            End::Back if sorting => list.pop_back(e),
            _ => list.pop_front(e),
        };
        let i = i.expect("an occupied slot");
        self.unlinked(slot);
        let ripe = !sorting || slot < SLOTS || {
            let first = e.when(i).saturating_sub(grain);
            // Lower slots hold what was earlier in this list.
            let below = self.first().filter(|(below, _)| *below != self.open);
            first <= earliest
                && below.is_none_or(|(below, _)| first <= self.lists[usize::from(below)].min)
        };
        Take::Entry { i, ripe }
    }

    /// The list to take from next: one of its own if it is the late list or open.
    #[inline]
    fn next_slot(&mut self, now: u64) -> Option<u16> {
        if !self.lists[usize::from(self.late)].is_empty() {
            return Some(self.late);
        }
        if self.open != NO_SLOT {
            return Some(self.open);
        }
        match self.first() {
            Some((slot, times)) if *times.start() <= now => Some(slot),
            _ => {
                self.cursor = now;
                None
            }
        }
    }

    /// Opens the first slot, with the cursor at `now` if that is within it.
    #[inline]
    fn open(&mut self, slot: u16, now: u64) {
        self.cursor = now.min(*bounds(self.cursor, slot).end());
        self.open = slot;
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

    /// How many entries are where one that is due at `when` would be inserted. *O*(1).
    #[inline]
    pub(super) fn neighbours(&self, when: u64) -> usize {
        let slot = if when <= self.cursor { self.late } else { slot_of(self.cursor, when) };
        self.lists[usize::from(slot)].len()
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

    /// Lists among which the earliest entry is: the first slot, what an open one still holds, and what
    /// came late. Of entries with the same `when`, the one that came first comes first here. *O*(1).
    pub(crate) fn earliest(&self) -> [List; 3] {
        let list = |slot: u16| self.lists[usize::from(slot)];
        let first = self.first().map(|(slot, _)| slot);
        let open = (self.open != NO_SLOT && first != Some(self.open)).then_some(self.open);
        [first, open, Some(self.late)].map(|slot| slot.map_or(List::EMPTY, list))
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

    /// Moves what is in slots that start by `now` to `due`, which is empty, except for the last `keep`
    /// entries or fewer, in whole slots; and the cursor to before the slots that are left. Returns
    /// where it is then. *O*(occupied slots): entries are not touched, however many there are.
    pub(super) fn split_due(&mut self, due: &mut Self, now: u64, keep: usize) -> u64 {
        debug_assert!(due.is_empty() && now >= self.cursor);
        (due.cursor, due.open, due.sorting) = (self.cursor, self.open, self.sorting);
        let mut until = now;
        let mut keep = Some(keep);
        // From the latest slot to the earliest.
        let mut levels = self.levels;
        while levels != 0 {
            let level = levels.ilog2();
            levels &= !(1 << level);
            let mut slots = self.occupied[level as usize];
            while slots != 0 {
                let digit = slots.ilog2();
                slots &= !(1 << digit);
                let slot = join(level, digit);
                let start = *bounds(self.cursor, slot).start();
                if start > now {
                    continue;
                }
                keep = keep.and_then(|keep| keep.checked_sub(self.lists[usize::from(slot)].len()));
                if keep.is_some() && slot != self.open {
                    until = start - 1;
                } else {
                    keep = None;
                    due.adopt(self, slot);
                }
            }
        }
        // Late entries know the name of their list, so the lists change hands with their names.
        due.adopt(self, self.late);
        std::mem::swap(&mut due.late, &mut self.late);
        self.cursor = until;
        self.open = NO_SLOT;
        until
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

    /// All entries, in no order.
    #[cfg(any(test, fuzzing))]
    pub(super) fn iter<E: Entries>(&self, e: &E) -> impl Iterator<Item = u32> {
        self.lists.iter().flat_map(|list| list.iter(e))
    }

    /// Checks the module's invariants. *O*(entries).
    ///
    /// # Panics
    ///
    /// If one is broken.
    pub(crate) fn invariants<E: Entries>(&self, e: &E) {
        let mut len = 0;
        let (slots, late) = self.lists.split_at(usize::from(LATE));
        for (level, lists) in (0..).zip(slots.chunks_exact(usize::from(SLOTS))) {
            let bits = self.occupied[level as usize];
            assert_eq!(self.levels >> level & 1 == 1, bits != 0, "level {level}");
            let mut rest = bits;
            while rest != 0 {
                let digit = rest.trailing_zeros();
                rest &= rest - 1;
                let (slot, list) = (join(level, digit), &lists[digit as usize]);
                assert!(!list.is_empty(), "slot {slot} is marked as occupied");
                len += list.len();
                let (first, last) = bounds(self.cursor, slot).into_inner();
                list.invariants(e, self.names_from + slot, first, last);
                if slot == self.open {
                    assert!(first <= self.cursor && self.cursor <= last, "{slot} is not open");
                } else {
                    assert!(first > self.cursor, "slot {slot} is behind the cursor");
                    assert_eq!(slot_of(self.cursor, first), slot, "{slot} is on a wrong level");
                }
            }
        }
        for (slot, list) in (LATE..).zip(late) {
            len += list.len();
            assert!(slot == self.late || list.is_empty(), "another's late list");
            list.invariants(e, self.names_from + slot, 0, u64::MAX);
        }
        assert_eq!(len, self.len, "length");
        // Nearly all slots are empty: to look at each more closely would take longer than all else that
        // a fuzz target does.
        let all = self.lists.iter().map(List::len).sum::<usize>();
        assert_eq!(all, len, "a slot isn't marked as occupied");
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
pub(super) fn bounds(near: u64, slot: u16) -> RangeInclusive<u64> {
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
pub(super) const LATE: u16 = 704;
/// Where the names of a second wheel's lists begin.
pub(super) const SECOND: u16 = 1024;
/// How many wheels may hand lists to each other: each has a late list of a name of its own.
pub(super) const FAMILY: u16 = 8;
/// All slots, and the late lists.
const LISTS: usize = FIRST_FOREIGN_SLOT as usize;

/// A slot with up to so many entries is emptied quickly enough once the first of them is due.
const THIN: u32 = 32;
/// Slots below this are narrower than a wake is precise: no use waking for one twice.
const FIRST_WIDE_SLOT: u16 = 3 * SLOTS;
