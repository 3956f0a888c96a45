//! Our own side: the four methods as they look to HTTP, and a client of such.

use std::convert::Infallible;

use bytes::{BufMut, Bytes, BytesMut};
use deadbeat::propagation::http::{self, Http, ServerLayer};
use deadbeat::propagation::{RequestBody, client};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::TokioExecutor;
use serde_json::Value;
use tokio::sync::mpsc::unbounded_channel;
use tokio_stream::StreamExt;
use tower::{Layer, ServiceExt, service_fn};

use super::Version;
use crate::service::{Method, Running, Served, Tell, serve_http};

/// The flag of the message that ends a stream.
const END: u8 = 2;

const UNARY: &str = "application/json";
const STREAM: &str = "application/connect+json";

type Body = BoxBody<Bytes, Infallible>;

fn envelope(flag: u8, text: &str) -> Bytes {
    let mut message = BytesMut::new();
    message.put_u8(flag);
    message.put_u32(u32::try_from(text.len()).expect("it is short"));
    message.put_slice(text.as_bytes());
    message.freeze()
}

fn answer(content_type: &str, body: impl Into<Bytes>) -> ::http::Response<Body> {
    let response = ::http::Response::builder().header("content-type", content_type);
    response.body(Full::new(body.into()).boxed()).expect("it is sound")
}

/// `first`, and no end.
fn endless<T: Send + Sync + 'static>(first: Bytes, held: T) -> Body {
    let frames = tokio_stream::once(Ok(Frame::data(first))).chain(tokio_stream::pending());
    let frames = frames.map(move |it| {
        let _ = &held;
        it
    });
    BodyExt::boxed(StreamBody::new(frames))
}

async fn handle(
    tell: Tell,
    request: ::http::Request<RequestBody<hyper::body::Incoming, Http>>,
) -> Result<::http::Response<Body>, Infallible> {
    let running = Running::begin(&tell, &request);
    let path = request.uri().path().to_owned();
    let mut body = request.into_body();
    if path != Method::Upload.path() {
        // Its only message; what fails then ends the handler by itself.
        let _ = (&mut body).collect().await;
    }
    Ok(match path.as_str() {
        "/interop.Interop/Echo" => {
            running.end("answered");
            answer(UNARY, "{}")
        }
        "/interop.Interop/Never" => {
            let _running = running;
            std::future::pending().await
        }
        "/interop.Interop/Stream" => {
            let mut response = answer(STREAM, "");
            *response.body_mut() = endless(envelope(0, "{}"), running);
            response
        }
        "/interop.Interop/Upload" => {
            let end = loop {
                match body.frame().await {
                    Some(Ok(_)) => {}
                    Some(Err(error)) => break Err(error),
                    None => break Ok(()),
                }
            };
            running.end(match &end {
                Ok(()) => "complete",
                Err(error) if error.is_expired() => "cut off by the deadline",
                Err(_) => "cut off",
            });
            let messages = match end {
                Ok(()) => [envelope(0, "{}"), envelope(END, "{}")].concat(),
                // What the layer says is to come before it.
                Err(_) => envelope(END, r#"{"error":{"code":"data_loss"}}"#).to_vec(),
            };
            answer(STREAM, messages)
        }
        _ => panic!("no such method: {path}"),
    })
}

/// Serves both versions with hyper: no timeouts but those of the layer.
pub(super) async fn serve(layer: ServerLayer) -> Served {
    let stats = layer.stats();
    let (tell, events) = unbounded_channel();
    let telling = tell.clone();
    let service = layer.layer(service_fn(move |request| handle(telling.clone(), request)));
    Served { at: serve_http(tell, service).await, stats, events }
}

pub(super) type Caller = client::Client<Client<HttpConnector, RequestBody<Body, Http>>, Http>;

/// A client within `layer`, with connections of its own.
pub(super) fn client(version: Version, layer: &http::ClientLayer) -> Caller {
    let mut builder = Client::builder(TokioExecutor::new());
    layer.layer(builder.http2_only(!version.is_1()).build_http())
}

/// How a call has ended, and how many messages there were.
#[derive(Debug)]
pub(super) enum End {
    /// With what the server says: `None` if that is no error.
    Told(usize, Option<Value>),
    Failed(usize, http::Error),
}

impl End {
    /// As a cell of the matrix. Our own error has no name in the protocol.
    pub(super) fn text(&self) -> String {
        match self {
            Self::Told(_, None) => "answered".into(),
            Self::Told(_, Some(error)) => {
                format!("it says {}", error["code"].as_str().expect("a code"))
            }
            Self::Failed(_, error) if error.is_expired() => "our deadline's error".into(),
            Self::Failed(_, error) => format!("{error}"),
        }
    }
}

/// Calls `method` to its end.
pub(super) async fn call(client: Caller, at: &str, method: Method) -> End {
    let is_unary = matches!(method, Method::Echo | Method::Never);
    let content_type = if is_unary { UNARY } else { STREAM };
    let body = match method {
        Method::Echo | Method::Never => Full::from("{}").boxed(),
        Method::Stream => Full::from(envelope(0, "{}")).boxed(),
        Method::Upload => endless(envelope(0, "{}"), ()),
    };
    let request = ::http::Request::post(format!("http://{at}{}", method.path()))
        .header("content-type", content_type)
        .header("connect-protocol-version", "1");
    let response = match client.oneshot(request.body(body).expect("it is sound")).await {
        Ok(response) => response,
        Err(error) => return End::Failed(0, error),
    };
    let status = response.status();
    let mut body = response.into_body();
    let (mut text, mut count) = (BytesMut::new(), 0);
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => text.extend(frame.into_data().unwrap_or_default()),
            Err(error) => return End::Failed(count, error),
        }
        while let Some((flag, message)) = (!is_unary).then(|| next(&mut text)).flatten() {
            if flag & END == END {
                let end: Value = serde_json::from_slice(&message).expect("JSON");
                return End::Told(count, end.get("error").cloned());
            }
            count += 1;
        }
    }
    if status.is_success() {
        assert!(is_unary, "a stream without an end");
        return End::Told(1, None);
    }
    End::Told(0, Some(serde_json::from_slice(&text).expect("JSON")))
}

/// The first whole message: its flag, and what it is.
fn next(text: &mut BytesMut) -> Option<(u8, Bytes)> {
    let [flag, length @ ..] = *text.first_chunk::<5>()?;
    let length = u32::from_be_bytes(length) as usize;
    if text.len() < 5 + length {
        return None;
    }
    let mut message = text.split_to(5 + length);
    Some((flag, message.split_off(5).freeze()))
}
