//! One connection of HTTP/2: what its calls share, and the task that drives it.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use h2::{Ping, PingPong};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::Handle;

use super::call::Call;
use super::config::Config;
use super::resets::Resets;
use super::slots::Slots;
use super::stats::Counts;
use crate::Timekeeper;
use crate::propagation::Rtt;
use crate::time::{Instant, Sleep, sleep_until};

/// Of streams, and of the connection. As hyper's client.
const STREAM_WINDOW: u32 = 2 << 20;
const CONNECTION_WINDOW: u32 = 5 << 20;

/// How far frames of data may be smaller than 256 bytes, in the sum of those that nobody has read: among them, what comes
/// for calls that have ended. h2 would end the connection after some ten thousand frames.
const SMALL_FRAMES: usize = 64 << 20;

/// How old the round trip may be before a call has it measured anew.
const RTT_AGE: Duration = Duration::from_secs(10);

/// What a call needs of a connection that is there.
#[derive(Clone)]
pub(super) struct Ready {
    pub(super) send: SendRequest<Bytes>,
    pub(super) shared: Arc<Shared>,
}

impl Ready {
    /// Whether calls may be begun on it: it is there, and its peer hasn't said GOAWAY.
    pub(super) fn is_open(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        !matches!(self.send.clone().poll_ready(&mut cx), Poll::Ready(Err(_)))
    }
}

/// What the calls of a connection share with its driver. It keeps no handle of the connection, which ends
/// with the last one.
pub(super) struct Shared {
    pub(super) slots: Arc<Slots>,
    pub(super) runtime: Handle,
    pub(super) timekeeper: Timekeeper,
    counts: Arc<Counts>,
    rtt: Rtt,
    graves: Mutex<Graves>,
    driver: Mutex<Option<Waker>>,
    /// When the round trip was asked for last.
    rtt_asked_ns: AtomicU64,
}

/// Streams whose calls have failed, and that aren't reset yet.
struct Graves {
    resets: Resets,
    /// By stream: the oldest are reset first, as a server comes to accept them first.
    waiting: BTreeMap<u32, Arc<Call>>,
    last_opened: u32,
    /// Whether the peer has answered anything since the last PING.
    is_heard: bool,
    /// Whether the connection is: nothing is sent any more, and so nothing waits.
    is_over: bool,
}

impl Shared {
    pub(super) fn new(config: &Config, counts: Arc<Counts>, rtt: Rtt) -> Arc<Self> {
        let timekeeper = Timekeeper::current();
        let resets = Resets::new(config.reset_rate, timekeeper.now());
        Arc::new(Self {
            slots: Slots::new(),
            runtime: Handle::current(),
            timekeeper,
            counts,
            rtt,
            graves: Mutex::new(Graves {
                resets,
                waiting: BTreeMap::new(),
                last_opened: 0,
                is_heard: false,
                is_over: false,
            }),
            driver: Mutex::new(None),
            rtt_asked_ns: AtomicU64::new(0),
        })
    }

    fn wake_driver(&self) {
        let driver = self.driver.lock().clone();
        if let Some(driver) = driver {
            driver.wake();
        }
    }

    pub(super) fn opened(&self, stream: u32) {
        let mut graves = self.graves.lock();
        graves.last_opened = graves.last_opened.max(stream);
    }

    /// The peer has begun to answer this stream.
    pub(super) fn answered(&self, stream: u32) {
        let mut graves = self.graves.lock();
        graves.is_heard = true;
        graves.resets.answered(stream);
        let has_waiting = graves.resets.waiting() > 0;
        drop(graves);
        // Ordering: Relaxed: that one of those who come at once asks is enough.
        let asked = self.rtt_asked_ns.load(Relaxed);
        let age = self.timekeeper.now().as_nanos().saturating_sub(asked);
        if has_waiting || u128::from(age) > RTT_AGE.as_nanos() {
            self.wake_driver();
        }
    }

    /// Resets the stream of a call that has failed: now, or when it may be.
    pub(super) fn bury(self: &Arc<Self>, call: &Arc<Call>) {
        // One that the peer has ended, which nobody has seen yet, needs no reset.
        if call.poll_drained(&mut Context::from_waker(Waker::noop())).is_ready() {
            return;
        }
        let now = self.timekeeper.now();
        let mut graves = self.graves.lock();
        let last_opened = graves.last_opened;
        let may = graves.is_over || graves.resets.ask(now, last_opened);
        if !may {
            graves.waiting.insert(call.stream(), call.clone());
        }
        let wants_ping = graves.resets.wants_ping(now);
        drop(graves);
        if may {
            self.counts.reset();
            call.release();
        } else {
            self.counts.withheld();
            self.runtime.spawn(drain(call.clone()));
        }
        if wants_ping || !may {
            self.wake_driver();
        }
    }

    /// One that waited has ended by itself.
    fn has_ended(&self, call: &Arc<Call>) {
        let mut graves = self.graves.lock();
        if let Some(ended) = graves.waiting.remove(&call.stream()) {
            graves.resets.give_up();
            drop(graves);
            self.counts.spared();
            drop(ended);
        }
    }

    /// Those that may be reset now, and when the next may.
    fn due(&self, now: Instant) -> (Vec<Arc<Call>>, Option<Instant>) {
        let mut graves = self.graves.lock();
        let mut due = vec![];
        let last_opened = graves.last_opened;
        while graves.resets.ask_again(now, last_opened) {
            due.extend(graves.waiting.pop_first().map(|(_, call)| call));
        }
        let next = graves.resets.next_at().filter(|_| graves.resets.waiting() > 0);
        (due, next)
    }
}

