//! P5 again, with the real clock, the real driver and real faults, each in a process of its own.
//!
//! Properties, not durations: what is bounded here is bounded generously.
#![cfg(target_os = "linux")]
#![expect(unsafe_code, reason = "clocks of the C library")]

mod common;

use std::error::Error;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, RwLock};
use std::task::Waker;
use std::thread::{self, JoinHandle};

use deadbeat::clock::{Clock, Elapsed, Jump, JumpKind, Source, Witness};
use deadbeat::faults::{Unsupported, in_child, kernel, namespace, stall, wall};
use deadbeat::time::{Duration, Sleep, interval, sleep_running};
use deadbeat::{Timekeeper, block_on};

deadbeat::faults::interpose!();

type Result = std::result::Result<(), Box<dyn Error>>;

const MS: Duration = Duration::from_millis(1);
const SECOND: i64 = 1_000_000_000;
const HOUR: i64 = 3600 * SECOND;
/// Later than anything here may be on a machine that is busy.
const LATE: Duration = Duration::from_secs(3);

/// Runs each of `cases` in a process of its own, all at once.
#[track_caller]
fn apart<T: Sync + std::fmt::Debug>(cases: &[T], test: impl Fn(&T) -> Result + Sync) {
    let run = |case| {
        in_child(Duration::from_secs(25), || match test(case) {
            Ok(()) => String::new(),
            Err(lacking) => lacking.to_string(),
        })
    };
    let ended: Vec<_> = thread::scope(|scope| {
        let all: Vec<_> = cases.iter().map(|case| scope.spawn(|| run(case))).collect();
        all.into_iter().map(|child| child.join().unwrap()).collect()
    });
    for (case, ended) in cases.iter().zip(ended) {
        match ended {
            Ok(why) if why.is_empty() => {}
            Ok(why) => common::skip(&format!("{case:?}: {why}")),
            Err(message) => panic!("{case:?}: {message}"),
        }
    }
}

/// As this process is told.
fn told(id: libc::clockid_t) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a place for one timespec.
    assert_eq!(unsafe { libc::clock_gettime(id, &raw mut time) }, 0);
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// CLOCK_MONOTONIC as it is: read without the C library.
fn truth() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

/// What is on record, and the clock's own report.
fn shown(clock: &Clock) -> String {
    let jumps = clock.jumps();
    let jumps: Vec<_> = jumps.iter().map(|(_, count, last)| format!("{count}, {last}")).collect();
    format!("{jumps:?}, {:?}, {}", clock.stats(), clock.source())
}

fn pause(time: Duration) {
    #[expect(clippy::disallowed_methods, reason = "true time has to pass")]
    thread::sleep(time);
}

/// The process's clock and a driver, two threads that read, and what is told of jumps.
struct World {
    clock: Clock,
    timekeeper: Timekeeper,
    heard: Arc<Mutex<Vec<Jump>>>,
    /// Held by who injects a fault that takes more than one step.
    gate: Arc<RwLock<()>>,
    stop: Arc<AtomicBool>,
    readers: Vec<JoinHandle<()>>,
}

impl World {
    fn new() -> Self {
        let clock = Clock::system();
        clock.calibrate();
        let timekeeper = Timekeeper::builder().clock(clock.clone()).build();
        let heard = Arc::new(Mutex::new(Vec::new()));
        let to_tell = heard.clone();
        timekeeper.on_jump(move |jump| to_tell.lock().unwrap().push(*jump)).detach();
        let (gate, stop) = (Arc::new(RwLock::new(())), Arc::new(AtomicBool::new(false)));
        let readers = (0..2).map(|_| {
            let (clock, gate, stop) = (clock.clone(), gate.clone(), stop.clone());
            thread::spawn(move || {
                let (mut last, mut last_elapsed) = (clock.now(), clock.now_elapsed());
                while !stop.load(SeqCst) {
                    let open = gate.read().unwrap();
                    for _ in 0..20 {
                        let (now, elapsed) = (clock.now(), clock.now_elapsed());
                        assert!(now >= last, "{:?} back", last - now);
                        assert!(elapsed >= last_elapsed, "{:?} back", last_elapsed - elapsed);
                        (last, last_elapsed) = (now, elapsed);
                    }
                    drop(open);
                    pause(MS / 5);
                }
            })
        });
        let readers = readers.collect();
        Self { clock, timekeeper, heard, gate, stop, readers }
    }

