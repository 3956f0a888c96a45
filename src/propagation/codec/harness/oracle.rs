//! What the headers mean, said once more: with strings, `u128` and no haste.

use std::time::Duration;

use super::super::{Decoded, Header, Unit};
use super::DATE_MAX;

const MS: u128 = 1_000_000;
const SECOND: u128 = 1_000_000_000;
const CENTURY: u128 = 36_525 * 24 * 3600 * SECOND;

/// What a value says at a time of the wall clock, or `None` if it is malformed.
pub(super) fn decode(header: Header, value: &[u8], lenient: bool, now: u128) -> Option<Decoded> {
    let text: String = value.iter().copied().map(char::from).collect();
    match header {
        Header::GrpcTimeout => grpc_timeout(&text, lenient),
        Header::ConnectTimeoutMs => plain(&text, 10, false, lenient, MS),
        Header::EnvoyExpectedRqTimeoutMs | Header::EnvoyUpstreamRqTimeoutMs => {
            zero_is_unbounded(&text, plain(&text, 20, false, lenient, MS))
        }
        Header::L5dTimeout | Header::L5dRequestTimeout | Header::L5dResponseTimeout => {
            linkerd(&text, lenient)
        }
        Header::ContextTtlMs => plain(&text, 19, false, lenient, MS),
        Header::XServerTimeout => plain(&text, 20, true, lenient, SECOND),
        Header::Prefer => prefer(&text, lenient),
        Header::AmzSdkRequest => aws(&text, lenient, now),
        Header::Custom(custom) if custom.name() == "x-decimals" => {
            zero_is_unbounded(&text, plain(&text, 20, true, lenient, unit_ns(custom.unit())))
        }
        Header::Custom(custom) => plain(&text, 20, false, lenient, unit_ns(custom.unit())),
    }
}

/// How many nanoseconds of a time are to be written, zero if it can't be.
pub(super) fn encode(
    header: Header,
    remaining: Duration,
    cap: Duration,
    prefer_ms: bool,
    now: Duration,
) -> u128 {
    let floor = |ns: u128, unit: u128| ns / unit * unit;
    let mut ns = remaining.as_nanos().min(cap.as_nanos()).min(CENTURY);
    if prefer_ms && ns >= MS {
        ns = floor(ns, MS);
    }
    match header {
        Header::GrpcTimeout => {
            let units = [1, 1000, MS, SECOND, 60 * SECOND, 3600 * SECOND];
            let fits = |&unit: &u128| ns / unit < 100_000_000;
            let fine = |&unit: &u128| !prefer_ms || ns < MS || unit >= MS;
            floor(ns, units.into_iter().filter(fine).find(fits).unwrap())
        }
        Header::ConnectTimeoutMs => floor(ns, MS).min(9_999_999_999 * MS),
        Header::XServerTimeout => ns,
        Header::Prefer => floor(ns, SECOND),
        Header::AmzSdkRequest => {
            let now = now.as_nanos();
            let end_of_dates = 253_402_300_799 * SECOND;
            floor(now + ns, SECOND).min(end_of_dates).saturating_sub(now)
        }
        Header::Custom(custom) if custom.name() == "x-decimals" => ns,
        Header::Custom(custom) => floor(ns, unit_ns(custom.unit())),
        _ => floor(ns, MS),
    }
}

fn decoded(ns: u128) -> Decoded {
    match ns {
        0 => Decoded::Expired,
        1..=CENTURY => Decoded::Remaining(Duration::from_nanos_u128(ns)),
        _ => Decoded::Unbounded,
    }
}

fn unit_ns(unit: Unit) -> u128 {
    match unit {
        Unit::Seconds => SECOND,
        Unit::Milliseconds => MS,
        Unit::Microseconds => 1000,
        Unit::Nanoseconds => 1,
    }
}

/// A number up to where the unit begins, and the unit; the number as units of 10^-18.
struct Number<'a> {
    whole: u128,
    fraction: u128,
    unit: &'a str,
}

impl<'a> Number<'a> {
    fn of(text: &'a str, digits: usize, decimal: bool, lenient: bool) -> Option<Self> {
        let unit_at = text.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(unit_at);
        let (whole, fraction) = match number.split_once('.') {
            Some((whole, fraction)) if decimal || lenient => (whole, fraction),
            Some(_) => return None,
            None => (number, "0"),
        };
        let are_digits = |text: &str| !text.is_empty() && !text.contains('.');
        if !are_digits(whole) || !are_digits(fraction) || whole.len() > digits && !lenient {
            return None;
        }
        let whole = match whole.trim_start_matches('0') {
            "" => 0,
            // More than a century of anything.
            long if long.len() > 19 => 10_u128.pow(19),
            some => some.parse().unwrap(),
        };
        let fraction = format!("{fraction:0<18.18}").parse().unwrap();
        Some(Self { whole, fraction, unit })
    }

    fn units(&self, ns: u128) -> Decoded {
        decoded(self.whole * ns + self.fraction * ns / 10_u128.pow(18))
    }
}

fn plain(text: &str, digits: usize, decimal: bool, lenient: bool, ns: u128) -> Option<Decoded> {
    let number = Number::of(text, digits, decimal, lenient)?;
    (number.unit.is_empty()).then(|| number.units(ns))
}

/// Where zero is no limit, and what is merely small is not zero.
fn zero_is_unbounded(text: &str, otherwise: Option<Decoded>) -> Option<Decoded> {
    let is_zero = text.chars().all(|c| c == '0' || c == '.');
    otherwise.map(|some| if is_zero { Decoded::Unbounded } else { some })
}

