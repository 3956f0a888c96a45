//! What fails below the protocol.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

/// Why a call on a [`Channel`](super::Channel) has failed, other than by its deadline; or why there can be no channel.
///
/// With gRPC a call fails with a `tonic::Status`, which has this as its [source](StdError::source). Its
/// code is that of gRPC's [table of HTTP/2 errors](https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md#errors);
/// UNAVAILABLE if there was no connection.
#[derive(Clone, Debug)]
pub struct Error(Arc<Kind>);

#[derive(Debug)]
enum Kind {
    Target { target: Box<str>, why: &'static str },
    Connect { target: Box<str>, source: BoxError },
    TimedOut { target: Box<str>, after: Duration },
    Lost { target: Box<str> },
    Request { why: &'static str },
    Ended,
    Http2(h2::Error),
    Body(BoxError),
}

type BoxError = Box<dyn StdError + Send + Sync>;

impl Error {
    fn new(kind: Kind) -> Self {
        Self(Arc::new(kind))
    }

    pub(super) fn target(target: &str, why: &'static str) -> Self {
        Self::new(Kind::Target { target: target.into(), why })
    }

    pub(super) fn connect(target: &str, source: impl Into<BoxError>) -> Self {
        Self::new(Kind::Connect { target: target.into(), source: source.into() })
    }

    pub(super) fn timed_out(target: &str, after: Duration) -> Self {
        Self::new(Kind::TimedOut { target: target.into(), after })
    }

    pub(super) fn lost(target: &str) -> Self {
        Self::new(Kind::Lost { target: target.into() })
    }

    pub(super) fn request(why: &'static str) -> Self {
        Self::new(Kind::Request { why })
    }

    /// On this side: its deadline has passed, or whoever sent its body is gone.
    pub(super) fn ended() -> Self {
        Self::new(Kind::Ended)
    }

    pub(super) fn http2(error: h2::Error) -> Self {
        Self::new(Kind::Http2(error))
    }

    pub(super) fn body(error: BoxError) -> Self {
        Self::new(Kind::Body(error))
    }

    /// Whether there was no connection: the request was not sent.
    #[must_use]
    pub fn is_connect(&self) -> bool {
        matches!(*self.0, Kind::Connect { .. } | Kind::TimedOut { .. } | Kind::Lost { .. })
    }

    /// Whether the target, or the request, is none that can be called.
    #[must_use]
    pub fn is_user(&self) -> bool {
        matches!(*self.0, Kind::Target { .. } | Kind::Request { .. })
    }

    /// The error code with which the peer has reset the stream, or closed the connection.
    #[must_use]
    pub fn reason(&self) -> Option<h2::Reason> {
        match &*self.0 {
            Kind::Http2(error) => error.reason(),
            _ => None,
        }
    }

    /// The code that it has in gRPC; `None` if the request's own body has failed, which knows better.
    #[cfg(feature = "grpc")]
    pub(crate) fn grpc_code(&self) -> Option<tonic::Code> {
        use h2::Reason;
        use tonic::Code;
        let error = match &*self.0 {
            Kind::Connect { .. } | Kind::TimedOut { .. } | Kind::Lost { .. } => {
                return Some(Code::Unavailable);
            }
            Kind::Target { .. } | Kind::Request { .. } => return Some(Code::Internal),
            Kind::Ended => return Some(Code::Cancelled),
            Kind::Body(_) => return None,
            Kind::Http2(error) => error,
        };
        Some(match error.reason() {
            // The connection is lost, or has been closed in peace before the peer came to the call.
            None if error.is_io() => Code::Unavailable,
            Some(Reason::NO_ERROR) if error.is_go_away() => Code::Unavailable,
            Some(Reason::REFUSED_STREAM) => Code::Unavailable,
            Some(Reason::CANCEL) => Code::Cancelled,
            Some(Reason::ENHANCE_YOUR_CALM) => Code::ResourceExhausted,
            Some(Reason::INADEQUATE_SECURITY) => Code::PermissionDenied,
            _ => Code::Internal,
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Kind::Target { target, why } => write!(f, "can't call `{target}`: {why}"),
            Kind::Connect { target, source } => write!(f, "no connection to {target}: {source}"),
            Kind::TimedOut { target, after } => {
                write!(f, "no connection to {target} in {after:?}")
            }
            Kind::Lost { target } => write!(f, "the connection to {target} was lost"),
            Kind::Request { why } => write!(f, "the request can't be sent: {why}"),
            Kind::Ended => f.write_str("the call was ended on this side"),
            Kind::Http2(error) => error.fmt(f),
            Kind::Body(error) => write!(f, "the body of the request has failed: {error}"),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &*self.0 {
            Kind::Connect { source, .. } => Some(&**source),
            Kind::Http2(error) => Some(error),
            Kind::Body(error) => Some(&**error),
            _ => None,
        }
    }
}
