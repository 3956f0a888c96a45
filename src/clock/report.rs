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
    /// By how many ticks the counter of one of them was outside of the round trip, at the worst; zero
    /// if they are synchronised, as far as a signal between them can tell. Then the test is passed.
    pub unsynchronised_ticks: u64,
    /// How many were compared with the first before the time that the test may take, 4 ms, was up.
    pub compared: usize,
    /// By how many ticks the other was off from the middle of the shortest round trip; the worst of
    /// all. Means little unless greater than half the round trip.
    pub worst_offset_ticks: u64,
    /// The longest of the shortest round trips.
    pub round_trip_ticks: u64,
}

/// What became of one part of the self-test.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// The counter is fit in this respect.
    Passed,
    /// It is not, and so the OS clock is read; unless the counter is to be used although those of the
    /// processors disagree.
    Failed,
    /// It was not looked at, because the counter wasn't asked for, an earlier part had failed, or it
    /// can't be done here; or there is no outcome yet.
    NotDone,
}

impl Verdict {
    fn passed_if(passed: bool) -> Self {
        if passed { Self::Passed } else { Self::NotDone }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::NotDone => "not done",
        })
    }
}

/// What became of the self-test, part by part, in the order in which they are done. See
/// [`Report::verdicts`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verdicts {
    /// The processor promises a counter with a constant rate.
    pub constant_rate: Verdict,
    /// The counters of the processors agree.
    pub processors: Verdict,
    /// A bracketed reading takes 50 µs at most.
    pub bracket: Verdict,
    /// The counter goes forward, at the same rate in both halves of the first baseline.
    pub rates: Verdict,
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

impl Report {
    /// What became of the self-test.
    ///
    /// # Examples
    ///
    /// ```
    /// use deadbeat::clock::{Clock, Preference, Source, Verdict};
    ///
    /// let clock = Clock::builder().preference(Preference::Auto).build();
    /// assert_eq!(clock.report().verdicts().rates, Verdict::NotDone);
    /// clock.calibrate();
    /// let report = clock.report();
    /// if report.source == Source::Counter {
    ///     assert_eq!(report.verdicts().rates, Verdict::Passed);
    /// }
    /// ```
    #[must_use]
    pub fn verdicts(&self) -> Verdicts {
        use OsReason as Why;
        let test = &self.self_test;
        let mut verdicts = Verdicts {
            // Nothing else is looked at without it.
            constant_rate: Verdict::passed_if(match &self.source {
                Source::Counter => true,
                Source::Os(why) => !matches!(
                    why,
                    Why::NotCalibrated | Why::Requested | Why::BadOverride(_) | Why::Forked
                ),
                Source::Manual => false,
            }),
            processors: match test.processors {
                Some(cpus) if cpus.unsynchronised_ticks > 0 => Verdict::Failed,
                Some(cpus) => Verdict::passed_if(cpus.compared > 1),
                None => Verdict::NotDone,
            },
            bracket: Verdict::passed_if(test.bracket.is_some()),
            rates: Verdict::passed_if(test.rates_apart_ppm.is_some()),
        };
        match &self.source {
            Source::Os(Why::NoCounter) => verdicts.constant_rate = Verdict::Failed,
            Source::Os(Why::CounterSlow { .. }) => {
                verdicts.bracket = Verdict::Failed;
                verdicts.rates = Verdict::NotDone;
            }
            Source::Os(Why::RatesDisagree | Why::CounterWentBack) => {
                verdicts.rates = Verdict::Failed;
            }
            _ => {}
        }
        verdicts
    }
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
        let ahead = self.booted_unix;
        writeln!(f, "real time       {ahead:.6?} ahead of CLOCK_MONOTONIC")?;
        writeln!(f, "suspended       {:?} since boot", self.suspended)?;
        let (test, verdicts) = (&self.self_test, self.verdicts());
        writeln!(f, "constant rate   {}", verdicts.constant_rate)?;
        write!(f, "processors      {}", verdicts.processors)?;
        if let Some(cpus) = test.processors {
            write!(f, ": {} of {} compared", cpus.compared, cpus.allowed)?;
            match verdicts.processors {
                Verdict::Passed => {
                    let (off, trip) = (cpus.worst_offset_ticks, cpus.round_trip_ticks);
                    write!(f, ", worst {off} ticks off in a round trip of {trip}")?;
                }
                Verdict::Failed => {
                    write!(
                        f,
                        ", worst {} ticks outside of a round trip",
                        cpus.unsynchronised_ticks
                    )?;
                }
                Verdict::NotDone => {}
            }
        }
        write!(f, "\nbracket         {}", verdicts.bracket)?;
        if let Some(bracket) = test.bracket {
            write!(f, ": {bracket:?}")?;
        }
        write!(f, "\nrates           {}", verdicts.rates)?;
        if let Some(ppm) = test.rates_apart_ppm {
            write!(f, ": {ppm:.3} ppm apart in the first baseline")?;
        }
        writeln!(f)?;
        let Stats { reanchors, steps, history_resets, faults, slow_reads, held_reads } = self.stats;
        writeln!(f, "re-anchored     {reanchors} times, {steps} with a step")?;
        writeln!(f, "history reset   {history_resets} times, faults {faults}")?;
        write!(f, "slow reads      {slow_reads}, held reads {held_reads}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(source: Source, self_test: SelfTest) -> Report {
        Report {
            source,
            self_test,
            counter_hz: None,
            rate_bound_ppm: None,
            error_bound: Duration::ZERO,
            offset_ns: 0,
            suspended: Duration::ZERO,
            booted_unix: Duration::new(1_700_000_000, 123_456_789),
            stats: Stats::default(),
        }
    }

