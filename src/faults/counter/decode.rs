//! The instructions that read the counter.

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Read {
    /// Bytes, prefixes included.
    pub(super) length: u64,
    /// `rdtscp`, which tells the processor's number as well.
    pub(super) tells_cpu: bool,
}

/// What begins at the place where `byte(0)` is, if it reads the counter.
///
/// Asks for no byte behind the one that decides.
pub(super) fn decode(byte: impl Fn(u64) -> u8) -> Option<Read> {
    // An instruction has at most 15 bytes; these two have two and three without their prefixes.
    let opcode = (0..13).find(|&at| !is_prefix(byte(at)))?;
    if byte(opcode) != 0x0f {
        return None;
    }
    match byte(opcode + 1) {
        0x31 => Some(Read { length: opcode + 2, tells_cpu: false }),
        0x01 if byte(opcode + 2) == 0xf9 => Some(Read { length: opcode + 3, tells_cpu: true }),
        _ => None,
    }
}

/// Those without a meaning here: segments, sizes, repetition and REX. (`lock` is refused by the
/// processor.)
fn is_prefix(byte: u8) -> bool {
    matches!(
        byte,
        0x26 | 0x2e | 0x36 | 0x3e | 0x40..=0x4f | 0x64 | 0x65 | 0x66 | 0x67 | 0xf2 | 0xf3
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(code: &[u8]) -> Option<Read> {
        decode(|at| code[usize::try_from(at).unwrap()])
    }

    #[test]
    fn both_are_known_with_and_without_prefixes() {
        assert_eq!(of(&[0x0f, 0x31]), Some(Read { length: 2, tells_cpu: false }));
        assert_eq!(of(&[0x48, 0x0f, 0x31]), Some(Read { length: 3, tells_cpu: false }));
        assert_eq!(of(&[0x0f, 0x01, 0xf9]), Some(Read { length: 3, tells_cpu: true }));
        assert_eq!(of(&[0x66, 0x48, 0x0f, 0x01, 0xf9]), Some(Read { length: 5, tells_cpu: true }));
    }

    #[test]
    fn nothing_else_is_and_no_byte_too_many_is_read() {
        assert_eq!(of(&[0xc3]), None);
        // `wrmsr`, `rdmsr`, `rdpmc`, `swapgs`, `lock rdtsc`, prefixes only.
        assert_eq!(of(&[0x0f, 0x30]), None);
        assert_eq!(of(&[0x0f, 0x32]), None);
        assert_eq!(of(&[0x0f, 0x33]), None);
        assert_eq!(of(&[0x0f, 0x01, 0xf8]), None);
        assert_eq!(of(&[0xf0]), None);
        assert_eq!(of(&[0x66; 13]), None);
    }
}
