//! Deadlines that travel with a call.
//!
//! - [`codec`]: the headers that carry the remaining time, as bytes.
//! - [`blame`]: what services tell of where the time of a call went, as bytes.
//! - `http`, `grpc` (features of these names): tower layers for servers and clients.

#[cfg(feature = "http")]
pub(crate) mod account;
#[cfg(feature = "http")]
mod allowance;
pub mod blame;
#[cfg(feature = "http")]
pub(crate) mod body;
#[cfg(feature = "http")]
pub mod client;
pub mod codec;
#[cfg(feature = "http")]
pub(crate) mod dispatch;
#[cfg(all(feature = "http", feature = "tasks"))]
mod finish;
#[cfg(feature = "http")]
mod framing;
#[cfg(feature = "grpc")]
pub mod grpc;
#[cfg(all(feature = "http", any(test, fuzzing)))]
#[doc(hidden)]
pub mod harness;
#[cfg(feature = "http")]
pub mod http;
#[cfg(feature = "http")]
mod pace;
#[cfg(feature = "http")]
mod policy;
#[cfg(feature = "http")]
pub(crate) mod protocol;
#[cfg(feature = "http")]
mod request;
#[cfg(feature = "http")]
pub mod server;
#[cfg(feature = "http")]
mod stats;

#[cfg(feature = "http")]
pub use allowance::{Allowance, Rtt};
#[cfg(feature = "http")]
pub use body::RequestBody;
#[cfg(feature = "http")]
pub use policy::Settings;
#[cfg(feature = "http")]
pub use protocol::Protocol;
#[cfg(feature = "http")]
pub use request::RequestDeadline;
#[cfg(feature = "http")]
pub use stats::{Stats, Switch};
