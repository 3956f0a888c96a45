//! Uploads that are late, or whose client is gone: an end is only what the client has ended.

use std::future::pending;
use std::net::SocketAddr;

use deadbeat::clock::{Elapsed, Instant};
use deadbeat::serve::Server;
use h2::Reason;
use http::Request;
use http_body_util::BodyExt;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tonic::Code;
use tower::service_fn;

use super::rpc::{Event, Test, called, head, message, next};
use super::server::{Running, start};
use super::wire::{Body, half, post};
use super::{MS, Ours, SECOND, answer, connect, frames, head_for, is_expired, within};

/// How an upload has ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Whole(usize),
    Expired,
    Failed,
}

/// Serves what reads an upload in a task of its own, so that the end of the call isn't that of the reader. Tells
/// of the first piece, and how it ends.
fn reading() -> (Running, UnboundedReceiver<()>, UnboundedReceiver<End>) {
    let (begin, begun) = unbounded_channel();
    let (end, ended) = unbounded_channel();
    let service = service_fn(move |request: Ours| {
        let (begin, end) = (begin.clone(), end.clone());
        tokio::spawn(async move {
            let mut body = request.into_body();
            let mut length = 0;
            let how = loop {
                match body.frame().await {
                    Some(Ok(frame)) => {
                        length += frame.into_data().map_or(0, |data| data.len());
                        let _ = begin.send(());
                    }
                    Some(Err(error)) if error.is_expired() => break End::Expired,
                    Some(Err(_)) => break End::Failed,
                    None => break End::Whole(length),
                }
            };
            let _ = end.send(how);
        });
        async {
            pending::<()>().await;
            answer("never")
        }
    });
    (start(Server::http(service)), begun, ended)
}

#[tokio::test]
async fn an_upload_that_is_late_is_no_clean_end() {
    for http2 in [false, true] {
        let (server, _begun, mut ended) = reading();
        let mut client = connect(server.at(), http2).await;
        let sent = Instant::<Elapsed>::now();
        assert!(is_expired(&head_for(&mut client, post(500, half())).await));
        assert_eq!(within(ended.recv()).await, Some(End::Expired));
        assert!(sent.elapsed() >= 500 * MS, "early");
        // One that is complete is none.
        let mut client = connect(server.at(), http2).await;
        tokio::spawn(async move { client.send(post(20_000, Body::from("all"))).await });
        assert_eq!(within(ended.recv()).await, Some(End::Whole(3)));
    }
}

#[tokio::test]
async fn an_upload_whose_client_is_gone_is_no_clean_end() {
    // Over HTTP/1 the connection ends: within a chunk, between two, or before all has come that was told of.
    for cut in [
        "transfer-encoding: chunked\r\n\r\n4\r\nha",
        "transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "content-length: 8\r\n\r\nhalf",
    ] {
        let (server, mut begun, mut ended) = reading();
        let mut io = TcpStream::connect(server.at()).await.unwrap();
        io.write_all(format!("POST / HTTP/1.1\r\nhost: a\r\n{cut}").as_bytes()).await.unwrap();
        within(begun.recv()).await.unwrap();
        drop(io);
        assert_eq!(within(ended.recv()).await, Some(End::Failed), "{cut:?}");
    }
    // Over HTTP/2 the stream is reset, for whatever reason, or its connection is gone.
    for reason in [Some(Reason::CANCEL), Some(Reason::NO_ERROR), None] {
        let (server, mut begun, mut ended) = reading();
        let mut h2 = frames_that_end(server.at()).await;
        let request = Request::post("http://stock/").body(()).unwrap();
        let (_response, mut upload) = h2.sender.send_request(request, false).unwrap();
        upload.send_data("half".into(), false).unwrap();
        within(begun.recv()).await.unwrap();
        match reason {
            Some(reason) => upload.send_reset(reason),
            None => h2.connection.abort(),
        }
        assert_eq!(within(ended.recv()).await, Some(End::Failed), "{reason:?}");
    }
}

/// A client of frames, whose connection can be dropped.
struct Frames {
    sender: h2::client::SendRequest<bytes::Bytes>,
    connection: tokio::task::JoinHandle<Result<(), h2::Error>>,
}

async fn frames_that_end(at: SocketAddr) -> Frames {
    let io = TcpStream::connect(at).await.unwrap();
    let (sender, connection) = within(h2::client::handshake(io)).await.unwrap();
    Frames { sender, connection: tokio::spawn(connection) }
}

#[tokio::test]
async fn of_grpc_an_upload_that_is_reset_is_no_clean_end() {
    for reason in [Reason::NO_ERROR, Reason::CANCEL] {
        let (test, mut told) = Test::new();
        let server = start(Server::grpc(test));
        let mut h2 = frames(server.at()).await;
        let request = head(server.at(), "/test.Test/Echo", "");
        let (_response, mut upload) = h2.send_request(request, false).unwrap();
        upload.send_data(message(1), false).unwrap();
        called(&mut told).await;
        upload.send_reset(reason);
        let ended = loop {
            match next(&mut told).await {
                Event::Upload(ended) => break ended,
                Event::Dropped => {}
                other => panic!("{other:?}"),
            }
        };
        let status = ended.expect_err("a clean end");
        assert_eq!(status.code(), Code::Aborted, "{reason:?}: {status:?}");
    }
}

#[tokio::test]
async fn of_grpc_an_upload_that_is_late_ends_with_its_status() {
    let (test, mut told) = Test::new();
    let server = start(Server::grpc(test));
    let mut h2 = frames(server.at()).await;
    let sent = Instant::<Elapsed>::now();
    let request = head(server.at(), "/test.Test/Echo", "1S");
    let (_response, mut upload) = h2.send_request(request, false).unwrap();
    upload.send_data(message(1), false).unwrap();
    called(&mut told).await;
    let mut ended = [next(&mut told).await, next(&mut told).await];
    assert!(sent.elapsed() >= SECOND, "early");
    ended.sort_by_key(|event| matches!(event, Event::Upload(_)));
    let [Event::Dropped, Event::Upload(Err(status))] = &ended else { panic!("{ended:?}") };
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
}
