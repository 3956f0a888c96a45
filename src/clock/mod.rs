//! What time it is.
//!
//! [`Clock`] is what everything in this crate reads time through: the system's, or a
//! [`ManualClock`] that a test moves by hand. [`Instant`] is a point in time, typed by its class:
//! [`Active`], the time that the machine was running, or [`Elapsed`], the time that has passed.
//!
//! The system's clock is the processor's counter, disciplined by `CLOCK_MONOTONIC`; or the latter
//! itself, where the counter is not fit for it, was not wanted, or has not been calibrated yet.
//! [`Clock::source`] tells which, and why.
//!
//! # Promises
//!
//! 1. **Ordered.** [`Clock::now`] is never behind a time that any thread had read before and told
//!    this one about, by whatever means, while the counter is sound and however the kernel's clock
//!    is slewed.
//! 2. **Never back.** No thread sees `now` decrease, whatever any clock does.
//! 3. **Bounded.** `now` is within [`Clock::error_bound`] of `CLOCK_MONOTONIC`, while both keep the
//!    rates that they were last seen at.
//! 4. **Never stale.** A read is at most one horizon (20 ms of the counter) away from a look at the
//!    kernel's clock, whether or not a driver is running; a counter that leaps or starts anew is found
//!    out by the next read that could be wrong by more than that. (One that stops can't be told by
//!    reading it: the driver's next look does.)
//!
//! How that is done: `docs/clock.md`, and the docs of the modules inside.

use std::{cell::Cell, env, fmt, thread::LocalKey, time::Duration};

#[allow(unsafe_code, reason = "fences")]
mod arch;
mod classify;
mod discipline;
mod epoch;
#[cfg(any(test, fuzzing))]
#[allow(missing_docs, reason = "for tests and fuzz targets")]
pub mod harness;
mod instant;
mod jump;
mod line;
mod manual;
#[allow(unsafe_code, reason = "system calls")]
mod os;
mod rate;
mod report;
mod selftest;
pub(crate) mod seqlock;
mod system;
#[cfg(all(test, not(any(deadbeat_loom, deadbeat_shuttle))))]
mod tests;
mod ticks;
mod timebase;
mod witness;

use once_cell::race::OnceBox;

pub use instant::{Active, Class, Elapsed, Instant};
pub use jump::{Jump, JumpKind, Jumps, Passed};
pub use manual::{ManualClock, Witness};
pub use report::{OsReason, Processors, Report, SelfTest, Source, Stats, Verdict, Verdicts};

pub(crate) use epoch::Epoch;
pub(crate) use ticks::saturating_ns;
pub(crate) use timebase::{Moment, Reading};

use crate::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};
use manual::Held;
use system::Os;
use timebase::Timebase;

/// Compiles the examples of the page.
#[cfg(doctest)]
#[doc = include_str!("../../docs/clock.md")]
struct Page;

/// A clock: the system's, or one that is moved by hand.
///
/// Cheap to clone; clones read the same time.
///
/// # Examples
///
/// ```
/// use deadbeat::clock::Clock;
///
/// let clock = Clock::system();
/// let start = clock.now();
/// assert!(clock.now() >= start);
/// println!("{}", clock.report());
/// ```
#[derive(Clone)]
pub struct Clock(Kind);

#[derive(Clone)]
enum Kind {
    /// The process's own: a static, so that reading it costs no indirection.
    System,
    /// One that a builder made.
    Own(Arc<Held<Os>>),
    Manual(ManualClock),
}

/// The process's clock, and how many of its reads were held.
struct System {
    timebase: Timebase<Os>,
    held_reads: AtomicU64,
}

/// Made by whoever comes first, or by several of whom one is first. No lock, and nobody waits: a fork might
/// copy that half-way, and nobody would ever go on with it in the child.
static SYSTEM: OnceBox<System> = OnceBox::new();

#[inline]
fn system() -> &'static System {
    SYSTEM.get().unwrap_or_else(make_system)
}

#[cold]
#[inline(never)]
fn make_system() -> &'static System {
    SYSTEM.get_or_init(|| {
        let timebase = Timebase::new(Os::new(Preference::from_env()));
        Box::new(System { timebase, held_reads: AtomicU64::new(0) })
    })
}

thread_local! {
    /// What this thread has last read on the process's clock.
    static LAST_NS: Cell<u64> = const { Cell::new(0) };
    /// And of elapsed time.
    static LAST_ELAPSED_NS: Cell<u64> = const { Cell::new(0) };
}

