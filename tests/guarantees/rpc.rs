//! gRPC by tonic over loopback: a service, and peers that are made of frames.

use std::convert::Infallible;
use std::error::Error as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};

use bytes::Bytes;
use deadbeat::clock;
use deadbeat::deadline::{self, Cancelled, Expired, Provenance};
use deadbeat::time::{Duration, Instant, sleep};
use h2::client::SendRequest;
use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_stream::{Stream, StreamExt};
use tonic::client::GrpcService;
use tonic::server::{NamedService, ServerStreamingService, StreamingService, UnaryService};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status, Streaming, body::Body};
use tower::{BoxError, Service};

pub(crate) use super::numbers::Numbers;
use super::within;

/// A number as it is sent.
pub(crate) fn message(number: u64) -> Bytes {
    [&b"\0\0\0\0\x08"[..], &number.to_be_bytes()].concat().into()
}

pub(crate) type Answer<T> = Pin<Box<dyn Future<Output = Result<Response<T>, Status>> + Send>>;
type Replies = Pin<Box<dyn Stream<Item = Result<u64, Status>> + Send>>;

/// What happens to the handlers of a [`Test`].
#[derive(Debug)]
pub(crate) enum Event {
    /// One was called, by a request that had this deadline.
    Called(Instant, Option<Provenance>),
    /// One was dropped, or what it answers with.
    Dropped,
    /// A task that one spawned has ended.
    Task(Result<(), Cancelled>),
    /// The stream of requests has ended.
    Upload(Result<(), Status>),
}

/// - `Nap` sleeps as many milliseconds as it is asked to, and answers that.
/// - `Work` never answers, and has a task that never ends.
/// - `Drip` answers with a number every so many milliseconds.
/// - `Echo` answers each message, and reads them in a task of its own.
/// - `Flood` answers with as many numbers as it can send.
#[derive(Clone)]
pub(crate) struct Test {
    tell: UnboundedSender<Event>,
}

impl Test {
    pub(crate) fn new() -> (Self, UnboundedReceiver<Event>) {
        let (tell, told) = unbounded_channel();
        (Self { tell }, told)
    }

    pub(crate) fn call(&self) -> Guard {
        self.tell(Event::Called(Instant::now(), deadline::provenance()));
        Guard(self.clone())
    }

    pub(crate) fn tell(&self, event: Event) {
        // Nobody listens any more, once the test is over.
        let _ = self.tell.send(event);
    }
}

pub(crate) struct Guard(Test);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.tell(Event::Dropped);
    }
}

impl UnaryService<u64> for Test {
    type Response = u64;
    type Future = Answer<u64>;

    fn call(&mut self, request: Request<u64>) -> Answer<u64> {
        let guard = Self::call(self);
        Box::pin(async move {
            let ms = request.into_inner();
            sleep(Duration::from_millis(ms)).await;
            drop(guard);
            Ok(Response::new(ms))
        })
    }
}

struct Work(Test);

impl UnaryService<u64> for Work {
    type Response = u64;
    type Future = Answer<u64>;

    fn call(&mut self, _: Request<u64>) -> Answer<u64> {
        let guard = self.0.call();
        let test = self.0.clone();
        Box::pin(async move {
            let work = deadbeat::spawn(std::future::pending());
            tokio::spawn(async move { test.tell(Event::Task(work.await.unwrap())) });
            std::future::pending::<()>().await;
            drop(guard);
            unreachable!("it waits")
        })
    }
}

struct Drip(Test);

impl ServerStreamingService<u64> for Drip {
    type Response = u64;
    type ResponseStream = Replies;
    type Future = Answer<Replies>;

    fn call(&mut self, request: Request<u64>) -> Answer<Replies> {
        let guard = self.0.call();
        let every = Duration::from_millis(request.into_inner());
        let drops = tokio_stream::iter(0_u64..).then(move |number| {
            let _held = &guard;
            async move {
                sleep(every).await;
                Ok(number)
            }
        });
        Box::pin(async move { Ok(Response::new(Box::pin(drops) as Replies)) })
    }
}

struct Flood(Test);

impl ServerStreamingService<u64> for Flood {
    type Response = u64;
    type ResponseStream = Replies;
    type Future = Answer<Replies>;

