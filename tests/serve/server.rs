//! Servers that run in a task, and what they serve.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use deadbeat::propagation::{Protocol, RequestBody};
use deadbeat::serve::{Handle, Incoming, Listener, Server, Stats};
use http::{Request, Response};
use http_body::Frame;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tower::Service;

use crate::within;

/// One that runs. Dropping it ends it.
pub(crate) struct Running {
    /// Of its first listener, if that is TCP.
    pub(crate) at: Option<SocketAddr>,
    pub(crate) stats: Stats,
    pub(crate) handle: Handle,
    task: JoinHandle<std::io::Result<()>>,
}

impl Running {
    /// Where it listens.
    pub(crate) fn at(&self) -> SocketAddr {
        self.at.expect("it listens on TCP")
    }

    /// Until it has ended.
    pub(crate) async fn ended(mut self) {
        within(&mut self.task).await.expect("no panic").expect("no error");
    }

    /// Drops the future that serves.
    pub(crate) fn drop_it(&self) {
        self.task.abort();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Has it run on a port of loopback.
pub(crate) fn start<S, B, P>(server: Server<S, P>) -> Running
where
    S: Service<Request<RequestBody<Incoming, P>>, Response = Response<B>>,
    S: Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<tower::BoxError>,
    B: http_body::Body<Data = Bytes, Error: Into<tower::BoxError>> + Send + 'static,
    P: Protocol,
{
    run(server.listen(Listener::bind("127.0.0.1:0").expect("loopback has ports")))
}

/// Has it run on what it listens on.
pub(crate) fn run<S, B, P>(server: Server<S, P>) -> Running
where
    S: Service<Request<RequestBody<Incoming, P>>, Response = Response<B>>,
    S: Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<tower::BoxError>,
    B: http_body::Body<Data = Bytes, Error: Into<tower::BoxError>> + Send + 'static,
    P: Protocol,
{
    let at = server.addresses().expect("addresses")[0].tcp();
    let (stats, handle) = (server.stats(), server.handle());
    let task = tokio::spawn(server.run());
    Running { at, stats, handle, task }
}

/// Tells when what has been given out is dropped.
pub(crate) struct Drops {
    tell: UnboundedSender<()>,
    told: UnboundedReceiver<()>,
}

impl Drops {
    pub(crate) fn new() -> Self {
        let (tell, told) = unbounded_channel();
        Self { tell, told }
    }

    pub(crate) fn guards(&self) -> Guards {
        Guards(self.tell.clone())
    }

    pub(crate) async fn one(&mut self) {
        within(self.told.recv()).await.expect("a guard");
    }

    pub(crate) fn is_none(&mut self) -> bool {
        self.told.try_recv().is_err()
    }
}

#[derive(Clone)]
pub(crate) struct Guards(UnboundedSender<()>);

impl Guards {
    pub(crate) fn one(&self) -> Guard {
        Guard(self.0.clone())
    }
}

pub(crate) struct Guard(UnboundedSender<()>);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

/// Pieces of so many bytes without an end, as fast as they are taken.
pub(crate) fn endless(piece: usize, guard: Guard) -> Body {
    Body::new(Pieces { piece: vec![b'x'; piece].into(), left: u64::MAX, _guard: Some(guard) })
}

/// So many of them, and then nothing, for ever.
pub(crate) fn stuck(pieces: u64, piece: &'static [u8], guard: Guard) -> Body {
    Body::new(Pieces { piece: piece.into(), left: pieces, _guard: Some(guard) })
}

struct Pieces {
    piece: Bytes,
    left: u64,
    _guard: Option<Guard>,
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left == 0 {
            return Poll::Pending;
        }
        self.left -= 1;
        Poll::Ready(Some(Ok(Frame::data(self.piece.clone()))))
    }
}
