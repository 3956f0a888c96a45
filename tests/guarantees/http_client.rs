//! What the layer keeps on a client of hyper's, by HTTP/1 and by HTTP/2.

use std::future::pending;

use axum::Router;
use axum::extract::Request as AxumRequest;
use deadbeat::Manual;
use deadbeat::deadline::{self, Origin, Phase};
use deadbeat::propagation::RequestBody;
use deadbeat::propagation::http::{ClientLayer, Http};
use deadbeat::time::{Instant, sleep, timeout};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tower::limit::ConcurrencyLimitLayer;
use tower::{Layer, Service, ServiceExt};

use super::wire::*;

/// A server that knows nothing of deadlines: it notes what it is told, and when a handler is dropped.
#[derive(Clone, Default)]
struct Stock {
    told: Noted<Option<String>>,
    dropped: Noted<()>,
}

impl Stock {
    /// Answers at `/soon`, and after `/after/{ms}`; drips at `/drip`; is silent elsewhere.
    fn app(&self) -> Router {
        let this = self.clone();
        Router::new().fallback(move |request: AxumRequest| {
            let header = request.headers().get("connect-timeout-ms");
            this.told.note(header.map(|value| value.to_str().unwrap().to_owned()));
            let guard = this.dropped.guard();
            async move {
                match request.uri().path() {
                    "/soon" => Response::new(Body::from("here")),
                    "/slow" => {
                        sleep(200 * MS).await;
                        Response::new(Body::from("here"))
                    }
                    "/drip" => Response::new(endless_every(100 * MS, guard)),
                    _ => {
                        let _guard = guard;
                        pending().await
                    }
                }
            }
        })
    }

    fn connector(&self, manual: &Manual, http2: bool) -> Connector {
        let (manual, app) = (manual.clone(), self.app());
        Connector::new(move |far| serve_on(&manual, http2, app.clone(), far))
    }
}

fn to(path: &str) -> Request<Body> {
    Request::get(format!("http://stock{path}")).body(Body::empty()).unwrap()
}

#[test]
fn a_callee_is_told_what_is_left_and_the_caller_ends_with_its_own_deadline() {
    both(async |manual, http2| {
        let stock = Stock::default();
        let connector = stock.connector(&manual, http2);
        let layer = ClientLayer::new().allowance(5 * MS);
        let client = layer.layer(connector.client(&manual, http2));
        let start = Instant::now();
        let call = deadline::scope(SECOND, async {
            sleep(100 * MS).await;
            client.oneshot(to("/never")).await
        });
        let error = call.named("shop").await.unwrap().unwrap_err();
        let expired = error.expired().unwrap();
        assert_eq!((start.elapsed(), expired.origin()), (SECOND, Origin::Scope("shop")));
        assert_eq!(expired.phase(), Some(Phase::Wait));
        assert_eq!(expired.peer(), Some("stock"));
        assert_eq!(stock.told.all(), [Some("895".to_owned())]);
    });
}

#[test]
fn time_to_connect_counts_for_the_caller_and_the_callee_is_told_as_much_too_much() {
    both(async |manual, http2| {
        let stock = Stock::default();
        let connector = stock.connector(&manual, http2).taking(300 * MS);
        let client = ClientLayer::new().timeout(SECOND).layer(connector.client(&manual, http2));
        let start = Instant::now();
        let error = client.oneshot(to("/never")).await.unwrap_err();
        assert!(error.is_expired());
        assert_eq!(start.elapsed(), SECOND);
        // At 300 ms, when 700 were left: hyper-util connects after it is called.
        assert_eq!(stock.told.at(), Some(start + 300 * MS));
        assert_eq!(stock.told.all(), [Some("1000".to_owned())]);
    });
}

/// A connection as a service: ready when there is one.
#[derive(Clone)]
struct Direct(hyper::client::conn::http2::SendRequest<RequestBody<Body, Http>>);

impl Service<Request<RequestBody<Body, Http>>> for Direct {
    type Response = Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = std::pin::Pin<
        Box<dyn Future<Output = hyper::Result<Response<hyper::body::Incoming>>> + Send>,
    >;

    fn poll_ready(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<hyper::Result<()>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<RequestBody<Body, Http>>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

#[test]
fn what_waits_for_its_connection_to_be_ready_is_told_what_is_left_then() {
    one(async |manual| {
        let stock = Stock::default();
        let (near, far) = tokio::io::duplex(64 << 10);
        serve_on(&manual, true, stock.app(), far);
        let (sender, connection) =
            hyper::client::conn::http2::handshake(Tasks(manual.clone()), TokioIo::new(near))
                .await
                .unwrap();
        drop(manual.spawn(async { connection.await.map_err(|error| error.to_string()) }));
        // As a pool is that waits for one to be made.
        let client = ClientLayer::new().layer(Late { inner: Direct(sender), sleep: None });
        let call = deadline::scope(SECOND, client.oneshot(to("/never")));
        assert!(call.await.unwrap().unwrap_err().is_expired());
        assert_eq!(stock.told.all(), [Some("700".to_owned())]);
    });
}

/// Ready 300 ms after it is first asked.
struct Late<S> {
    inner: S,
    sleep: Option<std::pin::Pin<Box<deadbeat::time::Sleep>>>,
}

impl<S: Clone> Clone for Late<S> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone(), sleep: None }
    }
}

