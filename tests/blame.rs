//! Blame that travels back: three services down, with what each has to say of where the time went.

#[path = "common/numbers.rs"]
mod numbers;

use std::convert::Infallible;
use std::future::{Future, pending, poll_fn};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;

use bytes::Bytes;
use deadbeat::Manual;
use deadbeat::deadline::{Blame, Deadline, Expired, Hop, Phase, scope};
use deadbeat::propagation::{RequestBody, RequestDeadline, blame, grpc, http as plain};
use deadbeat::time::{Duration, sleep, timeout};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use numbers::Numbers;
use tonic::body::Body;
use tonic::{Code, Status};
use tower::util::BoxCloneSyncService;
use tower::{Layer, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);

type Peer<E> = BoxCloneSyncService<Request<Body>, Response<Body>, E>;
type GrpcPeer = Peer<Status>;
type HttpPeer = Peer<plain::Error>;
type Answer = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

fn run<F: Future>(test: F) -> F::Output {
    Manual::new().block_on(test)
}

/// A handler, behind a server's layer, a millisecond of way there and back, and a client's layer. Both are of
/// the protocol that `$module` is of.
macro_rules! hop {
    ($module:ident, $server:expr, $client:expr, $handler:expr) => {{
        let (server, client, handler) = ($server, $client, $handler);
        let service = server.layer(service_fn(move |request: Request<_>| {
            drop::<Request<RequestBody<Body, _>>>(request);
            let answer: Answer = handler();
            async move { Ok::<_, Infallible>(answer.await) }
        }));
        let way = service_fn(move |request: Request<Body>| {
            let service = service.clone();
            async move {
                // At once to its end, so that it counts as sent.
                let (head, body) = request.into_parts();
                let body = http_body_util::Full::new(body.collect().await.unwrap().to_bytes());
                sleep(MS).await;
                let answer = service.oneshot(Request::from_parts(head, Body::new(body))).await;
                sleep(MS).await;
                answer
            }
        });
        let way = way.map_request(|request: Request<_>| request.map(Body::new));
        let peer = client.layer(way).map_response(|answer: Response<_>| answer.map(Body::new));
        BoxCloneSyncService::new(peer)
    }};
}

fn grpc_client(peer: &str) -> grpc::ClientLayer {
    grpc::ClientLayer::new().peer(peer).allowance(5 * MS)
}

fn http_client(peer: &str) -> plain::ClientLayer {
    plain::ClientLayer::new().peer(peer).allowance(5 * MS)
}

fn grpc_server() -> grpc::ServerLayer {
    grpc::ServerLayer::new().trusted(true)
}

fn http_server() -> plain::ServerLayer {
    plain::ServerLayer::new().trusted(true)
}

async fn ask(peer: GrpcPeer) -> Result<u64, Status> {
    let mut client = tonic::client::Grpc::new(peer);
    client.ready().await.map_err(|_| Status::unknown("not ready"))?;
    let path = http::uri::PathAndQuery::from_static("/shop.Shop/Ask");
    Ok(client.unary(tonic::Request::new(0), path, Numbers).await?.into_inner())
}

async fn get(peer: HttpPeer) -> Result<Response<Body>, plain::Error> {
    peer.oneshot(Request::get("http://localhost/apples?n=3").body(Body::empty()).unwrap()).await
}

/// Never answers.
fn stuck() -> Answer {
    Box::pin(pending())
}

/// Asks the next, and answers what that does.
fn relay(next: &GrpcPeer) -> impl Fn() -> Answer + Clone + use<> {
    let next = next.clone();
    move || {
        let next = next.clone();
        Box::pin(async move {
            match ask(next).await {
                Ok(_) => Status::unknown("it was answered").into_http(),
                Err(status) => status.into_http(),
            }
        })
    }
}

/// The same of HTTP: answers with the next's status; and, as of a gateway, with 504 if there is none.
fn gateway(next: &HttpPeer) -> impl Fn() -> Answer + Clone + use<> {
    let next = next.clone();
    move || {
        let next = next.clone();
        Box::pin(async move {
            let mut answer = Response::new(Body::empty());
            *answer.status_mut() =
                get(next).await.map_or(StatusCode::GATEWAY_TIMEOUT, |it| it.status());
            answer
        })
    }
}

