//! What can be served.

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use super::body::Incoming;
use crate::propagation::{Protocol, RequestBody};

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The bounds of [`Server::run`](super::Server::run) by one name.
pub(super) trait Served<P: Protocol>:
    Service<
        Request<RequestBody<Incoming, P>>,
        Response = Response<<Self as Served<P>>::Answer>,
        Error: Into<BoxError>,
        Future: Send + 'static,
    > + Clone
    + Send
    + 'static
{
    type Answer: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static;
}

impl<S, R, P> Served<P> for S
where
    S: Service<Request<RequestBody<Incoming, P>>, Response = Response<R>>,
    S: Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
    P: Protocol,
{
    type Answer = R;
}
