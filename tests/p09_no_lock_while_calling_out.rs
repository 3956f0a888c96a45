//! P9: wakers, callbacks and drops of user data run outside locks; one that panics is caught and
//! counted, and the driver lives on.

mod common;

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::task::Waker;

use common::{counter, on_drop, on_wake, poll, wait_for};
use deadbeat::time::{Duration, Sleep};
use deadbeat::{Manual, Timekeeper};

const SOON: Duration = Duration::from_micros(300);
const MINUTE: Duration = Duration::from_secs(60);

/// A thread that is not let run for as long as the nap may find it over; then another is armed.
fn arm(timekeeper: &Timekeeper, nap: Duration, waker: &Waker) -> Sleep {
    loop {
        let mut sleep = timekeeper.sleep_until(timekeeper.now() + nap);
        if poll(&mut sleep, waker).is_pending() {
            return sleep;
        }
    }
}

/// Runs the same on a driver thread and by hand.
fn on_both(test: impl Fn(&Timekeeper, &dyn Fn(Duration))) {
    let timekeeper = Timekeeper::builder().name("p09").build();
    test(&timekeeper, &|nap| deadbeat::sleep_until(timekeeper.now() + nap));
    timekeeper.shutdown();
    let manual = Manual::new();
    test(manual.timekeeper(), &|nap| {
        manual.fast_forward(nap);
    });
}

#[test]
fn a_waker_that_panics_is_counted_and_the_others_are_called() {
    on_both(|timekeeper, pass| {
        let bad = on_wake(|| panic!("in a waker"));
        let (count, good) = counter();
        let mut sleeps = Vec::new();
        for _ in 0..10 {
            sleeps.push(arm(timekeeper, SOON, &good));
            sleeps.push(arm(timekeeper, SOON, &bad));
        }
        pass(2 * SOON);
        wait_for("the good ones", || count.get() == 10);
        wait_for("the bad ones", || timekeeper.stats().waker_panics == 10);
        // And it goes on.
        let _another = arm(timekeeper, SOON, &good);
        pass(2 * SOON);
        wait_for("the driver", || count.get() == 11);
        for sleep in &mut sleeps {
            assert!(poll(sleep, Waker::noop()).is_ready(), "it fired, whatever the waker did");
        }
    });
}

#[test]
fn a_panic_that_panics_again_when_dropped_does_not_end_the_driver() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("again");
        }
    }
    on_both(|timekeeper, pass| {
        timekeeper.call_at(timekeeper.now() + SOON, || std::panic::panic_any(Bomb)).detach();
        let (count, good) = counter();
        let _sleep = arm(timekeeper, 2 * SOON, &good);
        pass(3 * SOON);
        wait_for("the driver", || count.get() == 1);
        assert_eq!(timekeeper.stats().waker_panics, 1);
    });
}

#[test]
fn a_waker_that_panics_when_dropped_leaves_the_timer_whole() {
    let manual = Manual::new();
    let bomb = || on_drop(|| assert!(std::thread::panicking(), "in the drop of a waker"));
    let mut sleep = manual.timekeeper().sleep_until(manual.now() + SOON);
    {
        let waker = bomb();
        assert!(poll(&mut sleep, &waker).is_pending());
        // The clone in the timer is the last.
        drop(waker);
    }
    let (count, good) = counter();
    let replaced = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _ = poll(&mut sleep, &good);
    }));
    assert!(replaced.is_err());
    assert_eq!(manual.fast_forward(SOON), 1);
    assert_eq!(count.get(), 1, "the new waker was there before the old one was dropped");
    assert!(poll(&mut sleep, &good).is_ready());
}

