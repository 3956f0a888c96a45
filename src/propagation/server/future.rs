//! While the handler runs.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::ResponseBody;
use super::layer::Config;
use super::tell::Tell;
use crate::clock::{Elapsed, Instant};
use crate::deadline::ambient::Inside;
use crate::deadline::open::Open;
use crate::deadline::{Deadline, Expired, Origin, Phase, Provenance};
use crate::propagation::account::Account;
use crate::propagation::dispatch::Dispatch;
use crate::propagation::pace::{Pace, has_come};
use crate::propagation::protocol::Protocol;
use crate::propagation::stats::Stats;
use crate::telemetry::{Stage, Trace};

pin_project! {
    /// The future of a [`Server`](super::Server).
    ///
    /// # Errors
    ///
    /// Those of the service inside. A deadline that has passed is an answer.
    #[must_use = "futures do nothing unless polled"]
    pub struct ServerFuture<S, B, F, P: Protocol> {
        #[pin]
        dispatch: Dispatch<S, B, F>,
        // Boxed, both: this is moved about, and into a task.
        call: Option<Box<Call<P>>>,
        answer: Option<Box<Response<Bytes>>>,
        deadline: Deadline,
    }
}

/// A call that has a deadline, from its arrival to the end of its answer.
pub(super) struct Call<P: Protocol> {
    pub(super) deadline: Deadline,
    pub(super) open: Open,
    config: Arc<Config<P>>,
    manner: P::Manner,
    tell: Tell,
    account: Account,
    trace: Trace,
}

impl<P: Protocol> Call<P> {
    pub(super) fn new(
        provenance: Provenance,
        config: Arc<Config<P>>,
        manner: P::Manner,
        tell: Tell,
        pace: Pace,
        trace: Trace,
    ) -> Self {
        let account = Account::begin(pace, &config.stats);
        Self {
            deadline: provenance.deadline(),
            open: Open::with(provenance),
            config,
            manner,
            tell,
            account,
            trace,
        }
    }

    pub(super) fn stats(&self) -> &Stats {
        &self.config.stats
    }

    /// About.
    pub(super) fn now(&self) -> Instant<Elapsed> {
        self.account.pace().now()
    }

    /// Whether it had expired `about` then.
    pub(super) fn has_expired(&self, about: Instant<Elapsed>) -> bool {
        has_come(self.deadline.instant(), about)
    }

    /// After a poll that ended at `now`, about: whether its time is up. By the clock, before the timer: if
    /// another's is the first to wake the call, like that of tonic's server for the same header, the answer is ours
    /// all the same.
    pub(super) fn poll_expired(&mut self, now: Instant<Elapsed>, cx: &mut Context<'_>) -> Poll<()> {
        if self.has_expired(now) {
            return Poll::Ready(());
        }
        self.open.poll_expired(cx).map(drop)
    }

    /// Runs `f` in the call's scope, from `began` on, and counts it if it goes over the deadline. Returns also
    /// when it ended.
    pub(super) fn run<R>(
        &mut self,
        began: Instant<Elapsed>,
        f: impl FnOnce() -> R,
    ) -> (R, Instant<Elapsed>) {
        let result = self.trace.run(|| self.open.enter(f));
        let ended = self.now();
        if began < self.deadline.instant() && self.has_expired(ended) {
            self.stats().overrun(Instant::now() - self.deadline.instant());
        }
        (result, ended)
    }

    pub(super) fn expire(&mut self, stage: Stage) -> Expired {
        let expired = self.explain(self.open.expire(Instant::now()));
        self.stats().expired(stage, expired.origin());
        self.trace.expired(stage, &expired);
        expired
    }

    fn explain(&self, expired: Expired) -> Expired {
        let is_told = matches!(expired.origin(), Origin::Header(_));
        self.account.explain(expired).with_whole(is_told)
    }

    /// Has `f` drop what runs in the call's scope, since its time is up.
    pub(super) fn give_up(&mut self, f: impl FnOnce()) {
        let open = &mut self.open;
        self.trace.run(|| open.give_up(f));
    }

    /// Has a handler's failure, by its head or its trailers, say where the time went, if a call of its own had
    /// expired before. `is_expiry`: the failure says that itself.
    pub(super) fn add_blame(&self, is_expiry: bool, headers: &mut HeaderMap) {
        let inside = self.open.inside();
        let blame = if is_expiry {
            inside.and_then(Inside::blame)
        } else {
            // What fails for another reason may have got over a call that had less time.
            inside.and_then(|inside| inside.blame_for(self.deadline))
        };
        let now = || self.explain(Expired::new(self.open.provenance(), Instant::now()));
        self.tell.pass_on(&self.config, headers, blame.map(|blame| (now(), blame)), is_expiry);
    }

    /// Tells the caller about its end, between two messages or within one.
    pub(super) fn cut(
        &self,
        framing: &P::Framing,
        expired: &Expired,
    ) -> Result<http_body::Frame<Bytes>, P::Error> {
        let mut end = P::cut(framing, self.tell.outward(expired))?;
        if let Some(trailers) = end.trailers_mut() {
            self.tell.write(&self.config, trailers, expired);
        }
        Ok(end)
    }
}

