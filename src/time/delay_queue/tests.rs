//! Each name is a rule, most of them broken once by some delay queue.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;

use super::*;
use crate::Manual;
use crate::time::harness::{self, Wakes};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

struct Bench<T> {
    manual: Manual,
    queue: DelayQueue<T>,
    start: Instant,
    wakes: Arc<Wakes>,
    waker: Waker,
}

impl<T> Bench<T> {
    fn new() -> Self {
        let manual = Manual::new();
        let queue = {
            let _entered = manual.enter();
            DelayQueue::new()
        };
        let (wakes, waker) = Wakes::new();
        Self { start: manual.now(), manual, queue, wakes, waker }
    }

    fn poll(&mut self) -> Poll<Option<T>> {
        let polled = self.queue.poll_expired(&mut Context::from_waker(&self.waker));
        self.queue.invariants();
        polled.map(|expired| expired.map(Expired::into_inner))
    }

    /// What is due now.
    fn drain(&mut self) -> Vec<T> {
        std::iter::from_fn(|| match self.poll() {
            Poll::Ready(item) => item,
            Poll::Pending => None,
        })
        .collect()
    }

    fn pass(&self, duration: Duration) {
        self.manual.fast_forward(duration);
    }

    fn woken(&self) -> bool {
        self.wakes.take() > 0
    }
}

#[test]
fn an_item_comes_at_its_deadline_and_not_a_nanosecond_earlier() {
    let mut it = Bench::new();
    it.queue.insert((), SECOND);
    assert!(it.poll().is_pending());
    it.pass(SECOND - Duration::from_nanos(1));
    assert!(!it.woken());
    assert!(it.poll().is_pending());
    it.pass(Duration::from_nanos(1));
    assert!(it.woken());
    assert_eq!(it.poll(), Poll::Ready(Some(())));
    assert_eq!(it.poll(), Poll::Ready(None));
}

#[test]
fn items_come_in_the_order_of_deadlines_and_equal_ones_in_turn() {
    let mut it = Bench::new();
    // Within a millisecond, across levels of the wheel, and equal.
    let ns = [7_000_000_000_u64, 3, 500, 3, 1_000_000, 999_999, 3, 500, 64, 63, 65, 0];
    for (i, &ns) in ns.iter().enumerate() {
        it.queue.insert((ns, i), Duration::from_nanos(ns));
    }
    it.pass(7 * SECOND);
    let mut sorted: Vec<_> = ns.iter().copied().zip(0..).collect();
    sorted.sort_unstable();
    assert_eq!(it.drain(), sorted);
}

#[test]
fn an_item_of_the_past_comes_before_what_is_due_since() {
    let mut it = Bench::new();
    for ms in [8, 8, 9] {
        it.queue.insert(ms, ms * MS);
    }
    it.pass(10 * MS);
    assert_eq!(it.poll(), Poll::Ready(Some(8)));
    for ms in [6, 4, 6, 8] {
        it.queue.insert_at(ms + 100, it.start + ms * MS);
    }
    let first = it.queue.peek().expect("four are overdue");
    it.queue.reset_at(&first, it.start + 5 * MS);
    assert_eq!(it.drain(), [104, 106, 106, 8, 108, 9]);
}

#[test]
fn an_insert_does_not_hide_an_earlier_item() {
    let mut it = Bench::new();
    it.queue.insert(1, 10 * MS);
    assert!(it.poll().is_pending());
    it.queue.insert(2, 20 * MS);
    it.pass(10 * MS);
    assert!(it.woken());
    assert_eq!(it.drain(), [1]);
    it.pass(10 * MS);
    assert!(it.woken());
    assert_eq!(it.drain(), [2]);
}

#[test]
fn an_earlier_insert_wakes_earlier() {
    let mut it = Bench::new();
    it.queue.insert(2, SECOND);
    assert!(it.poll().is_pending());
    it.queue.insert(1, MS);
    assert!(!it.woken(), "there is nothing to be had yet");
    it.pass(MS);
    assert!(it.woken());
    assert_eq!(it.drain(), [1]);
}

#[test]
fn an_insert_that_is_due_wakes_at_once() {
    for past in [Duration::ZERO, MS] {
        let mut it = Bench::new();
        it.queue.insert(2, SECOND);
        assert!(it.poll().is_pending());
        it.queue.insert_at(1, it.start - past);
        assert!(it.woken());
        assert_eq!(it.drain(), [1]);
    }
}

