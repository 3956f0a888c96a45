//! Which version of HTTP a connection begins with. No clock, no I/O.

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    Http1,
    Http2,
}

/// What every connection of HTTP/2 begins with: RFC 9113, 3.4.
const PREFACE: &[u8; LENGTH] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// So many bytes are enough to tell.
pub(super) const LENGTH: usize = 24;

/// What a connection speaks that begins so; `None` while it may be either.
///
/// What isn't HTTP/2 is left to HTTP/1, which answers garbage with a 400.
pub(super) fn detect(begins: &[u8]) -> Option<Version> {
    if !PREFACE.starts_with(&begins[..begins.len().min(LENGTH)]) {
        return Some(Version::Http1);
    }
    (begins.len() >= LENGTH).then_some(Version::Http2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_preface_is_http_2_once_it_is_whole() {
        for n in 0..LENGTH {
            assert_eq!(detect(&PREFACE[..n]), None);
        }
        assert_eq!(detect(PREFACE), Some(Version::Http2));
    }

    #[test]
    fn a_request_of_http_1_is_known_by_its_first_byte_that_differs() {
        assert_eq!(detect(b"G"), Some(Version::Http1));
        assert_eq!(detect(b"PRI * HTTP/1"), Some(Version::Http1));
        assert_eq!(detect(b"PUT "), Some(Version::Http1));
    }

    proptest! {
        #[test]
        fn it_is_never_told_otherwise_later(
            common in 0..=LENGTH,
            rest in prop::collection::vec(any::<u8>(), 0..LENGTH),
        ) {
            let mut begins = PREFACE[..common].to_vec();
            begins.extend(rest);
            begins.truncate(LENGTH);
            let said: Vec<_> = (0..=begins.len()).filter_map(|n| detect(&begins[..n])).collect();
            prop_assert!(said.windows(2).all(|pair| pair[0] == pair[1]));
            prop_assert_eq!(said.contains(&Version::Http2), begins == PREFACE);
        }
    }
}
