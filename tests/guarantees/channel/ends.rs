//! How a call ends at its deadline, on either side.

use std::net::SocketAddr;
use std::pin::pin;

use deadbeat::clock::{Elapsed, Instant};
use deadbeat::deadline::{Deadline, Phase, scope};
use deadbeat::propagation::grpc::{ClientLayer, ServerLayer};
use deadbeat::time::{sleep, sleep_until};
use h2::Reason;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tonic::Code;
use tonic::transport::Server;

use super::rpc::*;
use super::{MS, SECOND, ours, within};

#[tokio::test]
async fn a_call_that_is_not_answered_fails_with_where_it_waited() {
    let (address, _) = serve_frames(async |_request, _respond| std::future::pending().await).await;
    let channel = ours(address, ClientLayer::new().timeout(300 * MS));
    let begun = Instant::<Elapsed>::now();
    let status = nap(channel, 0).await.unwrap_err();
    assert!(begun.elapsed() >= 300 * MS);
    let expired = expired(&status);
    assert_eq!(expired.phase(), Some(Phase::Wait));
    assert_eq!(expired.spent().unwrap().total(), expired.elapsed());
    assert!(status.message().contains("no answer"), "{status:?}");
}

/// A server that begins to answer, or not, and tells how each stream is reset.
async fn resets(begins: bool) -> (SocketAddr, UnboundedReceiver<Reason>) {
    let (tell, told) = unbounded_channel();
    let (address, _) = serve_frames(move |_request, mut respond| {
        let tell = tell.clone();
        async move {
            let mut body = begins.then(|| respond.send_response(head_of_answer(), false).unwrap());
            let reset = std::future::poll_fn(|cx| match &mut body {
                Some(body) => body.poll_reset(cx),
                None => respond.poll_reset(cx),
            });
            tell.send(reset.await.unwrap()).unwrap();
        }
    })
    .await;
    (address, told)
}

#[tokio::test]
async fn a_stream_is_reset_with_cancel_before_and_in_its_answer() {
    for begins in [false, true] {
        let (address, mut told) = resets(begins).await;
        let channel = ours(address, ClientLayer::new().timeout(300 * MS));
        let status = match stream(channel, "/test.Test/Drip", 0).await {
            Ok(mut numbers) => failure(&mut numbers).await,
            Err(status) => status,
        };
        expired(&status);
        assert_eq!(within(told.recv()).await, Some(Reason::CANCEL));
    }
}

#[tokio::test]
async fn an_answer_that_nobody_polls_is_reset_at_the_deadline() {
    let (address, mut told) = resets(true).await;
    let channel = ours(address, ClientLayer::new().timeout(500 * MS));
    let begun = Instant::<Elapsed>::now();
    let mut numbers = stream(channel, "/test.Test/Drip", 0).await.unwrap();
    assert_eq!(within(told.recv()).await, Some(Reason::CANCEL));
    assert!(begun.elapsed() >= 500 * MS);
    let status = within(numbers.message()).await.unwrap_err();
    assert_eq!(expired(&status).phase(), Some(Phase::Body));
}

#[tokio::test]
async fn a_call_that_nobody_polls_is_reset_at_the_deadline() {
    let (address, mut told) = resets(false).await;
    let channel = ours(address, ClientLayer::new().timeout(500 * MS));
    // There is a connection, so that one poll is enough.
    let early = scope(100 * MS, nap(channel.clone(), 0)).await;
    assert!(early.is_err() || early.is_ok_and(|it| it.is_err()));
    assert_eq!(within(told.recv()).await, Some(Reason::CANCEL));
    let begun = Instant::<Elapsed>::now();
    let mut call = pin!(nap(channel, 0));
    begin(call.as_mut()).await;
    assert_eq!(within(told.recv()).await, Some(Reason::CANCEL));
    assert!(begun.elapsed() >= 500 * MS);
    expired(&call.await.unwrap_err());
}

#[tokio::test]
async fn a_call_that_is_given_up_is_reset() {
    let (address, mut told) = resets(false).await;
    let channel = ours(address, ClientLayer::new());
    // Without any deadline.
    let call = tokio::spawn(nap(channel.clone(), 0));
    while channel.stats().connections() == 0 {
        sleep(MS).await;
    }
    sleep(50 * MS).await;
    call.abort();
    assert_eq!(within(told.recv()).await, Some(Reason::CANCEL));
    assert_eq!(channel.stats().resets(), 1);
}

#[tokio::test]
async fn a_handler_is_dropped_when_its_call_has_expired() {
    let (test, mut told) = Test::new();
    // Which knows nothing of deadlines: it is the reset that tells it.
    let address = served!(Server::builder(), test);
    let mut numbers =
        stream(ours(address, ClientLayer::new().timeout(SECOND)), "/test.Test/Drip", 20)
            .await
            .unwrap();
    called(&mut told).await;
    expired(&failure(&mut numbers).await);
    assert!(matches!(next(&mut told).await, Event::Dropped));
}

