//! While the answer is sent.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http::response::Parts;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::future::Call;
use crate::propagation::protocol::{BoxError, Protocol};
use crate::telemetry::Stage;

pin_project! {
    /// The body of an answer of a [`Server`](super::Server): the handler's, which has the deadline of its
    /// call; or what is answered in its place.
    ///
    /// The deadline is [current](crate::deadline::current) while it is polled. It is noticed only then: a
    /// body that nobody polls, since the peer doesn't read, can't end by itself.
    ///
    /// # Errors
    ///
    /// The deadline has passed (with gRPC: in the middle of a message; between messages there are trailers
    /// that say so), or the body inside has failed.
    pub struct ResponseBody<B, P: Protocol> {
        #[pin]
        source: Source<B>,
        call: Option<Box<Call<P>>>,
        framing: P::Framing,
    }
}

pin_project! {
    #[project = Projected]
    enum Source<B> {
        Handler { #[pin] body: B },
        Whole { rest: Option<Bytes> },
    }
}

impl<B, P: Protocol> ResponseBody<B, P> {
    pub(super) fn whole(bytes: Bytes) -> Self {
        let rest = (!bytes.is_empty()).then_some(bytes);
        Self { source: Source::Whole { rest }, call: None, framing: P::Framing::default() }
    }

    pub(super) fn passing(head: &mut Parts, body: B, call: Option<Box<Call<P>>>) -> Self
    where
        B: Body,
    {
        let mut call = call;
        if body.is_end_stream() {
            complete(&mut call);
        }
        let framing = if call.is_some() { P::framing(head) } else { P::Framing::default() };
        Self { source: Source::Handler { body }, call, framing }
    }
}

#[cfg(feature = "serve")]
impl<B, P: Protocol> ResponseBody<B, P> {
    /// The deadline has come, for one that has no timer of its own: to be polled once more.
    pub(crate) fn come_due(self: Pin<&mut Self>) {
        if let Some(call) = self.project().call {
            call.open.come_due();
        }
    }

    /// It isn't to be sent, and the answer is complete without it.
    pub(crate) fn needless(mut self) {
        complete(&mut self.call);
    }

    /// Before it is polled: whether it is what is answered in the handler's place.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self.source, Source::Whole { .. })
    }

    /// It is about to be dropped: if that is since its deadline has passed, then it has expired.
    pub(crate) fn give_up(self: Pin<&mut Self>) {
        let call = self.project().call;
        if let Some(late) = call
            && late.deadline.is_expired()
        {
            late.expire(Stage::Body);
            *call = None;
        }
    }
}

/// What the call has started goes on.
fn complete<P: Protocol>(call: &mut Option<Box<Call<P>>>) {
    if let Some(call) = call.take() {
        call.open.complete();
    }
}

impl<B, P> Body for ResponseBody<B, P>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
    P: Protocol,
{
    type Data = Bytes;
    type Error = P::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, P::Error>>> {
        let mut this = self.project();
        let mut body = match this.source.as_mut().project() {
            Projected::Whole { rest } => {
                return Poll::Ready(rest.take().map(|rest| Ok(Frame::data(rest))));
            }
            Projected::Handler { body } => body,
        };
        let Some(call) = this.call else {
            let polled = body.poll_frame(cx);
            return polled.map(|it| it.map(|it| it.map_err(|error| P::other(error.into()))));
        };
        let began = call.now();
        // Late messages aren't sent, however many are there.
        if !call.deadline.is_expired() {
            let (polled, ended) = call.run(began, || body.as_mut().poll_frame(cx));
            match polled {
                Poll::Pending => ready!(call.poll_expired(ended, cx)),
                Poll::Ready(Some(Ok(mut frame))) => {
                    let fails = |trailers: &mut HeaderMap| {
                        let fails = P::is_failure_at_end(trailers);
                        let is_late = fails && call.deadline.is_expired();
                        if fails && !is_late {
                            call.add_blame(P::tells_expiry_at_end(trailers), trailers);
                        }
                        is_late
                    };
                    if !frame.trailers_mut().is_some_and(fails) {
                        if let Some(data) = frame.data_ref() {
                            P::pass(this.framing, data);
                        }
                        if frame.is_trailers() || body.is_end_stream() {
                            complete(this.call);
                        }
                        return Poll::Ready(Some(Ok(frame)));
                    }
                }
                Poll::Ready(None) => {
                    complete(this.call);
                    return Poll::Ready(None);
                }
                Poll::Ready(Some(Err(error))) => {
                    if !call.deadline.is_expired() {
                        return Poll::Ready(Some(Err(P::other(error.into()))));
                    }
                }
            }
        }
        call.give_up(|| this.source.set(Source::Whole { rest: None }));
        let expired = call.expire(Stage::Body);
        let end = call.cut(this.framing, &expired);
        *this.call = None;
        Poll::Ready(Some(end))
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Handler { body } => body.is_end_stream(),
            Source::Whole { rest } => rest.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            // What is said to have a length may not have another.
            Source::Handler { .. } if self.call.is_some() && P::may_grow(&self.framing) => {
                SizeHint::default()
            }
            Source::Handler { body } => body.size_hint(),
            Source::Whole { rest } => {
                SizeHint::with_exact(rest.as_ref().map_or(0, |rest| rest.len() as u64))
            }
        }
    }
}

impl<B, P: Protocol> fmt::Debug for ResponseBody<B, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody")
            .field("deadline", &self.call.as_ref().map(|call| call.deadline))
            .finish_non_exhaustive()
    }
}
