//! Values that no client should send, from one that keeps no rules: Node's own HTTP/2.

use ::tonic::Code;
use deadbeat::propagation::codec::OnMalformed;
use deadbeat::propagation::grpc::ServerLayer;
use deadbeat::time::Duration;
use serde_json::{Value, json};

use crate::matrix::{Facts, Table};
use crate::peer::{Kind, Peer};
use crate::service::{Event, Method, name, serve};

/// What comes of it: whether the handler runs, and with which limit.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Is {
    Limited(Duration),
    Unlimited,
    Refused,
    Expired,
}

const POLICIES: [(&str, OnMalformed); 3] = [
    ("Ignore", OnMalformed::Ignore),
    ("Reject", OnMalformed::Reject),
    ("Lenient", OnMalformed::Lenient),
];

/// Each value, and what it is where malformed ones are ignored, rejected, or accepted if that makes sense.
fn values() -> Vec<(&'static str, Value, [Is; 3])> {
    use Is::{Expired, Limited, Refused, Unlimited};
    let bad = [Unlimited, Refused, Unlimited];
    let s = |seconds| Limited(Duration::from_secs(seconds));
    let us = |us| Limited(Duration::from_micros(us));
    let hours = |hours: u64| s(hours * 3600);
    vec![
        ("`5S`", json!("5S"), [s(5); 3]),
        ("`5`", json!("5"), bad),
        ("`5s`", json!("5s"), bad),
        ("empty", json!(""), bad),
        ("`+5S`", json!("+5S"), bad),
        ("`-5S`", json!("-5S"), bad),
        ("`5 S`", json!("5 S"), bad),
        ("`5SS`", json!("5SS"), bad),
        ("`0x5S`", json!("0x5S"), bad),
        ("`5S` and a space before", json!(" 5S"), bad),
        ("`5S` and a space after", json!("5S "), bad),
        ("1000 digits", json!("9".repeat(1000) + "S"), [Unlimited, Refused, Unlimited]),
        ("`1.5S`", json!("1.5S"), [Unlimited, Refused, us(1_500_000)]),
        ("`12.7m`", json!("12.7m"), [Unlimited, Refused, us(12_700)]),
        ("`123456789S`", json!("123456789S"), [Unlimited, Refused, s(123_456_789)]),
        ("`2592000000m`", json!("2592000000m"), [Unlimited, Refused, hours(720)]),
        ("`720H`", json!("720H"), [hours(720); 3]),
        ("`99999999H`", json!("99999999H"), [Unlimited; 3]),
        ("`0S`", json!("0S"), [Expired; 3]),
        ("`0n`", json!("0n"), [Expired; 3]),
        ("`2S` and `5S`", json!(["2S", "5S"]), [s(2), Refused, s(2)]),
        ("`5S` and `2S`", json!(["5S", "2S"]), [s(2), Refused, s(2)]),
        ("`5S` and `soon`", json!(["5S", "soon"]), [s(5), Refused, s(5)]),
        ("`2S,5S`", json!("2S,5S"), bad),
    ]
}

fn words(is: Is) -> String {
    match is {
        Is::Limited(limit) => format!("runs, {limit:?}"),
        Is::Unlimited => "runs, no limit".into(),
        Is::Refused => format!("not run, {}", name(Code::Internal)),
        Is::Expired => format!("not run, {}", name(Code::DeadlineExceeded)),
    }
}

#[tokio::test]
async fn each_policy_takes_values_as_it_says() {
    let Some(peer) = Peer::start(Kind::Http2) else { return };
    let mut facts = Facts::of("malformed");
    for (index, (policy, on_malformed)) in POLICIES.into_iter().enumerate() {
        let layer = ServerLayer::new().trusted(true).on_malformed(on_malformed);
        let mut ours = serve(layer).await;
        for (row, value, expected) in values() {
            let answer = peer
                .ask(json!({
                    "do": "call", "to": ours.at, "path": Method::Echo.path(),
                    "headers": { "grpc-timeout": value },
                }))
                .await;
            let events = ours.so_far();
            let begun = events.iter().find_map(|event| match event {
                Event::Begun(budget) => Some(*budget),
                _ => None,
            });
            // With trailers only, it is in the head.
            let status = [&answer["trailers"], &answer["head"]];
            let status = status.into_iter().find_map(|it| it["grpc-status"].as_str());
            let is = match (begun, status) {
                (Some(Some(limit)), _) => Is::Limited(limit),
                (Some(None), Some("0")) => Is::Unlimited,
                (None, Some("13")) => Is::Refused,
                (None, Some("4")) => Is::Expired,
                _ => panic!("{policy}, {row}: {answer}, {events:?}"),
            };
            assert_eq!(is, expected[index], "{policy}, {row}: {answer}");
            facts.add(Table::Malformed, row, policy, words(is));
        }
    }
    facts.settle();
}

#[tokio::test]
async fn a_bad_value_spoils_no_call_after_it_on_its_connection() {
    let Some(peer) = Peer::start(Kind::Http2) else { return };
    let mut ours = serve(ServerLayer::new().on_malformed(OnMalformed::Reject)).await;
    let calls = json!({
        "do": "calls", "to": ours.at, "path": Method::Echo.path(),
        "timeouts": ["5s", "5S", "soon", "6S"],
    });
    let answer = peer.ask(calls).await;
    assert_eq!(answer["statuses"], json!(["13", "0", "13", "0"]), "{answer}");
    assert_eq!(ours.stats.rejected(), 2);
    assert_eq!(ours.begun().await, Some(Duration::from_secs(5)));
    assert_eq!(ours.begun().await, Some(Duration::from_secs(6)));
}
