//! `ttl` of `amz-sdk-request`, as AWS's SDKs send it: `ttl=20261120T101112Z; attempt=2; max=3`.
//!
//! It is the time at which the socket of the caller gives up, on the caller's wall clock, corrected by what
//! it knows of the server's; only on retries, and in whole seconds. Nothing says that our wall clock is the
//! same, so it is believed within bounds:
//!
//! - It gives at most `max`.
//! - Until `max` ago, a date is expired. One that is longer ago shows that the clocks disagree, and is
//!   malformed.
//!
//! A leap second is malformed, which SDKs don't send. Early versions of the Rust SDK sent dates as in RFC
//! 3339; leniently, those are accepted.

use std::time::{Duration, SystemTime};

use super::{Decoded, Value};

pub(super) const ALLOWED: &str = "pairs, and YYYYMMDDThhmmssZ for ttl, not long ago";

pub(super) const SECOND_NS: u64 = 1_000_000_000;
const DAY: u64 = 24 * 3600;
/// From the beginning of the year 0 to that of 1970.
const EPOCH_DAYS: u64 = 719_528;
/// The last second of the year 9999.
const LAST: u64 = 253_402_300_799;

/// Our wall clock, and how far it is trusted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wall {
    pub(super) now: SystemTime,
    pub(super) max: Duration,
}

pub(super) fn decode(value: &[u8], wall: &Wall, lenient: bool) -> Option<Decoded> {
    let dates = value
        .split(|&byte| byte == b';')
        .filter_map(|pair| pair.trim_ascii().strip_prefix(b"ttl="));
    let now = since_epoch(wall.now).unwrap_or(Duration::ZERO);
    let mut least = Decoded::Unbounded;
    for date in dates {
        let ttl = Duration::from_secs(parse(date, lenient)?);
        if ttl.saturating_add(wall.max) < now {
            return None;
        }
        let remaining = ttl.saturating_sub(now).min(wall.max);
        least = least.min(Decoded::from_ns(remaining.as_nanos()));
    }
    Some(least)
}

/// `None` if it would not be later than now.
pub(super) fn encode(remaining_ns: u64, now: Duration) -> Option<Value> {
    let ttl = now.saturating_add(Duration::from_nanos(remaining_ns)).as_secs().min(LAST);
    (Duration::from_secs(ttl) > now).then(|| print(ttl))
}

/// `None` before 1970.
pub(super) fn since_epoch(wall: SystemTime) -> Option<Duration> {
    wall.duration_since(SystemTime::UNIX_EPOCH).ok()
}

/// Seconds from 1970 to a date; zero before.
fn parse(date: &[u8], lenient: bool) -> Option<u64> {
    let is_rfc3339 = date.get(4) == Some(&b'-');
    if is_rfc3339 && !lenient {
        return None;
    }
    let mut rest = Digits { rest: date, separated: is_rfc3339 };
    let year = 100 * rest.two()? + rest.two()?;
    let month = rest.after(b'-')?;
    let day = rest.after(b'-')?;
    rest.rest = rest.rest.strip_prefix(b"T")?;
    let hour = rest.two()?;
    let minute = rest.after(b':')?;
    let second = rest.after(b':')?;
    let fraction = rest.rest.strip_suffix(b"Z")?;
    let is_date = (1..=12).contains(&month)
        && (1..=days_of(year, month)).contains(&day)
        && hour < 24
        && minute < 60
        && second < 60;
    let is_end = fraction.is_empty() || is_rfc3339 && is_fraction(fraction);
    if !is_date || !is_end {
        return None;
    }
    let days = days_before(year, month) + day - 1;
    let seconds = days * DAY + hour * 3600 + minute * 60 + second;
    Some(seconds.saturating_sub(EPOCH_DAYS * DAY))
}

fn is_fraction(text: &[u8]) -> bool {
    matches!(text, [b'.', digits @ ..] if !digits.is_empty() && digits.iter().all(u8::is_ascii_digit))
}

