//! What the layer keeps in tonic's `Server`.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use deadbeat::deadline::Origin;
use deadbeat::propagation::grpc::{ClientLayer, ServerLayer};
use deadbeat::time::{Duration, Instant, sleep};
use http_body::Frame;
use tokio::sync::mpsc::error::TryRecvError;
use tonic::server::NamedService;
use tonic::transport::Server;
use tonic::{Code, body::Body};
use tower::limit::ConcurrencyLimitLayer;
use tower::{Layer, Service};

use super::rpc::*;
use super::within;

const MS: Duration = Duration::from_millis(1);

#[tokio::test]
async fn a_handler_has_what_its_caller_has() {
    let (test, mut told) = Test::new();
    let address = served!(Server::builder().layer(ServerLayer::new()), test);
    let mut h2 = frames(address, &mut h2::client::Builder::new()).await;
    let (_response, mut upload) =
        h2.send_request(head(address, "/test.Test/Nap", "60S"), false).unwrap();
    let sent = Instant::now();
    upload.send_data(message(0), true).unwrap();
    let Event::Called(at, Some(provenance)) = next(&mut told).await else { panic!() };
    assert_eq!(provenance.budget(), Duration::from_secs(60));
    assert_eq!(provenance.origin(), Origin::Header("grpc-timeout"));
    // Counted from when the headers came.
    let passed = Instant::now() - at;
    assert!(provenance.deadline().remaining() <= Duration::from_secs(60) - passed);
    assert!(at >= sent);
}

#[tokio::test]
async fn time_in_the_queue_of_a_limit_within_counts_and_what_expires_there_is_not_handled() {
    let (test, mut told) = Test::new();
    let layer = ServerLayer::new();
    let mut limited = Server::builder().layer(layer.clone()).layer(ConcurrencyLimitLayer::new(1));
    let address = served!(limited, test);
    let channel = channel(address).await;
    let first = tokio::spawn(nap(channel.clone(), 1000));
    // It has the slot now.
    called(&mut told).await;
    let mut h2 = frames(address, &mut h2::client::Builder::new()).await;
    let mut ask = |timeout| {
        let request = head(address, "/test.Test/Nap", timeout);
        let (response, mut upload) = h2.send_request(request, false).unwrap();
        upload.send_data(message(0), true).unwrap();
        response
    };
    let (late, waiting) = (ask("100m"), ask("60S"));
    assert_eq!(status(late).await.unwrap(), Code::DeadlineExceeded);
    let Event::Dropped = next(&mut told).await else { panic!("the late one was begun") };
    first.await.unwrap().unwrap();
    let Event::Called(_, Some(provenance)) = next(&mut told).await else { panic!() };
    assert!(provenance.set_at().elapsed() >= 100 * MS, "its time began in the queue");
    assert_eq!(status(waiting).await.unwrap(), Code::Ok);
    assert_eq!(layer.stats().requests(), 3);
}

#[tokio::test]
async fn time_in_the_queue_of_tonics_own_limit_does_not_count() {
    let (test, mut told) = Test::new();
    let mut server =
        Server::builder().concurrency_limit_per_connection(1).layer(ServerLayer::new());
    let address = served!(server, test);
    let mut h2 = frames(address, &mut h2::client::Builder::new()).await;
    let mut ask = |ms, timeout| {
        let request = head(address, "/test.Test/Nap", timeout);
        let (response, mut upload) = h2.send_request(request, false).unwrap();
        upload.send_data(message(ms), true).unwrap();
        response
    };
    let first = ask(300, "");
    let Event::Called(first_at, _) = next(&mut told).await else { panic!("it isn't called") };
    // Half of the first one's time, and it is handled all the same: with all of that still left.
    let second = ask(0, "150m");
    let Event::Dropped = next(&mut told).await else { panic!("both at once") };
    let Event::Called(at, Some(provenance)) = next(&mut told).await else { panic!() };
    assert!(at - first_at >= 300 * MS);
    assert_eq!(provenance.budget(), 150 * MS);
    assert_eq!(status(first).await.unwrap(), Code::Ok);
    status(second).await.unwrap();
}

