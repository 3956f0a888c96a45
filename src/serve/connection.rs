//! The life of a connection: the TLS handshake, telling HTTP/2 from HTTP/1, and serving.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;

use super::config::Config;
use super::detect::Version;
use super::entry::Entry;
use super::http2;
use super::listener::Peer;
use super::registry::{Connection, Order, State, Ticket};
use super::served::Served;
use super::stats::Event;
use super::wire::{Channel, Io, Socket, Wire};
use crate::clock::Elapsed;
use crate::deadline::Deadline;
use crate::propagation::Protocol;
use crate::propagation::server::Server;
use crate::rt::HyperTimer;
use crate::time::{Sleep, sleep_until, timeout};

/// What the connections of one listener share.
pub(super) struct Setup {
    pub(super) config: Config,
    pub(super) timer: HyperTimer,
    #[cfg(feature = "tls")]
    pub(super) tls: Option<tokio_rustls::TlsAcceptor>,
}

/// Who is served, and by what.
pub(super) struct Call<S, P> {
    pub(super) service: Server<S, P>,
    pub(super) peer: Option<Peer>,
}

impl Setup {
    /// Serves it, to its end or until it is told to close.
    pub(super) async fn serve<S, P>(
        self: Arc<Self>,
        socket: Socket,
        call: Call<S, P>,
        ticket: Ticket,
    ) where
        S: Served<P>,
        P: Protocol,
    {
        let connection = ticket.connection();
        let mut serving = pin!(self.run(socket, call, connection));
        poll_fn(|cx| {
            if connection.listen(cx.waker()) == Order::Close {
                connection.count(Event::Closed);
                return Poll::Ready(());
            }
            serving.as_mut().poll(cx)
        })
        .await;
    }

    async fn run<S, P>(&self, socket: Socket, call: Call<S, P>, connection: &Arc<Connection>)
    where
        S: Served<P>,
        P: Protocol,
    {
        let wire = Wire::new(socket, connection.clone());
        let Some((channel, agreed)) = self.shake_hands(wire, connection).await else { return };
        let mut io = Io::new(channel);
        connection.enter(State::Detecting);
        let version = match agreed {
            Some(Version::Http1) => Version::Http1,
            // Also one that has agreed on HTTP/2 has to begin it, and in time: hyper waits for ever.
            _ => match self.detect(&mut io, connection).await {
                Some(Version::Http1) if agreed.is_some() => {
                    return connection.count(Event::Unrecognised);
                }
                Some(version) => version,
                None => return,
            },
        };
        match version {
            Version::Http1 if !self.config.http1 => connection.count(Event::Unrecognised),
            Version::Http1 => self.http1(io, call, connection).await,
            Version::Http2 => {
                connection.enter(State::Http2);
                if http2::serve(io, call, &self.config, connection).await.is_err() {
                    connection.count(Event::Failed);
                }
            }
        }
    }

    /// TLS, if there is to be any; and which version of HTTP has been agreed upon in it.
    #[cfg_attr(
        not(feature = "tls"),
        expect(clippy::unused_async, reason = "nothing to wait for without TLS")
    )]
    async fn shake_hands(
        &self,
        wire: Wire,
        #[cfg_attr(not(feature = "tls"), expect(unused_variables))] connection: &Connection,
    ) -> Option<(Channel, Option<Version>)> {
        #[cfg(feature = "tls")]
        if let Some(tls) = &self.tls {
            connection.enter(State::Handshake);
            let stream = match timeout(self.config.handshake_timeout, tls.accept(wire)).await {
                Ok(Ok(stream)) => stream,
                Ok(Err(_)) => {
                    connection.count(Event::FailedHandshake);
                    return None;
                }
                Err(_) => {
                    connection.count(Event::TimedOut);
                    return None;
                }
            };
            let agreed = match stream.get_ref().1.alpn_protocol() {
                Some(b"h2") => Some(Version::Http2),
                Some(b"http/1.1") => Some(Version::Http1),
                _ => None,
            };
            return Some((Channel::Tls(Box::new(stream)), agreed));
        }
        Some((Channel::Plain(wire), None))
    }

    async fn detect(&self, io: &mut Io, connection: &Connection) -> Option<Version> {
        let detecting = poll_fn(|cx| {
            let polled = io.poll_version(cx);
            if polled.is_pending() && !io.has_begun() && connection.order() != Order::GoOn {
                return Poll::Ready(Ok(None));
            }
            polled
        });
        match timeout(self.config.detection_timeout, detecting).await {
            Ok(Ok(version)) => version,
            Ok(Err(_)) => {
                connection.count(Event::Failed);
                None
            }
            Err(_) => {
                connection.count(Event::TimedOut);
                None
            }
        }
    }

    async fn http1<S, P>(&self, io: Io, call: Call<S, P>, connection: &Arc<Connection>)
    where
        S: Served<P>,
        P: Protocol,
    {
        connection.enter(State::Http1);
        let mut builder = http1::Builder::new();
        builder
            .timer(self.timer.clone())
            .header_read_timeout(self.config.header_read_timeout_or_none());
        let entry = Entry::new(call.service, call.peer, connection.clone());
        let http = builder.serve_connection(TokioIo::new(io), entry).with_upgrades();
        let mut http = pin!(http);
        let mut cutoff = Cutoff::default();
        let mut is_draining = false;
        let ended = poll_fn(|cx| {
            loop {
                if let Poll::Ready(ended) = http.as_mut().poll(cx) {
                    return Poll::Ready(Some(ended));
                }
                if !is_draining && connection.order() != Order::GoOn {
                    is_draining = true;
                    http.as_mut().graceful_shutdown();
                    continue;
                }
                match cutoff.poll(connection.due(), cx) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Due::Again) => {}
                    Poll::Ready(Due::Cut) => return Poll::Ready(None),
                }
            }
        })
        .await;
        match ended {
            // The socket is reset when it is dropped.
            None => connection.cut(),
            Some(Err(_)) => connection.count(Event::Failed),
            Some(Ok(())) => {}
        }
    }
}

