//! What fails.

use std::error::Error as StdError;
use std::fmt;

use crate::deadline::Expired;
use crate::propagation::protocol::BoxError;

/// Why a call over HTTP failed, or a body.
///
/// As an error's [source](StdError::source) it has what it was made of: [`Expired`], or the error of the
/// transport or body inside.
#[derive(Debug)]
pub struct Error(Kind);

#[derive(Debug)]
enum Kind {
    Expired(Expired),
    Incomplete,
    Other(BoxError),
}

impl Error {
    pub(super) fn expired_with(expired: Expired) -> Self {
        Self(Kind::Expired(expired))
    }

    pub(super) fn incomplete_body() -> Self {
        Self(Kind::Incomplete)
    }

    pub(super) fn other_with(error: BoxError) -> Self {
        match error.downcast::<Self>() {
            // From a layer within.
            Ok(ours) => *ours,
            Err(error) => Self(Kind::Other(error)),
        }
    }

    /// Whether a deadline has passed. Trying again is of no use: nobody waits any more.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        self.expired().is_some()
    }

    /// Whether the body of a request ended before it was complete: its client is gone.
    #[must_use]
    pub fn is_incomplete(&self) -> bool {
        matches!(self.0, Kind::Incomplete)
    }

    /// The deadline that has passed, and where the time went.
    #[must_use]
    pub fn expired(&self) -> Option<&Expired> {
        match &self.0 {
            Kind::Expired(expired) => Some(expired),
            _ => None,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Expired(expired) => expired.fmt(f),
            Kind::Incomplete => f.write_str("the request ended before it was complete"),
            Kind::Other(error) => error.fmt(f),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.0 {
            Kind::Expired(expired) => Some(expired),
            Kind::Incomplete => None,
            Kind::Other(error) => Some(&**error),
        }
    }
}
