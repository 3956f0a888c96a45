//! The tasks of HTTP/2's streams, which end at the deadlines of their calls.
//!
//! hyper calls the service when a head has been read, and gives what is to become of it to its executor, right
//! after and on the same thread: between the two, the deadline is left in a thread-local. From there on a
//! stream has its own timer, so that it doesn't depend on being woken or polled by anybody else: a handler's
//! answer whose window is shut isn't.

use std::cell::Cell;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use pin_project_lite::pin_project;

use super::registry::Connection;
use super::stats::Event;
use crate::clock::Elapsed;
use crate::deadline::Deadline;
use crate::time::{Sleep, sleep_until};

thread_local! {
    /// That of the call that was made last, for the task that is spawned next.
    static DEADLINE: Cell<Deadline> = const { Cell::new(Deadline::NEVER) };
}

/// Leaves a deadline for the stream that is spawned next, on this thread.
pub(super) fn hand_over(deadline: Deadline) {
    DEADLINE.set(deadline);
}

/// hyper's executor for one connection of HTTP/2: tokio's tasks, with a deadline each.
#[derive(Clone, Debug)]
pub(super) struct Streams(Arc<Connection>);

impl Streams {
    pub(super) fn of(connection: &Arc<Connection>) -> Self {
        Self(connection.clone())
    }
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, future: F) {
        let deadline = DEADLINE.replace(Deadline::NEVER);
        tokio::spawn(Stream::new(future, deadline, self.0.clone()));
    }
}

pin_project! {
    /// A stream that is dropped at its deadline, which resets it with CANCEL.
    ///
    /// It is polled once more before that, so that an answer or a status that can be sent is.
    struct Stream<F> {
        #[pin]
        inner: Option<F>,
        deadline: Deadline,
        // Made when it has to wait.
        sleep: Option<Sleep<Elapsed>>,
        counted: Counted,
    }
}

impl<F> Stream<F> {
    fn new(inner: F, deadline: Deadline, connection: Arc<Connection>) -> Self {
        connection.stream_begins();
        Self { inner: Some(inner), deadline, sleep: None, counted: Counted(connection) }
    }
}

impl<F: Future<Output = ()>> Future for Stream<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let Some(inner) = this.inner.as_mut().as_pin_mut() else { return Poll::Ready(()) };
        if inner.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if this.deadline.is_never() {
            return Poll::Pending;
        }
        let at = this.deadline.instant();
        let sleep = this.sleep.get_or_insert_with(|| sleep_until(at));
        if Pin::new(sleep).poll(cx).is_pending() {
            return Poll::Pending;
        }
        if let Some(inner) = this.inner.as_mut().as_pin_mut()
            && inner.poll(cx).is_pending()
        {
            this.counted.0.count(Event::CutStream);
            this.inner.set(None);
        }
        Poll::Ready(())
    }
}

/// A stream of a connection's, as long as this lives.
struct Counted(Arc<Connection>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.stream_ends();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Manual;
    use crate::serve::registry::Registry;
    use crate::time::Duration;
    use std::future::{pending, poll_fn};

    const MS: Duration = Duration::from_millis(1);

    /// Runs a stream with 300 ms. Returns how often it was cut.
    async fn run(future: impl Future<Output = ()>) -> u64 {
        let registry = Arc::new(Registry::default());
        let ticket = registry.add();
        let deadline = Deadline::after(300 * MS);
        Stream::new(future, deadline, ticket.connection().clone()).await;
        registry.stats.cut_streams()
    }

    #[test]
    fn a_stream_is_dropped_at_its_deadline() {
        let manual = Manual::new();
        manual.block_on(async {
            let start = manual.now();
            assert_eq!(run(pending()).await, 1);
            assert_eq!(manual.now(), start + 300 * MS);
        });
    }

    #[test]
    fn what_is_ready_at_the_deadline_is_not_dropped() {
        let manual = Manual::new();
        manual.block_on(async {
            let deadline = Deadline::after(300 * MS);
            // Nobody wakes it but the stream's own timer.
            let late =
                poll_fn(|_| if deadline.is_expired() { Poll::Ready(()) } else { Poll::Pending });
            assert_eq!(run(late).await, 0);
        });
    }

    #[test]
    fn a_deadline_is_handed_to_one_stream_only() {
        hand_over(Deadline::after(MS));
        assert!(!DEADLINE.replace(Deadline::NEVER).is_never());
        assert!(DEADLINE.get().is_never());
    }
}
