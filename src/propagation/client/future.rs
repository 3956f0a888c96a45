//! Until the answer begins.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::uri::Authority;
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::ResponseBody;
use super::layer::Config;
use crate::clock::{Elapsed, Instant};
use crate::deadline::{Deadline, Expired, Ledger, Origin, Phase, Provenance};
use crate::propagation::body::Sent;
use crate::propagation::dispatch::Dispatch;
use crate::propagation::protocol::{BoxError, Protocol};
use crate::propagation::stats::{Event, Stats};
use crate::time::{Sleep, sleep_until};

pin_project! {
    /// The future of a [`Client`](super::Client).
    ///
    /// # Cancel safety
    ///
    /// Dropping it drops the call inside, which cancels that.
    ///
    /// # Errors
    ///
    /// The deadline has passed, before the call or during it; or the service inside has failed.
    #[must_use = "futures do nothing unless polled"]
    pub struct ClientFuture<S, B, F, P> {
        #[pin]
        dispatch: Dispatch<S, B, F>,
        call: Option<Call>,
        protocol: std::marker::PhantomData<fn() -> P>,
    }
}

/// A call from when it is made to the end of its answer.
pub(super) struct Call {
    config: Arc<Config>,
    /// There may be none.
    provenance: Option<Provenance>,
    /// When the last piece of the answer was read, while there is a limit to the next.
    piece_at: Option<Instant<Elapsed>>,
    sleep: Option<Sleep<Elapsed>>,
    ledger: Ledger,
    sent: Option<Sent>,
    peer: Option<Authority>,
}

impl Call {
    pub(super) fn new(
        config: Arc<Config>,
        provenance: Option<Provenance>,
        peer: Option<Authority>,
        sent: Option<Sent>,
        now: Instant<Elapsed>,
    ) -> Self {
        let ledger = Ledger::begin(Phase::Queue, now);
        Self { config, provenance, piece_at: None, sleep: None, ledger, sent, peer }
    }

    pub(super) fn stats(&self) -> &Stats {
        &self.config.stats
    }

    /// Whether time is up.
    pub(super) fn has_expired(&self, now: Instant<Elapsed>) -> bool {
        self.limit().is_some_and(|limit| limit.deadline().instant() <= now)
    }

    /// What ended a call that failed at `now`, if it was time: its own deadline, or, if the failure says only
    /// that somebody gave up, what the callee was given. tonic's `Channel` keeps that one, too.
    fn passed(&self, now: Instant<Elapsed>, is_cancelled: bool) -> Option<Provenance> {
        let has_passed = |limit: &Provenance| limit.deadline().instant() <= now;
        let own = self.limit().filter(has_passed);
        own.or_else(|| self.given().filter(|limit| is_cancelled && has_passed(limit)))
    }

    /// What the callee has.
    fn given(&self) -> Option<Provenance> {
        self.provenance.map(|it| {
            let deadline = it.deadline().earlier_by(self.config.outgoing.allowance);
            Provenance::new(deadline, it.origin(), it.set_at())
        })
    }

    /// What comes first: the deadline, or that of the next piece.
    fn limit(&self) -> Option<Provenance> {
        let idle = self
            .piece_at
            .map(|at| Provenance::new(Deadline::at(at + self.config.idle), Origin::Idle, at));
        match (self.provenance, idle) {
            (Some(provenance), Some(idle)) => Some(provenance.min(idle)),
            (provenance, idle) => provenance.or(idle),
        }
    }

    /// After what is waited for was polled.
    pub(super) fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<Instant<Elapsed>> {
        let Some(limit) = self.limit() else { return Poll::Pending };
        let at = limit.deadline().instant();
        let sleep = self.sleep.get_or_insert_with(|| sleep_until(at));
        if sleep.deadline() != at {
            Pin::new(&mut *sleep).reset(at);
        }
        Pin::new(sleep).poll(cx).map(|()| Instant::now())
    }

    pub(super) fn expire(&mut self, event: Event, now: Instant<Elapsed>) -> Expired {
        let limit = self.limit().expect("what has passed was there");
        self.fail(event, limit, now)
    }

    fn fail(&mut self, event: Event, limit: Provenance, now: Instant<Elapsed>) -> Expired {
        self.stats().count(event);
        if self.ledger.phase() == Phase::Send
            && let Some(at) = self.sent.as_ref().and_then(Sent::get)
        {
            self.ledger.enter(Phase::Wait, at);
        }
        let expired = Expired::new(limit, now).with_ledger(&self.ledger);
        match (&self.config.peer, &self.peer) {
            (Some(peer), _) => expired.with_peer(peer.clone()),
            (None, Some(authority)) => expired.with_peer(authority.as_str()),
            (None, None) => expired,
        }
    }

