//! That the injectors do what they say, to clocks and waits that know nothing of them.
#![cfg(target_os = "linux")]
#![expect(clippy::disallowed_methods, reason = "the clocks that are deceived")]
#![expect(unsafe_code, reason = "clocks and waits of the C library")]

mod common;

use std::error::Error;
use std::process::Command;
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant, SystemTime};

use deadbeat::clock::Witness;
use deadbeat::faults::{self, Unsupported, in_child, kernel, namespace, stall, wall};

deadbeat::faults::interpose!();

const SECOND: i64 = 1_000_000_000;
const SOON: Duration = Duration::from_millis(50);
/// Later than any wait here may end, on a machine that is busy.
const LATE: Duration = Duration::from_millis(1500);

/// Runs a test in a process of its own: what it does to that stays there.
#[track_caller]
fn apart(test: impl FnOnce() -> Result<(), Box<dyn Error>>) {
    let ended = in_child(Duration::from_secs(10), || match test() {
        Ok(()) => String::new(),
        Err(lacking) => lacking.to_string(),
    });
    match ended {
        Ok(why) if why.is_empty() => {}
        Ok(why) => common::skip(&why),
        Err(message) => panic!("{message}"),
    }
}

fn clock(id: libc::clockid_t) -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a place for one timespec.
    assert_eq!(unsafe { libc::clock_gettime(id, &raw mut time) }, 0);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

/// CLOCK_MONOTONIC, from the kernel: a system call of rustix's own.
fn true_monotonic() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(time.tv_sec.try_into().unwrap(), time.tv_nsec.try_into().unwrap())
}

/// How long `f` takes, in true time.
fn truly(f: impl FnOnce()) -> Duration {
    let start = true_monotonic();
    f();
    true_monotonic() - start
}

#[track_caller]
fn assert_about(took: Duration, expected: Duration) {
    assert!((expected..expected + LATE).contains(&took), "{took:?} rather than {expected:?}");
}

fn timespec(at: Duration) -> libc::timespec {
    libc::timespec { tv_sec: at.as_secs().try_into().unwrap(), tv_nsec: at.subsec_nanos().into() }
}

/// Waits on a condition that nobody signals: an absolute futex wait, on the C library's clock.
fn condvar_wait(time: Duration) {
    let lock = Mutex::new(());
    let until = Instant::now() + time;
    let mut guard = lock.lock().unwrap();
    let condvar = Condvar::new();
    while Instant::now() < until {
        guard = condvar.wait_timeout(guard, until - Instant::now()).unwrap().0;
    }
}

/// Sleeps until an absolute time on a clock.
fn nanosleep_until(id: libc::clockid_t, at: Duration) {
    let at = timespec(at);
    // SAFETY: a timespec that outlives the call.
    let result = unsafe {
        libc::clock_nanosleep(id, libc::TIMER_ABSTIME, &raw const at, std::ptr::null_mut())
    };
    assert_eq!(result, 0);
}

/// A descriptor that becomes readable at an absolute time on a clock.
struct Timer(std::os::fd::OwnedFd);

impl Timer {
    fn at(id: libc::clockid_t, at: Duration) -> Self {
        use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
        // SAFETY: makes a descriptor, which is ours.
        let fd = unsafe { OwnedFd::from_raw_fd(libc::timerfd_create(id, libc::TFD_CLOEXEC)) };
        let zero = timespec(Duration::ZERO);
        let spec = libc::itimerspec { it_interval: zero, it_value: timespec(at) };
        let absolute = libc::TFD_TIMER_ABSTIME;
        // SAFETY: a specification that outlives the call.
        let result = unsafe {
            libc::timerfd_settime(fd.as_raw_fd(), absolute, &raw const spec, std::ptr::null_mut())
        };
        assert_eq!(result, 0);
        Self(fd)
    }

    fn wait(self) {
        use std::io::Read;
        let mut count = [0; 8];
        std::fs::File::from(self.0).read_exact(&mut count).unwrap();
        assert_eq!(u64::from_ne_bytes(count), 1);
    }
}

