//! The way to `stock`, which can go dead: connections stay, and nothing comes through.

use std::io;
use std::net::Ipv4Addr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Passes on what comes, in both directions, on the runtime of who has made it.
#[derive(Debug)]
pub(super) struct Link {
    port: u16,
    is_dead: watch::Sender<bool>,
}

impl Link {
    pub(super) async fn to(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let own = listener.local_addr()?.port();
        let (is_dead, told) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let Ok(far) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await else { return };
                for end in [&near, &far] {
                    let _ = end.set_nodelay(true);
                }
                let (near_read, near_write) = near.into_split();
                let (far_read, far_write) = far.into_split();
                tokio::spawn(pass(near_read, far_write, told.clone()));
                tokio::spawn(pass(far_read, near_write, told.clone()));
            }
        });
        Ok(Self { port: own, is_dead })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// From now on nothing comes through; what is sent meanwhile does when this is taken back.
    pub(super) fn set_dead(&self, is_dead: bool) {
        self.is_dead.send_replace(is_dead);
    }
}

async fn pass(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut is_dead: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        if is_dead.wait_for(|dead| !dead).await.is_err() {
            return Ok(());
        }
        if read == 0 {
            return to.shutdown().await;
        }
        to.write_all(&buffer[..read]).await?;
    }
}
