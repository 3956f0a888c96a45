//! What was seen, as tables for people and as JSON.

use super::log::{Plan, WINDOW, nanos};
use super::reads::span;
use super::scenario::Seen;
use super::systems::System;
use super::{Row, Settings};
use crate::boxinfo::BoxInfo;
use humantime::format_duration;
use serde::Serialize;
use std::io::{self, Write};

/// Writes the matrix, and under it a table for each fault.
pub(super) fn write_tables(
    out: &mut impl Write,
    info: &BoxInfo,
    settings: &Settings,
    rows: &[Row],
) -> io::Result<()> {
    let plan = settings.plan();
    writeln!(out, "{info}")?;
    writeln!(out, "{}\n", headline(&plan, settings.rounds))?;
    write_matrix(out, &plan, rows)?;
    for row in rows {
        writeln!(out, "\n{}: {}", row.fault.name(), row.fault.injected())?;
        if let Some(why) = &row.skipped {
            writeln!(out, "skipped: {why}")?;
            continue;
        }
        writeln!(
            out,
            "{:<14}{:>7}{:>12}{:>10}{:>10}{:>7}{:>10}  {:<32}class",
            "system", "early", "worst late", "frozen", "panicked", "burst", "wake-ups", "reads"
        )?;
        for (system, seen) in &row.systems {
            write_row(out, *system, seen)?;
        }
    }
    Ok(())
}

/// How it was set up, in a few words.
pub(super) fn headline(plan: &Plan, rounds: u32) -> String {
    format!(
        "{} timers from {} to {}, fault at {}, {rounds} {}",
        plan.timers,
        format_duration(plan.first),
        format_duration(plan.last),
        format_duration(plan.fault_at),
        if rounds == 1 { "round" } else { "rounds, the worst of each" },
    )
}

fn write_row(out: &mut impl Write, system: System, seen: &Seen) -> io::Result<()> {
    let count = |count: Option<u64>| count.map_or("-".into(), |count| count.to_string());
    let late = seen.worst_late_us.map_or("-".into(), |us| {
        format!("{}{}", at_least(seen.unfired > 0), span(us.max(0).unsigned_abs() * 1_000))
    });
    let frozen = match seen.frozen_us {
        0 => "-".into(),
        us => format!("{}{}", at_least(seen.is_frozen), span(us * 1_000)),
    };
    let line = format!(
        "{:<14}{:>7}{late:>12}{frozen:>10}{:>10}{:>7}{:>10}  {:<32}{}",
        system.name(),
        count(seen.early),
        if seen.panicked { "yes" } else { "no" },
        count(seen.burst),
        count(seen.wakeups),
        seen.reads.as_deref().unwrap_or("-"),
        seen.class.as_deref().unwrap_or("-"),
    );
    writeln!(out, "{}", line.trim_end())
}

/// The mark of what wasn't over in the end.
fn at_least(yes: bool) -> &'static str {
    if yes { ">" } else { "" }
}

/// A row for each fault, a column for each system, and in the cells what is worth a look.
fn write_matrix(out: &mut impl Write, plan: &Plan, rows: &[Row]) -> io::Result<()> {
    let mut lines = vec![vec!["fault".into()]];
    lines[0].extend(System::ALL.iter().map(|system| system.name().to_owned()));
    for row in rows {
        let mut cells = vec![vec![row.fault.name().to_owned()]];
        match &row.skipped {
            Some(_) => cells.push(vec!["skipped".into()]),
            None => {
                for system in System::ALL {
                    let seen = row.systems.iter().find(|(other, _)| *other == system);
                    cells.push(seen.map_or(Vec::new(), |(_, seen)| remarks(plan, seen)));
                }
            }
        }
        // A remark a line.
        for line in 0..cells.iter().map(Vec::len).max().unwrap_or(0) {
            let remark = |cell: &Vec<String>| cell.get(line).cloned().unwrap_or_default();
            lines.push(cells.iter().map(remark).collect());
        }
    }
    let widths: Vec<_> = (0..=System::ALL.len())
        .map(|column| {
            let cells = lines.iter().filter_map(|line| line.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0) + 2
        })
        .collect();
    for line in lines {
        let line: String =
            line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// What is out of the ordinary: more than a machine that is busy with other things would do.
fn remarks(plan: &Plan, seen: &Seen) -> Vec<String> {
    const SEEN_US: u64 = 50_000;
    let mut remarks = Vec::new();
    if seen.panicked {
        remarks.push("panicked".into());
    }
    if let Some(early) = seen.early.filter(|early| *early > 0) {
        remarks.push(format!("{early} early"));
    }
    if let Some(us) = seen.worst_late_us.and_then(|us| u64::try_from(us).ok())
        && us >= SEEN_US
    {
        remarks.push(format!("{}{} late", at_least(seen.unfired > 0), span(us * 1_000)));
    }
    if seen.frozen_us >= SEEN_US {
        remarks.push(format!(
            "frozen {}{}",
            at_least(seen.is_frozen),
            span(seen.frozen_us * 1_000)
        ));
    }
    let spread = plan.timers as u64 * nanos(WINDOW) / nanos(plan.last - plan.first);
    if let Some(burst) = seen.burst.filter(|burst| *burst >= 10 * spread) {
        remarks.push(format!("{burst} at once"));
    }
    let many = 10 * plan.timers as u64;
    if let Some(wakeups) = seen.wakeups.filter(|wakeups| *wakeups >= many) {
        remarks.push(format!("{wakeups} wake-ups"));
    }
    if let Some(reads) = &seen.reads {
        remarks.extend(reads.split(", ").map(str::to_owned));
    }
    if remarks.is_empty() {
        remarks.push("ok".into());
    }
    remarks
}

/// Writes one JSON object.
pub(super) fn write_json(out: &mut impl Write, rows: &[Row]) -> io::Result<()> {
    #[derive(Serialize)]
    struct Document<'a> {
        faults: Vec<FaultRow<'a>>,
    }
    let document = Document { faults: rows.iter().map(FaultRow::of).collect() };
    serde_json::to_writer(&mut *out, &document)?;
    writeln!(out)
}

#[derive(Serialize)]
struct FaultRow<'a> {
    fault: &'a str,
    injected: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    skipped: Option<&'a str>,
    systems: Vec<SystemRow<'a>>,
}

#[derive(Serialize)]
struct SystemRow<'a> {
    system: &'a str,
    early: Option<u64>,
    worst_late_us: Option<i64>,
    frozen_us: u64,
    panicked: bool,
    burst: Option<u64>,
    wakeups: Option<u64>,
    /// Of those that have no classes: what their reads did.
    class: Option<String>,
}

impl<'a> FaultRow<'a> {
    fn of(row: &'a Row) -> Self {
        Self {
            fault: row.fault.name(),
            injected: row.fault.injected(),
            skipped: row.skipped.as_deref(),
            systems: row
                .systems
                .iter()
                .map(|(system, seen)| SystemRow::of(*system, seen))
                .collect(),
        }
    }
}

impl SystemRow<'_> {
    fn of(system: System, seen: &Seen) -> Self {
        Self {
            system: system.name(),
            early: seen.early,
            worst_late_us: seen.worst_late_us,
            frozen_us: seen.frozen_us,
            panicked: seen.panicked,
            burst: seen.burst,
            wakeups: seen.wakeups,
            class: match system {
                System::Deadbeat => seen.class.clone(),
                _ => seen.reads.clone(),
            },
        }
    }
}