/// The later of `ns` and what this thread has read before.
#[inline]
fn hold(last: &'static LocalKey<Cell<u64>>, ns: u64) -> u64 {
    last.with(|last| {
        last.set(last.get().max(ns));
        last.get()
    })
}

impl System {
    /// The later of `ns` and what this thread has read before. That is the last line of defence
    /// against a counter that goes back within the horizon: a few instructions without any sharing,
    /// where a maximum common to all threads would cost more than the read.
    #[inline]
    fn hold(&self, ns: u64) -> u64 {
        LAST_NS.with(|last| {
            let last_ns = last.get();
            if ns < last_ns {
                self.count_held();
                return last_ns;
            }
            last.set(ns);
            ns
        })
    }

    #[cold]
    fn count_held(&self) {
        // Ordering: Relaxed, a statistic.
        self.held_reads.fetch_add(1, Relaxed);
    }
}

/// What to take the time from, if there is a choice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Preference {
    /// The counter, if it passes its self-test; the OS clock otherwise. The default.
    #[default]
    Auto,
    /// The counter, even if the counters of different processors disagree.
    ///
    /// Still not where the processor doesn't promise a constant rate, and not once the counter has
    /// been found faulty while in use.
    Counter,
    /// The OS clock.
    Os,
    /// What `DEADBEAT_CLOCK` asks for can't be understood; the OS clock.
    #[doc(hidden)]
    Unknown(String),
}

impl Preference {
    fn from_env() -> Self {
        match env::var_os("DEADBEAT_CLOCK") {
            Some(value) => Self::parse(&value.to_string_lossy()),
            None => Self::Auto,
        }
    }

    /// `auto`, `tsc` or `os`; the empty string is `auto`, too.
    fn parse(value: &str) -> Self {
        /// What is kept of a value, to be shown.
        const SHOWN: usize = 32;
        match value {
            "" | "auto" => Self::Auto,
            "tsc" => Self::Counter,
            "os" => Self::Os,
            _ => Self::Unknown(value.chars().take(SHOWN).collect()),
        }
    }
}

/// Makes a [`Clock`] that is not the process's own.
///
/// For tests and measurements. It shares nothing with [`Clock::system`], so it is calibrated by
/// itself; and its reads are held to the latest of all threads, which costs more than to that of
/// each.
///
/// # Examples
///
/// ```
/// use deadbeat::clock::{Clock, OsReason, Preference, Source};
///
/// let clock = Clock::builder().preference(Preference::Os).build();
/// clock.calibrate();
/// assert_eq!(clock.source(), Source::Os(OsReason::Requested));
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until built"]
pub struct ClockBuilder {
    preference: Preference,
}

impl ClockBuilder {
    /// What to take the time from. [`Preference::Auto`] unless set; the environment isn't asked.
    pub fn preference(mut self, preference: Preference) -> Self {
        self.preference = preference;
        self
    }

    /// The clock. It reads the OS clock until [`Clock::calibrate`] is called.
    pub fn build(self) -> Clock {
        Clock(Kind::Own(Arc::new(Held::new(Os::new(self.preference)))))
    }
}

impl Clock {
    /// The process's clock.
    ///
    /// Reads the OS clock until a driver has been started, or [`calibrate`](Self::calibrate) been
    /// called; from then on the processor's counter, if it is fit for that.
    ///
    /// The environment variable `DEADBEAT_CLOCK` decides otherwise: `os` for the OS clock, `tsc`
    /// for the counter even if it fails the comparison between processors, `auto` for the above.
    /// Any other value is reported by [`source`](Self::source), and means the OS clock.
    #[inline]
    pub const fn system() -> Self {
        Self(Kind::System)
    }

    /// Makes a clock that is not the process's own.
    pub fn builder() -> ClockBuilder {
        ClockBuilder::default()
    }

    /// Whether this clock moves only when told.
    pub(crate) fn is_manual(&self) -> bool {
        matches!(self.0, Kind::Manual(_))
    }

    /// Reads the time, ordered across threads.
    ///
    /// Not before any time that another thread had read and told this one about.
    ///
    /// # Timing
    ///
    /// A fenced read of the counter, about as long as a read of the OS clock or a little shorter.
    /// One read in 20 ms at most takes up to some microseconds instead, since it looks at the OS
    /// clocks, too, and publishes what it has found.
    #[inline]
    pub fn now(&self) -> Instant {
        match &self.0 {
            Kind::System => {
                let system = system();
                Instant::from_nanos(system.hold(system.timebase.now_ns()))
            }
            _ => self.now_held(),
        }
    }

