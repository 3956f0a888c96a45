//! The limiter through its layers, in virtual time.

mod common;

use std::convert::Infallible;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll};

use bytes::Bytes;
use deadbeat::deadline::{Origin, scope};
use deadbeat::limit::{Limiter, Order, Settings};
use deadbeat::propagation::http::{DEADLINE_EXCEEDED, Switch};
use deadbeat::propagation::{grpc, http as plain};
use deadbeat::time::{Duration, sleep};
use deadbeat::{JoinHandle, Manual};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, Full};
use tower::util::BoxCloneSyncService;
use tower::{Layer, Service, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);

type Nothing = Empty<Bytes>;
/// Its answer, read to the end: status, headers and text.
type Answer = (StatusCode, HeaderMap, String);
type Server = BoxCloneSyncService<Request<Nothing>, Answer, Infallible>;

/// Serves each call in as many milliseconds as its header `takes` says, and counts how many it has begun, and
/// how many run at once at the most.
#[derive(Clone, Default)]
struct Seen {
    begun: Arc<AtomicUsize>,
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

async fn work<B>(request: Request<B>, seen: Seen) -> Result<Response<Full<Bytes>>, Infallible> {
    seen.begun.fetch_add(1, SeqCst);
    seen.most.fetch_max(seen.now.fetch_add(1, SeqCst) + 1, SeqCst);
    let _running = Running(seen.now.clone());
    let takes = request.headers()["takes"].to_str().unwrap().parse().unwrap();
    sleep(Duration::from_millis(takes)).await;
    Ok(Response::new(Full::new(Bytes::from_static(b"done"))))
}

async fn read<B>(response: Response<B>) -> Answer
where
    B: Body<Data = Bytes>,
    B::Error: std::fmt::Debug,
{
    let (head, body) = response.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    (head.status, head.headers, String::from_utf8(body.to_vec()).unwrap())
}

fn http_server(limiter: &Limiter, seen: &Seen) -> Server {
    let seen = seen.clone();
    let handler = service_fn(move |request: Request<_>| work(request, seen.clone()));
    let server = plain::LimitLayer::new(limiter.clone()).layer(handler);
    let server = plain::ServerLayer::new().layer(server);
    BoxCloneSyncService::new(server.and_then(async |it| Ok(read(it).await)))
}

fn grpc_server(limiter: &Limiter, seen: &Seen) -> Server {
    let seen = seen.clone();
    let handler = service_fn(move |request: Request<_>| work(request, seen.clone()));
    let server = grpc::LimitLayer::new(limiter.clone()).layer(handler);
    let server = grpc::ServerLayer::new().layer(server);
    BoxCloneSyncService::new(server.and_then(async |it| Ok(read(it).await)))
}

fn request(takes: u32, timeout: Option<u32>) -> Request<Nothing> {
    let mut request = Request::post("http://stock/shop.Stock/Reserve").header("takes", takes);
    if let Some(timeout) = timeout {
        request = request.header("grpc-timeout", format!("{timeout}m"));
    }
    request.body(Nothing::new()).unwrap()
}

fn start(manual: &Manual, server: &Server, request: Request<Nothing>) -> JoinHandle<Answer> {
    let server = server.clone();
    manual.spawn(async move { server.oneshot(request).await.unwrap() })
}

async fn call(server: &Server, takes: u32, timeout: u32) -> Answer {
    server.clone().oneshot(request(takes, Some(timeout))).await.unwrap()
}

/// Has it learn that calls take so long.
async fn learn(server: &Server, takes: u32) {
    for _ in 0..20 {
        assert_eq!(call(server, takes, 60_000).await.2, "done");
    }
}

#[test]
fn no_more_run_than_there_are_slots_and_the_rest_wait_their_turn() {
    for make in [http_server, grpc_server] {
        let manual = Manual::new();
        let (limiter, seen) = (Limiter::new(3), Seen::default());
        // Connections share it.
        let servers = [make(&limiter, &seen), make(&limiter, &seen)];
        let calls: Vec<_> =
            (0..30).map(|i| start(&manual, &servers[i % 2], request(20, Some(500)))).collect();
        manual.block_on(async {
            for call in calls {
                assert_eq!(call.await.2, "done");
            }
        });
        let stats = limiter.stats();
        assert_eq!((seen.most.load(SeqCst), stats.admitted), (3, 30));
        assert_eq!((stats.queued, stats.running), (0, 0));
        assert_eq!(stats.longest_wait, 180 * MS);
    }
}

#[test]
fn the_doomed_are_told_at_once_and_with_figures() {
    let manual = Manual::new();
    let (limiter, seen) = (Limiter::new(1), Seen::default());
    let (http, grpc) = (http_server(&limiter, &seen), grpc_server(&limiter, &seen));
    manual.block_on(learn(&http, 60));
    let running = start(&manual, &http, request(60, Some(500)));
    manual.block_on(async {
        sleep(MS).await;
        let before = manual.now();
        let (status, headers, text) = call(&http, 60, 45).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(!headers.contains_key(DEADLINE_EXCEEDED));
        assert_eq!(text, "rejected: 45ms left, service takes 60ms, wait of 60ms");
        let (status, headers, _) = call(&grpc, 60, 45).await;
        assert_eq!((status, &headers["grpc-status"]), (StatusCode::OK, &"14".parse().unwrap()));
        let message = headers["grpc-message"].to_str().unwrap().replace("%20", " ");
        assert_eq!(message, "rejected: 45ms left, service takes 60ms, wait of 60ms");
        assert_eq!(manual.now(), before, "it took time to be rejected");
        running.await;
    });
    assert_eq!(limiter.stats().rejected_doomed_on_arrival, 2);
    assert_eq!(seen.begun.load(SeqCst), 21);
}

#[test]
fn a_client_of_connect_is_told_in_its_own_words() {
    let (limiter, seen) = (Limiter::new(1), Seen::default());
    let server = http_server(&limiter, &seen);
    Manual::new().block_on(async {
        learn(&server, 60).await;
        let mut request = request(60, Some(45));
        request.headers_mut().insert("connect-protocol-version", "1".parse().unwrap());
        let (status, _, text) = server.oneshot(request).await.unwrap();
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(
            text,
            r#"{"code":"unavailable","message":"rejected: 45ms left, service takes 60ms"}"#
        );
    });
}

#[test]
fn what_expires_while_it_waits_is_answered_then_and_never_run() {
    for make in [http_server, grpc_server] {
        let manual = Manual::new();
        let (limiter, seen) = (Limiter::new(1), Seen::default());
        let server = make(&limiter, &seen);
        let first = start(&manual, &server, request(500, None));
        manual.block_on(async {
            sleep(MS).await;
            let before = manual.now();
            let (status, headers, _) = call(&server, 20, 100).await;
            assert_eq!(manual.now() - before, 100 * MS);
            let is_expired = headers.get("grpc-status").is_some_and(|it| it == "4");
            assert!(is_expired || headers[DEADLINE_EXCEEDED] == "header");
            assert!(is_expired || status == StatusCode::GATEWAY_TIMEOUT);
            first.await;
        });
        assert_eq!(seen.begun.load(SeqCst), 1);
        assert_eq!(limiter.stats().queued, 0);
    }
}

#[test]
fn without_a_server_layer_the_ambient_deadline_counts() {
    let manual = Manual::new();
    let limiter = Limiter::new(1);
    let layer = plain::LimitLayer::new(limiter.clone());
    let server = layer.layer(service_fn(|it: Request<_>| work(it, Seen::default())));
    manual.block_on(async {
        let slot = limiter.acquire().await.unwrap();
        // The call is made within; that it is waited for isn't.
        let mut inside = server.clone();
        let call = scope(100 * MS, async move { (inside.call(request(20, None)),) }).await.unwrap();
        let answer = call.0.await.unwrap();
        assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(answer.headers()[DEADLINE_EXCEEDED], "other");
        assert_eq!(limiter.stats().rejected_expired, 1);

        let late = scope(100 * MS, async {
            manual.clock().advance(100 * MS);
            limiter.acquire().await.unwrap_err()
        });
        let rejected = late.await.unwrap();
        assert!(rejected.is_expired());
        assert!(matches!(rejected.expired().unwrap().origin(), Origin::Place(_)));
        assert_eq!(limiter.stats().rejected_expired, 2);
        drop(slot);
    });
}

#[test]
fn without_a_deadline_only_a_full_queue_rejects() {
    let manual = Manual::new();
    let (limiter, seen) = (Limiter::new(Settings::new(1).queue(2)), Seen::default());
    let server = http_server(&limiter, &seen);
    manual.block_on(learn(&server, 5000));
    let served: Vec<_> = (0..3).map(|_| start(&manual, &server, request(5000, None))).collect();
    manual.block_on(async {
        sleep(MS).await;
        let (status, _, text) = server.clone().oneshot(request(1, None)).await.unwrap();
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(text, "rejected: 2 calls wait already, where 2 may");
        for call in served {
            assert_eq!(call.await.2, "done");
        }
    });
    assert_eq!(limiter.stats().rejected_full, 1);
}

#[test]
fn the_newest_are_served_at_once_under_overload() {
    let manual = Manual::new();
    let settings = Settings::new(1).order(Order::NewestFirst);
    let (limiter, seen) = (Limiter::new(settings), Seen::default());
    let server = http_server(&limiter, &seen);
    let first = start(&manual, &server, request(20, None));
    let others: Vec<_> = (0..4).map(|_| start(&manual, &server, request(20, Some(90)))).collect();
    manual.block_on(async {
        let begun = manual.now();
        sleep(MS).await;
        let newest = call(&server, 20, 90).await;
        assert_eq!((newest.2.as_str(), manual.now() - begun), ("done", 40 * MS));
        first.await;
        for call in others {
            call.await;
        }
    });
}

#[test]
fn who_leaves_the_queue_is_not_served_and_who_leaves_its_slot_makes_room() {
    let manual = Manual::new();
    let (limiter, seen) = (Limiter::new(1), Seen::default());
    let server = http_server(&limiter, &seen);
    let _entered = manual.enter();
    let begin = || Box::pin(server.clone().oneshot(request(20, Some(500))));
    let (mut running, mut leaving, mut next) = (begin(), begin(), begin());
    let (count, waker) = common::counter();
    for call in [&mut running, &mut leaving, &mut next] {
        assert!(call.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
    }
    assert_eq!((limiter.stats().running, limiter.stats().queued), (1, 2));
    drop(leaving);
    assert_eq!((limiter.stats().running, limiter.stats().queued), (1, 1));
    assert_eq!(count.get(), 0);
    drop(running);
    assert_eq!(seen.now.load(SeqCst), 0);
    assert_eq!((limiter.stats().running, limiter.stats().queued), (1, 0));
    assert_eq!(count.get(), 1, "the next was woken");
    // It goes before it has noticed.
    drop(next);
    let stats = limiter.stats();
    assert_eq!((stats.running, stats.queued, stats.admitted), (0, 0, 1));
    assert_eq!(seen.begun.load(SeqCst), 1);
}

/// A piece now, and trailers a second later.
struct Slow(u8, Pin<Box<deadbeat::time::Sleep>>);

impl Body for Slow {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let frame = match self.0 {
            0 => Frame::data(Bytes::from_static(b"piece")),
            1 => {
                std::task::ready!(self.1.as_mut().poll(cx));
                Frame::trailers(HeaderMap::new())
            }
            _ => return Poll::Ready(None),
        };
        self.0 += 1;
        Poll::Ready(Some(Ok(frame)))
    }
}

async fn stream(_: Request<Nothing>) -> Result<Response<Slow>, Infallible> {
    Ok(Response::new(Slow(0, Box::pin(sleep(1000 * MS)))))
}

#[test]
fn a_slot_is_held_until_the_answer_has_ended_or_is_dropped() {
    Manual::new().block_on(async {
        let limiter = Limiter::new(1);
        let server = grpc::LimitLayer::new(limiter.clone()).layer(service_fn(stream));
        let mut body = server.clone().oneshot(request(0, None)).await.unwrap().into_body();
        assert_eq!(limiter.stats().running, 1);
        body.frame().await.unwrap().unwrap();
        assert_eq!(limiter.stats().running, 1);
        // Not yet its end, but there is nothing after them.
        assert!(body.frame().await.unwrap().unwrap().is_trailers());
        assert_eq!(limiter.stats().running, 0);

        let body = server.oneshot(request(0, None)).await.unwrap().into_body();
        assert_eq!(limiter.stats().running, 1);
        drop(body);
        assert_eq!(limiter.stats().running, 0);
    });
}

#[test]
fn a_slot_is_given_back_with_the_head_if_that_is_asked_for() {
    Manual::new().block_on(async {
        let limiter = Limiter::new(1);
        let layer = grpc::LimitLayer::new(limiter.clone()).release_at_head(true);
        let server = layer.layer(service_fn(stream));
        let response = server.oneshot(request(0, None)).await.unwrap();
        assert_eq!((limiter.stats().running, limiter.stats().admitted), (0, 1));
        assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "piece");
    });
}

