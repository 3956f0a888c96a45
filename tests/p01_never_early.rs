//! P1: nothing completes before its deadline, on the runtime's clock or on CLOCK_MONOTONIC.
#![cfg_attr(unix, expect(unsafe_code, reason = "reads the kernel's clock past the crate"))]

mod common;

use std::sync::mpsc;
use std::task::Waker;

use common::{poll, rng};
use deadbeat::clock::Clock;
use deadbeat::time::{Duration, Instant, sleep, sleep_until};
use deadbeat::{Manual, Timekeeper, block_on};

/// CLOCK_MONOTONIC, not by way of the crate.
#[cfg(target_os = "linux")]
fn monotonic_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a place for one timespec, for the duration of the call.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) }, 0);
    u64::try_from(time.tv_sec).unwrap() * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap()
}

#[cfg(not(target_os = "linux"))]
fn monotonic_ns() -> u64 {
    u64::MAX
}

#[track_caller]
fn not_early(deadline: Instant) {
    let (now, kernel) = (Clock::system().now(), monotonic_ns());
    assert!(now >= deadline, "{:?} early", deadline - now);
    assert!(
        kernel >= deadline.as_nanos(),
        "{} ns early for the kernel",
        deadline.as_nanos() - kernel
    );
}

/// Sleeps and callbacks of random lengths, on `timekeeper`.
fn sleeps_and_callbacks(timekeeper: &Timekeeper) {
    let (_, mut rng) = rng();
    let _entered = timekeeper.enter();
    for _ in 0..60 {
        let nap = Duration::from_nanos(rng.u64(0..2_000_000));
        let start = Instant::now();
        block_on(sleep(nap));
        not_early(start + nap);
    }
    let (tx, rx) = mpsc::channel();
    let start = Instant::now();
    for _ in 0..200 {
        let (tx, at) = (tx.clone(), start + Duration::from_nanos(rng.u64(0..30_000_000)));
        timekeeper
            .call_at(at, move || tx.send((at, Clock::system().now(), monotonic_ns())).unwrap())
            .detach();
    }
    drop(tx);
    let all: Vec<_> = rx.iter().collect();
    assert_eq!(all.len(), 200);
    for (at, now, kernel) in all {
        assert!(now >= at && kernel >= at.as_nanos(), "{at:?} ran at {now:?}, kernel {kernel}");
    }
    assert_eq!(timekeeper.stats().waker_panics, 0);
}

#[test]
fn neither_sleeps_nor_callbacks_are_early_on_a_real_clock() {
    sleeps_and_callbacks(&Timekeeper::builder().name("p01").build());
}

#[test]
fn spinning_ahead_makes_nobody_early() {
    sleeps_and_callbacks(&Timekeeper::builder().name("p01-spin").spin(true).build());
}

#[test]
fn a_timer_that_was_woken_ahead_to_spin_is_not_elapsed_before_its_deadline() {
    let timekeeper = Timekeeper::builder().spin(true).build();
    for _ in 0..50 {
        let deadline = timekeeper.now() + Duration::from_micros(400);
        let mut sleep = timekeeper.sleep_until(deadline);
        assert!(poll(&mut sleep, Waker::noop()).is_pending());
        common::wait_for("the sleep", || sleep.is_elapsed());
        assert!(timekeeper.now() >= deadline);
    }
}

#[test]
fn by_hand_it_is_exact_to_the_nanosecond() {
    let (_, mut rng) = rng();
    for _ in 0..500 {
        let manual = Manual::new();
        let _entered = manual.enter();
        let span = 1u64 << rng.u32(0..50);
        let nap = Duration::from_nanos(rng.u64(1..=span));
        let mut sleep = sleep(nap);
        assert!(poll(&mut sleep, Waker::noop()).is_pending());
        manual.fast_forward(nap - Duration::from_nanos(1));
        assert!(!sleep.is_elapsed());
        assert!(poll(&mut sleep, Waker::noop()).is_pending(), "{nap:?}");
        assert_eq!(manual.fast_forward(Duration::from_nanos(1)), 1);
        assert!(sleep.is_elapsed());
        assert!(poll(&mut sleep, Waker::noop()).is_ready(), "{nap:?}");
    }
}

#[test]
fn a_blocking_sleep_is_not_early() {
    for micros in [0, 1, 30, 500] {
        let deadline = Instant::now() + Duration::from_micros(micros);
        deadbeat::sleep_until(deadline);
        not_early(deadline);
    }
}

#[test]
fn a_deadline_that_moves_away_while_it_fires_is_waited_for() {
    let timekeeper = Timekeeper::builder().build();
    let _entered = timekeeper.enter();
    let (_, mut rng) = rng();
    for _ in 0..100 {
        let mut sleep = std::pin::pin!(sleep(Duration::from_micros(rng.u64(20..200))));
        assert!(poll(&mut sleep, Waker::noop()).is_pending());
        deadbeat::sleep_until(Instant::now() + Duration::from_micros(rng.u64(0..200)));
        let later = Instant::now() + Duration::from_micros(300);
        sleep.as_mut().reset(later);
        block_on(sleep.as_mut());
        not_early(later);
    }
}

#[test]
fn a_shutdown_completes_nothing_early() {
    let timekeeper = Timekeeper::builder().build();
    let (tx, rx) = mpsc::channel::<()>();
    let at = timekeeper.now() + Duration::from_secs(60);
    timekeeper.call_at(at, move || tx.send(()).unwrap()).detach();
    let mut sleep = timekeeper.sleep_until(at);
    let (count, waker) = common::counter();
    assert!(poll(&mut sleep, &waker).is_pending());
    timekeeper.shutdown();
    assert_eq!(count.get(), 1);
    assert_eq!(rx.recv(), Err(mpsc::RecvError), "a callback ran a minute early");
    assert!(!sleep.is_elapsed());
    let mut cx = std::task::Context::from_waker(&waker);
    assert!(matches!(sleep.try_poll(&mut cx), std::task::Poll::Ready(Err(_))));
}

#[test]
fn many_at_once_are_none_of_them_early() {
    let timekeeper = Timekeeper::builder().build();
    let (_, mut rng) = rng();
    let _entered = timekeeper.enter();
    let start = Instant::now();
    let all: Vec<_> =
        (0..2000).map(|_| start + Duration::from_nanos(rng.u64(0..50_000_000))).collect();
    let mut sleeps: Vec<_> = all.iter().map(|&at| sleep_until(at)).collect();
    block_on(std::future::poll_fn(|cx| {
        let mut pending = false;
        for (sleep, &at) in sleeps.iter_mut().zip(&all) {
            if !sleep.is_elapsed() && std::pin::Pin::new(&mut *sleep).poll(cx).is_pending() {
                pending = true;
            } else {
                not_early(at);
            }
        }
        if pending { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    }));
}
