//! Our server and clients of plain HTTP: what they make of calls that end by their deadline, and of the
//! connection after that.

mod clients;
mod router;
mod service;

use std::future::ready;

use crate::matrix::{Facts, Table};
use crate::peer::{Kind, Peer, tool};
use clients::{Call, Client, Seen, Sends};
use service::{HALF, HELLO, Served};

/// That a call which is to end has.
const LIMIT_MS: u32 = 800;

/// An answer to `/ok`.
#[track_caller]
fn is_whole(client: Client, seen: &Seen) {
    let expected =
        Seen { status: 200, why: None, data: HELLO.len() as u64, ended: true, error: None };
    assert_eq!(*seen, expected, "{client:?}");
}

/// On what connection the second of two calls was made.
fn next(connections: u64) -> &'static str {
    match connections {
        1 => "the next on the same connection",
        2 => "the next on another connection",
        _ => panic!("{connections} connections for two calls"),
    }
}

/// A 504 that says why, and what is to be told of it.
#[track_caller]
fn is_late(client: Client, seen: &Seen) -> &'static str {
    assert_eq!((seen.status, seen.why.as_deref()), (504, Some("header")), "{client:?}: {seen:?}");
    assert!(seen.ended && seen.data > 0, "{client:?}: {seen:?}");
    "504"
}

/// An answer of which a part has come, and that didn't look complete. What the client said then.
#[track_caller]
fn is_cut(client: Client, seen: &Seen) -> String {
    assert!(!seen.ended, "a clean end: {client:?}: {seen:?}");
    seen.error.clone().unwrap_or_else(|| panic!("{client:?}: {seen:?}"))
}

#[tokio::test]
async fn the_clients_are_of_these_versions() {
    let mut facts = Facts::of("serve_http_versions");
    let Some(mut curl) = tool("curl") else { return };
    let said = curl.arg("--version").output().await.expect("it ends");
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    let version = said.split(' ').take(2).collect::<Vec<_>>().join(" ");
    facts.add(Table::Versions, "curl", "version", version);
    for kind in [Kind::Http, Kind::HttpClient] {
        let Some(peer) = Peer::start(kind) else { return };
        facts.add(Table::Versions, kind.name(), "version", peer.version().await);
    }
    facts.settle();
}

#[tokio::test]
async fn a_call_in_time_is_whole_and_its_deadline_is_nobodys_then() {
    let mut facts = Facts::of("serve_http_calls");
    for client in Client::ALL {
        let mut ours = Served::start();
        let calls = vec![Call::to("/ok").within(30_000); 100];
        let seen = client.calls(&ours.at, &calls, ready(())).await;
        let Some(seen) = seen else { return };
        assert_eq!(seen.len(), 100, "{client:?}");
        for one in &seen {
            is_whole(client, one);
            assert_eq!(ours.over().await, "answered", "{client:?}");
        }
        let connections = if client.keeps_alive() { 1 } else { 100 };
        let stats = &ours.stats;
        assert_eq!(stats.accepted(), connections, "{client:?}");
        assert_eq!((stats.failed(), stats.cut_streams(), stats.cut_connections()), (0, 0, 0));
        let text = match connections {
            1 => "200, on one connection".into(),
            _ => format!("200, on {connections} connections"),
        };
        facts.add(Table::ServeHttp, "a hundred calls in time", client.name(), text);
    }
    facts.settle();
}

#[tokio::test]
async fn a_late_handler_is_answered_for_and_the_connection_is_used_again() {
    let mut facts = Facts::of("serve_http_before_head");
    for client in Client::ALL {
        let mut ours = Served::start();
        let calls = [Call::to("/never").within(LIMIT_MS), Call::to("/ok")];
        let Some(seen) = client.calls(&ours.at, &calls, ready(())).await else { return };
        let text = is_late(client, &seen[0]);
        is_whole(client, &seen[1]);
        assert_eq!(ours.over().await, "dropped", "{client:?}");
        let stats = &ours.stats;
        assert_eq!(stats.accepted(), if client.keeps_alive() { 1 } else { 2 }, "{client:?}");
        assert_eq!((stats.failed(), stats.cut_streams(), stats.cut_connections()), (0, 0, 0));
        let text = format!("{text}; {}", next(stats.accepted()));
        facts.add(Table::ServeHttp, "its deadline, before the head", client.name(), text);
    }
    facts.settle();
}

