//! Input at the edges, and uses that were not intended: defined behaviour, no panic but where it is
//! documented, no hang, no leak.
#![cfg_attr(
    target_os = "linux",
    expect(unsafe_code, reason = "limits what the process may allocate")
)]

mod common;

use std::cell::RefCell;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc;
use std::task::{Context, Poll, Waker};
use std::thread;

use common::{counter, poll, wait_for};
use deadbeat::clock::{ManualClock, Witness};
use deadbeat::time::{DelayQueue, Duration, Instant, Sleep, interval, sleep, sleep_until};
use deadbeat::{Manual, Timekeeper, block_on};

const MILLI: Duration = Duration::from_millis(1);
const MINUTE: Duration = Duration::from_secs(60);

/// What it panics with.
#[track_caller]
fn panic_of(f: impl FnOnce()) -> String {
    let payload = catch_unwind(AssertUnwindSafe(f)).expect_err("it should panic");
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).expect("a message")
}

fn try_poll(sleep: &mut Sleep) -> Poll<Result<(), String>> {
    let mut cx = Context::from_waker(Waker::noop());
    sleep.try_poll(&mut cx).map_err(|error| error.to_string())
}

#[test]
fn any_duration_is_valid() {
    let manual = Manual::new();
    let _entered = manual.enter();
    let mut now = sleep(Duration::ZERO);
    assert!(poll(&mut now, Waker::noop()).is_ready());
    for far in [Duration::MAX, Duration::from_nanos(u64::MAX), Duration::from_secs(u64::MAX)] {
        assert!(poll(&mut sleep(far), Waker::noop()).is_pending());
    }
    let real = Timekeeper::builder().build();
    let _entered = real.enter();
    let mut never = sleep(Duration::MAX);
    assert!(poll(&mut never, Waker::noop()).is_pending());
    block_on(sleep(MILLI));
    assert!(poll(&mut never, Waker::noop()).is_pending());
}

#[test]
fn a_deadline_that_has_passed_is_ready_at_once() {
    for past in [Instant::from_nanos(0), Instant::now(), Instant::now() - MINUTE] {
        assert!(poll(&mut sleep_until(past), Waker::noop()).is_ready());
        deadbeat::sleep_until(past);
    }
    let manual = Manual::new();
    let mut armed = manual.timekeeper().sleep_until(manual.now() + MINUTE);
    assert!(poll(&mut armed, Waker::noop()).is_pending());
    Pin::new(&mut armed).reset(Instant::from_nanos(0));
    assert_eq!(manual.next_deadline(), Some(Instant::from_nanos(0)));
    assert_eq!(manual.fast_forward(Duration::ZERO), 1);
    assert!(poll(&mut armed, Waker::noop()).is_ready());
}

#[test]
fn a_clock_that_is_set_back_hangs_nothing_and_makes_nothing_early() {
    let clock = ManualClock::new();
    let manual = Manual::with_clock(clock.clone());
    let _entered = manual.enter();
    let start = manual.now();
    let mut before = sleep(MINUTE);
    assert!(poll(&mut before, Waker::noop()).is_pending());
    manual.fast_forward(MINUTE / 2);
    clock.set(start - MINUTE);
    let mut after = sleep(MILLI);
    assert!(poll(&mut after, Waker::noop()).is_pending());
    // Whether the clock follows to the past or stands still is its affair. Time comes again.
    let deadline = after.deadline();
    manual.fast_forward(MINUTE * 2);
    assert!(manual.now() >= deadline);
    assert!(poll(&mut after, Waker::noop()).is_ready());
    clock.set(start - MINUTE);
    let mut third = sleep(MILLI);
    if poll(&mut third, Waker::noop()).is_pending() {
        manual.advance_to_next();
        assert!(manual.now() >= third.deadline());
        assert!(poll(&mut third, Waker::noop()).is_ready());
    }
    clock.set(start - MINUTE);
    manual.block_on(async { sleep(MILLI).await });
    manual.fast_forward(MINUTE * 4);
    assert!(poll(&mut before, Waker::noop()).is_ready());
}

