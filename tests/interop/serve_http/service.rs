//! Our own side: a service of plain HTTP, each of whose answers has its own trouble.

use std::convert::Infallible;

use axum::body::Body;
use bytes::Bytes;
use deadbeat::propagation::RequestBody;
use deadbeat::propagation::http::Http;
use deadbeat::serve::{Incoming, Server, Stats};
use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::sync::mpsc::unbounded_channel;
use tokio_stream::{Stream, StreamExt};
use tower::service_fn;

use crate::service::{Event, Running, Tell, run};
use crate::within;

/// So long is what `/long` promises, of which it sends [`HALF`].
pub(super) const LONG: usize = 10;
pub(super) const HALF: &[u8] = b"half";
pub(super) const HELLO: &str = "hello";

/// One that runs.
pub(super) struct Served {
    pub(super) at: String,
    pub(super) stats: Stats,
    events: tokio::sync::mpsc::UnboundedReceiver<Event>,
}

impl Served {
    pub(super) fn start() -> Self {
        let (tell, events) = unbounded_channel();
        let service = service_fn(move |request| handle(tell.clone(), request));
        let (at, stats) = run(Server::http(service));
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
