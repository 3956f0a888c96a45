//! hyper's timeouts on `HyperTimer`: real connections over loopback, and the same on virtual time.
//!
//! Over loopback the outcome is asserted and no duration. On virtual time, with I/O in memory, the
//! instants are exact.

use std::convert::Infallible;
use std::future::{Future, pending};
use std::sync::Arc;
use std::time::Duration;

use deadbeat::rt::HyperTimer;
use deadbeat::time::{Instant, sleep};
use deadbeat::{Fired, JoinHandle, Manual, Timekeeper};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::{Bytes, Incoming};
use hyper::rt::{Sleep, Timer};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, client, server};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{
    AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream, copy_bidirectional, duplex,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

const SECOND: Duration = Duration::from_secs(1);
const MILLI: Duration = Duration::from_millis(1);

/// A test that would hang fails instead.
const PATIENCE: Duration = Duration::from_secs(60);

type Body = Empty<Bytes>;

async fn hello(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::from("hello")))
}

/// Serves `hello`, but for `/never`, where it is silent.
async fn hello_or_never(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    if request.uri().path() == "/never" {
        pending::<()>().await;
    }
    hello(request).await
}

fn request(path: &str) -> Request<Body> {
    Request::get(format!("http://localhost{path}")).body(Empty::new()).unwrap()
}

async fn get(
    sender: &mut client::conn::http2::SendRequest<Body>,
    path: &str,
) -> hyper::Result<Response<Incoming>> {
    sender.ready().await?;
    sender.send_request(request(path)).await
}

/// Asks, and takes the answer to its end, so that the stream is closed.
async fn get_all(sender: &mut client::conn::http2::SendRequest<Body>) {
    let response = get(sender, "/").await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello");
}

/// The network between two ends, until it is cut: then no byte passes, and nobody is told.
struct Network {
    cut: CancellationToken,
}

impl Network {
    fn between(
        mut near: impl AsyncRead + AsyncWrite + Unpin,
        mut far: impl AsyncRead + AsyncWrite + Unpin,
    ) -> (Self, impl Future<Output = ()>) {
        let cut = CancellationToken::new();
        let network = Self { cut: cut.clone() };
        let forward = async move {
            let passing = copy_bidirectional(&mut near, &mut far);
            if cut.run_until_cancelled(passing).await.is_none() {
                // Both ends stay open.
                pending().await
            }
        };
        (network, forward)
    }

    fn cut(&self) {
        self.cut.cancel();
    }
}

mod over_loopback {
    use super::*;

    const HEADER_READ_TIMEOUT: Duration = Duration::from_millis(100);
    /// Long enough for a pong on a loaded machine.
    const KEEP_ALIVE: Duration = Duration::from_millis(250);

    async fn in_time<T>(future: impl Future<Output = T>) -> T {
        tokio::time::timeout(PATIENCE, future).await.expect("the test hangs")
    }

