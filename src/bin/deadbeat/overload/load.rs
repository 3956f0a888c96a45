//! The client: calls at a rate of its own.

use super::Settings;
use super::server::{METHOD, Serving};
use deadbeat::time::{Instant, sleep, sleep_until};
use hdrhistogram::Histogram;
use std::error::Error;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::task::JoinSet;
use tonic::Request;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Channel, Endpoint};
use tonic_prost::ProstCodec;

/// What became of the calls of a cell, once it was warm.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) took: Duration,
    /// Calls that were answered in time.
    pub(super) good: u64,
    /// Calls that were worked on to the end, and not in time.
    pub(super) wasted: u64,
    /// How long the good ones took, in us.
    pub(super) latencies: Histogram<u64>,
    pub(super) rejected_expired: u64,
    pub(super) rejected_doomed: u64,
}

/// What the server has counted.
#[derive(Clone, Copy, Default)]
struct Counts {
    worked: u64,
    expired: u64,
    doomed: u64,
}

impl Counts {
    fn of(serving: &Serving) -> Self {
        let stats = serving.limiter.as_ref().map(|it| it.stats()).unwrap_or_default();
        Self {
            // Ordering: Relaxed: a number that is shown.
            worked: serving.worked.load(Relaxed),
            expired: stats.rejected_expired,
            doomed: stats.rejected_doomed_on_arrival + stats.rejected_doomed_at_dequeue,
        }
    }
}

/// # Errors
///
/// The server can't be reached.
pub(super) async fn drive(
    serving: &Serving,
    settings: &Settings,
    offered: f64,
) -> Result<Outcome, Box<dyn Error>> {
    let endpoint = Endpoint::new(format!("http://{}", serving.address))?
        .tcp_nodelay(true)
        .buffer_size(1 << 16);
    let channel = endpoint.connect().await?;
    let mut rng = fastrand::Rng::with_seed(settings.seed);
    let start = Instant::now();
    let warm = start + settings.duration / 4;
    let end = warm + settings.duration;
    let mut next = start;
    let mut calls = JoinSet::new();
    let mut latencies = Histogram::new(3)?;
    let mut before = None;
    while next < end {
        sleep_until(next).await;
        if next >= warm && before.is_none() {
            before = Some(Counts::of(serving));
        }
        calls.spawn(call(channel.clone(), settings.deadline, next, next >= warm));
        next += Duration::from_secs_f64(-(1.0 - rng.f64()).ln() / offered);
        while let Some(done) = calls.try_join_next() {
            keep(&mut latencies, done?);
        }
    }
    sleep_until(end).await;
    let (before, after) = (before.unwrap_or_default(), Counts::of(serving));
    while let Some(done) = calls.join_next().await {
        keep(&mut latencies, done?);
    }
    // What is still worked on is over then.
    sleep(settings.service).await;
    let good = latencies.len();
    Ok(Outcome {
        took: settings.duration,
        good,
        wasted: (after.worked - before.worked).saturating_sub(good),
        latencies,
        rejected_expired: after.expired - before.expired,
        rejected_doomed: after.doomed - before.doomed,
    })
}

fn keep(latencies: &mut Histogram<u64>, took: Option<Duration>) {
    if let Some(took) = took {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        latencies.record(us).expect("it grows by itself");
    }
}

/// How long it took since it was due, if it counts and was answered in time.
async fn call(
    channel: Channel,
    deadline: Duration,
    due: Instant,
    counts: bool,
) -> Option<Duration> {
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.ok()?;
    let mut request = Request::new(());
    request.set_timeout(deadline);
    let path = PathAndQuery::from_static(METHOD);
    let answer = grpc.unary(request, path, ProstCodec::<(), ()>::default()).await;
    let took = due.elapsed();
    (answer.is_ok() && took <= deadline && counts).then_some(took)
}
