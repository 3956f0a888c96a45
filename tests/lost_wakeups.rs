//! The pitfalls that other timers have fallen into, one test each, as far as they can exist here.

mod common;

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, RawWaker, RawWakerVTable, Waker};
use std::thread;

use common::{counter, poll, rng, wait_for};
use deadbeat::clock::ManualClock;
use deadbeat::time::{Duration, Instant, Sleep, sleep, sleep_until};
use deadbeat::{Manual, Timekeeper};

const MILLI: Duration = Duration::from_millis(1);

fn arm(manual: &Manual, nap: Duration) -> Sleep {
    let mut sleep = manual.timekeeper().sleep_until(manual.now() + nap);
    assert!(poll(&mut sleep, Waker::noop()).is_pending());
    sleep
}

/// 1. The timer fires between the look at its state and the registration of the waker.
#[test]
fn a_firing_between_look_and_registration_is_not_lost() {
    let timekeeper = Timekeeper::builder().build();
    for i in 0..3000 {
        let mut sleep = timekeeper.sleep_until(timekeeper.now() + Duration::from_micros(i % 20));
        let (count, waker) = counter();
        if poll(&mut sleep, &waker).is_ready() {
            continue;
        }
        // New wakers all the time, across the firing.
        let mut last = count;
        while {
            let (count, waker) = counter();
            let pending = poll(&mut sleep, &waker).is_pending();
            if pending {
                last = count;
            }
            pending && i % 3 > 0
        } {}
        if i % 3 == 0 && !sleep.is_elapsed() {
            wait_for("the last waker", || last.get() == 1 || sleep.is_elapsed());
        }
    }
}

/// 2. A cancellation races the way from the inbox into the wheel.
#[test]
fn a_cancellation_on_the_way_into_the_wheel_leaks_nothing() {
    let timekeeper = Timekeeper::builder().build();
    for i in 0..20_000u64 {
        let at = timekeeper.now() + Duration::from_micros(5 + i % 7) + Duration::from_secs(i % 2);
        let mut sleep = timekeeper.sleep_until(at);
        let _ = poll(&mut sleep, Waker::noop());
    }
    let stats = timekeeper.stats();
    assert_eq!(stats.live, 0);
    assert!(stats.nodes <= 512, "{stats:?}");
}

/// 3. The driver computes its wake time while another thread arms an earlier timer.
#[test]
fn an_earlier_timer_is_seen_while_the_driver_goes_to_sleep() {
    let timekeeper = Timekeeper::builder().build();
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let timekeeper = timekeeper.clone();
            thread::spawn(move || {
                for i in 0..1500 {
                    // A long one, so that it sleeps, and a short one, so that it must not.
                    let now = timekeeper.now();
                    let mut long = timekeeper.sleep_until(now + Duration::from_secs(100));
                    let mut short = timekeeper.sleep_until(now + Duration::from_micros(i % 60));
                    let (count, waker) = counter();
                    let _ = poll(&mut long, Waker::noop());
                    if poll(&mut short, &waker).is_pending() {
                        wait_for("the short one", || count.get() == 1);
                    }
                }
            })
        })
        .collect();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// 4. The slot of the cursor holds timers that are a rotation away.
#[test]
fn timers_a_full_rotation_away_wait_their_turn() {
    for level in 1..10 {
        let rotation = 1u64 << (6 * level);
        for offset in [-1i64, 0, 1] {
            let manual = Manual::new();
            manual.fast_forward(Duration::from_nanos(rotation / 2 + 3));
            let nap = Duration::from_nanos(rotation.saturating_add_signed(offset));
            let mut far = arm(&manual, nap);
            let _near = arm(&manual, Duration::from_nanos(2));
            assert_eq!(manual.fast_forward(nap - Duration::from_nanos(1)), 1, "level {level}");
            assert!(poll(&mut far, Waker::noop()).is_pending());
            assert_eq!(manual.fast_forward(Duration::from_nanos(1)), 1, "level {level}");
        }
    }
}

/// 5. A later, finer timer hides an earlier, coarser one.
#[test]
fn a_later_fine_timer_does_not_hide_an_earlier_coarse_one() {
    let manual = Manual::new();
    let _entered = manual.enter();
    let start = manual.now();
    let mut coarse = sleep_until(start + MILLI * 900).with_slack(MILLI * 200);
    assert!(poll(&mut coarse, Waker::noop()).is_pending());
    manual.fast_forward(MILLI * 850);
    let mut fine = sleep_until(start + MILLI * 1101);
    assert!(poll(&mut fine, Waker::noop()).is_pending());
    manual.advance_to_next();
    assert!(poll(&mut coarse, Waker::noop()).is_ready());
    assert!(manual.now() <= start + MILLI * 1100);
    assert!(poll(&mut fine, Waker::noop()).is_pending());
}

