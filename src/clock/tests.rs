//! What the clock promises: of the real one, and of one whose witnesses are scripted.

use std::{
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    thread,
    time::Duration,
};

use proptest::prelude::*;

use super::{
    harness::{self, Op},
    *,
};

const HZ: u64 = 2_300_000_000;
const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// A scripted clock that has its first baseline.
fn calibrated() -> (ManualClock, Clock) {
    let manual = ManualClock::scripted(HZ);
    let clock = manual.clock();
    for _ in 0..3 {
        clock.calibrate();
        manual.advance(3 * MS);
    }
    assert_eq!(clock.source(), Source::Counter);
    (manual, clock)
}

/// Lets time pass with a driver that samples every millisecond.
fn live(manual: &ManualClock, clock: &Clock, duration: Duration) {
    for _ in 0..duration.as_millis() {
        manual.advance(MS);
        clock.sample();
    }
}

fn ahead_ns(manual: &ManualClock, clock: &Clock) -> i64 {
    let monotonic_ns = manual.witness(Witness::Monotonic);
    clock.now().as_nanos().cast_signed() - monotonic_ns.cast_signed()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_script_breaks_a_promise(bytes in prop::collection::vec(any::<u8>(), 0..120)) {
        harness::run(&harness::decode(&bytes));
    }

    #[test]
    fn no_script_breaks_a_promise_once_the_counter_is_in_use(
        bytes in prop::collection::vec(any::<u8>(), 0..60),
    ) {
        let mut ops = vec![Op::Sample, Op::Live { steps: 20, step_ns: 1_000_000 }];
        ops.extend(harness::decode(&bytes));
        harness::run(&ops);
    }
}

// Scripts that once broke one.

/// Nobody can tell from a counter alone that it has stopped: the bound holds again from the driver's
/// next look on.
#[test]
fn a_counter_that_stops_has_no_bound_until_the_driver_looks() {
    harness::run(&harness::decode(&[
        104, 3, 153, 213, 224, 5, 19, 140, 253, 13, 22, 16, 1, 109, 147,
    ]));
}

#[test]
fn a_counter_that_goes_on_after_it_has_stood_still_has_a_bound_that_holds() {
    harness::run(&harness::decode(&[
        207, 1, 15, 0, 0, 0, 60, 0, 0, 40, 7, 13, 116, 12, 247, 125, 14, 0, 0, 108, 0, 0, 40, 7,
        229, 98,
    ]));
}

#[test]
fn a_window_whose_anchors_are_all_wide_notices_a_change_of_rate() {
    harness::run(&[
        Op::Sample,
        Op::ReadCost(1856),
        Op::Live { steps: 249, step_ns: 1416 },
        Op::Advance(24_427_626_496),
        Op::Rate(Witness::Counter, 1408),
        Op::Advance(297_795_584),
        Op::Live { steps: 3, step_ns: 20_185_088 },
        Op::Live { steps: 207, step_ns: 0 },
    ]);
}

#[test]
fn a_reference_that_stands_still_has_no_bound_but_the_time_itself() {
    harness::run(&[
        Op::Live { steps: 8, step_ns: 1_015_808 },
        Op::ReadCost(2),
        Op::Rate(Witness::Monotonic, -1_032_192),
        Op::Advance(301_989_888),
        Op::Live { steps: 18, step_ns: 0 },
    ]);
}

#[test]
fn a_rate_measured_across_its_own_change_is_not_believed_for_long() {
    harness::run(&[
        Op::Live { steps: 20, step_ns: 1_000_000 },
        Op::ReadCost(3328),
        Op::Rate(Witness::Counter, -860_160),
        Op::Advance(412_316_860_416),
        Op::Live { steps: 4, step_ns: 0 },
    ]);
}

