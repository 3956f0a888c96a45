//! `deadbeat jumps`: what timers and clocks do when a clock jumps, ours and others'.
//!
//! For each fault and each system, a process of its own: this program again, with a hidden command.
//! There all timers are armed, then the fault happens, and everything is judged by the true time, which
//! no fault here touches. What is asked of one system is asked of all: as many timers, due at the same
//! times, on the same kind of runtime.
//!
//! What is measured:
//!
//! - *early*: timers that fired before they were due by *both* the true time and CLOCK_MONOTONIC as
//!   the process is told it, made up for what it loses by going back. A timer that a jump of CLOCK_MONOTONIC has overtaken is due, and not
//!   early; one that keeps to the true time while CLOCK_MONOTONIC goes back is not early either.
//! - *worst late*: by how much the latest timer fired after it was due by the true time.
//! - *frozen*: for how long reads of the system's clock gave no later time than they had before. It is
//!   waited for until they do, or the time is up.
//! - *burst*: the most timers that fired within 10 ms of the true time. They are spread evenly, and
//!   without a fault some seven do.
//! - *wake-ups*: ticks of a 10 ms interval above those that the true time had room for, polls that
//!   found nothing, and wakes of the runtime's thread, and of deadbeat's own, that had nothing to do.

mod faults;
mod log;
mod plot;
mod reads;
mod report;
mod scenario;
mod systems;
mod truth;

pub(crate) use faults::Fault;
pub(crate) use log::Plan;
pub(crate) use scenario::run as run_child;
pub(crate) use systems::System;

use crate::boxinfo::BoxInfo;
use crate::draw::PlotFile;
use crate::interrupt;
use indicatif::{ProgressBar, ProgressStyle};
use scenario::{Outcome, Seen};
use std::env;
use std::error::Error;
use std::fs::File;
use std::io::{self, Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// What to do, and what to make of it.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) faults: Vec<Fault>,
    pub(crate) rounds: u32,
    /// Shorter, and with fewer timers.
    pub(crate) quick: bool,
    pub(crate) json: Option<Json>,
    pub(crate) plot: Option<PlotFile>,
    /// The panels of the plot.
    pub(crate) drawn: Vec<Fault>,
}

/// Where JSON goes.
#[derive(Debug)]
pub(crate) enum Json {
    /// To standard output, instead of the tables.
    Stdout,
    File(File),
}

/// What one fault did to each system.
#[derive(Debug)]
struct Row {
    fault: Fault,
    /// Why it couldn't be injected.
    skipped: Option<String>,
    systems: Vec<(System, Seen)>,
}

/// What the hidden command is called.
pub(crate) const CHILD: &str = "jumps-child";

/// Runs the matrix, and reports to standard output and the files asked for; after Ctrl-C, what there
/// is.
///
/// # Errors
///
/// A file or process that the system refuses.
pub(crate) fn run(mut settings: Settings) -> Result<(), Box<dyn Error>> {
    let info = BoxInfo::read();
    let rows = play(&settings)?;
    let mut out = io::stdout().lock();
    match settings.json.take() {
        Some(Json::Stdout) => report::write_json(&mut out, &rows)?,
        json => {
            report::write_tables(&mut out, &info, &settings, &rows)?;
            if let Some(Json::File(mut file)) = json {
                report::write_json(&mut file, &rows)?;
            }
        }
    }
    out.flush()?;
    if let Some(file) = &settings.plot {
        let drawn: Vec<_> = rows
            .iter()
            .filter(|row| settings.drawn.contains(&row.fault) && !row.systems.is_empty())
            .collect();
        if drawn.is_empty() {
            eprintln!("no plot: none of its faults was injected");
        } else {
            plot::draw(file, &info.to_string(), settings.plan(), &drawn)?;
            eprintln!("plot: {}", file.path().display());
        }
    }
    Ok(())
}

impl Settings {
    fn plan(&self) -> Plan {
        if self.quick { Plan::QUICK } else { Plan::FULL }
    }
}

