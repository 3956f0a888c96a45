//! What the layers tell to metrics and to traces, in virtual time.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::fmt;
use std::future::pending;
use std::sync::Once;

use bytes::Bytes;
use deadbeat::Manual;
use deadbeat::limit::{Limiter, Settings};
use deadbeat::propagation::codec::OnMalformed;
use deadbeat::propagation::{RequestDeadline, grpc, http};
use deadbeat::time::{Duration, sleep};
use http_body_util::{BodyExt, Empty};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};
use metrics_util::{CompositeKey, MetricKind};
use tower::{Layer, ServiceExt, service_fn};
use tracing::Subscriber;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

const MS: Duration = Duration::from_millis(1);

type Nothing = Empty<Bytes>;
type Response = ::http::Response<Nothing>;

fn get(headers: &[(&str, &str)]) -> ::http::Request<Nothing> {
    let mut request = ::http::Request::get("http://stock/apples");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Nothing::new()).unwrap()
}

fn ok() -> Result<Response, Infallible> {
    Ok(Response::new(Nothing::new()))
}

// Metrics.

type Metrics = BTreeMap<String, f64>;

/// What `test` tells, as `name{label=value,...}`: the count of a counter, the sum of a histogram. Those
/// that have counted nothing are left out.
fn metrics_of(test: impl Future<Output = ()>) -> Metrics {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    metrics::with_local_recorder(&recorder, || Manual::new().block_on(test));
    let told = snapshotter.snapshot().into_vec().into_iter();
    told.map(|(key, _, about, value)| {
        assert!(about.is_some(), "{key:?} has no description");
        (text(&key), number(&key, value))
    })
    .filter(|(_, value)| *value > 0.0)
    .collect()
}

fn text(key: &CompositeKey) -> String {
    let mut labels: Vec<_> =
        key.key().labels().map(|it| format!("{}={}", it.key(), it.value())).collect();
    labels.sort();
    format!("{}{{{}}}", key.key().name(), labels.join(","))
}

fn number(key: &CompositeKey, value: DebugValue) -> f64 {
    match value {
        #[expect(clippy::cast_precision_loss, reason = "small numbers")]
        DebugValue::Counter(count) => count as f64,
        DebugValue::Histogram(values) => values.into_iter().map(|value| value.0).sum(),
        DebugValue::Gauge(_) => panic!("{:?} {:?}", MetricKind::Gauge, key),
    }
}

fn told(pairs: &[(&str, f64)]) -> Metrics {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
}

#[test]
fn a_server_tells_what_remained_and_where_the_time_went() {
    let metrics = metrics_of(async {
        let layer = http::ServerLayer::new();
        let slow = layer.layer(service_fn(async |_: ::http::Request<_>| {
            sleep(300 * MS).await;
            ok()
        }));
        let answer = slow.clone().oneshot(get(&[("connect-timeout-ms", "500")])).await.unwrap();
        answer.into_body().collect().await.unwrap();
        slow.clone().oneshot(get(&[("connect-timeout-ms", "200")])).await.unwrap();
        slow.oneshot(get(&[("connect-timeout-ms", "0")])).await.unwrap();
    });
    let expected = told(&[
        ("deadline.server.remaining{deadline.origin=header,deadline.protocol=http}", 0.7),
        ("deadline.server.phase.duration{deadline.phase=wait,deadline.protocol=http}", 0.5),
        (
            "deadline.server.expired{deadline.origin=header,deadline.protocol=http,deadline.stage=headers}",
            1.0,
        ),
        (
            "deadline.server.expired{deadline.origin=header,deadline.protocol=http,deadline.stage=arrival}",
            1.0,
        ),
    ]);
    assert_eq!(metrics, expected);
}

#[test]
fn malformed_values_are_told_by_what_became_of_them() {
    let metrics = metrics_of(async {
        for policy in [OnMalformed::Ignore, OnMalformed::Lenient, OnMalformed::Reject] {
            let layer = grpc::ServerLayer::new().on_malformed(policy);
            let server = layer.layer(service_fn(async |_: ::http::Request<_>| ok()));
            server.oneshot(get(&[("grpc-timeout", "12.7m")])).await.unwrap();
        }
    });
    for handling in ["ignored", "lenient", "rejected"] {
        let name = format!(
            "deadline.server.malformed{{deadline.handling={handling},deadline.protocol=grpc}}"
        );
        assert_eq!(metrics[&name], 1.0, "{metrics:?}");
    }
}