/// What was due before the clock was set back is due again when time comes to where it was.
#[test]
fn what_lies_in_the_past_of_a_clock_that_was_set_back_ends() {
    let set_back = || {
        let clock = ManualClock::new();
        let manual = Manual::with_clock(clock.clone());
        manual.fast_forward(MINUTE * 2);
        clock.set(manual.now() - MINUTE);
        manual
    };
    let manual = set_back();
    let past = manual.now() - MINUTE / 2;
    manual.block_on(async { sleep_until(past).await });
    set_back().block_on(async {
        let mut ticks = interval(MILLI);
        ticks.tick().await;
        ticks.tick().await;
    });
    set_back().block_on(async {
        let mut queue = DelayQueue::new();
        queue.insert((), Duration::ZERO);
        assert!(poll_fn(|cx| queue.poll_expired(cx)).await.is_some());
    });
}

/// A counter that is disciplined has an error bound, and may be ahead or behind for a while.
#[test]
fn a_scripted_clock_comes_to_every_deadline_whatever_happens_to_it() {
    let scripted = || {
        let clock = ManualClock::scripted(2_300_000_000);
        for _ in 0..4 {
            clock.clock().calibrate();
            clock.advance(MILLI * 3);
        }
        (clock.clone(), Manual::with_clock(clock))
    };
    for jump in [0, 9_000, -9_000, 1_000_000_000, -1_000_000_000] {
        let (clock, manual) = scripted();
        clock.jump(Witness::Monotonic, jump);
        manual.block_on(async { sleep(MINUTE).await });
        let before = clock.witness(Witness::Monotonic);
        manual.timekeeper().call_at(manual.now() + MILLI, || {}).detach();
        manual.fast_forward(MILLI * 2);
        assert!(clock.witness(Witness::Monotonic) >= before, "moved back after {jump}");
        assert_eq!(manual.timekeeper().stats().live, 0, "after {jump}");
    }
}

#[test]
fn a_manual_timekeeper_without_handles_ends_its_timers_and_drops_its_callbacks() {
    let manual = Manual::new();
    let kept = Arc::new(());
    let (detached, never) = (kept.clone(), kept.clone());
    manual.timekeeper().call_at(manual.now() + MINUTE, move || drop(detached)).detach();
    manual.timekeeper().call_at(Instant::FAR_FUTURE, move || drop(never)).detach();
    let mut nap = manual.timekeeper().sleep(MINUTE);
    let (count, waker) = counter();
    assert!(poll(&mut nap, &waker).is_pending());
    drop(manual);
    assert_eq!(Arc::strong_count(&kept), 1);
    assert_eq!(count.get(), 1);
    assert!(matches!(nap.try_poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(Err(_))));
}

#[test]
fn a_call_that_never_comes_is_dropped_with_its_timekeeper() {
    let timekeeper = Timekeeper::builder().build();
    let kept = Arc::new(());
    let never = kept.clone();
    timekeeper.call_at(Instant::FAR_FUTURE, move || drop(never)).detach();
    drop(timekeeper);
    assert_eq!(Arc::strong_count(&kept), 1);
}

#[test]
fn a_clock_that_is_set_to_its_end_stays_there() {
    let manual = Manual::new();
    let _entered = manual.enter();
    let mut last = sleep_until(Instant::from_nanos(u64::MAX - 1));
    let mut never = sleep(Duration::MAX);
    let _ = (poll(&mut last, Waker::noop()), poll(&mut never, Waker::noop()));
    manual.fast_forward(Duration::MAX);
    manual.fast_forward(Duration::MAX);
    assert_eq!(manual.now(), Instant::FAR_FUTURE);
    assert!(poll(&mut last, Waker::noop()).is_ready());
    assert!(poll(&mut sleep_until(manual.now()), Waker::noop()).is_ready());
    assert_eq!(manual.advance_to_next(), None);
}

#[test]
fn a_timekeeper_that_is_dropped_serves_its_timers_to_the_end() {
    let timekeeper = Timekeeper::builder().name("bad-dropped").build();
    let (count, waker) = counter();
    let mut sleeps: Vec<_> =
        (30..50).map(|i| timekeeper.sleep_until(timekeeper.now() + MILLI * i)).collect();
    for sleep in &mut sleeps {
        assert!(poll(sleep, &waker).is_pending());
    }
    let (tx, rx) = mpsc::channel();
    timekeeper.call_at(timekeeper.now() + MILLI * 5, move || tx.send(()).unwrap()).detach();
    drop(timekeeper);
    rx.recv().unwrap();
    wait_for("all of them", || count.get() == 20);
    if cfg!(target_os = "linux") {
        wait_for("the thread to end", || common::threads("bad-dropped").is_empty());
    }
    // And starts again for one more.
    Pin::new(&mut sleeps[0]).reset(Instant::now() + MILLI);
    block_on(sleeps.swap_remove(0));
}

