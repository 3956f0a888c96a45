//! Linkerd's `l5d-timeout`, `l5d-request-timeout` and `l5d-response-timeout`: a duration as in its
//! policies. Only a zero can do without a unit.
//!
//! An early proxy read seconds with decimals and no unit. To today's that is malformed,
//! as it is here.

use super::{Decoded, Value, number::Digits};

pub(super) const ALLOWED: &str = "1 to 20 digits and one of d h m s ms, or 0";

pub(super) const MILLI_NS: u64 = 1_000_000;
const SECOND_NS: u64 = 1000 * MILLI_NS;

pub(super) fn decode(value: &[u8], lenient: bool) -> Option<Decoded> {
    let digits = Digits { max: 20, decimal: false }.or_lenient(lenient);
    let (number, unit) = digits.read(value)?;
    let unit_ns = match unit {
        b"" if number.is_zero() => 0,
        b"ms" => MILLI_NS,
        b"s" => SECOND_NS,
        b"m" => 60 * SECOND_NS,
        b"h" => 3600 * SECOND_NS,
        b"d" => 24 * 3600 * SECOND_NS,
        _ => return None,
    };
    Some(number.units(unit_ns))
}

/// `None` if it would be zero.
pub(super) fn encode(remaining_ns: u64) -> Option<Value> {
    let ms = remaining_ns / MILLI_NS;
    (ms != 0).then(|| Value::EMPTY.number(ms).text(b"ms"))
}

#[cfg(test)]
mod tests {
    use super::super::tests::*;

    #[test]
    fn a_duration_has_a_unit_and_does_without_only_for_zero() {
        for header in [Header::L5dTimeout, Header::L5dRequestTimeout, Header::L5dResponseTimeout] {
            for (value, is) in [
                ("5s", Remaining(5 * S)),
                ("200ms", Remaining(200 * MS)),
                ("2m", Remaining(120 * S)),
                ("2h", Remaining(2 * HOUR)),
                ("1d", Remaining(24 * HOUR)),
                ("36526d", Unbounded),
                ("0", Expired),
                ("0ms", Expired),
            ] {
                assert_eq!(strict(header, value), Some(is), "{value}");
            }
            for value in ["5", "5.0", "1us", "1S", "1 s", "1h30m", "s", "", "-1s"] {
                assert_eq!(lenient(header, value), None, "{value}");
            }
            assert_eq!(lenient(header, "1.5s"), Some(Remaining(1500 * MS)));
            assert_eq!(encode(header, 1500 * MS + US).as_deref(), Some("1500ms"));
            assert_eq!(encode(header, MS - NS), None);
        }
    }
}
