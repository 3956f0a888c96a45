//! The kernel's clocks lie, as this process sees them, and so do its timed waits.
//!
//! Takes [`interpose!`](super::interpose), once, in the binary or the test crate:
//!
//! ```
//! # #[cfg(all(target_env = "gnu", target_arch = "x86_64"))] {
//! use deadbeat::{clock::Witness, faults::kernel};
//!
//! mod interposed {
//!     deadbeat::faults::interpose!();
//! }
//!
//! # #[expect(clippy::disallowed_methods)]
//! let before = std::time::Instant::now();
//! kernel::jump(Witness::Monotonic, 3_600_000_000_000)?;
//! assert!(before.elapsed().as_secs() >= 3600);
//! kernel::clear();
//! # }
//! # Ok::<(), deadbeat::faults::Unsupported>(())
//! ```
//!
//! That defines four of the C library's functions, which then are this process's, `std` included.
//!
//! - `clock_gettime` tells what it is told to of `CLOCK_MONOTONIC`, `CLOCK_BOOTTIME`, and
//!   `CLOCK_REALTIME`, with the coarse ones after their fine ones. `CLOCK_MONOTONIC_RAW` has a lie
//!   of its own: [`raw_jump`], [`raw_rate_ppm`]. The rest are the truth.
//! - `syscall(SYS_futex, ..)`, `clock_nanosleep` and `timerfd_settime` (the latter two by
//!   `syscall`, too): a wait until an absolute time on one of these clocks is begun as one until
//!   the true time that it stands for, as the kernel does for a time namespace. It ends when the
//!   lie has come that far, not earlier.
//!
//! A wait that has begun isn't touched by what is said later: that is what a process sees that is
//! restored on another machine. Relative waits are the kernel's, in true time.
//!
//! What isn't deceived: the processor's counter; system calls made without the C library (rustix
//! does, by default) or inside it (`pthread_cond_timedwait`, `sem_timedwait`), `gettimeofday`,
//! `time`, and POSIX timers.
//!
//! While nothing is said, each call costs a load and a branch more, and `clock_gettime` an indirect
//! call.

use super::Unsupported;
use crate::clock::Witness;

#[allow(unsafe_code, reason = "what the C library's functions become")]
#[cfg(all(target_env = "gnu", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod calls;
mod interpose;
#[cfg(all(target_env = "gnu", any(target_arch = "x86_64", target_arch = "aarch64")))]
mod lies;

#[cfg(not(all(target_env = "gnu", any(target_arch = "x86_64", target_arch = "aarch64"))))]
#[path = "kernel/elsewhere.rs"]
mod lies;

#[cfg(all(target_env = "gnu", any(target_arch = "x86_64", target_arch = "aarch64")))]
#[doc(hidden)]
pub use calls::symbols;
use lies::Liar;

/// Whether [`interpose!`](super::interpose) is in this program, and works here.
pub fn is_interposed() -> bool {
    lies::are_heard()
}

/// This clock jumps forward, or back: to zero at least.
///
/// # Errors
///
/// For [`Witness::Counter`], which is [`counter`](super::counter)'s; and unless
/// [`is_interposed`].
pub fn jump(witness: Witness, ns: i64) -> Result<(), Unsupported> {
    liar(witness).map(|liar| lies::jump(liar, ns))
}

/// From now on this clock goes this many millionths faster (or slower) than in truth, without a
/// step. At -1 000 000 and below it stands still.
///
/// # Errors
///
/// As [`jump`].
pub fn rate_ppm(witness: Witness, ppm: i64) -> Result<(), Unsupported> {
    liar(witness).map(|liar| lies::rate_ppm(liar, ppm))
}

/// [`jump`], for `CLOCK_MONOTONIC_RAW`.
///
/// # Errors
///
/// Unless [`is_interposed`].
pub fn raw_jump(ns: i64) -> Result<(), Unsupported> {
    able(Liar::Raw).map(|liar| lies::jump(liar, ns))
}

/// [`rate_ppm`], for `CLOCK_MONOTONIC_RAW`.
///
/// # Errors
///
/// Unless [`is_interposed`].
pub fn raw_rate_ppm(ppm: i64) -> Result<(), Unsupported> {
    able(Liar::Raw).map(|liar| lies::rate_ppm(liar, ppm))
}

/// The truth again, for all of them.
pub fn clear() {
    lies::clear();
}

fn liar(witness: Witness) -> Result<Liar, Unsupported> {
    able(match witness {
        Witness::Monotonic => Liar::Monotonic,
        Witness::Boottime => Liar::Boottime,
        Witness::Realtime => Liar::Realtime,
        Witness::Raw => Liar::Raw,
        Witness::Counter => return Err(Unsupported::needs("a clock of the kernel's")),
    })
}

fn able(liar: Liar) -> Result<Liar, Unsupported> {
    if is_interposed() {
        Ok(liar)
    } else {
        Err(Unsupported::needs(
            "deadbeat::faults::interpose!() in the program, glibc, and an x86-64 or aarch64",
        ))
    }
}
