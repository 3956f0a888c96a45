//! Node's own HTTP/2 as the peer, if it is there: see tests/interop for more of it.

use std::convert::Infallible;
use std::future::pending;
use std::net::SocketAddr;
use std::process::Stdio;

use axum::body::Body;
use deadbeat::propagation::RequestBody;
use deadbeat::propagation::http::Http;
use deadbeat::serve::{Incoming, Server};
use http::{Request, Response};

use serde_json::Value;
use tower::service_fn;

use crate::server::{Drops, endless, start, stuck};
use crate::{common, within};

type Ours = Request<RequestBody<Incoming, Http>>;

/// Makes a call with 400 ms, which reads its answer or doesn't. Then one more on the same session.
const SCRIPT: &str = r"
const session = require('node:http2').connect(`http://${process.argv[1]}`);
const call = (reads) => new Promise((resolve) => {
  const stream = session.request({ ':path': '/', 'connect-timeout-ms': '400' });
  const seen = { data: 0 };
  stream.on('response', (head) => (seen.status = head[':status']));
  stream.on('error', (error) => (seen.failure = error.code));
  stream.on('close', () => resolve({ ...seen, rst: stream.rstCode, ended: stream.readableEnded }));
  if (reads) stream.on('data', (data) => (seen.data += data.length));
});
(async () => {
  const reads = process.argv[2] === 'reads';
  const seen = [await call(reads), await call(reads)];
  console.log(JSON.stringify({ seen, alive: !session.destroyed }));
  session.destroy();
})();
";

const FAILURE: &str = "ERR_HTTP2_STREAM_ERROR";

/// What it has seen; `None` if it isn't there.
async fn node(at: SocketAddr, reads: bool) -> Option<Value> {
    let mut command = tokio::process::Command::new("node");
    let reads = if reads { "reads" } else { "idles" };
    command
        .args(["-e", SCRIPT, "--", &at.to_string(), reads])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    match within(command.output()).await {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stdout);
            let failed = String::from_utf8_lossy(&output.stderr);
            Some(serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}\n{failed}")))
        }
        Err(_) => {
            common::skip("no node");
            None
        }
    }
}

#[tokio::test]
async fn node_sees_an_error_when_an_answer_is_cut() {
    let drops = Drops::new();
    let guards = drops.guards();
    let service = service_fn(move |_: Ours| {
        let body = stuck(1, b"half", guards.one());
        async { Ok::<_, Infallible>(Response::new(body)) }
    });
    let server = start(Server::http(service));
    let Some(said) = node(server.at(), true).await else { return };
    assert_eq!(said["alive"], true, "{said}");
    for seen in said["seen"].as_array().unwrap() {
        assert_eq!((&seen["status"], &seen["data"]), (&200.into(), &4.into()), "{said}");
        // Of CANCEL it would say nothing: `end`, and no error.
        assert_eq!((&seen["rst"], &seen["failure"]), (&2.into(), &FAILURE.into()), "{said}");
        assert_eq!(seen["ended"], false, "{said}");
    }
    assert_eq!(server.stats.cut_streams(), 2);
}

#[tokio::test]
async fn node_that_does_not_read_holds_nobody() {
    let mut drops = Drops::new();
    let guards = drops.guards();
    let service = service_fn(move |_: Ours| {
        let body = endless(8 << 10, guards.one());
        async { Ok::<_, Infallible>(Response::new(body)) }
    });
    let server = start(Server::http(service));
    let asked = node(server.at(), false);
    let Some(said) = asked.await else { return };
    assert_eq!(said["alive"], true, "{said}");
    for seen in said["seen"].as_array().unwrap() {
        assert_eq!((&seen["rst"], &seen["failure"]), (&2.into(), &FAILURE.into()), "{said}");
    }
    drops.one().await;
    drops.one().await;
}

#[tokio::test]
async fn node_is_answered_when_a_handler_is_late() {
    let never = service_fn(async |_: Ours| pending::<Result<Response<Body>, Infallible>>().await);
    let server = start(Server::http(never));
    let Some(said) = node(server.at(), true).await else { return };
    for seen in said["seen"].as_array().unwrap() {
        assert_eq!((&seen["status"], &seen["rst"]), (&504.into(), &0.into()), "{said}");
    }
}