    /// As many kernel clocks as go together: nobody reads in between, if the driver is asleep.
    fn jump(&self, witnesses: &[Witness], ns: i64) -> std::result::Result<(), Unsupported> {
        let _closed = self.gate.write().unwrap();
        witnesses.iter().try_for_each(|witness| kernel::jump(*witness, ns))
    }

    /// Waits until a jump of this kind is on record, and was told.
    #[track_caller]
    fn find(&self, kind: JumpKind) -> Jump {
        self.look_for(kind).unwrap_or_else(|| panic!("no {kind}: {}", shown(&self.clock)))
    }

    /// The same, where there may be none.
    fn look_for(&self, kind: JumpKind) -> Option<Jump> {
        let start = truth();
        while truth() - start < LATE {
            let heard = self.heard.lock().unwrap().iter().rfind(|jump| jump.kind == kind).copied();
            if heard.is_some() {
                assert!(self.clock.jumps().count(kind) > 0);
                return heard;
            }
            block_on(self.timekeeper.sleep_until(self.clock.now() + 5 * MS));
        }
        None
    }

    /// A timer that is armed now takes the time that it should, and the driver doesn't spin meanwhile.
    #[track_caller]
    fn is_well(&self) {
        // Until the next baseline our time may be behind, and then steps.
        pause(20 * MS);
        let (start, wakes) = (truth(), self.timekeeper.stats().wakes);
        block_on(self.timekeeper.sleep_until(self.clock.now() + 50 * MS));
        let took = truth() - start;
        // As fast as a clock may be slewed, and a counter be wrong for a horizon.
        assert!((25 * MS..50 * MS + LATE).contains(&took), "50 ms took {took:?}");
        let wakes = self.timekeeper.stats().wakes - wakes;
        assert!(wakes < 200, "woken {wakes} times in {took:?}");
    }

    fn end(self) {
        self.stop.store(true, SeqCst);
        for reader in self.readers {
            reader.join().expect("no reader sees time go back");
        }
    }
}

/// A timer that fired, what the clocks of its class were told to be, and the truth.
#[derive(Clone, Copy, Debug)]
struct Woken {
    id: usize,
    told_ns: u64,
    truth: Duration,
}

/// Timers of both classes: due 200 to 400 ms after they are made.
struct Crowd {
    active: Vec<Sleep>,
    elapsed: Vec<Sleep<Elapsed>>,
    begun: Duration,
    waits: Vec<Duration>,
    log: Arc<Mutex<Vec<Woken>>>,
}

impl Crowd {
    fn new(timekeeper: &Timekeeper, clock: &Clock, each: u32) -> Self {
        let wait = |i| 200 * MS + 200 * MS * i / each;
        Self::with_waits(timekeeper, clock, (0..each).map(wait).collect())
    }

    fn with_waits(timekeeper: &Timekeeper, clock: &Clock, waits: Vec<Duration>) -> Self {
        let begun = truth();
        let (now, now_elapsed) = (clock.now(), clock.now_elapsed());
        let active = waits.iter().map(|wait| timekeeper.sleep_until(now + *wait)).collect();
        let elapsed =
            waits.iter().map(|wait| timekeeper.sleep_until(now_elapsed + *wait)).collect();
        Self { active, elapsed, begun, waits, log: Arc::default() }
    }

    fn waker(&self, id: usize, clock: libc::clockid_t) -> Waker {
        let log = self.log.clone();
        common::on_wake(move || {
            log.lock().unwrap().push(Woken { id, told_ns: told(clock), truth: truth() });
        })
    }

