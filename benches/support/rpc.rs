//! Calls of gRPC over loopback, as many as there can be: what the benches of deadlines, channel and server share.

use std::{
    convert::Infallible,
    future::{Future, Ready, ready},
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use http::uri::PathAndQuery;
use tonic::{
    Request, Response, Status,
    body::Body,
    server::{NamedService, ServerStreamingService, UnaryService},
};
use tower::Service;

use super::{numbers::Numbers, support::now};

/// `Echo` answers what it is asked; `Count` with as many numbers as it is asked for.
#[derive(Clone)]
pub(crate) struct Echo;

impl UnaryService<u64> for Echo {
    type Response = u64;
    type Future = Ready<Result<Response<u64>, Status>>;

    fn call(&mut self, request: Request<u64>) -> Self::Future {
        ready(Ok(Response::new(request.into_inner())))
    }
}

type Numbered = Box<dyn tokio_stream::Stream<Item = Result<u64, Status>> + Send + Unpin>;

impl ServerStreamingService<u64> for Echo {
    type Response = u64;
    type ResponseStream = Numbered;
    type Future = Ready<Result<Response<Numbered>, Status>>;

    fn call(&mut self, request: Request<u64>) -> Self::Future {
        let numbers = tokio_stream::StreamExt::map(tokio_stream::iter(0..request.into_inner()), Ok);
        ready(Ok(Response::new(Box::new(numbers))))
    }
}

impl NamedService for Echo {
    const NAME: &str = "bench.Echo";
}

impl<B> Service<http::Request<B>> for Echo
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(Numbers);
            Ok(match request.uri().path() {
                "/bench.Echo/Count" => grpc.server_streaming(Self, request).await,
                _ => grpc.unary(Self, request).await,
            })
        })
    }
}

/// What was measured in a round. Times are of one call.
pub(crate) struct Round {
    pub(crate) per_second: f64,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

impl Round {
    fn of(mut took: Vec<Duration>, all: Duration) -> Self {
        took.sort_unstable();
        #[expect(clippy::cast_precision_loss, reason = "a rate")]
        let per_second = took.len() as f64 / all.as_secs_f64();
        Self { per_second, p50: took[took.len() / 2], p99: took[took.len() * 99 / 100] }
    }
}

/// So many calls, so many at a time.
pub(crate) async fn round<T>(service: T, concurrent: usize, calls: usize) -> Round
where
    T: tonic::client::GrpcService<Body, Future: Send> + Clone + Send + 'static,
    T::ResponseBody: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    <T::ResponseBody as http_body::Body>::Error:
        Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    // Before it is measured: everything is connected and in the cache.
    ask(service.clone(), calls.div_ceil(10)).await;
    let began = now();
    let each = calls / concurrent;
    let tasks = (0..concurrent).map(|_| tokio::spawn(ask(service.clone(), each)));
    let mut took = Vec::with_capacity(calls);
    for task in tasks.collect::<Vec<_>>() {
        took.extend(task.await.expect("no call fails"));
    }
    Round::of(took, now() - began)
}

/// One call after the other.
async fn ask<T>(service: T, calls: usize) -> Vec<Duration>
where
    T: tonic::client::GrpcService<Body>,
    T::ResponseBody: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    <T::ResponseBody as http_body::Body>::Error:
        Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    let mut client = tonic::client::Grpc::new(service);
    let path = PathAndQuery::from_static("/bench.Echo/Echo");
    let mut took = Vec::with_capacity(calls);
    for number in 0..calls as u64 {
        let began: Instant = now();
        client.ready().await.unwrap_or_else(|_| panic!("not ready"));
        let answer = client.unary(Request::new(number), path.clone(), Numbers).await;
        assert_eq!(answer.expect("answered").into_inner(), number);
        took.push(now() - began);
    }
    took
}

pub(crate) fn median<T: Copy + PartialOrd>(values: impl Iterator<Item = T>) -> T {
    let sorted = sorted(values);
    sorted[sorted.len() / 2]
}

pub(crate) fn sorted<T: Copy + PartialOrd>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut values: Vec<T> = values.collect();
    values.sort_unstable_by(|a, b| a.partial_cmp(b).expect("numbers"));
    values
}

/// That of the median, with 95 % confidence.
pub(crate) fn interval(ratios: &[f64]) -> (f64, f64) {
    #[expect(clippy::cast_precision_loss, reason = "a few dozen rounds")]
    let n = ratios.len() as f64;
    // The normal approximation of the binomial distribution.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small rank")]
    let rank = ((n - 1.96 * n.sqrt()) / 2.0).floor().max(0.0) as usize;
    (ratios[rank], ratios[ratios.len() - 1 - rank])
}

/// So many streams of so many numbers, so many streams at a time. The rate is that of the numbers.
pub(crate) async fn streams<T>(service: T, concurrent: usize, streams: usize, numbers: u64) -> Round
where
    T: tonic::client::GrpcService<Body, Future: Send> + Clone + Send + 'static,
    T::ResponseBody: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    <T::ResponseBody as http_body::Body>::Error:
        Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    count(service.clone(), 2, numbers).await;
    let began = now();
    let each = streams / concurrent;
    let tasks = (0..concurrent).map(|_| tokio::spawn(count(service.clone(), each, numbers)));
    let mut took = Vec::with_capacity(streams);
    for task in tasks.collect::<Vec<_>>() {
        took.extend(task.await.expect("no call fails"));
    }
    let mut round = Round::of(took, now() - began);
    #[expect(clippy::cast_precision_loss, reason = "a rate")]
    let numbers = numbers as f64;
    round.per_second *= numbers;
    round
}

/// One stream after the other.
async fn count<T>(service: T, streams: usize, numbers: u64) -> Vec<Duration>
where
    T: tonic::client::GrpcService<Body>,
    T::ResponseBody: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    <T::ResponseBody as http_body::Body>::Error:
        Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    let mut client = tonic::client::Grpc::new(service);
    let path = PathAndQuery::from_static("/bench.Echo/Count");
    let mut took = Vec::with_capacity(streams);
    for _ in 0..streams {
        let began: Instant = now();
        client.ready().await.unwrap_or_else(|_| panic!("not ready"));
        let call = client.server_streaming(Request::new(numbers), path.clone(), Numbers);
        let mut answers = call.await.expect("answered").into_inner();
        let mut counted = 0;
        while answers.message().await.expect("no stream fails").is_some() {
            counted += 1;
        }
        assert_eq!(counted, numbers);
        took.push(now() - began);
    }
    took
}
