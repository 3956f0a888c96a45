use std::panic::{AssertUnwindSafe, catch_unwind};

use proptest::prelude::*;

use super::harness::{Op, run, run_split};
use super::*;

/// Advances and pops everything that is due.
fn expire<T>(wheel: &mut Wheel<T>, now: u64) -> Vec<T> {
    let progress = wheel.advance(now, usize::MAX);
    assert!(!progress.more);
    let values = std::iter::from_fn(|| wheel.pop_expired()).map(|it| it.value).collect();
    wheel.invariants();
    values
}

fn starts() -> impl Strategy<Value = u64> {
    let uptime = (1_u64 << 36) * 1_000_000;
    prop_oneof![
        Just(0),
        0..1_u64 << 20,
        uptime - 1000..uptime + 1000,
        any::<u64>(),
        u64::MAX - (1 << 40)..,
        u64::MAX - 300..,
    ]
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    prop::collection::vec(any::<[u8; 6]>().prop_map(Op::decode), 1..200)
}

proptest! {
    #[test]
    fn a_wheel_does_what_a_sorted_map_does(start in starts(), ops in ops()) {
        run(start, &ops);
    }

    #[test]
    fn a_wheel_and_its_backlog_do_what_a_sorted_map_does(start in starts(), ops in ops()) {
        run_split(start, false, &ops);
        run_split(start, true, &ops);
    }
}

#[test]
fn timers_expire_by_deadline_and_those_of_one_deadline_as_they_were_armed() {
    let mut wheel = Wheel::new(0);
    for (i, deadline) in [500, 100, 500, 7, 100, 500].into_iter().enumerate() {
        wheel.insert(deadline, i);
    }
    assert_eq!(expire(&mut wheel, 1000), [3, 1, 4, 0, 2, 5]);
}

#[test]
fn equal_deadlines_keep_their_order_whatever_the_budget() {
    // One is armed while the slot that the others are in is being emptied.
    for budget in 1..6 {
        let deadline = (1 << 30) + 12_345;
        let mut wheel = Wheel::new(0);
        wheel.insert(deadline, 0);
        wheel.insert(deadline, 1);
        let mut seen = vec![];
        let mut next = 2;
        for now in [1 << 30, (1 << 30) + 1, deadline - 1, deadline, deadline, deadline, deadline] {
            let _ = wheel.advance(now, budget);
            wheel.insert(deadline, next);
            next += 1;
            seen.extend(std::iter::from_fn(|| wheel.pop_expired()).map(|it| it.value));
            wheel.invariants();
        }
        seen.extend(expire(&mut wheel, deadline));
        assert_eq!(seen, (0..next).collect::<Vec<_>>());
    }
}

#[test]
fn a_deadline_that_has_passed_expires_in_the_next_advance() {
    let mut wheel = Wheel::new(1000);
    wheel.insert(1, ());
    assert_eq!(wheel.next_expiration(), Some(1));
    assert_eq!(expire(&mut wheel, 0).len(), 1);
}

#[test]
fn a_reset_from_the_past_or_to_the_past_is_not_missed() {
    let mut wheel = Wheel::new(1000);
    let key = wheel.insert(2000, ());
    assert!(wheel.reset(key, 10));
    assert_eq!(wheel.next_expiration(), Some(10));
    assert!(wheel.reset(key, 3000));
    assert_eq!(expire(&mut wheel, 2999), []);
    assert!(wheel.reset(key, 5));
    assert_eq!(expire(&mut wheel, 2999), [()]);
}

#[test]
fn removing_the_last_timer_leaves_nothing_to_wait_for() {
    let mut wheel = Wheel::new(0);
    let key = wheel.insert(1 << 50, ());
    wheel.remove(key);
    assert_eq!(wheel.next_expiration(), None);
}

#[test]
fn a_ready_timer_can_still_be_cancelled_or_armed_again() {
    let mut wheel = Wheel::new(0);
    let keys = [10, 20, 30, 40].map(|deadline| wheel.insert(deadline, deadline));
    assert_eq!(wheel.advance(100, usize::MAX).expired, 4);
    assert_eq!(wheel.pop_expired().map(|it| it.value), Some(10));
    assert_eq!(wheel.remove(keys[0]), None);
    assert_eq!(wheel.remove(keys[1]), Some(20));
    assert!(wheel.reset(keys[2], 500));
    assert_eq!(wheel.pop_expired().map(|it| it.value), Some(40));
    assert_eq!(wheel.pop_expired(), None);
    assert_eq!(wheel.next_expiration(), Some(500));
    assert_eq!(expire(&mut wheel, 500), [30]);
}

