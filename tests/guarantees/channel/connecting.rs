//! The way to a connection, and what of the time it takes.

use std::error::Error as _;
use std::net::SocketAddr;

use bytes::Bytes;
use deadbeat::channel::{self, Channel};
use deadbeat::clock::{Elapsed, Instant};
use deadbeat::deadline::{Deadline, Phase, scope};
use deadbeat::propagation::grpc::{ClientLayer, Grpc, ServerLayer};
use deadbeat::time::{Duration, sleep};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{error::TryRecvError, unbounded_channel};
use tokio::sync::watch;
use tonic::Code;
use tonic::transport::Server;

use super::rpc::*;
use super::{MS, SECOND, ours};

/// Serves with tonic, and accepts only after so long. When it did.
async fn slow_server(
    takes: Duration,
    test: Test,
) -> (SocketAddr, watch::Receiver<Option<Instant<Elapsed>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, accepted) = watch::channel(None);
    let (pass, incoming) = unbounded_channel();
    tokio::spawn(async move {
        loop {
            sleep(takes).await;
            let io = listener.accept().await.map(|(io, _)| io);
            tell.send_replace(Some(Instant::<Elapsed>::now()));
            if pass.send(io).is_err() {
                break;
            }
        }
    });
    let incoming = tokio_stream::wrappers::UnboundedReceiverStream::new(incoming);
    let server = Server::builder().layer(ServerLayer::new()).add_service(test);
    tokio::spawn(server.serve_with_incoming(incoming));
    (address, accepted)
}

#[tokio::test]
async fn the_callee_is_told_what_is_left_when_there_is_a_connection() {
    let (test, mut told) = Test::new();
    let (address, accepted) = slow_server(500 * MS, test).await;
    // So that it is the caller that ends it.
    let channel = ours(address, ClientLayer::new().allowance(Duration::ZERO));
    for connects in [true, false] {
        let caller = Deadline::after(SECOND);
        let call = scope(caller, nap(channel.clone(), 60_000));
        let status = match call.await {
            Ok(answered) => answered.unwrap_err(),
            // Either may be the first to notice.
            Err(expired) => expired.into(),
        };
        assert!(caller.is_expired(), "too early");
        assert_eq!(status.code(), Code::DeadlineExceeded);
        let callee = called(&mut told).await.unwrap();
        if connects {
            // It was told after the server had accepted, and of that time nothing.
            let accepted = accepted.borrow().unwrap();
            assert!(callee.budget() <= caller.instant() - accepted, "{callee:?}");
        }
        let excess = callee.deadline().instant().duration_since(caller.instant());
        println!("connects: {connects}, the callee had {excess:?} more than was left");
        assert!(matches!(next(&mut told).await, Event::Dropped));
    }
    assert_eq!(channel.stats().connections(), 1);
}

#[tokio::test]
async fn a_connection_that_is_not_made_in_time_is_told_apart() {
    // The kernel accepts, and nobody says a preface.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let channel = ours(listener.local_addr().unwrap(), ClientLayer::new().timeout(300 * MS));
    let begun = Instant::<Elapsed>::now();
    let status = nap(channel.clone(), 0).await.unwrap_err();
    assert!(begun.elapsed() >= 300 * MS);
    let expired = expired(&status);
    assert_eq!(expired.phase(), Some(Phase::Connect), "{status:?}");
    let spent = expired.spent().unwrap();
    assert_eq!(spent.total(), expired.elapsed());
    assert!(spent.in_phase(Phase::Connect) >= 250 * MS, "{status:?}");
    assert!(status.message().contains("connect took"), "{status:?}");
    // The attempt goes on for the next.
    let (io, _) = listener.accept().await.unwrap();
    tokio::spawn(async move {
        let mut h2 = h2::server::handshake(io).await.unwrap();
        while let Some(Ok((_, mut respond))) = h2.accept().await {
            respond.send_response(trailers_only(Code::NotFound), true).unwrap();
        }
    });
    let status = nap(channel.clone(), 0).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status:?}");
    assert_eq!(channel.stats().connections(), 1);
}

