//! hyper's contract, one test each, on a clock that is moved by hand.

use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Wake, Waker};

use super::*;
use crate::Manual;
use crate::block_on;
use crate::clock::Clock;

const SECOND: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_hours(1);

type Boxed = Pin<Box<dyn Sleep>>;

#[derive(Default)]
struct Count(AtomicUsize);

impl Count {
    fn get(&self) -> usize {
        self.0.load(Relaxed)
    }
}

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

fn poll(sleep: &mut Boxed, wakes: &Arc<Count>) -> Poll<()> {
    sleep.as_mut().poll(&mut Context::from_waker(&Waker::from(wakes.clone())))
}

fn look(sleep: &mut Boxed) -> Poll<()> {
    sleep.as_mut().poll(&mut Context::from_waker(Waker::noop()))
}

/// Where the sleep is: moved, it stays there; made anew, it doesn't.
fn place(sleep: &Boxed) -> *const () {
    (&raw const **sleep).cast()
}

fn manual() -> (Manual, HyperTimer) {
    let manual = Manual::new();
    let timer = HyperTimer::on(manual.timekeeper());
    (manual, timer)
}

#[test]
fn timer_and_sleep_are_what_hyper_keeps_them_as() {
    fn kept<T: Send + Sync + Unpin + 'static>() {}
    kept::<HyperTimer>();
    kept::<HyperSleep>();
    kept::<Arc<dyn Timer + Send + Sync>>();
    let (_manual, timer) = manual();
    let _: Arc<dyn Timer + Send + Sync> = Arc::new(timer);
    assert_eq!(size_of::<HyperSleep>(), 48);
}

#[test]
fn a_sleep_completes_at_its_deadline_and_not_a_nanosecond_before() {
    let (manual, timer) = manual();
    let wakes = Arc::<Count>::default();
    for by_deadline in [false, true] {
        let before = wakes.get();
        let mut sleep = match by_deadline {
            false => timer.sleep(SECOND),
            true => timer.sleep_until(timer.now() + SECOND),
        };
        assert!(poll(&mut sleep, &wakes).is_pending());
        manual.fast_forward(SECOND - Duration::from_nanos(1));
        assert!(poll(&mut sleep, &wakes).is_pending());
        assert_eq!(wakes.get(), before);
        manual.fast_forward(Duration::from_nanos(1));
        assert_eq!(wakes.get(), before + 1);
        assert!(poll(&mut sleep, &wakes).is_ready());
    }
}

#[test]
fn a_deadline_that_has_passed_is_ready_at_once() {
    let (manual, timer) = manual();
    let start = timer.now();
    manual.fast_forward(SECOND);
    assert!(look(&mut timer.sleep_until(start)).is_ready());
    assert!(look(&mut timer.sleep_until(timer.now())).is_ready());
    assert!(look(&mut timer.sleep(Duration::ZERO)).is_ready());
    assert_eq!(manual.timekeeper().stats().armed, 0);
}

#[test]
fn a_sleep_is_ready_again_when_polled_again() {
    let (manual, timer) = manual();
    let mut sleep = timer.sleep(SECOND);
    assert!(look(&mut sleep).is_pending());
    manual.fast_forward(SECOND);
    for _ in 0..3 {
        assert!(look(&mut sleep).is_ready());
        manual.fast_forward(SECOND);
    }
    assert_eq!(manual.timekeeper().stats().armed, 1);
}

#[test]
fn each_poll_replaces_the_waker() {
    let (manual, timer) = manual();
    let (first, second) = (Arc::<Count>::default(), Arc::<Count>::default());
    let mut sleep = timer.sleep(SECOND);
    assert!(poll(&mut sleep, &first).is_pending());
    assert!(poll(&mut sleep, &second).is_pending());
    manual.fast_forward(SECOND);
    assert_eq!((first.get(), second.get()), (0, 1));
    assert_eq!(Arc::strong_count(&first), 1, "the first waker was dropped");
}

#[test]
fn reset_before_the_first_poll_moves_the_sleep() {
    let (manual, timer) = manual();
    for (first, then) in [(SECOND, HOUR), (HOUR, SECOND)] {
        let mut sleep = timer.sleep(first);
        timer.reset(&mut sleep, timer.now() + then);
        assert!(look(&mut sleep).is_pending());
        manual.fast_forward(then - Duration::from_nanos(1));
        assert!(look(&mut sleep).is_pending());
        manual.fast_forward(Duration::from_nanos(1));
        assert!(look(&mut sleep).is_ready());
    }
}

