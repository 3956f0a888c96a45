//! How long a connection lives.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use bytes::Bytes;
use deadbeat::deadline::scope;
use deadbeat::propagation::grpc::ClientLayer;
use deadbeat::time::sleep;
use tokio::net::TcpListener;
use tonic::Code;
use tonic::transport::Server;

use super::rpc::*;
use super::{MS, SECOND, ours, within};

#[tokio::test]
async fn the_connection_survives() {
    let (test, _told) = Test::new();
    let address = served!(Server::builder(), test);
    let channel = ours(address, ClientLayer::new());
    let in_a_second = |call| scope(SECOND, call);
    let late = in_a_second(nap(channel.clone(), 60_000)).await;
    assert!(!matches!(late, Ok(Ok(_))));
    let limited = ours(address, ClientLayer::new().timeout(SECOND));
    for channel in [&limited] {
        let mut numbers = stream(channel.clone(), "/test.Test/Drip", 20).await.unwrap();
        expired(&failure(&mut numbers).await);
        assert_eq!(nap(channel.clone(), 1).await.unwrap(), 1);
        assert_eq!(channel.stats().connections(), 1);
    }
    assert_eq!(nap(channel.clone(), 1).await.unwrap(), 1);
    assert_eq!(channel.stats().connections(), 1);
}

#[tokio::test]
async fn a_connection_that_is_lost_is_made_anew_for_the_next_call() {
    for goaway in [false, true] {
        let (address, count) = closing(goaway).await;
        let channel = ours(address, ClientLayer::new().timeout(20 * SECOND));
        for connections in 1..=3 {
            let status = nap(channel.clone(), 0).await.unwrap_err();
            assert_eq!(status.code(), Code::NotFound, "{status:?}");
            // The other side has closed it by now, or is about to.
            while count.load(SeqCst) < connections {
                sleep(MS).await;
            }
            sleep(50 * MS).await;
            assert_eq!(channel.stats().connections(), connections as u64);
        }
    }
}

/// A server that answers one call on each connection, and then closes it.
async fn closing(goaway: bool) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(AtomicUsize::new(0));
    let closed = count.clone();
    tokio::spawn(async move {
        while let Ok((io, _)) = listener.accept().await {
            let closed = closed.clone();
            tokio::spawn(async move {
                let mut h2 = h2::server::handshake(io).await.unwrap();
                let (_, mut respond) = h2.accept().await.unwrap().unwrap();
                let answer = trailers_only(Code::NotFound);
                let mut body: h2::SendStream<Bytes> = respond.send_response(answer, false).unwrap();
                body.send_data(Bytes::new(), true).unwrap();
                if goaway {
                    h2.graceful_shutdown();
                    while h2.accept().await.is_some() {}
                } else {
                    // What is written goes out, and then nothing.
                    let _ = tokio::time::timeout(20 * MS, h2.accept()).await;
                }
                drop(h2);
                closed.fetch_add(1, SeqCst);
            });
        }
    });
    (address, count)
}

#[tokio::test]
async fn when_the_last_handle_is_gone_the_connection_is_closed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let channel = ours(address, ClientLayer::new().timeout(20 * SECOND));
    let serving = tokio::spawn(async move {
        let (io, _) = listener.accept().await.unwrap();
        let mut h2 = h2::server::handshake(io).await.unwrap();
        while let Some(Ok((_, mut respond))) = h2.accept().await {
            let respond: &mut h2::server::SendResponse<Bytes> = &mut respond;
            respond.send_response(trailers_only(Code::NotFound), true).unwrap();
        }
    });
    assert_eq!(nap(channel.clone(), 0).await.unwrap_err().code(), Code::NotFound);
    drop(channel);
    within(serving).await.unwrap();
}
