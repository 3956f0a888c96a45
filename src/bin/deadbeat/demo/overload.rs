//! More calls than `stock` can do: who is served, and when the others are told.

use super::fleet::Stock;
use super::proto::stock_client::StockClient;
use super::proto::{Order, Work};
use super::service::channel_to;
use super::story::{Budget, Hop, RUSH_CALLS, SLOTS};
use deadbeat::channel::Channel;
use deadbeat::propagation::grpc::{Grpc, RequestDeadline};
use deadbeat::time::{Instant, sleep_until};
use std::error::Error;
use std::time::Duration;
use tokio::task::JoinSet;
use tonic::{Code, Request, Status};

/// What became of all calls.
#[derive(Debug, Default)]
pub(super) struct Overload {
    /// How long each took that was served in time.
    pub(super) in_time: Times,
    /// How long it took for each that was turned away to be told.
    pub(super) rejected: Times,
    pub(super) too_late: usize,
    /// What the first one was told that was turned away.
    pub(super) text: Option<String>,
}

/// Ascending, once all are there.
#[derive(Debug, Default)]
pub(super) struct Times(Vec<Duration>);

impl Times {
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    /// Within what so many of a hundred are. Zero if there are none.
    pub(super) fn percentile(&self, percent: usize) -> Duration {
        self.0.get(self.0.len() * percent / 100).copied().unwrap_or_default()
    }

    /// Zero if there are none.
    pub(super) fn max(&self) -> Duration {
        self.0.last().copied().unwrap_or_default()
    }
}

impl Overload {
    pub(super) fn calls(&self) -> usize {
        self.in_time.len() + self.rejected.len() + self.too_late
    }

    fn keep(&mut self, took: Duration, answer: Result<(), Status>) -> Result<(), Status> {
        match answer {
            Ok(()) => self.in_time.0.push(took),
            Err(status) if status.code() == Code::DeadlineExceeded => self.too_late += 1,
            Err(status) if status.code() == Code::Unavailable => {
                self.rejected.0.push(took);
                self.text.get_or_insert_with(|| status.message().into());
            }
            Err(status) => return Err(status),
        }
        Ok(())
    }
}

/// Calls a `stock` of its own that has a limiter, at an even pace that doesn't depend on the answers.
///
/// # Errors
///
/// A process or port that the system refuses, a call that fails otherwise than by its deadline or by the limiter.
pub(super) async fn play(budget: Budget) -> Result<Overload, Box<dyn Error>> {
    let stock = Stock::start(budget, SLOTS.into()).await?;
    let channel = channel_to(stock.port, Hop::Stock, budget)?;
    let begin = Instant::now();
    let mut calls = JoinSet::new();
    let mut seen = Overload::default();
    for number in 0..RUSH_CALLS {
        let due = begin + budget.rush() * number / RUSH_CALLS;
        sleep_until(due).await;
        calls.spawn(call(channel.clone(), number, budget, due));
    }
    while let Some(called) = calls.join_next().await {
        let (took, answer) = called?;
        seen.keep(took, answer)?;
    }
    seen.in_time.0.sort_unstable();
    seen.rejected.0.sort_unstable();
    Ok(seen)
}

/// How long it took from when it was due.
async fn call(
    channel: Channel<Grpc>,
    number: u32,
    budget: Budget,
    due: Instant,
) -> (Duration, Result<(), Status>) {
    let item_us = u32::try_from(budget.rush_item().as_micros()).unwrap_or(u32::MAX);
    let order = Order { call: number, items: 1, item_us, work: Work::Handler.into() };
    let mut request = Request::new(order);
    request.set_deadline(budget.0);
    let answer = StockClient::new(channel).reserve(request).await;
    (due.elapsed(), answer.map(drop))
}