    async fn tcp_pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        (client, listener.accept().await.unwrap().0)
    }

    async fn serve_http1(io: TcpStream) -> hyper::Result<()> {
        server::conn::http1::Builder::new()
            .timer(HyperTimer::new())
            .header_read_timeout(HEADER_READ_TIMEOUT)
            .serve_connection(TokioIo::new(io), service_fn(hello))
            .await
    }

    #[tokio::test]
    async fn a_slow_loris_is_closed_without_an_answer() {
        let (mut client, server) = tcp_pair().await;
        client.write_all(b"GET / HTTP/1.1\r\nhost: local").await.unwrap();
        let mut answer = Vec::new();
        let (served, read) =
            in_time(async { tokio::join!(serve_http1(server), client.read_to_end(&mut answer)) })
                .await;
        assert!(served.unwrap_err().is_timeout());
        assert_eq!(read.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_client_that_ends_its_head_is_served() {
        let (mut client, server) = tcp_pair().await;
        client
            .write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")
            .await
            .unwrap();
        let mut answer = Vec::new();
        let (served, read) =
            in_time(async { tokio::join!(serve_http1(server), client.read_to_end(&mut answer)) })
                .await;
        served.unwrap();
        read.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n") && answer.ends_with(b"hello"));
    }

    #[tokio::test]
    async fn a_client_that_is_slow_the_second_time_is_closed_then() {
        let (mut client, server) = tcp_pair().await;
        client.write_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\nGET").await.unwrap();
        let mut answer = Vec::new();
        let (served, read) =
            in_time(async { tokio::join!(serve_http1(server), client.read_to_end(&mut answer)) })
                .await;
        assert!(served.unwrap_err().is_timeout());
        read.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n") && answer.ends_with(b"hello"));
    }

    /// A client and a server with a network between that can be cut.
    async fn http2_pair() -> (TcpStream, Network, TcpStream) {
        let (client, near) = tcp_pair().await;
        let (far, server) = tcp_pair().await;
        let (network, forward) = Network::between(near, far);
        tokio::spawn(forward);
        (client, network, server)
    }

    #[tokio::test]
    async fn an_http2_client_notices_that_its_server_is_gone() {
        in_time(async {
            let (io, network, server) = http2_pair().await;
            tokio::spawn(
                server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(server), service_fn(hello_or_never)),
            );
            let (mut sender, connection) = client::conn::http2::Builder::new(TokioExecutor::new())
                .timer(HyperTimer::new())
                .keep_alive_interval(KEEP_ALIVE)
                .keep_alive_timeout(KEEP_ALIVE)
                .handshake(TokioIo::new(io))
                .await
                .unwrap();
            let connection = tokio::spawn(connection);
            get_all(&mut sender).await;
            network.cut();
            let error = get(&mut sender, "/never").await.unwrap_err();
            assert!(error.is_timeout(), "{error:?}");
            assert!(connection.await.unwrap().unwrap_err().is_timeout());
        })
        .await;
    }

    #[tokio::test]
    async fn an_http2_server_notices_that_its_client_is_gone() {
        in_time(async {
            let (io, network, server) = http2_pair().await;
            let served = tokio::spawn(
                server::conn::http2::Builder::new(TokioExecutor::new())
                    .timer(HyperTimer::new())
                    .keep_alive_interval(KEEP_ALIVE)
                    .keep_alive_timeout(KEEP_ALIVE)
                    .serve_connection(TokioIo::new(server), service_fn(hello)),
            );
            let (mut sender, connection) =
                client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(io))
                    .await
                    .unwrap();
            tokio::spawn(connection);
            get_all(&mut sender).await;
            network.cut();
            // It ends, while both the client and its network are still there.
            let _ = served.await.unwrap();
            assert!(!sender.is_closed());
        })
        .await;
    }

    #[tokio::test]
    async fn the_pool_closes_idle_connections_although_nobody_asks() {
        in_time(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let served = tokio::spawn(async move {
                let (io, _) = listener.accept().await.unwrap();
                server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(io), service_fn(hello))
                    .await
            });
            let client = Client::builder(TokioExecutor::new())
                .pool_timer(HyperTimer::new())
                .pool_idle_timeout(50 * MILLI)
                .build_http::<Body>();
            let response = client.get(format!("http://{address}/").parse().unwrap()).await.unwrap();
            response.into_body().collect().await.unwrap();
            // It ends, while the client is still there.
            served.await.unwrap().unwrap();
            drop(client);
        })
        .await;
    }
}

mod on_virtual_time {
    use super::*;

    const INTERVAL: Duration = Duration::from_secs(10);
    const TIMEOUT: Duration = Duration::from_secs(5);

    #[derive(Clone)]
    struct OnManual(Manual);

