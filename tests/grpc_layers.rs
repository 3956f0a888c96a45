//! The layers for gRPC, between a client and a server of tonic over loopback.

#[path = "common/numbers.rs"]
mod numbers;

use std::convert::Infallible;
use std::error::Error as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use deadbeat::deadline::{self, Deadline, Expired, scope};
use deadbeat::propagation::grpc::{ClientLayer, ServerLayer};
use deadbeat::time::{Duration, sleep};
use http::uri::PathAndQuery;
use numbers::Numbers;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio_stream::{Stream, StreamExt};
use tonic::server::{ClientStreamingService, NamedService, ServerStreamingService, UnaryService};
use tonic::transport::{Channel, Endpoint, Server, server::TcpIncoming};
use tonic::{Code, Request, Response, Status, Streaming, body::Body};
use tower::{Layer, Service};

type Answer<T> = Pin<Box<dyn Future<Output = Result<Response<T>, Status>> + Send>>;
type Replies = Pin<Box<dyn Stream<Item = Result<u64, Status>> + Send>>;

/// `Nap`: sleeps as many milliseconds as it is asked to, and answers what remained at first, in ms.
#[derive(Clone)]
struct Nap;

impl UnaryService<u64> for Nap {
    type Response = u64;
    type Future = Answer<u64>;

    fn call(&mut self, request: Request<u64>) -> Answer<u64> {
        let remaining = deadline::current().remaining();
        Box::pin(async move {
            sleep(Duration::from_millis(request.into_inner())).await;
            Ok(Response::new(u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX)))
        })
    }
}

/// `Count`: a number at once, and then none.
#[derive(Clone)]
struct Count;

impl ServerStreamingService<u64> for Count {
    type Response = u64;
    type ResponseStream = Replies;
    type Future = Answer<Replies>;

    fn call(&mut self, request: Request<u64>) -> Answer<Replies> {
        Box::pin(async move {
            let first = tokio_stream::once(Ok(request.into_inner()));
            Ok(Response::new(Box::pin(first.chain(tokio_stream::pending())) as Replies))
        })
    }
}

/// `Sum`: of all that it is sent. A failure of the upload is the answer.
#[derive(Clone)]
struct Sum;

impl ClientStreamingService<u64> for Sum {
    type Response = u64;
    type Future = Answer<u64>;

    fn call(&mut self, request: Request<Streaming<u64>>) -> Answer<u64> {
        Box::pin(async move {
            let mut all = request.into_inner();
            let mut sum = 0;
            while let Some(number) = all.message().await? {
                sum += number;
            }
            Ok(Response::new(sum))
        })
    }
}

#[derive(Clone)]
struct Test;

impl NamedService for Test {
    const NAME: &str = "test.Test";
}

impl<B> Service<http::Request<B>> for Test
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(Numbers);
            Ok(match request.uri().path() {
                "/test.Test/Nap" => grpc.unary(Nap, request).await,
                "/test.Test/Count" => grpc.server_streaming(Count, request).await,
                "/test.Test/Sum" => grpc.client_streaming(Sum, request).await,
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}

/// `Read`: as `Sum`, and tells how the upload ended: with its sum, or with an error.
#[derive(Clone)]
struct Read(UnboundedSender<Result<u64, Status>>);

impl ClientStreamingService<u64> for Read {
    type Response = u64;
    type Future = Answer<u64>;

    fn call(&mut self, request: Request<Streaming<u64>>) -> Answer<u64> {
        let tell = self.0.clone();
        Box::pin(async move {
            let sum = Sum.call(request).await.map(Response::into_inner);
            // Nobody listens any more, once the test is over.
            let _ = tell.send(sum.clone());
            sum.map(Response::new)
        })
    }
}

/// Where a server of tonic's listens, with the layer or without.
async fn serve(layered: bool) -> Channel {
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = incoming.local_addr().unwrap();
    if layered {
        let server = Server::builder().layer(ServerLayer::new()).add_service(Test);
        tokio::spawn(server.serve_with_incoming(incoming));
    } else {
        tokio::spawn(Server::builder().add_service(Test).serve_with_incoming(incoming));
    }
    Endpoint::new(format!("http://{address}")).unwrap().connect().await.unwrap()
}

fn path(method: &'static str) -> PathAndQuery {
    PathAndQuery::from_static(method)
}

async fn nap<S>(service: S, request: Request<u64>) -> Result<u64, Status>
where
    S: tonic::client::GrpcService<Body>,
    S::ResponseBody: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    <S::ResponseBody as http_body::Body>::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let mut client = tonic::client::Grpc::new(service);
    client.ready().await.map_err(|_| Status::unknown("not ready"))?;
    let answer = client.unary(request, path("/test.Test/Nap"), Numbers).await?;
    Ok(answer.into_inner())
}

