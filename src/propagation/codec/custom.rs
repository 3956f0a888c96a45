//! Headers of one's own.

use super::{envoy, number::Plain, prefer::is_token, server_timeout};

/// A unit of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Unit {
    /// 10^9 ns.
    Seconds,
    /// 10^6 ns.
    Milliseconds,
    /// 1000 ns.
    Microseconds,
    /// The finest.
    Nanoseconds,
}

impl Unit {
    pub(super) const fn ns(self) -> u64 {
        match self {
            Self::Seconds => 1_000_000_000,
            Self::Milliseconds => 1_000_000,
            Self::Microseconds => 1000,
            Self::Nanoseconds => 1,
        }
    }

    /// How many of them a nanosecond takes.
    pub(super) const fn decimals(self) -> u8 {
        match self {
            Self::Seconds => 9,
            Self::Milliseconds => 6,
            Self::Microseconds => 3,
            Self::Nanoseconds => 0,
        }
    }
}

/// A header of your own: its name, and how its value is read and written.
///
/// By default the value is 1 to 20 digits, and zero is expired.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use deadbeat::propagation::codec::{Custom, Decoded, Decoder, Encoder, Header, Unit};
///
/// const BUDGET: Header =
///     Header::Custom(Custom::new("x-budget", Unit::Seconds).unwrap().with_decimals());
///
/// let value = Encoder::new().encode(BUDGET, Duration::from_millis(1500))?;
/// assert_eq!(value.as_str(), "1.5");
/// let inbound = Decoder::new().decode(BUDGET, [b"0.250".as_slice()])?;
/// assert_eq!(inbound.decoded, Decoded::Remaining(Duration::from_millis(250)));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Custom {
    name: &'static str,
    plain: Plain,
}

impl Custom {
    /// A header of that name, in that unit. `None` if the name is not one of HTTP/2: a token without
    /// upper case.
    #[must_use]
    pub const fn new(name: &'static str, unit: Unit) -> Option<Self> {
        let bytes = name.as_bytes();
        let mut i = 0;
        while i < bytes.len() {
            if !is_token(bytes[i]) || bytes[i].is_ascii_uppercase() {
                return None;
            }
            i += 1;
        }
        if bytes.is_empty() {
            return None;
        }
        let plain = Plain { unit, max_digits: 20, decimal: false, zero_expires: true };
        Some(Self { name, plain })
    }

    /// The value may have a point and decimals. They are written as far as they are needed, down to
    /// nanoseconds.
    #[must_use]
    pub const fn with_decimals(mut self) -> Self {
        self.plain.decimal = true;
        self
    }

    /// Zero received is no limit, rather than expired.
    #[must_use]
    pub const fn with_zero_unbounded(mut self) -> Self {
        self.plain.zero_expires = false;
        self
    }

    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        self.name
    }

    /// Its unit.
    #[must_use]
    pub const fn unit(self) -> Unit {
        self.plain.unit
    }

    pub(super) const fn codec(self) -> Plain {
        self.plain
    }

    pub(super) const fn allowed(self) -> &'static str {
        if self.plain.decimal { server_timeout::ALLOWED } else { envoy::ALLOWED }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::*;
    use super::*;

    fn custom(unit: Unit) -> Custom {
        Custom::new("x-left", unit).unwrap()
    }

    #[test]
    fn it_has_a_name_of_http_2() {
        for name in ["", "X-Left", "x left", "x-left:", "é", ":path"] {
            assert_eq!(Custom::new(name, Unit::Seconds), None, "{name}");
        }
        assert_eq!(Header::Custom(custom(Unit::Seconds)).to_string(), "x-left");
    }

    #[test]
    fn it_is_a_number_of_its_unit() {
        for (unit, of) in [
            (Unit::Seconds, S),
            (Unit::Milliseconds, MS),
            (Unit::Microseconds, US),
            (Unit::Nanoseconds, NS),
        ] {
            let header = Header::Custom(custom(unit));
            assert_eq!(strict(header, "7"), Some(Remaining(7 * of)));
            assert_eq!(encode(header, 7 * of).as_deref(), Some("7"));
            assert_eq!(encode(header, of - NS), None);
            assert_eq!(strict(header, "0"), Some(Expired));
            assert_eq!(lenient(header, "7.5"), Some(Remaining(7 * of + of / 2)));
            let header = Header::Custom(custom(unit).with_decimals().with_zero_unbounded());
            assert_eq!(strict(header, "7.5"), Some(Remaining(7 * of + of / 2)));
            assert_eq!(strict(header, "0.0"), Some(Unbounded));
            assert_eq!(encode(header, 7 * of).as_deref(), Some("7"));
        }
        let header = Header::Custom(custom(Unit::Milliseconds).with_decimals());
        assert_eq!(encode(header, 12_700 * US).as_deref(), Some("12.7"));
        assert_eq!(encode(header, 12 * MS + 70 * NS).as_deref(), Some("12.00007"));
    }
}
