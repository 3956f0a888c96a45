//! Three processes in three languages: grpc-js calls us, and we call grpcio.

use ::tonic::Code;
use deadbeat::propagation::grpc::{ClientLayer, ServerLayer};
use serde_json::json;
use tower::Layer;

use crate::MS;
use crate::matrix::{Facts, Table};
use crate::peer::{Kind, Peer};
use crate::service::{connect, serve_relay};

#[tokio::test]
async fn what_remains_shrinks_from_hop_to_hop() {
    let Some(client) = Peer::start(Kind::GrpcJs) else { return };
    let Some(mut last) = Peer::start(Kind::Grpcio) else { return };
    let channel = connect(&last.serve(json!({})).await).await;
    let allowance = MS * 20;
    let relay = ClientLayer::new().allowance(allowance).layer(channel);
    let mut ours = serve_relay(ServerLayer::new(), Some(relay)).await;

    let at = ours.at.clone();
    let call = |method, timeout_ms| {
        let call = json!({
            "do": "call", "to": at, "method": method, "timeout_ms": timeout_ms,
        });
        client.ask(call)
    };
    assert_eq!(call("Echo", 60_000).await["code"], 0);
    let has = ours.begun().await.expect("a limit");
    assert!(has <= MS * 60_000, "{has:?}");
    // The handler takes some of it.
    let begun = last.event("begun").await;
    let remaining_ms = begun["remaining_ms"].as_f64().expect("a limit");
    let most = (has - MS * 50 - allowance).as_secs_f64() * 1e3;
    assert!(remaining_ms <= most, "{remaining_ms} of {most}");

    // The end of it reaches all three.
    let never = call("Never", 2000).await;
    assert_eq!(never["code"], Code::DeadlineExceeded as i32, "{never}");
    last.event("over").await;
    let over = loop {
        let how = ours.over().await;
        if how != "answered" {
            break how;
        }
    };
    assert_eq!(over, "dropped");

    let mut facts = Facts::of("chain");
    let before = format!("60000 ms; our handler has {:.0} ms", has.as_secs_f64() * 1e3);
    facts.add(Table::Chain, "what remains", "grpc-js calls us", before);
    let after =
        format!("its handler has {remaining_ms:.0} ms, 50 ms and an allowance of 20 ms later");
    facts.add(Table::Chain, "what remains", "we call grpcio", after);
    facts.add(
        Table::Chain,
        "the deadline passes",
        "grpc-js calls us",
        "DEADLINE_EXCEEDED; our handler: dropped",
    );
    facts.add(Table::Chain, "the deadline passes", "we call grpcio", "its handler: cancelled");
    facts.settle();
}
