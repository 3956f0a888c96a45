//! Connections that are closed when nothing has come for a while.
//!
//! ```text
//! cargo run --example idle_connections
//! ```
//!
//! Each has an [`IdleTimer`] that every message touches. A touch costs a look at the clock and a
//! store: the timer isn't cancelled and armed again, so a busy connection pays next to nothing for
//! its timeout.

use std::io;

use deadbeat::time::{Duration, IdleTimer, Instant, sleep};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// How long a client may be silent. Minutes, in a real server.
const IDLE_TIMEOUT: Duration = Duration::from_millis(200);
/// By how much closing an idle connection may be late, to share a wake-up with others.
const IDLE_SLACK: Duration = Duration::from_millis(2);

/// Why a connection has ended.
#[derive(Debug)]
enum End {
    Closed,
    Idle,
}

/// Echoes until the client closes the connection, or is idle.
async fn serve(mut stream: TcpStream) -> io::Result<End> {
    let mut idle = IdleTimer::new(IDLE_TIMEOUT).with_slack(IDLE_SLACK);
    let mut buffer = [0; 1024];
    loop {
        let read = tokio::select! {
            read = stream.read(&mut buffer) => read?,
            () = &mut idle => return Ok(End::Idle),
        };
        if read == 0 {
            return Ok(End::Closed);
        }
        idle.touch();
        // A client that doesn't read its echo is as idle as one that doesn't write.
        tokio::select! {
            written = stream.write_all(&buffer[..read]) => written?,
            () = &mut idle => return Ok(End::Idle),
        }
    }
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let server = listener.local_addr()?;

    // One says goodbye, one falls silent; both are talkative for longer than the timeout.
    for polite in [true, false] {
        let mut client = TcpStream::connect(server).await?;
        let (stream, _) = listener.accept().await?;
        let start = Instant::now();
        let connection = tokio::spawn(serve(stream));
        for _ in 0..4 {
            sleep(IDLE_TIMEOUT / 2).await;
            client.write_all(b"still here").await?;
        }
        let last = Instant::now();
        if polite {
            client.shutdown().await?;
        }
        let end = connection.await??;
        let (lived, silent) = (start.elapsed(), last.elapsed());
        println!("{end:?} after {lived:.1?}, {silent:.1?} after the last message");
    }
    Ok(())
}