/// 6. Where a timer stands is derived again after time has gone on.
#[test]
fn a_timer_is_found_for_moving_and_removing_after_time_went_on() {
    let (_, mut rng) = rng();
    let manual = Manual::new();
    let mut all: Vec<_> = (0..500).map(|i| arm(&manual, MILLI * (i * i + 1))).collect();
    while let Some(mut sleep) = all.pop() {
        manual.fast_forward(Duration::from_micros(rng.u64(0..100)));
        if !sleep.is_elapsed() && rng.bool() {
            let earlier = sleep.deadline() - Duration::from_micros(rng.u64(0..1000));
            Pin::new(&mut sleep).reset(earlier);
            manual.fast_forward(Duration::ZERO);
        }
        drop(sleep);
        if rng.bool() {
            drop(arm(&manual, Duration::from_micros(rng.u64(1..100_000))));
        }
    }
    manual.fast_forward(Duration::from_secs(1000));
    let stats = manual.timekeeper().stats();
    assert_eq!((stats.live, stats.garbage), (0, 0));
}

/// 7. A wake time that has passed makes the driver spin.
#[test]
fn a_wake_time_that_has_passed_does_not_make_the_driver_spin() {
    let timekeeper = Timekeeper::builder().build();
    let _entered = timekeeper.enter();
    let mut past = sleep(Duration::from_secs(5));
    assert!(poll(&mut past, Waker::noop()).is_pending());
    // Due long ago, and fired at once.
    Pin::new(&mut past).reset(Instant::now() - Duration::from_secs(5));
    wait_for("the timer", || past.is_elapsed());
    let wakes = timekeeper.stats().wakes;
    deadbeat::sleep_until(Instant::now() + MILLI * 50);
    assert!(timekeeper.stats().wakes <= wakes + 1);
}

/// 8. Uptimes and deadlines around powers of two, and the end of the numbers.
#[test]
fn long_uptimes_and_far_deadlines_wrap_nothing() {
    let ends = [1u64 << 30, 1 << 36, 1 << 42, 1 << 50, 1 << 56, 1 << 63, u64::MAX - 1_000_000_000];
    for start in ends.into_iter().flat_map(|end| [end - 1000, end - 1, end, end + 1]) {
        let clock = ManualClock::new();
        clock.set(Instant::from_nanos(start));
        let manual = Manual::with_clock(clock);
        let naps = [1, 999, 1000, 1001, 1 << 20, 999_999_999];
        let _far = arm(&manual, Duration::MAX);
        for nap in naps {
            let deadline = manual.now() + Duration::from_nanos(nap);
            let mut sleep = manual.timekeeper().sleep_until(deadline);
            if manual.now() == Instant::FAR_FUTURE {
                break;
            }
            assert!(poll(&mut sleep, Waker::noop()).is_pending());
            manual.fast_forward(Duration::from_nanos(nap - 1));
            assert!(poll(&mut sleep, Waker::noop()).is_pending() || deadline == manual.now());
            manual.fast_forward(Duration::from_nanos(1));
            assert!(poll(&mut sleep, Waker::noop()).is_ready(), "{start} + {nap}");
        }
    }
}

// 9, wakers called and dropped under a lock: `p09_no_lock_while_calling_out.rs`.

/// 10. A duration is truncated to the tick, and so fires early.
#[test]
fn no_part_of_a_duration_is_cut_off() {
    for nap in [1, 63, 64, 65, 1023, 1025, 255_500_000, 999_999, 1_000_001] {
        let manual = Manual::new();
        let _sleep = arm(&manual, Duration::from_nanos(nap));
        assert_eq!(manual.fast_forward(Duration::from_nanos(nap - 1)), 0, "{nap}");
        assert_eq!(manual.fast_forward(Duration::from_nanos(1)), 1, "{nap}");
    }
}

// 11, wall-clock time: nothing here reads it. 12, garbage: `p07_bounded_garbage.rs`.

/// 13. A slot full of timers of one length holds up everything else.
#[test]
fn a_burst_of_one_moment_does_not_hold_up_what_is_due_after_it() {
    let manual = Manual::new();
    let burst: Vec<_> = (0..100_000).map(|_| arm(&manual, MILLI)).collect();
    let _after = arm(&manual, MILLI + Duration::from_nanos(1));
    assert_eq!(manual.fast_forward(MILLI), 100_000);
    assert_eq!(manual.fast_forward(Duration::from_nanos(1)), 1);
    drop(burst);
}

/// 14. The driver is held up, by a waker here; a suspended machine looks the same to it.
#[test]
fn a_driver_that_was_held_up_catches_up() {
    let timekeeper = Timekeeper::builder().build();
    let start = timekeeper.now();
    timekeeper
        .call_at(start + MILLI * 50, move || deadbeat::sleep_until(start + MILLI * 110))
        .detach();
    let mut sleeps: Vec<_> =
        (0..50).map(|i| timekeeper.sleep_until(start + MILLI * (51 + i))).collect();
    let counts: Vec<_> = sleeps
        .iter_mut()
        .map(|sleep| {
            let (count, waker) = counter();
            assert!(poll(sleep, &waker).is_pending());
            count
        })
        .collect();
    wait_for("all of them", || counts.iter().all(|count| count.get() == 1));
    assert!(timekeeper.now() >= start + MILLI * 110);
}

