//! What the layer keeps around tonic's `Channel`.

use std::pin::pin;
use std::sync::atomic::Ordering::SeqCst;

use deadbeat::clock::{Elapsed, Instant};
use deadbeat::deadline::{Deadline, Phase, scope};
use deadbeat::propagation::grpc::{ClientLayer, ServerLayer};
use deadbeat::time::{Duration, sleep, sleep_until};
use h2::Reason;
use tokio::sync::mpsc::{error::TryRecvError, unbounded_channel};
use tokio_stream::StreamExt;
use tonic::transport::Server;
use tonic::{Code, Request};
use tower::Layer;
use tower::limit::ConcurrencyLimitLayer;

use super::rpc::*;
use super::within;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// By how much the callee's deadline is after the caller's.
fn excess(callee: deadbeat::deadline::Provenance, caller: Deadline) -> Duration {
    callee.deadline().instant().duration_since(caller.instant())
}

#[tokio::test]
async fn time_to_connect_counts_for_the_caller_and_the_callee_is_told_as_much_too_much() {
    let (test, mut told) = Test::new();
    let address = served!(Server::builder().layer(ServerLayer::new()), test);
    let (channel, _) = slow_channel(&endpoint(address), 300 * MS);
    let client = ClientLayer::new().layer(channel);
    for connects in [true, false] {
        let begun = Instant::<Elapsed>::now();
        let caller = Deadline::after(SECOND);
        let call = scope(caller, nap(client.clone(), 60_000));
        let status = match call.await {
            Ok(answered) => answered.unwrap_err(),
            // Either may be the first to notice.
            Err(expired) => expired.into(),
        };
        assert!(caller.is_expired(), "too early");
        assert_eq!(status.code(), Code::DeadlineExceeded);
        let callee = called(&mut told).await.unwrap();
        let excess = excess(callee, caller);
        println!("connects: {connects}, the callee had {excess:?} more than was left");
        // Never more than has passed since the value was written; nor less, but for what is rounded.
        assert!(excess <= callee.set_at() - begun);
        assert!(excess + MS >= 300 * MS || !connects, "{excess:?}");
        assert!(matches!(next(&mut told).await, Event::Dropped));
    }
}

#[tokio::test]
async fn an_allowance_makes_up_for_the_time_to_connect() {
    let (test, mut told) = Test::new();
    let address = served!(Server::builder().layer(ServerLayer::new()), test);
    let (channel, _) = slow_channel(&endpoint(address), 100 * MS);
    let client = ClientLayer::new().allowance(20 * SECOND).layer(channel);
    let caller = Deadline::after(60 * SECOND);
    scope(caller, nap(client, 0)).await.unwrap().unwrap();
    let callee = called(&mut told).await.unwrap();
    assert!(callee.deadline() < caller);
}

#[tokio::test]
async fn what_is_cancelled_when_the_callees_time_is_up_is_the_deadlines() {
    let (address, _) = serve_frames(async |_request, _respond| std::future::pending().await).await;
    let layer = ClientLayer::new().timeout(60 * SECOND).allowance(60 * SECOND - 200 * MS);
    let begun = Instant::<Elapsed>::now();
    // By tonic's `Channel`, which keeps the header that it passes on.
    let status = nap(layer.layer(channel(address).await), 0).await.unwrap_err();
    assert!((200 * MS..30 * SECOND).contains(&begun.elapsed()));
    let expired = expired(&status);
    assert!(expired.budget() <= 200 * MS);
    assert_eq!(expired.phase(), Some(Phase::Wait));
    // What is cancelled before isn't.
    let (address, _) = serve_frames(async |_request, mut respond: h2::server::SendResponse<_>| {
        respond.send_reset(Reason::CANCEL);
    })
    .await;
    let layer = ClientLayer::new().timeout(60 * SECOND).allowance(SECOND);
    let status = nap(layer.layer(channel(address).await), 0).await.unwrap_err();
    assert_eq!(status.code(), Code::Cancelled);
}

#[tokio::test]
async fn a_connection_that_is_not_made_in_time_ends_the_call_and_is_not_told_apart() {
    let (channel, count) = slow_channel(&endpoint("127.0.0.1:1".parse().unwrap()), 60 * SECOND);
    let client = ClientLayer::new().timeout(200 * MS).layer(channel);
    let begun = Instant::<Elapsed>::now();
    let status = nap(client, 0).await.unwrap_err();
    assert!(begun.elapsed() >= 200 * MS);
    // What the layer sees is a request that isn't taken.
    assert_eq!(expired(&status).phase(), Some(Phase::Send), "{status:?}");
    assert_eq!(count.load(SeqCst), 1);
}

