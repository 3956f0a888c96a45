//! What each side writes for the time that is left, and what the other makes of it.

use ::tonic::{Code, Request};
use deadbeat::propagation::codec::OnMalformed;
use deadbeat::propagation::grpc::{ClientLayer, RequestDeadline, ServerLayer};
use deadbeat::time::Duration;
use serde_json::json;
use tower::Layer;

use crate::matrix::{Facts, Table};
use crate::peer::{GRPC, Kind, Peer};
use crate::service::{self, Event, Method, connect, name, serve};
use crate::{MS, within};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What is left of a call, and its name.
const LEFT: [(&str, Duration); 6] = [
    ("500 µs", Duration::from_micros(500)),
    ("12.7 ms", Duration::from_micros(12_700)),
    ("1 s", Duration::from_secs(1)),
    ("1.234 s", Duration::from_millis(1234)),
    ("30 days", Duration::from_secs(30 * 24 * 60 * 60)),
    ("200 years", Duration::from_secs(200 * 365 * 24 * 60 * 60)),
];

/// How often one that has little time is tried, until it arrives.
const TRIES: usize = 40;

/// A `grpc-timeout` of any number of digits and decimals, by its definition.
fn told(text: &str) -> Option<Duration> {
    let (number, unit) = text.split_at(text.len().checked_sub(1)?);
    let seconds = match unit {
        "H" => 3600.0,
        "M" => 60.0,
        "S" => 1.0,
        "m" => 1e-3,
        "u" => 1e-6,
        "n" => 1e-9,
        _ => return None,
    };
    Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()
}

/// So long, in words that don't change from one run to the next but for their numbers.
fn words(time: Duration) -> String {
    if time >= DAY {
        format!("{} days", time.as_secs() / (24 * 60 * 60))
    } else {
        format!("{:.1} ms", time.as_secs_f64() * 1e3)
    }
}

#[tokio::test]
async fn what_we_send_is_never_more_than_we_have() {
    let Some(mut peer) = Peer::start(Kind::Http2) else { return };
    let mut facts = Facts::of("sent_text");
    facts.add(Table::Versions, Kind::Http2.name(), "version", peer.version().await);
    let Some(frames) = Peer::start(Kind::Frames) else { return };
    facts.add(Table::Versions, Kind::Frames.name(), "version", frames.version().await);
    let answer = json!([{ "headers": { "grpc-status": "0" }, "end": true }]);
    let channel = connect(&peer.serve(json!({ "plan": answer })).await).await;
    for (row, left) in LEFT {
        let layer = ClientLayer::new().timeout(left);
        let mut text = None;
        for _ in 0..TRIES {
            let channel = layer.layer(channel.clone());
            // It may be too late to be sent.
            let _ = within(service::call(channel, Method::Echo, Request::new(()))).await;
            if let Some(begun) = peer.event_soon("begun").await {
                text = begun["timeouts"]["grpc-timeout"].as_str().map(str::to_owned);
                break;
            }
        }
        // What has half a millisecond may never get there, on a machine that is busy.
        let Some(text) = text.or_else(|| (left >= MS).then(|| panic!("{row}: it never arrived")))
        else {
            add(&mut facts, Table::Sent, row, "on the wire", "never in time".into());
            continue;
        };
        let told = told(&text).expect("what the specification allows");
        assert!(!told.is_zero() && told <= left, "{row}: {text}");
        assert!(text.len() <= 9 && text.bytes().filter(u8::is_ascii_digit).count() <= 8, "{text}");
        add(&mut facts, Table::Sent, row, "on the wire", format!("`{text}`"));
    }
    facts.settle();
}