/// When a connection of HTTP/1 is closed for the deadline of its call.
#[derive(Default)]
struct Cutoff {
    /// That which has passed, and was the reason to poll once more.
    passed: Option<Deadline>,
    sleep: Option<Sleep<Elapsed>>,
}

enum Due {
    /// The connection is to be polled once more: what can be sent is.
    Again,
    Cut,
}

impl Cutoff {
    /// To be polled after the connection, which is then [due](Connection::due) at `due`.
    fn poll(&mut self, due: Deadline, cx: &mut Context<'_>) -> Poll<Due> {
        if due.is_never() {
            self.sleep = None;
            self.passed = None;
            return Poll::Pending;
        }
        if self.passed == Some(due) {
            return Poll::Ready(Due::Cut);
        }
        let at = due.instant();
        let sleep = self.sleep.get_or_insert_with(|| sleep_until(at));
        if sleep.deadline() != at {
            sleep.move_to(at);
        }
        Pin::new(sleep).poll(cx).map(|()| {
            self.passed = Some(due);
            Due::Again
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Manual;
    use crate::time::Duration;

    const MS: Duration = Duration::from_millis(1);

    fn poll(cutoff: &mut Cutoff, due: Deadline) -> Option<bool> {
        let mut cx = Context::from_waker(std::task::Waker::noop());
        match cutoff.poll(due, &mut cx) {
            Poll::Pending => None,
            Poll::Ready(due) => Some(matches!(due, Due::Cut)),
        }
    }

    #[test]
    fn a_connection_is_polled_once_more_and_then_cut() {
        let manual = Manual::new();
        let _entered = manual.enter();
        let mut cutoff = Cutoff::default();
        let call = Deadline::after(300 * MS);
        assert_eq!(poll(&mut cutoff, call), None);
        manual.fast_forward(299 * MS);
        assert_eq!(poll(&mut cutoff, call), None);
        manual.fast_forward(MS);
        assert_eq!(poll(&mut cutoff, call), Some(false));
        assert_eq!(poll(&mut cutoff, call), Some(true));
    }

    #[test]
    fn one_that_has_answered_is_not_cut() {
        let manual = Manual::new();
        let _entered = manual.enter();
        let mut cutoff = Cutoff::default();
        let call = Deadline::after(300 * MS);
        assert_eq!(poll(&mut cutoff, call), None);
        assert_eq!(poll(&mut cutoff, Deadline::NEVER), None);
        manual.fast_forward(300 * MS);
        assert_eq!(poll(&mut cutoff, Deadline::NEVER), None);
    }

    #[test]
    fn the_next_call_has_its_own_deadline() {
        let manual = Manual::new();
        let _entered = manual.enter();
        let mut cutoff = Cutoff::default();
        let (first, next) = (Deadline::after(300 * MS), Deadline::after(500 * MS));
        assert_eq!(poll(&mut cutoff, first), None);
        manual.fast_forward(300 * MS);
        assert_eq!(poll(&mut cutoff, first), Some(false));
        // It was answered, and another has come.
        assert_eq!(poll(&mut cutoff, next), None);
        manual.fast_forward(200 * MS);
        assert_eq!(poll(&mut cutoff, next), Some(false));
        assert_eq!(poll(&mut cutoff, next), Some(true));
    }
}
