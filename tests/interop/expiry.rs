//! Calls whose deadline passes while the other side works.

use ::tonic::{Code, Request};
use deadbeat::propagation::grpc::{ClientLayer, ServerLayer};
use serde_json::json;
use tower::Layer;

use crate::matrix::{Facts, Table};
use crate::peer::{GRPC, Kind, Peer};
use crate::service::{self, Method, connect, name, outcome, serve};
use crate::{MS, within};

/// Of HTTP/2.
const NO_ERROR: u64 = 0;
const CANCEL: u64 = 8;

fn row(who: &str, method: Method) -> String {
    format!("{who}, {}", method.when())
}

#[tokio::test]
async fn our_deadline_ends_the_call_and_the_peers_handler() {
    let mut facts = Facts::of("our_deadline");
    for method in Method::ENDLESS {
        for kind in GRPC {
            let Some(mut peer) = Peer::start(kind) else { return };
            let channel = connect(&peer.serve(json!({})).await).await;
            let limited = ClientLayer::new().timeout(MS * 1000).layer(channel.clone());
            let (_, result) = within(service::call(limited, method, Request::new(()))).await;
            assert_eq!(result.as_ref().unwrap_err().code(), Code::DeadlineExceeded, "{result:?}");
            peer.event("begun").await;
            let over = peer.event("over").await;
            let text =
                format!("{}; its handler: {}", outcome(&result), over["why"].as_str().unwrap());
            facts.add(Table::OurDeadline, &row("our deadline", method), kind.name(), text);
        }
        let Some(mut peer) = Peer::start(Kind::Http2) else { return };
        // The others' libraries do that by themselves.
        let plan = json!([{ "headers": {}, "message": true }]);
        let plan = if method == Method::Stream { plan } else { json!([]) };
        let channel = connect(&peer.serve(json!({ "plan": plan })).await).await;
        let limited = ClientLayer::new().timeout(MS * 1000).layer(channel);
        let (messages, result) = within(service::call(limited, method, Request::new(()))).await;
        assert_eq!(result.as_ref().unwrap_err().code(), Code::DeadlineExceeded, "{result:?}");
        assert_eq!(messages, usize::from(method == Method::Stream));
        let over = peer.event("over").await;
        assert_eq!(over["rst"], CANCEL, "{over}");
        let text = format!("{}; RST_STREAM {}", outcome(&result), over["rst"]);
        facts.add(Table::OurDeadline, &row("our deadline", method), Kind::Http2.name(), text);
    }
    facts.settle();
}

#[tokio::test]
async fn who_calls_us_no_more_ends_the_peers_handler() {
    let mut facts = Facts::of("our_drop");
    for method in Method::ENDLESS {
        for kind in GRPC {
            // It may not go on with a handler that has anything to read or write then, and tells nothing.
            if kind == Kind::Grpcio && method != Method::Never {
                continue;
            }
            let Some(mut peer) = Peer::start(kind) else { return };
            let channel = ClientLayer::new().layer(connect(&peer.serve(json!({})).await).await);
            let calling = tokio::spawn(service::call(channel, method, Request::new(())));
            peer.event("begun").await;
            calling.abort();
            let over = peer.event("over").await;
            let text = format!("its handler: {}", over["why"].as_str().unwrap());
            facts.add(Table::OurDeadline, &row("we give up", method), kind.name(), text);
        }
        let Some(mut peer) = Peer::start(Kind::Http2) else { return };
        let plan = json!([{ "headers": {}, "message": true }]);
        let plan = if method == Method::Stream { plan } else { json!([]) };
        let channel = connect(&peer.serve(json!({ "plan": plan })).await).await;
        let channel = ClientLayer::new().layer(channel);
        let calling = tokio::spawn(service::call(channel, method, Request::new(())));
        peer.event("begun").await;
        calling.abort();
        let over = peer.event("over").await;
        assert_eq!(over["rst"], CANCEL, "{over}");
        let text = format!("RST_STREAM {}", over["rst"]);
        facts.add(Table::OurDeadline, &row("we give up", method), Kind::Http2.name(), text);
    }
    facts.settle();
}

