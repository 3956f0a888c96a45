//! P2: every armed timer fires once or is cancelled; no wake-up is lost.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc;
use std::task::Waker;
use std::thread;

use common::{counter, on_wake, poll, rng, wait_for};
use deadbeat::time::{Duration, Instant, Sleep, sleep};
use deadbeat::{Manual, Timekeeper, block_on};

#[test]
fn each_timer_wakes_once() {
    let manual = Manual::new();
    let _entered = manual.enter();
    let mut all: Vec<_> = (0..3000)
        .map(|i| {
            let (count, waker) = counter();
            let mut sleep = sleep(Duration::from_micros(i % 700 + 1));
            assert!(poll(&mut sleep, &waker).is_pending());
            (count, sleep)
        })
        .collect();
    assert_eq!(manual.fast_forward(Duration::from_secs(1)), 3000);
    manual.fast_forward(Duration::from_secs(1));
    for (count, sleep) in &mut all {
        assert_eq!(count.get(), 1);
        assert!(poll(sleep, Waker::noop()).is_ready());
    }
    let stats = manual.timekeeper().stats();
    assert_eq!((stats.armed, stats.fired, stats.cancelled, stats.live), (3000, 3000, 0, 0));
}

#[test]
fn a_cancelled_timer_wakes_nobody() {
    let manual = Manual::new();
    let _entered = manual.enter();
    let (count, waker) = counter();
    for _ in 0..1000 {
        let mut sleep = sleep(Duration::from_millis(1));
        assert!(poll(&mut sleep, &waker).is_pending());
    }
    manual.fast_forward(Duration::from_secs(1));
    assert_eq!(count.get(), 0);
    assert_eq!(manual.timekeeper().stats().cancelled, 1000);
}

#[test]
fn of_all_wakers_the_last_one_counts() {
    let manual = Manual::new();
    let _entered = manual.enter();
    let mut sleep = sleep(Duration::from_millis(1));
    let wakers: Vec<_> = (0..5).map(|_| counter()).collect();
    for (_, waker) in &wakers {
        assert!(poll(&mut sleep, waker).is_pending());
    }
    manual.fast_forward(Duration::from_millis(1));
    let counts: Vec<_> = wakers.iter().map(|(count, _)| count.get()).collect();
    assert_eq!(counts, [0, 0, 0, 0, 1]);
}