    fn call(&mut self, _: Request<u64>) -> Answer<Replies> {
        let guard = self.0.call();
        let numbers = tokio_stream::iter(0_u64..).map(move |number| {
            let _held = &guard;
            Ok(number)
        });
        Box::pin(async move { Ok(Response::new(Box::pin(numbers) as Replies)) })
    }
}

struct Echo(Test);

impl StreamingService<u64> for Echo {
    type Response = u64;
    type ResponseStream = Replies;
    type Future = Answer<Replies>;

    fn call(&mut self, request: Request<Streaming<u64>>) -> Answer<Replies> {
        let guard = self.0.call();
        let test = self.0.clone();
        let mut numbers = request.into_inner();
        let (send, mut echoed) = unbounded_channel();
        tokio::spawn(async move {
            let ended = loop {
                match numbers.message().await {
                    // Nobody may listen any more: the upload is read to its end all the same.
                    Ok(Some(number)) => drop(send.send(Ok(number))),
                    Ok(None) => break Ok(()),
                    Err(status) => break Err(status),
                }
            };
            test.tell(Event::Upload(ended));
            // What the handler answers has no end of its own.
            send.closed().await;
        });
        let echoes = std::future::poll_fn(move |cx| {
            let _held = &guard;
            echoed.poll_recv(cx)
        });
        let echoes = futures_stream(echoes);
        Box::pin(async move { Ok(Response::new(Box::pin(echoes) as Replies)) })
    }
}

/// A stream of what a function of polls yields.
fn futures_stream<F>(next: F) -> impl Stream<Item = Result<u64, Status>> + Send
where
    F: Future<Output = Option<Result<u64, Status>>> + Unpin + Send,
{
    struct Next<F>(F);
    impl<F: Future<Output = Option<Result<u64, Status>>> + Unpin> Stream for Next<F> {
        type Item = Result<u64, Status>;
        fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
            Pin::new(&mut self.0).poll(cx)
        }
    }
    Next(next)
}

impl NamedService for Test {
    const NAME: &str = "test.Test";
}

