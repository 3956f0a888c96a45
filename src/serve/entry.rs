//! Where hyper hands over a call of HTTP/1, and what it sends back.

use std::cell::RefCell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::body::Incoming;
use super::listener::Peer;
use super::registry::Connection;
use super::served::BoxError;
use crate::deadline::Deadline;
use crate::propagation::server::{ResponseBody, Server, ServerFuture};
use crate::propagation::{Protocol, RequestBody};

/// The service of one connection, as hyper calls it.
pub(super) struct Entry<S, P> {
    // Of one task's. Without this, each call would clone it.
    service: RefCell<Server<S, P>>,
    peer: Option<Peer>,
    connection: Arc<Connection>,
}

impl<S, P> Entry<S, P> {
    pub(super) fn new(
        service: Server<S, P>,
        peer: Option<Peer>,
        connection: Arc<Connection>,
    ) -> Self {
        Self { service: RefCell::new(service), peer, connection }
    }
}

impl<S, R, P> hyper::service::Service<Request<hyper::body::Incoming>> for Entry<S, P>
where
    S: Service<Request<RequestBody<Incoming, P>>, Response = Response<R>> + Clone,
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
    P: Protocol,
{
    type Response = Response<Answer<R, P>>;
    type Error = S::Error;
    type Future = Answering<S, S::Future, P>;

    fn call(&self, request: Request<hyper::body::Incoming>) -> Self::Future {
        let mut request = request.map(|body| Incoming::http1(body, self.connection.clone()));
        if let Some(peer) = &self.peer {
            request.extensions_mut().insert(peer.clone());
        }
        let future = self.service.borrow_mut().call(request);
        let deadline = future.deadline();
        self.connection.call_begins(deadline);
        Answering { future, deadline, exchange: Some(Exchange(self.connection.clone())) }
    }
}

/// A call, until its answer has been handed over to its end.
struct Exchange(Arc<Connection>);

impl Exchange {
    fn is_uploading(&self) -> bool {
        self.0.is_uploading()
    }
}

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
        let mut response = ready!(this.future.poll(cx))?;
        // The rest of an upload isn't read any more, and hyper closes the connection. A client that isn't told would
        // make its next call on it.
        if response.body().is_ours() && this.exchange.as_ref().is_some_and(Exchange::is_uploading) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        let (deadline, exchange) = (*this.deadline, this.exchange.take());
        Poll::Ready(Ok(response.map(|body| Answer { body, deadline, is_cut: false, exchange })))
    }
}

pin_project! {
    /// The body of an answer.
    ///
    /// One that its deadline ends in the middle never says so: it waits, and whoever polls it is dropped,
    /// with the connection.
    pub(super) struct Answer<R, P: Protocol> {
        #[pin]
        body: ResponseBody<R, P>,
        deadline: Deadline,
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
        match ready!(this.body.poll_frame(cx)) {
            Some(Err(_)) if this.deadline.is_expired() => {
                *this.is_cut = true;
                Poll::Pending
            }
            frame => Poll::Ready(frame),
        }
    }

    fn is_end_stream(&self) -> bool {
        !self.is_cut && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
