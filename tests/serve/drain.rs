//! How a server ends.

use std::convert::Infallible;
use std::future::pending;

use axum::body::Body;
use deadbeat::propagation::RequestBody;
use deadbeat::propagation::http::Http;
use deadbeat::serve::{Incoming, Server};
use deadbeat::time::{Duration, sleep};
use http::{Request, Response};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower::service_fn;

use crate::frames::{NO_ERROR, Peer, Seen};
use crate::http1::response;
use crate::server::{Drops, start};
use crate::{MS, within};

type Ours = Request<RequestBody<Incoming, Http>>;

const HOUR: Duration = Duration::from_secs(3600);
const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

#[tokio::test]
async fn calls_are_finished_and_nothing_else_is_begun() {
    let service = service_fn(async |_: Ours| {
        sleep(300 * MS).await;
        Ok::<_, Infallible>(Response::new(Body::from("done")))
    });
    let server = start(Server::http(service));
    // Busy over either version, idle, and one that has said nothing.
    let mut http2 = Peer::connect(server.at(), 65_535).await;
    let stream = http2.call(&[], true).await;
    let mut http1 = TcpStream::connect(server.at()).await.unwrap();
    http1.write_all(GET).await.unwrap();
    let mut idle = Peer::connect(server.at(), 65_535).await;
    assert!(idle.is_alive().await);
    let mut silent = TcpStream::connect(server.at()).await.unwrap();
    crate::limits::until("all are there", || server.stats.accepted() == 4).await;
    crate::limits::until("it is begun", || server.stats.streams() == 1).await;
    sleep(100 * MS).await;
    server.handle.drain(HOUR);
    assert_eq!(within(silent.read(&mut [0; 1])).await.unwrap(), 0);
    assert_eq!(idle.goaway().await, NO_ERROR);
    // Which is asked once more whether it has begun anything, and then closed.
    idle.closed().await;
    assert!(response(&mut http1).await.ends_with("done"));
    assert_eq!(within(http1.read(&mut [0; 1])).await.unwrap(), 0);
    assert_eq!(http2.goaway().await, NO_ERROR);
    assert!(matches!(http2.rest(stream).await.last(), Some(Seen::Data(4, true))));
    http2.closed().await;
    let at = server.at();
    server.ended().await;
    TcpStream::connect(at).await.unwrap_err();
}

#[tokio::test]
async fn what_does_not_end_within_the_grace_is_closed() {
    let mut drops = Drops::new();
    let guards = drops.guards();
    let service = service_fn(move |_: Ours| {
        let guard = guards.one();
        async move {
            pending::<()>().await;
            drop(guard);
            Ok::<_, Infallible>(Response::new(Body::empty()))
        }
    });
    let server = start(Server::http(service));
    let mut http2 = Peer::connect(server.at(), 65_535).await;
    http2.call(&[], true).await;
    let mut http1 = TcpStream::connect(server.at()).await.unwrap();
    http1.write_all(GET).await.unwrap();
    crate::limits::until("both are there", || server.stats.accepted() == 2).await;
    sleep(100 * MS).await;
    let stats = server.stats.clone();
    server.handle.drain(HOUR);
    sleep(50 * MS).await;
    assert_eq!(stats.closed(), 0);
    // A second word can only shorten it.
    server.handle.drain(100 * MS);
    server.handle.drain(HOUR);
    server.ended().await;
    assert_eq!((stats.closed(), stats.connections()), (2, 0));
    drops.one().await;
    drops.one().await;
}

#[tokio::test]
async fn dropping_what_runs_closes_everything() {
    let mut drops = Drops::new();
    let guards = drops.guards();
    let service = service_fn(move |_: Ours| {
        let guard = guards.one();
        async move {
            pending::<()>().await;
            drop(guard);
            Ok::<_, Infallible>(Response::new(Body::empty()))
        }
    });
    let server = start(Server::http(service));
    let mut peer = Peer::connect(server.at(), 65_535).await;
    peer.call(&[], true).await;
    crate::limits::until("it is begun", || server.stats.streams() == 1).await;
    server.drop_it();
    drops.one().await;
    assert!(!peer.is_alive().await);
    TcpStream::connect(server.at()).await.unwrap_err();
    crate::limits::until("it is gone", || server.stats.connections() == 0).await;
}
