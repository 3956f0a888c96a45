//! The command line. A wrong value is refused by name, with what is allowed, and exit status 2.
//!
//! That goes for values that begin with a hyphen, too (`--seed -1`), which clap would take for an
//! unknown flag. Not for `--csv`: any name is one for a file, so `--csv --json` should be refused.

use crate::clock;
use crate::demo;
use crate::draw::PlotFile;
use crate::jumps::{self, Fault, Json, System};
use crate::overload;
use crate::precision::{self, Flavor, Kind, Load, Phase, Plan};
use clap::error::ErrorKind;
use clap::{Args, CommandFactory, Parser, Subcommand};
use humantime::format_duration;
use std::fs::File;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// What the command was asked to do.
pub(crate) enum Command {
    /// `deadbeat precision`
    Precision(Box<precision::Settings>),
    /// `deadbeat clock`
    Clock(clock::Settings),
    /// `deadbeat jumps`
    Jumps(Box<jumps::Settings>),
    /// What `deadbeat jumps` runs in processes of their own.
    JumpsChild(Fault, System, jumps::Plan),
    /// `deadbeat demo`
    Demo(demo::Settings),
    /// `deadbeat overload`
    Overload(overload::Settings),
    /// What `deadbeat demo` runs in processes of their own.
    DemoService(demo::ServiceSettings),
}

/// Reads the command line; on a wrong one says so and ends the process with status 2.
pub(crate) fn parse() -> Command {
    match Cli::parse().command {
        Subcommands::Precision(args) => match args.resolve() {
            Ok(settings) => Command::Precision(Box::new(settings)),
            Err(message) => refuse("precision", ErrorKind::InvalidValue, &message),
        },
        Subcommands::Clock(args) => Command::Clock(clock::Settings {
            watch: args.watch.then_some(args.interval),
            json: args.json,
        }),
        Subcommands::Jumps(args) => match args.resolve() {
            Ok(settings) => Command::Jumps(Box::new(settings)),
            Err(message) => refuse("jumps", ErrorKind::InvalidValue, &message),
        },
        Subcommands::JumpsChild(JumpsChildArgs { fault, system, quick }) => {
            let plan = if quick { jumps::Plan::QUICK } else { jumps::Plan::FULL };
            Command::JumpsChild(fault, system, plan)
        }
        Subcommands::Demo(DemoArgs { budget, json }) => {
            Command::Demo(demo::Settings { budget: demo::Budget(budget), json })
        }
        Subcommands::Overload(args) => match args.resolve() {
            Ok(settings) => Command::Overload(settings),
            Err(message) => refuse("overload", ErrorKind::InvalidValue, &message),
        },
        Subcommands::DemoService(DemoServiceArgs { hop, side, budget, next, slots }) => {
            let budget = demo::Budget(budget);
            Command::DemoService(demo::ServiceSettings { hop, side, budget, next, slots })
        }
    }
}

fn refuse(subcommand: &str, kind: ErrorKind, message: &str) -> ! {
    let mut command = Cli::command();
    command.build();
    let command = command.find_subcommand_mut(subcommand).expect("it was just parsed");
    command.error(kind, message).exit()
}

/// Timers and clocks, measured on this machine.
#[derive(Debug, Parser)]
#[command(name = "deadbeat", version)]
struct Cli {
    #[command(subcommand)]
    command: Subcommands,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    /// Measures how late tasks run that asked to be woken at an instant
    ///
    /// Deadlines are fixed before each round, the systems take turns round by round, and every
    /// sample counts. Without options: under a minute, three tables, and a plot.
    Precision(PrecisionArgs),
    /// Shows which clock is read, how good it is, and what happened to it
    Clock(ClockArgs),
    /// Makes clocks jump, and shows what timers do
    ///
    /// For each fault and each system a process of its own, which alone is deceived: nothing is done
    /// to the machine's clocks. Without options: some minutes, a matrix, and a table for each fault.
    Jumps(JumpsArgs),
    #[command(name = jumps::CHILD, hide = true)]
    JumpsChild(JumpsChildArgs),
    /// Shows what deadlines that travel are worth
    ///
    /// Three services in processes of their own, and a client whose call goes through all of them: in time,
    /// too late, and too late with tonic's own timeouts, side by side; then more calls than one of them can do. Some
    /// ten seconds; traffic to loopback only.
    Demo(DemoArgs),
    /// Shows what a server gets done that is asked for more than it can do
    ///
    /// A server of gRPC with so many workers, and a client that calls at a rate of its own, over loopback: with
    /// tonic's timeouts alone, with its limit of concurrency, and with a limiter that knows deadlines and
    /// our own ends. Without options: about a minute, and a table; `--plot` draws it.
    Overload(OverloadArgs),
    #[command(name = demo::SERVICE, hide = true)]
    DemoService(DemoServiceArgs),
}

