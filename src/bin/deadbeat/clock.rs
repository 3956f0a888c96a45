//! `deadbeat clock`: which clock is read, how good it is, and what happened to it.

use crate::interrupt;
use deadbeat::clock::{Clock, Jump, Jumps, Report, Source};
use serde_json::{Value, json};
use std::error::Error;
use std::hint::black_box;
use std::io::{self, Write};
use std::time::{Duration, Instant};

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
    let clock = Clock::system();
    clock.calibrate();
    // Of the first baseline, which is short; reading the costs gives it time to be refined.
    let first_hz = clock.report().counter_hz;
    let costs = Costs::measure(&clock);
    let mut known = Jumps::default();
    loop {
        let report = clock.report();
        let jumps = clock.jumps();
        let rate_change_ppm = rate_change_ppm(first_hz, report.counter_hz);
        let mut out = io::stdout().lock();
        if settings.json {
            let mut json = to_json(&report, rate_change_ppm, &costs);
            json["jumps"] = jumps_to_json(&known, &jumps);
            serde_json::to_writer(&mut out, &json)?;
            writeln!(out)?;
        } else {
            writeln!(out, "{report}")?;
            if let Some(ppm) = rate_change_ppm {
                writeln!(out, "rate change     {ppm:+.6} ppm since the first baseline")?;
            }
            costs.write(&mut out)?;
            write_jumps(&mut out, &known, &jumps)?;
        }
        out.flush()?;
        known = jumps;
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

/// By how much the rate is now estimated to be greater than at first: what the first was wrong by,
/// as far as is known.
fn rate_change_ppm(first_hz: Option<f64>, hz: Option<f64>) -> Option<f64> {
    Some((hz? / first_hz? - 1.0) * 1e6)
}

/// The last of each kind of which there are more than were known, oldest first, and how many more.
fn news(known: &Jumps, jumps: &Jumps) -> Vec<(Jump, u64)> {
    let mut news: Vec<_> = jumps
        .iter()
        .filter_map(|(kind, count, last)| {
            Some((last, count.checked_sub(known.count(kind)).filter(|more| *more > 0)?))
        })
        .collect();
    news.sort_by_key(|(jump, _)| jump.at);
    news
}

/// The counts, if there is one, and a line for each kind of which there are new ones.
fn write_jumps(out: &mut impl Write, known: &Jumps, jumps: &Jumps) -> io::Result<()> {
    if jumps.total() == 0 {
        return writeln!(out, "jumps           none");
    }
    let counts: Vec<_> = jumps.iter().map(|(kind, count, _)| format!("{count} {kind}")).collect();
    writeln!(out, "jumps           {}", counts.join(", "))?;
    for (jump, more) in news(known, jumps) {
        let at = Duration::from_nanos(jump.at.as_nanos()).as_secs_f64();
        write!(out, "jump            at {at:.6} s: {jump}")?;
        if more > 1 {
            write!(out, ", and {} before it", more - 1)?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// What a read costs, in nanoseconds.
#[derive(Debug)]
struct Costs {
    ordered: f64,
    unordered: f64,
    std: f64,
}

impl Costs {
    fn measure(clock: &Clock) -> Self {
        Self {
            ordered: cost(|| {
                black_box(clock.now());
            }),
            unordered: cost(|| {
                black_box(clock.now_unordered());
            }),
            #[expect(clippy::disallowed_methods, reason = "it is what is measured")]
            std: cost(|| {
                black_box(Instant::now());
            }),
        }
    }

    fn write(&self, out: &mut impl Write) -> io::Result<()> {
        let Self { ordered, unordered, std } = self;
        writeln!(out, "read cost       {ordered:.1} ns; unordered {unordered:.1}, std {std:.1}")
    }
}

/// The median of some rounds of back-to-back reads.
#[expect(clippy::disallowed_methods, reason = "a stopwatch that is none of those measured")]
fn cost(mut read: impl FnMut()) -> f64 {
    const ROUNDS: usize = 21;
    const READS: u32 = 20_000;
    let mut rounds = [0.0; ROUNDS];
    for round in &mut rounds {
        let start = Instant::now();
        (0..READS).for_each(|_| read());
        *round = start.elapsed().as_secs_f64() * 1e9 / f64::from(READS);
    }
    rounds.sort_by(f64::total_cmp);
    rounds[ROUNDS / 2]
}

/// Times in ns, rates as their names say.
fn to_json(report: &Report, rate_change_ppm: Option<f64>, costs: &Costs) -> Value {
    let (test, verdicts) = (&report.self_test, report.verdicts());
    json!({
        "source": source(&report.source),
        "error_bound_ns": nanos(report.error_bound),
        "offset_ns": report.offset_ns,
        "counter_hz": report.counter_hz,
        "rate_bound_ppm": report.rate_bound_ppm,
        "rate_change_ppm": rate_change_ppm,
        "suspended_ns": nanos(report.suspended),
        "booted_unix_ns": nanos(report.booted_unix),
        "read_ns": {
            "ordered": costs.ordered,
            "unordered": costs.unordered,
            "std": costs.std,
        },
        "self_test": {
            "verdicts": {
                "constant_rate": verdicts.constant_rate.to_string(),
                "processors": verdicts.processors.to_string(),
                "bracket": verdicts.bracket.to_string(),
                "rates": verdicts.rates.to_string(),
            },
            "bracket_ns": test.bracket.map(nanos),
            "rates_apart_ppm": test.rates_apart_ppm,
            "processors": test.processors.map(|cpus| json!({
                "allowed": cpus.allowed,
                "compared": cpus.compared,
                "unsynchronised_ticks": cpus.unsynchronised_ticks,
                "worst_offset_ticks": cpus.worst_offset_ticks,
                "round_trip_ticks": cpus.round_trip_ticks,
            })),
        },
        "counts": {
            "reanchors": report.stats.reanchors,
            "steps": report.stats.steps,
            "history_resets": report.stats.history_resets,
            "faults": report.stats.faults,
            "slow_reads": report.stats.slow_reads,
            "held_reads": report.stats.held_reads,
        },
    })
}

fn jumps_to_json(known: &Jumps, jumps: &Jumps) -> Value {
    let kinds: Vec<_> = jumps
        .iter()
        .map(|(kind, count, last)| {
            json!({
                "kind": kind.name(),
                "count": count,
                "new": count.saturating_sub(known.count(kind)),
                "last": {
                    "at_ns": last.at.as_nanos(),
                    "size_ns": last.size_ns,
                    "rate_ppb": last.rate_ppb,
                },
            })
        })
        .collect();
    json!({ "total": jumps.total(), "kinds": kinds })
}

fn source(source: &Source) -> Value {
    let (name, reason) = match source {
        Source::Counter => ("counter", None),
        Source::Os(reason) => ("os", Some(reason.to_string())),
        Source::Manual => ("manual", None),
        other => unreachable!("{other} is no source of the system's clock"),
    };
    json!({ "source": name, "reason": reason })
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use deadbeat::clock::{ManualClock, Witness};

    #[test]
    fn json_has_what_the_text_has() {
        let clock = Clock::system();
        let costs = Costs { ordered: 18.0, unordered: 11.0, std: 22.0 };
        let json = to_json(&clock.report(), Some(0.5), &costs);
        for key in [
            "source",
            "error_bound_ns",
            "offset_ns",
            "booted_unix_ns",
            "counter_hz",
            "rate_bound_ppm",
            "self_test",
            "counts",
        ] {
            assert!(json.get(key).is_some(), "{key} in {json}");
        }
        assert_eq!(json["read_ns"]["std"], 22.0);
        assert_eq!(json["rate_change_ppm"], 0.5);
    }

    /// A clock that has seen so many suspensions of a minute, and a wall clock that was set before.
    fn jumps(suspensions: i64) -> Jumps {
        const MINUTE_NS: i64 = 60_000_000_000;
        let manual = ManualClock::new();
        let clock = manual.clock();
        clock.report();
        let move_by = |witness, ns| {
            manual.jump(witness, ns);
            manual.advance(Duration::from_millis(5));
            clock.report();
        };
        move_by(Witness::Realtime, -MINUTE_NS);
        (0..suspensions).for_each(|_| move_by(Witness::Boottime, MINUTE_NS));
        clock.jumps()
    }

    #[test]
    fn jumps_are_shown_once_and_their_counts_always() {
        let text = |known: &Jumps, jumps: &Jumps| {
            let mut text = Vec::new();
            write_jumps(&mut text, known, jumps).expect("memory takes all");
            String::from_utf8(text).expect("it is text")
        };
        assert_eq!(text(&Jumps::default(), &Jumps::default()), "jumps           none\n");
        let (one, three) = (jumps(1), jumps(3));
        let first = text(&Jumps::default(), &one);
        assert!(first.starts_with("jumps           1 suspend, 1 wall-step\n"), "{first}");
        let lines: Vec<_> = first.lines().skip(1).collect();
        assert!(lines[0].ends_with("s: wall-step -60.000000 s"), "{first}");
        assert!(lines[1].ends_with("s: suspend +60.000000 s"), "{first}");
        assert_eq!(text(&one, &one), "jumps           1 suspend, 1 wall-step\n");
        let more = text(&one, &three);
        assert!(more.ends_with("s: suspend +60.000000 s, and 1 before it\n"), "{more}");
        assert_eq!(more.lines().count(), 2, "{more}");

        let json = jumps_to_json(&one, &three);
        assert_eq!(json["total"], 4);
        assert_eq!(json["kinds"][0]["kind"], "suspend");
        assert_eq!((&json["kinds"][0]["count"], &json["kinds"][0]["new"]), (&3.into(), &2.into()));
        assert_eq!(json["kinds"][0]["last"]["size_ns"], 60_000_000_000_i64);
        assert_eq!(json["kinds"][1]["new"], 0);
    }

    #[test]
    fn the_source_is_named_and_has_a_reason_unless_it_is_the_counter() {
        assert_eq!(source(&Source::Counter), json!({ "source": "counter", "reason": null }));
        let asked_for = Source::Os(deadbeat::clock::OsReason::Requested);
        assert_eq!(source(&asked_for), json!({ "source": "os", "reason": "asked for" }));
        assert_eq!(source(&Source::Manual), json!({ "source": "manual", "reason": null }));
    }

    #[test]
    fn the_rate_changes_by_millionths_once_there_is_one() {
        let ppm = rate_change_ppm(Some(1e9), Some(1e9 + 500.0)).expect("both are known");
        assert!((ppm - 0.5).abs() < 1e-6, "{ppm}");
        assert_eq!(rate_change_ppm(None, Some(1e9)), None);
        assert_eq!(rate_change_ppm(Some(1e9), None), None);
    }
}
