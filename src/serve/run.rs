//! The accept loop.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use super::backoff::Backoff;
use super::connection::{Call, Setup};
use super::listener::{Accepting, Peer};
use super::registry::{Order, Registry};
use super::served::Served;
use super::stats::Event;
use crate::propagation::Protocol;
use crate::propagation::server::Server;
use crate::time::{Instant, Sleep, sleep, sleep_until};

/// So many connections are accepted of one listener before the others have their turn.
const TURN: usize = 16;

/// A listener at work.
pub(super) struct Source<S, P> {
    accepting: Accepting,
    setup: Arc<Setup>,
    service: Server<S, P>,
    trusted: bool,
    peers: bool,
    backoff: Backoff,
    /// While it waits after an error.
    pause: Option<Sleep>,
}

impl<S, P> Source<S, P> {
    pub(super) fn new(
        accepting: Accepting,
        setup: Arc<Setup>,
        service: Server<S, P>,
        trusted: bool,
        peers: bool,
    ) -> Self {
        Self { accepting, setup, service, trusted, peers, backoff: Backoff::default(), pause: None }
    }
}

impl<S, P> Source<S, P>
where
    S: Served<P>,
    P: Protocol,
{
    /// Accepts one connection, and has it served. Never ready while there is none.
    fn poll_accept(&mut self, registry: &Arc<Registry>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if let Some(pause) = &mut self.pause {
                if Pin::new(pause).poll(cx).is_pending() {
                    return Poll::Pending;
                }
                self.pause = None;
            }
            match self.accepting.poll_accept(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok((socket, address))) => {
                    self.backoff.succeeded();
                    let peer = self.peers.then_some(Peer { address, trusted: self.trusted });
                    let call = Call { service: self.service.clone(), peer };
                    tokio::spawn(self.setup.clone().serve(socket, call, registry.add()));
                    return Poll::Ready(());
                }
                Poll::Ready(Err(error)) => {
                    registry.stats.count(Event::AcceptError);
                    self.pause = self.backoff.failed(&error).map(sleep);
                }
            }
        }
    }
}

/// Serves until it has drained.
pub(super) async fn run<S, P>(
    mut sources: Vec<Source<S, P>>,
    max_connections: usize,
    registry: Arc<Registry>,
) where
    S: Served<P>,
    P: Protocol,
{
    let all = CloseAll(registry.clone());
    let mut first = 0;
    let by = poll_fn(|cx| {
        let (drained_by, mut connections) = registry.watch(cx.waker());
        if let Some(by) = drained_by {
            return Poll::Ready(by);
        }
        // Each is the first in turn, so that under a limit none has all the room.
        let number = sources.len();
        let mut is_more = false;
        for index in (0..number).map(|n| (first + n) % number) {
            for turn in 0..=TURN {
                if connections >= max_connections {
                    break;
                }
                if turn == TURN {
                    is_more = true;
                    break;
                }
                if sources[index].poll_accept(&registry, cx).is_pending() {
                    break;
                }
                connections += 1;
            }
        }
        first = (first + 1) % number;
        if is_more {
            cx.waker().wake_by_ref();
        }
        Poll::Pending
    })
    .await;
    drop(sources);
    registry.tell_all(Order::Drain);
    wait(&registry, by).await;
    // Those that are left, if any.
    drop(all);
    poll_fn(|cx| match registry.watch(cx.waker()) {
        (_, 0) => Poll::Ready(()),
        _ => Poll::Pending,
    })
    .await;
}

/// Until there are no connections, or `by` then.
async fn wait(registry: &Registry, by: Instant) {
    let mut sleep = sleep_until(by);
    poll_fn(|cx| {
        let (drained_by, connections) = registry.watch(cx.waker());
        if connections == 0 {
            return Poll::Ready(());
        }
        if let Some(by) = drained_by
            && by != sleep.deadline()
        {
            sleep.move_to(by);
        }
        Pin::new(&mut sleep).poll(cx)
    })
    .await;
}

/// Closes all connections when it is dropped.
struct CloseAll(Arc<Registry>);

impl Drop for CloseAll {
    fn drop(&mut self) {
        self.0.tell_all(Order::Close);
    }
}