/// A tick of it is longer than what a bound leaves for everything else.
#[test]
fn a_counter_that_crawls_is_bounded_by_its_ticks() {
    harness::run(&[
        Op::Sample,
        Op::Live { steps: 241, step_ns: 8_355_840 },
        Op::ReadCost(190),
        Op::Rate(Witness::Counter, -999_424),
        Op::Live { steps: 9, step_ns: 0 },
        Op::Live { steps: 8, step_ns: 4080 },
        Op::Live { steps: 255, step_ns: 8_355_840 },
        Op::Live { steps: 255, step_ns: 1_998_848 },
    ]);
}

// The manual clock.

#[test]
fn a_manual_clock_reads_what_was_set_and_knows_no_error() {
    let manual = ManualClock::new();
    let clock = manual.clock();
    let start = clock.now();
    manual.advance(Duration::from_nanos(1));
    assert_eq!(clock.now() - start, Duration::from_nanos(1));
    manual.set(start + SECOND);
    assert_eq!(clock.now(), start + SECOND);
    assert_eq!(clock.now_unordered(), start + SECOND);
    assert_eq!(clock.now_elapsed().as_nanos(), (start + SECOND).as_nanos());
    assert_eq!(clock.error_bound(), Duration::ZERO);
    assert_eq!(clock.source(), Source::Manual);
    let reading = clock.sample();
    assert_eq!(reading.now_ns, reading.safe_ns);
    assert_eq!(clock.kernel_deadline(7), 7);
}

#[test]
fn a_manual_clock_that_is_set_back_stands_still_until_it_is_met() {
    let manual = ManualClock::new();
    let clock = manual.clock();
    let start = clock.now();
    manual.set(start - SECOND);
    assert_eq!(clock.now(), start);
    assert_eq!(clock.sample().now_ns, start.as_nanos());
    assert_eq!(clock.sample().safe_ns, (start - SECOND).as_nanos());
    assert_eq!(clock.error_bound(), SECOND);
    manual.advance(2 * SECOND);
    assert_eq!(clock.now(), start + SECOND);
    assert!(clock.stats().held_reads > 0);
}

#[test]
fn a_manual_clock_can_be_moved_to_the_end_of_time_and_on() {
    for manual in [ManualClock::new(), ManualClock::scripted(HZ)] {
        let clock = manual.clock();
        for _ in 0..3 {
            clock.calibrate();
            manual.advance(3 * MS);
        }
        manual.set(Instant::FAR_FUTURE);
        clock.now();
        manual.advance(Duration::MAX);
        assert!(clock.now() >= Instant::FAR_FUTURE - Duration::from_secs(5));
        clock.sample();
        manual.jump(Witness::Monotonic, i64::MAX);
        manual.jump(Witness::Counter, i64::MAX);
        clock.sample();
    }
}

#[test]
fn clones_and_threads_share_a_manual_clock() {
    let manual = ManualClock::new();
    let clock = manual.clock();
    let start = clock.now();
    thread::scope(|scope| {
        let other = manual.clone();
        scope.spawn(move || other.advance(SECOND));
    });
    assert_eq!(clock.clone().now() - start, SECOND);
}

// The discipline, on scripted witnesses.

#[test]
fn the_os_clock_is_served_until_the_first_baseline_and_nothing_steps_back_then() {
    let manual = ManualClock::scripted(HZ);
    manual.set_read_cost(Duration::from_nanos(50));
    let clock = manual.clock();
    assert_eq!(clock.source(), Source::Os(OsReason::NotCalibrated));
    clock.calibrate();
    let mut last = clock.now();
    for _ in 0..100 {
        manual.advance(MS / 10);
        clock.sample();
        assert!(clock.now() >= last);
        last = clock.now();
    }
    assert_eq!(clock.source(), Source::Counter);
    assert_eq!(clock.stats().held_reads, 0);
}

