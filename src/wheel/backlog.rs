//! Crowds that were taken out of the way: for storms.
//!
//! When more falls due than a caller serves at once, [`Backlogs::split_due`] moves the slots that have
//! started, whole, into a wheel of their own, a *backlog*, but for the latest few entries, which the
//! caller can serve at once. It then serves the wheel and the backlogs by turns, each in its own
//! order, so that what is overdue doesn't hold up what is only now due. If there is another crowd
//! meanwhile, it is split off, too: there are up to [`MOST`] backlogs.
//!
//! A slot is split off as it is, and some or all of it may not be due yet. What is not goes back to the
//! wheel when it is taken, if it has few neighbours there. If it has many it is still of a crowd, which
//! is to stay apart from what is fresh, and goes to one more wheel, *later*. A slot is taken from
//! both ends by turns, since what is not of the crowd was armed before it or after it.
//!
//! As long as there is a backlog there is work to do, whatever the wheels' next expiration is.
//!
//! # Who holds what
//!
//! Each backlog ends at its `until`, the time of its split. All slots of the wheel start after the
//! last split, all slots of a backlog after the split before its own. So the start of an entry's slot
//! tells where the entry is, and nothing has to be written into entries when they change hands. Late
//! lists, which have no start, each have a name of their own, and so have all lists of *later*.

use super::list::Entries;
use super::raw::{End, FAMILY, LATE, Raw, SECOND, Take, bounds};

/// How many backlogs there can be. While all are in use, a crowd waits in the wheel.
pub(super) const MOST: u16 = FAMILY - 1;

#[cfg(not(any(deadbeat_loom, deadbeat_shuttle)))]
const KEEP: usize = 256;
#[cfg(any(deadbeat_loom, deadbeat_shuttle))]
const KEEP: usize = 1;

/// What goes first in a storm.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    /// How many of the latest entries stay in the wheel when a backlog is split off: less than the
    /// caller serves at once, or they would stay for ever.
    pub(crate) keep: usize,
    /// How far the order of a backlog may be off: what is not sorted finer is served sooner.
    grain_ns: u64,
    /// So many entries of a slot of the wheel are not a crowd.
    few: usize,
}

impl Policy {
    /// What has just fallen due, if it is one of few.
    pub(crate) const FRESH: Self = Self { keep: KEEP, grain_ns: 1 << 20, few: 64 };
    /// What is due first, to the nanosecond, if time stands still meanwhile.
    pub(crate) const EARLIEST: Self = Self { keep: 0, grain_ns: 0, few: usize::MAX };
    /// As `FRESH`, with figures that tests exceed.
    #[cfg(any(test, fuzzing))]
    pub(crate) const FEW: Self = Self { keep: 4, grain_ns: 0, few: 2 };
}

/// Beside a wheel: its backlogs, in the order of their times, and what of them is due later.
#[derive(Debug)]
pub(crate) struct Backlogs {
    policy: Policy,
    used: Vec<Backlog>,
    spare: Vec<Backlog>,
    made: u16,
    /// From the first split on.
    later: Option<Raw>,
}

/// A wheel that is only emptied: what is inserted was there before, or belongs among its like.
#[derive(Debug)]
struct Backlog {
    raw: Raw,
    until: u64,
    /// The latest that has been taken for good: while a slot is sorted, that is ahead of the cursor.
    passed: u64,
}

/// Where an entry is that isn't in the wheel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Backlog(usize),
    Later,
}

impl Backlogs {
    pub(crate) const fn new(policy: Policy) -> Self {
        Self { policy, used: Vec::new(), spare: Vec::new(), made: 0, later: None }
    }

