//! P5: jumps are survived: a step, slew, suspend, restore, stall or counter fault fires nothing
//! early, freezes nothing, starts no storm, and is counted and classified.
//!
//! Here by scripts, on a clock whose witnesses are told to lie and which runs the code that
//! disciplines the real one. `jumps_real.rs` does it to the clocks of a process.

mod common;

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::Waker;

use deadbeat::clock::{Clock, Elapsed, Instant, Jump, JumpKind};
use deadbeat::clock::{ManualClock, OsReason, Source, Witness};
use deadbeat::time::{Duration, Sleep, interval, sleep_running};
use deadbeat::{JumpHook, Manual};

const HZ: i64 = 2_300_000_000;
const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const SECOND_NS: i64 = 1_000_000_000;
const HOUR_NS: i64 = 3600 * SECOND_NS;

/// How late a timer may fire: as long as a line is valid, and a rate in doubt.
const LATE: Duration = Duration::from_millis(50);

/// A Timekeeper on a scripted clock, and what it has said of jumps.
struct World {
    manual: Manual,
    heard: Arc<Mutex<Vec<Jump>>>,
    /// How much time has passed in truth: neither jumps nor rates are part of it, stalls are.
    truth_ns: Arc<AtomicU64>,
    _hook: JumpHook,
}

impl World {
    /// Its counter is in use, and has been sound for a while.
    fn new() -> Self {
        let manual = Manual::with_clock(ManualClock::scripted(HZ.cast_unsigned()));
        let heard = Arc::new(Mutex::new(Vec::new()));
        let hook = manual.timekeeper().on_jump({
            let heard = heard.clone();
            move |jump| heard.lock().unwrap().push(*jump)
        });
        let world = Self { manual, heard, truth_ns: Arc::default(), _hook: hook };
        for _ in 0..3 {
            world.clock().calibrate();
            world.pass(3 * MS);
        }
        world.live(2 * SECOND);
        assert_eq!(world.clock().source(), Source::Counter);
        assert_eq!(world.clock().jumps().total(), 0, "{:?}", world.clock().jumps());
        world
    }

    fn clock(&self) -> &Clock {
        self.manual.timekeeper().clock()
    }

    fn script(&self) -> &ManualClock {
        self.manual.clock()
    }

    fn truth(&self) -> Duration {
        Duration::from_nanos(self.truth_ns.load(SeqCst))
    }

    fn add_truth(&self, duration: Duration) {
        self.truth_ns.fetch_add(u64::try_from(duration.as_nanos()).unwrap(), SeqCst);
    }

    /// Time passes, each witness at its own rate, and the driver wakes.
    fn pass(&self, duration: Duration) -> usize {
        self.script().advance(duration);
        self.add_truth(duration);
        self.manual.fast_forward(Duration::ZERO)
    }

    /// The same in steps of a millisecond.
    fn live(&self, duration: Duration) {
        for _ in 0..duration.as_millis() {
            self.pass(MS);
        }
    }

    fn stall(&self, duration: Duration) {
        self.add_truth(duration);
        self.manual.stall(duration);
    }

    /// Moves `CLOCK_MONOTONIC` and those that go with it.
    fn jump_os(&self, ns: i64) {
        for witness in [Witness::Monotonic, Witness::Boottime, Witness::Raw] {
            self.script().jump(witness, ns);
        }
    }

    fn heard(&self, kind: JumpKind) -> Vec<Jump> {
        self.heard.lock().unwrap().iter().filter(|jump| jump.kind == kind).copied().collect()
    }
}

/// When a timer was woken.
#[derive(Clone, Copy, Debug)]
struct Woken {
    id: usize,
    now: Instant,
    elapsed: Instant<Elapsed>,
    truth: Duration,
}

enum Nap {
    Active(Sleep),
    Elapsed(Sleep<Elapsed>),
}

/// Timers of both classes, by turns, and when they fire.
struct Crowd {
    naps: Vec<Nap>,
    begun: Duration,
    waits: Vec<Duration>,
    log: Arc<Mutex<Vec<Woken>>>,
}