    fn arm(mut self) -> Self {
        let each = self.waits.len();
        for i in 0..each {
            let waker = self.waker(i, libc::CLOCK_MONOTONIC);
            if common::poll(&mut self.active[i], &waker).is_ready() {
                waker.wake();
            }
            let waker = self.waker(each + i, libc::CLOCK_BOOTTIME);
            if common::poll(&mut self.elapsed[i], &waker).is_ready() {
                waker.wake();
            }
        }
        self
    }

    fn fired(&self) -> (usize, usize) {
        let log = self.log.lock().unwrap();
        let active = log.iter().filter(|woken| woken.id < self.waits.len()).count();
        (active, log.len() - active)
    }

    /// That all fire, once, and none before its clock, which has lost so much by going back, is there.
    #[track_caller]
    fn assert_kept(&self, lost_ns: [u64; 2]) {
        let (each, start) = (self.waits.len(), truth());
        while self.log.lock().unwrap().len() < 2 * each {
            assert!(truth() - start < LATE, "lost: {:?} of {each}", self.fired());
            pause(MS);
        }
        // For what would fire again.
        pause(20 * MS);
        let log = self.log.lock().unwrap();
        let mut ids: Vec<_> = log.iter().map(|woken| woken.id).collect();
        ids.sort_unstable();
        assert_eq!(ids, (0..2 * each).collect::<Vec<_>>(), "fired twice");
        for woken in &*log {
            let (deadline, lost_ns) = match woken.id.checked_sub(each) {
                None => (self.active[woken.id].deadline().as_nanos(), lost_ns[0]),
                Some(i) => (self.elapsed[i].deadline().as_nanos(), lost_ns[1]),
            };
            assert!(woken.told_ns + lost_ns >= deadline, "early: {woken:?}, due at {deadline}");
        }
    }

    /// That in truth the time has passed that was to be waited for, of which `less` may lack.
    #[track_caller]
    fn assert_true(&self, less: Duration) {
        for woken in &*self.log.lock().unwrap() {
            let wait = self.waits[woken.id % self.waits.len()];
            let took = woken.truth - self.begun;
            assert!(took + less >= wait, "early: {took:?} rather than {wait:?}");
            assert!(took < wait + LATE, "late: {took:?} rather than {wait:?}");
        }
    }
}

/// The counter's rate; where the counter isn't served, its faults are nobody's business.
fn counter_hz(clock: &Clock) -> std::result::Result<i64, Box<dyn Error>> {
    match (clock.source(), clock.report().counter_hz) {
        #[expect(clippy::cast_possible_truncation, reason = "a few billions")]
        (Source::Counter, Some(hz)) => Ok(hz as i64),
        (source, _) => Err(format!("the counter isn't served: {source}").into()),
    }
}

const OS: [Witness; 3] = [Witness::Monotonic, Witness::Boottime, Witness::Raw];

#[test]
fn the_wall_clock_steps_and_no_timer_moves() {
    apart(&[1_000_000, SECOND, HOUR, 365 * 24 * HOUR], |size| {
        let world = World::new();
        let crowd = Crowd::new(&world.timekeeper, &world.clock, 100).arm();
        for size in [*size, -size] {
            world.jump(&[Witness::Realtime], size)?;
            let found = world.find(JumpKind::WallStep);
            assert!((found.size_ns - size).abs() < 500_000, "{found:?}, not {size}");
            world.heard.lock().unwrap().clear();
        }
        crowd.assert_kept([0; 2]);
        crowd.assert_true(Duration::ZERO);
        world.is_well();
        world.end();
        Ok(())
    });
}