/// Half a second, of which 20 ms are gone when the call is made.
async fn within<T>(call: impl Future<Output = T>) -> T {
    scope(500 * MS, async {
        sleep(20 * MS).await;
        call.await
    })
    .named("checkout")
    .await
    .expect("the call ends with it, or before")
}

const CHAIN: &str = "no answer from orders for 471ms; orders: no answer from stock for 469ms of 475ms; \
     stock: no answer from ledger for 467ms of 470ms; ledger: wait took 465ms of 465ms";

fn check_chain(blame: &Blame) {
    assert_eq!(blame.to_string(), CHAIN);
    assert!(blame.used_whole_budget());
    let names: Vec<_> = blame.hops().iter().filter_map(Hop::service).collect();
    assert_eq!(names, ["orders", "stock", "ledger"]);
    let nearest = &blame.hops()[0];
    assert_eq!(nearest.waited().unwrap().phase(), Phase::Wait);
    assert_eq!(nearest.elapsed(), 469 * MS);
    assert!(blame.hops().iter().all(Hop::used_whole_budget));
}

fn grpc_chain(client: impl Fn(&str) -> grpc::ClientLayer) -> GrpcPeer {
    let ledger = hop!(grpc, grpc_server(), client("ledger"), stuck);
    let stock = hop!(grpc, grpc_server(), client("stock"), relay(&ledger));
    hop!(grpc, grpc_server(), client("orders"), relay(&stock))
}

fn http_chain(client: impl Fn(&str) -> plain::ClientLayer) -> HttpPeer {
    let ledger = hop!(http, http_server(), client("ledger"), stuck);
    let stock = hop!(http, http_server(), client("stock"), gateway(&ledger));
    hop!(http, http_server(), client("orders"), gateway(&stock))
}

#[test]
fn over_three_hops_of_grpc_a_client_can_print_where_the_time_went() {
    let status = run(within(ask(grpc_chain(grpc_client)))).unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    check_chain(grpc::blame(&status).unwrap());
    assert!(status.metadata().get_bin(blame::GRPC_METADATA).is_none());
    // That of whoever gave up first, handed on.
    assert!(status.message().starts_with("deadline exceeded after 465ms of 465ms, set by header "));
}

#[test]
fn over_three_hops_of_http_a_client_can_print_where_the_time_went() {
    let origin = header_origin("connect-timeout-ms");
    let answer = run(within(get(http_chain(http_client)))).unwrap();
    assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(answer.headers()[plain::DEADLINE_EXCEEDED], "header");
    assert!(!answer.headers().contains_key(blame::HTTP_HEADER));
    let blame = plain::blame(&answer).unwrap();
    check_chain(blame);
    assert!(blame.hops().iter().all(|hop| hop.set_by() == Some(&origin)));
}

fn header_origin(name: &'static str) -> String {
    deadbeat::deadline::Origin::Header(name).to_string()
}

#[test]
fn without_an_allowance_nothing_arrives_and_nothing_breaks() {
    let layer = |peer: &str| grpc::ClientLayer::new().peer(peer);
    let status = run(within(ask(grpc_chain(layer)))).unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    let expired = status.source_of::<Expired>();
    assert!(expired.hops().is_empty() && expired.used_whole_budget());
    assert_eq!(
        expired.to_string(),
        "deadline exceeded after 500ms of 500ms, set by scope `checkout`: no answer from orders for \
         480ms"
    );
    let layer = |peer: &str| plain::ClientLayer::new().peer(peer);
    let error = run(within(get(http_chain(layer)))).unwrap_err();
    assert!(error.expired().unwrap().hops().is_empty());
}

trait Source {
    fn source_of<T: std::error::Error + 'static>(&self) -> &T;
}

impl Source for Status {
    fn source_of<T: std::error::Error + 'static>(&self) -> &T {
        std::error::Error::source(self).and_then(|it| it.downcast_ref()).expect("such a source")
    }
}

