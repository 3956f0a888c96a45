//! What bounds a connection, and what doesn't end it.

use std::convert::Infallible;

use axum::body::Body;
use deadbeat::serve::{Listener, Server};
use deadbeat::time::{Duration, sleep};
use http::{Request, Response};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower::service_fn;

use crate::frames::{self, CANCEL, ENHANCE_YOUR_CALM, Peer, Seen};
use crate::server::{run, start};
use crate::{MS, common, within};

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if condition() {
            return;
        }
        sleep(10 * MS).await;
    }
    panic!("waited too long: {what}");
}

fn hello() -> axum::Router {
    axum::Router::new().fallback(async || "hello")
}

async fn read_all(io: &mut TcpStream) -> String {
    let mut read = vec![];
    within(io.read_to_end(&mut read)).await.expect("a clean end");
    String::from_utf8_lossy(&read).into_owned()
}

#[tokio::test]
async fn a_head_that_takes_too_long_ends_its_connection() {
    let server = start(Server::http(hello()).header_read_timeout(200 * MS));
    let mut io = TcpStream::connect(server.at()).await.unwrap();
    io.write_all(b"GET / HTTP/1.1\r\nhost: exam").await.unwrap();
    let said = read_all(&mut io).await;
    assert!(said.is_empty() || said.starts_with("HTTP/1.1 408 "), "{said}");
    until("it is counted", || server.stats.failed() == 1).await;
}

#[tokio::test]
async fn who_says_nothing_or_half_a_preface_is_not_waited_for() {
    let server = start(Server::http(hello()).detection_timeout(200 * MS));
    for begins in [&b""[..], b"PRI * HTTP/2.0\r\n"] {
        let mut io = TcpStream::connect(server.at()).await.unwrap();
        io.write_all(begins).await.unwrap();
        assert_eq!(read_all(&mut io).await, "");
    }
    until("both are counted", || server.stats.timed_out() == 2).await;
    // Who goes by itself isn't counted.
    drop(TcpStream::connect(server.at()).await.unwrap());
    until("it is gone", || server.stats.accepted() == 3 && server.stats.connections() == 0).await;
    assert_eq!((server.stats.timed_out(), server.stats.failed()), (2, 0));
}

#[tokio::test]
async fn garbage_is_refused_and_half_a_preface_as_well() {
    let server = start(Server::http(hello()));
    for garbage in [
        &b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..],
        b"\0\0\0\0\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nNO\r\n\r\n",
    ] {
        let mut io = TcpStream::connect(server.at()).await.unwrap();
        io.write_all(garbage).await.unwrap();
        io.shutdown().await.unwrap();
        let said = read_all(&mut io).await;
        assert!(said.starts_with("HTTP/1.1 400 ") || said.is_empty(), "{said}");
    }
    until("all are over", || server.stats.connections() == 0).await;
    assert!(Peer::connect(server.at(), 1).await.is_alive().await);
}