#[tokio::test]
async fn what_has_expired_on_arrival_never_reaches_the_handler() {
    let (test, mut told) = Test::new();
    let layer = ServerLayer::new();
    let address = served!(Server::builder().layer(layer.clone()), test);
    let mut h2 = frames(address, &mut h2::client::Builder::new()).await;
    let (response, _upload) =
        h2.send_request(head(address, "/test.Test/Nap", "0n"), false).unwrap();
    assert_eq!(status(response).await.unwrap(), Code::DeadlineExceeded);
    assert_eq!(layer.stats().expired_on_arrival(), 1);
    assert!(matches!(told.try_recv(), Err(TryRecvError::Empty)));
}

#[tokio::test]
async fn a_handler_that_is_late_is_dropped_with_its_tasks() {
    // By a header, and by the server's own maximum.
    for (layer, timeout) in
        [(ServerLayer::new(), "500m"), (ServerLayer::new().maximum(500 * MS), "")]
    {
        let (test, mut told) = Test::new();
        let address = served!(Server::builder().layer(layer.clone()), test);
        let mut h2 = frames(address, &mut h2::client::Builder::new()).await;
        let request = head(address, "/test.Test/Work", timeout);
        let (response, mut upload) = h2.send_request(request, false).unwrap();
        upload.send_data(message(0), true).unwrap();
        let begun = Instant::now();
        called(&mut told).await;
        let mut ended = vec![next(&mut told).await, next(&mut told).await];
        assert!(begun.elapsed() >= 400 * MS);
        ended.sort_by_key(|event| matches!(event, Event::Task(_)));
        let [Event::Dropped, Event::Task(Err(cancelled))] = &ended[..] else { panic!("{ended:?}") };
        assert!(cancelled.is_deadline(), "{cancelled}");
        assert_eq!(status(response).await.unwrap(), Code::DeadlineExceeded);
    }
}

#[tokio::test]
async fn the_status_is_ours_though_tonic_keeps_the_header_as_well() {
    let (test, _told) = Test::new();
    let layer = ServerLayer::new().maximum(100 * MS);
    let address = served!(Server::builder().layer(layer), test);
    let mut h2 = frames(address, &mut h2::client::Builder::new()).await;
    for timeout in ["", "60S", "50m"] {
        let request = head(address, "/test.Test/Nap", timeout);
        let (response, mut upload) = h2.send_request(request, false).unwrap();
        upload.send_data(message(60_000), true).unwrap();
        assert_eq!(status(response).await.unwrap(), Code::DeadlineExceeded, "{timeout}");
    }
}

#[tokio::test]
async fn an_answer_that_is_late_ends_with_its_status_between_two_messages() {
    let (test, mut told) = Test::new();
    let layer = ServerLayer::new();
    let address = served!(Server::builder().layer(layer.clone()), test);
    let mut h2 = frames(address, &mut h2::client::Builder::new()).await;
    let request = head(address, "/test.Test/Drip", "1S");
    let (response, mut upload) = h2.send_request(request, false).unwrap();
    upload.send_data(message(50), true).unwrap();
    assert_eq!(status(response).await.unwrap(), Code::DeadlineExceeded);
    called(&mut told).await;
    assert!(matches!(next(&mut told).await, Event::Dropped));
    assert_eq!(layer.stats().expired_in_body(), 1);
    // On a connection that is as good as before.
    let request = head(address, "/test.Test/Nap", "60S");
    let (response, mut upload) = h2.send_request(request, false).unwrap();
    upload.send_data(message(0), true).unwrap();
    assert_eq!(status(response).await.unwrap(), Code::Ok);
}

/// Sends half a message, and then nothing.
#[derive(Clone)]
struct Halting;

impl NamedService for Halting {
    const NAME: &str = "test.Halting";
}

impl Service<http::Request<Body>> for Halting {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<http::Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<Body>) -> Self::Future {
        let response = http::Response::builder().header("content-type", "application/grpc");
        std::future::ready(Ok(response.body(Body::new(Half(false))).unwrap()))
    }
}

