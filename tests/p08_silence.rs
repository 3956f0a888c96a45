//! P8: no periodic tick; at most one spurious wake for a wake time that was published.

mod common;

use std::task::Waker;

use common::{poll, wait_for};
use deadbeat::time::{Duration, Instant};
use deadbeat::{Stats, Timekeeper};

/// Waits on the kernel, without a timer.
fn pass(duration: Duration) {
    deadbeat::sleep_until(Instant::now() + duration);
}

/// The figures once the driver has gone to sleep.
fn settled(timekeeper: &Timekeeper) -> Stats {
    let mut stats = timekeeper.stats();
    wait_for("the driver to sleep", || {
        pass(Duration::from_millis(2));
        let before = std::mem::replace(&mut stats, timekeeper.stats());
        before.wakes == stats.wakes
    });
    stats
}

#[test]
fn without_a_timer_there_is_no_thread() {
    let timekeeper = Timekeeper::builder().name("p08-none").build();
    let mut sleep = timekeeper.sleep_until(timekeeper.now() + Duration::from_secs(1));
    assert!(common::threads("p08-none").is_empty());
    // Ready at once, or never polled: nothing to wait for.
    let mut past = timekeeper.sleep_until(timekeeper.now());
    assert!(poll(&mut past, Waker::noop()).is_ready());
    assert!(common::threads("p08-none").is_empty());
    assert_eq!(timekeeper.stats().armed, 0);
    assert!(poll(&mut sleep, Waker::noop()).is_pending());
}

#[test]
fn with_nothing_due_the_driver_sleeps() {
    let timekeeper = Timekeeper::builder().name("p08-idle").build();
    let sleeps: Vec<_> = (0..10_000)
        .map(|i| {
            let at = timekeeper.now() + Duration::from_secs(60) + Duration::from_micros(i);
            let mut sleep = timekeeper.sleep_until(at);
            assert!(poll(&mut sleep, Waker::noop()).is_pending());
            sleep
        })
        .collect();
    let before = settled(&timekeeper);
    // The thread that sets the clock up bears the name for a while, too.
    if cfg!(target_os = "linux") {
        wait_for("one thread", || common::threads("p08-idle").len() == 1);
    }
    let switches = voluntary_switches("p08-idle");
    pass(Duration::from_millis(300));
    // One may be on its way: from the arming, or to sort that many timers ahead of their time.
    let wakes = timekeeper.stats().wakes - before.wakes;
    assert!(wakes <= 2, "it ticks: {wakes} times in 300 ms");
    // Not by way of the figures: what the kernel has seen.
    let switched = voluntary_switches("p08-idle") - switches;
    assert!(switched <= 4, "its thread ran {switched} times in 300 ms");
    drop(sleeps);
    pass(Duration::from_millis(100));
    let wakes = timekeeper.stats().wakes - before.wakes;
    assert!(wakes <= 2, "cancelling woke it");
}

/// How often the threads of that name went to sleep so far.
fn voluntary_switches(name: &str) -> u64 {
    let of = |id: &String| {
        let status = std::fs::read_to_string(format!("/proc/self/task/{id}/status")).ok()?;
        let line = status.lines().find(|line| line.starts_with("voluntary_ctxt_switches"))?;
        line.split_whitespace().last()?.parse::<u64>().ok()
    };
    common::threads(name).iter().filter_map(of).sum()
}

#[test]
fn a_cancelled_timer_costs_one_wake_at_the_most() {
    let timekeeper = Timekeeper::builder().build();
    for i in 1..=5u64 {
        let mut sleep = timekeeper.sleep_until(timekeeper.now() + Duration::from_millis(10));
        assert!(poll(&mut sleep, Waker::noop()).is_pending());
        let before = settled(&timekeeper);
        drop(sleep);
        pass(Duration::from_millis(20));
        let after = settled(&timekeeper);
        assert!(after.wakes - before.wakes <= 1, "{before:?}\n{after:?}");
        assert!(after.spurious_wakes <= 2 * i, "{after:?}");
    }
}

#[test]
fn a_timer_that_is_moved_again_and_again_costs_one_wake_for_each_old_time() {
    let timekeeper = Timekeeper::builder().build();
    let mut sleep = timekeeper.sleep_until(timekeeper.now() + Duration::from_millis(20));
    assert!(poll(&mut sleep, Waker::noop()).is_pending());
    let before = settled(&timekeeper).wakes;
    let start = timekeeper.now();
    // Some hundred thousand times.
    while timekeeper.now() - start < Duration::from_millis(100) {
        let later = timekeeper.now() + Duration::from_millis(20);
        std::pin::Pin::new(&mut sleep).reset(later);
    }
    let wakes = timekeeper.stats().wakes - before;
    assert!(wakes <= 8, "{wakes} wakes in 100 ms for a timer of 20 ms");
}

/// Timers in one place and of one length: each published time is woken for once.
#[test]
fn timers_that_fire_make_few_spurious_wakes() {
    let timekeeper = Timekeeper::builder().build();
    let (seed, mut rng) = common::rng();
    let start = timekeeper.now();
    let mut sleeps: Vec<_> = (0..300)
        .map(|_| timekeeper.sleep_until(start + Duration::from_micros(rng.u64(2000..100_000))))
        .collect();
    for sleep in &mut sleeps {
        let _ = poll(sleep, Waker::noop());
    }
    pass(Duration::from_millis(110));
    wait_for("all to fire", || timekeeper.stats().live == 0);
    let stats = timekeeper.stats();
    // One for each timer at the most, and one for each level of slots that had to be sorted.
    assert!(stats.spurious_wakes <= 40, "DEADBEAT_SEED={seed} {stats:?}");
    assert!(stats.wakes <= 340, "DEADBEAT_SEED={seed} {stats:?}");
}