impl<R, S: Service<R>> Service<R> for Late<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(
        &mut self,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), S::Error>> {
        let pause = self.sleep.get_or_insert_with(|| Box::pin(sleep(300 * MS)));
        std::task::ready!(pause.as_mut().poll(cx));
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> S::Future {
        self.inner.call(request)
    }
}

#[test]
fn a_connection_that_is_not_made_in_time_ends_the_call_and_is_not_told_apart() {
    both(async |manual, http2| {
        let stock = Stock::default();
        let connector = stock.connector(&manual, http2).taking(9 * SECOND);
        let client = ClientLayer::new().timeout(SECOND).layer(connector.client(&manual, http2));
        let start = Instant::now();
        let error = client.oneshot(to("/never")).await.unwrap_err();
        assert_eq!(start.elapsed(), SECOND);
        assert!(stock.told.is_empty());
        // What the layer sees is a service that doesn't answer.
        let spent = error.expired().unwrap().spent().unwrap();
        assert_eq!(spent.phases().collect::<Vec<_>>(), [(Phase::Wait, SECOND)]);
    });
}

#[test]
fn time_in_the_queue_of_a_limit_counts_and_is_not_passed_on() {
    both(async |manual, http2| {
        let stock = Stock::default();
        let pooled = stock.connector(&manual, http2).client(&manual, http2);
        let limited = ConcurrencyLimitLayer::new(1).layer(pooled);
        let client = ClientLayer::new().timeout(SECOND).layer(limited);
        let first = manual.spawn(client.clone().oneshot(to("/slow")));
        // It has the slot once it has come to its handler.
        while stock.told.is_empty() {
            sleep(MS).await;
        }
        let start = Instant::now();
        let second = client.clone().oneshot(to("/soon")).await.unwrap();
        assert_eq!(second.status(), StatusCode::OK);
        assert_eq!(first.await.unwrap().status(), StatusCode::OK);
        let waited = start.elapsed().as_millis();
        assert_eq!(stock.told.all()[1], Some((1000 - waited).to_string()));
        assert!(waited >= 199, "{waited}");
        // And ends the call.
        let _first = manual.spawn(client.clone().oneshot(to("/never")));
        while stock.told.all().len() < 3 {
            sleep(MS).await;
        }
        let error = deadline::scope(300 * MS, async { client.oneshot(to("/soon")).await });
        let error = error.await.unwrap().unwrap_err();
        assert_eq!(error.expired().unwrap().phase(), Some(Phase::Queue));
        assert_eq!(stock.told.all().len(), 3);
    });
}

#[test]
fn what_is_too_late_is_not_sent() {
    both(async |manual, http2| {
        let stock = Stock::default();
        let connector = stock.connector(&manual, http2);
        let layer = ClientLayer::new().timeout(SECOND).allowance(SECOND);
        let client = layer.layer(connector.client(&manual, http2));
        assert!(client.oneshot(to("/soon")).await.unwrap_err().is_expired());
        assert_eq!((connector.count(), stock.told.is_empty()), (0, true));
    });
}

#[test]
fn a_stream_is_reset_with_cancel_before_and_in_its_answer() {
    for begins in [false, true] {
        one(async |manual| {
            let reason = Noted::default();
            let (seen, runner) = (reason.clone(), manual.clone());
            let connector = Connector::new(move |far| {
                let seen = seen.clone();
                drop(runner.spawn(async move {
                    let mut h2 = h2::server::handshake(far).await.unwrap();
                    let (_request, mut respond) = h2.accept().await.unwrap().unwrap();
                    let mut body = begins.then(|| {
                        let mut body = respond.send_response(Response::new(()), false).unwrap();
                        body.send_data("some".into(), false).unwrap();
                        body
                    });
                    let end = std::future::poll_fn(|cx| {
                        let _ = h2.poll_closed(cx).map_err(|error| error.to_string());
                        match &mut body {
                            Some(body) => body.poll_reset(cx),
                            None => respond.poll_reset(cx),
                        }
                    });
                    seen.note(end.await.unwrap());
                }));
            });
            let client = ClientLayer::new().timeout(SECOND).layer(connector.client(&manual, true));
            let start = Instant::now();
            let error = match client.oneshot(to("/")).await {
                Ok(response) => response.into_body().collect().await.unwrap_err(),
                Err(error) => error,
            };
            assert!(error.is_expired());
            sleep(MS).await;
            assert_eq!(reason.all(), [h2::Reason::CANCEL]);
            assert_eq!(reason.at(), Some(start + SECOND));
        });
    }
}