impl Crowd {
    /// Pairs of an active and an elapsed timer.
    fn new(world: &World, waits: impl Iterator<Item = Duration>) -> Self {
        let mut crowd =
            Self { naps: Vec::new(), begun: world.truth(), waits: Vec::new(), log: Arc::default() };
        for wait in waits {
            let active = world.clock().now() + wait;
            let elapsed = world.clock().now_elapsed() + wait;
            let timekeeper = world.manual.timekeeper();
            crowd.push(world, wait, Nap::Active(timekeeper.sleep_until(active)));
            crowd.push(world, wait, Nap::Elapsed(timekeeper.sleep_until(elapsed)));
        }
        crowd
    }

    fn push(&mut self, world: &World, wait: Duration, mut nap: Nap) {
        let (id, log) = (self.naps.len(), self.log.clone());
        let (clock, truth_ns) = (world.clock().clone(), world.truth_ns.clone());
        let waker = common::on_wake(move || {
            let truth = Duration::from_nanos(truth_ns.load(SeqCst));
            let woken = Woken { id, now: clock.now(), elapsed: clock.now_elapsed(), truth };
            log.lock().unwrap().push(woken);
        });
        assert!(nap.poll(&waker).is_pending());
        self.naps.push(nap);
        self.waits.push(wait);
    }

    fn fired(&self) -> Vec<Woken> {
        self.log.lock().unwrap().clone()
    }

    fn fired_of(&self, elapsed: bool) -> usize {
        self.fired()
            .iter()
            .filter(|woken| self.naps[woken.id].is_elapsed_class() == elapsed)
            .count()
    }

    /// That all fired, each once, none before its time by its own clock, and in their order.
    #[track_caller]
    fn assert_kept(&mut self, what: &str) {
        let log = self.fired();
        let mut ids: Vec<usize> = log.iter().map(|woken| woken.id).collect();
        ids.sort_unstable();
        assert_eq!(ids, (0..self.naps.len()).collect::<Vec<_>>(), "{what}: lost, or fired twice");
        for woken in &log {
            let early = match &self.naps[woken.id] {
                Nap::Active(sleep) => woken.now < sleep.deadline(),
                Nap::Elapsed(sleep) => woken.elapsed < sleep.deadline(),
            };
            assert!(!early, "{what}: {woken:?} is early");
        }
        for class in [false, true] {
            let of_class =
                log.iter().filter(|woken| self.naps[woken.id].is_elapsed_class() == class);
            assert!(of_class.is_sorted_by_key(|woken| self.waits[woken.id]), "{what}: {log:?}");
        }
        for nap in &mut self.naps {
            assert!(nap.poll(Waker::noop()).is_ready(), "{what}");
        }
    }

    /// That in truth as much time has passed as was to be waited for, less what the clock of the class
    /// is known to have leapt ahead, to `within`; and not much more.
    #[track_caller]
    fn assert_true(&self, what: &str, leaps: [Duration; 2], stalled: Duration, within: Duration) {
        for woken in self.fired() {
            let leap = leaps[usize::from(self.naps[woken.id].is_elapsed_class())];
            let (took, wait) = (woken.truth - self.begun, self.waits[woken.id]);
            assert!(took + leap + within >= wait, "{what}: {took:?} rather than {wait:?}");
            assert!(took <= wait + stalled + LATE, "{what}: {took:?} rather than {wait:?}");
        }
    }
}

impl Nap {
    fn poll(&mut self, waker: &Waker) -> std::task::Poll<()> {
        match self {
            Self::Active(sleep) => common::poll(sleep, waker),
            Self::Elapsed(sleep) => common::poll(sleep, waker),
        }
    }

    fn is_elapsed_class(&self) -> bool {
        matches!(self, Self::Elapsed(_))
    }
}

/// A fault, and what is to be said of it.
struct Case {
    what: &'static str,
    inject: fn(&World),
    kind: JumpKind,
    count: u64,
    /// In nanoseconds; of a change of rate, parts per billion.
    size: i64,
    within: i64,
    /// By how much active and elapsed time rightly leap ahead.
    leaps: [Duration; 2],
    stalled: Duration,
}

