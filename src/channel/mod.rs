//! The connection of a client, as a tower service: it keeps every deadline, from the look-up of a name to
//! the last trailer.
//!
//! ```no_run
//! use deadbeat::channel::Channel;
//! use deadbeat::propagation::grpc::{ClientLayer, Grpc};
//! use deadbeat::time::Duration;
//!
//! # fn run() -> Result<(), deadbeat::channel::Error> {
//! // For the client that was generated: `GreeterClient::new(channel)`.
//! let channel = Channel::<Grpc>::builder("http://127.0.0.1:50051")
//!     .layer(ClientLayer::new().timeout(Duration::from_secs(2)))
//!     .build()?;
//! # Ok(())
//! # }
//! ```
//!
//! # What it adds to the layers
//!
//! 1. **The callee is told what is left when it is sent.** The header is written when there is a connection and a
//!    stream may be opened on it. Inside `tonic::transport::Channel` it is written before.
//! 2. **One deadline for all.** Looking up the name, TCP, both prefaces, waiting for a stream, upload, head, every
//!    message and the trailers. An error says in which of them the time went: what passes until there is a
//!    connection is [`Phase::Connect`](crate::deadline::Phase::Connect).
//! 3. **It is kept though nobody polls.** At its deadline a stream is reset: also one whose upload is idle or blocked by
//!    the peer's window, one whose answer nobody reads, and one that isn't polled at all.
//! 4. **No more streams than the peer allows.** HTTP/2 libraries queue those that are too many, with their header written.
//!    Here they wait before, in turn.
//! 5. **The allowance is measured.** The callee has less than is left by the round trip and a millisecond, so that it gives
//!    up first, and what it has to say of where the time went comes in time.
//! 6. **Resets are paced.** A burst of expiries doesn't look like an attack: see `Stats::resets_withheld`. The calls end
//!    all the same, at once.
//!
//! # A connection
//!
//! There is one at a time, of HTTP/2, with TLS or without (feature `tls`). It is made when the first call needs it, and another when it is lost
//! or the peer says GOAWAY. What was sent on it stays on it. An attempt is shared by all calls that wait for it, and
//! goes on when they have given up, for [`Builder::connect_timeout`]: the next call finds it further. When it fails, they
//! fail with [`Error::is_connect`]; the next call makes another attempt.
//!
//! It is there when the peer's settings have come, and not as soon as the kernel has accepted it.

mod builder;
mod call;
mod config;
mod connection;
mod endpoint;
mod error;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod harness;
mod resets;
mod slots;
mod stats;
mod target;
#[cfg(feature = "tls")]
mod tls;
mod upload;
mod wire;

use std::fmt;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Request;
use tower_service::Service;

use crate::propagation::Protocol;
use crate::propagation::client::Client;

pub use builder::Builder;
pub use error::Error;
pub use stats::Stats;
/// What [`Builder::tls`] takes its configuration from.
#[cfg(feature = "tls")]
pub use tokio_rustls::rustls;
pub use wire::{Incoming, Wire, WireFuture};

/// A connection to one endpoint, which is made when it is needed. See [the module](self).
///
/// A handle: clones share the connection. It closes when the last of them is gone, and the last call is over.
///
/// Its futures are those of the client layer: see [`propagation::http`](crate::propagation::http#a-client) and
/// `propagation::grpc` for what they promise. It is always ready; what there is to wait for is part of the call.
///
/// # Errors
///
/// Calls fail with an [`Expired`](crate::deadline::Expired) when their deadline has passed; with an [`Error`] if
/// there is no connection, or it has failed.
///
/// # Panics
///
/// A call outside a tokio runtime fails.
pub struct Channel<P> {
    client: Client<Wire, P>,
}

impl<P: Protocol> Channel<P> {
    /// One to `target`: `http://host:port`, `https://host:port` with `Builder::tls`, or `unix:/path`.
    pub fn builder(target: impl Into<String>) -> Builder<P> {
        Builder::new(target.into())
    }

    /// Connects, unless there is a connection. For who would rather wait, or fail, when it starts than in its first
    /// call: nobody needs it.
    ///
    /// It takes as long as the [`connect_timeout`](Builder::connect_timeout) at the most; a
    /// [`timeout`](crate::time::timeout()) or scope around it ends it earlier.
    ///
    /// # Cancel safety
    ///
    /// The attempt goes on if this is dropped, and is there for the next call.
    ///
    /// # Errors
    ///
    /// There is no connection: nobody listens there, it took too long, or the peer isn't who it should be. Or this is
    /// polled outside a tokio runtime.
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use deadbeat::channel::{Channel, Error};
    /// use deadbeat::propagation::http::Http;
    ///
    /// # async fn run() -> Result<(), Error> {
    /// let channel = Channel::<Http>::builder("http://stock:8080").build()?;
    /// channel.connect().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn connect(&self) -> impl Future<Output = Result<(), Error>> + Send + 'static {
        let endpoint = self.client.get_ref().endpoint().clone();
        async move { endpoint.connection().await.map(drop) }
    }

    /// What it has counted.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats(self.client.get_ref().endpoint().counts.clone())
    }

    /// The round trip to the endpoint, as measured by PINGs on its connections: one when it is made, and then one
    /// in ten seconds at the most, while it is in use. Smoothed as in RFC 6298. `None` before there was one.
    #[must_use]
    pub fn round_trip(&self) -> Option<Duration> {
        self.client.get_ref().endpoint().rtt.get()
    }
}

impl<P, B> Service<Request<B>> for Channel<P>
where
    Client<Wire, P>: Service<Request<B>>,
{
    type Response = <Client<Wire, P> as Service<Request<B>>>::Response;
    type Error = <Client<Wire, P> as Service<Request<B>>>::Error;
    type Future = <Client<Wire, P> as Service<Request<B>>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.client.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.client.call(request)
    }
}

impl<P> Clone for Channel<P> {
    fn clone(&self) -> Self {
        Self { client: self.client.clone() }
    }
}

impl<P> fmt::Debug for Channel<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Channel").field(self.client.get_ref()).finish()
    }
}
