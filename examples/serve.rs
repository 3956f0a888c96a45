//! A server whose calls end at their deadlines, also when their clients don't read.
//!
//! ```text
//! cargo run --example serve --features axum,serve
//! ```
//!
//! It listens on loopback, is called in four ways, and drains.

use std::error::Error;
use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum::body::Body;
use axum::routing::get;
use deadbeat::deadline::Deadline;
use deadbeat::propagation::http::ServerLayer;
use deadbeat::serve::{Listener, Server};
use deadbeat::time::{Duration, Instant, sleep, timeout};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// What a call has that asks for nothing.
const DEFAULT: Duration = Duration::from_millis(200);
/// How long the calls that there are may take when the server ends.
const GRACE: Duration = Duration::from_secs(1);
/// No step takes longer than that.
const PATIENCE: Duration = Duration::from_secs(10);

fn app() -> Router {
    Router::new()
        .route("/left", get(async |left: Deadline| format!("{:.1?}", left.remaining())))
        .route("/slow", get(async || sleep(Duration::from_secs(60)).await))
        .route("/large", get(async || Body::from(vec![b'x'; 64 << 20])))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let layer = ServerLayer::new().default_timeout(DEFAULT);
    let server = Server::http(app())
        .deadlines(layer)
        .listen(Listener::bind("127.0.0.1:0")?)
        .listen(Listener::bind("127.0.0.1:0")?.trusted(true));
    let addresses = server.addresses()?;
    let (outside, inside) = (addresses[0].tcp().expect("TCP"), addresses[1].tcp().expect("TCP"));
    let (stats, handle) = (server.stats(), server.handle());
    let running = tokio::spawn(server.run());

    println!("who isn't trusted asks for 5 s and has {}", ask(outside, "/left", true).await?);
    println!("who is asks for 5 s and has            {}", ask(inside, "/left", true).await?);
    let start = Instant::now();
    let answer = ask(outside, "/slow", true).await?;
    println!("a handler of a minute after {:.0?}: {answer}", start.elapsed());
    let start = Instant::now();
    let read = ask(outside, "/large", false).await;
    println!("a client that doesn't read after {:.0?}: {}", start.elapsed(), read.unwrap_err());

    handle.drain(GRACE);
    timeout(PATIENCE, running).await???;
    println!("drained; {} connections, {} cut", stats.accepted(), stats.cut_connections());
    Ok(())
}

/// Asks for a path with 5 s left, and reads the body of the answer: at once, or when its time is up.
async fn ask(server: SocketAddr, path: &str, at_once: bool) -> io::Result<String> {
    let mut io = TcpStream::connect(server).await?;
    let head = format!("GET {path} HTTP/1.1\r\nhost: a\r\nconnect-timeout-ms: 5000\r\n\r\n");
    io.write_all(head.as_bytes()).await?;
    if !at_once {
        sleep(2 * DEFAULT).await;
    }
    let mut read = vec![];
    loop {
        let text = String::from_utf8_lossy(&read);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if length.and_then(|length| length.parse().ok()) == Some(body.len()) {
                return Ok(body.trim_end().to_owned());
            }
        }
        if timeout(PATIENCE, io.read_buf(&mut read)).await?? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
