//! The codecs against plain re-statements of their grammars, and chains of hops against what remains:
//! for property tests and for fuzzing.
//!
//! A fuzz target is one line: `fuzz_target!(|bytes: &[u8]| harness::fuzz(bytes));`.

mod oracle;

use std::time::{Duration, SystemTime};

use super::{
    CannotEncode, Custom, Decoded, Decoder, Encoder, HORIZON, Header, Inbound, OnMalformed, Unit,
};

/// Every known header, and custom ones of all kinds.
pub const HEADERS: [Header; 16] = [
    Header::GrpcTimeout,
    Header::ConnectTimeoutMs,
    Header::EnvoyExpectedRqTimeoutMs,
    Header::EnvoyUpstreamRqTimeoutMs,
    Header::L5dTimeout,
    Header::L5dRequestTimeout,
    Header::L5dResponseTimeout,
    Header::ContextTtlMs,
    Header::XServerTimeout,
    Header::Prefer,
    Header::AmzSdkRequest,
    custom("x-seconds", Unit::Seconds),
    custom("x-ms", Unit::Milliseconds),
    custom("x-us", Unit::Microseconds),
    custom("x-ns", Unit::Nanoseconds),
    match Custom::new("x-decimals", Unit::Milliseconds) {
        Some(custom) => Header::Custom(custom.with_decimals().with_zero_unbounded()),
        None => unreachable!(),
    },
];

/// The longest that is believed of a date.
const DATE_MAX: Duration = Duration::from_hours(1);

const fn custom(name: &'static str, unit: Unit) -> Header {
    match Custom::new(name, unit) {
        Some(custom) => Header::Custom(custom),
        None => unreachable!(),
    }
}

/// Runs what the bytes say: `d` and values with new lines between them, to decode; `e` and times, to
/// encode; or `c` and hops of a chain.
///
/// # Panics
///
/// If a codec and its oracle disagree, or a value is longer than what remains.
pub fn fuzz(bytes: &[u8]) {
    let Some((&kind, rest)) = bytes.split_first() else { return };
    match kind % 4 {
        // `d` and 'e'.
        0 => decode(&rest.split(|&byte| byte == b'\n').collect::<Vec<_>>()),
        1 => encodings(&mut Bytes(rest)),
        _ => chain(&mut Bytes(rest)),
    }
}

/// Gives the values to every decoder, one by one and together.
///
/// # Panics
///
/// If a decoder and its oracle disagree.
pub fn decode(values: &[&[u8]]) {
    let nows = [0, 951_782_400_000, 1_795_169_472_500, 253_402_300_799_999];
    for (header, now_ms) in HEADERS.into_iter().flat_map(|h| nows.map(|now| (h, now))) {
        if header != Header::AmzSdkRequest && now_ms != 0 {
            continue;
        }
        let now = SystemTime::UNIX_EPOCH + Duration::from_millis(now_ms);
        let decoder = Decoder::new().wall(now, DATE_MAX);
        let read = |value, lenient| {
            let expected = oracle::decode(header, value, lenient, u128::from(now_ms) * 1_000_000);
            let decoded = decoder.read(header, value, lenient);
            assert_eq!(decoded, expected, "{header} {:?}", value.escape_ascii().to_string());
            decoded
        };
        let strict: Vec<_> = values.iter().map(|value| read(value, false)).collect();
        let lenient: Vec<_> = values.iter().map(|value| read(value, true)).collect();
        for (strict, lenient) in strict.iter().zip(&lenient) {
            assert!(strict.is_none() || strict == lenient, "{header} is less lenient leniently");
        }
        decode_all(header, decoder, values, &strict, &lenient);
    }
}

/// The values together, of which each says what is known.
fn decode_all(
    header: Header,
    decoder: Decoder,
    values: &[&[u8]],
    strict: &[Option<Decoded>],
    lenient: &[Option<Decoded>],
) {
    let decode = |policy| decoder.on_malformed(policy).decode(header, values.iter().copied());
    let check = |inbound: Inbound, accepted: &[Option<Decoded>]| {
        let least = accepted.iter().flatten().min().copied().unwrap_or(Decoded::Unbounded);
        assert_eq!(inbound.decoded, least);
        assert_eq!(inbound.header, (least != Decoded::Unbounded).then_some(header));
        let ignored = accepted.iter().position(Option::is_none).map(|n| values[n]);
        let (count, all) = (accepted.iter().filter(|one| one.is_none()).count(), accepted.len());
        assert_eq!(inbound.ignored as usize, count, "of {all}");
        let malformed = inbound.malformed;
        assert_eq!(malformed.as_ref().map(|m| m.value()), ignored.map(|v| &v[..v.len().min(32)]));
        assert!(malformed.is_none_or(|malformed| malformed.to_string().len() < 300));
    };

    let ignoring = decode(OnMalformed::Ignore).expect("it never fails");
    check(ignoring, strict);
    assert_eq!(ignoring.lenient, 0);

    let leniently = decode(OnMalformed::Lenient).expect("it never fails");
    check(leniently, lenient);
    let bent = strict.iter().zip(lenient).filter(|(strict, lenient)| strict != lenient).count();
    assert_eq!(leniently.lenient as usize, bent);

    let is_fit = strict.len() < 2 && strict.iter().all(Option::is_some);
    match decode(OnMalformed::Reject) {
        Ok(inbound) => {
            assert!(is_fit || header.is_preference());
            assert_eq!(inbound, ignoring);
        }
        Err(malformed) => {
            assert!(!is_fit && !header.is_preference());
            assert_eq!(malformed.header(), header);
        }
    }
}

