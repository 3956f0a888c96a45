//! Plain HTTP.

use std::convert::Infallible;

use bytes::Bytes;
use deadbeat::channel::Channel;
use deadbeat::propagation::http::{ClientLayer, Http};
use http::Response;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tower::Service;

use super::{SECOND, within};

/// Serves plain HTTP/2 on whatever there is.
pub(super) async fn serve_plain<T>(io: T)
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let service =
        hyper::service::service_fn(async |request: http::Request<hyper::body::Incoming>| {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let names: Vec<_> = head.headers.keys().map(|name| name.as_str()).collect();
            let text = format!("{} {} {} {names:?}", head.method, head.uri, body.len());
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(text))))
        });
    let io = hyper_util::rt::TokioIo::new(io);
    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    // The test may be over.
    let _ = server.serve_connection(io, service).await;
}

pub(super) async fn text(
    channel: &mut Channel<Http>,
    request: http::Request<Full<Bytes>>,
) -> String {
    let answer = within(Service::call(channel, request)).await.unwrap();
    let body = within(answer.into_body().collect()).await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

#[tokio::test]
async fn plain_http_is_called_with_what_its_version_allows() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((io, _)) = listener.accept().await {
            tokio::spawn(serve_plain(io));
        }
    });
    let layer = ClientLayer::new().timeout(60 * SECOND);
    let builder = Channel::<Http>::builder(format!("http://{address}")).layer(layer);
    let mut channel = builder.build().unwrap();
    let get = http::Request::get("/apples?ripe")
        .header("connection", "keep-alive, x-hop")
        .header("x-hop", "1")
        .header("host", "elsewhere")
        .body(Full::default());
    let told = text(&mut channel, get.unwrap()).await;
    assert_eq!(told, format!("GET http://{address}/apples?ripe 0 [\"connect-timeout-ms\"]"));
    let post = http::Request::post("http://stock/apples").body(Full::from("ripe")).unwrap();
    let told = text(&mut channel, post).await;
    let names = "[\"connect-timeout-ms\", \"content-length\"]";
    assert!(told.starts_with("POST http://stock/apples 4"), "{told}");
    assert!(
        told.contains("content-length") && told.contains("connect-timeout-ms"),
        "{told} {names}"
    );
}

#[cfg(unix)]
#[tokio::test]
async fn a_unix_socket_is_called_by_its_path() {
    let path = std::env::temp_dir().join(format!("deadbeat-{}.sock", std::process::id()));
    // None may be left from an earlier run.
    let _ = std::fs::remove_file(&path);
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((io, _)) = listener.accept().await {
            tokio::spawn(serve_plain(io));
        }
    });
    let builder = Channel::<Http>::builder(format!("unix:{}", path.display()));
    let mut channel = builder.build().unwrap();
    let told = text(&mut channel, http::Request::get("/").body(Full::default()).unwrap()).await;
    assert_eq!(told, "GET http://localhost/ 0 []");
    std::fs::remove_file(&path).unwrap();
}
