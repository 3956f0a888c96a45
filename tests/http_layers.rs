//! The layers for HTTP in one process, in virtual time: what each side does with a deadline.

mod common;

use std::convert::Infallible;
use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use bytes::Bytes;
use deadbeat::Manual;
use deadbeat::deadline::{self, Deadline, Origin, Phase, scope};
use deadbeat::propagation::codec::OnMalformed;
use deadbeat::propagation::http::{
    ClientLayer, DEADLINE_EXCEEDED, RequestDeadline, ServerLayer, Settings, Switch,
};
use deadbeat::time::{Duration, sleep};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, Full};
use proptest::prelude::*;
use tower::{Layer, Service, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

type Nothing = Empty<Bytes>;

fn get(headers: &[(&str, &str)]) -> Request<Nothing> {
    let mut request = Request::get("http://stock/apples");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(Nothing::new()).unwrap()
}

fn ok() -> Result<Response<Nothing>, Infallible> {
    Ok(Response::new(Nothing::new()))
}

fn run<F: Future>(test: F) -> F::Output {
    Manual::new().block_on(test)
}

// A server.

#[test]
fn the_handler_has_the_callers_deadline() {
    run(async {
        let server = ServerLayer::new().layer(service_fn(async |request: Request<_>| {
            assert_eq!(deadline::current().remaining(), 300 * MS);
            assert_eq!(request.deadline(), deadline::current());
            assert_eq!(request.provenance().unwrap().origin(), Origin::Header("grpc-timeout"));
            ok()
        }));
        let answer = server.oneshot(get(&[("grpc-timeout", "300m")])).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert!(deadline::current().is_never());
    });
}

#[test]
fn a_handler_that_is_late_is_dropped_and_answered_for() {
    run(async {
        let layer = ServerLayer::new();
        let stats = layer.stats().clone();
        let dropped = Arc::new(AtomicUsize::new(0));
        let handler = {
            let dropped = dropped.clone();
            service_fn(move |_: Request<_>| {
                let dropped = dropped.clone();
                async move {
                    let waker = common::on_drop(move || {
                        dropped.fetch_add(1, SeqCst);
                    });
                    pending::<()>().await;
                    drop(waker);
                    ok()
                }
            })
        };
        let answer = layer.layer(handler).oneshot(get(&[("grpc-timeout", "300m")])).await.unwrap();
        assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
        assert_eq!(answer.headers()[DEADLINE_EXCEEDED], "header");
        assert_eq!(dropped.load(SeqCst), 1);
        let text = answer.into_body().collect().await.unwrap().to_bytes();
        assert!(
            text.starts_with(
                b"deadline exceeded after 300ms of 300ms, set by header `grpc-timeout`"
            )
        );
        assert_eq!((stats.requests(), stats.expired_before_headers()), (1, 1));
    });
}

#[test]
fn what_has_expired_on_arrival_never_reaches_the_handler() {
    run(async {
        let server = ServerLayer::new().layer(service_fn(async |_: Request<_>| {
            panic!("called");
            #[expect(unreachable_code, reason = "says what it would be")]
            ok()
        }));
        for header in [("grpc-timeout", "0n"), ("connect-timeout-ms", "0")] {
            let answer = server.clone().oneshot(get(&[header])).await.unwrap();
            assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
        }
    });
}

#[test]
fn who_is_not_trusted_may_only_shorten() {
    let asked = |settings: fn(Settings) -> Settings, headers: &[(&str, &str)]| {
        run(async {
            let layer = ServerLayer::new().settings(move |_, all| settings(all));
            let seen = Arc::new(Mutex::new(Duration::ZERO));
            let server = layer.layer(service_fn(|_: Request<_>| {
                *seen.lock().unwrap() = deadline::current().remaining();
                async { ok() }
            }));
            server.oneshot(get(headers)).await.unwrap();
            *seen.lock().unwrap()
        })
    };
    let stranger = |all: Settings| all.default_timeout(SECOND).maximum(10 * SECOND);
    let friend = |all: Settings| all.default_timeout(SECOND).maximum(10 * SECOND).trusted(true);
    assert_eq!(asked(stranger, &[("grpc-timeout", "5S")]), SECOND);
    assert_eq!(asked(stranger, &[("grpc-timeout", "500m")]), 500 * MS);
    assert_eq!(asked(friend, &[("grpc-timeout", "5S")]), 5 * SECOND);
    assert_eq!(asked(friend, &[("grpc-timeout", "50S")]), 10 * SECOND);
    assert_eq!(asked(friend, &[]), SECOND);
    assert_eq!(asked(friend, &[("grpc-timeout", "5S"), ("connect-timeout-ms", "700")]), 700 * MS);
    assert_eq!(asked(|all| all.enabled(false), &[("grpc-timeout", "5S")]), Duration::MAX);
}

#[test]
fn what_is_malformed_is_ignored_or_said() {
    run(async {
        let handler = service_fn(async |_: Request<_>| ok());
        let lax = ServerLayer::new().layer(handler);
        let answer = lax.oneshot(get(&[("grpc-timeout", "soon")])).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let strict = ServerLayer::new().on_malformed(OnMalformed::Reject).layer(handler);
        let answer = strict.oneshot(get(&[("grpc-timeout", "soon")])).await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        let text = answer.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&text);
        assert!(text.contains("soon") && text.contains("grpc-timeout"), "{text}");
    });
}

