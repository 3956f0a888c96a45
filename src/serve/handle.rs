//! What a server is stopped with.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::registry::Registry;
use crate::time::Instant;

/// Stops a [`Server`](super::Server). Clones are one handle; dropping it does nothing.
///
/// # Examples
///
/// ```no_run
/// use deadbeat::serve::{Listener, Server};
/// use deadbeat::time::Duration;
///
/// # async fn run() -> std::io::Result<()> {
/// let server = Server::http(axum::Router::new()).listen(Listener::bind("[::]:8080")?);
/// let handle = server.handle();
/// let running = tokio::spawn(server.run());
/// tokio::signal::ctrl_c().await?;
/// handle.drain(Duration::from_secs(10));
/// running.await?
/// # }
/// ```
#[derive(Clone)]
pub struct Handle {
    registry: Arc<Registry>,
}

impl Handle {
    pub(super) fn new(registry: Arc<Registry>) -> Self {
        Self { registry }
    }

    /// Has the server end: it accepts no more connections, those that it has take no more calls, and
    /// [`run`](super::Server::run) is over when all of them have ended. Those that haven't within `grace` are
    /// closed.
    ///
    /// Connections of HTTP/2 are told by GOAWAY; those of HTTP/1 are closed when they have answered. Returns at
    /// once. Once more, it can only shorten the grace; `Duration::ZERO` closes all.
    ///
    /// A connection that was upgraded isn't waited for, nor closed.
    pub fn drain(&self, grace: Duration) {
        self.registry.drain(Instant::now() + grace);
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").field("stats", &self.registry.stats).finish()
    }
}