#[derive(Debug, Args)]
struct PrecisionArgs {
    #[arg(
        long, value_name = "LIST", value_delimiter = ',', default_value = Kind::DEFAULT,
        value_parser = systems, allow_hyphen_values = true, help = systems_help()
    )]
    systems: Vec<Selection>,

    /// How many tasks wait in a round
    #[arg(
        long, value_name = "N", default_value = "500", value_parser = tasks,
        allow_hyphen_values = true
    )]
    tasks: usize,

    /// How far ahead deadlines lie: 1us to 1h
    #[arg(
        long, value_name = "DURATION", default_value = "50ms", value_parser = timeout,
        allow_hyphen_values = true
    )]
    timeout: Duration,

    /// How many rounds each system gets, under each load
    #[arg(
        long, value_name = "N", default_value = "20", value_parser = rounds,
        allow_hyphen_values = true
    )]
    rounds: u32,

    /// How the deadlines of a round lie to each other
    #[arg(long, value_enum, default_value = "staggered", allow_hyphen_values = true)]
    phase: Phase,

    /// Which runtime the tasks run on
    #[arg(long, value_enum, default_value = "multi", allow_hyphen_values = true)]
    runtime: Flavor,

    /// What else goes on, one table each: idle, cpu=N busy threads, tasks=N busy tasks on the
    /// runtime, churn=RATE timeouts armed and cancelled a second [default: idle, cpu=<cores> and
    /// churn=100k]
    #[arg(
        long = "load", value_name = "LOAD", value_parser = str::parse::<Load>,
        allow_hyphen_values = true
    )]
    loads: Vec<Load>,

    /// How late a timer may be, where a system can be told: 0s to 1s
    #[arg(
        long, value_name = "DURATION", default_value = "0s", value_parser = slack,
        allow_hyphen_values = true
    )]
    slack: Duration,

    /// What the deadlines are drawn from
    #[arg(
        long, value_name = "N", default_value = "1", value_parser = seed,
        allow_hyphen_values = true
    )]
    seed: u64,

    /// Write JSON to standard output, instead of tables
    #[arg(long)]
    json: bool,

    /// Write every sample to this file
    #[arg(long, value_name = "FILE")]
    csv: Option<PathBuf>,

    /// Draw to this file, .svg or .png, or none
    #[arg(
        long, value_name = "FILE", default_value = "deadbeat-precision.svg", value_parser = plot,
        allow_hyphen_values = true
    )]
    plot: Plot,
}

#[derive(Debug, Args)]
struct ClockArgs {
    /// Show it again and again, until Ctrl-C
    #[arg(long)]
    watch: bool,

    /// Write JSON, an object a line
    #[arg(long)]
    json: bool,

    /// How often to show it: 10ms to 1day
    #[arg(
        long, value_name = "DURATION", default_value = "1s", requires = "watch",
        value_parser = interval, allow_hyphen_values = true
    )]
    interval: Duration,
}

#[derive(Debug, Args)]
struct JumpsArgs {
    #[arg(
        long = "fault", value_name = "LIST", value_delimiter = ',', value_parser = fault,
        allow_hyphen_values = true, help = fault_help()
    )]
    faults: Vec<Fault>,

    /// How often; of each figure the worst is shown
    #[arg(
        long, value_name = "N", default_value = "1", value_parser = jump_rounds,
        allow_hyphen_values = true
    )]
    rounds: u32,

    /// Two faults only, unless others are chosen, and a quarter of the time for each
    #[arg(long)]
    quick: bool,

    /// Write JSON to this file, or with - to standard output, instead of tables
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Draw when timers fired to this file, .svg or .png, or none
    #[arg(
        long, value_name = "FILE", default_value = "none", value_parser = plot,
        allow_hyphen_values = true
    )]
    plot: Plot,
}

