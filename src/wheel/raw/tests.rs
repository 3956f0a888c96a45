use super::super::slab::Slab;
use super::*;
use crate::wheel::backlog::{Backlogs, MOST, Place, Policy};
use crate::wheel::coalesce;

/// A wheel, its entries, and the time.
struct Bench {
    raw: Raw,
    e: Slab<()>,
    takes: usize,
}

impl Bench {
    fn new(start: u64) -> Self {
        Self { raw: Raw::new(start), e: Slab::with_capacity(0), takes: 0 }
    }

    fn entry(&mut self) -> u32 {
        let key = self.e.insert(());
        self.e.find(key).unwrap()
    }

    fn insert(&mut self, when: u64) -> u32 {
        let i = self.entry();
        self.raw.insert(&mut self.e, i, when);
        self.check();
        i
    }

    fn remove(&mut self, i: u32) {
        self.raw.remove(&mut self.e, i);
        self.e.remove(i);
        self.check();
    }

    /// Takes until nothing is due; returns what was, in the order in which it came.
    fn run(&mut self, now: u64) -> Vec<u64> {
        let mut due = vec![];
        while let Some(i) = self.raw.take(&mut self.e, now) {
            self.takes += 1;
            let when = self.e.when(i);
            if when <= now {
                due.push(when);
                self.e.remove(i);
            } else {
                self.raw.insert(&mut self.e, i, when);
            }
            self.check();
        }
        assert!(!self.raw.is_due(now));
        assert!(self.raw.next_expiration().is_none_or(|at| at > now), "would spin at {now}");
        due
    }

    fn check(&self) {
        self.raw.invariants(&self.e);
    }
}

/// Starts at which digits, and whole levels, are about to wrap.
const STARTS: [u64; 9] = [
    0,
    63,
    (1 << 36) - 1,
    // 2^30 ms and 2^36 ms of uptime.
    (1 << 30) * 1_000_000 - 1,
    (1 << 36) * 1_000_000 - 1,
    (1 << 60) - 1,
    u64::MAX / 2,
    u64::MAX - (1 << 36),
    u64::MAX - 64,
];

#[test]
fn an_entry_is_due_at_its_own_time_and_not_a_nanosecond_before() {
    for start in STARTS {
        for bit in 0..64 {
            let Some(when) = start.checked_add(1 << bit) else { continue };
            let mut b = Bench::new(start);
            b.insert(when);
            assert_eq!(b.raw.next_expiration(), Some(when));
            assert_eq!(b.run(when - 1), []);
            assert_eq!(b.raw.next_expiration(), Some(when));
            assert_eq!(b.run(when), [when]);
            assert!(b.raw.is_empty());
            assert_eq!(b.raw.next_expiration(), None);
        }
    }
}

#[test]
fn a_lone_entry_costs_one_take_if_asked_when_it_says() {
    let mut b = Bench::new(12_345);
    b.insert(u64::MAX);
    let at = b.raw.next_expiration().unwrap();
    assert_eq!(b.run(at), [u64::MAX]);
    assert_eq!(b.takes, 1);
}

#[test]
fn the_end_of_time_is_a_time() {
    let mut b = Bench::new(u64::MAX - 1);
    b.insert(u64::MAX);
    assert_eq!(b.run(u64::MAX - 1), []);
    assert_eq!(b.run(u64::MAX), [u64::MAX]);
    assert_eq!(b.raw.cursor(), u64::MAX);
    b.insert(u64::MAX);
    b.insert(0);
    assert_eq!(b.raw.next_expiration(), Some(0));
    assert_eq!(b.run(u64::MAX), [u64::MAX, 0]);
}

#[test]
fn what_is_inserted_late_is_taken_at_once_and_first() {
    let mut b = Bench::new(1000);
    b.insert(1001);
    b.insert(10);
    b.insert(1000);
    assert_eq!(b.raw.next_expiration(), Some(10));
    assert_eq!(b.run(1000), [10, 1000]);
    assert_eq!(b.run(1001), [1001]);
}