#[test]
fn an_insert_into_a_queue_that_was_found_empty_wakes() {
    let mut it = Bench::new();
    assert_eq!(it.poll(), Poll::Ready(None));
    let key = it.queue.insert(1, SECOND);
    assert!(it.woken());
    assert!(it.poll().is_pending());
    it.queue.remove(&key);
    assert!(it.woken());
    assert_eq!(it.poll(), Poll::Ready(None));
}

#[test]
fn removing_the_last_item_wakes_and_leaves_no_timer() {
    let mut it = Bench::new();
    let keys = [it.queue.insert(1, SECOND), it.queue.insert(2, 2 * SECOND)];
    assert!(it.poll().is_pending());
    it.queue.remove(&keys[0]);
    assert!(!it.woken());
    it.queue.remove(&keys[1]);
    assert!(it.woken());
    assert_eq!(it.manual.next_deadline(), None);
    assert_eq!(it.poll(), Poll::Ready(None));
}

#[test]
fn clearing_wakes_and_leaves_no_timer() {
    let mut it = Bench::new();
    let key = it.queue.insert(1, SECOND);
    assert!(it.poll().is_pending());
    it.queue.clear();
    assert!(it.woken());
    assert_eq!(it.manual.next_deadline(), None);
    assert!(it.queue.try_remove(&key).is_none());
    it.queue.clear();
    assert!(!it.woken());
    assert_eq!(it.poll(), Poll::Ready(None));
}

#[test]
fn removing_the_first_item_neither_delays_nor_hastens_the_second() {
    let mut it = Bench::new();
    let first = it.queue.insert(1, SECOND);
    it.queue.insert(2, SECOND + MS);
    assert!(it.poll().is_pending());
    it.queue.remove(&first);
    it.pass(SECOND + MS - Duration::from_nanos(1));
    assert!(it.poll().is_pending());
    it.pass(Duration::from_nanos(1));
    assert!(it.woken());
    assert_eq!(it.drain(), [2]);
}

#[test]
fn a_reset_to_later_takes_back_what_was_promised() {
    let mut it = Bench::new();
    let key = it.queue.insert(1, SECOND);
    assert!(it.poll().is_pending());
    it.queue.reset(&key, 3 * SECOND);
    it.pass(2 * SECOND);
    assert!(it.poll().is_pending());
    it.pass(SECOND);
    assert!(it.woken());
    assert_eq!(it.drain(), [1]);
}

#[test]
fn a_reset_to_earlier_wakes_earlier() {
    let mut it = Bench::new();
    it.queue.insert(1, 2 * SECOND);
    let key = it.queue.insert(2, 3 * SECOND);
    assert!(it.poll().is_pending());
    it.queue.reset(&key, SECOND);
    it.pass(SECOND);
    assert!(it.woken());
    assert_eq!(it.drain(), [2]);
    assert!(!it.woken());
    it.pass(SECOND);
    assert!(it.woken());
    assert_eq!(it.drain(), [1]);
}

#[test]
fn a_reset_to_the_past_wakes_at_once() {
    for past in [Duration::ZERO, MS, SECOND, Duration::MAX] {
        let mut it = Bench::new();
        let key = it.queue.insert(1, SECOND);
        assert!(it.poll().is_pending());
        it.pass(MS);
        it.queue.reset_at(&key, it.manual.now() - past);
        assert!(it.woken());
        assert_eq!(it.drain(), [1]);
    }
}

#[test]
fn a_due_item_can_be_removed_and_reset() {
    let mut it = Bench::new();
    let keys = [1, 2, 3].map(|i| it.queue.insert(i, SECOND));
    assert!(it.poll().is_pending());
    it.pass(SECOND);
    // The wheel has found all of them, and handed out one.
    assert_eq!(it.poll(), Poll::Ready(Some(1)));
    assert_eq!(it.queue.remove(&keys[1]).into_inner(), 2);
    it.queue.reset(&keys[2], SECOND);
    assert!(it.poll().is_pending());
    it.pass(SECOND);
    assert_eq!(it.drain(), [3]);
}

#[test]
fn a_due_item_that_nobody_took_can_be_removed_and_reset() {
    let mut it = Bench::new();
    let keys = [1, 2].map(|i| it.queue.insert(i, SECOND));
    it.pass(2 * SECOND);
    it.queue.reset(&keys[0], SECOND);
    it.queue.remove(&keys[1]);
    assert!(it.poll().is_pending());
    it.pass(SECOND);
    assert_eq!(it.drain(), [1]);
}