#[cfg(target_arch = "x86_64")]
mod counter {
    use super::*;
    use deadbeat::faults::counter::Trap;
    use std::arch::x86_64::{__rdtscp, _rdtsc};

    fn rdtsc() -> u64 {
        // SAFETY: reads the counter, or what stands in for it.
        unsafe { _rdtsc() }
    }

    /// Ticks in a second, about.
    fn hz() -> u64 {
        let (start, tick) = (true_monotonic(), rdtsc());
        let mut time = Duration::ZERO;
        while time < Duration::from_millis(20) {
            time = true_monotonic() - start;
        }
        let ticks = rdtsc() - tick;
        u64::try_from(u128::from(ticks) * 1_000_000_000 / time.as_nanos()).unwrap()
    }

    #[test]
    fn direct_reads_jump_and_the_kernels_clock_does_not() {
        apart(|| {
            let hz = hz().cast_signed();
            let quanta = quanta::Clock::new();
            let trap = Trap::set()?;
            let (read, instant, tick) = (quanta.now(), Instant::now(), rdtsc());
            trap.jump(5 * hz);
            let ahead = quanta.now() - read;
            assert_about(ahead, Duration::from_millis(4900));
            assert!(rdtsc() - tick > 4 * hz.cast_unsigned());
            let mut cpu = 0;
            // SAFETY: as above, and a place for an integer.
            assert!(unsafe { __rdtscp(&raw mut cpu) } - tick > 4 * hz.cast_unsigned());
            assert!(instant.elapsed() < LATE, "std was deceived");
            trap.jump(-7 * hz);
            assert!(rdtsc() < tick);
            assert_eq!(quanta.now() - read, Duration::ZERO);
            trap.clear();
            assert_about(quanta.now() - read, Duration::ZERO);
            drop(trap);
            assert!(rdtsc() > tick);
            Ok(())
        });
    }

    #[test]
    fn the_vdso_is_deceived_if_asked() {
        apart(|| {
            let hz = hz().cast_signed();
            let trap = Trap::set()?;
            let start = Instant::now();
            trap.jump(5 * hz);
            trap.include_vdso(true);
            let deceived = start.elapsed();
            let tick = rdtsc();
            trap.clear();
            assert!(rdtsc() < tick);
            assert!(start.elapsed() < LATE);
            // Where the kernel's clock is not the counter, there is nothing to deceive.
            let source = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
            match std::fs::read_to_string(source) {
                Ok(tsc) if tsc.trim() == "tsc" => {
                    assert_about(deceived, Duration::from_millis(4900));
                }
                other => return Err(format!("the kernel's clock is {other:?}").into()),
            }
            Ok(())
        });
    }

    #[test]
    fn a_counter_starts_anew() {
        apart(|| {
            let hz = hz();
            let trap = Trap::set()?;
            trap.set_value(1000);
            let tick = rdtsc();
            assert!((1000..hz).contains(&tick), "{tick}");
            assert!(rdtsc() > tick);
            Ok(())
        });
    }

    #[test]
    fn a_rate_changes_without_a_step() {
        apart(|| {
            let hz = hz();
            let trap = Trap::set()?;
            for (ppm, ticks_in_100_ms) in [(1_000_000, hz / 5), (-500_000, hz / 20), (0, hz / 10)] {
                let before = rdtsc();
                trap.rate_ppm(ppm);
                let start = true_monotonic();
                let tick = rdtsc();
                assert!((before..before + hz).contains(&tick), "a step to {ppm}");
                let mut took = Duration::ZERO;
                while took < Duration::from_millis(100) {
                    took = true_monotonic() - start;
                }
                let ticks = u128::from(rdtsc() - tick) * 100_000_000 / took.as_nanos();
                // A wide margin: the process may lose its processor at either end.
                let expected = u128::from(ticks_in_100_ms);
                assert!((expected * 3 / 4..expected * 4 / 3).contains(&ticks), "{ppm}: {ticks}");
            }
            trap.rate_ppm(-1_000_000);
            assert_eq!(rdtsc(), rdtsc());
            Ok(())
        });
    }

