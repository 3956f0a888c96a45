//! Our channel and our server against tonic's, over loopback: calls and streams of gRPC.
//!
//! ```text
//! cargo bench --all-features --bench ends
//! cargo bench --all-features --bench ends -- stream
//! cargo bench --all-features --bench ends -- unary 'tonic to deadbeat'
//! ```
//!
//! Both sides are in this process, on one multi-threaded runtime, over one TCP connection, with a handler that
//! answers at once. A system is a client and a server: `tonic` is `transport::Channel` and `transport::Server`,
//! `deadbeat` is ours. With `deadline`, each call has a timeout that both sides keep: tonic's by its own means, ours by
//! the layers. Without, there is none anywhere.
//!
//! Rounds are interleaved: one of each system, in an order that changes from one to the next. `per s`, `p50` and `p99`
//! are medians over the rounds; `of tonic` is the rate against that of tonic on both sides in the same round: the
//! median, and the interval that holds it with 95 % confidence, by the ranks of the sign test.

#[path = "../tests/common/numbers.rs"]
mod numbers;
#[path = "support/rpc.rs"]
mod rpc;
mod support;

use std::net::SocketAddr;
use std::time::Duration;

use deadbeat::channel;
use deadbeat::propagation::grpc::{ClientLayer, Grpc, ServerLayer};
use deadbeat::serve::Server;
use rpc::{Echo, Round, interval, median, round, sorted, streams};
use support::is_test;
use tokio::task::AbortHandle;
use tonic::service::Routes;
use tonic::transport::{Endpoint, server::TcpIncoming};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Tonic,
    Deadbeat,
}

/// A client and a server.
const SYSTEMS: [(&str, Side, Side); 4] = [
    ("tonic to tonic", Side::Tonic, Side::Tonic),
    ("deadbeat to tonic", Side::Deadbeat, Side::Tonic),
    ("tonic to deadbeat", Side::Tonic, Side::Deadbeat),
    ("deadbeat to deadbeat", Side::Deadbeat, Side::Deadbeat),
];

#[derive(Clone, Copy, Debug)]
struct Load {
    deadline: Option<Duration>,
    concurrent: usize,
    /// Of calls, or of streams of so many numbers.
    count: usize,
    numbers: Option<u64>,
}

async fn serve(side: Side, deadline: Option<Duration>) -> (SocketAddr, AbortHandle) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let at = listener.local_addr().expect("bound");
    let serving = match side {
        Side::Tonic => {
            listener.set_nonblocking(true).expect("a socket");
            let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            let mut server = tonic::transport::Server::builder();
            if let Some(deadline) = deadline {
                server = server.timeout(deadline);
            }
            tokio::spawn(async move {
                let served = server.add_service(Echo).serve_with_incoming(incoming).await;
                served.expect("it serves");
            })
        }
        Side::Deadbeat => {
            let layer = ServerLayer::new().maximum(Duration::from_secs(60));
            let server = match deadline {
                Some(_) => Server::grpc(Routes::new(Echo)).deadlines(layer),
                None => Server::grpc(Routes::new(Echo)),
            };
            tokio::spawn(async move { server.listen(listener).run().await.expect("it serves") })
        }
    };
    (at, serving.abort_handle())
}

async fn measure<T>(service: T, load: Load) -> Round
where
    T: tonic::client::GrpcService<tonic::body::Body, Future: Send> + Clone + Send + 'static,
    T::ResponseBody: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    <T::ResponseBody as http_body::Body>::Error:
        Into<Box<dyn std::error::Error + Send + Sync>> + Send,
{
    match load.numbers {
        None => round(service, load.concurrent, load.count).await,
        Some(numbers) => streams(service, load.concurrent, load.count, numbers).await,
    }
}

async fn run(client: Side, server: Side, load: Load) -> Round {
    let (at, serving) = serve(server, load.deadline).await;
    let measured = match client {
        Side::Tonic => {
            let endpoint = Endpoint::from_shared(format!("http://{at}")).expect("a URL");
            let endpoint = match load.deadline {
                Some(deadline) => endpoint.timeout(deadline),
                None => endpoint,
            };
            measure(endpoint.connect().await.expect("it is served"), load).await
        }
        Side::Deadbeat => {
            let mut layer = ClientLayer::new();
            if let Some(deadline) = load.deadline {
                layer = layer.timeout(deadline);
            }
            let builder = channel::Channel::<Grpc>::builder(format!("http://{at}"));
            measure(builder.layer(layer).build().expect("a URL"), load).await
        }
    };
    serving.abort();
    measured
}

fn main() {
    let (rounds, calls) = if is_test() { (2, 1024) } else { (20, 20 * 1024) };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut rng = fastrand::Rng::with_seed(0x5eed);
    println!("{rounds} rounds, interleaved; times in µs");
    // Of the cases, those that have all of this in `ends/system/case`.
    let wanted: Vec<_> = std::env::args().skip(1).filter(|it| !it.starts_with('-')).collect();
    for (numbers, limited) in [(None, false), (None, true), (Some(1000), false), (Some(1000), true)]
    {
        for concurrent in [1, 64, 512] {
            let count = match (numbers, concurrent) {
                (None, 1) => calls / 4,
                (None, _) => calls,
                (Some(_), 1) => calls / 512,
                (Some(_), _) => (calls / 256).max(concurrent),
            };
            let what = numbers.map_or("unary".into(), |numbers| format!("stream of {numbers}"));
            let with = if limited { "a deadline" } else { "no deadline" };
            let title = format!("{what}, {with}, {concurrent} at a time");
            let is_wanted = |name: &str| {
                let id = format!("ends/{name}/{title}");
                wanted.iter().all(|it| id.contains(it.as_str()))
            };
            let systems: Vec<usize> =
                (0..SYSTEMS.len()).filter(|&at| is_wanted(SYSTEMS[at].0)).collect();
            if systems.is_empty() {
                continue;
            }
            let mut all: [Vec<Round>; SYSTEMS.len()] = Default::default();
            for _ in 0..rounds {
                let deadline = limited.then(|| Duration::from_millis(rng.u64(5000..20_000)));
                let load = Load { deadline, concurrent, count, numbers };
                let mut order = systems.clone();
                rng.shuffle(&mut order);
                for at in order {
                    let (_, client, server) = SYSTEMS[at];
                    all[at].push(runtime.block_on(run(client, server, load)));
                }
            }
            println!("\n{title}");
            println!("{:<22}{:>10}{:>11}{:>11}  of tonic", "system", "per s", "p50", "p99");
            for at in systems {
                show(SYSTEMS[at].0, &all[at], &all[0]);
            }
        }
    }
}

fn show(name: &str, rounds: &[Round], tonics: &[Round]) {
    #[expect(clippy::cast_precision_loss, reason = "a time")]
    let us = |of: fn(&Round) -> Duration| median(rounds.iter().map(of)).as_nanos() as f64 / 1000.0;
    let ratios =
        sorted(rounds.iter().zip(tonics).map(|(it, tonic)| it.per_second / tonic.per_second));
    print!(
        "{name:<22}{:>10.0}{:>11.1}{:>11.1}",
        median(rounds.iter().map(|round| round.per_second)),
        us(|round| round.p50),
        us(|round| round.p99),
    );
    if ratios.is_empty() {
        return println!();
    }
    let (low, high) = interval(&ratios);
    println!("  {:.3} ({low:.3} to {high:.3})", ratios[ratios.len() / 2]);
}