#[derive(Debug, Args)]
struct JumpsChildArgs {
    #[arg(value_parser = fault)]
    fault: Fault,
    #[arg(value_parser = system)]
    system: System,
    #[arg(long)]
    quick: bool,
}

#[derive(Debug, Args)]
struct DemoArgs {
    /// How long the client waits for its answer, and everything else in proportion: 100ms to 10s
    #[arg(
        long, value_name = "DURATION", default_value = "500ms", value_parser = budget,
        allow_hyphen_values = true
    )]
    budget: Duration,

    /// Write JSON to standard output, instead of the story
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct OverloadArgs {
    /// What stands before the workers
    #[arg(
        long,
        value_name = "LIST",
        value_delimiter = ',',
        value_enum,
        allow_hyphen_values = true,
        default_value = "tonic,tonic-limit,deadbeat,deadbeat-newest"
    )]
    systems: Vec<overload::System>,

    /// How much is asked for, in multiples of the capacity: 0.1 to 10
    #[arg(
        long, value_name = "LIST", value_delimiter = ',', value_parser = load,
        default_value = "0.5,1,1.5,2,3,4", allow_hyphen_values = true
    )]
    loads: Vec<f64>,

    /// How many workers there are: 1 to 1000
    #[arg(
        long, value_name = "N", default_value = "16", value_parser = slots,
        allow_hyphen_values = true
    )]
    slots: usize,

    /// How long one is busy with a call: 1ms to 1s
    #[arg(
        long, value_name = "DURATION", default_value = "20ms", value_parser = service,
        allow_hyphen_values = true
    )]
    service: Duration,

    /// How long the client waits for an answer: 1ms to 10s
    #[arg(
        long, value_name = "DURATION", default_value = "200ms", value_parser = patience,
        allow_hyphen_values = true
    )]
    deadline: Duration,

    /// How long each load is measured: 100ms to 1h
    #[arg(
        long, value_name = "DURATION", default_value = "2s", value_parser = cell,
        allow_hyphen_values = true
    )]
    duration: Duration,

    /// What the random arrivals begin with
    #[arg(
        long, value_name = "N", default_value = "1", value_parser = seed,
        allow_hyphen_values = true
    )]
    seed: u64,

    /// Write JSON to standard output, instead of the table
    #[arg(long)]
    json: bool,

    /// Draw what was done in time of what was asked for to this file, .svg or .png, or none
    #[arg(
        long, value_name = "FILE", default_value = "none", value_parser = plot,
        allow_hyphen_values = true
    )]
    plot: Plot,
}

#[derive(Debug, Args)]
struct DemoServiceArgs {
    hop: demo::Hop,
    side: demo::Side,
    #[arg(long, value_parser = budget)]
    budget: Duration,
    #[arg(long)]
    next: u16,
    #[arg(long)]
    slots: Option<usize>,
}

/// A name in `--systems`.
#[derive(Clone, Copy, Debug)]
enum Selection {
    One(Kind),
    Floor,
}

/// A value of `--plot`.
#[derive(Clone, Debug)]
enum Plot {
    None,
    File(PlotFile),
}

/// More samples than this are more than a plot or a percentile needs, and more than memory has.
const MAX_SAMPLES: u64 = 50_000_000;

impl PrecisionArgs {
    fn resolve(self) -> Result<precision::Settings, String> {
        let mut kinds = Vec::new();
        for selection in &self.systems {
            let selected = match selection {
                Selection::One(kind) => std::slice::from_ref(kind),
                Selection::Floor => &[Kind::Kernel, Kind::KernelWake],
            };
            for &kind in selected {
                if !kind.runs_on(self.runtime) {
                    return Err(format!(
                        "invalid value '{}' for '--systems <LIST>': not with '--runtime {}', \
                         allowed: --runtime multi",
                        kind.name(),
                        self.runtime.name()
                    ));
                }
                if !kinds.contains(&kind) {
                    kinds.push(kind);
                }
            }
        }
        let mut loads = Vec::new();
        for load in self.loads {
            if !loads.contains(&load) {
                loads.push(load);
            }
        }
        if loads.is_empty() {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            loads = vec![Load::Idle, Load::Cpu(cores as u64), Load::Churn(100_000)];
        }
        let runs = (loads.len() * kinds.len()) as u64;
        let samples = (self.tasks as u64).saturating_mul(self.rounds.into()).saturating_mul(runs);
        if samples > MAX_SAMPLES {
            return Err(format!(
                "invalid value '{}' for '--rounds <N>': {samples} samples with '--tasks {}' and \
                 {runs} runs, allowed: {MAX_SAMPLES} in all",
                self.rounds, self.tasks
            ));
        }
        let plot = self.plot.resolve()?;
        let csv = self.csv.map(|path| create(&path, "--csv")).transpose()?;
        Ok(precision::Settings {
            kinds,
            plan: Plan {
                tasks: self.tasks,
                timeout: self.timeout,
                phase: self.phase,
                seed: self.seed,
            },
            rounds: self.rounds,
            flavor: self.runtime,
            loads,
            slack: self.slack,
            json: self.json,
            csv,
            plot,
        })
    }
}

