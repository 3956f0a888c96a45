//! Timers and deadlines for Rust services.

pub mod clock;
mod driver;
mod sync;
pub mod time;
pub mod wheel;

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub use driver::harness;
pub use driver::{
    Advance, Builder, Callback, Entered, Fired, JoinHandle, Lateness, Manual, Scope, Stats,
    Timekeeper, block_on, sleep_until,
};
