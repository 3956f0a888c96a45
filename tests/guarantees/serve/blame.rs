//! Where the time went, as callers are told of it: those that are trusted, and others.

use std::future::{Future, pending, poll_fn};
use std::task::Poll;

use deadbeat::deadline::Hop;
use deadbeat::propagation::{RequestBody, blame, grpc, http as plain};
use deadbeat::serve::{Incoming, Listener, Server};
use http::{HeaderMap, Request, Response};
use tower::{Layer, Service, service_fn};

use super::rpc::head;
use super::server::{Running, run};
use super::wire::{Body, get};
use super::{Ours, answer, connect, frames, head_for, text, within};

/// Asks `stock`, and never looks after that again: it is the deadline that ends it.
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

fn listener(trusted: bool) -> Listener {
    Listener::bind("127.0.0.1:0").unwrap().trusted(trusted)
}

/// `orders` of HTTP, which waits for `stock`; or, at `/own`, says so in an answer of its own.
fn orders(trusted: bool) -> Running {
    let service = service_fn(async |request: Ours| {
        if request.uri().path() == "/own" {
            return answer("stock is slow");
        }
        let never = service_fn(|_: Request<_>| pending::<Result<Response<Body>, std::io::Error>>());
        let mut stock = plain::ClientLayer::new().peer("stock").layer(never);
        forgotten(stock.call(get(0))).await;
        answer("never")
    });
    let layer = plain::ServerLayer::new().name("orders");
    run(Server::http(service).deadlines(layer).listen(listener(trusted)))
}

/// The same of gRPC.
fn orders_of_grpc(trusted: bool) -> Running {
    let service = service_fn(async |_: Request<RequestBody<Incoming, grpc::Grpc>>| {
        let never = service_fn(|_: Request<_>| pending::<Result<Response<Body>, std::io::Error>>());
        let mut stock = grpc::ClientLayer::new().peer("stock").layer(never);
        forgotten(stock.call(get(0).map(tonic::body::Body::new))).await;
        answer("never")
    });
    let layer = grpc::ServerLayer::new().name("orders");
    run(Server::grpc(service).deadlines(layer).listen(listener(trusted)))
}

/// What a call of gRPC is answered with. There is no body.
async fn told_by(server: &Running) -> HeaderMap {
    let mut h2 = frames(server.at()).await;
    let (response, _upload) =
        h2.send_request(head(server.at(), "/shop.Shop/Ask", "1S"), true).unwrap();
    within(response).await.unwrap().into_parts().0.headers
}

fn names(told: &HeaderMap, header: &str) -> Vec<String> {
    let hops = blame::decode(told[header].as_bytes()).unwrap();
    hops.iter().filter_map(Hop::service).map(str::to_owned).collect()
}

fn check_tells_nothing(told: &HeaderMap) {
    for header in [blame::HTTP_HEADER, blame::GRPC_METADATA] {
        assert!(!told.contains_key(header));
    }
    for value in told.values() {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        assert!(!value.contains("stock"), "{value}");
    }
}

#[tokio::test]
async fn who_is_not_trusted_is_told_which_deadline_it_was_and_no_more() {
    let server = orders(false);
    for http2 in [false, true] {
        let mut client = connect(server.at(), http2).await;
        let late = head_for(&mut client, get(1000)).await;
        assert_eq!(late.headers()[plain::DEADLINE_EXCEEDED], "header");
        check_tells_nothing(late.headers());
        let late = text(late).await.unwrap();
        assert!(late.starts_with("deadline exceeded") && !late.contains("stock"), "{late}");
        // What a handler answers is its own.
        let mut request = get(20_000);
        *request.uri_mut() = "http://orders/own".parse().unwrap();
        assert_eq!(text(head_for(&mut client, request).await).await.unwrap(), "stock is slow");
    }
    let told = told_by(&orders_of_grpc(false)).await;
    assert_eq!(told["grpc-status"], "4");
    assert_eq!(told[plain::DEADLINE_EXCEEDED], "header");
    check_tells_nothing(&told);
}

#[tokio::test]
async fn who_comes_by_a_listener_that_is_trusted_is_told_where_the_time_went() {
    let server = orders(true);
    for http2 in [false, true] {
        let mut client = connect(server.at(), http2).await;
        let late = head_for(&mut client, get(1000)).await;
        assert_eq!(late.status(), 504);
        let told = blame::decode(late.headers()[blame::HTTP_HEADER].as_bytes()).unwrap();
        assert!(told[0].used_whole_budget());
        assert!(told[0].to_string().contains("no answer from stock for"), "{}", told[0]);
        assert_eq!(names(late.headers(), blame::HTTP_HEADER), ["orders"]);
    }
    let told = told_by(&orders_of_grpc(true)).await;
    assert_eq!(told["grpc-status"], "4");
    assert_eq!(names(&told, blame::GRPC_METADATA), ["orders"]);
}