#[tokio::test]
async fn the_peers_deadline_drops_our_handler() {
    let mut facts = Facts::of("their_deadline");
    for method in Method::ENDLESS {
        for kind in GRPC {
            let Some(peer) = Peer::start(kind) else { return };
            let mut ours = serve(ServerLayer::new()).await;
            let answer = peer.ask(json!({
                "do": "call", "to": ours.at, "method": method.name(), "timeout_ms": 1000, "grpc": true,
            }));
            let answer = answer.await;
            assert_eq!(answer["code"], Code::DeadlineExceeded as i32, "{kind:?}: {answer}");
            let text = format!("{}; our handler: {}", status(&answer), ours.over().await);
            add(&mut facts, &row("its deadline", method), method, kind, text);
        }
        // One that keeps no time shows what we send.
        let Some(peer) = Peer::start(Kind::Http2) else { return };
        let mut ours = serve(ServerLayer::new()).await;
        let answer = peer.ask(json!({
            "do": "call", "to": ours.at, "path": method.path(), "open": method == Method::Upload,
            "headers": { "grpc-timeout": "300m" },
        }));
        let answer = answer.await;
        let with = if method == Method::Stream { "trailers" } else { "head" };
        assert_eq!(answer[with]["grpc-status"], "4", "{answer}");
        let text = format!("`grpc-status: 4` in the {with}; our handler: {}", ours.over().await);
        facts.add(Table::TheirDeadline, &row("its deadline", method), Kind::Http2.name(), text);
    }
    facts.settle();
}

/// What ends an upload from Node, or the time, may come first; and Node may end it as if it were complete.
fn add(facts: &mut Facts, row: &str, method: Method, kind: Kind, text: String) {
    if method == Method::Upload {
        facts.vary(Table::TheirDeadline, row, kind.name(), text);
    } else {
        facts.add(Table::TheirDeadline, row, kind.name(), text);
    }
}

fn status(answer: &serde_json::Value) -> String {
    let code = answer["code"].as_i64().unwrap_or_else(|| panic!("{answer}"));
    name(Code::from(i32::try_from(code).expect("a code")))
}

#[tokio::test]
async fn the_peer_is_told_that_our_limit_has_passed() {
    let mut facts = Facts::of("our_maximum");
    for method in Method::ENDLESS {
        for kind in GRPC {
            let Some(peer) = Peer::start(kind) else { return };
            let mut ours = serve(ServerLayer::new().maximum(MS * 300)).await;
            let answer = peer.ask(json!({
                "do": "call", "to": ours.at, "method": method.name(), "timeout_ms": 60_000, "grpc": true,
            }));
            let answer = answer.await;
            assert_eq!(answer["code"], Code::DeadlineExceeded as i32, "{kind:?}: {answer}");
            // Ours, and not its own.
            let message = answer["message"].as_str().expect("a text");
            assert!(message.contains("deadline exceeded after "), "{answer}");
            assert_eq!(answer["messages"], i32::from(method == Method::Stream), "{answer}");
            let text = format!("{}; our handler: {}", status(&answer), ours.over().await);
            facts.add(Table::TheirDeadline, &row("our maximum", method), kind.name(), text);
        }
    }
    facts.settle();
}

#[tokio::test]
async fn a_peer_that_cancels_drops_our_handler() {
    let mut facts = Facts::of("their_cancel");
    for method in Method::ENDLESS {
        for kind in GRPC {
            let Some(peer) = Peer::start(kind) else { return };
            let mut ours = serve(ServerLayer::new()).await;
            let answer = peer.ask(json!({
                "do": "call", "to": ours.at, "method": method.name(), "timeout_ms": 60_000,
                "cancel_ms": 500, "grpc": true,
            }));
            let answer = answer.await;
            assert_eq!(answer["code"], Code::Cancelled as i32, "{kind:?}: {answer}");
            let text = format!("{}; our handler: {}", status(&answer), ours.over().await);
            add(&mut facts, &row("it cancels", method), method, kind, text);
        }
    }
    facts.settle();
}

#[tokio::test]
async fn a_stream_that_is_reset_ends_our_handler() {
    let Some(peer) = Peer::start(Kind::Http2) else { return };
    let mut ours = serve(ServerLayer::new().incomplete_is_error(true)).await;
    for reset in [NO_ERROR, 2, 7, CANCEL] {
        for method in Method::ENDLESS {
            let answer = peer.ask(json!({
                "do": "call", "to": ours.at, "path": method.path(), "open": method == Method::Upload,
                "headers": { "grpc-timeout": "60S" }, "reset": reset, "after_ms": 300,
            }));
            let answer = answer.await;
            assert_eq!(answer["rst"], reset, "{answer}");
            let over = ours.over().await;
            // Before it resets an upload, Node may end it.
            let is_ended = method == Method::Upload && over == "complete";
            let is_over = is_ended || over == "dropped" || over.starts_with("cut off");
            assert!(is_over, "{reset}, {method:?}: {over}");
        }
    }
}