impl<S, B, F, P: Protocol> ServerFuture<S, B, F, P> {
    pub(super) fn passing(dispatch: Dispatch<S, B, F>) -> Self {
        Self { dispatch, call: None, answer: None, deadline: Deadline::NEVER }
    }

    pub(super) fn limited(dispatch: Dispatch<S, B, F>, call: Call<P>) -> Self {
        let deadline = call.deadline;
        Self { dispatch, call: Some(Box::new(call)), answer: None, deadline }
    }

    /// Answered already, by `deadline` if there is one.
    pub(super) fn answering(answer: Response<Bytes>, deadline: Deadline) -> Self {
        Self { dispatch: Dispatch::Over, call: None, answer: Some(Box::new(answer)), deadline }
    }

    /// That of the call.
    #[cfg(feature = "serve")]
    pub(crate) fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// The same without a timer of its own: whoever polls it, and then the body of its answer, says when the
    /// deadline [has come](Self::come_due).
    #[cfg(feature = "serve")]
    pub(crate) fn woken(mut self) -> Self {
        if let Some(call) = &mut self.call {
            call.open.leave_time();
        }
        self
    }

    /// To be polled once more, then.
    #[cfg(feature = "serve")]
    pub(crate) fn come_due(self: Pin<&mut Self>) {
        if let Some(call) = self.project().call {
            call.open.come_due();
        }
    }
}

impl<S, B, R, P> Future for ServerFuture<S, B, S::Future, P>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Body,
    P: Protocol,
{
    type Output = Result<Response<ResponseBody<R, P>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some(answer) = this.answer.take() {
            return Poll::Ready(Ok(answer.map(ResponseBody::whole)));
        }
        let Some(call) = this.call else {
            let (mut head, body) = ready!(this.dispatch.poll(cx))?.into_parts();
            let body = ResponseBody::passing(&mut head, body, None);
            return Poll::Ready(Ok(Response::from_parts(head, body)));
        };
        let mut dispatch = this.dispatch.as_mut();
        let began = call.now();
        let was_queued = dispatch.is_queued();
        // What has expired isn't begun: by the true clock, which counts a suspension.
        if was_queued && call.deadline.is_expired() {
            let expired = call.expire(Stage::Queue);
            dispatch.set(Dispatch::Over);
            return answer_expired(this.call, &expired);
        }
        let (polled, ended) = call.run(began, || dispatch.as_mut().poll(cx));
        if was_queued && !dispatch.is_queued() {
            call.account.enter(Phase::Wait, began);
        }
        match polled {
            Poll::Pending => expire_if_due(this.call, this.dispatch, ended, cx),
            Poll::Ready(result) => {
                let response = match result {
                    Ok(response) => response,
                    Err(_) if call.deadline.is_expired() => {
                        let expired = call.expire(Stage::Headers);
                        return answer_expired(this.call, &expired);
                    }
                    Err(error) => return Poll::Ready(Err(error)),
                };
                let (mut head, body) = response.into_parts();
                if P::is_failure(&head) {
                    if call.deadline.is_expired() {
                        let expired = call.expire(Stage::Headers);
                        return answer_expired(this.call, &expired);
                    }
                    call.add_blame(P::tells_expiry(&head), &mut head.headers);
                }
                call.account.enter(Phase::Body, ended);
                let body = ResponseBody::passing(&mut head, body, this.call.take());
                Poll::Ready(Ok(Response::from_parts(head, body)))
            }
        }
    }
}

/// After a poll of what runs in it, which ended at `now`.
fn expire_if_due<S, B, F, R, P: Protocol, E>(
    call: &mut Option<Box<Call<P>>>,
    mut dispatch: Pin<&mut Dispatch<S, B, F>>,
    now: Instant<Elapsed>,
    cx: &mut Context<'_>,
) -> Poll<Result<Response<ResponseBody<R, P>>, E>> {
    let Some(limited) = call else { return Poll::Pending };
    ready!(limited.poll_expired(now, cx));
    let stage = if dispatch.is_queued() { Stage::Queue } else { Stage::Headers };
    limited.give_up(|| dispatch.set(Dispatch::Over));
    let expired = limited.expire(stage);
    answer_expired(call, &expired)
}

fn answer_expired<R, P: Protocol, E>(
    call: &mut Option<Box<Call<P>>>,
    expired: &Expired,
) -> Poll<Result<Response<ResponseBody<R, P>>, E>> {
    let call = call.take().expect("it had a deadline");
    let answer = call.tell.answer(&call.config, &call.manner, expired);
    Poll::Ready(Ok(answer.map(ResponseBody::whole)))
}

impl<S, B, F, P: Protocol> fmt::Debug for ServerFuture<S, B, F, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerFuture")
            .field("deadline", &self.call.as_ref().map(|call| call.deadline))
            .finish_non_exhaustive()
    }
}