#[test]
fn reset_before_completion_wakes_the_waiting_task_at_the_new_deadline() {
    let (manual, timer) = manual();
    for (first, then) in [(SECOND, HOUR), (HOUR, SECOND)] {
        let wakes = Arc::<Count>::default();
        let mut sleep = timer.sleep(first);
        assert!(poll(&mut sleep, &wakes).is_pending());
        timer.reset(&mut sleep, timer.now() + then);
        manual.fast_forward(then - Duration::from_nanos(1));
        assert_eq!(wakes.get(), 0);
        manual.fast_forward(Duration::from_nanos(1));
        assert_eq!(wakes.get(), 1);
        assert!(look(&mut sleep).is_ready());
    }
}

#[test]
fn reset_after_completion_starts_the_sleep_anew() {
    let (manual, timer) = manual();
    let wakes = Arc::<Count>::default();
    let mut sleep = timer.sleep(SECOND);
    for round in 1..=3 {
        assert!(poll(&mut sleep, &wakes).is_pending());
        manual.fast_forward(SECOND);
        assert_eq!(wakes.get(), round);
        assert!(poll(&mut sleep, &wakes).is_ready());
        timer.reset(&mut sleep, timer.now() + SECOND);
    }
    // Fired, and reset before anybody looked.
    assert!(poll(&mut sleep, &wakes).is_pending());
    manual.fast_forward(SECOND);
    timer.reset(&mut sleep, timer.now() + SECOND);
    assert!(poll(&mut sleep, &wakes).is_pending());
}

#[test]
fn reset_moves_the_sleep_that_is_there() {
    let (manual, timer) = manual();
    let mut sleep = timer.sleep(SECOND);
    let home = place(&sleep);
    timer.reset(&mut sleep, timer.now() + HOUR);
    assert!(look(&mut sleep).is_pending());
    timer.clone().reset(&mut sleep, timer.now() + SECOND);
    manual.fast_forward(SECOND);
    assert!(look(&mut sleep).is_ready());
    timer.reset(&mut sleep, timer.now() + SECOND);
    assert_eq!(place(&sleep), home);
}

#[test]
fn reset_replaces_a_sleep_of_another_timer() {
    struct Foreign;
    impl Future for Foreign {
        type Output = ();
        fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
            Poll::Pending
        }
    }
    impl Sleep for Foreign {}

    let (manual, timer) = manual();
    let mut sleep: Boxed = Box::pin(Foreign);
    timer.reset(&mut sleep, timer.now() + SECOND);
    assert!(sleep.is::<HyperSleep>());
    assert!(look(&mut sleep).is_pending());
    manual.fast_forward(SECOND);
    assert!(look(&mut sleep).is_ready());
}

#[test]
fn reset_replaces_a_sleep_of_another_timekeeper() {
    let ((theirs, their_timer), (ours, timer)) = (manual(), manual());
    let mut sleep = their_timer.sleep(SECOND);
    assert!(look(&mut sleep).is_pending());
    timer.reset(&mut sleep, timer.now() + HOUR);
    assert_eq!(theirs.timekeeper().stats().live, 0, "the old one was cancelled");
    assert!(look(&mut sleep).is_pending());
    theirs.fast_forward(HOUR);
    assert!(look(&mut sleep).is_pending());
    ours.fast_forward(HOUR);
    assert!(look(&mut sleep).is_ready());
}

#[test]
fn a_dropped_sleep_is_cancelled_and_wakes_nobody() {
    let (manual, timer) = manual();
    let wakes = Arc::<Count>::default();
    let mut sleep = timer.sleep(SECOND);
    assert!(poll(&mut sleep, &wakes).is_pending());
    drop(sleep);
    assert_eq!(manual.fast_forward(HOUR), 0);
    assert_eq!((wakes.get(), Arc::strong_count(&wakes)), (0, 1));
    assert_eq!(manual.timekeeper().stats().cancelled, 1);
}

#[test]
fn now_moves_by_what_the_clock_is_moved() {
    let (manual, timer) = manual();
    let start = timer.now();
    assert_eq!(timer.now(), start);
    manual.fast_forward(Duration::from_nanos(1));
    assert_eq!(timer.now() - start, Duration::from_nanos(1));
    manual.fast_forward(HOUR * 24 * 365 * 100);
    assert_eq!(timer.now() - start, HOUR * 24 * 365 * 100 + Duration::from_nanos(1));
}

