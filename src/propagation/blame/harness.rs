//! Blame of any bytes, for property tests and for fuzzing.
//!
//! A fuzz target is one line: `fuzz_target!(|bytes: &[u8]| harness::fuzz(bytes));`.

use super::{Blame, Hop, MAX_HOPS, MAX_LEN, MAX_TEXT, base64, decode, encode};

/// Reads bytes, as they are and in base64 (a fuzzer that had to write that would get nowhere), and writes
/// what it has read again.
///
/// # Panics
///
/// If what was read is more than may be, or isn't what is read again.
pub fn fuzz(bytes: &[u8]) {
    for text in [bytes, base64::encode(bytes).as_bytes()] {
        let hops = match decode(text) {
            Ok(hops) => hops,
            Err(bad) => {
                assert!(is_clean(&bad.to_string()));
                continue;
            }
        };
        check(&hops);
        let again = encode(&hops);
        assert!(again.len() <= text.len(), "{again}");
        assert_eq!(decode(again.as_bytes()).as_ref(), Ok(&hops));
        // And at the next hop, which has more to tell.
        let more = hops.iter().take(1).chain(&hops).chain(&hops);
        let kept = decode(encode(more).as_bytes()).expect("what is written is read");
        check(&kept);
        assert_eq!(kept.first(), hops.first());
        assert_eq!(kept.last().map(Hop::service), hops.last().map(Hop::service));
    }
}

fn is_clean(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b' '..=b'~'))
}

