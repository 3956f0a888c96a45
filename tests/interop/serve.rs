//! Our server in our seat: what calls of the peers' come to, and what their frames show of it.

use std::convert::Infallible;

use ::tonic::Code;
use bytes::Bytes;
use deadbeat::propagation::RequestBody;
use deadbeat::propagation::grpc::{Grpc, ServerLayer};
use deadbeat::serve::{Incoming, Server};
use http_body::Frame;
use http_body_util::StreamBody;

use serde_json::{Value, json};
use tokio::sync::mpsc::unbounded_channel;
use tokio_stream::StreamExt;
use tower::service_fn;

use crate::MS;
use crate::matrix::{Facts, Table};
use crate::peer::{GRPC, Kind, Peer};
use crate::service::{self, Event, Method, Running, Served, name, serve_ours};

const NO_ERROR: u64 = 0;
const CANCEL: u64 = 8;

fn row(who: &str, method: Method) -> String {
    format!("{who}, {}", method.when())
}

fn status(answer: &Value) -> Code {
    let code = answer["code"].as_i64().unwrap_or_else(|| panic!("{answer}"));
    Code::from(i32::try_from(code).expect("a code"))
}

/// How an upload ends may be a race: between its end by Node and the time, say.
fn add(facts: &mut Facts, row: &str, method: Method, kind: Kind, text: String) {
    if method == Method::Upload {
        facts.vary(Table::Serve, row, kind.name(), text);
    } else {
        facts.add(Table::Serve, row, kind.name(), text);
    }
}

/// One call by a peer of that kind, and how our handler ended. `None` if it isn't installed.
async fn called(
    kind: Kind,
    layer: ServerLayer,
    method: Method,
    more: Value,
) -> Option<(Value, String)> {
    let peer = Peer::start(kind)?;
    let (mut ours, _) = serve_ours(layer);
    let mut command = json!({ "do": "call", "to": ours.at, "method": method.name(), "grpc": true });
    for (key, value) in more.as_object().expect("members") {
        command[key] = value.clone();
    }
    let answer = peer.ask(command).await;
    Some((answer, ours.over().await))
}

#[tokio::test]
async fn the_peers_deadline_ends_our_handler() {
    let mut facts = Facts::of("serve_their_deadline");
    for method in Method::ENDLESS {
        let row = row("its deadline", method);
        for kind in GRPC {
            let more = json!({ "timeout_ms": 1000 });
            let called = called(kind, ServerLayer::new(), method, more).await;
            let Some((answer, over)) = called else { return };
            assert_eq!(status(&answer), Code::DeadlineExceeded, "{kind:?}: {answer}");
            let text = format!("{}; our handler: {over}", name(status(&answer)));
            add(&mut facts, &row, method, kind, text);
        }
        // One that keeps no time shows what we send.
        let Some(peer) = Peer::start(Kind::Http2) else { return };
        let (mut ours, _) = serve_ours(ServerLayer::new());
        let answer = peer.ask(json!({
            "do": "call", "to": ours.at, "path": method.path(), "open": method == Method::Upload,
            "headers": { "grpc-timeout": "300m" },
        }));
        let answer = answer.await;
        let with = if method == Method::Stream { "trailers" } else { "head" };
        assert_eq!(answer[with]["grpc-status"], "4", "{answer}");
        let text = format!("`grpc-status: 4` in the {with}; our handler: {}", ours.over().await);
        facts.add(Table::Serve, &row, Kind::Http2.name(), text);
    }
    facts.settle();
}

#[tokio::test]
async fn the_peer_is_told_that_our_maximum_has_passed() {
    let mut facts = Facts::of("serve_maximum");
    for method in Method::ENDLESS {
        for kind in GRPC {
            let layer = ServerLayer::new().maximum(MS * 300);
            let called = called(kind, layer, method, json!({ "timeout_ms": 60_000 })).await;
            let Some((answer, over)) = called else { return };
            assert_eq!(status(&answer), Code::DeadlineExceeded, "{kind:?}: {answer}");
            // Ours, and not its own.
            let message = answer["message"].as_str().expect("a text");
            assert!(message.contains("deadline exceeded after "), "{answer}");
            assert_eq!(answer["messages"], i32::from(method == Method::Stream), "{answer}");
            let text = format!("{}; our handler: {over}", name(status(&answer)));
            facts.add(Table::Serve, &row("our maximum", method), kind.name(), text);
        }
    }
    facts.settle();
}

#[tokio::test]
async fn a_peer_that_cancels_ends_our_handler() {
    let mut facts = Facts::of("serve_their_cancel");
    for method in Method::ENDLESS {
        for kind in GRPC {
            let more = json!({ "timeout_ms": 60_000, "cancel_ms": 500 });
            let called = called(kind, ServerLayer::new(), method, more).await;
            let Some((answer, over)) = called else { return };
            assert_eq!(status(&answer), Code::Cancelled, "{kind:?}: {answer}");
            let text = format!("{}; our handler: {over}", name(status(&answer)));
            add(&mut facts, &row("it cancels", method), method, kind, text);
        }
    }
    facts.settle();
}

