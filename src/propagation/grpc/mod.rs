//! Layers for gRPC, by tonic: in `tonic::transport`, and wherever else its services are served or called.
//!
//! ```no_run
//! use deadbeat::propagation::grpc::{ClientLayer, ServerLayer};
//! use deadbeat::time::Duration;
//! use tonic::service::Routes;
//! use tonic::transport::{Endpoint, Server};
//! use tower::Layer;
//!
//! # async fn run(routes: Routes) -> Result<(), Box<dyn std::error::Error>> {
//! // For the client that was generated: `GreeterClient::new(channel)`.
//! let channel = Endpoint::from_static("http://127.0.0.1:50051").connect_lazy();
//! let channel = ClientLayer::new().timeout(Duration::from_secs(2)).layer(channel);
//!
//! Server::builder()
//!     .layer(ServerLayer::new().maximum(Duration::from_secs(30)))
//!     .add_routes(routes)
//!     .serve("127.0.0.1:50051".parse()?)
//!     .await?;
//! # Ok(())
//! # }
//! ```
//!
//! They work as [those for HTTP](super::http) do. What is different:
//!
//! # A server
//!
//! - A call whose deadline has passed is answered with trailers only, `grpc-status: 4`
//!   (DEADLINE_EXCEEDED); so is one whose handler fails after that. The message says which deadline it was.
//!   After the head there are trailers of that status, if it passes between two messages. Within one, the
//!   stream is reset.
//! - A malformed header that is [rejected](super::codec::OnMalformed::Reject) is answered INTERNAL, as by
//!   grpc-core and grpc-go.
//! - A stream of requests ends with a `Status` of DEADLINE_EXCEEDED. Not CANCELLED: tonic's decoder takes
//!   that for a clean end, and a handler would take half of a stream for all of it. For the same reason, a
//!   stream that the client has cancelled ends with ABORTED. For one that it has reset without an error,
//!   see [`incomplete_is_error`](super::server::ServerLayer::incomplete_is_error).
//!
//! # A client
//!
//! - A call fails with a [`Status`](tonic::Status) of DEADLINE_EXCEEDED, whose message and
//!   [`source`](std::error::Error::source) are the [`Expired`](crate::deadline::Expired). Clients that were
//!   generated return just that.
//! - The `grpc-timeout` of [`Request::set_timeout`](tonic::Request::set_timeout) is a limit among the others,
//!   and is written anew.
//! - CANCELLED, UNAVAILABLE or INTERNAL from a peer or a proxy is DEADLINE_EXCEEDED once the call's own
//!   deadline has passed, by the clock; before, it stays what it is. CANCELLED is so already once that of the
//!   callee has passed, which is earlier by the [allowance](super::client::ClientLayer::allowance):
//!   `tonic::transport::Channel` keeps that one itself, so over it a call waits no longer than the callee may.
//! - A `grpc-status-details-bin` that isn't base64 is removed, since tonic would panic.
//! - Inside `tonic::transport::Channel`, calls wait and connections are made after the value is written:
//!   the callee then has more time than is left, by so much; the caller's own deadline holds.
//!
//! # Beside tonic's own timeouts
//!
//! | | ends | covers | status |
//! | --- | --- | --- | --- |
//! | `Endpoint::timeout`, `Server::timeout` | with the first of it and the header | until the head of the answer | CANCELLED |
//! | these layers | with the first of all that is honoured | the whole call | DEADLINE_EXCEEDED |
//!
//! Both may be set: what comes first ends the call, with its own status. tonic's server also reads the
//! header, at about the same time as [`ServerLayer`] and outside of it: which of the two answers is up to
//! chance, so a client that isn't ours may see CANCELLED. Ours sees DEADLINE_EXCEEDED, if its own deadline
//! has passed.

mod client;
mod framing;
mod protocol;

pub use super::policy::Settings;
pub use super::request::RequestDeadline;
pub use super::stats::{Stats, Switch};
pub use protocol::Grpc;

#[cfg(feature = "tasks")]
pub use super::finish::{Finish, FinishFuture, FinishLayer};

/// Gives each call that is served the deadline that its headers tell, and keeps it. See
/// [the module](self#a-server).
///
/// # Examples
///
/// ```
/// use deadbeat::propagation::grpc::ServerLayer;
/// use deadbeat::time::Duration;
/// use tonic::transport::Server;
///
/// let layer = ServerLayer::new().trusted(true).maximum(Duration::from_secs(30));
/// let server = Server::builder().layer(layer);
/// ```
pub type ServerLayer = super::server::ServerLayer<Grpc>;

/// Gives each call that is made what remains of the deadline. See [the module](self#a-client).
///
/// # Examples
///
/// ```
/// # let runtime = tokio::runtime::Runtime::new().unwrap();
/// # let _entered = runtime.enter();
/// use deadbeat::propagation::grpc::ClientLayer;
/// use deadbeat::time::Duration;
/// use tonic::transport::Endpoint;
/// use tower::Layer;
///
/// let channel = Endpoint::from_static("http://127.0.0.1:50051").connect_lazy();
/// let channel = ClientLayer::new().timeout(Duration::from_secs(2)).peer("greeter").layer(channel);
/// ```
pub type ClientLayer = super::client::ClientLayer<Grpc>;
