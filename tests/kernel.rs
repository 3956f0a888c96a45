//! What the driver thread is to the kernel: its signals, its slack, and what a fork makes of it. Linux.
#![cfg(target_os = "linux")]
#![expect(unsafe_code, reason = "signals and forks")]

mod common;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};
use std::task::{Context, Poll, Waker};

use common::{poll, wait_for};
use deadbeat::time::{Duration, Instant, sleep};
use deadbeat::{Timekeeper, block_on};

const MILLI: Duration = Duration::from_millis(1);

/// A Timekeeper whose thread runs, and that thread's id.
fn running(name: &str) -> (Timekeeper, String) {
    let timekeeper = Timekeeper::builder().name(name).build();
    block_on(timekeeper.sleep_until(timekeeper.now() + MILLI));
    // The other one that bears the name, which sets up the clock, ends by itself.
    let mut ids = Vec::new();
    wait_for("one thread", || {
        ids = common::threads(name);
        ids.len() == 1
    });
    (timekeeper, ids.remove(0))
}

fn status(thread: &str, field: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{thread}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).expect("such a field");
    line.split_whitespace().last().unwrap().to_owned()
}

#[test]
fn the_driver_blocks_every_signal_that_it_does_not_cause_itself() {
    let (_timekeeper, thread) = running("k-signals");
    let blocked = u64::from_str_radix(&status(&thread, "SigBlk"), 16).unwrap();
    for signal in 1..=64 {
        // The two that can't be blocked, those that the C library keeps for itself, and a thread's
        // own faults.
        let own =
            [libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGSEGV, libc::SIGSYS, libc::SIGTRAP];
        let never = [libc::SIGKILL, libc::SIGSTOP].contains(&signal)
            || (32..34).contains(&signal)
            || own.contains(&signal);
        assert_eq!(blocked >> (signal - 1) & 1 == 0, never, "signal {signal}: {blocked:x}");
    }
    // The thread that started it has its own mask back.
    assert_eq!(status("thread-self", "SigBlk").trim_start_matches('0'), "");
}

#[test]
fn the_driver_has_a_slack_of_a_nanosecond() {
    let (timekeeper, thread) = running("k-slack");
    let granted = timekeeper.stats().timer_slack;
    if granted != Some(Duration::from_nanos(1)) {
        return common::skip(&format!("the kernel grants no less than {granted:?}"));
    }
    // Not by its own word only.
    match std::fs::read_to_string(format!("/proc/{thread}/timerslack_ns")) {
        Ok(slack) => assert_eq!(slack.trim(), "1"),
        Err(error) => common::skip(&format!("/proc/{thread}/timerslack_ns: {error}")),
    }
}

static SIGNALS: AtomicU32 = AtomicU32::new(0);

extern "C" fn count_signal(_: libc::c_int) {
    SIGNALS.fetch_add(1, SeqCst);
}

#[test]
fn a_storm_of_signals_makes_no_timer_early_or_lost() {
    // SAFETY: the handler does nothing but an atomic addition; nobody else uses this signal.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = count_signal as extern "C" fn(libc::c_int) as usize;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()), 0);
    }
    let (timekeeper, _) = running("k-storm");
    let sleeper = {
        let timekeeper = timekeeper.clone();
        std::thread::spawn(move || {
            for i in 0..100 {
                let at = timekeeper.now() + Duration::from_micros(i * 37 % 2000);
                block_on(timekeeper.sleep_until(at));
                assert!(timekeeper.now() >= at, "early");
                deadbeat::sleep_until(timekeeper.now() + Duration::from_micros(200));
            }
        })
    };
    while !sleeper.is_finished() {
        // SAFETY: to this process, which has a handler.
        unsafe { libc::kill(libc::getpid(), libc::SIGUSR1) };
        std::thread::yield_now();
    }
    sleeper.join().unwrap();
    assert!(SIGNALS.load(SeqCst) > 0);
    let stats = timekeeper.stats();
    assert_eq!((stats.live, stats.waker_panics), (0, 0));
}

/// Runs `f` in a forked child, and says how it ended. Killed after ten seconds.
fn in_a_fork(f: impl FnOnce()) -> Result<(), String> {
    // SAFETY: the child runs `f` on its only thread and ends without unwinding into the test.
    match unsafe { libc::fork() } {
        -1 => panic!("fork: {}", std::io::Error::last_os_error()),
        0 => {
            // SAFETY: a deadline for the child: the default action ends it.
            unsafe { libc::alarm(10) };
            let ended = catch_unwind(AssertUnwindSafe(f));
            // SAFETY: ends the child at once, without the destructors of the parent's statics.
            unsafe { libc::_exit(i32::from(ended.is_err())) }
        }
        child => {
            let mut status = 0;
            // SAFETY: waits for the child above, which ends by itself or by its alarm.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            if status == 0 { Ok(()) } else { Err(format!("status {status:#x}")) }
        }
    }
}

