//! What the layer keeps on a server of hyper's, by HTTP/1 and by HTTP/2.

use std::convert::Infallible;
use std::future::pending;

use axum::Router;
use axum::extract::Request as AxumRequest;
use bytes::Bytes;
use deadbeat::deadline;
use deadbeat::propagation::RequestBody;
use deadbeat::propagation::http::{DEADLINE_EXCEEDED, Http, ServerLayer};
use deadbeat::time::{Instant, sleep};
use http::{Request, Response, StatusCode, Version};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tower::limit::ConcurrencyLimitLayer;
use tower::{Layer, service_fn};

use super::wire::*;
use super::within;

type Ours = Request<RequestBody<Incoming, Http>>;

fn answer(text: &'static str) -> Result<Response<Body>, Infallible> {
    Ok(Response::new(Body::from(text)))
}

fn is_expired<B>(response: &Response<B>) -> bool {
    response.status() == StatusCode::GATEWAY_TIMEOUT
        && response.headers().contains_key(DEADLINE_EXCEEDED)
}

#[test]
fn a_handler_has_what_its_caller_has() {
    both(async |manual, http2| {
        let service = ServerLayer::new().layer(service_fn(async |_: Ours| {
            assert_eq!(deadline::current().remaining(), 300 * MS);
            answer("here")
        }));
        let mut client = Plain::on(&manual, http2, serve(&manual, http2, service)).await;
        let response = client.send(get(300)).await.unwrap();
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "here");
    });
}

#[test]
fn time_in_the_queue_of_a_limit_counts_and_what_expires_there_is_not_handled() {
    both(async |manual, http2| {
        let layer = ServerLayer::new();
        let left = Noted::default();
        let seen = left.clone();
        let service = ConcurrencyLimitLayer::new(1).layer(service_fn(move |_: Ours| {
            seen.note(deadline::current().remaining());
            async {
                sleep(200 * MS).await;
                answer("done")
            }
        }));
        let service = layer.layer(service);
        let mut clients = vec![];
        for _ in 0..3 {
            let io = serve(&manual, http2, service.clone());
            clients.push(Plain::on(&manual, http2, io).await);
        }
        let mut calls = vec![];
        for (mut client, ms) in clients.into_iter().zip([900, 300, 200]) {
            calls.push(manual.spawn(async move { client.send(get(ms)).await.unwrap().status() }));
            // Until it has a slot, or waits for one.
            sleep(MS).await;
        }
        let mut statuses = vec![];
        for call in calls {
            statuses.push(call.await);
        }
        // The second was begun after 200 ms, and was late; the third never was.
        let late = StatusCode::GATEWAY_TIMEOUT;
        assert_eq!(statuses, [StatusCode::OK, late, late]);
        assert_eq!(left.all(), [900 * MS, 101 * MS]);
        let stats = layer.stats();
        assert_eq!((stats.expired_on_arrival(), stats.expired_before_headers()), (1, 1));
    });
}

#[test]
fn over_http_1_a_request_that_is_pipelined_waits_before_its_clock_starts() {
    one(async |manual| {
        let left = Noted::default();
        let seen = left.clone();
        let service = ServerLayer::new().layer(service_fn(move |_: Ours| {
            seen.note(deadline::current().remaining());
            async {
                sleep(500 * MS).await;
                answer("done")
            }
        }));
        let mut io = serve(&manual, false, service);
        let start = Instant::now();
        let get = |ms| format!("GET / HTTP/1.1\r\nhost: a\r\nconnect-timeout-ms: {ms}\r\n\r\n");
        io.write_all((get(900) + &get(300)).as_bytes()).await.unwrap();
        let mut read = vec![];
        while !read.windows(7).any(|it| it == b" 504 Ga") {
            assert!(io.read_buf(&mut read).await.unwrap() > 0);
        }
        // Its headers were there all the time.
        assert_eq!(left.all(), [900 * MS, 300 * MS]);
        assert_eq!(start.elapsed(), 800 * MS);
    });
}

#[test]
fn what_has_expired_on_arrival_never_reaches_the_handler() {
    both(async |manual, http2| {
        let layer = ServerLayer::new();
        let service =
            layer.layer(service_fn(async |_: Ours| -> Result<Response<Body>, Infallible> {
                unreachable!("it was called")
            }));
        let mut client = Plain::on(&manual, http2, serve(&manual, http2, service)).await;
        let mut request = get(0);
        request.headers_mut().insert("connect-timeout-ms", "0".parse().unwrap());
        assert!(is_expired(&client.send(request).await.unwrap()));
        assert_eq!(layer.stats().expired_on_arrival(), 1);
    });
}