#[test]
fn in_the_dark_nobody_is_rejected_for_doom() {
    let manual = Manual::new();
    let (limiter, seen) = (Limiter::new(Settings::new(1).dark(true)), Seen::default());
    let server = http_server(&limiter, &seen);
    manual.block_on(async {
        learn(&server, 60).await;
        // It would not be in time, by what is known, and is.
        assert_eq!(call(&server, 10, 45).await.2, "done");
    });
    assert_eq!(limiter.stats().rejected_doomed_on_arrival, 1);
    assert_eq!(limiter.stats().admitted, 21);
}

#[test]
fn the_switch_turns_it_off_while_it_runs() {
    let manual = Manual::new();
    let limiter = Limiter::new(1);
    let switch = Switch::new();
    let layer = plain::LimitLayer::new(limiter.clone()).switch(&switch);
    let server = layer.layer(service_fn(|it: Request<_>| work(it, Seen::default())));
    manual.block_on(async {
        let slot = limiter.acquire().await.unwrap();
        switch.set(false);
        let answer = server.clone().oneshot(request(20, None)).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        switch.set(true);
        let waits = scope(100 * MS, server.oneshot(request(20, None))).await.unwrap().unwrap();
        assert_eq!(waits.status(), StatusCode::GATEWAY_TIMEOUT);
        drop(slot);
    });
    assert_eq!((limiter.stats().admitted, limiter.stats().running), (1, 0));
}