    /// As far as the processors, and as far as the end.
    fn tests() -> [SelfTest; 2] {
        let compared = Processors { allowed: 2, compared: 2, ..Default::default() };
        let half = SelfTest { processors: Some(compared), ..Default::default() };
        let whole = SelfTest {
            bracket: Some(Duration::from_nanos(80)),
            rates_apart_ppm: Some(0.5),
            ..half.clone()
        };
        [half, whole]
    }

    #[test]
    fn each_part_of_the_self_test_has_a_verdict() {
        use Verdict::{Failed, NotDone, Passed};
        let [half, whole] = tests();
        let none = SelfTest::default();
        let apart = Processors { allowed: 2, unsynchronised_ticks: 9, ..Default::default() };
        let apart = SelfTest { processors: Some(apart), ..none.clone() };
        let insisted = SelfTest { processors: apart.processors, ..whole.clone() };
        let os = Source::Os;
        for (source, test, expected) in [
            (Source::Manual, &none, [NotDone; 4]),
            (os(OsReason::NotCalibrated), &none, [NotDone; 4]),
            (os(OsReason::Requested), &none, [NotDone; 4]),
            (os(OsReason::NoCounter), &none, [Failed, NotDone, NotDone, NotDone]),
            (
                os(OsReason::CounterUnsynchronised { ticks: 9 }),
                &apart,
                [Passed, Failed, NotDone, NotDone],
            ),
            (os(OsReason::Calibrating), &half, [Passed, Passed, NotDone, NotDone]),
            (os(OsReason::CounterWentBack), &half, [Passed, Passed, NotDone, Failed]),
            (
                os(OsReason::CounterSlow { bracket_ns: 60_000 }),
                &whole,
                [Passed, Passed, Failed, NotDone],
            ),
            (os(OsReason::RatesDisagree), &whole, [Passed, Passed, Passed, Failed]),
            (os(OsReason::CounterFaulty { faults: 9 }), &whole, [Passed; 4]),
            (Source::Counter, &whole, [Passed; 4]),
            (Source::Counter, &insisted, [Passed, Failed, Passed, Passed]),
        ] {
            let report = report(source, test.clone());
            let Verdicts { constant_rate, processors, bracket, rates } = report.verdicts();
            assert_eq!([constant_rate, processors, bracket, rates], expected, "{report:?}");
        }
    }

    #[test]
    fn the_text_has_the_verdicts_and_both_offsets() {
        let [_, whole] = tests();
        let text = report(Source::Counter, whole).to_string();
        for line in [
            "offset          0 ns from CLOCK_MONOTONIC",
            "real time       1700000000.123457s ahead of CLOCK_MONOTONIC",
            "constant rate   passed",
            "processors      passed: 2 of 2 compared, worst 0 ticks off in a round trip of 0",
            "bracket         passed: 80ns",
            "rates           passed: 0.500 ppm apart in the first baseline",
        ] {
            assert!(text.lines().any(|found| found == line), "no {line:?} in\n{text}");
        }
        let text = report(Source::Manual, SelfTest::default()).to_string();
        assert!(text.contains("\nbracket         not done\n"), "{text}");
    }
}