#[test]
fn an_answer_at_the_last_moment_tells_its_blame_in_the_expiry() {
    // There is no way between them: the answer is there in the poll in which the deadline comes. In one
    // process they also have the same deadline.
    run(async {
        let stock = service_fn(async |_: Request<_>| {
            pending::<()>().await;
            Ok::<_, Infallible>(Response::new(Body::empty()))
        });
        let stock = http_server().layer(stock);
        let stock = plain::ClientLayer::new().peer("stock").layer(stock);
        let request = Request::get("http://localhost/").body(Body::empty()).unwrap();
        let error = within(async { stock.oneshot(request).await.map(drop) }).await.unwrap_err();
        let expired = error.expired().unwrap();
        assert_eq!(expired.hops()[0].service(), Some("stock"));
        assert_eq!(
            expired.to_string(),
            "deadline exceeded after 500ms of 500ms, set by scope `checkout`: no answer from stock \
             for 480ms; stock: wait took 480ms of 500ms"
        );
    });
}

/// What goes over the wire to a caller that isn't trusted, by `orders`, which is told to tell or not.
fn told_to_strangers(blame: bool, handler: fn(&GrpcPeer) -> Answer) -> HeaderMap {
    let stock: GrpcPeer = hop!(grpc, grpc_server(), grpc_client("stock"), stuck);
    let layer = grpc::ServerLayer::new().blame(blame).name("orders");
    let orders = layer.layer(service_fn(move |_: Request<_>| {
        let answer = handler(&stock);
        async move { Ok::<_, Infallible>(answer.await) }
    }));
    let request = Request::post("http://localhost/shop.Shop/Ask").header("grpc-timeout", "475m");
    let request = request.body(Body::empty()).unwrap();
    run(async { orders.oneshot(request).await.unwrap().into_parts().0.headers })
}

#[test]
fn who_is_not_trusted_is_told_which_deadline_it_was_and_no_more() {
    let hands_on: fn(&GrpcPeer) -> Answer = |stock| relay(stock)();
    let waits: fn(&GrpcPeer) -> Answer = |stock| {
        let stock = stock.clone();
        Box::pin(async move {
            // And then it is too late for this answer.
            let _ = ask(stock).await;
            sleep(20 * MS).await;
            Status::internal("stock is slow").into_http()
        })
    };
    for handler in [hands_on, waits] {
        let told = told_to_strangers(false, handler);
        assert_eq!(told["grpc-status"], "4");
        assert_eq!(told["x-deadline-exceeded"], "header");
        assert!(!told.contains_key(blame::GRPC_METADATA));
        for value in told.values() {
            let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
            assert!(!value.contains("stock"), "{value}");
        }
        let told = told_to_strangers(true, handler);
        let hops = blame::decode(told[blame::GRPC_METADATA].as_bytes()).unwrap();
        let names: Vec<_> = hops.iter().filter_map(Hop::service).collect();
        assert_eq!(names, ["orders", "stock"]);
    }
}

#[test]
fn who_is_not_trusted_still_learns_that_trying_again_is_of_no_use() {
    let stock = hop!(grpc, grpc::ServerLayer::new(), grpc_client("stock"), stuck);
    let status = run(within(ask(stock.clone()))).unwrap_err();
    let blame = grpc::blame(&status).unwrap();
    assert!(blame.used_whole_budget() && blame.hops().is_empty());
    assert_eq!(blame.to_string(), "no answer from stock for 477ms");

    let stock = hop!(http, plain::ServerLayer::new(), http_client("stock"), stuck);
    let answer = run(within(get(stock))).unwrap();
    assert!(plain::blame(&answer).unwrap().used_whole_budget());
}

#[test]
fn a_call_that_had_less_than_its_caller_has_may_be_made_again() {
    let whole = |client: grpc::ClientLayer, server: grpc::ServerLayer| {
        let stock = hop!(grpc, server, client, stuck);
        let status = run(within(ask(stock))).unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded);
        grpc::blame(&status).unwrap().used_whole_budget()
    };
    let client = || grpc_client("stock");
    assert!(whole(client(), grpc_server()));
    // A timeout of the endpoint's is that of a try.
    assert!(!whole(client().timeout(100 * MS), grpc_server()));
    // It was the callee's own limit.
    assert!(!whole(client(), grpc_server().maximum(100 * MS)));
    // It was told less than there was.
    let capped = grpc::ClientLayer::new().peer("stock").allowance(5 * MS);
    let encoder = deadbeat::propagation::codec::Encoder::new().cap(100 * MS);
    assert!(!whole(capped.encoder(encoder), grpc_server()));
}

