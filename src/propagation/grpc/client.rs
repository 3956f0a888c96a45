//! The client's side, which has to make tonic's bodies.

use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use tonic::body::Body;
use tower_service::Service;

use super::Grpc;
use crate::propagation::client::{Client, ClientFuture, ResponseBody};
use crate::propagation::protocol::BoxError;

impl<S, R> Service<Request<Body>> for Client<S, Grpc>
where
    S: Service<Request<Body>, Response = Response<R>> + Clone,
    S::Error: Into<BoxError>,
    R: http_body::Body<Data = Bytes>,
    R::Error: Into<BoxError>,
{
    type Response = Response<ResponseBody<R, Grpc>>;
    type Error = tonic::Status;
    type Future = ClientFuture<S, Body, S::Future, Grpc>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), tonic::Status>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        self.start(request, Body::new, |body| body)
    }
}
