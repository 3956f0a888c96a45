//! What differs between HTTP and gRPC.

use std::error::Error as StdError;
use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Response, request, response};
use http_body::Frame;

use super::codec::{Header, Malformed};
use crate::deadline::{Blame, Expired};

pub(crate) type BoxError = Box<dyn StdError + Send + Sync>;

/// [`Http`](super::http::Http) or [`Grpc`](super::grpc::Grpc): how deadlines are told, and how they end.
pub trait Protocol: Speaks {}

impl<P: Speaks> Protocol for P {}

/// How it does that.
#[expect(unnameable_types, reason = "sealed: there are no others")]
pub trait Speaks: Clone + fmt::Debug + Default + Send + Sync + 'static {
    /// What a body fails with, and a client's call.
    type Error: StdError + Send + Sync + 'static;

    /// Its name, in metrics and traces.
    const NAME: &str;

    /// What the caller of a server reads.
    type Manner: Default + Send;

    /// Where the body of an answer is.
    type Framing: fmt::Debug + Default + Send;

    /// What a client writes, unless told otherwise.
    const HEADER: Header;

    /// Where blame travels.
    const BLAME: HeaderName;

    fn expired(expired: Expired) -> Self::Error;

    /// Any other failure, which a transport or a peer has reported.
    fn other(error: BoxError) -> Self::Error;

    /// A request body that came to its end without being complete.
    fn incomplete() -> Self::Error;

    /// A request body whose transport has failed, for the handler that reads it.
    fn upload_failed(error: BoxError) -> Self::Error {
        Self::other(error)
    }

    // Of a server.

    fn manner(request: &request::Parts) -> Self::Manner;

    /// Without or instead of the handler's.
    fn answer_expired(&self, manner: &Self::Manner, expired: &Expired) -> Response<Bytes>;

    fn answer_malformed(&self, manner: &Self::Manner, malformed: &Malformed) -> Response<Bytes>;

    /// Nothing is wrong with the call, but it can't be served now.
    fn answer_unavailable(&self, manner: &Self::Manner, why: &str) -> Response<Bytes>;

    /// Whether it is an answer that a deadline that has passed comes before.
    fn is_failure(head: &response::Parts) -> bool;

    /// For an answer that begins so. Takes from its head what wouldn't be true of it if it were cut.
    fn framing(head: &mut response::Parts) -> Self::Framing;

    /// Takes note of data that is sent.
    fn pass(framing: &mut Self::Framing, data: &[u8]);

    /// Whether a body that is cut may have more data than it would have had.
    fn may_grow(framing: &Self::Framing) -> bool;

    /// How a body ends when its deadline has passed.
    fn cut(framing: &Self::Framing, expired: Expired) -> Result<Frame<Bytes>, Self::Error>;

    fn is_failure_at_end(trailers: &HeaderMap) -> bool;

    /// Whether it is a failure by which a handler may pass on that a call of its own has expired.
    fn tells_expiry(head: &response::Parts) -> bool;

    fn tells_expiry_at_end(trailers: &HeaderMap) -> bool;

    /// Takes away what such a failure says, for a caller that mustn't know.
    fn hush(headers: &mut HeaderMap);

    // Of a client.

    /// Gives a failure its blame, for who has made the call: in its head, or as an error in its place.
    fn blame(head: &mut response::Parts, blame: Blame) -> Option<Self::Error>;

    /// The same at the end of a body.
    fn blame_at_end(trailers: &HeaderMap, blame: Blame) -> Option<Self::Error>;

    /// Whether it is what others make of a deadline that has passed.
    fn may_be_expiry(head: &response::Parts) -> bool;

    fn may_be_expiry_at_end(trailers: &HeaderMap) -> bool;

    fn error_may_be_expiry(error: &Self::Error) -> bool;

    /// Whether it is what others make of the time that they were told, once that is up. Narrower than the
    /// above: the call's own time isn't.
    fn is_cancelled(head: &response::Parts) -> bool;

    fn error_is_cancelled(error: &Self::Error) -> bool;

    /// Whether a body that ends without trailers is incomplete.
    fn needs_trailers(head: &response::Parts) -> bool;

    /// Takes away what can't be read by those that come after. Whether there was such.
    fn sanitize(headers: &mut HeaderMap) -> bool;
}