#[tokio::test]
async fn time_in_the_queue_of_a_limit_counts_and_is_not_passed_on() {
    let (test, mut told) = Test::new();
    let address = served!(Server::builder().layer(ServerLayer::new()), test);
    let limited = ConcurrencyLimitLayer::new(1).layer(channel(address).await);
    let client = ClientLayer::new().timeout(60 * SECOND).layer(limited);
    let first = tokio::spawn(nap(client.clone(), 500));
    let free_at = called(&mut told).await.unwrap().set_at() + 500 * MS;
    let mut call = pin!(nap(client.clone(), 0));
    let begun = begin(call.as_mut()).await;
    call.await.unwrap();
    first.await.unwrap().unwrap();
    assert!(matches!(next(&mut told).await, Event::Dropped));
    let second = called(&mut told).await.unwrap();
    assert!(second.budget() <= 60 * SECOND - (free_at - begun));
    assert!(matches!(next(&mut told).await, Event::Dropped));
    // And ends the call.
    let held = tokio::spawn(nap(client.clone(), 60_000));
    called(&mut told).await;
    let mut request = Request::new(0);
    request.set_timeout(100 * MS);
    let mut grpc = tonic::client::Grpc::new(client);
    grpc.ready().await.unwrap();
    let call = grpc.unary(request, path("/test.Test/Nap"), Numbers);
    let status = within(call).await.unwrap_err();
    assert_eq!(expired(&status).phase(), Some(Phase::Queue));
    assert!(matches!(told.try_recv(), Err(TryRecvError::Empty)));
    held.abort();
}

#[tokio::test]
async fn time_in_the_queue_of_tonics_own_limit_is_told_to_nobody() {
    let (test, mut told) = Test::new();
    let address = served!(Server::builder().layer(ServerLayer::new()), test);
    let limited = endpoint(address).concurrency_limit(1).connect_lazy();
    let client = ClientLayer::new().layer(limited);
    let mut first = Request::new(500);
    first.set_timeout(60 * SECOND);
    let mut grpc = tonic::client::Grpc::new(client.clone());
    grpc.ready().await.unwrap();
    let first = tokio::spawn(async move {
        within(grpc.unary(first, path("/test.Test/Nap"), Numbers)).await.map(drop)
    });
    let free_at = called(&mut told).await.unwrap().set_at() + 500 * MS;
    let caller = Deadline::after(60 * SECOND);
    let before = Instant::<Elapsed>::now();
    let mut call = pin!(scope(caller, nap(client, 0)));
    let after = begin(call.as_mut()).await;
    call.await.unwrap().unwrap();
    first.await.unwrap().unwrap();
    assert!(matches!(next(&mut told).await, Event::Dropped));
    let second = called(&mut told).await.unwrap();
    // All of the wait, but for what is rounded: a thousandth of what was left.
    assert!(excess(second, caller) <= second.set_at() - before);
    assert!(excess(second, caller) + 60 * MS >= free_at - after);
}

#[tokio::test]
async fn what_is_too_late_is_not_sent() {
    let (test, mut told) = Test::new();
    let address = served!(Server::builder().layer(ServerLayer::new()), test);
    let (channel, count) = slow_channel(&endpoint(address), Duration::ZERO);
    let client = ClientLayer::new().timeout(SECOND).allowance(SECOND).layer(channel);
    expired(&nap(client, 0).await.unwrap_err());
    assert_eq!(count.load(SeqCst), 0);
    assert!(matches!(told.try_recv(), Err(TryRecvError::Empty)));
}

#[tokio::test]
async fn a_call_that_is_not_answered_fails_with_where_it_waited() {
    let (address, _) = serve_frames(async |_request, _respond| std::future::pending().await).await;
    let client = ClientLayer::new().timeout(300 * MS).layer(channel(address).await);
    let begun = Instant::<Elapsed>::now();
    let status = nap(client, 0).await.unwrap_err();
    assert!(begun.elapsed() >= 300 * MS);
    let expired = expired(&status);
    assert_eq!(expired.phase(), Some(Phase::Wait));
    assert_eq!(expired.spent().unwrap().total(), expired.elapsed());
    assert!(status.message().contains("no answer"), "{status:?}");
}

#[tokio::test]
async fn a_stream_is_reset_with_cancel_before_and_in_its_answer() {
    for begins in [false, true] {
        let (tell, mut told) = unbounded_channel();
        let (address, _) = serve_frames(move |_request, mut respond| {
            let tell = tell.clone();
            async move {
                let mut body =
                    begins.then(|| respond.send_response(head_of_answer(), false).unwrap());
                let reset = std::future::poll_fn(|cx| match &mut body {
                    Some(body) => body.poll_reset(cx),
                    None => respond.poll_reset(cx),
                });
                tell.send(reset.await.unwrap()).unwrap();
            }
        })
        .await;
        let client = ClientLayer::new().timeout(300 * MS).layer(channel(address).await);
        let status = match stream(client, "/test.Test/Drip", 0).await {
            Ok(mut numbers) => failure(&mut numbers).await,
            Err(status) => status,
        };
        expired(&status);
        assert_eq!(within(told.recv()).await, Some(Reason::CANCEL));
    }
}