struct Half(bool);

impl http_body::Body for Half {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if std::mem::replace(&mut self.0, true) {
            return Poll::Pending;
        }
        Poll::Ready(Some(Ok(Frame::data(message(7).slice(..9)))))
    }
}

#[tokio::test]
async fn within_a_message_the_stream_is_reset_with_internal_error() {
    let layer = ServerLayer::new().maximum(100 * MS);
    let address = served!(Server::builder().layer(layer), Halting);
    let mut h2 = frames(address, &mut h2::client::Builder::new()).await;
    let request = head(address, "/test.Halting/Halt", "");
    let (response, _upload) = h2.send_request(request, true).unwrap();
    let error = status(response).await.unwrap_err();
    assert_eq!(error.reason(), Some(h2::Reason::INTERNAL_ERROR));
}

#[tokio::test]
async fn a_body_that_nobody_polls_does_not_notice() {
    let (test, mut told) = Test::new();
    let layer = ServerLayer::new();
    let address = served!(Server::builder().layer(layer.clone()), test);
    let mut h2 = frames(address, h2::client::Builder::new().initial_window_size(0)).await;
    let request = head(address, "/test.Test/Flood", "1S");
    let (response, mut upload) = h2.send_request(request, false).unwrap();
    upload.send_data(message(0), true).unwrap();
    let body = within(response).await.unwrap().into_body();
    called(&mut told).await;
    sleep(2000 * MS).await;
    assert!(matches!(told.try_recv(), Err(TryRecvError::Empty)));
    assert_eq!(layer.stats().expired_in_body(), 0);
    // What ends it is the client.
    drop((body, upload));
    assert!(matches!(next(&mut told).await, Event::Dropped));
}

#[tokio::test]
async fn a_handler_is_dropped_when_its_client_is_gone() {
    let (test, mut told) = Test::new();
    let address = served!(Server::builder().layer(ServerLayer::new()), test);
    let mut h2 = frames(address, &mut h2::client::Builder::new()).await;
    let request = head(address, "/test.Test/Work", "60S");
    let (_response, mut upload) = h2.send_request(request, false).unwrap();
    upload.send_data(message(0), true).unwrap();
    called(&mut told).await;
    upload.send_reset(h2::Reason::CANCEL);
    let mut ended = [next(&mut told).await, next(&mut told).await];
    ended.sort_by_key(|event| matches!(event, Event::Task(_)));
    let [Event::Dropped, Event::Task(Err(cancelled))] = &ended else { panic!("{ended:?}") };
    assert!(!cancelled.is_deadline(), "{cancelled}");
}

#[tokio::test]
async fn an_upload_that_is_reset_without_an_error_is_no_clean_end_if_told_so() {
    for strict in [false, true] {
        let (test, mut told) = Test::new();
        let layer = ServerLayer::new().incomplete_is_error(strict);
        let address = served!(Server::builder().layer(layer), test);
        let mut h2 = frames(address, &mut h2::client::Builder::new()).await;
        let request = head(address, "/test.Test/Echo", "");
        let (_response, mut upload) = h2.send_request(request, false).unwrap();
        upload.send_data(message(1), false).unwrap();
        called(&mut told).await;
        upload.send_reset(h2::Reason::NO_ERROR);
        let ended = loop {
            match next(&mut told).await {
                Event::Upload(ended) => break ended,
                Event::Dropped => {}
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(
            ended.map_err(|status| status.code()),
            if strict { Err(Code::Aborted) } else { Ok(()) }
        );
    }
}

#[tokio::test]
async fn our_client_meets_it() {
    let (test, mut told) = Test::new();
    let address = served!(Server::builder().layer(ServerLayer::new()), test);
    let client = ClientLayer::new().timeout(60_000 * MS).layer(channel(address).await);
    assert_eq!(nap(client, 1).await.unwrap(), 1);
    assert!(called(&mut told).await.unwrap().budget() <= 60_000 * MS);
}
