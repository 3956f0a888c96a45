//! What was seen, as a table or as JSON.

use super::{Run, Settings};
use hdrhistogram::Histogram;
use serde_json::json;
use std::io::{self, Write};
use std::time::Duration;

fn per_second(count: u64, run: &Run) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "it is shown with few digits")]
    let count = count as f64;
    count / run.outcome.took.as_secs_f64()
}

fn ms(took: &Histogram<u64>, quantile: f64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "it is shown with few digits")]
    let us = took.value_at_quantile(quantile) as f64;
    us / 1000.0
}

/// Of the refusals, which are as good as their caller has time left.
fn refused_ms(run: &Run, quantile: f64) -> Option<f64> {
    let refusals = &run.outcome.refusals;
    (!refusals.is_empty()).then(|| ms(refusals, quantile))
}

/// The share of refusals within this.
const AT_ONCE: Duration = Duration::from_millis(5);

fn refused_at_once(run: &Run) -> Option<f64> {
    let refusals = &run.outcome.refusals;
    let us = u64::try_from(AT_ONCE.as_micros()).unwrap_or(u64::MAX);
    (!refusals.is_empty()).then(|| refusals.percentile_below(us) / 100.0)
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
        "{:<16} {:>8} {:>8} {:>7} {:>8} {:>7} {:>7} {:>7}  refused",
        "calls a second", "offered", "goodput", "wasted", "expired", "doomed", "p50 ms", "p99 ms"
    )
}

pub(super) fn row(out: &mut impl Write, settings: &Settings, run: &Run) -> io::Result<()> {
    writeln!(
        out,
        "{:<16} {:>7.1}x {:>7.0}% {:>7.0} {:>8.0} {:>7.0} {:>7.1} {:>7.1}  {}",
        run.system,
        run.offered / settings.capacity(),
        goodput(settings, run),
        per_second(run.outcome.wasted, run),
        per_second(run.outcome.rejected_expired, run),
        per_second(run.outcome.rejected_doomed, run),
        ms(&run.outcome.latencies, 0.5),
        ms(&run.outcome.latencies, 0.99),
        refused(run)
    )?;
    out.flush()
}

/// How soon.
fn refused(run: &Run) -> String {
    match (refused_ms(run, 0.5), refused_at_once(run)) {
        (Some(p50), Some(share)) => {
            format!("in {p50:.1} ms, {:.0}% within {AT_ONCE:?}", share * 100.0)
        }
        _ => "-".into(),
    }
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
                "p50_ms": ms(&run.outcome.latencies, 0.5),
                "p99_ms": ms(&run.outcome.latencies, 0.99),
                "rejected_expired": per_second(run.outcome.rejected_expired, run),
                "rejected_doomed": per_second(run.outcome.rejected_doomed, run),
                "rejected_p50_ms": refused_ms(run, 0.5),
                "rejected_p99_ms": refused_ms(run, 0.99),
                "rejected_within_5_ms": refused_at_once(run),
            })
        })
        .collect();
    writeln!(out, "{:#}", json!({ "runs": runs }))
}
