//! What our own channel keeps: connecting and connections, streams and uploads, how calls end, and what they
//! are told.

mod blame;
mod bursts;
mod connecting;
mod connections;
mod ends;
mod grpc;
mod plain;
mod streams;
#[cfg(feature = "tls")]
mod tls;
mod uploads;

use std::net::SocketAddr;

use deadbeat::channel::Channel;
use deadbeat::propagation::grpc::{ClientLayer, Grpc};
use deadbeat::time::Duration;

use super::{rpc, within};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn ours(address: SocketAddr, layer: ClientLayer) -> Channel<Grpc> {
    Channel::builder(format!("http://{address}")).layer(layer).build().unwrap()
}
