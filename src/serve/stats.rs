//! What a server counts.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a server has counted, on all its listeners. A handle: clones count together.
///
/// What becomes of the calls is counted by the layer that keeps their deadlines: see
/// [`Server::deadlines`](super::Server::deadlines).
///
/// # Examples
///
/// ```
/// use deadbeat::serve::Server;
///
/// let app: axum::Router = axum::Router::new();
/// let server = Server::http(app);
/// let stats = server.stats();
/// // Run it.
/// assert_eq!((stats.connections(), stats.accepted()), (0, 0));
/// ```
#[derive(Clone, Default)]
pub struct Stats(Arc<Counts>);

#[derive(Default)]
struct Counts {
    connections: AtomicU64,
    accepted: AtomicU64,
    accept_errors: AtomicU64,
    failed_handshakes: AtomicU64,
    timed_out: AtomicU64,
    unrecognised: AtomicU64,
    failed: AtomicU64,
    silent: AtomicU64,
    streams: AtomicU64,
    cut_streams: AtomicU64,
    cut_connections: AtomicU64,
    closed: AtomicU64,
}

/// What may be counted once more.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event {
    AcceptError,
    #[cfg_attr(not(feature = "tls"), expect(dead_code, reason = "without TLS nobody shakes hands"))]
    FailedHandshake,
    TimedOut,
    Unrecognised,
    Failed,
    Silent,
    Stream,
    CutStream,
    CutConnection,
    Closed,
}

// Ordering: Relaxed, all: numbers that nothing depends on.
impl Stats {
    pub(super) fn opened(&self) {
        self.0.accepted.fetch_add(1, Relaxed);
        self.0.connections.fetch_add(1, Relaxed);
    }

    pub(super) fn ended(&self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }

    pub(super) fn count(&self, event: Event) {
        let counts = &*self.0;
        let count = match event {
            Event::AcceptError => &counts.accept_errors,
            Event::FailedHandshake => &counts.failed_handshakes,
            Event::TimedOut => &counts.timed_out,
            Event::Unrecognised => &counts.unrecognised,
            Event::Failed => &counts.failed,
            Event::Silent => &counts.silent,
            Event::Stream => &counts.streams,
            Event::CutStream => &counts.cut_streams,
            Event::CutConnection => &counts.cut_connections,
            Event::Closed => &counts.closed,
        };
        count.fetch_add(1, Relaxed);
    }

    /// Connections that there are now. One that was upgraded isn't any more.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.0.connections.load(Relaxed)
    }

    /// Connections that were accepted.
    #[must_use]
    pub fn accepted(&self) -> u64 {
        self.0.accepted.load(Relaxed)
    }

    /// Times that accepting has failed. Each was survived.
    #[must_use]
    pub fn accept_errors(&self) -> u64 {
        self.0.accept_errors.load(Relaxed)
    }

    /// Connections that ended in their TLS handshake, other than by its timeout.
    #[must_use]
    pub fn failed_handshakes(&self) -> u64 {
        self.0.failed_handshakes.load(Relaxed)
    }

    /// Connections that were closed since their TLS handshake, or the first bytes that tell HTTP/2 from
    /// HTTP/1, took too long. For heads of requests that did, see [`failed`](Self::failed).
    #[must_use]
    pub fn timed_out(&self) -> u64 {
        self.0.timed_out.load(Relaxed)
    }

    /// Connections that were closed since they didn't begin as HTTP/2 does, where there is no HTTP/1.
    #[must_use]
    pub fn unrecognised(&self) -> u64 {
        self.0.unrecognised.load(Relaxed)
    }

    /// Connections that ended in an error of the protocol or the socket. A head that wasn't read
    /// [in time](super::Server::header_read_timeout) is one.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.0.failed.load(Relaxed)
    }

    /// Connections of HTTP/2 that were closed since their peer gave no
    /// [sign of life](super::Server::keep_alive) when it was asked.
    #[must_use]
    pub fn silent(&self) -> u64 {
        self.0.silent.load(Relaxed)
    }

    /// Streams of HTTP/2 that were begun.
    #[must_use]
    pub fn streams(&self) -> u64 {
        self.0.streams.load(Relaxed)
    }

    /// Streams of HTTP/2 that were reset at their deadline, since what was left to send couldn't be sent, or
    /// was the rest of a message.
    #[must_use]
    pub fn cut_streams(&self) -> u64 {
        self.0.cut_streams.load(Relaxed)
    }

    /// Connections of HTTP/1 that were closed at the deadline of a call, for the same reasons.
    #[must_use]
    pub fn cut_connections(&self) -> u64 {
        self.0.cut_connections.load(Relaxed)
    }

    /// Connections that were closed by the server's end, or when the grace of a drain was up.
    #[must_use]
    pub fn closed(&self) -> u64 {
        self.0.closed.load(Relaxed)
    }
}

impl fmt::Debug for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stats")
            .field("connections", &self.connections())
            .field("accepted", &self.accepted())
            .field("accept_errors", &self.accept_errors())
            .field("failed_handshakes", &self.failed_handshakes())
            .field("timed_out", &self.timed_out())
            .field("unrecognised", &self.unrecognised())
            .field("failed", &self.failed())
            .field("silent", &self.silent())
            .field("streams", &self.streams())
            .field("cut_streams", &self.cut_streams())
            .field("cut_connections", &self.cut_connections())
            .field("closed", &self.closed())
            .finish()
    }
}
