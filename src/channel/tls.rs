//! TLS, by rustls.

use std::sync::Arc;

use http::uri::Authority;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::ClientConfig;
use tokio_rustls::rustls::pki_types::ServerName;

const HTTP2: &[u8] = b"h2";

/// With HTTP/2 for ALPN, whatever else `config` says.
pub(super) fn with_alpn(mut config: Arc<ClientConfig>) -> Arc<ClientConfig> {
    if config.alpn_protocols != [HTTP2] {
        Arc::make_mut(&mut config).alpn_protocols = vec![HTTP2.to_vec()];
    }
    config
}

/// Shakes hands with whoever has a certificate for the host of `authority`.
pub(super) async fn connect<T>(
    config: Arc<ClientConfig>,
    authority: &Authority,
    io: T,
) -> Result<TlsStream<T>, Box<dyn std::error::Error + Send + Sync>>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    // An address of IPv6 is in brackets.
    let host = authority.host().trim_matches(['[', ']']).to_owned();
    let io = TlsConnector::from(config).connect(ServerName::try_from(host)?, io).await?;
    if io.get_ref().1.alpn_protocol() != Some(HTTP2) {
        return Err(
            "the peer doesn't speak HTTP/2 over TLS: it has not agreed on `h2` by ALPN".into()
        );
    }
    Ok(io)
}
