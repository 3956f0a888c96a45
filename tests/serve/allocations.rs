//! What a call costs beyond what hyper and the layer do.

use std::convert::Infallible;

use axum::body::Body;
use deadbeat::propagation::RequestBody;
use deadbeat::propagation::http::{Http, ServerLayer};
use deadbeat::serve::Server;
use http::{Request, Response};

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use tower::{Layer, service_fn};

use crate::frames::{Peer, Seen};
use crate::server::start;

async fn hello<B>(_: Request<RequestBody<B, Http>>) -> Result<Response<Body>, Infallible> {
    Ok(Response::new(Body::empty()))
}

/// Allocations of a call, on either side, once it is warm.
fn per_call(runtime: &tokio::runtime::Runtime, peer: &mut Peer, headers: &[(&str, &str)]) -> u64 {
    let calls = 200;
    let mut ask = |number: u64| {
        runtime.block_on(async {
            for _ in 0..number {
                let stream = peer.call(headers, true).await;
                assert_eq!(peer.next_on(stream).await, Seen::Headers(true));
            }
        });
    };
    ask(calls);
    // What grows now and then doesn't count.
    (0..5)
        .map(|_| allocation_counter::measure(|| ask(calls)).count_total / calls)
        .min()
        .unwrap_or(0)
}

#[test]
fn a_stream_allocates_no_more_than_under_hypers_own_executor() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (mut ours, mut theirs, _server) = runtime.block_on(async {
        let server = start(Server::http(service_fn(hello)));
        let ours = Peer::connect(server.at(), 65_535).await;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let theirs = Peer::connect(listener.local_addr().unwrap(), 65_535).await;
        let (io, _) = listener.accept().await.unwrap();
        tokio::spawn(async move {
            let service = TowerToHyperService::new(ServerLayer::new().layer(service_fn(hello)));
            auto::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(io), service)
                .await
                .map_err(|error| error.to_string())
        });
        (ours, theirs, server)
    });
    for headers in [&[][..], &[("connect-timeout-ms", "9999")]] {
        let ours = per_call(&runtime, &mut ours, headers);
        let theirs = per_call(&runtime, &mut theirs, headers);
        assert!(ours <= theirs, "{ours} against {theirs}, with {headers:?}");
    }
}