#[test]
fn time_that_goes_backwards_stands_still() {
    let mut wheel = Wheel::new(1000);
    wheel.insert(1500, ());
    assert_eq!(expire(&mut wheel, 1400), []);
    assert_eq!(expire(&mut wheel, 0), []);
    assert_eq!(wheel.now(), 1400);
    wheel.insert(1200, ());
    assert_eq!(expire(&mut wheel, 100), [()]);
    assert_eq!(expire(&mut wheel, 1500), [()]);
}

#[test]
fn a_budget_bounds_a_call_and_loses_nothing() {
    // A uniform timeout: everything is in one slot and due at once.
    let mut wheel = Wheel::new(0);
    for i in 0..1000_u64 {
        wheel.insert((1 << 40) + i, i);
    }
    let (mut seen, mut calls) = (0, 0);
    loop {
        let progress = wheel.advance((1 << 40) + 5000, 64);
        calls += 1;
        assert!(progress.expired <= 64);
        while let Some(expired) = wheel.pop_expired() {
            assert_eq!(expired.value, seen);
            seen += 1;
        }
        if !progress.more {
            break;
        }
    }
    assert_eq!((seen, calls), (1000, 16));
}

#[test]
fn a_budget_of_zero_only_moves_time() {
    let mut wheel = Wheel::new(0);
    wheel.insert(10, ());
    let progress = wheel.advance(10, 0);
    assert_eq!((progress.expired, progress.more, wheel.now()), (0, true, 10));
}

#[test]
fn whoever_panics_between_two_timers_loses_only_the_one_at_hand() {
    let mut wheel = Wheel::new(0);
    let keys: Vec<_> = (0..10_u64).map(|i| wheel.insert(i, i)).collect();
    let caught = catch_unwind(AssertUnwindSafe(|| {
        let _ = wheel.advance(7, usize::MAX);
        while let Some(expired) = wheel.pop_expired() {
            assert!(expired.value != 3, "three");
        }
    }));
    assert!(caught.is_err());
    wheel.invariants();
    assert_eq!(wheel.len(), 6);
    assert!(!wheel.contains(keys[3]));
    assert_eq!(wheel.remove(keys[5]), Some(5));
    assert_eq!(expire(&mut wheel, 7), [4, 6, 7]);
    assert_eq!(expire(&mut wheel, 9), [8, 9]);
}

#[test]
fn what_was_ready_before_a_panic_is_ready_after_it() {
    let mut wheel = Wheel::new(0);
    for i in 0..4_u64 {
        wheel.insert(i, i);
    }
    let caught = catch_unwind(AssertUnwindSafe(|| {
        let _ = wheel.advance(3, usize::MAX);
        assert_ne!(wheel.pop_expired().map(|it| it.value), Some(0));
    }));
    assert!(caught.is_err());
    assert_eq!(wheel.next_expiration(), Some(0));
    let rest: Vec<_> = std::iter::from_fn(|| wheel.pop_expired()).map(|it| it.value).collect();
    assert_eq!(rest, [1, 2, 3]);
}

#[test]
fn a_stale_key_never_names_the_next_timer_in_its_place() {
    let mut wheel = Wheel::new(0);
    let mut stale = vec![];
    for _ in 0..1000 {
        let key = wheel.insert(10, ());
        assert!(stale.iter().all(|&old| old != key && !wheel.contains(old)));
        wheel.remove(key);
        stale.push(key);
    }
    assert_eq!(wheel.slab.end(), 1, "the place is used again");
}

#[test]
fn a_place_whose_keys_are_used_up_is_retired() {
    let mut wheel = Wheel::new(0);
    let first = wheel.insert(10, 'a');
    wheel.slab.wear_out(first.index(), 1);
    let last = wheel.iter().next().unwrap().0;
    assert_eq!(wheel.remove(last), Some('a'));
    let next = wheel.insert(10, 'b');
    assert_ne!(next.index(), first.index());
    for old in [first, last] {
        assert!(!wheel.contains(old));
        assert_eq!(wheel.remove(old), None);
    }
    wheel.invariants();
    wheel.clear();
    wheel.invariants();
}

#[test]
fn a_place_whose_memory_was_given_back_has_no_key_twice() {
    let mut wheel = Wheel::new(0);
    let mut stale = vec![];
    for round in 0..100 {
        let keys: Vec<_> = (0..=round % 7).map(|i| wheel.insert(10, i)).collect();
        assert!(keys.iter().all(|key| !stale.contains(key)));
        for &key in &keys {
            wheel.remove(key);
        }
        stale.extend(keys);
        wheel.shrink_to_fit();
        assert_eq!(wheel.capacity(), 0);
        wheel.invariants();
    }
}