/// What is to be read of a date.
struct Digits<'a> {
    rest: &'a [u8],
    separated: bool,
}

impl Digits<'_> {
    fn two(&mut self) -> Option<u64> {
        let &[tens, ones, ref rest @ ..] = self.rest else { return None };
        self.rest = rest;
        (tens.is_ascii_digit() && ones.is_ascii_digit())
            .then(|| u64::from(tens - b'0') * 10 + u64::from(ones - b'0'))
    }

    fn after(&mut self, separator: u8) -> Option<u64> {
        if self.separated {
            self.rest = self.rest.strip_prefix(&[separator])?;
        }
        self.two()
    }
}

fn print(seconds: u64) -> Value {
    let days = EPOCH_DAYS + seconds / DAY;
    // At most 28 steps for years of four digits.
    let mut year = days / 366;
    while days_before(year + 1, 1) <= days {
        year += 1;
    }
    let mut month = 1;
    while month < 12 && days_before(year, month + 1) <= days {
        month += 1;
    }
    let day = days - days_before(year, month) + 1;
    let time = seconds % DAY;
    Value::EMPTY
        .text(b"ttl=")
        .digits(year, 4)
        .digits(month, 2)
        .digits(day, 2)
        .text(b"T")
        .digits(time / 3600, 2)
        .digits(time / 60 % 60, 2)
        .digits(time % 60, 2)
        .text(b"Z")
}

/// Days from the beginning of the year 0, of the Gregorian calendar, to that of a month.
fn days_before(year: u64, month: u64) -> u64 {
    // The year 0 is a leap year.
    let leaps = year.checked_sub(1).map_or(0, |last| last / 4 - last / 100 + last / 400 + 1);
    (1..month).fold(365 * year + leaps, |days, earlier| days + days_of(year, earlier))
}

