//! The headers in which a caller says how long it still waits: bytes in, bytes out.
//!
//! No clock, no I/O, no allocation: a [`Decoder`] makes a [`Decoded`] of the values of a header, an
//! [`Encoder`] makes a [`Value`] of the time that remains.
//!
//! ```
//! use std::time::Duration;
//! use deadbeat::propagation::codec::{Decoded, Decoder, Encoder, Header};
//!
//! let value = Encoder::new().encode(Header::GrpcTimeout, Duration::from_millis(1234))?;
//! assert_eq!(value.as_str(), "1234000u");
//!
//! let inbound = Decoder::new().decode(Header::GrpcTimeout, [value.as_bytes()])?;
//! assert_eq!(inbound.decoded, Decoded::Remaining(Duration::from_millis(1234)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Promises
//!
//! - **Never extends.** What is written is at most what remains: units are floored, caps only shorten,
//!   and of several values the smallest counts.
//! - **Never zero.** What is too short for a header's smallest unit is an error, and the call is to fail
//!   where it is: zero would be "expired" to some peers, and "no limit" to others.
//! - **Never a surprise.** Any bytes can be decoded. Nothing panics, overflows or allocates; an error
//!   keeps at most 32 bytes of what it speaks of.
//!
//! # Headers
//!
//! | [`Header`] | name | value | zero received | smallest written | source |
//! | --- | --- | --- | --- | --- | --- |
//! | `GrpcTimeout` | `grpc-timeout` | 1 to 8 digits, then one of `H M S m u n` | expired | 1 ns | [gRPC over HTTP/2] |
//! | `ConnectTimeoutMs` | `connect-timeout-ms` | 1 to 10 digits, ms | expired | 1 ms | [Connect] |
//! | `EnvoyExpectedRqTimeoutMs` | `x-envoy-expected-rq-timeout-ms` | 1 to 20 digits, ms | no limit | 1 ms | [Envoy] |
//! | `EnvoyUpstreamRqTimeoutMs` | `x-envoy-upstream-rq-timeout-ms` | 1 to 20 digits, ms | no limit | 1 ms | [Envoy] |
//! | `L5dTimeout` | `l5d-timeout` | 1 to 20 digits, then one of `d h m s ms`; or `0` | expired | 1 ms | [Linkerd], [its proxy] |
//! | `L5dRequestTimeout` | `l5d-request-timeout` | the same | expired | 1 ms | [its proxy] |
//! | `L5dResponseTimeout` | `l5d-response-timeout` | the same | expired | 1 ms | [Linkerd] |
//! | `ContextTtlMs` | `context-ttl-ms` | 1 to 19 digits, ms | expired | 1 ms | [YARPC] |
//! | `XServerTimeout` | `x-server-timeout` | seconds: 1 to 20 digits, perhaps a point and more digits | expired | 1 ns | [Google], [vanguard] |
//! | `Prefer` | `prefer` | a list, of which `wait=` and digits counts: seconds | expired | 1 s | [RFC 7240] |
//! | `AmzSdkRequest` | `amz-sdk-request` | pairs, of which `ttl=YYYYMMDDThhmmssZ` counts | (a date) | 1 s | [AWS] |
//! | `Custom` | yours | 1 to 20 digits of a unit of yours, perhaps decimals | expired, or no limit | that unit | |
//!
//! All are floored when they are written. More digits than that are malformed, and leading zeros count as
//! digits; what is longer than [`HORIZON`] is no limit. There is no sign, no space and no exponent in any
//! of them, and no comma but in lists.
//!
//! Two of them are of another kind. [`Prefer`](Header::Prefer) says how long a client would like to wait,
//! so it is never the cause of a 504, nor of a rejection. [`AmzSdkRequest`](Header::AmzSdkRequest) holds a
//! date on somebody else's wall clock: see [`Decoder::wall`].
//!
//! [gRPC over HTTP/2]: https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md
//! [Connect]: https://connectrpc.com/docs/protocol
//! [Envoy]: https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/router_filter
//! [Linkerd]: https://linkerd.io/2/features/retries-and-timeouts/
//! [its proxy]: https://github.com/linkerd/linkerd2-proxy/blob/main/linkerd/app/outbound/src/http/logical/policy/route/extensions.rs
//! [YARPC]: https://github.com/yarpc/yarpc-go/blob/dev/transport/http/ttl.go
//! [Google]: https://cloud.google.com/apis/docs/system-parameters
//! [vanguard]: https://github.com/connectrpc/vanguard-go/blob/main/protocol_rest.go
//! [RFC 7240]: https://www.rfc-editor.org/rfc/rfc7240#section-4.3
//! [AWS]: https://github.com/awslabs/aws-sdk-rust/blob/main/sdk/aws-runtime/src/request_info.rs
//!
//! # When a value is malformed
//!
//! The specifications don't say, and implementations disagree: [`OnMalformed`] is the choice. What could
//! not be parsed is never to be forwarded: grpc-core, for one, then also fails valid calls that share the
//! connection. Write a new value, in place of all that there are; [`TIMEOUT_HEADERS`] are the names of
//! those to remove.

mod aws;
mod connect;
mod custom;
mod decode;
mod encode;
mod envoy;
mod grpc_timeout;
mod linkerd;
mod malformed;
mod number;
mod prefer;
mod server_timeout;
mod value;
mod yarpc;

#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod harness;
#[cfg(test)]
mod tests;

use std::fmt;
use std::time::Duration;

pub use custom::{Custom, Unit};
pub use decode::{Decoded, Decoder, Inbound, OnMalformed};
pub use encode::{CannotEncode, Encoder};
pub use malformed::Malformed;
pub use value::Value;

