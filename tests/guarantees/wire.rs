//! HTTP by hyper, in memory and in virtual time.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use deadbeat::Manual;
use deadbeat::propagation::RequestBody;
use deadbeat::propagation::http::Http;
use deadbeat::time::{Duration, Instant, sleep};
use http::{Request, Response, Uri};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use tokio::io::{DuplexStream, duplex};
use tower::{BoxError, Service};

pub(crate) use axum::body::Body;

pub(crate) const MS: Duration = Duration::from_millis(1);
pub(crate) const SECOND: Duration = Duration::from_secs(1);

/// Runs a test of both versions: with HTTP/1, then with HTTP/2.
pub(crate) fn both<F: Future<Output = ()>>(test: impl Fn(Manual, bool) -> F) {
    for http2 in [false, true] {
        let manual = Manual::new();
        manual.block_on(test(manual.clone(), http2));
    }
}

pub(crate) fn one<F: Future<Output = ()>>(test: impl FnOnce(Manual) -> F) {
    let manual = Manual::new();
    manual.block_on(test(manual.clone()));
}

/// hyper's tasks, on the executor of the test.
#[derive(Clone)]
pub(crate) struct Tasks(pub(crate) Manual);

impl<F> hyper::rt::Executor<F> for Tasks
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, future: F) {
        drop(self.0.spawn(future));
    }
}

/// A connection on which hyper serves. The end that is returned is the client's.
pub(crate) fn serve<S, B>(manual: &Manual, http2: bool, service: S) -> DuplexStream
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send>,
    S: Clone + Send + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let (near, far) = duplex(64 << 10);
    serve_on(manual, http2, service, far);
    near
}

pub(crate) fn serve_on<S, B>(manual: &Manual, http2: bool, service: S, io: DuplexStream)
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: Send>,
    S: Clone + Send + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let (io, service) = (TokioIo::new(io), TowerToHyperService::new(service));
    if http2 {
        let server = hyper::server::conn::http2::Builder::new(Tasks(manual.clone()));
        let connection = server.serve_connection(io, service);
        drop(manual.spawn(async { connection.await.map_err(|error| error.to_string()) }));
    } else {
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(io, service);
        drop(manual.spawn(async { connection.await.map_err(|error| error.to_string()) }));
    }
}

/// A client with one connection, which knows nothing of deadlines.
pub(crate) enum Plain {
    Http1(http1::SendRequest<Body>),
    Http2(http2::SendRequest<Body>),
}

impl Plain {
    pub(crate) async fn on(manual: &Manual, http2: bool, io: DuplexStream) -> Self {
        let io = TokioIo::new(io);
        if http2 {
            let (sender, connection) =
                http2::handshake(Tasks(manual.clone()), io).await.expect("it shakes hands");
            drop(manual.spawn(async { connection.await.map_err(|error| error.to_string()) }));
            Self::Http2(sender)
        } else {
            let (sender, connection) = http1::handshake(io).await.expect("it shakes hands");
            drop(manual.spawn(async { connection.await.map_err(|error| error.to_string()) }));
            Self::Http1(sender)
        }
    }

    pub(crate) async fn send(
        &mut self,
        request: Request<Body>,
    ) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Self::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }
}

/// A `GET` with so many milliseconds left; none for 0.
pub(crate) fn get(ms: u32) -> Request<Body> {
    limited(ms, Body::empty())
}

pub(crate) fn post(ms: u32, body: Body) -> Request<Body> {
    let mut request = limited(ms, body);
    *request.method_mut() = http::Method::POST;
    request
}

fn limited(ms: u32, body: Body) -> Request<Body> {
    let mut request = Request::get("http://stock/apples");
    if ms > 0 {
        request = request.header("connect-timeout-ms", ms);
    }
    request.body(body).expect("it is sound")
}

/// hyper-util's pooled client: its connections are pipes, whose far ends it hands out.
pub(crate) type Pooled = Client<Connector, RequestBody<Body, Http>>;

