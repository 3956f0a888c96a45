//! What is set.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::request::Parts;
use tower_layer::Layer;

use super::Server;
use crate::propagation::codec::{Header, OnMalformed};
use crate::propagation::policy::{Honoured, Settings};
use crate::propagation::protocol::Protocol;
use crate::propagation::{Stats, Switch};
use crate::telemetry::Role;

/// Gives each call that is served the deadline that its headers tell, and keeps it.
///
/// By name: [`http::ServerLayer`](crate::propagation::http::ServerLayer) and
/// [`grpc::ServerLayer`](crate::propagation::grpc::ServerLayer), which tell how each behaves.
#[derive(Clone)]
#[must_use]
pub struct ServerLayer<P> {
    config: Config<P>,
}

type Choose = Arc<dyn Fn(&Parts, Settings) -> Settings + Send + Sync>;

/// What all services of a layer share.
#[derive(Clone)]
pub(super) struct Config<P> {
    pub(super) protocol: P,
    pub(super) settings: Settings,
    pub(super) choose: Option<Choose>,
    pub(super) honoured: Honoured,
    pub(super) must_end: bool,
    pub(super) name: Option<Box<str>>,
    pub(super) tells_path: bool,
    pub(super) switch: Switch,
    pub(super) stats: Stats,
}

impl<P: Protocol> ServerLayer<P> {
    /// One that trusts nobody, and has neither a maximum nor a default.
    pub fn new() -> Self {
        let config = Config {
            protocol: P::default(),
            settings: Settings::new(),
            choose: None,
            honoured: Honoured::default(),
            must_end: false,
            name: None,
            tells_path: false,
            switch: Switch::new(),
            stats: Stats::new(Role::Server(P::NAME)),
        };
        Self { config }
    }
}

impl<P> ServerLayer<P> {
    /// The most that any call has. Default, and disabled by: `Duration::MAX`.
    pub fn maximum(mut self, maximum: Duration) -> Self {
        self.config.settings = self.config.settings.maximum(maximum);
        self
    }

    /// What a call has that asks for nothing; and, unless callers are [trusted](Self::trusted), the most
    /// that one has. Default, and disabled by: `Duration::MAX`.
    pub fn default_timeout(mut self, timeout: Duration) -> Self {
        self.config.settings = self.config.settings.default_timeout(timeout);
        self
    }

    /// Whether callers may ask for more time than the default. Default: no. For a listener that only your
    /// own services reach; where it depends on who calls, use [`settings`](Self::settings).
    pub fn trusted(mut self, trusted: bool) -> Self {
        self.config.settings = self.config.settings.trusted(trusted);
        self
    }

    /// Whether a caller whose call has expired is told where the time went in here:
    /// [blame](crate::propagation::blame). Default: one that is [trusted](Self::trusted) is; see
    /// [there](Settings::blame).
    pub fn blame(mut self, blame: bool) -> Self {
        self.config.settings = self.config.settings.blame(blame);
        self
    }

    /// What this service is called in blame. Default: what its caller calls it, its
    /// [`peer`](crate::propagation::client::ClientLayer::peer).
    pub fn name(mut self, name: impl Into<Box<str>>) -> Self {
        self.config.name = Some(name.into());
        self
    }

    /// Whether blame names the path of the request, without its query: which is the method, with gRPC. Default:
    /// it doesn't. It takes one allocation for each call that has a deadline and whose caller may be told.
    pub fn blame_path(mut self, tells: bool) -> Self {
        self.config.tells_path = tells;
        self
    }

    /// Has `choose` set what differs from one call to the next: it gets the head of the request and the
    /// layer's settings, and returns those for this call. Default: the layer's, for all.
    pub fn settings(
        mut self,
        choose: impl Fn(&Parts, Settings) -> Settings + Send + Sync + 'static,
    ) -> Self {
        self.config.choose = Some(Arc::new(choose));
        self
    }

    /// Honours one more header. Default: [`Header::GrpcTimeout`] and [`Header::ConnectTimeoutMs`].
    ///
    /// [`Header::Prefer`] never sets a deadline:
    /// [`preferred_wait`](crate::propagation::RequestDeadline::preferred_wait) tells it.
    /// [`Header::AmzSdkRequest`] says nothing without a [wall clock](Self::wall_clock).
    pub fn honour(mut self, header: Header) -> Self {
        self.config.honoured.add(header);
        self
    }

    /// What to do about a value that is malformed. Default: [`OnMalformed::Ignore`], and count it.
    pub fn on_malformed(mut self, on_malformed: OnMalformed) -> Self {
        self.config.honoured.on_malformed = on_malformed;
        self
    }

    /// What the clock on the wall says, for headers that hold a date, which then give `max` at the most.
    /// Default: there is none.
    pub fn wall_clock(mut self, now: fn() -> SystemTime, max: Duration) -> Self {
        self.config.honoured.wall = Some((now, max));
        self
    }

    /// Whether a request body that is cut off is an error, rather than over. Default: it isn't.
    ///
    /// When an HTTP/2 client resets a call with `NO_ERROR`, hyper ends the body of its request as if it were
    /// complete (its `Incoming`; any other reset is an error), and the handler is polled once more before it
    /// is dropped: one that reads a stream may then take half of it for all.
    ///
    /// Set it where requests come over HTTP/2 from hyper, which includes `tonic::transport` and
    /// `axum::serve`. A body is complete then if it says so itself
    /// ([`is_end_stream`](http_body::Body::is_end_stream)): hyper's does, over HTTP/2; others need not, and
    /// would always be an error. Requests of older versions are left as they are.
    pub fn incomplete_is_error(mut self, is_error: bool) -> Self {
        self.config.must_end = is_error;
        self
    }

    /// Lets `switch` turn it off and on while it runs. Default: it is on.
    pub fn switch(mut self, switch: &Switch) -> Self {
        self.config.switch = switch.clone();
        self
    }

    /// What it counts.
    pub fn stats(&self) -> Stats {
        self.config.stats.clone()
    }

    /// What it speaks.
    pub(crate) fn protocol_mut(&mut self) -> &mut P {
        &mut self.config.protocol
    }
}

impl<P: Protocol> Default for ServerLayer<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S, P: Clone> Layer<S> for ServerLayer<P> {
    type Service = Server<S, P>;

    fn layer(&self, inner: S) -> Server<S, P> {
        Server::new(inner, Arc::new(self.config.clone()))
    }
}

impl<P: fmt::Debug> fmt::Debug for ServerLayer<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.config.fmt(f)
    }
}

impl<P: fmt::Debug> fmt::Debug for Config<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerLayer")
            .field("protocol", &self.protocol)
            .field("settings", &self.settings)
            .field("honoured", &self.honoured)
            .field("name", &self.name)
            .field("tells_path", &self.tells_path)
            .field("switch", &self.switch)
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}