#[test]
fn a_point_in_time_that_a_request_is_given_is_all_that_there_is() {
    let whole = |limit: fn() -> deadbeat::deadline::Limit| {
        let stock: HttpPeer = hop!(http, http_server(), http_client("stock"), stuck);
        run(async move {
            let mut request = Request::get("http://localhost/").body(Body::empty()).unwrap();
            request.set_deadline(limit());
            let answer = stock.oneshot(request).await.unwrap();
            plain::blame(&answer).unwrap().used_whole_budget()
        })
    };
    assert!(whole(|| Deadline::after(100 * MS).into()));
    assert!(!whole(|| (100 * MS).into()));
}

#[test]
fn what_was_told_to_others_is_not_handed_on() {
    // Its call had 100 ms, all of which was used up; it has more itself.
    let stock: HttpPeer = hop!(http, http_server(), http_client("stock").timeout(100 * MS), stuck);
    let proxy = move || -> Answer {
        let stock = stock.clone();
        Box::pin(async move { get(stock).await.unwrap() })
    };
    let orders = hop!(http, http_server(), http_client("orders"), proxy);
    let answer = run(within(get(orders))).unwrap();
    assert_eq!(answer.headers()[plain::DEADLINE_EXCEEDED], "other");
    let blame = plain::blame(&answer).unwrap();
    assert!(!blame.used_whole_budget());
    assert_eq!(
        blame.to_string(),
        "no answer from orders for 99ms; orders: no answer from stock for 97ms of 475ms; stock: wait \
         took 95ms of 95ms"
    );
}