    /// What a duration is counted from, so that it isn't cut short: [`now`](Self::now); or, while that
    /// isn't known well, because the counter has just been found out or couldn't be sampled quietly, the
    /// latest that it may be.
    #[inline]
    pub(crate) fn now_at_latest(&self) -> Instant {
        let (ns, lag_ns) = match &self.0 {
            Kind::System => {
                let system = system();
                let (ns, lag_ns) = system.timebase.now_and_lag_ns();
                (system.hold(ns), lag_ns)
            }
            _ => self.now_and_lag_held(),
        };
        Instant::from_nanos(ns.saturating_add(lag_ns))
    }

    #[inline(never)]
    fn now_and_lag_held(&self) -> (u64, u64) {
        match &self.0 {
            Kind::System => (self.now().as_nanos(), 0),
            Kind::Own(own) => {
                let (ns, lag_ns) = own.timebase.now_and_lag_ns();
                (own.hold(ns), lag_ns)
            }
            Kind::Manual(manual) => {
                let (ns, lag_ns) = manual.held().timebase.now_and_lag_ns();
                (manual.held().hold(ns), lag_ns)
            }
        }
    }

    /// The same for a clock that isn't the process's own.
    #[inline(never)]
    fn now_held(&self) -> Instant {
        Instant::from_nanos(match &self.0 {
            Kind::System => return self.now(),
            Kind::Own(own) => own.hold(own.timebase.now_ns()),
            Kind::Manual(manual) => manual.held().hold(manual.held().timebase.now_ns()),
        })
    }

    /// Reads the time, for one thread's own measurements.
    ///
    /// As [`now`](Self::now), but the processor may take the reading a little earlier, before loads
    /// that come ahead of it in the program. So it may be behind a time that another thread has
    /// read and told this one about (by microseconds, rarely); never behind this thread's own.
    #[inline]
    pub fn now_unordered(&self) -> Instant {
        match &self.0 {
            Kind::System => {
                let system = system();
                Instant::from_nanos(system.hold(system.timebase.now_unordered_ns()))
            }
            _ => self.now_held(),
        }
    }

    /// What this thread has read last: a time that has been, without a look at any clock. `None` for a
    /// clock that isn't the process's own.
    #[cfg(feature = "hyper")]
    #[inline]
    pub(crate) fn last_read(&self) -> Option<Instant> {
        matches!(self.0, Kind::System).then(|| Instant::from_nanos(LAST_NS.get()))
    }

    /// Reads the time that has passed in the world, suspension included.
    ///
    /// # Timing
    ///
    /// Always a read of the OS clock: the counter can't be relied on to count, or not to count,
    /// while the machine is suspended.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use deadbeat::clock::{ManualClock, Witness};
    ///
    /// let manual = ManualClock::new();
    /// let clock = manual.clock();
    /// let start = clock.now_elapsed();
    /// manual.jump(Witness::Boottime, 60_000_000_000); // suspended for a minute
    /// assert_eq!(clock.now_elapsed() - start, Duration::from_secs(60));
    /// ```
    #[inline]
    pub fn now_elapsed(&self) -> Instant<Elapsed> {
        Instant::from_nanos(match &self.0 {
            Kind::System => hold(&LAST_ELAPSED_NS, system().timebase.elapsed_ns()),
            Kind::Own(own) => own.hold_elapsed(own.timebase.elapsed_ns()),
            Kind::Manual(manual) => manual.held().hold_elapsed(manual.held().timebase.elapsed_ns()),
        })
    }

    /// How far [`now`](Self::now) may be from `CLOCK_MONOTONIC`, now. Rounds up.
    ///
    /// Some tens of nanoseconds, more while a slew is under way. Holds as long as counter and
    /// `CLOCK_MONOTONIC` keep the rates that they have had over the last tenth of a second: if the
    /// kernel has begun to slew by 1 ppm since, the error is up to 20 ns more; by 8.3 %, the most
    /// that chrony asks for, up to 1.7 ms. Timers rely on a comparison with `CLOCK_MONOTONIC` itself.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use deadbeat::clock::Clock;
    ///
    /// let clock = Clock::system();
    /// clock.calibrate();
    /// let (now, bound) = (clock.now(), clock.error_bound());
    /// println!("{now:?}, within {bound:?} of CLOCK_MONOTONIC");
    /// assert!(bound < Duration::from_secs(1));
    /// ```
    pub fn error_bound(&self) -> Duration {
        let ((ns, error_ns), held_ns) = match &self.0 {
            Kind::System => {
                let read = system().timebase.now_and_error_ns();
                (read, system().hold(read.0))
            }
            Kind::Own(own) => {
                let read = own.timebase.now_and_error_ns();
                (read, own.hold(read.0))
            }
            Kind::Manual(manual) => {
                let read = manual.held().timebase.now_and_error_ns();
                (read, manual.held().hold(read.0))
            }
        };
        Duration::from_nanos(error_ns.saturating_add(held_ns - ns))
    }