async fn drain(call: Arc<Call>) {
    let has_ended = poll_fn(|cx| call.poll_drained(cx)).await;
    if has_ended {
        call.shared().has_ended(&call);
    }
}

/// Drives a connection until it has ended.
pub(super) struct Driver<T> {
    h2: Connection<T, Bytes>,
    shared: Arc<Shared>,
    pings: Option<PingPong>,
    pinged_at: Option<Instant>,
    sleep: Option<Pin<Box<Sleep>>>,
    max_streams: usize,
}

/// Says the preface.
pub(super) async fn handshake<T>(
    io: T,
    config: &Config,
    shared: Arc<Shared>,
) -> Result<(SendRequest<Bytes>, Driver<T>), h2::Error>
where
    T: AsyncRead + AsyncWrite + Unpin,
{
    let (send, mut h2) = h2::client::Builder::new()
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_header_list_size(config.max_header_list_size)
        .data_frame_budget(SMALL_FRAMES)
        .enable_push(false)
        // None before the peer has said how many: its settings say so, or that there is no limit.
        .initial_max_send_streams(0)
        .handshake::<T, Bytes>(io)
        .await?;
    let pings = h2.ping_pong();
    let max_streams = config.max_in_flight;
    Ok((send, Driver { h2, shared, pings, pinged_at: None, sleep: None, max_streams }))
}

impl<T: AsyncRead + AsyncWrite + Unpin> Driver<T> {
    /// Until the peer has said its preface, or the connection has failed.
    pub(super) async fn hear(&mut self) -> Result<(), Option<h2::Error>> {
        poll_fn(|cx| match self.poll(cx) {
            Poll::Ready(Ok(())) => Poll::Ready(Err(None)),
            Poll::Ready(Err(error)) => Poll::Ready(Err(Some(error))),
            Poll::Pending if self.h2.max_concurrent_send_streams() > 0 => Poll::Ready(Ok(())),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    pub(super) async fn run(mut self) {
        // Not before the preface, which takes a peer as long as it likes: that is no round trip.
        self.ping();
        // What has failed is told to the calls that are open, and those to come get another connection.
        let _ = poll_fn(|cx| self.poll(cx)).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        let mut driver = self.shared.driver.lock();
        let old = driver
            .as_ref()
            .is_none_or(|waker| !waker.will_wake(cx.waker()))
            .then(|| driver.replace(cx.waker().clone()));
        drop(driver);
        drop(old);
        loop {
            self.poll_pong(cx);
            let wait = self.reset_due();
            if wants_ping(&self.shared, self.pinged_at.is_some()) {
                self.ping();
                // It has to be asked for the answer.
                continue;
            }
            match wait {
                Some(at) if !self.sleep_is_pending(at, cx) => {}
                _ => break,
            }
        }
        let polled = Pin::new(&mut self.h2).poll(cx);
        let limit = self.h2.max_concurrent_send_streams().min(self.max_streams);
        self.shared.slots.set_limit(limit);
        polled
    }

    fn sleep_is_pending(&mut self, at: Instant, cx: &mut Context<'_>) -> bool {
        let sleep = self.sleep.get_or_insert_with(|| Box::pin(sleep_until(at)));
        if sleep.deadline() != at {
            sleep.as_mut().reset(at);
        }
        sleep.as_mut().poll(cx).is_pending()
    }

    fn reset_due(&mut self) -> Option<Instant> {
        let (due, next) = self.shared.due(self.shared.timekeeper.now());
        for call in due {
            self.shared.counts.reset();
            call.release();
        }
        next
    }

    fn ping(&mut self) {
        let Some(pings) = &mut self.pings else { return };
        let now = self.shared.timekeeper.now();
        if pings.send_ping(Ping::opaque()).is_ok() {
            self.pinged_at = Some(now);
            // Ordering: Relaxed: see where it is read.
            self.shared.rtt_asked_ns.store(now.as_nanos(), Relaxed);
            let mut graves = self.shared.graves.lock();
            graves.resets.ping(now);
            graves.is_heard = false;
        }
    }

    fn poll_pong(&mut self, cx: &mut Context<'_>) {
        let Some(pings) = &mut self.pings else { return };
        if self.pinged_at.is_none() {
            return;
        }
        if let Poll::Ready(pong) = pings.poll_pong(cx) {
            let sent = self.pinged_at.take();
            if let (Ok(_), Some(sent)) = (pong, sent) {
                let now = self.shared.timekeeper.now();
                self.shared.rtt.observe(now - sent);
                self.shared.graves.lock().resets.pong(now);
            }
        }
    }
}

impl<T> Drop for Driver<T> {
    /// Also with its runtime: nothing is sent any more.
    fn drop(&mut self) {
        self.shared.slots.close();
        let mut graves = self.shared.graves.lock();
        graves.is_over = true;
        let waiting = std::mem::take(&mut graves.waiting);
        drop(graves);
        for call in waiting.values() {
            call.release();
        }
    }
}

/// For the resets, or since nobody has measured the round trip for long, while the peer is being heard.
fn wants_ping(shared: &Shared, is_pinged: bool) -> bool {
    if is_pinged {
        return false;
    }
    let now = shared.timekeeper.now();
    let graves = shared.graves.lock();
    // Ordering: Relaxed: see where it is written.
    let age = now.as_nanos().saturating_sub(shared.rtt_asked_ns.load(Relaxed));
    let is_old = u128::from(age) > RTT_AGE.as_nanos();
    graves.resets.wants_ping(now) || graves.is_heard && is_old
}