    #[test]
    fn processors_are_apart() {
        apart(|| {
            let set = rustix::thread::sched_getaffinity(None).unwrap();
            let all = 0..rustix::thread::CpuSet::MAX_CPU;
            let cpus: Vec<usize> = all.filter(|cpu| set.is_set(*cpu)).collect();
            let [first, second, ..] = cpus[..] else {
                return Err("one processor".into());
            };
            let move_to = |cpu| {
                let mut set = rustix::thread::CpuSet::new();
                set.set(cpu);
                rustix::thread::sched_setaffinity(None, &set).unwrap();
            };
            let hz = hz().cast_signed();
            let trap = Trap::set()?;
            trap.skew(second, -60 * hz);
            move_to(first);
            let here = rdtsc();
            move_to(second);
            let there = rdtsc();
            move_to(first);
            let back = rdtsc();
            assert!(there < here && here < back);
            assert!(here - there > 50 * hz.cast_unsigned());
            Ok(())
        });
    }

    #[test]
    fn threads_inherit_the_trap_and_a_driver_lives_with_it() {
        apart(|| {
            let hz = hz().cast_signed();
            let trap = Trap::set()?;
            let before = rdtsc();
            std::thread::scope(|scope| {
                scope.spawn(|| trap.jump(600 * hz));
            });
            let there = std::thread::spawn(rdtsc).join().unwrap();
            assert!(there - before > 599 * hz.cast_unsigned());
            let took = truly(|| {
                let sleep = deadbeat::time::sleep(SOON);
                deadbeat::block_on(sleep);
            });
            assert_about(took, SOON);
            Ok(())
        });
    }

    #[test]
    fn other_faults_are_none_of_its_business() {
        let ended = in_child(Duration::from_secs(5), || {
            if let Err(unsupported) = Trap::set() {
                return unsupported.to_string();
            }
            // SAFETY: it isn't; the process is here to be ended.
            unsafe { std::hint::black_box(std::ptr::without_provenance::<u8>(8)).read_volatile() };
            String::new()
        });
        match ended {
            Ok(why) => common::skip(&why),
            Err(end) => assert!(end.contains(&format!("signal {}", libc::SIGSEGV)), "{end}"),
        }
    }
}

#[test]
fn the_symbols_are_interposed() {
    assert_eq!(
        kernel::is_interposed(),
        cfg!(all(target_env = "gnu", any(target_arch = "x86_64", target_arch = "aarch64")))
    );
    assert!(kernel::jump(Witness::Counter, 1).is_err());
}

#[test]
fn the_kernels_clocks_jump_one_by_one() {
    apart(|| {
        let ids = [
            (Witness::Monotonic, libc::CLOCK_MONOTONIC),
            (Witness::Boottime, libc::CLOCK_BOOTTIME),
            (Witness::Realtime, libc::CLOCK_REALTIME),
        ];
        for (witness, lying) in ids {
            let before = ids.map(|(_, id)| (id, clock(id)));
            kernel::jump(witness, 3600 * SECOND)?;
            for (id, before) in before {
                let passed = clock(id) - before;
                assert_about(passed, Duration::from_secs(if id == lying { 3600 } else { 0 }));
            }
        }
        let (start, wall) = (Instant::now(), SystemTime::now());
        kernel::jump(Witness::Monotonic, -1800 * SECOND)?;
        assert!(Instant::now() < start);
        kernel::jump(Witness::Monotonic, i64::MIN)?;
        assert_about(clock(libc::CLOCK_MONOTONIC), Duration::ZERO);
        kernel::clear();
        assert!(clock(libc::CLOCK_MONOTONIC).abs_diff(true_monotonic()) < LATE);
        assert!(SystemTime::now() < wall);
        // Two clocks of one name.
        kernel::raw_jump(3600 * SECOND)?;
        assert!(clock(libc::CLOCK_MONOTONIC_RAW) > clock(libc::CLOCK_MONOTONIC));
        Ok(())
    });
}

