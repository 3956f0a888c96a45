//! The layers for HTTP by hyper and axum, HTTP/1 and HTTP/2, over loopback: the outcome is asserted, and no
//! duration.

use std::future::pending;

use axum::Router;
use axum::extract::Request as AxumRequest;
use axum::routing::{get, post};
use bytes::Bytes;
use deadbeat::deadline::Deadline;
use deadbeat::propagation::RequestBody;
use deadbeat::propagation::http::{
    ClientLayer, DEADLINE_EXCEEDED, Http, RequestDeadline, ServerLayer,
};
use deadbeat::time::Duration;
use http::{Request, Response, StatusCode};
use http_body::Body;
use http_body_util::{BodyExt, Channel, Full};
use hyper_util::client::legacy::{Client, connect::HttpConnector};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tower::{BoxError, Layer, Service};

const MS: Duration = Duration::from_millis(1);

type Plain = Full<Bytes>;

/// Serves either version with hyper. Returns the URL.
async fn serve(app: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((io, _)) = listener.accept().await {
            let service = TowerToHyperService::new(app.clone());
            tokio::spawn(async move {
                hyper_util::server::conn::auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(io), service)
                    .await
                    .map_err(|error| error.to_string())
            });
        }
    });
    format!("http://{at}")
}

/// A body without an end.
fn endless() -> axum::body::Body {
    let (mut send, body) = Channel::<Bytes>::new(1);
    tokio::spawn(async move { while send.send_data("more".into()).await.is_ok() {} });
    axum::body::Body::new(body)
}

/// Fails as Connect's streams do when its upload does: with a body of known length.
async fn known(request: AxumRequest) -> Response<axum::body::Body> {
    let text = match request.into_body().collect().await {
        Ok(_) => b"\x02\0\0\0\x02{}".as_slice(),
        Err(_) => b"\x02\0\0\0\x1c{\"error\":{\"code\":\"unknown\"}}",
    };
    let response = Response::builder().header("content-type", "application/connect+json");
    response.body(text.into()).unwrap()
}

fn app() -> Router {
    Router::new()
        .route("/is-limited", get(async |it: Deadline| (!it.is_never()).to_string()))
        .route("/never", get(pending::<&str>))
        .route("/endless", get(async || endless()))
        .route("/known", post(known))
        .route("/upload", post(async |body: Bytes| format!("{} bytes", body.len())))
        .layer(ServerLayer::new())
}

/// A client that knows nothing of deadlines.
fn plain<B>(http2: bool) -> Client<HttpConnector, B>
where
    B: Body<Error: Into<BoxError>> + Send + Unpin + 'static,
    B::Data: Send,
{
    Client::builder(TokioExecutor::new()).http2_only(http2).build_http()
}

fn limited(url: String, ms: &str) -> Request<Plain> {
    Request::get(url).header("connect-timeout-ms", ms).body(Plain::default()).unwrap()
}

fn is_expired<B>(response: &Response<B>) -> bool {
    response.status() == StatusCode::GATEWAY_TIMEOUT
        && response.headers().get(DEADLINE_EXCEEDED).is_some_and(|by| by == "header")
}

#[tokio::test]
async fn a_client_that_knows_only_the_header_is_answered() {
    let at = serve(app()).await;
    for http2 in [false, true] {
        let client = plain::<Plain>(http2);
        let ask = |path: &str, ms| client.request(limited(format!("{at}{path}"), ms));
        let body = ask("/is-limited", "60000").await.unwrap().into_body();
        assert_eq!(body.collect().await.unwrap().to_bytes(), "true");
        assert!(is_expired(&ask("/never", "20").await.unwrap()));
        let begun = ask("/endless", "500").await.unwrap();
        assert_eq!(begun.status(), StatusCode::OK);
        assert!(begun.into_body().collect().await.is_err(), "a clean end");
        let none = Request::get(format!("{at}/is-limited")).body(Plain::default()).unwrap();
        let body = client.request(none).await.unwrap().into_body();
        assert_eq!(body.collect().await.unwrap().to_bytes(), "false");
    }
}

