//! Who calls, and how long they wait.

use super::moment;
use super::story::{Budget, Hop, Side};
use super::waiting::{Waiting, chain, own};
use bytes::Bytes;
use deadbeat::propagation::RequestBody;
use deadbeat::propagation::client::Client;
use deadbeat::propagation::http::{ClientLayer, Http, RequestDeadline, blame};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper_util::client::legacy::{self, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use std::error::Error;
use tower_layer::Layer;
use tower_service::Service;

type Plain = Empty<Bytes>;
type Hyper<B> = legacy::Client<HttpConnector, B>;

/// A client of HTTP, with what its side has.
#[derive(Debug)]
pub(super) enum Caller {
    Deadbeat(Client<Hyper<RequestBody<Plain, Http>>, Http>, Budget),
    Tonic(Hyper<Plain>, Budget),
}

/// What a caller saw.
#[derive(Debug)]
pub(super) struct Sight {
    pub(super) began_ns: u64,
    /// From then on nobody waits any more.
    pub(super) ended_ns: u64,
    /// Of the answer, if there was one.
    pub(super) status: Option<StatusCode>,
    /// Whether it was told that the deadline has passed, and which.
    pub(super) is_deadline_exceeded: bool,
    /// Who waited for whom, from the caller on, if that was told.
    pub(super) blame: Vec<Waiting>,
    /// The same in words; or the answer.
    pub(super) text: String,
}

impl Caller {
    pub(super) fn new(side: Side, budget: Budget) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        match side {
            Side::Deadbeat => {
                let hyper = legacy::Client::builder(TokioExecutor::new()).build(connector);
                let layer = ClientLayer::new().peer(Hop::Gateway.name());
                Self::Deadbeat(layer.allowance(budget.allowance()).layer(hyper), budget)
            }
            Side::Tonic => {
                let hyper = legacy::Client::builder(TokioExecutor::new()).build(connector);
                Self::Tonic(hyper, budget)
            }
        }
    }

    pub(super) async fn call(&mut self, url: &str) -> Result<Sight, Box<dyn Error>> {
        let mut request = Request::get(url).body(Plain::new())?;
        let began_ns = moment::now_ns();
        let (status, is_deadline_exceeded, blame, text) = match self {
            Self::Deadbeat(client, budget) => {
                request.set_deadline(budget.0);
                let answer = async {
                    let answer = client.call(request).await?;
                    let blame = blame(&answer).cloned();
                    Ok::<_, deadbeat::propagation::http::Error>((blame, read(answer).await?))
                };
                match answer.await {
                    Ok((blame, (status, text))) => {
                        let is_exceeded = status == StatusCode::GATEWAY_TIMEOUT;
                        match blame {
                            Some(blame) => {
                                let text = blame.to_string();
                                (Some(status), is_exceeded, chain(*budget, &blame), text)
                            }
                            None => (Some(status), is_exceeded, vec![], text),
                        }
                    }
                    Err(error) => match error.expired() {
                        Some(expired) => (None, true, own(*budget, expired), error.to_string()),
                        None => return Err(error.into()),
                    },
                }
            }
            Self::Tonic(client, budget) => {
                let answer = async { Ok(read(client.request(request).await?).await?) };
                match tokio::time::timeout(budget.0, answer).await {
                    Ok(Ok((status, text))) => (Some(status), false, vec![], text),
                    Ok(Err(error)) => return Err(error),
                    Err(elapsed) => (None, false, vec![], elapsed.to_string()),
                }
            }
        };
        let ended_ns = moment::now_ns();
        Ok(Sight { began_ns, ended_ns, status, is_deadline_exceeded, blame, text })
    }
}

async fn read<B>(answer: Response<B>) -> Result<(StatusCode, String), B::Error>
where
    B: http_body::Body<Data = Bytes>,
{
    let status = answer.status();
    let body = answer.into_body().collect().await?.to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}
