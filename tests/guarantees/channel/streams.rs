//! As many streams as the peer allows, and who waits for one.

use std::pin::pin;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use deadbeat::deadline::scope;
use deadbeat::propagation::grpc::{ClientLayer, ServerLayer};
use deadbeat::time::sleep;
use tokio::net::TcpListener;
use tokio::sync::mpsc::error::TryRecvError;
use tonic::Code;
use tonic::transport::Server;

use super::rpc::*;
use super::{MS, SECOND, ours};

#[tokio::test]
async fn calls_that_wait_for_a_stream_go_elsewhere_after_a_goaway() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for first in [true, false] {
            let (io, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut h2 = h2::server::Builder::new()
                    .max_concurrent_streams(1)
                    .handshake::<_, Bytes>(io)
                    .await
                    .unwrap();
                while let Some(Ok((_, mut respond))) = h2.accept().await {
                    if first {
                        // It is drained while it works.
                        h2.graceful_shutdown();
                    }
                    tokio::spawn(async move {
                        sleep(if first { 300 * MS } else { MS }).await;
                        respond.send_response(trailers_only(Code::NotFound), true).unwrap();
                    });
                }
            });
        }
    });
    let channel = ours(address, ClientLayer::new().timeout(20 * SECOND));
    let calls: Vec<_> = (0..20).map(|_| tokio::spawn(nap(channel.clone(), 0))).collect();
    for call in calls {
        let status = call.await.unwrap().unwrap_err();
        assert_eq!(status.code(), Code::NotFound, "{status:?}");
    }
    assert_eq!(channel.stats().connections(), 2);
}

#[tokio::test]
async fn calls_wait_for_a_stream_before_they_are_told_what_is_left() {
    let (test, mut told) = Test::new();
    let address =
        served!(Server::builder().max_concurrent_streams(1).layer(ServerLayer::new()), test);
    let channel = ours(address, ClientLayer::new().timeout(60 * SECOND));
    let first = tokio::spawn(nap(channel.clone(), 500));
    let free_at = called(&mut told).await.unwrap().set_at() + 500 * MS;
    let mut call = pin!(nap(channel.clone(), 0));
    let begun = begin(call.as_mut()).await;
    call.await.unwrap();
    first.await.unwrap().unwrap();
    assert!(matches!(next(&mut told).await, Event::Dropped));
    let second = called(&mut told).await.unwrap();
    assert!(second.budget() <= 60 * SECOND - (free_at - begun));
    assert!(matches!(next(&mut told).await, Event::Dropped));
    // And end in the queue.
    let held = tokio::spawn(nap(channel.clone(), 60_000));
    called(&mut told).await;
    let status = scope(200 * MS, nap(channel.clone(), 0)).await;
    let status = status.unwrap_or_else(|expired| Err(expired.into())).unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(matches!(told.try_recv(), Err(TryRecvError::Empty)));
    held.abort();
    // What was given up makes room.
    assert_eq!(nap(channel, 1).await.unwrap(), 1);
}

#[tokio::test]
async fn no_more_streams_are_opened_than_the_peer_allows() {
    let open = Arc::new(Mutex::new((0, 0)));
    let counting = open.clone();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (io, _) = listener.accept().await.unwrap();
        let mut h2 = h2::server::Builder::new()
            .max_concurrent_streams(7)
            .handshake::<_, Bytes>(io)
            .await
            .unwrap();
        while let Some(Ok((_, mut respond))) = h2.accept().await {
            let counting = counting.clone();
            {
                let mut open = counting.lock().unwrap();
                open.0 += 1;
                open.1 = open.0.max(open.1);
            }
            tokio::spawn(async move {
                sleep(5 * MS).await;
                counting.lock().unwrap().0 -= 1;
                respond.send_response(trailers_only(Code::NotFound), true).unwrap();
            });
        }
    });
    let channel = ours(address, ClientLayer::new().timeout(60 * SECOND));
    let calls: Vec<_> = (0..100).map(|_| tokio::spawn(nap(channel.clone(), 0))).collect();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap_err().code(), Code::NotFound);
    }
    assert_eq!(open.lock().unwrap().1, 7);
}

#[tokio::test]
async fn small_messages_that_nobody_reads_yet_do_not_end_the_connection() {
    const MESSAGES: u64 = 20_000;
    let (address, _) = serve_frames(async |request, mut respond| {
        if request.uri().path() != "/test.Test/Drip" {
            respond.send_response(trailers_only(Code::NotFound), true).unwrap();
            return;
        }
        let mut body = respond.send_response(head_of_answer(), false).unwrap();
        for number in 0..MESSAGES {
            body.send_data(message(number), false).unwrap();
        }
        let mut trailers = http::HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        body.send_trailers(trailers).unwrap();
    })
    .await;
    let channel = ours(address, ClientLayer::new().timeout(60 * SECOND));
    let mut numbers = stream(channel.clone(), "/test.Test/Drip", 0).await.unwrap();
    // Meanwhile they come.
    for _ in 0..100 {
        assert_eq!(nap(channel.clone(), 0).await.unwrap_err().code(), Code::NotFound);
    }
    for number in 0..MESSAGES {
        assert_eq!(numbers.message().await.unwrap(), Some(number));
    }
    assert_eq!(numbers.message().await.unwrap(), None);
    assert_eq!(channel.stats().connections(), 1);
}
