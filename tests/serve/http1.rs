//! What ends over HTTP/1 at its deadline.

use std::convert::Infallible;
use std::future::pending;
use std::io::ErrorKind;

use axum::body::Body;
use deadbeat::clock::{Elapsed, Instant};
use deadbeat::propagation::RequestBody;
use deadbeat::propagation::http::Http;
use deadbeat::serve::{Incoming, Server};
use deadbeat::time::sleep;
use http::{Request, Response};
use http_body_util::BodyExt;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tower::service_fn;

use crate::server::{Drops, endless, start, stuck};
use crate::{MS, within};

type Ours = Request<RequestBody<Incoming, Http>>;

async fn ask(io: &mut TcpStream, text: &str) {
    within(io.write_all(text.as_bytes())).await.expect("it reads");
}

fn get(version: &str, ms: u32) -> String {
    format!("GET / HTTP/{version}\r\nhost: a\r\nconnect-timeout-ms: {ms}\r\n\r\n")
}

#[tokio::test]
async fn a_connection_whose_peer_does_not_read_is_closed_at_the_deadline() {
    let mut drops = Drops::new();
    let guards = drops.guards();
    let service = service_fn(move |_: Ours| {
        let body = endless(64 << 10, guards.one());
        async { Ok::<_, Infallible>(Response::new(body)) }
    });
    let server = start(Server::http(service));
    let mut io = TcpStream::connect(server.at()).await.unwrap();
    let sent = Instant::<Elapsed>::now();
    ask(&mut io, &get("1.1", 400)).await;
    drops.one().await;
    assert!(Instant::<Elapsed>::now() >= sent + 400 * MS, "early");
    // What has come before is there; then there is no clean end.
    let mut read = vec![];
    let ended = within(io.read_to_end(&mut read)).await.unwrap_err();
    assert_eq!(ended.kind(), ErrorKind::ConnectionReset);
    assert!(!read.ends_with(b"0\r\n\r\n"));
    crate::limits::until("it is over", || server.stats.connections() == 0).await;
    assert_eq!(server.stats.cut_connections(), 1);
}

#[tokio::test]
async fn an_answer_that_is_whole_but_not_read_does_not_hold_the_connection() {
    let mut drops = Drops::new();
    let guards = drops.guards();
    // More than the kernel takes, in one piece, which hyper has taken over as soon as it is polled.
    let service = service_fn(move |_: Ours| {
        let guard = guards.one();
        async move {
            drop(guard);
            Ok::<_, Infallible>(Response::new(Body::from(vec![b'x'; 64 << 20])))
        }
    });
    let server = start(Server::http(service));
    let mut io = TcpStream::connect(server.at()).await.unwrap();
    let sent = Instant::<Elapsed>::now();
    ask(&mut io, &get("1.1", 500)).await;
    drops.one().await;
    crate::limits::until("it is over", || server.stats.cut_connections() == 1).await;
    assert!(Instant::<Elapsed>::now() >= sent + 500 * MS, "early");
    let mut read = vec![];
    assert!(within(io.read_to_end(&mut read)).await.is_err());
    assert!(read.len() < 64 << 20);
}

#[tokio::test]
async fn an_answer_that_is_cut_never_looks_complete_not_even_over_http_1_0() {
    for version in ["1.1", "1.0"] {
        let mut drops = Drops::new();
        let guards = drops.guards();
        let service = service_fn(move |_: Ours| {
            let body = stuck(1, b"half", guards.one());
            async { Ok::<_, Infallible>(Response::new(body)) }
        });
        let server = start(Server::http(service));
        let mut io = TcpStream::connect(server.at()).await.unwrap();
        ask(&mut io, &get(version, 300)).await;
        let mut read = vec![];
        let ended = within(io.read_to_end(&mut read)).await.unwrap_err();
        assert_eq!(ended.kind(), ErrorKind::ConnectionReset, "{version}");
        let text = String::from_utf8_lossy(&read);
        assert!(text.contains("half") && !text.ends_with("0\r\n\r\n"), "{text}");
        drops.one().await;
    }
}

#[tokio::test]
async fn a_handler_that_is_late_is_answered_for_and_the_connection_lives() {
    let service = service_fn(async |_: Ours| pending::<Result<Response<Body>, Infallible>>().await);
    let server = start(Server::http(service));
    let mut io = TcpStream::connect(server.at()).await.unwrap();
    for _ in 0..2 {
        ask(&mut io, &get("1.1", 200)).await;
        assert!(response(&mut io).await.starts_with("HTTP/1.1 504 "));
    }
    assert_eq!(server.stats.cut_connections(), 0);
}

