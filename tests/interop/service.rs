//! Our own side: a gRPC service with four methods, and a client of such.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use ::http::uri::PathAndQuery;
use ::tonic::client::GrpcService;
use ::tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use ::tonic::server::NamedService;
use ::tonic::transport::{Channel, Endpoint};
use ::tonic::{Code, Request, Response, Status, Streaming, body::Body};
use bytes::{Buf, Bytes};
use deadbeat::propagation::grpc::{Grpc, RequestDeadline, ServerLayer, Stats};
use deadbeat::propagation::{Protocol, RequestBody};
use deadbeat::serve::{Listener, Server};
use deadbeat::time::{Duration, sleep};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_stream::{Stream, StreamExt};
use tower::{BoxError, Layer, Service, ServiceBuilder, service_fn};

use crate::{MS, within};

/// Messages without content.
#[derive(Clone, Copy, Default)]
pub(crate) struct Empty;

impl Codec for Empty {
    type Encode = ();
    type Decode = ();
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Empty {
    type Item = ();
    type Error = Status;

    fn encode(&mut self, (): (), _: &mut EncodeBuf<'_>) -> Result<(), Status> {
        Ok(())
    }
}

impl Decoder for Empty {
    type Item = ();
    type Error = Status;

    fn decode(&mut self, buf: &mut DecodeBuf<'_>) -> Result<Option<()>, Status> {
        buf.advance(buf.remaining());
        Ok(Some(()))
    }
}

/// What a server of ours has seen.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Event {
    /// A call, with these `grpc-timeout`s or `connect-timeout-ms`s.
    Arrived(Vec<String>),
    /// Its handler runs, and has so much.
    Begun(Option<Duration>),
    /// It doesn't any more.
    Over(String),
}

pub(crate) type Tell = UnboundedSender<Event>;

/// A handler that runs. Tells when it doesn't any more.
pub(crate) struct Running {
    tell: Tell,
    how: String,
}

impl Running {
    pub(crate) fn begin(tell: &Tell, request: &impl RequestDeadline) -> Self {
        // Nobody listens any more, once the test is over.
        let _ = tell.send(Event::Begun(request.provenance().map(|it| it.budget())));
        Self { tell: tell.clone(), how: "dropped".into() }
    }

    pub(crate) fn end(mut self, how: impl Into<String>) {
        self.how = how.into();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // As above.
        let _ = self.tell.send(Event::Over(std::mem::take(&mut self.how)));
    }
}

/// The service: `Echo` answers, or asks another; `Never` doesn't; `Stream` sends one message and no end;
/// `Upload` reads all that it is sent.
#[derive(Clone)]
pub(crate) struct Interop {
    tell: Tell,
    relay: Option<Relay>,
}

type Relay = deadbeat::propagation::client::Client<Channel, Grpc>;

impl NamedService for Interop {
    const NAME: &str = "interop.Interop";
}

type Answer<T> = Pin<Box<dyn Future<Output = Result<T, Infallible>> + Send>>;

impl<B> Service<::http::Request<B>> for Interop
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<BoxError> + Send,
{
    type Response = ::http::Response<Body>;
    type Error = Infallible;
    type Future = Answer<Self::Response>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: ::http::Request<B>) -> Self::Future {
        let Self { tell, relay } = self.clone();
        Box::pin(async move {
            let mut grpc = ::tonic::server::Grpc::new(Empty);
            let path = request.uri().path().to_owned();
            Ok(match path.as_str() {
                "/interop.Interop/Echo" => {
                    let echo = service_fn(|request: Request<()>| {
                        let running = Running::begin(&tell, &request);
                        let relay = relay.clone();
                        async move {
                            if let Some(relay) = relay {
                                sleep(MS * 50).await;
                                call(relay, Method::Echo, Request::new(())).await.1?;
                            }
                            running.end("answered");
                            Ok(Response::new(()))
                        }
                    });
                    grpc.unary(echo, request).await
                }
                "/interop.Interop/Never" => {
                    let never = service_fn(|request: Request<()>| {
                        let running = Running::begin(&tell, &request);
                        let relay = relay.clone();
                        async move {
                            let running = running;
                            if let Some(relay) = relay {
                                call(relay, Method::Never, Request::new(())).await.1?;
                            }
                            std::future::pending::<()>().await;
                            running.end("answered");
                            Ok(Response::new(()))
                        }
                    });
                    grpc.unary(never, request).await
                }
                "/interop.Interop/Stream" => {
                    let stream = service_fn(|request: Request<()>| {
                        let running = Running::begin(&tell, &request);
                        let endless = tokio_stream::once(Ok(())).chain(tokio_stream::pending());
                        let endless: Pin<Box<dyn Stream<Item = _> + Send>> =
                            Box::pin(endless.map(move |it| {
                                let _ = &running;
                                it
                            }));
                        async move { Ok(Response::new(endless)) }
                    });
                    grpc.server_streaming(stream, request).await
                }
                "/interop.Interop/Upload" => {
                    let upload = service_fn(|request: Request<Streaming<()>>| {
                        let running = Running::begin(&tell, &request);
                        async move {
                            let mut messages = request.into_inner();
                            let end = loop {
                                match messages.message().await {
                                    Ok(Some(())) => {}
                                    Ok(None) => break Ok(Response::new(())),
                                    Err(status) => break Err(status),
                                }
                            };
                            running.end(match &end {
                                Ok(_) => "complete".into(),
                                Err(status) => format!("cut off: {}", name(status.code())),
                            });
                            end
                        }
                    });
                    grpc.client_streaming(upload, request).await
                }
                _ => Status::unimplemented("no such method").into_http(),
            })
        })
    }
}