#[test]
fn a_wall_clock_that_libfaketime_steps_moves_no_timer() {
    if common::is_child() {
        let world = World::new();
        let crowd = Crowd::new(&world.timekeeper, &world.clock, 50).arm();
        println!("ready");
        // Whoever waits for the end of a step gets no signal: it is looked for.
        let found = world.find(JumpKind::WallStep);
        #[expect(clippy::disallowed_methods, reason = "the clock that steps")]
        let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let since = Duration::from_nanos(told(libc::CLOCK_REALTIME)).abs_diff(wall);
        assert!(since < LATE && found.size_ns.abs() > HOUR / 2, "{found:?}");
        crowd.assert_kept([0; 2]);
        crowd.assert_true(Duration::ZERO);
        world.end();
        return;
    }
    for step in [3600.0, -3600.0] {
        let mut command = Command::new(std::env::current_exe().unwrap());
        let name = "a_wall_clock_that_libfaketime_steps_moves_no_timer";
        command.args(["--exact", name, "--nocapture", "--test-threads=1"]);
        command.env("DEADBEAT_CHILD", "1").stdout(std::process::Stdio::piped());
        let mut control = match wall::Control::over(&mut command) {
            Ok(control) => control,
            Err(unsupported) => return common::skip(&unsupported.to_string()),
        };
        let mut child = command.spawn().unwrap();
        let lines = std::io::BufReader::new(child.stdout.take().unwrap());
        let mut lines = std::io::BufRead::lines(lines);
        assert!(lines.any(|line| line.unwrap().contains("ready")));
        control.step(step).unwrap();
        let rest: Vec<_> = lines.map(std::result::Result::unwrap).collect();
        assert!(child.wait().unwrap().success(), "{rest:#?}");
    }
}

#[test]
fn the_kernels_clock_leaps_ahead_or_goes_back() {
    let cases = [(HOUR, JumpKind::Restore), (-3 * SECOND, JumpKind::OsRegression)];
    apart(&cases, |&(size, kind)| {
        let world = World::new();
        counter_hz(&world.clock)?;
        let crowd = Crowd::new(&world.timekeeper, &world.clock, 500).arm();
        pause(50 * MS);
        world.jump(&OS, size)?;
        let found = world.find(kind);
        assert!((found.size_ns - size).abs() < SECOND / 10, "{found:?}");
        world.is_well();
        let lost = if size < 0 { size.unsigned_abs() } else { 0 };
        crowd.assert_kept([lost; 2]);
        if size < 0 {
            crowd.assert_true(20 * MS);
        }
        world.end();
        Ok(())
    });
}

#[test]
fn elapsed_time_leaps_ahead_alone() {
    apart(&[()], |()| {
        let world = World::new();
        let crowd = Crowd::new(&world.timekeeper, &world.clock, 100).arm();
        pause(20 * MS);
        world.jump(&[Witness::Boottime, Witness::Realtime], HOUR)?;
        let found = world.find(JumpKind::Suspend);
        assert!((found.size_ns - HOUR).abs() < SECOND / 10, "{found:?}");
        let start = truth();
        while crowd.fired().1 < 100 {
            assert!(truth() - start < LATE);
            block_on(world.timekeeper.sleep_until(world.clock.now() + MS));
        }
        crowd.assert_kept([0; 2]);
        for woken in &*crowd.log.lock().unwrap() {
            let is_active = woken.id < 100;
            assert!(!is_active || woken.truth - crowd.begun >= crowd.waits[woken.id], "{woken:?}");
        }
        world.is_well();
        world.end();
        Ok(())
    });
}

#[test]
fn the_process_moves_to_another_time_namespace() {
    let cases = [
        (HOUR, HOUR, JumpKind::Restore),
        (-3 * SECOND, -3 * SECOND, JumpKind::OsRegression),
        (0, HOUR, JumpKind::Suspend),
    ];
    apart(&cases, |&(monotonic, boottime, kind)| {
        // Calibrated before, by threads that have ended; the Timekeeper starts after.
        let clock = Clock::system();
        clock.calibrate();
        counter_hz(&clock)?;
        let timekeeper = Timekeeper::builder().clock(clock.clone()).build();
        let crowd = Crowd::new(&timekeeper, &clock, 500);
        namespace::jump(monotonic, boottime)?;
        let armed = told(libc::CLOCK_BOOTTIME);
        let crowd = crowd.arm();
        let world = World::new();
        let start = truth();
        while clock.jumps().count(kind) == 0 {
            assert!(truth() - start < LATE, "no {kind}: {}", shown(&clock));
            block_on(timekeeper.sleep_until(clock.now() + MS));
        }
        let found = clock.jumps().last(kind).unwrap();
        let size = if kind == JumpKind::Suspend { boottime } else { monotonic };
        assert!((found.size_ns - size).abs() < SECOND / 10, "{found:?}");
        world.is_well();
        let lost = [monotonic, boottime].map(|ns| ns.min(0).unsigned_abs());
        crowd.assert_kept(lost);
        if kind == JumpKind::Suspend {
            // At once, or at the next wake for another reason.
            let first = told(libc::CLOCK_BOOTTIME) - armed;
            assert!(Duration::from_nanos(first) < LATE);
        }
        world.end();
        Ok(())
    });
}

