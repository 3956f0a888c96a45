//! P4: no rounding, clamp, merge or conversion gives more time than there is.

mod common;

use std::future::pending;
use std::pin::Pin;
use std::task::{Poll, Waker};
use std::time::SystemTime;

use common::{counter, poll};
use deadbeat::clock::{Active, ManualClock};
use deadbeat::propagation::codec::{Custom, Decoder, Encoder, HORIZON, Header, Inbound, Unit};
use deadbeat::time::error::Elapsed;
use deadbeat::time::{Duration, IdleTimer, Instant, sleep, sleep_until, timeout, timeout_at};
use deadbeat::wheel::coalesce;
use deadbeat::{Manual, Timekeeper};
use proptest::prelude::*;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// Numbers of all magnitudes.
fn any_ns() -> impl Strategy<Value = u64> {
    (0u32..64, any::<u64>()).prop_map(|(shift, bits)| bits >> shift)
}

/// Of all magnitudes as well, and some of them equal, but nothing that never comes.
fn any_timeout() -> impl Strategy<Value = Duration> {
    prop_oneof![
        any_ns().prop_map(|ns| Duration::from_nanos(ns >> 2)),
        (0u64..4).prop_map(Duration::from_nanos),
    ]
}

/// One of those that can be sent.
fn any_header() -> impl Strategy<Value = Header> {
    let mut all = Header::KNOWN.to_vec();
    for unit in [Unit::Seconds, Unit::Milliseconds, Unit::Microseconds, Unit::Nanoseconds] {
        let custom = Custom::new("x-budget", unit).unwrap();
        all.extend([custom, custom.with_decimals()].map(Header::Custom));
    }
    prop::sample::select(all)
}

/// What happens to a deadline on its way to the next service.
#[derive(Clone, Debug)]
struct Hop {
    passes: Duration,
    maximum: Option<Duration>,
    allowance: Duration,
    cap: Duration,
    prefer_ms: bool,
    headers: Vec<Header>,
}

fn any_hop() -> impl Strategy<Value = Hop> {
    let short = || any_ns().prop_map(|ns| Duration::from_nanos(ns >> 30));
    let maximum = prop::option::weighted(0.1, any_timeout());
    let cap =
        prop_oneof![4 => Just(Encoder::DEFAULT_CAP), 4 => Just(Duration::MAX), 1 => any_timeout()];
    let headers = prop::collection::vec(any_header(), 1..4);
    (short(), maximum, short(), cap, any::<bool>(), headers).prop_map(
        |(passes, maximum, allowance, cap, prefer_ms, headers)| Hop {
            passes,
            maximum,
            allowance,
            cap,
            prefer_ms,
            headers,
        },
    )
}

proptest! {
    #[test]
    fn what_is_sent_is_never_longer_than_what_remains(
        header in any_header(),
        remaining in prop_oneof![any_timeout(), Just(Duration::MAX)],
        cap in prop_oneof![any_timeout(), Just(Duration::MAX)],
        prefer_ms: bool,
        digits in prop_oneof![Just(u32::MAX), 0u32..22],
        now_ms in 0u64..1 << 48,
    ) {
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(now_ms);
        let encoder = Encoder::new().cap(cap).prefer_ms(prefer_ms).digits(digits).wall(now);
        if let Ok(value) = encoder.encode(header, remaining) {
            let decoder = Decoder::new().wall(now, HORIZON);
            let inbound = decoder.decode(header, [value.as_bytes()]).unwrap();
            let read = inbound.decoded.remaining().expect("not without a limit");
            prop_assert!(read <= remaining.min(cap), "{value} for {remaining:?}");
            prop_assert!(!read.is_zero(), "{value} for {remaining:?}");
            let number = value.as_str().trim_matches(|c: char| !('1'..='9').contains(&c));
            let least_digits = number.chars().filter(char::is_ascii_digit).count();
            let says_a_length = !matches!(header, Header::AmzSdkRequest | Header::Prefer);
            // Minutes and hours, in which longer ones are written, are no decimals of seconds.
            if says_a_length && digits > 0 && read < SECOND * 1_000_000 {
                prop_assert!(least_digits <= digits as usize, "{value} has more than {digits}");
            }
        }
    }

    #[test]
    fn no_chain_of_services_has_longer_than_the_first_caller_waits(
        start in prop_oneof![
            1 => any_timeout(),
            4 => (1u64 << 30..1 << 50).prop_map(Duration::from_nanos),
            1 => Just(Duration::MAX),
        ],
        hops in prop::collection::vec(any_hop(), 1..12),
    ) {
        let mut now = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 31);
        // What the first caller still waits, and what the last service thinks that it does.
        let (mut left, mut believed) = (start, start);
        for hop in hops {
            now += hop.passes;
            left = left.saturating_sub(hop.passes);
            believed = believed.saturating_sub(hop.passes);
            let limit = believed.min(hop.maximum.unwrap_or(Duration::MAX));
            let encoder = Encoder::new().cap(hop.cap).prefer_ms(hop.prefer_ms).wall(now);
            let decoder = Decoder::new().wall(now, HORIZON);
            let mut inbound = Inbound::default();
            let mut is_sent = true;
            for header in hop.headers {
                match encoder.encode(header, limit.saturating_sub(hop.allowance)) {
                    Ok(value) => {
                        inbound =
                            inbound.min(decoder.decode(header, [value.as_bytes()]).unwrap());
                    }
                    Err(_) => is_sent = false,
                }
            }
            if !is_sent {
                break;
            }
            believed = inbound.decoded.remaining().expect("a limit was sent");
            prop_assert!(believed <= left.saturating_sub(hop.allowance));
        }
    }

    #[test]
    fn of_two_timeouts_the_shorter_one_counts_and_says_so(
        outer in any_timeout(), inner in any_timeout(),
    ) {
        Manual::new().block_on(async {
            let start = Instant::now();
            let ended = timeout(outer, timeout(inner, pending::<()>())).await;
            prop_assert_eq!(start.elapsed(), outer.min(inner));
            // Where they are equal the inner one is asked first.
            prop_assert_eq!(ended.is_ok(), inner <= outer);
            Ok(())
        })?;
    }

    #[test]
    fn however_deep_timeouts_are_nested_the_shortest_ends_all(
        timeouts in prop::collection::vec(any_timeout(), 1..12),
    ) {
        Manual::new().block_on(async {
            let start = Instant::now();
            let mut nest: Pin<Box<dyn Future<Output = Result<(), Elapsed>>>> =
                Box::pin(pending());
            for &one in &timeouts {
                let within = nest;
                nest = Box::pin(async move { timeout(one, within).await? });
            }
            prop_assert!(nest.await.is_err());
            prop_assert_eq!(Some(&start.elapsed()), timeouts.iter().min());
            Ok(())
        })?;
    }

    #[test]
    fn slack_of_the_inner_timeout_is_not_lent_to_the_outer(
        outer in any_timeout(), inner in any_timeout(), slack in any_timeout(),
    ) {
        Manual::new().block_on(async {
            let start = Instant::now();
            let late = timeout(inner, pending::<()>()).with_slack(slack);
            let ended = timeout(outer, late).await;
            let took = start.elapsed();
            prop_assert!(took <= outer && took >= outer.min(inner));
            prop_assert!(ended.is_err() || took <= inner.saturating_add(slack));
            Ok(())
        })?;
    }

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
fn a_longer_inner_timeout_never_outlives_the_outer() {
    let manual = Manual::new();
    manual.block_on(async {
        let start = Instant::now();
        let call = timeout(20 * MS, timeout(20 * SECOND, sleep(40 * SECOND)));
        assert!(call.await.is_err());
        assert_eq!(start.elapsed(), 20 * MS);
    });
    assert_eq!(manual.next_deadline(), None, "the inner ones are cancelled with it");
}

