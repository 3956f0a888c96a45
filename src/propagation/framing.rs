//! Where messages begin and end, in gRPC and in Connect's streams: each has a flag and a length before it.

/// The flag and the length.
const PREFIX: usize = 5;

/// How far the data that has passed has come: between two messages, or inside of one.
#[derive(Debug, Default)]
#[expect(unnameable_types, reason = "part of a sealed trait")]
pub struct Framing {
    prefix: [u8; PREFIX],
    /// So much of the prefix is there.
    filled: usize,
    /// So much of the message isn't.
    rest: usize,
}

impl Framing {
    pub(crate) fn pass(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            if self.filled == 0 {
                data = self.pass_whole(data);
            }
            data = self.pass_part(data);
        }
    }

    /// Messages that are there from end to end, as most are. Returns what comes after them.
    fn pass_whole<'a>(&mut self, mut data: &'a [u8]) -> &'a [u8] {
        while let Some((prefix, after)) = data.split_first_chunk() {
            let Some(after) = after.get(length(*prefix)..) else { break };
            self.prefix = *prefix;
            data = after;
        }
        data
    }

    /// The rest of a message or of its prefix, as far as it is there.
    fn pass_part<'a>(&mut self, data: &'a [u8]) -> &'a [u8] {
        let count;
        if self.filled < PREFIX {
            count = data.len().min(PREFIX - self.filled);
            self.prefix[self.filled..self.filled + count].copy_from_slice(&data[..count]);
            self.filled += count;
            if self.filled == PREFIX {
                self.rest = length(self.prefix);
            }
        } else {
            count = data.len().min(self.rest);
            self.rest -= count;
        }
        if self.filled == PREFIX && self.rest == 0 {
            self.filled = 0;
        }
        &data[count..]
    }

    /// Of the message that passes, or the last one; 0 before there is any.
    pub(crate) fn flag(&self) -> u8 {
        self.prefix[0]
    }

    pub(crate) fn is_between_messages(&self) -> bool {
        self.filled == 0
    }
}

fn length(prefix: [u8; PREFIX]) -> usize {
    let [_, length @ ..] = prefix;
    u32::from_be_bytes(length) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_between_messages_only_where_one_has_ended() {
        let stream = b"\0\0\0\0\x03abc\0\0\0\0\0\x01\0\0\0\x01z";
        for step in 1..=stream.len() {
            let mut framing = Framing::default();
            let mut passed = 0;
            for piece in stream.chunks(step) {
                framing.pass(piece);
                passed += piece.len();
                let is_between = [8, 13, 19].contains(&passed);
                assert_eq!(framing.is_between_messages(), is_between, "{passed} by {step}");
            }
        }
        assert!(Framing::default().is_between_messages());
    }

    #[test]
    fn the_flag_is_that_of_the_last_message() {
        let mut framing = Framing::default();
        assert_eq!(framing.flag(), 0);
        for flag in [2, 0, 3] {
            framing.pass(&[flag, 0, 0, 0, 1, b'z']);
            assert_eq!(framing.flag(), flag);
        }
    }
}
