//! Where a call comes in.

use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderValue, Request, Response};
use http_body::Body;
use tower_service::Service;

use super::body::Slot;
use super::layer::Config;
use super::{LimitFuture, Rejected, ResponseBody};
use crate::propagation::dispatch::Dispatch;
use crate::propagation::http::DEADLINE_EXCEEDED;
use crate::propagation::{Protocol, blame};

/// The service of a [`LimitLayer`](super::LimitLayer).
///
/// It is always ready: a call waits for its slot, and then for the service inside, on a clone, within its own
/// time.
#[derive(Clone, Debug)]
pub struct Limit<S, P> {
    inner: S,
    config: Arc<Config<P>>,
}

impl<S, P> Limit<S, P> {
    pub(super) fn new(inner: S, config: Arc<Config<P>>) -> Self {
        Self { inner, config }
    }

    /// The service inside.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }
}

impl<P: Protocol> Config<P> {
    /// In place of the handler's answer.
    pub(super) fn answer<B>(&self, request: Request<B>, rejected: &Rejected) -> Response<Bytes> {
        let (head, body) = request.into_parts();
        drop(body);
        let manner = P::manner(&head);
        match rejected.expired() {
            Some(expired) => {
                let mut answer = self.protocol.answer_expired(&manner, expired);
                let whose = HeaderValue::from_static(blame::whose(expired.origin()));
                answer.headers_mut().insert(DEADLINE_EXCEEDED, whose);
                answer
            }
            None => self.protocol.answer_unavailable(&manner, &rejected.to_string()),
        }
    }
}

impl<S, B, R, P> Service<Request<B>> for Limit<S, P>
where
    S: Service<Request<B>, Response = Response<R>> + Clone,
    R: Body<Data = Bytes>,
    P: Protocol,
{
    type Response = Response<ResponseBody<R>>;
    type Error = S::Error;
    type Future = LimitFuture<S, B, S::Future, P>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let config = &*self.config;
        if !config.switch.is_on() {
            return LimitFuture::passing(Dispatch::through(&mut self.inner, request));
        }
        match config.limiter.arrive() {
            Ok(Ok(permit)) => {
                let dispatch = Dispatch::through(&mut self.inner, request);
                LimitFuture::running(dispatch, Slot::new(permit), config.release_at_head)
            }
            Ok(Err(waiting)) => {
                let dispatch = Dispatch::through(&mut self.inner, request);
                LimitFuture::waiting(dispatch, waiting, self.config.clone())
            }
            Err(rejected) => LimitFuture::answering(config.answer(request, &rejected)),
        }
    }
}
