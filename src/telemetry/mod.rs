//! What is told to metrics and to traces: the one place that knows their names. `docs/telemetry.md` lists them.
//!
//! A leaf: it knows nothing of calls but what it is told. Without its features nothing is told, and nothing
//! is spent on it.

mod limit;
mod meters;
mod trace;

#[cfg(any(feature = "metrics", feature = "tracing"))]
use crate::deadline::Origin;

pub(crate) use limit::{LimitMeters, Reason};
pub(crate) use meters::Meters;
pub(crate) use trace::Trace;

/// Whose side of which protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Client(&'static str),
    Server(&'static str),
}

impl Role {
    #[cfg(feature = "metrics")]
    fn protocol(self) -> &'static str {
        match self {
            Self::Client(protocol) | Self::Server(protocol) => protocol,
        }
    }
}

/// How far a call had come when its deadline passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// No further than here.
    Arrival,
    /// It waited to be begun.
    Queue,
    /// Begun, and there was no answer.
    Headers,
    /// The answer had begun.
    Body,
    /// The body of the request: its call is counted besides.
    Upload,
}

impl Stage {
    pub(crate) const COUNT: usize = Self::Upload as usize + 1;
}

#[cfg(any(feature = "metrics", feature = "tracing"))]
impl Stage {
    #[cfg(feature = "metrics")]
    const ALL: [Self; Self::COUNT] =
        [Self::Arrival, Self::Queue, Self::Headers, Self::Body, Self::Upload];

    const fn name(self) -> &'static str {
        match self {
            Self::Arrival => "arrival",
            Self::Queue => "queue",
            Self::Headers => "headers",
            Self::Body => "body",
            Self::Upload => "upload",
        }
    }
}

/// The kinds of [`Origin`], by number.
#[cfg(any(feature = "metrics", feature = "tracing"))]
const ORIGINS: [&str; 7] = ["header", "scope", "maximum", "default", "endpoint", "call", "idle"];

#[cfg(any(feature = "metrics", feature = "tracing"))]
const fn kind(origin: Origin) -> usize {
    match origin {
        Origin::Header(_) => 0,
        Origin::Scope(_) | Origin::Place(_) => 1,
        Origin::Maximum => 2,
        Origin::Default => 3,
        Origin::Endpoint => 4,
        Origin::Call => 5,
        Origin::Idle => 6,
    }
}

/// What became of a value that was malformed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Handling {
    Ignored,
    Lenient,
    Rejected,
}

impl Handling {
    pub(crate) const COUNT: usize = Self::Rejected as usize + 1;
}