/// 15. A stale name reaches a stranger's timer.
#[test]
fn a_node_that_was_used_again_belongs_to_its_new_owner() {
    let manual = Manual::new();
    let mut first = arm(&manual, MILLI);
    manual.fast_forward(MILLI);
    assert!(poll(&mut first, Waker::noop()).is_ready());
    // The same node, while the first owner still exists.
    let (count, waker) = counter();
    let mut second = manual.timekeeper().sleep_until(manual.now() + MILLI);
    assert!(poll(&mut second, &waker).is_pending());
    Pin::new(&mut first).reset(manual.now() + MILLI * 5);
    drop(first);
    assert_eq!(manual.fast_forward(MILLI), 1);
    assert_eq!(count.get(), 1);
}

/// 16. Another waker means out of the structure and in again.
#[test]
fn another_waker_touches_neither_wheel_nor_driver() {
    let manual = Manual::new();
    let mut sleep = arm(&manual, MILLI);
    let before = manual.timekeeper().stats();
    for _ in 0..1000 {
        let (_, waker) = counter();
        assert!(poll(&mut sleep, &waker).is_pending());
    }
    let after = manual.timekeeper().stats();
    assert_eq!((after.armed, after.kicks), (before.armed, before.kicks));
    assert_eq!(manual.fast_forward(MILLI), 1);
}

/// A shutdown or the last drop of a handle, at any moment of the driver's loop.
#[test]
fn orders_reach_a_driver_that_is_going_to_sleep() {
    for i in 0..400u64 {
        let timekeeper = Timekeeper::builder().name("lost-orders").build();
        let mut sleep = timekeeper.sleep_until(timekeeper.now() + Duration::from_secs(60));
        let _ = poll(&mut sleep, Waker::noop());
        drop(sleep);
        let until = timekeeper.now() + Duration::from_nanos(i * 400);
        while timekeeper.now() < until {
            std::hint::spin_loop();
        }
        if i % 2 == 0 {
            timekeeper.shutdown();
        } else {
            drop(timekeeper);
        }
    }
    if cfg!(target_os = "linux") {
        wait_for("the threads to end", || common::threads("lost-orders").is_empty());
    }
}

/// A waker that borrows: its address says nothing about the task, only that of its clones does.
#[test]
fn a_waker_that_lives_on_the_stack_is_not_taken_for_the_one_before_it() {
    struct Borrowed(Arc<common::Count>);
    static BORROWED: RawWakerVTable = RawWakerVTable::new(
        |data| {
            // Cloning gives a waker of its own.
            let waker = Waker::from(borrowed(data).0.clone());
            let raw = RawWaker::new(waker.data(), waker.vtable());
            std::mem::forget(waker);
            raw
        },
        |_| (),
        |_| (),
        |_| (),
    );
    fn borrowed<'a>(data: *const ()) -> &'a Borrowed {
        #[expect(unsafe_code, reason = "what a waker is made of")]
        // SAFETY: the test keeps it where it is for as long as wakers point to it.
        unsafe {
            &*data.cast()
        }
    }
    let manual = Manual::new();
    let mut sleep = manual.timekeeper().sleep_until(manual.now() + MILLI);
    let counts: [Arc<common::Count>; 2] = Default::default();
    let mut place = Borrowed(counts[0].clone());
    for count in &counts {
        place.0 = count.clone();
        let raw = RawWaker::new((&raw const place).cast(), &BORROWED);
        #[expect(unsafe_code, reason = "as above")]
        // SAFETY: the vtable's functions do what the contract asks for; `place` outlives it.
        let waker = unsafe { Waker::from_raw(raw) };
        let mut cx = Context::from_waker(&waker);
        assert_eq!(Future::poll(Pin::new(&mut sleep), &mut cx), Poll::Pending);
    }
    manual.fast_forward(MILLI);
    assert_eq!([counts[0].get(), counts[1].get()], [0, 1]);
}

/// The deadline is moved while nobody polls: the task is woken at the new time all the same.
#[test]
fn a_task_is_woken_at_a_deadline_that_was_moved_behind_its_back() {
    let manual = Manual::new();
    let _entered = manual.enter();
    for (first, second) in [(10, 3), (3, 10), (10, 10)] {
        let (count, waker) = counter();
        let mut sleep = sleep(MILLI * first);
        assert!(poll(&mut sleep, &waker).is_pending());
        Pin::new(&mut sleep).reset(manual.now() + MILLI * second);
        manual.fast_forward(MILLI * second - Duration::from_nanos(1));
        assert_eq!(count.get(), 0);
        manual.fast_forward(Duration::from_nanos(1));
        assert_eq!(count.get(), 1);
        assert!(sleep.is_elapsed());
        assert!(poll(&mut sleep, &waker).is_ready());
    }
}
