//! Calls of tonic's with the layers on one side or both: streams both ways, and three hops.

use std::convert::Infallible;
use std::error::Error as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use deadbeat::clock::{Elapsed, Instant};
use deadbeat::deadline::{Deadline, Expired};
use deadbeat::propagation::client::Client;
use deadbeat::propagation::grpc::{ClientLayer, Grpc, ServerLayer};
use deadbeat::time::{Duration, sleep};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::server::{NamedService, UnaryService};
use tonic::transport::{Channel, Server};
use tonic::{Code, Request, Response, Status, body::Body};
use tower::{BoxError, Layer, Service};

use super::rpc::*;
use super::within;

const MS: Duration = Duration::from_millis(1);

#[tokio::test]
async fn the_deadline_of_a_call_covers_its_streams_in_both_directions() {
    for (ours, theirs) in [(true, true), (true, false), (false, true)] {
        let (test, mut told) = Test::new();
        let address = if theirs {
            served!(Server::builder().layer(ServerLayer::new().maximum(1000 * MS)), test)
        } else {
            served!(Server::builder(), test)
        };
        let timeout = if ours { 1000 * MS } else { Duration::MAX };
        let client = ClientLayer::new().timeout(timeout).layer(channel(address).await);
        let (send, numbers) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            for number in 0_u64.. {
                if send.send(number).is_err() {
                    break;
                }
                sleep(20 * MS).await;
            }
        });
        let mut grpc = tonic::client::Grpc::new(client);
        grpc.ready().await.unwrap();
        let begun = Instant::<Elapsed>::now();
        let numbers = UnboundedReceiverStream::new(numbers);
        let call = grpc.streaming(Request::new(numbers), path("/test.Test/Echo"), Numbers);
        let mut echoes = within(call).await.unwrap().into_inner();
        assert_eq!(within(echoes.message()).await.unwrap(), Some(0));
        let status = failure(&mut echoes).await;
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
        assert!(begun.elapsed() >= 1000 * MS);
        // The handler's side: what reads is told, and what answers is dropped.
        let provenance = called(&mut told).await;
        assert_eq!(provenance.is_some(), theirs);
        let mut dropped = false;
        let mut ended = None;
        while !dropped || ended.is_none() {
            match next(&mut told).await {
                Event::Dropped => dropped = true,
                Event::Upload(it) => ended = Some(it),
                other => panic!("{other:?}"),
            }
        }
        // Without the layer on that side, tonic takes a reset for the end.
        assert!(ended.unwrap().is_err() || !theirs, "a clean end");
    }
}

/// A hop: what `Work` does, and meanwhile asks the next one to do the same.
#[derive(Clone)]
struct Hop {
    test: Test,
    next: Client<Channel, Grpc>,
}

impl UnaryService<u64> for Hop {
    type Response = u64;
    type Future = Answer<u64>;

    fn call(&mut self, request: Request<u64>) -> Answer<u64> {
        let guard = self.test.call();
        let (test, next) = (self.test.clone(), self.next.clone());
        Box::pin(async move {
            let work = deadbeat::spawn(std::future::pending());
            tokio::spawn(async move { test.tell(Event::Task(work.await.unwrap())) });
            let answer = unary(next, "/test.Test/Work", request.into_inner()).await;
            drop(guard);
            answer.map(Response::new)
        })
    }
}

impl NamedService for Hop {
    const NAME: &str = "test.Test";
}

impl<B> Service<http::Request<B>> for Hop
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<BoxError> + Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let hop = self.clone();
        Box::pin(async move { Ok(tonic::server::Grpc::new(Numbers).unary(hop, request).await) })
    }
}

/// A client, and who serves it: three servers, each asking the next, the last of which never answers.
async fn three_hops(allowance: Duration) -> (Client<Channel, Grpc>, [UnboundedReceiver<Event>; 3]) {
    let to = |peer| ClientLayer::new().allowance(allowance).peer(peer);
    let server = || Server::builder().layer(ServerLayer::new().trusted(true));
    let (last, c) = Test::new();
    let next = to("c").layer(channel(served!(server(), last)).await);
    let (test, b) = Test::new();
    let next = to("b").layer(channel(served!(server(), Hop { test, next })).await);
    let (test, a) = Test::new();
    let next = to("a").layer(channel(served!(server(), Hop { test, next })).await);
    (next, [a, b, c])
}

/// What became of a call over three hops: what the caller got, and how much each hop was given.
async fn hopped(caller: Deadline, allowance: Duration) -> (Status, [Duration; 3]) {
    let (client, hops) = three_hops(allowance).await;
    let mut request = Request::new(0);
    deadbeat::propagation::grpc::RequestDeadline::set_deadline(&mut request, caller);
    let mut grpc = tonic::client::Grpc::new(client);
    grpc.ready().await.unwrap();
    let call = grpc.unary(request, path("/test.Test/Work"), Numbers);
    let status = within(call).await.unwrap_err();
    let mut told = [Duration::ZERO; 3];
    for (mut events, told) in hops.into_iter().zip(&mut told) {
        let provenance = called(&mut events).await.unwrap();
        *told = provenance.budget();
        // It stops, and all that it has begun.
        let mut ended = [next(&mut events).await, next(&mut events).await];
        ended.sort_by_key(|event| matches!(event, Event::Task(_)));
        assert!(matches!(ended, [Event::Dropped, Event::Task(Err(_))]), "{ended:?}");
    }
    (status, told)
}

#[tokio::test]
async fn over_three_hops_the_time_shrinks_and_all_stop_at_the_deadline() {
    let caller = Deadline::after(Duration::from_secs(1));
    let (status, [a, b, c]) = hopped(caller, Duration::ZERO).await;
    assert!(caller.is_expired(), "too early");
    assert!(a <= Duration::from_secs(1) && b < a && c < b, "{a:?} {b:?} {c:?}");
    // The caller's own deadline, and who didn't answer.
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    let expired = status.source().and_then(|it| it.downcast_ref::<Expired>()).expect("our own");
    assert_eq!(expired.deadline(), caller);
    assert!(status.message().contains("no answer from a for"), "{status:?}");
    assert_eq!(expired.spent().unwrap().total(), expired.elapsed());
}

#[tokio::test]
async fn over_three_hops_an_allowance_ends_the_call_earlier_and_it_is_the_deadlines() {
    let caller = Deadline::after(Duration::from_secs(3));
    let (status, [a, b, c]) = hopped(caller, 700 * MS).await;
    assert!(a <= 2300 * MS && b + 700 * MS < a && c + 700 * MS < b, "{a:?} {b:?} {c:?}");
    // The last one's caller is the first to give up, when the last one's time is up: tonic's `Channel`
    // reads the header that was written. So there is time to say who was waited for.
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert!(status.message().contains("no answer from c for"), "{status:?}");
}