/// Every fault, every system, round by round. Of a process that Ctrl-C cuts short there is nothing.
fn play(settings: &Settings) -> Result<Vec<Row>, Box<dyn Error>> {
    let turns = settings.faults.len() * System::ALL.len() * usize::try_from(settings.rounds)?;
    // Hidden unless standard error is a terminal.
    let progress = ProgressBar::new(turns as u64).with_style(
        ProgressStyle::with_template("{msg:36} {bar:32} {pos}/{len} runs, {eta} left")
            .expect("the template is valid"),
    );
    let mut rows: Vec<Row> = Vec::new();
    'all: for &fault in &settings.faults {
        rows.push(Row { fault, skipped: None, systems: Vec::new() });
        let row = rows.last_mut().expect("it was just pushed");
        'fault: for _ in 0..settings.rounds {
            for system in System::ALL {
                progress.set_message(format!("{}, {}", fault.name(), system.name()));
                match in_child(fault, system, settings)? {
                    None => break 'all,
                    Some(Outcome::Skipped(why)) => {
                        row.skipped = Some(why);
                        break 'fault;
                    }
                    Some(Outcome::Seen(seen)) => row.add(system, seen),
                }
                progress.inc(1);
            }
        }
    }
    progress.finish_and_clear();
    rows.retain(|row| row.skipped.is_some() || !row.systems.is_empty());
    Ok(rows)
}

impl Row {
    /// Adds a round of a system, of which the worst of each figure counts.
    fn add(&mut self, system: System, seen: Seen) {
        match self.systems.iter_mut().find(|(other, _)| *other == system) {
            Some((_, worst)) => worst.add(seen),
            None => self.systems.push((system, seen)),
        }
    }
}

impl Seen {
    fn add(&mut self, other: Self) {
        // Those that are drawn are of one round: the first.
        self.early = self.early.max(other.early);
        self.worst_late_us = self.worst_late_us.max(other.worst_late_us);
        self.frozen_us = self.frozen_us.max(other.frozen_us);
        self.is_frozen |= other.is_frozen;
        self.panicked |= other.panicked;
        self.burst = self.burst.max(other.burst);
        self.wakeups = self.wakeups.max(other.wakeups);
        self.unfired = self.unfired.max(other.unfired);
        self.reads = self.reads.take().or(other.reads);
        let classes = [self.class.take(), other.class];
        let mut kinds: Vec<&str> =
            classes.iter().flatten().flat_map(|class| class.split(", ")).collect();
        kinds.sort_unstable();
        kinds.dedup();
        self.class = (!kinds.is_empty()).then(|| kinds.join(", "));
    }
}

/// One run; `None` if it was interrupted.
fn in_child(
    fault: Fault,
    system: System,
    settings: &Settings,
) -> Result<Option<Outcome>, Box<dyn Error>> {
    let mut command = Command::new(env::current_exe()?);
    command.args([CHILD, fault.name(), system.name()]);
    if settings.quick {
        command.arg("--quick");
    }
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
    // It ends by itself before.
    let limit = settings.plan().limit + Duration::from_secs(20);
    let ended = wait(&mut child, limit);
    if !matches!(ended, Ok(Ended::ByItself)) {
        let _ = child.kill();
        child.wait()?;
    }
    let failed = |how: String| format!("{} under {}: {how}", system.name(), fault.name());
    match ended? {
        Ended::ByItself => {}
        Ended::Interrupted => return Ok(None),
        Ended::Late => return Err(failed(format!("it took longer than {limit:?}")).into()),
    }
    let mut text = String::new();
    child.stdout.take().expect("it is piped").read_to_string(&mut text)?;
    match serde_json::from_str(&text) {
        Ok(outcome) => Ok(Some(outcome)),
        // It ended without a word: what a panic is that takes the process with it.
        Err(_) if text.is_empty() && !child.wait()?.success() => {
            Ok(Some(Outcome::Seen(Seen { panicked: true, ..Seen::default() })))
        }
        Err(error) => Err(failed(error.to_string()).into()),
    }
}

enum Ended {
    ByItself,
    Interrupted,
    Late,
}

/// Waits for the child, whose outcome fits into the pipe.
fn wait(child: &mut Child, limit: Duration) -> io::Result<Ended> {
    let until_ns = truth::now_ns() + log::nanos(limit);
    loop {
        if child.try_wait()?.is_some() {
            return Ok(Ended::ByItself);
        }
        if interrupt::wait(Duration::from_millis(10)) {
            return Ok(Ended::Interrupted);
        }
        if truth::now_ns() > until_ns {
            return Ok(Ended::Late);
        }
    }
}