/// Timers on real time, armed, re-polled, reset, cancelled and let fire from several threads: the
/// counts must add up, and none may hang.
#[test]
fn under_real_races_every_timer_ends_in_one_way() {
    let (seed, _) = rng();
    let timekeeper = Timekeeper::builder().name("p02").build();
    let fired = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..3)
        .map(|i| {
            let (timekeeper, fired) = (timekeeper.clone(), fired.clone());
            thread::spawn(move || {
                let mut rng = fastrand::Rng::with_seed(seed.wrapping_add(i));
                let _entered = timekeeper.enter();
                for _ in 0..600 {
                    let mut nap = std::pin::pin!(sleep(Duration::from_micros(rng.u64(0..150))));
                    let _ = poll(&mut nap, Waker::noop());
                    match rng.u32(0..4) {
                        0 => continue,
                        1 => nap.as_mut().reset(Instant::now() + Duration::from_micros(80)),
                        2 => nap.as_mut().reset(Instant::now() + Duration::from_micros(5)),
                        _ => {}
                    }
                    block_on(nap);
                    fired.fetch_add(1, SeqCst);
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
    wait_for("the driver to settle", || timekeeper.stats().live == 0);
    let stats = timekeeper.stats();
    assert_eq!(stats.armed, stats.fired + stats.cancelled, "{stats:?}");
}

/// What an executor does: the task is polled by whichever thread was free, and dropped by another.
#[test]
fn timers_that_travel_between_threads_fire_once() {
    let timekeeper = Timekeeper::builder().build();
    let (armed_tx, armed) = mpsc::sync_channel::<(Sleep, Arc<common::Count>)>(16);
    let (done_tx, done) = mpsc::sync_channel::<Sleep>(16);
    let armer = {
        let timekeeper = timekeeper.clone();
        thread::spawn(move || {
            for i in 0..500 {
                let at = timekeeper.now() + Duration::from_micros(20 + i % 100);
                let mut sleep = timekeeper.sleep_until(at);
                if poll(&mut sleep, Waker::noop()).is_pending() {
                    armed_tx.send((sleep, Arc::default())).unwrap();
                }
            }
        })
    };
    let poller = thread::spawn(move || {
        for (mut sleep, count) in armed {
            let waker = Waker::from(count.clone());
            if poll(&mut sleep, &waker).is_pending() {
                wait_for("the wake", || count.get() == 1);
                assert!(poll(&mut sleep, &waker).is_ready());
            }
            done_tx.send(sleep).unwrap();
        }
    });
    let dropped = done.iter().map(drop).count();
    armer.join().unwrap();
    poller.join().unwrap();
    assert!(dropped > 0);
    let stats = timekeeper.stats();
    assert_eq!(stats.live, 0);
    assert!(stats.nodes <= 512, "{stats:?}");
}

/// A stall of the driver: everything due meanwhile fires late and once. What piled up and what falls due
/// while the pile is served take turns, each in its order: so a few ordered sequences, interleaved.
#[test]
fn after_a_stall_of_the_driver_all_fire_once_and_take_turns_in_order() {
    let timekeeper = Timekeeper::builder().build();
    let (tx, rx) = mpsc::channel();
    // Far enough ahead that all are armed before it.
    let start = timekeeper.now() + Duration::from_millis(150);
    timekeeper
        .call_at(start, move || {
            deadbeat::sleep_until(start + Duration::from_millis(30));
        })
        .detach();
    let (seed, mut rng) = rng();
    for i in 0..5000u64 {
        let tx = tx.clone();
        let at = start + Duration::from_nanos(rng.u64(1000..20_000_000));
        timekeeper.call_at(at, move || tx.send((at, i)).unwrap()).detach();
    }
    drop(tx);
    let in_time = timekeeper.now() < start;
    let fired: Vec<_> = rx.iter().collect();
    let mut once: Vec<_> = fired.iter().map(|&(_, i)| i).collect();
    once.sort_unstable();
    assert!(once.into_iter().eq(0..5000), "DEADBEAT_SEED={seed}");
    // Patience sorting: the last of each sequence, which the next may join if it isn't before it.
    let mut sequences: Vec<Instant> = Vec::new();
    for (at, _) in fired {
        match sequences.iter_mut().find(|last| **last <= at) {
            Some(last) => *last = at,
            None => sequences.push(at),
        }
    }
    // In no order at all there would be 140. What was armed too late is in order with nothing.
    let sequences = sequences.len();
    assert!(!in_time || sequences <= 32, "{sequences} sequences, DEADBEAT_SEED={seed}");
}

/// A firing that finds the owner in its poll is one like any other.
#[test]
fn what_the_owner_sees_by_itself_is_counted_as_fired() {
    let timekeeper = Timekeeper::builder().build();
    let (mut fired, mut ready_at_once) = (0, 0);
    for _ in 0..3000 {
        let mut nap = timekeeper.sleep(Duration::from_micros(2));
        // Another waker each time, so that most of the time one is being replaced.
        if poll(&mut nap, &counter().1).is_ready() {
            ready_at_once += 1;
            continue;
        }
        while poll(&mut nap, &counter().1).is_pending() {}
        fired += 1;
    }
    // The driver counts when it wakes, which may be after the owner has seen it.
    wait_for("the last of them", || timekeeper.stats().fired == fired);
    let stats = timekeeper.stats();
    assert_eq!((stats.armed, stats.cancelled, stats.live), (3000 - ready_at_once, 0, 0));
}

#[test]
fn lateness_is_that_of_each_waker_and_not_of_the_batch() {
    let clock = deadbeat::clock::ManualClock::new();
    let manual = deadbeat::Manual::with_clock(clock.clone());
    let slow = on_wake(move || clock.advance(Duration::from_millis(1)));
    let at = manual.now() + Duration::from_secs(1);
    let mut naps: Vec<_> = (0..64).map(|_| manual.timekeeper().sleep_until(at)).collect();
    for nap in &mut naps {
        assert!(poll(nap, &slow).is_pending());
    }
    manual.fast_forward(Duration::from_secs(1));
    assert!(manual.timekeeper().stats().lateness.max() >= Duration::from_millis(56));
}