#[tokio::test]
async fn a_client_whose_upload_is_not_read_any_more_is_told_that_the_connection_is_over() {
    let service = service_fn(async |_: Ours| pending::<Result<Response<Body>, Infallible>>().await);
    let server = start(Server::http(service));
    for (framing, sent) in
        [("transfer-encoding: chunked", "4\r\nhalf\r\n"), ("content-length: 9000", "half")]
    {
        let mut io = TcpStream::connect(server.at()).await.unwrap();
        let head = format!(
            "POST / HTTP/1.1\r\nhost: a\r\nconnect-timeout-ms: 200\r\n{framing}\r\n\r\n{sent}"
        );
        ask(&mut io, &head).await;
        let mut read = String::new();
        within(io.read_to_string(&mut read)).await.unwrap();
        assert!(read.starts_with("HTTP/1.1 504 "), "{read}");
        assert!(read.contains("\r\nconnection: close\r\n"), "{read}");
    }
    assert_eq!(server.stats.cut_connections(), 0);
}

#[tokio::test]
async fn a_connection_whose_upload_was_read_lives() {
    let service = service_fn(async |request: Ours| {
        let _ = request.into_body().collect().await;
        pending::<Result<Response<Body>, Infallible>>().await
    });
    let server = start(Server::http(service));
    let mut io = TcpStream::connect(server.at()).await.unwrap();
    for (framing, sent) in
        [("transfer-encoding: chunked", "4\r\nfull\r\n0\r\n\r\n"), ("content-length: 4", "full")]
    {
        let head = format!(
            "POST / HTTP/1.1\r\nhost: a\r\nconnect-timeout-ms: 200\r\n{framing}\r\n\r\n{sent}"
        );
        ask(&mut io, &head).await;
        let answer = response(&mut io).await;
        assert!(answer.starts_with("HTTP/1.1 504 ") && !answer.contains("connection:"), "{answer}");
    }
    assert_eq!(server.stats.accepted(), 1);
}

#[tokio::test]
async fn a_small_upload_that_nobody_has_read_does_not_cost_the_connection() {
    let service = service_fn(async |_: Ours| pending::<Result<Response<Body>, Infallible>>().await);
    let server = start(Server::http(service));
    let mut io = TcpStream::connect(server.at()).await.unwrap();
    // The second is late when it comes.
    for ms in [200, 0, 200] {
        let head = format!(
            "POST / HTTP/1.1\r\nhost: a\r\nconnect-timeout-ms: {ms}\r\ncontent-length: 4\r\n\r\nfull"
        );
        ask(&mut io, &head).await;
        let answer = response(&mut io).await;
        assert!(answer.starts_with("HTTP/1.1 504 ") && !answer.contains("connection:"), "{answer}");
    }
    assert_eq!(server.stats.accepted(), 1);
}

#[tokio::test]
async fn calls_that_are_in_time_leave_the_connection_alone() {
    let service = service_fn(async |_: Ours| {
        sleep(20 * MS).await;
        Ok::<_, Infallible>(Response::new(Body::from("done")))
    });
    let server = start(Server::http(service));
    let mut io = TcpStream::connect(server.at()).await.unwrap();
    for ms in [2000, 30_000, 2000] {
        ask(&mut io, &get("1.1", ms)).await;
        assert!(response(&mut io).await.starts_with("HTTP/1.1 200 "));
    }
    // The deadlines of calls that are over are nobody's.
    sleep(2200 * MS).await;
    ask(&mut io, &get("1.1", 20_000)).await;
    assert!(response(&mut io).await.starts_with("HTTP/1.1 200 "));
    assert_eq!((server.stats.accepted(), server.stats.cut_connections()), (1, 0));
}

#[tokio::test]
async fn connections_are_upgraded() {
    let service = service_fn(async |request: Ours| {
        let upgrade = hyper::upgrade::on(request);
        tokio::spawn(async move {
            let io = upgrade.await.expect("it is upgraded");
            let mut io = hyper_util::rt::TokioIo::new(io);
            let mut said = [0; 5];
            io.read_exact(&mut said).await.expect("it is said");
            io.write_all(&said).await.expect("it is read");
        });
        let answer = Response::builder().status(101).header("upgrade", "echo");
        Ok::<_, Infallible>(answer.header("connection", "upgrade").body(Body::empty()).unwrap())
    });
    let server = start(Server::http(service));
    let mut io = TcpStream::connect(server.at()).await.unwrap();
    let head = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\nconnect-timeout-ms: 300\r\n\r\n";
    ask(&mut io, head).await;
    let mut read = vec![];
    while !read.ends_with(b"\r\n\r\n") {
        assert!(within(io.read_buf(&mut read)).await.unwrap() > 0);
    }
    // The call is over, and its deadline with it.
    sleep(400 * MS).await;
    ask(&mut io, "hello").await;
    let mut said = [0; 5];
    within(io.read_exact(&mut said)).await.unwrap();
    assert_eq!(&said, b"hello");
}

/// Head and body of one.
pub(crate) async fn response(io: &mut (impl tokio::io::AsyncRead + Unpin)) -> String {
    let mut read = vec![];
    loop {
        let text = String::from_utf8_lossy(&read).into_owned();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let length: usize = length.map_or(0, |length| length.parse().unwrap());
            if body.len() >= length {
                return text;
            }
        }
        assert!(within(io.read_buf(&mut read)).await.unwrap() > 0, "{text}");
    }
}
