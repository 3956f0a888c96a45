//! While a call waits, and while its handler runs.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::ResponseBody;
use super::body::Slot;
use super::layer::Config;
use super::limiter::Waiting;
use crate::propagation::Protocol;
use crate::propagation::dispatch::Dispatch;

pin_project! {
    /// The future of a [`Limit`](super::Limit).
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves the queue, or drops the handler and then gives its slot back.
    ///
    /// # Errors
    ///
    /// Those of the service inside. To be rejected is an answer.
    #[must_use = "futures do nothing unless polled"]
    pub struct LimitFuture<S, B, F, P> {
        // Dropped before the slot: the next call comes after this one.
        #[pin]
        dispatch: Dispatch<S, B, F>,
        state: State<P>,
    }
}

enum State<P> {
    Passing,
    Waiting { waiting: Waiting, config: Arc<Config<P>> },
    Running { slot: Slot, release_at_head: bool },
    Answering(Option<Response<Bytes>>),
}

impl<S, B, F, P> LimitFuture<S, B, F, P> {
    pub(super) fn passing(dispatch: Dispatch<S, B, F>) -> Self {
        Self { dispatch, state: State::Passing }
    }

    pub(super) fn waiting(
        dispatch: Dispatch<S, B, F>,
        waiting: Waiting,
        config: Arc<Config<P>>,
    ) -> Self {
        Self { dispatch, state: State::Waiting { waiting, config } }
    }

    pub(super) fn running(dispatch: Dispatch<S, B, F>, slot: Slot, release_at_head: bool) -> Self {
        Self { dispatch, state: State::Running { slot, release_at_head } }
    }

    pub(super) fn answering(answer: Response<Bytes>) -> Self {
        Self { dispatch: Dispatch::Over, state: State::Answering(Some(answer)) }
    }
}

impl<S, B, R, P> Future for LimitFuture<S, B, S::Future, P>
where
    S: Service<Request<B>, Response = Response<R>>,
    R: Body<Data = Bytes>,
    P: Protocol,
{
    type Output = Result<Response<ResponseBody<R>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let State::Waiting { waiting, config } = this.state {
            let release_at_head = config.release_at_head;
            *this.state = match ready!(waiting.poll(cx)) {
                Ok(permit) => State::Running { slot: Slot::new(permit), release_at_head },
                Err(rejected) => {
                    let request = this.dispatch.as_mut().abandon().expect("it was not begun");
                    State::Answering(Some(config.answer(request, &rejected)))
                }
            };
        }
        if let State::Answering(answer) = this.state {
            let answer = answer.take().expect("not polled after it was ready");
            return Poll::Ready(Ok(answer.map(ResponseBody::whole)));
        }
        let response = ready!(this.dispatch.as_mut().poll(cx));
        let state = std::mem::replace(this.state, State::Passing);
        // What is left of the handler goes before its slot does.
        this.dispatch.set(Dispatch::Over);
        let mut slot = match state {
            State::Running { slot, release_at_head } if !release_at_head => Some(slot),
            State::Running { mut slot, .. } if response.is_ok() => {
                slot.complete();
                None
            }
            _ => None,
        };
        let (head, body) = response?.into_parts();
        if body.is_end_stream()
            && let Some(mut slot) = slot.take()
        {
            slot.complete();
        }
        Poll::Ready(Ok(Response::from_parts(head, ResponseBody::passing(body, slot))))
    }
}

impl<S, B, F, P> fmt::Debug for LimitFuture<S, B, F, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Passing => "passing",
            State::Waiting { .. } => "waiting",
            State::Running { .. } => "running",
            State::Answering(_) => "answering",
        };
        f.debug_struct("LimitFuture").field("state", &state).finish_non_exhaustive()
    }
}
