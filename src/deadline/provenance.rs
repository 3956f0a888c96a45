//! Where a deadline comes from.

use std::fmt;
use std::panic::Location;
use std::time::Duration;

use super::Deadline;
use crate::clock::{Elapsed, Instant};

/// What set a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// A header of the call that is being served: its name.
    Header(&'static str),
    /// A [`scope()`](super::scope()) of the program, by its name.
    Scope(&'static str),
    /// The same without a name: where it is.
    Place(&'static Location<'static>),
    /// The most that a server gives a call.
    Maximum,
    /// What a server gives a call that comes without a deadline.
    Default,
    /// What a client gives each call to an endpoint.
    Endpoint,
    /// What was given this one call.
    Call,
    /// The longest that the next message of a stream may take.
    Idle,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Header(name) => write!(f, "header `{name}`"),
            Self::Scope(name) => write!(f, "scope `{name}`"),
            Self::Place(at) => write!(f, "the scope at {at}"),
            Self::Maximum => f.write_str("the server's maximum"),
            Self::Default => f.write_str("the server's default"),
            Self::Endpoint => f.write_str("the endpoint's timeout"),
            Self::Call => f.write_str("the call's timeout"),
            Self::Idle => f.write_str("the stream's idle timeout"),
        }
    }
}

/// A deadline, and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// The deadline.
    pub(crate) deadline: Deadline,
    pub(crate) origin: Origin,
    pub(crate) set_at: Instant<Elapsed>,
}

impl Provenance {
    /// A deadline that was set at `set_at`.
    #[inline]
    #[must_use]
    pub const fn new(deadline: Deadline, origin: Origin, set_at: Instant<Elapsed>) -> Self {
        Self { deadline, origin, set_at }
    }

    /// The deadline itself.
    #[must_use]
    pub const fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// What set it.
    #[must_use]
    pub const fn origin(&self) -> Origin {
        self.origin
    }

    /// When it was set.
    #[must_use]
    pub const fn set_at(&self) -> Instant<Elapsed> {
        self.set_at
    }

    /// How much time there was when it was set.
    #[must_use]
    pub const fn budget(&self) -> Duration {
        self.deadline.remaining_at(self.set_at)
    }

    /// The one with the earlier deadline; this one, if they are the same.
    #[inline]
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        if other.deadline < self.deadline { other } else { self }
    }
}
