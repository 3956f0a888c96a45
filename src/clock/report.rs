//! What the clock can tell about itself.

use std::{fmt, time::Duration};

/// Where a clock's time comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Source {
    /// The processor's counter, disciplined by the OS clock.
    Counter,
    /// The OS clock, read at every call.
    Os(OsReason),
    /// A [`ManualClock`](super::ManualClock) without a scripted counter.
    Manual,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Counter => f.write_str("counter"),
            Self::Os(reason) => write!(f, "OS clock: {reason}"),
            Self::Manual => f.write_str("manual"),
        }
    }
}

/// Why the OS clock is read instead of the counter.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OsReason {
    /// Nobody has asked for the counter yet: no driver has been started, and
    /// [`Clock::calibrate`](super::Clock::calibrate) not called.
    NotCalibrated,
    /// The first baseline isn't long enough yet; it takes 5 ms.
    Calibrating,
    /// The builder or `DEADBEAT_CLOCK=os` asked for it.
    Requested,
    /// `DEADBEAT_CLOCK` has this value, which is none of `os`, `tsc` and `auto`.
    BadOverride(String),
    /// The processor has no counter with a constant rate, or this platform none that is supported.
    NoCounter,
    /// Reading the reference between two readings of the counter takes this long.
    CounterSlow {
        /// The narrowest bracket, in nanoseconds.
        bracket_ns: u64,
    },
    /// The counter went back, or stood still, while it was being measured.
    CounterWentBack,
    /// The counters of two processors differ by more than a signal between them takes.
    CounterUnsynchronised {
        /// By how many ticks the worst of them is off, at the least.
        ticks: u64,
    },
    /// The rate of the counter over one half of the first baseline was not that over the other,
    /// several times over.
    RatesDisagree,
    /// Counter and OS clock have disagreed again and again.
    CounterFaulty {
        /// How often.
        faults: u64,
    },
    /// This is the child of a fork that came while a thread of the parent was publishing.
    Forked,
}

impl fmt::Display for OsReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotCalibrated => f.write_str("the counter has not been calibrated"),
            Self::Calibrating => f.write_str("the first calibration is under way"),
            Self::Requested => f.write_str("asked for"),
            Self::BadOverride(value) => {
                write!(f, "DEADBEAT_CLOCK is {value:?}, which is none of os, tsc and auto")
            }
            Self::NoCounter => f.write_str("no counter with a constant rate"),
            Self::CounterSlow { bracket_ns } => {
                write!(f, "reading the counter is slow, {bracket_ns} ns for a bracketed reading")
            }
            Self::CounterWentBack => f.write_str("the counter went back or stood still"),
            Self::CounterUnsynchronised { ticks } => {
                write!(f, "the counters of two processors are {ticks} ticks apart or more")
            }
            Self::RatesDisagree => f.write_str("the counter's rate is not constant"),
            Self::CounterFaulty { faults } => {
                write!(f, "counter and OS clock have disagreed {faults} times")
            }
            Self::Forked => f.write_str("forked while the clock was being published"),
        }
    }
}

/// What the counter was tested for before it was used.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct SelfTest {
    /// How long one bracketed reading of the OS clock took, at best. At most 50 µs is accepted.
    pub bracket: Option<Duration>,
    /// The comparison of the processors' counters; `None` if it was not done, because there is one
    /// processor only, or because the platform doesn't let a thread choose its own.
    pub processors: Option<Processors>,
    /// How far apart the rates over both halves of the first baseline were, in parts per million.
    pub rates_apart_ppm: Option<f64>,
}

/// How the counters of the processors compare.
///
/// A signal goes from the first processor to another and back, many times over. The counter read on
/// the other lies between those read at departure and arrival, if the two are synchronised.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Processors {
    /// How many this process may run on.
    pub allowed: usize,
    /// How many were compared with the first before the time that the test may take, 4 ms, was up.
    pub compared: usize,
    /// By how many ticks the other was off from the middle of the shortest round trip; the worst of
    /// all. Means little unless greater than half the round trip.
    pub worst_offset_ticks: u64,
    /// The longest of the shortest round trips.
    pub round_trip_ticks: u64,
}

/// What a clock has done so far. Only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Lines published: how often the counter was anchored to the OS clock anew.
    pub reanchors: u64,
    /// Of these, how many stepped the time forward, because it was behind by more than a slew
    /// covers.
    pub steps: u64,
    /// How often the history of the rate was thrown away, because the rate had changed.
    pub history_resets: u64,
    /// How often counter and OS clock disagreed in a way that no slew explains.
    pub faults: u64,
    /// Reads that met the horizon, or a thread that was just publishing.
    pub slow_reads: u64,
    /// Reads that were held to what the same thread had read before.
    pub held_reads: u64,
}

/// Everything that the clock knows about itself.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// Where the time comes from, and why.
    pub source: Source,
    /// What the counter was tested for.
    pub self_test: SelfTest,
    /// The counter's rate, if it is in use.
    pub counter_hz: Option<f64>,
    /// What that rate may be off, in parts per million.
    pub rate_bound_ppm: Option<f64>,
    /// How far the time may be from `CLOCK_MONOTONIC` now.
    pub error_bound: Duration,
    /// Our time less `CLOCK_MONOTONIC`, in nanoseconds, measured just now.
    pub offset_ns: i64,
    /// `CLOCK_BOOTTIME` less `CLOCK_MONOTONIC`: how long the machine was suspended since it booted.
    pub suspended: Duration,
    /// `CLOCK_REALTIME` less `CLOCK_MONOTONIC`: when the machine booted, by the wall clock.
    pub booted_unix: Duration,
    /// What the clock has done so far.
    pub stats: Stats,
}

impl fmt::Display for Report {
    /// One line for each finding, for people.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "source          {}", self.source)?;
        if let (Some(hz), Some(ppm)) = (self.counter_hz, self.rate_bound_ppm) {
            writeln!(f, "rate            {:.6} MHz, within {ppm:.6} ppm", hz / 1e6)?;
        }
        writeln!(f, "error bound     {:?}", self.error_bound)?;
        writeln!(f, "offset          {} ns from CLOCK_MONOTONIC", self.offset_ns)?;
        writeln!(f, "suspended       {:?} since boot", self.suspended)?;
        if let Some(bracket) = self.self_test.bracket {
            writeln!(f, "bracket         {bracket:?}")?;
        }
        if let Some(cpus) = self.self_test.processors {
            writeln!(
                f,
                "processors      {} of {} compared, worst {} ticks off in a round trip of {}",
                cpus.compared, cpus.allowed, cpus.worst_offset_ticks, cpus.round_trip_ticks
            )?;
        }
        if let Some(ppm) = self.self_test.rates_apart_ppm {
            writeln!(f, "rates           {ppm:.3} ppm apart in the first baseline")?;
        }
        let Stats { reanchors, steps, history_resets, faults, slow_reads, held_reads } = self.stats;
        writeln!(f, "re-anchored     {reanchors} times, {steps} with a step")?;
        writeln!(f, "history reset   {history_resets} times, faults {faults}")?;
        write!(f, "slow reads      {slow_reads}, held reads {held_reads}")
    }
}
