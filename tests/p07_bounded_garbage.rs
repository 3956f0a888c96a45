//! P7: memory is proportional to the peak of live timers, not to rate times timeout.

mod common;

use std::sync::mpsc;
use std::task::Waker;
use std::thread;

use common::poll;
use deadbeat::time::{Duration, Sleep};
use deadbeat::{Manual, Timekeeper};

const TIMEOUT: Duration = Duration::from_secs(300);
/// How many nodes are allocated at once.
const CHUNK: u64 = 256;

fn arm(timekeeper: &Timekeeper) -> Sleep {
    let mut sleep = timekeeper.sleep_until(timekeeper.now() + TIMEOUT);
    assert!(poll(&mut sleep, Waker::noop()).is_pending());
    sleep
}

#[test]
fn a_million_cancelled_timeouts_need_as_many_nodes_as_were_live_at_once() {
    let timekeeper = Timekeeper::builder().build();
    for _ in 0..250_000 {
        drop([arm(&timekeeper), arm(&timekeeper), arm(&timekeeper), arm(&timekeeper)]);
    }
    let stats = timekeeper.stats();
    assert_eq!((stats.armed, stats.cancelled), (1_000_000, 1_000_000));
    assert_eq!(stats.nodes, CHUNK);
    assert!(stats.garbage <= 4, "{stats:?}");
}

#[test]
fn nor_do_they_by_hand_while_time_goes_on() {
    let manual = Manual::new();
    for _ in 0..2000 {
        (0..100).for_each(|_| drop(arm(manual.timekeeper())));
        manual.fast_forward(Duration::from_millis(1));
    }
    let stats = manual.timekeeper().stats();
    assert_eq!(stats.nodes, CHUNK);
    manual.fast_forward(TIMEOUT);
    assert_eq!(manual.timekeeper().stats().garbage, 0);
}

#[test]
fn what_another_thread_cancels_comes_back() {
    let timekeeper = Timekeeper::builder().build();
    let (tx, rx) = mpsc::sync_channel(64);
    let dropper = thread::spawn(move || rx.iter().map(|sleep: Sleep| drop(sleep)).count());
    for _ in 0..100_000 {
        tx.send(arm(&timekeeper)).unwrap();
    }
    drop(tx);
    assert_eq!(dropper.join().unwrap(), 100_000);
    let stats = timekeeper.stats();
    assert_eq!(stats.live, 0);
    assert!(stats.nodes <= CHUNK, "{stats:?}");
}

#[test]
fn short_lived_threads_leave_nothing_behind() {
    let timekeeper = Timekeeper::builder().build();
    for _ in 0..5000 {
        // Two at a time.
        let threads = [(); 2].map(|()| {
            let timekeeper = timekeeper.clone();
            thread::spawn(move || drop(arm(&timekeeper)))
        });
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
    let stats = timekeeper.stats();
    assert_eq!(stats.armed, 10_000);
    // Two threads, one for those that are ending; a thread is joined before its thread-locals are
    // gone, so a third may meet the first two.
    assert!(stats.shards <= 5, "{stats:?}");
    assert!(stats.nodes <= 4 * CHUNK, "{stats:?}");
}

#[test]
fn timers_that_fire_give_their_nodes_back() {
    let manual = Manual::new();
    let mut peak = 0;
    for _ in 0..100 {
        let sleeps: Vec<_> = (0..1000).map(|_| arm(manual.timekeeper())).collect();
        assert_eq!(manual.fast_forward(TIMEOUT), 1000);
        drop(sleeps);
        peak = manual.timekeeper().stats().nodes;
    }
    assert_eq!(peak, 4 * CHUNK);
}

/// Timers that move on and on, each time earlier and later, are pushed and re-pushed: an inbox must
/// not grow with the number of moves.
#[test]
fn moving_a_timer_a_lot_needs_one_node() {
    let manual = Manual::new();
    let timekeeper = manual.timekeeper();
    let mut sleep = arm(timekeeper);
    for i in 0..100_000u32 {
        let nap = if i % 2 == 0 { TIMEOUT / 2 - Duration::from_nanos(i.into()) } else { TIMEOUT };
        std::pin::Pin::new(&mut sleep).reset(timekeeper.now() + nap);
    }
    assert_eq!(timekeeper.stats().nodes, CHUNK);
    assert_eq!(timekeeper.stats().live, 1);
    assert_eq!(manual.fast_forward(TIMEOUT), 1);
}