impl<B> Service<http::Request<B>> for Test
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<BoxError> + Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let test = self.clone();
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(Numbers);
            Ok(match request.uri().path() {
                "/test.Test/Nap" => grpc.unary(test, request).await,
                "/test.Test/Work" => grpc.unary(Work(test), request).await,
                "/test.Test/Drip" => grpc.server_streaming(Drip(test), request).await,
                "/test.Test/Flood" => grpc.server_streaming(Flood(test), request).await,
                "/test.Test/Echo" => grpc.streaming(Echo(test), request).await,
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}

/// Serves with tonic, as it is built: `served!(Server::builder(), service)`. Evaluates to the address.
macro_rules! served {
    ($server:expr, $service:expr) => {{
        let incoming =
            tonic::transport::server::TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = incoming.local_addr().unwrap();
        tokio::spawn($server.add_service($service).serve_with_incoming(incoming));
        address
    }};
}
pub(crate) use served;

pub(crate) fn endpoint(address: std::net::SocketAddr) -> Endpoint {
    Endpoint::new(format!("http://{address}")).unwrap()
}

pub(crate) async fn channel(address: std::net::SocketAddr) -> Channel {
    within(endpoint(address).connect()).await.unwrap()
}

/// A client whose connections are made after `takes`; and how many there have been.
pub(crate) fn slow_channel(endpoint: &Endpoint, takes: Duration) -> (Channel, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let made = count.clone();
    let connector = tower::service_fn(move |uri: http::Uri| {
        made.fetch_add(1, SeqCst);
        async move {
            sleep(takes).await;
            let authority = uri.authority().unwrap().to_string();
            TcpStream::connect(authority).await.map(TokioIo::new)
        }
    });
    (endpoint.connect_with_connector_lazy(connector), count)
}

pub(crate) fn path(method: &'static str) -> PathAndQuery {
    PathAndQuery::from_static(method)
}

/// Calls a method that has one answer.
pub(crate) async fn unary<S>(service: S, method: &'static str, ms: u64) -> Result<u64, Status>
where
    S: GrpcService<Body>,
    S::ResponseBody: http_body::Body<Data = Bytes> + Send + 'static,
    <S::ResponseBody as http_body::Body>::Error: Into<BoxError>,
{
    let mut client = tonic::client::Grpc::new(service);
    client.ready().await.map_err(|_| Status::unknown("not ready"))?;
    Ok(client.unary(Request::new(ms), path(method), Numbers).await?.into_inner())
}

pub(crate) async fn nap<S>(service: S, ms: u64) -> Result<u64, Status>
where
    S: GrpcService<Body>,
    S::ResponseBody: http_body::Body<Data = Bytes> + Send + 'static,
    <S::ResponseBody as http_body::Body>::Error: Into<BoxError>,
{
    within(unary(service, "/test.Test/Nap", ms)).await
}

/// Calls a method that has a stream of answers.
pub(crate) async fn stream<S>(
    service: S,
    method: &'static str,
    ms: u64,
) -> Result<Streaming<u64>, Status>
where
    S: GrpcService<Body>,
    S::ResponseBody: http_body::Body<Data = Bytes> + Send + 'static,
    <S::ResponseBody as http_body::Body>::Error: Into<BoxError>,
{
    let mut client = tonic::client::Grpc::new(service);
    client.ready().await.map_err(|_| Status::unknown("not ready"))?;
    let call = client.server_streaming(Request::new(ms), path(method), Numbers);
    Ok(within(call).await?.into_inner())
}

/// Reads to the error that has to come.
pub(crate) async fn failure(numbers: &mut Streaming<u64>) -> Status {
    loop {
        match within(numbers.message()).await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("a clean end"),
            Err(status) => return status,
        }
    }
}

/// A client of frames, for a server of tonic's.
pub(crate) async fn frames(
    address: std::net::SocketAddr,
    builder: &mut h2::client::Builder,
) -> SendRequest<Bytes> {
    let io = TcpStream::connect(address).await.unwrap();
    let (h2, connection) = builder.handshake(io).await.unwrap();
    tokio::spawn(connection);
    within(h2.ready()).await.unwrap()
}

/// The head of a call, with a `grpc-timeout` unless it is empty.
pub(crate) fn head(
    address: std::net::SocketAddr,
    method: &str,
    timeout: &str,
) -> http::Request<()> {
    let mut request = http::Request::post(format!("http://{address}{method}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    if !timeout.is_empty() {
        request = request.header("grpc-timeout", timeout);
    }
    request.body(()).unwrap()
}

/// The `grpc-status` of an answer: of its head, or of its trailers.
pub(crate) async fn status(response: h2::client::ResponseFuture) -> Result<Code, h2::Error> {
    let response = within(response).await?;
    let code = |headers: &http::HeaderMap| {
        headers.get("grpc-status").map(|value| Code::from_bytes(value.as_bytes()))
    };
    if let Some(code) = code(response.headers()) {
        return Ok(code);
    }
    let mut body = response.into_body();
    while let Some(data) = within(body.data()).await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
    }
    let trailers = within(body.trailers()).await?.expect("trailers");
    Ok(code(&trailers).expect("a status"))
}

/// Has each stream of each connection be answered by `answer`. Returns the address, and counts connections.
pub(crate) async fn serve_frames<F, A>(answer: F) -> (std::net::SocketAddr, Arc<AtomicUsize>)
where
    F: Fn(http::Request<h2::RecvStream>, h2::server::SendResponse<Bytes>) -> A,
    F: Clone + Send + 'static,
    A: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let accepted = count.clone();
    tokio::spawn(async move {
        while let Ok((io, _)) = listener.accept().await {
            accepted.fetch_add(1, SeqCst);
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut h2 = h2::server::handshake(io).await.unwrap();
                while let Some(Ok((request, respond))) = h2.accept().await {
                    tokio::spawn(answer(request, respond));
                }
            });
        }
    });
    (address, count)
}

/// What comes next.
pub(crate) async fn next(told: &mut UnboundedReceiver<Event>) -> Event {
    within(told.recv()).await.unwrap()
}

/// Waits for a call to be begun: with which deadline, if it has one.
pub(crate) async fn called(told: &mut UnboundedReceiver<Event>) -> Option<Provenance> {
    match next(told).await {
        Event::Called(_, provenance) => provenance,
        other => panic!("{other:?}"),
    }
}

