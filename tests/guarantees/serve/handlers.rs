//! What becomes of a handler, and what its caller is told.

use std::future::pending;

use deadbeat::clock::{Elapsed, Instant};
use deadbeat::deadline;
use deadbeat::propagation::grpc;
use deadbeat::propagation::http::{DEADLINE_EXCEEDED, ServerLayer};
use deadbeat::serve::Server;
use tokio::sync::mpsc::unbounded_channel;
use tonic::{Code, Request as TonicRequest};
use tower::service_fn;

use super::rpc::{Event, Numbers, Test, called, channel, head, message, next, path, status};
use super::server::{Drops, start};
use super::wire::{Body, get, half, post};
use super::{MS, Ours, SECOND, answer, connect, frames, head_for, is_expired, text, within};

#[tokio::test]
async fn a_handler_that_is_late_is_dropped_with_its_tasks_and_answered_for() {
    for http2 in [false, true] {
        let mut drops = Drops::new();
        let guards = drops.guards();
        let (tell, mut told) = unbounded_channel();
        let service = service_fn(move |_: Ours| {
            let (guard, tell) = (guards.one(), tell.clone());
            async move {
                let work = deadbeat::spawn(pending::<()>());
                tokio::spawn(async move { tell.send(work.await.unwrap()) });
                pending::<()>().await;
                drop(guard);
                answer("never")
            }
        });
        let server = start(Server::http(service));
        let mut client = connect(server.at(), http2).await;
        // The connection is as good as before.
        for _ in 0..2 {
            let sent = Instant::<Elapsed>::now();
            let answered = head_for(&mut client, get(500)).await;
            assert!(sent.elapsed() >= 500 * MS, "early");
            assert!(is_expired(&answered));
            drops.one().await;
            let cancelled = within(told.recv()).await.unwrap().unwrap_err();
            assert!(cancelled.is_deadline(), "{cancelled}");
            text(answered).await.unwrap();
        }
        assert_eq!(server.stats.accepted(), 1);
    }
}

#[tokio::test]
async fn of_grpc_it_is_the_same() {
    // By a header, and by the server's own maximum.
    for (layer, limit) in
        [(grpc::ServerLayer::new(), "500m"), (grpc::ServerLayer::new().maximum(500 * MS), "")]
    {
        let (test, mut told) = Test::new();
        let server = start(Server::grpc(test).deadlines(layer));
        let mut h2 = frames(server.at()).await;
        let sent = Instant::<Elapsed>::now();
        let request = head(server.at(), "/test.Test/Work", limit);
        let (response, mut upload) = h2.send_request(request, false).unwrap();
        upload.send_data(message(0), true).unwrap();
        called(&mut told).await;
        let mut ended = [next(&mut told).await, next(&mut told).await];
        assert!(sent.elapsed() >= 500 * MS, "early");
        ended.sort_by_key(|event| matches!(event, Event::Task(_)));
        let [Event::Dropped, Event::Task(Err(cancelled))] = &ended else { panic!("{ended:?}") };
        assert!(cancelled.is_deadline(), "{cancelled}");
        assert_eq!(status(response).await.unwrap(), Code::DeadlineExceeded);
    }
}

#[tokio::test]
async fn one_that_does_not_await_is_counted() {
    for http2 in [false, true] {
        let service = service_fn(async |_: Ours| {
            let late = deadline::current().instant() + 50 * MS;
            while Instant::<Elapsed>::now() < late {
                std::hint::spin_loop();
            }
            pending::<Result<http::Response<Body>, std::convert::Infallible>>().await
        });
        let layer = ServerLayer::new();
        let stats = layer.stats();
        let server = start(Server::http(service).deadlines(layer));
        let mut client = connect(server.at(), http2).await;
        assert!(is_expired(&head_for(&mut client, get(500)).await));
        assert_eq!(stats.overruns(), 1);
        assert!(stats.longest_overrun() >= 50 * MS);
    }
}

#[tokio::test]
async fn a_caller_that_is_not_ours_is_told_why() {
    let never = service_fn(async |_: Ours| {
        pending::<()>().await;
        answer("never")
    });
    let server = start(Server::http(never));
    for http2 in [false, true] {
        let mut client = connect(server.at(), http2).await;
        let answered = head_for(&mut client, get(500)).await;
        assert_eq!(answered.status(), 504);
        assert_eq!(answered.headers()[DEADLINE_EXCEEDED], "header");
        assert!(text(answered).await.unwrap().starts_with("deadline exceeded after"));
    }
    let (test, _told) = Test::new();
    let layer = grpc::ServerLayer::new().maximum(500 * MS);
    let server = start(Server::grpc(test).deadlines(layer));
    let channel = channel(server.at()).await;
    for (sets, codes) in [
        (None, &[Code::DeadlineExceeded][..]),
        (Some(60 * SECOND), &[Code::DeadlineExceeded]),
        // tonic's own client keeps it as well, and calls that CANCELLED.
        (Some(200 * MS), &[Code::DeadlineExceeded, Code::Cancelled]),
    ] {
        let mut request = TonicRequest::new(60_000);
        if let Some(timeout) = sets {
            request.set_timeout(timeout);
        }
        let mut client = tonic::client::Grpc::new(channel.clone());
        client.ready().await.unwrap();
        let call = client.unary(request, path("/test.Test/Nap"), Numbers);
        let status = within(call).await.unwrap_err();
        assert!(codes.contains(&status.code()), "{sets:?}: {status:?}");
    }
}

#[tokio::test]
async fn a_handler_is_dropped_when_its_client_is_gone_unless_an_http_1_body_is_in_the_way() {
    let mut drops = Drops::new();
    let guards = drops.guards();
    let (tell, mut begun) = unbounded_channel();
    let service = service_fn(move |_: Ours| {
        let guard = guards.one();
        tell.send(()).unwrap();
        async move {
            pending::<()>().await;
            drop(guard);
            answer("never")
        }
    });
    let server = start(Server::http(service));
    for (http2, is_whole, ms) in
        [(false, true, 60_000), (true, true, 60_000), (true, false, 60_000), (false, false, 2000)]
    {
        let body = || if is_whole { Body::from("all") } else { half() };
        let mut client = connect(server.at(), http2).await;
        let sent = Instant::<Elapsed>::now();
        let mut call = Box::pin(client.send(post(ms, body())));
        tokio::select! {
            _ = within(begun.recv()) => {}
            answered = &mut call => panic!("{answered:?}"),
        }
        drop(call);
        drop(client);
        // hyper doesn't look at the connection behind a body: it is the deadline that ends it.
        drops.one().await;
        assert!(http2 || is_whole || sent.elapsed() >= 2 * SECOND, "it is no longer in the way");
    }
    // Of gRPC, what it has started is told so.
    let (test, mut told) = Test::new();
    let server = start(Server::grpc(test));
    let mut h2 = frames(server.at()).await;
    let request = head(server.at(), "/test.Test/Work", "60S");
    let (_response, mut upload) = h2.send_request(request, false).unwrap();
    upload.send_data(message(0), true).unwrap();
    called(&mut told).await;
    upload.send_reset(h2::Reason::CANCEL);
    let mut ended = [next(&mut told).await, next(&mut told).await];
    ended.sort_by_key(|event| matches!(event, Event::Task(_)));
    let [Event::Dropped, Event::Task(Err(cancelled))] = &ended else { panic!("{ended:?}") };
    assert!(!cancelled.is_deadline(), "{cancelled}");
}
