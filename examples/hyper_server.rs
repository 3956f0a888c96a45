//! An HTTP/1 and HTTP/2 server whose timeouts run on deadbeat's wheel.
//!
//! ```text
//! cargo run --example hyper_server --features hyper -- 127.0.0.1:8080
//! curl -s localhost:8080                       # answered
//! curl -s --http2-prior-knowledge localhost:8080
//! (printf 'GET / HT'; cat) | nc localhost 8080 # closed after 5 s
//! ```
//!
//! Ctrl-C stops it: no new connections, those that are busy get 10 s to finish.

use std::convert::Infallible;
use std::error::Error;
use std::pin::pin;

use deadbeat::rt::HyperTimer;
use deadbeat::time::{Duration, sleep};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::{conn::auto, graceful::GracefulShutdown};
use tokio::net::{TcpListener, TcpStream};

/// How long a client may take for the head of a request, and be idle between two.
const HEADER_READ_TIMEOUT: Duration = Duration::from_secs(5);
/// How long an HTTP/2 connection may be silent before it is asked for a sign of life.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(20);
/// How long it may take to give one.
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);
/// Keepalive of many connections shares wake-ups.
const KEEP_ALIVE_SLACK: Duration = Duration::from_secs(2);
/// How long connections may take to finish when the server stops.
const GRACE: Duration = Duration::from_secs(10);
/// How long to wait after accepting has failed: out of file descriptors, say.
const BACKOFF: Duration = Duration::from_millis(100);

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8080".to_owned());
    let listener = TcpListener::bind(&address).await?;
    println!("listening on http://{}", listener.local_addr()?);

    let server = builder();
    let connections = GracefulShutdown::new();
    let mut stop = pin!(tokio::signal::ctrl_c());
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => spawn(&server, &connections, stream),
                Err(error) => {
                    eprintln!("accept: {error}");
                    sleep(BACKOFF).await;
                }
            },
            stopped = &mut stop => {
                stopped?;
                break;
            }
        }
    }

    drop(listener);
    tokio::select! {
        () = connections.shutdown() => println!("all connections finished"),
        () = sleep(GRACE) => println!("connections were still busy after {GRACE:?}"),
    }
    Ok(())
}

fn builder() -> auto::Builder<TokioExecutor> {
    let timer = HyperTimer::new();
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(timer.clone()).header_read_timeout(HEADER_READ_TIMEOUT);
    builder
        .http2()
        .timer(timer.with_slack(KEEP_ALIVE_SLACK))
        .keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT);
    builder
}

fn spawn(server: &auto::Builder<TokioExecutor>, connections: &GracefulShutdown, io: TcpStream) {
    let connection = server.serve_connection(TokioIo::new(io), service_fn(hello)).into_owned();
    let connection = connections.watch(connection);
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            eprintln!("connection: {error}");
        }
    });
}

async fn hello(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let text = format!("{:?} {}\n", request.version(), request.uri().path());
    Ok(Response::new(Full::from(text)))
}
