//! A clock that moves only when told, and whose witnesses can be told to lie.

use std::{fmt, time::Duration};

use super::{
    Clock, Instant,
    report::{OsReason, SelfTest},
    ticks,
    timebase::Timebase,
    witness::Witnesses,
};
use crate::sync::{
    Arc, Mutex,
    atomic::{
        AtomicU64,
        Ordering::{AcqRel, Relaxed},
    },
    lock,
};

/// One hour: so that instants before the start exist.
const START_NS: u64 = 3_600_000_000_000;

/// How many processors a script has.
const CPUS: usize = 8;

/// Where the wall clock starts: 2020-09-13.
const START_UNIX_NS: u64 = 1_600_000_000_000_000_000;

/// A clock that moves only when told: time for tests.
///
/// Clones share the time. All threads that hold one, or a [`Clock`] made from one, see it move
/// together. There is no error: what is set is what is read.
///
/// # Scripts
///
/// For tests of how a program takes clock faults, every [`Witness`] can be moved by itself:
/// [`jump`](Self::jump), [`set_witness`](Self::set_witness), [`set_rate`](Self::set_rate),
/// [`freeze`](Self::freeze). A clock made by [`scripted`](Self::scripted) has a counter, too, and
/// runs the very code that disciplines the processor's; what it reads is then subject to error, as
/// the real one is. Witnesses may go back; `Clock::now` doesn't.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use deadbeat::clock::{ManualClock, Witness};
///
/// let manual = ManualClock::new();
/// let clock = manual.clock();
/// let (start, started) = (clock.now(), clock.now_elapsed());
/// assert_eq!(clock.now(), start);
/// manual.advance(Duration::from_secs(2));
/// assert_eq!(clock.now() - start, Duration::from_secs(2));
///
/// // The machine is suspended for a minute.
/// manual.jump(Witness::Boottime, 60_000_000_000);
/// assert_eq!(clock.now() - start, Duration::from_secs(2));
/// assert_eq!(clock.now_elapsed() - started, Duration::from_secs(62));
/// ```
#[derive(Clone)]
pub struct ManualClock {
    shared: Arc<Held<Script>>,
}

/// What a [`ManualClock`] moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Witness {
    /// The processor's counter, in ticks.
    Counter,
    /// `CLOCK_MONOTONIC`, in nanoseconds.
    Monotonic,
    /// `CLOCK_BOOTTIME`, in nanoseconds.
    Boottime,
    /// `CLOCK_REALTIME`, in nanoseconds.
    Realtime,
    /// `CLOCK_MONOTONIC_RAW`, in nanoseconds.
    Raw,
}

impl ManualClock {
    /// A clock that reads one hour after its origin, and has no counter.
    pub fn new() -> Self {
        Self::with_counter(0)
    }

    /// A clock whose counter ticks `counter_hz` times a second, disciplined by its
    /// [`Witness::Monotonic`] as the processor's is by the kernel's.
    ///
    /// Reads `Witness::Monotonic` until [`Clock::calibrate`] has been called three times, with at
    /// least 2.5 ms between the calls. A rate beyond 100 GHz is taken for that.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use deadbeat::clock::{ManualClock, Source, Witness};
    ///
    /// let manual = ManualClock::scripted(2_300_000_000);
    /// let clock = manual.clock();
    /// for _ in 0..3 {
    ///     clock.calibrate();
    ///     manual.advance(Duration::from_millis(3));
    /// }
    /// assert_eq!(clock.source(), Source::Counter);
    ///
    /// // A machine is restored from a snapshot: its counter starts anew, time goes on.
    /// let before = clock.now();
    /// manual.set_witness(Witness::Counter, 0);
    /// manual.advance(Duration::from_secs(1));
    /// let passed = clock.now() - before;
    /// assert!(passed.abs_diff(Duration::from_secs(1)) < Duration::from_micros(1));
    /// ```
    pub fn scripted(counter_hz: u64) -> Self {
        Self::with_counter(counter_hz.clamp(1, 100 * ticks::NANOS_PER_SEC))
    }