#[test]
fn over_http_who_is_not_trusted_is_told_no_more_either() {
    let answer_to = |server: plain::ServerLayer, pause| {
        let stock: HttpPeer = hop!(http, http_server(), http_client("stock"), stuck);
        let handler = gateway(&stock);
        let handler = move || -> Answer {
            let answer = handler();
            Box::pin(async move {
                let answer = answer.await;
                sleep(pause).await;
                answer
            })
        };
        let orders = server.layer(service_fn(move |_: Request<_>| {
            let answer = handler();
            async move { Ok::<_, Infallible>(answer.await) }
        }));
        let request = Request::get("/").header("connect-timeout-ms", "475");
        run(orders.oneshot(request.body(Body::empty()).unwrap())).unwrap()
    };
    let told = answer_to(plain::ServerLayer::new(), Duration::ZERO);
    assert_eq!(told.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(told.headers()[plain::DEADLINE_EXCEEDED], "header");
    assert!(!told.headers().contains_key(blame::HTTP_HEADER));
    let told = answer_to(http_server(), Duration::ZERO);
    assert!(told.headers().contains_key(blame::HTTP_HEADER));
    // Nor what it was waiting for when it was late itself.
    let late = answer_to(plain::ServerLayer::new().maximum(50 * MS), 20 * MS);
    assert_eq!(late.headers()[plain::DEADLINE_EXCEEDED], "maximum");
    let text = run(late.into_body().collect()).unwrap().to_bytes();
    let text = String::from_utf8(text.to_vec()).unwrap();
    assert!(text.starts_with("deadline exceeded") && !text.contains("stock"), "{text}");
}

/// Polls `call` once, and never again.
async fn forgotten(call: impl Future) {
    let mut call = Box::pin(call);
    let mut is_polled = false;
    poll_fn(|cx| {
        if !std::mem::replace(&mut is_polled, true) {
            let _ = call.as_mut().poll(cx);
        }
        Poll::<()>::Pending
    })
    .await;
}

#[test]
fn a_handler_that_is_dropped_tells_what_it_was_waiting_for() {
    let status = {
        let stock: GrpcPeer = hop!(grpc, grpc_server(), grpc_client("stock"), stuck);
        let handler = move || -> Answer {
            let stock = stock.clone();
            Box::pin(async move {
                forgotten(ask(stock)).await;
                Status::unknown("not reached").into_http()
            })
        };
        let orders = hop!(grpc, grpc_server(), grpc_client("orders"), handler);
        run(within(ask(orders))).unwrap_err()
    };
    assert_eq!(
        grpc::blame(&status).unwrap().to_string(),
        "no answer from orders for 477ms; orders: no answer from stock for 475ms of 475ms"
    );
    let stock: HttpPeer = hop!(http, http_server(), http_client("stock"), stuck);
    let handler = move || -> Answer {
        let stock = stock.clone();
        Box::pin(async move {
            forgotten(get(stock)).await;
            Response::new(Body::empty())
        })
    };
    let orders = hop!(http, http_server(), http_client("orders"), handler);
    let answer = run(within(get(orders))).unwrap();
    assert_eq!(
        plain::blame(&answer).unwrap().to_string(),
        "no answer from orders for 477ms; orders: no answer from stock for 475ms of 475ms"
    );
}

/// A handler that takes the failure of `stock`, does something for a while, and answers something else.
fn mapped(pause: Duration, client: grpc::ClientLayer) -> Status {
    let stock: GrpcPeer = hop!(grpc, grpc_server(), client, stuck);
    let handler = move || -> Answer {
        let stock = stock.clone();
        Box::pin(async move {
            let _ = ask(stock).await.unwrap_err();
            sleep(pause).await;
            Status::internal("out of order").into_http()
        })
    };
    let orders = hop!(grpc, grpc_server(), grpc_client("orders"), handler);
    run(within(ask(orders))).unwrap_err()
}

#[test]
fn a_handler_that_maps_the_error_loses_no_blame() {
    let status = mapped(Duration::ZERO, grpc_client("stock"));
    assert_eq!((status.code(), status.message()), (Code::Internal, "out of order"));
    let blame = grpc::blame(&status).unwrap();
    assert_eq!(
        blame.to_string(),
        "no answer from orders for 474ms; orders: no answer from stock for 472ms of 475ms; stock: \
         wait took 470ms of 470ms"
    );
    // Nobody has said that it was a deadline.
    assert!(!blame.used_whole_budget());
    // Until its own deadline.
    let status = mapped(20 * MS, grpc_client("stock"));
    assert_eq!(status.code(), Code::DeadlineExceeded);
    let blame = grpc::blame(&status).unwrap();
    assert_eq!(
        blame.to_string(),
        "no answer from orders for 477ms; orders: no answer from stock for 472ms of 475ms; stock: \
         wait took 470ms of 470ms"
    );
    assert!(blame.used_whole_budget());
    assert_eq!(
        status.message(),
        "deadline exceeded after 475ms of 475ms, set by header `grpc-timeout`: no answer from stock for \
         472ms; stock: wait took 470ms of 470ms"
    );
}

#[test]
fn a_call_that_was_given_less_time_is_not_blamed_for_what_comes_after() {
    let client = || grpc_client("stock").timeout(50 * MS);
    let status = mapped(Duration::ZERO, client());
    assert_eq!(status.code(), Code::Internal);
    assert!(grpc::blame(&status).is_none());
    let status = mapped(600 * MS, client());
    assert_eq!(
        grpc::blame(&status).unwrap().to_string(),
        "no answer from orders for 477ms; orders: wait took 475ms of 475ms"
    );
}

#[test]
fn an_inner_scope_and_its_callee_are_blamed_alike() {
    // The scope is that of the handler, whose client leaves its blame all the same.
    let stock: GrpcPeer = hop!(grpc, grpc_server(), grpc_client("stock"), stuck);
    let expired = run(scope(100 * MS, forgotten(ask(stock.clone())))).unwrap_err();
    assert!(expired.blame().is_none(), "nobody has polled it, or dropped it");
    let expired = run(async {
        scope(100 * MS, async {
            let _ = ask(stock).await;
            pending::<()>().await;
        })
        .named("try")
        .await
        .unwrap_err()
    });
    assert_eq!(
        expired.to_string(),
        "deadline exceeded after 100ms of 100ms, set by scope `try`: no answer from stock for 97ms; \
         stock: wait took 95ms of 95ms"
    );
}

/// A number, and then what `next` answers, as trailers; or nothing more.
fn stream(next: Option<GrpcPeer>) -> Response<Body> {
    let first = Frame::data(Bytes::from_static(b"\0\0\0\0\x08\0\0\0\0\0\0\0\x07"));
    let rest = async move {
        let status = match next {
            Some(next) => ask(next).await.unwrap_err(),
            None => pending().await,
        };
        let mut trailers = HeaderMap::new();
        status.add_header(&mut trailers).unwrap();
        Ok::<_, Status>(Frame::trailers(trailers))
    };
    let frames = tokio_stream::once(Ok(first));
    let rest = futures_stream(rest);
    let frames = tokio_stream::StreamExt::chain(frames, rest);
    let mut response = Response::new(Body::new(StreamBody::new(frames)));
    response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
    response
}

/// A stream of one item, which is the future's.
fn futures_stream<F: Future + Send + 'static>(
    future: F,
) -> impl tokio_stream::Stream<Item = F::Output> + Send {
    struct Once<F>(Option<Pin<Box<F>>>);
    impl<F: Future> tokio_stream::Stream for Once<F> {
        type Item = F::Output;

        fn poll_next(
            mut self: Pin<&mut Self>,
            cx: &mut std::task::Context<'_>,
        ) -> Poll<Option<F::Output>> {
            let Some(future) = &mut self.0 else { return Poll::Ready(None) };
            let item = std::task::ready!(future.as_mut().poll(cx));
            self.0 = None;
            Poll::Ready(Some(item))
        }
    }
    Once(Some(Box::pin(future)))
}

