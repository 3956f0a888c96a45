//! Tasks that take the deadline along, and those that are let go of it.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::task::JoinHandle;
use tokio_util::sync::WaitForCancellationFutureOwned;
use tokio_util::task::TaskTracker;

use super::ambient::Frame;
use super::cancel::{Cancel, Cancelled, Cause, Lazy};
use super::{Origin, Provenance, provenance, scope};
use crate::Timekeeper;
use crate::clock::{Elapsed, Instant};
use crate::time::{Sleep, sleep_until};

/// Spawns a task with the deadline of the caller, which ends when that passes or the caller is cancelled.
///
/// `tokio::spawn` starts a task that knows of neither. If the caller completes, the task goes on: until its
/// deadline.
///
/// # Errors
///
/// The task's: it was [`Cancelled`], before it was done.
///
/// # Panics
///
/// Outside a tokio runtime.
///
/// # Examples
///
/// ```
/// use deadbeat::deadline;
/// use deadbeat::time::{Duration, sleep};
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # runtime.block_on(async {
/// let task = deadline::scope(Duration::from_millis(5), async {
///     deadbeat::spawn(sleep(Duration::from_secs(9)))
/// });
/// let cancelled = task.await.unwrap().await.unwrap().unwrap_err();
/// assert!(cancelled.is_deadline());
/// # });
/// ```
#[track_caller]
pub fn spawn<F>(future: F) -> JoinHandle<Result<F::Output, Cancelled>>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(inherit(future))
}

/// Runs `f` on a thread for blocking work, with the deadline of the caller.
///
/// Nothing stops a thread: `f` has to ask [`current`](super::current), or [`Cancel::current`], which is
/// cancelled at the deadline and with the caller. It isn't begun once either has happened.
///
/// # Errors
///
/// The task's: it was [`Cancelled`] before it began.
///
/// # Panics
///
/// Outside a tokio runtime.
#[track_caller]
pub fn spawn_blocking<F, T>(f: F) -> JoinHandle<Result<T, Cancelled>>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    let task = Task::capture();
    let timekeeper = Timekeeper::current();
    tokio::task::spawn_blocking(move || {
        let _entered = timekeeper.enter();
        let cancel = task.cancel.clone();
        task.check()?;
        let _at_deadline = task.provenance.map(|provenance| {
            let cancel = cancel.clone();
            timekeeper.call_at(provenance.deadline.instant(), move || {
                cancel.cancel_for(Cause::Deadline(provenance));
            })
        });
        let mut frame = Some(task.frame());
        Ok(Frame::enter(&mut frame, f))
    })
}

/// Gives `future` the deadline and the cancellation of the caller, wherever it is polled from then on: for
/// a `JoinSet`, a `FuturesUnordered` that moves, or an executor of one's own.
///
/// # Examples
///
/// ```
/// use deadbeat::deadline;
/// use deadbeat::time::{Duration, sleep};
/// use tokio::task::JoinSet;
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # runtime.block_on(async {
/// let mut set = JoinSet::new();
/// deadline::scope(Duration::from_millis(5), async {
///     set.spawn(deadline::inherit(sleep(Duration::from_secs(9))));
///     set.spawn(deadline::inherit(sleep(Duration::ZERO)));
/// }).await.unwrap();
/// assert!(set.join_next().await.unwrap().unwrap().is_ok());
/// assert!(set.join_next().await.unwrap().unwrap().is_err());
/// # });
/// ```
pub fn inherit<F: IntoFuture>(future: F) -> Inherit<F::IntoFuture> {
    let task = Task::capture();
    let sleep = task.provenance.map(|it| sleep_until(it.deadline.instant()));
    let cancelled = task.cancel.own_token().cancelled_owned();
    Inherit {
        future: future.into_future(),
        cancelled,
        state: State { task, sleep, stage: Stage::New },
    }
}

/// What a task takes along.
#[derive(Clone, Debug)]
struct Task {
    provenance: Option<Provenance>,
    cancel: Cancel,
}

impl Task {
    fn capture() -> Self {
        Self { provenance: provenance(), cancel: Cancel::current().child() }
    }

    fn frame(&self) -> Frame {
        Frame {
            provenance: self.provenance,
            #[cfg(feature = "http")]
            inside: super::ambient::Inside::default(),
            cancel: Lazy::ready(self.cancel.clone()),
        }
    }

    /// Whether it may begin.
    fn check(&self) -> Result<(), Cancelled> {
        if let Some(cause) = self.cancel.cause() {
            return Err(Cancelled::new(cause));
        }
        match self.provenance {
            Some(provenance) if provenance.deadline.is_expired() => Err(self.expire(provenance)),
            _ => Ok(()),
        }
    }

    fn expire(&self, provenance: Provenance) -> Cancelled {
        self.cancel.cancel_for(Cause::Deadline(provenance));
        self.cancelled()
    }

    /// Why, the first cause.
    fn cancelled(&self) -> Cancelled {
        Cancelled::new(self.cancel.known_cause())
    }
}

pin_project! {
    /// The future of [`inherit`].
    ///
    /// # Errors
    ///
    /// The deadline that it has inherited came first, or what it has inherited from was cancelled. If the
    /// future is ready in the same poll, that counts; but it isn't polled if either was before the first.
    #[must_use = "futures do nothing unless polled"]
    pub struct Inherit<F> {
        #[pin]
        future: F,
        #[pin]
        cancelled: WaitForCancellationFutureOwned,
        state: State,
    }
}

struct State {
    task: Task,
    sleep: Option<Sleep<Elapsed>>,
    stage: Stage,
}

enum Stage {
    New,
    Running(Option<Frame>),
    Done,
}

