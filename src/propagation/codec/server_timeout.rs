//! Google's `X-Server-Timeout`: seconds, as clients print a float: `30`, `30.0`, `0.0005`.

use super::{Unit, number::Plain};

pub(super) const ALLOWED: &str = "1 to 20 digits, perhaps with decimals";

pub(super) const CODEC: Plain =
    Plain { unit: Unit::Seconds, max_digits: 20, decimal: true, zero_expires: true };

#[cfg(test)]
mod tests {
    use super::super::tests::*;

    #[test]
    fn it_is_seconds_as_a_float_is_printed() {
        for (value, is) in [
            ("30", Remaining(30 * S)),
            ("30.0", Remaining(30 * S)),
            ("0.0005", Remaining(500 * US)),
            ("0.30000000000000004", Remaining(300 * MS)),
            ("0.9999999999", Remaining(S - NS)),
            ("0", Expired),
            ("0.0000000001", Expired),
        ] {
            assert_eq!(strict(Header::XServerTimeout, value), Some(is), "{value}");
        }
        for value in ["", ".5", "5.", "1e3", "30s", "1,5", "inf"] {
            assert_eq!(lenient(Header::XServerTimeout, value), None, "{value}");
        }
    }

    #[test]
    fn it_is_written_with_as_many_decimals_as_it_takes() {
        let encode = |remaining| encode(Header::XServerTimeout, remaining).unwrap();
        assert_eq!(encode(30 * S), "30");
        assert_eq!(encode(1500 * MS), "1.5");
        assert_eq!(encode(10 * MS + NS), "0.010000001");
        assert_eq!(encode(Duration::MAX), "2147483.647");
        let careful = Encoder::new().prefer_ms(true);
        let value = careful.encode(Header::XServerTimeout, S + 1234 * US).unwrap();
        assert_eq!(value.as_str(), "1.001");
    }
}