#[test]
fn a_handler_that_is_late_is_dropped_and_answered_for() {
    both(async |manual, http2| {
        let dropped = Noted::default();
        let seen = dropped.clone();
        let service = ServerLayer::new().layer(service_fn(move |_: Ours| {
            let guard = seen.guard();
            async move {
                pending::<()>().await;
                drop(guard);
                answer("never")
            }
        }));
        let mut client = Plain::on(&manual, http2, serve(&manual, http2, service)).await;
        let start = Instant::now();
        let response = client.send(get(300)).await.unwrap();
        assert!(is_expired(&response));
        assert_eq!(dropped.at(), Some(start + 300 * MS));
        // The connection is as good as before.
        let response = client.send(get(300)).await.unwrap();
        assert!(is_expired(&response));
    });
}

#[tokio::test]
async fn the_tasks_of_a_handler_that_is_late_end() {
    for http2 in [false, true] {
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let service = ServerLayer::new().layer(service_fn(move |_: Ours| {
            let tell = tell.clone();
            async move {
                let work = deadbeat::spawn(pending::<()>());
                tokio::spawn(async move { tell.send(work.await.unwrap()) });
                pending::<()>().await;
                answer("never")
            }
        }));
        let (near, far) = tokio::io::duplex(64 << 10);
        tokio::spawn(async move {
            let service = hyper_util::service::TowerToHyperService::new(service);
            hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                .serve_connection(hyper_util::rt::TokioIo::new(far), service)
                .await
                .map_err(|error| error.to_string())
        });
        let io = hyper_util::rt::TokioIo::new(near);
        let response = if http2 {
            let (mut sender, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(get(500)).await.unwrap()
        } else {
            let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
            tokio::spawn(connection);
            sender.send_request(get(500)).await.unwrap()
        };
        assert!(is_expired(&response));
        let cancelled = within(told.recv()).await.unwrap().unwrap_err();
        assert!(cancelled.is_deadline(), "{cancelled}");
    }
}

/// A service that reads its upload in a task of its own, so that the end of the call isn't that of the
/// reader; notes how the upload ends: with how many bytes, or with what.
fn reading(
    manual: &deadbeat::Manual,
    layer: &ServerLayer,
    ended: &Noted<Result<usize, String>>,
) -> impl tower::Service<
    Request<Incoming>,
    Response = Response<deadbeat::propagation::server::ResponseBody<Body, Http>>,
    Error = Infallible,
    Future: Send,
> + Clone
+ Send
+ 'static {
    let (manual, ended) = (manual.clone(), ended.clone());
    layer.layer(service_fn(move |request: Ours| {
        let ended = ended.clone();
        drop(manual.spawn(async move {
            let body = request.into_body().collect().await;
            ended.note(match body {
                Ok(body) => Ok(body.to_bytes().len()),
                Err(error) if error.is_expired() => Err("expired".to_owned()),
                Err(_) => Err("failed".to_owned()),
            });
        }));
        pending()
    }))
}

#[test]
fn an_upload_that_is_late_is_no_clean_end() {
    both(async |manual, http2| {
        let ended = Noted::default();
        let service = reading(&manual, &ServerLayer::new(), &ended);
        let mut client = Plain::on(&manual, http2, serve(&manual, http2, service)).await;
        let start = Instant::now();
        assert!(is_expired(&client.send(post(300, half())).await.unwrap()));
        sleep(MS).await;
        assert_eq!(ended.all(), [Err("expired".to_owned())]);
        assert_eq!(ended.at(), Some(start + 300 * MS));
    });
}

#[test]
fn an_upload_that_is_cut_off_is_no_clean_end() {
    // Over HTTP/1 the connection ends, within a chunk or between two.
    for rest in ["", "5\r\nha", "5\r\nhalf!\r\n"] {
        one(async |manual| {
            let ended = Noted::default();
            let mut io = serve(&manual, false, reading(&manual, &ServerLayer::new(), &ended));
            let head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
            io.write_all(format!("{head}{rest}").as_bytes()).await.unwrap();
            sleep(MS).await;
            drop(io);
            sleep(MS).await;
            assert_eq!(ended.all(), [Err("failed".to_owned())], "{rest:?}");
        });
    }
    let cancelled = reset_upload(&ServerLayer::new(), h2::Reason::CANCEL);
    assert_eq!(cancelled, [Err("failed".to_owned())]);
}

#[test]
fn an_upload_that_is_reset_without_an_error_is_no_clean_end_if_told_so() {
    assert_eq!(reset_upload(&ServerLayer::new(), h2::Reason::NO_ERROR), [Ok(4)]);
    let strict = ServerLayer::new().incomplete_is_error(true);
    let told = reset_upload(&strict, h2::Reason::NO_ERROR);
    assert_eq!(told, [Err("failed".to_owned())]);
    // One that is complete is none.
    one(async |manual| {
        let ended = Noted::default();
        let io = serve(&manual, true, reading(&manual, &strict, &ended));
        let mut client = Plain::on(&manual, true, io).await;
        let call = manual.spawn(async move { client.send(post(900, Body::from("all"))).await });
        sleep(MS).await;
        assert_eq!(ended.all(), [Ok(3)]);
        drop(call);
    });
}

