//! `grpc-timeout`.
//!
//! Peers differ: grpc-java reads `+5S`, grpc-js reads `1.5S` as five seconds, grpcio takes more digits,
//! and connect-es sends `12.7m`. Strictly, it is what the specification says; leniently, what
//! well-meaning peers do send. Nobody sends a sign or a space.

use super::{Decoded, Value, number::Digits};

pub(super) const ALLOWED: &str = "1 to 8 digits and one of H M S m u n";

const MOST: u64 = 99_999_999;
const MILLI_NS: u64 = 1_000_000;
/// From the finest on.
const UNITS: [(u8, u64); 6] = [
    (b'n', 1),
    (b'u', 1000),
    (b'm', MILLI_NS),
    (b'S', 1_000_000_000),
    (b'M', 60 * 1_000_000_000),
    (b'H', 3600 * 1_000_000_000),
];

pub(super) fn decode(value: &[u8], lenient: bool) -> Option<Decoded> {
    let digits = Digits { max: 8, decimal: false }.or_lenient(lenient);
    let (number, unit) = digits.read(value)?;
    let &[unit] = unit else { return None };
    let (_, unit_ns) = UNITS.into_iter().find(|&(name, _)| name == unit)?;
    Some(number.units(unit_ns))
}

/// `None` for zero.
pub(super) fn encode(remaining_ns: u64, prefer_ms: bool) -> Option<Value> {
    if remaining_ns == 0 {
        return None;
    }
    let finest = if prefer_ms && remaining_ns >= MILLI_NS { MILLI_NS } else { 1 };
    let (unit, count) = UNITS
        .into_iter()
        .filter(|&(_, unit_ns)| unit_ns >= finest)
        .map(|(unit, unit_ns)| (unit, remaining_ns / unit_ns))
        .find(|&(_, count)| count <= MOST)?;
    Some(Value::EMPTY.number(count).text(&[unit]))
}

#[cfg(test)]
mod tests {
    use super::super::tests::*;

    /// By remaining time: tonic, connect-rust, grpc-go, grpc-java, grpcio, grpc-js.
    #[test]
    fn what_peers_send_is_read_as_they_mean_it() {
        for (value, is) in [
            ("0n", Expired),
            ("0m", Expired),
            ("1n", Remaining(NS)),
            ("500000n", Remaining(500 * US)),
            ("500u", Remaining(500 * US)),
            ("1m", Remaining(MS)),
            ("1000000u", Remaining(S)),
            ("1S", Remaining(S)),
            ("1010m", Remaining(1010 * MS)),
            ("1000m", Remaining(S)),
            ("1234000u", Remaining(1234 * MS)),
            ("1234m", Remaining(1234 * MS)),
            ("1240m", Remaining(1240 * MS)),
            ("12700000n", Remaining(12_700 * US)),
            ("12700u", Remaining(12_700 * US)),
            ("13m", Remaining(13 * MS)),
            ("2592000S", Remaining(720 * HOUR)),
            ("43300M", Remaining(43_300 * 60 * S)),
            ("5010S", Remaining(5010 * S)),
            ("27000H", Remaining(27_000 * HOUR)),
            ("2562048H", Unbounded),
            ("99999999S", Remaining(99_999_999 * S)),
            ("99999999H", Unbounded),
        ] {
            assert_eq!(strict(Header::GrpcTimeout, value), Some(is), "{value}");
        }
    }

    #[test]
    fn what_connect_es_and_volo_send_is_malformed_unless_one_is_lenient() {
        let grpc = |value| lenient(Header::GrpcTimeout, value);
        assert_eq!(grpc("12.7m"), Some(Remaining(12_700 * US)));
        assert_eq!(grpc("0.5m"), Some(Remaining(500 * US)));
        assert_eq!(grpc("2592000000m"), Some(Remaining(720 * HOUR)));
        assert_eq!(lenient(Header::ConnectTimeoutMs, "0.5"), Some(Remaining(500 * US)));
        assert_eq!(
            lenient(Header::ConnectTimeoutMs, "12345678901"),
            Some(Remaining(Duration::from_millis(12_345_678_901)))
        );
        // By volo.
        assert_eq!(grpc("1500000000n"), Some(Remaining(1500 * MS)));
    }

    /// The values that servers of all languages were asked about.
    #[test]
    fn what_peers_disagree_on_is_as_the_specification_says() {
        for value in
            ["5", "5s", "", "S", "+5S", "-5S", " 5S", "5S ", "5 S", "2S,5S", "5SS", "0x5S", "٥S"]
        {
            assert_eq!(lenient(Header::GrpcTimeout, value), None, "{value}");
        }
        for value in ["1e3m", ".5m", "5.m", "1.2.3m", "Infinitym", "NaNm"] {
            assert_eq!(lenient(Header::GrpcTimeout, value), None, "{value}");
        }
        assert_eq!(lenient(Header::GrpcTimeout, "1.5S"), Some(Remaining(1500 * MS)));
        assert_eq!(lenient(Header::GrpcTimeout, "123456789S"), Some(Remaining(123_456_789 * S)));
        for (value, is) in [
            ("720H", Remaining(720 * HOUR)),
            ("999u", Remaining(999 * US)),
            ("0S", Expired),
            ("00000000n", Expired),
            ("00000001n", Remaining(NS)),
        ] {
            assert_eq!(strict(Header::GrpcTimeout, value), Some(is), "{value}");
        }
        assert_eq!(lenient(Header::GrpcTimeout, "000000001n"), Some(Remaining(NS)));
    }

    #[test]
    fn it_is_written_in_the_finest_unit_that_fits_and_floored() {
        for (remaining, value) in [
            (NS, "1n"),
            (99_999_999 * NS, "99999999n"),
            (100_000_000 * NS, "100000u"),
            (100_000_999 * NS, "100000u"),
            (500 * US, "500000n"),
            (12_700 * US, "12700000n"),
            (S, "1000000u"),
            (1234 * MS, "1234000u"),
            (100 * S - NS, "99999999u"),
            (100 * S, "100000m"),
            (100_000 * S - NS, "99999999m"),
            (100_000 * S, "100000S"),
            (Duration::from_millis(i32::MAX as u64), "2147483S"),
            (720 * HOUR, "2147483S"),
            (Duration::MAX, "2147483S"),
        ] {
            assert_eq!(encode(Header::GrpcTimeout, remaining).as_deref(), Some(value));
        }
        assert_eq!(encode(Header::GrpcTimeout, Duration::ZERO), None);
    }

    #[test]
    fn without_a_cap_it_still_ends_with_the_century() {
        let encoder = Encoder::new().cap(Duration::MAX);
        let value = encoder.encode(Header::GrpcTimeout, Duration::MAX).unwrap();
        assert_eq!(value.as_str(), "52596000M");
        assert_eq!(strict(Header::GrpcTimeout, value.as_str()), Some(Remaining(HORIZON)));
        let value = encoder.encode(Header::GrpcTimeout, 720 * HOUR).unwrap();
        assert_eq!(value.as_str(), "2592000S");
    }

    #[test]
    fn it_is_not_finer_than_ms_for_peers_that_are_not_known() {
        let encoder = Encoder::new().prefer_ms(true);
        let encode =
            |remaining| encoder.encode(Header::GrpcTimeout, remaining).unwrap().to_string();
        assert_eq!(encode(999_999 * NS), "999999n");
        assert_eq!(encode(MS), "1m");
        assert_eq!(encode(12_700 * US), "12m");
        assert_eq!(encode(1234 * MS), "1234m");
        assert_eq!(encode(100_000 * S), "100000S");
    }
}
