//! Whether the peer of a connection of HTTP/2 is still there.

use std::task::{Context, Poll, ready};
use std::time::Duration;

use h2::{Ping, PingPong};

use crate::time::{Instant, Sleep, sleep};

/// Asks a peer that has been silent for a sign of life. Anything that it sends is one.
pub(super) struct KeepAlive {
    interval: Duration,
    timeout: Duration,
    pings: PingPong,
    heard_at: Instant,
    is_asked: bool,
    sleep: Sleep,
}

impl KeepAlive {
    pub(super) fn new(interval: Duration, timeout: Duration, pings: PingPong) -> Self {
        let sleep = sleep(interval);
        Self { interval, timeout, pings, heard_at: Instant::now(), is_asked: false, sleep }
    }

    /// Ready once the peer hasn't answered in time. To be polled after the connection, with whether that has
    /// read anything since the last time.
    pub(super) fn poll_silent(&mut self, has_read: bool, cx: &mut Context<'_>) -> Poll<()> {
        if has_read {
            self.heard_at = Instant::now();
            self.is_asked = false;
            // Without this, none could be sent again.
            let _ = self.pings.poll_pong(cx);
        }
        loop {
            if !self.is_asked {
                let at = self.heard_at + self.interval;
                // Left where it is while it is early: it is moved when it comes.
                if self.sleep.deadline() > at {
                    self.sleep.move_to(at);
                }
            }
            ready!(std::pin::Pin::new(&mut self.sleep).poll(cx));
            if self.is_asked {
                return Poll::Ready(());
            }
            let (at, now) = (self.heard_at + self.interval, Instant::now());
            if now < at {
                self.sleep.move_to(at);
                continue;
            }
            // One that is under way already counts.
            let _ = self.pings.send_ping(Ping::opaque());
            self.is_asked = true;
            self.sleep.move_to(now + self.timeout);
        }
    }
}
