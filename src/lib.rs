//! Timers and deadlines for Rust services.

pub mod clock;
mod driver;
#[cfg(feature = "hyper")]
pub mod rt;
mod sync;
pub mod time;
pub mod wheel;

pub use driver::{
    Advance, Builder, Callback, Entered, Fired, JoinHandle, Lateness, Manual, Scope, Stats,
    Timekeeper, block_on, sleep_until,
};