#[cfg(target_arch = "x86_64")]
mod counter {
    use super::*;
    use deadbeat::faults::counter::Trap;

    #[derive(Clone, Copy, Debug)]
    enum Fault {
        Jump(i64),
        Reset,
        Ppm(i64),
    }

    #[test]
    fn the_counter_leaps_starts_anew_or_changes_its_rate() {
        use JumpKind::*;
        let cases = [
            (Fault::Jump(5), CounterForward),
            (Fault::Jump(-2), CounterBack),
            (Fault::Reset, CounterBack),
            (Fault::Ppm(50), RateStep),
            (Fault::Ppm(-50), RateStep),
            (Fault::Ppm(1_000_000), RateStep),
        ];
        apart(&cases, |&(fault, kind)| {
            let trap = Trap::set()?;
            let world = World::new();
            let hz = counter_hz(&world.clock)?;
            // A rate is known well enough after a while.
            pause(300 * MS);
            let crowd = Crowd::new(&world.timekeeper, &world.clock, 100).arm();
            match fault {
                Fault::Jump(seconds) => trap.jump(seconds * hz),
                Fault::Reset => trap.set_value(0),
                Fault::Ppm(ppm) => trap.rate_ppm(ppm),
            }
            if matches!(fault, Fault::Ppm(ppm) if ppm.abs() < 1000) {
                // Taken on without a word, as a slight slew is.
                world.is_well();
                crowd.assert_kept([0; 2]);
                crowd.assert_true(Duration::ZERO);
                world.end();
                return Ok(());
            }
            let found = world.find(kind);
            match fault {
                Fault::Jump(seconds) => {
                    assert!((found.size_ns - seconds * SECOND).abs() < SECOND / 2, "{found:?}");
                }
                Fault::Reset => assert!(found.size_ns < -SECOND, "{found:?}"),
                Fault::Ppm(ppm) => {
                    assert!((found.rate_ppb / 1000 - ppm).abs() < ppm.abs() / 4, "{found:?}");
                }
            }
            world.is_well();
            crowd.assert_kept([0; 2]);
            crowd.assert_true(Duration::ZERO);
            world.end();
            Ok(())
        });
    }

    #[test]
    fn the_counters_of_two_processors_are_apart() {
        apart(&[()], |()| {
            let set = rustix::thread::sched_getaffinity(None)?;
            let all = 0..rustix::thread::CpuSet::MAX_CPU;
            let cpus: Vec<usize> = all.filter(|cpu| set.is_set(*cpu)).collect();
            let [first, second, ..] = cpus[..] else { return Err("one processor".into()) };
            let trap = Trap::set()?;
            let world = World::new();
            let hz = counter_hz(&world.clock)?;
            let crowd = Crowd::new(&world.timekeeper, &world.clock, 100).arm();
            trap.skew(second, -hz * 8 / 5);
            let (start, mut last) = (truth(), world.clock.now());
            for round in 0..30 {
                let mut set = rustix::thread::CpuSet::new();
                set.set(if round % 2 == 0 { second } else { first });
                rustix::thread::sched_setaffinity(None, &set)?;
                for _ in 0..50 {
                    let now = world.clock.now();
                    assert!(now >= last);
                    last = now;
                }
                pause(5 * MS);
            }
            // Whose counter is meant depends on who looked from where: of the three, any may be told,
            // or that the counter has been given up.
            let jumps = world.clock.jumps();
            let told = [JumpKind::CounterSkew, JumpKind::CounterBack, JumpKind::CounterForward];
            assert!(told.iter().any(|kind| jumps.count(*kind) > 0), "{jumps:#?}");
            crowd.assert_kept([0; 2]);
            crowd.assert_true(Duration::ZERO);
            world.is_well();
            assert!(truth() - start < 2 * LATE);
            world.end();
            Ok(())
        });
    }
}

