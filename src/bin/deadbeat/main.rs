//! The `deadbeat` command: what a machine's clocks and timers are worth, measured on it.
//!
//! Results go to standard output and nothing else does; what is said beside them goes to standard
//! error. Exit status: 0 done, 1 failed, 2 a wrong argument, 130 interrupted.

mod args;
mod boxinfo;
mod clock;
mod demo;
mod draw;
mod interrupt;
mod jumps;
mod overload;
mod precision;

use args::Command;
use std::process::ExitCode;

// So that `deadbeat jumps` can deceive its children. While nothing is said, it costs the others a
// load and a branch.
#[cfg(target_os = "linux")]
deadbeat::faults::interpose!();

fn main() -> ExitCode {
    let command = args::parse();
    let outcome = interrupt::install().map_err(Into::into).and_then(|()| match command {
        Command::Precision(settings) => precision::run(*settings),
        Command::Clock(settings) => clock::run(&settings),
        Command::Jumps(settings) => jumps::run(*settings),
        Command::JumpsChild(fault, system, plan) => jumps::run_child(fault, system, plan),
        Command::Demo(settings) => demo::run(&settings),
        Command::Overload(settings) => overload::run(&settings),
        Command::DemoService(settings) => demo::run_service(&settings),
    });
    match outcome {
        Ok(()) if interrupt::raised() => ExitCode::from(interrupt::EXIT_STATUS),
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
