//! Servers that keep the deadlines of their calls themselves: for tonic's services, axum's and tower's.
//!
//! ```no_run
//! use axum::{Router, routing::get};
//! use deadbeat::serve::{Listener, Server};
//! use deadbeat::time::Duration;
//!
//! # async fn run() -> std::io::Result<()> {
//! let app = Router::new().route("/", get(async || "hello"));
//! let server = Server::http(app).listen(Listener::bind("[::]:8080")?);
//! let handle = server.handle();
//! let running = tokio::spawn(server.run());
//! tokio::signal::ctrl_c().await?;
//! handle.drain(Duration::from_secs(10));
//! running.await?
//! # }
//! ```
//!
#![doc = include_str!("../../docs/serve.md")]

mod backoff;
mod body;
mod config;
mod connection;
mod date;
mod detect;
mod entry;
mod handle;
mod http2;
mod keep_alive;
mod listener;
mod registry;
mod run;
mod served;
mod server;
mod stats;
mod stream;
#[cfg(feature = "tls")]
mod tls;
mod wire;

pub use body::Incoming;
pub use handle::Handle;
pub use listener::{Address, Listener, Peer};
pub use server::Server;
pub use stats::Stats;
/// What [`Listener::tls`] takes its config from.
#[cfg(feature = "tls")]
pub use tokio_rustls::rustls;
