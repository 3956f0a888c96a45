//! TLS, which is part of connecting.

use std::sync::Arc;

use bytes::Bytes;
use deadbeat::channel::Channel;
use deadbeat::channel::rustls::pki_types::PrivateKeyDer;
use deadbeat::channel::rustls::{ClientConfig, RootCertStore, ServerConfig, crypto::ring};
use deadbeat::deadline::Phase;
use deadbeat::propagation::http::{ClientLayer, Http};
use deadbeat::time::{Duration, sleep};
use http_body_util::Full;
use tokio::net::TcpListener;
use tower::Service;

use super::plain::{serve_plain, text};
use super::{MS, SECOND, within};

/// Two sides that trust each other; the server agrees on what it is told to.
fn configs(alpn: &[u8]) -> (Arc<ClientConfig>, Arc<ServerConfig>) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let chain = vec![made.cert.der().clone()];
    let mut roots = RootCertStore::empty();
    roots.add(chain[0].clone()).unwrap();
    let provider = Arc::new(ring::default_provider());
    let client = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    server.alpn_protocols = vec![alpn.to_vec()];
    (Arc::new(client), Arc::new(server))
}

async fn serve(config: Arc<ServerConfig>, takes: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((io, _)) = listener.accept().await {
            let acceptor = tokio_rustls::TlsAcceptor::from(config.clone());
            tokio::spawn(async move {
                sleep(takes).await;
                if let Ok(io) = acceptor.accept(io).await {
                    serve_plain(io).await;
                }
            });
        }
    });
    format!("https://localhost:{port}")
}

#[tokio::test]
async fn a_channel_with_tls_speaks_it_and_its_deadline_covers_that() {
    let (client, server) = configs(b"h2");
    let target = serve(server.clone(), Duration::ZERO).await;
    let builder = Channel::<Http>::builder(target.clone()).tls(client.clone());
    let mut channel = builder.build().unwrap();
    let request = || http::Request::get("/").body(Full::default()).unwrap();
    let told = text(&mut channel, request()).await;
    assert_eq!(told, format!("GET {target}/ 0 []"));
    // A handshake that takes too long.
    let target = serve(server, 60 * SECOND).await;
    let layer = ClientLayer::new().timeout(300 * MS);
    let builder = Channel::<Http>::builder(target).tls(client).layer(layer);
    let mut channel = builder.build().unwrap();
    let error = within(Service::call(&mut channel, request())).await.unwrap_err();
    let expired = error.expired().expect("it was too late");
    assert_eq!(expired.phase(), Some(Phase::Connect));
}

#[tokio::test]
async fn who_is_not_trusted_or_speaks_no_http_2_is_not_called() {
    let (client, _) = configs(b"h2");
    let (trusted, stranger) = configs(b"http/1.1");
    for (client, why) in [(client, "certificate"), (trusted, "ALPN")] {
        let target = serve(stranger.clone(), Duration::ZERO).await;
        let mut channel = Channel::<Http>::builder(target).tls(client).build().unwrap();
        let request = http::Request::get("/").body(Full::<Bytes>::default()).unwrap();
        let error = within(Service::call(&mut channel, request)).await.unwrap_err();
        let text = error.to_string();
        let is_told = text.contains(why) || text.contains("NoApplicationProtocol");
        assert!(text.contains("no connection to localhost:") && is_told, "{text}");
    }
}