    /// Where the time comes from, and if it isn't the counter, why.
    pub fn source(&self) -> Source {
        let os_reason = match &self.0 {
            Kind::System => system().timebase.os_reason(),
            Kind::Own(own) => own.timebase.os_reason(),
            Kind::Manual(manual) => {
                let timebase = &manual.held().timebase;
                if !timebase.witnesses().has_counter() {
                    return Source::Manual;
                }
                timebase.os_reason()
            }
        };
        os_reason.map_or(Source::Counter, Source::Os)
    }

    /// Has the counter tested and calibrated now, and tells the outcome.
    ///
    /// Optional: a driver does the same when it starts, without making anybody wait. On a manual
    /// clock it takes one look at the witnesses and returns; see [`ManualClock::scripted`].
    ///
    /// # Timing
    ///
    /// Blocks for about 10 ms the first time: 5 ms for the first baseline, the rest for the
    /// self-test, which may take up to 200 ms on a machine under load. Returns at once when there is
    /// nothing to do.
    pub fn calibrate(&self) -> Source {
        self.warm_up();
        /// More than a baseline takes, if its halves disagree the first two times.
        const STEPS: u32 = 24;
        if !matches!(self.0, Kind::Manual(_)) {
            for _ in 0..STEPS {
                if self.source() != Source::Os(OsReason::Calibrating) {
                    break;
                }
                #[expect(clippy::disallowed_methods, reason = "a baseline is made of real time")]
                std::thread::sleep(Duration::from_micros(1300));
                self.sample();
            }
        } else {
            self.sample();
        }
        self.source()
    }

    /// How the clocks of this machine have jumped, and how long this process was kept from running: as
    /// far as this clock has noticed, which is whenever a driver on it wakes or parks, and at slow reads.
    ///
    /// To be told of each, see [`Timekeeper::on_jump`](crate::Timekeeper::on_jump).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use deadbeat::clock::{JumpKind, ManualClock, Witness};
    ///
    /// let manual = ManualClock::new();
    /// let clock = manual.clock();
    /// clock.report();
    /// // The machine is suspended for a minute, and the wall clock is set back by an hour.
    /// manual.jump(Witness::Boottime, 60_000_000_000);
    /// manual.jump(Witness::Realtime, 60_000_000_000 - 3_600_000_000_000);
    /// manual.advance(Duration::from_millis(5));
    /// clock.report();
    /// let jumps = clock.jumps();
    /// assert_eq!(jumps.last(JumpKind::Suspend).unwrap().size_ns, 60_000_000_000);
    /// assert_eq!(jumps.last(JumpKind::WallStep).unwrap().size_ns, -3_600_000_000_000);
    /// assert_eq!(jumps.total(), 2);
    /// ```
    pub fn jumps(&self) -> Jumps {
        self.with_state(|state| state.record.jumps().clone())
    }

    /// How many jumps there are on record.
    pub(crate) fn jump_count(&self) -> u64 {
        match &self.0 {
            Kind::System => system().timebase.jumps(),
            Kind::Own(own) => own.timebase.jumps(),
            Kind::Manual(manual) => manual.held().timebase.jumps(),
        }
    }

    /// How many jumps there are on record, and when that is more than `from`, those that are newer.
    pub(crate) fn jumps_since(&self, from: u64) -> Option<(u64, Vec<Jump>)> {
        if self.jump_count() <= from {
            return None;
        }
        Some(self.with_state(|state| (state.record.len(), state.record.since(from).collect())))
    }

    fn with_state<R: Default>(&self, f: impl FnOnce(&mut timebase::State) -> R) -> R {
        match &self.0 {
            Kind::System => system().timebase.with_state(f),
            Kind::Own(own) => own.timebase.with_state(f),
            Kind::Manual(manual) => manual.held().timebase.with_state(f),
        }
        .unwrap_or_default()
    }

