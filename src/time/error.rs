//! What can go wrong while waiting.

use std::fmt;

use crate::driver::Stopped;

/// The time ran out before the future was ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed(());

impl Elapsed {
    pub(super) fn new() -> Self {
        Self(())
    }
}

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("deadline has elapsed")
    }
}

impl std::error::Error for Elapsed {}

impl From<Elapsed> for std::io::Error {
    fn from(elapsed: Elapsed) -> Self {
        Self::new(std::io::ErrorKind::TimedOut, elapsed)
    }
}

/// The Timekeeper of a timer was shut down before the timer was due; or it was made before a fork, and
/// this is the child (see [`Timekeeper`](crate::Timekeeper#fork)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimekeeperStopped(Stopped);

impl TimekeeperStopped {
    pub(super) fn new(why: Stopped) -> Self {
        Self(why)
    }

    /// Whether it is because this is a forked child.
    pub fn is_forked(&self) -> bool {
        self.0 == Stopped::Forked
    }

    /// For futures that have no way to return it.
    #[cold]
    #[track_caller]
    pub(super) fn raise(self) -> ! {
        panic!("{self}")
    }
}

impl fmt::Display for TimekeeperStopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for TimekeeperStopped {}