impl Case {
    const fn new(what: &'static str, kind: JumpKind, size: i64, inject: fn(&World)) -> Self {
        let none = Duration::ZERO;
        let leaps = [none; 2];
        // What passes between two looks, unless it is told better.
        let within = 1_000_000;
        Self { what, inject, kind, count: 1, size, within, leaps, stalled: none }
    }

    const fn within(self, within: i64) -> Self {
        Self { within, ..self }
    }
}

const HOUR: Duration = Duration::from_secs(3600);

fn cases() -> Vec<Case> {
    use JumpKind as Kind;
    vec![
        Case {
            stalled: Duration::from_secs(2),
            ..Case::new("stall", Kind::Stall, 2 * SECOND_NS, |world| world.stall(2 * SECOND))
        },
        Case {
            leaps: [Duration::ZERO, HOUR],
            ..Case::new("suspend", Kind::Suspend, HOUR_NS, |world| {
                world.manual.suspend(HOUR);
            })
        },
        Case::new("wall step forward", Kind::WallStep, HOUR_NS, |world| {
            world.script().jump(Witness::Realtime, HOUR_NS);
        }),
        Case::new("wall step back", Kind::WallStep, -SECOND_NS, |world| {
            world.script().jump(Witness::Realtime, -SECOND_NS);
        }),
        Case::new("wall step of a millisecond", Kind::WallStep, 1_000_000, |world| {
            world.script().jump(Witness::Realtime, 1_000_000);
        })
        .within(0),
        Case::new("slew of 400 ppm", Kind::Slew, 400_000, |world| slew(world, 400)).within(2000),
        Case::new("slew of -400 ppm", Kind::Slew, -400_000, |world| slew(world, -400)).within(2000),
        Case::new("counter forward", Kind::CounterForward, 5 * SECOND_NS, |world| {
            world.script().jump(Witness::Counter, 5 * HZ);
        }),
        Case::new("counter back", Kind::CounterBack, -2 * SECOND_NS, |world| {
            world.script().jump(Witness::Counter, -2 * HZ);
        }),
        // It has started at 3.6e12 ticks.
        Case::new("counter reset", Kind::CounterBack, -1568 * SECOND_NS, |world| {
            world.script().set_witness(Witness::Counter, 0);
        })
        .within(SECOND_NS),
        Case {
            count: 1,
            ..Case::new("another processor", Kind::CounterSkew, 8 * SECOND_NS / 5, |world| {
                world.script().set_skew(1, -8 * HZ / 5);
                // There, for the first time: nobody can know yet. Back, where it is as it was.
                for cpu in [1, 0] {
                    world.script().migrate(cpu);
                    world.live(100 * MS);
                }
            })
        },
        Case::new("counter at +50 ppm", Kind::RateStep, 50_000, |world| {
            world.script().set_rate(Witness::Counter, 50);
        })
        .within(500),
        Case::new("counter at -50 ppm", Kind::RateStep, -50_000, |world| {
            world.script().set_rate(Witness::Counter, -50);
        })
        .within(500),
        Case::new("counter of twice the rate", Kind::RateStep, SECOND_NS, |world| {
            world.script().set_rate(Witness::Counter, 1_000_000);
        })
        .within(10_000),
        Case {
            leaps: [HOUR; 2],
            ..Case::new("restore", Kind::Restore, HOUR_NS, |world| world.jump_os(HOUR_NS))
        },
        Case::new("the kernel's clock back", Kind::OsRegression, -3 * SECOND_NS, |world| {
            world.jump_os(-3 * SECOND_NS);
        }),
    ]
}

/// As NTP does it: all of the kernel's clocks but the raw one.
fn slew(world: &World, ppm: i64) {
    for witness in [Witness::Monotonic, Witness::Boottime, Witness::Realtime] {
        world.script().set_rate(witness, ppm);
    }
}