#[test]
fn a_share_of_the_doomed_is_served_and_shows_when_service_is_fast_again() {
    let manual = Manual::new();
    let (limiter, seen) = (Limiter::new(16), Seen::default());
    let server = http_server(&limiter, &seen);
    manual.block_on(async {
        learn(&server, 300).await;
        let before = seen.begun.load(SeqCst);
        for _ in 0..100 {
            call(&server, 300, 200).await;
            sleep(MS).await;
        }
        assert_eq!(seen.begun.load(SeqCst) - before, 2);
        assert_eq!((limiter.stats().probes, limiter.stats().rejected_doomed_on_arrival), (2, 98));
        let since = manual.now();
        while call(&server, 20, 200).await.2 != "done" || call(&server, 20, 200).await.2 != "done" {
            sleep(MS).await;
            assert!(manual.now() - since < Duration::from_secs(11));
        }
        for _ in 0..100 {
            assert_eq!(call(&server, 20, 200).await.2, "done");
        }
    });
}

#[test]
fn a_handler_that_panics_gives_its_slot_back() {
    let limiter = Limiter::new(1);
    let layer = plain::LimitLayer::new(limiter.clone());
    let server = layer.layer(service_fn(async |_: Request<Nothing>| {
        if limiter.stats().running == 1 {
            panic!("a bug");
        }
        pending::<Result<Response<Nothing>, Infallible>>().await
    }));
    let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        Manual::new().block_on(server.oneshot(request(0, None))).unwrap().status()
    }));
    assert!(caught.is_err());
    assert_eq!(limiter.stats().running, 0);
}