#[test]
fn after_a_shutdown_what_is_due_is_ready_and_the_rest_an_error() {
    let timekeeper = Timekeeper::builder().name("bad-stopped").build();
    let at = |nap| timekeeper.sleep_until(timekeeper.now() + nap);
    let (mut armed, mut unarmed, mut far) = (at(MINUTE), at(MINUTE), at(Duration::MAX));
    let mut soon = {
        let _entered = timekeeper.enter();
        sleep(MILLI)
    };
    let (count, waker) = counter();
    assert!(poll(&mut armed, &waker).is_pending());
    assert!(poll(&mut far, &waker).is_pending());
    assert!(!timekeeper.is_shut_down());
    let other = timekeeper.clone();
    timekeeper.shutdown();
    assert!(other.is_shut_down());
    assert_eq!(count.get(), 2, "all are woken");
    let stopped = "the timekeeper of this timer was shut down before its deadline";
    for sleep in [&mut armed, &mut unarmed, &mut far] {
        assert_eq!(try_poll(sleep), Poll::Ready(Err(stopped.to_owned())));
        assert_eq!(try_poll(sleep), Poll::Ready(Err(stopped.to_owned())), "and again");
        assert!(!sleep.is_elapsed());
        assert_eq!(panic_of(|| _ = poll(sleep, Waker::noop())), stopped);
    }
    assert!(panic_of(|| drop(other.call_at(other.now(), || {}))).contains("shut down"));
    // Whose deadline has come before its first poll is ready as ever.
    deadbeat::sleep_until(soon.deadline());
    assert_eq!(try_poll(&mut soon), Poll::Ready(Ok(())));
    Pin::new(&mut armed).reset(Instant::now());
    assert_eq!(try_poll(&mut armed), Poll::Ready(Ok(())));
    timekeeper.shutdown();
    if cfg!(target_os = "linux") {
        assert!(common::threads("bad-stopped").is_empty(), "shutdown returned before the end");
    }
}

#[test]
fn the_global_timekeeper_cannot_be_shut_down() {
    let message = panic_of(|| Timekeeper::global().shutdown());
    assert!(message.contains("global"), "{message}");
    block_on(sleep(MILLI));
}

#[test]
fn polled_after_completion_it_is_ready_again() {
    let manual = Manual::new();
    let _entered = manual.enter();
    let mut nap = sleep(MILLI);
    assert!(poll(&mut nap, Waker::noop()).is_pending());
    manual.fast_forward(MILLI);
    for _ in 0..3 {
        assert!(poll(&mut nap, Waker::noop()).is_ready());
        assert!(nap.is_elapsed());
    }
    Pin::new(&mut nap).reset(manual.now() + MILLI);
    assert!(!nap.is_elapsed());
    assert!(poll(&mut nap, Waker::noop()).is_pending());
    assert_eq!(manual.fast_forward(MILLI), 1);
    assert!(poll(&mut nap, Waker::noop()).is_ready());
}

#[test]
fn what_is_armed_while_the_driver_stops_is_woken_or_refused() {
    for round in 0..60 {
        let timekeeper = Timekeeper::builder().build();
        let go = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !go.load(SeqCst) {
                        std::hint::spin_loop();
                    }
                    for _ in 0..200 {
                        let mut sleep = timekeeper.sleep_until(timekeeper.now() + MINUTE);
                        let (count, waker) = counter();
                        match sleep.try_poll(&mut Context::from_waker(&waker)) {
                            Poll::Pending => {}
                            Poll::Ready(done) => {
                                done.expect_err("a minute early");
                                break;
                            }
                        }
                        if timekeeper.is_shut_down() {
                            wait_for("to be woken", || count.get() == 1);
                            assert!(try_poll(&mut sleep).is_ready());
                        }
                    }
                });
            }
            if round % 2 == 0 {
                // There is a thread already.
                let _ = try_poll(&mut timekeeper.sleep_until(timekeeper.now() + MINUTE));
            }
            go.store(true, SeqCst);
            (0..round * 50).for_each(|_| std::hint::spin_loop());
            timekeeper.shutdown();
        });
        assert_eq!(timekeeper.stats().live, 0);
    }
}