/// In a wheel that counts rotations, the slot at the cursor may hold what is due now or a rotation
/// away. Here one rotation away is another digit higher up, hence another level.
#[test]
fn the_slot_at_the_cursor_never_holds_entries_a_rotation_away() {
    for start in STARTS {
        for level in 0..LEVELS {
            let width = 1_u64 << (BITS * u32::try_from(level).unwrap());
            let Some(rotation) = width.checked_mul(64) else { continue };
            let mut b = Bench::new(start);
            // The same slot value one rotation on, the slot before it, and the one after.
            let whens: Vec<_> = [rotation - width, rotation, rotation + width]
                .into_iter()
                .filter_map(|ahead| start.checked_add(ahead))
                .collect();
            for &when in &whens {
                b.insert(when);
            }
            for &when in &whens {
                assert_eq!(b.run(when - 1), []);
                assert_eq!(b.run(when), [when]);
            }
        }
    }
}

#[test]
fn a_later_fine_entry_does_not_hide_an_earlier_coarse_one() {
    let mut b = Bench::new(0);
    let coarse = (1 << 24) + 5;
    b.insert(coarse);
    assert_eq!(b.run((1 << 24) - 1), []);
    // Far on the level below, seen from a cursor that is just short of the coarse one's slot.
    let fine = (1 << 24) + (1 << 18);
    b.insert(fine);
    assert_eq!(b.raw.next_expiration(), Some(coarse));
    assert_eq!(b.run(coarse), [coarse]);
    assert_eq!(b.raw.next_expiration(), Some(fine));
    assert_eq!(b.run(fine), [fine]);
}

#[test]
fn an_entry_is_removed_from_the_slot_that_it_was_put_in() {
    let mut b = Bench::new(0);
    let when = (1 << 30) + (1 << 12);
    let (early, late) = (b.insert(1 << 30), b.insert(when));
    let slot = b.e.slot(late);
    assert_eq!(b.run((1 << 30) - 1), []);
    assert_eq!(b.e.slot(late), slot);
    assert_ne!(slot_of(b.raw.cursor() + 1, when), slot, "the level it would be on by now");
    b.remove(late);
    b.remove(early);
    assert!(b.raw.is_empty());
    assert_eq!(b.raw.levels, 0);
}

#[test]
fn an_open_slot_emptied_by_removal_is_closed() {
    let mut b = Bench::new(0);
    let whens = [(1 << 18) + 7, (1 << 18) + 9];
    let entries = whens.map(|when| b.insert(when));
    let i = b.raw.take(&mut b.e, 1 << 18).unwrap();
    assert_eq!(i, entries[0]);
    b.remove(entries[1]);
    assert_eq!(b.run((1 << 24) + (1 << 18) - 1), []);
    // The same slot, a rotation later: not due with what is before it.
    b.insert((1 << 24) + (1 << 18) + 1);
    b.insert((1 << 24) + (1 << 18));
    assert_eq!(b.run((1 << 24) + (1 << 18)), [(1 << 24) + (1 << 18)]);
}

#[test]
fn the_slot_that_contains_now_is_looked_at_once_for_each_of_its_levels() {
    // All in one microsecond, `now` in their midst, at every nanosecond of it.
    let mut b = Bench::new(0);
    let base = 1 << 40;
    for ns in 0..1024 {
        b.insert(base + ns);
    }
    for ns in 0..1024 {
        assert_eq!(b.run(base + ns), [base + ns]);
    }
    assert!(b.takes <= 1024 * (MAX_CASCADES + 1), "{} takes", b.takes);
    assert_eq!(b.run(base + 1024), []);
}

#[test]
fn an_entry_is_taken_at_most_once_on_each_level() {
    // The worst case: every digit has to be reached one by one.
    let mut b = Bench::new(0);
    let when = u64::MAX;
    b.insert(when);
    for level in (0..LEVELS).rev() {
        let start = when >> (BITS as usize * level) << (BITS as usize * level);
        assert_eq!(b.run(start).len(), usize::from(start == when));
    }
    assert_eq!(b.takes, MAX_CASCADES + 1);
}

#[test]
fn next_expiration_is_never_in_the_past_once_nothing_is_due() {
    // Crowded slots, of every width, asked about whenever they say.
    for bit in [3, 9, 15, 21, 27, 33] {
        let mut b = Bench::new(7);
        for k in 0..200 {
            b.insert((1 << bit) + k * 3);
        }
        let (mut now, mut wakes, mut fired) = (7, 0, 0);
        while let Some(at) = b.raw.next_expiration() {
            assert!(at > now);
            now = at;
            fired += b.run(now).len();
            wakes += 1;
        }
        assert_eq!(fired, 200);
        assert!(wakes <= 200 + LEVELS, "{wakes} wakes");
    }
}

