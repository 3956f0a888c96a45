//! Random operations on the wheel, against oracles: for property tests and for fuzzing.
//!
//! A fuzz target is one line: `fuzz_target!(|bytes: &[u8]| harness::fuzz(bytes));`.

use std::collections::BTreeMap;

use super::{
    Key, Wheel,
    backlog::{Backlogs, MOST, Place, Policy},
    list::Entries,
    raw::{MAX_CASCADES, Raw},
    slab::Slab,
};

/// One operation. Whatever it names by number is taken modulo what there is.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_enums, reason = "for tests only")]
pub enum Op {
    /// Arms a timer at a time relative to now.
    Insert(Span),
    /// Arms a timer at the deadline of another.
    Twin(u16),
    /// Cancels a timer.
    Remove(u16),
    /// Gives a timer another deadline.
    Reset(u16, Span),
    /// Uses a key that has gone stale.
    Stale(u16, Span),
    /// Moves time by a span, and does so much work.
    Advance(Span, u16),
    /// Moves time to the next expiration, and does so much work.
    Next(u16),
    /// Moves time to the next expiration, and does all work, one by one.
    Finish,
    /// Pops so many expired timers; on a bare wheel, moves what is due to a backlog.
    Pop(u16),
    /// Cancels everything.
    Clear,
    /// Makes room for so many more.
    Reserve(u16),
    /// Gives back memory.
    Shrink,
}

/// A distance in time that is likely to be just off a boundary: 2^`bit` ns, and a bit more or less.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    bit: u8,
    offset: i8,
}

impl Span {
    fn from(self, now: u64) -> u64 {
        now.saturating_add(1 << (self.bit % 64)).saturating_add_signed(self.offset.into())
    }
}

impl Op {
    /// Every six bytes are an operation.
    #[must_use]
    pub fn decode([kind, bit, offset, low, high, budget]: [u8; 6]) -> Self {
        let span = Span { bit, offset: offset.cast_signed() };
        let pick = u16::from_le_bytes([low, high]);
        match kind % 32 {
            0..12 => Self::Insert(span),
            12..14 => Self::Twin(pick),
            14..17 => Self::Remove(pick),
            17..20 => Self::Reset(pick, span),
            20 => Self::Stale(pick, span),
            // Not by years every time, or few timers would see the next operation.
            21..23 => Self::Advance(Span { bit: bit % 36, ..span }, u16::from(budget % 16)),
            23 => Self::Advance(span, u16::from(budget)),
            24..28 => Self::Next(u16::from(budget % 16)),
            28 => Self::Finish,
            29..31 => Self::Pop(u16::from(budget % 16)),
            _ => match budget {
                0 => Self::Clear,
                1..8 => Self::Reserve(pick % 1024),
                8..64 => Self::Shrink,
                _ => Self::Pop(u16::from(budget)),
            },
        }
    }
}

/// Runs what the bytes say on both: eight for the start, then operations.
///
/// # Panics
///
/// If a wheel and its oracle disagree.
pub fn fuzz(bytes: &[u8]) {
    let Some((start, ops)) = bytes.split_first_chunk() else { return };
    let ops: Vec<Op> = ops.as_chunks().0.iter().copied().map(Op::decode).collect();
    run(u64::from_le_bytes(*start), &ops);
    run_split(u64::from_le_bytes(*start), false, &ops);
    run_split(u64::from_le_bytes(*start), true, &ops);
}

/// Runs `ops` on a [`Wheel`].
///
/// # Panics
///
/// If the wheel and its oracle disagree.
pub fn run(start_ns: u64, ops: &[Op]) {
    let mut model = Model::new(start_ns);
    for &op in ops {
        model.apply(op);
        model.check();
    }
    model.advance(u64::MAX, usize::MAX);
    model.pop(usize::MAX);
    assert!(model.wheel.is_empty());
    model.check();
}

struct Model {
    /// The value of a timer is the order in which it was armed.
    wheel: Wheel<u64>,
    now: u64,
    armed_so_far: u64,
    /// By deadline and order of arming.
    armed: BTreeMap<(u64, u64), Key>,
    /// In the order in which they are to be popped.
    ready: Vec<((u64, u64), Key)>,
    stale: Vec<Key>,
}