    /// How many there are.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.used.len()
    }

    /// Whether there is no backlog. There may still be something later.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.used.is_empty()
    }

    /// Moves what is in slots of `wheel` that start by `now` to a new backlog, but for the latest few
    /// entries, as the policy says. Does nothing if there are [`MOST`] of them. *O*(occupied slots).
    pub(crate) fn split_due(&mut self, wheel: &mut Raw, now: u64) {
        let now = now.max(wheel.cursor());
        let mut backlog = match self.spare.pop() {
            Some(spare) => spare,
            None if self.made < MOST => {
                self.made += 1;
                Backlog { raw: Raw::of_family(0, self.made), until: 0, passed: 0 }
            }
            None => return,
        };
        self.later.get_or_insert_with(|| Raw::second(wheel.cursor()));
        backlog.until = wheel.split_due(&mut backlog.raw, now, self.policy.keep);
        backlog.passed = 0;
        let into = if backlog.raw.is_empty() { &mut self.spare } else { &mut self.used };
        into.push(backlog);
    }

    /// The time of the `n`th one's split.
    #[inline]
    pub(crate) fn until(&self, n: usize) -> u64 {
        self.used[n].until
    }

    /// As [`Raw::take_sorted`], of what was not due when it was taken from a backlog.
    #[inline]
    pub(crate) fn take_later<E: Entries>(&mut self, e: &mut E, now: u64, room: usize) -> Take {
        match &mut self.later {
            Some(later) => later.take_sorted(e, now, room, self.policy.grain_ns, End::Front),
            None => Take::Nothing,
        }
    }

    /// When to look there. *O*(1).
    #[inline]
    pub(crate) fn next_later(&self) -> Option<u64> {
        self.later.as_ref().and_then(Raw::next_expiration)
    }

    /// As [`Raw::take_sorted`] of the `n`th, at the time of its split.
    #[inline]
    pub(crate) fn take_sorted<E: Entries>(&mut self, e: &mut E, n: usize, room: usize) -> Take {
        let Backlog { raw, until, passed } = &mut self.used[n];
        let end = if room.is_multiple_of(2) { End::Front } else { End::Back };
        let taken = raw.take_sorted(e, *until, room, self.policy.grain_ns, end);
        if let Take::Entry { i, ripe: true } = taken {
            *passed = e.when(i).max(*passed);
        }
        taken
    }

    /// As [`Raw::take`] of the `n`th, at the time of its split.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn take<E: Entries>(&mut self, e: &mut E, n: usize) -> Option<u32> {
        let Backlog { raw, until, .. } = &mut self.used[n];
        raw.take(e, *until)
    }

    /// As [`Raw::take`], of what is later.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn take_later_unsorted<E: Entries>(&mut self, e: &mut E, now: u64) -> Option<u32> {
        self.later.as_mut().and_then(|later| later.take(e, now))
    }

    /// Puts back what was taken from the `n`th: to a lower level there if it is due by the split, to
    /// sort it; if not, to the wheel or to what is later. *O*(1).
    #[inline]
    pub(crate) fn put_back<E: Entries>(
        &mut self,
        e: &mut E,
        n: usize,
        wheel: &mut Raw,
        i: u32,
        when: u64,
    ) {
        let Backlog { raw, until, .. } = &mut self.used[n];
        if when <= *until {
            raw.insert(e, i, when);
        } else if wheel.neighbours(when) < self.policy.few {
            wheel.insert(e, i, when);
        } else {
            self.put_back_later(e, i, when);
        }
    }

    /// Puts back what was taken from what is later. *O*(1).
    #[inline]
    pub(crate) fn put_back_later<E: Entries>(&mut self, e: &mut E, i: u32, when: u64) {
        self.later.as_mut().expect("made by the first split").insert(e, i, when);
    }

    /// Inserts an entry that would have been split off, had it been there, and would not have been
    /// taken yet; returns whether it is one. *O*(backlogs).
    #[inline]
    pub(crate) fn insert_if_ahead<E: Entries>(&mut self, e: &mut E, i: u32, when: u64) -> bool {
        match self.used.iter_mut().find(|backlog| when <= backlog.until) {
            Some(Backlog { raw, passed, .. }) if raw.cursor().max(*passed) < when => {
                raw.insert(e, i, when);
                true
            }
            _ => false,
        }
    }

    /// Where a linked entry is; `None`: in the wheel. *O*(backlogs).
    #[inline]
    pub(crate) fn place<E: Entries>(&self, e: &E, i: u32) -> Option<Place> {
        let slot = e.slot(i);
        if slot >= SECOND {
            return Some(Place::Later);
        }
        if self.used.is_empty() {
            return None;
        }
        let start = (slot < LATE).then(|| *bounds(e.when(i), slot).start());
        let holds = |backlog: &Backlog| match start {
            Some(start) => start <= backlog.until,
            None => slot == backlog.raw.late(),
        };
        self.used.iter().position(holds).map(Place::Backlog)
    }

    /// Unlinks an entry from where it [is](Self::place). *O*(1).
    #[inline]
    pub(crate) fn remove<E: Entries>(&mut self, e: &mut E, place: Place, i: u32) {
        match place {
            Place::Backlog(n) => self.used[n].raw.remove(e, i),
            Place::Later => self.later.as_mut().expect("made by the first split").remove(e, i),
        }
    }

    /// Lets go of those that have become empty.
    pub(crate) fn discard_empty(&mut self) {
        self.spare.extend(self.used.extract_if(.., |backlog| backlog.raw.is_empty()));
    }

    /// How many entries they hold, with those that are due later.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn entries(&self) -> usize {
        let later = self.later.as_ref().map_or(0, Raw::len);
        self.used.iter().map(|backlog| backlog.raw.len()).sum::<usize>() + later
    }

    /// Checks the module's invariants. *O*(entries).
    #[cfg(any(test, fuzzing))]
    pub(crate) fn invariants<E: Entries>(&self, e: &E) {
        assert!(self.used.is_sorted_by_key(|backlog| backlog.until), "out of order");
        assert!(
            self.spare.iter().all(|backlog| backlog.raw.is_empty()),
            "a spare one is not empty"
        );
        let all = self.used.iter().enumerate().map(|(n, b)| (&b.raw, Place::Backlog(n)));
        for (raw, place) in all.chain(self.later.iter().map(|later| (later, Place::Later))) {
            raw.invariants(e);
            for i in raw.iter(e) {
                assert_eq!(self.place(e, i), Some(place), "entry {i} does not know where it is");
            }
        }
    }
}