#[test]
fn each_kind_of_jump_is_survived_counted_and_told() {
    let cases = cases();
    for kind in JumpKind::ALL {
        assert!(cases.iter().any(|case| case.kind == kind), "no case of {kind}");
    }
    for case in cases {
        let (what, kind) = (case.what, case.kind);
        let world = World::new();
        let mut crowd = Crowd::new(&world, (1..=40).map(|i| 50 * MS * i));
        world.live(520 * MS);
        let (before, truth) = (world.clock().now(), world.truth());
        (case.inject)(&world);
        world.live(3 * SECOND);

        crowd.assert_kept(what);
        // A slew moves the clock that the deadlines are on.
        crowd.assert_true(what, case.leaps, case.stalled, 2 * MS);
        let passed = world.clock().now() - before;
        let expected = world.truth() - truth + case.leaps[0];
        assert!(passed.abs_diff(expected) < LATE, "{what}: {passed:?}, not {expected:?}");

        let jumps = world.clock().jumps();
        let is_rate = matches!(kind, JumpKind::Slew | JumpKind::RateStep);
        let size = |jump: &Jump| if is_rate { jump.rate_ppb } else { jump.size_ns };
        let last = jumps.last(kind).unwrap_or_else(|| panic!("{what}: {jumps:?}"));
        assert!(size(&last).abs_diff(case.size) <= case.within.cast_unsigned(), "{what}: {last:?}");
        assert_eq!(jumps.count(kind), case.count, "{what}: {jumps:#?}");
        let heard = world.heard(kind);
        assert_eq!(heard.last(), Some(&last), "{what}");
        assert_eq!(heard.len() as u64, case.count, "{what}");
        if kind != JumpKind::CounterSkew {
            assert_eq!(
                jumps.total(),
                case.count,
                "{what} was taken for something else: {jumps:#?}"
            );
        }
        assert_eq!(world.clock().source(), Source::Counter, "{what}");
    }
}

#[test]
fn the_end_of_a_suspension_fires_elapsed_timers_and_no_active_ones() {
    let world = World::new();
    let mut crowd = Crowd::new(&world, (1..=100).map(|i| SECOND * i));
    assert_eq!(world.manual.suspend(50 * SECOND + MS), 50);
    assert_eq!((crowd.fired_of(false), crowd.fired_of(true)), (0, 50));
    world.pass(10 * SECOND + MS);
    assert_eq!((crowd.fired_of(false), crowd.fired_of(true)), (10, 60));
    world.pass(90 * SECOND);
    crowd.assert_kept("suspend");
}

#[test]
fn the_driver_is_told_of_a_jump_before_what_fell_due_fires() {
    let world = World::new();
    let heard = world.heard.clone();
    let seen = Arc::new(Mutex::new(None));
    let mut nap = world.manual.timekeeper().sleep_until(world.clock().now() + SECOND);
    let waker = common::on_wake({
        let seen = seen.clone();
        move || *seen.lock().unwrap() = Some(heard.lock().unwrap().len())
    });
    assert!(common::poll(&mut nap, &waker).is_pending());
    world.stall(2 * SECOND);
    assert_eq!(*seen.lock().unwrap(), Some(1));
}

#[test]
fn an_hour_ahead_is_no_storm_and_starves_nobody() {
    const PAIRS: u32 = 1000;
    const TIMERS: usize = 2 * PAIRS as usize;
    let world = World::new();
    let step = 100 * SECOND / 1000;
    let mut crowd = Crowd::new(&world, (0..PAIRS).map(|i| 100 * SECOND + step * i));
    world.live(100 * MS);
    world.jump_os(HOUR_NS);
    // Armed while all of these are overdue.
    let before = world.truth();
    let mut fresh = Crowd::new(&world, [MS].into_iter());
    assert_eq!(world.pass(MS + MS / 100), TIMERS + 2);
    assert_eq!(fresh.fired().len(), 2);
    fresh.assert_kept("fresh");
    assert!(world.truth() - before < 2 * MS);
    crowd.assert_kept("an hour ahead");
    // Nothing is left that would fire again.
    world.live(SECOND);
    assert_eq!(crowd.fired().len(), TIMERS);
    assert_eq!(world.clock().jumps().count(JumpKind::Restore), 1);
}

