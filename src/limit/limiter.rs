//! The handle, what waits for a slot, and what has one.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use super::core::{Admitted, Arrival, Core, End, Why};
use super::queue::Ticket;
use super::{Rejected, Settings, Stats};
use crate::clock::{Elapsed, Instant};
use crate::deadline::{Deadline, Provenance, current, provenance};
use crate::telemetry::{LimitMeters, Reason};
use crate::time::{Sleep, sleep_until};

/// Lets so many calls run at once, has others wait, and turns away those that would not be in time. A handle:
/// clones are one limiter.
///
/// [The module](super) tells how it decides.
///
/// # Complexity
///
/// *O*(1) a call, amortised, under one lock that is held for tens of nanoseconds; wakers are called outside of
/// it. A call that has to wait takes a place that is used again, and arms a timer if it has a deadline.
///
/// # Examples
///
/// ```
/// use deadbeat::deadline;
/// use deadbeat::limit::Limiter;
/// use deadbeat::time::{Duration, sleep};
///
/// # deadbeat::Manual::new().block_on(async {
/// let disk = Limiter::new(1);
/// let slot = disk.acquire().await.unwrap();
///
/// // Another has to wait, no longer than its deadline allows.
/// let other = deadline::scope(Duration::from_millis(50), disk.acquire()).await.unwrap();
/// assert!(other.unwrap_err().is_expired());
///
/// sleep(Duration::from_millis(20)).await;
/// drop(slot);
/// assert_eq!(disk.stats().running, 0);
/// # });
/// ```
#[derive(Clone)]
pub struct Limiter(Arc<Shared>);

struct Shared {
    core: Mutex<Core<Waker>>,
    most_queued: usize,
    meters: LimitMeters,
}

/// How many are woken between two looks at the lock.
const BATCH: usize = 32;

impl Limiter {
    /// One with these [`Settings`], or with so many slots.
    pub fn new(settings: impl Into<Settings>) -> Self {
        let settings = settings.into();
        let core = Mutex::new(Core::new(settings));
        Self(Arc::new(Shared { core, most_queued: settings.queue, meters: LimitMeters::new() }))
    }

    /// Waits for a slot, with the deadline that is [`current`] at the first poll.
    ///
    /// # Timing
    ///
    /// What is rejected on arrival is so in the first poll. What waits is rejected when it is its turn, or
    /// when its deadline comes.
    ///
    /// # Cancel safety
    ///
    /// Dropping it leaves the queue, and gives back a slot that it has got meanwhile.
    ///
    /// # Errors
    ///
    /// The call has expired or is doomed, or too many wait.
    pub fn acquire(&self) -> Acquire {
        Acquire { limiter: self.clone(), waiting: None }
    }

    /// What it has counted, and how things are now.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let now = Instant::now();
        self.0.core.lock().stats(now)
    }

    /// Comes in.
    pub(super) fn arrive(&self) -> Result<Result<Permit, Waiting>, Rejected> {
        let now = Instant::now();
        let deadline = current();
        let arrival = self.0.core.lock().arrive(now, deadline);
        match arrival {
            Arrival::Admitted(admitted) => Ok(Ok(self.permit(admitted))),
            Arrival::Queued(ticket) => {
                let provenance = provenance();
                self.settle(now, |_| ());
                let limiter = self.clone();
                let ticket = Some(ticket);
                Ok(Err(Waiting { limiter, ticket, since: now, deadline, provenance, sleep: None }))
            }
            Arrival::Rejected(why) => Err(self.rejected(why, provenance(), now)),
        }
    }

    fn permit(&self, admitted: Admitted) -> Permit {
        Permit { limiter: self.clone(), admitted: Some(admitted) }
    }

    fn rejected(
        &self,
        why: Why,
        provenance: Option<Provenance>,
        now: Instant<Elapsed>,
    ) -> Rejected {
        self.0.meters.rejected(match why {
            Why::Expired => Reason::Expired,
            Why::Doomed { .. } => Reason::Doomed,
            Why::Full { .. } => Reason::Full,
            Why::Overtaken { .. } => Reason::Overtaken,
        });
        Rejected::new(why, provenance, self.0.most_queued, now)
    }

    /// Lets `change` happen, decides about those that wait, and wakes them, outside the lock.
    fn settle(&self, now: Instant<Elapsed>, change: impl FnOnce(&mut Core<Waker>)) {
        let mut core = self.0.core.lock();
        change(&mut core);
        // As most are: without the batch.
        if core.is_settled() {
            return;
        }
        loop {
            let mut batch: [Option<Waker>; BATCH] = [const { None }; BATCH];
            let mut decided = 0;
            while decided < BATCH
                && let Some(waker) = core.settle(now)
            {
                batch[decided] = waker;
                decided += 1;
            }
            drop(core);
            for waker in batch.into_iter().take(decided).flatten() {
                // The others are to be woken all the same.
                if catch_unwind(AssertUnwindSafe(|| waker.wake())).is_err() {
                    self.0.core.lock().waker_panicked();
                }
            }
            if decided < BATCH {
                return;
            }
            core = self.0.core.lock();
        }
    }

    fn release(&self, admitted: Admitted, end: End) {
        let now = Instant::now();
        self.settle(now, |core| core.release(admitted, end, now));
    }
}

