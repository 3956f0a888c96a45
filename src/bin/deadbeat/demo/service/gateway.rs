//! `gateway`: HTTP in front, gRPC behind.

use super::visit::Visit;
use super::{Failure, Settings, relay};
use crate::demo::event::What;
use crate::demo::proto::orders_client::OrdersClient;
use crate::demo::proto::{self, Order, Receipt};
use crate::demo::story::{Budget, Hop, Side, Work};
use axum::Router;
use axum::extract::{Query, State};
use axum::routing::get;
use axum::serve::ListenerExt;
use deadbeat::channel::Channel;
use deadbeat::propagation::grpc::Grpc;
use deadbeat::propagation::http::ServerLayer;
use deadbeat::serve::Server;
use deadbeat::time::sleep;
use http::StatusCode;
use serde::Deserialize;
use std::net::Ipv4Addr;
use tokio::net::TcpListener;
use tonic::transport;
use tonic::{Code, Response, Status};

pub(super) async fn serve(settings: &Settings) -> Result<(), Failure> {
    let orders = match settings.side {
        Side::Deadbeat => Orders::Deadbeat(OrdersClient::new(settings.channel(Hop::Orders)?)),
        Side::Tonic => Orders::Tonic(OrdersClient::new(settings.tonic_channel().await?)),
    };
    let service = Service { budget: settings.budget, orders };
    let router = Router::new().route("/checkout", get(checkout)).with_state(service);
    if settings.side == Side::Deadbeat {
        let deadlines = ServerLayer::new().name(settings.hop.name());
        let server = Server::http(router).deadlines(deadlines).listen(settings.listen()?);
        return Ok(server.run().await?);
    }
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    What::Listening { port: listener.local_addr()?.port() }.tell();
    let listener = listener.tap_io(|stream| {
        // Without it, it is slower, and that is all.
        let _ = stream.set_nodelay(true);
    });
    Ok(axum::serve(listener, router).await?)
}

#[derive(Clone, Debug)]
struct Service {
    budget: Budget,
    orders: Orders,
}

#[derive(Clone, Debug)]
enum Orders {
    Deadbeat(OrdersClient<Channel<Grpc>>),
    Tonic(OrdersClient<transport::Channel>),
}

impl Orders {
    async fn place(self, order: Order) -> Result<Response<Receipt>, Status> {
        match self {
            Self::Deadbeat(mut orders) => orders.place(order).await,
            Self::Tonic(mut orders) => orders.place(order).await,
        }
    }
}

/// The query of a checkout.
#[derive(Debug, Deserialize)]
struct Basket {
    call: u32,
    items: u32,
    item_us: u32,
    work: Work,
}

async fn checkout(
    State(service): State<Service>,
    Query(basket): Query<Basket>,
) -> (StatusCode, String) {
    let Basket { call, items, item_us, work } = basket;
    let visit = Visit::begin(call);
    sleep(service.budget.of_gateway()).await;
    let order = Order { call, items, item_us, work: proto::Work::from(work).into() };
    let answer = match service.orders.place(order).await {
        Ok(receipt) => (StatusCode::OK, format!("{} items reserved", receipt.get_ref().items)),
        Err(status) => {
            visit.heard(Hop::Orders, &status);
            (http_status(status.code()), relay(Hop::Orders, &status).message().into())
        }
    };
    visit.done();
    answer
}

fn http_status(code: Code) -> StatusCode {
    match code {
        Code::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        Code::Cancelled | Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

impl From<Work> for proto::Work {
    fn from(work: Work) -> Self {
        match work {
            Work::Handler => Self::Handler,
            Work::Task => Self::Task,
            Work::Thread => Self::Thread,
        }
    }
}
