//! TLS, and what is agreed upon in it.

use std::sync::Arc;

use deadbeat::propagation::http::Http;
use deadbeat::serve::{Listener, Server, rustls};
use rustls::pki_types::{PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::http1::response;
use crate::server::{Running, run};
use crate::{MS, within};

struct Tls {
    server: Running,
    roots: RootCertStore,
}

impl Tls {
    fn start(
        configure: impl FnOnce(Server<axum::Router, Http>) -> Server<axum::Router, Http>,
    ) -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let certificate = made.cert.der().clone();
        let mut roots = RootCertStore::empty();
        roots.add(certificate.clone()).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], key)
            .unwrap();
        let app = axum::Router::new()
            .fallback(async |request: axum::extract::Request| format!("{:?}", request.version()));
        let listener = Listener::bind("127.0.0.1:0").unwrap().tls(Arc::new(config));
        Self { server: run(configure(Server::http(app)).listen(listener)), roots }
    }

    async fn connect(&self, alpn: &[&[u8]]) -> std::io::Result<TlsStream<TcpStream>> {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(self.roots.clone())
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let io = TcpStream::connect(self.server.at()).await?;
        let name = ServerName::try_from("localhost").unwrap();
        within(TlsConnector::from(Arc::new(config)).connect(name, io)).await
    }
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

const GET: &[u8] = b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

async fn over_http2(io: TlsStream<TcpStream>) -> String {
    let (mut h2, connection) = h2::client::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("https://localhost/").body(()).unwrap();
    let (response, _) = h2.send_request(request, true).unwrap();
    let mut body = within(response).await.unwrap().into_body();
    String::from_utf8(within(body.data()).await.unwrap().unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn both_versions_are_agreed_upon_and_who_agrees_on_nothing_is_told_by_its_first_bytes() {
    let tls = Tls::start(|server| server);
    let io = tls.connect(&[b"h2", b"http/1.1"]).await.unwrap();
    assert_eq!(io.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    assert_eq!(over_http2(io).await, "HTTP/2.0");
    let mut io = tls.connect(&[b"http/1.1"]).await.unwrap();
    assert_eq!(io.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    io.write_all(GET).await.unwrap();
    assert!(response(&mut io).await.ends_with("HTTP/1.1"));
    let mut io = tls.connect(&[]).await.unwrap();
    io.write_all(GET).await.unwrap();
    assert!(response(&mut io).await.ends_with("HTTP/1.1"));
    assert_eq!(over_http2(tls.connect(&[]).await.unwrap()).await, "HTTP/2.0");
}

#[tokio::test]
async fn where_http_1_is_not_spoken_it_is_not_agreed_upon() {
    let tls = Tls::start(|server| server.http1(false));
    tls.connect(&[b"http/1.1"]).await.unwrap_err();
    assert_eq!(over_http2(tls.connect(&[b"h2"]).await.unwrap()).await, "HTTP/2.0");
    crate::limits::until("it is counted", || tls.server.stats.failed_handshakes() == 1).await;
}

#[tokio::test]
async fn a_handshake_that_is_slow_or_none_ends_and_holds_nobody() {
    let tls = Tls::start(|server| server.handshake_timeout(300 * MS));
    let mut slow = TcpStream::connect(tls.server.at()).await.unwrap();
    slow.write_all(b"\x16\x03\x01").await.unwrap();
    let mut plain = TcpStream::connect(tls.server.at()).await.unwrap();
    plain.write_all(GET).await.unwrap();
    assert_eq!(over_http2(tls.connect(&[b"h2"]).await.unwrap()).await, "HTTP/2.0");
    let mut read = vec![];
    let _ = within(slow.read_to_end(&mut read)).await;
    assert!(read.is_empty());
    crate::limits::until("both are counted", || {
        (tls.server.stats.timed_out(), tls.server.stats.failed_handshakes()) == (1, 1)
    })
    .await;
}

#[tokio::test]
async fn who_agrees_on_http_2_and_says_nothing_is_closed() {
    let tls = Tls::start(|server| server.detection_timeout(300 * MS));
    let mut silent = tls.connect(&[b"h2"]).await.unwrap();
    let mut read = vec![];
    // However TLS takes it.
    let _ = within(silent.read_to_end(&mut read)).await;
    let mut liar = tls.connect(&[b"h2"]).await.unwrap();
    liar.write_all(GET).await.unwrap();
    let _ = within(liar.read_to_end(&mut read)).await;
    assert!(read.is_empty());
    assert_eq!(over_http2(tls.connect(&[b"h2"]).await.unwrap()).await, "HTTP/2.0");
    crate::limits::until("both are counted", || {
        (tls.server.stats.timed_out(), tls.server.stats.unrecognised()) == (1, 1)
    })
    .await;
}
