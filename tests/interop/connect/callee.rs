//! Our client calls connect-node.

use deadbeat::propagation::codec::Header;
use deadbeat::propagation::http::ClientLayer;
use deadbeat::time::Duration;
use serde_json::{Value, json};

use super::service::{End, call, client};
use super::{Version, row};
use crate::matrix::{Facts, Table};
use crate::peer::{Kind, Peer};
use crate::service::Method;
use crate::{MS, within};

const TABLE: Table = Table::ConnectOurDeadline;

/// How often one that has little time is tried, until it arrives.
const TRIES: usize = 40;

async fn start(version: Version, mut with: Value) -> Option<(Peer, String)> {
    let peer = Peer::start(Kind::Connect)?;
    with["http1"] = json!(version.is_1());
    let at = peer.serve(with).await;
    Some((peer, at))
}

/// Why its handler is over.
async fn over(peer: &mut Peer) -> String {
    peer.event("over").await["why"].as_str().expect("a reason").into()
}

#[tokio::test]
async fn a_deadline_that_it_is_not_told_ends_the_call_and_the_peers_handler() {
    let mut facts = Facts::of("connect_our_deadline_untold");
    for method in Method::ENDLESS {
        for version in Version::ALL {
            let Some((mut peer, at)) = start(version, json!({})).await else { return };
            // It doesn't read this one.
            let layer =
                ClientLayer::new().timeout(MS * 1000).header(Header::EnvoyExpectedRqTimeoutMs);
            let end = within(call(client(version, &layer), &at, method)).await;
            let End::Failed(messages, error) = &end else { panic!("{end:?}") };
            assert_eq!(*messages, usize::from(method == Method::Stream));
            let expired = error.expired().unwrap_or_else(|| panic!("{error}"));
            assert!(expired.to_string().starts_with("deadline exceeded after "), "{expired}");
            assert_eq!(peer.event("begun").await["remaining_ms"], Value::Null);
            let text = format!("{}; its handler: {}", end.text(), over(&mut peer).await);
            facts.add(TABLE, &row("our deadline, untold", method), version.name(), text);
        }
    }
    facts.settle();
}

#[tokio::test]
async fn a_deadline_that_it_is_told_ends_the_call_and_the_peers_handler() {
    let mut facts = Facts::of("connect_our_deadline");
    for method in Method::ENDLESS {
        for version in Version::ALL {
            let Some((mut peer, at)) = start(version, json!({})).await else { return };
            let layer = ClientLayer::new().timeout(MS * 1000);
            let end = within(call(client(version, &layer), &at, method)).await;
            // Either side may be the first to notice.
            let text = end.text();
            assert!(
                ["our deadline's error", "it says deadline_exceeded"].contains(&text.as_str()),
                "{end:?}"
            );
            let left = peer.event("begun").await["remaining_ms"].as_f64().expect("a limit");
            assert!(left <= 1000.0, "{left}");
            let text = format!("{text}; its handler: {}", over(&mut peer).await);
            facts.vary(TABLE, &row("our deadline", method), version.name(), text);
        }
    }
    facts.settle();
}

#[tokio::test]
async fn a_peer_that_is_to_be_early_says_itself_that_time_is_up() {
    let mut facts = Facts::of("connect_our_allowance");
    for method in Method::ENDLESS {
        for version in Version::ALL {
            let Some((mut peer, at)) = start(version, json!({})).await else { return };
            let layer = ClientLayer::new().timeout(MS * 4000).allowance(MS * 3500);
            let end = within(call(client(version, &layer), &at, method)).await;
            // A handler that waits for messages doesn't notice, and so doesn't answer.
            let says = match method {
                Method::Upload => "our deadline's error",
                _ => "it says deadline_exceeded",
            };
            assert_eq!(end.text(), says, "{end:?}");
            let text = format!("{says}; its handler: {}", over(&mut peer).await);
            let row = row("our deadline, with an allowance", method);
            facts.add(TABLE, &row, version.name(), text);
        }
    }
    facts.settle();
}

