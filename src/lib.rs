//! Timers and deadlines for Rust services.

pub mod clock;
mod sync;
pub mod wheel;