#[test]
fn the_rate_sharpens_as_the_baseline_grows() {
    let (manual, clock) = calibrated();
    manual.set_read_cost(Duration::from_nanos(28));
    manual.set_rate(Witness::Counter, 17);
    live(&manual, &clock, SECOND);
    let hz = clock.report().counter_hz.unwrap();
    // Half of the first baseline was at the old rate.
    assert!((hz / (HZ as f64 * 1.000_017) - 1.0).abs() < 2e-7, "{hz}");
    assert!(clock.report().rate_bound_ppm.unwrap() < 0.2);
    live(&manual, &clock, 9 * SECOND);
    assert!(clock.report().rate_bound_ppm.unwrap() < 0.02);
}

#[test]
fn a_silent_driver_leaves_no_stale_clock_behind() {
    let (manual, clock) = calibrated();
    manual.set_rate(Witness::Monotonic, 80_000);
    manual.advance(3600 * SECOND);
    assert!(ahead_ns(&manual, &clock).abs() < 100);
}

#[test]
fn the_fastest_slew_of_chrony_is_followed() {
    let (manual, clock) = calibrated();
    live(&manual, &clock, SECOND);
    for ppm in [83_333, -83_333, 0] {
        manual.set_rate(Witness::Monotonic, ppm);
        live(&manual, &clock, SECOND / 10);
        let slewing = ahead_ns(&manual, &clock);
        // Behind is stepped over at once, ahead is waited for.
        assert!((-1000..500_000).contains(&slewing), "{slewing} ns at {ppm} ppm");
        live(&manual, &clock, 2 * SECOND);
        let settled = ahead_ns(&manual, &clock);
        assert!((-100..100).contains(&settled), "{settled} ns at {ppm} ppm");
    }
    assert_eq!(clock.source(), Source::Counter);
    assert_eq!(clock.stats().faults, 0);
}

#[test]
fn a_slight_slew_is_adopted_without_a_step() {
    let (manual, clock) = calibrated();
    live(&manual, &clock, SECOND);
    manual.set_rate(Witness::Monotonic, 50);
    live(&manual, &clock, SECOND);
    assert!(ahead_ns(&manual, &clock).abs() < 100);
    let stats = clock.stats();
    assert_eq!((stats.steps, stats.faults), (0, 0));
    assert!(stats.history_resets > 0);
}

#[test]
fn changes_of_rate_are_told_by_whoever_made_them() {
    for ppm in [20, -20, 50, -50, 500, -500, 10_000, -10_000, 83_000, -83_000] {
        for witness in [Witness::Monotonic, Witness::Counter] {
            let (manual, clock) = calibrated();
            manual.set_read_cost(Duration::from_nanos(22));
            live(&manual, &clock, 2 * SECOND);
            manual.advance(MS / 3);
            manual.set_rate(witness, ppm);
            if witness == Witness::Monotonic {
                // They go together.
                manual.set_rate(Witness::Boottime, ppm);
                manual.set_rate(Witness::Realtime, ppm);
            }
            live(&manual, &clock, 3 * SECOND);
            let (kind, jumps) = match witness {
                Witness::Counter => (JumpKind::RateStep, clock.jumps()),
                _ => (JumpKind::Slew, clock.jumps()),
            };
            assert_eq!((jumps.total(), jumps.count(kind)), (1, 1), "{ppm} {witness:?}: {jumps:?}");
            let found = jumps.last(kind).unwrap().rate_ppb;
            assert!((found - ppm * 1000).abs() <= ppm.abs() * 50, "{ppm} {witness:?}: {found}");
        }
    }
}

