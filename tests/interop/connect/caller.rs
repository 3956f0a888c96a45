//! connect-node calls our server.

use ::tonic::Code;
use deadbeat::propagation::codec::OnMalformed;
use deadbeat::propagation::http::ServerLayer;
use deadbeat::time::Duration;
use serde_json::{Value, json};

use super::service::serve;
use super::{Version, row};
use crate::MS;
use crate::matrix::{Facts, Table};
use crate::peer::{Kind, Peer};
use crate::service::{Event, Method, Served, name};

/// How often one that has little time is tried, until it arrives.
const TRIES: usize = 40;

/// It wraps beyond, and such a timer of Node's fires at once.
const MOST: Duration = Duration::from_millis(i32::MAX as u64);

fn ask(to: &Served, version: Version, method: Method, more: &[(&str, Value)]) -> Value {
    let mut call = json!({
        "do": "call", "to": to.at, "method": method.name(), "http1": version.is_1(), "grpc": false,
    });
    for (name, value) in more {
        call[*name] = value.clone();
    }
    call
}

fn code(answer: &Value) -> Code {
    let code = answer["code"].as_i64().and_then(|code| i32::try_from(code).ok());
    Code::from(code.unwrap_or_else(|| panic!("{answer}")))
}

/// What ends an upload, or the time, may come first; and Node may end it as if it were complete.
fn add(facts: &mut Facts, who: &str, method: Method, version: Version, text: String) {
    let row = row(who, method);
    if method == Method::Upload {
        facts.vary(Table::ConnectTheirDeadline, &row, version.name(), text);
    } else {
        facts.add(Table::ConnectTheirDeadline, &row, version.name(), text);
    }
}

#[tokio::test]
async fn the_peers_deadline_drops_our_handler() {
    let mut facts = Facts::of("connect_their_deadline");
    for method in Method::ENDLESS {
        for version in Version::ALL {
            let Some(peer) = Peer::start(Kind::Connect) else { return };
            let mut ours = serve(ServerLayer::new()).await;
            let more = [("timeout_ms", json!(1000))];
            let answer = peer.ask(ask(&ours, version, method, &more)).await;
            assert_eq!(code(&answer), Code::DeadlineExceeded, "{answer}");
            let text = format!("{}; our handler: {}", name(code(&answer)), ours.over().await);
            add(&mut facts, "its deadline", method, version, text);
        }
    }
    facts.settle();
}

#[tokio::test]
async fn the_peer_reads_that_our_limit_has_passed_and_why() {
    let mut facts = Facts::of("connect_our_maximum");
    for method in Method::ENDLESS {
        for version in Version::ALL {
            let Some(peer) = Peer::start(Kind::Connect) else { return };
            let mut ours = serve(ServerLayer::new().maximum(MS * 300)).await;
            let answer = peer.ask(ask(&ours, version, method, &[])).await;
            assert_eq!(code(&answer), Code::DeadlineExceeded, "{answer}");
            // Ours: it has none of its own.
            let message = answer["message"].as_str().expect("a text");
            assert!(message.starts_with("deadline exceeded after "), "{answer}");
            assert_eq!(answer["messages"], i32::from(method == Method::Stream), "{answer}");
            let text = format!("{}; our handler: {}", name(code(&answer)), ours.over().await);
            facts.add(
                Table::ConnectTheirDeadline,
                &row("our maximum", method),
                version.name(),
                text,
            );
        }
    }
    facts.settle();
}

#[tokio::test]
async fn a_peer_that_cancels_drops_our_handler() {
    let mut facts = Facts::of("connect_their_cancel");
    for method in Method::ENDLESS {
        for version in Version::ALL {
            let Some(peer) = Peer::start(Kind::Connect) else { return };
            let mut ours = serve(ServerLayer::new()).await;
            let more = [("timeout_ms", json!(60_000)), ("cancel_ms", json!(500))];
            let answer = peer.ask(ask(&ours, version, method, &more)).await;
            assert_eq!(code(&answer), Code::Cancelled, "{answer}");
            let text = format!("{}; our handler: {}", name(code(&answer)), ours.over().await);
            add(&mut facts, "it cancels", method, version, text);
        }
    }
    facts.settle();
}