impl Model {
    fn new(start: u64) -> Self {
        Self {
            wheel: Wheel::new(start),
            now: start,
            armed_so_far: 0,
            armed: BTreeMap::new(),
            ready: vec![],
            stale: vec![],
        }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Insert(span) => self.insert(span.from(self.now)),
            Op::Twin(pick) => {
                if let Some(((deadline, _), _)) = self.pick(pick) {
                    self.insert(deadline);
                }
            }
            Op::Remove(pick) => {
                if let Some((at, key)) = self.pick(pick) {
                    self.forget(at, key);
                    assert_eq!(self.wheel.remove(key), Some(at.1));
                    self.stale.push(key);
                }
            }
            Op::Reset(pick, span) => {
                if let Some((at, key)) = self.pick(pick) {
                    let deadline = span.from(self.now);
                    self.forget(at, key);
                    assert!(self.wheel.reset(key, deadline));
                    *self.wheel.get_mut(key).unwrap() = self.armed_so_far;
                    self.armed.insert((deadline, self.armed_so_far), key);
                    self.armed_so_far += 1;
                }
            }
            Op::Stale(pick, span) => {
                if let Some(&key) = nth(&self.stale, pick) {
                    assert!(!self.wheel.contains(key));
                    assert!(!self.wheel.reset(key, span.from(self.now)));
                    assert_eq!(self.wheel.get(key), None);
                    assert_eq!(self.wheel.get_mut(key), None);
                    assert_eq!(self.wheel.deadline(key), None);
                    assert_eq!(self.wheel.remove(key), None);
                }
            }
            Op::Advance(span, budget) => {
                self.advance(span.from(self.now), budget.into());
            }
            Op::Next(budget) => {
                let at = self.wheel.next_expiration().unwrap_or(self.now);
                self.advance(at, budget.into());
            }
            Op::Finish => {
                let at = self.wheel.next_expiration().unwrap_or(self.now);
                let limit = (MAX_CASCADES + 1) * self.wheel.len();
                let calls = (0..).take_while(|_| self.advance(at, 1)).count();
                assert!(calls <= limit, "{calls} calls");
                // Armed or removed nothing since, popped everything: time must not stand still.
                self.pop(usize::MAX);
                assert!(self.wheel.next_expiration().is_none_or(|at| at > self.now), "spins");
            }
            Op::Pop(n) => self.pop(n.into()),
            Op::Clear => {
                self.wheel.clear();
                self.stale.extend(self.armed.values());
                self.stale.extend(self.ready.iter().map(|&(_, key)| key));
                self.armed.clear();
                self.ready.clear();
            }
            Op::Reserve(additional) => {
                self.wheel.reserve(additional.into());
                assert!(self.wheel.capacity() >= self.wheel.len() + usize::from(additional));
            }
            Op::Shrink => {
                let before = self.wheel.capacity();
                self.wheel.shrink_to_fit();
                assert!((self.wheel.len()..=before).contains(&self.wheel.capacity()));
                assert!(self.stale.iter().all(|&key| !self.wheel.contains(key)));
            }
        }
    }

    fn insert(&mut self, deadline: u64) {
        let key = self.wheel.insert(deadline, self.armed_so_far);
        assert!(!self.stale.contains(&key), "a stale key names another timer");
        self.armed.insert((deadline, self.armed_so_far), key);
        self.armed_so_far += 1;
    }

    /// One of the live timers.
    fn pick(&self, pick: u16) -> Option<((u64, u64), Key)> {
        let live: Vec<_> =
            self.armed.iter().map(|(&at, &key)| (at, key)).chain(self.ready.clone()).collect();
        nth(&live, pick).copied()
    }

    fn forget(&mut self, at: (u64, u64), key: Key) {
        assert_eq!(self.wheel.get(key), Some(&at.1));
        if self.armed.remove(&at).is_none() {
            self.ready.retain(|&(_, ready)| ready != key);
        }
    }

    /// Returns whether there is more.
    fn advance(&mut self, now: u64, budget: usize) -> bool {
        self.now = self.now.max(now);
        let progress = self.wheel.advance(now, budget);
        assert!(progress.expired <= budget);

        let ready = self.wheel.ready.iter(&self.wheel.slab);
        let found: Vec<_> = ready
            .map(|i| ((self.wheel.slab.when(i), self.wheel.slab.value(i)), self.wheel.slab.key(i)))
            .map(|((when, value), key)| ((when, *value.unwrap()), key))
            .collect();
        let (before, batch) = found.split_at(found.len() - progress.expired);
        assert_eq!(before, self.ready, "what was ready is no longer");
        assert!(batch.is_sorted_by_key(|&(at, _)| at), "out of order");
        for &((deadline, order), key) in batch {
            assert!(deadline <= self.now, "{deadline} is early at {}", self.now);
            assert_eq!(self.armed.remove(&(deadline, order)), Some(key));
            let twin = self.armed.range((deadline, 0)..(deadline, order)).next();
            assert_eq!(twin, None, "overtaken by one with the same deadline");
        }
        self.ready = found;
        if !progress.more {
            let due = self.armed.first_key_value().filter(|(at, _)| at.0 <= self.now);
            assert_eq!(due, None, "late");
        }
        progress.more
    }

    fn pop(&mut self, n: usize) {
        for ((deadline, order), key) in self.ready.drain(..n.min(self.ready.len())) {
            let expired = self.wheel.pop_expired().unwrap();
            assert_eq!((expired.deadline_ns, expired.value, expired.key), (deadline, order, key));
            self.stale.push(key);
        }
        if self.ready.is_empty() {
            assert_eq!(self.wheel.pop_expired(), None);
        }
    }

    fn check(&self) {
        self.wheel.invariants();
        assert_eq!(self.wheel.len(), self.armed.len() + self.ready.len());
        assert_eq!(self.wheel.iter().count(), self.wheel.len());
        assert_eq!(self.wheel.now(), self.now);
        let earliest = self.armed.keys().chain(self.ready.iter().map(|(at, _)| at)).min();
        let next = self.wheel.next_expiration();
        assert_eq!(next.is_some(), earliest.is_some());
        let first = self.ready.first().map(|&(at, key)| (at, key));
        let first = first.or_else(|| self.armed.first_key_value().map(|(&at, &key)| (at, key)));
        let peeked = self.wheel.peek().map(|(key, deadline, &order)| ((deadline, order), key));
        assert_eq!(peeked, first);
        assert!(
            self.ready.is_empty() || next.is_some_and(|at| at <= self.now),
            "{next:?} with timers ready"
        );
        if let (Some(&(deadline, _)), true) = (earliest, self.ready.is_empty()) {
            assert!(next.is_some_and(|at| at <= deadline), "{next:?} for a deadline of {deadline}");
        }
        if let Some((&(deadline, order), &key)) = self.armed.last_key_value() {
            assert_eq!(self.wheel.get(key), Some(&order));
            assert_eq!(self.wheel.deadline(key), Some(deadline));
        }
    }
}

