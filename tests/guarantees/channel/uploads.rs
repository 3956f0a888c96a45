//! Uploads, which go on and end by themselves.

use std::pin::{Pin, pin};
use std::task::{Context, Waker};

use bytes::Bytes;
use deadbeat::channel::Channel;
use deadbeat::propagation::grpc::ClientLayer;
use deadbeat::propagation::http::Http;
use deadbeat::time::sleep;
use h2::Reason;
use http_body_util::Full;
use tokio::sync::mpsc::unbounded_channel;
use tokio_stream::StreamExt;
use tonic::transport::Server;
use tonic::{Code, Request};
use tower::Service;

use super::rpc::*;
use super::{MS, SECOND, ours, within};

#[tokio::test]
async fn an_upload_that_is_idle_or_blocked_ends_with_cancel() {
    for floods in [false, true] {
        for polled in [false, true] {
            // In vain, if it floods: the peer gives it no room.
            let (address, mut told) = uploads(!floods).await;
            let channel = ours(address, ClientLayer::new().timeout(400 * MS));
            let mut grpc = tonic::client::Grpc::new(channel.clone());
            grpc.ready().await.unwrap();
            let numbers = tokio_stream::iter(0..if floods { u64::MAX } else { 1 });
            let numbers = numbers.chain(tokio_stream::pending());
            let call = grpc.streaming(Request::new(numbers), path("/test.Test/Echo"), Numbers);
            let mut call = pin!(call);
            if !polled {
                // Until it is sent; and then no more.
                while channel.stats().connections() == 0 {
                    assert!(
                        call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending()
                    );
                    sleep(MS).await;
                }
                assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            } else {
                let status = within(call.as_mut()).await.map(drop).unwrap_err();
                assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
            }
            let reason = within(told.recv()).await.unwrap().expect_err("a clean end");
            assert_eq!(reason, Reason::CANCEL, "floods: {floods}, polled: {polled}");
        }
    }
}

#[tokio::test]
async fn an_upload_goes_on_while_nobody_polls_the_answer() {
    let (address, mut told) = uploads(true).await;
    let channel = Channel::<Http>::builder(format!("http://{address}")).build().unwrap();
    let body = Full::new(Bytes::from(vec![b'x'; 8 << 20]));
    let request = http::Request::post("http://stock/").body(body).unwrap();
    let mut channel = channel.clone();
    let mut call = pin!(Service::call(&mut channel, request));
    while channel.stats().connections() == 0 {
        poll_once(call.as_mut());
        sleep(MS).await;
    }
    // Now it is sent, and the rest goes by itself.
    poll_once(call.as_mut());
    let ended = within(told.recv()).await.unwrap();
    assert_eq!(ended, Ok(8 << 20));
}

/// Polls a call that isn't answered yet.
fn poll_once<F: Future>(call: Pin<&mut F>) {
    assert!(call.poll(&mut Context::from_waker(Waker::noop())).is_pending());
}

#[tokio::test]
async fn both_directions_of_a_stream_go_at_once() {
    let (test, mut told) = Test::new();
    let address = served!(Server::builder(), test);
    let channel = ours(address, ClientLayer::new().timeout(60 * SECOND));
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let (send, numbers) = unbounded_channel();
    let numbers = tokio_stream::wrappers::UnboundedReceiverStream::new(numbers);
    let call = grpc.streaming(Request::new(numbers), path("/test.Test/Echo"), Numbers);
    let mut echoes = within(call).await.unwrap().into_inner();
    for number in 0..100_u64 {
        send.send(number).unwrap();
        assert_eq!(within(echoes.message()).await.unwrap(), Some(number));
    }
    drop(send);
    called(&mut told).await;
    assert!(matches!(next(&mut told).await, Event::Upload(Ok(()))));
    drop(echoes);
    assert!(matches!(next(&mut told).await, Event::Dropped));
}

#[tokio::test]
async fn a_body_that_fails_ends_its_call_also_while_resets_wait() {
    let (address, _) = serve_frames(async |_request, _respond| std::future::pending().await).await;
    let mut channel = Channel::<Http>::builder(format!("http://{address}")).build().unwrap();
    // None of these has a deadline, and all are given up: their resets have to wait.
    let get = || http::Request::get("http://stock/").body(Full::<Bytes>::default()).unwrap();
    let mut given_up = tokio::task::JoinSet::new();
    for _ in 0..50 {
        given_up.spawn(Service::call(&mut channel, get()));
    }
    while channel.stats().connections() == 0 {
        sleep(MS).await;
    }
    sleep(50 * MS).await;
    given_up.shutdown().await;
    assert!(channel.stats().resets_withheld() > 0);
    let pieces = tokio_stream::once(Ok(http_body::Frame::data(Bytes::from_static(b"x")))).chain(
        tokio_stream::once(()).then(async |()| {
            sleep(50 * MS).await;
            Err(std::io::Error::other("it is torn"))
        }),
    );
    let body = http_body_util::StreamBody::new(pieces);
    let request = http::Request::post("http://stock/").body(Box::pin(body)).unwrap();
    let error = within(Service::call(&mut channel, request)).await.unwrap_err();
    assert!(error.to_string().contains("it is torn"), "{error}");
}
