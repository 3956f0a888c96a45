//! The thread that waits, and those who arm it.
#![expect(unsafe_code, reason = "nodes are shared between their owner and the driver by protocol")]

mod block;
mod callback;
mod core;
mod engine;
mod executor;
mod fork;
mod handle;
#[cfg(any(test, fuzzing))]
pub mod harness;
mod inbox;
mod local;
mod manual;
#[cfg(all(test, deadbeat_loom))]
mod models;
mod node;
mod park;
mod pool;
mod shard;
#[cfg(all(test, deadbeat_shuttle))]
mod shuttled;
mod spin;
mod stats;
#[cfg(all(test, not(any(deadbeat_loom, deadbeat_shuttle))))]
#[allow(unsafe_code, reason = "arms by hand")]
mod storm_tests;
mod sys;
mod thread;
mod timekeeper;
mod timer;

pub use block::{block_on, sleep_until};
pub use callback::Callback;
pub use executor::JoinHandle;
pub use manual::{Advance, Fired, Manual};
pub use stats::{Lateness, Stats};
pub use timekeeper::{Builder, Entered, Scope, Timekeeper};

pub(crate) use core::Stopped;
pub(crate) use handle::Handle;
#[cfg(all(
    feature = "faults",
    target_os = "linux",
    not(any(deadbeat_loom, deadbeat_shuttle))
))]
pub(crate) use sys::with_signals_blocked;
pub(crate) use timekeeper::{current, with_current_clock};
pub(crate) use timer::Timer;
