//! Servers that reset, answer late, or forge: before the deadline of our call has passed, and after.

use std::pin::pin;

use ::tonic::{Code, Request, Status};
use deadbeat::propagation::grpc::ClientLayer;
use serde_json::{Value, json};
use tower::Layer;

use crate::matrix::{Facts, Table};
use crate::peer::{Kind, Peer};
use crate::service::{self, Method, connect, outcome};
use crate::{MS, within};

/// Calls a server that does what `plan` says.
///
/// With `late`, nobody looks at the call from when it has begun until its deadline has passed and the plan is
/// carried out: by then both are there, and which is reported is a matter of the clock alone.
pub(crate) async fn outcome_of(
    peer: &mut Peer,
    at: &str,
    method: Method,
    steps: usize,
    late: bool,
) -> Result<(), Status> {
    // Time enough to begin.
    let layer = ClientLayer::new().timeout(if late { MS * 1500 } else { MS * 60_000 });
    let calling = service::call(layer.layer(connect(at).await), method, Request::new(()));
    let mut calling = pin!(calling);
    if late {
        tokio::select! {
            biased;
            _ = peer.event("begun") => {}
            (_, result) = &mut calling => panic!("too early: {result:?}"),
        }
        for _ in 0..steps {
            peer.event("done").await;
        }
        tokio::time::sleep(MS * 2000).await;
    }
    within(calling).await.1
}

/// A row: its name, what is called, the plan, and the code before the deadline.
type Row = (&'static str, Method, Value, Code);

fn rows() -> Vec<Row> {
    let wait = 100;
    let head = json!({ "headers": {}, "message": true });
    vec![
        (
            "resets with CANCEL",
            Method::Never,
            json!([{ "after_ms": wait, "reset": 8 }]),
            Code::Cancelled,
        ),
        (
            "resets a stream of answers with CANCEL",
            Method::Stream,
            json!([head, { "after_ms": wait, "reset": 8 }]),
            Code::Cancelled,
        ),
        (
            "resets with INTERNAL_ERROR",
            Method::Never,
            json!([{ "after_ms": wait, "reset": 2 }]),
            Code::Internal,
        ),
        (
            "answers CANCELLED",
            Method::Never,
            json!([{ "after_ms": wait, "headers": { "grpc-status": "1" }, "end": true }]),
            Code::Cancelled,
        ),
        (
            "answers UNAVAILABLE",
            Method::Never,
            json!([{ "after_ms": wait, "headers": { "grpc-status": "14" }, "end": true }]),
            Code::Unavailable,
        ),
        (
            "answers with HTTP 504",
            Method::Never,
            json!([{ "after_ms": wait, "headers": { ":status": 504, "content-type": "text/html" }, "end": true }]),
            Code::Unavailable,
        ),
        (
            "answers INVALID_ARGUMENT",
            Method::Never,
            json!([{ "after_ms": wait, "headers": { "grpc-status": "3" }, "end": true }]),
            Code::InvalidArgument,
        ),
        (
            "ends a stream with OK",
            Method::Stream,
            json!([head, { "after_ms": wait, "trailers": { "grpc-status": "0" } }]),
            Code::Ok,
        ),
        (
            "ends a stream with CANCELLED",
            Method::Stream,
            json!([head, { "after_ms": wait, "trailers": { "grpc-status": "1" } }]),
            Code::Cancelled,
        ),
    ]
}

#[tokio::test]
async fn what_a_server_says_counts_until_the_deadline_and_then_the_deadline_does() {
    let Some(mut peer) = Peer::start(Kind::Http2) else { return };
    let mut facts = Facts::of("resets");
    for (row, method, plan, before) in rows() {
        let steps = plan.as_array().expect("steps").len();
        let at = peer.serve(json!({ "plan": plan })).await;
        let early = outcome_of(&mut peer, &at, method, steps, false).await;
        assert_eq!(outcome(&early), service::name(before), "{row}: {early:?}");
        for _ in 0..steps {
            peer.event("done").await;
        }
        let late = outcome_of(&mut peer, &at, method, steps, true).await;
        facts.add(Table::Resets, row, "before", outcome(&early));
        facts.add(Table::Resets, row, "after", outcome(&late));
        // What nobody would take for an expiry is reported as it is.
        if before != Code::InvalidArgument {
            assert_eq!(outcome(&late), service::name(Code::DeadlineExceeded), "{row}: {late:?}");
        }
    }
    facts.settle();
}

#[tokio::test]
async fn forged_details_make_no_panic() {
    let Some(peer) = Peer::start(Kind::Http2) else { return };
    for details in ["%%%", "AA=A", "", "A", "AAAA,%"] {
        let forged = json!({ "grpc-status": "9", "grpc-status-details-bin": details });
        let head = json!([{ "headers": forged, "end": true }]);
        let trailers = json!([{ "headers": {}, "message": true }, { "trailers": forged }]);
        for (method, plan) in [(Method::Never, head), (Method::Stream, trailers)] {
            let layer = ClientLayer::new().timeout(MS * 60_000);
            let channel = connect(&peer.serve(json!({ "plan": plan })).await).await;
            let channel = layer.layer(channel);
            let (_, result) = within(service::call(channel, method, Request::new(()))).await;
            let status = result.expect_err("a failure");
            assert_eq!(status.code(), Code::FailedPrecondition, "{details}: {status:?}");
        }
    }
}