/// Samples are few, and many are read slowly: other threads had the processor meanwhile.
#[test]
fn on_a_busy_machine_a_change_of_rate_has_its_name_or_none() {
    for seed in 0..300 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let ppm = 500 * rng.i64(1..20) * if rng.bool() { 1 } else { -1 };
        let witness = if rng.bool() { Witness::Monotonic } else { Witness::Counter };
        let (manual, clock) = calibrated();
        let mut busy = |time: Duration| {
            let until = manual.witness(Witness::Raw) + u64::try_from(time.as_nanos()).unwrap();
            while manual.witness(Witness::Raw) < until {
                let slow_us = if rng.u8(..4) == 0 { rng.u64(1..3000) } else { 0 };
                manual.set_read_cost(Duration::from_nanos(40 + 1000 * slow_us));
                manual.advance(Duration::from_micros(rng.u64(300..50_000)));
                clock.sample();
            }
        };
        busy(SECOND / 3);
        let together = [Witness::Monotonic, Witness::Boottime, Witness::Realtime];
        match witness {
            Witness::Counter => manual.set_rate(witness, ppm),
            _ => together.into_iter().for_each(|witness| manual.set_rate(witness, ppm)),
        }
        busy(4 * SECOND);
        let name = match witness {
            Witness::Counter => JumpKind::RateStep,
            _ => JumpKind::Slew,
        };
        let jumps = clock.jumps();
        assert_eq!(jumps.count(name), jumps.total(), "seed {seed}, {ppm} {witness:?}: {jumps:?}");
    }
}

#[test]
fn a_counter_that_leaps_an_hour_moves_nothing() {
    let (manual, clock) = calibrated();
    live(&manual, &clock, SECOND);
    let before = clock.now();
    manual.jump(Witness::Counter, 3600 * HZ.cast_signed());
    assert!(clock.now() - before < MS / 100);
    manual.advance(SECOND);
    assert!((clock.now() - before).abs_diff(SECOND) < MS / 100);
    assert_eq!(clock.stats().faults, 1);
}

#[test]
fn a_counter_that_starts_anew_or_stops_does_not_stop_the_time() {
    let (manual, clock) = calibrated();
    live(&manual, &clock, SECOND);
    let before = clock.now();
    manual.set_witness(Witness::Counter, 0);
    live(&manual, &clock, SECOND);
    assert!((clock.now() - before).abs_diff(SECOND) < MS / 10);

    manual.freeze(Witness::Counter);
    live(&manual, &clock, SECOND);
    assert!((clock.now() - before).abs_diff(2 * SECOND) < MS);
    manual.advance(SECOND);
    assert!(matches!(clock.source(), Source::Os(OsReason::CounterFaulty { .. })));
    assert!((clock.now() - before).abs_diff(3 * SECOND) < MS);
}

#[test]
fn a_counter_of_twice_the_rate_is_learned() {
    let (manual, clock) = calibrated();
    live(&manual, &clock, SECOND);
    manual.set_rate(Witness::Counter, 1_000_000);
    live(&manual, &clock, SECOND);
    assert_eq!(clock.source(), Source::Counter);
    assert!((clock.report().counter_hz.unwrap() / 4.6e9 - 1.0).abs() < 1e-6);
    assert!((0..20_000_000).contains(&ahead_ns(&manual, &clock)));
}

#[test]
fn counters_of_two_processors_that_disagree_are_given_up() {
    let (manual, clock) = calibrated();
    let skew = HZ.cast_signed();
    for i in 0..10 {
        live(&manual, &clock, 10 * MS);
        manual.jump(Witness::Counter, if i % 2 == 0 { -skew } else { skew });
        clock.now();
    }
    assert!(matches!(clock.source(), Source::Os(OsReason::CounterFaulty { .. })));
    let before = clock.now();
    live(&manual, &clock, SECOND);
    assert!((clock.now() - before).abs_diff(SECOND) < 25 * MS);
}

