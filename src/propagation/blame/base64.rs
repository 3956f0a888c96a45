//! Base64, as gRPC has it: the standard alphabet, written without padding, and read with it or without.

use super::MAX_BYTES;

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

pub(super) fn encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for group in bytes.chunks(3) {
        let mut bits = [0; 4];
        bits[1..=group.len()].copy_from_slice(group);
        let bits = u32::from_be_bytes(bits);
        // As many as it takes: one more than there are bytes.
        for place in 0..=group.len() {
            let index = bits >> (18 - 6 * place) & 63;
            text.push(ALPHABET[index as usize].into());
        }
    }
    text
}

const fn value(letter: u8) -> Option<u32> {
    let value = match letter {
        b'A'..=b'Z' => letter - b'A',
        b'a'..=b'z' => letter - b'a' + 26,
        b'0'..=b'9' => letter - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(value as u32)
}

/// Into `buffer`. `None` if it isn't that, or has no place there.
pub(super) fn decode<'a>(text: &[u8], buffer: &'a mut [u8; MAX_BYTES]) -> Option<&'a [u8]> {
    let padding = text.iter().rev().take(2).take_while(|letter| **letter == b'=').count();
    if padding > 0 && !text.len().is_multiple_of(4) {
        return None;
    }
    let mut len = 0;
    for group in text[..text.len() - padding].chunks(4) {
        let mut bits = 0;
        for place in 0..4 {
            bits = bits << 6 | group.get(place).map_or(Some(0), |letter| value(*letter))?;
        }
        // A letter alone has no whole byte.
        let count = group.len().checked_sub(1).filter(|count| *count > 0)?;
        let [_, bytes @ ..] = bits.to_be_bytes();
        buffer.get_mut(len..len + count)?.copy_from_slice(&bytes[..count]);
        len += count;
    }
    Some(&buffer[..len])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Option<Vec<u8>> {
        decode(text.as_bytes(), &mut [0; MAX_BYTES]).map(<[u8]>::to_vec)
    }

    #[test]
    fn it_is_that_of_everybody_else() {
        // Those of RFC 4648, section 10.
        for (bytes, text) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            let bare = text.trim_end_matches('=');
            assert_eq!(encode(bytes.as_bytes()), bare);
            assert_eq!(read(bare).unwrap(), bytes.as_bytes());
            assert_eq!(read(text).unwrap(), bytes.as_bytes());
        }
    }

    #[test]
    fn what_is_none_is_refused() {
        for text in ["Z", "Zm9vY", "Zg=", "Z===", "====", "Zm-v", "Zm9v\n", "Zg==Zg==", "Zm9v,Zm9v"]
        {
            assert_eq!(read(text), None, "{text}");
        }
        let long = "A".repeat(MAX_BYTES / 3 * 4);
        assert!(read(&long).is_some());
        assert_eq!(read(&(long + "AA")), None);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(bytes in prop::collection::vec(any::<u8>(), 0..=MAX_BYTES)) {
            prop_assert_eq!(read(&encode(&bytes)), Some(bytes));
        }
    }
}