    fn with_counter(counter_hz: u64) -> Self {
        let truth = Truth {
            now_ns: START_NS,
            read_cost_ns: 0,
            tracks: [
                Track::new(START_NS, counter_hz),
                Track::new(START_NS, ticks::NANOS_PER_SEC),
                Track::new(START_NS, ticks::NANOS_PER_SEC),
                Track::new(START_UNIX_NS, ticks::NANOS_PER_SEC),
                Track::new(START_NS, ticks::NANOS_PER_SEC),
            ],
            cpu: 0,
            skew: [0; CPUS],
        };
        let script = Script { truth: Mutex::new(truth), has_counter: counter_hz > 0 };
        Self { shared: Arc::new(Held::new(script)) }
    }

    /// Moves time forward by `duration`: every witness by as much as its rate makes of it.
    ///
    /// Saturates: 584 years after the origin, witnesses stand still.
    pub fn advance(&self, duration: Duration) {
        self.truth(|truth| {
            truth.now_ns = truth.now_ns.saturating_add(ticks::saturating_ns(duration));
        });
    }

    /// Moves `CLOCK_MONOTONIC` to `instant`, and every other witness as far in the same direction.
    ///
    /// `Clock::now` doesn't follow to the past: it stands still until it is met again.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use deadbeat::clock::ManualClock;
    ///
    /// let manual = ManualClock::new();
    /// let clock = manual.clock();
    /// let later = clock.now() + Duration::from_secs(5);
    /// manual.set(later);
    /// assert_eq!(clock.now(), later);
    /// manual.set(later - Duration::from_secs(1));
    /// assert_eq!(clock.now(), later);
    /// ```
    pub fn set(&self, instant: Instant) {
        self.truth(|truth| {
            let now_ns = truth.read(Witness::Monotonic);
            let target_ns = instant.as_nanos();
            for track in &mut truth.tracks {
                // The counter as far as its rate makes of it.
                let forward = track.scale(target_ns.saturating_sub(now_ns));
                let back = track.scale(now_ns.saturating_sub(target_ns));
                track.value = track.value.saturating_add(forward).saturating_sub(back);
            }
        });
    }

    /// Moves one witness by `distance`, forward or, if negative, back. Saturates.
    pub fn jump(&self, witness: Witness, distance: i64) {
        self.truth(|truth| {
            let value = truth.read(witness).saturating_add_signed(distance);
            truth.rebase(witness, value);
        });
    }

    /// Sets one witness to `value`.
    pub fn set_witness(&self, witness: Witness, value: u64) {
        self.truth(|truth| truth.rebase(witness, value));
    }

    /// Makes one witness run `ppm` parts per million faster than it should or, if negative, slower.
    ///
    /// At -1 000 000 and below it stands still.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use deadbeat::clock::{ManualClock, Witness};
    ///
    /// let manual = ManualClock::new();
    /// let clock = manual.clock();
    /// let start = clock.now();
    /// manual.set_rate(Witness::Monotonic, 100);
    /// manual.advance(Duration::from_secs(1));
    /// assert_eq!(clock.now() - start, Duration::from_micros(1_000_100));
    /// ```
    pub fn set_rate(&self, witness: Witness, ppm: i64) {
        self.truth(|truth| {
            let value = truth.read(witness);
            truth.rebase(witness, value);
            truth.tracks[index(witness)].rate_ppm = Track::NOMINAL.saturating_add_signed(ppm);
        });
    }

    /// Makes one witness stand still, until [`set_rate`](Self::set_rate) gives it a rate again.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use deadbeat::clock::{ManualClock, Witness};
    ///
    /// let manual = ManualClock::new();
    /// let clock = manual.clock();
    /// let start = clock.now();
    /// manual.freeze(Witness::Monotonic);
    /// manual.advance(Duration::from_secs(1));
    /// assert_eq!(clock.now(), start);
    /// ```
    pub fn freeze(&self, witness: Witness) {
        self.set_rate(witness, i64::MIN);
    }

    /// What one witness reads.
    pub fn witness(&self, witness: Witness) -> u64 {
        self.truth(|truth| truth.read(witness))
    }

