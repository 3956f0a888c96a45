//! One timeout for a whole call: connecting, sending and receiving share it.
//!
//! ```text
//! cargo run --example timeout_rpc
//! ```
//!
//! A timeout for each step adds up to three times what the caller wanted to wait. One around all of
//! them does not, and costs less.

use std::io;
use std::net::SocketAddr;

use deadbeat::time::{Duration, Instant, sleep, timeout};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// How long a call may take, from the first packet to the last byte of its answer.
const CALL_TIMEOUT: Duration = Duration::from_millis(100);

/// Sends a line, and returns the one that comes back.
async fn call(server: SocketAddr, request: &str) -> io::Result<String> {
    let exchange = async {
        let mut stream = TcpStream::connect(server).await?;
        stream.write_all(format!("{request}\n").as_bytes()).await?;
        let mut answer = String::new();
        if BufReader::new(stream).read_line(&mut answer).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(answer.trim_end().to_owned())
    };
    // Dropping `exchange` closes the connection: a late answer can't be taken for the next one.
    timeout(CALL_TIMEOUT, exchange).await.unwrap_or_else(|elapsed| Err(elapsed.into()))
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let server = listener.local_addr()?;
    tokio::spawn(serve(listener));

    for request in ["fast", "slow", "dead"] {
        let start = Instant::now();
        match call(server, request).await {
            Ok(answer) => println!("{request}: {answer:?} after {:.1?}", start.elapsed()),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                println!("{request}: gave up after {:.1?}", start.elapsed());
            }
            Err(error) => println!("{request}: {error} after {:.1?}", start.elapsed()),
        }
    }
    Ok(())
}

/// Answers at once, late, or never, as it is asked to.
async fn serve(listener: TcpListener) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            let mut stream = BufReader::new(stream);
            let mut request = String::new();
            stream.read_line(&mut request).await?;
            match request.trim_end() {
                "dead" => return Ok(()),
                "slow" => sleep(10 * CALL_TIMEOUT).await,
                _ => {}
            }
            stream.write_all(b"done\n").await
        });
    }
}
