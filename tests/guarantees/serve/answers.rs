//! Answers that are late, and the connections that they are on.

use std::convert::Infallible;
use std::future::pending;

use deadbeat::clock::{Elapsed, Instant};
use deadbeat::propagation::grpc;
use deadbeat::serve::Server;
use deadbeat::time::sleep;
use http::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::error::TryRecvError;
use tonic::Code;
use tower::service_fn;

use super::rpc::{self, Event, Test, called, head, message, next, status};
use super::server::{Drops, start, stuck};
use super::wire::{Body, get};
use super::{MS, Ours, SECOND, connect, frames, head_for, text, within};

/// Answers whole, in half, or never, by the path.
async fn by_path(request: Ours) -> Result<Response<Body>, Infallible> {
    Ok(Response::new(match request.uri().path() {
        "/whole" => Body::from("whole"),
        "/half" => stuck(1, b"half", Drops::new().guards().one()),
        _ => pending().await,
    }))
}

#[tokio::test]
async fn an_answer_that_is_late_is_no_clean_end() {
    let server = start(Server::http(service_fn(by_path)));
    for http2 in [false, true] {
        let mut client = connect(server.at(), http2).await;
        let mut request = get(1000);
        *request.uri_mut() = "http://stock/half".parse().unwrap();
        let sent = Instant::<Elapsed>::now();
        let answered = head_for(&mut client, request).await;
        assert_eq!(answered.status(), 200);
        text(answered).await.unwrap_err();
        assert!(sent.elapsed() >= SECOND, "early");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn over_http_1_0_and_a_unix_socket_an_answer_that_is_late_looks_complete() {
    let path = std::env::temp_dir().join(format!("deadbeat-late-{}.sock", std::process::id()));
    // None may be left from an earlier run.
    let _ = std::fs::remove_file(&path);
    let listener = deadbeat::serve::Listener::bind_unix(&path).unwrap();
    let server = super::server::run(Server::http(service_fn(by_path)).listen(listener));
    for version in ["1.0", "1.1"] {
        let mut io = tokio::net::UnixStream::connect(&path).await.unwrap();
        let ask =
            format!("GET /half HTTP/{version}\r\nhost: a\r\nconnect-timeout-ms: 1000\r\n\r\n");
        io.write_all(ask.as_bytes()).await.unwrap();
        let mut read = vec![];
        // It can't be reset: what it closes looks like what is over.
        within(io.read_to_end(&mut read)).await.unwrap();
        let text = String::from_utf8_lossy(&read);
        assert!(text.contains("half"), "{text}");
        // To who knows of chunks, the last of them is missing.
        assert_eq!(text.contains("transfer-encoding: chunked"), version == "1.1", "{text}");
        assert!(!text.ends_with("0\r\n\r\n"), "{text}");
    }
    drop(server);
    std::fs::remove_file(&path).unwrap();
}

#[tokio::test]
async fn a_connection_survives_a_late_handler_and_over_http_2_a_late_body() {
    let server = start(Server::http(service_fn(by_path)));
    for http2 in [false, true] {
        let mut client = connect(server.at(), http2).await;
        let mut ask = async |path: &str, ms| {
            let mut request = get(ms);
            *request.uri_mut() = format!("http://stock{path}").parse().unwrap();
            text(within(client.send(request)).await?).await
        };
        assert!(ask("/never", 300).await.unwrap().starts_with("deadline exceeded"));
        assert_eq!(ask("/whole", 20_000).await.unwrap(), "whole");
        ask("/half", 1000).await.unwrap_err();
        assert_eq!(ask("/whole", 20_000).await.is_ok(), http2);
    }
    assert_eq!((server.stats.accepted(), server.stats.cut_connections()), (2, 1));
}

#[tokio::test]
async fn over_http_1_a_connection_does_not_survive_an_upload_that_nobody_reads() {
    let server = start(Server::http(service_fn(by_path)));
    let mut io = TcpStream::connect(server.at()).await.unwrap();
    let head = "POST / HTTP/1.1\r\nhost: a\r\nconnect-timeout-ms: 500\r\n\
                transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n";
    io.write_all(head.as_bytes()).await.unwrap();
    let mut read = vec![];
    // However it ends: some of the upload may be unread.
    let _ = within(io.read_to_end(&mut read)).await;
    assert!(read.starts_with(b"HTTP/1.1 504 "), "{}", String::from_utf8_lossy(&read));
}

#[tokio::test]
async fn over_http_1_who_gives_up_ends_its_own_connection_and_no_other() {
    let server = start(Server::http(service_fn(by_path)));
    let mut healthy = connect(server.at(), false).await;
    let whole = || {
        let mut request = get(20_000);
        *request.uri_mut() = "http://stock/whole".parse().unwrap();
        request
    };
    assert_eq!(text(head_for(&mut healthy, whole()).await).await.unwrap(), "whole");
    let mut given_up = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let mut client = connect(server.at(), false).await;
        given_up.spawn(async move { client.send(get(20_000)).await.map(drop) });
    }
    while server.stats.accepted() < 201 {
        sleep(MS).await;
    }
    given_up.shutdown().await;
    within(async {
        while server.stats.connections() > 1 {
            sleep(MS).await;
        }
    })
    .await;
    assert_eq!(text(head_for(&mut healthy, whole()).await).await.unwrap(), "whole");
}

#[tokio::test]
async fn of_grpc_an_answer_that_is_late_ends_with_its_status_and_the_connection_survives() {
    let (test, mut told) = Test::new();
    let layer = grpc::ServerLayer::new();
    let stats = layer.stats();
    let server = start(Server::grpc(test).deadlines(layer));
    let mut h2 = frames(server.at()).await;
    for (method, ms, limit, code) in [
        ("/test.Test/Drip", 50, "1S", Code::DeadlineExceeded),
        ("/test.Test/Nap", 60_000, "500m", Code::DeadlineExceeded),
        ("/test.Test/Nap", 0, "20S", Code::Ok),
    ] {
        let request = head(server.at(), method, limit);
        let (response, mut upload) = h2.send_request(request, false).unwrap();
        upload.send_data(message(ms), true).unwrap();
        assert_eq!(status(response).await.unwrap(), code, "{method}");
        called(&mut told).await;
        assert!(matches!(next(&mut told).await, Event::Dropped));
    }
    assert_eq!((stats.expired_in_body(), stats.expired_before_headers()), (1, 1));
    assert_eq!((server.stats.accepted(), server.stats.cut_streams()), (1, 0));
}

#[tokio::test]
async fn of_grpc_a_stream_that_nobody_reads_is_reset_with_cancel_at_its_deadline() {
    let (test, mut told) = Test::new();
    let server = start(Server::grpc(test));
    let mut builder = h2::client::Builder::new();
    let mut h2 = rpc::frames(server.at(), builder.initial_window_size(0)).await;
    let sent = Instant::<Elapsed>::now();
    let request = head(server.at(), "/test.Test/Flood", "1S");
    let (response, mut upload) = h2.send_request(request, false).unwrap();
    upload.send_data(message(0), true).unwrap();
    let mut body = within(response).await.unwrap().into_body();
    called(&mut told).await;
    // The client does nothing, and the handler's stream is dropped.
    assert!(matches!(next(&mut told).await, Event::Dropped));
    assert!(sent.elapsed() >= SECOND, "early");
    let error = within(body.data()).await.unwrap().unwrap_err();
    assert_eq!(error.reason(), Some(h2::Reason::CANCEL));
    assert_eq!(server.stats.cut_streams(), 1);
    assert!(matches!(told.try_recv(), Err(TryRecvError::Empty)));
}
