//! Other runtimes' timers on our wheel: [`hyper::rt::Timer`].
//!
//! # What hyper expects
//!
//! Some of it is written nowhere; the code behind [`HyperTimer`] keeps all of it, and has one test
//! for each:
//!
//! 1. A sleep is fused. HTTP/2 keepalive polls one again after it was ready, when a connection that
//!    was idle becomes busy; a sleep that panicked or hung then would take the connection along.
//! 2. Each poll replaces the waker: connections move between tasks.
//! 3. `reset` works before and after completion. hyper's default makes a new sleep; ours moves the
//!    one that is there, and allocates nothing.
//! 4. `reset` gets whatever sleep its caller has. One that isn't ours, or is on another Timekeeper,
//!    is replaced.
//! 5. `now` and the deadlines are one clock: hyper adds durations to what `now` said, and passes the
//!    sum to `sleep_until`.
//!
//! # Two kinds of instants
//!
//! hyper speaks in [`std::time::Instant`], Timekeepers in [`deadbeat::time::Instant`](crate::time::Instant).
//! One pair of moments, taken once in a process, relates the two for good, so that there and back is
//! exact to the nanosecond and `now() + d` becomes a deadline of exactly `d` after the Timekeeper's
//! now.
//!
//! - On the system's clock, the pair is a reading of `std`'s clock and one of CLOCK_MONOTONIC just
//!   after. So an instant of `std`'s own becomes a deadline that is at, or the time between two
//!   reads (some tens of nanoseconds) after it; never before.
//! - On a clock that is moved by hand, it is any moment and the clock's origin: durations are what
//!   counts, and only the Timekeeper moves time.
//!
#![doc = include_str!("../docs/hyper.md")]

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant as StdInstant};

use hyper::rt::{Sleep, Timer};

use crate::Timekeeper;
use crate::clock::{self, Epoch};
use crate::driver;
use crate::time::Instant;
use crate::wheel::coalesce;

/// hyper's timers on a [`Timekeeper`]: header-read timeouts, HTTP/2 keepalive, idle connections.
///
/// To be handed to the builders of hyper and hyper-util; the [module](self) shows where. It takes the
/// place of hyper-util's `TokioTimer`, works under any executor, and keeps time to the kernel's
/// precision rather than to the millisecond. With a [`Manual`](crate::Manual) Timekeeper, whole
/// connections run on virtual time.
///
/// A handle: cloning gives another of the same Timekeeper, and counts as one of the Timekeeper's
/// handles. It is not `Copy`, since a Timekeeper other than the global one has to be kept alive.
///
/// # Timing
///
/// Nothing completes before its deadline as the Timekeeper's clock tells it, nor before
/// CLOCK_MONOTONIC reaches it. How late it may be: as [`time::Sleep`](crate::time::Sleep), plus the
/// [slack](Self::with_slack).
///
/// # Complexity
///
/// A sleep is one allocation of 48 bytes, which hyper's interface asks for. Polling, resetting and
/// dropping it are *O*(1), take no lock, and allocate nothing (but for the Timekeeper's pool when it
/// grows). Timers that are given up again, which nearly all of hyper's are, cost the driver thread
/// nothing.
///
/// # Panics
///
/// A sleep that is polled before its deadline after the Timekeeper was
/// [shut down](Timekeeper::shutdown) panics, and takes the connection along: without its timeouts it
/// might never end. The Timekeeper of a server is shut down last. So does the first one of all that is
/// polled, if the driver thread can't be started.
///
/// # Examples
///
/// A client that never ends its request, and an hour that takes no time:
///
/// ```
/// use deadbeat::{Manual, rt::HyperTimer, time::Duration};
/// use http_body_util::Empty;
/// use hyper::{Response, body::Bytes, server::conn::http1, service::service_fn};
/// use hyper_util::rt::TokioIo;
/// use tokio::io::AsyncWriteExt;
///
/// let manual = Manual::new();
/// let ended = manual.block_on(async {
///     let (mut client, server) = tokio::io::duplex(1024);
///     client.write_all(b"GET / HTTP/1.1\r\nhost: exam").await.unwrap();
///     http1::Builder::new()
///         .timer(HyperTimer::new())
///         .header_read_timeout(Duration::from_secs(3600))
///         .serve_connection(
///             TokioIo::new(server),
///             service_fn(async |_| hyper::Result::Ok(Response::new(Empty::<Bytes>::new()))),
///         )
///         .await
/// });
/// assert!(ended.unwrap_err().is_timeout());
/// ```
#[derive(Clone, Debug)]
pub struct HyperTimer {
    timekeeper: Timekeeper,
    epoch: Epoch,
    slack_ns: u64,
}