#[tokio::test]
async fn the_connection_survives() {
    let (test, _told) = Test::new();
    let address = served!(Server::builder(), test);
    let (channel, count) = slow_channel(&endpoint(address), Duration::ZERO);
    let client = ClientLayer::new().timeout(SECOND).layer(channel.clone());
    let late = [nap(client.clone(), 60_000).await.unwrap_err(), {
        let mut numbers = stream(client, "/test.Test/Drip", 20).await.unwrap();
        failure(&mut numbers).await
    }];
    for status in &late {
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    }
    assert_eq!(nap(channel, 1).await.unwrap(), 1);
    assert_eq!(count.load(SeqCst), 1);
}

#[tokio::test]
async fn an_upload_that_is_late_is_no_clean_end() {
    for floods in [false, true] {
        // In vain, if it floods: the peer gives it no room.
        let (address, mut told) = uploads(!floods).await;
        let client = ClientLayer::new().timeout(300 * MS).layer(channel(address).await);
        let mut grpc = tonic::client::Grpc::new(client);
        grpc.ready().await.unwrap();
        let numbers = tokio_stream::iter(0..if floods { u64::MAX } else { 1 });
        let numbers = numbers.chain(tokio_stream::pending());
        let call = grpc.streaming(Request::new(numbers), path("/test.Test/Echo"), Numbers);
        let status = within(call).await.map(drop).unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
        let reason = within(told.recv()).await.unwrap().expect_err("a clean end");
        assert!([Reason::CANCEL, Reason::INTERNAL_ERROR].contains(&reason), "{reason}");
        assert!(!floods || reason == Reason::CANCEL, "{reason}");
    }
}

#[tokio::test]
async fn an_answer_that_nobody_polls_does_not_notice() {
    let (test, mut told) = Test::new();
    let address = served!(Server::builder(), test);
    let client = ClientLayer::new().timeout(SECOND).layer(channel(address).await);
    let mut numbers = stream(client, "/test.Test/Drip", 100).await.unwrap();
    called(&mut told).await;
    sleep(2 * SECOND).await;
    assert!(matches!(told.try_recv(), Err(TryRecvError::Empty)));
    // What has come meanwhile isn't read.
    let status = within(numbers.message()).await.unwrap_err();
    assert_eq!(expired(&status).phase(), Some(Phase::Body));
    assert!(matches!(next(&mut told).await, Event::Dropped));
}

#[tokio::test]
async fn what_others_make_of_a_deadline_is_the_deadlines_once_it_has_passed() {
    let (address, makes, mut is_answered) = serve_makes().await;
    let channel = channel(address).await;
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
        (Makes::Status(Code::NotFound), Code::NotFound),
        (Makes::Trailers(Code::PermissionDenied), Code::PermissionDenied),
        (Makes::Http(401), Code::Unauthenticated),
    ] {
        makes.send_replace(it);
        // Before the deadline it is what it is.
        let client = ClientLayer::new().timeout(60 * SECOND).layer(channel.clone());
        let early = nap(client, 0).await.unwrap_err();
        within(is_answered.recv()).await.unwrap();
        assert_eq!(early.code(), is, "{it:?}: {early:?}");
        // The answer is there before the deadline, and is looked at after it.
        let deadline = Deadline::after(200 * MS);
        let client = ClientLayer::new().timeout(200 * MS).layer(channel.clone());
        let mut call = pin!(unary(client, "/test.Test/Nap", 0));
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
async fn forged_details_make_nobody_panic() {
    for in_trailers in [false, true] {
        let (address, _) = serve_frames(move |_request, mut respond| async move {
            let mut status = http::HeaderMap::new();
            status.insert("grpc-status", "9".parse().unwrap());
            status.insert("grpc-message", "not%20now".parse().unwrap());
            status.insert("grpc-status-details-bin", "!no base64?".parse().unwrap());
            let mut head = head_of_answer();
            if in_trailers {
                let mut body = respond.send_response(head, false).unwrap();
                body.send_data(message(7), false).unwrap();
                body.send_trailers(status).unwrap();
            } else {
                head.headers_mut().extend(status);
                respond.send_response(head, true).unwrap();
            }
        })
        .await;
        let layer = ClientLayer::new().timeout(60 * SECOND);
        let status = match stream(layer.layer(channel(address).await), "/test.Test/Drip", 0).await {
            Ok(mut numbers) => failure(&mut numbers).await,
            Err(status) => status,
        };
        assert_eq!((status.code(), status.message()), (Code::FailedPrecondition, "not now"));
        assert!(status.details().is_empty());
        assert_eq!(layer.stats().bad_details(), 1, "in trailers: {in_trailers}");
    }
}

#[tokio::test]
async fn generated_clients_take_it_without_a_wrapper() {
    let (test, _told) = Test::new();
    let address = served!(Server::builder(), test);
    let client = ClientLayer::new().timeout(60 * SECOND).layer(channel(address).await);
    let client = is_what_generated_clients_take(client);
    assert_eq!(nap(client.clone(), 1).await.unwrap(), 1);
    // And with an interceptor, as their `with_interceptor` does.
    let intercepted =
        tonic::service::interceptor::InterceptedService::new(client, |mut request: Request<()>| {
            request.set_timeout(Duration::ZERO);
            Ok(request)
        });
    let status = nap(is_what_generated_clients_take(intercepted), 1).await.unwrap_err();
    expired(&status);
}