/// What is small is a matter of how fast the machine is; grpcio's unit is one of how much time has passed;
/// and connect-es gives up what is long, at once.
fn add(facts: &mut Facts, table: Table, row: &str, column: &str, text: String) {
    let is_small = ["0", "500 µs", "12.7 ms"].contains(&row);
    let is_long = ["30 days", "200 years"].contains(&row);
    let varies = match table {
        Table::Received => {
            column == Kind::Grpcio.name() || column == Kind::Connect.name() && is_long
        }
        _ => false,
    };
    if is_small || varies {
        facts.vary(table, row, column, text);
    } else {
        facts.add(table, row, column, text);
    }
}

async fn servers(kind: Kind, test: &'static str) {
    let Some(mut peer) = Peer::start(kind) else { return };
    let mut facts = Facts::of(test);
    facts.add(Table::Versions, kind.name(), "version", peer.version().await);
    let channel = connect(&peer.serve(json!({})).await).await;
    for (row, left) in LEFT {
        let layer = ClientLayer::new().timeout(left);
        let mut understood = None;
        for _ in 0..TRIES {
            let channel = layer.layer(channel.clone());
            let answer = service::call(channel, Method::Echo, Request::new(()));
            let (_, result) = within(answer).await;
            if left >= MS * 1000 {
                result.expect("there is time");
            }
            if let Some(begun) = peer.event_soon("begun").await {
                let ms = begun["remaining_ms"].as_f64();
                understood = Some(ms.expect("a limit"));
                break;
            }
        }
        let text = match understood {
            None => {
                assert!(left < MS * 1000, "{row}");
                "answers itself".into()
            }
            Some(ms) => {
                // Their clocks have milliseconds, and so may round.
                let most = left.as_secs_f64() * 1e3 + 1.0;
                assert!(ms <= most, "{row}: {ms} ms");
                if left > DAY {
                    assert!(ms > 20.0 * 24.0 * 3600.0 * 1e3, "{row}: {ms} ms");
                }
                if ms <= 0.0 {
                    "runs, expired".into()
                } else {
                    words(Duration::from_secs_f64(ms / 1e3))
                }
            }
        };
        add(&mut facts, Table::Sent, row, kind.name(), text);
    }
    facts.settle();
}

#[tokio::test]
async fn grpcio_has_no_more_than_we_have() {
    servers(Kind::Grpcio, "sent_grpcio").await;
}

#[tokio::test]
async fn grpc_js_has_no_more_than_we_have() {
    servers(Kind::GrpcJs, "sent_grpc_js").await;
}

#[tokio::test]
async fn grpc_go_has_no_more_than_we_have() {
    servers(Kind::GrpcGo, "sent_grpc_go").await;
}

#[tokio::test]
async fn connect_es_has_no_more_than_we_have() {
    servers(Kind::Connect, "sent_connect").await;
}

/// What clients are asked for.
const ASKED: [(&str, f64); 8] = [
    ("-1 s", -1000.0),
    ("0", 0.0),
    ("500 µs", 0.5),
    ("12.7 ms", 12.7),
    ("1 s", 1000.0),
    ("1.234 s", 1234.0),
    ("30 days", 30.0 * 24.0 * 3600.0 * 1e3),
    ("200 years", 200.0 * 365.0 * 24.0 * 3600.0 * 1e3),
];

