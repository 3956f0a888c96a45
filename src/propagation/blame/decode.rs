//! Text to hops.

use std::fmt;
use std::time::Duration;

use super::{
    AFTER_GAP, MAX_BYTES, MAX_HOPS, MAX_LEN, MAX_TEXT, VERSION, WHOLE, base64,
    field::{
        BITS, BODY, BUDGET, ELAPSED, PATH, PEER, PEER_PHASE, PEER_TOOK, PHASE, QUEUE, SERVICE,
        SET_BY,
    },
};
use crate::deadline::{Hop, Phase, Spent, Waited};

/// Why a value is no blame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BadBlame {
    /// It is longer than [`MAX_LEN`]: so many bytes.
    TooLong(usize),
    /// It is no base64.
    NotBase64,
    /// It is of another version, if of any.
    Version(Option<u8>),
    /// It has more hops than [`MAX_HOPS`].
    TooManyHops,
    /// Something in it ends beyond its end.
    CutOff,
    /// A field of this number has a value that it may not have: a text that is too long or not printable, a
    /// number that is too long.
    Field(u8),
}

impl fmt::Display for BadBlame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLong(len) => write!(f, "blame of {len} bytes, allowed: at most {MAX_LEN}"),
            Self::NotBase64 => f.write_str("blame that is no base64"),
            Self::Version(Some(version)) => {
                write!(f, "blame of version {version}, allowed: {VERSION}")
            }
            Self::Version(None) => write!(f, "blame without a version, allowed: {VERSION}"),
            Self::TooManyHops => write!(f, "blame of more than {MAX_HOPS} hops"),
            Self::CutOff => f.write_str("blame that is cut off"),
            Self::Field(field) => write!(f, "blame with a malformed field {field}"),
        }
    }
}

impl std::error::Error for BadBlame {}

/// Reads the value of a header: the hops in it, nearest first.
///
/// # Complexity
///
/// *O*(bytes), and at most [`MAX_LEN`] of those. Allocates the hops and their texts.
///
/// # Errors
///
/// It isn't of [the form](super#the-form), anywhere.
pub fn decode(text: &[u8]) -> Result<Vec<Hop>, BadBlame> {
    if text.len() > MAX_LEN {
        return Err(BadBlame::TooLong(text.len()));
    }
    let mut buffer = [0; MAX_BYTES];
    let bytes = base64::decode(text, &mut buffer).ok_or(BadBlame::NotBase64)?;
    let mut rest = match bytes.split_first() {
        Some((&VERSION, rest)) => rest,
        other => return Err(BadBlame::Version(other.map(|(version, _)| *version))),
    };
    let mut hops = Vec::new();
    while !rest.is_empty() {
        if hops.len() == MAX_HOPS {
            return Err(BadBlame::TooManyHops);
        }
        let (len, after) = rest.split_first_chunk().ok_or(BadBlame::CutOff)?;
        let len = u16::from_be_bytes(*len).into();
        let (hop, after) = after.split_at_checked(len).ok_or(BadBlame::CutOff)?;
        hops.push(read_hop(hop)?);
        rest = after;
    }
    Ok(hops)
}

fn read_hop(mut rest: &[u8]) -> Result<Hop, BadBlame> {
    let mut hop = Hop {
        service: None,
        path: None,
        set_by: None,
        budget: Duration::ZERO,
        elapsed: Duration::ZERO,
        phase: None,
        spent: Spent::default(),
        waited: None,
        whole: false,
        after_gap: false,
    };
    let mut peer = None;
    let mut peer_phase = None;
    let mut peer_took = Duration::ZERO;
    while let Some((&[field, len], after)) = rest.split_first_chunk() {
        let (value, after) = after.split_at_checked(len.into()).ok_or(BadBlame::CutOff)?;
        rest = after;
        let value = Field { number: field, value };
        match field {
            SERVICE => hop.service = Some(value.text()?),
            PATH => hop.path = Some(value.text()?),
            SET_BY => hop.set_by = Some(value.text()?),
            BUDGET => hop.budget = value.time()?,
            ELAPSED => hop.elapsed = value.time()?,
            BITS => {
                let bits = value.byte()?;
                hop.whole = bits & WHOLE != 0;
                hop.after_gap = bits & AFTER_GAP != 0;
            }
            PHASE => hop.phase = value.phase()?,
            QUEUE..=BODY => hop.spent.0[usize::from(field - QUEUE)] = value.time()?,
            PEER => peer = Some(value.text()?),
            PEER_PHASE => peer_phase = value.phase()?,
            PEER_TOOK => peer_took = value.time()?,
            _ => {}
        }
    }
    if !rest.is_empty() {
        return Err(BadBlame::CutOff);
    }
    hop.waited = peer_phase.map(|phase| Waited { peer, phase, took: peer_took });
    Ok(hop)
}

struct Field<'a> {
    number: u8,
    value: &'a [u8],
}

impl Field<'_> {
    fn bad(&self) -> BadBlame {
        BadBlame::Field(self.number)
    }

    fn text(&self) -> Result<Box<str>, BadBlame> {
        let is_clean = self.value.iter().all(|byte| matches!(byte, b' '..=b'~'));
        if self.value.len() > MAX_TEXT || !is_clean {
            return Err(self.bad());
        }
        let text = std::str::from_utf8(self.value).map_err(|_| self.bad())?;
        Ok(text.into())
    }

    fn time(&self) -> Result<Duration, BadBlame> {
        let mut bytes = [0; 8];
        let start = bytes.len().checked_sub(self.value.len()).ok_or(self.bad())?;
        bytes[start..].copy_from_slice(self.value);
        Ok(Duration::from_nanos(u64::from_be_bytes(bytes)))
    }

    fn byte(&self) -> Result<u8, BadBlame> {
        match self.value {
            [byte] => Ok(*byte),
            _ => Err(self.bad()),
        }
    }

    fn phase(&self) -> Result<Option<Phase>, BadBlame> {
        Ok(Phase::ALL.get(usize::from(self.byte()?)).copied())
    }
}
