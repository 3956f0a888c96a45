//! How the driver thread sleeps: on absolute kernel time, until somebody clears the word.
//!
//! On Linux a futex, whose absolute timeout is CLOCK_MONOTONIC; and while elapsed timers are pending, or
//! somebody wants to know of jumps, a poll of timers of each class, so that the end of a suspension and a
//! step of the wall clock wake it. Elsewhere a condition variable with the remaining time.
//!
//! The contract is the futex's: [`Parker::park`] returns at once unless the word is what it was said to
//! be, and returns when it is cleared and [`Parker::unpark`] called, when the time has come, or for no
//! reason.

use crate::sync::atomic::AtomicU32;

/// The word's value while the driver sleeps on it: who clears it must call [`Parker::unpark`].
pub(super) const PARKED: u32 = 1;

/// Its value while the driver polls.
pub(super) const POLLING: u32 = 2;

/// When to get up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Until {
    /// Nanoseconds of the kernel's monotonic clock; `None`: not by this.
    pub(super) monotonic_ns: Option<u64>,
    /// Nanoseconds of the kernel's clock of elapsed time; `None`: not by this.
    pub(super) boottime_ns: Option<u64>,
    /// What those clocks say about now, for parkers that can only wait relatively.
    pub(super) monotonic_now_ns: u64,
    pub(super) boottime_now_ns: u64,
}

impl Until {
    /// When to get up by the monotonic clock, as long as the machine isn't suspended.
    pub(super) fn monotonic(&self) -> Option<u64> {
        let elapsed = self.boottime_ns.map(|at| {
            self.monotonic_now_ns.saturating_add(at.saturating_sub(self.boottime_now_ns))
        });
        self.monotonic_ns.into_iter().chain(elapsed).min()
    }
}

#[cfg(all(
    any(target_os = "linux", target_os = "android"),
    not(any(deadbeat_loom, deadbeat_shuttle))
))]
mod imp {
    use std::sync::OnceLock;

    use super::{AtomicU32, PARKED, POLLING, Until};
    use crate::driver::sys::{self, Poller};

    #[derive(Debug)]
    pub(in super::super) struct Parker {
        /// Made when it is first needed; `None` if the system refused.
        poller: OnceLock<Option<Poller>>,
    }

    impl Parker {
        pub(in super::super) fn new() -> Self {
            Self { poller: OnceLock::new() }
        }

        /// The word's value for the next [`park`](Self::park): whether it must be woken by the end of a
        /// suspension.
        pub(in super::super) fn mode(&self, on_resume: bool) -> u32 {
            if on_resume && self.poller.get_or_init(Poller::new).is_some() {
                POLLING
            } else {
                PARKED
            }
        }

        /// Whether the end of a suspension wakes it, if asked for; `None` if nobody has asked.
        pub(in super::super) fn wakes_on_resume(&self) -> Option<bool> {
            self.poller.get().map(Option::is_some)
        }

        pub(in super::super) fn park(&self, word: &AtomicU32, mode: u32, until: Until) {
            match self.poller.get() {
                Some(Some(poller)) if mode == POLLING => {
                    poller.wait(until.monotonic_ns, until.boottime_ns);
                }
                _ => sys::futex_wait(word, PARKED, until.monotonic()),
            }
        }

        pub(in super::super) fn unpark(&self, word: &AtomicU32, mode: u32) {
            match self.poller.get() {
                Some(Some(poller)) if mode == POLLING => poller.call(),
                _ => sys::futex_wake(word),
            }
        }
    }
}

#[cfg(any(not(any(target_os = "linux", target_os = "android")), deadbeat_loom, deadbeat_shuttle))]
mod imp {
    use super::{AtomicU32, PARKED, POLLING, Until};
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

        /// There is only one way.
        pub(in super::super) fn mode(&self, _on_resume: bool) -> u32 {
            const { assert!(PARKED != POLLING) };
            PARKED
        }

        pub(in super::super) fn wakes_on_resume(&self) -> Option<bool> {
            None
        }

        pub(in super::super) fn park(&self, word: &AtomicU32, mode: u32, until: Until) {
            let guard = lock(&self.lock);
            // Ordering: the lock orders it against `unpark`.
            if word.load(Relaxed) != mode {
                return;
            }
            match until.monotonic() {
                None => wait(&self.called, guard),
                Some(at) => {
                    let left = at.saturating_sub(until.monotonic_now_ns);
                    wait_timeout(&self.called, guard, std::time::Duration::from_nanos(left));
                }
            }
        }

        pub(in super::super) fn unpark(&self, _word: &AtomicU32, _mode: u32) {
            drop(lock(&self.lock));
            self.called.notify_one();
        }
    }
}

pub(super) use imp::Parker;