/// A piece now, and another every second.
struct Drip(Option<Pin<Box<deadbeat::time::Sleep>>>);

impl Body for Drip {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(pause) = &mut self.0 {
            std::task::ready!(pause.as_mut().poll(cx));
        }
        self.0 = Some(Box::pin(sleep(SECOND)));
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"drip")))))
    }
}

/// Ready when it is told to be, and never called.
#[derive(Clone)]
struct Gate(Arc<AtomicUsize>);

impl<B> Service<Request<B>> for Gate {
    type Response = Response<Nothing>;
    type Error = Infallible;
    type Future = std::future::Ready<Result<Response<Nothing>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        if self.0.load(SeqCst) > 0 { Poll::Ready(Ok(())) } else { Poll::Pending }
    }

    fn call(&mut self, _: Request<B>) -> Self::Future {
        panic!("called");
    }
}

#[test]
fn what_expires_in_a_queue_while_the_machine_is_suspended_is_not_begun() {
    let manual = Manual::new();
    let _entered = manual.enter();
    let open = Arc::new(AtomicUsize::new(0));
    let mut server = ServerLayer::new().layer(Gate(open.clone()));
    let mut call = std::pin::pin!(server.call(get(&[("grpc-timeout", "5S")])));
    let mut cx = Context::from_waker(std::task::Waker::noop());
    assert!(call.as_mut().poll(&mut cx).is_pending());
    // Active time stands still.
    manual.suspend(10 * SECOND);
    open.store(1, SeqCst);
    let Poll::Ready(Ok(answer)) = call.poll(&mut cx) else { panic!("no answer") };
    assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
}

#[test]
fn an_answer_that_is_cut_off_is_no_clean_end() {
    run(async {
        let server = ServerLayer::new().layer(service_fn(async |_: Request<_>| {
            Ok::<_, Infallible>(Response::new(Drip(None)))
        }));
        let answer = server.oneshot(get(&[("grpc-timeout", "2500m")])).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        let mut body = answer.into_body();
        for _ in 0..3 {
            assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "drip");
        }
        let error = body.frame().await.unwrap().unwrap_err();
        assert!(error.is_expired(), "{error}");
    });
}

// A server whose clients speak Connect.

/// A message of Connect's, in its envelope.
fn envelope(flag: u8, message: &str) -> Bytes {
    let mut bytes = vec![flag];
    bytes.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    bytes.extend(message.as_bytes());
    bytes.into()
}

/// Pieces of an answer, each after a pause.
struct Pieces(Vec<(Duration, Bytes)>, Pin<Box<deadbeat::time::Sleep>>);

impl Pieces {
    fn of(pieces: impl IntoIterator<Item = (Duration, Bytes)>) -> Self {
        let mut pieces: Vec<_> = pieces.into_iter().collect();
        pieces.reverse();
        let pause = pieces.last().map_or(Duration::ZERO, |(pause, _)| *pause);
        Self(pieces, Box::pin(sleep(pause)))
    }
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.0.is_empty() {
            return Poll::Ready(None);
        }
        std::task::ready!(self.1.as_mut().poll(cx));
        let piece = self.0.pop();
        let pause = self.0.last().map_or(Duration::ZERO, |(pause, _)| *pause);
        self.1 = Box::pin(sleep(pause));
        Poll::Ready(piece.map(|(_, piece)| Ok(Frame::data(piece))))
    }
}

fn connect_request(content_type: &str, timeout_ms: &str) -> Request<Full<Bytes>> {
    let is_stream = content_type.starts_with("application/connect+");
    let body = if is_stream { envelope(0, "{}") } else { "{}".into() };
    Request::post("http://stock/stock.Stock/Apples")
        .header("content-type", content_type)
        .header("connect-protocol-version", "1")
        .header("connect-timeout-ms", timeout_ms)
        .body(Full::new(body))
        .unwrap()
}