    /// Has the counter of processor `cpu` off by `ticks`.
    ///
    /// # Panics
    ///
    /// Unless `cpu` is less than 8.
    pub fn set_skew(&self, cpu: usize, ticks: i64) {
        self.truth(|truth| truth.skew[cpu] = ticks);
    }

    /// Has all readers run on processor `cpu` from now on. At first, they run on processor 0.
    ///
    /// # Panics
    ///
    /// Unless `cpu` is less than 8.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use deadbeat::clock::{JumpKind, ManualClock, Source};
    ///
    /// let manual = ManualClock::scripted(1_000_000_000);
    /// let clock = manual.clock();
    /// for _ in 0..3 {
    ///     clock.calibrate();
    ///     manual.advance(Duration::from_millis(3));
    /// }
    /// manual.set_skew(1, -50_000_000);
    /// for i in 0..4 {
    ///     manual.migrate(i % 2);
    ///     clock.report();
    ///     manual.advance(Duration::from_millis(100));
    /// }
    /// assert!(clock.jumps().count(JumpKind::CounterSkew) > 0);
    /// ```
    pub fn migrate(&self, cpu: usize) {
        assert!(cpu < CPUS, "processor {cpu} of {CPUS}");
        self.truth(|truth| truth.cpu = cpu);
    }

    /// How long it takes to read a kernel clock: time that passes with every read from now on.
    ///
    /// This is how wide brackets are, within which the counter is compared with `CLOCK_MONOTONIC`.
    /// Zero, until set.
    pub fn set_read_cost(&self, cost: Duration) {
        self.truth(|truth| truth.read_cost_ns = ticks::saturating_ns(cost));
    }

    /// The clock that shows this time.
    pub fn clock(&self) -> Clock {
        self.clone().into()
    }

    pub(crate) fn held(&self) -> &Held<Script> {
        &self.shared
    }

    fn truth<R>(&self, f: impl FnOnce(&mut Truth) -> R) -> R {
        f(&mut lock(&self.shared.timebase.witnesses().truth))
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ManualClock")
            .field("monotonic_ns", &self.witness(Witness::Monotonic))
            .field("boottime_ns", &self.witness(Witness::Boottime))
            .finish_non_exhaustive()
    }
}

/// A timebase whose reads never decrease, of whatever thread: a lost cause on a hot path, and the
/// simplest guard elsewhere.
#[derive(Debug)]
pub(crate) struct Held<W> {
    pub(crate) timebase: Timebase<W>,
    latest_ns: AtomicU64,
    latest_elapsed_ns: AtomicU64,
    held_reads: AtomicU64,
}

impl<W: Witnesses> Held<W> {
    pub(crate) fn new(witnesses: W) -> Self {
        Self {
            timebase: Timebase::new(witnesses),
            latest_ns: AtomicU64::new(0),
            latest_elapsed_ns: AtomicU64::new(0),
            held_reads: AtomicU64::new(0),
        }
    }

    /// The later of `ns` and the latest time that was served.
    pub(crate) fn hold(&self, ns: u64) -> u64 {
        // Ordering: AcqRel, so that the maximum is seen by whoever hears of it.
        let latest_ns = self.latest_ns.fetch_max(ns, AcqRel);
        if latest_ns > ns {
            // Ordering: Relaxed, a statistic.
            self.held_reads.fetch_add(1, Relaxed);
        }
        latest_ns.max(ns)
    }

    /// The later of `ns` and the latest elapsed time that was served.
    pub(crate) fn hold_elapsed(&self, ns: u64) -> u64 {
        // Ordering: AcqRel, as above.
        self.latest_elapsed_ns.fetch_max(ns, AcqRel).max(ns)
    }

    pub(crate) fn held_reads(&self) -> u64 {
        // Ordering: Relaxed, a statistic.
        self.held_reads.load(Relaxed)
    }
}

/// Four witnesses of a time that is made up.
#[derive(Debug)]
pub(crate) struct Script {
    truth: Mutex<Truth>,
    has_counter: bool,
}

