//! What goes around the calls over HTTP/2: heads, lengths, trailers, errors.

use std::convert::Infallible;
use std::error::Error;

use axum::body::Body;
use bytes::Bytes;
use deadbeat::propagation::RequestBody;
use deadbeat::propagation::http::Http;
use deadbeat::serve::{Incoming, Server};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body as _, Frame};
use http_body_util::{BodyExt, Full, StreamBody};
use tower::service_fn;

use crate::frames::{INTERNAL_ERROR, NO_ERROR, Peer, Seen};
use crate::server::{Running, start};
use crate::within;

type Ours = Request<RequestBody<Incoming, Http>>;

const OPEN: u32 = 65_535;
const PROTOCOL_ERROR: u32 = 1;
const REFUSED_STREAM: u32 = 7;

/// hyper's client sends what it is given, and answers with what has come.
async fn ask<B>(
    server: &Running,
    request: Request<B>,
) -> hyper::Result<Response<hyper::body::Incoming>>
where
    B: http_body::Body<Data: Send, Error: Into<tower::BoxError>> + Send + Unpin + 'static,
{
    let io = tokio::net::TcpStream::connect(server.at()).await.expect("it listens");
    let executor = hyper_util::rt::TokioExecutor::new();
    let handshake =
        hyper::client::conn::http2::handshake(executor, hyper_util::rt::TokioIo::new(io));
    let (mut sender, connection) = handshake.await.expect("it speaks HTTP/2");
    tokio::spawn(connection);
    within(sender.send_request(request)).await
}

fn get(path: &str) -> Request<Body> {
    Request::get(format!("http://a{path}")).body(Body::empty()).expect("a request")
}

#[tokio::test]
async fn an_answer_has_a_date_and_a_length_and_nothing_about_a_connection() {
    let service = service_fn(async |request: Ours| {
        let answer = Response::builder()
            .header("connection", "close, x-hop")
            .header("x-hop", "1")
            .header("keep-alive", "timeout=5")
            .header("transfer-encoding", "chunked")
            .header("x-end", "2");
        Ok::<_, Infallible>(match request.uri().path() {
            "/own" => answer.header("date", "today").body(Body::from("hello")).unwrap(),
            "/stream" => {
                let stream = tokio_stream::iter(["a", "b"].map(Ok::<_, Infallible>));
                answer.body(Body::from_stream(stream)).unwrap()
            }
            "/empty" => answer.status(204).body(Body::empty()).unwrap(),
            _ => answer.body(Body::from("hello")).unwrap(),
        })
    });
    let server = start(Server::http(service));
    for (path, length, body) in [
        ("/", Some("5"), "hello"),
        ("/own", Some("5"), "hello"),
        ("/stream", None, "ab"),
        ("/empty", None, ""),
    ] {
        let answer = ask(&server, get(path)).await.unwrap();
        let headers = answer.headers().clone();
        let told = headers.get("content-length").map(|it| it.to_str().unwrap());
        assert_eq!(told, length, "{path}");
        let date = headers["date"].to_str().unwrap();
        assert_eq!(date.ends_with(" GMT") && date.len() == 29, path != "/own", "{date}");
        assert_eq!(headers["x-end"], "2");
        for gone in ["connection", "x-hop", "keep-alive", "transfer-encoding"] {
            assert!(!headers.contains_key(gone), "{gone} at {path}");
        }
        assert_eq!(within(answer.into_body().collect()).await.unwrap().to_bytes(), body);
    }
}

#[tokio::test]
async fn a_request_is_read_to_its_trailers_however_long_it_is() {
    let service = service_fn(async |request: Ours| {
        let told = request.body().size_hint().exact();
        let ends = request.body().is_end_stream();
        let read = request.into_body().collect().await.expect("it is complete");
        let trailer =
            read.trailers().and_then(|it| it.get("x-sum")?.to_str().ok()).map(String::from);
        let text = format!("{told:?} {ends} {} {trailer:?}", read.to_bytes().len());
        Ok::<_, Infallible>(Response::new(Body::from(text)))
    });
    // Windows that are smaller than a body are opened as it is read.
    let server = start(Server::http(service).stream_window(70_000).connection_window(70_000));
    let post = || Request::post("http://a/");
    let text = async |answer: hyper::Result<Response<hyper::body::Incoming>>| {
        within(answer.unwrap().into_body().collect()).await.unwrap().to_bytes()
    };
    let long = Full::new(Bytes::from(vec![7; 3 << 20]));
    let answer = ask(&server, post().body(long).unwrap()).await;
    assert_eq!(text(answer).await, "Some(3145728) false 3145728 None");
    assert_eq!(text(ask(&server, get("/")).await).await, "Some(0) true 0 None");
    let mut trailers = HeaderMap::new();
    trailers.insert("x-sum", "7".parse().unwrap());
    let frames = [
        Ok::<_, Infallible>(Frame::data(Bytes::from(vec![1; 100_000]))),
        Ok(Frame::trailers(trailers)),
    ];
    let body = StreamBody::new(tokio_stream::iter(frames));
    let answer = ask(&server, post().body(body).unwrap()).await;
    assert_eq!(text(answer).await, "None false 100000 Some(\"7\")");
}

