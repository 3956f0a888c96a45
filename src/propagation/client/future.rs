//! Until the answer begins.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::uri::Authority;
use http::{HeaderMap, Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::ResponseBody;
use super::layer::Config;
use crate::clock::{Elapsed, Instant};
use crate::deadline::ambient::{self, Frame};
use crate::deadline::{Blame, Deadline, Expired, Hop, Origin, Phase, Provenance, Waited};
use crate::propagation::account::{Account, asking};
use crate::propagation::blame;
use crate::propagation::body::Sent;
use crate::propagation::dispatch::Dispatch;
use crate::propagation::http::DEADLINE_EXCEEDED;
use crate::propagation::pace::Pace;
use crate::propagation::protocol::{BoxError, Protocol};
use crate::propagation::stats::Stats;
use crate::telemetry::{Stage, Trace};
use crate::time::{Sleep, sleep_until};

/// What a callee may be told less by a unit that is coarse.
const ROUNDING: Duration = Duration::from_millis(1);

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
    /// Whether that is the caller's as a whole.
    is_whole: bool,
    /// Whether it is known how it has ended.
    is_over: bool,
    /// When the header was written, if one was, and until when the callee had been given.
    sent_at: Option<(Instant<Elapsed>, Deadline)>,
    /// When the last piece of the answer was read, while there is a limit to the next.
    piece_at: Option<Instant<Elapsed>>,
    /// Made when it has to wait.
    sleep: Option<Sleep<Elapsed>>,
    account: Account,
    /// While there is a deadline.
    trace: Option<Trace>,
    sent: Option<Sent>,
    peer: Option<Authority>,
}

impl Call {
    pub(super) fn new(
        config: Arc<Config>,
        provenance: Option<Provenance>,
        is_whole: bool,
        peer: Option<Authority>,
        sent: Option<Sent>,
        pace: Pace,
        trace: Option<Trace>,
    ) -> Self {
        let account = Account::begin(pace, &config.stats);
        let sent_at = None;
        Self {
            config,
            provenance,
            is_whole,
            is_over: false,
            sent_at,
            piece_at: None,
            sleep: None,
            account,
            trace,
            sent,
            peer,
        }
    }

    pub(super) fn stats(&self) -> &Stats {
        &self.config.stats
    }

    /// Whether time is up.
    pub(super) fn has_expired(&self) -> bool {
        self.limit().is_some_and(|limit| limit.deadline().is_expired())
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
    pub(super) fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(limit) = self.limit() else { return Poll::Pending };
        let at = limit.deadline().instant();
        let sleep = self.sleep.get_or_insert_with(|| sleep_until(at));
        if sleep.deadline() != at {
            Pin::new(&mut *sleep).reset(at);
        }
        Pin::new(sleep).poll(cx)
    }

    /// With what an answer that came too late has told.
    pub(super) fn expire(&mut self, stage: Stage, blame: Option<Blame>) -> Expired {
        let limit = self.limit().expect("what has passed was there");
        self.fail(stage, limit, Instant::now(), blame)
    }

    /// The same for a call that was cancelled, by the callee or on the way there, when the callee's time was
    /// up, which may be before the deadline.
    fn cancelled(&mut self, stage: Stage, blame: &mut Option<Blame>) -> Option<Expired> {
        let (provenance, now) = (self.provenance?, Instant::now());
        let told = self.told()?;
        let limit = shortened(provenance, told);
        (told.instant() <= now).then(|| self.fail(stage, limit, now, blame.take()))
    }

    /// When the callee's time is up, by what was written.
    fn told(&self) -> Option<Deadline> {
        let (at, callees) = self.sent_at?;
        self.config.outgoing.told(callees, at)
    }

    /// Whether by then all is used up that the callee could be given, but for what rounding took.
    fn is_all(&self, until: Deadline) -> bool {
        self.sent_at.is_none_or(|(at, callees)| {
            let left = callees.remaining_at(at);
            left.saturating_sub(until.remaining_at(at)) <= ROUNDING.max(left / 100)
        })
    }

    fn peer(&self) -> Option<&str> {
        self.config.peer.as_deref().or(self.peer.as_ref().map(Authority::as_str))
    }

    /// What is waited for until `now`.
    fn waited(&mut self, now: Instant<Elapsed>) -> Waited {
        if self.account.phase() == Phase::Send {
            self.enter_wait();
        }
        let (phase, took) = self.account.current(now);
        Waited { peer: self.peer().map(Box::from), phase, took }
    }

