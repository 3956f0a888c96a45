//! `deadbeat precision`: how late a task runs that asked to be woken at an instant.
//!
//! A round gives the same deadlines, fixed before it starts, to the tasks of one system; the
//! systems take turns round by round, so that what the machine does to one it does to all. Every
//! sample counts, from the first on. A round that Ctrl-C cuts short is left out, because the late
//! half of its samples would be missing.

mod host;
mod kernel;
mod load;
mod plan;
mod plot;
mod report;
mod round;
mod series;
mod systems;

pub(crate) use host::Flavor;
pub(crate) use load::Load;
pub(crate) use plan::{Phase, Plan};
pub(crate) use systems::Kind;

use crate::boxinfo::BoxInfo;
use crate::draw::PlotFile;
use crate::interrupt;
use indicatif::{ProgressBar, ProgressStyle};
use kernel::{now, usage};
use report::Csv;
use series::{Sample, Series};
use std::error::Error;
use std::fs::File;
use std::io::{self, Write};
use std::time::{Duration, Instant};
use systems::{System, TimerThreads};

/// What to measure, and what to make of it.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) kinds: Vec<Kind>,
    pub(crate) plan: Plan,
    pub(crate) rounds: u32,
    pub(crate) flavor: Flavor,
    pub(crate) loads: Vec<Load>,
    /// How late a timer may be, for the systems whose timers can be told.
    pub(crate) slack: Duration,
    pub(crate) json: bool,
    pub(crate) csv: Option<File>,
    pub(crate) plot: Option<PlotFile>,
}

/// Measures, and reports to standard output and the files asked for; after Ctrl-C, what there is.
///
/// # Errors
///
/// A file or thread that the system refuses.
pub(crate) fn run(mut settings: Settings) -> Result<(), Box<dyn Error>> {
    if let Some(note) = kernel::FLOOR_NOTE.filter(|_| settings.kinds.iter().any(|k| k.is_floor())) {
        eprintln!("note: {note}");
    }
    if !settings.slack.is_zero() && !settings.kinds.iter().any(|kind| kind.takes_slack()) {
        eprintln!("note: none of these systems takes --slack; it changes nothing");
    }
    let info = BoxInfo::read();
    let csv = settings.csv.take().map(Csv::new).transpose()?;
    let all = measure(&settings, csv)?;

    let mut out = io::stdout().lock();
    if settings.json {
        report::write_json(&mut out, &info, &settings, &all)?;
    } else {
        report::write_tables(&mut out, &info, &settings, &all)?;
    }
    out.flush()?;
    if let Some(plot) = &settings.plot {
        if all.iter().all(|series| series.samples.is_empty()) {
            eprintln!("no plot: no round was finished");
        } else {
            plot::draw(plot, &info.to_string(), &report::headline(&settings), &all)?;
            eprintln!("plot: {}", plot.path().display());
        }
    }
    Ok(())
}

/// Runs all rounds: of each load, of each round of it, of each system.
fn measure(settings: &Settings, mut csv: Option<Csv>) -> Result<Vec<Series>, Box<dyn Error>> {
    let Settings { kinds, plan, rounds, flavor, loads, slack, .. } = settings;
    let capacity = plan.tasks * usize::try_from(*rounds)?;
    let turns = u64::try_from(loads.len() * kinds.len())? * u64::from(*rounds);
    // Hidden unless standard error is a terminal; moves between the rounds only.
    let progress = ProgressBar::new(turns).with_style(
        ProgressStyle::with_template("{msg:24} {bar:32} {pos}/{len} rounds, {eta} left")
            .expect("the template is valid"),
    );
    let mut all = Vec::with_capacity(loads.len() * kinds.len());
    'all: for &load in loads {
        let systems = kinds
            .iter()
            .map(|kind| Ok((kind.start(*flavor, *slack)?, Series::new(*kind, load, capacity))))
            .collect::<io::Result<Vec<_>>>()?;
        let (systems, series): (Vec<_>, Vec<_>) = systems.into_iter().unzip();
        let first = all.len();
        all.extend(series);
        let origin = now();
        for number in 0..*rounds {
            for (system, series) in systems.iter().zip(&mut all[first..]) {
                progress.set_message(format!("{}, {load}", series.kind.name()));
                let turn = Turn { system: &**system, load, plan, number, origin };
                if !turn.take(series)? {
                    break 'all;
                }
                if let Some(csv) = &mut csv {
                    csv.write(series, &series.samples[series.samples.len() - plan.tasks..])?;
                }
                progress.inc(1);
            }
        }
    }
    progress.finish_and_clear();
    Ok(all)
}

/// One round of one system under one load.
struct Turn<'a> {
    system: &'a dyn System,
    load: Load,
    plan: &'a Plan,
    number: u32,
    origin: Instant,
}

impl Turn<'_> {
    /// Runs the round and adds what it gave to `series`; `false` if it was interrupted, and then
    /// nothing is added.
    fn take(self, series: &mut Series) -> io::Result<bool> {
        if interrupt::raised() {
            return Ok(false);
        }
        let Self { system, load, plan, number, origin } = self;
        let (threads, has_tasks) = match system.timer_threads() {
            TimerThreads::Own(threads) => (threads, false),
            // What the workers use under busy tasks is the load's.
            TimerThreads::Workers(_) if matches!(load, Load::Tasks(_)) => (Vec::new(), true),
            TimerThreads::Workers(threads) => (threads, true),
            TimerThreads::Unknown => (Vec::new(), false),
        };
        let running = load.start(system, plan.timeout);
        let round = plan.round(number, now() + plan.lead());
        let before = usage(&threads);
        system.start(&round)?;
        let finished = system.host().block_on(round.finished());
        let after = usage(&threads);
        let (churned, churned_in) = running.stop();
        if !finished {
            return Ok(false);
        }

        let used = match (before, after) {
            (Some(before), Some(after)) if !threads.is_empty() => Some(after.since(before)),
            _ => None,
        };
        series.usage = series.usage.zip(used).map(|(mut total, used)| {
            total += used;
            total
        });
        series.usage_has_tasks = has_tasks;
        series.armed_late += round.armed_late();
        series.churned += churned;
        series.churned_in += churned_in;
        series.samples.extend(round.samples().map(|(deadline, lateness_ns)| Sample {
            round: number,
            deadline: deadline.saturating_duration_since(origin),
            lateness_ns,
        }));
        Ok(true)
    }
}