#[tokio::test]
async fn without_http_1_what_is_not_http_2_is_closed() {
    let server = start(Server::grpc(tonic::service::Routes::default()));
    let mut io = TcpStream::connect(server.at()).await.unwrap();
    io.write_all(b"GET / HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
    let mut read = vec![];
    // The rest of it is unread, so that the end may be a reset.
    let _ = within(io.read_to_end(&mut read)).await;
    assert!(read.is_empty());
    until("it is counted", || server.stats.unrecognised() == 1).await;
    assert!(Peer::connect(server.at(), 1).await.is_alive().await);
}

/// So many calls, each given up at once, in one burst.
async fn given_up(peer: &mut Peer, calls: usize) {
    let mut bytes = vec![];
    for _ in 0..calls {
        let stream = peer.encode_call(&mut bytes, &[("connect-timeout-ms", "100")], true);
        frames::reset(&mut bytes, stream, CANCEL);
    }
    peer.send(&bytes).await;
}

#[tokio::test]
async fn ten_thousand_calls_that_are_given_up_at_once_do_not_end_a_connection_that_is_trusted() {
    let never = service_fn(async |_: Request<_>| {
        std::future::pending::<Result<Response<Body>, Infallible>>().await
    });
    let listener = Listener::bind("127.0.0.1:0").unwrap().trusted(true);
    let server = run(Server::http(never).listen(listener));
    let mut peer = Peer::connect(server.at(), 0).await;
    given_up(&mut peer, 10_000).await;
    assert!(peer.is_alive().await);
    let stream = peer.call(&[("connect-timeout-ms", "100")], true).await;
    assert_eq!(peer.rest_of(stream).await, [Seen::Headers(false), Seen::Reset(CANCEL)]);
}

#[tokio::test]
async fn ten_thousand_calls_that_expire_here_do_not_end_any_connection() {
    let never = service_fn(async |_: Request<_>| {
        std::future::pending::<Result<Response<Body>, Infallible>>().await
    });
    let server = start(Server::http(never).max_concurrent_streams(20_000));
    let mut peer = Peer::connect(server.at(), 0).await;
    let mut bytes = vec![];
    let last = (0..10_000)
        .map(|_| peer.encode_call(&mut bytes, &[("connect-timeout-ms", "300")], true))
        .last()
        .unwrap();
    peer.send(&bytes).await;
    assert_eq!(peer.rest_of(last).await, [Seen::Headers(false), Seen::Reset(CANCEL)]);
    until("all are cut", || server.stats.cut_streams() == 10_000).await;
    assert!(peer.is_alive().await);
}

#[tokio::test]
async fn more_resets_than_are_allowed_end_the_connection() {
    let server = start(Server::http(hello()).max_pending_resets(50));
    let mut peer = Peer::connect(server.at(), 0).await;
    given_up(&mut peer, 5000).await;
    assert_eq!(peer.goaway().await, ENHANCE_YOUR_CALM);
    // Others live on.
    assert!(Peer::connect(server.at(), 0).await.is_alive().await);
}

#[tokio::test]
async fn no_more_connections_are_accepted_than_there_may_be() {
    let server = start(Server::http(hello()).max_connections(2));
    let mut first = Peer::connect(server.at(), 0).await;
    let mut second = Peer::connect(server.at(), 0).await;
    assert!(first.is_alive().await && second.is_alive().await);
    let mut third = Peer::connect(server.at(), 0).await;
    sleep(100 * MS).await;
    assert_eq!(server.stats.accepted(), 2);
    drop(first);
    assert!(third.is_alive().await);
    assert!(server.stats.connections() <= 2);
}

/// What is run in a process of its own that may have few files.
#[test]
#[cfg(unix)]
fn running_out_of_file_descriptors_is_survived() {
    if !common::is_child() {
        let limited = ["sh", "-c", "ulimit -n 40; exec \"$0\" \"$@\""];
        let test = "limits::running_out_of_file_descriptors_is_survived";
        common::child_succeeds(test, &limited);
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let server = start(Server::http(hello()));
        let mut peers = vec![];
        // Each takes two: one on either side.
        while let Ok(io) = TcpStream::connect(server.at()).await {
            peers.push(io);
            tokio::task::yield_now().await;
            assert!(peers.len() < 60, "there is no limit");
        }
        until("it fails", || server.stats.accept_errors() > 0).await;
        let before = server.stats.accept_errors();
        sleep(500 * MS).await;
        // It waits, longer each time: it doesn't spin.
        assert!(server.stats.accept_errors() - before < 100);
        drop(peers);
        until("the others are gone", || server.stats.connections() == 0).await;
        assert!(Peer::connect(server.at(), 0).await.is_alive().await);
    });
}

#[tokio::test]
async fn a_large_head_is_refused() {
    let server = start(Server::http(hello()).max_header_list_size(500));
    let mut peer = Peer::connect(server.at(), 65_535).await;
    let long = "x".repeat(100);
    let headers: Vec<_> = ["x-a", "x-b", "x-c", "x-d"].map(|name| (name, long.as_str())).into();
    let stream = peer.call(&headers, true).await;
    let seen = peer.rest_of(stream).await;
    // hyper answers 431, without a body.
    assert_eq!(seen, [Seen::Headers(true)]);
    assert!(peer.is_alive().await);
}

#[tokio::test]
async fn a_silent_connection_is_asked_for_a_sign_of_life() {
    let server = start(Server::http(hello()).keep_alive(100 * MS, Duration::from_millis(300)));
    let mut io = TcpStream::connect(server.at()).await.unwrap();
    io.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    // It never answers.
    let mut read = vec![];
    let _ = within(io.read_to_end(&mut read)).await;
    until("it is over", || server.stats.connections() == 0).await;
    assert_eq!((server.stats.silent(), server.stats.failed()), (1, 0));
    assert!(read.windows(9).any(|it| it.starts_with(&[0, 0, 8, 6, 0])), "no PING: {read:?}");
    assert!(read.windows(9).any(|it| it.starts_with(&[0, 0, 8, 7, 0])), "no GOAWAY: {read:?}");
    // Whatever it sends is a sign of life, and a PING that isn't answered doesn't keep it from being asked again.
    let mut io = TcpStream::connect(server.at()).await.unwrap();
    io.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    for _ in 0..20 {
        sleep(40 * MS).await;
        // WINDOW_UPDATE of the connection, by one.
        io.write_all(b"\0\0\x04\x08\0\0\0\0\0\0\0\0\x01").await.unwrap();
    }
    assert_eq!((server.stats.connections(), server.stats.silent()), (1, 1));
    until("now that it sends nothing", || server.stats.silent() == 2).await;
    // And who answers lives.
    let mut peer = Peer::connect(server.at(), 1).await;
    peer.asked(5).await;
    assert!(peer.is_alive().await);
    assert_eq!((server.stats.connections(), server.stats.silent()), (1, 2));
}