#[test]
fn the_kernels_clocks_change_rate_without_a_step() {
    apart(|| {
        for (ppm, expected) in [(1_000_000, 200), (-500_000, 50), (-2_000_000, 0)] {
            let before = Instant::now();
            kernel::rate_ppm(Witness::Monotonic, ppm)?;
            let start = Instant::now();
            assert!(start - before < LATE);
            let took = truly(|| std::thread::sleep(Duration::from_millis(100)));
            let told = start.elapsed();
            let expected = Duration::from_millis(expected).mul_f64(took.as_secs_f64() * 10.0);
            assert!(told.abs_diff(expected) < Duration::from_millis(30), "{ppm}: {told:?}");
        }
        Ok(())
    });
}

#[test]
fn absolute_waits_follow_a_jump() {
    apart(|| {
        for seconds in [3600, -1800] {
            kernel::jump(Witness::Monotonic, seconds * SECOND)?;
            assert_about(truly(|| condvar_wait(SOON)), SOON);
            let id = libc::CLOCK_MONOTONIC;
            assert_about(truly(|| nanosleep_until(id, clock(id) + SOON)), SOON);
            assert_about(truly(|| Timer::at(id, clock(id) + SOON).wait()), SOON);
        }
        kernel::clear();
        kernel::jump(Witness::Realtime, -3600 * SECOND)?;
        let id = libc::CLOCK_REALTIME;
        assert_about(truly(|| nanosleep_until(id, clock(id) + SOON)), SOON);
        assert_about(truly(|| Timer::at(id, clock(id) + SOON).wait()), SOON);
        Ok(())
    });
}

#[test]
fn absolute_waits_end_when_the_told_time_has_come() {
    apart(|| {
        let id = libc::CLOCK_MONOTONIC;
        kernel::rate_ppm(Witness::Monotonic, -500_000)?;
        for wait in [nanosleep_until, |id, at| Timer::at(id, at).wait()] {
            let at = clock(id) + SOON;
            let took = truly(|| wait(id, at));
            assert!(clock(id) >= at, "early");
            assert_about(took, SOON);
        }
        Ok(())
    });
}

#[test]
fn a_wait_that_has_begun_keeps_its_end() {
    apart(|| {
        let id = libc::CLOCK_MONOTONIC;
        let took = truly(|| {
            let timer = Timer::at(id, clock(id) + SOON);
            kernel::jump(Witness::Monotonic, -3600 * SECOND).unwrap();
            timer.wait();
        });
        assert_about(took, SOON);
        Ok(())
    });
}

#[test]
fn a_namespace_jumps_forward_and_back_with_either_clock() {
    apart(|| {
        let start = Instant::now();
        let (monotonic, boottime) = (true_monotonic(), clock(libc::CLOCK_BOOTTIME));
        namespace::jump(3600 * SECOND, 0)?;
        assert_about(start.elapsed(), Duration::from_secs(3600));
        assert_about(true_monotonic() - monotonic, Duration::from_secs(3600));
        assert_about(clock(libc::CLOCK_BOOTTIME) - boottime, Duration::ZERO);
        namespace::jump(-1800 * SECOND, 60 * SECOND)?;
        assert_about(true_monotonic() - monotonic, Duration::from_secs(1800));
        assert_about(clock(libc::CLOCK_BOOTTIME) - boottime, Duration::from_secs(60));
        assert_about(truly(|| condvar_wait(SOON)), SOON);
        // Before zero: refused, and nothing has happened.
        assert!(namespace::jump(i64::MIN, 0).is_err());
        assert_about(true_monotonic() - monotonic, Duration::from_secs(1800));
        namespace::jump(-1800 * SECOND, -60 * SECOND)?;
        assert_about(true_monotonic() - monotonic, Duration::ZERO);
        std::thread::scope(|scope| {
            let (send, receive) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || _ = receive.recv());
            let refused = namespace::jump(SECOND, 0).unwrap_err();
            assert!(refused.to_string().contains("second thread"), "{refused}");
            drop(send);
        });
        Ok(())
    });
}