/// How an upload of four bytes ends that the client then resets.
fn reset_upload(layer: &ServerLayer, reason: h2::Reason) -> Vec<Result<usize, String>> {
    let manual = deadbeat::Manual::new();
    manual.block_on(async {
        let ended = Noted::default();
        let mut h2 =
            raw(&manual, serve(&manual, true, reading(&manual, layer, &ended)), None).await;
        let request = Request::post("http://stock/").body(()).unwrap();
        let (_response, mut upload) = h2.send_request(request, false).unwrap();
        upload.send_data("half".into(), false).unwrap();
        sleep(MS).await;
        upload.send_reset(reason);
        sleep(MS).await;
        ended.all()
    })
}

/// A client of frames.
async fn raw(
    manual: &deadbeat::Manual,
    io: tokio::io::DuplexStream,
    window: Option<u32>,
) -> h2::client::SendRequest<Bytes> {
    let mut builder = h2::client::Builder::new();
    if let Some(window) = window {
        builder.initial_window_size(window);
    }
    let (h2, connection) = builder.handshake(io).await.unwrap();
    drop(manual.spawn(async { connection.await.map_err(|error| error.to_string()) }));
    h2.ready().await.unwrap()
}

/// Answers with a body that has a piece every 100 ms, and no end.
fn dripping(
    dropped: &Noted<()>,
) -> impl tower::Service<
    Request<Incoming>,
    Response = Response<deadbeat::propagation::server::ResponseBody<Body, Http>>,
    Error = Infallible,
    Future: Send,
> + Clone
+ Send
+ 'static {
    let dropped = dropped.clone();
    ServerLayer::new().layer(service_fn(move |_: Ours| {
        let body = endless_every(100 * MS, dropped.guard());
        async { Ok::<_, Infallible>(Response::new(body)) }
    }))
}

#[test]
fn an_answer_that_is_late_is_no_clean_end() {
    both(async |manual, http2| {
        let dropped = Noted::default();
        let io = serve(&manual, http2, dripping(&dropped));
        let mut client = Plain::on(&manual, http2, io).await;
        let start = Instant::now();
        let response = client.send(get(350)).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let mut body = response.into_body();
        while body.frame().await.expect("a clean end").is_ok() {}
        assert_eq!(start.elapsed(), 350 * MS);
        assert_eq!(dropped.at(), Some(start + 350 * MS));
    });
}

#[test]
fn over_http_1_0_an_answer_that_is_late_looks_complete() {
    one(async |manual| {
        let mut io = serve(&manual, false, dripping(&Noted::default()));
        let ask = "GET / HTTP/1.0\r\nconnect-timeout-ms: 350\r\n\r\n";
        io.write_all(ask.as_bytes()).await.unwrap();
        let mut read = vec![];
        io.read_to_end(&mut read).await.unwrap();
        // What ends with its connection has no other end.
        let text = String::from_utf8_lossy(&read);
        assert!(text.starts_with("HTTP/1.0 200 OK"), "{text}");
        assert!(!text.contains("content-length") && !text.contains("transfer-encoding"));
    });
}

#[test]
fn a_stream_that_is_cut_off_is_reset_with_internal_error() {
    one(async |manual| {
        let io = serve(&manual, true, dripping(&Noted::default()));
        let mut h2 = raw(&manual, io, None).await;
        let (response, _) = h2.send_request(get(350).map(drop), true).unwrap();
        let mut body = response.await.unwrap().into_body();
        let error = loop {
            match body.data().await.expect("a clean end") {
                Ok(piece) => body.flow_control().release_capacity(piece.len()).unwrap(),
                Err(error) => break error,
            }
        };
        assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR));
    });
}

#[test]
fn a_connection_survives_a_late_handler_and_over_http_2_a_late_body() {
    both(async |manual, http2| {
        let service = ServerLayer::new().layer(service_fn(async |request: Ours| {
            Ok::<_, Infallible>(match request.uri().path() {
                "/hello" => Response::new(Body::from("hello")),
                "/drip" => Response::new(endless_every(100 * MS, Noted::default().guard())),
                _ => pending().await,
            })
        }));
        let mut client = Plain::on(&manual, http2, serve(&manual, http2, service)).await;
        let mut ask = async |path: &str| {
            let mut request = get(150);
            *request.uri_mut() = format!("http://stock{path}").parse().unwrap();
            client.send(request).await?.into_body().collect().await.map(|body| body.to_bytes())
        };
        assert!(ask("/never").await.unwrap().starts_with(b"deadline exceeded"));
        assert_eq!(ask("/hello").await.unwrap(), "hello");
        ask("/drip").await.unwrap_err();
        assert_eq!(ask("/hello").await.is_ok(), http2);
    });
}

