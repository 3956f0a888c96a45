//! The list of figures, and how they are run.

mod burst;
mod load;
mod memory;

use std::{
    env,
    io::{self, Write},
    process::{Command, ExitCode, Stdio},
};

use crate::support::{
    System, is_test,
    systems::{AsyncIo, Deadbeat, Pingora, Tokio},
};

struct Figure {
    name: &'static str,
    unit: &'static str,
    decimals: usize,
    /// Ours first.
    systems: &'static [Contender],
}

/// Its name, and how it is measured.
type Contender = (&'static str, fn() -> Measured);

/// What one system has come to.
struct Measured {
    value: f64,
    /// What explains it, in few words.
    note: String,
}

impl Measured {
    fn new(value: f64, note: impl Into<String>) -> Self {
        Self { value, note: note.into() }
    }
}

const FIGURES: &[Figure] = &[
    Figure {
        name: "rss_cancelled_here",
        unit: "MiB",
        decimals: 2,
        systems: &[
            (Deadbeat::NAME, memory::cancelled_here::<Deadbeat>),
            (Tokio::NAME, memory::cancelled_here::<Tokio>),
            (AsyncIo::NAME, memory::cancelled_here::<AsyncIo>),
            (Pingora::NAME, memory::cancelled_here::<Pingora>),
        ],
    },
    Figure {
        name: "rss_cancelled_there",
        unit: "MiB",
        decimals: 2,
        systems: &[
            (Deadbeat::NAME, memory::cancelled_there::<Deadbeat>),
            (Tokio::NAME, memory::cancelled_there::<Tokio>),
            (AsyncIo::NAME, memory::cancelled_there::<AsyncIo>),
            (Pingora::NAME, memory::cancelled_there::<Pingora>),
        ],
    },
    Figure {
        name: "driver_wakes",
        unit: "per second",
        decimals: 2,
        systems: &[
            (Deadbeat::NAME, load::deadbeat_wakes),
            (Tokio::NAME, load::wakes::<Tokio>),
            (AsyncIo::NAME, load::wakes::<AsyncIo>),
            (Pingora::NAME, load::wakes::<Pingora>),
        ],
    },
    Figure {
        name: "sleepers_cpu",
        unit: "ms per second",
        decimals: 0,
        systems: &[
            (Deadbeat::NAME, load::sleepers_deadbeat),
            ("with 50 µs slack", load::sleepers_slack),
            ("kernel", load::sleepers_kernel),
            (Tokio::NAME, load::sleepers_tokio),
        ],
    },
    Figure {
        name: "bytes_per_timer",
        unit: "bytes",
        decimals: 1,
        systems: &[
            (Deadbeat::NAME, memory::bytes_deadbeat),
            (Tokio::NAME, memory::bytes_tokio),
            (AsyncIo::NAME, memory::bytes_async_io),
            (Pingora::NAME, memory::bytes_pingora),
        ],
    },
    Figure {
        name: "storm",
        unit: "µs late, p99.9",
        decimals: 0,
        systems: &[
            (Deadbeat::NAME, burst::storm::<Deadbeat>),
            (Tokio::NAME, burst::storm::<Tokio>),
        ],
    },
    Figure {
        name: "expiry_real",
        unit: "ns",
        decimals: 1,
        systems: &[
            (Deadbeat::NAME, burst::expiry::<Deadbeat>),
            (Tokio::NAME, burst::expiry::<Tokio>),
            (AsyncIo::NAME, burst::expiry::<AsyncIo>),
        ],
    },
];

/// Says to a process that it is the one to measure: a figure and a system follow.
const CHILD: &str = "--measure";

pub(crate) fn main() -> ExitCode {
    let args: Vec<String> = env::args().skip(1).collect();
    if let Some(child) = args.iter().position(|arg| arg == CHILD) {
        return measure(&args[child + 1], &args[child + 2]);
    }
    let names: Vec<&String> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    if let Some(unknown) = names.iter().find(|name| !FIGURES.iter().any(|it| it.name == **name)) {
        let known: Vec<_> = FIGURES.iter().map(|figure| figure.name).collect();
        eprintln!("no figure is called {unknown}; there are {}", known.join(", "));
        return ExitCode::FAILURE;
    }
    let mut exit = ExitCode::SUCCESS;
    for figure in FIGURES {
        if names.is_empty() || names.iter().any(|name| *name == figure.name) {
            match figure.line() {
                Ok(line) => println!("{line}"),
                Err(error) => {
                    println!("{}: not measured ({error})", figure.name);
                    exit = ExitCode::FAILURE;
                }
            }
            let _ = io::stdout().flush();
        }
    }
    exit
}

/// Measures in this process, and tells the parent.
fn measure(figure: &str, system: &str) -> ExitCode {
    let measure = FIGURES
        .iter()
        .filter(|it| it.name == figure)
        .flat_map(|it| it.systems)
        .find(|(name, _)| *name == system);
    let Some((_, measure)) = measure else { return ExitCode::FAILURE };
    let Measured { value, note } = measure();
    println!("{value} {note}");
    ExitCode::SUCCESS
}

impl Figure {
    /// Measures each system in a process of its own.
    ///
    /// # Errors
    ///
    /// One of them failed.
    fn line(&self) -> Result<String, String> {
        let mut line = format!("{}: ", self.name);
        for (index, (system, _)) in self.systems.iter().enumerate() {
            let Measured { value, note } =
                self.run(system).map_err(|error| format!("{system}: {error}"))?;
            let value = format!("{value:.*}", self.decimals);
            line += &match index {
                0 => format!("{value} {} ({note}", self.unit),
                1 => format!(" | {system} {value}: {note}"),
                _ => format!("; {system} {value}: {note}"),
            };
        }
        Ok(line + ")")
    }

    fn run(&self, system: &str) -> Result<Measured, String> {
        let this = env::current_exe().map_err(|error| error.to_string())?;
        let mut child = Command::new(this);
        child.args([if is_test() { "--test" } else { "--bench" }, CHILD, self.name, system]);
        let output = child.stderr(Stdio::inherit()).output().map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout);
        let (value, note) = text.trim_end().split_once(' ').ok_or("it failed")?;
        let value = value.parse().map_err(|_| format!("it said {text:?}"))?;
        Ok(Measured::new(value, note))
    }
}

/// A size, or what is enough to show that it works.
fn size(full: usize, test: usize) -> usize {
    if is_test() { test } else { full }
}
