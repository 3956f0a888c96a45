//! `wait` of `Prefer`, RFC 7240.
//!
//! ```text
//! Prefer     = list of preference
//! preference = token [ BWS "=" BWS word ] *( OWS ";" [ OWS parameter ] )
//! parameter  = token [ BWS "=" BWS word ]
//! word       = token / quoted-string
//! wait       = "wait" BWS "=" BWS delta-seconds
//! ```
//!
//! A word may be quoted, so `wait="10"` is the same; with a digit escaped by a backslash it is malformed.
//! Elements of the list may be empty (RFC 9110, 5.6.1).

use super::{Decoded, Value, number::Digits};

pub(super) const ALLOWED: &str = "a list of preferences, and digits for wait";

pub(super) const SECOND_NS: u64 = 1_000_000_000;

pub(super) fn decode(value: &[u8], lenient: bool) -> Option<Decoded> {
    let mut list = Cursor(value);
    let mut least = Decoded::Unbounded;
    loop {
        list.skip_spaces();
        if list.0.is_empty() {
            return Some(least);
        }
        if list.eat(b',') {
            continue;
        }
        let (name, word) = list.pair()?;
        if name.eq_ignore_ascii_case(b"wait") {
            least = least.min(wait(word?, lenient)?);
        }
        list.parameters()?;
        if !list.0.is_empty() && !list.eat(b',') {
            return None;
        }
    }
}

fn wait(word: &[u8], lenient: bool) -> Option<Decoded> {
    let digits = Digits { max: usize::MAX, decimal: false }.or_lenient(lenient);
    let (number, rest) = digits.read(word)?;
    rest.is_empty().then(|| number.units(SECOND_NS))
}

/// `None` if it would be zero.
pub(super) fn encode(remaining_ns: u64) -> Option<Value> {
    let seconds = remaining_ns / SECOND_NS;
    (seconds != 0).then(|| Value::EMPTY.text(b"wait=").number(seconds))
}

/// What is still to be read.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn skip_spaces(&mut self) {
        while self.eat(b' ') || self.eat(b'\t') {}
    }

    fn eat(&mut self, byte: u8) -> bool {
        let rest = self.0.strip_prefix(&[byte]);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }

    /// A name, and a word if there is one.
    fn pair(&mut self) -> Option<(&'a [u8], Option<&'a [u8]>)> {
        let name = self.token()?;
        self.skip_spaces();
        if !self.eat(b'=') {
            return Some((name, None));
        }
        self.skip_spaces();
        let word = if self.eat(b'"') { self.quoted()? } else { self.token()? };
        Some((name, Some(word)))
    }

    /// Goes to the end of the preference.
    fn parameters(&mut self) -> Option<()> {
        self.skip_spaces();
        while self.eat(b';') {
            self.skip_spaces();
            if self.0.first().copied().is_some_and(is_token) {
                self.pair()?;
                self.skip_spaces();
            }
        }
        Some(())
    }

    fn token(&mut self) -> Option<&'a [u8]> {
        let len = self.0.iter().take_while(|&&byte| is_token(byte)).count();
        let (token, rest) = self.0.split_at(len);
        self.0 = rest;
        (len > 0).then_some(token)
    }

    /// What is between the quotes, of which the first has been read, with its escapes.
    fn quoted(&mut self) -> Option<&'a [u8]> {
        let all = self.0;
        let mut at = 0;
        loop {
            match all.get(at)? {
                b'"' => break,
                b'\\' => at += 1,
                _ => {}
            }
            if !is_text(*all.get(at)?) {
                return None;
            }
            at += 1;
        }
        self.0 = &all[at + 1..];
        Some(&all[..at])
    }
}

/// `tchar` of RFC 9110.
pub(super) const fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric()
        || matches!(
            byte,
            b'!' | b'#'
                | b'$'
                | b'%'
                | b'&'
                | b'\''
                | b'*'
                | b'+'
                | b'-'
                | b'.'
                | b'^'
                | b'_'
                | b'`'
                | b'|'
                | b'~'
        )
}

/// What may be between quotes.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || !byte.is_ascii_control()
}

#[cfg(test)]
mod tests {
    use super::super::tests::*;

    #[test]
    fn wait_is_found_among_preferences_and_their_parameters() {
        for value in [
            "wait=10",
            "Wait=10",
            "wait = 10",
            "wait=\"10\"",
            "respond-async, wait=10",
            "respond-async,wait=10,",
            ", ,wait=10;foo;bar=\"x\\\"y, wait=1\" ; ;",
            "return=minimal; wait=1, wait=10",
            "foo=\"a, wait=2\"; bar=\"wait=3\", wait=10",
            "wait=20, wait=10, wait=30",
            "x=\"\u{e9}\", wait=10",
        ] {
            assert_eq!(strict(Header::Prefer, value), Some(Remaining(10 * S)), "{value}");
        }
        for value in ["", "respond-async", "waiting=10", "foo; wait=10", "a=\"wait=10\"", ", ,"] {
            assert_eq!(strict(Header::Prefer, value), Some(Unbounded), "{value}");
        }
        assert_eq!(strict(Header::Prefer, "wait=0"), Some(Expired));
        assert_eq!(strict(Header::Prefer, &format!("wait={}", "9".repeat(99))), Some(Unbounded));
    }

    #[test]
    fn a_list_that_is_not_well_formed_is_malformed() {
        for value in [
            "wait",
            "wait=",
            "wait=\"\"",
            "wait=ten",
            "wait=10s",
            "wait=-1",
            "wait=+1",
            "wait=\"1\\0\"",
            "wait=10 wait=20",
            "wait=10; =",
            "=10",
            "foo=\"bar, wait=10",
            "foo=\"\\",
            "foo=\"\n\"",
            "foo (bar)",
            "wait=10;foo=",
            "wait==10",
        ] {
            assert_eq!(lenient(Header::Prefer, value), None, "{value}");
        }
        assert_eq!(lenient(Header::Prefer, "wait=1.5"), Some(Remaining(1500 * MS)));
    }

    #[test]
    fn it_is_a_wish_and_so_nothing_that_a_request_is_rejected_for() {
        assert!(Header::Prefer.is_preference());
        assert_eq!(Header::KNOWN.iter().filter(|header| header.is_preference()).count(), 1);
        let decoder = Decoder::new().on_malformed(OnMalformed::Reject);
        let values = [b"wait=10".as_slice(), b"return=minimal", b"wait=\"", b"wait=5"];
        let inbound = decoder.decode(Header::Prefer, values).unwrap();
        assert_eq!((inbound.decoded, inbound.ignored), (Remaining(5 * S), 1));
    }

    #[test]
    fn it_is_written_in_whole_seconds() {
        assert_eq!(encode(Header::Prefer, 10 * S + 999 * MS).as_deref(), Some("wait=10"));
        assert_eq!(encode(Header::Prefer, S - NS), None);
    }
}