#[tokio::test]
async fn a_hundred_calls_of_a_peer_are_answered_on_one_connection() {
    let mut facts = Facts::of("serve_calls");
    for kind in GRPC {
        let Some(peer) = Peer::start(kind) else { return };
        let (mut ours, stats) = serve_ours(ServerLayer::new());
        let answer = peer.ask(json!({
            "do": "call", "to": ours.at, "method": "Echo", "timeout_ms": 30_000, "grpc": true,
            "count": 100,
        }));
        let answer = answer.await;
        assert_eq!(status(&answer), Code::Ok, "{kind:?}: {answer}");
        for call in 0..100 {
            assert_eq!(ours.over().await, "answered", "{kind:?}, {call}");
        }
        assert!(ours.so_far().is_empty(), "{kind:?}");
        assert_eq!((stats.accepted(), stats.failed(), stats.cut_streams()), (1, 0, 0), "{kind:?}");
        facts.add(Table::Serve, "a hundred calls", kind.name(), "answered, on one connection");
    }
    facts.settle();
}

/// Python's h2, which calls and does with the stream as it is told.
struct Frames {
    peer: Peer,
    served: Served,
    stats: deadbeat::serve::Stats,
}

impl Frames {
    fn start() -> Option<Self> {
        let peer = Peer::start(Kind::Frames)?;
        let (served, stats) = serve_ours(ServerLayer::new());
        Some(Self { peer, served, stats })
    }

    /// What it sees.
    async fn call(&self, method: Method, command: Value) -> Value {
        frames(&self.peer, &self.served.at, method.path(), command).await
    }
}

async fn frames(peer: &Peer, to: &str, path: &str, mut command: Value) -> Value {
    command["do"] = json!("call");
    command["to"] = json!(to);
    command["path"] = json!(path);
    let answer = peer.ask(command).await;
    assert!(answer["goaway"].is_null(), "{answer}");
    answer
}

/// It was reset with CANCEL, and not before its time.
#[track_caller]
fn was_cut(answer: &Value, after_ms: f64) {
    let stream = &answer["streams"][0];
    assert_eq!(stream["rst"], CANCEL, "{answer}");
    assert!(stream["after_ms"].as_f64().expect("a time") >= after_ms, "too early: {answer}");
    assert!(stream["trailers"].is_null(), "{answer}");
}

#[tokio::test]
async fn a_window_that_is_shut_holds_no_answer_longer_than_its_deadline() {
    let mut facts = Facts::of("serve_frames_window");
    let row = "gives no window";
    let Some(mut frames) = Frames::start() else { return };
    let command = json!({ "window": 0, "headers": { "grpc-timeout": "800m" } });
    let answer = frames.call(Method::Stream, command).await;
    assert!(answer["error"].is_null(), "{answer}");
    was_cut(&answer, 800.0);
    assert_eq!(answer["streams"][0]["head"][":status"], "200", "{answer}");
    assert_eq!(answer["streams"][0]["data"], 0, "{answer}");
    let over = frames.served.over().await;
    assert_eq!((over.as_str(), frames.stats.cut_streams()), ("dropped", 1));
    let text = "the head, no byte of data; RST_STREAM 8 at its deadline";
    facts.add(Table::ServeFrames, row, "it sees", text);
    facts.add(Table::ServeFrames, row, "our handler", over);

    let row = "gives a window of 3 bytes, and no more";
    let Some(mut frames) = Frames::start() else { return };
    let command = json!({ "window": 3, "reads": false, "headers": { "grpc-timeout": "800m" } });
    let answer = frames.call(Method::Stream, command).await;
    assert_eq!(answer["streams"][0]["data"], 3, "{answer}");
    let over = frames.served.over().await;
    assert_eq!(over, "dropped");
    was_cut(&answer, 800.0);
    let text = "the head, 3 bytes of data; RST_STREAM 8 at its deadline";
    facts.add(Table::ServeFrames, row, "it sees", text);
    facts.add(Table::ServeFrames, row, "our handler", over);
    facts.settle();
}

#[tokio::test]
async fn a_peer_that_reads_nothing_of_a_flood_holds_it_no_longer_than_its_deadline() {
    let mut facts = Facts::of("serve_frames_flood");
    let Some(peer) = Peer::start(Kind::Frames) else { return };
    let (tell, mut events) = unbounded_channel();
    // Messages of 64 KiB without end, whenever there is room for one.
    let flood = service_fn(move |request: http::Request<RequestBody<Incoming, Grpc>>| {
        let running = Running::begin(&tell, &request);
        let mut message = vec![0, 0, 1, 0, 0];
        message.resize(5 + (1 << 16), 0);
        let message = Bytes::from(message);
        let messages = tokio_stream::iter(std::iter::repeat(())).map(move |()| {
            let _ = &running;
            Ok::<_, Infallible>(Frame::data(message.clone()))
        });
        let answer = http::Response::builder().header("content-type", "application/grpc");
        let answer = answer.body(StreamBody::new(messages)).expect("it is one");
        async move { Ok::<_, Infallible>(answer) }
    });
    let (at, stats) = service::run(Server::grpc(flood));
    let command = json!({ "reads": false, "headers": { "grpc-timeout": "800m" } });
    let answer = frames(&peer, &at, "/interop.Interop/Flood", command).await;
    was_cut(&answer, 800.0);
    assert_eq!(answer["streams"][0]["data"], 65535, "{answer}");
    let mut over = None;
    while over.is_none() {
        if let Event::Over(how) = crate::within(events.recv()).await.expect("it runs") {
            over = Some(how);
        }
    }
    let over = over.expect("it is over");
    assert_eq!((over.as_str(), stats.cut_streams()), ("dropped", 1));
    let row = "reads nothing of answers without end";
    let text = "65535 bytes of data; RST_STREAM 8 at its deadline";
    facts.add(Table::ServeFrames, row, "it sees", text);
    facts.add(Table::ServeFrames, row, "our handler", over);
    facts.settle();
}

