//! What hyper pays for its timer: ours against hyper-util's `TokioTimer`.
//!
//! ```text
//! cargo bench --features hyper --bench hyper_timer
//! cargo bench --features hyper --bench hyper_timer -- /h1_head     # one case
//! ```
//!
//! Ids are `hyper_timer/{system}/{case}`. The timer alone, behind `Arc<dyn Timer>`, as hyper has it:
//!
//! - `h1_head`: what a server with a header-read timeout does for each HTTP/1 request: `now`,
//!   `sleep_until` in a box, polled once to pending while the head isn't there, dropped when it is.
//! - `h1_head_ready`: the same when the head has arrived by then: not polled.
//! - `h2_keep_alive`: an end of an HTTP/2 connection that is closed before its first ping: `now`,
//!   `sleep` in a box, reset and polled when the first frame is read, dropped.
//! - `h2_ping`: one ping and its answer on a connection that lives: reset to the answer's timeout,
//!   polled, reset to the next interval, polled, each with a `now`.
//!
//! And with hyper around it, over `tokio::io::duplex`, client and server on one thread:
//!
//! - `h1_request`: one request after another on a connection, with a header-read timeout.
//! - `h2_connection`: one HTTP/2 connection after another, each made, asked one thing, and closed by
//!   the client, with keepalive at both ends, idle or not. (For HTTP/2, hyper has no header-read
//!   timeout.)
//!
//! `none` is the same without a timer and what needs it: what hyper costs otherwise.
//!
//! Systems: `deadbeat` on the global Timekeeper; `tokio-current-thread` and `tokio-multi-thread`,
//! whose time drivers differ (and the first of which, used from outside, is called at each arming);
//! `floor`, what hyper's interface costs with a timer that reads the clock, keeps the waker, and
//! does nothing. Nothing ever falls due, as in a server whose clients behave.

use std::{
    convert::Infallible,
    hint::black_box,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    time::{Duration, Instant},
};

use criterion::{Criterion, criterion_group, criterion_main};
use deadbeat::rt::HyperTimer;
use http_body_util::{BodyExt, Empty, Full};
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    client,
    rt::{Sleep, Timer},
    server,
    service::service_fn,
};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::runtime::{self, Runtime};

const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(30);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

type Shared = Arc<dyn Timer + Send + Sync>;