#[derive(Debug)]
struct Truth {
    now_ns: u64,
    read_cost_ns: u64,
    tracks: [Track; 5],
    /// On which processor the readers run, and how far the counters of each are off.
    cpu: usize,
    skew: [i64; CPUS],
}

/// One witness: what it read at some time, and how it has moved since.
#[derive(Debug)]
struct Track {
    since_ns: u64,
    value: u64,
    nominal_hz: u64,
    rate_ppm: u64,
}

const fn index(witness: Witness) -> usize {
    match witness {
        Witness::Counter => 0,
        Witness::Monotonic => 1,
        Witness::Boottime => 2,
        Witness::Realtime => 3,
        Witness::Raw => 4,
    }
}

impl Track {
    const NOMINAL: u64 = 1_000_000;

    fn new(value: u64, nominal_hz: u64) -> Self {
        Self { since_ns: START_NS, value, nominal_hz, rate_ppm: Self::NOMINAL }
    }

    /// What the witness makes of so much time at its nominal rate. Rounds down.
    fn scale(&self, ns: u64) -> u64 {
        ticks::scale_floor(ns, self.nominal_hz, ticks::NANOS_PER_SEC)
    }

    fn read(&self, now_ns: u64) -> u64 {
        if (self.rate_ppm, self.nominal_hz) == (Self::NOMINAL, ticks::NANOS_PER_SEC) {
            // A nanosecond a nanosecond, without three long divisions.
            return self.value.saturating_add(now_ns.saturating_sub(self.since_ns));
        }
        let nominal = u128::from(now_ns.saturating_sub(self.since_ns)) * u128::from(self.rate_ppm);
        // In this order, nothing overflows and the fraction survives: at most 100 GHz and 64 bits
        // of nanoseconds are 101 bits.
        let whole = nominal / u128::from(Self::NOMINAL) * u128::from(self.nominal_hz);
        let part = nominal % u128::from(Self::NOMINAL) * u128::from(self.nominal_hz);
        let moved = (whole + part / u128::from(Self::NOMINAL)) / u128::from(ticks::NANOS_PER_SEC);
        self.value.saturating_add(u64::try_from(moved).unwrap_or(u64::MAX))
    }
}

impl Truth {
    fn read(&self, witness: Witness) -> u64 {
        self.tracks[index(witness)].read(self.now_ns)
    }

    fn rebase(&mut self, witness: Witness, value: u64) {
        let track = &mut self.tracks[index(witness)];
        (track.since_ns, track.value) = (self.now_ns, value);
    }
}

impl Script {
    /// There is nothing to test, only to be told.
    pub(crate) fn prepare(&self, _: &mut SelfTest) -> Result<(), OsReason> {
        if self.has_counter { Ok(()) } else { Err(OsReason::NoCounter) }
    }

    pub(crate) fn has_counter(&self) -> bool {
        self.has_counter
    }

    /// A kernel clock: half of what it costs passes before the reading, half of it after.
    fn kernel_clock(&self, witness: Witness) -> u64 {
        let mut truth = lock(&self.truth);
        let before_ns = truth.read_cost_ns / 2;
        let after_ns = truth.read_cost_ns - before_ns;
        truth.now_ns = truth.now_ns.saturating_add(before_ns);
        let value = truth.read(witness);
        truth.now_ns = truth.now_ns.saturating_add(after_ns);
        value
    }
}

impl Witnesses for Script {
    fn counter(&self) -> u64 {
        let truth = lock(&self.truth);
        truth.read(Witness::Counter).saturating_add_signed(truth.skew[truth.cpu])
    }

    fn raw_ns(&self) -> Option<u64> {
        Some(self.kernel_clock(Witness::Raw))
    }

    fn cpu(&self) -> Option<usize> {
        Some(lock(&self.truth).cpu)
    }

    fn are_truth(&self) -> bool {
        !self.has_counter
    }

    fn monotonic_ns(&self) -> u64 {
        self.kernel_clock(Witness::Monotonic)
    }

    fn boottime_ns(&self) -> u64 {
        self.kernel_clock(Witness::Boottime)
    }

    fn realtime_ns(&self) -> u64 {
        self.kernel_clock(Witness::Realtime)
    }
}
