//! What was seen, as a table or as JSON.

use super::{Run, Settings};
use serde_json::json;
use std::io::{self, Write};

fn per_second(count: u64, run: &Run) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "it is shown with few digits")]
    let count = count as f64;
    count / run.outcome.took.as_secs_f64()
}

fn ms(run: &Run, quantile: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "it is shown with few digits")]
    let us = run.outcome.latencies.value_at_quantile(quantile) as f64;
    us / 1000.0
}

/// What is run.
pub(super) fn headline(settings: &Settings) -> String {
    format!(
        "{} slots of {:?}, so {:.0} calls a second; deadlines of {:?}",
        settings.slots,
        settings.service,
        settings.capacity(),
        settings.deadline
    )
}

/// Of the capacity, in percent.
pub(super) fn goodput(settings: &Settings, run: &Run) -> f64 {
    per_second(run.outcome.good, run) / settings.capacity() * 100.0
}

pub(super) fn head(out: &mut impl Write, settings: &Settings) -> io::Result<()> {
    writeln!(out, "{}\n", headline(settings))?;
    writeln!(
        out,
        "{:<16} {:>8} {:>9} {:>8} {:>8} {:>8} {:>9} {:>9}",
        "calls a second", "offered", "goodput", "wasted", "expired", "doomed", "p50 ms", "p99 ms"
    )
}

pub(super) fn row(out: &mut impl Write, settings: &Settings, run: &Run) -> io::Result<()> {
    writeln!(
        out,
        "{:<16} {:>7.1}x {:>8.0}% {:>8.0} {:>8.0} {:>8.0} {:>9.1} {:>9.1}",
        run.system,
        run.offered / settings.capacity(),
        goodput(settings, run),
        per_second(run.outcome.wasted, run),
        per_second(run.outcome.rejected_expired, run),
        per_second(run.outcome.rejected_doomed, run),
        ms(run, 0.5),
        ms(run, 0.99)
    )?;
    out.flush()
}

pub(super) fn json(out: &mut impl Write, settings: &Settings, runs: &[Run]) -> io::Result<()> {
    let runs: Vec<_> = runs
        .iter()
        .map(|run| {
            json!({
                "system": run.system.name(),
                "offered": run.offered,
                "capacity": settings.capacity(),
                "goodput": per_second(run.outcome.good, run),
                "wasted": per_second(run.outcome.wasted, run),
                "p50_ms": ms(run, 0.5),
                "p99_ms": ms(run, 0.99),
                "rejected_expired": per_second(run.outcome.rejected_expired, run),
                "rejected_doomed": per_second(run.outcome.rejected_doomed, run),
            })
        })
        .collect();
    writeln!(out, "{:#}", json!({ "runs": runs }))
}