#[tokio::test]
async fn an_attempt_to_connect_has_an_end_of_its_own() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!("http://{}", listener.local_addr().unwrap());
    let builder = Channel::<Grpc>::builder(target.clone()).connect_timeout(200 * MS);
    let channel = builder.build().unwrap();
    let status = nap(channel.clone(), 0).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let error: &channel::Error = status.source().unwrap().downcast_ref().unwrap();
    assert!(error.is_connect());
    assert!(status.message().contains("200ms"), "{status:?}");
    assert_eq!(channel.stats().connections_failed(), 1);
}

#[tokio::test]
async fn where_nobody_listens_a_call_is_unavailable_and_the_next_tries_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let channel = ours(address, ClientLayer::new().timeout(20 * SECOND));
    for failed in 1..=2 {
        let status = nap(channel.clone(), 0).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        assert!(status.message().contains(&address.to_string()), "{status:?}");
        assert_eq!(channel.stats().connections_failed(), failed);
    }
}

#[tokio::test]
async fn who_would_rather_connect_at_once_does_and_fails_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nowhere = listener.local_addr().unwrap();
    drop(listener);
    let error = ours(nowhere, ClientLayer::new()).connect().await.unwrap_err();
    assert!(error.to_string().contains(&nowhere.to_string()), "{error}");
    let (test, _told) = Test::new();
    let channel = ours(served!(Server::builder(), test), ClientLayer::new());
    for _ in 0..2 {
        channel.connect().await.unwrap();
    }
    nap(channel.clone(), 0).await.unwrap();
    assert_eq!((channel.stats().connections(), channel.stats().connections_failed()), (1, 0));
}

#[tokio::test]
async fn what_is_too_late_is_not_sent_and_connects_nowhere() {
    let (test, mut told) = Test::new();
    let address = served!(Server::builder(), test);
    let channel = ours(address, ClientLayer::new().timeout(SECOND).allowance(SECOND));
    expired(&nap(channel.clone(), 0).await.unwrap_err());
    let channel = ours(address, ClientLayer::new().timeout(Duration::ZERO));
    expired(&nap(channel.clone(), 0).await.unwrap_err());
    assert_eq!(channel.stats().connections(), 0);
    assert!(matches!(told.try_recv(), Err(TryRecvError::Empty)));
}

#[tokio::test]
async fn the_round_trip_is_measured_when_it_connects() {
    let (test, _told) = Test::new();
    let address = served!(Server::builder(), test);
    let channel = ours(address, ClientLayer::new().timeout(60 * SECOND));
    assert_eq!(channel.round_trip(), None);
    nap(channel.clone(), 1).await.unwrap();
    // The answer to the PING comes with the settings, or just after them.
    while channel.round_trip().is_none() {
        sleep(MS).await;
    }
    assert!(channel.round_trip().unwrap() < 20 * SECOND);
}

#[test]
fn an_attempt_that_is_lost_with_its_runtime_is_made_again() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let channel = ours(address, ClientLayer::new());
    let first = runtime();
    let call = scope(50 * MS, unary(channel.clone(), "/test.Test/Nap", 0));
    assert!(!matches!(first.block_on(call), Ok(Ok(_))));
    drop(first);
    let second = runtime();
    second.block_on(async {
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        tokio::spawn(async move {
            while let Ok((io, _)) = listener.accept().await {
                tokio::spawn(async move {
                    // The first is gone.
                    let Ok(mut h2) = h2::server::handshake(io).await else { return };
                    while let Some(Ok((_, mut respond))) = h2.accept().await {
                        let _: Result<h2::SendStream<Bytes>, _> =
                            respond.send_response(trailers_only(Code::NotFound), true);
                    }
                });
            }
        });
        assert_eq!(nap(channel, 0).await.unwrap_err().code(), Code::NotFound);
    });
}

#[test]
fn outside_a_runtime_a_call_fails() {
    let channel = ours("127.0.0.1:1".parse().unwrap(), ClientLayer::new());
    let status = deadbeat::block_on(unary(channel, "/test.Test/Nap", 0)).unwrap_err();
    assert!(status.message().contains("tokio runtime"), "{status:?}");
}
