//! Where connections come from.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
#[cfg(unix)]
use std::path::{Path, PathBuf};
use std::task::{Context, Poll};

use super::wire::Socket;

/// A socket that listens, and what holds for its clients.
///
/// Made of one that is bound already, of `std` or of tokio, TCP or Unix; or by [`bind`](Self::bind) and
/// [`bind_unix`](Self::bind_unix).
///
/// # Examples
///
/// ```
/// use deadbeat::serve::{Listener, Server};
///
/// # fn main() -> std::io::Result<()> {
/// let app: axum::Router = axum::Router::new();
/// let server = Server::http(app)
///     .listen(Listener::bind("127.0.0.1:0")?)
///     // What only our own services reach.
///     .listen(Listener::bind("127.0.0.1:0")?.trusted(true));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use]
pub struct Listener {
    pub(super) socket: Bound,
    pub(super) trusted: bool,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<std::sync::Arc<super::rustls::ServerConfig>>,
}

/// A socket that isn't polled yet.
#[derive(Debug)]
pub(super) enum Bound {
    StdTcp(std::net::TcpListener),
    Tcp(tokio::net::TcpListener),
    #[cfg(unix)]
    StdUnix(std::os::unix::net::UnixListener),
    #[cfg(unix)]
    Unix(tokio::net::UnixListener),
}

impl Listener {
    fn new(socket: Bound) -> Self {
        Self {
            socket,
            trusted: false,
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// Listens on the first of the addresses that can be bound. Port 0 is any that is free:
    /// [`Server::addresses`](super::Server::addresses) tells which.
    ///
    /// # Errors
    ///
    /// None could be; or the name isn't known.
    pub fn bind(address: impl ToSocketAddrs) -> io::Result<Self> {
        std::net::TcpListener::bind(address).map(Self::from)
    }

    /// Listens on a Unix socket, which must not exist. It stays when the server has ended.
    ///
    /// # Errors
    ///
    /// It couldn't be bound.
    #[cfg(unix)]
    pub fn bind_unix(path: impl AsRef<Path>) -> io::Result<Self> {
        std::os::unix::net::UnixListener::bind(path).map(Self::from)
    }

    /// Whether only your own services reach it. Default: no.
    ///
    /// Its clients may ask for more time than the default, as with
    /// [`ServerLayer::trusted`](crate::propagation::http::ServerLayer); and may reset more streams, and send
    /// more small frames, as [`Server::max_pending_resets`](super::Server::max_pending_resets),
    /// [`Server::max_error_resets`](super::Server::max_error_resets) and
    /// [`Server::data_frame_budget`](super::Server::data_frame_budget) tell.
    pub fn trusted(mut self, trusted: bool) -> Self {
        self.trusted = trusted;
        self
    }

    /// Speaks TLS. A config without ALPN protocols gets `h2`, and `http/1.1` if the server speaks that.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    /// use deadbeat::serve::{Listener, rustls};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let made = rcgen::generate_simple_self_signed(vec!["localhost".into()])?;
    /// # let certificates = vec![made.cert.der().clone()];
    /// # let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der())?;
    /// let config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
    ///     .with_safe_default_protocol_versions()?
    ///     .with_no_client_auth()
    ///     .with_single_cert(certificates, key)?;
    /// let listener = Listener::bind("127.0.0.1:0")?.tls(Arc::new(config));
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "tls")]
    pub fn tls(mut self, config: std::sync::Arc<super::rustls::ServerConfig>) -> Self {
        self.tls = Some(config);
        self
    }

    /// Where it listens.
    ///
    /// # Errors
    ///
    /// The system doesn't say.
    pub fn address(&self) -> io::Result<Address> {
        Ok(match &self.socket {
            Bound::StdTcp(it) => Address::Tcp(it.local_addr()?),
            Bound::Tcp(it) => Address::Tcp(it.local_addr()?),
            #[cfg(unix)]
            Bound::StdUnix(it) => Address::unix(it.local_addr()?.as_pathname()),
            #[cfg(unix)]
            Bound::Unix(it) => Address::unix(it.local_addr()?.as_pathname()),
        })
    }
}

impl From<std::net::TcpListener> for Listener {
    fn from(it: std::net::TcpListener) -> Self {
        Self::new(Bound::StdTcp(it))
    }
}

impl From<tokio::net::TcpListener> for Listener {
    fn from(it: tokio::net::TcpListener) -> Self {
        Self::new(Bound::Tcp(it))
    }
}

#[cfg(unix)]
impl From<std::os::unix::net::UnixListener> for Listener {
    fn from(it: std::os::unix::net::UnixListener) -> Self {
        Self::new(Bound::StdUnix(it))
    }
}

#[cfg(unix)]
impl From<tokio::net::UnixListener> for Listener {
    fn from(it: tokio::net::UnixListener) -> Self {
        Self::new(Bound::Unix(it))
    }
}

impl Bound {
    /// Has tokio poll it.
    pub(super) fn start(self) -> io::Result<Accepting> {
        Ok(match self {
            Self::StdTcp(it) => {
                it.set_nonblocking(true)?;
                Accepting::Tcp(tokio::net::TcpListener::from_std(it)?)
            }
            Self::Tcp(it) => Accepting::Tcp(it),
            #[cfg(unix)]
            Self::StdUnix(it) => {
                it.set_nonblocking(true)?;
                Accepting::Unix(tokio::net::UnixListener::from_std(it)?)
            }
            #[cfg(unix)]
            Self::Unix(it) => Accepting::Unix(it),
        })
    }
}

/// One that is.
#[derive(Debug)]
pub(super) enum Accepting {
    Tcp(tokio::net::TcpListener),
    #[cfg(unix)]
    Unix(tokio::net::UnixListener),
}

impl Accepting {
    pub(super) fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(Socket, Address)>> {
        match self {
            Self::Tcp(it) => it.poll_accept(cx).map_ok(|(tcp, address)| {
                // As tonic does. A socket that is gone already will say so when it is read.
                let _ = tcp.set_nodelay(true);
                (Socket::Tcp(tcp), Address::Tcp(address))
            }),
            #[cfg(unix)]
            Self::Unix(it) => it.poll_accept(cx).map_ok(|(unix, address)| {
                (Socket::Unix(unix), Address::unix(address.as_pathname()))
            }),
        }
    }
}

/// Where a socket is, on either side.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Address {
    /// A host's address and a port.
    Tcp(SocketAddr),
    /// The path of a Unix socket; none for one without a name.
    #[cfg(unix)]
    Unix(Option<PathBuf>),
}

impl Address {
    #[cfg(unix)]
    fn unix(path: Option<&Path>) -> Self {
        Self::Unix(path.map(Path::to_path_buf))
    }

    /// That of TCP, if it is one.
    #[must_use]
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(address) => Some(*address),
            #[cfg(unix)]
            Self::Unix(_) => None,
        }
    }
}

/// Who has made a request: an extension of it, with [`Server::peers`](super::Server::peers).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Peer {
    /// Its address.
    pub address: Address,
    /// Whether it has come by a listener that is [trusted](Listener::trusted).
    pub trusted: bool,
}
