//! Many calls that expire at once, on a server that stands still. It is a process of its own, which is stopped.

use std::net::SocketAddr;

use bytes::Bytes;
use deadbeat::propagation::grpc::ClientLayer;
use deadbeat::time::sleep;
use http::Response;
use hyper_util::rt::TokioExecutor;
use tonic::transport::Server;
use tonic::{Code, Status};
use tower::{BoxError, Service};

use super::rpc::*;
use super::{MS, SECOND, ours, within};

/// A process of this program that serves with tonic. It ends when this is dropped.
struct Process {
    child: std::process::Child,
    address: SocketAddr,
}

const SERVES: &str = "DEADBEAT_TEST_SERVES";

impl Process {
    fn start() -> Self {
        use std::io::{BufRead, BufReader};
        let name = "channel::bursts::serves_in_a_process_of_its_own";
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(SERVES, "1")
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines.map_while(Result::ok).find_map(|line| {
            line.split_once("serves at ").map(|(_, address)| address.parse().unwrap())
        });
        Self { child, address: address.expect("it serves") }
    }

    fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(std::process::Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[tokio::test]
async fn serves_in_a_process_of_its_own() {
    if std::env::var_os(SERVES).is_some() {
        let (test, _told) = Test::new();
        println!("\nserves at {}", served!(Server::builder(), test));
        sleep(120 * SECOND).await;
    }
}

/// Has a server of tonic's stand still, and so many calls expire, while one goes on. How that one ended.
async fn many_expire<S, R>(count: usize, open: impl FnOnce(SocketAddr) -> S) -> Result<u64, Status>
where
    S: Service<http::Request<tonic::body::Body>, Response = Response<R>>,
    S: Clone + Send + 'static,
    S::Error: Into<BoxError> + Send + 'static,
    S::Future: Send,
    R: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let server = Process::start();
    let service = open(server.address);
    nap(service.clone(), 0).await.unwrap();
    let healthy = tokio::spawn(unary(service.clone(), "/test.Test/Nap", 2000));
    sleep(100 * MS).await;
    server.signal("STOP");
    let layer = ClientLayer::new().timeout(100 * MS);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..count {
        calls.spawn(unary(tower::Layer::layer(&layer, service.clone()), "/test.Test/Nap", 60_000));
    }
    while let Some(call) = within(calls.join_next()).await {
        let status = call.unwrap().unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    }
    server.signal("CONT");
    within(healthy).await.unwrap()
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_expiries_on_a_server_that_stands_still_lose_no_connection() {
    let mut channel = None;
    let healthy = many_expire(10_000, |address| {
        channel.insert(ours(address, ClientLayer::new().peer("nap"))).clone()
    });
    assert_eq!(healthy.await.unwrap(), 2000);
    let stats = channel.unwrap().stats();
    assert_eq!(stats.connections(), 1);
    println!("{stats:?}");
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_tonics_channel_they_do() {
    lose_it(|| many_expire(10_000, |address| endpoint(address).connect_lazy())).await;
}

/// On a machine that is quick enough, or with an h2 that bears more, it may go well: that is said, and is no failure.
async fn lose_it<F: Future<Output = Result<u64, Status>>>(run: impl Fn() -> F) {
    for _ in 0..3 {
        if let Err(status) = run().await {
            println!("{status:?}");
            return;
        }
    }
    println!("not shown: the connection was not lost in three runs");
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_hypers_client_they_do() {
    lose_it(|| {
        many_expire(10_000, |address| {
            let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
                .http2_only(true)
                .build_http::<tonic::body::Body>();
            tower::util::MapRequest::new(client, move |mut request: http::Request<_>| {
                *request.uri_mut() = format!("http://{address}{}", request.uri()).parse().unwrap();
                request
            })
        })
    })
    .await;
}
