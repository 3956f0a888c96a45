//! When a call comes: what it has, and when its clock starts.

use std::future::pending;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request as AxumRequest;
use deadbeat::clock::{Elapsed, Instant};
use deadbeat::deadline::{self, Origin, Provenance};
use deadbeat::propagation::grpc;
use deadbeat::propagation::http::ServerLayer;
use deadbeat::serve::Server;
use deadbeat::time::sleep;
use http::Version;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, error::TryRecvError, unbounded_channel};
use tonic::Code;
use tower::limit::ConcurrencyLimitLayer;
use tower::service_fn;

use super::rpc::{Event, Test, called, head, message, status};
use super::server::start;
use super::wire::get;
use super::{MS, Ours, SECOND, answer, connect, frames, head_for, is_expired, text, within};

#[tokio::test]
async fn a_handler_has_what_its_caller_has() {
    for http2 in [false, true] {
        let (tell, mut told) = unbounded_channel();
        let service = service_fn(move |request: Ours| {
            tell.send((request.version(), deadline::provenance())).unwrap();
            async { answer("here") }
        });
        let server = start(Server::http(service));
        let mut client = connect(server.at(), http2).await;
        let sent = Instant::<Elapsed>::now();
        let answered = head_for(&mut client, get(20_000)).await;
        assert_eq!(text(answered).await.unwrap(), "here");
        let (version, provenance) = within(told.recv()).await.unwrap();
        assert_eq!(version == Version::HTTP_2, http2);
        check(&provenance.unwrap(), "connect-timeout-ms", sent);
    }
    // The same of gRPC.
    let (test, mut told) = Test::new();
    let server = start(Server::grpc(test));
    let mut h2 = frames(server.at()).await;
    let sent = Instant::<Elapsed>::now();
    let request = head(server.at(), "/test.Test/Nap", "20S");
    let (response, mut upload) = h2.send_request(request, false).unwrap();
    upload.send_data(message(0), true).unwrap();
    check(&called(&mut told).await.unwrap(), "grpc-timeout", sent);
    assert_eq!(status(response).await.unwrap(), Code::Ok);
}

/// It has 20 s, from when the head came.
fn check(provenance: &Provenance, header: &'static str, sent: Instant<Elapsed>) {
    assert_eq!(provenance.budget(), 20 * SECOND);
    assert_eq!(provenance.origin(), Origin::Header(header));
    assert!(provenance.set_at() >= sent && provenance.set_at() <= Instant::now());
    assert_eq!(provenance.deadline().instant(), provenance.set_at() + 20 * SECOND);
}

#[tokio::test]
async fn a_router_of_axums_is_no_different() {
    let app = Router::new().fallback(async |request: AxumRequest| {
        assert_eq!(request.version() == Version::HTTP_2, request.uri().path() == "/2");
        assert_eq!(deadline::provenance().unwrap().budget(), 300 * MS);
        pending::<&str>().await
    });
    let server = start(Server::http(app));
    for http2 in [false, true] {
        let mut client = connect(server.at(), http2).await;
        let mut request = get(300);
        let path = if http2 { "http://stock/2" } else { "http://stock/1" };
        *request.uri_mut() = path.parse().unwrap();
        let sent = Instant::<Elapsed>::now();
        assert!(is_expired(&head_for(&mut client, request).await));
        assert!(sent.elapsed() >= 300 * MS, "early");
    }
}

/// Handlers that tell when they are begun, and wait until they are let go.
struct Gate {
    open: Arc<Notify>,
    begun: UnboundedReceiver<Provenance>,
}

/// Serves `$service` of a gate, which has it in scope as `gated`.
macro_rules! gated {
    (|$gated:ident| $service:expr) => {{
        let (tell, begun) = unbounded_channel();
        let open = Arc::new(Notify::new());
        let wait = open.clone();
        let $gated = service_fn(move |_: Ours| {
            tell.send(deadline::provenance().unwrap()).unwrap();
            let wait = wait.clone();
            async move {
                wait.notified().await;
                answer("done")
            }
        });
        (start($service), Gate { open, begun })
    }};
}

