//! Connect's own protocol, which connect-node speaks in both seats, over either version of HTTP.
//!
//! Our side is plain HTTP with JSON: a message is the body, or in a stream an envelope.

mod callee;
mod caller;
mod service;

use crate::service::Method;

/// Of HTTP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Version {
    Http1,
    Http2,
}

impl Version {
    const ALL: [Self; 2] = [Self::Http1, Self::Http2];

    /// As a column of the matrix.
    fn name(self) -> &'static str {
        match self {
            Self::Http1 => "HTTP/1.1",
            Self::Http2 => "HTTP/2",
        }
    }

    fn is_1(self) -> bool {
        self == Self::Http1
    }
}

fn row(who: &str, method: Method) -> String {
    format!("{who}, {}", method.when())
}
