//! P10: nothing read from the wire panics, overflows, allocates without bound, or lengthens a deadline.

use std::time::{Duration, SystemTime};

use deadbeat::propagation::blame;
use deadbeat::propagation::codec::{
    Custom, Decoded, Decoder, Encoder, HORIZON, Header, OnMalformed, TIMEOUT_HEADERS, Unit,
    is_timeout_header,
};
use proptest::prelude::*;

const POLICIES: [OnMalformed; 3] = [OnMalformed::Ignore, OnMalformed::Lenient, OnMalformed::Reject];
const DATE_MAX: Duration = Duration::from_secs(60);

/// 2026-11-20T10:11:12.5Z
fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_169_472_500)
}

fn headers() -> impl Iterator<Item = Header> {
    let custom = [Unit::Seconds, Unit::Milliseconds, Unit::Microseconds, Unit::Nanoseconds]
        .map(|unit| Custom::new("x-budget", unit).unwrap())
        .into_iter()
        .flat_map(|custom| [custom, custom.with_decimals(), custom.with_zero_unbounded()])
        .map(Header::Custom);
    Header::KNOWN.into_iter().chain(custom)
}

fn decoders() -> impl Iterator<Item = Decoder> {
    POLICIES.into_iter().flat_map(|policy| {
        let decoder = Decoder::new().on_malformed(policy);
        [decoder, decoder.wall(now(), DATE_MAX)]
    })
}

/// What any header makes of it, which is within bounds.
fn decode_by_all(value: &[u8]) -> Vec<Decoded> {
    let mut all = vec![];
    for (header, decoder) in headers().flat_map(|h| decoders().map(move |d| (h, d))) {
        match decoder.decode(header, [value, value]) {
            Ok(inbound) => {
                if let Decoded::Remaining(remaining) = inbound.decoded {
                    assert!(!remaining.is_zero() && remaining <= HORIZON, "{header}");
                }
                assert!(inbound.ignored + inbound.lenient <= 2);
                all.push(inbound.decoded);
            }
            Err(malformed) => {
                assert_eq!(malformed.header(), header);
                assert!(value.starts_with(malformed.value()));
                assert!(malformed.value().len() <= 32);
                let text = malformed.to_string();
                assert!(text.len() < 300 && text.is_ascii() && !text.contains(char::is_control));
            }
        }
    }
    all
}

/// What looks like something, and may be long.
fn any_value() -> impl Strategy<Value = Vec<u8>> {
    let repeated = |byte: u8, count: usize, end: &[u8]| [&vec![byte; count], end].concat();
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..64),
        "[0-9.]{0,40}(ms|[HMSmunshd])?".prop_map(String::into_bytes),
        "(wait|ttl|foo)=?[0-9TZ\"\\\\,;:. -]{0,40}".prop_map(String::into_bytes),
        (any::<u8>(), 0usize..10_000).prop_map(move |(byte, n)| repeated(byte, n, b"")),
        (0usize..10_000).prop_map(move |n| repeated(b'9', n, b"H")),
    ]
}

proptest! {
    #[test]
    fn any_bytes_can_be_decoded_by_any_header(value in any_value()) {
        decode_by_all(&value);
    }

    #[test]
    fn more_values_never_lengthen_a_deadline(
        values in prop::collection::vec(any_value(), 1..5), known in 0usize..11,
    ) {
        let header = Header::KNOWN[known];
        for policy in [OnMalformed::Ignore, OnMalformed::Lenient] {
            let decoder = Decoder::new().on_malformed(policy).wall(now(), DATE_MAX);
            let mut least = Decoded::Unbounded;
            for n in 0..=values.len() {
                let some = values[..n].iter().map(Vec::as_slice);
                let decoded = decoder.decode(header, some).unwrap().decoded;
                prop_assert!(decoded <= least);
                least = decoded;
            }
        }
    }

    #[test]
    fn a_date_gives_at_most_the_maximum(
        ttl_s in 0u64..253_402_300_800, now_s in 0u64..253_402_300_800, max_s in 0u64..1 << 40,
    ) {
        let wall = |s| SystemTime::UNIX_EPOCH + Duration::from_secs(s);
        let left = Duration::from_secs(ttl_s.saturating_sub(now_s));
        let encoder = Encoder::new().cap(Duration::MAX);
        let value = encoder.wall(wall(now_s)).encode(Header::AmzSdkRequest, left);
        prop_assume!(value.is_ok());
        let max = Duration::from_secs(max_s);
        // Our clock is far behind the peer's.
        let decoder = Decoder::new().wall(wall(now_s / 2), max);
        let inbound = decoder.decode(Header::AmzSdkRequest, [value.unwrap().as_bytes()]).unwrap();
        prop_assert!(inbound.decoded.remaining().unwrap_or(HORIZON) <= max.min(HORIZON));
    }
}

