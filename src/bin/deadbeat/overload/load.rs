//! The client: calls at a rate of its own.

use super::server::{METHOD, Serving};
use super::{Settings, System};
use deadbeat::channel;
use deadbeat::propagation::grpc;
use deadbeat::time::{Instant, sleep, sleep_until};
use hdrhistogram::Histogram;
use std::error::Error;
use std::ops::Range;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;
use tokio::task::JoinSet;
use tonic::body::Body;
use tonic::client::{Grpc, GrpcService};
use tonic::codegen::http::uri::PathAndQuery;
use tonic::codegen::{Bytes, StdError};
use tonic::transport::{self, Endpoint};
use tonic::{Code, Request, Status};
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
    /// How long those took that were turned away, before their time was up, in us.
    pub(super) refusals: Histogram<u64>,
    pub(super) rejected_expired: u64,
    /// Or overtaken, which comes to the same.
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
            doomed: stats.rejected_doomed_on_arrival
                + stats.rejected_doomed_at_dequeue
                + stats.rejected_overtaken,
        }
    }
}

/// More calls than there are ever at once.
const MANY: usize = 1 << 16;

/// The client's end.
#[derive(Clone)]
enum Channel {
    Tonic(transport::Channel),
    Ours(channel::Channel<grpc::Grpc>),
}

impl Channel {
    async fn to(serving: &Serving, system: System) -> Result<Self, Box<dyn Error>> {
        let target = format!("http://{}", serving.address);
        Ok(match system {
            System::Tonic | System::TonicLimit => {
                let endpoint = Endpoint::new(target)?.tcp_nodelay(true).buffer_size(MANY);
                Self::Tonic(endpoint.connect().await?)
            }
            System::Deadbeat | System::DeadbeatNewest => {
                let channel = channel::Channel::builder(target).max_in_flight(MANY);
                Self::Ours(channel.build()?)
            }
        })
    }

    async fn work(self, deadline: Duration) -> Result<(), Status> {
        match self {
            Self::Tonic(channel) => work(channel, deadline).await,
            Self::Ours(channel) => work(channel, deadline).await,
        }
    }
}

async fn work<S>(channel: S, deadline: Duration) -> Result<(), Status>
where
    S: GrpcService<Body>,
    S::ResponseBody: http_body::Body<Data = Bytes> + Send + 'static,
    <S::ResponseBody as http_body::Body>::Error: Into<StdError>,
{
    let mut grpc = Grpc::new(channel);
    grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
    let mut request = Request::new(());
    request.set_timeout(deadline);
    let path = PathAndQuery::from_static(METHOD);
    grpc.unary(request, path, ProstCodec::<(), ()>::default()).await.map(drop)
}

/// # Errors
///
/// The server can't be reached.
pub(super) async fn drive(
    serving: &Serving,
    system: System,
    settings: &Settings,
    offered: f64,
) -> Result<Outcome, Box<dyn Error>> {
    let channel = Channel::to(serving, system).await?;
    let mut rng = fastrand::Rng::with_seed(settings.seed);
    let start = Instant::now();
    let warm = start + settings.duration / 4;
    let end = warm + settings.duration;
    let mut next = start;
    let mut calls = JoinSet::new();
    let (mut latencies, mut refusals) = (Histogram::new(3)?, Histogram::new(3)?);
    let mut keep = |answer| match answer {
        Answer::Good(took) => record(&mut latencies, took),
        Answer::Refused(took) => record(&mut refusals, took),
        Answer::Nothing => {}
    };
    let mut before = None;
    while next < end {
        sleep_until(next).await;
        if next >= warm && before.is_none() {
            before = Some(Counts::of(serving));
        }
        calls.spawn(call(channel.clone(), settings.deadline, next, warm..end));
        next += Duration::from_secs_f64(-(1.0 - rng.f64()).ln() / offered);
        while let Some(done) = calls.try_join_next() {
            keep(done?);
        }
    }
    sleep_until(end).await;
    let (before, after) = (before.unwrap_or_default(), Counts::of(serving));
    while let Some(done) = calls.join_next().await {
        keep(done?);
    }
    // What is still worked on is over then.
    sleep(settings.service).await;
    let good = latencies.len();
    Ok(Outcome {
        took: settings.duration,
        good,
        wasted: (after.worked - before.worked).saturating_sub(good),
        latencies,
        refusals,
        rejected_expired: after.expired - before.expired,
        rejected_doomed: after.doomed - before.doomed,
    })
}

fn record(histogram: &mut Histogram<u64>, took: Duration) {
    let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
    histogram.record(us).expect("it grows by itself");
}

/// What a call came to, and how long it took since it was due.
#[derive(Clone, Copy, Debug)]
enum Answer {
    /// In time.
    Good(Duration),
    /// It was turned away, in time to try elsewhere.
    Refused(Duration),
    /// What is late, or isn't counted.
    Nothing,
}

/// Counted by when it is answered, whenever it was due: otherwise, what is answered after the end would be more than
/// what is missing at the beginning.
async fn call(
    channel: Channel,
    deadline: Duration,
    due: Instant,
    counted: Range<Instant>,
) -> Answer {
    let answer = channel.work(deadline).await;
    let now = Instant::now();
    let took = now.saturating_duration_since(due);
    if took > deadline || !counted.contains(&now) {
        return Answer::Nothing;
    }
    match answer {
        Ok(()) => Answer::Good(took),
        Err(status) if status.code() == Code::Unavailable => Answer::Refused(took),
        Err(_) => Answer::Nothing,
    }
}