#[test]
fn timers_of_one_timekeeper_agree_on_the_time() {
    let (manual, timer) = manual();
    manual.fast_forward(HOUR);
    let late = HyperTimer::on(manual.timekeeper());
    assert_eq!(late.now(), timer.now());
    let entered = manual.enter();
    assert_eq!(HyperTimer::new().now(), timer.now());
    drop(entered);
    assert_eq!(HyperTimer::new().epoch.std, HyperTimer::default().epoch.std);
}

#[test]
fn instants_survive_the_way_there_and_back() {
    let system = HyperTimer::on(&Timekeeper::global()).epoch;
    for epoch in [manual().1.epoch, system] {
        for ns in [0, 1, 999_999_999, 1_000_000_000, 123_456_789_012_345_678, u64::MAX >> 1] {
            let at = epoch.ours + Duration::from_nanos(ns);
            assert_eq!(epoch.ours(epoch.std(at)), at);
        }
    }
}

#[test]
fn instants_out_of_range_neither_panic_nor_fire_early() {
    let (manual, timer) = manual();
    let years = |years| HOUR * 24 * 365 * years;
    let Some(far) = timer.now().checked_add(years(1000)) else { return };
    let mut sleeps = [timer.sleep_until(far), timer.sleep(Duration::MAX)];
    assert!(sleeps.iter_mut().all(|sleep| look(sleep).is_pending()));
    manual.fast_forward(years(500));
    assert!(sleeps.iter_mut().all(|sleep| look(sleep).is_pending()));
    if let Some(long_ago) = timer.epoch.std.checked_sub(HOUR) {
        assert!(look(&mut timer.sleep_until(long_ago)).is_ready());
    }
}

#[test]
fn slack_makes_a_sleep_late_by_no_more_than_it() {
    let (manual, timer) = manual();
    let slack = Duration::from_millis(100);
    let timer = timer.with_slack(slack);
    let start = timer.now();
    let mut sleeps: Vec<Boxed> =
        (0..10).map(|at| timer.sleep(SECOND + Duration::from_millis(at))).collect();
    for sleep in &mut sleeps {
        assert!(look(sleep).is_pending());
    }
    manual.advance_to_next();
    let late = timer.now() - start - SECOND;
    assert!(late <= slack, "{late:?}");
    assert!(sleeps.iter_mut().all(|sleep| look(sleep).is_ready()), "they share a wake-up");
}

#[test]
#[should_panic(expected = "was shut down before its deadline")]
fn a_sleep_that_can_never_complete_panics() {
    let (manual, timer) = manual();
    let mut sleep = timer.sleep(SECOND);
    assert!(look(&mut sleep).is_pending());
    manual.timekeeper().shutdown();
    let _ = look(&mut sleep);
}

// On the system's clock, where both clocks can be looked at.

#[test]
fn the_epoch_never_makes_an_instant_of_std_earlier_than_it_is() {
    let epoch = HyperTimer::on(&Timekeeper::global()).epoch;
    let clock = Clock::system();
    for _ in 0..10_000 {
        let before = clock.sample().monotonic_ns;
        let std = std_now();
        assert!(epoch.ours(std).as_nanos() >= before);
    }
}

#[test]
fn a_real_sleep_is_never_early_by_either_clock() {
    let timekeeper = Timekeeper::builder().build();
    let timer = HyperTimer::on(&timekeeper);
    for micros in [0, 1, 10, 100, 500, 1_000, 2_000] {
        let duration = Duration::from_micros(micros);
        let (theirs, ours) = (std_now(), timer.now());
        let now = timekeeper.now();
        block_on(pin!(timer.sleep(duration)));
        assert!(timekeeper.now() >= now + duration);
        block_on(timer.sleep_until(ours + duration));
        assert!(timer.now() >= ours + duration);
        block_on(timer.sleep_until(theirs + duration));
        assert!(std_now() >= theirs + duration);
        let theirs = std_now();
        block_on(timer.sleep_until(theirs + duration));
        assert!(std_now() >= theirs + duration);
    }
}

#[expect(clippy::disallowed_methods, reason = "compared with ours")]
fn std_now() -> StdInstant {
    StdInstant::now()
}
