//! What our own server keeps, of gRPC and of HTTP, over both versions of it. What is shown in tests/serve isn't shown
//! here once more.

mod answers;
mod arrival;
mod blame;
mod handlers;
mod uploads;

use std::convert::Infallible;
use std::net::SocketAddr;

use deadbeat::propagation::RequestBody;
use deadbeat::propagation::http::{DEADLINE_EXCEEDED, Http};
use deadbeat::serve::Incoming;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;

use super::wire::{self, Body, MS, Plain, SECOND};
use super::{rpc, server, within};

/// A request as it comes to what is served.
type Ours = Request<RequestBody<Incoming, Http>>;

/// hyper's client, on a connection of its own. The test's end is that of the connection, or dropping it.
async fn connect(at: SocketAddr, http2: bool) -> Plain {
    let io = TokioIo::new(TcpStream::connect(at).await.expect("it listens"));
    if http2 {
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), io);
        let (sender, connection) = within(handshake).await.expect("it shakes hands");
        tokio::spawn(connection);
        Plain::Http2(sender)
    } else {
        let handshake = hyper::client::conn::http1::handshake(io);
        let (sender, connection) = within(handshake).await.expect("it shakes hands");
        tokio::spawn(connection);
        Plain::Http1(sender)
    }
}

/// What comes back for it, as far as its head.
async fn head_for(client: &mut Plain, request: Request<Body>) -> Response<hyper::body::Incoming> {
    within(client.send(request)).await.expect("it is answered")
}

/// And all of its body.
async fn text<B>(answer: Response<B>) -> Result<String, B::Error>
where
    B: http_body::Body<Error: std::fmt::Debug>,
{
    let body = within(answer.into_body().collect()).await?.to_bytes();
    Ok(String::from_utf8(body.to_vec()).expect("it is text"))
}

fn answer(text: &'static str) -> Result<Response<Body>, Infallible> {
    Ok(Response::new(Body::from(text)))
}

fn is_expired<B>(answer: &Response<B>) -> bool {
    answer.status() == StatusCode::GATEWAY_TIMEOUT
        && answer.headers().contains_key(DEADLINE_EXCEEDED)
}

/// A client of frames, for gRPC.
async fn frames(at: SocketAddr) -> h2::client::SendRequest<bytes::Bytes> {
    rpc::frames(at, &mut h2::client::Builder::new()).await
}
