//! How the driver thread sleeps: on absolute kernel time, until somebody clears the word.
//!
//! On Linux a futex, whose absolute timeout is CLOCK_MONOTONIC; elsewhere a condition variable with
//! the remaining time. The contract is the futex's: [`Parker::park`] returns at once unless the word
//! is [`PARKED`], and returns when it is cleared and [`Parker::unpark`] called, when the time has
//! come, or for no reason.

use crate::sync::atomic::AtomicU32;

/// The word's value while the driver sleeps: who clears it must call [`Parker::unpark`].
pub(super) const PARKED: u32 = 1;

/// When to get up.
#[derive(Clone, Copy, Debug)]
pub(super) struct Until {
    /// Nanoseconds of the kernel's monotonic clock; `None`: only when called.
    pub(super) monotonic_ns: Option<u64>,
    /// What that clock says about now, for parkers that can only wait relatively.
    #[cfg_attr(
        all(
            any(target_os = "linux", target_os = "android"),
            not(any(deadbeat_loom, deadbeat_shuttle))
        ),
        expect(dead_code, reason = "a futex waits absolutely")
    )]
    pub(super) now_ns: u64,
}

#[cfg(all(
    any(target_os = "linux", target_os = "android"),
    not(any(deadbeat_loom, deadbeat_shuttle))
))]
mod imp {
    use super::{AtomicU32, PARKED, Until};
    use crate::driver::sys;

    #[derive(Debug)]
    pub(in super::super) struct Parker;

    impl Parker {
        pub(in super::super) fn new() -> Self {
            Self
        }

        pub(in super::super) fn park(&self, word: &AtomicU32, until: Until) {
            sys::futex_wait(word, PARKED, until.monotonic_ns);
        }

        pub(in super::super) fn unpark(&self, word: &AtomicU32) {
            sys::futex_wake(word);
        }
    }
}

#[cfg(any(not(any(target_os = "linux", target_os = "android")), deadbeat_loom, deadbeat_shuttle))]
mod imp {
    use super::{AtomicU32, PARKED, Until};
    use crate::sync::{Condvar, Mutex, atomic::Ordering::Relaxed, lock, wait, wait_timeout};

    #[derive(Debug)]
    pub(in super::super) struct Parker {
        /// Makes checking the word and going to sleep one step, as the kernel does for a futex.
        lock: Mutex<()>,
        called: Condvar,
    }

    impl Parker {
        pub(in super::super) fn new() -> Self {
            Self { lock: Mutex::new(()), called: Condvar::new() }
        }

        pub(in super::super) fn park(&self, word: &AtomicU32, until: Until) {
            let guard = lock(&self.lock);
            // Ordering: the lock orders it against `unpark`.
            if word.load(Relaxed) != PARKED {
                return;
            }
            match until.monotonic_ns {
                None => wait(&self.called, guard),
                Some(at) => {
                    let left = std::time::Duration::from_nanos(at.saturating_sub(until.now_ns));
                    wait_timeout(&self.called, guard, left);
                }
            }
        }

        pub(in super::super) fn unpark(&self, _word: &AtomicU32) {
            drop(lock(&self.lock));
            self.called.notify_one();
        }
    }
}

pub(super) use imp::Parker;