#[derive(Clone)]
pub(crate) struct Connector {
    takes: Duration,
    far: Arc<dyn Fn(DuplexStream) + Send + Sync>,
    count: Arc<AtomicUsize>,
}

impl Connector {
    pub(crate) fn new(far: impl Fn(DuplexStream) + Send + Sync + 'static) -> Self {
        Self { takes: Duration::ZERO, far: Arc::new(far), count: Arc::default() }
    }

    /// How long it takes to connect.
    pub(crate) fn taking(mut self, takes: Duration) -> Self {
        self.takes = takes;
        self
    }

    /// How many times it has been asked to.
    pub(crate) fn count(&self) -> usize {
        self.count.load(SeqCst)
    }

    pub(crate) fn client(&self, manual: &Manual, http2: bool) -> Pooled {
        Client::builder(Tasks(manual.clone())).http2_only(http2).build(self.clone())
    }
}

impl Service<Uri> for Connector {
    type Response = Pipe;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Pipe, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        self.count.fetch_add(1, SeqCst);
        let this = self.clone();
        Box::pin(async move {
            if !this.takes.is_zero() {
                sleep(this.takes).await;
            }
            let (near, far) = duplex(64 << 10);
            (this.far)(far);
            Ok(Pipe(TokioIo::new(near)))
        })
    }
}

pub(crate) struct Pipe(TokioIo<DuplexStream>);

impl Connection for Pipe {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}

impl Read for Pipe {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl Write for Pipe {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Takes note of a moment, and of something.
#[derive(Clone)]
pub(crate) struct Noted<T>(Arc<Mutex<Vec<(Instant, T)>>>);

impl<T> Default for Noted<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Clone> Noted<T> {
    pub(crate) fn note(&self, it: T) {
        self.0.lock().unwrap().push((Instant::now(), it));
    }

    pub(crate) fn all(&self) -> Vec<T> {
        self.0.lock().unwrap().iter().map(|(_, it)| it.clone()).collect()
    }

    /// When the only one was, if it has been.
    pub(crate) fn at(&self) -> Option<Instant> {
        let noted = self.0.lock().unwrap();
        assert!(noted.len() <= 1, "more than one");
        noted.first().map(|(at, _)| *at)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.lock().unwrap().is_empty()
    }
}

impl Noted<()> {
    /// What notes when it is dropped.
    pub(crate) fn guard(&self) -> Guard {
        Guard(self.clone())
    }
}

pub(crate) struct Guard(Noted<()>);

impl Drop for Guard {
    fn drop(&mut self) {
        self.0.note(());
    }
}

/// Pieces without an end, as fast as they are taken; notes when it is dropped.
pub(crate) fn endless(guard: Guard) -> Body {
    endless_every(Duration::ZERO, guard)
}

/// The same, each after so long.
pub(crate) fn endless_every(every: Duration, guard: Guard) -> Body {
    Body::new(Endless { every, sleep: None, _guard: guard })
}

struct Endless {
    every: Duration,
    sleep: Option<Pin<Box<deadbeat::time::Sleep>>>,
    _guard: Guard,
}

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        if let Some(pause) = &mut self.sleep {
            std::task::ready!(pause.as_mut().poll(cx));
        }
        self.sleep = (!self.every.is_zero()).then(|| Box::pin(sleep(self.every)));
        Poll::Ready(Some(Ok(http_body::Frame::data(Bytes::from_static(&[b'x'; 8 << 10])))))
    }
}

/// A piece, and then nothing, for ever.
pub(crate) fn half() -> Body {
    Body::new(Half(false))
}

struct Half(bool);

impl http_body::Body for Half {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<http_body::Frame<Bytes>, Infallible>>> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Pending;
        }
        Poll::Ready(Some(Ok(http_body::Frame::data(Bytes::from_static(b"half")))))
    }
}
