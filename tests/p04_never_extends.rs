//! P4: no rounding, clamp, merge or conversion gives more time than there is.

mod common;

use std::task::Waker;

use common::{counter, poll};
use deadbeat::clock::{Active, ManualClock};
use deadbeat::time::{Duration, Instant, sleep, sleep_until};
use deadbeat::wheel::coalesce;
use deadbeat::{Manual, Timekeeper};
use proptest::prelude::*;

/// Numbers of all magnitudes.
fn any_ns() -> impl Strategy<Value = u64> {
    (0u32..64, any::<u64>()).prop_map(|(shift, bits)| bits >> shift)
}

proptest! {
    #[test]
    fn a_timer_with_slack_fires_within_it(nap in any_ns(), slack in any_ns()) {
        let manual = Manual::new();
        let _entered = manual.enter();
        let deadline = manual.now() + Duration::from_nanos(nap);
        let latest = deadline + Duration::from_nanos(slack);
        let (count, waker) = counter();
        let mut sleep = sleep_until(deadline).with_slack(Duration::from_nanos(slack));
        prop_assert_eq!(sleep.deadline(), deadline);
        if poll(&mut sleep, &waker).is_pending() && manual.advance_to_next().is_some() {
            prop_assert!(manual.now() >= deadline, "early");
            prop_assert!(manual.now() <= latest, "{:?} after {:?}", manual.now(), latest);
            prop_assert_eq!(count.get(), 1);
            prop_assert!(poll(&mut sleep, &waker).is_ready());
        }
    }

    #[test]
    fn coalescing_stays_within_bounds_and_is_the_same_for_all_who_share_them(
        when in any_ns(), slack in any_ns(), inside in any::<u64>(),
    ) {
        let at = coalesce(when, slack);
        let end = when.saturating_add(slack);
        prop_assert!((when..=end).contains(&at));
        // The roundest: no other time in the range has as many zero bits.
        let zeros = at.trailing_zeros();
        if zeros < 63 && at != 0 {
            let step = 1u64 << (zeros + 1);
            prop_assert!(end / step * step < when || end / step * step == 0);
        }
        // A narrower range around it meets it.
        let low = when + (at - when).min(inside % (at - when + 1));
        prop_assert_eq!(coalesce(low, at - low), at);
    }

    #[test]
    fn instants_saturate_and_never_wrap(a in any_ns(), b in any_ns()) {
        let at = Instant::from_nanos(a);
        let span = Duration::from_nanos(b);
        prop_assert_eq!((at + span).as_nanos(), a.saturating_add(b));
        prop_assert_eq!((at - span).as_nanos(), a.saturating_sub(b));
        prop_assert_eq!(at.checked_add(span).map(Instant::as_nanos), a.checked_add(b));
        prop_assert_eq!(at.checked_sub(span).map(Instant::as_nanos), a.checked_sub(b));
        prop_assert_eq!(at + Duration::MAX, Instant::FAR_FUTURE);
        prop_assert!(at - Duration::MAX <= at);
    }
}

#[test]
fn a_deadline_that_went_through_std_gains_no_more_than_the_conversions_took() {
    let start = Instant::now();
    let deadline = start + Duration::from_secs(5);
    let back: Instant = std::time::Instant::from(deadline).into();
    assert!(back <= deadline + start.elapsed(), "{:?} gained", back - deadline);
}

#[test]
fn the_end_of_time_does_not_come_for_any_duration() {
    let manual = Manual::new();
    let _entered = manual.enter();
    for nap in [Duration::MAX, Duration::from_nanos(u64::MAX), Duration::from_secs(u64::MAX)] {
        let mut sleep = sleep(nap).with_slack(Duration::MAX);
        assert_eq!(sleep.deadline(), Instant::FAR_FUTURE);
        assert!(poll(&mut sleep, Waker::noop()).is_pending());
        assert_eq!(manual.next_deadline(), None);
        manual.fast_forward(Duration::from_secs(1 << 30));
        assert!(poll(&mut sleep, Waker::noop()).is_pending());
    }
}

#[test]
fn slack_on_a_deadline_that_has_passed_is_not_waited_for_twice() {
    let manual = Manual::new();
    let _entered = manual.enter();
    let past = manual.now() - Duration::from_secs(10);
    // The roundest time of the range has passed, or is at most the end of the slack.
    let mut sleep = sleep_until(past).with_slack(Duration::from_secs(1));
    assert!(poll(&mut sleep, Waker::noop()).is_ready());
}

#[test]
fn of_nested_waits_the_inner_one_never_outlasts_the_outer() {
    let manual = Manual::new();
    manual.block_on(async {
        let start = Instant::now();
        let mut outer = std::pin::pin!(sleep(Duration::from_millis(20)));
        let mut inner = std::pin::pin!(sleep(Duration::from_secs(20)));
        std::future::poll_fn(|cx| {
            let first = inner.as_mut().poll(cx).is_ready();
            if outer.as_mut().poll(cx).is_ready() || first {
                std::task::Poll::Ready(())
            } else {
                std::task::Poll::Pending
            }
        })
        .await;
        assert_eq!(start.elapsed(), Duration::from_millis(20));
    });
}

#[test]
fn a_timekeeper_of_its_own_clock_counts_in_that_clock() {
    let clock = ManualClock::new();
    let manual = Manual::with_clock(clock.clone());
    let deadline = manual.now() + Duration::from_secs(1);
    let mut sleep = manual.timekeeper().sleep_until(deadline);
    assert!(poll(&mut sleep, Waker::noop()).is_pending());
    // Another Timekeeper's time is nothing to it.
    let other = Timekeeper::builder().build();
    let _entered = other.enter();
    clock.set(deadline);
    manual.fast_forward(Duration::ZERO);
    assert!(poll(&mut sleep, Waker::noop()).is_ready());
    let _: deadbeat::clock::Instant<Active> = deadline;
}