fn current_thread() -> Runtime {
    runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn multi_thread() -> Runtime {
    runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// A waker that is counted, as those of tasks are.
struct Task;

impl Wake for Task {
    fn wake(self: Arc<Self>) {}
}

/// Never fires.
#[derive(Clone, Copy)]
struct Floor;

struct FloorSleep(Option<Waker>);

impl Timer for Floor {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, _: Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(FloorSleep(None))
    }

    fn now(&self) -> Instant {
        now()
    }

    fn reset(&self, _: &mut Pin<Box<dyn Sleep>>, _: Instant) {}
}

impl Future for FloorSleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.0 {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Sleep for FloorSleep {}

fn timer_alone(c: &mut Criterion) {
    bench_timer(c, "floor", Arc::new(Floor), None);
    bench_timer(c, "deadbeat", Arc::new(HyperTimer::new()), None);
    bench_timer(c, "tokio-current-thread", Arc::new(TokioTimer::new()), Some(current_thread()));
    bench_timer(c, "tokio-multi-thread", Arc::new(TokioTimer::new()), Some(multi_thread()));
}

fn bench_timer(c: &mut Criterion, system: &str, timer: Shared, runtime: Option<Runtime>) {
    let _entered = runtime.as_ref().map(Runtime::enter);
    let mut group = c.benchmark_group(format!("hyper_timer/{system}"));
    let waker = Waker::from(Arc::new(Task));
    let cx = &mut Context::from_waker(&waker);

    group.bench_function("h1_head", |b| {
        b.iter(|| {
            let deadline = timer.now() + HEADER_READ_TIMEOUT;
            let mut sleep = timer.sleep_until(deadline);
            assert!(sleep.as_mut().poll(cx).is_pending());
        });
    });
    group.bench_function("h1_head_ready", |b| {
        b.iter(|| {
            let deadline = timer.now() + HEADER_READ_TIMEOUT;
            black_box(timer.sleep_until(deadline));
        });
    });
    group.bench_function("h2_keep_alive", |b| {
        b.iter(|| {
            let last_read = timer.now();
            let mut sleep = timer.sleep(KEEP_ALIVE_INTERVAL);
            timer.reset(&mut sleep, last_read + KEEP_ALIVE_INTERVAL);
            assert!(sleep.as_mut().poll(cx).is_pending());
        });
    });
    group.bench_function("h2_ping", |b| {
        let mut sleep = timer.sleep(KEEP_ALIVE_INTERVAL);
        b.iter(|| {
            timer.reset(&mut sleep, timer.now() + KEEP_ALIVE_TIMEOUT);
            assert!(sleep.as_mut().poll(cx).is_pending());
            timer.reset(&mut sleep, timer.now() + KEEP_ALIVE_INTERVAL);
            assert!(sleep.as_mut().poll(cx).is_pending());
        });
    });
    group.finish();
}

fn whole_requests(c: &mut Criterion) {
    bench_requests(c, "none", current_thread(), |_| {});
    bench_requests(c, "floor", current_thread(), |server| {
        server.timer(Floor).header_read_timeout(HEADER_READ_TIMEOUT);
    });
    bench_requests(c, "deadbeat", current_thread(), |server| {
        server.timer(HyperTimer::new()).header_read_timeout(HEADER_READ_TIMEOUT);
    });
    bench_requests(c, "tokio-current-thread", current_thread(), |server| {
        server.timer(TokioTimer::new()).header_read_timeout(HEADER_READ_TIMEOUT);
    });
}

fn bench_requests(
    c: &mut Criterion,
    system: &str,
    runtime: Runtime,
    configure: impl FnOnce(&mut server::conn::http1::Builder),
) {
    let mut builder = server::conn::http1::Builder::new();
    configure(builder.header_read_timeout(None));
    let mut sender = runtime.block_on(async {
        let (client, server) = tokio::io::duplex(1 << 16);
        tokio::spawn(builder.serve_connection(TokioIo::new(server), service_fn(hello)));
        let (sender, connection) =
            client::conn::http1::handshake(TokioIo::new(client)).await.unwrap();
        tokio::spawn(connection);
        sender
    });
    c.bench_function(&format!("hyper_timer/{system}/h1_request"), |b| {
        b.iter_custom(|requests| {
            runtime.block_on(async {
                let start = now();
                for _ in 0..requests {
                    sender.ready().await.unwrap();
                    let request = Request::new(Empty::<Bytes>::new());
                    let response = sender.send_request(request).await.unwrap();
                    black_box(response.into_body().collect().await.unwrap());
                }
                start.elapsed()
            })
        });
    });
}

fn whole_connections(c: &mut Criterion) {
    bench_connections(c, "none", None::<Floor>);
    bench_connections(c, "floor", Some(Floor));
    bench_connections(c, "deadbeat", Some(HyperTimer::new()));
    bench_connections(c, "tokio-current-thread", Some(TokioTimer::new()));
}

fn bench_connections<T: Timer + Clone + Send + Sync + 'static>(
    c: &mut Criterion,
    system: &str,
    timer: Option<T>,
) {
    let mut server = server::conn::http2::Builder::new(TokioExecutor::new());
    let mut client = client::conn::http2::Builder::new(TokioExecutor::new());
    if let Some(timer) = timer {
        server
            .timer(timer.clone())
            .keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
        client
            .timer(timer)
            .keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .keep_alive_while_idle(true);
    }
    let runtime = current_thread();
    c.bench_function(&format!("hyper_timer/{system}/h2_connection"), |b| {
        b.iter_custom(|connections| {
            runtime.block_on(async {
                let start = now();
                for _ in 0..connections {
                    connect_ask_close(&server, &client).await;
                }
                start.elapsed()
            })
        });
    });
}

async fn connect_ask_close(
    server: &server::conn::http2::Builder<TokioExecutor>,
    client: &client::conn::http2::Builder<TokioExecutor>,
) {
    let (near, far) = tokio::io::duplex(1 << 16);
    let served = tokio::spawn(server.serve_connection(TokioIo::new(far), service_fn(hello)));
    let (mut sender, connection) = client.handshake(TokioIo::new(near)).await.unwrap();
    let connection = tokio::spawn(connection);

    let request = Request::get("http://localhost/").body(Empty::<Bytes>::new()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    black_box(response.into_body().collect().await.unwrap());

    // The last sender: the client says goodbye, and both ends are done.
    drop(sender);
    connection.await.unwrap().unwrap();
    served.await.unwrap().unwrap();
}

async fn hello(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::from("hello")))
}

#[expect(clippy::disallowed_methods, reason = "measured by a clock that isn't under test")]
fn now() -> Instant {
    Instant::now()
}

criterion_group!(benches, timer_alone, whole_requests, whole_connections);
criterion_main!(benches);