fn grpc_timeout(text: &str, lenient: bool) -> Option<Decoded> {
    let number = Number::of(text, 8, false, lenient)?;
    Some(number.units(match number.unit {
        "H" => 3600 * SECOND,
        "M" => 60 * SECOND,
        "S" => SECOND,
        "m" => MS,
        "u" => 1000,
        "n" => 1,
        _ => return None,
    }))
}

fn linkerd(text: &str, lenient: bool) -> Option<Decoded> {
    let number = Number::of(text, 20, false, lenient)?;
    Some(number.units(match number.unit {
        "d" => 24 * 3600 * SECOND,
        "h" => 3600 * SECOND,
        "m" => 60 * SECOND,
        "s" => SECOND,
        "ms" => MS,
        "" if text.chars().all(|c| c == '0' || c == '.') => 0,
        _ => return None,
    }))
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Lexeme {
    Token(String),
    Quoted(String),
    Sign(char),
}

fn prefer(text: &str, lenient: bool) -> Option<Decoded> {
    let lexemes = lexemes(text)?;
    let mut least = Decoded::Unbounded;
    for preference in lexemes.split(|lexeme| *lexeme == Lexeme::Sign(',')) {
        if preference.is_empty() {
            continue;
        }
        let mut pairs = preference.split(|lexeme| *lexeme == Lexeme::Sign(';'));
        let (name, word) = pair(pairs.next()?)?;
        if !pairs.all(|parameter| parameter.is_empty() || pair(parameter).is_some()) {
            return None;
        }
        if name.to_lowercase() == "wait" {
            least = least.min(plain(word?, usize::MAX, false, lenient, SECOND)?);
        }
    }
    Some(least)
}

/// Spaces are allowed between any two of them.
fn lexemes(text: &str) -> Option<Vec<Lexeme>> {
    let mut lexemes = vec![];
    let mut text = text.chars().peekable();
    while let Some(c) = text.next() {
        lexemes.push(match c {
            ' ' | '\t' => continue,
            ',' | ';' | '=' => Lexeme::Sign(c),
            '"' => {
                let mut quoted = String::new();
                loop {
                    let mut c = text.next()?;
                    if c == '"' {
                        break;
                    }
                    if c == '\\' {
                        quoted.push(c);
                        c = text.next()?;
                    }
                    if c != '\t' && (c < ' ' || c == '\x7f') {
                        return None;
                    }
                    quoted.push(c);
                }
                Lexeme::Quoted(quoted)
            }
            _ => {
                let is_token =
                    |c: &char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(*c);
                let mut token = Some(c).filter(is_token)?.to_string();
                token.extend(std::iter::from_fn(|| text.next_if(is_token)));
                Lexeme::Token(token)
            }
        });
    }
    Some(lexemes)
}

fn pair(lexemes: &[Lexeme]) -> Option<(&str, Option<&str>)> {
    match lexemes {
        [Lexeme::Token(name)] => Some((name, None)),
        [Lexeme::Token(name), Lexeme::Sign('='), Lexeme::Token(word) | Lexeme::Quoted(word)] => {
            Some((name, Some(word)))
        }
        _ => None,
    }
}

fn aws(text: &str, lenient: bool, now: u128) -> Option<Decoded> {
    let max = DATE_MAX.as_nanos();
    let mut least = Decoded::Unbounded;
    for pair in text.split(';') {
        let pair = pair.trim_matches(|c: char| c.is_ascii_whitespace());
        let Some(date) = pair.strip_prefix("ttl=") else { continue };
        let ttl = date_ns(date, lenient)?;
        if now > ttl + max {
            return None;
        }
        least = least.min(decoded(ttl.saturating_sub(now).min(max)));
    }
    Some(least)
}

/// From 1970 to a date, without fractions of a second.
fn date_ns(date: &str, lenient: bool) -> Option<u128> {
    let shape: String = date.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
    let is_strict = shape == "99999999T999999Z";
    let end = shape.strip_prefix("9999-99-99T99:99:99").and_then(|rest| rest.strip_suffix('Z'));
    let is_fraction = |end: &str| {
        end.is_empty()
            || end.len() > 1
                && end.starts_with('.')
                && !end.contains(|c| !".9".contains(c))
                && end.matches('.').count() == 1
    };
    let is_rfc3339 = end.is_some_and(is_fraction);
    if !(is_strict || lenient && is_rfc3339) {
        return None;
    }
    let digits: String = date.chars().filter(char::is_ascii_digit).take(14).collect();
    let field = |from: usize, to: usize| digits[from..to].parse::<u64>().unwrap();
    let [year, month, day] = [field(0, 4), field(4, 6), field(6, 8)];
    let [hour, minute, second] = [field(8, 10), field(10, 12), field(12, 14)];
    let is_leap = |year: u64| {
        let century = year.is_multiple_of(100);
        year.is_multiple_of(if century { 400 } else { 4 })
    };
    let mut months = [31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    if is_leap(year) {
        months[1] = 29;
    }
    let month = usize::try_from(month).unwrap();
    let of_month = *months.get(month.checked_sub(1)?)?;
    if !(1..=of_month).contains(&day) || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    if year < 1970 {
        return Some(0);
    }
    let years: u64 = (1970..year).map(|year| if is_leap(year) { 366 } else { 365 }).sum();
    let days = years + months[..month - 1].iter().sum::<u64>() + day - 1;
    Some(u128::from(((days * 24 + hour) * 60 + minute) * 60 + second) * SECOND)
}
