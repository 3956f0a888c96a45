//! Reading.

use std::time::{Duration, SystemTime};

use super::{
    HORIZON, Header, Malformed, aws, connect, envoy, grpc_timeout, linkerd, prefer, server_timeout,
    yarpc,
};

/// How long the caller still waits, as it says. The smaller, the less.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_enums, reason = "there is nothing before, between or after them")]
pub enum Decoded {
    /// It doesn't any more: answer without calling the handler.
    Expired,
    /// So long: more than zero, at most [`HORIZON`].
    Remaining(Duration),
    /// It sets no limit, or none that will be reached.
    Unbounded,
}

impl Decoded {
    pub(super) fn from_ns(ns: u128) -> Self {
        match u64::try_from(ns).map(Duration::from_nanos) {
            Ok(Duration::ZERO) => Self::Expired,
            Ok(remaining) if remaining <= HORIZON => Self::Remaining(remaining),
            _ => Self::Unbounded,
        }
    }

    /// What remains: zero if it is expired, `None` if there is no limit.
    #[must_use]
    pub const fn remaining(self) -> Option<Duration> {
        match self {
            Self::Expired => Some(Duration::ZERO),
            Self::Remaining(remaining) => Some(remaining),
            Self::Unbounded => None,
        }
    }
}

/// What to do about a malformed value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum OnMalformed {
    /// Go on as if it weren't there, and [count](Inbound::ignored) it: tonic, connect-rust, Envoy. The
    /// default.
    #[default]
    Ignore,
    /// Fail. grpc-core, grpc-go and grpc-js then answer INTERNAL, Connect's servers INVALID_ARGUMENT.
    /// A second value for a header that isn't a list is malformed too.
    Reject,
    /// Accept what real peers send, and [count](Inbound::lenient) it; ignore the rest. Numbers may have
    /// any number of digits and decimals, as in `12.7m` and `2592000000m`; dates may be as in RFC 3339.
    Lenient,
}

/// Reads headers.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use deadbeat::propagation::codec::{Decoded, Decoder, Header, OnMalformed};
///
/// let decoder = Decoder::new().on_malformed(OnMalformed::Lenient);
/// let grpc = decoder.decode(Header::GrpcTimeout, [b"2S".as_slice(), b"5S"])?;
/// let connect = decoder.decode(Header::ConnectTimeoutMs, [b"1500.5".as_slice()])?;
///
/// let inbound = grpc.min(connect);
/// assert_eq!(inbound.decoded, Decoded::Remaining(Duration::from_micros(1_500_500)));
/// assert_eq!(inbound.header, Some(Header::ConnectTimeoutMs));
/// assert_eq!(inbound.lenient, 1);
/// # Ok::<(), deadbeat::propagation::codec::Malformed>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Decoder {
    on_malformed: OnMalformed,
    wall: Option<aws::Wall>,
}

impl Decoder {
    /// One that ignores what is malformed, and has no wall clock.
    #[must_use]
    pub const fn new() -> Self {
        Self { on_malformed: OnMalformed::Ignore, wall: None }
    }

    /// What to do about malformed values.
    #[must_use]
    pub const fn on_malformed(mut self, on_malformed: OnMalformed) -> Self {
        self.on_malformed = on_malformed;
        self
    }

    /// What the wall clock says, for [`Header::AmzSdkRequest`], which without says nothing.
    ///
    /// That header holds the date at which its sender gives up, by the sender's clock. Nothing says that it
    /// is set as ours, so a date gives at most `max`; one that has passed is expired, and one that has
    /// passed by more than `max` is malformed. Within that, clocks that disagree make a deadline too
    /// short, or longer than what remains by as much as they do.
    #[must_use]
    pub const fn wall(mut self, now: SystemTime, max: Duration) -> Self {
        self.wall = Some(aws::Wall { now, max });
        self
    }

    /// Reads all values of one header. The smallest counts, since implementations disagree on whether the
    /// first does or the last.
    ///
    /// # Errors
    ///
    /// With [`OnMalformed::Reject`], if a value is malformed or one too many; unless the header is only a
    /// [preference](Header::is_preference).
    pub fn decode<'a>(
        &self,
        header: Header,
        values: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Inbound, Malformed> {
        let mut inbound = Inbound::default();
        let rejects = self.on_malformed == OnMalformed::Reject && !header.is_preference();
        for (earlier, value) in values.into_iter().enumerate() {
            if rejects && earlier > 0 {
                return Err(Malformed::new(header, "a single value", value));
            }
            if let Some(decoded) = self.read(header, value, false) {
                inbound.take(header, decoded);
                continue;
            }
            if self.on_malformed == OnMalformed::Lenient
                && let Some(decoded) = self.read(header, value, true)
            {
                inbound.lenient = inbound.lenient.saturating_add(1);
                inbound.take(header, decoded);
                continue;
            }
            let malformed = Malformed::new(header, header.allowed(), value);
            if rejects {
                return Err(malformed);
            }
            inbound.ignored = inbound.ignored.saturating_add(1);
            inbound.malformed.get_or_insert(malformed);
        }
        Ok(inbound)
    }

