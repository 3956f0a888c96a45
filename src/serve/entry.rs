//! Where hyper hands over a call, and what it sends back.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::listener::Peer;
use super::registry::Connection;
use super::stream;
use crate::deadline::Deadline;
use crate::propagation::server::{ResponseBody, Server, ServerFuture};
use crate::propagation::{Protocol, RequestBody};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// More than this of a body isn't handed over at once over HTTP/2, where what is handed over is out of reach:
/// h2 keeps what exceeds the window. It is the size of a frame, unless a peer asks for more.
const PIECE: usize = 16 << 10;

/// The service of one connection, as hyper calls it.
pub(super) struct Entry<S, P> {
    // Of one task's. Without this, each call would clone it.
    service: RefCell<Server<S, P>>,
    over: Over,
    peer: Option<Peer>,
}

/// How the end of a deadline reaches what is served.
enum Over {
    /// A connection that is closed.
    Http1(Arc<Connection>),
    /// A stream that is reset.
    Http2,
}

impl<S, P> Entry<S, P> {
    pub(super) fn http1(
        service: Server<S, P>,
        peer: Option<Peer>,
        connection: Arc<Connection>,
    ) -> Self {
        Self { service: RefCell::new(service), over: Over::Http1(connection), peer }
    }

    pub(super) fn http2(service: Server<S, P>, peer: Option<Peer>) -> Self {
        Self { service: RefCell::new(service), over: Over::Http2, peer }
    }
}

impl<S, R, P> hyper::service::Service<Request<Incoming>> for Entry<S, P>
where
    S: Service<Request<RequestBody<Incoming, P>>, Response = Response<R>> + Clone,
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
    P: Protocol,
{
    type Response = Response<Answer<R, P>>;
    type Error = S::Error;
    type Future = Answering<S, S::Future, P>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        if let Some(peer) = &self.peer {
            request.extensions_mut().insert(peer.clone());
        }
        let future = self.service.borrow_mut().call(request);
        let deadline = future.deadline();
        match &self.over {
            Over::Http1(connection) => {
                connection.call_begins(deadline);
                Answering { future, deadline, exchange: Some(Exchange(connection.clone())) }
            }
            Over::Http2 => {
                stream::hand_over(deadline);
                // The stream has a timer for both.
                Answering { future: future.woken(), deadline, exchange: None }
            }
        }
    }
}

/// A call over HTTP/1, until its answer has been handed over to its end.
struct Exchange(Arc<Connection>);

impl Drop for Exchange {
    fn drop(&mut self) {
        self.0.call_ends();
    }
}

pin_project! {
    /// Until there is an answer.
    pub(super) struct Answering<S, F, P: Protocol> {
        #[pin]
        future: ServerFuture<S, RequestBody<Incoming, P>, F, P>,
        deadline: Deadline,
        exchange: Option<Exchange>,
    }
}

impl<S, R, P> Future for Answering<S, S::Future, P>
where
    S: Service<Request<RequestBody<Incoming, P>>, Response = Response<R>>,
    R: Body,
    P: Protocol,
{
    type Output = Result<Response<Answer<R, P>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.future.poll(cx))?;
        let exchange = this.exchange.take();
        let in_pieces = exchange.is_none() && !this.deadline.is_never();
        let deadline = *this.deadline;
        Poll::Ready(Ok(response.map(|body| Answer {
            body,
            deadline,
            rest: Bytes::new(),
            in_pieces,
            is_cut: false,
            exchange,
        })))
    }
}

pin_project! {
    /// The body of an answer.
    ///
    /// One that its deadline ends in the middle never says so: it waits, and whoever polls it is dropped, as
    /// stream or as connection. An error would be a reset with INTERNAL_ERROR.
    pub(super) struct Answer<R, P: Protocol> {
        #[pin]
        body: ResponseBody<R, P>,
        deadline: Deadline,
        // Of the last piece.
        rest: Bytes,
        in_pieces: bool,
        // There is nothing more of it, and that is no end.
        is_cut: bool,
        exchange: Option<Exchange>,
    }

    impl<R, P: Protocol> PinnedDrop for Answer<R, P> {
        fn drop(this: Pin<&mut Self>) {
            this.project().body.give_up();
        }
    }
}

impl<R, P> Body for Answer<R, P>
where
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
    P: Protocol,
{
    type Data = Bytes;
    type Error = P::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, P::Error>>> {
        let this = self.project();
        if *this.is_cut {
            return Poll::Pending;
        }
        if !this.rest.is_empty() {
            let piece = this.rest.split_to(this.rest.len().min(PIECE));
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        match ready!(this.body.poll_frame(cx)) {
            Some(Ok(frame)) if *this.in_pieces => Poll::Ready(Some(Ok(match frame.into_data() {
                Ok(mut data) if data.len() > PIECE => {
                    let piece = data.split_to(PIECE);
                    *this.rest = data;
                    Frame::data(piece)
                }
                Ok(data) => Frame::data(data),
                Err(frame) => frame,
            }))),
            Some(Err(_)) if this.deadline.is_expired() => {
                *this.is_cut = true;
                Poll::Pending
            }
            frame => Poll::Ready(frame),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && !self.is_cut && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let inside = self.body.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(inside.lower().saturating_add(rest));
        if let Some(upper) = inside.upper().and_then(|upper| upper.checked_add(rest)) {
            hint.set_upper(upper);
        }
        hint
    }
}
