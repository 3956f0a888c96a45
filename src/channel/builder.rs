//! What can be set.

use std::time::Duration;

use tower_layer::Layer;

use super::config::Config;
use super::endpoint::Endpoint;
use super::resets::Rate;
use super::target::Target;
use super::{Channel, Error, Wire};
use crate::propagation::client::ClientLayer;
use crate::propagation::{Allowance, Protocol};

/// Makes a [`Channel`].
#[derive(Clone, Debug)]
#[must_use]
pub struct Builder<P> {
    target: String,
    layer: ClientLayer<P>,
    config: Config,
}

impl<P: Protocol> Builder<P> {
    pub(super) fn new(target: String) -> Self {
        Self { target, layer: ClientLayer::new(), config: Config::default() }
    }

    /// What deadlines its calls have: timeout, allowance, header and so on. Default: that of their callers alone, and for
    /// the [allowance](ClientLayer::allowance) the measured [round trip](Channel::round_trip) and 1 ms, of what is left no more than a half; disabled by one of
    /// `Duration::ZERO`.
    pub fn layer(mut self, layer: ClientLayer<P>) -> Self {
        self.layer = layer;
        self
    }

    /// How long making a connection may take: the name, TCP, and both prefaces. Default: 20 seconds. A call doesn't wait
    /// longer than its own deadline for it.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.config.connect_timeout = timeout;
        self
    }

    /// The most calls at a time, also if the peer allows more. The others wait in turn. Default: 1000; at least 1, and 65536
    /// at the most.
    ///
    /// A server that stands still finds all their requests at once when it goes on. Those of hyper 1.12 take two thousand
    /// small ones that nobody has read for an attack, and close the connection (h2 0.4.20: 256 bytes for each that is
    /// smaller, of a half of the connection's window, which is 1 MiB).
    pub fn max_in_flight(mut self, calls: usize) -> Self {
        self.config.max_in_flight = calls.clamp(1, 1 << 16);
        self
    }

    /// The most that the headers of an answer may take, as HTTP/2 counts them. Default: 16 KiB, as hyper.
    pub fn max_header_list_size(mut self, bytes: u32) -> Self {
        self.config.max_header_list_size = bytes;
        self
    }

    /// How many streams are reset in a row, and then how often one. Default: 100, then one every 40 ms. No less than a
    /// peer takes in that isn't heard: see [the module](super#what-it-adds-to-the-layers).
    ///
    /// Less for servers of netty, which may close a connection over 200 resets in 30 s.
    pub fn resets(mut self, burst: u32, then_every: Duration) -> Self {
        self.config.reset_rate = Rate { burst, interval: then_every };
        self
    }

    /// TLS for a target of `https`: whom to trust, and whom to be. HTTP/2 is asked for by ALPN, and has to be agreed on.
    /// Default: none, and `https` is an error.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[cfg(feature = "grpc")]
    /// # fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::Arc;
    /// use deadbeat::channel::{Channel, rustls};
    /// use deadbeat::propagation::grpc::Grpc;
    ///
    /// // To be filled: with those of the system, or your own.
    /// let roots = rustls::RootCertStore::empty();
    /// let provider = Arc::new(rustls::crypto::ring::default_provider());
    /// let tls = rustls::ClientConfig::builder_with_provider(provider)
    ///     .with_safe_default_protocol_versions()?
    ///     .with_root_certificates(roots)
    ///     .with_no_client_auth();
    /// let channel = Channel::<Grpc>::builder("https://stock:50051").tls(Arc::new(tls)).build()?;
    /// # Ok(())
    /// # }
    /// # #[cfg(feature = "grpc")]
    /// # run().unwrap();
    /// ```
    #[cfg(feature = "tls")]
    pub fn tls(mut self, config: std::sync::Arc<super::rustls::ClientConfig>) -> Self {
        self.config.tls = Some(super::tls::with_alpn(config));
        self
    }

    /// The channel. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// [`Error::is_user`]: the target is none that can be called.
    pub fn build(self) -> Result<Channel<P>, Error> {
        let target = Target::parse(&self.target, self.config.has_tls())?;
        let endpoint = Endpoint::new(target, self.config);
        let layer = self.layer.default_allowance(Allowance::measured(&endpoint.rtt));
        Ok(Channel { client: layer.layer(Wire::new(endpoint)) })
    }
}