/// What the peer is asked for.
const ASKED: [(&str, f64); 7] = [
    ("-1 ms", -1.0),
    ("0", 0.0),
    ("500 µs", 0.5),
    ("12.7 ms", 12.7),
    ("1 s", 1000.0),
    ("30 days", 30.0 * 24.0 * 3600.0 * 1e3),
    ("200 years", 200.0 * 365.0 * 24.0 * 3600.0 * 1e3),
];

/// One call that has arrived: the header, what the handler had if it ran, and what the peer read.
struct Seen {
    header: Option<String>,
    begun: Option<Option<Duration>>,
    read: Code,
}

/// Until it arrives, and is handled if it can be.
async fn echo(peer: &Peer, ours: &mut Served, version: Version, timeout_ms: f64) -> Option<Seen> {
    let mut last = None;
    for _ in 0..TRIES {
        let more = [("timeout_ms", json!(timeout_ms))];
        let answer = peer.ask(ask(ours, version, Method::Echo, &more)).await;
        // What was given up may still arrive.
        tokio::time::sleep(MS * 20).await;
        let events = ours.so_far();
        let header = events.iter().find_map(|event| match event {
            Event::Arrived(texts) => Some(texts.first().cloned()),
            _ => None,
        });
        let begun = events.iter().find_map(|event| match event {
            Event::Begun(budget) => Some(*budget),
            _ => None,
        });
        let Some(header) = header else { continue };
        let is_told = answer["message"].as_str().is_some_and(|it| it.contains("timeout-ms"));
        let seen = Seen { header, begun, read: code(&answer) };
        if begun.is_some() || is_told {
            return Some(seen);
        }
        last = Some(seen);
    }
    last
}

#[tokio::test]
async fn the_peer_has_no_more_than_it_has_written() {
    let mut facts = Facts::of("connect_received");
    let Some(peer) = Peer::start(Kind::Connect) else { return };
    for version in Version::ALL {
        let layer = || ServerLayer::new().trusted(true);
        let mut strict = serve(layer()).await;
        let mut lenient = serve(layer().on_malformed(OnMalformed::Lenient)).await;
        let mut rejecting = serve(layer().on_malformed(OnMalformed::Reject)).await;
        for (row, ms) in ASKED {
            let seen = echo(&peer, &mut strict, version, ms).await;
            let text = match seen {
                None => "doesn't arrive".into(),
                Some(Seen { header: None, begun, .. }) => {
                    assert_eq!(begun, Some(None), "{row}");
                    "no header: no limit".into()
                }
                Some(Seen { header: Some(header), begun, read }) => {
                    let told = Duration::try_from_secs_f64(header.parse::<f64>().unwrap() / 1e3);
                    let told = told.expect("it is positive");
                    let is_sound =
                        header.len() <= 10 && header.bytes().all(|it| it.is_ascii_digit());
                    let mut text = match begun {
                        None => {
                            assert!(told <= MS * 20 || told > MOST, "{row}: {header}");
                            format!("`{header}`: not run, {}", name(read))
                        }
                        Some(None) => {
                            assert!(!is_sound, "{row}: {header}");
                            format!("`{header}`: no limit")
                        }
                        Some(Some(budget)) => {
                            assert!(is_sound && budget <= told && budget + MS > told, "{header}");
                            format!("`{header}`: as told")
                        }
                    };
                    if !is_sound {
                        // Real, though the specification doesn't allow it.
                        let seen = echo(&peer, &mut lenient, version, ms).await;
                        if let Some(Seen { begun: Some(Some(budget)), .. }) = seen {
                            assert!(budget <= told + Duration::from_nanos(1), "{budget:?}");
                            text += "; leniently as told";
                        }
                        let seen = echo(&peer, &mut rejecting, version, ms).await;
                        assert!(seen.as_ref().is_none_or(|seen| seen.begun.is_none()), "{row}");
                        // Or it has given up by itself.
                        if seen.is_some_and(|seen| seen.read == Code::InvalidArgument) {
                            text += "; rejected: INVALID_ARGUMENT";
                        }
                    }
                    text
                }
            };
            if ms > 0.0 && ms != 1000.0 {
                facts.vary(Table::ConnectReceived, row, version.name(), text);
            } else {
                facts.add(Table::ConnectReceived, row, version.name(), text);
            }
        }
    }
    facts.settle();
}