#[test]
fn a_worn_place_is_remembered_and_wears_no_other() {
    for left in [1, 2] {
        let mut wheel = Wheel::new(0);
        let first = wheel.insert(10, 'a');
        wheel.slab.wear_out(first.index(), left);
        let last = wheel.iter().next().unwrap().0;
        wheel.remove(last);
        wheel.shrink_to_fit();
        assert_eq!(wheel.capacity(), 0);
        wheel.invariants();
        let places = [(); 3].map(|()| {
            let key = wheel.insert(10, 'b');
            assert!(key != last && !wheel.contains(last));
            wheel.remove(key);
            wheel.shrink_to_fit();
            wheel.invariants();
            key.index()
        });
        // As long as it has keys left.
        assert_eq!(places, if left == 2 { [0, 1, 1] } else { [1, 1, 1] });
    }
}

#[test]
fn what_is_left_after_shrinking_works_as_before() {
    let mut wheel = Wheel::new(0);
    let keys: Vec<_> = (0..100).map(|i| wheel.insert(1000 - i, i)).collect();
    for &key in keys.iter().filter(|&&key| key != keys[3] && key != keys[40]) {
        wheel.remove(key);
    }
    wheel.shrink_to_fit();
    wheel.invariants();
    assert_eq!(wheel.capacity(), 41);
    assert!(wheel.reset(keys[3], 2000));
    let next = wheel.insert(1500, 100);
    assert_eq!(next.index(), 0, "the first place is used first");
    assert_eq!(expire(&mut wheel, 2000), [40, 100, 3]);
}

#[test]
fn room_can_be_reserved() {
    let mut wheel = Wheel::new(0);
    let first = wheel.insert(1, 0);
    wheel.insert(1, 0);
    wheel.remove(first);
    wheel.reserve(100);
    let capacity = wheel.capacity();
    assert!(capacity >= 101);
    for i in 1..=100 {
        wheel.insert(1, i);
    }
    assert_eq!(wheel.capacity(), capacity);
}

#[test]
#[should_panic(expected = "at most 2^32 - 1 fit")]
fn more_room_than_there_can_be_panics() {
    Wheel::<()>::new(0).reserve(usize::MAX);
}

#[test]
fn clear_makes_every_key_stale_and_keeps_the_memory() {
    let mut wheel = Wheel::with_capacity(0, 100);
    let keys: Vec<_> = (0..100).map(|i| wheel.insert(i, i)).collect();
    let _ = wheel.advance(50, usize::MAX);
    let capacity = wheel.capacity();
    wheel.clear();
    wheel.invariants();
    assert!(wheel.is_empty());
    assert_eq!(wheel.next_expiration(), None);
    assert_eq!(wheel.pop_expired(), None);
    assert!(keys.iter().all(|&key| !wheel.contains(key)));
    assert_eq!(wheel.capacity(), capacity);
}

#[test]
fn a_drop_that_panics_leaves_the_other_timers_alone() {
    struct Bomb(bool);
    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(!self.0, "bomb");
        }
    }
    let mut wheel = Wheel::new(0);
    for i in 0..3 {
        wheel.insert(i, Bomb(i == 1));
    }
    assert!(catch_unwind(AssertUnwindSafe(|| wheel.clear())).is_err());
    wheel.invariants();
    assert_eq!(expire(&mut wheel, 2).len(), 1);
}

#[test]
fn two_years_of_uptime_and_the_end_of_time_are_nothing_special() {
    for start in [(1 << 30) * 1_000_000, (1 << 36) * 1_000_000, u64::MAX - 5_000_000_000] {
        let mut wheel = Wheel::new(start - 1);
        let deadlines = [0, 1, 999_999, 1_000_000, 5_000_000_000].map(|ahead| start + ahead);
        for &deadline in &deadlines {
            wheel.insert(deadline, deadline);
        }
        wheel.insert(u64::MAX, u64::MAX);
        for &deadline in &deadlines[..4] {
            assert_eq!(wheel.next_expiration(), Some(deadline));
            assert_eq!(expire(&mut wheel, deadline - 1), []);
            assert_eq!(expire(&mut wheel, deadline), [deadline]);
        }
        assert_eq!(expire(&mut wheel, u64::MAX), [deadlines[4], u64::MAX]);
    }
}

#[test]
fn a_timer_is_small() {
    assert_eq!(size_of::<Option<Key>>(), 8);
    assert_eq!(slab::node_size::<u64>(), 40);
    assert_eq!(slab::node_size::<Box<u64>>(), 32);
}
