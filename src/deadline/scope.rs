//! A part of the program that has a deadline.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pin_project_lite::pin_project;

use super::ambient::Frame;
use super::open::Open;
use super::{Deadline, Expired, Origin, Provenance};
use crate::clock::{Elapsed, Instant};

/// What a [`scope()`] may take: a budget from when it is entered, or a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Limit {
    /// So long from the first poll.
    After(Duration),
    /// Until then.
    At(Deadline),
}

impl Limit {
    /// The deadline, if the scope is entered at `now`.
    pub(crate) fn deadline(self, now: Instant<Elapsed>) -> Deadline {
        match self {
            Self::After(budget) => Deadline::at(now + budget),
            Self::At(deadline) => deadline,
        }
    }
}

impl From<Duration> for Limit {
    fn from(budget: Duration) -> Self {
        Self::After(budget)
    }
}

impl From<Deadline> for Limit {
    fn from(deadline: Deadline) -> Self {
        Self::At(deadline)
    }
}

impl From<Instant<Elapsed>> for Limit {
    fn from(instant: Instant<Elapsed>) -> Self {
        Self::At(Deadline::at(instant))
    }
}

/// Runs `future` with a deadline that is [`current`](super::current) for everything inside.
///
/// The deadline is `limit`, a [`Duration`] from the first poll or a [`Deadline`]; or that of the scope
/// around it, if that is earlier. Then this one never expires: the other does, and drops it.
///
/// [`Deadline::NEVER`] and [`Duration::MAX`] set none.
///
/// # Timing
///
/// Expires never early, as [`timeout`](crate::time::timeout()) doesn't. If the future is ready in the poll
/// in which the deadline has come, that counts. If the deadline has come before the first poll, the future
/// isn't polled at all.
///
/// # Complexity
///
/// *O*(1). Allocates nothing, but for the error, and for the first scope of a thread.
///
/// # Cancel safety
///
/// Dropping it drops the future, and cancels what has inherited from it.
///
/// # Errors
///
/// The deadline of this scope came before the future was ready.
///
/// # Examples
///
/// ```
/// use deadbeat::deadline;
/// use deadbeat::time::{Duration, sleep};
///
/// # deadbeat::Manual::new().block_on(async {
/// let outer = deadline::scope(Duration::from_secs(1), async {
///     // Not this one's: its own deadline is later.
///     deadline::scope(Duration::from_secs(5), sleep(Duration::from_secs(9))).await
/// });
/// assert_eq!(outer.await.unwrap_err().budget(), Duration::from_secs(1));
/// # });
/// ```
#[track_caller]
pub fn scope<F: IntoFuture>(limit: impl Into<Limit>, future: F) -> Scope<F::IntoFuture> {
    Scope {
        future: future.into_future(),
        state: State {
            limit: limit.into(),
            origin: Origin::Place(Location::caller()),
            stage: Stage::New,
        },
    }
}

pin_project! {
    /// The future of [`scope()`].
    ///
    /// # After completion
    ///
    /// Polled again after it has expired, it is ready with the same error; after the future was ready, it
    /// polls that again.
    #[must_use = "futures do nothing unless polled"]
    pub struct Scope<F> {
        #[pin]
        future: F,
        state: State,
    }
}

/// What is dropped when the scope is.
struct State {
    limit: Limit,
    origin: Origin,
    stage: Stage,
}

enum Stage {
    New,
    Running(Open),
    Done,
    Expired(Expired),
}

impl<F> Scope<F> {
    /// Names it, for the error and for whoever asks where the deadline comes from. Without a name, it is
    /// known by its place in the source.
    pub fn named(mut self, name: &'static str) -> Self {
        self.state.origin = Origin::Scope(name);
        self
    }

    /// The same, for a framework whose scopes have other names.
    pub fn with_origin(mut self, origin: Origin) -> Self {
        self.state.origin = origin;
        self
    }

    #[cfg(feature = "tasks")]
    pub(crate) fn into_inner(self) -> F {
        self.future
    }

    /// What it runs.
    pub fn get_ref(&self) -> &F {
        &self.future
    }
}

impl State {
    /// At the first poll. An error if it is too late for it.
    fn enter(&mut self) -> Result<(), Expired> {
        let deadline = match self.limit {
            Limit::At(deadline) if deadline.is_never() => None,
            Limit::After(Duration::MAX) => None,
            limit => {
                let now = Instant::now();
                let own = Provenance::new(limit.deadline(now), self.origin, now);
                if own.deadline.instant() <= now && own.deadline < super::current() {
                    return Err(Expired::new(own, now));
                }
                Some(own)
            }
        };
        let (frame, is_own) = Frame::nested(deadline);
        self.stage = Stage::Running(Open::new(frame, is_own));
        Ok(())
    }

    fn fail(&mut self, expired: Expired) -> Expired {
        self.stage = Stage::Expired(expired.clone());
        expired
    }
}

impl<F: Future> Future for Scope<F> {
    type Output = Result<F::Output, Expired>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let (state, future) = (this.state, this.future);
        match &state.stage {
            Stage::New => {
                if let Err(expired) = state.enter() {
                    return Poll::Ready(Err(state.fail(expired)));
                }
            }
            Stage::Expired(expired) => return Poll::Ready(Err(expired.clone())),
            Stage::Running(_) => {}
            Stage::Done => return future.poll(cx).map(Ok),
        }
        let Stage::Running(open) = &mut state.stage else { unreachable!("entered above") };
        if let Poll::Ready(output) = open.enter(|| future.poll(cx)) {
            if let Stage::Running(open) = std::mem::replace(&mut state.stage, Stage::Done) {
                open.complete();
            }
            return Poll::Ready(Ok(output));
        }
        open.poll_expired(cx).map(|expired| Err(state.fail(expired)))
    }
}

impl<F: fmt::Debug> fmt::Debug for Scope<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope")
            .field("limit", &self.state.limit)
            .field("origin", &self.state.origin)
            .field("future", &self.future)
            .finish_non_exhaustive()
    }
}
