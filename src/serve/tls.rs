//! TLS, by rustls.

use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;

/// With what is spoken here for ALPN, if `config` says nothing of that.
pub(super) fn acceptor(config: Arc<ServerConfig>, http1: bool) -> TlsAcceptor {
    let mut config = config;
    if config.alpn_protocols.is_empty() {
        let spoken: &[&[u8]] = if http1 { &[b"h2", b"http/1.1"] } else { &[b"h2"] };
        Arc::make_mut(&mut config).alpn_protocols =
            spoken.iter().map(|name| name.to_vec()).collect();
    }
    config.into()
}
