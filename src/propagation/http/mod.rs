//! Layers for HTTP, by hyper, axum or any other tower service.
//!
//! A server that keeps the deadlines of its callers, and within it a client that passes on what is left:
//!
//! ```
//! use deadbeat::deadline;
//! use deadbeat::propagation::http::{ClientLayer, ServerLayer};
//! use deadbeat::time::{Duration, sleep};
//! use http::{Request, Response, StatusCode};
//! use http_body_util::Empty;
//! use tower::{Layer, Service, service_fn};
//!
//! # type Body = Empty<bytes::Bytes>;
//! # deadbeat::Manual::new().block_on(async {
//! let stock = ServerLayer::new().layer(service_fn(async |request: Request<_>| {
//!     assert_eq!(request.headers()["connect-timeout-ms"], "295");
//!     sleep(Duration::from_secs(9)).await;
//!     Ok::<_, std::convert::Infallible>(Response::new(Body::new()))
//! }));
//! let mut stock = ClientLayer::new().allowance(Duration::from_millis(5)).layer(stock);
//!
//! let request = Request::get("http://stock/apples").body(Body::new()).unwrap();
//! // The call has the deadline that is current where it is made: inside.
//! let call = async { stock.call(request).await };
//! let answer = deadline::scope(Duration::from_millis(300), call).await;
//! let answer = answer.unwrap().unwrap();
//! assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
//! assert_eq!(answer.headers()["x-deadline-exceeded"], "header");
//! # });
//! ```
//!
//! # A server
//!
//! - The time of a call begins when [`ServerLayer`]'s service is called with its head: put the layer
//!   outside of all that makes calls wait.
//! - The deadline is [current](crate::deadline::current) for the handler, for the body of its answer while
//!   that is polled, and for the body of the request, whoever polls that.
//! - One that has passed before the handler is called is answered without calling it. One that passes
//!   before there is an answer drops the handler at its next `await`, and cancels what that has started
//!   with [`inherit`](crate::deadline#what-inherits). The answer is 504, with the header
//!   [`DEADLINE_EXCEEDED`].
//! - A handler that fails once the deadline has passed, with a status of 400 or more, is answered for in the
//!   same way: its failure is that of the deadline. Any other answer that is ready in that poll counts.
//! - After the head, it ends the body with an [`Error`], which never looks like a clean end: hyper closes
//!   the connection or resets the stream.
//! - Callers that are [trusted](Settings::blame) are also told where the time went: this service, and those that
//!   it called ([`blame`](super::blame)), in the header `x-deadline-blame`. So are they with a failure that the
//!   handler answers in time since a call of its own has expired. Not once the head of an answer is sent.
//! - Clients of [Connect](https://connectrpc.com/docs/protocol) are answered in its own words:
//!   `deadline_exceeded`, in JSON; in a stream as the message that ends it, unless another is half sent.
//!   So that there is room for it, a `content-length` of such a stream isn't sent on.
//!
//! # A client
//!
//! - The deadline is the earliest of: the [current](crate::deadline::current) one when the call is made,
//!   that of [`set_deadline`](RequestDeadline::set_deadline), the headers `grpc-timeout` and
//!   `connect-timeout-ms` of the request if they are there, and [`ClientLayer::timeout`].
//! - What remains of it, less [`ClientLayer::allowance`], is written when the service inside is ready, right
//!   before it is called, floored to four [digits](super::codec::Encoder::digits); all other timeout headers are removed, but for `prefer` and `amz-sdk-request`, which
//!   say other things too. `connect-timeout-ms` is written unless told otherwise, for it is the plainest: a
//!   number of milliseconds, also read by Connect's servers.
//! - What is too late isn't sent. What isn't answered in time fails at once, and is dropped: over HTTP/2
//!   that resets the stream, over HTTP/1 it closes the connection.
//! - What a failure tells of where the time went is taken out of its head, and is in its extensions ([`blame()`]):
//!   for people to read. The answer stays what it is. In an [`Error`] of a deadline that has passed,
//!   [`Expired::blame`](crate::deadline::Expired::blame) has it.
//! - The deadline covers all of the call, from waiting for the service to the end of the body of the answer.

mod connect;
mod error;
mod protocol;

use http::StatusCode;

pub use super::RequestBody;
pub use super::allowance::{Allowance, Rtt};
pub use super::policy::Settings;
pub use super::request::RequestDeadline;
pub use super::stats::{Stats, Switch};
pub use error::Error;
pub use protocol::{DEADLINE_EXCEEDED, Http, blame};

#[cfg(feature = "tasks")]
pub use super::finish::{Finish, FinishFuture, FinishLayer};

/// Gives each call that is served the deadline that its headers tell, and keeps it. See
/// [the module](self#a-server).
///
/// # Examples
///
/// ```
/// use axum::{Router, routing::get};
/// use deadbeat::propagation::codec::Header;
/// use deadbeat::propagation::http::ServerLayer;
/// use deadbeat::time::Duration;
///
/// let layer = ServerLayer::new()
///     .honour(Header::EnvoyExpectedRqTimeoutMs)
///     .default_timeout(Duration::from_secs(5));
/// let app: Router = Router::new().route("/", get(async || "hello")).layer(layer);
/// ```
pub type ServerLayer = super::server::ServerLayer<Http>;

impl ServerLayer {
    /// The status of the answer to a call whose deadline has passed. Default: 504.
    ///
    /// Not 408, which browsers and connection pools take for a reason to try again.
    pub fn status(mut self, status: StatusCode) -> Self {
        self.protocol_mut().status = status;
        self
    }
}

/// Gives each call that is made what remains of the deadline. See [the module](self#a-client).
///
/// # Examples
///
/// ```
/// use deadbeat::propagation::RequestBody;
/// use deadbeat::propagation::http::{ClientLayer, Http};
/// use deadbeat::time::Duration;
/// use http_body_util::Full;
/// use hyper_util::{client::legacy::Client, rt::TokioExecutor};
/// use tower::{Layer, Service};
///
/// type Body = RequestBody<Full<bytes::Bytes>, Http>;
///
/// let client: Client<_, Body> = Client::builder(TokioExecutor::new()).build_http();
/// let client = ClientLayer::new().timeout(Duration::from_secs(2)).layer(client);
/// ```
pub type ClientLayer = super::client::ClientLayer<Http>;

/// Lets so many calls run at once, and turns away those that would not be in time. See
/// [`limit`](crate::limit).
///
/// # Examples
///
/// ```
/// use axum::{Router, routing::get};
/// use deadbeat::limit::Limiter;
/// use deadbeat::propagation::http::{LimitLayer, ServerLayer};
///
/// let limit = LimitLayer::new(Limiter::new(64));
/// // The layer that is added last is the outermost: it sets the deadline that the limiter goes by.
/// let app: Router =
///     Router::new().route("/", get(async || "hello")).layer(limit).layer(ServerLayer::new());
/// ```
pub type LimitLayer = crate::limit::LimitLayer<Http>;