thread_local! {
    static AT_THE_END: RefCell<Vec<AtTheEnd>> = const { RefCell::new(Vec::new()) };
}

/// Does all that can be done with timers when its thread ends.
struct AtTheEnd {
    timekeeper: Timekeeper,
    held: Option<Sleep>,
    count: Arc<AtomicUsize>,
}

impl Drop for AtTheEnd {
    fn drop(&mut self) {
        drop(self.held.take());
        let _entered = self.timekeeper.enter();
        let mut short = sleep(MILLI);
        assert!(poll(&mut short, Waker::noop()).is_pending());
        drop(sleep(MINUTE));
        let mut moved = sleep(MINUTE);
        assert!(poll(&mut moved, Waker::noop()).is_pending());
        Pin::new(&mut moved).reset(Instant::now() + MILLI);
        block_on(short);
        block_on(moved);
        self.count.fetch_add(1, SeqCst);
    }
}

#[test]
fn destructors_of_thread_locals_may_use_timers() {
    let timekeeper = Timekeeper::builder().build();
    let count = Arc::<AtomicUsize>::default();
    for arm_first in [false, true] {
        let (timekeeper, count) = (timekeeper.clone(), count.clone());
        thread::spawn(move || {
            // Thread-locals end in the reverse order of their first use, on most platforms: once
            // before the crate's own, and once after.
            let arm = || {
                let mut held = timekeeper.sleep_until(timekeeper.now() + MINUTE);
                assert!(poll(&mut held, Waker::noop()).is_pending());
                Some(held)
            };
            let early = if arm_first { arm() } else { None };
            AT_THE_END.with_borrow_mut(|list| {
                list.push(AtTheEnd { timekeeper: timekeeper.clone(), held: None, count });
            });
            let held = early.or_else(arm);
            AT_THE_END.with_borrow_mut(|list| list[0].held = held);
        })
        .join()
        .unwrap();
    }
    assert_eq!(count.load(SeqCst), 2);
    wait_for("what is left", || timekeeper.stats().live == 0);
}

#[test]
fn a_sleep_may_be_made_polled_and_dropped_on_three_threads() {
    let timekeeper = Timekeeper::builder().build();
    for _ in 0..50 {
        let its = timekeeper.clone();
        let mut sleep = thread::spawn(move || its.sleep_until(its.now() + MINUTE)).join().unwrap();
        let sleep = thread::spawn(move || {
            assert!(poll(&mut sleep, Waker::noop()).is_pending());
            sleep
        });
        let sleep = sleep.join().unwrap();
        thread::spawn(move || drop(sleep)).join().unwrap();
    }
    let stats = timekeeper.stats();
    assert_eq!((stats.live, stats.cancelled), (0, 50));
}

#[test]
fn guards_may_be_dropped_out_of_order_or_forgotten_without_harm() {
    thread::spawn(|| {
        let (a, b) = (Timekeeper::builder().build(), Timekeeper::builder().build());
        let (first, second) = (a.enter(), b.enter());
        let message = panic_of(|| drop(first));
        assert!(message.contains("out of order"), "{message}");
        // What the other would put back may be gone: nothing is current.
        drop(a);
        let message = panic_of(|| drop(second));
        assert!(message.contains("out of order"), "{message}");
        block_on(sleep(MILLI));
        drop(b);

        let c = Timekeeper::builder().build();
        std::mem::forget(c.enter());
        drop(c);
        // The forgotten guard keeps it alive, and current.
        block_on(sleep(MILLI));
        assert_eq!(Timekeeper::current().stats().fired, 1);
    })
    .join()
    .unwrap();
}

#[test]
fn a_guard_that_is_dropped_by_a_panic_does_not_panic_again() {
    let timekeeper = Timekeeper::builder().build();
    let message = panic_of(|| {
        let outer = timekeeper.enter();
        let _inner = timekeeper.enter();
        let _swapped = outer;
        panic!("first");
    });
    assert_eq!(message, "first");
}

