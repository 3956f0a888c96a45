//! Writing.

use std::fmt;
use std::time::{Duration, SystemTime};

use super::{
    HORIZON, Header, Value, aws, connect, envoy, grpc_timeout, linkerd, prefer, server_timeout,
    yarpc,
};

/// Writes headers.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use deadbeat::propagation::codec::{Encoder, Header};
///
/// let remaining = Duration::from_nanos(12_700_123);
/// let exact = Encoder::new();
/// assert_eq!(exact.encode(Header::GrpcTimeout, remaining)?.as_str(), "12700123n");
/// assert_eq!(exact.encode(Header::ConnectTimeoutMs, remaining)?.as_str(), "12");
/// assert!(exact.encode(Header::Prefer, remaining).is_err());
///
/// let careful = Encoder::new().prefer_ms(true).cap(Duration::from_millis(10));
/// assert_eq!(careful.encode(Header::GrpcTimeout, remaining)?.as_str(), "10m");
/// # Ok::<(), deadbeat::propagation::codec::CannotEncode>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Encoder {
    cap: Duration,
    prefer_ms: bool,
    digits: u32,
    wall: Option<SystemTime>,
}

impl Encoder {
    /// The default of [`cap`](Self::cap): 2^31 - 1 ms, almost 25 days. Timers of Node.js, and with them
    /// grpc-js and connect-es, wrap above that, and fire at once.
    pub const DEFAULT_CAP: Duration = Duration::from_millis(i32::MAX as u64);

    /// One with the defaults.
    #[must_use]
    pub const fn new() -> Self {
        Self { cap: Self::DEFAULT_CAP, prefer_ms: false, digits: u32::MAX, wall: None }
    }

    /// The most that is written, whatever remains. Above [`HORIZON`] it is that; disabled by
    /// `Duration::MAX`.
    #[must_use]
    pub const fn cap(mut self, cap: Duration) -> Self {
        self.cap = cap;
        self
    }

    /// Whether a millisecond or more is floored to whole milliseconds, and `grpc-timeout` not written in a
    /// finer unit: for peers that are not known to read those. By default it isn't.
    #[must_use]
    pub const fn prefer_ms(mut self, prefer_ms: bool) -> Self {
        self.prefer_ms = prefer_ms;
        self
    }

    /// How many significant digits are written at the most: what remains is floored to them. Zero counts as
    /// one. Default, and disabled by: `u32::MAX`, exact.
    ///
    /// Calls that have the same timeout then say the same, but for their last digits: HTTP/2 writes what it has
    /// written before as a single byte, and what is new each time costs its sender and its reader more than
    /// all else that is done for a deadline. Four digits, the layers' default, cost the callee a thousandth of
    /// its time at the most.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use deadbeat::propagation::codec::{Encoder, Header};
    ///
    /// let encoder = Encoder::new().digits(4);
    /// for remaining_ns in [499_987_654, 499_965_432, 499_912_345] {
    ///     let remaining = Duration::from_nanos(remaining_ns);
    ///     assert_eq!(encoder.encode(Header::GrpcTimeout, remaining)?.as_str(), "499900u");
    /// }
    /// # Ok::<(), deadbeat::propagation::codec::CannotEncode>(())
    /// ```
    #[must_use]
    pub const fn digits(mut self, digits: u32) -> Self {
        self.digits = digits;
        self
    }

    /// What the wall clock says, for [`Header::AmzSdkRequest`], which holds a date.
    #[must_use]
    pub const fn wall(mut self, now: SystemTime) -> Self {
        self.wall = Some(now);
        self
    }

    /// Writes `remaining`, or less: capped, and floored to its digits and to the header's unit.
    ///
    /// # Errors
    ///
    /// If it is shorter than the shortest time that the header can say, or zero, so that the call is to
    /// fail without being sent; or if there is no wall clock for a header that needs one.
    #[expect(clippy::missing_panics_doc, reason = "a hundred years fit")]
    pub fn encode(&self, header: Header, remaining: Duration) -> Result<Value, CannotEncode> {
        const MILLI_NS: u64 = 1_000_000;
        let capped = remaining.min(self.cap).min(HORIZON);
        let mut ns = u64::try_from(capped.as_nanos()).expect("a hundred years fit");
        if let Some(excess) =
            ns.checked_ilog10().and_then(|log| (log + 1).checked_sub(self.digits.max(1)))
        {
            ns -= ns % 10_u64.pow(excess);
        }
        if self.prefer_ms && ns >= MILLI_NS {
            ns -= ns % MILLI_NS;
        }
        let (value, least_ns) = match header {
            Header::GrpcTimeout => (grpc_timeout::encode(ns, self.prefer_ms), 1),
            Header::ConnectTimeoutMs => (connect::CODEC.encode(ns), connect::CODEC.least_ns()),
            Header::EnvoyExpectedRqTimeoutMs | Header::EnvoyUpstreamRqTimeoutMs => {
                (envoy::CODEC.encode(ns), envoy::CODEC.least_ns())
            }
            Header::L5dTimeout | Header::L5dRequestTimeout | Header::L5dResponseTimeout => {
                (linkerd::encode(ns), linkerd::MILLI_NS)
            }
            Header::ContextTtlMs => (yarpc::CODEC.encode(ns), yarpc::CODEC.least_ns()),
            Header::XServerTimeout => {
                (server_timeout::CODEC.encode(ns), server_timeout::CODEC.least_ns())
            }
            Header::Prefer => (prefer::encode(ns), prefer::SECOND_NS),
            Header::AmzSdkRequest => match self.wall.and_then(aws::since_epoch) {
                Some(now) => (aws::encode(ns, now), aws::SECOND_NS),
                None => return Err(CannotEncode::NoWallClock { header }),
            },
            Header::Custom(custom) => (custom.codec().encode(ns), custom.codec().least_ns()),
        };
        value.ok_or(CannotEncode::TooShort {
            header,
            remaining: capped,
            least: Duration::from_nanos(least_ns),
        })
    }
}

impl Default for Encoder {
    fn default() -> Self {
        Self::new()
    }
}

/// Why a value was not written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CannotEncode {
    /// It would have to say zero. Fail the call without sending it: it is too late.
    #[non_exhaustive]
    TooShort {
        /// The header.
        header: Header,
        /// What remains, or the cap if that is shorter.
        remaining: Duration,
        /// The shortest time that the header can always say. A date may say less, if it ends in the
        /// next second.
        least: Duration,
    },
    /// The header holds a date, and the encoder has no [wall clock](Encoder::wall), or one before 1970.
    #[non_exhaustive]
    NoWallClock {
        /// The header.
        header: Header,
    },
}

impl fmt::Display for CannotEncode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort { header, remaining, least } => {
                write!(f, "{header} can't say {remaining:?}, its least is {least:?}")
            }
            Self::NoWallClock { header } => write!(f, "{header} needs a wall clock after 1970"),
        }
    }
}

impl std::error::Error for CannotEncode {}