#[test]
fn one_timeout_around_many_is_not_prolonged_by_any_of_them() {
    Manual::new().block_on(async {
        let start = Instant::now();
        let mut tries = 0;
        let retried = timeout(SECOND, async {
            loop {
                tries += 1;
                let _ = timeout(300 * MS, pending::<()>()).await;
            }
        });
        let _: Result<(), Elapsed> = retried.await;
        assert_eq!((start.elapsed(), tries), (SECOND, 4));
    });
}

#[test]
fn without_time_left_an_inner_timeout_gets_none() {
    Manual::new().block_on(async {
        let start = Instant::now();
        assert!(timeout(Duration::ZERO, timeout(Duration::MAX, pending::<()>())).await.is_err());
        assert!(timeout_at(start - SECOND, timeout(SECOND, pending::<()>())).await.is_err());
        assert_eq!(start.elapsed(), Duration::ZERO);
    });
}

#[test]
fn what_is_taken_out_of_a_timeout_keeps_its_own_deadline() {
    Manual::new().block_on(async {
        let start = Instant::now();
        let mut outer = timeout(10 * MS, timeout(30 * MS, pending::<()>()));
        assert!((&mut outer).await.is_err());
        assert_eq!(start.elapsed(), 10 * MS);
        // Its 30 ms have been counting all the time.
        assert!(outer.into_inner().await.is_err());
        assert_eq!(start.elapsed(), 30 * MS);

        // Put into another, it has the least of both again.
        let inner = timeout(30 * MS, pending::<()>()).into_inner();
        assert!(timeout(5 * MS, inner).await.is_err());
        assert_eq!(start.elapsed(), 35 * MS);
    });
}

#[test]
fn an_inner_timer_that_is_moved_takes_no_outer_one_along() {
    let manual = Manual::new();
    let _entered = manual.enter();
    let start = manual.now();
    let mut call = timeout(SECOND, sleep(SECOND / 2));
    for _ in 0..9 {
        assert!(poll(&mut call, Waker::noop()).is_pending());
        manual.fast_forward(SECOND / 10);
        Pin::new(call.get_mut()).reset(manual.now() + SECOND);
    }
    assert!(poll(&mut call, Waker::noop()).is_pending());
    manual.fast_forward(SECOND / 10);
    assert!(matches!(poll(&mut call, Waker::noop()), Poll::Ready(Err(_))));
    assert_eq!(manual.now() - start, SECOND);

    let mut call = timeout(SECOND, IdleTimer::new(SECOND / 2));
    while poll(&mut call, Waker::noop()).is_pending() {
        manual.fast_forward(SECOND / 10);
        call.get_mut().touch();
    }
    assert_eq!(manual.now() - start, 2 * SECOND);
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