#[test]
fn a_stale_key_never_names_another_item() {
    let mut it = Bench::new();
    let removed = it.queue.insert(1, SECOND);
    it.queue.remove(&removed);
    let expired = it.queue.insert(2, Duration::ZERO);
    assert_eq!(it.drain(), [2]);
    let live = it.queue.insert(3, SECOND);
    for key in [removed, expired] {
        assert_ne!(key, live);
        assert!(it.queue.try_remove(&key).is_none());
        assert!(it.queue.try_deadline(&key).is_none());
        assert_eq!(it.queue.try_reset(&key, SECOND), Err(StaleKey(())));
        assert_eq!(it.queue.try_reset_at(&key, it.start), Err(StaleKey(())));
    }
    assert_eq!(it.queue.deadline(&live), it.start + SECOND);
}

#[test]
#[should_panic(expected = "stale key: the item has come out")]
fn removing_by_a_stale_key_panics() {
    let mut it = Bench::new();
    let key = it.queue.insert((), SECOND);
    it.queue.remove(&key);
    it.queue.remove(&key);
}

#[test]
#[should_panic(expected = "stale key: the item has come out")]
fn resetting_by_a_stale_key_panics() {
    let mut it = Bench::new();
    let key = it.queue.insert((), SECOND);
    it.queue.clear();
    it.queue.reset(&key, SECOND);
}

#[test]
#[should_panic(expected = "stale key: the item has come out")]
fn the_deadline_of_a_stale_key_panics() {
    let mut it = Bench::new();
    let key = it.queue.insert((), Duration::ZERO);
    it.drain();
    let _ = it.queue.deadline(&key);
}

#[test]
fn deadlines_are_not_limited_to_two_years() {
    let mut it = Bench::new();
    let year = 365 * 24 * 3600 * SECOND;
    for years in [1, 2, 3, 100, 500] {
        it.queue.insert(years, years * year);
    }
    let never = it.queue.insert(0, Duration::MAX);
    assert_eq!(it.queue.deadline(&never), Instant::FAR_FUTURE);
    for (years, passed) in [(1, 1), (2, 1), (3, 1), (100, 97), (500, 400)] {
        assert!(it.poll().is_pending());
        it.pass(passed * year);
        assert!(it.woken());
        assert_eq!(it.drain(), [years]);
    }
    assert!(it.poll().is_pending());
    // And an old queue goes on as a new one does.
    it.queue.insert(7, MS);
    it.pass(MS);
    assert_eq!(it.drain(), [7]);
}

#[test]
fn another_task_takes_over() {
    let mut it = Bench::new();
    it.queue.insert(1, SECOND);
    assert!(it.poll().is_pending());
    let old = std::mem::take(&mut it.wakes);
    it.waker = it.wakes.clone().into();
    assert!(it.poll().is_pending());
    it.pass(SECOND);
    assert!(it.woken());
    assert_eq!(old.take(), 0);
    assert_eq!(it.drain(), [1]);
    let key = it.queue.insert(2, SECOND);
    assert!(it.poll().is_pending());
    it.queue.remove(&key);
    assert!(it.woken());
}

#[test]
fn an_unpolled_queue_arms_nothing_and_wakes_nobody() {
    let mut it = Bench::new();
    for i in 0..100 {
        let key = it.queue.insert(i, i * MS);
        it.queue.reset(&key, MS);
    }
    it.pass(SECOND);
    assert_eq!(it.manual.timekeeper().stats().armed, 0);
    assert_eq!(it.drain().len(), 100);
    assert_eq!(it.manual.timekeeper().stats().armed, 0);
    assert!(!it.woken());
}

#[test]
fn it_stays_on_the_timekeeper_that_it_was_created_on() {
    let mut it = Bench::new();
    let other = Manual::new();
    other.fast_forward(SECOND);
    let _entered = other.enter();
    let key = it.queue.insert(1, SECOND);
    assert_eq!(it.queue.deadline(&key), it.start + SECOND);
    assert!(it.poll().is_pending());
    assert_eq!(other.timekeeper().stats().armed, 0);
    it.pass(SECOND);
    assert_eq!(it.drain(), [1]);
}

