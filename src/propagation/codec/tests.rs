//! What tests of the codecs share, and what holds for any header.

pub(super) use super::Decoded::{Expired, Remaining, Unbounded};
pub(super) use super::*;

pub(super) const S: Duration = Duration::from_secs(1);
pub(super) const MS: Duration = Duration::from_millis(1);
pub(super) const US: Duration = Duration::from_micros(1);
pub(super) const NS: Duration = Duration::from_nanos(1);
pub(super) const HOUR: Duration = Duration::from_hours(1);

/// What it is strictly, or `None` if it is malformed.
#[track_caller]
pub(super) fn strict(header: Header, value: &str) -> Option<Decoded> {
    let inbound = Decoder::new().decode(header, [value.as_bytes()]).unwrap();
    assert_eq!((inbound.lenient, inbound.malformed.is_some()), (0, inbound.ignored == 1));
    (inbound.ignored == 0).then_some(inbound.decoded)
}

/// What it is only leniently.
#[track_caller]
pub(super) fn lenient(header: Header, value: &str) -> Option<Decoded> {
    assert_eq!(strict(header, value), None);
    let decoder = Decoder::new().on_malformed(OnMalformed::Lenient);
    let inbound = decoder.decode(header, [value.as_bytes()]).unwrap();
    assert_eq!(inbound.lenient + inbound.ignored, 1);
    (inbound.lenient == 1).then_some(inbound.decoded)
}

#[track_caller]
pub(super) fn encode(header: Header, remaining: Duration) -> Option<String> {
    Encoder::new().encode(header, remaining).ok().map(|value| value.to_string())
}

#[test]
fn every_known_header_is_among_the_names_to_strip() {
    for header in Header::KNOWN {
        assert!(is_timeout_header(header.name()));
        assert_eq!(header.name(), header.name().to_lowercase());
    }
    assert_eq!(TIMEOUT_HEADERS[..Header::KNOWN.len()], Header::KNOWN.map(Header::name));
    assert!(!is_timeout_header("") && !is_timeout_header("grpc-timeout "));
}