#[tokio::test]
async fn the_ambient_deadline_travels_to_the_handler() {
    let channel = ClientLayer::new().layer(serve(true).await);
    let remained = scope(Duration::from_secs(60), nap(channel.clone(), Request::new(0)));
    let remained = remained.await.unwrap().unwrap();
    assert!((1..=60_000).contains(&remained), "{remained}");
    // Without one, there is none.
    assert_eq!(nap(channel, Request::new(0)).await.unwrap(), u64::MAX);
}

#[tokio::test]
async fn a_client_reports_its_deadline_and_where_the_time_went() {
    for layered in [true, false] {
        let layer = ClientLayer::new().timeout(Duration::from_millis(50));
        let channel = layer.layer(serve(layered).await);
        let status = nap(channel, Request::new(60_000)).await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
        let expired = status.source().and_then(|source| source.downcast_ref::<Expired>());
        if let Some(expired) = expired {
            assert_eq!(status.message(), expired.to_string());
            assert!(expired.elapsed() >= Duration::from_millis(50));
        } else {
            // The server's was first.
            assert!(layered, "{status:?}");
        }
    }
}

#[tokio::test]
async fn tonics_own_client_is_answered_by_the_server() {
    let channel = serve(true).await;
    let mut request = Request::new(60_000);
    request.set_timeout(Duration::from_millis(50));
    let status = nap(channel, request).await.unwrap_err();
    // tonic's client keeps the timeout that it has written, too, and calls it CANCELLED.
    assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
}

#[tokio::test]
async fn what_is_too_late_is_not_sent() {
    let channel = ClientLayer::new().layer(serve(true).await);
    let mut request = Request::new(0);
    request.metadata_mut().insert("grpc-timeout", "0n".parse().unwrap());
    let status = nap(channel, request).await.unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
}

#[tokio::test]
async fn a_stream_of_answers_ends_at_the_deadline() {
    for layered in [true, false] {
        let layer = ClientLayer::new().timeout(Duration::from_secs(1));
        let mut client = tonic::client::Grpc::new(layer.layer(serve(layered).await));
        client.ready().await.unwrap();
        let answer = client.server_streaming(Request::new(7), path("/test.Test/Count"), Numbers);
        let mut numbers = answer.await.unwrap().into_inner();
        assert_eq!(numbers.message().await.unwrap(), Some(7));
        let status = numbers.message().await.unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    }
}

/// Has a client send a message and `more` bytes, and then cancel the call or wait. Returns how the handler's
/// stream ends; `None` if the handler is dropped before it could tell.
async fn cut_off_after(
    more: &'static [u8],
    layer: ServerLayer,
    cancel: bool,
) -> Option<Result<u64, Status>> {
    let (tell, mut told) = unbounded_channel();
    let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = incoming.local_addr().unwrap();
    let server = Server::builder().layer(layer.clone()).add_service(Reading(tell));
    tokio::spawn(server.serve_with_incoming(incoming));

    let io = tokio::net::TcpStream::connect(address).await.unwrap();
    let (h2, connection) = h2::client::handshake(io).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = http::Request::post(format!("http://{address}/test.Reading/Read"))
        .header("content-type", "application/grpc");
    let mut h2 = h2.ready().await.unwrap();
    let (_answer, mut upload) = h2.send_request(request.body(()).unwrap(), false).unwrap();
    let message = b"\0\0\0\0\x08\0\0\0\0\0\0\0\x07";
    upload.send_data([message, more].concat().into(), false).unwrap();
    while layer.stats().requests() == 0 {
        tokio::task::yield_now().await;
    }
    if cancel {
        upload.send_reset(h2::Reason::CANCEL);
    }
    let told = told.recv().await;
    connection.abort();
    told
}

