//! How gRPC tells a deadline, and its end.

use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, request, response};
use http_body::Frame;
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};

use crate::deadline::{Blame, Expired};
use crate::propagation::blame::GRPC_METADATA;
use crate::propagation::codec::{Header, Malformed};
use crate::propagation::framing::Framing;
use crate::propagation::protocol::{BoxError, Speaks};

/// gRPC, by tonic: a marker for types.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct Grpc;

static STATUS: HeaderName = HeaderName::from_static("grpc-status");
static MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
static DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

/// The status of a call whose deadline has passed. Its message says which, and where the time went.
impl From<Expired> for Status {
    fn from(expired: Expired) -> Self {
        let mut status = Self::deadline_exceeded(expired.to_string());
        status.set_source(Arc::new(expired));
        status
    }
}

/// Where the time went of a call that has failed, as those further down have told it: the status is the
/// peer's, or that of a deadline of its own ([`Expired`]).
///
/// `None` if nobody has told anything, or no [`ClientLayer`](super::ClientLayer) has read it.
#[must_use]
pub fn blame(status: &Status) -> Option<&Blame> {
    let mut error = status.source();
    while let Some(it) = error {
        if let Some(expired) = it.downcast_ref::<Expired>() {
            return expired.blame();
        }
        if let Some(blame) = it.downcast_ref() {
            return Some(blame);
        }
        error = it.source();
    }
    None
}

/// That which the headers say, with its blame as its source.
fn blamed(headers: &HeaderMap, blame: Blame) -> Option<Status> {
    let mut status = Status::from_header_map(headers).filter(|it| it.code() != Code::Ok)?;
    status.set_source(Arc::new(blame));
    Some(status)
}

fn code(headers: &HeaderMap) -> Option<Code> {
    headers.get(&STATUS).map(|value| Code::from_bytes(value.as_bytes()))
}

/// What a server, or a proxy, makes of a deadline that has passed: a cancelled stream, a gateway's 502 or
/// 504, a stream that was reset; or what it is.
fn may_be_expiry(code: Code) -> bool {
    matches!(code, Code::Cancelled | Code::DeadlineExceeded | Code::Unavailable | Code::Internal)
}

impl Speaks for Grpc {
    type Error = Status;
    type Manner = ();
    type Framing = Framing;

    const NAME: &str = "grpc";
    const HEADER: Header = Header::GrpcTimeout;
    const BLAME: HeaderName = HeaderName::from_static(GRPC_METADATA);

    fn expired(expired: Expired) -> Status {
        expired.into()
    }

    fn other(error: BoxError) -> Status {
        #[cfg(feature = "channel")]
        if let Some(error) = error.downcast_ref::<crate::channel::Error>()
            && let Some(code) = error.grpc_code()
        {
            let mut status = Status::new(code, error.to_string());
            status.set_source(Arc::new(error.clone()));
            return status;
        }
        Status::from_error(error)
    }

    fn incomplete() -> Status {
        // Not CANCELLED, which tonic's decoder of requests takes for a clean end.
        Status::aborted("the request ended before it was complete")
    }

    fn upload_failed(error: BoxError) -> Status {
        let status = Status::from_error(error);
        if status.code() != Code::Cancelled {
            return status;
        }
        // As above.
        let mut aborted =
            Status::aborted(format!("the request was cancelled: {}", status.message()));
        aborted.set_source(Arc::new(status));
        aborted
    }

    fn manner(_: &request::Parts) {}

    fn answer_expired(&self, (): &(), expired: &Expired) -> Response<Bytes> {
        Status::deadline_exceeded(expired.to_string()).into_http()
    }

    fn answer_malformed(&self, (): &(), malformed: &Malformed) -> Response<Bytes> {
        Status::internal(malformed.to_string()).into_http()
    }

    fn answer_unavailable(&self, (): &(), why: &str) -> Response<Bytes> {
        Status::unavailable(why).into_http()
    }

    fn is_failure(head: &response::Parts) -> bool {
        head.status != StatusCode::OK || code(&head.headers).is_some_and(|code| code != Code::Ok)
    }

    fn framing(_: &mut response::Parts) -> Framing {
        Framing::default()
    }

    fn pass(framing: &mut Framing, data: &[u8]) {
        framing.pass(data);
    }

    fn may_grow(_: &Framing) -> bool {
        false
    }

    fn cut(framing: &Framing, expired: Expired) -> Result<Frame<Bytes>, Status> {
        let status = Status::from(expired);
        if !framing.is_between_messages() {
            return Err(status);
        }
        let mut trailers = HeaderMap::with_capacity(4);
        status.add_header(&mut trailers)?;
        Ok(Frame::trailers(trailers))
    }

    fn is_failure_at_end(trailers: &HeaderMap) -> bool {
        code(trailers).is_some_and(|code| code != Code::Ok)
    }