#[test]
fn wakers_are_called_outside_the_lock_and_may_panic() {
    let manual = Manual::new();
    let _entered = manual.enter();
    let limiter = Limiter::new(2);
    let slots: Vec<_> = (0..2)
        .map(|_| match common::poll(&mut Box::pin(limiter.acquire()), std::task::Waker::noop()) {
            Poll::Ready(slot) => slot.unwrap(),
            Poll::Pending => panic!("no slot"),
        })
        .collect();
    let looks = {
        let limiter = limiter.clone();
        common::on_wake(move || {
            assert_eq!(limiter.stats().running, 2);
            panic!("a waker's");
        })
    };
    let (count, counts) = common::counter();
    let (mut first, mut second) = (Box::pin(limiter.acquire()), Box::pin(limiter.acquire()));
    assert!(common::poll(&mut first, &looks).is_pending());
    assert!(common::poll(&mut second, &counts).is_pending());
    drop(slots);
    assert_eq!((count.get(), limiter.stats().waker_panics), (1, 1));
    assert!(common::poll(&mut first, &counts).is_ready());
    assert!(common::poll(&mut second, &counts).is_ready());
}

#[test]
fn from_many_threads_every_slot_comes_back() {
    let limiter = Limiter::new(Settings::new(4).queue(usize::MAX));
    let most = AtomicUsize::new(0);
    let running = AtomicUsize::new(0);
    std::thread::scope(|threads| {
        for _ in 0..8 {
            threads.spawn(|| {
                for i in 0..500 {
                    let mut acquire = Box::pin(limiter.acquire());
                    // Some leave again.
                    if i % 7 == 0 {
                        let _ = common::poll(&mut acquire, std::task::Waker::noop());
                        continue;
                    }
                    let slot = deadbeat::block_on(acquire).unwrap();
                    most.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
                    std::thread::yield_now();
                    running.fetch_sub(1, SeqCst);
                    drop(slot);
                }
            });
        }
    });
    let stats = limiter.stats();
    assert_eq!((stats.running, stats.queued), (0, 0));
    assert!(most.load(SeqCst) <= 4);
}
