//! Handlers that are finished, though nobody waits for them any more: `FinishLayer`.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;

use bytes::Bytes;
use deadbeat::deadline::{self, Deadline, tracked};
use deadbeat::propagation::client::ResponseBody;
use deadbeat::propagation::http::{ClientLayer, Error, FinishLayer, Http, ServerLayer};
use deadbeat::propagation::{RequestBody, grpc};
use deadbeat::time::{Duration, sleep};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::sync::{Mutex, MutexGuard, Notify};
use tonic::transport::Server;
use tower::{Layer, Service, ServiceExt, service_fn};

use super::rpc::*;
use super::within;

const MS: Duration = Duration::from_millis(1);

/// The tasks that are tracked are the process's: one test at a time counts them.
async fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::const_new(());
    let alone = ALONE.lock().await;
    within(tracked().idle()).await;
    alone
}

type Plain = Full<Bytes>;

fn request(ms: &str) -> Request<Plain> {
    let request = Request::get("http://stock/apples").header("connect-timeout-ms", ms);
    request.body(Plain::default()).unwrap()
}

/// A service that answers with the header that it was sent, when it may.
fn echo(
    may: Arc<Notify>,
) -> impl Service<
    Request<RequestBody<Plain, Http>>,
    Response = Response<Plain>,
    Error = Infallible,
    Future: Send,
> + Clone
+ Send
+ 'static {
    service_fn(move |request: Request<_>| {
        let may = may.clone();
        async move {
            may.notified().await;
            let value = request.headers().get("connect-timeout-ms").cloned();
            let text = value.map_or(Bytes::new(), |value| Bytes::copy_from_slice(value.as_bytes()));
            Ok(Response::new(Full::from(text)))
        }
    })
}

async fn told_header<S>(client: S) -> Option<u64>
where
    S: Service<Request<Plain>, Response = Response<ResponseBody<Plain, Http>>, Error = Error>,
{
    let request = Request::get("http://audit/").body(Plain::default()).unwrap();
    let body = client.oneshot(request).await.unwrap().into_body();
    let text = http_body_util::BodyExt::collect(body).await.unwrap().to_bytes();
    std::str::from_utf8(&text).unwrap().parse().ok()
}

#[tokio::test]
async fn a_handler_goes_on_after_its_deadline_is_counted_and_its_result_is_discarded() {
    let _alone = alone().await;
    let (tell, mut told) = unbounded_channel();
    let go = Arc::new(Notify::new());
    let may = go.clone();
    let handler = service_fn(move |_: Request<_>| {
        let (tell, may) = (tell.clone(), may.clone());
        async move {
            let before = deadline::current();
            may.notified().await;
            tell.send((before, deadline::current())).unwrap();
            Ok::<_, Infallible>(Response::new(Plain::from("for nobody")))
        }
    });
    let service = ServerLayer::new().layer(FinishLayer::new().layer(handler));
    let response = within(service.oneshot(request("300"))).await.unwrap();
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(tracked().len(), 1);
    go.notify_one();
    let (before, after) = within(told.recv()).await.unwrap();
    assert!(before < Deadline::NEVER && after == Deadline::NEVER);
    within(tracked().idle()).await;
}

#[tokio::test]
async fn what_it_calls_then_has_no_deadline_but_its_own() {
    let _alone = alone().await;
    let (tell, mut told) = unbounded_channel();
    let always = Arc::new(Notify::new());
    let client = ClientLayer::new().layer(echo(always.clone()));
    let bounded = ClientLayer::new().timeout(60_000 * MS).layer(echo(always.clone()));
    let go = Arc::new(Notify::new());
    let may = go.clone();
    let handler = service_fn(move |_: Request<_>| {
        let (tell, may) = (tell.clone(), may.clone());
        let (client, bounded, always) = (client.clone(), bounded.clone(), always.clone());
        async move {
            always.notify_one();
            let before = told_header(client.clone()).await;
            may.notified().await;
            always.notify_one();
            let unbounded = told_header(client).await;
            always.notify_one();
            let own = told_header(bounded).await;
            tell.send((before, unbounded, own)).unwrap();
            Ok::<_, Infallible>(Response::new(Plain::default()))
        }
    });
    let service = ServerLayer::new().layer(FinishLayer::new().layer(handler));
    let response = within(service.oneshot(request("1000"))).await.unwrap();
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    go.notify_one();
    let (before, unbounded, own) = within(told.recv()).await.unwrap();
    assert!(before.unwrap() <= 1000);
    assert_eq!(unbounded, None);
    assert!((1..=60_000).contains(&own.unwrap()));
    within(tracked().idle()).await;
}