/// A server of ours that runs.
pub(crate) struct Served {
    pub(crate) at: String,
    pub(crate) stats: Stats,
    pub(crate) events: UnboundedReceiver<Event>,
}

/// Serves the service with hyper: no timeouts but those of the layer.
pub(crate) async fn serve(layer: ServerLayer) -> Served {
    serve_relay(layer, None).await
}

pub(crate) async fn serve_relay(layer: ServerLayer, relay: Option<Relay>) -> Served {
    let stats = layer.stats();
    let (tell, events) = unbounded_channel();
    let service = ServiceBuilder::new().layer(layer).service(Interop { tell: tell.clone(), relay });
    Served { at: serve_http(tell, service).await, stats, events }
}

/// Serves with `tonic::transport`, with a layer or without.
pub(crate) fn serve_tonic(layer: Option<ServerLayer>) -> Served {
    let incoming = ::tonic::transport::server::TcpIncoming::bind("127.0.0.1:0".parse().unwrap());
    let incoming = incoming.expect("loopback has ports");
    let at = incoming.local_addr().expect("it is bound").to_string();
    let (tell, events) = unbounded_channel();
    let stats = layer.as_ref().unwrap_or(&ServerLayer::new()).stats();
    let interop = Interop { tell, relay: None };
    if let Some(layer) = layer {
        let server = ::tonic::transport::Server::builder().layer(layer).add_service(interop);
        tokio::spawn(server.serve_with_incoming(incoming));
    } else {
        let server = ::tonic::transport::Server::builder().add_service(interop);
        tokio::spawn(server.serve_with_incoming(incoming));
    }
    Served { at, stats, events }
}

/// Serves with our own server, and tells what that has counted, too.
pub(crate) fn serve_ours(layer: ServerLayer) -> (Served, deadbeat::serve::Stats) {
    let stats = layer.stats();
    let (tell, events) = unbounded_channel();
    let (at, counted) = run(Server::grpc(Interop { tell, relay: None }).deadlines(layer));
    (Served { at, stats, events }, counted)
}

/// Has a server of ours run, until the test is over. Returns where.
pub(crate) fn run<S, R, P>(server: Server<S, P>) -> (String, deadbeat::serve::Stats)
where
    P: Protocol,
    S: Service<
            ::http::Request<RequestBody<deadbeat::serve::Incoming, P>>,
            Response = ::http::Response<R>,
        >,
    S: Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send + 'static,
    R: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let server = server.listen(Listener::bind("127.0.0.1:0").expect("loopback has ports"));
    let at = server.addresses().expect("it is bound")[0].tcp().expect("it is TCP").to_string();
    let stats = server.stats();
    tokio::spawn(server.run());
    (at, stats)
}

