//! What `docs/guarantees.md` says, cell by cell: one file for each kind of layer.

mod finish;
mod http_client;
mod http_server;
mod rpc;
mod tonic_calls;
mod tonic_client;
mod tonic_server;
mod tonic_timeouts;
mod wire;

use std::future::Future;
use std::time::Duration;

/// Bounds a wait for something that is to come from a real socket or thread.
async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("waited too long")
}