/// Begins a call, and lets it wait. Until when that has been done, by the clock.
pub(crate) async fn begin<F: Future<Output: std::fmt::Debug>>(
    mut call: Pin<&mut F>,
) -> clock::Instant<clock::Elapsed> {
    std::future::poll_fn(|cx| {
        let polled = call.as_mut().poll(cx);
        assert!(polled.is_pending(), "{polled:?}");
        Poll::Ready(clock::Instant::now())
    })
    .await
}

/// That of our own layer.
pub(crate) fn expired(status: &Status) -> &Expired {
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    status.source().and_then(|source| source.downcast_ref()).expect("it is our own")
}

pub(crate) fn head_of_answer() -> http::Response<()> {
    http::Response::builder().header("content-type", "application/grpc").body(()).unwrap()
}

pub(crate) fn trailers_only(code: Code) -> http::Response<()> {
    let mut head = head_of_answer();
    head.headers_mut().insert("grpc-status", (code as i32).to_string().parse().unwrap());
    head
}

/// Notes how each upload ends: with its end, or a reset.
pub(crate) async fn uploads(
    reads: bool,
) -> (std::net::SocketAddr, UnboundedReceiver<Result<usize, h2::Reason>>) {
    let (tell, told) = unbounded_channel();
    let (address, _) = serve_frames(move |request, respond| {
        let tell = tell.clone();
        async move {
            let mut body = request.into_body();
            let mut count = 0;
            let ended = loop {
                match body.data().await {
                    Some(Ok(data)) => {
                        count += data.len();
                        if reads {
                            body.flow_control().release_capacity(data.len()).unwrap();
                        }
                    }
                    Some(Err(error)) => break Err(error.reason().unwrap()),
                    None => break Ok(count),
                }
            };
            drop(respond);
            tell.send(ended).unwrap();
        }
    })
    .await;
    (address, told)
}

/// What a peer or a proxy may make of a deadline that has passed.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Makes {
    /// A reset, before the head.
    Reset(h2::Reason),
    /// A status, in the head.
    Status(Code),
    /// The head, and then a status in the trailers.
    Trailers(Code),
    /// The head, and then a reset.
    Cut(h2::Reason),
    /// A gateway's.
    Http(u16),
}

/// What `tonic-build` asks of the service of a client that it generates.
pub(crate) fn is_what_generated_clients_take<T>(service: T) -> T
where
    T: GrpcService<tonic::body::Body> + Clone + Send + Sync + 'static,
    T::Error: Into<BoxError>,
    T::ResponseBody: http_body::Body<Data = Bytes> + Send + 'static,
    <T::ResponseBody as http_body::Body>::Error: Into<BoxError> + Send,
    T::Future: Send,
{
    service
}

/// A server that makes of each call what it is told to; and tells when it has.
pub(crate) async fn serve_makes()
-> (std::net::SocketAddr, tokio::sync::watch::Sender<Makes>, UnboundedReceiver<()>) {
    let (answered, is_answered) = unbounded_channel();
    let (makes, made) = tokio::sync::watch::channel(Makes::Http(504));
    let (address, _) = serve_frames(move |request, mut respond| {
        let (answered, makes) = (answered.clone(), *made.borrow());
        async move {
            match makes {
                Makes::Reset(reason) => respond.send_reset(reason),
                Makes::Status(code) => {
                    respond.send_response(trailers_only(code), true).unwrap();
                }
                Makes::Trailers(code) => {
                    let mut body = respond.send_response(head_of_answer(), false).unwrap();
                    let trailers = trailers_only(code).into_parts().0.headers;
                    body.send_trailers(trailers).unwrap();
                }
                Makes::Cut(reason) => {
                    let mut body = respond.send_response(head_of_answer(), false).unwrap();
                    body.send_reset(reason);
                }
                Makes::Http(status) => {
                    let head = http::Response::builder().status(status).body(()).unwrap();
                    respond.send_response(head, true).unwrap();
                }
            }
            drop(request);
            answered.send(()).unwrap();
        }
    })
    .await;
    (address, makes, is_answered)
}