#[tokio::test]
async fn an_answer_that_is_cut_looks_complete_to_nobody() {
    let mut facts = Facts::of("serve_http_cut");
    for (path, row) in [
        ("/long", "its deadline, in an answer with `content-length`"),
        ("/chunks", "its deadline, in an answer of unknown length"),
    ] {
        for client in Client::ALL {
            let mut ours = Served::start();
            let calls = [Call::to(path).within(LIMIT_MS), Call::to("/ok")];
            let Some(seen) = client.calls(&ours.at, &calls, ready(())).await else { return };
            assert_eq!(seen[0].status, 200, "{client:?}: {seen:?}");
            assert_eq!(seen[0].data, HALF.len() as u64, "{client:?}: {seen:?}");
            let error = is_cut(client, &seen[0]);
            is_whole(client, &seen[1]);
            assert_eq!(ours.over().await, "dropped", "{client:?}");
            let text = format!("{error}; {}", cut(client, &ours));
            facts.add(Table::ServeHttp, row, client.name(), text);
        }
    }
    facts.settle();
}

/// That one of two calls was cut: over HTTP/1 the connection is its price.
#[track_caller]
fn cut(client: Client, ours: &Served) -> &'static str {
    let stats = &ours.stats;
    let (streams, connections) = if client.is_http2() { (1, 0) } else { (0, 1) };
    assert_eq!(stats.cut_streams(), streams, "{client:?}");
    assert_eq!(stats.cut_connections(), connections, "{client:?}");
    assert_eq!(stats.accepted(), 1 + connections, "{client:?}");
    next(stats.accepted())
}

#[tokio::test]
async fn an_upload_that_is_not_complete_is_answered_at_its_deadline() {
    let mut facts = Facts::of("serve_http_upload");
    for (sends, path, row) in [
        (Sends::Half, "/upload", "its deadline, in an upload that idles"),
        (Sends::Half, "/never", "the same, and our handler doesn't read it"),
        (Sends::All, "/upload", "its deadline, in an upload that goes on"),
        (Sends::All, "/never", "that, and our handler doesn't read it"),
    ] {
        for client in Client::ALL.into_iter().filter(|it| it.uploads()) {
            let mut ours = Served::start();
            let at = ours.at.clone();
            let calls = [Call::to(path).within(LIMIT_MS).sends(sends), Call::to("/ok")];
            let mut over = None;
            let is_over = async { over = Some(ours.over().await) };
            let Some(seen) = client.calls(&at, &calls, is_over).await else { return };
            let text = match &seen[0] {
                // It throws away what is there: RFC 9113, 8.1 says that it must not.
                Seen { status: 0, error: Some(error), .. } if client == Client::Curl2 => {
                    format!("{error}, no head")
                }
                seen => is_late(client, seen).into(),
            };
            is_whole(client, &seen[1]);
            let over = over.expect("it was waited for");
            // What reads it may be told of the deadline, or find itself dropped.
            let is_read = path == "/upload" && over == "cut off by the deadline";
            assert!(is_read || over == "dropped", "{client:?}: {over}");
            let stats = &ours.stats;
            assert_eq!((stats.cut_streams(), stats.cut_connections()), (0, 0), "{client:?}");
            if client.is_http2() {
                assert_eq!(stats.accepted(), 1, "{client:?}");
            }
            let text = format!("{text}; {}", next(stats.accepted()));
            facts.add(Table::ServeHttp, row, client.name(), text);
        }
    }
    facts.settle();
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_nobody_and_sees_no_clean_end() {
    let mut facts = Facts::of("serve_http_unread");
    let row = "its deadline, in an answer that it doesn't read";
    for client in Client::ALL {
        let mut ours = Served::start();
        let (at, stats) = (ours.at.clone(), ours.stats.clone());
        let calls = [Call::to("/flood").within(LIMIT_MS).reads_later(), Call::to("/ok")];
        let mut over = None;
        let is_over = async {
            over = Some(ours.over().await);
            let cut = || stats.cut_streams() + stats.cut_connections();
            crate::within(async {
                while cut() == 0 {
                    tokio::time::sleep(crate::MS * 10).await;
                }
            })
            .await;
        };
        let Some(seen) = client.calls(&at, &calls, is_over).await else { return };
        assert_eq!(seen[0].status, 200, "{client:?}: {seen:?}");
        let error = is_cut(client, &seen[0]);
        is_whole(client, &seen[1]);
        assert_eq!(over.as_deref(), Some("dropped"), "{client:?}");
        let text = format!("{error}; {}", cut(client, &ours));
        facts.add(Table::ServeHttp, row, client.name(), text);
    }
    facts.settle();
}
