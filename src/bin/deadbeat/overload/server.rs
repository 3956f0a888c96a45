//! Workers, and what stands before them.

use super::{Settings, System};
use deadbeat::limit::{self, Limiter, Order};
use deadbeat::propagation::grpc::LimitLayer;
use deadbeat::serve::{self, Listener};
use deadbeat::time::sleep;
use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::thread;
use std::time::Duration;
use tokio::sync::{Semaphore, oneshot};
use tonic::body::Body;
use tonic::server::{NamedService, UnaryService};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};
use tonic_prost::ProstCodec;
use tower_layer::Layer;

pub(super) const METHOD: &str = "/overload.Worker/Work";

/// More than there are ever.
const MANY: u32 = 1 << 20;

/// A server on a thread of its own, until it is dropped.
#[derive(Debug)]
pub(super) struct Serving {
    pub(super) address: SocketAddr,
    /// How many calls were worked on to their end.
    pub(super) worked: Arc<AtomicU64>,
    pub(super) limiter: Option<Limiter>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Serving {
    pub(super) fn start(system: System, settings: &Settings) -> Result<Self, Box<dyn Error>> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = socket.local_addr()?;
        let order = match system {
            System::Tonic | System::TonicLimit => None,
            System::Deadbeat => Some(Order::OldestFirst),
            System::DeadbeatNewest => Some(Order::NewestFirst),
        };
        let limiter =
            order.map(|order| Limiter::new(limit::Settings::new(settings.slots).order(order)));
        let worked = Arc::new(AtomicU64::new(0));
        let worker = Worker {
            slots: Arc::new(Semaphore::new(settings.slots)),
            takes: settings.service,
            worked: worked.clone(),
        };
        let (end, ended) = oneshot::channel::<()>();
        let (limit, slots) = (limiter.clone(), settings.slots);
        let limit_of_tonic = (system == System::TonicLimit).then_some(slots);
        let thread = thread::Builder::new().name("server".into()).spawn(move || {
            runtime.block_on(async {
                let serving: Pin<Box<dyn Future<Output = Result<(), Failure>>>> = match limit {
                    None => Box::pin(tonic(socket, limit_of_tonic, worker)),
                    Some(limiter) => Box::pin(ours(socket, limiter, worker)),
                };
                tokio::select! {
                    served = serving => {
                        if let Err(error) = served {
                            eprintln!("the server has failed: {error}");
                        }
                    }
                    _ = ended => {}
                }
            });
        })?;
        Ok(Self { address, worked, limiter, end: Some(end), thread: Some(thread) })
    }
}

type Failure = Box<dyn Error + Send + Sync>;

/// The peer of either is our own, and may cancel as much as it likes.
async fn tonic(socket: TcpListener, limit: Option<usize>, worker: Worker) -> Result<(), Failure> {
    socket.set_nonblocking(true)?;
    let incoming = TcpIncoming::from(tokio::net::TcpListener::from_std(socket)?);
    let mut server = Server::builder()
        .max_concurrent_streams(MANY)
        .http2_max_pending_accept_reset_streams(Some(MANY as usize));
    if let Some(slots) = limit {
        // There is one connection.
        server = server.concurrency_limit_per_connection(slots);
    }
    let incoming = incoming.with_nodelay(Some(true));
    Ok(server.add_service(worker).serve_with_incoming(incoming).await?)
}

async fn ours(socket: TcpListener, limiter: Limiter, worker: Worker) -> Result<(), Failure> {
    let server = serve::Server::grpc(LimitLayer::new(limiter).layer(worker))
        .max_concurrent_streams(MANY)
        .max_pending_resets(MANY as usize)
        .listen(Listener::from(socket).trusted(true));
    Ok(server.run().await?)
}

impl Drop for Serving {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// So many slots, had in the order of arrival. What is begun is worked on to its end, though its caller be gone.
#[derive(Clone)]
struct Worker {
    slots: Arc<Semaphore>,
    takes: Duration,
    worked: Arc<AtomicU64>,
}

impl NamedService for Worker {
    const NAME: &str = "overload.Worker";
}

impl UnaryService<()> for Worker {
    type Response = ();
    type Future = Pin<Box<dyn Future<Output = Result<Response<()>, Status>> + Send>>;

    fn call(&mut self, _: Request<()>) -> Self::Future {
        let Self { slots, takes, worked } = self.clone();
        Box::pin(async move {
            let slot = slots.acquire_owned().await.expect("it is never closed");
            let work = tokio::spawn(async move {
                sleep(takes).await;
                // Ordering: Relaxed: a number that is shown.
                worked.fetch_add(1, Relaxed);
                drop(slot);
            });
            work.await.map_err(|error| Status::internal(error.to_string()))?;
            Ok(Response::new(()))
        })
    }
}

impl<B> tower_service::Service<http::Request<B>> for Worker
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>> + Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let worker = self.clone();
        Box::pin(async move {
            let mut grpc = tonic::server::Grpc::new(ProstCodec::<(), ()>::default());
            Ok(grpc.unary(worker, request).await)
        })
    }
}
