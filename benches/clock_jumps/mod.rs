//! The rows, and how they are run.

mod cost;
mod million;
mod strobe;

use std::{
    env,
    io::{self, Write},
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use criterion::Criterion;
use deadbeat::{clock::Witness, faults::kernel};
use rustix::time::{ClockId, clock_gettime};

use crate::support::{is_test, os};

/// Of everything that is random here.
const SEED: u64 = 1;

/// One that isn't a time per operation.
struct Figure {
    name: &'static str,
    /// Runs the cases and puts the line together.
    line: fn() -> Result<String, Failed>,
    /// Runs one case, in a process of its own.
    measure: fn(&str) -> Result<Measured, Failed>,
}

const FIGURES: &[Figure] = &[
    Figure { name: "strobe", line: strobe::line, measure: strobe::measure },
    Figure { name: "million", line: million::line, measure: million::measure },
];

/// What one run has come to.
#[derive(Clone, Debug)]
struct Measured {
    values: [f64; 2],
    /// What explains them, in few words.
    note: String,
}

/// Why there is no figure.
#[derive(Debug)]
enum Failed {
    /// It can't be done here.
    Skipped(String),
    Broken(String),
}

/// Says to a process that it is the one to measure: a figure and a case follow.
const CHILD: &str = "--measure";

pub(crate) fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    if let Some(child) = args.iter().position(|arg| arg == CHILD) {
        return measure(&args[child + 1], &args[child + 2]);
    }
    let mut criterion = Criterion::default().configure_from_args();
    cost::all(&mut criterion);
    criterion.final_summary();

    let filters: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    let wanted = |name: &str| filters.is_empty() || filters.iter().any(|it| name.contains(*it));
    let mut exit = ExitCode::SUCCESS;
    for figure in FIGURES.iter().filter(|figure| wanted(figure.name)) {
        match (figure.line)() {
            Ok(line) => println!("{}: {line}; seed {SEED}", figure.name),
            Err(Failed::Skipped(why)) => println!("{}: skipped ({why})", figure.name),
            Err(Failed::Broken(why)) => {
                println!("{}: not measured ({why})", figure.name);
                exit = ExitCode::FAILURE;
            }
        }
        let _ = io::stdout().flush();
    }
    exit
}

/// Measures in this process, and tells the parent.
fn measure(figure: &str, case: &str) -> ExitCode {
    let Some(figure) = FIGURES.iter().find(|it| it.name == figure) else {
        return ExitCode::FAILURE;
    };
    match (figure.measure)(case) {
        Ok(Measured { values: [a, b], note }) => println!("{MEASURED} {a} {b} {note}"),
        Err(Failed::Skipped(why)) => println!("{SKIPPED} {why}"),
        Err(Failed::Broken(why)) => {
            eprintln!("{why}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

const MEASURED: &str = "measured";
const SKIPPED: &str = "skipped";

/// Has a case measured in a process of its own.
fn run(figure: &str, case: &str) -> Result<Measured, Failed> {
    let broken = |why: String| Failed::Broken(format!("{case}: {why}"));
    let this = env::current_exe().map_err(|error| broken(error.to_string()))?;
    let mut child = Command::new(this);
    child.args([if is_test() { "--test" } else { "--bench" }, CHILD, figure, case]);
    let output = child.stderr(Stdio::inherit()).output();
    let output = output.map_err(|error| broken(error.to_string()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let said = || broken(format!("{}, and said {text:?}", output.status));
    match text.trim_end().split_once(' ').ok_or_else(said)? {
        (MEASURED, rest) => {
            let mut words = rest.splitn(3, ' ');
            let mut value = || words.next()?.parse().ok();
            let values = [value().ok_or_else(said)?, value().ok_or_else(said)?];
            Ok(Measured { values, note: words.next().unwrap_or_default().to_owned() })
        }
        (SKIPPED, why) => Err(Failed::Skipped(why.to_owned())),
        _ => Err(said()),
    }
}

/// The judge's clock: `CLOCK_MONOTONIC` without the C library, so nobody deceives it.
fn now() -> Duration {
    let time = clock_gettime(ClockId::Monotonic);
    Duration::new(
        time.tv_sec.try_into().expect("not negative"),
        time.tv_nsec.try_into().expect("less than a second"),
    )
}

/// Lets true time pass, if there is any left.
fn wait_until(moment: Duration) {
    let left = moment.saturating_sub(now());
    if left > Duration::ZERO {
        os::pass(left);
    }
}

/// Makes `CLOCK_MONOTONIC` jump, as everybody but the judge sees it.
fn jump(ns: i64) -> Result<(), Failed> {
    let before = now();
    kernel::jump(Witness::Monotonic, ns).map_err(|why| Failed::Skipped(why.to_string()))?;
    let passed = now().saturating_sub(before);
    if ns.unsigned_abs() > 1_000_000_000 && passed >= Duration::from_nanos(ns.unsigned_abs()) {
        return Err(Failed::Skipped("the judge's clock jumps, too".into()));
    }
    Ok(())
}

/// A size, or what is enough to show that it works.
fn size(full: usize, test: usize) -> usize {
    if is_test() { test } else { full }
}