/// Runs `ops` on a bare wheel with backlogs.
///
/// # Panics
///
/// If the wheel and its oracle disagree.
pub fn run_split(start_ns: u64, in_order: bool, ops: &[Op]) {
    let mut model = Split::new(start_ns, in_order);
    for &op in ops {
        model.apply(op);
        model.check();
    }
    model.now = u64::MAX;
    model.work(usize::MAX);
    assert!(model.armed.is_empty());
}

struct Split {
    raw: Raw,
    backlogs: Backlogs,
    in_order: bool,
    /// The value of an entry is how often it has been taken.
    slab: Slab<usize>,
    now: u64,
    armed_so_far: u64,
    /// By deadline and order of arming.
    armed: BTreeMap<(u64, u64), u32>,
}

impl Split {
    fn new(start: u64, in_order: bool) -> Self {
        let policy = if in_order { Policy::EARLIEST } else { Policy::FEW };
        Self {
            raw: Raw::new(start),
            backlogs: Backlogs::new(policy),
            in_order,
            slab: Slab::with_capacity(0),
            now: start,
            armed_so_far: 0,
            armed: BTreeMap::new(),
        }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Insert(span) => self.insert(span.from(self.now)),
            Op::Twin(pick) => {
                if let Some((at, _)) = self.pick(pick) {
                    self.insert(at.0);
                }
            }
            Op::Remove(pick) => {
                if let Some((at, i)) = self.pick(pick) {
                    self.armed.remove(&at);
                    self.unlink(i);
                    self.slab.remove(i);
                }
            }
            Op::Reset(pick, span) => {
                if let Some((at, i)) = self.pick(pick) {
                    self.armed.remove(&at);
                    self.unlink(i);
                    self.link(i, span.from(self.now));
                }
            }
            Op::Advance(span, budget) => {
                self.now = self.now.max(span.from(self.now));
                self.work(budget.into());
            }
            Op::Next(budget) => {
                self.now = self.now.max(self.next().unwrap_or(0));
                self.work(budget.into());
            }
            Op::Finish => {
                self.now = self.now.max(self.next().unwrap_or(0));
                self.work(usize::MAX);
                assert!(self.next().is_none_or(|at| at > self.now), "spins");
            }
            Op::Pop(_) => {
                let before = self.backlogs.len();
                self.backlogs.split_due(&mut self.raw, self.now);
                assert!(
                    !self.in_order || before == usize::from(MOST) || !self.raw.is_due(self.now)
                );
            }
            Op::Stale(..) | Op::Clear | Op::Reserve(_) | Op::Shrink => {}
        }
    }

    fn insert(&mut self, when: u64) {
        let key = self.slab.insert(0);
        self.link(key.index(), when);
    }

    fn link(&mut self, i: u32, when: u64) {
        *self.slab.value_mut(i).unwrap() = 0;
        self.raw.insert(&mut self.slab, i, when);
        self.armed.insert((when, self.armed_so_far), i);
        self.armed_so_far += 1;
    }

    fn unlink(&mut self, i: u32) {
        match self.backlogs.place(&self.slab, i) {
            Some(place) => self.backlogs.remove(&mut self.slab, place, i),
            None => self.raw.remove(&mut self.slab, i),
        }
        self.backlogs.discard_empty();
    }

    fn pick(&self, pick: u16) -> Option<((u64, u64), u32)> {
        let live: Vec<_> = self.armed.iter().map(|(&at, &i)| (at, i)).collect();
        nth(&live, pick).copied()
    }

    /// Serves wheel, backlogs and what of them is later by turns.
    fn work(&mut self, budget: usize) {
        let mut idle = 0;
        for turn in 0..budget {
            self.backlogs.discard_empty();
            let backlogs = self.backlogs.len();
            let n = turn % (backlogs + 2);
            let taken = if n < backlogs {
                self.backlogs.take(&mut self.slab, n)
            } else if n == backlogs {
                self.backlogs.take_later_unsorted(&mut self.slab, self.now)
            } else {
                self.raw.take(&mut self.slab, self.now)
            };
            let Some(i) = taken else {
                idle += 1;
                if self.backlogs.is_empty() && idle > 2 {
                    let due = self.armed.first_key_value().filter(|(at, _)| at.0 <= self.now);
                    assert_eq!(due, None, "late");
                    break;
                }
                continue;
            };
            idle = 0;
            let taken = self.slab.value_mut(i).unwrap();
            *taken += 1;
            // Through the wheel and its backlogs once, and through what is later once.
            assert!(*taken <= 2 * MAX_CASCADES + 1, "entry {i} is taken over and over");
            let when = self.slab.when(i);
            if when <= self.now {
                let same = self.armed.range((when, 0)..=(when, u64::MAX));
                let (&at, _) = same.into_iter().find(|&(_, &armed)| armed == i).unwrap();
                self.armed.remove(&at);
                self.slab.remove(i);
            } else if n < backlogs {
                self.backlogs.put_back(&mut self.slab, n, &mut self.raw, i, when);
            } else if n == backlogs {
                self.backlogs.put_back_later(&mut self.slab, i, when);
            } else {
                self.raw.insert(&mut self.slab, i, when);
            }
        }
    }

    fn check(&self) {
        self.raw.invariants(&self.slab);
        self.backlogs.invariants(&self.slab);
        assert_eq!(self.raw.len() + self.backlogs.entries(), self.armed.len());
        assert_eq!(self.slab.invariants(), self.armed.len());
        let inside = self.armed.iter().find(|&(_, &i)| {
            !matches!(self.backlogs.place(&self.slab, i), Some(Place::Backlog(_)))
        });
        let next = self.next();
        assert_eq!(next.is_some(), inside.is_some());
        if let Some((&(when, _), _)) = inside {
            assert!(next.is_some_and(|at| at <= when), "{next:?} for {when}");
        }
    }

    /// When the wheel or what is later wants to be looked at.
    fn next(&self) -> Option<u64> {
        self.raw.next_expiration().into_iter().chain(self.backlogs.next_later()).min()
    }
}

fn nth<T>(all: &[T], pick: u16) -> Option<&T> {
    if all.is_empty() { None } else { Some(&all[usize::from(pick) % all.len()]) }
}
