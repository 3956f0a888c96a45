//! P3: the clock is ordered across threads, and never decreases on one.

mod common;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::thread;

use deadbeat::clock::{Clock, Elapsed, Instant, Preference, Source};
use deadbeat::time::Duration;
use deadbeat::{Manual, Timekeeper, block_on};

const RUN: Duration = Duration::from_millis(300);

/// The counter, disciplined for this test alone, whatever the environment asks of the process's
/// clock; `None` where there is none that is fit for it.
fn counter() -> Option<Clock> {
    let clock = Clock::builder().preference(Preference::Counter).build();
    match clock.calibrate() {
        Source::Counter => Some(clock),
        source => {
            common::skip(&format!("the counter is not in use: {source:?}"));
            None
        }
    }
}

/// A counter that is found faulty on the way is replaced, and the promise holds: but say so.
fn still_counts(clock: &Clock) {
    if clock.source() != Source::Counter {
        common::skip(&format!("the counter was given up half-way: {:?}", clock.source()));
    }
}

#[test]
fn a_read_is_not_behind_what_another_thread_has_read() {
    reads_are_ordered_across_threads(&Clock::system());
}

#[test]
fn a_read_of_the_counter_is_not_behind_what_another_thread_has_read() {
    let Some(clock) = counter() else { return };
    reads_are_ordered_across_threads(&clock);
    still_counts(&clock);
}

#[test]
fn no_kind_of_read_steps_back_on_one_thread() {
    reads_are_ordered_on_one_thread(&Clock::system());
}

#[test]
fn no_kind_of_read_of_the_counter_steps_back_on_one_thread() {
    let Some(clock) = counter() else { return };
    reads_are_ordered_on_one_thread(&clock);
    still_counts(&clock);
}

#[test]
fn by_hand_time_is_the_same_for_all_who_hold_it() {
    let manual = Manual::new();
    let clock = manual.timekeeper().clock().clone();
    let mut last = clock.now();
    for nanos in [0, 1, 1000, u64::from(u32::MAX), 1 << 50] {
        manual.fast_forward(Duration::from_nanos(nanos));
        assert_eq!(clock.now(), manual.now());
        assert_eq!(clock.now() - last, Duration::from_nanos(nanos));
        last = clock.now();
    }
}

fn reads_are_ordered_across_threads(clock: &Clock) {
    let published = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let start = clock.now();
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !stop.load(SeqCst) {
                    let before = published.load(SeqCst);
                    let now = clock.now().as_nanos();
                    assert!(now >= before, "{} ns behind another thread", before - now);
                    published.fetch_max(now, SeqCst);
                }
            });
        }
        // Timers, so that the driver re-anchors the clock meanwhile.
        let timekeeper = Timekeeper::builder().clock(clock.clone()).build();
        while clock.now() - start < RUN {
            block_on(timekeeper.sleep_until(clock.now() + Duration::from_micros(500)));
        }
        stop.store(true, SeqCst);
    });
}

fn reads_are_ordered_on_one_thread(clock: &Clock) {
    let start = clock.now();
    let (mut now, mut unordered) = (start, clock.now_unordered());
    let mut elapsed: Instant<Elapsed> = clock.now_elapsed();
    while now - start < RUN / 3 {
        for (last, read) in [(&mut now, clock.now()), (&mut unordered, clock.now_unordered())] {
            assert!(read >= *last, "{:?} back", *last - read);
            *last = read;
        }
        let read = clock.now_elapsed();
        assert!(read >= elapsed, "{:?} back", elapsed - read);
        elapsed = read;
    }
}
