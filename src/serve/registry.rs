//! The connections of a server, and what they are told.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::Waker;

use parking_lot::Mutex;

use super::stats::{Event, Stats};
use crate::clock::{Elapsed, Instant};
use crate::deadline::Deadline;
use crate::time::Instant as Active;

/// All that a server, its handles and its connections share.
#[derive(Debug, Default)]
pub(super) struct Registry {
    pub(super) stats: Stats,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    next_id: u64,
    connections: HashMap<u64, Arc<Connection>>,
    /// Set when there is to be a drain: when its grace ends.
    drained_by: Option<Active>,
    /// Of whoever accepts, and then waits for connections to end.
    server: Option<Waker>,
}

impl Registry {
    /// Takes note of whom to wake when connections end or there is to be a drain. Returns when that is to be
    /// over, if there is to be one, and how many connections there are.
    pub(super) fn watch(&self, waker: &Waker) -> (Option<Active>, usize) {
        // Nothing of another's is called under the lock, and a waker is that.
        let server = Some(waker.clone());
        let mut inner = self.inner.lock();
        let before = std::mem::replace(&mut inner.server, server);
        let seen = (inner.drained_by, inner.connections.len());
        drop(inner);
        drop(before);
        seen
    }

    pub(super) fn add(self: &Arc<Self>) -> Ticket {
        let mut inner = self.inner.lock();
        let id = inner.next_id;
        inner.next_id += 1;
        let connection = Arc::new(Connection::new(self.stats.clone()));
        inner.connections.insert(id, connection.clone());
        self.stats.opened();
        Ticket { id, registry: self.clone(), connection }
    }

    fn remove(&self, id: u64) {
        let mut inner = self.inner.lock();
        let removed = inner.connections.remove(&id);
        let server = inner.server.take();
        drop(inner);
        drop(removed);
        self.stats.ended();
        if let Some(server) = server {
            server.wake();
        }
    }

    /// Has the server drain, by `by` or what was told before if that is earlier.
    pub(super) fn drain(&self, by: Active) {
        let mut inner = self.inner.lock();
        let by = inner.drained_by.map_or(by, |before| before.min(by));
        inner.drained_by = Some(by);
        let server = inner.server.take();
        drop(inner);
        if let Some(server) = server {
            server.wake();
        }
    }

    pub(super) fn tell_all(&self, order: Order) {
        let connections: Vec<_> = self.inner.lock().connections.values().cloned().collect();
        for connection in connections {
            connection.tell(order);
        }
    }
}

/// The place of a connection among the others, which it leaves when this is dropped.
#[derive(Debug)]
pub(super) struct Ticket {
    id: u64,
    registry: Arc<Registry>,
    connection: Arc<Connection>,
}

impl Ticket {
    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.registry.remove(self.id);
    }
}

/// So many streams may end with an answer that there was no room for.
const MOST_NOT_TAKEN: usize = 1 << 16;

/// What a connection is told. Later ones are stronger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Order {
    GoOn,
    /// To take no more calls, and end after those that there are.
    Drain,
    /// To end.
    Close,
}

/// Where a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum State {
    Handshake,
    Detecting,
    Http1,
    Http2,
}

/// What is known of a connection, by its task and by others.
#[derive(Debug)]
pub(super) struct Connection {
    stats: Stats,
    state: AtomicU8,
    order: AtomicU8,
    /// That of its task.
    task: Mutex<Option<Waker>>,
    /// Streams of HTTP/2 that there are.
    streams: AtomicUsize,
    /// The deadline of the last call over HTTP/1, in nanoseconds, and whether its answer hasn't been handed
    /// over to the end.
    call_ns: AtomicU64,
    is_called: AtomicBool,
    /// Streams that ended with an answer that there was no room for.
    not_taken: AtomicUsize,
    /// Whether there is more of the body of that call's request, as far as its handler has read it. One that is
    /// small counts as read.
    is_uploading: AtomicBool,
    /// Whether the socket has taken less than it was given.
    is_blocked: AtomicBool,
    is_cut: AtomicBool,
    has_read: AtomicBool,
}

// Ordering: Relaxed, all. An order is stored before the task's waker is looked for, under its lock, and looked
// for after that has been left there, under the same lock: one of the two sees the other. All else is either a
// number, or is written and read by the connection's own task; but for the end of an upload, which matters to
// nobody if its handler gives it to a task of its own.
impl Connection {
    fn new(stats: Stats) -> Self {
        Self {
            stats,
            state: AtomicU8::new(State::Handshake as u8),
            order: AtomicU8::new(Order::GoOn as u8),
            task: Mutex::new(None),
            streams: AtomicUsize::new(0),
            call_ns: AtomicU64::new(Deadline::NEVER.instant().as_nanos()),
            is_called: AtomicBool::new(false),
            not_taken: AtomicUsize::new(0),
            is_uploading: AtomicBool::new(false),
            is_blocked: AtomicBool::new(false),
            is_cut: AtomicBool::new(false),
            has_read: AtomicBool::new(false),
        }
    }

    pub(super) fn count(&self, event: Event) {
        self.stats.count(event);
    }

    pub(super) fn enter(&self, state: State) {
        self.state.store(state as u8, Relaxed);
    }

    fn tell(&self, order: Order) {
        self.order.fetch_max(order as u8, Relaxed);
        let task = self.task.lock().take();
        if let Some(task) = task {
            task.wake();
        }
    }

