//! What was measured, as a table for people, as JSON, as CSV.

use super::Settings;
use super::load::Load;
use super::series::{Sample, Series, Summary};
use crate::boxinfo::BoxInfo;
use humantime::format_duration;
use serde::Serialize;
use std::fs::File;
use std::io::{self, BufWriter, Write};

/// Writes one table for each load, and under it what a reader has to know.
pub(crate) fn write_tables(
    out: &mut impl Write,
    info: &BoxInfo,
    settings: &Settings,
    all: &[Series],
) -> io::Result<()> {
    writeln!(out, "{info}")?;
    writeln!(out, "task lateness in µs; {}", headline(settings))?;
    for of_load in all.chunk_by(|a, b| a.load == b.load) {
        writeln!(out, "\nload: {}", of_load[0].load)?;
        writeln!(
            out,
            "{:<14}{:>9}{:>7}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}{:>10}",
            "system",
            "n",
            "early",
            "mean",
            "p50",
            "p90",
            "p99",
            "p99.9",
            "max",
            "wake-ups",
            "cpu ms"
        )?;
        for series in of_load {
            write_row(out, series)?;
        }
        for series in of_load {
            write_notes(out, series)?;
        }
    }
    if all.iter().any(|series| series.usage_has_tasks && series.usage.is_some()) {
        writeln!(out, "\n* of the runtime's workers, which run the timers and the tasks")?;
    }
    Ok(())
}

/// How the measurement was set up, in a few words.
pub(crate) fn headline(settings: &Settings) -> String {
    let plan = &settings.plan;
    format!(
        "{} tasks × {} {}, {} rounds, runtime {}, seed {}",
        plan.tasks,
        format_duration(plan.timeout),
        plan.phase.name(),
        settings.rounds,
        settings.flavor.name(),
        plan.seed
    )
}

fn write_row(out: &mut impl Write, series: &Series) -> io::Result<()> {
    let system = series.kind.name();
    let Some(summary) = series.summary() else {
        return writeln!(out, "{system:<14}{:>9}  no round was finished", 0);
    };
    write!(out, "{system:<14}{:>9}{:>7}", summary.n, summary.early)?;
    let quantiles = [0.5, 0.9, 0.99, 0.999].map(|p| summary.quantile_us(p));
    for value_us in [&[summary.mean_us()], &quantiles[..], &[summary.max_us()]].concat() {
        write!(out, "{value_us:>10.1}")?;
    }
    match series.usage {
        Some(usage) => {
            let mark = if series.usage_has_tasks { "*" } else { "" };
            let cpu_ms = usage.cpu.as_secs_f64() * 1e3;
            writeln!(out, "{:>10}{cpu_ms:>10.1}{mark}", usage.wakeups)
        }
        None => writeln!(out, "{:>10}{:>10}", "-", "-"),
    }
}

fn write_notes(out: &mut impl Write, series: &Series) -> io::Result<()> {
    let system = series.kind.name();
    if series.armed_late > 0 {
        writeln!(
            out,
            "{system}: {} tasks first ran when their deadline was over; a longer --timeout or \
             fewer --tasks would give them time to start",
            series.armed_late
        )?;
    }
    if let Load::Churn(rate) = series.load {
        let reached = series.churned as f64 / series.churned_in.as_secs_f64();
        // Bursts end where the round does: a little less than asked is as asked.
        if reached < rate as f64 * 0.95 {
            writeln!(out, "{system}: armed and dropped {reached:.0} timeouts a second only")?;
        }
    }
    Ok(())
}

/// Writes one JSON object.
pub(crate) fn write_json(
    out: &mut impl Write,
    info: &BoxInfo,
    settings: &Settings,
    all: &[Series],
) -> io::Result<()> {
    #[derive(Serialize)]
    struct Document<'a> {
        r#box: &'a BoxInfo,
        settings: SettingsRow<'a>,
        runs: Vec<Run>,
    }
    let document = Document {
        r#box: info,
        settings: SettingsRow {
            tasks: settings.plan.tasks,
            timeout_us: settings.plan.timeout.as_secs_f64() * 1e6,
            phase: settings.plan.phase.name(),
            rounds: settings.rounds,
            runtime: settings.flavor.name(),
            slack_us: settings.slack.as_secs_f64() * 1e6,
            seed: settings.plan.seed,
        },
        runs: all.iter().map(Run::of).collect(),
    };
    serde_json::to_writer(&mut *out, &document)?;
    writeln!(out)
}

#[derive(Serialize)]
struct SettingsRow<'a> {
    tasks: usize,
    timeout_us: f64,
    phase: &'a str,
    rounds: u32,
    runtime: &'a str,
    slack_us: f64,
    seed: u64,
}

/// One system under one load. The distribution is null if no round was finished, the cost if it
/// can't be known.
#[derive(Serialize)]
struct Run {
    system: &'static str,
    load: String,
    n: usize,
    early: usize,
    mean_us: Option<f64>,
    p50_us: Option<f64>,
    p90_us: Option<f64>,
    p99_us: Option<f64>,
    p999_us: Option<f64>,
    max_us: Option<f64>,
    wakeups: Option<u64>,
    cpu_ms: Option<f64>,
}

impl Run {
    fn of(series: &Series) -> Self {
        let summary = series.summary();
        let summary = summary.as_ref();
        let quantile_us = |p| summary.map(|summary| summary.quantile_us(p));
        let usage = series.usage.filter(|_| summary.is_some());
        Self {
            system: series.kind.name(),
            load: series.load.to_string(),
            n: summary.map_or(0, |summary| summary.n),
            early: summary.map_or(0, |summary| summary.early),
            mean_us: summary.map(Summary::mean_us),
            p50_us: quantile_us(0.5),
            p90_us: quantile_us(0.9),
            p99_us: quantile_us(0.99),
            p999_us: quantile_us(0.999),
            max_us: summary.map(Summary::max_us),
            wakeups: usage.map(|usage| usage.wakeups),
            cpu_ms: usage.map(|usage| usage.cpu.as_secs_f64() * 1e3),
        }
    }
}

/// Every sample as a line of a file, written between the rounds: what an interruption leaves is
/// whole.
#[derive(Debug)]
pub(crate) struct Csv {
    file: BufWriter<File>,
}

impl Csv {
    /// Writes the heading.
    ///
    /// # Errors
    ///
    /// The file's.
    pub(crate) fn new(file: File) -> io::Result<Self> {
        let mut file = BufWriter::new(file);
        writeln!(file, "system,load,round,deadline_us,lateness_ns")?;
        file.flush()?;
        Ok(Self { file })
    }

    /// Writes the samples of one round.
    ///
    /// # Errors
    ///
    /// The file's.
    pub(crate) fn write(&mut self, series: &Series, samples: &[Sample]) -> io::Result<()> {
        let (system, load) = (series.kind.name(), series.load);
        for Sample { round, deadline, lateness_ns } in samples {
            let deadline_us = deadline.as_micros();
            writeln!(self.file, "{system},{load},{round},{deadline_us},{lateness_ns}")?;
        }
        self.file.flush()
    }
}