    /// Takes what a failure tells of where the time went out of its headers.
    pub(super) fn learn<P: Protocol>(&mut self, headers: &mut HeaderMap) -> Option<Blame> {
        let hops = self.take_hops::<P>(headers);
        let whose = headers.get(DEADLINE_EXCEEDED);
        if hops.is_empty() && whose.is_none() {
            return None;
        }
        let is_told = whose.is_some_and(|whose| whose == blame::TOLD);
        let is_all = || self.told().is_some_and(|told| self.is_all(told));
        let is_whole = is_told && self.is_whole && is_all();
        let waited = self.waited(Instant::now());
        Some(Blame::new(Some(waited), hops, is_whole))
    }

    /// None, if it is malformed.
    fn take_hops<P: Protocol>(&self, headers: &mut HeaderMap) -> Vec<Hop> {
        let mut values = headers.get_all(P::BLAME).iter();
        let read = match (values.next(), values.next()) {
            (None, _) => return vec![],
            (Some(value), None) => blame::decode(value.as_bytes()).ok(),
            // Which of them is it?
            (Some(_), Some(_)) => None,
        };
        headers.remove(P::BLAME);
        if read.is_none() {
            self.stats().dropped_blame();
        }
        let mut hops = read.unwrap_or_default();
        if let Some(nearest) = hops.first_mut()
            && nearest.service.is_none()
        {
            nearest.service = self.peer().map(Box::from);
        }
        hops
    }

    /// The answer is a failure that says this, and isn't late.
    pub(super) fn blames(&mut self, blame: &Blame) {
        self.is_over = true;
        if let Some(trace) = &self.trace {
            trace.blames(blame);
        }
        // What gives up earlier than it has to leaves time for something else.
        let spent = Deadline::at(Instant::now());
        let until = self.provenance.filter(|_| blame.used_whole_budget());
        ambient::leave(blame, until.map_or(spent, |provenance| provenance.deadline()));
    }

    fn fail(
        &mut self,
        stage: Stage,
        limit: Provenance,
        now: Instant<Elapsed>,
        blame: Option<Blame>,
    ) -> Expired {
        self.is_over = true;
        let is_idle = limit.origin() == Origin::Idle;
        let hops = blame.map(Blame::into_hops).unwrap_or_default();
        let has_hops = !hops.is_empty();
        let is_whole = self.is_whole && !is_idle && self.is_all(limit.deadline());
        let blame = Blame::new(Some(self.waited(now)), hops, is_whole);
        // Less of it was the callee's.
        let until = self.provenance.filter(|_| !is_idle).unwrap_or(limit);
        ambient::leave(&blame, until.deadline());
        let expired = self.account.explain(Expired::new(limit, now));
        let expired = expired.with_whole(is_whole).with_blame(has_hops.then_some(blame));
        let expired = match self.peer() {
            Some(peer) => expired.with_peer(peer),
            None => expired,
        };
        self.stats().expired(stage, expired.origin());
        if let Some(trace) = &self.trace {
            trace.expired(stage, &expired);
        }
        expired
    }

    /// If the request is known to have been sent to its end.
    fn enter_wait(&mut self) {
        if let Some(at) = self.sent.as_ref().and_then(Sent::get) {
            self.account.enter(Phase::Wait, at);
        }
    }

    /// Runs what is part of the call.
    pub(super) fn run<R>(&self, f: impl FnOnce() -> R) -> R {
        match &self.trace {
            Some(trace) => trace.run(f),
            None => f(),
        }
    }

    /// The service isn't ready.
    fn wait_in(&mut self, phase: Phase) {
        if self.account.phase() != phase {
            let now = self.account.pace().now();
            self.account.enter(phase, now);
        }
    }

    /// The service is ready: the request is about to be sent. An error if it is too late for that.
    fn send<B>(&mut self, request: &mut Request<B>) -> Result<(), Expired> {
        if let Some(provenance) = self.provenance {
            let now = Instant::now();
            let outgoing = &self.config.outgoing;
            let callees = outgoing.for_callee(provenance.deadline(), now);
            self.sent_at = Some((now, callees));
            if outgoing.stamp(request.headers_mut(), callees, now).is_err() {
                let shorter = shortened(provenance, callees);
                return Err(self.fail(Stage::Queue, shorter, now, None));
            }
        }
        let phase = if self.sent.is_some() { Phase::Send } else { Phase::Wait };
        let now = self.account.pace().now();
        self.account.enter(phase, now);
        Ok(())
    }

