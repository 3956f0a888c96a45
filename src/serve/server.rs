//! What is set, and started.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower_layer::Layer;
use tower_service::Service;

use super::body::Incoming;
use super::config::{Config, Excess};
use super::connection::Setup;
use super::handle::Handle;
use super::listener::{Address, Listener};
use super::registry::Registry;
use super::run::{self, Source};
use super::served::BoxError;
use super::stats::Stats;
use crate::propagation::http::Http;
use crate::propagation::server::ServerLayer;
use crate::propagation::{Protocol, RequestBody};
use crate::rt::HyperTimer;

/// A server of HTTP/1 and HTTP/2 whose calls have deadlines, to their very end. See [the module](super).
///
/// # Examples
///
/// ```no_run
/// use axum::{Router, routing::get};
/// use deadbeat::propagation::http::ServerLayer;
/// use deadbeat::serve::{Listener, Server};
/// use deadbeat::time::Duration;
///
/// # async fn run() -> std::io::Result<()> {
/// let app = Router::new().route("/", get(async || "hello"));
/// Server::http(app)
///     .deadlines(ServerLayer::new().default_timeout(Duration::from_secs(5)))
///     .listen(Listener::bind("[::]:8080")?)
///     .run()
///     .await
/// # }
/// ```
#[must_use = "it serves when it is run"]
pub struct Server<S, P> {
    service: S,
    layer: ServerLayer<P>,
    listeners: Vec<Listener>,
    config: Config,
    excess: Excess,
    max_connections: usize,
    peers: bool,
    registry: Arc<Registry>,
}

impl<S> Server<S, Http> {
    /// One for HTTP: a router of axum's, or any other tower service. Late calls are answered as
    /// [`http::ServerLayer`](crate::propagation::http::ServerLayer) does.
    pub fn http(service: S) -> Self {
        Self::new(service, true)
    }
}

#[cfg(feature = "grpc")]
impl<S> Server<S, crate::propagation::grpc::Grpc> {
    /// One for gRPC: tonic's `Routes`, or a service that was generated. Late calls are answered as
    /// [`grpc::ServerLayer`](crate::propagation::grpc::ServerLayer) does. Speaks HTTP/2 alone, unless
    /// [told otherwise](Self::http1).
    ///
    /// # Examples
    ///
    /// ```no_run
    /// use deadbeat::propagation::grpc::ServerLayer;
    /// use deadbeat::serve::{Listener, Server};
    /// use deadbeat::time::Duration;
    /// use tonic::service::Routes;
    ///
    /// # async fn run(routes: Routes) -> std::io::Result<()> {
    /// Server::grpc(routes)
    ///     .deadlines(ServerLayer::new().maximum(Duration::from_secs(30)))
    ///     .listen(Listener::bind("[::]:50051")?)
    ///     .run()
    ///     .await
    /// # }
    /// ```
    pub fn grpc(service: S) -> Self {
        Self::new(service, false)
    }
}

impl<S, P: Protocol> Server<S, P> {
    fn new(service: S, http1: bool) -> Self {
        Self {
            service,
            layer: ServerLayer::new(),
            listeners: Vec::new(),
            config: Config::new(http1),
            excess: Excess::default(),
            max_connections: usize::MAX,
            peers: false,
            registry: Arc::default(),
        }
    }
}

impl<S, P> Server<S, P> {
    /// How calls get their deadlines, and what is counted of that. Default: a layer as it is made, which honours
    /// `grpc-timeout` and `connect-timeout-ms`, and has neither a maximum nor a default.
    ///
    /// Whatever it says of trust, it trusts the callers of a listener that is [trusted](Listener::trusted). A
    /// request that is cut off is an error, whatever it says of that: see [`Incoming`].
    pub fn deadlines(mut self, layer: ServerLayer<P>) -> Self {
        self.layer = layer;
        self
    }

    /// One more socket to listen on. There must be one.
    pub fn listen(mut self, listener: impl Into<Listener>) -> Self {
        self.listeners.push(listener.into());
        self
    }