#[test]
fn a_kernel_clock_that_goes_back_keeps_nobody_waiting_for_it() {
    let world = World::new();
    let mut crowd = Crowd::new(&world, [500 * MS].into_iter());
    world.live(100 * MS);
    world.jump_os(-3 * SECOND_NS);
    world.live(398 * MS);
    assert_eq!(crowd.fired().len(), 0);
    world.live(5 * MS);
    crowd.assert_kept("3 s back");
    // Nor one that is armed afterwards.
    let mut crowd = Crowd::new(&world, [500 * MS].into_iter());
    world.live(499 * MS);
    assert_eq!(crowd.fired().len(), 0);
    world.live(2 * MS);
    crowd.assert_kept("after it");
}

#[test]
fn ticks_that_a_gap_has_swallowed_are_one_and_counted() {
    let world = World::new();
    let _entered = world.manual.enter();
    let mut ticks = interval(10 * MS);
    let tick = |ticks: &mut deadbeat::time::Interval| {
        let mut cx = std::task::Context::from_waker(Waker::noop());
        Pin::new(ticks).poll_tick(&mut cx).is_ready()
    };
    assert!(!tick(&mut ticks), "the clock may be wrong by some nanoseconds");
    world.pass(MS);
    assert!(tick(&mut ticks) && !tick(&mut ticks));
    world.stall(SECOND);
    assert!(tick(&mut ticks), "one is due");
    assert!(!tick(&mut ticks), "the others are not made up for");
    assert_eq!(ticks.coalesced(), 99);
    world.pass(10 * MS + MS / 100);
    assert!(tick(&mut ticks) && !tick(&mut ticks));

    world.jump_os(60 * SECOND_NS);
    world.pass(MS);
    assert!(tick(&mut ticks) && !tick(&mut ticks));
    // One tick more or less: the restore came between two of them.
    let restored = ticks.coalesced() - 99;
    assert!((5998..=6000).contains(&restored), "{restored}");
    assert_eq!(world.manual.timekeeper().stats().stalled.as_secs(), 61);

    // A suspension is no active time.
    world.manual.suspend(HOUR);
    let before = ticks.coalesced();
    world.pass(20 * MS);
    assert!(tick(&mut ticks));
    assert_eq!(ticks.coalesced(), before);
}

#[test]
fn running_time_leaves_out_stalls_and_restores() {
    let world = World::new();
    let _entered = world.manual.enter();
    let start = world.truth();
    let mut nap = sleep_running(10 * SECOND);
    assert!(common::poll(&mut nap, Waker::noop()).is_pending());
    world.stall(9 * SECOND);
    assert!(common::poll(&mut nap, Waker::noop()).is_pending());
    world.pass(3 * SECOND);
    world.jump_os(HOUR_NS);
    world.pass(MS);
    world.manual.suspend(HOUR);
    while common::poll(&mut nap, Waker::noop()).is_pending() {
        world.pass(MS);
    }
    let took = world.truth() - start;
    assert!(took.abs_diff(19 * SECOND) < 10 * MS, "{took:?}");
}

/// Has the counter disagree with everything until it is given up.
fn wear_out(world: &World) {
    for i in 0.. {
        assert!(i < 100, "{:?}", world.clock().stats());
        if matches!(world.clock().source(), Source::Os(OsReason::CounterFaulty { .. })) {
            return;
        }
        let leap = if i % 2 == 0 { -HZ } else { HZ };
        world.script().jump(Witness::Counter, leap);
        for _ in 0..10 {
            world.pass(MS);
            if world.clock().source() != Source::Counter {
                break;
            }
        }
    }
}

/// Lives until the counter is served, without a step of our time on the way. Returns how long that was.
fn live_until_counted(world: &World, at_most: Duration) -> Duration {
    let start = world.truth();
    let mut last = world.clock().now();
    while world.clock().source() != Source::Counter {
        assert!(world.truth() - start < at_most, "{:?}", world.clock().source());
        world.pass(MS);
        let now = world.clock().now();
        assert!((now - last).abs_diff(MS) < MS / 10, "a step of {:?}", now - last);
        last = now;
    }
    world.truth() - start
}

