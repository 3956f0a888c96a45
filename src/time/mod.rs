//! Waiting: `tokio::time`'s names and semantics, on the wheel.

pub mod error;
mod sleep;

pub use sleep::{Sleep, sleep, sleep_until};
pub use std::time::Duration;

/// A moment on the clock of the current [`Timekeeper`](crate::Timekeeper): `tokio::time::Instant`'s
/// methods, 8 bytes, saturating. See [`clock::Instant`](crate::clock::Instant).
pub type Instant = crate::clock::Instant<crate::clock::Active>;