/// What is longer than 100 years is no limit when it is received, and 100 years when it is sent.
///
/// A clock that counts nanoseconds in 64 bits ends after 584 years.
pub const HORIZON: Duration = Duration::from_hours(24 * 36_525);

/// The names of all headers known to carry a timeout, in lower case: those of [`Header::KNOWN`], and some
/// that are not honoured here.
///
/// Who forwards the metadata of a call has to remove them, and to write those that it means to send:
/// forwarded as they are, they give the callee the whole time again.
///
/// Among them are `prefer` and `amz-sdk-request`, which carry other things too. Those are lost with them;
/// a proxy of signed requests may not remove the latter.
pub const TIMEOUT_HEADERS: [&str; 14] = [
    "grpc-timeout",
    "connect-timeout-ms",
    "x-envoy-expected-rq-timeout-ms",
    "x-envoy-upstream-rq-timeout-ms",
    "l5d-timeout",
    "l5d-request-timeout",
    "l5d-response-timeout",
    "context-ttl-ms",
    "x-server-timeout",
    "prefer",
    "amz-sdk-request",
    "x-envoy-upstream-rq-per-try-timeout-ms",
    "l5d-retry-timeout",
    "x-yataxi-client-timeoutms",
];

/// Whether `name`, in upper or lower case, is one of [`TIMEOUT_HEADERS`].
///
/// # Examples
///
/// ```
/// use deadbeat::propagation::codec::is_timeout_header;
///
/// assert!(is_timeout_header("Grpc-Timeout"));
/// assert!(!is_timeout_header("grpc-encoding"));
/// ```
#[must_use]
pub fn is_timeout_header(name: &str) -> bool {
    TIMEOUT_HEADERS.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// A header that carries how long the caller still waits.
///
/// The [module](self#headers) has a table of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Header {
    /// gRPC's. Written in the finest unit that fits into eight digits.
    GrpcTimeout,
    /// Connect's.
    ConnectTimeoutMs,
    /// Envoy's, which it adds to what it sends upstream: how long it will wait.
    EnvoyExpectedRqTimeoutMs,
    /// Envoy's, by which a caller asks it for a timeout.
    EnvoyUpstreamRqTimeoutMs,
    /// Linkerd's: of the whole request and response. Where
    /// [`L5dRequestTimeout`](Self::L5dRequestTimeout) is there too, Linkerd takes that one; here the
    /// smaller counts.
    L5dTimeout,
    /// The same by its other name.
    L5dRequestTimeout,
    /// Linkerd's: from the end of the request to the end of the response.
    L5dResponseTimeout,
    /// YARPC's.
    ContextTtlMs,
    /// Google's, for its REST interfaces. Written with as many decimals as it takes, at most nine.
    XServerTimeout,
    /// `wait` of RFC 7240: how long the client is willing to wait. See
    /// [`is_preference`](Self::is_preference).
    ///
    /// Of several `wait`s the RFC takes the first; here the smallest counts, as of any header. A list that
    /// is not well-formed is malformed, also where it doesn't speak of `wait`.
    Prefer,
    /// `ttl` of AWS's SDKs, a date. Without a [wall clock](Decoder::wall) it says nothing.
    ///
    /// It is written without the attempts that the SDKs also put there.
    AmzSdkRequest,
    /// One of your own.
    Custom(Custom),
}

impl Header {
    /// Every header but the custom ones, in the order of their declaration.
    pub const KNOWN: [Self; 11] = [
        Self::GrpcTimeout,
        Self::ConnectTimeoutMs,
        Self::EnvoyExpectedRqTimeoutMs,
        Self::EnvoyUpstreamRqTimeoutMs,
        Self::L5dTimeout,
        Self::L5dRequestTimeout,
        Self::L5dResponseTimeout,
        Self::ContextTtlMs,
        Self::XServerTimeout,
        Self::Prefer,
        Self::AmzSdkRequest,
    ];

    /// Its name, in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::GrpcTimeout => "grpc-timeout",
            Self::ConnectTimeoutMs => "connect-timeout-ms",
            Self::EnvoyExpectedRqTimeoutMs => "x-envoy-expected-rq-timeout-ms",
            Self::EnvoyUpstreamRqTimeoutMs => "x-envoy-upstream-rq-timeout-ms",
            Self::L5dTimeout => "l5d-timeout",
            Self::L5dRequestTimeout => "l5d-request-timeout",
            Self::L5dResponseTimeout => "l5d-response-timeout",
            Self::ContextTtlMs => "context-ttl-ms",
            Self::XServerTimeout => "x-server-timeout",
            Self::Prefer => "prefer",
            Self::AmzSdkRequest => "amz-sdk-request",
            Self::Custom(custom) => custom.name(),
        }
    }

    /// Whether it is a wish, which a server may grant or not: then its end is no reason to answer 504, and
    /// a malformed one is ignored whatever the policy. So far [`Prefer`](Self::Prefer) alone.
    #[must_use]
    pub const fn is_preference(self) -> bool {
        matches!(self, Self::Prefer)
    }

    /// What a value has to be.
    const fn allowed(self) -> &'static str {
        match self {
            Self::GrpcTimeout => grpc_timeout::ALLOWED,
            Self::ConnectTimeoutMs => connect::ALLOWED,
            Self::EnvoyExpectedRqTimeoutMs | Self::EnvoyUpstreamRqTimeoutMs => envoy::ALLOWED,
            Self::L5dTimeout | Self::L5dRequestTimeout | Self::L5dResponseTimeout => {
                linkerd::ALLOWED
            }
            Self::ContextTtlMs => yarpc::ALLOWED,
            Self::XServerTimeout => server_timeout::ALLOWED,
            Self::Prefer => prefer::ALLOWED,
            Self::AmzSdkRequest => aws::ALLOWED,
            Self::Custom(custom) => custom.allowed(),
        }
    }
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
