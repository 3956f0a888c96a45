//! The driver as a whole under shuttle: real threads of the model, the real driver thread, and a clock
//! that one of them moves.
//!
//! Run with
//! `RUSTFLAGS="--cfg deadbeat_shuttle" cargo test --release --lib shuttled --target-dir target/shuttle`.
//! A failure prints the schedule, which `shuttle::replay` runs again.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use shuttle::rand::{Rng, thread_rng};
use shuttle::thread;

use super::core::{Core, Options, STOPPED};
use super::handle::Handle;
use super::timekeeper::Timekeeper;
use super::timer::Timer;
use crate::clock::ManualClock;

const RUNS: usize = 10_000;

/// A Timekeeper with a driver thread, on a clock that the model moves.
fn timekeeper() -> (Timekeeper, ManualClock) {
    let clock = ManualClock::new();
    let core = Core::new(clock.clock(), Options::default());
    (Timekeeper::from_core(Handle::new(core)), clock)
}

#[derive(Default)]
struct Woken {
    times: AtomicUsize,
    flag: AtomicBool,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.times.fetch_add(1, SeqCst);
        self.flag.store(true, SeqCst);
    }
}

/// Waits for one timer as a task would, with some detours; panics if it completes early.
fn use_timer(timekeeper: &Timekeeper, clock: &ManualClock) {
    let core = timekeeper.core();
    let mut timer = Timer::new(core.clone(), false);
    let mut deadline = clock.clock().now().as_nanos() + thread_rng().gen_range(0..4) * 500;
    let woken = Arc::new(Woken::default());
    let mut waker = Waker::from(woken.clone());
    let mut current = woken;
    loop {
        match timer.poll(&mut Context::from_waker(&waker), deadline) {
            Poll::Ready(done) => {
                done.expect("not shut down");
                assert!(clock.clock().now().as_nanos() >= deadline, "early");
                return;
            }
            Poll::Pending => match thread_rng().gen_range(0..6) {
                0 => return, // cancelled
                1 => {
                    deadline += 700;
                    timer.move_to(deadline);
                }
                2 => {
                    deadline -= 300;
                    timer.move_to(deadline);
                }
                3 => {
                    current = Arc::new(Woken::default());
                    waker = Waker::from(current.clone());
                }
                _ => {
                    while !current.flag.swap(false, SeqCst) {
                        thread::yield_now();
                    }
                }
            },
        }
    }
}

#[test]
fn every_timer_fires_or_is_cancelled_and_the_driver_ends() {
    shuttle::check_random(
        || {
            let (timekeeper, clock) = timekeeper();
            let done = Arc::new(AtomicUsize::new(0));
            let users: Vec<_> = (0..2)
                .map(|_| {
                    let (timekeeper, clock, done) =
                        (timekeeper.clone(), clock.clone(), done.clone());
                    thread::spawn(move || {
                        (0..2).for_each(|_| use_timer(&timekeeper, &clock));
                        done.fetch_add(1, SeqCst);
                    })
                })
                .collect();
            while done.load(SeqCst) < users.len() {
                clock.advance(Duration::from_nanos(200));
                thread::yield_now();
            }
            users.into_iter().for_each(|user| user.join().unwrap());
            let stats = timekeeper.stats();
            assert_eq!(stats.live, 0);
            assert_eq!(stats.waker_panics, 0);
            timekeeper.shutdown();
        },
        RUNS,
    );
}

#[test]
fn a_driver_without_handles_ends_after_the_last_timer_and_starts_again_for_another() {
    shuttle::check_random(
        || {
            let (timekeeper, clock) = timekeeper();
            let core = timekeeper.core().clone();
            let user = {
                let (core, clock) = (core.clone(), clock.clone());
                thread::spawn(move || {
                    for _ in 0..2 {
                        let woken = Arc::new(Woken::default());
                        let waker = Waker::from(woken.clone());
                        let mut timer = Timer::new(core.clone(), false);
                        let deadline = clock.clock().now().as_nanos() + 500;
                        while timer.poll(&mut Context::from_waker(&waker), deadline).is_pending() {
                            while !woken.flag.swap(false, SeqCst) {
                                clock.advance(Duration::from_nanos(200));
                                thread::yield_now();
                            }
                        }
                    }
                })
            };
            drop(timekeeper);
            user.join().unwrap();
            drop(core);
        },
        RUNS,
    );
}

#[test]
fn a_shutdown_wakes_whoever_waits() {
    shuttle::check_random(
        || {
            let (timekeeper, clock) = timekeeper();
            let users: Vec<_> = (0..2)
                .map(|_| {
                    let core = timekeeper.core().clone();
                    let deadline = clock.clock().now().as_nanos() + 1_000_000;
                    thread::spawn(move || {
                        let woken = Arc::new(Woken::default());
                        let waker = Waker::from(woken.clone());
                        let mut timer = Timer::new(core.clone(), false);
                        while timer.poll(&mut Context::from_waker(&waker), deadline).is_pending() {
                            while !woken.flag.swap(false, SeqCst) {
                                thread::yield_now();
                            }
                        }
                        assert_eq!(core.phase(), STOPPED);
                    })
                })
                .collect();
            timekeeper.shutdown();
            users.into_iter().for_each(|user| user.join().unwrap());
        },
        RUNS,
    );
}
