//! What a limiter costs a call that needn't wait, in process: a handler that is ready at once, and a body that is
//! empty.
//!
//! ```text
//! cargo bench --features grpc --bench limit
//! ```
//!
//! `limit/{system}/{case}`, for one call from `call` to the end of its answer, with 64 slots.
//!
//! - Systems: `bare`, the handler alone; `tower`, tower's `ConcurrencyLimit`, which holds its slot until the head
//!   of the answer; `deadbeat`, ours, with a deadline of a second that is current. Ours reads the clock twice,
//!   and keeps account of how long calls take.
//! - Cases: `1`, one thread; `2`, two that share the limit, per call of each of them.

mod support;

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::pin::pin;
use std::sync::Barrier;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use criterion::{Criterion, criterion_group, criterion_main};
use deadbeat::deadline::scope;
use deadbeat::limit::Limiter;
use deadbeat::propagation::http::LimitLayer;
use http::{Request, Response};
use http_body::Body;
use http_body_util::Empty;
use support::{group, waker};
use tower::limit::GlobalConcurrencyLimitLayer;
use tower::{Layer, Service};

const SLOTS: usize = 64;
const SECOND: Duration = Duration::from_secs(1);

#[derive(Clone)]
struct Handler;

impl Service<Request<()>> for Handler {
    type Response = Response<Empty<Bytes>>;
    type Error = Infallible;
    type Future = Ready<Result<Self::Response, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Request<()>) -> Self::Future {
        ready(Ok(Response::new(Empty::new())))
    }
}

fn run<S, A>(service: &mut S, cx: &mut Context<'_>)
where
    S: Service<Request<()>, Response = Response<A>>,
    A: Body,
{
    assert!(service.poll_ready(cx).is_ready());
    let mut call = pin!(service.call(Request::new(())));
    let Poll::Ready(Ok(response)) = call.as_mut().poll(cx) else { panic!("it isn't ready") };
    let mut body = pin!(response.into_body());
    assert!(matches!(body.as_mut().poll_frame(cx), Poll::Ready(None)));
}

/// So many calls, with a deadline that is current for all of them.
fn calls<S, A>(mut service: S, calls: u64) -> Duration
where
    S: Service<Request<()>, Response = Response<A>>,
    A: Body,
{
    let waker = waker();
    let cx = &mut Context::from_waker(&waker);
    let mut all = pin!(scope(SECOND, async {
        let waker = support::waker();
        let cx = &mut Context::from_waker(&waker);
        let start = support::now();
        (0..calls).for_each(|_| run(&mut service, cx));
        start.elapsed()
    }));
    match all.as_mut().poll(cx) {
        Poll::Ready(Ok(took)) => took,
        _ => panic!("it took a second"),
    }
}

/// How many calls there are between two looks at the deadline: all of them have it.
const BATCH: u64 = 10_000;

fn batches<S, A>(service: &S, mut left: u64) -> Duration
where
    S: Service<Request<()>, Response = Response<A>> + Clone,
    A: Body,
{
    let mut took = Duration::ZERO;
    while left > 0 {
        let batch = left.min(BATCH);
        took += calls(service.clone(), batch);
        left -= batch;
    }
    took
}

fn measure<S, A>(c: &mut Criterion, system: &str, service: S)
where
    S: Service<Request<()>, Response = Response<A>> + Clone + Send + Sync,
    A: Body,
{
    let mut group = group(c, format!("limit/{system}"));
    group.bench_function("1", |b| b.iter_custom(|iterations| batches(&service, iterations)));
    group.bench_function("2", |b| {
        b.iter_custom(|iterations| {
            let start = Barrier::new(2);
            std::thread::scope(|threads| {
                let other = threads.spawn(|| {
                    start.wait();
                    batches(&service, iterations)
                });
                start.wait();
                let mine = batches(&service, iterations);
                mine.max(other.join().expect("it doesn't panic"))
            })
        });
    });
    group.finish();
}

fn limit(c: &mut Criterion) {
    deadbeat::clock::Clock::system().calibrate();
    measure(c, "bare", Handler);
    measure(c, "tower", GlobalConcurrencyLimitLayer::new(SLOTS).layer(Handler));
    measure(c, "deadbeat", LimitLayer::new(Limiter::new(SLOTS)).layer(Handler));
}

criterion_group!(benches, limit);
criterion_main!(benches);