#[test]
fn over_http_2_the_connection_survives_and_over_http_1_it_is_closed() {
    both(async |manual, http2| {
        let stock = Stock::default();
        let connector = stock.connector(&manual, http2);
        let client = ClientLayer::new().timeout(SECOND).layer(connector.client(&manual, http2));
        let ask = async |path| {
            let body = client.clone().oneshot(to(path)).await?.into_body();
            body.collect().await.map(|body| body.to_bytes())
        };
        assert_eq!(ask("/soon").await.unwrap(), "here");
        assert_eq!(connector.count(), 1);
        for path in ["/never", "/drip"] {
            let before = connector.count();
            assert!(ask(path).await.unwrap_err().is_expired());
            assert_eq!(ask("/soon").await.unwrap(), "here");
            assert_eq!(connector.count() - before, usize::from(!http2), "{path}");
        }
    });
}

#[test]
fn after_http_1_gives_up_the_handler_is_dropped_unless_a_body_is_in_the_way() {
    both(async |manual, http2| {
        for (body, drops) in [(Body::from("all"), true), (half(), http2)] {
            let stock = Stock::default();
            let connector = stock.connector(&manual, http2);
            let client = ClientLayer::new().timeout(SECOND).layer(connector.client(&manual, http2));
            let start = Instant::now();
            assert!(client.oneshot(post(0, body)).await.unwrap_err().is_expired());
            sleep(SECOND).await;
            assert_eq!(stock.dropped.at(), drops.then_some(start + SECOND));
        }
    });
}