#[tokio::test]
async fn no_client_gets_more_than_it_has_written() {
    let mut facts = Facts::of("received");
    for kind in GRPC {
        let Some(peer) = Peer::start(kind) else { return };
        let layer = ServerLayer::new().trusted(true);
        let mut strict = serve(layer.clone()).await;
        let mut lenient = serve(ServerLayer::new().on_malformed(OnMalformed::Lenient)).await;
        for (row, timeout_ms) in ASKED {
            let call = |to: &str| {
                let call = json!({
                    "do": "call", "to": to, "method": "Echo", "timeout_ms": timeout_ms, "grpc": true,
                });
                peer.ask(call)
            };
            let tries = if timeout_ms <= 0.0 { 1 } else { TRIES };
            let mut seen = vec![];
            let mut answer = json!(null);
            for _ in 0..tries {
                answer = call(&strict.at).await;
                // What was given up may still arrive.
                tokio::time::sleep(MS * 20).await;
                seen.extend(strict.so_far());
                if !seen.is_empty() {
                    break;
                }
            }
            let texts = seen.iter().find_map(|event| match event {
                Event::Arrived(texts) => Some(texts.clone()),
                _ => None,
            });
            let begun = seen.iter().find_map(|event| match event {
                Event::Begun(budget) => Some(*budget),
                _ => None,
            });
            let code = answer["code"].as_i64().map(|code| name(code_of(code)));
            let failure = code.unwrap_or_else(|| "throws".into());
            let Some(texts) = texts else {
                add(&mut facts, Table::Received, row, kind.name(), format!("not sent: {failure}"));
                continue;
            };
            assert!(texts.len() <= 1, "{texts:?}");
            let Some(text) = texts.first() else {
                assert_eq!(begun, Some(None), "{row}");
                add(&mut facts, Table::Received, row, kind.name(), "no header: no limit".into());
                continue;
            };
            let told = told(text).unwrap_or_else(|| panic!("{text}"));
            let digits = text.trim_end_matches(|unit: char| unit.is_ascii_alphabetic());
            let is_sound = digits.len() <= 8 && digits.bytes().all(|byte| byte.is_ascii_digit());
            let what = match begun {
                // Of none that is left, or as good as; or Node's timers are at once where they should be late.
                None => {
                    let wraps = kind == Kind::Connect && told > 24 * DAY;
                    assert!(told <= MS * 20 || wraps, "{row}: {text}");
                    format!("not run, {failure}")
                }
                Some(None) => {
                    assert!(!is_sound || told > 99 * 365 * DAY, "{row}: {text}");
                    "no limit".into()
                }
                Some(Some(budget)) => {
                    assert!(is_sound && budget <= told && budget + MS > told, "{budget:?}: {text}");
                    "as told".into()
                }
            };
            let mut what = format!("`{text}`: {what}");
            if !is_sound {
                // Real, though no specification allows it.
                for _ in 0..TRIES {
                    drop(call(&lenient.at).await);
                    tokio::time::sleep(MS * 20).await;
                    let begun = lenient.so_far().into_iter().find_map(|event| match event {
                        Event::Begun(budget) => budget,
                        _ => None,
                    });
                    if let Some(budget) = begun {
                        assert!(budget <= told + Duration::from_nanos(1), "{budget:?}: {text}");
                        what += "; leniently as told";
                        break;
                    }
                }
            }
            add(&mut facts, Table::Received, row, kind.name(), what);
        }
        if kind == Kind::Connect {
            assert!(layer.stats().malformed() > 0 && lenient.stats.lenient() > 0);
        } else {
            assert_eq!(layer.stats().malformed(), 0, "{kind:?}");
        }
    }
    facts.settle();
}

#[tokio::test]
async fn a_deadline_of_a_request_is_written_as_any_other() {
    let Some(mut peer) = Peer::start(Kind::Http2) else { return };
    let answer =
        json!([{ "headers": {}, "message": true }, { "trailers": { "grpc-status": "0" } }]);
    let channel = connect(&peer.serve(json!({ "plan": answer })).await).await;
    let channel = ClientLayer::new().allowance(MS * 100).layer(channel);
    let mut request = Request::new(());
    request.set_deadline(MS * 60_000);
    // Ours is written, and what was there is not.
    request.metadata_mut().insert("grpc-timeout", "99999999H".parse().unwrap());
    request.metadata_mut().append("grpc-timeout", "5 S".parse().unwrap());
    within(service::call(channel, Method::Echo, request)).await.1.unwrap();
    let begun = peer.event("begun").await;
    let text = begun["timeouts"]["grpc-timeout"].as_str().expect("a single one");
    assert!(told(text).unwrap() <= MS * 59_900, "{text}");
}

/// One that is none is UNKNOWN.
fn code_of(number: i64) -> Code {
    i32::try_from(number).map_or(Code::Unknown, Code::from)
}