/// Forks in a process of its own, without the threads of other tests.
fn fork_test(name: &str, test: impl FnOnce()) {
    if common::is_child() {
        test();
    } else {
        common::child_succeeds(name, &[]);
    }
}

#[test]
fn in_a_child_old_timers_are_refused_and_the_global_timekeeper_is_new() {
    fork_test("in_a_child_old_timers_are_refused_and_the_global_timekeeper_is_new", || {
        let (old, _) = running("k-fork");
        block_on(sleep(MILLI));
        let minute = old.now() + Duration::from_secs(60);
        let mut armed = old.sleep_until(minute);
        let mut soon = old.sleep_until(old.now() + MILLI);
        let mut unarmed = old.sleep_until(minute);
        let mut global_armed = sleep(Duration::from_secs(60));
        for sleep in [&mut armed, &mut soon, &mut global_armed] {
            assert!(poll(sleep, Waker::noop()).is_pending());
        }
        let child = in_a_fork(|| {
            let mut cx = Context::from_waker(Waker::noop());
            for sleep in [&mut armed, &mut unarmed, &mut global_armed] {
                let Poll::Ready(Err(error)) = sleep.try_poll(&mut cx) else {
                    panic!("a timer that nobody fires")
                };
                assert!(error.is_forked());
                let message = catch_unwind(AssertUnwindSafe(|| poll(sleep, Waker::noop())));
                let message = message.unwrap_err();
                let message = message.downcast_ref::<String>().expect("a message");
                assert!(message.contains("made before a fork"), "{message}");
            }
            // Time has gone on, so this one is ready as ever.
            deadbeat::sleep_until(soon.deadline());
            assert_eq!(soon.try_poll(&mut cx), Poll::Ready(Ok(())));
            std::pin::Pin::new(&mut armed).reset(Instant::now());
            assert_eq!(armed.try_poll(&mut cx), Poll::Ready(Ok(())));
            assert!(catch_unwind(AssertUnwindSafe(|| old.call_at(minute, || {}))).is_err());
            // The global one, another, and a thread that ends.
            std::thread::spawn(|| block_on(sleep(MILLI))).join().unwrap();
            assert_eq!(Timekeeper::global().stats().fired, 1);
            running("k-child");
            // And a grandchild.
            let own = Timekeeper::global().sleep_until(minute);
            let grandchild = in_a_fork(|| {
                let mut own = own;
                assert!(own.try_poll(&mut Context::from_waker(Waker::noop())).is_ready());
                block_on(sleep(MILLI));
            });
            assert_eq!(grandchild, Ok(()));
            block_on(sleep(MILLI));
            old.shutdown();
            assert!(old.is_shut_down());
            drop((armed, unarmed, soon, old));
        });
        assert_eq!(child, Ok(()));
        // The parent noticed nothing.
        block_on(sleep(MILLI));
    });
}

#[test]
fn a_fork_under_load_hangs_no_child() {
    fork_test("a_fork_under_load_hangs_no_child", || {
        let (old, _) = running("k-load");
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            // Shards and nodes come and go, and the driver works, at the moment of each fork.
            scope.spawn(|| {
                while !stop.load(SeqCst) {
                    let old = old.clone();
                    let arm = move || {
                        let at = old.now() + Duration::from_micros(50);
                        let mut many: Vec<_> = (0..300).map(|_| old.sleep_until(at)).collect();
                        many.iter_mut().for_each(|sleep| _ = poll(sleep, Waker::noop()));
                    };
                    std::thread::spawn(arm).join().unwrap();
                }
            });
            for _ in 0..20 {
                let mut armed = old.sleep_until(old.now() + Duration::from_secs(60));
                assert!(poll(&mut armed, Waker::noop()).is_pending());
                let mut fresh = old.sleep_until(old.now() + Duration::from_secs(60));
                let child = in_a_fork(|| {
                    let mut cx = Context::from_waker(Waker::noop());
                    assert!(matches!(fresh.try_poll(&mut cx), Poll::Ready(Err(_))));
                    drop(armed);
                    drop(fresh);
                    block_on(sleep(Duration::from_micros(100)));
                });
                assert_eq!(child, Ok(()));
            }
            stop.store(true, SeqCst);
        });
    });
}
