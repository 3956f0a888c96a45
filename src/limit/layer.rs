//! What is set of a layer.

use std::sync::Arc;

use tower_layer::Layer;

use super::{Limit, Limiter};
use crate::propagation::{Protocol, Switch};

/// Has a [`Limiter`] decide which calls are served, and when.
///
/// By name: [`http::LimitLayer`](crate::propagation::http::LimitLayer) and `grpc::LimitLayer`. Put it within a
/// `ServerLayer` of that protocol, which makes the deadline of a call the current one; and within whatever
/// answers by itself, as it has no need of a slot.
///
/// All services of a layer, and so all connections of a server, share the limiter; other layers may be made of
/// it too.
#[derive(Clone, Debug)]
#[must_use]
pub struct LimitLayer<P> {
    config: Config<P>,
}

#[derive(Clone, Debug)]
pub(super) struct Config<P> {
    pub(super) protocol: P,
    pub(super) limiter: Limiter,
    pub(super) release_at_head: bool,
    pub(super) switch: Switch,
}

impl<P: Protocol> LimitLayer<P> {
    /// One that has the slots of `limiter`.
    pub fn new(limiter: Limiter) -> Self {
        let config = Config {
            protocol: P::default(),
            limiter,
            release_at_head: false,
            switch: Switch::new(),
        };
        Self { config }
    }
}

impl<P> LimitLayer<P> {
    /// Whether a call gives its slot back with the head of its answer, rather than with the end of the body.
    /// Default: no.
    ///
    /// For streams that are open for long and cost little. A caller that is slow to read holds a slot
    /// otherwise, until its deadline.
    pub fn release_at_head(mut self, at_head: bool) -> Self {
        self.config.release_at_head = at_head;
        self
    }

    /// Lets `switch` turn it off and on while it runs. Default: it is on.
    ///
    /// While it is off, calls run without a slot. Those that wait by then go on waiting for theirs.
    pub fn switch(mut self, switch: &Switch) -> Self {
        self.config.switch = switch.clone();
        self
    }

    /// Which one decides.
    pub fn limiter(&self) -> &Limiter {
        &self.config.limiter
    }
}

impl<S, P: Clone> Layer<S> for LimitLayer<P> {
    type Service = Limit<S, P>;

    fn layer(&self, inner: S) -> Limit<S, P> {
        Limit::new(inner, Arc::new(self.config.clone()))
    }
}
