//! The body of a request.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http::HeaderMap;
use http::header::CONTENT_LENGTH;
use http_body::{Body, Frame, SizeHint};

use super::registry::Connection;
use super::served::BoxError;

/// The body of a request, as it comes in. What a server serves gets it within a
/// [`RequestBody`](crate::propagation::RequestBody), which has the deadline.
///
/// It ends when the client has said so: one that is cut off is an error, also where the client has reset its stream
/// with `NO_ERROR`, which hyper takes for an end, and which is CANCEL here.
///
/// Dropping it before its end tells a client of HTTP/2, once the answer is complete, that the rest isn't needed
/// (RST_STREAM with `NO_ERROR`, RFC 9113, 8.1).
///
/// # Errors
///
/// Over HTTP/1 it is an error of hyper's, over HTTP/2 one of h2's.
pub struct Incoming(Source);

/// A body of HTTP/1 that isn't longer than that has come with its head, as a rule, and hyper passes over what is there.
const SMALL: u64 = 4 << 10;

enum Source {
    Http1 {
        body: hyper::body::Incoming,
        /// Is told of the end.
        connection: Arc<Connection>,
    },
    Http2 {
        stream: RecvStream,
        /// As far as the client has told.
        left: Option<u64>,
        is_data_over: bool,
    },
}

impl Incoming {
    pub(super) fn http1(body: hyper::body::Incoming, connection: Arc<Connection>) -> Self {
        let is_small = body.size_hint().exact().is_some_and(|length| length <= SMALL);
        connection.set_uploading(!is_small);
        Self(Source::Http1 { body, connection })
    }

    /// h2 sees to it that it is as long as its head says.
    pub(super) fn http2(stream: RecvStream, head: &HeaderMap) -> Self {
        let told = || head.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok();
        let left = if stream.is_end_stream() { Some(0) } else { told() };
        Self(Source::Http2 { stream, left, is_data_over: false })
    }
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match &mut self.0 {
            Source::Http1 { body, connection } => {
                let frame = ready!(Pin::new(&mut *body).poll_frame(cx));
                if frame.is_none() || body.is_end_stream() {
                    connection.set_uploading(false);
                }
                Poll::Ready(frame.map(|it| it.map_err(Into::into)))
            }
            Source::Http2 { stream, left, is_data_over } => {
                if !*is_data_over {
                    match ready!(stream.poll_data(cx)) {
                        Some(Ok(data)) => {
                            // One of a stream that is over has nothing to give back.
                            let _ = stream.flow_control().release_capacity(data.len());
                            *left = left.map(|left| left.saturating_sub(data.len() as u64));
                            return Poll::Ready(Some(Ok(Frame::data(data))));
                        }
                        Some(Err(error)) => return Poll::Ready(Some(Err(cut_off(error).into()))),
                        None => *is_data_over = true,
                    }
                }
                Poll::Ready(match ready!(stream.poll_trailers(cx)) {
                    Ok(trailers) => trailers.map(|it| Ok(Frame::trailers(it))),
                    Err(error) => Some(Err(cut_off(error).into())),
                })
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Source::Http1 { body, .. } => body.is_end_stream(),
            Source::Http2 { stream, .. } => stream.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Source::Http1 { body, .. } => body.size_hint(),
            Source::Http2 { left, .. } => left.map_or_else(SizeHint::default, SizeHint::with_exact),
        }
    }
}

/// That there was no error is the client's view: it doesn't need the stream any more.
fn cut_off(error: h2::Error) -> h2::Error {
    if error.is_reset() && error.reason() == Some(Reason::NO_ERROR) {
        Reason::CANCEL.into()
    } else {
        error
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("size", &self.size_hint()).finish_non_exhaustive()
    }
}