#[test]
fn crowds_close_together_come_in_order() {
    let mut it = Bench::new();
    for i in (0..1000_u64).rev() {
        it.queue.insert(i, SECOND + Duration::from_micros(i));
    }
    let mut seen = vec![];
    while !it.queue.is_empty() {
        seen.extend(it.drain());
        it.manual.advance_to_next();
    }
    assert_eq!(seen, (0..1000).collect::<Vec<_>>());
    assert_eq!(it.manual.now(), it.start + SECOND + Duration::from_micros(999));
}

#[test]
fn room_can_be_reserved() {
    let mut it = Bench::new();
    let first = it.queue.insert(0, SECOND);
    it.queue.reserve(100);
    let capacity = it.queue.capacity();
    assert!(capacity >= 101);
    it.queue.reserve(100);
    assert_eq!(it.queue.capacity(), capacity);
    for i in 1..=100 {
        it.queue.insert(i, SECOND);
    }
    assert_eq!(it.queue.capacity(), capacity);
    it.queue.remove(&first);
    assert!(it.poll().is_pending());
    it.pass(SECOND);
    assert_eq!(it.drain(), (1..=100).collect::<Vec<_>>());
}

#[test]
#[should_panic(expected = "at most 2^32 - 1 fit")]
fn more_room_than_there_can_be_panics() {
    Bench::<u8>::new().queue.reserve(usize::MAX);
}

#[test]
fn compacting_gives_back_what_is_not_needed_and_keeps_every_key() {
    let mut it = Bench::new();
    let keys: Vec<_> = (0..100).map(|i| it.queue.insert(i, SECOND)).collect();
    let (stay, go): (Vec<_>, Vec<_>) = keys.into_iter().enumerate().partition(|(i, _)| i % 9 == 8);
    assert!(it.poll().is_pending());
    for (_, key) in &go {
        it.queue.remove(key);
    }
    it.queue.shrink_to_fit();
    assert_eq!(it.queue.capacity(), 99, "the last place but one is taken");
    it.queue.compact();
    assert_eq!((it.queue.capacity(), it.queue.len()), (11, 11));
    it.queue.invariants();
    assert!(!it.woken());

    // The places of those that are gone are taken, their names are not.
    let next = it.queue.insert(100, SECOND / 2);
    assert!(stay.iter().chain(&go).all(|&(_, key)| key != next));
    for (_, key) in &go {
        assert!(it.queue.try_deadline(key).is_none());
    }
    for (_, key) in &stay {
        assert_eq!(it.queue.deadline(key), it.start + SECOND);
    }
    assert_eq!(it.queue.peek(), Some(next));
    assert_eq!(it.queue.remove(&stay[3].1).into_inner(), 35);
    it.queue.reset(&stay[4].1, 2 * SECOND);
    it.queue.compact();
    it.pass(SECOND);
    assert!(it.woken());
    assert_eq!(it.drain(), [100, 8, 17, 26, 53, 62, 71, 80, 89, 98]);
    it.pass(SECOND);
    assert_eq!(it.drain(), [44]);
    assert_eq!(it.queue.renamed(), 0, "names outlive their items");
    it.queue.compact();
    assert_eq!(it.queue.capacity(), 0);
}

#[test]
fn what_comes_out_after_compacting_says_the_key_that_it_was_given() {
    let mut it = Bench::new();
    let first = it.queue.insert(1, SECOND);
    let second = it.queue.insert(2, SECOND);
    it.queue.remove(&first);
    it.queue.compact();
    assert_eq!(it.queue.peek(), Some(second));
    it.pass(SECOND);
    let mut cx = Context::from_waker(Waker::noop());
    let Poll::Ready(Some(expired)) = it.queue.poll_expired(&mut cx) else { panic!("it is due") };
    assert_eq!(expired.key(), second);
}

#[test]
fn after_a_shutdown_what_is_due_comes_and_what_is_not_is_an_error() {
    let mut it = Bench::new();
    it.queue.insert(1, Duration::ZERO);
    let key = it.queue.insert(2, SECOND);
    it.manual.timekeeper().shutdown();
    assert_eq!(it.poll(), Poll::Ready(Some(1)));
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(it.queue.try_poll_expired(&mut cx), Poll::Ready(Err(_))));
    assert_eq!(it.queue.remove(&key).into_inner(), 2);
    assert!(matches!(it.queue.try_poll_expired(&mut cx), Poll::Ready(Ok(None))));
}

proptest! {
    #[test]
    fn agrees_with_its_oracle(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        harness::delay_queue(&bytes);
    }
}
