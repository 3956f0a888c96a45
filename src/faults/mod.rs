//! For tests: makes this process's clocks lie. Not for production.
//!
//! Everything here happens to this process (and to its children, where it says so), for real: the
//! code under test is what it is in production, and so are its clocks and its waits. The machine's
//! own clock is never set.
//!
//! | what lies | how | who believes it |
//! | --- | --- | --- |
//! | [`counter`] | the processor's counter is trapped | whoever reads it directly |
//! | [`kernel`] | the C library's functions are replaced | `std`, and whoever uses the C library |
//! | [`namespace`] | a fresh time namespace | all, but the processor's counter |
//! | [`stall`] | the process stands still | nothing lies; time is lost |
//! | [`wall`] | libfaketime | a child process, about the wall clock |
//!
//! What can't be done here is refused with [`Unsupported`], which says what it takes.
//!
//! Most of this stays with the process once it is done; [`in_child`] runs it in a process of its
//! own.

use std::{error, fmt, io};

#[allow(unsafe_code, reason = "forks")]
mod child;
pub mod counter;
pub mod kernel;
#[cfg(any(target_arch = "x86_64", all(target_env = "gnu", target_arch = "aarch64")))]
mod line;
#[allow(unsafe_code, reason = "system calls")]
pub mod namespace;
#[allow(unsafe_code, reason = "system calls without the C library")]
mod raw;
#[allow(unsafe_code, reason = "signals")]
pub mod stall;
pub mod wall;

#[doc(inline)]
pub use crate::__deadbeat_interpose as interpose;
pub use child::in_child;

/// This can't be done here; its `Display` says, in one line, what it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unsupported {
    needs: &'static str,
    errno: Option<i32>,
}

impl Unsupported {
    fn needs(needs: &'static str) -> Self {
        Self { needs, errno: None }
    }

    fn because(needs: &'static str, error: &io::Error) -> Self {
        Self { needs, errno: error.raw_os_error() }
    }
}

impl fmt::Display for Unsupported {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this takes {}", self.needs)?;
        match self.errno {
            Some(errno) => write!(f, ": {}", io::Error::from_raw_os_error(errno)),
            None => Ok(()),
        }
    }
}

impl error::Error for Unsupported {}