    /// Whether HTTP/1 is spoken as well as HTTP/2. Default: by [`http`](Server::http) it is, and by `grpc` it
    /// isn't. Connections that begin otherwise are closed then, and
    /// [counted](Stats::unrecognised).
    pub fn http1(mut self, http1: bool) -> Self {
        self.config.http1 = http1;
        self
    }

    /// How long a TLS handshake may take. Disabled by `Duration::MAX`. Default: 10 s, as in Go's
    /// `http.DefaultTransport` for the other side of it; neither hyper nor tokio-rustls has any.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.config.handshake_timeout = timeout;
        self
    }

    /// How long the first bytes may take that tell HTTP/2 from HTTP/1, from when the connection was accepted,
    /// or has shaken hands: 24 bytes at the most, one as a rule. Disabled by `Duration::MAX`. Default: 10 s;
    /// hyper-util waits for ever.
    ///
    /// It also bounds how long clients may keep a connection that they have made ahead of its use. Where ALPN
    /// has agreed on HTTP/1, nothing is waited for.
    pub fn detection_timeout(mut self, timeout: Duration) -> Self {
        self.config.detection_timeout = timeout;
        self
    }

    /// How long the head of a request may take over HTTP/1, from its first byte or the end of the call before.
    /// Disabled by `Duration::MAX`. Default: 30 s, as hyper's if it has a timer.
    pub fn header_read_timeout(mut self, timeout: Duration) -> Self {
        self.config.header_read_timeout = timeout;
        self
    }

    /// How large the head of a request may be over HTTP/2, in bytes as RFC 9113, 6.5.2 counts them. Default:
    /// 16 KiB, as hyper's. Over HTTP/1, hyper has 100 headers at the most, and some 400 KB for them.
    pub fn max_header_list_size(mut self, bytes: u32) -> Self {
        self.config.max_header_list_size = bytes;
        self
    }

    /// How many streams a connection of HTTP/2 may have at a time. Default: 200, as hyper's. RFC 9113 advises
    /// 100 or more.
    pub fn max_concurrent_streams(mut self, streams: u32) -> Self {
        self.config.max_concurrent_streams = streams;
        self
    }

    /// How many bytes of a request's body are taken in before somebody reads them, over HTTP/2. Default: 1 MiB,
    /// as hyper's. At most 2^31 - 1.
    pub fn stream_window(mut self, bytes: u32) -> Self {
        self.config.stream_window = bytes;
        self
    }

    /// The same, for all streams of a connection together. Default: 1 MiB, as hyper's.
    pub fn connection_window(mut self, bytes: u32) -> Self {
        self.config.connection_window = bytes;
        self
    }

    /// How many streams of a connection may be reset by the client before this server has got to them. One more
    /// ends the connection with ENHANCE_YOUR_CALM.
    ///
    /// It bounds what a client can have begun in vain ("rapid reset", CVE-2023-44487). But a client of which
    /// many calls expire while the server is behind does the same. Default: 400, twice the default of
    /// concurrent streams; on listeners that are [trusted](Listener::trusted) 16 384. h2's own is 20.
    pub fn max_pending_resets(mut self, streams: usize) -> Self {
        self.excess.pending = Some(streams);
        self
    }

    /// How many streams of a connection, over all its life, this server may have to reset for what the client
    /// sends. One more ends the connection with ENHANCE_YOUR_CALM.
    ///
    /// Each is a frame that is kept until it is sent (RUSTSEC-2024-0003). Data that was under way when its
    /// stream was reset at a deadline may count as well: streams are remembered for a second, as many as
    /// [`max_pending_resets`](Self::max_pending_resets). Default: 4096;
    /// on listeners that are [trusted](Listener::trusted) 65 536. hyper's own is 1024.
    pub fn max_error_resets(mut self, streams: usize) -> Self {
        self.excess.errors = Some(streams);
        self
    }

    /// How far frames of data may be smaller than 256 bytes, summed over those of a connection that nobody has
    /// read. One more ends the connection with ENHANCE_YOUR_CALM.
    ///
    /// It bounds the memory for frames, of which windows count the bytes alone. But clients that stream small
    /// messages to a handler that is slow do the same; and frames that come when their call has ended, as after
    /// its deadline, are never read. Default: 4 MiB, some 16 000 frames; on listeners that are
    /// [trusted](Listener::trusted) 64 MiB. h2's own is half the [connection's window](Self::connection_window).
    pub fn data_frame_budget(mut self, bytes: usize) -> Self {
        self.excess.small_frames = Some(bytes);
        self
    }

    /// How many connections there may be at a time. Default, and disabled by: `usize::MAX`. Others wait in the
    /// queues of the kernel.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections;
        self
    }

    /// Has connections of HTTP/2 asked for a sign of life, by a PING, when nothing has come from them for
    /// `interval`, and closed if nothing comes within `timeout` then, which is [counted](Stats::silent). Default:
    /// no.
    ///
    /// # Panics
    ///
    /// If either is zero.
    #[track_caller]
    pub fn keep_alive(mut self, interval: Duration, timeout: Duration) -> Self {
        assert!(
            !interval.is_zero() && !timeout.is_zero(),
            "keep-alive every {interval:?} with a timeout of {timeout:?}, where neither may be zero"
        );
        self.config.keep_alive = Some((interval, timeout));
        self
    }

    /// Whether each request has a [`Peer`](super::Peer) among its extensions. Default: no, for it allocates.
    pub fn peers(mut self, peers: bool) -> Self {
        self.peers = peers;
        self
    }

    /// What it counts.
    pub fn stats(&self) -> Stats {
        self.registry.stats.clone()
    }

    /// What stops it.
    pub fn handle(&self) -> Handle {
        Handle::new(self.registry.clone())
    }

    /// Where it listens, in the order of [`listen`](Self::listen).
    ///
    /// # Errors
    ///
    /// The system doesn't say.
    pub fn addresses(&self) -> io::Result<Vec<Address>> {
        self.listeners.iter().map(Listener::address).collect()
    }
}