    fn tells_expiry(head: &response::Parts) -> bool {
        Self::tells_expiry_at_end(&head.headers)
    }

    fn tells_expiry_at_end(trailers: &HeaderMap) -> bool {
        code(trailers) == Some(Code::DeadlineExceeded)
    }

    fn hush(headers: &mut HeaderMap) {
        let text = HeaderValue::from_static("the deadline of a call within has passed");
        headers.insert(&MESSAGE, text);
    }

    fn blame(head: &mut response::Parts, blame: Blame) -> Option<Status> {
        blamed(&head.headers, blame)
    }

    fn blame_at_end(trailers: &HeaderMap, blame: Blame) -> Option<Status> {
        blamed(trailers, blame)
    }

    fn may_be_expiry(head: &response::Parts) -> bool {
        match code(&head.headers) {
            Some(code) => may_be_expiry(code),
            None => matches!(
                head.status,
                StatusCode::BAD_REQUEST
                    | StatusCode::BAD_GATEWAY
                    | StatusCode::SERVICE_UNAVAILABLE
                    | StatusCode::GATEWAY_TIMEOUT
            ),
        }
    }

    fn may_be_expiry_at_end(trailers: &HeaderMap) -> bool {
        // None at all is UNKNOWN, or what the head says.
        code(trailers).is_none_or(may_be_expiry)
    }

    fn error_may_be_expiry(status: &Status) -> bool {
        // Also that of the request's body, which has no account of where the time went.
        may_be_expiry(status.code())
    }

    fn is_cancelled(head: &response::Parts) -> bool {
        code(&head.headers) == Some(Code::Cancelled)
    }

    fn error_is_cancelled(status: &Status) -> bool {
        status.code() == Code::Cancelled
    }

    fn needs_trailers(head: &response::Parts) -> bool {
        !head.headers.contains_key(&STATUS)
    }

    fn sanitize(headers: &mut HeaderMap) -> bool {
        let Some(details) = headers.get(&DETAILS) else { return false };
        // With tonic's own decoder, which is the one that would panic.
        let mut alone = HeaderMap::with_capacity(1);
        alone.insert(DETAILS.clone(), details.clone());
        let is_sound = MetadataMap::from_headers(alone)
            .get_bin(DETAILS.as_str())
            .is_some_and(|value| value.to_bytes().is_ok());
        if !is_sound {
            headers.remove(&DETAILS);
        }
        !is_sound
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Elapsed, Instant};
    use crate::deadline::{Deadline, Origin, Provenance};
    use http::HeaderValue;
    use proptest::prelude::*;
    use std::time::Duration;

    fn expired() -> Expired {
        let at = Instant::<Elapsed>::from_nanos(5);
        let deadline = Deadline::at(at + Duration::from_millis(7));
        Expired::new(Provenance::new(deadline, Origin::Call, at), deadline.instant())
    }

    #[test]
    fn a_boxed_status_stays_what_it_is() {
        let status = Grpc::other(Box::new(Status::from(expired())));
        assert_eq!(status.code(), Code::DeadlineExceeded);
        assert_eq!(status.message(), expired().to_string());
        assert!(status.source().unwrap().is::<Expired>());
    }

    #[test]
    fn between_messages_there_are_trailers_and_within_one_an_error() {
        let mut framing = Framing::default();
        let trailers = Grpc::cut(&framing, expired()).unwrap();
        assert_eq!(trailers.trailers_ref().unwrap()[&STATUS], "4");
        Grpc::pass(&mut framing, b"\0\0\0\0\x05hal");
        assert_eq!(Grpc::cut(&framing, expired()).unwrap_err().code(), Code::DeadlineExceeded);
    }

    proptest! {
        #[test]
        fn no_details_make_tonic_panic(details in prop::collection::vec(any::<u8>(), 0..20)) {
            let Ok(value) = HeaderValue::from_bytes(&details) else { return Ok(()) };
            let mut headers = HeaderMap::new();
            headers.insert(STATUS.clone(), HeaderValue::from_static("3"));
            headers.insert(DETAILS.clone(), value);
            Grpc::sanitize(&mut headers);
            prop_assert_eq!(Status::from_header_map(&headers).unwrap().code(), Code::InvalidArgument);
        }

        #[test]
        fn sound_details_are_left_alone(details in prop::collection::vec(any::<u8>(), 1..20)) {
            let status = Status::with_details(Code::Aborted, "no", details.clone().into());
            let mut headers = HeaderMap::new();
            status.add_header(&mut headers).unwrap();
            prop_assert!(!Grpc::sanitize(&mut headers));
            let details = Bytes::from(details);
            let read = Status::from_header_map(&headers).unwrap();
            prop_assert_eq!(read.details(), &details);
        }
    }
}
