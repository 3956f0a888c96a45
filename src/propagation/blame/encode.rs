//! Hops to text.

use std::time::Duration;

use super::{
    AFTER_GAP, MAX_BYTES, MAX_HOPS, MAX_TEXT, VERSION, WHOLE, base64,
    field::{
        BITS, BUDGET, ELAPSED, PATH, PEER, PEER_PHASE, PEER_TOOK, PHASE, QUEUE, SERVICE, SET_BY,
    },
};
use crate::clock::saturating_ns;
use crate::deadline::{Hop, Phase};

/// Writes `hops`, nearest first, as the value of a header: at most [`MAX_LEN`](super::MAX_LEN) bytes. Of those
/// that don't fit, the ones in the middle are left out; there is always room for the nearest and the farthest.
///
/// # Complexity
///
/// *O*(hops), each time that one is left out.
#[must_use]
pub fn encode<'a>(hops: impl IntoIterator<Item = &'a Hop>) -> String {
    let mut kept: Vec<&Hop> = hops.into_iter().collect();
    let mut gap = false;
    loop {
        let bytes = (kept.len() <= MAX_HOPS).then(|| write(&kept, gap));
        match bytes {
            Some(bytes) if bytes.len() <= MAX_BYTES => return base64::encode(&bytes),
            _ => {
                kept.remove(kept.len() - 2);
                gap = true;
            }
        }
    }
}

/// With a gap before the last, or as it is.
fn write(hops: &[&Hop], gap: bool) -> Vec<u8> {
    let mut out = vec![VERSION];
    for (index, hop) in hops.iter().enumerate() {
        let start = out.len();
        out.extend([0; 2]);
        write_hop(&mut out, hop, gap && index + 1 == hops.len());
        let len = u16::try_from(out.len() - start - 2).expect("fields are short, and few");
        out[start..start + 2].copy_from_slice(&len.to_be_bytes());
    }
    out
}

fn write_hop(out: &mut Vec<u8>, hop: &Hop, gap: bool) {
    text(out, SERVICE, hop.service());
    text(out, PATH, hop.path());
    text(out, SET_BY, hop.set_by());
    time(out, BUDGET, hop.budget());
    time(out, ELAPSED, hop.elapsed());
    let whole = if hop.used_whole_budget() { WHOLE } else { 0 };
    let after_gap = if hop.after_gap || gap { AFTER_GAP } else { 0 };
    if whole | after_gap != 0 {
        out.extend([BITS, 1, whole | after_gap]);
    }
    if let Some(phase) = hop.phase() {
        out.extend([PHASE, 1, number(phase)]);
    }
    for (phase, took) in hop.spent().phases() {
        time(out, QUEUE + number(phase), took);
    }
    if let Some(waited) = hop.waited() {
        text(out, PEER, waited.peer());
        out.extend([PEER_PHASE, 1, number(waited.phase())]);
        time(out, PEER_TOOK, waited.took());
    }
}

/// None is left out.
fn text(out: &mut Vec<u8>, field: u8, text: Option<&str>) {
    let Some(text) = text else { return };
    let is_clean = |byte: &u8| matches!(byte, b' '..=b'~');
    let clean = |letter: char| u8::try_from(letter).ok().filter(is_clean).unwrap_or(b'?');
    out.extend([field, 0]);
    let start = out.len();
    out.extend(text.chars().map(clean).take(MAX_TEXT));
    out[start - 1] = u8::try_from(out.len() - start).expect("it was cut");
}

/// Zero is left out.
fn time(out: &mut Vec<u8>, field: u8, time: Duration) {
    let bytes = saturating_ns(time).to_be_bytes();
    let digits = bytes.into_iter().skip_while(|byte| *byte == 0);
    let len = digits.clone().count();
    if len > 0 {
        out.extend([field, u8::try_from(len).expect("eight at the most")]);
        out.extend(digits);
    }
}

const fn number(phase: Phase) -> u8 {
    phase as u8
}
