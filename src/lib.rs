//! Timers for Rust services: the API of `tokio::time`, precise to the kernel's floor, and cheap
//! enough to put around every call.
//!
//! ```
//! use deadbeat::time::{Duration, sleep};
//!
//! # deadbeat::Manual::new().block_on(async {
//! sleep(Duration::from_micros(200)).await;
//! # });
//! ```
//!
//! # What is where
//!
//! - [`time`]: `sleep`, `timeout`, `interval`, `DelayQueue` and their kin, with tokio's names and
//!   semantics, on any executor.
//! - [`deadline`]: one deadline for a whole call, current for everything that is done for it.
//! - [`propagation`]: the headers in which it travels, and layers for servers and clients.
//! - `channel` (feature `channel`): the connection of a client, which keeps what a layer can't.
//! - `limit` (feature `http`): a queue that knows deadlines, for a server under overload.
//! - [`Timekeeper`]: which clock and which driver thread timers are on. There is a global one, so most
//!   programs never name it. [`Manual`] is one for tests, whose time is moved by hand.
//! - [`clock`]: what time it is, and how well that is known.
//! - [`wheel`]: the timer wheel by itself, for event loops of one's own.
//! - `rt` (feature `hyper`): hyper's timers on the wheel.
//! - `serve` (feature `serve`): servers that keep the deadlines of their calls themselves.
//! - `faults` (feature `faults`): clocks that lie, for tests.
//!
//! Without executor: [`Timekeeper::call_at`], [`sleep_until`], [`block_on`].
//!
//! # Guarantees
//!
//! - A timer never completes before its deadline, as read on its Timekeeper's clock and on
//!   CLOCK_MONOTONIC (made up for what that has lost, should it ever go back against its promise).
//! - Every armed timer fires once, or is cancelled, or its Timekeeper is shut down.
//! - Clock steps, slews, suspensions, restores, stalls and counter faults fire nothing early, freeze
//!   nothing and start no storm; each is classified and counted ([`clock::JumpKind`]).
//! - The clock never goes back; no arithmetic of [`time::Instant`] panics or wraps.
//! - Cancelling takes no lock, makes no system call, and wakes nobody.
//! - Memory is proportional to the peak of live timers.
//! - There is no periodic tick, and at most one spurious wake for each time that the driver has
//!   announced.
//! - Wakers, callbacks and drops of user data run outside locks; one that panics is caught and
//!   counted.
//!
//! # What it is not
//!
//! No wall clock, no calendar, no cron: deadlines are on a monotonic clock. No executor (but
//! for tests). No real-time guarantee: how late a timer is, is up to the kernel's scheduler and to the
//! executor; `deadbeat precision` measures it.
//!
//! # Features
//!
//! None are on by default.
//!
//! - `hyper`: `rt::HyperTimer`. Brings `hyper` without its default features.
//! - `tasks`: tasks that inherit a deadline, tasks that outlive it, and cancellation with a cause. Brings
//!   `tokio` and `tokio-util`, with next to nothing of them.
//! - `http`: `propagation::http`, tower layers that keep and pass on the deadlines of HTTP calls. Brings
//!   `http`, `http-body`, `bytes` and tower's two traits.
//! - `grpc`: `propagation::grpc`, the same for gRPC. Brings `http`, and `tonic` without its default features.
//! - `channel`: connections of clients, over HTTP/2. Brings `http`, `h2`, `tokio`, and of `hyper-util` the connector.
//! - `serve`: the `serve` module: listeners and connections of HTTP/1 and HTTP/2, for tonic's services, axum's
//!   and tower's. Brings `http`, `hyper`, `hyper-util` and `tokio` with its sockets.
//! - `tls`: TLS for those two, by rustls. Brings `tokio-rustls` with `ring`.
//! - `axum`: the deadline of a request as an extractor. Brings `http` and `axum-core`.
//! - `metrics`, `tracing`: what the layers see, told to the crates of these names.
//! - `cli`: the `deadbeat` command. Brings what that needs, of the library `tasks`, `http`, `grpc`, `axum` and
//!   `faults`.
//! - `faults`: the `faults` module, on Linux. For tests. Brings no dependency.
//!
//! # Platforms
//!
//! Linux on x86-64 first. Elsewhere, `cfg` chooses the OS clock and portable parking, with the same
//! guarantees and the platform's precision.

#[cfg(feature = "channel")]
pub mod channel;
pub mod clock;
#[cfg(all(test, not(any(deadbeat_loom, deadbeat_shuttle))))]
mod corpus;
pub mod deadline;
mod driver;
#[cfg(all(feature = "faults", target_os = "linux", not(any(deadbeat_loom, deadbeat_shuttle))))]
pub mod faults;
#[cfg(any(feature = "channel", feature = "serve"))]
mod hop;
#[cfg(feature = "http")]
pub mod limit;
pub mod propagation;
#[cfg(feature = "hyper")]
pub mod rt;
#[cfg(feature = "serve")]
pub mod serve;
mod sync;
#[cfg(feature = "http")]
mod telemetry;
pub mod time;
pub mod wheel;

#[cfg(feature = "tasks")]
pub use deadline::tasks::{spawn, spawn_blocking};
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub use driver::harness;
pub use driver::{
    Advance, Builder, Callback, Entered, Fired, JoinHandle, JumpHook, Lateness, Manual, Scope,
    Stats, Timekeeper, block_on, sleep_until,
};

/// The code in README and docs, compiled and run as tests.
#[cfg(doctest)]
mod docs {
    #[cfg(feature = "grpc")]
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/architecture.md")]
    struct Architecture;
    #[doc = include_str!("../docs/wheel.md")]
    struct Wheel;
    #[doc = include_str!("../docs/driver.md")]
    struct Driver;
    #[doc = include_str!("../docs/clock-jumps.md")]
    struct ClockJumps;
    #[cfg(all(feature = "channel", feature = "grpc"))]
    #[doc = include_str!("../docs/channel.md")]
    struct Channel;
    #[cfg(all(feature = "http", feature = "tasks"))]
    #[doc = include_str!("../docs/deadlines.md")]
    struct Deadlines;
    #[cfg(feature = "grpc")]
    #[doc = include_str!("../docs/replacing-timeouts.md")]
    struct ReplacingTimeouts;
    #[cfg(feature = "grpc")]
    #[doc = include_str!("../docs/overload.md")]
    struct Overload;
    #[cfg(feature = "grpc")]
    #[doc = include_str!("../docs/propagating-deadlines.md")]
    struct PropagatingDeadlines;
}