#[test]
fn a_counter_that_is_given_up_again_is_left_alone_for_twice_as_long() {
    let (manual, clock) = calibrated();
    for exile in [SECOND, 2 * SECOND, 4 * SECOND] {
        for i in 0_i64.. {
            manual.jump(Witness::Counter, if i % 2 == 0 { -1 } else { 1 } * HZ.cast_signed());
            manual.advance(10 * MS);
            clock.sample();
            if clock.source() != Source::Counter {
                break;
            }
        }
        let given_up = manual.witness(Witness::Monotonic);
        assert!(!clock.is_retest_due(given_up + ticks::saturating_ns(exile) - 1));
        assert!(clock.is_retest_due(given_up + ticks::saturating_ns(exile) + 1000));
        manual.advance(exile + MS);
        clock.retest();
        live(&manual, &clock, 10 * MS);
        assert_eq!(clock.source(), Source::Counter);
    }
}

#[test]
fn a_restored_machine_is_caught_up_with() {
    let (manual, clock) = calibrated();
    live(&manual, &clock, SECOND);
    manual.jump(Witness::Monotonic, 3_600_000_000_000);
    manual.jump(Witness::Boottime, 3_600_000_000_000);
    clock.sample();
    assert!(ahead_ns(&manual, &clock).abs() < 100);
    assert_eq!(clock.stats().steps, 1);
    // Nobody sleeps for as long as the rate may be wrong by.
    manual.advance(MS / 10);
    let now_ns = clock.sample().monotonic_ns;
    assert!(clock.kernel_deadline(now_ns + 1000) <= now_ns + 6_000_000);
    assert!(clock.kernel_deadline(now_ns + 50_000_000) >= now_ns + 50_000_000);
    // Known at once: timers that fell due are about to fire, or to be forgiven.
    assert_eq!(clock.jumps().count(JumpKind::Restore), 1);
    live(&manual, &clock, SECOND);
    assert_eq!(clock.jumps().total(), 1, "{:?}", clock.jumps());
}

#[test]
fn a_reference_that_goes_back_neither_takes_the_time_back_nor_stops_it() {
    let (manual, clock) = calibrated();
    live(&manual, &clock, SECOND);
    let before = clock.now();
    manual.jump(Witness::Monotonic, -3_000_000_000);
    let reading = clock.sample();
    assert!(reading.now_ns >= before.as_nanos());
    assert!(reading.safe_ns <= reading.now_ns && reading.safe_ns + 1000 > before.as_nanos());
    live(&manual, &clock, SECOND);
    assert!((clock.now() - before).abs_diff(SECOND) < MS);
    assert!(clock.error_bound() < MS);
    let lost = clock.jumps().last(JumpKind::OsRegression).unwrap().size_ns;
    assert!((lost + 3_000_000_000).abs() < 1_000_000, "{lost}");
    // It makes up for it: nothing happens.
    let before = clock.now();
    manual.jump(Witness::Monotonic, 3_000_000_000);
    live(&manual, &clock, SECOND);
    assert!((clock.now() - before).abs_diff(SECOND) < MS);
    assert!(ahead_ns(&manual, &clock).abs() < 1_000_000);
    assert_eq!(clock.jumps().total(), 2, "{:?}", clock.jumps());
}

#[test]
fn suspension_moves_elapsed_time_only() {
    let (manual, clock) = calibrated();
    let (active, elapsed) = (clock.now(), clock.now_elapsed());
    manual.jump(Witness::Boottime, 60_000_000_000);
    assert!(clock.now() - active < MS);
    assert_eq!(clock.now_elapsed() - elapsed, Duration::from_secs(60));
}

#[test]
fn a_preempted_bracket_does_not_disturb_the_clock() {
    let (manual, clock) = calibrated();
    live(&manual, &clock, SECOND);
    for _ in 0..20 {
        manual.set_read_cost(3 * MS);
        manual.advance(25 * MS);
        clock.now();
        manual.set_read_cost(Duration::ZERO);
        live(&manual, &clock, 30 * MS);
        assert!(ahead_ns(&manual, &clock).abs() < 1000);
    }
    assert_eq!(clock.stats().faults, 0);
}

