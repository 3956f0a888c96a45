//! A service, in a process of its own: what the hidden command runs.
//!
//! Both sides have the same handlers, and do the same work. What differs is in `match side`: which layers or
//! timeouts there are, and by what a task is spawned.

mod gateway;
mod orders;
mod stock;
mod visit;
mod work;

use super::event::What;
use super::story::{Budget, Hop, Side};
use deadbeat::deadline::Expired;
use deadbeat::propagation::{client::Client, grpc};
use std::error::Error;
use std::io;
use std::net::Ipv4Addr;
use std::thread;
use tonic::Status;
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};
use tower_layer::Layer;

/// What the hidden command is called.
pub(crate) const SERVICE: &str = "demo-service";

/// Which service to be.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) hop: Hop,
    pub(crate) side: Side,
    pub(crate) budget: Budget,
    /// The port of the next one.
    pub(crate) next: u16,
}

type Failure = Box<dyn Error>;

/// A channel as it is, or with what is left of the deadline for each call.
type Limited = Client<Channel, grpc::Grpc>;

/// Serves until standard input ends, as it does when the parent does.
///
/// # Errors
///
/// A port that can't be had, or a next service that isn't there.
pub(crate) fn run(settings: &Settings) -> Result<(), Failure> {
    thread::spawn(|| {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        std::process::exit(0);
    });
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        match settings.hop {
            Hop::Client => Err("who calls is no service".into()),
            Hop::Gateway => gateway::serve(settings).await,
            Hop::Orders => orders::serve(settings).await,
            Hop::Stock => stock::serve(settings).await,
        }
    })
}

impl Settings {
    /// The channel to the next service, with tonic's timeout if that is the side. It is connected before the
    /// first call, so that none takes time for that.
    async fn channel(&self) -> Result<Channel, Failure> {
        let mut endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{}", self.next))?;
        if self.side == Side::Tonic {
            endpoint = endpoint.timeout(self.budget.0);
        }
        Ok(endpoint.connect().await?)
    }

    /// The same with what travels.
    fn limited(&self, channel: Channel, peer: Hop) -> Limited {
        let layer = grpc::ClientLayer::new().peer(peer.name()).allowance(self.budget.allowance());
        layer.layer(channel)
    }

    /// Serves gRPC.
    async fn serve_grpc(&self, routes: Routes) -> Result<(), Failure> {
        let incoming = TcpIncoming::bind((Ipv4Addr::LOCALHOST, 0).into())?;
        What::Listening { port: incoming.local_addr()?.port() }.tell();
        let incoming = incoming.with_nodelay(Some(true));
        match self.side {
            Side::Deadbeat => {
                let mut server = Server::builder().layer(grpc::ServerLayer::new());
                server.add_routes(routes).serve_with_incoming(incoming).await?;
            }
            Side::Tonic => {
                let mut server = Server::builder().timeout(self.budget.0);
                server.add_routes(routes).serve_with_incoming(incoming).await?;
            }
        }
        Ok(())
    }
}

/// What a hop says of the next one's failure: its own words, or the other's, with whose they are.
fn relay(hop: Hop, status: &Status) -> Status {
    if status.source().is_some_and(|source| source.is::<Expired>()) {
        return status.clone();
    }
    Status::new(status.code(), format!("{hop}: {}", status.message()))
}
