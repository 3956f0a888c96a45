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
use deadbeat::channel::{self, Channel};
use deadbeat::deadline::Expired;
use deadbeat::limit::Limiter;
use deadbeat::propagation::grpc::{ClientLayer, Grpc, LimitLayer, ServerLayer};
use deadbeat::serve::{self, Listener};
use std::error::Error;
use std::io;
use std::net::Ipv4Addr;
use std::thread;
use tonic::Status;
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{self, Endpoint};
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
    /// How many calls it works on at once, if that is limited: with deadlines that travel only.
    pub(crate) slots: Option<usize>,
}

type Failure = Box<dyn Error>;

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
    /// The channel to the next service, by which a call has what is left of its deadline. It connects when it is
    /// first called.
    fn channel(&self, peer: Hop) -> Result<Channel<Grpc>, Failure> {
        Ok(channel_to(self.next, peer, self.budget)?)
    }

    /// Tonic's, with its timeout. It is connected before the first call, so that none takes time for that.
    async fn tonic_channel(&self) -> Result<transport::Channel, Failure> {
        let endpoint = Endpoint::from_shared(format!("http://127.0.0.1:{}", self.next))?;
        Ok(endpoint.timeout(self.budget.0).connect().await?)
    }

    /// Serves gRPC.
    async fn serve_grpc(&self, routes: Routes) -> Result<(), Failure> {
        if self.side == Side::Tonic {
            let incoming = TcpIncoming::bind((Ipv4Addr::LOCALHOST, 0).into())?;
            What::Listening { port: incoming.local_addr()?.port() }.tell();
            let mut server = transport::Server::builder().timeout(self.budget.0);
            let incoming = incoming.with_nodelay(Some(true));
            return Ok(server.add_routes(routes).serve_with_incoming(incoming).await?);
        }
        let (listener, deadlines) = (self.listen()?, ServerLayer::new().name(self.hop.name()));
        if let Some(slots) = self.slots {
            let routes = LimitLayer::new(Limiter::new(slots)).layer(routes);
            return Ok(serve::Server::grpc(routes)
                .deadlines(deadlines)
                .listen(listener)
                .run()
                .await?);
        }
        Ok(serve::Server::grpc(routes).deadlines(deadlines).listen(listener).run().await?)
    }

    /// A listener that is for our own services alone: whoever calls is told where the time went.
    fn listen(&self) -> Result<Listener, Failure> {
        let socket = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        What::Listening { port: socket.local_addr()?.port() }.tell();
        Ok(Listener::from(socket).trusted(true))
    }
}

/// One to `peer`, by which a call has what is left of its deadline.
pub(super) fn channel_to(
    port: u16,
    peer: Hop,
    budget: Budget,
) -> Result<Channel<Grpc>, channel::Error> {
    let layer = ClientLayer::new().peer(peer.name()).allowance(budget.allowance());
    Channel::builder(format!("http://127.0.0.1:{port}")).layer(layer).build()
}

/// What a hop says of the next one's failure: its own words, or the other's, with whose they are.
fn relay(hop: Hop, status: &Status) -> Status {
    if status.source().is_some_and(|source| source.is::<Expired>()) {
        return status.clone();
    }
    Status::new(status.code(), format!("{hop}: {}", status.message()))
}