impl<S, R, P> Server<S, P>
where
    S: Service<Request<RequestBody<Incoming, P>>, Response = Response<R>>,
    S: Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Into<BoxError>,
    R: Body<Data = Bytes> + Send + 'static,
    R::Error: Into<BoxError>,
    P: Protocol,
{
    /// Serves, until it has [drained](Handle::drain).
    ///
    /// Errors of accepting, of connections and of calls are [counted](Self::stats), and end nothing else.
    ///
    /// # Cancel safety
    ///
    /// Dropping it closes the listeners and all connections, whose calls are dropped.
    ///
    /// # Errors
    ///
    /// There is nothing to listen on, or tokio couldn't take a listener over.
    ///
    /// # Panics
    ///
    /// If it is polled outside of a runtime of tokio's that has I/O enabled, or its
    /// [`Timekeeper`](crate::Timekeeper) has been shut down: that of a server is shut down last.
    pub async fn run(self) -> io::Result<()> {
        if self.listeners.is_empty() {
            let none = "nothing to listen on: `Server::listen` takes one listener or more";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, none));
        }
        let timer = HyperTimer::new();
        let mut sources = Vec::with_capacity(self.listeners.len());
        for listener in self.listeners {
            let trusted = listener.trusted;
            let layer = self.layer.clone();
            let layer = if trusted { layer.trusted(true) } else { layer };
            let mut config = self.config.clone();
            config.max_pending_resets = self.excess.pending(trusted);
            config.max_error_resets = self.excess.errors(trusted);
            config.data_frame_budget = self.excess.small_frames(trusted);
            let setup = Setup {
                #[cfg(feature = "tls")]
                tls: listener.tls.map(|tls| super::tls::acceptor(tls, config.http1)),
                config,
                timer: timer.clone(),
            };
            let accepting = listener.socket.start()?;
            let service = layer.layer(self.service.clone());
            sources.push(Source::new(accepting, Arc::new(setup), service, trusted, self.peers));
        }
        run::run(sources, self.max_connections, self.registry).await;
        Ok(())
    }
}

impl<S, P: fmt::Debug> fmt::Debug for Server<S, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("deadlines", &self.layer)
            .field("listeners", &self.listeners)
            .field("config", &self.config)
            .field("max_connections", &self.max_connections)
            .field("peers", &self.peers)
            .field("stats", &self.registry.stats)
            .finish_non_exhaustive()
    }
}
