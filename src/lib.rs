//! Timers and deadlines for Rust services.

pub mod clock;
pub mod wheel;
mod sync;