    impl<F> hyper::rt::Executor<F> for OnManual
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        fn execute(&self, future: F) {
            drop(self.0.spawn(future));
        }
    }

    /// A future's output, and how long after `start` it came.
    async fn timed<T>(start: Instant, future: impl Future<Output = T>) -> (Duration, T) {
        let output = future.await;
        (start.elapsed(), output)
    }

    /// Serves HTTP/1 and tells when and how it ended.
    fn serve_http1(manual: &Manual, io: DuplexStream) -> JoinHandle<(Duration, hyper::Result<()>)> {
        let connection = server::conn::http1::Builder::new()
            .timer(HyperTimer::on(manual.timekeeper()))
            .header_read_timeout(INTERVAL)
            .serve_connection(TokioIo::new(io), service_fn(hello));
        manual.spawn(timed(manual.now(), connection))
    }

    #[test]
    fn the_header_read_timeout_ends_a_connection_at_its_nanosecond() {
        let manual = Manual::new();
        manual.block_on(async {
            let (mut client, io) = duplex(1024);
            let served = serve_http1(&manual, io);
            // A byte now and then doesn't help.
            for byte in b"GET /" {
                client.write_all(&[*byte]).await.unwrap();
                sleep(SECOND).await;
            }
            let (at, served) = served.await;
            assert!(served.unwrap_err().is_timeout());
            assert_eq!(at, INTERVAL);
            assert_eq!(client.read(&mut [0; 16]).await.unwrap(), 0);
        });
    }

    #[test]
    fn requests_within_the_header_read_timeout_are_served_for_as_long_as_they_come() {
        let manual = Manual::new();
        manual.block_on(async {
            let (client, io) = duplex(1024);
            let served = serve_http1(&manual, io);
            let (mut sender, connection) =
                client::conn::http1::handshake(TokioIo::new(client)).await.unwrap();
            drop(manual.spawn(connection));
            for _ in 0..100 {
                let response = sender.send_request(request("/")).await.unwrap();
                response.into_body().collect().await.unwrap();
                sleep(INTERVAL - Duration::from_nanos(1)).await;
            }
            let (at, served) = served.await;
            assert!(served.unwrap_err().is_timeout());
            assert_eq!(at, (INTERVAL - Duration::from_nanos(1)) * 99 + INTERVAL);
        });
        let stats = manual.timekeeper().stats();
        // The server's for each head but the last, which ran out with the one that never came.
        assert_eq!((stats.cancelled, stats.fired, stats.live), (100, 101, 0));
    }

    struct Http2 {
        network: Network,
        sender: client::conn::http2::SendRequest<Body>,
        client: JoinHandle<(Duration, hyper::Result<()>)>,
        server: JoinHandle<(Duration, hyper::Result<()>)>,
    }

    /// A client and a server, either of which may do keepalive.
    async fn http2(
        manual: &Manual,
        client: impl FnOnce(&mut client::conn::http2::Builder<OnManual>),
        server: impl FnOnce(&mut server::conn::http2::Builder<OnManual>),
    ) -> Http2 {
        let start = manual.now();
        let ((client_io, near), (far, server_io)) = (duplex(1 << 16), duplex(1 << 16));
        let (network, forward) = Network::between(near, far);
        drop(manual.spawn(forward));
        let executor = OnManual(manual.clone());

        let mut builder = server::conn::http2::Builder::new(executor.clone());
        server(builder.timer(HyperTimer::on(manual.timekeeper())));
        let connection =
            builder.serve_connection(TokioIo::new(server_io), service_fn(hello_or_never));
        let server = manual.spawn(timed(start, connection));

        let mut builder = client::conn::http2::Builder::new(executor);
        client(builder.timer(HyperTimer::on(manual.timekeeper())));
        let (sender, connection) = builder.handshake(TokioIo::new(client_io)).await.unwrap();
        let client = manual.spawn(timed(start, connection));
        Http2 { network, sender, client, server }
    }

    #[test]
    fn an_http2_client_gives_up_after_interval_and_timeout() {
        let manual = Manual::new();
        manual.block_on(async {
            let idle = |builder: &mut client::conn::http2::Builder<_>| {
                builder
                    .keep_alive_interval(INTERVAL)
                    .keep_alive_timeout(TIMEOUT)
                    .keep_alive_while_idle(true);
            };
            let mut pair = http2(&manual, idle, |_| {}).await;
            get_all(&mut pair.sender).await;
            // Pings are answered all the while.
            sleep(INTERVAL * 9 + SECOND).await;
            pair.network.cut();
            let (at, ended) = pair.client.await;
            assert!(ended.unwrap_err().is_timeout());
            assert_eq!(at, INTERVAL * 10 + TIMEOUT);
        });
    }

    #[test]
    fn an_http2_server_gives_up_after_interval_and_timeout() {
        let manual = Manual::new();
        manual.block_on(async {
            let mut pair = http2(
                &manual,
                |_| {},
                |builder| {
                    builder.keep_alive_interval(INTERVAL).keep_alive_timeout(TIMEOUT);
                },
            )
            .await;
            get_all(&mut pair.sender).await;
            sleep(INTERVAL * 9 + SECOND).await;
            pair.network.cut();
            let (at, _) = pair.server.await;
            assert_eq!(at, INTERVAL * 10 + TIMEOUT);
        });
    }

    /// A connection that is quiet and idle for longer than the interval, and then is used although
    /// the network is gone. Returns when the request failed, and all that fired.
    fn used_after_a_long_silence() -> (Duration, Vec<Fired>) {
        let manual = Manual::new();
        let failed_at = manual.block_on(async {
            let busy_only = |builder: &mut client::conn::http2::Builder<_>| {
                builder.keep_alive_interval(INTERVAL).keep_alive_timeout(TIMEOUT);
            };
            let start = manual.now();
            let mut pair = http2(&manual, busy_only, |_| {}).await;
            get_all(&mut pair.sender).await;
            sleep(INTERVAL * 2 + TIMEOUT).await;
            pair.network.cut();
            let (at, response) = timed(start, get(&mut pair.sender, "/")).await;
            assert!(response.unwrap_err().is_timeout());
            at
        });
        (failed_at, manual.fired())
    }

    #[test]
    fn keepalive_that_slept_through_idleness_pings_as_soon_as_it_is_busy() {
        // Its sleep is polled again, long after it was ready.
        let (failed_at, _) = used_after_a_long_silence();
        assert_eq!(failed_at, INTERVAL * 2 + TIMEOUT + TIMEOUT);
    }

    #[test]
    fn every_run_fires_the_same_timers_at_the_same_times() {
        assert_eq!(used_after_a_long_silence(), used_after_a_long_silence());
    }
}

