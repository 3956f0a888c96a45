//! Our channel in our seat: what the peers' handlers and their frames show of it.

use std::pin::pin;
use std::task::{Context, Waker};

use ::tonic::{Code, Request, Status};
use deadbeat::channel::Channel;
use deadbeat::propagation::grpc::{ClientLayer, Grpc};
use serde_json::{Value, json};

use crate::matrix::{Facts, Table};
use crate::peer::{GRPC, Kind, Peer};
use crate::service::{self, Method, name, outcome};
use crate::{MS, within};

const CANCEL: u64 = 8;

fn channel(at: &str, layer: ClientLayer) -> Channel<Grpc> {
    Channel::builder(format!("http://{at}")).layer(layer).build().expect("an address")
}

#[tokio::test]
async fn at_its_deadline_the_peers_handler_ends() {
    let mut facts = Facts::of("channel_deadline");
    for method in Method::ENDLESS {
        for kind in GRPC {
            let Some(mut peer) = Peer::start(kind) else { return };
            let channel =
                channel(&peer.serve(json!({})).await, ClientLayer::new().timeout(MS * 1000));
            let (_, result) = within(service::call(channel, method, Request::new(()))).await;
            assert_eq!(result.as_ref().unwrap_err().code(), Code::DeadlineExceeded, "{result:?}");
            peer.event("begun").await;
            let over = peer.event("over").await;
            let text =
                format!("{}; its handler: {}", outcome(&result), over["why"].as_str().unwrap());
            let row = format!("our deadline, {}", method.when());
            facts.add(Table::Channel, &row, kind.name(), text);
        }
        let Some(mut peer) = Peer::start(Kind::Http2) else { return };
        let plan = json!([{ "headers": {}, "message": true }]);
        let plan = if method == Method::Stream { plan } else { json!([]) };
        let at = peer.serve(json!({ "plan": plan })).await;
        let channel = channel(&at, ClientLayer::new().timeout(MS * 1000));
        let (messages, result) = within(service::call(channel, method, Request::new(()))).await;
        assert_eq!(result.as_ref().unwrap_err().code(), Code::DeadlineExceeded, "{result:?}");
        assert_eq!(messages, usize::from(method == Method::Stream));
        let over = peer.event("over").await;
        assert_eq!(over["rst"], CANCEL, "{over}");
        let text = format!("{}; RST_STREAM {}", outcome(&result), over["rst"]);
        let row = format!("our deadline, {}", method.when());
        facts.add(Table::Channel, &row, Kind::Http2.name(), text);
    }
    facts.settle();
}

#[tokio::test]
async fn every_peer_answers_calls_one_after_the_other_on_one_connection() {
    let mut facts = Facts::of("channel_calls");
    for kind in GRPC {
        let Some(peer) = Peer::start(kind) else { return };
        let channel =
            channel(&peer.serve(json!({})).await, ClientLayer::new().timeout(MS * 30_000));
        for _ in 0..100 {
            let call = service::call(channel.clone(), Method::Echo, Request::new(()));
            assert_eq!(within(call).await.1.map_err(|status| status.code()), Ok(()));
        }
        assert_eq!(channel.stats().connections(), 1);
        assert!(channel.round_trip().is_some());
        facts.add(Table::Channel, "a hundred calls", kind.name(), "answered, on one connection");
    }
    facts.settle();
}

/// Python's h2, which does to each stream what the plan says.
struct Frames {
    peer: Peer,
    channel: Channel<Grpc>,
}

impl Frames {
    async fn start(command: Value, layer: ClientLayer) -> Option<Self> {
        let peer = Peer::start(Kind::Frames)?;
        let channel = channel(&peer.serve(command).await, layer);
        Some(Self { peer, channel })
    }

    async fn call(&self, method: Method) -> Result<(), Status> {
        within(service::call(self.channel.clone(), method, Request::new(()))).await.1
    }