impl Gate {
    async fn begun(&mut self) -> Provenance {
        within(self.begun.recv()).await.unwrap()
    }
}

#[tokio::test]
async fn time_in_the_queue_of_a_limit_counts_and_what_expires_there_is_not_handled() {
    for http2 in [false, true] {
        let layer = ServerLayer::new();
        let stats = layer.stats();
        let (server, mut gate) = gated!(|gated| {
            let limited = tower::Layer::layer(&ConcurrencyLimitLayer::new(1), gated);
            Server::http(limited).deadlines(layer)
        });
        let at = server.at();
        // Each on a connection of its own.
        let call = |ms| {
            tokio::spawn(async move { head_for(&mut connect(at, http2).await, get(ms)).await })
        };
        let first = call(20_000);
        gate.begun().await;
        let late = call(200);
        let waiting = call(20_000);
        while stats.requests() < 3 {
            sleep(MS).await;
        }
        let all_are_there = Instant::<Elapsed>::now();
        assert!(is_expired(&late.await.unwrap()));
        sleep(200 * MS).await;
        gate.open.notify_one();
        assert_eq!(first.await.unwrap().status(), 200);
        let provenance = gate.begun().await;
        assert!(provenance.set_at() <= all_are_there, "its time began after the queue");
        assert!(provenance.deadline().remaining() <= 20 * SECOND - 200 * MS);
        gate.open.notify_one();
        assert_eq!(waiting.await.unwrap().status(), 200);
        // There were two, and not the third.
        assert!(matches!(gate.begun.try_recv(), Err(TryRecvError::Empty)));
    }
}

#[tokio::test]
async fn over_http_1_a_request_that_is_pipelined_waits_before_its_clock_starts() {
    let (server, mut gate) = gated!(|gated| Server::http(gated));
    let mut io = TcpStream::connect(server.at()).await.unwrap();
    let ask = |ms| format!("GET / HTTP/1.1\r\nhost: a\r\nconnect-timeout-ms: {ms}\r\n\r\n");
    io.write_all((ask(20_000) + &ask(1000)).as_bytes()).await.unwrap();
    gate.begun().await;
    // The head of the second is there all the time, and that is longer than it has.
    sleep(1200 * MS).await;
    let opened = Instant::<Elapsed>::now();
    gate.open.notify_one();
    let second = gate.begun().await;
    assert!(second.set_at() >= opened);
    assert_eq!(second.budget(), SECOND);
    gate.open.notify_one();
    let mut read = String::new();
    while read.matches("HTTP/1.1 ").count() < 2 {
        let mut some = [0; 1000];
        let count = within(io.read(&mut some)).await.unwrap();
        assert!(count > 0, "{read}");
        read += str::from_utf8(&some[..count]).unwrap();
    }
}

#[tokio::test]
async fn what_has_expired_on_arrival_never_reaches_the_handler() {
    for http2 in [false, true] {
        let (tell, mut told) = unbounded_channel();
        let service = service_fn(move |_: Ours| {
            tell.send(()).unwrap();
            async { answer("here") }
        });
        let layer = ServerLayer::new();
        let stats = layer.stats();
        let server = start(Server::http(service).deadlines(layer));
        let mut client = connect(server.at(), http2).await;
        let mut request = get(0);
        request.headers_mut().insert("connect-timeout-ms", "0".parse().unwrap());
        assert!(is_expired(&head_for(&mut client, request).await));
        assert_eq!(stats.expired_on_arrival(), 1);
        assert!(matches!(told.try_recv(), Err(TryRecvError::Empty)));
    }
    let (test, mut told) = Test::new();
    let layer = grpc::ServerLayer::new();
    let stats = layer.stats();
    let server = start(Server::grpc(test).deadlines(layer));
    let mut h2 = frames(server.at()).await;
    let request = head(server.at(), "/test.Test/Nap", "0n");
    let (response, _upload) = h2.send_request(request, false).unwrap();
    assert_eq!(status(response).await.unwrap(), Code::DeadlineExceeded);
    assert_eq!(stats.expired_on_arrival(), 1);
    assert!(matches!(told.try_recv(), Err::<Event, _>(TryRecvError::Empty)));
}