#[test]
fn a_client_tells_where_it_waited() {
    let metrics = metrics_of(async {
        let client = http::ClientLayer::new().timeout(400 * MS).layer(service_fn(
            async |_: ::http::Request<http::RequestBody<Nothing, http::Http>>| {
                pending::<Result<Response, Infallible>>().await
            },
        ));
        client.clone().oneshot(get(&[])).await.unwrap_err();
        let mut request = get(&[]);
        request.set_deadline(Duration::ZERO);
        client.oneshot(request).await.unwrap_err();
    });
    let expected = told(&[
        ("deadline.client.phase.duration{deadline.phase=wait,deadline.protocol=http}", 0.4),
        (
            "deadline.client.expired{deadline.origin=endpoint,deadline.protocol=http,deadline.stage=headers}",
            1.0,
        ),
        (
            "deadline.client.expired{deadline.origin=call,deadline.protocol=http,deadline.stage=arrival}",
            1.0,
        ),
    ]);
    assert_eq!(metrics, expected);
}

#[test]
fn a_handler_that_holds_its_thread_is_told() {
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    let manual = Manual::new();
    metrics::with_local_recorder(&recorder, || {
        manual.block_on(async {
            let manual = &manual;
            let layer = http::ServerLayer::new();
            let server = layer.layer(service_fn(async |_: ::http::Request<_>| {
                // As a computation would, within one poll.
                manual.clock().advance(250 * MS);
                ok()
            }));
            server.oneshot(get(&[("connect-timeout-ms", "200")])).await.unwrap();
        });
    });
    let told = snapshotter.snapshot().into_vec();
    let overrun =
        told.into_iter().find(|(key, ..)| key.key().name() == "deadline.server.overrun").unwrap();
    assert_eq!(number(&overrun.0, overrun.3), 0.05);
}

#[test]
fn a_limiter_tells_who_waited_and_who_was_turned_away() {
    let metrics = metrics_of(async {
        let limiter = Limiter::new(Settings::new(1).queue(1));
        let slot = limiter.acquire().await.unwrap();
        let mut waits = Box::pin(limiter.acquire());
        assert!(polled_once(&mut waits).is_pending());
        // There is no place for another.
        limiter.acquire().await.unwrap_err();
        sleep(30 * MS).await;
        drop(slot);
        drop(waits.await.unwrap());
    });
    let expected = told(&[
        ("deadline.limit.rejected{deadline.reason=full}", 1.0),
        ("deadline.limit.wait{}", 0.03),
    ]);
    assert_eq!(metrics, expected);
}

fn polled_once<F: Future + Unpin>(future: &mut F) -> std::task::Poll<F::Output> {
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    std::pin::Pin::new(future).poll(&mut cx)
}

// Traces.

#[derive(Clone, Debug, Default, PartialEq)]
struct Fields(BTreeMap<String, String>);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.insert(field.name().into(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().into(), value.into());
    }
}

/// The names of the spans around, innermost first, and its own fields.
type Told = (Vec<String>, Fields);

/// Spans and events of a thread by name, with all that was recorded in them.
#[derive(Default)]
struct Kept {
    spans: BTreeMap<u64, (String, Fields)>,
    events: Vec<Told>,
}

thread_local! {
    static KEPT: RefCell<Kept> = RefCell::default();
}

/// Keeps them. One for all threads: what has no subscriber on one thread may be off for all others.
struct Keeper;

impl<S: Subscriber + for<'a> LookupSpan<'a>> tracing_subscriber::Layer<S> for Keeper {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, _: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        let name = attributes.metadata().name().to_owned();
        KEPT.with_borrow_mut(|kept| kept.spans.insert(id.into_u64(), (name, fields)));
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, _: Context<'_, S>) {
        KEPT.with_borrow_mut(|kept| {
            values.record(&mut kept.spans.get_mut(&id.into_u64()).unwrap().1);
        });
    }

    fn on_event(&self, event: &tracing::Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let around = context.event_scope(event).into_iter().flatten();
        let names = around.map(|span| span.name().to_owned()).collect();
        KEPT.with_borrow_mut(|kept| kept.events.push((names, fields)));
    }
}

