//! What one system does while one fault happens, in a process of their own.

use super::faults::{Fault, Injector};
use super::log::{Log, Plan, nanos};
use super::reads;
use super::systems::System;
use super::truth;
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;
use std::{io, panic, process, thread};

/// What became of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) enum Outcome {
    /// The fault couldn't be injected: why.
    Skipped(String),
    Seen(Seen),
}

/// What one system did. `None` where it has no such thing.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Seen {
    pub(super) early: Option<u64>,
    pub(super) worst_late_us: Option<i64>,
    pub(super) frozen_us: u64,
    /// Whether it was in the end.
    pub(super) is_frozen: bool,
    pub(super) panicked: bool,
    pub(super) burst: Option<u64>,
    pub(super) wakeups: Option<u64>,
    /// What it says that it was.
    pub(super) class: Option<String>,
    /// What its reads did.
    pub(super) reads: Option<String>,
    /// How many timers hadn't fired in the end.
    pub(super) unfired: usize,
    /// When the fault happened, and each timer was due and fired, from the start on.
    pub(super) fault_us: i64,
    pub(super) fires_us: Vec<(i64, i64)>,
}

/// Runs it in this process, and writes the outcome to standard output as JSON. Ends the process.
///
/// # Errors
///
/// Standard output's, or what the system refuses.
pub(crate) fn run(fault: Fault, system: System, plan: Plan) -> Result<(), Box<dyn Error>> {
    let outcome = play(fault, system, plan)?;
    serde_json::to_writer(io::stdout().lock(), &outcome)?;
    // Threads of the scenario go on.
    process::exit(0);
}

fn play(fault: Fault, system: System, plan: Plan) -> io::Result<Outcome> {
    static PANICS: AtomicU64 = AtomicU64::new(0);
    static IS_OVER: AtomicBool = AtomicBool::new(false);
    static IS_FROZEN: AtomicBool = AtomicBool::new(false);
    panic::set_hook(Box::new(|_| {
        // Ordering: SeqCst, as below: nothing here is in a hurry.
        PANICS.fetch_add(1, SeqCst);
    }));
    system.calibrate();
    let injector = match Injector::new(fault) {
        Ok(injector) => injector,
        Err(lacking) => return Ok(Outcome::Skipped(lacking)),
    };
    let log: &Log = Box::leak(Box::new(Log::new(plan, system.has_timers())));
    system.start(log)?;
    let start_ns = loop {
        match log.start_ns() {
            Some(start_ns) => break start_ns,
            None => truth::nap(Duration::from_millis(1)),
        }
    };
    // It is Ordering::SeqCst throughout: nothing here is in a hurry.
    let reader = system.reader();
    let reader = thread::Builder::new().name("reader".into()).spawn(|| {
        reads::watch(reader, |is_frozen| {
            IS_FROZEN.store(is_frozen, SeqCst);
            IS_OVER.load(SeqCst)
        })
    })?;
    let at = move |offset: Duration| start_ns + nanos(offset);
    let fault_at_ns = thread::Builder::new().name("fault".into()).spawn(move || {
        truth::sleep_until(at(plan.fault_at));
        let now_ns = truth::now_ns();
        injector.inject(at(plan.last)).map(|()| now_ns).map_err(|lacking| lacking.to_string())
    })?;

    truth::sleep_until(at(plan.end));
    while (!log.is_over() || IS_FROZEN.load(SeqCst)) && truth::now_ns() < at(plan.limit) {
        truth::nap(Duration::from_millis(5));
    }
    // The figures first: what comes now takes its time.
    let has_timers = system.has_timers();
    let mut seen = Seen {
        early: has_timers.then(|| log.early()),
        worst_late_us: has_timers.then(|| log.worst_late_ns() / 1_000),
        burst: has_timers.then(|| log.burst()),
        wakeups: has_timers.then(|| log.wakeups()),
        unfired: log.fires().filter(|fire| fire.fired_ns.is_none()).count(),
        ..Seen::default()
    };
    IS_OVER.store(true, SeqCst);
    match fault_at_ns.join() {
        Ok(Ok(at_ns)) => seen.fault_us = micros(at_ns.saturating_sub(start_ns)),
        Ok(Err(lacking)) => return Ok(Outcome::Skipped(lacking)),
        Err(_) => return Ok(Outcome::Skipped("the injector panicked".into())),
    }
    if let Ok(reads) = reader.join() {
        seen.frozen_us = reads.frozen_ns / 1_000;
        seen.is_frozen = reads.is_frozen;
        seen.reads = reads.verdict();
    }
    let (class, spurious_wakes) = system.account();
    seen.class = class;
    seen.wakeups = seen.wakeups.map(|wakeups| wakeups + spurious_wakes);
    seen.panicked = PANICS.load(SeqCst) > 0;
    seen.fires_us = log
        .fires()
        .filter_map(|fire| Some((micros(fire.due_ns), fire.fired_ns? / 1_000)))
        .collect();
    Ok(Outcome::Seen(seen))
}

fn micros(ns: u64) -> i64 {
    i64::try_from(ns / 1_000).unwrap_or(i64::MAX)
}