    /// Puts it on record that the process was kept from running.
    pub(crate) fn add_stall(&self, size_ns: u64, at: Instant) {
        match &self.0 {
            Kind::System => system().timebase.add_stall(size_ns, at),
            Kind::Own(own) => own.timebase.add_stall(size_ns, at),
            Kind::Manual(manual) => manual.held().timebase.add_stall(size_ns, at),
        }
    }

    /// What the clock has done so far.
    pub fn stats(&self) -> Stats {
        let (slow_reads, held_reads, counts) = match &self.0 {
            // Ordering: Relaxed, a statistic.
            Kind::System => with_counts(&system().timebase, system().held_reads.load(Relaxed)),
            Kind::Own(own) => with_counts(&own.timebase, own.held_reads()),
            Kind::Manual(manual) => {
                with_counts(&manual.held().timebase, manual.held().held_reads())
            }
        };
        Stats {
            reanchors: counts.reanchors,
            steps: counts.steps,
            history_resets: counts.history_resets,
            faults: counts.faults,
            slow_reads,
            held_reads,
        }
    }

    /// Everything that the clock knows about itself, after a look at the witnesses.
    pub fn report(&self) -> Report {
        self.sample();
        match &self.0 {
            Kind::System => self.report_on(&system().timebase),
            Kind::Own(own) => self.report_on(&own.timebase),
            Kind::Manual(manual) => self.report_on(&manual.held().timebase),
        }
    }

    fn report_on<W: witness::Witnesses>(&self, timebase: &Timebase<W>) -> Report {
        let (rate, self_test) = timebase
            .with_state(|state| (state.discipline.rate(), state.self_test.clone()))
            .unwrap_or_default();
        let witnesses = timebase.witnesses();
        let monotonic_ns = witnesses.monotonic_ns();
        let since_monotonic = |ns: u64| Duration::from_nanos(ns.saturating_sub(monotonic_ns));
        Report {
            source: self.source(),
            self_test,
            counter_hz: rate.map(|rate| ticks::hertz(rate.mult)),
            rate_bound_ppm: rate.map(|rate| ticks::ppm(rate.bound, rate.mult)),
            error_bound: self.error_bound(),
            offset_ns: timebase.offset_ns(),
            suspended: suspended(since_monotonic(witnesses.boottime_ns())),
            booted_unix: since_monotonic(witnesses.realtime_ns()),
            stats: self.stats(),
        }
    }

    /// Anchors the clock anew, because the caller is about to sleep or has just woken, and tells
    /// what is safe to fire.
    ///
    /// # Timing
    ///
    /// One bracketed reading of `CLOCK_MONOTONIC`, some 80 ns; and up to some microseconds for a new
    /// line, if the present one is more than a millisecond old.
    pub(crate) fn sample(&self) -> Reading {
        let reading = match &self.0 {
            Kind::System => system().timebase.sample(),
            Kind::Own(own) => own.timebase.sample(),
            Kind::Manual(manual) => manual.held().timebase.sample(),
        };
        let now_ns = match &self.0 {
            Kind::System => system().hold(reading.now_ns),
            Kind::Own(own) => own.hold(reading.now_ns),
            Kind::Manual(manual) => manual.held().hold(reading.now_ns),
        };
        Reading { now_ns, ..reading }
    }

    /// What `CLOCK_MONOTONIC` has lost by going back.
    fn shift(&self) -> Duration {
        Duration::from_nanos(match &self.0 {
            Kind::System => system().timebase.shift_ns(),
            Kind::Own(own) => own.timebase.shift_ns(),
            Kind::Manual(manual) => manual.held().timebase.shift_ns(),
        })
    }

    /// Now, as several witnesses see it.
    pub(crate) fn moment(&self) -> Moment {
        match &self.0 {
            Kind::System => system().timebase.moment(),
            Kind::Own(own) => own.timebase.moment(),
            Kind::Manual(manual) => manual.held().timebase.moment(),
        }
    }

    /// How long a moment is ago, by most of them.
    pub(crate) fn since_ns(&self, then: &Moment) -> u64 {
        match &self.0 {
            Kind::System => system().timebase.since_ns(then),
            Kind::Own(own) => own.timebase.since_ns(then),
            Kind::Manual(manual) => manual.held().timebase.since_ns(then),
        }
    }

    /// As [`sample`](Self::sample), but with a look at all witnesses, however fresh the last is.
    pub(crate) fn look(&self) -> Reading {
        match &self.0 {
            Kind::System => system().timebase.look(),
            Kind::Own(own) => own.timebase.look(),
            Kind::Manual(manual) => manual.held().timebase.look(),
        };
        self.sample()
    }