impl OverloadArgs {
    fn resolve(self) -> Result<overload::Settings, String> {
        Ok(overload::Settings {
            systems: self.systems,
            loads: self.loads,
            slots: self.slots,
            service: self.service,
            deadline: self.deadline,
            duration: self.duration,
            seed: self.seed,
            json: self.json,
            plot: self.plot.resolve()?,
        })
    }
}

impl JumpsArgs {
    fn resolve(self) -> Result<jumps::Settings, String> {
        let chosen = |default: &[Fault]| {
            let mut chosen: Vec<Fault> = Vec::new();
            for &fault in if self.faults.is_empty() { default } else { &self.faults } {
                if !chosen.contains(&fault) {
                    chosen.push(fault);
                }
            }
            chosen
        };
        let all: &[Fault] = if self.quick { &Fault::QUICK } else { &Fault::ALL };
        Ok(jumps::Settings {
            faults: chosen(all),
            drawn: chosen(&Fault::DRAWN),
            rounds: self.rounds,
            quick: self.quick,
            plot: self.plot.resolve()?,
            json: match self.json {
                Some(path) if path.as_os_str() == "-" => Some(Json::Stdout),
                Some(path) => Some(Json::File(create(&path, "--json")?)),
                None => None,
            },
        })
    }
}

impl Plot {
    fn resolve(self) -> Result<Option<PlotFile>, String> {
        let Self::File(plot) = self else { return Ok(None) };
        let path = plot.path().display().to_string();
        check_directory(plot.path())
            .map_err(|error| format!("invalid value '{path}' for '--plot <FILE>': {error}"))?;
        Ok(Some(plot))
    }
}

fn create(path: &Path, flag: &str) -> Result<File, String> {
    File::create(path).map_err(|error| {
        format!(
            "invalid value '{}' for '{flag} <FILE>': {error}, allowed: a file that can be written",
            path.display()
        )
    })
}

/// Found out before the measurement, rather than after it.
fn check_directory(path: &Path) -> Result<(), String> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    if directory.is_dir() && !path.is_dir() {
        return Ok(());
    }
    Err(format!("allowed: a file in a directory that exists, and '{}' isn't", path.display()))
}

fn systems(text: &str) -> Result<Selection, String> {
    if text == Kind::FLOOR {
        return Ok(Selection::Floor);
    }
    Kind::ALL
        .iter()
        .find(|kind| kind.name() == text)
        .map(|&kind| Selection::One(kind))
        .ok_or_else(|| format!("allowed: {}", system_names()))
}

fn system_names() -> String {
    let mut names: Vec<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
    names.push(Kind::FLOOR);
    names.join(", ")
}

fn systems_help() -> String {
    format!(
        "What to measure, comma-separated: {}, which is both kernel and kernel+wake",
        system_names()
    )
}

fn fault(text: &str) -> Result<Fault, String> {
    Fault::named(text).ok_or_else(|| format!("allowed: {}", fault_names()))
}

fn fault_names() -> String {
    Fault::ALL.map(Fault::name).join(", ")
}

fn fault_help() -> String {
    format!(
        "What to do to the clocks, and to draw, comma-separated: {} [default: all, and drawn {}]",
        fault_names(),
        Fault::DRAWN.map(Fault::name).join(" and ")
    )
}

fn system(text: &str) -> Result<System, String> {
    System::named(text)
        .ok_or_else(|| format!("allowed: {}", System::ALL.map(System::name).join(", ")))
}

