//! Waiting: `tokio::time`'s names and semantics, on the wheel.
//!
//! What tokio spreads over three crates is here in one place: [`sleep`](sleep()), [`timeout`](timeout())
//! and [`interval`](interval()) of `tokio::time`, [`DelayQueue`] and [`FutureExt`] of `tokio-util`,
//! [`StreamExt`] of `tokio-stream`; and [`IdleTimer`], which is ours. To migrate is to change the
//! import; what differs is listed in `docs/migrating-from-tokio.md`.
//!
//! # What holds for all of them
//!
//! - **Any executor.** They wait through [`Waker`](std::task::Waker)s and need no runtime context.
//! - **Bound when created.** Each is on the [`Timekeeper`](crate::Timekeeper) that is current where it
//!   is created, and stays on it wherever it is polled.
//! - **Lazy.** Nothing is armed before the first poll that returns `Pending`.
//! - **Never early, never rounded.** Deadlines are exact to the nanosecond.
//! - **All durations are valid.** Arithmetic saturates: what lies beyond the end of time, 584 years
//!   after boot, is [`Instant::FAR_FUTURE`], and never comes. A deadline that has passed is due at once.
//! - **Fused or defined.** What a poll after completion does is documented at each.
//! - **Shutdown is an error, not an expiry.** After [`Timekeeper::shutdown`](crate::Timekeeper::shutdown)
//!   a deadline that has not come panics when polled, as in tokio; the `try_poll` twins return
//!   [`TimekeeperStopped`](error::TimekeeperStopped).

pub mod delay_queue;
pub mod error;
mod future_ext;
mod idle;
mod interval;
mod running;
mod sleep;
pub mod stream;
mod timeout;

#[cfg(any(test, fuzzing))]
pub mod harness;

pub use delay_queue::DelayQueue;
pub use future_ext::FutureExt;
pub use idle::IdleTimer;
pub use interval::{Interval, MissedTickBehavior, interval, interval_at};
pub use running::{SleepRunning, TimeoutRunning, sleep_running, timeout_running};
pub use sleep::{Sleep, sleep, sleep_until};
pub use std::time::Duration;
pub use stream::StreamExt;
pub use timeout::{Timeout, timeout, timeout_at};

/// A moment on the clock of the current [`Timekeeper`](crate::Timekeeper): `tokio::time::Instant`'s
/// methods, 8 bytes, saturating. See [`clock::Instant`](crate::clock::Instant).
pub type Instant = crate::clock::Instant<crate::clock::Active>;

/// For assertions at compile time: timers go to any thread, and need no pinning of their own.
const fn plain<T: Send + Sync + Unpin>() {}

// The guide's code blocks are tests.
#[cfg(doctest)]
#[doc = include_str!("../../docs/migrating-from-tokio.md")]
mod migrating_from_tokio {}