    /// Until it is sent, and no longer.
    async fn begin(
        &mut self,
        method: Method,
    ) -> (impl Future<Output = Result<(), Status>> + use<>, Value) {
        let mut call = Box::pin(service::call(self.channel.clone(), method, Request::new(())));
        let begun = loop {
            let polled = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
            assert!(polled.is_pending());
            if let Some(begun) = self.peer.event_soon("begun").await {
                break begun;
            }
        };
        (async move { within(call).await.1 }, begun)
    }
}

fn code(result: &Result<(), Status>) -> Code {
    result.as_ref().map_or_else(Status::code, |()| Code::Ok)
}

fn limited(ms: u32) -> ClientLayer {
    ClientLayer::new().timeout(MS * ms)
}

#[tokio::test]
async fn a_peer_that_is_slow_to_say_its_preface_is_told_what_is_left() {
    let mut facts = Facts::of("frames_preface");
    let command = json!({ "preface_after_ms": 700 });
    let Some(mut frames) = Frames::start(command, limited(1500)).await else { return };
    let result = frames.call(Method::Never).await;
    assert_eq!(code(&result), Code::DeadlineExceeded, "{result:?}");
    let begun = frames.peer.event("begun").await;
    let told = begun["told"].as_str().unwrap();
    let us: u64 = told.strip_suffix('u').expect("microseconds").parse().unwrap();
    assert!(us <= 800_000, "{told}");
    let over = frames.peer.event("over").await;
    assert_eq!(over["rst"], CANCEL);
    let text = format!("told `{told}` of 1500 ms; RST_STREAM 8");
    let row = "says its preface after 700 ms";
    facts.add(Table::ChannelFrames, row, "our call", outcome(&result));
    facts.add(Table::ChannelFrames, row, "it sees", text);
    facts.settle();
}

#[tokio::test]
async fn a_window_that_is_shut_holds_no_upload_longer_than_its_deadline() {
    let mut facts = Facts::of("frames_window");
    for polled in [true, false] {
        // No room for a single byte, for anybody.
        let command = json!({ "window": 0 });
        let Some(mut frames) = Frames::start(command, limited(800)).await else { return };
        let result = if polled {
            frames.call(Method::Upload).await
        } else {
            let (call, _) = frames.begin(Method::Upload).await;
            let over = frames.peer.event("over").await;
            assert_eq!((&over["rst"], &over["data"]), (&json!(CANCEL), &json!(0)), "{over}");
            call.await
        };
        assert_eq!(code(&result), Code::DeadlineExceeded, "{result:?}");
        if polled {
            let over = frames.peer.event("over").await;
            assert_eq!((&over["rst"], &over["data"]), (&json!(CANCEL), &json!(0)), "{over}");
        }
        let row = if polled { "gives no window" } else { "the same, and nobody polls our call" };
        facts.add(Table::ChannelFrames, row, "our call", outcome(&result));
        facts.add(Table::ChannelFrames, row, "it sees", "no byte of data; RST_STREAM 8");
    }
    facts.settle();
}

#[tokio::test]
async fn what_a_peer_does_to_a_stream_is_what_the_call_says() {
    let mut facts = Facts::of("frames_plans");
    let head = json!({ "headers": {} });
    let rows = [
        ("resets with REFUSED_STREAM", Method::Never, json!([{ "reset": 7 }]), Code::Unavailable),
        ("resets with CANCEL", Method::Never, json!([{ "reset": 8 }]), Code::Cancelled),
        (
            "resets with ENHANCE_YOUR_CALM",
            Method::Never,
            json!([{ "reset": 11 }]),
            Code::ResourceExhausted,
        ),
        (
            "resets within a message",
            Method::Stream,
            json!([head, { "half": 1 }, { "reset": 8 }]),
            Code::Cancelled,
        ),
        (
            "ends without a status",
            Method::Stream,
            json!([head, { "trailers": { "x": "y" } }]),
            Code::Unknown,
        ),
        (
            "ends with its status, late",
            Method::Stream,
            json!([head, { "message": 1 }, { "after_ms": 300, "trailers": { "grpc-status": "5" } }]),
            Code::NotFound,
        ),
        (
            "says GOAWAY, and didn't come to the stream",
            Method::Never,
            json!([{ "goaway": 0, "last": 0 }]),
            Code::Unavailable,
        ),
        (
            "says GOAWAY, and answers",
            Method::Stream,
            json!([{ "goaway": 0 }, head, { "after_ms": 100, "trailers": { "grpc-status": "5" } }]),
            Code::NotFound,
        ),
        (
            "says GOAWAY ENHANCE_YOUR_CALM, and closes",
            Method::Never,
            json!([{ "goaway": 11, "last": 0 }, { "close": 1 }]),
            Code::ResourceExhausted,
        ),
        ("closes the connection", Method::Never, json!([{ "close": 1 }]), Code::Unavailable),
    ];
    for (row, method, plan, expected) in rows {
        let Some(frames) = Frames::start(json!({ "plan": plan }), limited(30_000)).await else {
            return;
        };
        let result = frames.call(method).await;
        assert_eq!(code(&result), expected, "{row}: {result:?}");
        facts.add(Table::ChannelFrames, row, "our call", name(expected));
        // Whatever it was, the next call is made.
        let again = frames.call(method).await;
        assert_eq!(code(&again), expected, "{row}: {again:?}");
    }
    facts.settle();
}

