//! `orders`: between the two others, with little to do.

use super::visit::Visit;
use super::{Failure, Settings, relay};
use crate::demo::proto::orders_server::{Orders, OrdersServer};
use crate::demo::proto::stock_client::StockClient;
use crate::demo::proto::{Order, Receipt};
use crate::demo::story::{Budget, Hop, Side};
use deadbeat::channel::Channel;
use deadbeat::propagation::grpc::Grpc;
use deadbeat::time::sleep;
use tonic::service::Routes;
use tonic::transport;
use tonic::{Request, Response, Status, async_trait};

pub(super) async fn serve(settings: &Settings) -> Result<(), Failure> {
    let stock = match settings.side {
        Side::Deadbeat => Stock::Deadbeat(StockClient::new(settings.channel(Hop::Stock)?)),
        Side::Tonic => Stock::Tonic(StockClient::new(settings.tonic_channel().await?)),
    };
    let orders = OrdersServer::new(Service { budget: settings.budget, stock });
    settings.serve_grpc(Routes::new(orders)).await
}

#[derive(Debug)]
struct Service {
    budget: Budget,
    stock: Stock,
}

#[derive(Clone, Debug)]
enum Stock {
    Deadbeat(StockClient<Channel<Grpc>>),
    Tonic(StockClient<transport::Channel>),
}

impl Stock {
    async fn reserve(self, order: Order) -> Result<Response<Receipt>, Status> {
        match self {
            Self::Deadbeat(mut stock) => stock.reserve(order).await,
            Self::Tonic(mut stock) => stock.reserve(order).await,
        }
    }
}

#[async_trait]
impl Orders for Service {
    async fn place(&self, request: Request<Order>) -> Result<Response<Receipt>, Status> {
        let order = request.into_inner();
        let visit = Visit::begin(order.call);
        sleep(self.budget.of_orders()).await;
        let answer = self.stock.clone().reserve(order).await;
        let answer = answer.map_err(|status| {
            visit.heard(Hop::Stock, &status);
            relay(Hop::Stock, &status)
        });
        visit.done();
        answer
    }
}