#[test]
fn what_is_slept_until_is_safe_when_the_sleep_ends_on_time() {
    let (manual, clock) = calibrated();
    manual.set_read_cost(Duration::from_nanos(30));
    live(&manual, &clock, SECOND);
    for ahead_ns in [1_000, 50_000, 1_000_000, 30_000_000] {
        let deadline_ns = clock.sample().now_ns + ahead_ns;
        let until_ns = clock.kernel_deadline(deadline_ns);
        assert!((deadline_ns..deadline_ns + 500).contains(&until_ns));
        manual.advance(Duration::from_nanos(until_ns - manual.witness(Witness::Monotonic)));
        // The kernel's own wake-up takes longer than this.
        manual.advance(Duration::from_nanos(200));
        assert!(clock.sample().safe_ns >= deadline_ns);
    }
}

// The real clock: properties only, no durations.

#[test]
fn the_override_is_parsed_and_what_cannot_be_is_shown() {
    assert_eq!(Preference::parse("os"), Preference::Os);
    assert_eq!(Preference::parse("tsc"), Preference::Counter);
    assert_eq!(Preference::parse("auto"), Preference::Auto);
    assert_eq!(Preference::parse(""), Preference::Auto);
    let wrong = Preference::parse(&"sundial".repeat(100));
    let clock = Clock::builder().preference(wrong).build();
    clock.calibrate();
    let shown = clock.source().to_string();
    assert!(shown.contains("\"sundialsundial") && shown.contains("os, tsc and auto"), "{shown}");
    assert!(shown.len() < 200);
    clock.now();
}

#[test]
fn the_real_clock_is_between_two_reads_of_the_kernels_within_its_bound() {
    let clock = Clock::builder().build();
    for round in 0..2000 {
        if round == 100 {
            clock.calibrate();
        }
        let before_ns = os::monotonic_ns();
        let now_ns = clock.now().as_nanos();
        let after_ns = os::monotonic_ns();
        let bound_ns = ticks::saturating_ns(clock.error_bound());
        assert!(now_ns + bound_ns >= before_ns, "{now_ns} + {bound_ns} < {before_ns}");
        assert!(now_ns <= after_ns + bound_ns, "{now_ns} > {after_ns} + {bound_ns}");
        let reading = clock.sample();
        assert!(reading.safe_ns <= os::monotonic_ns());
        assert!(reading.safe_ns <= reading.now_ns);
    }
}

#[test]
fn no_thread_reads_behind_what_another_has_published() {
    // The process's own clock, whose reads are held to those of the same thread only; calibrated on
    // the way, so that the change from the OS clock is among what is tested.
    const ROUNDS: u32 = 200_000;
    let clock = Clock::system();
    let published = AtomicU64::new(0);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..ROUNDS {
                published.store(clock.now().as_nanos(), Ordering::Release);
                if round == ROUNDS / 10 {
                    clock.calibrate();
                }
                if round % 64 == 0 {
                    clock.sample();
                }
            }
            done.store(true, Ordering::Release);
        });
        while !done.load(Ordering::Acquire) {
            let floor = published.load(Ordering::Acquire);
            let now = clock.now().as_nanos();
            assert!(now >= floor, "{now} after {floor}");
        }
    });
}

#[test]
fn unordered_reads_do_not_go_back_either() {
    let clock = Clock::system();
    clock.calibrate();
    let mut last = clock.now();
    for _ in 0..100_000 {
        let now = clock.now_unordered();
        assert!(now >= last);
        last = now;
    }
}

#[test]
fn a_report_names_its_source_and_can_be_shown() {
    let clock = Clock::builder().build();
    clock.calibrate();
    let report = clock.report();
    assert_eq!(report.source, clock.source());
    assert!(report.to_string().starts_with("source"));
    assert!(format!("{clock:?}").contains("own"));
    if report.source == Source::Counter {
        assert!(report.counter_hz.unwrap() > 1e6);
        assert!(report.self_test.bracket.is_some());
    }
}