#[test]
fn a_name_with_a_nul_byte_is_refused_and_any_other_is_not() {
    let message = panic_of(|| drop(Timekeeper::builder().name("a\0b").build()));
    assert!(message.contains("NUL"), "{message}");
    for name in ["", "a name of many more bytes than a kernel keeps", "ünï", "\n"] {
        let timekeeper = Timekeeper::builder().name(name).build();
        block_on(timekeeper.sleep_until(timekeeper.now() + MILLI));
    }
}

#[test]
fn a_clock_that_is_moved_by_hand_takes_a_manual_timekeeper() {
    let clock = ManualClock::new().clock();
    let message = panic_of(|| drop(Timekeeper::builder().clock(clock).build()));
    assert!(message.contains("Manual"), "{message}");
}

#[test]
fn a_callback_runs_once_or_is_cancelled() {
    let manual = Manual::new();
    let (ran, timekeeper) = (Arc::<AtomicUsize>::default(), manual.timekeeper());
    let call = |at| {
        let ran = ran.clone();
        timekeeper.call_at(at, move || {
            ran.fetch_add(1, SeqCst);
        })
    };
    let at = manual.now() + MILLI;
    assert!(call(at).cancel());
    drop(call(at));
    call(at).detach();
    let late = call(at);
    // One that is due at once runs in the driver, not here.
    call(manual.now()).detach();
    call(Instant::from_nanos(0)).detach();
    assert_eq!(ran.load(SeqCst), 0);
    manual.fast_forward(MILLI);
    assert_eq!(ran.load(SeqCst), 4);
    assert!(!late.cancel());
    let never = call(Instant::FAR_FUTURE);
    manual.fast_forward(MINUTE);
    assert!(never.cancel());
    assert_eq!(ran.load(SeqCst), 4);
    assert_eq!(Arc::strong_count(&ran), 1, "a closure is left");
}

#[test]
fn on_a_driver_thread_a_callback_that_is_due_runs_there() {
    for spin in [false, true] {
        let timekeeper = Timekeeper::builder().spin(spin).build();
        for at in [Instant::from_nanos(0), timekeeper.now(), timekeeper.now() + MILLI / 50] {
            let (tx, rx) = mpsc::channel();
            timekeeper.call_at(at, move || tx.send(thread::current().id()).unwrap()).detach();
            assert_ne!(rx.recv().unwrap(), thread::current().id());
        }
    }
}

#[test]
fn a_hundred_timekeepers_leave_no_thread() {
    for i in 0..100u64 {
        let timekeeper = Timekeeper::builder().name("bad-hundred").build();
        let mut sleep = timekeeper.sleep_until(timekeeper.now() + Duration::from_micros(i * 10));
        let _ = poll(&mut sleep, Waker::noop());
        match i % 4 {
            0 => timekeeper.shutdown(),
            1 => drop(sleep),
            // The handle first.
            2 => drop(timekeeper),
            _ => block_on(sleep),
        }
    }
    if cfg!(target_os = "linux") {
        wait_for("the threads to end", || common::threads("bad-hundred").is_empty());
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_thread_that_cannot_be_started_is_a_panic_and_the_next_arming_tries_again() {
    const NAME: &str = "a_thread_that_cannot_be_started_is_a_panic_and_the_next_arming_tries_again";
    if !common::is_child() {
        common::child_succeeds(NAME, &[]);
        return;
    }
    let timekeeper = Timekeeper::builder().build();
    let mut refused = timekeeper.sleep_until(timekeeper.now() + MILLI);
    let limit = |soft| {
        // SAFETY: a place for the limits, for the duration of the calls.
        unsafe {
            let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            assert_eq!(libc::getrlimit(libc::RLIMIT_AS, &raw mut limit), 0);
            limit.rlim_cur = soft;
            assert_eq!(libc::setrlimit(libc::RLIMIT_AS, &raw const limit), 0);
        }
    };
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    let pages: u64 = statm.split_whitespace().next().unwrap().parse().unwrap();
    // Room for the heap, but not for a stack.
    limit(pages * 4096 + (1 << 20));
    let message = panic_of(|| _ = poll(&mut refused, Waker::noop()));
    limit(libc::RLIM_INFINITY);
    assert!(message.contains("could not be started"), "{message}");
    block_on(timekeeper.sleep_until(timekeeper.now() + MILLI));
    block_on(refused);
}