impl Drop for State {
    fn drop(&mut self) {
        if matches!(self.stage, Stage::Running(_)) {
            self.task.cancel.cancel_for(Cause::CallerGone);
        }
    }
}

impl<F: Future> Future for Inherit<F> {
    type Output = Result<F::Output, Cancelled>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let state = this.state;
        if matches!(state.stage, Stage::New) {
            if let Err(cancelled) = state.task.check() {
                return Poll::Ready(Err(cancelled));
            }
            state.stage = Stage::Running(Some(state.task.frame()));
        }
        let Stage::Running(frame) = &mut state.stage else { return this.future.poll(cx).map(Ok) };
        let output = match Frame::enter(frame, || this.future.poll(cx)) {
            Poll::Ready(output) => Ok(output),
            Poll::Pending => {
                let expired =
                    state.sleep.as_mut().is_some_and(|it| Pin::new(it).poll(cx).is_ready());
                Err(match state.task.provenance {
                    Some(provenance) if expired => state.task.expire(provenance),
                    _ => {
                        ready!(this.cancelled.poll(cx));
                        state.task.cancelled()
                    }
                })
            }
        };
        state.stage = Stage::Done;
        Poll::Ready(output)
    }
}

impl<F: fmt::Debug> fmt::Debug for Inherit<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inherit")
            .field("provenance", &self.state.task.provenance)
            .field("future", &self.future)
            .finish_non_exhaustive()
    }
}

/// Tasks that go on after their callers are gone, counted, so that a shutdown can wait for them: those of
/// [`detach`] and [`shield`].
#[derive(Debug)]
pub struct Tracked {
    tracker: TaskTracker,
    limit: AtomicUsize,
}

/// How many there may be, unless set otherwise.
const LIMIT: usize = 1024;

static TRACKED: LazyLock<Tracked> = LazyLock::new(|| {
    let tracker = TaskTracker::new();
    // So that `idle` ends whenever there are none; new ones may still come.
    tracker.close();
    Tracked { tracker, limit: AtomicUsize::new(LIMIT) }
});

/// All of this process's.
#[must_use]
pub fn tracked() -> &'static Tracked {
    &TRACKED
}

impl Tracked {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.tracker.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tracker.is_empty()
    }

    /// Allows so many at a time. Default: 1024.
    pub fn set_limit(&self, limit: usize) {
        // Ordering: Relaxed: a number.
        self.limit.store(limit, Relaxed);
    }

    /// Waits until there is none.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn idle(&self) {
        self.tracker.wait().await;
    }

    fn spawn<F>(&self, future: F) -> Result<JoinHandle<F::Output>, Full<F>>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        // Ordering: as above. Two callers may both take the last place.
        let limit = self.limit.load(Relaxed);
        if self.tracker.len() >= limit {
            return Err(Full { future, limit });
        }
        Ok(self.tracker.spawn(future))
    }
}

/// There are too many tasks already that go on without a caller. Has the future that was to be another.
pub struct Full<F> {
    future: F,
    limit: usize,
}

impl<F> Full<F> {
    /// The future, not begun.
    pub fn into_inner(self) -> F {
        self.future
    }
}

impl<F> fmt::Debug for Full<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Full").field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl<F> fmt::Display for Full<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tasks go on without a caller already, the most that may", self.limit)
    }
}

impl<F> std::error::Error for Full<F> {}

/// Lets `future` go on without the caller: it has no deadline, and isn't cancelled with anything.
///
/// For what has to be done whoever waits for it. It runs as a task of its own from now on, also if the
/// caller is dropped; a shutdown can wait for it ([`tracked`]).
///
/// # Errors
///
/// There are [too many](Tracked::set_limit) of these; the future comes back.
///
/// # Panics
///
/// Outside a tokio runtime.
///
/// # Examples
///
/// ```
/// use deadbeat::deadline::{self, Deadline};
/// use deadbeat::time::Duration;
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # runtime.block_on(async {
/// let audit = deadline::scope(Duration::from_secs(1), async {
///     deadline::detach(async { deadline::current() }).unwrap()
/// });
/// assert_eq!(audit.await.unwrap().await.unwrap(), Deadline::NEVER);
/// deadline::tracked().idle().await;
/// # });
/// ```
pub fn detach<F>(future: F) -> Result<JoinHandle<F::Output>, Full<F>>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tracked().spawn(future)
}

/// Lets `future` go on for as long as `bound` without the caller: for clean-up that must be done when the
/// deadline has passed, and mustn't take for ever.
///
/// Its deadline is `bound` from now, which calls inside take along; it isn't cancelled with anything. As
/// for the rest, as [`detach`].
///
/// # Errors
///
/// There are [too many](Tracked::set_limit) of these; the future comes back. The task's: its bound came
/// before it was done.
///
/// # Panics
///
/// Outside a tokio runtime.
///
/// # Examples
///
/// ```
/// use deadbeat::deadline;
/// use deadbeat::time::Duration;
///
/// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
/// # runtime.block_on(async {
/// let rollback = deadline::scope(Duration::from_millis(1), async {
///     deadline::shield(Duration::from_secs(5), async { deadline::current().remaining() }).unwrap()
/// });
/// let remaining = rollback.await.unwrap().await.unwrap().unwrap();
/// assert!(remaining > Duration::from_secs(4));
/// # });
/// ```
#[track_caller]
pub fn shield<F>(
    bound: Duration,
    future: F,
) -> Result<JoinHandle<Result<F::Output, super::Expired>>, Full<F>>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    let at = Location::caller();
    let deadline = super::Deadline::at(Instant::now() + bound);
    let shielded = scope(deadline, future).with_origin(Origin::Place(at));
    tracked()
        .spawn(shielded)
        .map_err(|full| Full { future: full.future.into_inner(), limit: full.limit })
}