fn check(hops: &[Hop]) {
    assert!(hops.len() <= MAX_HOPS);
    for hop in hops {
        let peer = hop.waited().and_then(|waited| waited.peer());
        for text in [hop.service(), hop.path(), hop.set_by(), peer].into_iter().flatten() {
            assert!(text.len() <= MAX_TEXT && is_clean(text), "{text:?}");
        }
    }
    let shown = Blame::new(None, hops.to_vec(), false).to_string();
    // "µs" is all that isn't ASCII.
    assert!(is_clean(&shown.replace('µ', "u")) && shown.len() < 4 * MAX_LEN, "{shown:?}");
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::super::{BadBlame, MAX_BYTES};
    use super::*;
    use crate::deadline::{Phase, Spent, Waited};

    fn any_text() -> impl Strategy<Value = Option<Box<str>>> {
        prop::option::of("[ -~]{0,64}".prop_map(Box::from))
    }

    fn any_time() -> impl Strategy<Value = Duration> {
        prop_oneof![Just(0), 0..1_u64 << 40, any::<u64>()].prop_map(Duration::from_nanos)
    }

    fn any_phase() -> impl Strategy<Value = Phase> {
        prop::sample::select(&Phase::ALL[..])
    }

    fn any_waited() -> impl Strategy<Value = Waited> {
        (any_text(), any_phase(), any_time()).prop_map(|(peer, phase, took)| Waited {
            peer,
            phase,
            took,
        })
    }

    fn any_hop() -> impl Strategy<Value = Hop> {
        let texts = (any_text(), any_text(), any_text());
        let times = (any_time(), any_time(), prop::array::uniform5(any_time()));
        let rest = (prop::option::of(any_phase()), prop::option::of(any_waited()), any::<bool>());
        (texts, times, rest).prop_map(
            |((service, path, set_by), (budget, elapsed, spent), (phase, waited, whole))| Hop {
                service,
                path,
                set_by,
                budget,
                elapsed,
                phase,
                spent: Spent(spent),
                waited,
                whole,
                after_gap: false,
            },
        )
    }

    /// That of nothing but the version and what `hops` has.
    fn text(hops: &[&[u8]]) -> String {
        let mut bytes = vec![1];
        for hop in hops {
            bytes.extend(u16::try_from(hop.len()).unwrap().to_be_bytes());
            bytes.extend(*hop);
        }
        base64::encode(&bytes)
    }

    fn read(hops: &[&[u8]]) -> Result<Vec<Hop>, BadBlame> {
        decode(text(hops).as_bytes())
    }

    #[test]
    fn what_is_forged_is_refused_as_a_whole() {
        assert_eq!(decode(&[b'A'; 1025]), Err(BadBlame::TooLong(1025)));
        assert_eq!(decode(b"?"), Err(BadBlame::NotBase64));
        assert_eq!(decode(b""), Err(BadBlame::Version(None)));
        assert_eq!(decode(b"AgAA"), Err(BadBlame::Version(Some(2))));
        let empty = b"".as_slice();
        assert_eq!(read(&[empty; 8]).unwrap().len(), 8);
        assert_eq!(read(&[empty; 9]), Err(BadBlame::TooManyHops));
        assert_eq!(read(&[b"", b"\x01"]), Err(BadBlame::CutOff));
        assert_eq!(read(&[b"\x01\x05orde"]), Err(BadBlame::CutOff));
        assert_eq!(decode(base64::encode(b"\x01\x00").as_bytes()), Err(BadBlame::CutOff));
        assert_eq!(decode(base64::encode(b"\x01\xff\xff").as_bytes()), Err(BadBlame::CutOff));
        for control in [b"\x01\x02\x1b[", b"\x02\x02a\n", b"\x03\x02\xc3\xb6", b"\x0d\x02\x7fa"] {
            assert_eq!(read(&[control]), Err(BadBlame::Field(control[0])));
        }
        let long = [b"\x01\x41".as_slice(), &[b'a'; 65]].concat();
        assert_eq!(read(&[&long]), Err(BadBlame::Field(1)));
        assert_eq!(read(&[b"\x04\x09123456789"]), Err(BadBlame::Field(4)));
        assert_eq!(read(&[b"\x07\x00"]), Err(BadBlame::Field(7)));
    }

    #[test]
    fn what_is_of_a_later_time_is_left_out() {
        // Another field, another bit, another phase; and what comes twice.
        let hops = read(&[b"\x63\x02\0\xff\x06\x01\xf5\x07\x01\x09\x01\x01a\x01\x01b"]).unwrap();
        assert_eq!((hops[0].service(), hops[0].phase()), (Some("b"), None));
        assert!(hops[0].used_whole_budget() && !hops[0].after_gap);
    }

    #[test]
    fn text_is_cleaned_and_cut() {
        let mut hop = read(&[b""]).unwrap().remove(0);
        hop = hop.with_service("stöck\r\n\x1b[2J").with_path("/".repeat(100));
        let hops = decode(encode([&hop]).as_bytes()).unwrap();
        assert_eq!(hops[0].service(), Some("st?ck???[2J"));
        assert_eq!(hops[0].path().unwrap().len(), 64);
    }

    #[test]
    fn what_does_not_fit_leaves_a_gap() {
        let hop = |name: usize| read(&[b""]).unwrap().remove(0).with_service(name.to_string());
        let all: Vec<_> = (0..12).map(hop).collect();
        let kept = decode(encode(&all).as_bytes()).unwrap();
        let names: Vec<_> = kept.iter().filter_map(Hop::service).collect();
        assert_eq!(names, ["0", "1", "2", "3", "4", "5", "6", "11"]);
        assert_eq!(kept[7].to_string(), "...; 11: expired after 0ns of 0ns");
    }

    proptest! {
        #[test]
        fn what_fits_is_read_as_it_was_written(hops in prop::collection::vec(any_hop(), 0..12)) {
            let text = encode(&hops);
            prop_assert!(text.len() <= MAX_LEN);
            let read = decode(text.as_bytes()).unwrap();
            check(&read);
            if read.len() == hops.len() {
                prop_assert_eq!(read, hops);
            } else {
                let (last, first) = read.split_last().unwrap();
                prop_assert_eq!(first, &hops[..first.len()]);
                let expected = Hop { after_gap: true, ..hops.last().unwrap().clone() };
                prop_assert_eq!(last, &expected);
                prop_assert!(!first.is_empty());
            }
        }

        #[test]
        fn no_bytes_hurt(bytes in prop::collection::vec(any::<u8>(), 0..=MAX_BYTES)) {
            fuzz(&bytes);
        }

        #[test]
        fn no_fields_hurt(
            hops in prop::collection::vec(
                prop::collection::vec((0_u8..18, prop::collection::vec(any::<u8>(), 0..10)), 0..6),
                0..10,
            ),
        ) {
            let mut bytes = vec![1];
            for fields in hops {
                let mut hop = vec![];
                for (field, value) in fields {
                    hop.extend([field, u8::try_from(value.len()).unwrap()]);
                    hop.extend(value);
                }
                bytes.extend(u16::try_from(hop.len()).unwrap().to_be_bytes());
                bytes.extend(hop);
            }
            fuzz(&bytes);
        }
    }
}