/// Writes a time by every encoder, and reads it again.
///
/// # Panics
///
/// If what is read is not what the oracle says should have been written; or is longer than the time.
pub fn encode(remaining: Duration, cap: Duration, prefer_ms: bool, now: Duration) {
    let wall = SystemTime::UNIX_EPOCH + now;
    let encoder = Encoder::new().cap(cap).prefer_ms(prefer_ms).wall(wall);
    let decoder = Decoder::new().on_malformed(OnMalformed::Reject).wall(wall, HORIZON);
    for header in HEADERS {
        let floored = oracle::encode(header, remaining, cap, prefer_ms, now);
        match encoder.encode(header, remaining) {
            Ok(value) => {
                let inbound = decoder.decode(header, [value.as_bytes()]).expect("well-formed");
                let Decoded::Remaining(read) = inbound.decoded else {
                    panic!("{header}: {value} for {remaining:?}");
                };
                assert!(read <= remaining.min(cap), "{header}: {value} for {remaining:?}");
                assert_eq!(read.as_nanos(), floored, "{header}: {value} for {remaining:?}");
            }
            Err(CannotEncode::TooShort { least, .. }) => {
                assert_eq!(floored, 0, "{header} for {remaining:?}");
                let is_date = header == Header::AmzSdkRequest;
                assert!(is_date || remaining.min(cap) < least, "{header} for {remaining:?}");
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn encodings(bytes: &mut Bytes<'_>) {
    while !bytes.0.is_empty() {
        let remaining = bytes.duration();
        let options = bytes.byte();
        let cap = if options & 2 == 0 { Encoder::DEFAULT_CAP } else { bytes.duration() };
        let now = if options & 4 == 0 {
            Duration::from_millis(1_795_169_472_500)
        } else {
            bytes.duration().min(Duration::from_secs(1 << 38))
        };
        encode(remaining, cap, options & 1 != 0, now);
    }
}

/// Hands a deadline on from hop to hop, and counts what is really left of it.
///
/// At each hop time passes, the server has its own maximum, an allowance is taken off, and a few headers
/// are written, which the next merges.
fn chain(bytes: &mut Bytes<'_>) {
    let mut left = bytes.duration();
    let mut now = SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_169_472_500);
    while !bytes.0.is_empty() {
        let passed = bytes.duration().min(left).min(HORIZON);
        left -= passed;
        now += passed;
        let options = bytes.byte();
        let allowance = if options & 2 == 0 { Duration::ZERO } else { bytes.duration() };
        let cap = if options & 4 == 0 { Duration::MAX } else { bytes.duration() };
        let encoder = Encoder::new().cap(cap).prefer_ms(options & 1 != 0).wall(now);
        let decoder = Decoder::new().on_malformed(OnMalformed::Lenient).wall(now, HORIZON);
        let mut inbound = Inbound::default();
        for _ in 0..=options >> 6 {
            let header = HEADERS[usize::from(bytes.byte()) % HEADERS.len()];
            // It is too late: nothing is sent.
            let Ok(value) = encoder.encode(header, left.saturating_sub(allowance)) else { return };
            // On the way, somebody may add what says nothing.
            let values = [value.as_bytes(), b"", b"99999999999999999999"];
            let sent = &values[..1 + usize::from(options >> 4 & 1)];
            let one = decoder.decode(header, sent.iter().copied()).expect("it never fails");
            inbound = inbound.min(one);
        }
        let remaining = inbound.decoded.remaining().expect("a limit was sent");
        assert!(remaining <= left.saturating_sub(allowance), "{remaining:?} of {left:?}");
        assert!(remaining <= cap && !remaining.is_zero());
        left = if options & 8 == 0 { remaining } else { remaining.min(bytes.duration()) };
    }
}

/// Reads times from bytes; zeros when there are no more.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> u8 {
        let Some((&byte, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        byte
    }

    /// Of all magnitudes: a byte for how many bits of the next are used, or for the longest.
    fn duration(&mut self) -> Duration {
        let size = self.byte();
        if size == 255 {
            return Duration::MAX;
        }
        let bits = u64::from_le_bytes(std::array::from_fn(|_| self.byte()));
        // From the shortest to 2^62 ns, or, rarely, to 2^62 s.
        let some = bits >> (2 + size % 62);
        if size >= 248 { Duration::from_secs(some) } else { Duration::from_nanos(some) }
    }
}
