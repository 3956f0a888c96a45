//! What is written.

use std::fmt;

/// The longest is `ttl=20261120T101112Z`, or a hundred years with nine decimals.
const CAPACITY: usize = 24;

/// The value of a header, inline. ASCII.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Value {
    /// Zeros after its end.
    bytes: [u8; CAPACITY],
    len: u8,
}

impl Value {
    pub(super) const EMPTY: Self = Self { bytes: [0; CAPACITY], len: 0 };

    /// As bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// As a string.
    #[must_use]
    #[expect(clippy::missing_panics_doc, reason = "it is ASCII")]
    pub fn as_str(&self) -> &str {
        str::from_utf8(self.as_bytes()).expect("written as ASCII")
    }

    pub(super) fn text(mut self, text: &[u8]) -> Self {
        for &byte in text {
            self.bytes[usize::from(self.len)] = byte;
            self.len += 1;
        }
        self
    }

    pub(super) fn number(self, number: u64) -> Self {
        let mut count = 1;
        let mut rest = number / 10;
        while rest != 0 {
            count += 1;
            rest /= 10;
        }
        self.digits(number, count)
    }

    /// The last `count` digits, with zeros in front if there are fewer.
    pub(super) fn digits(mut self, mut number: u64, count: u8) -> Self {
        let start = self.len;
        self.len += count;
        for place in self.bytes[usize::from(start)..usize::from(self.len)].iter_mut().rev() {
            *place = b"0123456789"[(number % 10) as usize];
            number /= 10;
        }
        self
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self.as_str(), f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_written_piece_by_piece() {
        let value = Value::EMPTY.text(b"n=").number(0).text(b".").digits(45, 3).text(b";");
        assert_eq!(value.number(1_234_567).as_str(), "n=0.045;1234567");
        assert_eq!(Value::EMPTY.number(u64::MAX).to_string(), u64::MAX.to_string());
        assert_eq!(Value::EMPTY.digits(123, 2), Value::EMPTY.text(b"23"));
    }
}