    /// Whether a timer with this deadline may fire: a plain read if not, a [`sample`](Self::sample)
    /// on top before it says yes.
    #[inline]
    pub(crate) fn has_come(&self, deadline_ns: u64) -> bool {
        self.now().as_nanos() >= deadline_ns && self.sample().safe_ns >= deadline_ns
    }

    /// The absolute `CLOCK_MONOTONIC` time to sleep until, so that `deadline_ns` is safe to fire
    /// when the sleep ends on time. As of the last [`sample`](Self::sample): to be asked anew at
    /// each park, and checked at each wake.
    ///
    /// Never before `deadline_ns`: a timer must not fire before that on `CLOCK_MONOTONIC`, either.
    pub(crate) fn kernel_deadline(&self, deadline_ns: u64) -> u64 {
        match &self.0 {
            Kind::System => system().timebase.kernel_deadline(deadline_ns),
            Kind::Own(own) => own.timebase.kernel_deadline(deadline_ns),
            Kind::Manual(manual) => manual.held().timebase.kernel_deadline(deadline_ns),
        }
    }

    /// The absolute `CLOCK_BOOTTIME` to sleep until for an elapsed deadline.
    pub(crate) fn kernel_deadline_elapsed(&self, deadline_ns: u64) -> u64 {
        let shift_ns = match &self.0 {
            Kind::System => system().timebase.elapsed_shift_ns(),
            Kind::Own(own) => own.timebase.elapsed_shift_ns(),
            Kind::Manual(manual) => manual.held().timebase.elapsed_shift_ns(),
        };
        deadline_ns.saturating_sub(shift_ns)
    }

    /// Whether the counter, given up for its faults, should be tested again: to be asked after a
    /// [`sample`](Self::sample), and followed by a [`retest`](Self::retest).
    pub(crate) fn is_retest_due(&self, monotonic_ns: u64) -> bool {
        match &self.0 {
            Kind::System => system().timebase.is_retest_due(monotonic_ns),
            Kind::Own(own) => own.timebase.is_retest_due(monotonic_ns),
            Kind::Manual(manual) => manual.held().timebase.is_retest_due(monotonic_ns),
        }
    }

    /// Tests the counter again. Takes as long as [`warm_up`](Self::warm_up).
    pub(crate) fn retest(&self) {
        match &self.0 {
            Kind::System => system().timebase.retest(Os::prepare),
            Kind::Own(own) => own.timebase.retest(Os::prepare),
            Kind::Manual(manual) => {
                manual.held().timebase.retest(|script, test| script.prepare(test));
            }
        }
    }

    /// Tests the counter, and begins the first baseline; later samples complete it.
    ///
    /// For the thread of a driver, when it starts: takes a few milliseconds, 200 at worst, and moves
    /// the thread between processors. Only the first call does anything; others wait for it.
    pub(crate) fn warm_up(&self) {
        match &self.0 {
            Kind::System => system().timebase.warm_up(Os::prepare),
            Kind::Own(own) => own.timebase.warm_up(Os::prepare),
            Kind::Manual(manual) => {
                manual.held().timebase.warm_up(|script, test| script.prepare(test));
            }
        }
    }
}

fn with_counts<W: witness::Witnesses>(
    timebase: &Timebase<W>,
    held_reads: u64,
) -> (u64, u64, discipline::Counts) {
    let counts = timebase.with_state(|state| state.discipline.counts()).unwrap_or_default();
    (timebase.slow_reads(), held_reads, counts)
}

/// The two clocks are read one after the other; less than this between them is just that.
fn suspended(boottime_ahead: Duration) -> Duration {
    const READS: Duration = Duration::from_millis(1);
    if boottime_ahead < READS { Duration::ZERO } else { boottime_ahead }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.0 {
            Kind::System => "system",
            Kind::Own(_) => "own",
            Kind::Manual(_) => "manual",
        };
        f.debug_struct("Clock").field("kind", &kind).field("source", &self.source()).finish()
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl From<ManualClock> for Clock {
    fn from(manual: ManualClock) -> Self {
        Self(Kind::Manual(manual))
    }
}

/// Hands out the clock that [`Instant::now`] reads: the system's, unless the thread has entered a
/// Timekeeper that has another.
#[inline]
pub(crate) fn with_current<R>(f: impl FnOnce(&Clock) -> R) -> R {
    crate::driver::with_current_clock(f)
}