/// How the stream of `orders` ends.
fn streamed(handler: impl Fn() -> Answer + Clone + Send + Sync + 'static) -> Status {
    let orders: GrpcPeer = hop!(grpc, grpc_server(), grpc_client("orders"), handler);
    run(within(async move {
        let mut client = tonic::client::Grpc::new(orders);
        client.ready().await.unwrap();
        let path = http::uri::PathAndQuery::from_static("/shop.Shop/Watch");
        let request = tonic::Request::new(0);
        let answer = client.server_streaming(request, path, Numbers).await.unwrap();
        let mut numbers = answer.into_inner();
        assert_eq!(numbers.message().await.unwrap(), Some(7));
        numbers.message().await.unwrap_err()
    }))
}

#[test]
fn trailers_in_the_middle_of_a_stream_have_it_too() {
    // By the handler's own failure.
    let stock: GrpcPeer = hop!(grpc, grpc_server(), grpc_client("stock"), stuck);
    let next = stock.clone();
    let status = streamed(move || {
        let next = next.clone();
        Box::pin(async move { stream(Some(next)) })
    });
    assert_eq!(status.code(), Code::DeadlineExceeded);
    let shown = grpc::blame(&status).unwrap().to_string();
    assert!(
        shown.contains("; orders: no answer from stock for ")
            && shown.contains("; stock: wait took "),
        "{shown}"
    );
    assert!(shown.starts_with("body took "), "{shown}");
    assert!(grpc::blame(&status).unwrap().used_whole_budget());
    // By the server's deadline, while nothing happens.
    let status = streamed(move || Box::pin(async { stream(None) }));
    assert_eq!(status.code(), Code::DeadlineExceeded);
    let shown = grpc::blame(&status).unwrap().to_string();
    assert!(shown.ends_with("; orders: body took 475ms of 475ms"), "{shown}");
}

#[test]
fn names_and_paths_are_told_where_they_are_set() {
    let server = http_server().name("the orders").blame_path(true);
    let orders = hop!(http, server, http_client("orders"), stuck);
    let answer = run(within(get(orders))).unwrap();
    assert_eq!(
        plain::blame(&answer).unwrap().to_string(),
        "no answer from orders for 477ms; the orders /apples: wait took 475ms of 475ms"
    );
}

#[test]
fn what_has_expired_on_arrival_is_told_too() {
    run(async {
        let server = http_server().name("stock").layer(service_fn(async |_: Request<_>| {
            Ok::<_, Infallible>(Response::new(Body::empty()))
        }));
        let request = Request::get("/").header("grpc-timeout", "0n").body(Body::empty()).unwrap();
        let answer = server.oneshot(request).await.unwrap();
        let hops = blame::decode(answer.headers()[blame::HTTP_HEADER].as_bytes()).unwrap();
        assert_eq!(hops[0].to_string(), "stock: expired after 0ns of 0ns");
    });
}

/// Values that are none.
fn forged() -> Vec<Vec<HeaderValue>> {
    let hop = Hop::of(&run(scope(MS, pending::<()>())).unwrap_err()).with_service("evil");
    let good = blame::encode([&hop]);
    let value = |text: &str| HeaderValue::from_str(text).unwrap();
    vec![
        // Too long; of 9 hops; with a control character; of another version; cut off; no base64; twice.
        vec![value(&"A".repeat(2000))],
        vec![value(&good.repeat(40))],
        vec![value("AQAAAAAAAAAAAAAAAAAAAAAAAAA")],
        vec![value("AQAEAQIbWw")],
        vec![value("AgAEAQJhYg")],
        vec![value("AQAEAQJh")],
        vec![value("evil; stuff")],
        vec![HeaderValue::from_bytes(b"\xff\xfe").unwrap()],
        vec![value(&good), value(&good)],
    ]
}