/// Serves HTTP/1 and HTTP/2, and tells what arrives. Returns where.
pub(crate) async fn serve_http<S, R>(tell: Tell, service: S) -> String
where
    S: Service<::http::Request<hyper::body::Incoming>, Response = ::http::Response<R>>,
    S: Clone + Send + 'static,
    S::Error: Into<BoxError>,
    S::Future: Send,
    R: http_body::Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let service = tower::util::MapRequestLayer::new(
        move |request: ::http::Request<hyper::body::Incoming>| {
            let texts = ["grpc-timeout", "connect-timeout-ms"]
                .into_iter()
                .flat_map(|name| request.headers().get_all(name))
                .map(|value| value.as_bytes().escape_ascii().to_string());
            // As above.
            let _ = tell.send(Event::Arrived(texts.collect()));
            request
        },
    )
    .layer(service);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has ports");
    let at = listener.local_addr().expect("it is bound").to_string();
    tokio::spawn(async move {
        while let Ok((io, _)) = listener.accept().await {
            let service = TowerToHyperService::new(service.clone());
            tokio::spawn(async move {
                hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(io), service)
                    .await
                    .map_err(|error| error.to_string())
            });
        }
    });
    at
}

impl Served {
    pub(crate) async fn event(&mut self) -> Event {
        within(self.events.recv()).await.expect("it runs")
    }

    /// What the next handler that runs has.
    pub(crate) async fn begun(&mut self) -> Option<Duration> {
        loop {
            if let Event::Begun(budget) = self.event().await {
                return budget;
            }
        }
    }

    /// How the next handler that ends does.
    pub(crate) async fn over(&mut self) -> String {
        loop {
            if let Event::Over(how) = self.event().await {
                return how;
            }
        }
    }

    /// All that has happened since.
    pub(crate) fn so_far(&mut self) -> Vec<Event> {
        std::iter::from_fn(|| self.events.try_recv().ok()).collect()
    }
}

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    Echo,
    Never,
    Stream,
    Upload,
}

impl Method {
    /// Those that have no end, by what they show.
    pub(crate) const ENDLESS: [Self; 3] = [Self::Never, Self::Stream, Self::Upload];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Echo => "Echo",
            Self::Never => "Never",
            Self::Stream => "Stream",
            Self::Upload => "Upload",
        }
    }

    /// As in a row of the matrix.
    pub(crate) fn when(self) -> &'static str {
        match self {
            Self::Echo | Self::Never => "before the head",
            Self::Stream => "in a stream of answers",
            Self::Upload => "in an upload",
        }
    }

    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Echo => "/interop.Interop/Echo",
            Self::Never => "/interop.Interop/Never",
            Self::Stream => "/interop.Interop/Stream",
            Self::Upload => "/interop.Interop/Upload",
        }
    }
}

/// A connection of tonic's that is there.
pub(crate) async fn connect(at: &str) -> Channel {
    let endpoint = Endpoint::new(format!("http://{at}")).expect("an address");
    within(endpoint.connect()).await.expect("it listens")
}

/// Calls `method` to its end. Returns how many messages there were, and the status.
pub(crate) async fn call<S>(
    service: S,
    method: Method,
    request: Request<()>,
) -> (usize, Result<(), Status>)
where
    S: GrpcService<Body>,
    S::ResponseBody: http_body::Body<Data = Bytes> + Send + 'static,
    <S::ResponseBody as http_body::Body>::Error: Into<BoxError>,
{
    let mut client = ::tonic::client::Grpc::new(service);
    if client.ready().await.is_err() {
        return (0, Err(Status::unknown("not ready")));
    }
    let path = PathAndQuery::from_static(method.path());
    match method {
        Method::Echo | Method::Never => {
            let answer = client.unary(request, path, Empty).await;
            (usize::from(answer.is_ok()), answer.map(drop))
        }
        Method::Upload => {
            let request = request.map(|()| tokio_stream::once(()).chain(tokio_stream::pending()));
            let answer = client.client_streaming(request, path, Empty).await;
            (usize::from(answer.is_ok()), answer.map(drop))
        }
        Method::Stream => {
            let mut messages = match client.server_streaming(request, path, Empty).await {
                Ok(answer) => answer.into_inner(),
                Err(status) => return (0, Err(status)),
            };
            let mut count = 0;
            loop {
                match messages.message().await {
                    Ok(Some(())) => count += 1,
                    Ok(None) => return (count, Ok(())),
                    Err(status) => return (count, Err(status)),
                }
            }
        }
    }
}

/// As the specification writes it.
pub(crate) fn name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

/// The same, of a result.
pub(crate) fn outcome(result: &Result<(), Status>) -> String {
    name(result.as_ref().map_or_else(Status::code, |()| Code::Ok))
}
