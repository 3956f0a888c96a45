//! How often the layers allocate: three times a call at the most, and never without a deadline.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use deadbeat::propagation::{RequestDeadline, grpc, http};
use deadbeat::time::Duration;
use http_body::Body as _;
use tonic::body::Body;
use tower::{Layer, Service};

type Request = ::http::Request<Body>;
type Response = ::http::Response<http_body_util::Full<Bytes>>;

/// Waits once before it answers, so that there is a timer.
#[derive(Clone)]
struct Handler;

impl<B: http_body::Body + 'static> Service<::http::Request<B>> for Handler {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>>>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: ::http::Request<B>) -> Self::Future {
        let mut waits = true;
        Box::pin(async move {
            poll_fn(|_| if std::mem::take(&mut waits) { Poll::Pending } else { Poll::Ready(()) })
                .await;
            let mut body = pin!(request.into_body());
            while poll_fn(|cx| body.as_mut().poll_frame(cx)).await.is_some() {}
            Ok(Response::new("done".into()))
        })
    }
}

/// A request as tonic's server hands it on: with an extension.
fn request(header: Option<(&'static str, &str)>) -> Request {
    let body = http_body_util::Full::new(Bytes::from_static(b"\0\0\0\0\0"));
    let mut request = ::http::Request::post("http://localhost/shop.Stock/Reserve");
    request.headers_mut().unwrap().reserve(16);
    if let Some((name, value)) = header {
        request = request.header(name, value);
    }
    request.extension("connect info").body(Body::new(body)).unwrap()
}

/// How many there were in a call, to the end of its answer.
fn allocations<S, R>(mut service: S, request: impl Fn() -> Request) -> u64
where
    S: Service<Request, Response = ::http::Response<R>>,
    R: http_body::Body,
{
    let mut run = move || {
        let request = request();
        allocation_counter::measure(|| {
            let mut cx = Context::from_waker(Waker::noop());
            let mut call = pin!(service.call(request));
            let response = loop {
                if let Poll::Ready(response) = call.as_mut().poll(&mut cx) {
                    break response.unwrap_or_else(|_| panic!("the call failed"));
                }
            };
            let mut body = pin!(response.into_body());
            while body.as_mut().poll_frame(&mut cx).is_ready() && !body.is_end_stream() {}
        })
        .count_total
    };
    // The first makes what the thread keeps.
    run();
    run()
}

const SECOND: Duration = Duration::from_secs(1);

fn limited() -> Request {
    let mut request = request(None);
    request.set_deadline(SECOND);
    request
}

#[test]
fn a_call_with_a_deadline_takes_three_at_the_most() {
    let bare = allocations(Handler, || request(None));
    let timeout = || request(Some(("grpc-timeout", "1S")));
    let millis = || request(Some(("connect-timeout-ms", "1000")));
    let server = [
        allocations(grpc::ServerLayer::new().layer(Handler), timeout),
        allocations(http::ServerLayer::new().layer(Handler), millis),
    ];
    let client = [
        allocations(grpc::ClientLayer::new().layer(Handler), limited),
        allocations(http::ClientLayer::new().layer(Handler), limited),
    ];
    println!("bare {bare}, server {server:?}, client {client:?}");
    for count in server.into_iter().chain(client) {
        assert!(count <= bare + 3, "{count}, and {bare} without the layer");
    }
}

#[test]
fn a_call_without_one_takes_none() {
    let bare = allocations(Handler, || request(None));
    let none = || request(None);
    assert_eq!(allocations(grpc::ServerLayer::new().layer(Handler), none), bare);
    assert_eq!(allocations(http::ServerLayer::new().layer(Handler), none), bare);
    assert_eq!(allocations(grpc::ClientLayer::new().layer(Handler), none), bare);
    assert_eq!(allocations(http::ClientLayer::new().layer(Handler), none), bare);
}