#[derive(Clone)]
struct Reading(UnboundedSender<Result<u64, Status>>);

impl NamedService for Reading {
    const NAME: &str = "test.Reading";
}

impl<B> Service<http::Request<B>> for Reading
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let read = Read(self.0.clone());
        Box::pin(async move {
            Ok(tonic::server::Grpc::new(Numbers).client_streaming(read, request).await)
        })
    }
}

/// Nothing, and both ways to be within a message.
const MORE: [&[u8]; 3] = [b"", b"\0\0\0", b"\0\0\0\0\x08\0\0"];

#[tokio::test]
async fn a_cancelled_upload_is_no_clean_end() {
    for more in MORE {
        for layer in [ServerLayer::new(), ServerLayer::new().maximum(Duration::from_secs(3600))] {
            let told = cut_off_after(more, layer, true).await.expect("it was polled once more");
            let status = told.expect_err("a clean end");
            assert_eq!(status.code(), Code::Aborted, "{status:?}");
        }
    }
}

#[tokio::test]
async fn an_expired_upload_is_no_clean_end() {
    for more in MORE {
        // Not by a header, which tonic's server would keep as well.
        let layer = ServerLayer::new().maximum(Duration::from_millis(100));
        let told = cut_off_after(more, layer, false).await.expect("it was polled once more");
        let status = told.expect_err("a clean end");
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    }
}

#[tokio::test]
async fn a_channel_that_keeps_the_callees_time_reports_a_deadline() {
    for layered in [true, false] {
        let layer = ClientLayer::new().timeout(Duration::from_secs(600));
        let layer = layer.allowance(Duration::from_millis(599_950)).peer("nap");
        let status =
            nap(layer.layer(serve(layered).await), Request::new(60_000)).await.unwrap_err();
        // The callee's own word may be first: it has the same time.
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    }
}

#[test]
fn cancelled_is_a_deadline_once_the_callees_has_passed() {
    let ms = Duration::from_millis;
    let ask = |after, error: bool| {
        deadbeat::Manual::new().block_on(async move {
            let service = tower::service_fn(move |_: http::Request<Body>| async move {
                sleep(ms(after)).await;
                if error {
                    return Err(tonic::TimeoutExpired(()));
                }
                Ok(Status::cancelled("Timeout expired").into_http::<Body>())
            });
            let layer = ClientLayer::new().timeout(ms(100)).allowance(ms(40)).peer("nap");
            nap(layer.layer(service), Request::new(0)).await.unwrap_err()
        })
    };
    for error in [false, true] {
        assert_eq!(ask(59, error).code(), Code::Cancelled);
        let status = ask(60, error);
        assert_eq!(status.code(), Code::DeadlineExceeded);
        let expired = status.source().and_then(|it| it.downcast_ref::<Expired>()).unwrap();
        assert_eq!((expired.budget(), expired.peer()), (ms(60), Some("nap")));
    }
}

#[tokio::test]
async fn the_allowance_is_set_aside() {
    let begun = Deadline::after(Duration::from_secs(60));
    let channel = ClientLayer::new().allowance(Duration::from_millis(5)).layer(serve(true).await);
    let remained = scope(begun, nap(channel, Request::new(0))).await.unwrap().unwrap();
    assert!(remained <= 59_995, "{remained}");
}

#[tokio::test]
async fn a_call_that_is_cancelled_when_the_callees_time_is_up_has_expired() {
    let minute = Duration::from_secs(60);
    let layer = ClientLayer::new().timeout(minute).allowance(minute - Duration::from_millis(100));
    for layered in [true, false] {
        // By tonic's `Channel`, which keeps the header that it passes on; or by the server.
        let status = nap(layer.layer(serve(layered).await), Request::new(60_000)).await;
        assert_eq!(status.unwrap_err().code(), Code::DeadlineExceeded);
    }
}
