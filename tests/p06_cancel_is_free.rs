//! P6: cancelling takes no lock, makes no system call, wakes nobody.
#![cfg_attr(target_os = "linux", expect(unsafe_code, reason = "marks a place in a trace"))]

mod common;

use std::sync::Arc;
use std::task::Waker;

use common::{counter, poll, wait_for};
use deadbeat::time::{Duration, Sleep};
use deadbeat::{Manual, Timekeeper};

const MINUTE: Duration = Duration::from_secs(60);

fn armed(timekeeper: &Timekeeper, n: u32, waker: &Waker) -> Vec<Sleep> {
    (0..n)
        .map(|i| {
            let at = timekeeper.now() + MINUTE + Duration::from_micros(i.into());
            let mut sleep = timekeeper.sleep_until(at);
            assert!(poll(&mut sleep, waker).is_pending());
            sleep
        })
        .collect()
}

#[test]
fn cancelling_kicks_nobody_and_wakes_nobody() {
    let timekeeper = Timekeeper::builder().name("p06").build();
    let (count, waker) = counter();
    let sleeps = armed(&timekeeper, 5000, &waker);
    let mut settled = timekeeper.stats();
    wait_for("the driver to sleep", || {
        deadbeat::sleep_until(timekeeper.now() + Duration::from_millis(5));
        let before = std::mem::replace(&mut settled, timekeeper.stats());
        (before.wakes, before.kicks) == (settled.wakes, settled.kicks)
    });
    drop(sleeps);
    let after = timekeeper.stats();
    assert_eq!(after.kicks, settled.kicks);
    assert_eq!(after.live, 0);
    assert_eq!(count.get(), 0);
}

#[test]
fn the_waker_is_dropped_with_the_timer() {
    let manual = Manual::new();
    let (count, waker) = counter();
    let sleeps = armed(manual.timekeeper(), 100, &waker);
    assert_eq!(Arc::strong_count(&count), 102);
    drop(sleeps);
    assert_eq!(Arc::strong_count(&count), 2);
}

#[test]
fn resetting_to_a_later_time_kicks_nobody() {
    let timekeeper = Timekeeper::builder().build();
    let mut sleeps = armed(&timekeeper, 100, Waker::noop());
    let before = timekeeper.stats().kicks;
    for round in 1..50 {
        for sleep in &mut sleeps {
            let later = timekeeper.now() + MINUTE * (round + 1);
            std::pin::Pin::new(sleep).reset(later);
        }
    }
    assert_eq!(timekeeper.stats().kicks, before);
}

/// A system call that nothing else here makes.
#[cfg(target_os = "linux")]
fn mark() {
    // SAFETY: takes nothing, changes nothing.
    unsafe { libc::getpgid(0) };
}

#[cfg(target_os = "linux")]
#[test]
fn cancelling_makes_no_system_call() {
    const NAME: &str = "cancelling_makes_no_system_call";
    if common::is_child() {
        let timekeeper = Timekeeper::builder().build();
        let sleeps = armed(&timekeeper, 2000, Waker::noop());
        mark();
        // Not freed in between: a `Vec` of this size goes back to the kernel.
        let mut sleeps = sleeps.into_iter();
        sleeps.by_ref().for_each(drop);
        mark();
        drop(sleeps);
        let theirs = armed(&timekeeper, 2000, Waker::noop());
        std::thread::spawn(move || {
            mark();
            let mut theirs = theirs.into_iter();
            theirs.by_ref().for_each(drop);
            mark();
        })
        .join()
        .unwrap();
        return;
    }
    if std::process::Command::new("strace").arg("-V").output().is_err() {
        return common::skip("no strace");
    }
    let trace = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("p06.strace");
    let trace_arg = trace.to_str().expect("a plain path");
    let output = common::child(NAME, &["strace", "-f", "-o", trace_arg]);
    if !output.status.success() {
        return common::skip("strace may not trace here");
    }
    let text = std::fs::read_to_string(&trace).unwrap();
    // One line for each call; the end of one that another thread's interrupted is none of its own.
    let calls: Vec<_> = text
        .lines()
        .filter_map(|line| line.split_once(char::is_whitespace))
        .filter(|(_, call)| !call.trim_start().starts_with("<..."))
        .collect();
    let marks: Vec<_> = (0..calls.len()).filter(|&i| calls[i].1.contains("getpgid(")).collect();
    let &[a, b, c, d] = &marks[..] else { panic!("{} marks", marks.len()) };
    for (from, to) in [(a, b), (c, d)] {
        let thread = calls[from].0;
        let between: Vec<_> = calls[from + 1..to]
            .iter()
            // Of a call that another thread interrupted in the trace, the end is the same call's.
            .filter(|call| call.0 == thread && !call.1.contains("getpgid resumed"))
            .collect();
        assert!(between.is_empty(), "while cancelling: {between:?}");
    }
}
