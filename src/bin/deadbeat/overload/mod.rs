//! `deadbeat overload`: what a server gets done that is asked for more than it can do.
//!
//! A server of gRPC, with so many workers that each take so long for a call, on a thread of its own; and a client
//! that calls it over loopback at a rate that doesn't depend on the answers, and waits for each until its deadline.
//! Client and server are tonic's, with a timeout, or our own: `channel::Channel` and `serve::Server`.

mod load;
mod plot;
mod report;
mod server;

use crate::boxinfo::BoxInfo;
use crate::draw::PlotFile;
use crate::interrupt;
use load::Outcome;
use server::Serving;
use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::time::Duration;

/// What to do.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) systems: Vec<System>,
    /// In multiples of the capacity.
    pub(crate) loads: Vec<f64>,
    pub(crate) slots: usize,
    pub(crate) service: Duration,
    pub(crate) deadline: Duration,
    /// Of a cell: what is counted. A quarter as long goes before.
    pub(crate) duration: Duration,
    pub(crate) seed: u64,
    pub(crate) json: bool,
    pub(crate) plot: Option<PlotFile>,
}

impl Settings {
    /// Calls a second.
    fn capacity(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a small number")]
        let slots = self.slots as f64;
        slots / self.service.as_secs_f64()
    }
}

/// What stands before the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum System {
    /// Nothing: tonic's timeouts alone
    Tonic,
    /// tonic's limit of concurrency
    TonicLimit,
    /// A limiter that knows deadlines, and our own client and server
    Deadbeat,
    /// The same, the newest first
    DeadbeatNewest,
}

impl System {
    fn name(self) -> &'static str {
        match self {
            Self::Tonic => "tonic",
            Self::TonicLimit => "tonic-limit",
            Self::Deadbeat => "deadbeat",
            Self::DeadbeatNewest => "deadbeat-newest",
        }
    }
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A cell.
#[derive(Debug)]
struct Run {
    system: System,
    /// Calls a second.
    offered: f64,
    outcome: Outcome,
}

/// Runs all cells, and tells of them; after Ctrl-C, of those that were.
///
/// # Errors
///
/// A port or thread that the system refuses, a server that can't be reached, a plot that can't be written.
pub(crate) fn run(settings: &Settings) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut out = io::stdout().lock();
    let mut runs = Vec::new();
    if !settings.json {
        report::head(&mut out, settings)?;
    }
    'all: for &system in &settings.systems {
        for &load in &settings.loads {
            if interrupt::raised() {
                break 'all;
            }
            let offered = settings.capacity() * load;
            // Each has a server of its own, which has learned nothing yet.
            let serving = Serving::start(system, settings)?;
            let outcome = runtime.block_on(load::drive(&serving, system, settings, offered))?;
            let run = Run { system, offered, outcome };
            if !settings.json {
                report::row(&mut out, settings, &run)?;
            }
            runs.push(run);
        }
    }
    if settings.json {
        report::json(&mut out, settings, &runs)?;
    }
    out.flush()?;
    if let Some(file) = &settings.plot {
        if runs.is_empty() {
            eprintln!("no plot: no load was finished");
        } else {
            plot::draw(file, &BoxInfo::read().to_string(), settings, &runs)?;
            eprintln!("plot: {}", file.path().display());
        }
    }
    Ok(())
}
