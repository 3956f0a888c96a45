//! What a layer costs a call, in process: no socket, no protocol, a handler that does nothing.
//!
//! ```text
//! cargo bench --features grpc --bench layers
//! ```
//!
//! `layers/{side}/{system}/{case}`, for one call from the request to the end of an answer of one message
//! and its trailers. Requests are made before, 32 at a time so that they are in the cache, and dropped with their call.
//!
//! - Cases: `ready`, the handler answers at the first poll; `waits`, at the second, so that a timer is armed
//!   and cancelled; `no_deadline`, as `ready`, with no deadline anywhere.
//! - Systems: `bare`, the floor, is the handler alone. `tower` is tower's `Timeout` on tokio's timer, which
//!   reads and writes no header, and ends with the head of the answer. `grpc` and `http` are ours: the server
//!   reads the header, the client writes it.

mod support;

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::Bytes;
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use deadbeat::propagation::{RequestDeadline, grpc, http as plain};
use http::{HeaderMap, Request, Response, header::HeaderValue};
use http_body::{Body, Frame};
use support::{group, waker};
use tower::{Layer, Service};

const SECOND: Duration = Duration::from_secs(1);

/// A message and trailers.
struct Answer {
    message: Option<Bytes>,
    trailers: Option<HeaderMap>,
}

impl Answer {
    fn new() -> Self {
        let mut trailers = HeaderMap::with_capacity(1);
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        Self { message: Some(Bytes::from_static(b"\0\0\0\0\x02ok")), trailers: Some(trailers) }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let message = self.message.take().map(Frame::data);
        Poll::Ready(message.or_else(|| self.trailers.take().map(Frame::trailers)).map(Ok))
    }
}

/// The handler, and the peer of a client.
#[derive(Clone)]
struct Handler {
    waits: bool,
}

impl<B> Service<Request<B>> for Handler {
    type Response = Response<Answer>;
    type Error = std::convert::Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answer>, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    // Boxed, as tonic's and axum's are.
    fn call(&mut self, _: Request<B>) -> Self::Future {
        let mut waits = self.waits;
        Box::pin(async move {
            poll_fn(|_| if std::mem::take(&mut waits) { Poll::Pending } else { Poll::Ready(()) })
                .await;
            Ok(Response::new(Answer::new()))
        })
    }
}

/// Runs a call to its end, polling whether or not it was woken.
fn run<S, A>(service: &mut S, request: Request<tonic::body::Body>, waker: &Waker)
where
    S: Service<Request<tonic::body::Body>, Response = Response<A>>,
    A: Body,
{
    let mut cx = Context::from_waker(waker);
    assert!(service.poll_ready(&mut cx).is_ready());
    let mut call = pin!(service.call(request));
    let response = loop {
        if let Poll::Ready(result) = call.as_mut().poll(&mut cx) {
            break result.unwrap_or_else(|_| panic!("the call failed"));
        }
    };
    let mut body = pin!(response.into_body());
    while let Poll::Ready(Some(frame)) = body.as_mut().poll_frame(&mut cx) {
        assert!(frame.is_ok());
    }
}

fn request(header: Option<&'static str>) -> Request<tonic::body::Body> {
    let mut request = Request::post("http://127.0.0.1:50051/shop.Stock/Reserve");
    let headers = request.headers_mut().expect("all are valid");
    headers.reserve(8);
    headers.insert("te", HeaderValue::from_static("trailers"));
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    if let Some(value) = header {
        headers.insert("grpc-timeout", HeaderValue::from_static(value));
    }
    // As servers have.
    request.extensions_mut().expect("all are valid").insert("connect info");
    request.body(tonic::body::Body::empty()).expect("all are valid")
}

macro_rules! measure {
    ($group:expr, $system:literal, $layer:expr, $make:expr) => {
        for (case, waits, limited) in
            [("ready", false, true), ("waits", true, true), ("no_deadline", false, false)]
        {
            let waker = waker();
            let mut service = $layer.layer(Handler { waits });
            $group.bench_function(format!("{}/{case}", $system), |b| {
                b.iter_batched(
                    || $make(limited),
                    |request| run(&mut service, request, &waker),
                    BatchSize::NumIterations(32),
                );
            });
        }
    };
}

fn layers(c: &mut Criterion) {
    deadbeat::clock::Clock::system().calibrate();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.expect("a runtime");
    let _entered = runtime.enter();
    let tower = tower::timeout::TimeoutLayer::new(SECOND);

    let received = |limited: bool| request(limited.then_some("999m"));
    let mut server = group(c, "layers/server".into());
    measure!(server, "bare", tower::layer::util::Identity::new(), received);
    measure!(server, "tower", tower, received);
    measure!(server, "grpc", grpc::ServerLayer::new(), received);
    measure!(server, "http", plain::ServerLayer::new(), received);
    server.finish();

    let made = |limited: bool| {
        let mut request = request(None);
        if limited {
            request.set_deadline(SECOND);
        }
        request
    };
    let mut client = group(c, "layers/client".into());
    measure!(client, "bare", tower::layer::util::Identity::new(), made);
    measure!(client, "tower", tower, made);
    measure!(client, "grpc", grpc::ClientLayer::new(), made);
    measure!(client, "http", plain::ClientLayer::new(), made);
    client.finish();
}

criterion_group!(benches, layers);
criterion_main!(benches);