    /// The service is ready: the request is about to be sent. An error if it is too late for that.
    fn send<B>(&mut self, request: &mut Request<B>, now: Instant<Elapsed>) -> Result<(), Expired> {
        if let (Some(provenance), Some(given)) = (self.provenance, self.given()) {
            let outgoing = &self.config.outgoing;
            if outgoing.stamp(request.headers_mut(), provenance.deadline(), now).is_err() {
                return Err(self.fail(Event::OnArrival, given, now));
            }
        }
        self.ledger.enter(if self.sent.is_some() { Phase::Send } else { Phase::Wait }, now);
        Ok(())
    }

    /// The answer has begun.
    fn answered(&mut self, now: Instant<Elapsed>) {
        if let Some(at) = self.sent.as_ref().and_then(Sent::get) {
            self.ledger.enter(Phase::Wait, at);
        }
        self.ledger.enter(Phase::Body, now);
        self.read(now);
    }

    /// A piece of it was read.
    pub(super) fn read(&mut self, now: Instant<Elapsed>) {
        self.piece_at = (self.config.idle != std::time::Duration::MAX).then_some(now);
    }
}

impl<S, B, F, P> ClientFuture<S, B, F, P> {
    fn new(dispatch: Dispatch<S, B, F>, call: Option<Call>) -> Self {
        Self { dispatch, call, protocol: std::marker::PhantomData }
    }

    pub(super) fn passing(dispatch: Dispatch<S, B, F>) -> Self {
        Self::new(dispatch, None)
    }

    pub(super) fn calling(dispatch: Dispatch<S, B, F>, call: Call) -> Self {
        Self::new(dispatch, Some(call))
    }

    pub(super) fn too_late(call: Call) -> Self {
        Self::new(Dispatch::Over, Some(call))
    }
}

impl<S, B, R, P> Future for ClientFuture<S, B, S::Future, P>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: Into<BoxError>,
    R: Body,
    P: Protocol,
{
    type Output = Result<Response<ResponseBody<R, P>>, P::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut dispatch = this.dispatch;
        let Some(call) = this.call else {
            let response = ready!(dispatch.poll(cx)).map_err(|error| P::other(error.into()))?;
            return Poll::Ready(Ok(response.map(ResponseBody::passing)));
        };
        if matches!(*dispatch, Dispatch::Over) {
            let expired = call.expire(Event::OnArrival, Instant::now());
            return Poll::Ready(Err(P::expired(expired)));
        }
        if dispatch.is_queued() {
            match dispatch.as_mut().poll_ready(cx) {
                Poll::Pending => {
                    let now = ready!(call.poll_expired(cx));
                    dispatch.set(Dispatch::Over);
                    return Poll::Ready(Err(P::expired(call.expire(Event::OnArrival, now))));
                }
                Poll::Ready(Err(error)) => {
                    let error = P::other(error.into());
                    return Poll::Ready(Err(classify::<P>(call, error, Event::OnArrival)));
                }
                Poll::Ready(Ok(())) => {}
            }
            let now = Instant::now();
            let mut sent = Ok(());
            dispatch.as_mut().call_if(|request| {
                sent = call.send(request, now);
                sent.is_ok()
            });
            if let Err(expired) = sent {
                dispatch.set(Dispatch::Over);
                return Poll::Ready(Err(P::expired(expired)));
            }
        }
        let response = match dispatch.as_mut().poll_called(cx) {
            Poll::Pending => {
                let now = ready!(call.poll_expired(cx));
                dispatch.set(Dispatch::Over);
                return Poll::Ready(Err(P::expired(call.expire(Event::BeforeHeaders, now))));
            }
            Poll::Ready(Err(error)) => {
                let error = P::other(error.into());
                return Poll::Ready(Err(classify::<P>(call, error, Event::BeforeHeaders)));
            }
            Poll::Ready(Ok(response)) => response,
        };
        let (mut head, body) = response.into_parts();
        if P::sanitize(&mut head.headers) {
            call.stats().count(Event::BadDetails);
        }
        let now = Instant::now();
        if P::may_be_expiry(&head)
            && let Some(limit) = call.passed(now, P::is_cancelled(&head))
        {
            return Poll::Ready(Err(P::expired(call.fail(Event::BeforeHeaders, limit, now))));
        }
        call.answered(now);
        let body = ResponseBody::of(&head, body, this.call.take());
        Poll::Ready(Ok(Response::from_parts(head, body)))
    }
}

/// A failure after the deadline is the deadline's, whatever the transport calls it.
pub(super) fn classify<P: Protocol>(call: &mut Call, error: P::Error, event: Event) -> P::Error {
    let now = Instant::now();
    if P::error_may_be_expiry(&error)
        && let Some(limit) = call.passed(now, P::error_is_cancelled(&error))
    {
        return P::expired(call.fail(event, limit, now));
    }
    error
}

impl<S, B, F, P> fmt::Debug for ClientFuture<S, B, F, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let provenance = self.call.as_ref().and_then(|call| call.provenance);
        f.debug_struct("ClientFuture").field("deadline", &provenance).finish_non_exhaustive()
    }
}