#[test]
fn huge_numbers_saturate() {
    for count in [8, 10, 19, 20, 21, 39, 40, 4096] {
        let digits = "9".repeat(count);
        for unit in ["", "n", "u", "m", "S", "M", "H", "ms", "s", "h", "d"] {
            for value in [format!("{digits}{unit}"), format!("{digits}.{digits}{unit}")] {
                decode_by_all(value.as_bytes());
            }
        }
        decode_by_all(format!("wait={digits}").as_bytes());
        decode_by_all(format!("0.{}1S", "0".repeat(count)).as_bytes());
        decode_by_all(format!("ttl={digits}Z").as_bytes());
    }
    let lenient = Decoder::new().on_malformed(OnMalformed::Lenient);
    let huge = format!("{}n", "9".repeat(1 << 20));
    let inbound = lenient.decode(Header::GrpcTimeout, [huge.as_bytes()]).unwrap();
    assert_eq!(inbound.decoded, Decoded::Unbounded);
}

#[test]
fn decoding_and_its_errors_allocate_nothing() {
    let long = vec![b'"'; 1 << 20];
    let list = "foo=\"bar\";x=y, wait=10, ".repeat(10_000);
    let values = [b"2S".as_slice(), b"12.7m", b"ttl=20261120T101113Z", list.as_bytes(), &long];
    let allocated = allocation_counter::measure(|| {
        for (header, decoder) in headers().flat_map(|h| decoders().map(move |d| (h, d))) {
            for value in values {
                let _ = std::hint::black_box(decoder.decode(header, [value, value]));
            }
        }
    });
    assert_eq!(allocated.count_total, 0);
}

#[test]
fn blame_of_any_length_allocates_what_eight_hops_take() {
    // Eight hops of four texts, as far as they fit; then what only looks like more.
    let texts =
        [[1_u8, 20], [2, 20], [3, 20], [13, 20]].map(|field| [&field[..], &[b'x'; 20]].concat());
    let mut hop = texts.concat();
    hop.extend([14, 1, 3]);
    let bytes = [&[1_u8][..], &[[0, 91].as_slice(), &hop].concat().repeat(8)].concat();
    let most = blame::decode(encode_base64(&bytes).as_bytes()).unwrap();
    assert_eq!(most.len(), 8);
    let zeros = encode_base64(&[&[1_u8][..], &[0; 700]].concat());
    let long = "A".repeat(1 << 20);
    for text in [encode_base64(&bytes), zeros, long] {
        let allocated = allocation_counter::measure(|| {
            let _ = std::hint::black_box(blame::decode(text.as_bytes()));
        });
        // Of a list that grows, the one before as well.
        assert!(allocated.bytes_max <= 12 * size_of::<blame::Hop>() as u64 + 1024, "{allocated:?}");
    }
}

fn encode_base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let bit = |n: usize| bytes.get(n / 8).is_some_and(|byte| byte >> (7 - n % 8) & 1 == 1);
    let letter = |n: usize| (0..6).fold(0, |all, k| all << 1 | usize::from(bit(6 * n + k)));
    (0..(bytes.len() * 8).div_ceil(6)).map(|n| char::from(LETTERS[letter(n)])).collect()
}

#[test]
fn an_error_keeps_the_beginning_of_a_long_value_and_shows_it_escaped() {
    let value = [b"\x1b[31m\r\nSet-Cookie: ".as_slice(), &[0xff; 1 << 20]].concat();
    let decoder = Decoder::new().on_malformed(OnMalformed::Reject);
    let malformed = decoder.decode(Header::GrpcTimeout, [value.as_slice()]).unwrap_err();
    assert_eq!(malformed.value(), &value[..32]);
    assert!(size_of_val(&malformed) <= 128);
    let text = malformed.to_string();
    assert!(
        text.starts_with("malformed grpc-timeout \"\\x1b[31m\\r\\nSet-Cookie: \\xff"),
        "{text}"
    );
    assert!(text.contains(" bytes more, allowed: "), "{text}");
    assert!(text.is_ascii() && !text.contains(char::is_control));
}

#[test]
fn all_headers_that_are_read_are_known_to_be_stripped() {
    for header in Header::KNOWN {
        assert!(is_timeout_header(header.name()) && TIMEOUT_HEADERS.contains(&header.name()));
        assert!(is_timeout_header(&header.name().to_uppercase()));
    }
}