/// The text of a unary answer, which says that the time is up.
fn assert_is_expired(error: &serde_json::Value, why: &str) {
    assert_eq!(error["code"], "deadline_exceeded");
    let message = error["message"].as_str().unwrap();
    assert!(message.starts_with(why), "{message}");
    assert_eq!(error.as_object().unwrap().len(), 2, "{error}");
}

/// The messages of a stream, each with its flag, and what follows the last whole one.
fn messages(mut stream: &[u8]) -> (Vec<(u8, serde_json::Value)>, &[u8]) {
    let mut all = vec![];
    while let Some((prefix, rest)) = stream.split_first_chunk::<5>() {
        let [flag, length @ ..] = *prefix;
        let length = u32::from_be_bytes(length) as usize;
        let Some(message) = rest.get(..length) else { break };
        all.push((flag, serde_json::from_slice(message).unwrap()));
        stream = &rest[length..];
    }
    (all, stream)
}

#[test]
fn a_unary_call_of_connects_is_answered_in_its_json() {
    run(async {
        let server = ServerLayer::new().layer(service_fn(async |_: Request<_>| {
            pending::<Result<Response<Nothing>, Infallible>>().await
        }));
        let why = "deadline exceeded after 300ms of 300ms, set by header `connect-timeout-ms`";
        // On arrival, and before the head.
        for (timeout, why) in [("0", "deadline exceeded after "), ("300", why)] {
            let request = connect_request("application/json", timeout);
            let answer = server.clone().oneshot(request).await.unwrap();
            assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
            assert_eq!(answer.headers()["content-type"], "application/json");
            assert_eq!(answer.headers()[DEADLINE_EXCEEDED], "header");
            let text = answer.into_body().collect().await.unwrap().to_bytes();
            assert_is_expired(&serde_json::from_slice(&text).unwrap(), why);
        }
    });
}

#[test]
fn a_stream_of_connects_that_does_not_begin_ends_with_its_message() {
    run(async {
        let server = ServerLayer::new().layer(service_fn(async |_: Request<_>| {
            pending::<Result<Response<Nothing>, Infallible>>().await
        }));
        for timeout in ["0", "300"] {
            let request = connect_request("application/connect+json", timeout);
            let answer = server.clone().oneshot(request).await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK);
            assert_eq!(answer.headers()["content-type"], "application/connect+json");
            assert_eq!(answer.headers()[DEADLINE_EXCEEDED], "header");
            let text = answer.into_body().collect().await.unwrap().to_bytes();
            let (messages, rest) = messages(&text);
            let [(2, end)] = &messages[..] else { panic!("{messages:?}") };
            assert_is_expired(&end["error"], "deadline exceeded after ");
            assert!(rest.is_empty());
        }
    });
}

/// What a client reads of a stream that has a second and a half, and whether it ends cleanly.
async fn read(pieces: impl IntoIterator<Item = (Duration, Bytes)>) -> (Vec<u8>, bool) {
    let pieces = Mutex::new(Some(Pieces::of(pieces)));
    let server = ServerLayer::new().layer(service_fn(async |_: Request<_>| {
        let response = Response::builder().header("content-type", "application/connect+proto");
        Ok::<_, Infallible>(response.body(pieces.lock().unwrap().take().unwrap()).unwrap())
    }));
    let request = connect_request("application/connect+proto", "1500");
    let mut body = server.oneshot(request).await.unwrap().into_body();
    let mut text = vec![];
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => text.extend(frame.into_data().unwrap()),
            Err(error) => {
                assert!(error.is_expired(), "{error}");
                return (text, false);
            }
        }
    }
    (text, true)
}

#[test]
fn a_stream_of_connects_that_is_late_ends_with_its_message_between_two() {
    run(async {
        let (text, is_clean) = read((1..9).map(|_| (SECOND, envelope(0, "{}")))).await;
        let (messages, rest) = messages(&text);
        let [(0, _), (2, end)] = &messages[..] else { panic!("{messages:?}") };
        assert_is_expired(&end["error"], "deadline exceeded after 1.5s of 1.5s");
        assert!(is_clean && rest.is_empty());
    });
}

#[test]
fn a_stream_of_connects_that_is_late_within_a_message_is_cut_off() {
    run(async {
        let message = envelope(0, "{}");
        let (text, is_clean) = read(message.chunks(4).map(|it| (SECOND, it.to_vec().into()))).await;
        assert_eq!(text, message[..4]);
        assert!(!is_clean);
    });
}