#[tokio::test]
async fn an_allowance_leaves_the_callee_the_time_to_answer_for_itself() {
    let (test, mut told) = Test::new();
    let address = served!(Server::builder().layer(ServerLayer::new()), test);
    let layer = ClientLayer::new().timeout(60 * SECOND).allowance(60 * SECOND - 300 * MS);
    let status = nap(ours(address, layer.clone()), 60_000).await.unwrap_err();
    // In the callee's own words, and not ours.
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert!(status.message().contains("header `grpc-timeout`"), "{status:?}");
    assert_eq!(layer.stats().expired_before_headers(), 0);
    let callee = called(&mut told).await.unwrap();
    assert!(callee.budget() <= 300 * MS);
    assert!(matches!(next(&mut told).await, Event::Dropped));
}

#[tokio::test]
async fn what_others_make_of_a_deadline_is_the_deadlines_once_it_has_passed() {
    let (address, makes, mut is_answered) = serve_makes().await;
    let channel = ours(address, ClientLayer::new().timeout(60 * SECOND));
    let limited = ours(address, ClientLayer::new().timeout(200 * MS));
    // So that one poll is enough, from here on.
    nap(limited.clone(), 0).await.unwrap_err();
    within(is_answered.recv()).await.unwrap();
    for (it, is) in [
        (Makes::Reset(Reason::CANCEL), Code::Cancelled),
        (Makes::Reset(Reason::INTERNAL_ERROR), Code::Internal),
        (Makes::Reset(Reason::REFUSED_STREAM), Code::Unavailable),
        (Makes::Status(Code::Cancelled), Code::Cancelled),
        (Makes::Status(Code::Unavailable), Code::Unavailable),
        (Makes::Status(Code::Internal), Code::Internal),
        (Makes::Status(Code::DeadlineExceeded), Code::DeadlineExceeded),
        (Makes::Trailers(Code::Cancelled), Code::Cancelled),
        (Makes::Trailers(Code::Unavailable), Code::Unavailable),
        (Makes::Trailers(Code::Internal), Code::Internal),
        (Makes::Cut(Reason::CANCEL), Code::Cancelled),
        (Makes::Cut(Reason::INTERNAL_ERROR), Code::Internal),
        (Makes::Http(502), Code::Unavailable),
        (Makes::Http(503), Code::Unavailable),
        (Makes::Http(504), Code::Unavailable),
        // These are no deadline's, whenever they come.
        (Makes::Reset(Reason::ENHANCE_YOUR_CALM), Code::ResourceExhausted),
        (Makes::Status(Code::NotFound), Code::NotFound),
        (Makes::Trailers(Code::PermissionDenied), Code::PermissionDenied),
        (Makes::Http(401), Code::Unauthenticated),
    ] {
        makes.send_replace(it);
        // Before the deadline it is what it is.
        let early = nap(channel.clone(), 0).await.unwrap_err();
        within(is_answered.recv()).await.unwrap();
        assert_eq!(early.code(), is, "{it:?}: {early:?}");
        // The answer is there before the deadline, and is looked at after it.
        let deadline = Deadline::after(200 * MS);
        let mut call = pin!(unary(limited.clone(), "/test.Test/Nap", 0));
        begin(call.as_mut()).await;
        within(is_answered.recv()).await.unwrap();
        sleep_until(deadline.instant() + 20 * MS).await;
        let late = within(call).await.unwrap_err();
        match is {
            Code::Cancelled | Code::Internal | Code::Unavailable | Code::DeadlineExceeded => {
                expired(&late);
            }
            // Or it hadn't come yet.
            _ => assert!([is, Code::DeadlineExceeded].contains(&late.code()), "{late:?}"),
        }
    }
}

#[tokio::test]
async fn a_stream_that_the_peer_has_ended_is_not_reset_also_if_nobody_has_seen_that() {
    let (tell, mut told) = unbounded_channel();
    let (address, _) = serve_frames(move |_request, mut respond| {
        tell.send(()).unwrap();
        async move { respond.send_reset(Reason::REFUSED_STREAM) }
    })
    .await;
    let channel = ours(address, ClientLayer::new().timeout(60 * SECOND));
    channel.connect().await.unwrap();
    let mut unseen = Box::pin(nap(channel.clone(), 0));
    begin(unseen.as_mut()).await;
    within(told.recv()).await.unwrap();
    // Whose end comes after that of the other.
    nap(channel.clone(), 0).await.unwrap_err();
    drop(unseen);
    assert_eq!((channel.stats().connections(), channel.stats().resets()), (1, 0));
}