    /// Takes note of whom to wake when it is told something, and returns what it has been told.
    pub(super) fn listen(&self, waker: &Waker) -> Order {
        let is_known = self.task.lock().as_ref().is_some_and(|task| task.will_wake(waker));
        if !is_known {
            // Nothing of another's is called under the lock, and a waker is that.
            let task = Some(waker.clone());
            let before = std::mem::replace(&mut *self.task.lock(), task);
            drop(before);
        }
        self.order()
    }

    pub(super) fn order(&self) -> Order {
        match self.order.load(Relaxed) {
            0 => Order::GoOn,
            1 => Order::Drain,
            _ => Order::Close,
        }
    }

    pub(super) fn stream_begins(&self) {
        self.streams.fetch_add(1, Relaxed);
        self.stats.count(Event::Stream);
    }

    pub(super) fn stream_ends(&self) {
        self.streams.fetch_sub(1, Relaxed);
    }

    /// A stream has ended with an answer that there was no room for. Should that be so because the connection's
    /// window is shut, then h2 0.4.20 keeps what it knows of the stream until the connection ends, some 400 bytes:
    /// after [many](MOST_NOT_TAKEN), that has to come.
    pub(super) fn not_taken(&self) {
        if self.not_taken.fetch_add(1, Relaxed) + 1 == MOST_NOT_TAKEN {
            self.tell(Order::Drain);
        }
    }

    pub(super) fn call_begins(&self, deadline: Deadline) {
        self.call_ns.store(deadline.instant().as_nanos(), Relaxed);
        self.is_called.store(true, Relaxed);
    }

    pub(super) fn call_ends(&self) {
        self.is_called.store(false, Relaxed);
    }

    /// By when the connection is to be done with the call that it has, over HTTP/1: as long as there is one; and,
    /// since the peer may not read, as long as the socket hasn't taken what was left of its answer.
    pub(super) fn due(&self) -> Deadline {
        if !self.is_called.load(Relaxed) && !self.is_blocked.load(Relaxed) {
            return Deadline::NEVER;
        }
        Deadline::at(Instant::<Elapsed>::from_nanos(self.call_ns.load(Relaxed)))
    }

    pub(super) fn set_uploading(&self, is_uploading: bool) {
        self.is_uploading.store(is_uploading, Relaxed);
    }

    pub(super) fn is_uploading(&self) -> bool {
        self.is_uploading.load(Relaxed)
    }

    pub(super) fn set_blocked(&self, is_blocked: bool) {
        self.is_blocked.store(is_blocked, Relaxed);
    }

    /// Takes note that something has come.
    pub(super) fn read(&self) {
        self.has_read.store(true, Relaxed);
    }

    /// Whether anything has come since this was asked last.
    pub(super) fn has_read(&self) -> bool {
        self.has_read.swap(false, Relaxed)
    }

    /// From now on, its end is to look like one.
    pub(super) fn cut(&self) {
        self.is_cut.store(true, Relaxed);
        self.stats.count(Event::CutConnection);
    }

    pub(super) fn is_cut(&self) -> bool {
        self.is_cut.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
    use std::task::Wake;

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    #[test]
    fn a_connection_is_woken_by_what_it_is_told_and_an_order_is_never_taken_back() {
        let registry = Arc::new(Registry::default());
        let ticket = registry.add();
        let woken = Arc::new(Woken::default());
        let waker = Waker::from(woken.clone());
        assert_eq!(ticket.connection().listen(&waker), Order::GoOn);
        registry.tell_all(Order::Close);
        assert_eq!(woken.0.load(SeqCst), 1);
        registry.tell_all(Order::Drain);
        assert_eq!(ticket.connection().listen(&waker), Order::Close);
    }

    #[test]
    fn a_call_is_due_until_it_is_answered_and_the_answer_taken() {
        let connection = Connection::new(Stats::default());
        assert!(connection.due().is_never());
        let deadline = Deadline::at(Instant::from_nanos(7));
        connection.call_begins(deadline);
        assert_eq!(connection.due(), deadline);
        connection.set_blocked(true);
        connection.call_ends();
        assert_eq!(connection.due(), deadline);
        connection.set_blocked(false);
        assert!(connection.due().is_never());
    }

    #[test]
    fn a_connection_whose_peer_takes_no_answers_has_an_end() {
        let connection = Connection::new(Stats::default());
        for _ in 1..MOST_NOT_TAKEN {
            connection.not_taken();
        }
        assert_eq!(connection.order(), Order::GoOn);
        connection.not_taken();
        assert_eq!(connection.order(), Order::Drain);
    }

    #[test]
    fn the_server_is_woken_when_a_connection_ends_and_when_it_is_to_drain() {
        let registry = Arc::new(Registry::default());
        let woken = Arc::new(Woken::default());
        let ticket = registry.add();
        assert_eq!(registry.watch(&Waker::from(woken.clone())), (None, 1));
        drop(ticket);
        assert_eq!((woken.0.load(SeqCst), registry.stats.connections()), (1, 0));
        registry.watch(&Waker::from(woken.clone()));
        registry.drain(Active::from_nanos(7));
        registry.drain(Active::from_nanos(9));
        assert_eq!(woken.0.load(SeqCst), 2);
        assert_eq!(registry.watch(Waker::noop()), (Some(Active::from_nanos(7)), 0));
    }
}
