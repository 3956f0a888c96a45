//! Why a call doesn't get a slot.

use std::fmt;
use std::time::Duration;

use super::core::Why;
use crate::clock::{Elapsed, Instant};
use crate::deadline::{Expired, Provenance, Short};

/// A call was turned away, and has not been begun.
///
/// Its `Display` says why, in one line.
#[derive(Clone, Debug)]
pub struct Rejected(Kind);

#[derive(Clone, Debug)]
enum Kind {
    Expired(Expired),
    Doomed { remaining: Duration, service: Duration, wait: Duration },
    Full { waiting: usize, most: usize },
    Overtaken { waited: Duration },
}

impl Rejected {
    /// `provenance`: of its deadline. Only who has one expires.
    pub(super) fn new(
        why: Why,
        provenance: Option<Provenance>,
        most: usize,
        now: Instant<Elapsed>,
    ) -> Self {
        Self(match why {
            Why::Expired => {
                let provenance = provenance.expect("who has expired had a deadline");
                Kind::Expired(Expired::new(provenance, now))
            }
            Why::Doomed { remaining, service, wait } => Kind::Doomed { remaining, service, wait },
            Why::Full { waiting } => Kind::Full { waiting, most },
            Why::Overtaken { waited } => Kind::Overtaken { waited },
        })
    }

    /// Whether its deadline has passed. Trying again is of no use: nobody waits any more.
    #[must_use]
    pub fn is_expired(&self) -> bool {
        matches!(self.0, Kind::Expired(_))
    }

    /// Whether it had too little time left. Another server may be in time.
    #[must_use]
    pub fn is_doomed(&self) -> bool {
        matches!(self.0, Kind::Doomed { .. })
    }

    /// Whether too many wait.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self.0, Kind::Full { .. })
    }

    /// Whether others have overtaken it, and go on doing so. Another server may be in time.
    #[must_use]
    pub fn is_overtaken(&self) -> bool {
        matches!(self.0, Kind::Overtaken { .. })
    }

    /// The deadline that has passed.
    #[must_use]
    pub fn expired(&self) -> Option<&Expired> {
        match &self.0 {
            Kind::Expired(expired) => Some(expired),
            _ => None,
        }
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Expired(expired) => expired.fmt(f),
            Kind::Doomed { remaining, service, wait } => {
                let (remaining, service) = (Short(*remaining), Short(*service));
                write!(f, "rejected: {remaining} left, service takes {service}")?;
                if !wait.is_zero() {
                    write!(f, ", wait of {}", Short(*wait))?;
                }
                Ok(())
            }
            Kind::Full { waiting, most } => {
                write!(f, "rejected: {waiting} calls wait already, where {most} may")
            }
            Kind::Overtaken { waited } => {
                let waited = Short(*waited);
                write!(f, "rejected: overtaken for {waited} by calls that came later")
            }
        }
    }
}

impl std::error::Error for Rejected {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.expired().map(|it| it as _)
    }
}
