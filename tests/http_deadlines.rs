//! Deadlines of HTTP calls, in one process on virtual time, where instants are exact.

use std::convert::Infallible;
use std::future::{Future, pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::task::{Context, Poll};

use bytes::Bytes;
use deadbeat::Manual;
use deadbeat::deadline::{self, Cause, Deadline, Origin, Phase};
use deadbeat::propagation::RequestBody;
use deadbeat::propagation::codec::{Header, OnMalformed};
use deadbeat::propagation::http::{
    ClientLayer, DEADLINE_EXCEEDED, Error, FinishLayer, Http, RequestDeadline, ServerLayer, Switch,
};
use deadbeat::time::{Duration, Instant, sleep};
use http::{Request, Response, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty, Full};
use tower::{BoxError, Layer, Service, ServiceExt, service_fn};

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn request(pairs: &[(&'static str, &str)]) -> Request<Empty<Bytes>> {
    let mut request = Request::get("http://stock/apples").body(Empty::new()).unwrap();
    for (name, value) in pairs {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    request
}

type Ok<B> = Result<Response<B>, Infallible>;

fn answer(text: &'static str) -> Ok<Full<Bytes>> {
    Ok(Response::new(Full::from(text)))
}

fn set_by<B>(response: &Response<B>) -> &str {
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    response.headers()[DEADLINE_EXCEEDED].to_str().unwrap()
}

/// A body of pieces, each after so long.
struct Ticks {
    every: Duration,
    left: u32,
    sleep: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Ticks {
    fn new(every: Duration, count: u32) -> Self {
        Self { every, left: count, sleep: Box::pin(sleep(every)) }
    }
}

impl Body for Ticks {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        std::task::ready!(self.sleep.as_mut().poll(cx));
        self.left -= 1;
        self.sleep = Box::pin(sleep(self.every));
        let left = deadline::current().remaining().min(9999 * SECOND);
        Poll::Ready(Some(Ok(Frame::data(format!("{left:?} ").into()))))
    }
}

mod server {
    use super::*;

    #[test]
    fn what_is_in_a_scope_of_a_handler_that_is_dropped_was_cancelled_by_the_deadline() {
        Manual::new().block_on(async {
            let (tell, told) = std::sync::mpsc::channel();
            let handler = service_fn(move |_: Request<_>| {
                let tell = tell.clone();
                async move {
                    let inner = async {
                        tell.send(deadline::Cancel::current()).unwrap();
                        pending::<()>().await;
                    };
                    let _ = deadline::scope(9 * SECOND, inner).await;
                    answer("late")
                }
            });
            let server = ServerLayer::new().layer(handler);
            let response = server.oneshot(request(&[("grpc-timeout", "1S")])).await.unwrap();
            assert_eq!(set_by(&response), "header");
            let cause = told.recv().unwrap().cause();
            assert!(matches!(cause, Some(Cause::Deadline(_))), "{cause:?}");
        });
    }

    #[test]
    fn a_handler_has_the_deadline_of_its_call() {
        Manual::new().block_on(async {
            let layer = ServerLayer::new().maximum(9 * SECOND);
            let mut service = layer.layer(service_fn(async |request: Request<_>| {
                let current = deadline::provenance().unwrap();
                assert_eq!(request.provenance(), Some(current));
                assert_eq!(request.deadline().remaining(), 2 * SECOND);
                assert_eq!(current.origin(), Origin::Header("grpc-timeout"));
                answer("in time")
            }));
            let response = service.call(request(&[("grpc-timeout", "2S")])).await.unwrap();
            assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "in time");
            assert_eq!(layer.stats().with_deadline(), 1);
        });
    }

    #[test]
    fn the_deadline_drops_a_handler_at_its_await_and_cancels_its_children() {
        let manual = Manual::new();
        manual.block_on(async {
            let start = Instant::now();
            let cause = Arc::new(std::sync::OnceLock::new());
            let seen = cause.clone();
            let layer = ServerLayer::new();
            let mut service = layer.layer(service_fn(move |_: Request<_>| {
                let cancel = deadline::Cancel::current();
                let child = cancel.child();
                let seen = seen.clone();
                async move {
                    let _child = seen.set(child);
                    pending::<Ok<Full<Bytes>>>().await
                }
            }));
            let response = service.call(request(&[("connect-timeout-ms", "300")])).await.unwrap();
            assert_eq!(start.elapsed(), 300 * MS);
            assert_eq!(set_by(&response), "header");
            let text = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(
                text,
                "deadline exceeded after 300ms of 300ms, set by header `connect-timeout-ms`: no \
                 answer for 300ms"
            );
            assert!(matches!(cause.get().unwrap().cause(), Some(Cause::Deadline(_))));
            assert_eq!(layer.stats().expired_before_headers(), 1);
        });
    }

    #[test]
    fn what_has_expired_on_arrival_is_answered_without_the_handler() {
        Manual::new().block_on(async {
            let layer = ServerLayer::new().status(StatusCode::SERVICE_UNAVAILABLE);
            let mut service = layer.layer(service_fn(async |_: Request<_>| -> Ok<Full<Bytes>> {
                unreachable!("it was called")
            }));
            let response = service.call(request(&[("grpc-timeout", "0S")])).await.unwrap();
            assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(response.headers()[DEADLINE_EXCEEDED], "header");
            assert_eq!(layer.stats().expired_on_arrival(), 1);
        });
    }

    #[test]
    fn an_answer_that_is_ready_with_the_deadline_counts_and_a_failure_does_not() {
        let manual = Manual::new();
        manual.block_on(async {
            let layer = ServerLayer::new().maximum(SECOND);
            let mut service = layer.layer(service_fn(async |request: Request<_>| {
                sleep(SECOND).await;
                let status = request.uri().path().trim_start_matches('/').parse().unwrap();
                let mut response = Response::new(Full::<Bytes>::from("x"));
                *response.status_mut() = status;
                Ok::<_, Infallible>(response)
            }));
            let mut ask = async |status: &str| {
                let mut request = request(&[]);
                *request.uri_mut() = format!("/{status}").parse().unwrap();
                service.call(request).await.unwrap()
            };
            assert_eq!(ask("201").await.status(), StatusCode::CREATED);
            // Say, since its own call ran into the same deadline.
            assert_eq!(set_by(&ask("500").await), "maximum");
            assert_eq!(set_by(&ask("400").await), "maximum");
        });
    }

    #[test]
    fn a_body_ends_with_an_error_and_has_the_deadline_while_it_is_polled() {
        let manual = Manual::new();
        manual.block_on(async {
            let layer = ServerLayer::new().maximum(SECOND);
            let mut service = layer.layer(service_fn(async |_: Request<_>| {
                Ok::<_, Infallible>(Response::new(Ticks::new(400 * MS, 9)))
            }));
            let mut body = service.call(request(&[])).await.unwrap().into_body();
            for left in ["600ms ", "200ms "] {
                let frame = body.frame().await.unwrap().unwrap();
                assert_eq!(frame.into_data().unwrap(), left);
            }
            assert_eq!(deadline::current(), Deadline::NEVER);
            let error = body.frame().await.unwrap().unwrap_err();
            let expired = error.expired().unwrap();
            assert_eq!(expired.elapsed(), SECOND);
            assert_eq!(expired.phase(), Some(Phase::Body));
            assert_eq!(layer.stats().expired_in_body(), 1);
        });
    }

    #[test]
    fn a_body_that_has_more_at_once_ends_all_the_same() {
        let manual = Manual::new();
        manual.block_on(async {
            let mut service =
                ServerLayer::new().maximum(SECOND).layer(service_fn(async |_: Request<_>| {
                    Ok::<_, Infallible>(Response::new(Ticks::new(Duration::ZERO, 9)))
                }));
            let mut body = service.call(request(&[])).await.unwrap().into_body();
            assert!(body.frame().await.unwrap().is_ok());
            sleep(SECOND).await;
            assert!(body.frame().await.unwrap().unwrap_err().is_expired());
        });
    }

    #[test]
    fn an_upload_ends_with_an_error_in_whatever_task_it_is_read() {
        let manual = Manual::new();
        manual.block_on(async {
            let told = Arc::new(AtomicBool::new(false));
            let layer = ServerLayer::new();
            let spawner = manual.clone();
            let seen = told.clone();
            let mut service =
                layer.layer(service_fn(move |request: Request<RequestBody<Ticks, Http>>| {
                    let seen = seen.clone();
                    drop(spawner.spawn(async move {
                        let mut body = request.into_body();
                        let first = body.frame().await.unwrap().unwrap();
                        assert_eq!(first.into_data().unwrap(), "600ms ");
                        body.frame().await.unwrap().unwrap();
                        for _ in 0..2 {
                            assert!(body.frame().await.unwrap().unwrap_err().is_expired());
                        }
                        seen.store(true, SeqCst);
                    }));
                    pending::<Ok<Full<Bytes>>>()
                }));
            let request = request(&[("grpc-timeout", "1S")]).map(|_| Ticks::new(400 * MS, 9));
            assert_eq!(set_by(&service.call(request).await.unwrap()), "header");
            deadbeat::time::sleep(Duration::ZERO).await;
            poll_fn(|cx| {
                cx.waker().wake_by_ref();
                if told.load(SeqCst) { Poll::Ready(()) } else { Poll::Pending }
            })
            .await;
            assert_eq!(layer.stats().expired_in_upload(), 1);
        });
    }

    #[test]
    fn settings_and_trust_are_chosen_by_request() {
        let manual = Manual::new();
        manual.block_on(async {
            let layer = ServerLayer::new().default_timeout(SECOND).settings(|request, settings| {
                match request.uri.path() {
                    "/export" => settings.default_timeout(60 * SECOND),
                    "/events" => settings.enabled(false),
                    _ => settings.trusted(request.headers.contains_key("x-identity")),
                }
            });
            let mut service = layer.layer(service_fn(async |request: Request<_>| {
                let mut response = Response::new(Full::<Bytes>::default());
                response.extensions_mut().insert(request.deadline());
                Ok::<_, Infallible>(response)
            }));
            let mut left = async |path: &str, headers: &[(&'static str, &str)]| {
                let mut request = request(headers);
                *request.uri_mut() = path.parse().unwrap();
                let response = service.call(request).await.unwrap();
                response.extensions().get::<Deadline>().unwrap().remaining()
            };
            assert_eq!(left("/", &[]).await, SECOND);
            assert_eq!(left("/export", &[]).await, 60 * SECOND);
            assert_eq!(left("/events", &[("grpc-timeout", "1S")]).await, Duration::MAX);
            let asked = ("grpc-timeout", "5S");
            assert_eq!(left("/", &[asked]).await, SECOND);
            assert_eq!(left("/", &[asked, ("x-identity", "us")]).await, 5 * SECOND);
        });
    }

    #[test]
    fn malformed_headers_are_counted_or_rejected() {
        let manual = Manual::new();
        manual.block_on(async {
            let handler = || service_fn(async |_: Request<_>| answer("well"));
            let layer = ServerLayer::new();
            let mut service = layer.layer(handler());
            let bad = || request(&[("grpc-timeout", "5s")]);
            assert_eq!(service.call(bad()).await.unwrap().status(), StatusCode::OK);
            assert_eq!(layer.stats().malformed(), 1);
            let layer = layer.on_malformed(OnMalformed::Reject);
            let response = layer.layer(handler()).call(bad()).await.unwrap();
            assert_eq!(response.status(), StatusCode::BAD_REQUEST);
            let text = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(
                text,
                "malformed grpc-timeout \"5s\", allowed: 1 to 8 digits and one of H M S m u n"
            );
            assert_eq!(layer.stats().rejected(), 1);
        });
    }

    #[test]
    fn a_preference_is_told_and_never_the_cause_of_a_504() {
        let manual = Manual::new();
        manual.block_on(async {
            let mut service = ServerLayer::new().honour(Header::Prefer).layer(service_fn(
                async |it: Request<_>| {
                    assert_eq!(it.preferred_wait(), Some(SECOND));
                    sleep(5 * SECOND).await;
                    answer("late, but there")
                },
            ));
            let response = service.call(request(&[("prefer", "wait=1")])).await.unwrap();
            assert_eq!(response.status(), StatusCode::OK);
        });
    }

    #[test]
    fn a_poll_over_the_deadline_is_an_overrun() {
        let manual = Manual::new();
        manual.block_on(async {
            let layer = ServerLayer::new().maximum(SECOND);
            let clock = manual.clone();
            let mut service = layer.layer(service_fn(move |_: Request<_>| {
                let clock = clock.clone();
                async move {
                    sleep(900 * MS).await;
                    // Busy, without an `await`.
                    clock.fast_forward(350 * MS);
                    pending::<Ok<Full<Bytes>>>().await
                }
            }));
            assert_eq!(set_by(&service.call(request(&[])).await.unwrap()), "maximum");
            let stats = layer.stats();
            assert_eq!((stats.overruns(), stats.longest_overrun()), (1, 250 * MS));
        });
    }

    #[test]
    fn a_call_that_something_else_wakes_is_answered_by_the_clock() {
        let manual = Manual::new();
        manual.block_on(async {
            let layer = ServerLayer::new().maximum(SECOND);
            let handler = service_fn(|_: Request<_>| pending::<Ok<Full<Bytes>>>());
            let mut call = pin!(layer.layer(handler).oneshot(request(&[])));
            let cx = &mut Context::from_waker(std::task::Waker::noop());
            assert!(call.as_mut().poll(cx).is_pending());
            // The deadline has come, and its timer hasn't fired.
            manual.clock().advance(SECOND);
            let Poll::Ready(answered) = call.as_mut().poll(cx) else { panic!("it waits") };
            assert_eq!(set_by(&answered.unwrap()), "maximum");
        });
    }

    #[test]
    fn a_switch_turns_it_off_and_on() {
        let manual = Manual::new();
        manual.block_on(async {
            let switch = Switch::new();
            let layer = ServerLayer::new().maximum(SECOND).switch(&switch);
            let mut service = layer.layer(service_fn(async |_: Request<_>| {
                sleep(2 * SECOND).await;
                answer("slow")
            }));
            switch.set(false);
            assert_eq!(service.call(request(&[])).await.unwrap().status(), StatusCode::OK);
            switch.set(true);
            assert_eq!(set_by(&service.call(request(&[])).await.unwrap()), "maximum");
        });
    }

    #[tokio::test]
    async fn a_handler_may_be_finished_and_its_result_discarded() {
        let (tell, told) = tokio::sync::oneshot::channel();
        let (go, gone) = tokio::sync::oneshot::channel::<()>();
        let mut ends = Some((tell, gone));
        let handler = service_fn(move |_: Request<_>| {
            let (tell, gone) = ends.take().unwrap();
            async move {
                gone.await.unwrap();
                tell.send(deadline::current()).unwrap();
                answer("for nobody")
            }
        });
        // Services are cloned; this handler can't be.
        let handler = FinishLayer::new().layer(handler);
        let handler = tower::util::BoxCloneService::new(SharedOnce::new(handler));
        let mut service = ServerLayer::new().layer(handler);
        let response = service.call(request(&[("connect-timeout-ms", "1")])).await.unwrap();
        assert_eq!(set_by(&response), "header");
        go.send(()).unwrap();
        assert_eq!(told.await.unwrap(), Deadline::NEVER);
        deadline::tracked().idle().await;
    }

    /// Lets a service that isn't `Clone` be shared.
    struct SharedOnce<S>(Arc<std::sync::Mutex<S>>);

    impl<S> SharedOnce<S> {
        fn new(service: S) -> Self {
            Self(Arc::new(std::sync::Mutex::new(service)))
        }
    }

    impl<S> Clone for SharedOnce<S> {
        fn clone(&self) -> Self {
            Self(self.0.clone())
        }
    }

    impl<R, S: Service<R>> Service<R> for SharedOnce<S> {
        type Response = S::Response;
        type Error = S::Error;
        type Future = S::Future;

        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
            self.0.lock().unwrap().poll_ready(cx)
        }

        fn call(&mut self, request: R) -> S::Future {
            self.0.lock().unwrap().call(request)
        }
    }
}

mod client {
    use super::*;

    /// What was sent, if anything was.
    fn sent(
        layer: &ClientLayer,
        request: Request<Empty<Bytes>>,
    ) -> (Result<(), Error>, Option<http::HeaderMap>) {
        let seen = Arc::new(std::sync::Mutex::new(None));
        let see = seen.clone();
        let mut client = layer.layer(service_fn(move |request: Request<_>| {
            *see.lock().unwrap() = Some(request.headers().clone());
            std::future::ready(answer("well"))
        }));
        let mut called = pin!(client.call(request));
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        let Poll::Ready(result) = called.as_mut().poll(cx) else { panic!("it waits") };
        let headers = seen.lock().unwrap().take();
        (result.map(drop), headers)
    }

    fn sent_ms(layer: &ClientLayer, request: Request<Empty<Bytes>>) -> Option<String> {
        let headers = sent(layer, request).1.unwrap();
        let value = headers.get("connect-timeout-ms")?;
        Some(value.to_str().unwrap().to_owned())
    }

    #[test]
    fn what_is_sent_is_the_least_of_all_less_the_allowance() {
        let manual = Manual::new();
        manual.block_on(async {
            let layer = ClientLayer::new();
            assert_eq!(sent_ms(&layer, request(&[])), None);
            let layer = layer.timeout(5 * SECOND).allowance(5 * MS);
            assert_eq!(sent_ms(&layer, request(&[])).unwrap(), "4995");
            deadline::scope(3 * SECOND, async {
                sleep(SECOND).await;
                assert_eq!(sent_ms(&layer, request(&[])).unwrap(), "1995");
                let mut own = request(&[("grpc-timeout", "9S"), ("l5d-timeout", "1s")]);
                own.set_deadline(SECOND);
                let headers = sent(&layer, own).1.unwrap();
                assert_eq!(headers.len(), 1);
                assert_eq!(headers["connect-timeout-ms"], "995");
                let set = request(&[("connect-timeout-ms", "700")]);
                assert_eq!(sent_ms(&layer, set).unwrap(), "695");
            })
            .await
            .unwrap();
        });
    }

    #[test]
    fn what_is_too_late_is_not_sent() {
        let manual = Manual::new();
        manual.block_on(async {
            let layer = ClientLayer::new().allowance(5 * MS);
            for left in [Duration::ZERO, MS, 5 * MS, 5 * MS + MS / 2] {
                let mut late = request(&[]);
                late.set_deadline(left);
                let (result, headers) = sent(&layer, late);
                assert!(result.unwrap_err().is_expired());
                assert_eq!(headers, None);
            }
            assert_eq!(layer.stats().expired_on_arrival(), 4);
        });
    }

    #[test]
    fn the_deadline_covers_the_body_and_the_idle_timeout_each_piece() {
        let manual = Manual::new();
        manual.block_on(async {
            let pieces = |every| {
                service_fn(move |_: Request<RequestBody<Empty<Bytes>, Http>>| {
                    let ticks = Ticks::new(every, 99);
                    std::future::ready(Ok::<_, Infallible>(Response::new(ticks)))
                })
            };
            let layer = ClientLayer::new().timeout(SECOND).idle_timeout(500 * MS);
            let read = async |every| {
                let start = Instant::now();
                let mut body = layer.layer(pieces(every)).call(request(&[])).await?.into_body();
                let mut count = 0;
                while let Some(frame) = body.frame().await {
                    match frame {
                        Ok(_) => count += 1,
                        Err(error) => {
                            assert!(body.frame().await.is_none());
                            let origin = error.expired().unwrap().origin();
                            return Ok::<_, Error>((start.elapsed(), count, origin));
                        }
                    }
                }
                unreachable!("it ended well")
            };
            assert_eq!(read(300 * MS).await.unwrap(), (SECOND, 3, Origin::Endpoint));
            assert_eq!(read(600 * MS).await.unwrap(), (500 * MS, 0, Origin::Idle));
            assert_eq!(layer.stats().expired_in_body(), 2);
        });
    }

    #[test]
    fn a_gateways_504_after_the_deadline_is_the_deadlines() {
        let manual = Manual::new();
        manual.block_on(async {
            let gateway = |after| {
                service_fn(move |_: Request<RequestBody<Empty<Bytes>, Http>>| async move {
                    sleep(after).await;
                    let mut response = Response::new(Full::<Bytes>::default());
                    *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
                    Ok::<_, Infallible>(response)
                })
            };
            let layer = ClientLayer::new().timeout(SECOND);
            let late = layer.layer(gateway(SECOND)).call(request(&[])).await;
            assert!(late.unwrap_err().is_expired());
            let early = layer.layer(gateway(999 * MS)).call(request(&[])).await;
            assert_eq!(early.unwrap().status(), StatusCode::GATEWAY_TIMEOUT);
        });
    }

    #[test]
    fn its_readiness_is_never_an_error() {
        let manual = Manual::new();
        manual.block_on(async {
            #[derive(Clone)]
            struct Broken;
            impl<R> Service<R> for Broken {
                type Response = Response<Full<Bytes>>;
                type Error = BoxError;
                type Future = std::future::Ready<Result<Self::Response, BoxError>>;
                fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
                    Poll::Ready(Err("broken".into()))
                }
                fn call(&mut self, _: R) -> Self::Future {
                    unreachable!("it isn't ready")
                }
            }
            let mut client = ClientLayer::new().layer(Broken);
            let client = ServiceExt::<Request<Empty<Bytes>>>::ready(&mut client).await.unwrap();
            let error = client.call(request(&[])).await.unwrap_err();
            assert_eq!((error.is_expired(), error.to_string()), (false, "broken".into()));
        });
    }

    #[test]
    fn a_request_that_is_not_sent_is_not_taken_for_one_that_is_not_answered() {
        let manual = Manual::new();
        manual.block_on(async {
            let sending = service_fn(
                async |request: Request<RequestBody<Ticks, Http>>| -> Result<Response<Full<Bytes>>, Error> {
                    let mut body = request.into_body();
                    while let Some(frame) = body.frame().await {
                        frame?;
                    }
                    pending().await
                },
            );
            let mut client = ClientLayer::new().timeout(SECOND).peer("stock").layer(sending);
            let mut fail = async |ticks| {
                let request = Request::post("/").body(ticks).unwrap();
                client.call(request).await.unwrap_err().to_string()
            };
            let text = fail(Ticks::new(100 * MS, 99)).await;
            assert!(text.ends_with(": send took 1s, to stock"), "{text}");
            let text = fail(Ticks::new(100 * MS, 3)).await;
            assert!(text.ends_with("no answer from stock for 700ms (send 300ms)"), "{text}");
        });
    }
}

#[test]
fn over_three_hops_the_time_shrinks_and_never_grows() {
    let manual = Manual::new();
    manual.block_on(async {
        let start = Instant::now();
        let client = || ClientLayer::new().timeout(10 * SECOND).allowance(10 * MS);
        let server = || ServerLayer::new().trusted(true);
        let last = server().layer(service_fn(async |request: Request<_>| {
            assert_eq!(request.deadline().remaining(), 480 * MS);
            pending::<Ok<Full<Bytes>>>().await
        }));
        let last = client().layer(last);
        let middle = server().layer(service_fn(move |it: Request<_>| {
            let mut last = last.clone();
            async move {
                assert_eq!(it.deadline().remaining(), 790 * MS);
                sleep(300 * MS).await;
                // As a careless proxy would: the headers as they came.
                let mut forward = request(&[]);
                *forward.headers_mut() = it.headers().clone();
                last.call(forward).await
            }
        }));
        let mut first = client().layer(middle);
        let answered = deadline::scope(SECOND, async {
            sleep(200 * MS).await;
            first.call(request(&[])).await
        });
        // The first to give up is the last one, and its answer comes in time for all.
        let response = answered.await.unwrap().unwrap();
        assert_eq!((start.elapsed(), set_by(&response)), (980 * MS, "header"));
    });
}