#[test]
fn reset_allocates_nothing_before_or_after_completion() {
    let manual = Manual::new();
    let timer: Arc<dyn Timer + Send + Sync> = Arc::new(HyperTimer::on(manual.timekeeper()));
    let mut sleep = timer.sleep(SECOND);
    let cx = &mut std::task::Context::from_waker(std::task::Waker::noop());
    // The thread's shard and the first nodes of the pool are made here, once.
    assert!(sleep.as_mut().poll(cx).is_pending());
    let mut reset = |sleep: &mut std::pin::Pin<Box<dyn Sleep>>, then| {
        let allocated = allocation_counter::measure(|| {
            timer.reset(sleep, timer.now() + then);
            assert!(sleep.as_mut().poll(cx).is_pending());
        });
        assert_eq!(allocated.count_total, 0);
    };
    reset(&mut sleep, 60 * SECOND);
    reset(&mut sleep, SECOND);
    assert_eq!(manual.fast_forward(SECOND), 1);
    reset(&mut sleep, SECOND);
    assert_eq!(manual.fast_forward(SECOND), 1);
}

#[test]
fn a_timer_of_its_own_keeps_to_its_own_timekeeper() {
    let timekeeper = Timekeeper::builder().name("connections").build();
    let timer = HyperTimer::on(&timekeeper);
    deadbeat::block_on(timer.sleep(MILLI));
    assert_eq!(timekeeper.stats().fired, 1);
    assert!(format!("{timer:?}").contains("connections"));
}