impl fmt::Debug for Limiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = *self.0.core.lock().settings();
        f.debug_struct("Limiter")
            .field("settings", &settings)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// In the queue.
pub(super) struct Waiting {
    limiter: Limiter,
    /// Until it is told.
    ticket: Option<Ticket>,
    since: Instant<Elapsed>,
    deadline: Deadline,
    provenance: Option<Provenance>,
    /// Made when it has to wait.
    sleep: Option<Sleep<Elapsed>>,
}

impl Waiting {
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<Permit, Rejected>> {
        let limiter = &self.limiter;
        let mut waker = Some(cx.waker().clone());
        let mut now = Instant::now();
        loop {
            let looked = limiter.0.core.lock().look(&mut self.ticket, &mut waker, now);
            if let Poll::Ready((verdict, _waker)) = looked {
                return Poll::Ready(match verdict {
                    Ok(admitted) => {
                        limiter.0.meters.waited(admitted.at - self.since);
                        Ok(limiter.permit(admitted))
                    }
                    Err(why) => {
                        // It may have had a slot, which came too late.
                        limiter.settle(now, |_| ());
                        Err(limiter.rejected(why, self.provenance, now))
                    }
                });
            }
            if self.deadline.is_never() {
                return Poll::Pending;
            }
            let at = self.deadline.instant();
            let sleep = self.sleep.get_or_insert_with(|| sleep_until(at));
            if Pin::new(sleep).poll(cx).is_pending() {
                return Poll::Pending;
            }
            // By the timer, if the clock has another opinion.
            now = Instant::now().max(at);
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(ticket) = self.ticket.take() {
            let mut waker = None;
            self.limiter.settle(Instant::now(), |core| waker = core.cancel(ticket));
        }
    }
}

/// The future of [`Limiter::acquire`].
#[must_use = "futures do nothing unless polled"]
pub struct Acquire {
    limiter: Limiter,
    waiting: Option<Waiting>,
}

impl Future for Acquire {
    type Output = Result<Permit, Rejected>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.waiting.is_none() {
            match self.limiter.arrive() {
                Ok(Ok(permit)) => return Poll::Ready(Ok(permit)),
                Ok(Err(waiting)) => self.waiting = Some(waiting),
                Err(rejected) => return Poll::Ready(Err(rejected)),
            }
        }
        let waiting = self.waiting.as_mut().expect("it was put there");
        let polled = waiting.poll(cx);
        if polled.is_ready() {
            self.waiting = None;
        }
        polled
    }
}

impl fmt::Debug for Acquire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquire")
            .field("is_queued", &self.waiting.is_some())
            .finish_non_exhaustive()
    }
}

/// A slot of a [`Limiter`]. Dropping it ends the call, and gives the slot to the next.
#[must_use = "the slot is free again when this is dropped"]
pub struct Permit {
    limiter: Limiter,
    admitted: Option<Admitted>,
}

impl Permit {
    /// Gives the slot back for a call that was given up before its end, so that it isn't taken for one that is
    /// served as fast as that.
    pub fn abandon(mut self) {
        self.end(End::CutOff);
    }

    fn end(&mut self, end: End) {
        if let Some(admitted) = self.admitted.take() {
            self.limiter.release(admitted, end);
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.end(End::Done);
    }
}

impl fmt::Debug for Permit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Permit")
            .field("since", &self.admitted.map(|it| it.at))
            .finish_non_exhaustive()
    }
}
