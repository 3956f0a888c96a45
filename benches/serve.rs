//! A unary call of gRPC over loopback: tonic's own server, and ours.
//!
//! ```text
//! cargo bench --features grpc,serve --bench serve
//! ```
//!
//! The client is tonic's `Channel`, over one TCP connection, on the same multi-threaded runtime. One iteration is
//! one call, or a batch of 64 at a time. Ids are `serve/system/case`:
//!
//! - `tonic`: `tonic::transport::Server` as it is; `tonic+layer`: with `ServerLayer`.
//! - `deadbeat`: `deadbeat::serve::Server`, of which that layer is a part.
//! - `1`, `64`: so many calls at a time, without a deadline; `1_deadline`, `64_deadline`: each with a
//!   `grpc-timeout` of ten seconds.

#[path = "../tests/common/numbers.rs"]
mod numbers;

use std::convert::Infallible;
use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::task::{Context, Poll};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use deadbeat::propagation::grpc::ServerLayer;
use deadbeat::serve::Server;
use http::uri::PathAndQuery;
use numbers::Numbers;
use tokio::runtime::Runtime;
use tonic::body::Body;
use tonic::metadata::MetadataValue;
use tonic::server::{NamedService, UnaryService};
use tonic::service::Routes;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Response, Status};
use tower::Service;

/// Answers what it is asked.
#[derive(Clone)]
struct Echo;

impl UnaryService<u64> for Echo {
    type Response = u64;
    type Future = Ready<Result<Response<u64>, Status>>;

    fn call(&mut self, request: Request<u64>) -> Self::Future {
        ready(Ok(Response::new(request.into_inner())))
    }
}

impl NamedService for Echo {
    const NAME: &str = "bench.Echo";
}

impl<B> Service<http::Request<B>> for Echo
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        Box::pin(async { Ok(tonic::server::Grpc::new(Numbers).unary(Self, request).await) })
    }
}

#[derive(Clone, Copy)]
enum System {
    Tonic,
    TonicAndLayer,
    Deadbeat,
}

impl System {
    const ALL: [Self; 3] = [Self::Tonic, Self::TonicAndLayer, Self::Deadbeat];

    fn name(self) -> &'static str {
        match self {
            Self::Tonic => "tonic",
            Self::TonicAndLayer => "tonic+layer",
            Self::Deadbeat => "deadbeat",
        }
    }

    /// Serves, and connects to that.
    async fn start(self) -> Channel {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("it is bound");
        let routes = Routes::new(Echo);
        if let Self::Deadbeat = self {
            tokio::spawn(Server::grpc(routes).listen(listener).run());
        } else {
            listener.set_nonblocking(true).expect("a socket");
            let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            let server = tonic::transport::Server::builder();
            tokio::spawn(async move {
                if let Self::TonicAndLayer = self {
                    let mut server = server.layer(ServerLayer::new());
                    server.add_routes(routes).serve_with_incoming(incoming).await
                } else {
                    let mut server = server;
                    server.add_routes(routes).serve_with_incoming(incoming).await
                }
            });
        }
        let endpoint = Endpoint::from_shared(format!("http://{at}")).expect("a URL");
        endpoint.connect().await.expect("it is served")
    }
}

async fn call(channel: Channel, number: u64, timeout: Option<&'static str>) {
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.expect("it is connected");
    let mut request = Request::new(number);
    if let Some(timeout) = timeout {
        request.metadata_mut().insert("grpc-timeout", MetadataValue::from_static(timeout));
    }
    let path = PathAndQuery::from_static("/bench.Echo/Echo");
    let answer = client.unary(request, path, Numbers).await.expect("it is answered");
    assert_eq!(answer.into_inner(), number);
}

fn calls(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    for system in System::ALL {
        let mut group = c.benchmark_group(format!("serve/{}", system.name()));
        let channel = runtime.block_on(system.start());
        for concurrent in [1, 64] {
            for (suffix, timeout) in [("", None), ("_deadline", Some("10S"))] {
                group.throughput(Throughput::Elements(concurrent));
                group.bench_function(format!("{concurrent}{suffix}"), |b| {
                    b.iter(|| {
                        runtime.block_on(async {
                            let tasks: Vec<_> = (0..concurrent)
                                .map(|n| tokio::spawn(call(channel.clone(), n, timeout)))
                                .collect();
                            for task in tasks {
                                task.await.expect("no call fails");
                            }
                        });
                    });
                });
            }
        }
        group.finish();
    }
}

criterion_group!(benches, calls);
criterion_main!(benches);