#[test]
fn a_faulty_counter_is_given_up_and_taken_back_when_it_is_sound() {
    let world = World::new();
    let (before, truth) = (world.clock().now(), world.truth());
    let mut crowd = Crowd::new(&world, (1..=40).map(|i| 100 * MS * i));
    wear_out(&world);
    assert!(world.clock().stats().faults > 8);
    let away = live_until_counted(&world, 2 * SECOND);
    // A second, and the baseline.
    assert!((SECOND..SECOND + 20 * MS).contains(&away), "{away:?}");
    // It stays.
    world.live(3 * SECOND);
    assert_eq!(world.clock().source(), Source::Counter);
    crowd.assert_kept("a faulty counter");
    let (passed, expected) = (world.clock().now() - before, world.truth() - truth);
    assert!(passed.abs_diff(expected) < LATE, "{passed:?}, not {expected:?}");
}

#[test]
fn a_counter_that_stays_faulty_is_given_up_for_longer_each_time() {
    let world = World::new();
    for exile in [SECOND, 2 * SECOND, 4 * SECOND, 8 * SECOND] {
        wear_out(&world);
        let away = live_until_counted(&world, 20 * SECOND);
        // And the baseline.
        assert!((exile..exile + 20 * MS).contains(&away), "{away:?}, not {exile:?}");
    }
}

#[test]
fn a_strobe_neither_drives_the_time_nor_stops_it() {
    for first in [-1, 1] {
        let world = World::new();
        let mut crowd = Crowd::new(&world, (1..=100).map(|i| 20 * MS * i));
        let (before, truth) = (world.clock().now(), world.truth());
        for i in 0..200 {
            let sign = if i % 2 == 0 { first } else { -first };
            world.jump_os(sign * SECOND_NS / 5);
            world.live(10 * MS);
        }
        world.live(SECOND);
        crowd.assert_kept("strobe");
        // It leaps forward once at most: what is lost after that is what is won next time.
        let leap = Duration::from_millis(if first > 0 { 200 } else { 0 });
        crowd.assert_true("strobe", [leap; 2], Duration::ZERO, 20 * MS);
        let (passed, expected) = (world.clock().now() - before, world.truth() - truth + leap);
        assert!(passed.abs_diff(expected) < LATE, "{passed:?}, not {expected:?}");
        let jumps = world.clock().jumps();
        assert!(jumps.count(JumpKind::OsRegression) >= 90, "{jumps:#?}");
        assert!(jumps.count(JumpKind::Restore) >= 90, "{jumps:#?}");
    }
}

/// A duration is counted from the moment at which it is asked for, also when just then the clock knows
/// itself badly, and is behind.
#[test]
fn a_duration_is_not_cut_short_by_a_clock_that_is_behind() {
    let kernel_ns = |world: &World| world.script().witness(Witness::Monotonic);
    for seed in 0..200 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let world = World::new();
        for round in 0..20 {
            match rng.u8(..8) {
                0 => world.script().jump(Witness::Counter, -2 * HZ),
                1 => world.script().jump(Witness::Counter, HZ * rng.i64(1..10)),
                // Whoever reads the clocks is kept off the processor in between.
                2 | 3 => world.script().set_read_cost(Duration::from_micros(rng.u64(1..2000))),
                4 | 5 => world.script().set_read_cost(Duration::from_nanos(rng.u64(1..2000))),
                _ => {}
            }
            world.script().advance(Duration::from_micros(rng.u64(..30_000)));
            let (asked_ns, duration) = (kernel_ns(&world), Duration::from_millis(rng.u64(1..20)));
            let mut sleep = world.manual.timekeeper().sleep(duration);
            while common::poll(&mut sleep, Waker::noop()).is_pending() {
                world.pass(MS / 10);
            }
            let took = Duration::from_nanos(kernel_ns(&world) - asked_ns);
            assert!(took >= duration, "seed {seed}, round {round}: {took:?} of {duration:?}");
        }
    }
}