impl HyperTimer {
    /// A timer on the [current](Timekeeper::current) Timekeeper: the one that the calling thread has
    /// entered, else the global one. It stays there, wherever it is used.
    pub fn new() -> Self {
        Self::on(&Timekeeper::current())
    }

    /// A timer on `timekeeper`.
    ///
    /// # Examples
    ///
    /// ```
    /// use deadbeat::{Timekeeper, rt::HyperTimer};
    ///
    /// let timekeeper = Timekeeper::builder().name("connections").build();
    /// let timer = HyperTimer::on(&timekeeper);
    /// hyper::server::conn::http1::Builder::new().timer(timer);
    /// ```
    pub fn on(timekeeper: &Timekeeper) -> Self {
        Self { timekeeper: timekeeper.clone(), epoch: Epoch::of(timekeeper.clock()), slack_ns: 0 }
    }

    /// Lets every timeout be up to `slack` late, so that those of many connections share a wake-up.
    ///
    /// Each is then due at the roundest moment in `[deadline, deadline + slack]`, as in
    /// [`time::Sleep::with_slack`](crate::time::Sleep::with_slack). Keepalive of many connections
    /// should have some: a tenth of the interval, say. Default: none. Takes effect on what this
    /// handle creates or resets from now on.
    ///
    /// # Examples
    ///
    /// ```
    /// use deadbeat::{rt::HyperTimer, time::Duration};
    /// use hyper_util::{rt::TokioExecutor, server::conn::auto};
    ///
    /// let mut server = auto::Builder::new(TokioExecutor::new());
    /// server
    ///     .http2()
    ///     .timer(HyperTimer::new().with_slack(Duration::from_secs(2)))
    ///     .keep_alive_interval(Duration::from_secs(20));
    /// ```
    #[must_use]
    pub fn with_slack(mut self, slack: Duration) -> Self {
        self.slack_ns = clock::saturating_ns(slack);
        self
    }

    /// The Timekeeper that it is on.
    pub fn timekeeper(&self) -> &Timekeeper {
        &self.timekeeper
    }

    /// When a sleep for `deadline` is due, slack and all.
    #[inline]
    fn due(&self, deadline: Instant) -> u64 {
        coalesce(deadline.as_nanos(), self.slack_ns)
    }

    #[inline]
    fn sleep_on_wheel(&self, deadline: Instant) -> HyperSleep {
        HyperSleep {
            due_ns: self.due(deadline),
            timer: driver::Timer::new(self.timekeeper.core().clone(), false),
        }
    }
}

impl Default for HyperTimer {
    /// The same as [`new`](Self::new).
    fn default() -> Self {
        Self::new()
    }
}

impl Timer for HyperTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        let mut sleep = self.sleep_on_wheel(self.timekeeper.now() + duration);
        // No second look at the clock to arm what was in the future a moment ago.
        if duration > Duration::ZERO {
            sleep.timer.assume_ahead();
        }
        Box::pin(sleep)
    }

    fn sleep_until(&self, deadline: StdInstant) -> Pin<Box<dyn Sleep>> {
        let deadline = self.epoch.ours(deadline);
        let mut sleep = self.sleep_on_wheel(deadline);
        // hyper has asked for `now` a moment ago, as a rule on this very thread. If it was long ago,
        // what has come meanwhile is fired at once.
        if self.timekeeper.clock().last_read().is_some_and(|read| read < deadline) {
            sleep.timer.assume_ahead();
        }
        Box::pin(sleep)
    }

    fn now(&self) -> StdInstant {
        self.epoch.std(self.timekeeper.now())
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn Sleep>>, new_deadline: StdInstant) {
        if let Some(ours) = sleep.as_mut().downcast_mut_pin::<HyperSleep>()
            && Arc::ptr_eq(ours.timer.core(), self.timekeeper.core())
        {
            ours.get_mut().move_to(self.due(self.epoch.ours(new_deadline)));
        } else {
            *sleep = self.sleep_until(new_deadline);
        }
    }
}

/// What [`HyperTimer`] hands out, boxed. Fused: `driver::Timer` is.
#[derive(Debug)]
struct HyperSleep {
    due_ns: u64,
    timer: driver::Timer,
}

impl HyperSleep {
    #[inline]
    fn move_to(&mut self, due_ns: u64) {
        self.due_ns = due_ns;
        self.timer.move_to(due_ns);
    }
}

impl Future for HyperSleep {
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let due_ns = self.due_ns;
        self.timer.poll(cx, due_ns).map(|slept| {
            if let Err(why) = slept {
                stopped(why);
            }
        })
    }
}

impl Sleep for HyperSleep {}

#[cold]
fn stopped(why: driver::Stopped) -> ! {
    panic!("a connection waits in vain: {why}")
}

#[cfg(test)]
mod tests;
