//! A call while it is here.

use crate::demo::event::{End, What};
use crate::demo::story::Hop;
use deadbeat::deadline;
use tonic::{Code, Status};

/// Tells when it comes, and when it is dropped, and whether it had been answered then.
#[derive(Debug)]
pub(super) struct Visit {
    call: u32,
    how: End,
}

impl Visit {
    pub(super) fn begin(call: u32) -> Self {
        let deadline = deadline::current();
        let remaining_us = (!deadline.is_never())
            .then(|| u64::try_from(deadline.remaining().as_micros()).unwrap_or(u64::MAX));
        What::Arrived { call, remaining_us }.tell();
        Self { call, how: End::Stopped }
    }

    /// The next hop has failed, or was given up.
    pub(super) fn heard(&self, from: Hop, status: &Status) {
        let code = name(status.code());
        What::Heard { call: self.call, from, code, text: status.message().into() }.tell();
    }

    /// There is an answer.
    pub(super) fn done(mut self) {
        self.how = End::Done;
    }
}

impl Drop for Visit {
    fn drop(&mut self) {
        What::Ended { call: self.call, how: self.how }.tell();
    }
}

/// As gRPC has it: `DEADLINE_EXCEEDED`.
fn name(code: Code) -> String {
    let mut name = String::new();
    for letter in format!("{code:?}").chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(letter.to_ascii_uppercase());
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_their_names() {
        assert_eq!(name(Code::DeadlineExceeded), "DEADLINE_EXCEEDED");
        assert_eq!(name(Code::Ok), "OK");
    }
}
