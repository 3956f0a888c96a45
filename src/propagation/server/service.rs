//! Where a call comes in.

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response, Version};
use http_body::Body;
use tower_service::Service;

use super::future::Call;
use super::layer::Config;
use super::tell::Tell;
use super::{ResponseBody, ServerFuture};
use crate::clock::{Elapsed, Instant};
use crate::deadline::{Expired, Origin, provenance};
use crate::propagation::RequestBody;
use crate::propagation::blame::MAX_TEXT;
use crate::propagation::body::Side;
use crate::propagation::dispatch::Dispatch;
use crate::propagation::pace::Pace;
use crate::propagation::policy::Admitted;
use crate::propagation::protocol::{BoxError, Protocol};
use crate::propagation::request::Received;
use crate::telemetry::{Handling, Role, Stage, Trace};

/// The service of a [`ServerLayer`](super::ServerLayer).
///
/// It is always ready: the service inside is waited for within the call, on a clone, so that this takes
/// part of the call's time. What sheds load when a service isn't ready belongs inside of it.
#[derive(Clone)]
pub struct Server<S, P> {
    inner: S,
    config: Arc<Config<P>>,
}

impl<S, P> Server<S, P> {
    pub(super) fn new(inner: S, config: Arc<Config<P>>) -> Self {
        Self { inner, config }
    }

    /// The service inside.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }
}

impl<S, B, R, P> Service<Request<B>> for Server<S, P>
where
    S: Service<Request<RequestBody<B, P>>, Response = Response<R>> + Clone,
    B: Body,
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
    P: Protocol,
{
    type Response = Response<ResponseBody<R, P>>;
    type Error = S::Error;
    type Future = ServerFuture<S, RequestBody<B, P>, S::Future, P>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let config = &*self.config;
        let must_end = config.must_end && request.version() == Version::HTTP_2;
        let side = Side::Server { must_end };
        if !config.switch.is_on() {
            let request = request.map(|body| RequestBody::passing(body, side));
            return ServerFuture::passing(Dispatch::through(&mut self.inner, request));
        }
        let now = Instant::<Elapsed>::now();
        let stats = &config.stats;
        stats.request();
        let (mut parts, body) = request.into_parts();
        let settings = match &config.choose {
            Some(choose) => choose(&parts, config.settings),
            None => config.settings,
        };
        let admitted = if settings.enabled {
            match config.honoured.admit(&parts.headers, &settings, now) {
                Ok(admitted) => admitted,
                Err(malformed) => {
                    stats.malformed_values(Handling::Rejected, 1);
                    let answer = config.protocol.answer_malformed(&P::manner(&parts), &malformed);
                    return ServerFuture::answering(answer, settings.most(now));
                }
            }
        } else {
            Admitted::default()
        };
        stats.malformed_values(Handling::Ignored, admitted.ignored);
        stats.malformed_values(Handling::Lenient, admitted.lenient);
        // In the process of its caller, a call has the caller's deadline too.
        let provenance = match (admitted.provenance, provenance()) {
            (Some(own), Some(ambient)) => Some(ambient.min(own)),
            (own, _) => own,
        };
        if provenance.is_some() || admitted.preference.is_some() {
            parts.extensions.insert(Received { provenance, preference: admitted.preference });
        }
        let Some(provenance) = provenance else {
            let body = RequestBody::passing(body, side);
            let request = Request::from_parts(parts, body);
            return ServerFuture::passing(Dispatch::through(&mut self.inner, request));
        };
        stats.limited(provenance, now);
        let blame = settings.tells_blame();
        let path = (blame && config.tells_path)
            .then(|| parts.uri.path().chars().take(MAX_TEXT).collect::<String>().into());
        let tell = Tell { blame, path };
        let trace = Trace::new(Role::Server(P::NAME), &parts.uri, provenance, None);
        if provenance.deadline().instant() <= now {
            let is_told = matches!(provenance.origin(), Origin::Header(_));
            let expired = Expired::new(provenance, now).with_whole(is_told);
            stats.expired(Stage::Arrival, provenance.origin());
            trace.expired(Stage::Arrival, &expired);
            let answer = tell.answer(config, &P::manner(&parts), &expired);
            return ServerFuture::answering(answer, provenance.deadline());
        }
        let (manner, pace) = (P::manner(&parts), Pace::from(now));
        let call = Call::new(provenance, self.config.clone(), manner, tell, pace, trace);
        let body = RequestBody::limited(body, side, provenance, stats, None);
        let dispatch = Dispatch::through(&mut self.inner, Request::from_parts(parts, body));
        ServerFuture::limited(dispatch, call)
    }
}

impl<S: fmt::Debug, P: fmt::Debug> fmt::Debug for Server<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("inner", &self.inner)
            .field("layer", &self.config)
            .finish_non_exhaustive()
    }
}
