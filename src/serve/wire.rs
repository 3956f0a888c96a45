//! The bytes of a connection.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
#[cfg(unix)]
use tokio::net::UnixStream;
#[cfg(feature = "tls")]
use tokio_rustls::server::TlsStream;

use super::detect;
use super::registry::Connection;

/// A socket that was accepted.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(UnixStream),
}

/// Calls a method of `AsyncRead` or `AsyncWrite` on whichever it is.
macro_rules! whichever {
    ($self:ident . $method:ident ( $($arg:ident),* )) => {
        match $self.get_mut() {
            Self::Tcp(it) => Pin::new(it).$method($($arg),*),
            #[cfg(unix)]
            Self::Unix(it) => Pin::new(it).$method($($arg),*),
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        whichever!(self.poll_read(cx, buf))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        whichever!(self.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        whichever!(self.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(it) => it.is_write_vectored(),
            #[cfg(unix)]
            Self::Unix(it) => it.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        whichever!(self.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        whichever!(self.poll_shutdown(cx))
    }
}

/// A socket that takes note of whether its peer reads, and that ends with a reset if the connection is cut:
/// what is left in the kernel is given up then, and what has only the end of the connection for an end
/// doesn't look complete.
#[derive(Debug)]
pub(super) struct Wire {
    socket: Socket,
    connection: Arc<Connection>,
}

impl Wire {
    pub(super) fn new(socket: Socket, connection: Arc<Connection>) -> Self {
        Self { socket, connection }
    }

    fn wrote(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        self.connection.set_blocked(written.is_pending());
        written
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if self.connection.is_cut()
            && let Socket::Tcp(tcp) = &self.socket
        {
            // One that can't be set is closed as any other.
            let _ = tcp.set_zero_linger();
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let polled = Pin::new(&mut self.socket).poll_read(cx, buf);
        if buf.filled().len() > before {
            self.connection.read();
        }
        polled
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(cx, buf);
        self.wrote(written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write_vectored(cx, bufs);
        self.wrote(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// What HTTP is spoken over.
#[derive(Debug)]
pub(super) enum Channel {
    Plain(Wire),
    #[cfg(feature = "tls")]
    Tls(Box<TlsStream<Wire>>),
}

/// The same, with its first bytes looked at.
#[derive(Debug)]
pub(super) struct Io {
    channel: Channel,
    begins: [u8; detect::LENGTH],
    /// What of these has come, and what of that was read.
    filled: usize,
    read: usize,
}

macro_rules! channel {
    ($self:ident . $method:ident ( $($arg:ident),* )) => {
        match &mut $self.get_mut().channel {
            Channel::Plain(it) => Pin::new(it).$method($($arg),*),
            #[cfg(feature = "tls")]
            Channel::Tls(it) => Pin::new(&mut **it).$method($($arg),*),
        }
    };
}

impl Io {
    pub(super) fn new(channel: Channel) -> Self {
        Self { channel, begins: [0; detect::LENGTH], filled: 0, read: 0 }
    }

    /// Whether anything has come.
    pub(super) fn has_begun(&self) -> bool {
        self.filled > 0
    }

    /// What is spoken, once that can be told; `None` if the peer has gone.
    pub(super) fn poll_version(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Option<detect::Version>>> {
        loop {
            if let Some(version) = detect::detect(&self.begins[..self.filled]) {
                return Poll::Ready(Ok(Some(version)));
            }
            let mut buf = ReadBuf::new(&mut self.begins[self.filled..]);
            ready!(match &mut self.channel {
                Channel::Plain(it) => Pin::new(it).poll_read(cx, &mut buf),
                #[cfg(feature = "tls")]
                Channel::Tls(it) => Pin::new(&mut **it).poll_read(cx, &mut buf),
            })?;
            let read = buf.filled().len();
            if read == 0 {
                // A part of the preface is for HTTP/1 to refuse.
                return Poll::Ready(Ok((self.filled > 0).then_some(detect::Version::Http1)));
            }
            self.filled += read;
        }
    }
}

impl AsyncRead for Io {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.read < self.filled {
            let rest = &self.begins[self.read..self.filled];
            let n = rest.len().min(buf.remaining());
            buf.put_slice(&rest[..n]);
            self.read += n;
            return Poll::Ready(Ok(()));
        }
        channel!(self.poll_read(cx, buf))
    }
}

impl AsyncWrite for Io {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        channel!(self.poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        channel!(self.poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.channel {
            Channel::Plain(it) => it.is_write_vectored(),
            #[cfg(feature = "tls")]
            Channel::Tls(it) => it.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        channel!(self.poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        channel!(self.poll_shutdown(cx))
    }
}