    /// The answer has begun.
    fn answered(&mut self) {
        self.enter_wait();
        let now = self.account.pace().now();
        self.account.enter(Phase::Body, now);
        self.read();
    }

    /// A piece of it was read.
    pub(super) fn read(&mut self) {
        self.piece_at = (self.config.idle != Duration::MAX).then(Instant::now);
    }
}

impl Drop for Call {
    /// One that is under way when somebody's time is up is what was waited for.
    fn drop(&mut self) {
        if ambient::is_giving_up()
            && !self.is_over
            && let Some(provenance) = self.provenance
        {
            let waited = self.waited(Instant::now());
            ambient::leave(&Blame::new(Some(waited), vec![], self.is_whole), provenance.deadline());
        }
    }
}

/// What set a deadline, for a part of its time.
fn shortened(provenance: Provenance, deadline: Deadline) -> Provenance {
    Provenance::new(deadline, provenance.origin(), provenance.set_at())
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
            let expired = call.expire(Stage::Arrival, None);
            return Poll::Ready(Err(P::expired(expired)));
        }
        if dispatch.is_queued() {
            let (is_ready, phase) = asking(|| call.run(|| dispatch.as_mut().poll_ready(cx)));
            match is_ready {
                Poll::Pending => {
                    call.wait_in(phase);
                    ready!(call.poll_expired(cx));
                    dispatch.set(Dispatch::Over);
                    return Poll::Ready(Err(P::expired(call.expire(Stage::Queue, None))));
                }
                Poll::Ready(Err(error)) => {
                    let error = P::other(error.into());
                    return Poll::Ready(Err(classify::<P>(call, error, Stage::Queue)));
                }
                Poll::Ready(Ok(())) => {}
            }
            let mut sent = Ok(());
            let trace = call.trace.clone();
            // Whatever is inside has the call's own deadline for the one that is current.
            let mut frame = call.provenance.map(Frame::of);
            let mut begin = || {
                Frame::enter(&mut frame, || {
                    dispatch.as_mut().call_if(|request| {
                        sent = call.send(request);
                        sent.is_ok()
                    });
                });
            };
            match trace {
                Some(trace) => trace.run(begin),
                None => begin(),
            }
            if let Err(expired) = sent {
                dispatch.set(Dispatch::Over);
                return Poll::Ready(Err(P::expired(expired)));
            }
        }
        let response = match call.run(|| dispatch.as_mut().poll_called(cx)) {
            Poll::Pending => {
                ready!(call.poll_expired(cx));
                dispatch.set(Dispatch::Over);
                return Poll::Ready(Err(P::expired(call.expire(Stage::Headers, None))));
            }
            Poll::Ready(Err(error)) => {
                let error = P::other(error.into());
                return Poll::Ready(Err(classify::<P>(call, error, Stage::Headers)));
            }
            Poll::Ready(Ok(response)) => response,
        };
        let (mut head, body) = response.into_parts();
        if P::sanitize(&mut head.headers) {
            call.stats().removed_details();
        }
        if P::is_failure(&head) {
            let mut blame = call.learn::<P>(&mut head.headers);
            if P::may_be_expiry(&head) && call.has_expired() {
                return Poll::Ready(Err(P::expired(call.expire(Stage::Headers, blame))));
            }
            if P::is_cancelled(&head)
                && let Some(expired) = call.cancelled(Stage::Headers, &mut blame)
            {
                return Poll::Ready(Err(P::expired(expired)));
            }
            if let Some(blame) = blame {
                call.blames(&blame);
                if let Some(error) = P::blame(&mut head, blame) {
                    return Poll::Ready(Err(error));
                }
            }
        }
        call.answered();
        let body = ResponseBody::of(&head, body, this.call.take());
        Poll::Ready(Ok(Response::from_parts(head, body)))
    }
}

/// A failure after the deadline is the deadline's, whatever the transport calls it.
pub(super) fn classify<P: Protocol>(call: &mut Call, error: P::Error, stage: Stage) -> P::Error {
    if P::error_may_be_expiry(&error) && call.has_expired() {
        return P::expired(call.expire(stage, None));
    }
    if P::error_is_cancelled(&error)
        && let Some(expired) = call.cancelled(stage, &mut None)
    {
        return P::expired(expired);
    }
    error
}

impl<S, B, F, P> fmt::Debug for ClientFuture<S, B, F, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let provenance = self.call.as_ref().and_then(|call| call.provenance);
        f.debug_struct("ClientFuture").field("deadline", &provenance).finish_non_exhaustive()
    }
}