#[test]
fn the_kernels_clock_changes_its_rate() {
    let rates = [1, 50, 500, 10_000, 83_333];
    let cases: Vec<i64> = rates.into_iter().flat_map(|ppm| [ppm, -ppm]).collect();
    for cases in cases.chunks(4) {
        apart(cases, |ppm| {
            let world = World::new();
            counter_hz(&world.clock)?;
            pause(300 * MS);
            {
                let _closed = world.gate.write().unwrap();
                for witness in [Witness::Monotonic, Witness::Boottime, Witness::Realtime] {
                    kernel::rate_ppm(witness, *ppm)?;
                }
            }
            let crowd = Crowd::new(&world.timekeeper, &world.clock, 100).arm();
            // A slighter one may be lost in the width of brackets, on a machine this busy. So may any that
            // begins just when the processors' counters seem to disagree, for the history of rates begins
            // anew then. The promises are kept all the same.
            let found = (ppm.abs() >= 500).then(|| world.look_for(JumpKind::Slew)).flatten();
            let begun_anew = world.clock.jumps().count(JumpKind::CounterSkew) > 0;
            assert!(found.is_some() || begun_anew || ppm.abs() < 500, "{}", shown(&world.clock));
            if let Some(found) = found {
                assert!((found.rate_ppb / 1000 - ppm).abs() <= ppm.abs() / 4, "{found:?}");
            }
            world.is_well();
            crowd.assert_kept([0; 2]);
            let apart = told(libc::CLOCK_MONOTONIC).abs_diff(world.clock.now().as_nanos());
            assert!(Duration::from_nanos(apart) < LATE / 10, "{apart} ns apart");
            world.end();
            Ok(())
        });
    }
}

#[test]
fn the_process_stands_still() {
    for ms in [100, 1000, 5000] {
        apart(&[(ms, false), (ms, true)], |&(ms, freezer)| {
            // One that hits the driver at work, and not asleep, is not told from work.
            for _ in 0..5 {
                if stand_still(MS * ms, freezer)? {
                    return Ok(());
                }
            }
            panic!("no stall of {ms} ms was noticed five times over");
        });
    }
}

/// Returns whether the stall was noticed: then all that follows from it holds.
fn stand_still(time: Duration, freezer: bool) -> std::result::Result<bool, Unsupported> {
    let world = World::new();
    let _entered = world.timekeeper.enter();
    let waits = (1..=100).map(|i| 5 * MS * i).collect();
    let crowd = Crowd::with_waits(&world.timekeeper, &world.clock, waits).arm();
    let mut ticks = interval(10 * MS);
    let mut patience = sleep_running(600 * MS);
    let mut cx = std::task::Context::from_waker(Waker::noop());
    while ticks.poll_tick(&mut cx).is_ready() {}
    assert!(common::poll(&mut patience, Waker::noop()).is_pending());
    // The driver is there, and has parked.
    block_on(world.timekeeper.sleep_until(world.clock.now() + 5 * MS));
    pause(3 * MS);
    let begun = truth();
    if freezer {
        stall::freeze(time)?;
    } else {
        stall::stop(time)?;
    }
    assert!(truth() - begun + MS >= time, "stood still for {:?} only", truth() - begun);
    block_on(world.timekeeper.sleep_until(world.clock.now() + 20 * MS));
    let found = world.clock.jumps().last(JumpKind::Stall);
    if let Some(found) = found {
        assert_eq!(world.find(JumpKind::Stall).kind, found.kind);
        let size = Duration::from_nanos(found.size_ns.unsigned_abs());
        assert!(size + 60 * MS >= time && size < time + LATE, "{size:?}, not {time:?}");
        block_on(patience);
        assert!(truth() - begun + 60 * MS >= time + 550 * MS, "{:?}", truth() - begun);
        block_on(ticks.tick());
        block_on(ticks.tick());
        assert!(u128::from(ticks.coalesced()) + 8 >= time.as_millis() / 10, "{ticks:?}");
    }
    crowd.assert_kept([0; 2]);
    world.is_well();
    world.end();
    Ok(found.is_some())
}