#[tokio::test]
async fn an_upload_that_is_late_is_a_504_and_not_the_clients_fault() {
    let at = serve(app()).await;
    for http2 in [false, true] {
        let (mut send, body) = Channel::<Bytes>::new(1);
        send.send_data("half".into()).await.unwrap();
        let request = Request::post(format!("{at}/upload")).header("connect-timeout-ms", "30");
        let response = plain(http2).request(request.body(body).unwrap()).await.unwrap();
        assert!(is_expired(&response));
        drop(send);
    }
}

#[tokio::test]
async fn a_stream_of_connects_whose_upload_is_late_has_all_of_its_end() {
    let at = serve(app()).await;
    for http2 in [false, true] {
        let (mut send, body) = Channel::<Bytes>::new(1);
        send.send_data("half".into()).await.unwrap();
        let request = Request::post(format!("{at}/known"))
            .header("content-type", "application/connect+json")
            .header("connect-timeout-ms", "30");
        let response = plain(http2).request(request.body(body).unwrap()).await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let text = response.into_body().collect().await.unwrap().to_bytes();
        let end: serde_json::Value = serde_json::from_slice(&text[5..]).unwrap();
        assert_eq!(end["error"]["code"], "deadline_exceeded", "{end}");
        drop(send);
    }
}

#[tokio::test]
async fn our_client_and_server_meet() {
    let at = serve(app()).await;
    for http2 in [false, true] {
        let mut client = ClientLayer::new().layer(plain::<RequestBody<Plain, Http>>(http2));
        let mut ask = async |path: &str, ms| {
            let mut request = Request::get(format!("{at}{path}")).body(Plain::default()).unwrap();
            request.set_deadline(MS * ms);
            client.call(request).await?.into_body().collect().await.map(|it| it.to_bytes())
        };
        assert_eq!(ask("/is-limited", 60_000).await.unwrap(), "true");
        // Either side may be the first to notice.
        match ask("/never", 30).await {
            Ok(text) => assert!(text.starts_with(b"deadline exceeded after "), "{text:?}"),
            Err(error) => assert!(error.is_expired(), "{error}"),
        }
        assert!(ask("/endless", 50).await.is_err(), "a clean end");
    }
}

struct Gone(UnboundedSender<()>);

impl Drop for Gone {
    fn drop(&mut self) {
        // Nobody listens any more, once the test is over.
        let _ = self.0.send(());
    }
}

/// A server that knows nothing of deadlines, and never answers; it tells when a handler is dropped.
async fn serve_nobody() -> (String, tokio::sync::mpsc::UnboundedReceiver<()>) {
    let (tell, told) = unbounded_channel();
    let app = Router::new().fallback(async move |_: AxumRequest| {
        let _gone = Gone(tell.clone());
        pending::<&str>().await
    });
    (serve(app).await, told)
}

#[tokio::test]
async fn our_client_gives_up_and_the_handler_is_dropped() {
    let (at, mut told) = serve_nobody().await;
    for http2 in [false, true] {
        let mut client = ClientLayer::new().timeout(300 * MS).layer(plain(http2));
        let request = Request::post(at.clone()).body(Plain::from("all of it")).unwrap();
        let error = client.call(request).await.unwrap_err();
        let expired = error.expired().unwrap();
        assert_eq!(expired.spent().unwrap().total(), expired.elapsed());
        told.recv().await.unwrap();
    }
}

#[tokio::test]
async fn a_stream_is_reset_though_its_upload_never_ends() {
    // Only over HTTP/2: over HTTP/1, hyper's server doesn't look for the end of a connection while a body
    // that the handler doesn't read is in the way.
    let (at, mut told) = serve_nobody().await;
    let mut client = ClientLayer::new().timeout(300 * MS).layer(plain(true));
    let (mut send, body) = Channel::<Bytes>::new(1);
    send.send_data("some".into()).await.unwrap();
    let error = client.call(Request::post(at).body(body).unwrap()).await.unwrap_err();
    assert!(error.is_expired());
    told.recv().await.unwrap();
    drop(send);
}
