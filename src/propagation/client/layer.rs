//! What is set.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tower_layer::Layer;

use super::Client;
use crate::propagation::codec::{Encoder, Header};
use crate::propagation::policy::Outgoing;
use crate::propagation::protocol::Protocol;
use crate::propagation::{Allowance, Stats, Switch};
use crate::telemetry::Role;

/// Gives each call that is made what remains of the deadline.
///
/// By name: [`http::ClientLayer`](crate::propagation::http::ClientLayer) and `grpc::ClientLayer`, which
/// tell how each behaves.
#[derive(Clone)]
#[must_use]
pub struct ClientLayer<P> {
    config: Config,
    protocol: std::marker::PhantomData<fn() -> P>,
}

/// What all services of a layer share.
#[derive(Clone, Debug)]
pub(super) struct Config {
    pub(super) outgoing: Outgoing,
    pub(super) idle: Duration,
    pub(super) peer: Option<Box<str>>,
    pub(super) switch: Switch,
    pub(super) stats: Stats,
}

impl<P: Protocol> ClientLayer<P> {
    /// One without a timeout of its own, which passes on what its callers have.
    pub fn new() -> Self {
        let config = Config {
            outgoing: Outgoing::new(P::HEADER),
            idle: Duration::MAX,
            peer: None,
            switch: Switch::new(),
            stats: Stats::new(Role::Client(P::NAME)),
        };
        Self { config, protocol: std::marker::PhantomData }
    }
}

impl<P> ClientLayer<P> {
    /// The most that any call takes, from when it is made. Default, and disabled by: `Duration::MAX`.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.config.outgoing.timeout = timeout;
        self
    }

    /// What the callee has less than the caller: for the way there and back, so that its answer, which may
    /// say more than that time is up, comes in time. The caller waits until its own deadline all the same.
    /// What has no more than this left isn't sent. A length, or one that is
    /// [measured](Allowance::measured). Default: none.
    pub fn allowance(mut self, allowance: impl Into<Allowance>) -> Self {
        self.config.outgoing.allowance = Some(allowance.into());
        self
    }

    /// The same, unless one was set.
    #[cfg(feature = "channel")]
    pub(crate) fn default_allowance(mut self, allowance: Allowance) -> Self {
        self.config.outgoing.allowance.get_or_insert(allowance);
        self
    }

    /// The longest that the next piece of an answer's body may take: of a stream, the next message. Counted
    /// from the head, or from when the piece before it was read. Default, and disabled by: `Duration::MAX`.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.config.idle = timeout;
        self
    }

    /// The header in which it is written. Default: [`Header::GrpcTimeout`] for gRPC,
    /// [`Header::ConnectTimeoutMs`] for HTTP.
    ///
    /// A call with less time left than the header can say isn't sent: a millisecond, for most.
    pub fn header(mut self, header: Header) -> Self {
        self.config.outgoing.write(header);
        self
    }

    /// How it is written: digits, caps, and forms for peers that don't read all. Default:
    /// `Encoder::new().digits(4)`, see [there](Encoder::digits).
    pub fn encoder(mut self, encoder: Encoder) -> Self {
        self.config.outgoing.encoder = encoder;
        self
    }

    /// What the clock on the wall says, for a header that holds a date. Without one, no call that has a
    /// deadline is sent with such. Default: there is none.
    pub fn wall_clock(mut self, now: fn() -> SystemTime) -> Self {
        self.config.outgoing.wall = Some(now);
        self
    }

    /// Who is called, for errors: "no answer from `peer`". Default: the authority of the request's URI, if
    /// it has one.
    pub fn peer(mut self, peer: impl Into<Box<str>>) -> Self {
        self.config.peer = Some(peer.into());
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
}

impl<P: Protocol> Default for ClientLayer<P> {
    fn default() -> Self {
        Self::new()
    }
}

impl<S, P> Layer<S> for ClientLayer<P> {
    type Service = Client<S, P>;

    fn layer(&self, inner: S) -> Client<S, P> {
        Client::new(inner, Arc::new(self.config.clone()))
    }
}

impl<P> fmt::Debug for ClientLayer<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ClientLayer").field(&self.config).finish()
    }
}