fn traced(test: impl Future<Output = ()>) -> Kept {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let subscriber = tracing_subscriber::registry().with(Keeper);
        tracing::subscriber::set_global_default(subscriber).unwrap();
    });
    KEPT.take();
    Manual::new().block_on(test);
    KEPT.take()
}

#[test]
fn the_span_of_a_call_has_the_blame() {
    let kept = traced(async {
        let client = grpc::ClientLayer::new().timeout(400 * MS).peer("stock").layer(service_fn(
            async |_: ::http::Request<tonic::body::Body>| {
                sleep(600 * MS).await;
                ok()
            },
        ));
        let request = ::http::Request::post("http://10.0.0.7:50051/shop.Stock/Reserve");
        client.oneshot(request.body(tonic::body::Body::empty()).unwrap()).await.unwrap_err();
    });
    let spans = kept.spans;
    let (name, fields) = spans.values().next().unwrap();
    assert_eq!(name, "deadline.client");
    let text = "deadline exceeded after 400ms of 400ms, set by the endpoint's timeout: no answer \
                from stock for 400ms";
    for (field, value) in [
        ("otel.kind", "client"),
        ("rpc.system.name", "grpc"),
        ("rpc.method", "shop.Stock/Reserve"),
        ("server.address", "stock"),
        ("deadline.budget", "0.4"),
        ("deadline.origin", "endpoint"),
        ("deadline.stage", "headers"),
        ("deadline.phase", "wait"),
        ("deadline.elapsed", "0.4"),
        ("error.type", "deadline_exceeded"),
        ("otel.status_code", "ERROR"),
        ("otel.status_description", text),
    ] {
        assert_eq!(fields.0.get(field).map(String::as_str), Some(value), "{field}");
    }
    let events = kept.events;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].0, ["deadline.client"]);
    assert_eq!(events[0].1.0["message"], text);
}

#[test]
fn a_handler_runs_in_the_span_of_its_call_and_so_do_the_calls_that_it_makes() {
    let kept = traced(async {
        let inner = http::ClientLayer::new().layer(service_fn(
            async |_: ::http::Request<http::RequestBody<Nothing, http::Http>>| {
                tracing::info!("sent");
                ok()
            },
        ));
        let server = http::ServerLayer::new().layer(service_fn(move |_: ::http::Request<_>| {
            let inner = inner.clone();
            async move {
                inner.oneshot(get(&[])).await.unwrap();
                ok()
            }
        }));
        server.oneshot(get(&[("connect-timeout-ms", "500")])).await.unwrap();
    });
    let events = kept.events;
    assert_eq!(events[0].0, ["deadline.client", "deadline.server"]);
    let spans = kept.spans;
    assert_eq!(spans.values().next().unwrap().1.0["url.path"], "/apples");
}

#[test]
fn a_call_without_a_deadline_has_no_span() {
    let kept = traced(async {
        let server = http::ServerLayer::new().layer(service_fn(async |_: ::http::Request<_>| ok()));
        server.oneshot(get(&[])).await.unwrap();
    });
    assert!(kept.spans.is_empty());
}

// The guide.

#[test]
fn the_guide_lists_every_name() {
    let guide = include_str!("../docs/telemetry.md");
    let source = concat!(
        include_str!("../src/telemetry/mod.rs"),
        include_str!("../src/telemetry/limit.rs"),
        include_str!("../src/telemetry/meters.rs"),
        include_str!("../src/telemetry/trace.rs"),
    );
    let names: BTreeSet<&str> = source
        .split('"')
        .skip(1)
        .step_by(2)
        .filter(|text| text.contains('.') && !text.contains([' ', '/', '{']))
        .collect();
    assert!(names.len() > 15, "{names:?}");
    for name in names {
        assert!(guide.contains(&format!("`{name}`")), "{name}");
    }
}
