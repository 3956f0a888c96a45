//! Where the time went, as it comes back from further down.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use deadbeat::channel::Channel;
use deadbeat::deadline::scope;
use deadbeat::propagation::grpc::{ClientLayer, Grpc, ServerLayer};
use tonic::transport::Server;
use tonic::{Code, Request};
use tower::{BoxError, Service};

use super::rpc::*;
use super::{MS, SECOND, ours};

/// A service that asks the next one.
#[derive(Clone)]
struct Relay(Channel<Grpc>);

impl tonic::server::NamedService for Relay {
    const NAME: &str = "test.Test";
}

impl tonic::server::UnaryService<u64> for Relay {
    type Response = u64;
    type Future = Answer<u64>;

    fn call(&mut self, request: Request<u64>) -> Answer<u64> {
        let next = self.0.clone();
        Box::pin(async move {
            Ok(tonic::Response::new(unary(next, "/test.Test/Nap", request.into_inner()).await?))
        })
    }
}

impl<B> Service<http::Request<B>> for Relay
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<BoxError> + Send,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let relay = self.clone();
        Box::pin(async move { Ok(tonic::server::Grpc::new(Numbers).unary(relay, request).await) })
    }
}

#[tokio::test]
async fn blame_travels_back_by_itself() {
    let trusted = |name: &'static str| ServerLayer::new().trusted(true).name(name);
    let (test, _told) = Test::new();
    let stock = served!(Server::builder().layer(trusted("stock")), test);
    let to_stock = ours(stock, ClientLayer::new().peer("stock"));
    let orders = served!(Server::builder().layer(trusted("orders")), Relay(to_stock.clone()));
    let to_orders = ours(orders, ClientLayer::new().peer("orders"));
    // Once there and back, so that both round trips are known.
    while to_stock.round_trip().is_none() || to_orders.round_trip().is_none() {
        assert_eq!(scope(20 * SECOND, nap(to_orders.clone(), 1)).await.unwrap().unwrap(), 1);
    }
    // Nobody here has set an allowance. On a machine that stalls for longer than it is, the answer may be late.
    for attempt in 1.. {
        let call = unary(to_orders.clone(), "/test.Test/Nap", 60_000);
        let status = match scope(200 * MS, call).await {
            Ok(answer) => answer.unwrap_err(),
            Err(expired) => expired.into(),
        };
        assert_eq!(status.code(), Code::DeadlineExceeded);
        let told = deadbeat::propagation::grpc::blame(&status).map(ToString::to_string);
        println!("{status:?}\n{told:?}");
        if told.is_some_and(|told| {
            told.contains("orders: no answer from stock for") && told.contains("stock: wait took")
        }) {
            return;
        }
        assert!(attempt < 60, "nothing was told: {status:?}");
    }
}