#[test]
fn a_crowded_wide_slot_is_cascaded_before_its_first_entry_is_due() {
    let mut b = Bench::new(0);
    for k in 0..=u64::from(THIN) {
        b.insert((1 << 30) + (1 << 20) + k);
    }
    assert_eq!(b.raw.next_expiration(), Some(1 << 30));
    assert_eq!(b.run(1 << 30), []);
    let first = (1 << 30) + (1 << 20);
    assert_eq!(b.raw.next_expiration(), Some(first));
}

#[test]
fn a_removed_minimum_costs_one_wake_at_most() {
    let mut b = Bench::new(0);
    let first = b.insert((1 << 30) + 1);
    let last = (1 << 30) + 1_000_000;
    b.insert(last);
    b.remove(first);
    let at = b.raw.next_expiration().unwrap();
    assert!(at <= last);
    assert_eq!(b.run(at), []);
    assert_eq!(b.raw.next_expiration(), Some(last));
}

#[test]
fn a_burst_can_be_taken_bit_by_bit() {
    // A uniform timeout fills one slot; a budget of one take at a time empties it.
    let mut b = Bench::new(0);
    let whens: Vec<u64> = (0..1000).map(|k| (1 << 35) + k).collect();
    for &when in &whens {
        b.insert(when);
    }
    let mut due = vec![];
    let now = (1 << 35) + 499;
    while let Some(i) = b.raw.take(&mut b.e, now) {
        b.check();
        let when = b.e.when(i);
        if when <= now {
            due.push(when);
        } else {
            b.raw.insert(&mut b.e, i, when);
        }
        // Whoever comes in the meantime is neither lost nor in the way.
        let (early, far) = (b.insert(now - 1), b.insert(u64::MAX));
        b.remove(early);
        b.remove(far);
    }
    assert_eq!(due, whens[..500]);
    assert_eq!(b.run(u64::MAX).len(), 500);
}

#[test]
fn in_turn_means_behind_what_has_the_same_time() {
    let mut b = Bench::new(0);
    let when = (1 << 20) + 3;
    let entries = [b.insert(when), b.insert(when)];
    assert_eq!(b.raw.take(&mut b.e, 1 << 20), Some(entries[0]));
    b.raw.insert(&mut b.e, entries[0], when);
    // The second of the two is still in the slot above.
    let last = b.entry();
    b.raw.insert_in_turn(&mut b.e, last, when);
    b.check();
    let mut order = vec![];
    while let Some(i) = b.raw.take(&mut b.e, when) {
        if b.raw.overtakes(when) {
            b.raw.insert(&mut b.e, i, when);
        } else {
            order.push(i);
        }
        b.check();
    }
    assert_eq!(order, [entries[0], entries[1], last]);
}

#[test]
fn time_that_goes_back_finds_nothing_and_moves_nothing() {
    let mut b = Bench::new(0);
    assert_eq!(b.run(5000), []);
    b.insert(4000);
    assert_eq!(b.raw.take(&mut b.e, 4500), None);
    assert!(!b.raw.is_due(4500));
    assert_eq!(b.raw.cursor(), 5000);
    assert_eq!(b.run(5000), [4000]);
}