#[test]
fn a_stream_of_connects_that_has_said_its_end_has_no_other() {
    run(async {
        let end = envelope(2, "{}");
        let stalled = [(SECOND, end.clone()), (SECOND, Bytes::new())];
        assert_eq!(read(stalled).await, (end.to_vec(), true));
    });
}

#[test]
fn a_stream_of_connects_has_no_length_that_its_end_could_exceed() {
    run(async {
        let whole = envelope(2, "{}");
        let server = ServerLayer::new().layer(service_fn(async |_: Request<_>| {
            let response = Response::builder()
                .header("content-type", "application/connect+json")
                .header("content-length", whole.len());
            Ok::<_, Infallible>(response.body(Full::new(whole.clone())).unwrap())
        }));
        let request = connect_request("application/connect+json", "300");
        let answer = server.oneshot(request).await.unwrap();
        assert!(!answer.headers().contains_key("content-length"));
        let body = answer.into_body();
        assert_eq!(body.size_hint().upper(), None);
        sleep(SECOND).await;
        let text = body.collect().await.unwrap().to_bytes();
        let (messages, _) = messages(&text);
        let [(2, end)] = &messages[..] else { panic!("{messages:?}") };
        assert_is_expired(&end["error"], "deadline exceeded after ");
    });
}

#[test]
fn the_switch_turns_it_off_while_it_runs() {
    run(async {
        let switch = Switch::new();
        let server = ServerLayer::new().switch(&switch).layer(service_fn(async |_: Request<_>| {
            assert!(deadline::current().is_never());
            sleep(SECOND).await;
            ok()
        }));
        switch.set(false);
        let answer = server.oneshot(get(&[("grpc-timeout", "1m")])).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
    });
}

// A client.

/// What it sent, and when its deadline is; answers after `takes`.
fn callee(
    takes: Duration,
    sent: &Arc<Mutex<Vec<HeaderMap>>>,
) -> impl Service<
    Request<deadbeat::propagation::RequestBody<Nothing, deadbeat::propagation::http::Http>>,
    Response = Response<Nothing>,
    Error = Infallible,
    Future: Send,
> + Clone {
    let sent = sent.clone();
    service_fn(move |request: Request<_>| {
        sent.lock().unwrap().push(request.headers().clone());
        async move {
            sleep(takes).await;
            ok()
        }
    })
}

#[test]
fn what_remains_is_written_in_place_of_all_that_was_there() {
    run(async {
        let sent = Arc::default();
        let client = ClientLayer::new().allowance(5 * MS).layer(callee(Duration::ZERO, &sent));
        let headers =
            [("grpc-timeout", "9S"), ("x-envoy-expected-rq-timeout-ms", "77000"), ("a", "b")];
        let call = client.clone().oneshot(get(&headers));
        scope(SECOND, async {
            sleep(200 * MS).await;
            call.await
        })
        .await
        .unwrap()
        .unwrap();
        client.oneshot(get(&[("a", "b")])).await.unwrap();
        let sent = sent.lock().unwrap();
        assert_eq!(sent[0]["connect-timeout-ms"], "795");
        assert_eq!((sent[0].len(), sent[1].len()), (2, 1));
    });
}

#[test]
fn what_says_other_things_too_is_left_alone() {
    run(async {
        let sent = Arc::default();
        let client = ClientLayer::new().timeout(SECOND).layer(callee(Duration::ZERO, &sent));
        let headers = [
            ("prefer", "return=minimal, wait=9"),
            ("amz-sdk-request", "ttl=20261125T170000Z; attempt=2; max=3"),
            ("l5d-timeout", "9s"),
        ];
        client.oneshot(get(&headers)).await.unwrap();
        let sent = &sent.lock().unwrap()[0];
        for (name, value) in &headers[..2] {
            assert_eq!(sent[*name], *value);
        }
        assert_eq!(sent["connect-timeout-ms"], "1000");
        assert_eq!(sent.len(), 3);
    });
}

#[test]
fn who_is_too_late_sends_nothing_and_says_why() {
    run(async {
        let sent = Arc::default();
        let client = ClientLayer::new().allowance(5 * MS).layer(callee(Duration::ZERO, &sent));
        for budget in [Duration::ZERO, 5 * MS] {
            let mut request = get(&[]);
            request.set_deadline(budget);
            let error = client.clone().oneshot(request).await.unwrap_err();
            assert_eq!(error.expired().unwrap().origin(), Origin::Call);
        }
        assert!(sent.lock().unwrap().is_empty());
    });
}

