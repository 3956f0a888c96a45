//! `deadbeat::serve` over real sockets: what its peers see, and what it survives.

mod allocations;
#[path = "../common/mod.rs"]
mod common;
mod drain;
mod frames;
mod heads;
mod http1;
mod http2;
mod limits;
mod listeners;
mod node;
mod server;
mod tls;

use std::future::Future;

use deadbeat::time::Duration;

const MS: Duration = Duration::from_millis(1);

/// Bounds a wait for something that is to come.
async fn within<F: Future>(future: F) -> F::Output {
    deadbeat::time::timeout(Duration::from_secs(30), future).await.expect("waited too long")
}