#[test]
fn a_split_leaves_what_is_ahead_and_takes_what_is_due() {
    for start in STARTS {
        let mut b = Bench::new(start);
        let mut backlogs = Backlogs::new(Policy::EARLIEST);
        let at = |ns: u64| start.checked_add(ns);
        let whens: Vec<u64> =
            (0..64).flat_map(|bit| [at(1 << bit), at((1 << bit) + 1)]).flatten().collect();
        let entries: Vec<u32> = whens.iter().map(|&when| b.insert(when)).collect();
        b.insert(start);
        let now = start.saturating_add(1 << 30);
        backlogs.split_due(&mut b.raw, now);
        b.check();
        backlogs.invariants(&b.e);
        assert_eq!(b.raw.cursor(), now);
        assert!(!b.raw.is_due(now));
        for (&i, &when) in entries.iter().zip(&whens) {
            assert!(when > now || backlogs.place(&b.e, i).is_some(), "{when} is due at {now}");
        }

        // Both of the slots' names and the late list are used again meanwhile.
        let late = b.insert(now);
        assert!(backlogs.place(&b.e, late).is_none());
        for &when in &whens {
            if let Some(when) = when.checked_add(now - start) {
                let i = b.insert(when);
                assert!(backlogs.place(&b.e, i).is_none(), "{when} was inserted after the split");
                b.remove(i);
            }
        }
        backlogs.invariants(&b.e);

        // Every other one is removed, from where it is.
        for &i in entries.iter().step_by(2) {
            match backlogs.place(&b.e, i) {
                Some(place) => backlogs.remove(&mut b.e, place, i),
                None => b.raw.remove(&mut b.e, i),
            }
            b.e.remove(i);
            b.check();
            backlogs.invariants(&b.e);
        }
        let mut due = vec![];
        while let Some(i) = backlogs.take(&mut b.e, 0) {
            let when = b.e.when(i);
            if when <= now {
                due.push(when)
            } else {
                backlogs.put_back(&mut b.e, 0, &mut b.raw, i, when)
            }
            b.check();
            backlogs.invariants(&b.e);
        }
        backlogs.discard_empty();
        assert!(backlogs.is_empty());
        let kept = whens.iter().skip(1).step_by(2);
        let mut expected: Vec<u64> = kept.copied().filter(|&when| when <= now).collect();
        expected.insert(0, start);
        assert_eq!(due, expected);

        // Empty again, it serves for the next storm.
        backlogs.split_due(&mut b.raw, u64::MAX);
        assert!(b.raw.is_empty());
        assert_eq!(backlogs.place(&b.e, late), Some(Place::Backlog(0)));
        assert_eq!(backlogs.entries() + due.len(), whens.len() / 2 + 2);
    }
}

#[test]
fn crowds_are_split_off_one_after_the_other_until_all_backlogs_are_in_use() {
    let mut b = Bench::new(0);
    let mut backlogs = Backlogs::new(Policy::EARLIEST);
    // Nothing is due: no backlog.
    backlogs.split_due(&mut b.raw, 5);
    assert!(backlogs.is_empty());
    let mut crowds = vec![];
    for n in 0..=u64::from(MOST) {
        let now = 10 * (n + 1);
        crowds.push([now - 1, now].map(|when| b.insert(when)));
        backlogs.split_due(&mut b.raw, now);
        backlogs.invariants(&b.e);
        b.check();
    }
    for (n, crowd) in crowds.iter().enumerate() {
        for &i in crowd {
            assert_eq!(
                backlogs.place(&b.e, i),
                (n < usize::from(MOST)).then_some(Place::Backlog(n))
            );
        }
    }
    // What comes too late for its place belongs to the first that still has it before it.
    let (ahead, late) = (b.entry(), b.entry());
    assert!(backlogs.insert_if_ahead(&mut b.e, ahead, 28));
    assert_eq!(backlogs.place(&b.e, ahead), Some(Place::Backlog(2)));
    backlogs.invariants(&b.e);
    assert!(!backlogs.insert_if_ahead(&mut b.e, late, 10 * u64::from(MOST) + 1));
    // One that has become empty serves again.
    for i in crowds[0] {
        backlogs.remove(&mut b.e, Place::Backlog(0), i);
    }
    backlogs.discard_empty();
    assert_eq!(backlogs.len(), usize::from(MOST) - 1);
    backlogs.split_due(&mut b.raw, 10 * (u64::from(MOST) + 1));
    assert!(b.raw.is_empty());
    assert_eq!(backlogs.len(), usize::from(MOST));
    backlogs.invariants(&b.e);
}

#[test]
fn coalesce_finds_the_one_roundest_time_in_range() {
    for when in (0..300).chain(u64::MAX - 300..=u64::MAX) {
        for slack in (0..70).chain([u64::MAX]) {
            let end = when.saturating_add(slack);
            let found = coalesce(when, slack);
            assert!(when <= found && found <= end);
            for other in (when..=end).take(100) {
                assert!(other == found || other.trailing_zeros() < found.trailing_zeros());
            }
        }
    }
}

#[test]
fn a_coalesced_entry_is_not_cascaded() {
    let mut b = Bench::new(123_456_789);
    let when = coalesce(10_123_456_789, 1 << 30);
    b.insert(when);
    // Many neighbours make its slot's start a wake.
    for k in 1..=100 {
        b.insert(when + k);
    }
    let at = b.raw.next_expiration().unwrap();
    assert_eq!(at, when);
    assert_eq!(b.run(at), [when]);
}
