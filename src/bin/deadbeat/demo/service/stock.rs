//! `stock`: what turns slow.

use super::visit::Visit;
use super::work::Work;
use super::{Failure, Settings};
use crate::demo::proto::stock_server::{Stock, StockServer};
use crate::demo::proto::{self, Order, Receipt};
use crate::demo::story::Side;
use deadbeat::deadline::Cancelled;
use tokio::task::JoinError;
use tonic::service::Routes;
use tonic::{Request, Response, Status, async_trait};

pub(super) async fn serve(settings: &Settings) -> Result<(), Failure> {
    let stock = StockServer::new(Service { side: settings.side });
    settings.serve_grpc(Routes::new(stock)).await
}

#[derive(Debug)]
struct Service {
    side: Side,
}

#[async_trait]
impl Stock for Service {
    async fn reserve(&self, request: Request<Order>) -> Result<Response<Receipt>, Status> {
        let order = request.into_inner();
        let visit = Visit::begin(order.call);
        let work = Work::new(&order);
        let items = match (order.work(), self.side) {
            (proto::Work::Handler, _) => work.run().await,
            (proto::Work::Task, Side::Deadbeat) => joined(deadbeat::spawn(work.run()).await)?,
            (proto::Work::Task, Side::Tonic) => {
                tokio::spawn(work.run()).await.map_err(|error| failed(&error))?
            }
            (proto::Work::Thread, Side::Deadbeat) => {
                joined(deadbeat::spawn_blocking(|| work.run_blocking()).await)?
            }
            (proto::Work::Thread, Side::Tonic) => {
                let thread = tokio::task::spawn_blocking(|| work.run_blocking());
                thread.await.map_err(|error| failed(&error))?
            }
        };
        visit.done();
        Ok(Response::new(Receipt { items }))
    }
}

fn joined(result: Result<Result<u32, Cancelled>, JoinError>) -> Result<u32, Status> {
    let output = result.map_err(|error| failed(&error))?;
    output.map_err(|cancelled| Status::deadline_exceeded(cancelled.to_string()))
}

fn failed(error: &JoinError) -> Status {
    Status::internal(error.to_string())
}