    /// `None` if it is malformed.
    pub(super) fn read(&self, header: Header, value: &[u8], lenient: bool) -> Option<Decoded> {
        match header {
            Header::GrpcTimeout => grpc_timeout::decode(value, lenient),
            Header::ConnectTimeoutMs => connect::CODEC.decode(value, lenient),
            Header::EnvoyExpectedRqTimeoutMs | Header::EnvoyUpstreamRqTimeoutMs => {
                envoy::CODEC.decode(value, lenient)
            }
            Header::L5dTimeout | Header::L5dRequestTimeout | Header::L5dResponseTimeout => {
                linkerd::decode(value, lenient)
            }
            Header::ContextTtlMs => yarpc::CODEC.decode(value, lenient),
            Header::XServerTimeout => server_timeout::CODEC.decode(value, lenient),
            Header::Prefer => prefer::decode(value, lenient),
            Header::AmzSdkRequest => match &self.wall {
                Some(wall) => aws::decode(value, wall, lenient),
                None => Some(Decoded::Unbounded),
            },
            Header::Custom(custom) => custom.codec().decode(value, lenient),
        }
    }
}

/// What the values of one header say, or those of several together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inbound {
    /// The smallest.
    pub decoded: Decoded,
    /// The header that said so; the first of them if several did. `None` if nothing sets a limit.
    pub header: Option<Header>,
    /// How many values were malformed, and ignored.
    pub ignored: u32,
    /// How many were malformed, and accepted.
    pub lenient: u32,
    /// The first of those that were ignored.
    pub malformed: Option<Malformed>,
}

impl Default for Inbound {
    /// No headers, and no limit.
    fn default() -> Self {
        Self { decoded: Decoded::Unbounded, header: None, ignored: 0, lenient: 0, malformed: None }
    }
}

impl Inbound {
    /// Both together: the smaller of the limits, this one's if they are equal; the counts added up.
    #[must_use]
    pub fn min(self, other: Self) -> Self {
        let least = if other.decoded < self.decoded { other } else { self };
        Self {
            decoded: least.decoded,
            header: least.header,
            ignored: self.ignored.saturating_add(other.ignored),
            lenient: self.lenient.saturating_add(other.lenient),
            malformed: self.malformed.or(other.malformed),
        }
    }

    fn take(&mut self, header: Header, decoded: Decoded) {
        if decoded < self.decoded {
            self.decoded = decoded;
            self.header = Some(header);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::*;

    #[test]
    fn of_several_values_the_smallest_valid_one_counts() {
        let values = [b"5S".as_slice(), b"nonsense", b"2S", b"12.7m", b"3S"];
        let inbound = Decoder::new().decode(Header::GrpcTimeout, values).unwrap();
        assert_eq!((inbound.decoded, inbound.ignored), (Remaining(2 * S), 2));
        assert_eq!(inbound.malformed.unwrap().value(), b"nonsense");
        let decoder = Decoder::new().on_malformed(OnMalformed::Lenient);
        let inbound = decoder.decode(Header::GrpcTimeout, values).unwrap();
        assert_eq!(inbound.decoded, Remaining(12_700 * US));
        assert_eq!((inbound.ignored, inbound.lenient), (1, 1));
    }

    #[test]
    fn a_second_value_is_one_too_many_for_who_rejects() {
        let decoder = Decoder::new().on_malformed(OnMalformed::Reject);
        assert!(decoder.decode(Header::GrpcTimeout, [b"2S".as_slice()]).is_ok());
        let error = decoder.decode(Header::GrpcTimeout, [b"2S".as_slice(), b"2S"]).unwrap_err();
        assert_eq!(error.allowed(), "a single value");
        let error = decoder.decode(Header::GrpcTimeout, [b"2S,5S".as_slice()]).unwrap_err();
        assert_eq!(error.value(), b"2S,5S");
    }

    #[test]
    fn of_several_headers_the_smallest_counts_and_is_named() {
        let decode =
            |header, value: &str| Decoder::new().decode(header, [value.as_bytes()]).unwrap();
        let grpc = decode(Header::GrpcTimeout, "2S");
        let connect = decode(Header::ConnectTimeoutMs, "2000");
        let envoy = decode(Header::EnvoyExpectedRqTimeoutMs, "0");
        let yarpc = decode(Header::ContextTtlMs, "-1");
        let inbound = envoy.min(yarpc).min(connect).min(grpc);
        assert_eq!(inbound.decoded, Remaining(2 * S));
        assert_eq!(inbound.header, Some(Header::ConnectTimeoutMs));
        assert_eq!(inbound.ignored, 1);
        assert_eq!(envoy.min(Inbound::default()), Inbound::default());
        let expired = inbound.min(decode(Header::L5dTimeout, "0"));
        assert_eq!(expired.decoded.remaining(), Some(Duration::ZERO));
        assert_eq!(expired.header, Some(Header::L5dTimeout));
        assert_eq!(Decoder::new().decode(Header::GrpcTimeout, []), Ok(Inbound::default()));
    }
}