fn days_of(year: u64, month: u64) -> u64 {
    match month {
        4 | 6 | 9 | 11 => 30,
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => {
            29
        }
        2 => 28,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{HOUR, MS, NS, S};
    use super::super::*;
    use super::*;
    use Decoded::{Expired, Remaining, Unbounded};

    /// 2026-11-20T10:11:12.5Z
    fn now() -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(1_795_169_472_500)
    }

    #[track_caller]
    fn read(value: &str, policy: OnMalformed) -> Option<Decoded> {
        let decoder = Decoder::new().on_malformed(policy).wall(now(), 60 * S);
        let inbound = decoder.decode(Header::AmzSdkRequest, [value.as_bytes()]).unwrap();
        (inbound.ignored == 0).then_some(inbound.decoded)
    }

    fn strict(value: &str) -> Option<Decoded> {
        read(value, OnMalformed::Ignore)
    }

    #[test]
    fn its_date_is_how_long_from_now_and_at_most_the_maximum() {
        let half = Some(Remaining(500 * MS));
        assert_eq!(strict("ttl=20261120T101113Z; attempt=2; max=3"), half);
        assert_eq!(strict("attempt=2;max=3;ttl=20261120T101113Z"), half);
        assert_eq!(strict("ttl=20261120T101213Z"), Some(Remaining(60 * S)));
        assert_eq!(strict("ttl=99991231T235959Z"), Some(Remaining(60 * S)));
        assert_eq!(strict("ttl=20261120T101113Z; ttl=20270101T000000Z"), half);
        assert_eq!(strict("attempt=1; max=3"), Some(Unbounded));
        assert_eq!(strict("attempt=1; xttl=nonsense"), Some(Unbounded));
    }

    #[test]
    fn a_date_that_has_passed_is_expired_and_one_long_past_shows_that_clocks_disagree() {
        assert_eq!(strict("ttl=20261120T101112Z"), Some(Expired));
        assert_eq!(strict("ttl=20261120T101013Z"), Some(Expired));
        assert_eq!(strict("ttl=20261120T101012Z"), None);
        // To the nanosecond.
        let whole = Decoder::new().wall(now() - 500 * MS, 60 * S);
        let read = |value| whole.read(Header::AmzSdkRequest, value, false);
        assert_eq!(read(b"ttl=20261120T101012Z"), Some(Expired));
        assert_eq!(read(b"ttl=20261120T101011Z"), None);
        assert_eq!(strict("ttl=19700101T000000Z"), None);
        assert_eq!(strict("ttl=00000101T000000Z"), None);
    }

    #[test]
    fn a_date_that_is_none_is_malformed() {
        for date in [
            "",
            "20261120T101113",
            "20261120 101113Z",
            "20261120T101113z",
            "20261120T101113.5Z",
            "20261120T101160Z",
            "20261120T106013Z",
            "20261120T241113Z",
            "20261100T101113Z",
            "20261131T101113Z",
            "20260229T101113Z",
            "21000229T101113Z",
            "22000229T101113Z",
            "20261320T101113Z",
            "20260020T101113Z",
            "+2261120T101113Z",
            "2026-1120T101113Z",
            "\"20261120T101113Z\"",
            "1795169473",
        ] {
            assert_eq!(read(&format!("ttl={date}"), OnMalformed::Lenient), None, "{date}");
        }
        let long = Decoder::new().wall(now(), HORIZON);
        for (leap_day, is) in [
            ("ttl=20000229T000000Z", Expired),
            ("ttl=20240229T000000Z", Expired),
            ("ttl=24000229T000000Z", Remaining(HORIZON)),
        ] {
            let inbound = long.decode(Header::AmzSdkRequest, [leap_day.as_bytes()]).unwrap();
            assert_eq!((inbound.decoded, inbound.ignored), (is, 0));
        }
    }

    #[test]
    fn dates_as_in_rfc_3339_are_accepted_leniently() {
        for date in ["2026-11-20T10:11:13Z", "2026-11-20T10:11:13.999Z"] {
            let value = format!("attempt=1; max=3; ttl={date}");
            assert_eq!(strict(&value), None);
            assert_eq!(read(&value, OnMalformed::Lenient), Some(Remaining(500 * MS)));
        }
        for date in ["2026-11-20T10:11:13.Z", "2026-11-20T10:11:13+00:00", "2026-11-20T101113Z"] {
            assert_eq!(read(&format!("ttl={date}"), OnMalformed::Lenient), None);
        }
    }

    #[test]
    fn it_is_written_in_whole_seconds_of_which_some_remains() {
        let encoder = Encoder::new().wall(now());
        let encode = |remaining| encoder.encode(Header::AmzSdkRequest, remaining);
        assert_eq!(encode(S).unwrap().as_str(), "ttl=20261120T101113Z");
        assert_eq!(encode(500 * MS).unwrap().as_str(), "ttl=20261120T101113Z");
        assert!(encode(500 * MS - NS).is_err());
        assert_eq!(encode(41 * 24 * HOUR).unwrap().as_str(), "ttl=20261215T064236Z");
        let uncapped = encoder.cap(Duration::MAX);
        let value = uncapped.encode(Header::AmzSdkRequest, Duration::MAX).unwrap();
        assert_eq!(value.as_str(), "ttl=21261121T101112Z");
    }

    #[test]
    fn without_a_wall_clock_it_is_not_written_and_says_nothing() {
        let error = Encoder::new().encode(Header::AmzSdkRequest, S).unwrap_err();
        assert_eq!(error.to_string(), "amz-sdk-request needs a wall clock after 1970");
        let before = SystemTime::UNIX_EPOCH - S;
        assert_eq!(Encoder::new().wall(before).encode(Header::AmzSdkRequest, S), Err(error));
        let value = [b"ttl=20261120T101113Z".as_slice()];
        let inbound = Decoder::new().decode(Header::AmzSdkRequest, value).unwrap();
        assert_eq!(inbound, Inbound::default());
    }
}
