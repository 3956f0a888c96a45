//! Numbers with and without decimals, and headers that are a number of one unit.

use super::{Decoded, Unit, Value};

/// Digits of a fraction after these don't count. They would be worth less than a nanosecond in any unit.
const FRACTION_DIGITS: usize = 18;

/// A decimal number as it was read, saturated.
#[derive(Clone, Copy, Debug)]
pub(super) struct Number {
    whole: u64,
    /// Of `scale`, a power of ten.
    fraction: u64,
    scale: u64,
    is_zero: bool,
}

/// What a number may look like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Digits {
    /// The most digits before the point.
    pub(super) max: usize,
    /// Whether there may be a point, and then at least a digit.
    pub(super) decimal: bool,
}

impl Digits {
    /// As strictly as that, or as real peers send it.
    pub(super) fn or_lenient(self, lenient: bool) -> Self {
        if lenient { Self { max: usize::MAX, decimal: true } } else { self }
    }

    /// The number at the start of `bytes`, and the rest.
    pub(super) fn read(self, bytes: &[u8]) -> Option<(Number, &[u8])> {
        let (whole, rest) = split(bytes);
        if whole.is_empty() || whole.len() > self.max {
            return None;
        }
        let mut number =
            Number { whole: value(whole), fraction: 0, scale: 1, is_zero: is_zero(whole) };
        let Some(rest) = rest.strip_prefix(b".").filter(|_| self.decimal) else {
            return Some((number, rest));
        };
        let (fraction, rest) = split(rest);
        if fraction.is_empty() {
            return None;
        }
        number.is_zero &= is_zero(fraction);
        let counted = &fraction[..fraction.len().min(FRACTION_DIGITS)];
        number.fraction = value(counted);
        number.scale = counted.iter().fold(1, |scale, _| scale * 10);
        Some((number, rest))
    }
}

/// The digits at the start of `bytes`, and the rest.
fn split(bytes: &[u8]) -> (&[u8], &[u8]) {
    bytes.split_at(bytes.iter().take_while(|byte| byte.is_ascii_digit()).count())
}

fn value(digits: &[u8]) -> u64 {
    digits
        .iter()
        .fold(0u64, |value, digit| value.saturating_mul(10).saturating_add(u64::from(digit - b'0')))
}

fn is_zero(digits: &[u8]) -> bool {
    digits.iter().all(|&digit| digit == b'0')
}

impl Number {
    /// Whether all of its digits are zeros; one that is too small to count isn't.
    pub(super) fn is_zero(self) -> bool {
        self.is_zero
    }

    /// So many units, floored to nanoseconds.
    pub(super) fn units(self, unit_ns: u64) -> Decoded {
        let whole = u128::from(self.whole) * u128::from(unit_ns);
        let fraction = u128::from(self.fraction) * u128::from(unit_ns) / u128::from(self.scale);
        Decoded::from_ns(whole + fraction)
    }
}

/// A header that is a number of one unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Plain {
    pub(super) unit: Unit,
    pub(super) max_digits: u8,
    pub(super) decimal: bool,
    /// What zero is: expired, or else no limit.
    pub(super) zero_expires: bool,
}

impl Plain {
    pub(super) fn decode(self, value: &[u8], lenient: bool) -> Option<Decoded> {
        let digits = Digits { max: self.max_digits.into(), decimal: self.decimal };
        let (number, rest) = digits.or_lenient(lenient).read(value)?;
        if !rest.is_empty() {
            return None;
        }
        if number.is_zero() && !self.zero_expires {
            return Some(Decoded::Unbounded);
        }
        Some(number.units(self.unit.ns()))
    }

    /// `None` if it would be zero.
    pub(super) fn encode(self, remaining_ns: u64) -> Option<Value> {
        let unit_ns = self.unit.ns();
        let (whole, mut fraction) = (remaining_ns / unit_ns, remaining_ns % unit_ns);
        if !self.decimal || fraction == 0 {
            let most = 10u64.saturating_pow(self.max_digits.into()) - 1;
            return (whole != 0).then(|| Value::EMPTY.number(whole.min(most)));
        }
        let mut digits = self.unit.decimals();
        while fraction.is_multiple_of(10) {
            fraction /= 10;
            digits -= 1;
        }
        Some(Value::EMPTY.number(whole).text(b".").digits(fraction, digits))
    }

    /// The shortest time that can be written.
    pub(super) const fn least_ns(self) -> u64 {
        if self.decimal { 1 } else { self.unit.ns() }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::*;

    const ALL: [Header; 4] = [
        Header::ConnectTimeoutMs,
        Header::EnvoyExpectedRqTimeoutMs,
        Header::EnvoyUpstreamRqTimeoutMs,
        Header::ContextTtlMs,
    ];

    #[test]
    fn headers_in_ms_are_floored_and_fail_below_one() {
        for header in ALL {
            assert_eq!(encode(header, 1234 * MS + 999 * US).as_deref(), Some("1234"));
            assert_eq!(encode(header, MS).as_deref(), Some("1"));
            assert_eq!(encode(header, Duration::MAX).as_deref(), Some("2147483647"));
            let error = Encoder::new().encode(header, 999_999 * NS).unwrap_err();
            assert_eq!(
                error.to_string(),
                format!("{header} can't say 999.999µs, its least is 1ms")
            );
            assert_eq!(encode(header, Duration::ZERO), None);
        }
    }

    #[test]
    fn they_have_as_many_digits_as_each_allows() {
        for (header, digits) in ALL.into_iter().zip([10, 20, 20, 19]) {
            assert!(strict(header, &"9".repeat(digits)).is_some());
            assert!(lenient(header, &"9".repeat(digits + 1)).is_some());
            assert_eq!(lenient(header, &"9".repeat(99)), Some(Unbounded));
            assert_eq!(strict(header, &format!("{:0digits$}", 7)), Some(Remaining(7 * MS)));
            for value in ["", "-1", "+1", "1 ", "1ms", "1,2", "1e3", "1."] {
                assert_eq!(lenient(header, value), None, "{header} {value}");
            }
        }
        let uncapped = Encoder::new().cap(Duration::MAX);
        let most = uncapped.encode(Header::ConnectTimeoutMs, Duration::MAX).unwrap();
        assert_eq!(most.as_str(), "9999999999");
        assert_eq!(
            strict(Header::ConnectTimeoutMs, "9999999999"),
            Some(Remaining(Duration::from_millis(9_999_999_999)))
        );
        assert_eq!(
            strict(Header::EnvoyExpectedRqTimeoutMs, &u64::MAX.to_string()),
            Some(Unbounded)
        );
    }

    #[test]
    fn zero_says_that_time_is_up_or_with_envoy_that_there_is_no_limit() {
        let [connect, expected, upstream, yarpc] = ALL;
        assert_eq!([strict(connect, "0"), strict(yarpc, "000")], [Some(Expired); 2]);
        assert_eq!([strict(expected, "0"), strict(upstream, "00")], [Some(Unbounded); 2]);
        // But what is only too small to count is not zero.
        assert_eq!(lenient(expected, "0.0000009"), Some(Expired));
        assert_eq!(lenient(expected, &format!("0.{}1", "0".repeat(40))), Some(Expired));
        assert_eq!(lenient(expected, "0.0"), Some(Unbounded));
    }
}
