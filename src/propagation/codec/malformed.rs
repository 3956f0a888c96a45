//! What could not be parsed.

use std::fmt;

use super::Header;

/// So much of it is kept.
const KEPT: usize = 32;

/// A value that its header doesn't allow. Keeps the first 32 bytes of it, inline.
///
/// # Examples
///
/// ```
/// use deadbeat::propagation::codec::{Decoder, Header, OnMalformed};
///
/// let decoder = Decoder::new().on_malformed(OnMalformed::Reject);
/// let error = decoder.decode(Header::GrpcTimeout, [b"5s".as_slice()]).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "malformed grpc-timeout \"5s\", allowed: 1 to 8 digits and one of H M S m u n",
/// );
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Malformed {
    header: Header,
    allowed: &'static str,
    kept: [u8; KEPT],
    len: usize,
}

impl Malformed {
    #[cold]
    pub(super) fn new(header: Header, allowed: &'static str, value: &[u8]) -> Self {
        let mut kept = [0; KEPT];
        let count = value.len().min(KEPT);
        kept[..count].copy_from_slice(&value[..count]);
        Self { header, allowed, kept, len: value.len() }
    }

    /// The header.
    #[must_use]
    pub fn header(&self) -> Header {
        self.header
    }

    /// What it may be, in words.
    #[must_use]
    pub fn allowed(&self) -> &'static str {
        self.allowed
    }

    /// The value, or its first 32 bytes. They may be anything: `Display` escapes them.
    #[must_use]
    pub fn value(&self) -> &[u8] {
        &self.kept[..self.len.min(KEPT)]
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "malformed {} \"{}\"", self.header, self.value().escape_ascii())?;
        if self.len > KEPT {
            write!(f, " and {} bytes more", self.len - KEPT)?;
        }
        write!(f, ", allowed: {}", self.allowed)
    }
}

impl fmt::Debug for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Malformed").field(&format_args!("{self}")).finish()
    }
}

impl std::error::Error for Malformed {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_peer_sent_is_shown_escaped_and_cut() {
        let error = Malformed::new(Header::GrpcTimeout, "less", b"\x1b[2J\"\n\xff");
        assert_eq!(
            error.to_string(),
            "malformed grpc-timeout \"\\x1b[2J\\\"\\n\\xff\", allowed: less"
        );
        let error = Malformed::new(Header::GrpcTimeout, "less", &[b'9'; 1000]);
        assert_eq!(error.value(), [b'9'; 32]);
        assert!(error.to_string().contains("9\" and 968 bytes more, "), "{error}");
    }
}
