//! Where a call goes out.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::uri::Authority;
use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use super::future::Call;
use super::layer::Config;
use super::{ClientFuture, ResponseBody};
use crate::clock::{Elapsed, Instant};
use crate::deadline::provenance;
use crate::propagation::RequestBody;
use crate::propagation::body::{Sent, Side};
use crate::propagation::dispatch::Dispatch;
use crate::propagation::http::Http;
use crate::propagation::pace::Pace;
use crate::propagation::protocol::{BoxError, Protocol};
use crate::propagation::request::Given;
use crate::telemetry::{Role, Trace};

/// The service of a [`ClientLayer`](super::ClientLayer).
///
/// It is always ready, and never fails before it is called: the service inside is waited for within the
/// call, on a clone. So the deadline covers that, and generated clients of tonic, which would make UNKNOWN
/// of an error of readiness, report what it was.
pub struct Client<S, P> {
    inner: S,
    config: Arc<Config>,
    protocol: PhantomData<fn() -> P>,
}

impl<S, P> Client<S, P> {
    pub(super) fn new(inner: S, config: Arc<Config>) -> Self {
        Self { inner, config, protocol: PhantomData }
    }

    /// The service inside.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }
}

impl<S, P: Protocol> Client<S, P> {
    /// Takes the request, gives its body the deadline with `limit` if there is one, and `pass`es it on.
    pub(in crate::propagation) fn start<B: Body, C, F>(
        &mut self,
        mut request: Request<B>,
        limit: impl FnOnce(RequestBody<B, P>) -> C,
        pass: impl FnOnce(B) -> C,
    ) -> ClientFuture<S, C, F, P>
    where
        S: Clone,
    {
        let config = &*self.config;
        if !config.switch.is_on() {
            return ClientFuture::passing(Dispatch::through(&mut self.inner, request.map(pass)));
        }
        let now = Instant::<Elapsed>::now();
        let pace = Pace::from(now);
        config.stats.request();
        let given = request.extensions_mut().remove::<Given>();
        let own = given.map(|Given(limit)| limit.deadline(now));
        let asked = config.outgoing.take(request.headers_mut(), now);
        let around = provenance();
        let effective = config.outgoing.effective(around, own, asked, now);
        // A point in time is the caller's; a length of time is that of a try.
        let points = [around.map(|it| it.deadline()), given.and_then(Given::point)];
        let is_whole = effective.is_some_and(|it| points.contains(&Some(it.deadline())));
        let peer = config.peer.is_none().then(|| request.uri().authority().cloned()).flatten();
        let name = config.peer.as_deref().or(peer.as_ref().map(Authority::as_str));
        let mut trace = None;
        let (request, sent) = match effective {
            Some(provenance) => {
                config.stats.limited(provenance, now);
                trace = Some(Trace::new(Role::Client(P::NAME), request.uri(), provenance, name));
                if provenance.deadline().instant() <= now {
                    let call = Call::new(
                        self.config.clone(),
                        effective,
                        is_whole,
                        peer,
                        None,
                        pace,
                        trace,
                    );
                    return ClientFuture::too_late(call);
                }
                let sent = (!request.body().is_end_stream()).then(Sent::default);
                let (side, stats, sent_too) = (Side::Client, &config.stats, sent.clone());
                let request = request.map(|body| {
                    limit(RequestBody::limited(body, side, provenance, stats, sent_too))
                });
                (request, sent)
            }
            None => (request.map(pass), None),
        };
        let call = Call::new(self.config.clone(), effective, is_whole, peer, sent, pace, trace);
        ClientFuture::calling(Dispatch::through(&mut self.inner, request), call)
    }
}

impl<S, B, R> Service<Request<B>> for Client<S, Http>
where
    S: Service<Request<RequestBody<B, Http>>, Response = Response<R>> + Clone,
    S::Error: Into<BoxError>,
    B: Body,
    R: Body,
    R::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody<R, Http>>;
    type Error = crate::propagation::http::Error;
    type Future = ClientFuture<S, RequestBody<B, Http>, S::Future, Http>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.start(request, |body| body, |body| RequestBody::passing(body, Side::Client))
    }
}

impl<S: Clone, P> Clone for Client<S, P> {
    fn clone(&self) -> Self {
        Self::new(self.inner.clone(), self.config.clone())
    }
}

impl<S: fmt::Debug, P> fmt::Debug for Client<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("inner", &self.inner)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
