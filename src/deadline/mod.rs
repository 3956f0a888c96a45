//! One deadline for a whole call, and everything that is done for it.
//!
//! A [`Deadline`] is a point in elapsed time that nothing can move to later. Within a [`scope()`] it is the
//! *ambient* one of whatever runs there, so code that is called need not be handed it: [`current`] tells.
//!
//! ```
//! use deadbeat::deadline::{self, Deadline};
//! use deadbeat::time::{Duration, sleep};
//!
//! async fn lookup() -> u32 {
//!     assert!(deadline::current().remaining() <= Duration::from_millis(500));
//!     sleep(Duration::from_millis(300)).await;
//!     7
//! }
//!
//! # deadbeat::Manual::new().block_on(async {
//! let found = deadline::scope(Duration::from_millis(500), async {
//!     let first = lookup().await;
//!     first + lookup().await
//! });
//! let expired = found.named("search").await.unwrap_err();
//! assert_eq!(expired.to_string(), "deadline exceeded after 500ms of 500ms, set by scope `search`");
//! # });
//! ```
//!
//! # Promises
//!
//! 1. **Never extends.** A scope inside another has the earlier of the two deadlines; there is no method
//!    by which a `Deadline` becomes a later one. More time takes `detach` or `shield`, by name.
//! 2. **Whose it is.** An expiry belongs to the scope that set the deadline, and is returned there; one
//!    inside of it is dropped, and doesn't take it for its own.
//! 3. **What has expired isn't begun.** A scope whose deadline has passed when it is entered doesn't poll
//!    its future. One that is complete in the poll in which it expires is complete.
//! 4. **Elapsed time.** A peer that waits doesn't stop when this machine is suspended, so a deadline is a
//!    point of [`Elapsed`] time.
//!
//! # What inherits
//!
//! The ambient deadline is current while the future of a scope is polled: on whichever thread, under any
//! executor. A task that is spawned in it is another matter, since nobody polls it from there.
//!
//! | | deadline | cancelled with the parent | if the parent completes |
//! | --- | --- | --- | --- |
//! | called, joined, selected inside | current | dropped with it | – |
//! | `inherit`, `deadbeat::spawn` | the same | yes | goes on |
//! | `deadbeat::spawn_blocking` | the same | is told | goes on |
//! | `tokio::spawn` | none | no | goes on |
//! | `shield` | one of its own | no | goes on |
//! | `detach` | none | no | goes on |
//!
//! Those but the first are of feature `tasks`, which brings tokio.

pub(crate) mod ambient;
mod blame;
#[cfg(feature = "tasks")]
mod cancel;
mod expired;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod harness;
pub(crate) mod open;
mod provenance;
mod scope;
#[cfg(feature = "tasks")]
pub(crate) mod tasks;

use std::fmt;
use std::time::Duration;

use crate::clock::{Elapsed, Instant};

pub use ambient::{current, provenance};
pub use blame::{Blame, Hop, Waited};
#[cfg(feature = "tasks")]
pub use cancel::{AfterCancel, Cancel, Cancelled, Cause};
#[cfg(feature = "http")]
pub(crate) use expired::Short;
pub use expired::{Expired, Ledger, Phase, Spent};
pub use provenance::{Origin, Provenance};
pub use scope::{Limit, Scope, scope};
#[cfg(feature = "tasks")]
pub use tasks::{Full, Inherit, Tracked, detach, inherit, shield, tracked};

/// The moment by which a call has to be over: for everybody who takes part in it, on every machine.
///
/// Eight bytes, `Copy`. A point in [`Elapsed`] time, on the clock of the current
/// [`Timekeeper`](crate::Timekeeper). No method makes it a later one.
///
/// # Examples
///
/// ```
/// use deadbeat::deadline::Deadline;
/// use deadbeat::time::Duration;
///
/// let manual = deadbeat::Manual::new();
/// let _entered = manual.enter();
/// let deadline = Deadline::after(Duration::from_millis(500));
/// manual.fast_forward(Duration::from_millis(200));
/// assert_eq!(deadline.remaining(), Duration::from_millis(300));
/// assert!(!deadline.is_expired());
/// assert!(deadline < Deadline::NEVER);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Deadline(Instant<Elapsed>);

impl Deadline {
    /// No deadline: later than all others.
    pub const NEVER: Self = Self(Instant::FAR_FUTURE);

    /// The deadline that is `budget` from now. [`NEVER`](Self::NEVER) if that is beyond the end of time.
    #[inline]
    pub fn after(budget: Duration) -> Self {
        Self(Instant::now() + budget)
    }

    /// The deadline at `instant`.
    #[inline]
    pub const fn at(instant: Instant<Elapsed>) -> Self {
        Self(instant)
    }

    /// When it is.
    #[inline]
    pub const fn instant(self) -> Instant<Elapsed> {
        self.0
    }

    /// Whether there is none.
    #[inline]
    pub const fn is_never(self) -> bool {
        self.0.as_nanos() == Instant::<Elapsed>::FAR_FUTURE.as_nanos()
    }

    /// How much time is left: zero once it has passed, [`Duration::MAX`] if there is no deadline.
    #[inline]
    pub fn remaining(self) -> Duration {
        if self.is_never() { Duration::MAX } else { self.remaining_at(Instant::now()) }
    }

    /// How much was left at `now`, for who has read the clock already.
    #[inline]
    pub const fn remaining_at(self, now: Instant<Elapsed>) -> Duration {
        if self.is_never() { Duration::MAX } else { self.0.duration_since(now) }
    }

    /// Whether it has passed.
    #[inline]
    pub fn is_expired(self) -> bool {
        !self.is_never() && Instant::now() >= self.0
    }

    /// The earlier of the two.
    #[inline]
    #[must_use]
    pub const fn min(self, other: Self) -> Self {
        if other.0.as_nanos() < self.0.as_nanos() { other } else { self }
    }

    /// The deadline that is earlier by `allowance`: what is set aside for the way to a callee and back.
    /// None stays none.
    #[inline]
    #[must_use]
    pub fn earlier_by(self, allowance: Duration) -> Self {
        if self.is_never() { self } else { Self(self.0 - allowance) }
    }
}

impl Default for Deadline {
    /// [`NEVER`](Self::NEVER).
    fn default() -> Self {
        Self::NEVER
    }
}

impl From<Instant<Elapsed>> for Deadline {
    fn from(instant: Instant<Elapsed>) -> Self {
        Self(instant)
    }
}

impl fmt::Debug for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_never() {
            f.write_str("Deadline::NEVER")
        } else {
            f.debug_tuple("Deadline").field(&self.0).finish()
        }
    }
}

const _: () = assert!(size_of::<Deadline>() == 8);
