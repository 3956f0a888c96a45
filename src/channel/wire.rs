//! The transport of a channel, as a service: ready when there is a connection, and room on it.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HOST};
use http::uri::PathAndQuery;
use http::{HeaderValue, Method, Request, Response, Uri, Version};
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tower_service::Service;

use super::Error;
use super::call::{Call, Piece};
use super::connection::Ready;
use super::endpoint::Endpoint;
use super::slots::Slot;
use super::target::Target;
use super::upload::Upload;
use crate::deadline::current;
use crate::driver::Callback;
use crate::hop;
use crate::propagation::protocol::BoxError;

/// What a [`Channel`](super::Channel) calls by.
pub struct Wire {
    endpoint: Arc<Endpoint>,
    lease: Lease,
}

type Leasing = Pin<Box<dyn Future<Output = Result<(Ready, Slot), Error>> + Send>>;

enum Lease {
    None,
    /// In a lock that nobody takes: with it, the service is `Sync`, as generated clients may want.
    Waiting(Mutex<Leasing>),
    Held(Ready, Slot),
}

impl Wire {
    pub(super) fn new(endpoint: Arc<Endpoint>) -> Self {
        Self { endpoint, lease: Lease::None }
    }

    pub(super) fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }
}

impl Clone for Wire {
    /// One that isn't ready.
    fn clone(&self) -> Self {
        Self::new(self.endpoint.clone())
    }
}

impl<B> Service<Request<B>> for Wire
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = Response<Incoming>;
    type Error = Error;
    type Future = WireFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        loop {
            match &mut self.lease {
                Lease::Held(..) => return Poll::Ready(Ok(())),
                Lease::None => match self.endpoint.try_lease() {
                    Some((ready, slot)) => self.lease = Lease::Held(ready, slot),
                    None => {
                        let leasing: Leasing = Box::pin(self.endpoint.clone().lease());
                        self.lease = Lease::Waiting(Mutex::new(leasing));
                    }
                },
                Lease::Waiting(leasing) => match ready!(leasing.get_mut().as_mut().poll(cx)) {
                    Ok((ready, slot)) => self.lease = Lease::Held(ready, slot),
                    Err(error) => {
                        self.lease = Lease::None;
                        return Poll::Ready(Err(error));
                    }
                },
            }
        }
    }

    fn call(&mut self, request: Request<B>) -> WireFuture {
        let Lease::Held(ready, slot) = std::mem::replace(&mut self.lease, Lease::None) else {
            panic!("called before it was ready");
        };
        WireFuture(Some(send(&self.endpoint.target, ready, slot, request)))
    }
}

/// Sends the head, and of the body what there is room for.
fn send<B>(
    target: &Target,
    mut ready: Ready,
    slot: Slot,
    request: Request<B>,
) -> Result<Waiting, Error>
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    let (head, body) = head(target, request)?;
    let is_sent = body.is_end_stream();
    let (answer, stream) = ready.send.send_request(head, is_sent).map_err(Error::http2)?;
    let shared = ready.shared;
    shared.opened(answer.stream_id().as_u32());
    let call = Call::new(shared.clone(), slot, answer, is_sent);
    if !is_sent {
        let mut upload = Upload::new(body, stream, call.clone());
        // Most are sent at once. One that isn't is polled again as a task.
        if Pin::new(&mut upload).poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            shared.runtime.spawn(upload);
        }
    }
    let deadline = current();
    let timer = (!deadline.is_never()).then(|| {
        let call = call.clone();
        shared.timekeeper.call_at(deadline.instant(), move || call.end())
    });
    Ok(Waiting { call: Held(call), timer })
}

/// As HTTP/2 wants it (RFC 9113, 8.2.2 and 8.3.1).
fn head<B: Body>(target: &Target, request: Request<B>) -> Result<(Request<()>, B), Error> {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path_and_query().cloned();
    let path = path.unwrap_or_else(|| PathAndQuery::from_static("/"));
    if parts.method == Method::CONNECT {
        return Err(Error::request("CONNECT makes a tunnel"));
    }
    let authority = parts.uri.authority().unwrap_or(&target.authority).clone();
    parts.uri = Uri::builder()
        .scheme(target.scheme.clone())
        .authority(authority)
        .path_and_query(path)
        .build()
        .map_err(|_| Error::request("its URI makes none with the channel's"))?;
    parts.version = Version::HTTP_2;
    let headers = &mut parts.headers;
    if !headers.is_empty() {
        headers.remove(HOST);
        hop::strip(headers);
    }
    let has_meaning = matches!(parts.method, Method::POST | Method::PUT | Method::PATCH);
    if let Some(length) = body.size_hint().exact()
        && (length > 0 || has_meaning)
        && !headers.contains_key(CONTENT_LENGTH)
    {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    let mut head = Request::new(());
    *head.method_mut() = parts.method;
    *head.uri_mut() = parts.uri;
    *head.version_mut() = parts.version;
    *head.headers_mut() = parts.headers;
    Ok((head, body))
}

/// Who waits for a call. Dropping it ends the call.
struct Held(Arc<Call>);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.end();
    }
}

struct Waiting {
    call: Held,
    /// Ends the call at its deadline, also if nobody polls it.
    timer: Option<Callback>,
}

/// The future of a [`Wire`].
#[must_use = "futures do nothing unless polled"]
pub struct WireFuture(Option<Result<Waiting, Error>>);

impl Future for WireFuture {
    type Output = Result<Response<Incoming>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let sent = self.0.as_ref().expect("not polled after it was ready");
        let polled = match sent {
            Err(error) => Err(error.clone()),
            Ok(waiting) => ready!(waiting.call.0.poll_head(cx)),
        };
        let Some(Ok(waiting)) = self.0.take() else {
            return Poll::Ready(polled.map(|_| unreachable!("it wasn't sent")));
        };
        let expected = |head: &Response<()>| {
            let length = head.headers().get(CONTENT_LENGTH)?;
            length.to_str().ok()?.parse().ok()
        };
        Poll::Ready(polled.map(|head| {
            let left = expected(&head);
            head.map(|()| Incoming { waiting, left })
        }))
    }
}

/// The body of an answer. Dropping it before its end resets the stream.
///
/// # Errors
///
/// The peer has reset the stream, or the connection has failed; or the deadline has passed.
pub struct Incoming {
    waiting: Waiting,
    /// As far as the peer has told.
    left: Option<u64>,
}

impl Body for Incoming {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let polled = ready!(self.waiting.call.0.poll_piece(cx));
        let piece = polled.map(|piece| match piece? {
            Piece::Data(data) => {
                self.left = self.left.map(|left| left.saturating_sub(data.len() as u64));
                Ok(Frame::data(data))
            }
            Piece::Trailers(trailers) => Ok(Frame::trailers(trailers)),
        });
        // Unless its upload goes on, which has the deadline, too.
        if !matches!(&piece, Some(Ok(frame)) if frame.is_data())
            && self.waiting.call.0.is_complete()
        {
            self.waiting.timer = None;
        }
        Poll::Ready(piece)
    }

    fn is_end_stream(&self) -> bool {
        self.waiting.call.0.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Wire").field("target", &self.endpoint.target).finish_non_exhaustive()
    }
}

impl fmt::Debug for WireFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WireFuture").finish_non_exhaustive()
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming").field("left", &self.left).finish_non_exhaustive()
    }
}
