//! When to accept again after an error. No clock, no I/O.

use std::io::{Error, ErrorKind};
use std::time::Duration;

/// How long a listener waits after errors in a row.
///
/// An error of the connection that was about to be accepted is over with it, so the next is accepted at once.
/// Any other, like running out of file descriptors, is there again at once: then it waits, 5 ms and twice as
/// long each time, up to a second, as Go's `net/http` does. So does it for the former, if they don't end.
#[derive(Clone, Debug, Default)]
pub(super) struct Backoff {
    in_a_row: u32,
    wait: Duration,
}

/// The first wait, and the longest.
const SHORTEST: Duration = Duration::from_millis(5);
const LONGEST: Duration = Duration::from_secs(1);

/// So many errors of connections in a row aren't waited for.
const AT_ONCE: u32 = 16;

impl Backoff {
    /// How long to wait; `None`: not at all.
    pub(super) fn failed(&mut self, error: &Error) -> Option<Duration> {
        self.in_a_row = self.in_a_row.saturating_add(1);
        if is_of_connection(error) && self.in_a_row <= AT_ONCE {
            return None;
        }
        self.wait = (self.wait * 2).clamp(SHORTEST, LONGEST);
        Some(self.wait)
    }

    pub(super) fn succeeded(&mut self) {
        *self = Self::default();
    }
}

/// Whether it is that of the connection alone; Linux hands those out by `accept`, see accept(2).
fn is_of_connection(error: &Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::ConnectionAborted
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionRefused
            | ErrorKind::BrokenPipe
            | ErrorKind::HostUnreachable
            | ErrorKind::Interrupted
            | ErrorKind::NetworkDown
            | ErrorKind::NetworkUnreachable
            | ErrorKind::PermissionDenied
            | ErrorKind::TimedOut
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const MS: Duration = Duration::from_millis(1);

    fn exhausted() -> Error {
        Error::other("too many open files")
    }

    #[test]
    fn what_stays_is_waited_for_twice_as_long_each_time_and_a_second_at_the_most() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..10).map(|_| backoff.failed(&exhausted()).unwrap()).collect();
        assert_eq!(waits[..4], [5 * MS, 10 * MS, 20 * MS, 40 * MS]);
        assert_eq!(waits[8..], [1000 * MS, 1000 * MS]);
        backoff.succeeded();
        assert_eq!(backoff.failed(&exhausted()), Some(5 * MS));
    }

    #[test]
    fn a_connection_that_is_gone_again_is_not_waited_for() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.failed(&ErrorKind::ConnectionAborted.into()), None);
        assert_eq!(backoff.failed(&ErrorKind::ConnectionReset.into()), None);
    }

    proptest! {
        #[test]
        fn it_never_spins(kinds in prop::collection::vec(any::<bool>(), 17..200)) {
            let mut backoff = Backoff::default();
            let mut in_a_row = 0;
            for of_connection in kinds {
                let error = if of_connection { ErrorKind::ConnectionAborted.into() } else { exhausted() };
                match backoff.failed(&error) {
                    None => in_a_row += 1,
                    Some(wait) => {
                        prop_assert!((SHORTEST..=LONGEST).contains(&wait));
                        in_a_row = 0;
                    }
                }
                prop_assert!(in_a_row <= AT_ONCE);
            }
        }
    }
}
