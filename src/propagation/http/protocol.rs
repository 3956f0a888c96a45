//! How HTTP tells a deadline, and its end.

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, request, response};
use http_body::Frame;

use super::Error;
use super::connect::{self, Code, Manner};
use crate::deadline::{Blame, Expired};
use crate::propagation::blame::HTTP_HEADER;
use crate::propagation::codec::{Header, Malformed};
use crate::propagation::framing::Framing;
use crate::propagation::protocol::{BoxError, Speaks};

/// The header of an answer that is there because a deadline has passed: `x-deadline-exceeded`.
///
/// A gateway's own 504 says nothing about whose time was up. With this header it was that of the call, by
/// the clock of the server: its value is what set the deadline, `header`, `maximum` or `default`; or
/// `other`, in a process that calls itself.
///
/// `header` is that which the caller has told: all of it has been used up, here or in a call from here that
/// was told all the rest ([`Blame::used_whole_budget`]). An answer of gRPC has it in its trailers.
pub const DEADLINE_EXCEEDED: HeaderName = HeaderName::from_static("x-deadline-exceeded");

/// Plain HTTP: a marker for types.
#[derive(Clone, Debug)]
pub struct Http {
    pub(super) status: StatusCode,
}

impl Default for Http {
    fn default() -> Self {
        Self { status: StatusCode::GATEWAY_TIMEOUT }
    }
}

/// Where the time went of a call that was answered with a failure, as those further down have told it.
///
/// `None` if nobody has told anything, or no [`ClientLayer`](super::ClientLayer) has read it. Of a call that has
/// failed with an [`Error`], that has it: `error.expired()`, and there
/// [`Expired::blame`](crate::deadline::Expired::blame).
///
/// # Examples
///
/// ```
/// use deadbeat::deadline;
/// use deadbeat::propagation::http::{self, ClientLayer, ServerLayer};
/// use deadbeat::time::{Duration, sleep};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # type Body = http_body_util::Empty<bytes::Bytes>;
/// # deadbeat::Manual::new().block_on(async {
/// let stock = ServerLayer::new().trusted(true).layer(service_fn(async |_: ::http::Request<_>| {
///     sleep(Duration::from_secs(9)).await;
///     Ok::<_, std::convert::Infallible>(::http::Response::new(Body::new()))
/// }));
/// let stock = ClientLayer::new().peer("stock").allowance(Duration::from_millis(5)).layer(stock);
///
/// let request = ::http::Request::get("/apples").body(Body::new()).unwrap();
/// let call = async { stock.oneshot(request).await };
/// let answer = deadline::scope(Duration::from_millis(300), call).await.unwrap().unwrap();
/// let blame = http::blame(&answer).unwrap();
/// assert!(blame.used_whole_budget());
/// assert_eq!(blame.to_string(), "no answer from stock for 295ms; stock: wait took 295ms of 295ms");
/// # });
/// ```
#[must_use]
pub fn blame<B>(answer: &Response<B>) -> Option<&Blame> {
    answer.extensions().get()
}

fn text(status: StatusCode, text: String) -> Response<Bytes> {
    let mut response = Response::new(Bytes::from(text));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}

impl Speaks for Http {
    type Error = Error;
    type Manner = Manner;
    /// Of a stream of Connect's: what else there is has no messages.
    type Framing = Option<Framing>;

    const NAME: &str = "http";
    const HEADER: Header = Header::ConnectTimeoutMs;
    const BLAME: HeaderName = HeaderName::from_static(HTTP_HEADER);

    fn expired(expired: Expired) -> Error {
        Error::expired_with(expired)
    }

    fn other(error: BoxError) -> Error {
        Error::other_with(error)
    }

    fn incomplete() -> Error {
        Error::incomplete_body()
    }

    fn manner(request: &request::Parts) -> Manner {
        Manner::of(request)
    }

    fn answer_expired(&self, manner: &Manner, expired: &Expired) -> Response<Bytes> {
        let why = expired.to_string();
        manner
            .answer(Code::DeadlineExceeded, self.status, &why)
            .unwrap_or_else(|| text(self.status, why))
    }

    fn answer_malformed(&self, manner: &Manner, malformed: &Malformed) -> Response<Bytes> {
        let why = malformed.to_string();
        manner
            .answer(Code::InvalidArgument, StatusCode::BAD_REQUEST, &why)
            .unwrap_or_else(|| text(StatusCode::BAD_REQUEST, why))
    }

    fn answer_unavailable(&self, manner: &Manner, why: &str) -> Response<Bytes> {
        manner
            .answer(Code::Unavailable, StatusCode::SERVICE_UNAVAILABLE, why)
            .unwrap_or_else(|| text(StatusCode::SERVICE_UNAVAILABLE, why.into()))
    }

    fn is_failure(head: &response::Parts) -> bool {
        head.status.is_client_error() || head.status.is_server_error()
    }

    fn framing(head: &mut response::Parts) -> Option<Framing> {
        let is_stream = connect::is_stream(&head.headers);
        if is_stream {
            head.headers.remove(CONTENT_LENGTH);
        }
        is_stream.then(Framing::default)
    }

    fn pass(framing: &mut Option<Framing>, data: &[u8]) {
        if let Some(framing) = framing {
            framing.pass(data);
        }
    }

    fn may_grow(framing: &Option<Framing>) -> bool {
        framing.is_some()
    }

    fn cut(framing: &Option<Framing>, expired: Expired) -> Result<Frame<Bytes>, Error> {
        match framing {
            // All of it is there, and a second end would be one too many.
            Some(framing) if connect::has_ended(framing) => Ok(Frame::data(Bytes::new())),
            Some(framing) if framing.is_between_messages() => {
                let end = connect::end_of_stream(Code::DeadlineExceeded, &expired.to_string());
                Ok(Frame::data(end))
            }
            _ => Err(Error::expired_with(expired)),
        }
    }

    fn is_failure_at_end(_: &HeaderMap) -> bool {
        false
    }

    fn tells_expiry(head: &response::Parts) -> bool {
        head.status == StatusCode::GATEWAY_TIMEOUT || head.headers.contains_key(DEADLINE_EXCEEDED)
    }

    fn tells_expiry_at_end(_: &HeaderMap) -> bool {
        false
    }

    fn hush(_: &mut HeaderMap) {
        // What it says is in its body, and the handler's own.
    }

    fn blame(head: &mut response::Parts, blame: Blame) -> Option<Error> {
        head.extensions.insert(blame);
        None
    }

    fn blame_at_end(_: &HeaderMap, _: Blame) -> Option<Error> {
        None
    }

    fn may_be_expiry(head: &response::Parts) -> bool {
        matches!(
            head.status,
            StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
        )
    }

    fn may_be_expiry_at_end(_: &HeaderMap) -> bool {
        false
    }

    fn error_may_be_expiry(_: &Error) -> bool {
        // Also that of the request's body, which has no account of where the time went.
        true
    }

    fn is_cancelled(_: &response::Parts) -> bool {
        false
    }

    fn error_is_cancelled(_: &Error) -> bool {
        false
    }

    fn needs_trailers(_: &response::Parts) -> bool {
        false
    }

    fn sanitize(_: &mut HeaderMap) -> bool {
        false
    }
}