#[test]
fn the_kernels_clock_is_strobed() {
    apart(&[1, -1], |first| {
        let world = World::new();
        counter_hz(&world.clock)?;
        let crowd = Crowd::new(&world.timekeeper, &world.clock, 100).arm();
        let (start, before) = (truth(), world.clock.now());
        let mut sign = *first;
        while truth() - start < Duration::from_secs(1) {
            world.jump(&OS, sign * SECOND / 5)?;
            sign = -sign;
            pause(10 * MS);
        }
        // As often forward as back, so that the lie is what it was.
        if sign != *first {
            world.jump(&OS, sign * SECOND / 5)?;
        }
        world.is_well();
        // It went on at about its true rate: a leap forward may be believed, and is then not taken back.
        let (passed, took) = (world.clock.now() - before, truth() - start);
        assert!(passed.abs_diff(took) < 450 * MS, "{passed:?} in {took:?}");
        crowd.assert_kept([500_000_000; 2]);
        crowd.assert_true(450 * MS);
        let jumps = world.clock.jumps();
        // Mostly regressions; where the driver hardly gets to run, it may see nothing but that.
        assert!(jumps.iter().any(|(_, count, _)| count > 0), "{jumps:#?}");
        world.end();
        Ok(())
    });
}

#[test]
fn the_clock_is_calibrated_under_full_load() {
    apart(&[()], |()| {
        let stop = Arc::new(AtomicBool::new(false));
        for _ in 0..4 {
            let stop = stop.clone();
            thread::spawn(move || while !stop.load(SeqCst) {});
        }
        let clock = Clock::system();
        clock.calibrate();
        counter_hz(&clock)?;
        let start = truth();
        while truth() - start < Duration::from_secs(1) {
            let before = told(libc::CLOCK_MONOTONIC);
            let now = clock.now().as_nanos();
            let after = told(libc::CLOCK_MONOTONIC);
            let bound = u64::try_from(clock.error_bound().as_nanos()).unwrap();
            assert!(
                now + bound >= before && now <= after + bound,
                "{before} {now} {after} {bound}"
            );
        }
        stop.store(true, SeqCst);
        let report = clock.report();
        assert!(report.rate_bound_ppm.is_some_and(|ppm| ppm < 100.0), "{report}");
        Ok(())
    });
}

#[test]
fn a_forked_childs_clock_and_timers_work() {
    // Tenths of a millisecond into the calibration; the last is after it.
    apart(&[0, 5, 10, 20, 40, 60, 100, 1000], |tenths| {
        let calibrating = thread::spawn(|| Clock::system().calibrate());
        pause(MS * *tenths / 10);
        let child = in_child(Duration::from_secs(10), || {
            let clock = Clock::system();
            let (start, before) = (truth(), clock.now());
            let timekeeper = Timekeeper::builder().build();
            block_on(timekeeper.sleep_until(clock.now() + 20 * MS));
            let (passed, took) = (clock.now() - before, truth() - start);
            assert!(took >= 20 * MS && took < LATE, "{took:?}");
            assert!(passed.abs_diff(took) < 50 * MS, "{passed:?} in {took:?}");
            clock.calibrate().to_string()
        });
        calibrating.join().unwrap();
        child.map(|_| ()).unwrap_or_else(|message| panic!("{message}"));
        Ok(())
    });
}