#[tokio::test]
async fn an_upload_that_idles_ends_at_its_deadline_also_within_a_message() {
    let mut facts = Facts::of("serve_frames_idle");
    for (row, half) in
        [("uploads, and then idles", false), ("uploads half a message, and then idles", true)]
    {
        let Some(mut frames) = Frames::start() else { return };
        let command = json!({ "open": true, "half": half, "headers": { "grpc-timeout": "800m" } });
        let answer = frames.call(Method::Upload, command).await;
        let stream = &answer["streams"][0];
        assert_eq!(stream["head"]["grpc-status"], "4", "{answer}");
        assert!(stream["after_ms"].as_f64().expect("a time") >= 800.0, "too early: {answer}");
        let over = frames.served.over().await;
        assert_eq!(over, "cut off: DEADLINE_EXCEEDED");
        let text = "`grpc-status: 4` in the head, at its deadline";
        facts.add(Table::ServeFrames, row, "it sees", text);
        facts.add(Table::ServeFrames, row, "our handler", over);
    }
    facts.settle();
}

#[tokio::test]
async fn an_upload_that_is_cut_in_the_middle_of_a_message_is_never_complete() {
    let mut facts = Facts::of("serve_frames_cut");
    let Some(mut frames) = Frames::start() else { return };
    let row = "ends an upload within a message";
    let command = json!({ "half": true, "headers": { "grpc-timeout": "60S" } });
    let answer = frames.call(Method::Upload, command).await;
    let status = answer["streams"][0]["head"]["grpc-status"].as_str().expect("a status").to_owned();
    assert_ne!(status, "0", "{answer}");
    let over = frames.served.over().await;
    assert!(over.starts_with("cut off"), "{over}");
    facts.add(Table::ServeFrames, row, "it sees", format!("`grpc-status: {status}` in the head"));
    facts.add(Table::ServeFrames, row, "our handler", over);

    for (row, code) in [
        ("resets an upload within a message, with CANCEL", CANCEL),
        ("resets an upload within a message, with NO_ERROR", NO_ERROR),
    ] {
        let Some(mut frames) = Frames::start() else { return };
        let command = json!({
            "open": true, "half": true, "headers": { "grpc-timeout": "60S" }, "reset": code,
            "after_ms": 300,
        });
        let answer = frames.call(Method::Upload, command).await;
        assert_eq!(answer["alive"], true, "{answer}");
        let over = frames.served.over().await;
        assert!(over == "dropped" || over.starts_with("cut off"), "{code}: {over}");
        facts.add(Table::ServeFrames, row, "it sees", "PING answered, no GOAWAY");
        facts.vary(Table::ServeFrames, row, "our handler", over);
    }
    facts.settle();
}

#[tokio::test]
async fn a_hundred_calls_that_are_reset_right_away_do_not_end_the_connection() {
    let mut facts = Facts::of("serve_frames_resets");
    let Some(mut frames) = Frames::start() else { return };
    let command = json!({ "count": 100, "headers": { "grpc-timeout": "60S" }, "reset": CANCEL });
    let answer = frames.call(Method::Never, command).await;
    assert_eq!(answer["alive"], true, "{answer}");
    assert_eq!(answer["streams"].as_array().expect("streams").len(), 100, "{answer}");
    // Not all need have begun. Those that have are over, and the server serves.
    let command = json!({ "headers": { "grpc-timeout": "60S" } });
    let after = frames.call(Method::Echo, command).await;
    assert_eq!(after["streams"][0]["trailers"]["grpc-status"], "0", "{after}");
    let (mut running, mut is_answered) = (0, false);
    while running > 0 || !is_answered {
        match frames.served.event().await {
            Event::Begun(_) => running += 1,
            Event::Over(how) => {
                running -= 1;
                is_answered |= how == "answered";
            }
            Event::Arrived(_) => {}
        }
    }
    assert_eq!(frames.stats.failed(), 0);
    let row = "makes 100 calls, and resets them right away";
    facts.add(Table::ServeFrames, row, "it sees", "PING answered, no GOAWAY");
    facts.add(Table::ServeFrames, row, "our handler", "dropped, if it had begun");
    facts.settle();
}
