//! P11: a test that owns the clock owns time.

mod common;

use std::sync::{Arc, Mutex};

use deadbeat::time::{Duration, Instant, sleep};
use deadbeat::{Manual, Timekeeper};

const MILLI: Duration = Duration::from_millis(1);

/// Some tasks that wait for time and for each other, and what they said and when.
fn story(seed: u64) -> (Vec<String>, Vec<deadbeat::Fired>) {
    let manual = Manual::new();
    let said: Arc<Mutex<Vec<String>>> = Arc::default();
    let mut rng = fastrand::Rng::with_seed(seed);
    let out = manual.block_on(async {
        let start = Instant::now();
        let mut tasks = Vec::new();
        for name in 0..20 {
            let (said, mut rng) = (said.clone(), rng.fork());
            tasks.push(manual.spawn(async move {
                for step in 0..10 {
                    sleep(MILLI * rng.u32(0..5)).await;
                    let at = start.elapsed();
                    said.lock().unwrap().push(format!("{at:?}: {name} did {step}"));
                }
                name
            }));
        }
        for (i, task) in tasks.into_iter().enumerate() {
            assert_eq!(task.await, i);
        }
        said.lock().unwrap().clone()
    });
    (out, manual.fired())
}

#[test]
fn two_runs_of_the_same_story_are_the_same() {
    let (seed, _) = common::rng();
    let (first, second) = (story(seed), story(seed));
    assert_eq!(first.0.len(), 200);
    assert_eq!(first, second, "DEADBEAT_SEED={seed}");
}

#[test]
fn time_stands_still_while_there_is_work_and_moves_to_the_deadline_else() {
    let manual = Manual::new();
    let start = manual.now();
    manual.block_on(async {
        let begun = Instant::now();
        for _ in 0..1000 {
            std::thread::yield_now();
            assert_eq!(Instant::now(), begun);
        }
        sleep(Duration::from_secs(3600)).await;
        assert_eq!(begun.elapsed(), Duration::from_secs(3600));
    });
    assert_eq!(manual.now() - start, Duration::from_secs(3600));
    assert_eq!(manual.fired().len(), 1);
}

#[test]
fn the_log_is_ordered_and_tells_due_and_fired() {
    let manual = Manual::new();
    let _entered = manual.enter();
    let mut sleeps: Vec<_> = (0..2000).map(|i| sleep(MILLI * (i * 7919 % 1000 + 1))).collect();
    for sleep in &mut sleeps {
        assert!(common::poll(sleep, std::task::Waker::noop()).is_pending());
    }
    // In one jump of the clock: all late, all in order.
    manual.clock().advance(Duration::from_secs(2));
    assert!(manual.fired().is_empty(), "moving the clock fires nothing");
    manual.fast_forward(Duration::ZERO);
    let log = manual.fired();
    assert_eq!(log.len(), 2000);
    assert!(log.is_sorted_by_key(|fired| fired.deadline));
    assert!(log.iter().all(|fired| fired.at == manual.now()));
}

#[test]
fn spawned_tasks_stay_between_runs_and_end_with_the_timekeeper() {
    let manual = Manual::new();
    let held = Arc::new(());
    let (waits, never_ran) = (held.clone(), held.clone());
    let task = manual.spawn(async move {
        sleep(Duration::from_secs(10)).await;
        drop(waits);
        7
    });
    manual.block_on(async { sleep(Duration::from_secs(1)).await });
    assert!(!task.is_finished());
    assert_eq!(manual.block_on(task), 7);
    assert_eq!(Arc::strong_count(&held), 2);
    let waits = held.clone();
    drop(manual.spawn(async move {
        sleep(Duration::from_secs(10)).await;
        drop(waits);
    }));
    manual.block_on(async { sleep(Duration::from_secs(1)).await });
    drop(manual.spawn(async move { drop(never_ran) }));
    assert_eq!(Arc::strong_count(&held), 3);
    drop(manual);
    assert_eq!(Arc::strong_count(&held), 1, "a task outlived its executor");
}

#[test]
#[should_panic(expected = "neither a task nor a timer is left")]
fn what_would_hang_panics() {
    Manual::new().block_on(std::future::pending::<()>());
}

#[test]
#[should_panic(expected = "`Manual::block_on` within `Manual::block_on`")]
fn a_run_within_a_run_panics() {
    let manual = Manual::new();
    manual.block_on(async { manual.block_on(async {}) });
}

#[test]
fn after_a_panic_it_runs_again() {
    let manual = Manual::new();
    let run = std::panic::AssertUnwindSafe(|| manual.block_on(async { panic!("in a task") }));
    assert!(std::panic::catch_unwind(run).is_err());
    manual.block_on(async { sleep(MILLI).await });
}

#[test]
fn advance_lets_woken_tasks_of_tokio_run_at_their_times() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let manual = Manual::new();
    let start = manual.now();
    let said: Arc<Mutex<Vec<(u32, Duration)>>> = Arc::default();
    runtime.block_on(manual.timekeeper().scope(async {
        for name in 1..=3 {
            let said = said.clone();
            tokio::spawn(manual.timekeeper().scope(async move {
                for _ in 0..4 {
                    sleep(MILLI * name).await;
                    said.lock().unwrap().push((name, Instant::now() - start));
                }
            }));
        }
        let fired = manual.advance(MILLI * 6).await;
        assert_eq!(fired, 4 + 3 + 2);
    }));
    assert_eq!(manual.now() - start, MILLI * 6);
    let said = said.lock().unwrap();
    for name in 1..=3 {
        let times: Vec<_> =
            said.iter().filter(|(who, _)| *who == name).map(|(_, at)| *at).collect();
        let due: Vec<_> = (1..=4).map(|i| MILLI * name * i).filter(|at| *at <= MILLI * 6).collect();
        assert_eq!(times, due, "{name}");
    }
}

#[test]
fn timers_bind_the_timekeeper_that_is_current_where_they_are_made() {
    let (outer, inner) = (Manual::new(), Manual::new());
    inner.fast_forward(Duration::from_secs(5));
    let _outer = outer.enter();
    let a = sleep(MILLI);
    let b = {
        let _inner = inner.enter();
        sleep(MILLI)
    };
    let c = sleep(MILLI);
    assert_eq!(a.deadline(), c.deadline());
    assert_eq!(b.deadline(), inner.now() + MILLI);
    assert_eq!(Timekeeper::current().now(), outer.now());
}
