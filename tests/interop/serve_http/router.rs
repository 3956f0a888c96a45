//! The same from a router of axum's, whose extractors are what reads.

use std::convert::Infallible;
use std::future::{pending, ready};

use axum::Router;
use axum::body::Body;
use axum::routing::{any, get, put};
use bytes::Bytes;
use deadbeat::deadline::Deadline;
use deadbeat::serve::Server;
use http::Response;
use tokio_stream::StreamExt;

use super::clients::{Call, Client, Sends};
use super::service::{HALF, HELLO, LONG, start};
use super::{LIMIT_MS, is_cut, is_late, is_whole};

/// curl and Node, over each version of HTTP.
const CLIENTS: [Client; 4] = [Client::Curl1, Client::Node1, Client::Curl2, Client::Node2];

fn half() -> Body {
    let half = tokio_stream::once(Ok::<_, Infallible>(HALF)).chain(tokio_stream::pending());
    Body::from_stream(half)
}

fn router() -> Router {
    let long = async || {
        let answer = Response::builder().header("content-length", LONG);
        answer.body(half()).expect("it is sound")
    };
    Router::new()
        // An answer only to who has told how long it waits.
        .route("/ok", get(async |it: Deadline| if it.is_never() { "no deadline" } else { HELLO }))
        .route("/never", any(async || pending::<()>().await))
        .route("/long", get(long))
        .route("/chunks", get(async || half()))
        // By PUT, or by POST.
        .route("/upload", put(upload).post(upload))
}

async fn upload(body: Bytes) -> String {
    body.len().to_string()
}

#[tokio::test]
async fn a_router_of_axums_is_as_punctual_to_them() {
    for client in CLIENTS {
        let (at, stats) = start(Server::http(router()));
        let again = || Call::to("/ok").within(30_000);
        for cut in ["/long", "/chunks"] {
            let calls = [again(), Call::to(cut).within(LIMIT_MS), again()];
            let Some(seen) = client.calls(&at, &calls, ready(())).await else { return };
            is_whole(client, &seen[0]);
            is_whole(client, &seen[2]);
            assert_eq!((seen[1].status, seen[1].data), (200, HALF.len() as u64), "{client:?}");
            is_cut(client, &seen[1]);
        }
        // By version: a stream, or its connection.
        assert_eq!(stats.cut_streams() + stats.cut_connections(), 2, "{client:?}");
        assert_eq!(stats.cut_streams() == 2, client.is_http2(), "{client:?}");

        let calls = [Call::to("/never").within(LIMIT_MS), again()];
        let Some(seen) = client.calls(&at, &calls, ready(())).await else { return };
        is_late(client, &seen[0]);
        is_whole(client, &seen[1]);

        // For curl over HTTP/2, see above.
        if client != Client::Curl2 {
            let upload = Call::to("/upload").within(LIMIT_MS).sends(Sends::Half);
            let calls = [upload, again()];
            let Some(seen) = client.calls(&at, &calls, ready(())).await else { return };
            // And not the extractor's 400.
            is_late(client, &seen[0]);
            is_whole(client, &seen[1]);
        }
    }
}
