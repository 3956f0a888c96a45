//! Our own side: a service of plain HTTP, each of whose answers has its own trouble.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use deadbeat::propagation::RequestBody;
use deadbeat::propagation::http::Http;
use deadbeat::serve::{Incoming, Listener, Server, Stats, rustls};
use http::{Request, Response};
use http_body_util::BodyExt;
use rustls::pki_types::PrivateKeyDer;
use tokio::sync::mpsc::unbounded_channel;
use tokio_stream::{Stream, StreamExt};
use tower::{Service, service_fn};

use crate::service::{Event, Running, Tell};
use crate::within;

/// So long is what `/long` promises, of which it sends [`HALF`].
pub(super) const LONG: usize = 10;
pub(super) const HALF: &[u8] = b"half";
pub(super) const HELLO: &str = "hello";

/// Where it is served: as it is, and within TLS.
#[derive(Clone, Debug)]
pub(super) struct At {
    pub(super) plain: String,
    pub(super) tls: String,
}

/// One that runs.
pub(super) struct Served {
    pub(super) at: At,
    pub(super) stats: Stats,
    events: tokio::sync::mpsc::UnboundedReceiver<Event>,
}

impl Served {
    pub(super) fn start() -> Self {
        let (tell, events) = unbounded_channel();
        let service = service_fn(move |request| handle(tell.clone(), request));
        let (at, stats) = start(Server::http(service));
        Self { at, stats, events }
    }

    /// How the next handler that ends does.
    pub(super) async fn over(&mut self) -> String {
        within(async {
            loop {
                if let Event::Over(how) = self.events.recv().await.expect("it runs") {
                    return how;
                }
            }
        })
        .await
    }
}

/// Has a server run, until the test is over.
pub(super) fn start<S>(server: Server<S, Http>) -> (At, Stats)
where
    S: Service<Request<RequestBody<Incoming, Http>>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + 'static,
    S::Future: Send,
{
    let bind = || Listener::bind("127.0.0.1:0").expect("loopback has ports");
    let server = server.listen(bind()).listen(bind().tls(certified()));
    let at = server.addresses().expect("they are bound");
    let at = |n: usize| at[n].tcp().expect("it is TCP").to_string();
    let (at, stats) = (At { plain: at(0), tls: at(1) }, server.stats());
    tokio::spawn(server.run());
    (at, stats)
}

fn certified() -> Arc<rustls::ServerConfig> {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).expect("a name");
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).expect("a key");
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .expect("a certificate");
    Arc::new(config)
}

/// As they come, for as long as the call lasts.
fn body(pieces: impl Stream<Item = Bytes> + Send + 'static, running: Running) -> Body {
    Body::from_stream(pieces.map(move |it| {
        let _ = &running;
        Ok::<_, Infallible>(it)
    }))
}

async fn handle(
    tell: Tell,
    request: Request<RequestBody<Incoming, Http>>,
) -> Result<Response<Body>, Infallible> {
    let running = Running::begin(&tell, &request);
    let half = || tokio_stream::once(Bytes::from_static(HALF)).chain(tokio_stream::pending());
    let mut answer = Response::builder();
    let body = match request.uri().path() {
        "/ok" => {
            running.end("answered");
            Body::from(HELLO)
        }
        "/long" => {
            answer = answer.header("content-length", LONG);
            body(half(), running)
        }
        "/chunks" => body(half(), running),
        "/flood" => {
            let piece = Bytes::from(vec![b'x'; 1 << 16]);
            body(tokio_stream::iter(std::iter::repeat(piece)), running)
        }
        "/upload" => {
            let read = request.into_body().collect().await;
            running.end(match &read {
                Ok(_) => "complete",
                Err(error) if error.is_expired() => "cut off by the deadline",
                Err(_) => "cut off",
            });
            answer = answer.status(if read.is_ok() { 200 } else { 400 });
            Body::empty()
        }
        "/never" => {
            // The body is there and isn't read.
            let _held = (running, request);
            std::future::pending().await
        }
        _ => {
            answer = answer.status(404);
            Body::empty()
        }
    };
    Ok(answer.body(body).expect("it is sound"))
}
