//! Until the answer ends.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::response::Parts;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::future::{Call, classify};
use crate::propagation::protocol::{BoxError, Protocol};
use crate::telemetry::Stage;

pin_project! {
    /// The body of the answer to a call of a [`Client`](super::Client).
    ///
    /// # Errors
    ///
    /// The deadline of the call has passed, or the [idle timeout](super::ClientLayer::idle_timeout); the
    /// body inside is dropped then, which resets the stream. Or the body inside has failed.
    pub struct ResponseBody<B, P> {
        #[pin]
        body: Option<B>,
        call: Option<Call>,
        needs_trailers: bool,
        protocol: PhantomData<fn() -> P>,
    }
}

impl<B, P> ResponseBody<B, P> {
    pub(super) fn passing(body: B) -> Self {
        Self { body: Some(body), call: None, needs_trailers: false, protocol: PhantomData }
    }

    pub(super) fn of(head: &Parts, body: B, call: Option<Call>) -> Self
    where
        P: Protocol,
    {
        Self { call, needs_trailers: P::needs_trailers(head), ..Self::passing(body) }
    }
}

impl<B, P> Body for ResponseBody<B, P>
where
    B: Body,
    B::Error: Into<BoxError>,
    P: Protocol,
{
    type Data = B::Data;
    type Error = P::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, P::Error>>> {
        let mut this = self.project();
        let Some(mut body) = this.body.as_mut().as_pin_mut() else { return Poll::Ready(None) };
        let Some(call) = this.call else {
            let polled = body.poll_frame(cx);
            return polled.map(|it| it.map(|it| it.map_err(|error| P::other(error.into()))));
        };
        let mut blame = None;
        // What comes too late isn't read, however much is there.
        if !call.has_expired() {
            match call.run(|| body.as_mut().poll_frame(cx)) {
                Poll::Pending => ready!(call.poll_expired(cx)),
                Poll::Ready(Some(Ok(frame))) => {
                    let mut trailers = match frame.into_trailers() {
                        Err(frame) => {
                            call.read();
                            return Poll::Ready(Some(Ok(frame)));
                        }
                        Ok(mut trailers) => {
                            if P::sanitize(&mut trailers) {
                                call.stats().removed_details();
                            }
                            trailers
                        }
                    };
                    // A status alone says no more.
                    if trailers.len() > 1 && P::is_failure_at_end(&trailers) {
                        blame = call.learn::<P>(&mut trailers);
                    }
                    if !P::may_be_expiry_at_end(&trailers) || !call.has_expired() {
                        if let Some(blame) = blame {
                            call.blames(&blame);
                            if let Some(error) = P::blame_at_end(&trailers, blame) {
                                this.body.set(None);
                                *this.call = None;
                                return Poll::Ready(Some(Err(error)));
                            }
                        }
                        *this.call = None;
                        *this.needs_trailers = false;
                        return Poll::Ready(Some(Ok(Frame::trailers(trailers))));
                    }
                }
                Poll::Ready(Some(Err(error))) => {
                    let error = classify::<P>(call, P::other(error.into()), Stage::Body);
                    this.body.set(None);
                    *this.call = None;
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Ready(None) => {
                    // A reset by the peer, which is to say why, may look like this.
                    if !*this.needs_trailers || !call.has_expired() {
                        *this.call = None;
                        return Poll::Ready(None);
                    }
                }
            }
        }
        let expired = call.expire(Stage::Body, blame);
        this.body.set(None);
        *this.call = None;
        Poll::Ready(Some(Err(P::expired(expired))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

impl<B: fmt::Debug, P> fmt::Debug for ResponseBody<B, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").field("body", &self.body).finish_non_exhaustive()
    }
}