#[test]
fn a_stall_takes_the_time_that_it_should() {
    let stalls: [fn(Duration) -> Result<(), Unsupported>; 2] = [stall::stop, stall::freeze];
    for stall in stalls {
        apart(|| {
            // Another thread stands still as well.
            let done = std::sync::atomic::AtomicBool::new(false);
            let ended = std::thread::scope(|scope| {
                let other = scope.spawn(|| {
                    let mut longest = Duration::ZERO;
                    let mut last = Instant::now();
                    while !done.load(std::sync::atomic::Ordering::SeqCst) {
                        std::thread::sleep(Duration::from_millis(1));
                        longest = longest.max(last.elapsed());
                        last = Instant::now();
                    }
                    longest
                });
                std::thread::sleep(Duration::from_millis(5));
                let start = Instant::now();
                let result = stall(Duration::from_millis(200));
                let took = start.elapsed();
                done.store(true, std::sync::atomic::Ordering::SeqCst);
                result.map(|()| (took, other.join().unwrap()))
            });
            let (took, longest) = ended?;
            assert_about(took, Duration::from_millis(200));
            assert!(longest > Duration::from_millis(150), "{longest:?}");
            Ok(())
        });
    }
}

#[test]
fn a_childs_wall_clock_steps_and_its_instant_does_not() {
    const FILE: &str = "DEADBEAT_TEST_STEPPED";
    if let Some(stepped) = std::env::var_os(FILE) {
        let (instant, wall) = (Instant::now(), SystemTime::now());
        println!("ready");
        while !std::fs::exists(&stepped).unwrap() {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert!(wall.elapsed().unwrap() > Duration::from_secs(3000), "{:?}", wall.elapsed());
        assert!(instant.elapsed() < Duration::from_secs(60), "{:?}", instant.elapsed());
        return;
    }
    let stepped = std::env::temp_dir().join(format!("deadbeat-stepped-{}", std::process::id()));
    let mut command = Command::new(std::env::current_exe().unwrap());
    let name = "a_childs_wall_clock_steps_and_its_instant_does_not";
    command.args(["--exact", name, "--nocapture", "--test-threads=1"]).env(FILE, &stepped);
    let mut control = match wall::Control::over(&mut command) {
        Ok(control) => control,
        Err(unsupported) => return common::skip(&unsupported.to_string()),
    };
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut lines = std::io::BufRead::lines(std::io::BufReader::new(child.stdout.take().unwrap()));
    assert!(lines.any(|line| line.unwrap().contains("ready")));
    control.step(7200.0).unwrap();
    control.step(-3600.0).unwrap();
    std::fs::write(&stepped, "").unwrap();
    let rest: Vec<_> = lines.map(Result::unwrap).collect();
    let status = child.wait().unwrap();
    std::fs::remove_file(&stepped).unwrap();
    assert!(status.success(), "{rest:#?}");
}

#[test]
fn a_child_returns_panics_dies_or_is_late() {
    let limit = Duration::from_secs(5);
    assert_eq!(in_child(limit, || "x".repeat(100_000)).map(|text| text.len()), Ok(100_000));
    let message = in_child(limit, || panic!("on {}", "purpose")).unwrap_err();
    assert!(message.contains("on purpose") && message.contains("faults.rs"), "{message}");
    let message = in_child(limit, || std::process::exit(7)).unwrap_err();
    assert!(message.contains("code 7"), "{message}");
    let late = in_child(SOON, || {
        std::thread::sleep(Duration::from_secs(60));
        String::new()
    });
    assert!(late.unwrap_err().contains("longer than"));
}

#[test]
fn what_is_lacking_is_said_in_a_line() {
    let refused: Unsupported = faults::kernel::rate_ppm(Witness::Counter, 0).unwrap_err();
    assert_eq!(refused.to_string(), "this takes a clock of the kernel's");
}
