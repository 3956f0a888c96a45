//! What tests of the codecs share, and what holds for any header.

use std::time::SystemTime;

use proptest::prelude::*;

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

#[test]
fn an_error_says_what_is_allowed() {
    for header in harness::HEADERS {
        let decoder = Decoder::new()
            .on_malformed(OnMalformed::Reject)
            .wall(SystemTime::UNIX_EPOCH, Duration::MAX);
        if let Err(error) = decoder.decode(header, [b"ttl=\x00".as_slice()]) {
            assert!(error.to_string().contains(header.name()), "{error}");
            assert!(!error.allowed().is_empty());
        } else {
            assert!(header.is_preference());
        }
    }
}

/// Texts that are nearly something, and any bytes.
fn values() -> impl Strategy<Value = Vec<u8>> {
    let number = "[0-9]{0,22}([.][0-9]{0,20})?";
    let date = "(19|20|99)[0-9]{2}-?[01][0-9]-?[0-3][0-9]T[0-2][0-9]:?[0-6][0-9]:?[0-6][0-9]";
    let word = "([a-c!]|\"[a-c,; \\\\\"\t\u{e9}]*\"|[0-9]{1,3})";
    let pair = format!("(wait|Wait|foo) ?=? ?{word}?");
    let texts = [
        number.to_owned(),
        format!("{number}(H|M|S|m|u|n|ms|s|h|d)"),
        format!("(attempt=1; ?)?ttl={date}([.][0-9]*)?Z?(; ?max=3)?"),
        format!("{pair}( ?[,;] ?({pair})?){{0,4}}"),
        "[-+ .0-9HMSmun,]{0,6}".to_owned(),
    ];
    let text = prop::string::string_regex(&format!("({})", texts.join(")|("))).unwrap();
    prop_oneof![
        5 => text.prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ]
}

proptest! {
    #[test]
    fn every_decoder_agrees_with_its_grammar(
        values in prop::collection::vec(values(), 1..4),
    ) {
        harness::decode(&values.iter().map(Vec::as_slice).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_written_is_read_as_floored_and_never_longer(
        times in prop::collection::vec((0u8..=255, any::<u64>(), any::<u8>()), 1..20),
    ) {
        let script = times.iter().flat_map(|&(size, bits, options)| {
            [&[size][..], &bits.to_le_bytes(), &[options]].concat()
        });
        harness::fuzz(&std::iter::once(b'e').chain(script).collect::<Vec<_>>());
    }

    #[test]
    fn no_chain_of_hops_extends_a_deadline(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        harness::fuzz(&[b"c".as_slice(), &bytes].concat());
    }
}