#[test]
fn over_http_1_a_connection_does_not_survive_an_upload_that_nobody_reads() {
    one(async |manual| {
        let service = ServerLayer::new()
            .layer(service_fn(|_: Ours| pending::<Result<Response<Body>, Infallible>>()));
        let mut io = serve(&manual, false, service);
        let head = "POST / HTTP/1.1\r\nhost: a\r\nconnect-timeout-ms: 300\r\n\
                    transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n";
        io.write_all(head.as_bytes()).await.unwrap();
        let mut read = vec![];
        io.read_to_end(&mut read).await.unwrap();
        assert!(read.starts_with(b"HTTP/1.1 504 "), "{}", String::from_utf8_lossy(&read));
    });
}

#[test]
fn a_body_that_nobody_polls_does_not_notice() {
    // Over HTTP/2, the client's window is shut.
    one(async |manual| {
        let dropped = Noted::default();
        let mut h2 = raw(&manual, serve(&manual, true, dripping(&dropped)), Some(0)).await;
        let start = Instant::now();
        let (response, _) = h2.send_request(get(350).map(drop), true).unwrap();
        let body = response.await.unwrap().into_body();
        sleep(5 * SECOND).await;
        assert_eq!(dropped.at(), None);
        // Which resets the stream.
        drop(body);
        sleep(MS).await;
        assert_eq!(dropped.at(), Some(start + 5 * SECOND));
    });
    // Over HTTP/1, the client doesn't read.
    one(async |manual| {
        let dropped = Noted::default();
        let seen = dropped.clone();
        let service = ServerLayer::new().layer(service_fn(move |_: Ours| {
            let body = endless(seen.guard());
            async { Ok::<_, Infallible>(Response::new(body)) }
        }));
        let mut io = serve(&manual, false, service);
        let ask = "GET / HTTP/1.1\r\nhost: a\r\nconnect-timeout-ms: 350\r\n\r\n";
        io.write_all(ask.as_bytes()).await.unwrap();
        sleep(5 * SECOND).await;
        assert_eq!(dropped.at(), None);
        let mut read = vec![];
        io.read_to_end(&mut read).await.unwrap();
        assert!(dropped.at().is_some());
        assert!(!read.ends_with(b"0\r\n\r\n"), "a clean end");
    });
}

#[test]
fn a_handler_is_dropped_when_its_client_is_gone_unless_an_http_1_body_is_in_the_way() {
    let app = |dropped: &Noted<()>| {
        let dropped = dropped.clone();
        ServerLayer::new().layer(service_fn(move |_: Ours| {
            let guard = dropped.guard();
            async move {
                pending::<()>().await;
                drop(guard);
                answer("never")
            }
        }))
    };
    both(async |manual, http2| {
        let dropped = Noted::default();
        let mut client = Plain::on(&manual, http2, serve(&manual, http2, app(&dropped))).await;
        let start = Instant::now();
        let mut call = Box::pin(client.send(post(900, Body::from("all"))));
        deadbeat::time::timeout(100 * MS, call.as_mut()).await.unwrap_err();
        drop(call);
        sleep(MS).await;
        assert_eq!(dropped.at(), Some(start + 100 * MS));
    });
    both(async |manual, http2| {
        let dropped = Noted::default();
        let mut client = Plain::on(&manual, http2, serve(&manual, http2, app(&dropped))).await;
        let start = Instant::now();
        let mut call = Box::pin(client.send(post(900, half())));
        deadbeat::time::timeout(100 * MS, call.as_mut()).await.unwrap_err();
        drop(call);
        drop(client);
        sleep(SECOND).await;
        // hyper doesn't look at the connection: it is the deadline that ends it.
        let at = if http2 { 100 * MS } else { 900 * MS };
        assert_eq!(dropped.at(), Some(start + at));
    });
}

#[test]
fn a_router_of_axums_is_no_different() {
    both(async |manual, http2| {
        let app = Router::new()
            .fallback(async |request: AxumRequest| {
                assert_eq!(request.version() == Version::HTTP_2, request.uri().path() == "/2");
                pending::<&str>().await
            })
            .layer(ServerLayer::new());
        let mut client = Plain::on(&manual, http2, serve(&manual, http2, app)).await;
        let mut request = get(300);
        let path = if http2 { "http://stock/2" } else { "http://stock/1" };
        *request.uri_mut() = path.parse().unwrap();
        assert!(is_expired(&client.send(request).await.unwrap()));
    });
}