fn jump_rounds(text: &str) -> Result<u32, String> {
    u32::try_from(number(text, 1..=1_000)?).map_err(|error| error.to_string())
}

fn tasks(text: &str) -> Result<usize, String> {
    let tasks = number(text, 1..=100_000)?;
    usize::try_from(tasks).map_err(|error| error.to_string())
}

fn rounds(text: &str) -> Result<u32, String> {
    let rounds = number(text, 1..=1_000_000)?;
    u32::try_from(rounds).map_err(|error| error.to_string())
}

fn seed(text: &str) -> Result<u64, String> {
    number(text, 0..=u64::MAX)
}

fn number(text: &str, allowed: RangeInclusive<u64>) -> Result<u64, String> {
    text.parse().ok().filter(|number| allowed.contains(number)).ok_or_else(|| {
        format!("allowed: whole numbers from {} to {}", allowed.start(), allowed.end())
    })
}

fn timeout(text: &str) -> Result<Duration, String> {
    duration(text, Duration::from_micros(1)..=Duration::from_secs(3600))
}

fn slack(text: &str) -> Result<Duration, String> {
    duration(text, Duration::ZERO..=Duration::from_secs(1))
}

fn budget(text: &str) -> Result<Duration, String> {
    duration(text, Duration::from_millis(100)..=Duration::from_secs(10))
}

fn load(text: &str) -> Result<f64, String> {
    let load = text.parse().ok().filter(|load| (0.1..=10.0).contains(load));
    load.ok_or_else(|| "a number from 0.1 to 10 is allowed".into())
}

fn slots(text: &str) -> Result<usize, String> {
    number(text, 1..=1000).map(|slots| usize::try_from(slots).expect("a small number"))
}

fn service(text: &str) -> Result<Duration, String> {
    duration(text, Duration::from_millis(1)..=Duration::from_secs(1))
}

fn patience(text: &str) -> Result<Duration, String> {
    duration(text, Duration::from_millis(1)..=Duration::from_secs(10))
}

fn cell(text: &str) -> Result<Duration, String> {
    duration(text, Duration::from_millis(100)..=Duration::from_secs(3600))
}

fn interval(text: &str) -> Result<Duration, String> {
    duration(text, Duration::from_millis(10)..=Duration::from_secs(86_400))
}

fn duration(text: &str, allowed: RangeInclusive<Duration>) -> Result<Duration, String> {
    humantime::parse_duration(text).ok().filter(|value| allowed.contains(value)).ok_or_else(|| {
        format!(
            "allowed: {} to {}, written like 50ms",
            format_duration(*allowed.start()),
            format_duration(*allowed.end())
        )
    })
}

fn plot(text: &str) -> Result<Plot, String> {
    if text == "none" {
        return Ok(Plot::None);
    }
    PlotFile::new(text.into())
        .map(Plot::File)
        .ok_or_else(|| "allowed: a name that ends in .svg or .png, or none".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<precision::Settings, String> {
        let cli = Cli::try_parse_from(line.split_whitespace()).map_err(|e| e.to_string())?;
        match cli.command {
            Subcommands::Precision(args) => args.resolve(),
            _ => Err("another subcommand".into()),
        }
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn without_options_three_loads_are_measured_and_plotted() {
        let settings = parse("deadbeat precision").expect("no option is required");
        assert!(settings.kinds.contains(&Kind::Tokio));
        assert!(settings.kinds.ends_with(&[Kind::Kernel, Kind::KernelWake]));
        assert_eq!(settings.loads.len(), 3);
        assert!(settings.plot.is_some() && settings.csv.is_none() && !settings.json);
    }

    #[test]
    fn what_is_named_twice_is_measured_once() {
        let settings =
            parse("deadbeat precision --systems kernel,floor,kernel --load idle --load idle")
                .expect("repetition is harmless");
        assert_eq!(settings.kinds, [Kind::Kernel, Kind::KernelWake]);
        assert_eq!(settings.loads, [Load::Idle]);
    }

    #[test]
    fn more_samples_than_fit_are_refused() {
        let error = parse("deadbeat precision --tasks 100000 --rounds 1000000")
            .expect_err("a tenth of a terabyte");
        assert!(error.contains("--rounds") && error.contains("50000000"), "{error}");
    }
}