#[tokio::test]
async fn who_calls_it_no_more_ends_the_peers_handler() {
    let mut facts = Facts::of("connect_our_drop");
    for method in Method::ENDLESS {
        for version in Version::ALL {
            let Some((mut peer, at)) = start(version, json!({})).await else { return };
            let client = client(version, &ClientLayer::new());
            let calling = tokio::spawn(async move { call(client, &at, method).await });
            peer.event("begun").await;
            calling.abort();
            let text = format!("its handler: {}", over(&mut peer).await);
            facts.add(TABLE, &row("we give up", method), version.name(), text);
        }
    }
    facts.settle();
}

#[tokio::test]
async fn more_than_the_peers_maximum_is_not_run() {
    let mut facts = Facts::of("connect_their_maximum");
    for version in Version::ALL {
        let serving = start(version, json!({ "maximum_ms": 500 })).await;
        let Some((mut peer, at)) = serving else { return };
        for method in [Method::Never, Method::Stream] {
            let layer = ClientLayer::new().timeout(MS * 60_000);
            let end = within(call(client(version, &layer), &at, method)).await;
            let End::Told(0, Some(error)) = &end else { panic!("{end:?}") };
            assert!(error["message"].as_str().unwrap().contains("must be <= 500"), "{error}");
            assert_eq!(peer.event_soon("begun").await, None);
            let text = format!("{}; not run", end.text());
            facts.add(TABLE, &row("beyond its maximum", method), version.name(), text);
        }
        // Without one, its maximum is no limit.
        let layer = ClientLayer::new();
        let calling = tokio::spawn({
            let (client, at) = (client(version, &layer), at.clone());
            async move { call(client, &at, Method::Never).await }
        });
        let begun = peer.event("begun").await;
        assert_eq!(begun["remaining_ms"], Value::Null);
        calling.abort();
        let row = row("no deadline, and it has a maximum", Method::Never);
        facts.add(TABLE, &row, version.name(), "runs, no limit");
    }
    facts.settle();
}

/// What is left of a call, and its name.
const LEFT: [(&str, Duration); 6] = [
    ("500 µs", Duration::from_micros(500)),
    ("12.7 ms", Duration::from_micros(12_700)),
    ("1 s", Duration::from_secs(1)),
    ("1.234 s", Duration::from_millis(1234)),
    ("30 days", Duration::from_secs(30 * 24 * 60 * 60)),
    ("200 years", Duration::from_secs(200 * 365 * 24 * 60 * 60)),
];

#[tokio::test]
async fn the_peer_has_no_more_than_we_have() {
    let mut facts = Facts::of("connect_sent");
    for version in Version::ALL {
        let Some((mut peer, at)) = start(version, json!({})).await else { return };
        // There is a connection, then.
        let warm = client(version, &ClientLayer::new());
        within(call(warm, &at, Method::Echo)).await;
        peer.event("begun").await;
        for (row, left) in LEFT {
            let layer = ClientLayer::new().timeout(left);
            let (mut text, tries) = (None, if left < MS { 3 } else { TRIES });
            for _ in 0..tries {
                let end = within(call(client(version, &layer), &at, Method::Echo)).await;
                if left >= MS * 1000 {
                    assert!(matches!(end, End::Told(1, None)), "{row}: {end:?}");
                }
                let Some(begun) = peer.event_soon("begun").await else { continue };
                let header = begun["header"].as_str().expect("a header");
                let has = begun["remaining_ms"].as_f64().expect("a limit");
                let told = Duration::from_millis(header.parse().expect("whole milliseconds"));
                assert!(!told.is_zero() && told <= left && header.len() <= 10, "{row}: {header}");
                // Its clock has milliseconds.
                assert!(has <= told.as_secs_f64() * 1e3 + 1.0, "{row}: {has} of {header}");
                text = Some(format!("`{header}`: as told"));
                break;
            }
            // Less than a millisecond can't be said.
            assert_eq!(text.is_none(), left < MS, "{row}");
            let text = text.unwrap_or_else(|| "not sent".into());
            facts.add(Table::ConnectSent, row, version.name(), text);
        }
    }
    facts.settle();
}