#[test]
fn what_is_forged_changes_nothing_and_is_counted() {
    let statuses = [Status::deadline_exceeded("late"), Status::not_found("none")];
    let mut bad = 0;
    let layer = grpc_client("stock");
    for (values, status) in forged().iter().flat_map(|it| statuses.iter().map(move |s| (it, s))) {
        let mut answer = status.clone().into_http::<Body>();
        for value in values {
            answer.headers_mut().append(blame::GRPC_METADATA, value.clone());
        }
        let answer = Arc::new(Mutex::new(Some(answer)));
        let stock = service_fn(move |_: Request<Body>| {
            let answer = answer.lock().unwrap().take().unwrap();
            async { Ok::<_, Status>(answer) }
        });
        let stock = layer.layer(stock).map_response(|answer: Response<_>| answer.map(Body::new));
        let received = run(within(ask(BoxCloneSyncService::new(stock)))).unwrap_err();
        assert_eq!(received.code(), status.code());
        assert_eq!(received.message(), status.message());
        assert!(
            grpc::blame(&received).is_none()
                && received.metadata().get_bin(blame::GRPC_METADATA).is_none()
        );
        bad += 1;
        assert_eq!(layer.stats().bad_blame(), bad);
    }
    let layer = http_client("stock");
    for (index, values) in forged().into_iter().enumerate() {
        let stock = service_fn(move |_: Request<RequestBody<Body, plain::Http>>| {
            let mut answer = Response::new(Body::empty());
            *answer.status_mut() = StatusCode::GATEWAY_TIMEOUT;
            for value in &values {
                answer.headers_mut().append(blame::HTTP_HEADER, value.clone());
            }
            async { Ok::<_, Infallible>(answer) }
        });
        let request = Request::get("/").body(Body::empty()).unwrap();
        let answer = run(layer.layer(stock).oneshot(request)).unwrap();
        assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
        assert!(answer.headers().is_empty() && plain::blame(&answer).is_none());
        assert_eq!(layer.stats().bad_blame(), index as u64 + 1);
    }
}

#[test]
fn a_success_is_left_alone() {
    let layer = http_client("stock");
    let stock = service_fn(async |_: Request<RequestBody<Body, _>>| {
        let mut answer = Response::new(Body::empty());
        answer.headers_mut().insert(blame::HTTP_HEADER, HeaderValue::from_static("mine"));
        Ok::<_, Infallible>(answer)
    });
    let request = Request::get("/").body(Body::empty()).unwrap();
    let answer = run(layer.layer(stock).oneshot(request)).unwrap();
    assert_eq!(answer.headers()[blame::HTTP_HEADER], "mine");
    assert_eq!(layer.stats().bad_blame(), 0);
}

#[test]
fn an_allowance_that_is_measured_follows_the_way() {
    let rtt = plain::Rtt::new();
    let layer = plain::ClientLayer::new().peer("stock").allowance(plain::Allowance::measured(&rtt));
    let stock: HttpPeer = hop!(http, http_server(), layer, stuck);
    // It is 2 ms there and back; as long as nobody has found out, no answer comes in time.
    let error = run(within(get(stock.clone()))).unwrap_err();
    assert!(error.expired().unwrap().hops().is_empty());
    rtt.observe(2 * MS);
    let answer = run(within(get(stock))).unwrap();
    assert_eq!(
        plain::blame(&answer).unwrap().to_string(),
        "no answer from stock for 479ms; stock: wait took 477ms of 477ms"
    );
}

mod loopback {
    //! With tonic's transport, and hyper's.

    use std::net::SocketAddr;
    use std::task::Context;

    use hyper_util::client::legacy::Client;
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use hyper_util::server::conn::auto;
    use hyper_util::service::TowerToHyperService;
    use tokio::net::TcpListener;

    use tonic::server::NamedService;
    use tonic::transport::server::TcpIncoming;
    use tonic::transport::{Channel, Endpoint, Server};
    use tower::Service;

