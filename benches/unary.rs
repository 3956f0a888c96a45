//! A unary call of gRPC over loopback, bare, with tonic's timeouts, and with our deadlines.
//!
//! ```text
//! cargo bench --features grpc --bench unary
//! ```
//!
//! Client and server are tonic's `Channel` and `Server` in this process, on one multi-threaded runtime, over
//! one TCP connection, with a handler that answers at once.
//!
//! - `bare`, the floor: no deadline anywhere.
//! - `header`: a `grpc-timeout` that is another each time: what it costs HTTP/2 to carry it, and tonic, whose
//!   channel and server read it. `same`: one that is the same each time.
//! - `tonic`: `Endpoint::timeout` and `Server::timeout`.
//! - `deadbeat`: `ClientLayer` with a timeout, and `ServerLayer`: the header is written and read as well.
//!
//! Timeouts are between one and ten seconds, another each round. Rounds are interleaved: one of each system,
//! in an order that changes from one to the next. `calls/s`, `p50` and `p99` are medians over the rounds. `of
//! bare` is the throughput against that of `bare` in the same round: the median, and the interval that holds
//! it with 95 % confidence, by the ranks of the sign test.

#[path = "../tests/common/numbers.rs"]
mod numbers;
#[expect(dead_code, reason = "streams are for another bench")]
#[path = "support/rpc.rs"]
mod rpc;
mod support;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use deadbeat::propagation::grpc::{ClientLayer, ServerLayer};
use http::HeaderName;
use rpc::{Echo, Round, interval, median, round, sorted};
use support::is_test;
use tokio::task::AbortHandle;
use tonic::{
    body::Body,
    transport::{Channel, Endpoint, Server, server::TcpIncoming},
};
use tower::{Layer, util::MapRequest};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum System {
    Bare,
    Header,
    Same,
    Tonic,
    Deadbeat,
}

impl System {
    const ALL: [Self; 5] = [Self::Bare, Self::Header, Self::Same, Self::Tonic, Self::Deadbeat];

    fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::Header => "header",
            Self::Same => "same",
            Self::Tonic => "tonic",
            Self::Deadbeat => "deadbeat",
        }
    }

    /// Serves, and connects to that.
    async fn start(self, timeout: Duration) -> (Channel, AbortHandle) {
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().expect("an address"));
        let incoming = incoming.expect("a port").with_nodelay(Some(true));
        let at = incoming.local_addr().expect("bound");
        let mut server = Server::builder();
        if self == Self::Tonic {
            server = server.timeout(timeout);
        }
        let serving = tokio::spawn(async move {
            if self == Self::Deadbeat {
                let layer = ServerLayer::new().maximum(Duration::from_secs(60));
                server.layer(layer).add_service(Echo).serve_with_incoming(incoming).await
            } else {
                server.add_service(Echo).serve_with_incoming(incoming).await
            }
        });
        let endpoint = Endpoint::from_shared(format!("http://{at}")).expect("a URL");
        let endpoint = if self == Self::Tonic { endpoint.timeout(timeout) } else { endpoint };
        (endpoint.connect().await.expect("it is served"), serving.abort_handle())
    }

    /// So many calls, so many at a time. How long each took.
    async fn round(self, concurrent: usize, calls: usize, timeout: Duration) -> Round {
        let (channel, serving) = self.start(timeout).await;
        let round = match self {
            Self::Bare | Self::Tonic => round(channel, concurrent, calls).await,
            Self::Header => round(with_header(channel, 1), concurrent, calls).await,
            Self::Same => round(with_header(channel, 0), concurrent, calls).await,
            Self::Deadbeat => {
                let layer = ClientLayer::new().timeout(timeout);
                round(layer.layer(channel), concurrent, calls).await
            }
        };
        serving.abort();
        round
    }
}

type Requests = http::Request<Body>;

/// A timeout that is so many microseconds more each time.
fn with_header(
    channel: Channel,
    step: u64,
) -> MapRequest<Channel, impl FnMut(Requests) -> Requests + Clone + Send> {
    let micros = Arc::new(AtomicU64::new(1_000_000));
    MapRequest::new(channel, move |mut request: Requests| {
        // Ordering: Relaxed, a number.
        let value = format!("{}u", micros.fetch_add(step, Relaxed));
        let value = value.try_into().expect("digits");
        request.headers_mut().insert(HeaderName::from_static("grpc-timeout"), value);
        request
    })
}

fn main() {
    let (rounds, calls) = if is_test() { (2, 1024) } else { (30, 20 * 1024) };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut rng = fastrand::Rng::with_seed(0x5eed);
    println!("unary call, {calls} calls a round, {rounds} rounds, interleaved; times in µs");
    for concurrent in [1, 64, 512] {
        let calls = if concurrent == 1 { calls / 4 } else { calls };
        let mut all: [Vec<Round>; 5] = Default::default();
        for _ in 0..rounds {
            let timeout = Duration::from_millis(rng.u64(1000..10_000));
            let mut order = System::ALL;
            rng.shuffle(&mut order);
            for system in order {
                let round = runtime.block_on(system.round(concurrent, calls, timeout));
                all[system as usize].push(round);
            }
        }
        println!("\n{concurrent} at a time");
        println!("{:<10}{:>10}{:>9}{:>9}  of bare", "system", "calls/s", "p50", "p99");
        for system in System::ALL {
            let rounds = &all[system as usize];
            let us = |of: fn(&Round) -> Duration| median(rounds.iter().map(of)).as_nanos();
            #[expect(clippy::cast_precision_loss, reason = "a time")]
            let us = |of: fn(&Round) -> Duration| us(of) as f64 / 1000.0;
            let pairs = rounds.iter().zip(&all[System::Bare as usize]);
            let ratios = sorted(pairs.map(|(it, bare)| it.per_second / bare.per_second));
            let (low, high) = interval(&ratios);
            println!(
                "{:<10}{:>10.0}{:>9.1}{:>9.1}  {:.3} ({low:.3} to {high:.3})",
                system.name(),
                median(rounds.iter().map(|round| round.per_second)),
                us(|round| round.p50),
                us(|round| round.p99),
                ratios[ratios.len() / 2],
            );
        }
    }
}