#[tokio::test]
async fn a_request_that_is_not_as_long_as_it_says_is_refused() {
    let service = service_fn(async |request: Ours| {
        let read = request.into_body().collect().await;
        assert!(read.is_err());
        std::future::pending::<Result<Response<Body>, Infallible>>().await
    });
    let server = start(Server::http(service));
    let mut peer = Peer::connect(server.at(), OPEN).await;
    let stream = peer.call(&[("content-length", "3")], false).await;
    peer.data(stream, b"more").await;
    assert_eq!(peer.next_on(stream).await, Seen::Reset(PROTOCOL_ERROR));
    assert!(peer.is_alive().await);
}

#[tokio::test]
async fn an_answer_that_has_no_content_is_sent_without() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let service = service_fn(move |request: Ours| {
        let tell = tell.clone();
        async move {
            // What an answer leaves to be done goes on.
            deadbeat::spawn(async move {
                tokio::task::yield_now().await;
                let _ = tell.send(());
            });
            let status: u16 = request.uri().path()[1..].parse().expect("a status");
            let answer = Response::builder().status(status).body(Body::from("hello"));
            Ok::<_, Infallible>(answer.unwrap())
        }
    });
    let server = start(Server::http(service));
    let mut peer = Peer::connect(server.at(), OPEN).await;
    for (method, path, seen) in [
        ("HEAD", "/200", Seen::Headers(true)),
        ("GET", "/204", Seen::Headers(true)),
        ("GET", "/304", Seen::Headers(true)),
        ("GET", "/103", Seen::Reset(INTERNAL_ERROR)),
    ] {
        let headers = [(":method", method), (":path", path), ("connect-timeout-ms", "9999")];
        let stream = peer.call(&headers, true).await;
        assert_eq!(peer.rest_of(stream).await, std::slice::from_ref(&seen), "{method} {path}");
        if seen == Seen::Headers(true) {
            assert_eq!(within(told.recv()).await, Some(()));
        }
    }
    // Also that which isn't the handler's.
    let headers = [(":method", "HEAD"), (":path", "/200"), ("connect-timeout-ms", "0")];
    let stream = peer.call(&headers, true).await;
    assert_eq!(peer.rest_of(stream).await, [Seen::Headers(true)]);
}

/// An error of h2's, within another.
fn refused() -> Box<dyn Error + Send + Sync> {
    Box::new(axum::Error::new(h2::Error::from(h2::Reason::REFUSED_STREAM)))
}

#[tokio::test]
async fn what_fails_resets_its_stream_and_only_that() {
    let service = service_fn(async |request: Ours| {
        let broken = |error| {
            let stream = tokio_stream::iter([Ok(Bytes::from_static(b"half")), Err(error)]);
            Ok(Response::new(Body::from_stream(stream)))
        };
        match request.uri().path() {
            "/error" => Err("broken".into()),
            "/refused" => Err(refused()),
            "/body" => broken("broken".into()),
            "/body/refused" => broken(refused()),
            // As of an upload that is handed on, whose client has reset it.
            "/body/no-error" => {
                broken(Box::new(axum::Error::new(h2::Error::from(h2::Reason::NO_ERROR))))
            }
            "/body/cancel" => broken(h2::Error::from(h2::Reason::CANCEL).into()),
            "/body/panic" => {
                let half = |n| match n {
                    0 => Ok::<_, Infallible>(Bytes::from_static(b"half")),
                    _ => panic!("a body of this test panics"),
                };
                Ok(Response::new(Body::from_stream(tokio_stream::iter((0..2).map(half)))))
            }
            "/panic" => panic!("a handler of this test panics"),
            _ => {
                let mut trailers = HeaderMap::new();
                trailers.insert("connection", "close".parse().unwrap());
                let frames = [Ok::<_, Infallible>(Frame::trailers(trailers))];
                Ok(Response::new(Body::new(StreamBody::new(tokio_stream::iter(frames)))))
            }
        }
    });
    let server = start(Server::http(service));
    let mut peer = Peer::connect(server.at(), OPEN).await;
    for (path, reason) in [
        ("/error", INTERNAL_ERROR),
        ("/refused", REFUSED_STREAM),
        ("/body", INTERNAL_ERROR),
        ("/body/refused", REFUSED_STREAM),
        ("/body/no-error", INTERNAL_ERROR),
        ("/body/cancel", INTERNAL_ERROR),
        ("/body/panic", INTERNAL_ERROR),
        ("/panic", crate::frames::CANCEL),
        ("/trailers", INTERNAL_ERROR),
    ] {
        let stream = peer.call(&[(":path", path)], true).await;
        assert_eq!(peer.rest_of(stream).await.last(), Some(&Seen::Reset(reason)), "{path}");
    }
    assert!(peer.is_alive().await);
}

#[tokio::test]
async fn an_early_answer_tells_that_the_rest_is_not_needed() {
    let service = service_fn(async |_: Ours| {
        let answer = Response::builder().status(StatusCode::PAYLOAD_TOO_LARGE);
        Ok::<_, Infallible>(answer.body(Body::empty()).unwrap())
    });
    let server = start(Server::http(service));
    let mut peer = Peer::connect(server.at(), OPEN).await;
    let stream = peer.call(&[], false).await;
    let seen = [peer.next_on(stream).await, peer.next_on(stream).await];
    assert_eq!(seen, [Seen::Headers(true), Seen::Reset(NO_ERROR)]);
}