    use super::*;

    #[derive(Clone)]
    struct Shop(Option<GrpcPeer>);

    impl NamedService for Shop {
        const NAME: &str = "shop.Shop";
    }

    impl<B> Service<Request<B>> for Shop {
        type Response = Response<Body>;
        type Error = Infallible;
        type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, Infallible>> + Send>>;

        fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
            Poll::Ready(Ok(()))
        }

        fn call(&mut self, _: Request<B>) -> Self::Future {
            let answer = match &self.0 {
                Some(next) => relay(next)(),
                None => stuck(),
            };
            Box::pin(async { Ok(answer.await) })
        }
    }

    /// More than it takes on a busy machine.
    const ALLOWANCE: Duration = Duration::from_millis(9900);

    /// With two of them taken off, it is 200 ms.
    const BUDGET: Duration = Duration::from_secs(20);

    async fn serve(shop: Shop, layer: grpc::ServerLayer) -> Channel {
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = incoming.local_addr().unwrap();
        let server = Server::builder().layer(layer).add_service(shop);
        tokio::spawn(server.serve_with_incoming(incoming));
        Endpoint::new(format!("http://{address}")).unwrap().connect().await.unwrap()
    }

    fn peer(channel: Channel, name: &str) -> GrpcPeer {
        let layer = grpc::ClientLayer::new().peer(name).allowance(ALLOWANCE);
        let peer = layer.layer(channel);
        BoxCloneSyncService::new(peer.map_response(|answer: Response<_>| answer.map(Body::new)))
    }

    #[tokio::test]
    async fn it_travels_between_servers_of_tonics() {
        let stock = serve(Shop(None), grpc_server()).await;
        let orders = Shop(Some(peer(stock, "stock")));
        let orders = peer(serve(orders, grpc_server()).await, "orders");
        let call = scope(BUDGET, ask(orders));
        let status = timeout(Duration::from_secs(30), call).await.unwrap().unwrap().unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
        let shown = grpc::blame(&status).expect("there was time for it").to_string();
        assert!(shown.starts_with("no answer from orders for "), "{shown}");
        assert!(shown.contains("; orders: no answer from stock for "), "{shown}");
    }

    async fn listen<H>(layer: plain::ServerLayer, handler: H) -> SocketAddr
    where
        H: Fn() -> Answer + Clone + Send + Sync + 'static,
    {
        let service = layer.layer(service_fn(move |_: Request<_>| {
            let answer = handler();
            async move { Ok::<_, Infallible>(answer.await) }
        }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = TowerToHyperService::new(service.clone());
                tokio::spawn(async move {
                    let builder = auto::Builder::new(TokioExecutor::new());
                    // The caller's end is not of interest.
                    let _ = builder.serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        address
    }

    fn caller(address: SocketAddr, http_2: bool, name: &str) -> HttpPeer {
        let client: Client<_, RequestBody<Body, plain::Http>> =
            Client::builder(TokioExecutor::new()).http2_only(http_2).build_http();
        let layer = plain::ClientLayer::new().peer(name).allowance(ALLOWANCE);
        let peer = layer.layer(client).map_request(move |mut request: Request<Body>| {
            *request.uri_mut() = format!("http://{address}/").parse().unwrap();
            request
        });
        BoxCloneSyncService::new(peer.map_response(|answer: Response<_>| answer.map(Body::new)))
    }

    #[tokio::test]
    async fn it_travels_over_both_versions_of_http() {
        for http_2 in [false, true] {
            let stock = caller(listen(http_server(), stuck).await, http_2, "stock");
            let orders = listen(http_server(), gateway(&stock)).await;
            let orders = caller(orders, http_2, "orders");
            let call = scope(BUDGET, get(orders));
            let answer = timeout(Duration::from_secs(30), call).await.unwrap().unwrap().unwrap();
            assert_eq!(answer.status(), StatusCode::GATEWAY_TIMEOUT);
            let blame = plain::blame(&answer).expect("there was time for it");
            let shown = blame.to_string();
            assert!(shown.starts_with("no answer from orders for "), "{shown}");
            assert!(shown.contains("; orders: no answer from stock for "), "{shown}");
            assert!(shown.contains("; stock: wait took "), "{shown}");
            assert!(blame.used_whole_budget());
        }
    }
}