#[tokio::test]
async fn no_more_streams_are_opened_than_its_settings_allow() {
    let plan = json!([{ "after_ms": 20, "headers": { "grpc-status": "5" }, "end": true }]);
    let command = json!({ "max_streams": 3, "plan": plan });
    let Some(mut frames) = Frames::start(command, limited(60_000)).await else { return };
    let calls: Vec<_> = (0..30)
        .map(|_| {
            tokio::spawn(service::call(frames.channel.clone(), Method::Never, Request::new(())))
        })
        .collect();
    for call in calls {
        let (_, result) = within(call).await.unwrap();
        assert_eq!(code(&result), Code::NotFound, "{result:?}");
    }
    for _ in 0..30 {
        let begun = frames.peer.event("begun").await;
        assert!(begun["open"].as_u64().unwrap() <= 3, "{begun}");
    }
}

#[tokio::test]
async fn a_peer_that_answers_only_pings_is_sent_resets_at_a_pace() {
    let mut facts = Facts::of("frames_pace");
    let Some(mut frames) = Frames::start(json!({}), ClientLayer::new()).await else { return };
    let calls: Vec<_> = (0..100)
        .map(|_| {
            tokio::spawn(service::call(frames.channel.clone(), Method::Never, Request::new(())))
        })
        .collect();
    for _ in 0..100 {
        frames.peer.event("begun").await;
    }
    // All of them are given up, without a deadline.
    calls.iter().for_each(tokio::task::JoinHandle::abort);
    for _ in 0..20 {
        assert_eq!(frames.peer.event("over").await["rst"], CANCEL);
    }
    let stats = frames.channel.stats();
    assert!(stats.resets_withheld() >= 80, "{stats:?}");
    // And a call that is made meanwhile waits for a stream, as the peer allows no more than a hundred.
    let mut pings = 0;
    while frames.peer.event_soon("ping").await.is_some() {
        pings += 1;
    }
    assert!(pings <= 3, "{pings}");
    facts.add(
        Table::ChannelFrames,
        "answers nothing but PINGs, and 100 calls are given up",
        "our call",
        "ends at once",
    );
    facts.add(
        Table::ChannelFrames,
        "answers nothing but PINGs, and 100 calls are given up",
        "it sees",
        "RST_STREAM 8 ten at a time, with a PING after each ten; then one a second",
    );
    facts.settle();
}

#[tokio::test]
async fn an_upload_is_cut_in_the_middle_of_a_message() {
    let Some(mut frames) =
        Frames::start(json!({ "window": 3, "reads": false }), limited(800)).await
    else {
        return;
    };
    let mut call = pin!(service::call(frames.channel.clone(), Method::Upload, Request::new(())));
    let result = within(call.as_mut()).await.1;
    assert_eq!(code(&result), Code::DeadlineExceeded, "{result:?}");
    let over = frames.peer.event("over").await;
    assert_eq!((&over["rst"], &over["data"]), (&json!(CANCEL), &json!(3)), "{over}");
}