#[tokio::test]
async fn calls_that_it_has_made_keep_their_deadline() {
    let _alone = alone().await;
    let (tell, mut told) = unbounded_channel();
    let never = Arc::new(Notify::new());
    let client = ClientLayer::new().layer(echo(never));
    let handler = service_fn(move |_: Request<_>| {
        let (tell, mut client) = (tell.clone(), client.clone());
        async move {
            let request = Request::get("http://audit/").body(Plain::default()).unwrap();
            let made = Service::call(&mut client, request).await;
            tell.send(made.unwrap_err().is_expired()).unwrap();
            pending::<Result<Response<Plain>, Infallible>>().await
        }
    });
    let service = ServerLayer::new().layer(FinishLayer::new().layer(handler));
    let call = tokio::spawn(service.oneshot(request("500")));
    assert!(within(told.recv()).await.unwrap());
    let response = within(call).await.unwrap().unwrap();
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    // This one has no end: it is one of those that a shutdown would wait for.
    assert_eq!(tracked().len(), 1);
}

struct Tells(UnboundedSender<&'static str>);

impl Drop for Tells {
    fn drop(&mut self) {
        // Nobody listens any more, once the test is over.
        let _ = self.0.send("dropped");
    }
}

#[tokio::test]
async fn one_too_many_is_dropped() {
    let _alone = alone().await;
    tracked().set_limit(0);
    let (tell, mut told) = unbounded_channel();
    let handler = service_fn(move |_: Request<_>| {
        let tells = Tells(tell.clone());
        async move {
            pending::<()>().await;
            drop(tells);
            Ok::<_, Infallible>(Response::new(Plain::default()))
        }
    });
    let service = ServerLayer::new().layer(FinishLayer::new().layer(handler));
    let response = within(service.oneshot(request("300"))).await.unwrap();
    tracked().set_limit(1024);
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(within(told.recv()).await, Some("dropped"));
    assert!(tracked().is_empty());
}

#[tokio::test]
async fn in_tonics_server_a_handler_goes_on_after_its_deadline_and_after_its_client() {
    let _alone = alone().await;
    for goes in [false, true] {
        let (test, mut told) = Test::new();
        let layer = grpc::ServerLayer::new().maximum(if goes { 60_000 * MS } else { 100 * MS });
        let mut server = Server::builder().layer(layer).layer(FinishLayer::new());
        let address = served!(server, test);
        let mut h2 = frames(address, &mut h2::client::Builder::new()).await;
        let (response, mut upload) =
            h2.send_request(head(address, "/test.Test/Nap", ""), false).unwrap();
        upload.send_data(message(700), true).unwrap();
        called(&mut told).await;
        if goes {
            upload.send_reset(h2::Reason::CANCEL);
        } else {
            let response = within(response).await.unwrap();
            assert_eq!(response.headers()["grpc-status"], "4");
        }
        while tracked().is_empty() {
            assert!(told.is_empty(), "it ended before it was let go of");
            sleep(MS).await;
        }
        assert_eq!(tracked().len(), 1);
        // It naps to its end, which is long after both.
        assert!(matches!(next(&mut told).await, Event::Dropped));
        within(tracked().idle()).await;
    }
}
