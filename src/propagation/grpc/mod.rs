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
//! - Beside the status are `x-deadline-exceeded`, as over HTTP, and for callers that are
//!   [trusted](Settings::blame) where the time went: `deadline-blame-bin`, see [`blame`](super::blame). The
//!   status of a call that the handler has made and hands on has them too; for callers that aren't trusted, its
//!   message is replaced if a deadline has passed, since it may name what is further inside.
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
//! - What a failure tells of where the time went is taken out of its metadata, and is the source of the status
//!   ([`blame()`]): for people to read. Its code, message and the rest stay what they are. What is around this
//!   layer and looks at answers sees such a failure as an `Err` of that status, and not as an answer.
//! - The `grpc-timeout` of [`Request::set_timeout`](tonic::Request::set_timeout) is a limit among the others,
//!   and is written anew.
//! - CANCELLED, UNAVAILABLE or INTERNAL from a peer or a proxy is DEADLINE_EXCEEDED once the call's own
//!   deadline has passed, by the clock; before, it stays what it is. CANCELLED is so already when the time
//!   is up that was written, which is what tonic makes of it.
//! - A `grpc-status-details-bin` that isn't base64 is removed, since tonic would panic.
//! - Inside `tonic::transport::Channel`, calls wait and connections are made after the value is written:
//!   the callee then has more time than is left, by the time that it took to connect; the caller's own
//!   deadline holds. `Channel` also ends the call when the time is up that was written, so that a call with
//!   an [`allowance`](super::client::ClientLayer::allowance) ends that much earlier, and not with what the
//!   callee has to say.
//!
//! # Beside tonic's own timeouts
//!
//! | | ends | covers | status |
//! | --- | --- | --- | --- |
//! | `Endpoint::timeout`, `Server::timeout` | with the first of it and the header | until the head of the answer | CANCELLED |
//! | these layers | with the first of all that is honoured | the whole call | DEADLINE_EXCEEDED |
//!
//! Both may be set: what comes first ends the call, with its own status. tonic's server also reads the
//! header, outside of [`ServerLayer`]; but when its timer fires, the layer is asked first, and by then its
//! own time is up, so the answer is DEADLINE_EXCEEDED. What a client of tonic's keeps itself, it calls
//! CANCELLED. Ours calls it DEADLINE_EXCEEDED, if its own deadline has passed.
//!
//! Which promise holds where is in [docs/guarantees.md](https://docs.rs/crate/deadbeat/latest/source/docs/guarantees.md),
//! with a test for each.

mod client;
mod protocol;

pub use super::allowance::{Allowance, Rtt};
pub use super::http::DEADLINE_EXCEEDED;
pub use super::policy::Settings;
pub use super::request::RequestDeadline;
pub use super::stats::{Stats, Switch};
pub use protocol::{Grpc, blame};

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

/// Lets so many calls run at once, and turns away those that would not be in time. See
/// [`limit`](crate::limit).
///
/// # Examples
///
/// ```
/// use deadbeat::limit::Limiter;
/// use deadbeat::propagation::grpc::{LimitLayer, ServerLayer};
/// use tonic::transport::Server;
///
/// // The layer that is added first is the outermost: it sets the deadline that the limiter goes by.
/// let server = Server::builder()
///     .layer(ServerLayer::new())
///     .layer(LimitLayer::new(Limiter::new(64)));
/// ```
pub type LimitLayer = crate::limit::LimitLayer<Grpc>;