#[test]
fn an_answer_that_is_late_is_no_clean_end() {
    both(async |manual, http2| {
        let stock = Stock::default();
        let connector = stock.connector(&manual, http2);
        let layer = ClientLayer::new().timeout(350 * MS);
        let client = layer.layer(connector.client(&manual, http2));
        let start = Instant::now();
        let mut body = client.oneshot(to("/drip")).await.unwrap().into_body();
        let error = loop {
            match body.frame().await.expect("a clean end") {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        assert_eq!(start.elapsed(), 350 * MS);
        assert_eq!(error.expired().unwrap().phase(), Some(Phase::Body));
        assert_eq!(layer.stats().expired_in_body(), 1);
    });
}

/// A server that reads what it is sent to the end of the connection, and answers nothing.
fn deaf(manual: &Manual, reads: bool) -> (Connector, Noted<Vec<u8>>) {
    let read = Noted::default();
    let (seen, runner) = (read.clone(), manual.clone());
    let connector = Connector::new(move |mut far: DuplexStream| {
        let seen = seen.clone();
        drop(runner.spawn(async move {
            let mut all = vec![];
            if !reads {
                sleep(5 * SECOND).await;
            }
            far.read_to_end(&mut all).await.unwrap();
            seen.note(all);
        }));
    });
    (connector, read)
}

/// A server of frames that answers nothing, and gives the client no room if it doesn't read. Notes how each
/// upload ends: with so many bytes, or a reset.
fn deaf_h2(manual: &Manual, reads: bool) -> (Connector, Noted<Result<usize, h2::Reason>>) {
    let ended = Noted::default();
    let (seen, runner) = (ended.clone(), manual.clone());
    let connector = Connector::new(move |far| {
        let (seen, spawner) = (seen.clone(), runner.clone());
        drop(runner.spawn(async move {
            let mut h2 = h2::server::handshake(far).await.unwrap();
            let mut responds = vec![];
            while let Some(Ok((request, respond))) = h2.accept().await {
                responds.push(respond);
                let seen = seen.clone();
                drop(spawner.spawn(async move {
                    let mut body = request.into_body();
                    let mut count = 0;
                    seen.note(loop {
                        match body.data().await {
                            Some(Ok(data)) => {
                                count += data.len();
                                if reads {
                                    body.flow_control().release_capacity(data.len()).unwrap();
                                }
                            }
                            Some(Err(error)) => break Err(error.reason().unwrap()),
                            None => break Ok(count),
                        }
                    });
                }));
            }
        }));
    });
    (connector, ended)
}

#[test]
fn an_upload_that_is_late_is_no_clean_end() {
    one(async |manual| {
        let (connector, read) = deaf(&manual, true);
        let client = ClientLayer::new().timeout(SECOND).layer(connector.client(&manual, false));
        let start = Instant::now();
        assert!(client.oneshot(post(0, half())).await.unwrap_err().is_expired());
        sleep(MS).await;
        assert_eq!(read.at(), Some(start + SECOND));
        // The chunk that says so is missing.
        assert!(read.all()[0].ends_with(b"\r\n4\r\nhalf\r\n"), "{:?}", read.all());
    });
    one(async |manual| {
        let (connector, ended) = deaf_h2(&manual, true);
        let client = ClientLayer::new().timeout(SECOND).layer(connector.client(&manual, true));
        assert!(client.oneshot(post(0, half())).await.unwrap_err().is_expired());
        sleep(MS).await;
        let [Err(reason)] = ended.all()[..] else { panic!("{:?}", ended.all()) };
        assert!([h2::Reason::CANCEL, h2::Reason::INTERNAL_ERROR].contains(&reason), "{reason}");
    });
}

#[test]
fn a_peer_that_does_not_read_holds_nobody() {
    one(async |manual| {
        let (connector, read) = deaf(&manual, false);
        let client = ClientLayer::new().timeout(SECOND).layer(connector.client(&manual, false));
        let start = Instant::now();
        let body = endless(Noted::default().guard());
        assert!(client.oneshot(post(0, body)).await.unwrap_err().is_expired());
        assert_eq!(start.elapsed(), SECOND);
        sleep(5 * SECOND).await;
        assert!(!read.all()[0].ends_with(b"0\r\n\r\n"), "a clean end");
    });
    one(async |manual| {
        let (connector, ended) = deaf_h2(&manual, false);
        let client = ClientLayer::new().timeout(SECOND).layer(connector.client(&manual, true));
        let start = Instant::now();
        let body = endless(Noted::default().guard());
        assert!(client.oneshot(post(0, body)).await.unwrap_err().is_expired());
        assert_eq!(start.elapsed(), SECOND);
        sleep(MS).await;
        assert_eq!(ended.all(), [Err(h2::Reason::CANCEL)]);
    });
}

#[test]
fn an_answer_that_nobody_polls_does_not_notice() {
    both(async |manual, http2| {
        let stock = Stock::default();
        let connector = stock.connector(&manual, http2);
        let client = ClientLayer::new().timeout(SECOND).layer(connector.client(&manual, http2));
        let start = Instant::now();
        let mut body = client.oneshot(to("/drip")).await.unwrap().into_body();
        sleep(5 * SECOND).await;
        assert_eq!(stock.dropped.at(), None);
        // What has come meanwhile isn't read.
        assert!(body.frame().await.unwrap().unwrap_err().is_expired());
        sleep(100 * MS).await;
        let dropped = stock.dropped.at().expect("it was reset");
        assert!(dropped >= start + 5 * SECOND);
        drop(body);
    });
}

#[test]
fn what_a_proxy_makes_of_a_deadline_is_the_deadlines_once_it_has_passed() {
    // It answers after 300 ms.
    let proxy = |manual: &Manual, http2, status| {
        let runner = manual.clone();
        Connector::new(move |far| {
            let app = Router::new().fallback(async move || {
                sleep(300 * MS).await;
                Response::builder().status(status).body(Body::empty()).unwrap()
            });
            serve_on(&runner, http2, app, far);
        })
    };
    for status in [502_u16, 503, 504] {
        both(async |manual, http2| {
            let connector = proxy(&manual, http2, status);
            let layer = ClientLayer::new().timeout(SECOND);
            let client = layer.layer(connector.client(&manual, http2));
            let early = client.clone().oneshot(to("/")).await.unwrap();
            assert_eq!(early.status(), status);
            // The answer is there when the call is looked at again.
            let mut call = Box::pin(client.oneshot(to("/")));
            timeout(100 * MS, call.as_mut()).await.unwrap_err();
            sleep(SECOND).await;
            assert!(call.await.unwrap_err().is_expired(), "{status}");
        });
    }
}

#[test]
fn a_connection_that_breaks_is_the_deadlines_once_it_has_passed() {
    both(async |manual, http2| {
        let runner = manual.clone();
        let connector = Connector::new(move |mut far: DuplexStream| {
            drop(runner.spawn(async move {
                sleep(300 * MS).await;
                // Neither version's.
                far.write_all(b"\0\0\0garbage").await.unwrap();
            }));
        });
        let layer = ClientLayer::new().timeout(SECOND);
        let client = layer.layer(connector.client(&manual, http2));
        let early = client.clone().oneshot(to("/")).await.unwrap_err();
        assert!(!early.is_expired(), "{early}");
        let mut call = Box::pin(client.oneshot(to("/")));
        timeout(100 * MS, call.as_mut()).await.unwrap_err();
        sleep(SECOND).await;
        assert!(call.await.unwrap_err().is_expired());
    });
}
