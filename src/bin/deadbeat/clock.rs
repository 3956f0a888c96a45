//! `deadbeat clock`: which clock is read, how good it is, and what happened to it.

use crate::interrupt;
use serde::Serialize;
use std::error::Error;
use std::io::{self, Write};
use std::time::Duration;

/// How to show it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    /// Again and again, this far apart; `None` for once.
    pub(crate) watch: Option<Duration>,
    pub(crate) json: bool,
}

/// Shows the clock on standard output, once or until Ctrl-C.
///
/// # Errors
///
/// Standard output's.
pub(crate) fn run(settings: &Settings) -> Result<(), Box<dyn Error>> {
    loop {
        let mut out = io::stdout().lock();
        let report = source::report();
        if settings.json {
            serde_json::to_writer(&mut out, &report)?;
            writeln!(out)?;
        } else {
            report.write(&mut out)?;
        }
        out.flush()?;
        match settings.watch {
            Some(interval) if !interrupt::wait(interval) => {
                if !settings.json {
                    writeln!(out)?;
                }
            }
            _ => return Ok(()),
        }
    }
}

/// What there is to say of a clock.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Report {
    /// What is read: `counter` or `os`.
    source: &'static str,
    /// Why that.
    reason: String,
    /// How far a reading may be off, in ns.
    error_bound_ns: u64,
    /// Present if the counter is read.
    counter: Option<Counter>,
    self_tests: Vec<SelfTest>,
    kernel_clocks: Vec<KernelClock>,
}

/// The counter, and what was done to it since the start.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Counter {
    rate_hz: f64,
    rate_error_ppm: f64,
    re_anchors: u64,
    steps: u64,
    slow_reads: u64,
    history_resets: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct SelfTest {
    name: String,
    passed: bool,
    detail: String,
}

/// A clock of the kernel, against the one that is read.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct KernelClock {
    name: &'static str,
    offset_ns: i128,
    /// How far apart the readings were that the offset comes from.
    bracket_ns: u64,
}

impl Report {
    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "source       {} ({})", self.source, self.reason)?;
        writeln!(out, "error bound  {} ns", self.error_bound_ns)?;
        if let Some(counter) = &self.counter {
            let Counter { rate_hz, rate_error_ppm, .. } = counter;
            writeln!(out, "rate         {rate_hz:.1} Hz ± {rate_error_ppm:.3} ppm")?;
            writeln!(out, "re-anchors   {}", counter.re_anchors)?;
            writeln!(out, "steps        {}", counter.steps)?;
            writeln!(out, "slow reads   {}", counter.slow_reads)?;
            writeln!(out, "resets       {}", counter.history_resets)?;
        }
        for SelfTest { name, passed, detail } in &self.self_tests {
            let verdict = if *passed { "passed" } else { "FAILED" };
            writeln!(out, "self-test    {name}: {verdict}, {detail}")?;
        }
        for KernelClock { name, offset_ns, bracket_ns } in &self.kernel_clocks {
            writeln!(out, "offset       {name} {offset_ns:+} ns, read within {bracket_ns} ns")?;
        }
        Ok(())
    }
}

/// Where a report comes from.
mod source {
    use super::Report;

    /// What the kernel says of its own clocks.
    pub(super) fn report() -> Report {
        Report {
            source: "os",
            reason: "CLOCK_MONOTONIC, as std::time::Instant reads it".into(),
            error_bound_ns: 0,
            counter: None,
            self_tests: Vec::new(),
            kernel_clocks: kernel_clocks(),
        }
    }

    #[cfg(target_os = "linux")]
    fn kernel_clocks() -> Vec<super::KernelClock> {
        use rustix::time::{ClockId, clock_gettime};
        let read_ns = |clock| {
            let time = clock_gettime(clock);
            i128::from(time.tv_sec) * 1_000_000_000 + i128::from(time.tv_nsec)
        };
        [("CLOCK_BOOTTIME", ClockId::Boottime), ("CLOCK_REALTIME", ClockId::Realtime)]
            .into_iter()
            .filter_map(|(name, clock)| {
                (0..16)
                    .map(|_| {
                        let before = read_ns(ClockId::Monotonic);
                        let reading = read_ns(clock);
                        let bracket_ns = read_ns(ClockId::Monotonic) - before;
                        (bracket_ns, reading - before - bracket_ns / 2)
                    })
                    .min()
                    .map(|(bracket_ns, offset_ns)| super::KernelClock {
                        name,
                        offset_ns,
                        bracket_ns: u64::try_from(bracket_ns).unwrap_or(0),
                    })
            })
            .collect()
    }

    #[cfg(not(target_os = "linux"))]
    fn kernel_clocks() -> Vec<super::KernelClock> {
        Vec::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            source: "counter",
            reason: "all self-tests passed".into(),
            error_bound_ns: 31,
            counter: Some(Counter {
                rate_hz: 2_299_999_917.7,
                rate_error_ppm: 0.0191,
                re_anchors: 12,
                steps: 0,
                slow_reads: 3,
                history_resets: 1,
            }),
            self_tests: vec![SelfTest {
                name: "cross-CPU".into(),
                passed: false,
                detail: "132 cycles apart".into(),
            }],
            kernel_clocks: vec![KernelClock {
                name: "CLOCK_BOOTTIME",
                offset_ns: -5,
                bracket_ns: 44,
            }],
        }
    }

    #[test]
    fn a_report_for_people_has_every_figure_with_its_unit() {
        let mut text = Vec::new();
        report().write(&mut text).expect("memory can be written");
        assert_eq!(
            String::from_utf8(text).expect("it is text"),
            "source       counter (all self-tests passed)\n\
             error bound  31 ns\n\
             rate         2299999917.7 Hz ± 0.019 ppm\n\
             re-anchors   12\n\
             steps        0\n\
             slow reads   3\n\
             resets       1\n\
             self-test    cross-CPU: FAILED, 132 cycles apart\n\
             offset       CLOCK_BOOTTIME -5 ns, read within 44 ns\n"
        );
    }

    #[test]
    fn a_report_for_programs_names_the_same() {
        let json = serde_json::to_value(report()).expect("it has a form in JSON");
        assert_eq!(json["source"], "counter");
        assert_eq!(json["counter"]["slow_reads"], 3);
        assert_eq!(json["self_tests"][0]["passed"], false);
        assert_eq!(json["kernel_clocks"][0]["offset_ns"], -5);
    }
}
