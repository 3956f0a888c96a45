//! What the tests share.
#![allow(dead_code, reason = "each test crate uses a part of it")]

use std::future::Future;
use std::pin::Pin;
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};

use deadbeat::clock::Clock;
use deadbeat::time::Duration;

/// A waker that counts.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicUsize);

impl Count {
    pub(crate) fn get(&self) -> usize {
        self.0.load(SeqCst)
    }
}

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

pub(crate) fn counter() -> (Arc<Count>, Waker) {
    let count = Arc::new(Count::default());
    (count.clone(), Waker::from(count))
}

/// A waker that runs a closure.
pub(crate) fn on_wake(f: impl Fn() + Send + Sync + 'static) -> Waker {
    struct Call<F>(F);
    impl<F: Fn() + Send + Sync + 'static> Wake for Call<F> {
        fn wake(self: Arc<Self>) {
            (self.0)();
        }
    }
    Waker::from(Arc::new(Call(f)))
}

/// A waker that runs a closure when its last clone is dropped.
pub(crate) fn on_drop(f: impl Fn() + Send + Sync + 'static) -> Waker {
    struct Call<F: Fn()>(F);
    impl<F: Fn()> Drop for Call<F> {
        fn drop(&mut self) {
            (self.0)();
        }
    }
    impl<F: Fn() + Send + Sync + 'static> Wake for Call<F> {
        fn wake(self: Arc<Self>) {}
    }
    Waker::from(Arc::new(Call(f)))
}

pub(crate) fn poll<F: Future + Unpin>(future: &mut F, waker: &Waker) -> Poll<F::Output> {
    Pin::new(future).poll(&mut Context::from_waker(waker))
}

/// Waits until `condition` holds, or for ten seconds.
///
/// # Panics
///
/// If it doesn't hold by then.
#[track_caller]
pub(crate) fn wait_for(what: &str, mut condition: impl FnMut() -> bool) {
    let clock = Clock::system();
    let start = clock.now();
    while !condition() {
        assert!(clock.now() - start < Duration::from_secs(10), "waited too long: {what}");
        std::thread::yield_now();
    }
}

/// Random numbers, and the seed for messages. `DEADBEAT_SEED` repeats a run.
pub(crate) fn rng() -> (u64, fastrand::Rng) {
    let seed = std::env::var("DEADBEAT_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("DEADBEAT_SEED={seed}");
    (seed, fastrand::Rng::with_seed(seed))
}

/// The one line of a test that lacks something.
pub(crate) fn skip(why: &str) {
    println!("skipped: {why}");
}

const CHILD: &str = "DEADBEAT_CHILD";

/// Whether this process was started by [`child`].
pub(crate) fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Runs one test of this binary in a process of its own, under `wrapper` if there is one. The test
/// finds [`is_child`] true there.
pub(crate) fn child(test: &str, wrapper: &[&str]) -> Output {
    let this = std::env::current_exe().expect("the test's own path");
    let mut command = match wrapper {
        [] => Command::new(this),
        [program, args @ ..] => {
            let mut command = Command::new(program);
            command.args(args).arg(this);
            command
        }
    };
    let args = ["--exact", test, "--nocapture", "--test-threads=1"];
    command.args(args).env(CHILD, "1").output().expect("it starts")
}

/// As [`child`]; panics with what it said unless it succeeds.
#[track_caller]
pub(crate) fn child_succeeds(test: &str, wrapper: &[&str]) -> Output {
    let output = child(test, wrapper);
    assert!(
        output.status.success(),
        "{}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

/// The threads of this process whose names start with `name`, by id. Linux only; else none.
pub(crate) fn threads(name: &str) -> Vec<String> {
    let Ok(tasks) = std::fs::read_dir("/proc/self/task") else { return vec![] };
    tasks
        .filter_map(|task| {
            let task = task.ok()?;
            let comm = std::fs::read_to_string(task.path().join("comm")).ok()?;
            comm.starts_with(name).then(|| task.file_name().to_string_lossy().into_owned())
        })
        .collect()
}