#[test]
fn a_waker_may_arm_move_and_cancel_timers_of_its_timekeeper() {
    on_both(|timekeeper, pass| {
        let (count, inner) = counter();
        let held: Arc<Mutex<Vec<Sleep>>> = Arc::default();
        let waker = {
            let (timekeeper, held) = (timekeeper.clone(), held.clone());
            on_wake(move || {
                let mut held = held.lock().unwrap();
                for sleep in held.iter_mut() {
                    Pin::new(sleep).reset(timekeeper.now() + SOON);
                }
                held.truncate(3);
                held.push(arm(&timekeeper, SOON, &inner));
                let _ = timekeeper.stats();
            })
        };
        let (moved, moving) = counter();
        held.lock().unwrap().extend((0..5).map(|_| arm(timekeeper, MINUTE, &moving)));
        let _sleep = arm(timekeeper, SOON, &waker);
        pass(4 * SOON);
        wait_for("what was armed", || count.get() == 1);
        wait_for("what was moved", || moved.get() == 3);
        held.lock().unwrap().clear();
    });
}

#[test]
fn a_waker_may_drop_timers_when_it_is_dropped() {
    on_both(|timekeeper, pass| {
        let inner: Arc<Mutex<Vec<Sleep>>> = Arc::default();
        inner.lock().unwrap().extend((0..10).map(|_| arm(timekeeper, MINUTE, Waker::noop())));
        let waker = {
            let inner = inner.clone();
            on_drop(move || inner.lock().unwrap().clear())
        };
        // Dropped with the cancelled timer, by this thread,
        let sleep = arm(timekeeper, MINUTE, &waker);
        drop(waker);
        drop(sleep);
        assert_eq!(timekeeper.stats().live, 0);
        // and with the fired one, by the driver.
        inner.lock().unwrap().extend((0..10).map(|_| arm(timekeeper, MINUTE, Waker::noop())));
        let waker = {
            let inner = inner.clone();
            on_drop(move || inner.lock().unwrap().clear())
        };
        let _sleep = arm(timekeeper, SOON, &waker);
        drop(waker);
        pass(2 * SOON);
        wait_for("the drop", || inner.lock().unwrap().is_empty());
        assert_eq!(timekeeper.stats().live, 0);
    });
}

#[test]
fn callbacks_may_call_anything_shutdown_included() {
    on_both(|timekeeper, pass| {
        let (tx, rx) = mpsc::channel();
        let at = timekeeper.now() + SOON;
        let its = timekeeper.clone();
        timekeeper
            .call_at(at, move || {
                let _entered = its.enter();
                drop(deadbeat::time::sleep(SOON));
                its.call_at(its.now(), || {}).detach();
                drop(its.clone());
                its.shutdown();
                its.shutdown();
                tx.send(its.is_shut_down()).unwrap();
            })
            .detach();
        pass(2 * SOON);
        assert_eq!(rx.recv(), Ok(true));
        timekeeper.shutdown();
    });
}

#[test]
fn a_waker_that_blocks_makes_others_late_and_loses_none() {
    let timekeeper = Timekeeper::builder().build();
    let (release, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let blocking = on_wake(move || gate.lock().unwrap().recv().unwrap());
    let _blocked = arm(&timekeeper, SOON, &blocking);
    let (count, waker) = counter();
    let _others: Vec<_> = (0..2000).map(|i| arm(&timekeeper, SOON * (2 + i % 4), &waker)).collect();
    deadbeat::sleep_until(timekeeper.now() + 10 * SOON);
    let meanwhile = count.get();
    release.send(()).unwrap();
    wait_for("the others", || count.get() == 2000);
    assert!(meanwhile < 2000);
    assert!(timekeeper.stats().lateness.max() >= SOON);
}

#[test]
fn a_callback_that_waits_for_its_own_handle_to_be_cancelled_does_not_block() {
    let timekeeper = Timekeeper::builder().build();
    let (tx, rx) = mpsc::channel();
    let ran = Arc::new(AtomicUsize::new(0));
    let callback = {
        let ran = ran.clone();
        timekeeper.call_at(timekeeper.now() + SOON, move || {
            ran.fetch_add(1, SeqCst);
            tx.send(()).unwrap();
        })
    };
    rx.recv().unwrap();
    // It may still be running, or be over.
    assert!(!callback.cancel());
    assert_eq!(ran.load(SeqCst), 1);
}