#[test]
fn an_answer_that_does_not_come_fails_at_the_deadline_with_the_blame() {
    run(async {
        let sent = Arc::default();
        let client = ClientLayer::new().timeout(500 * MS).layer(callee(9 * SECOND, &sent));
        let error = client.oneshot(get(&[])).await.unwrap_err();
        let expired = error.expired().unwrap();
        assert_eq!(expired.origin(), Origin::Endpoint);
        assert_eq!(expired.phase(), Some(Phase::Wait));
        assert_eq!(expired.spent().unwrap().total(), expired.elapsed());
        assert_eq!(
            expired.to_string(),
            "deadline exceeded after 500ms of 500ms, set by the endpoint's timeout: no answer from \
             stock for 500ms"
        );
    });
}

/// Ready half a second after it is first asked.
#[derive(Clone)]
struct Slow<S>(S, Option<Arc<Mutex<Pin<Box<deadbeat::time::Sleep>>>>>);

impl<R, S: Service<R>> Service<R> for Slow<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        let pause = self.1.get_or_insert_with(|| Arc::new(Mutex::new(Box::pin(sleep(500 * MS)))));
        std::task::ready!(pause.lock().unwrap().as_mut().poll(cx));
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> S::Future {
        self.0.call(request)
    }
}

#[test]
fn waiting_for_the_service_is_part_of_the_call() {
    run(async {
        let sent = Arc::default();
        let client = ClientLayer::new().layer(Slow(callee(Duration::ZERO, &sent), None));
        let mut request = get(&[]);
        request.set_deadline(SECOND);
        client.clone().oneshot(request).await.unwrap();
        assert_eq!(sent.lock().unwrap()[0]["connect-timeout-ms"], "500");
        let mut request = get(&[]);
        request.set_deadline(300 * MS);
        let error = client.oneshot(request).await.unwrap_err();
        assert_eq!(error.expired().unwrap().phase(), Some(Phase::Queue));
        assert_eq!(sent.lock().unwrap().len(), 1);
    });
}

#[test]
fn three_hops_share_one_deadline() {
    run(async {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let note =
            |seen: &Arc<Mutex<Vec<Deadline>>>| seen.lock().unwrap().push(deadline::current());
        let last = {
            let seen = seen.clone();
            ServerLayer::new().layer(service_fn(move |_: Request<_>| {
                note(&seen);
                pending::<Result<Response<Full<Bytes>>, Infallible>>()
            }))
        };
        let middle = {
            let seen = seen.clone();
            let next = ClientLayer::new().allowance(2 * MS).layer(last);
            ServerLayer::new().layer(service_fn(move |_: Request<_>| {
                note(&seen);
                let next = next.clone();
                async move {
                    sleep(100 * MS).await;
                    let answer = next.oneshot(get(&[])).await.unwrap();
                    Ok::<_, Infallible>(answer)
                }
            }))
        };
        let first = ClientLayer::new().allowance(2 * MS).layer(middle);
        let begun = Deadline::after(SECOND);
        let answer = scope(begun, first.oneshot(get(&[]))).await.unwrap().unwrap();
        // The callee gives up before the caller does.
        assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
        let seen = seen.lock().unwrap();
        assert_eq!(begun.instant() - seen[0].instant(), 2 * MS);
        assert_eq!(begun.instant() - seen[1].instant(), 4 * MS);
    });
}

proptest! {
    /// P10: whatever the headers are, and P4: nobody has more time than was asked for.
    #[test]
    fn no_header_block_hurts_or_extends(
        blocks in prop::collection::vec(("[a-z-]{1,20}|grpc-timeout|connect-timeout-ms", prop::collection::vec(0x20_u8..0x7f, 0..40)), 0..8),
        budget_ms in 1_u64..5000,
    ) {
        run(async {
            let mut request = get(&[("grpc-timeout", &format!("{budget_ms}m"))]);
            for (name, value) in &blocks {
                if let (Ok(name), Ok(value)) = (
                    http::HeaderName::from_bytes(name.as_bytes()),
                    http::HeaderValue::from_bytes(value),
                ) {
                    request.headers_mut().append(name, value);
                }
            }
            let server = ServerLayer::new().layer(service_fn(async |_: Request<_>| {
                assert!(deadline::current().remaining() <= Duration::from_millis(budget_ms));
                ok()
            }));
            server.oneshot(request).await.unwrap();
        });
    }
}
