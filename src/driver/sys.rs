//! The system calls of the driver thread: Linux and Android, but for the signal mask, which is Unix.
#![cfg_attr(unix, expect(unsafe_code, reason = "system calls"))]

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) use linux::*;

#[cfg(any(target_os = "linux", target_os = "android"))]
mod linux {
    use std::ptr;
    use std::sync::atomic::AtomicU32;

    const NANOS: u64 = 1_000_000_000;
    /// Every bit: `libc` has FUTEX_BITSET_MATCH_ANY for Linux, and not for Android.
    const MATCH_ANY: u32 = u32::MAX;

    /// Sleeps while `word` is `expected`, until `futex_wake` or the absolute CLOCK_MONOTONIC time.
    /// May return for no reason.
    pub(in super::super) fn futex_wait(word: &AtomicU32, expected: u32, until_ns: Option<u64>) {
        let at = until_ns.map(|ns| libc::timespec {
            tv_sec: libc::time_t::try_from(ns / NANOS).unwrap_or(libc::time_t::MAX),
            tv_nsec: (ns % NANOS) as _,
        });
        let at = at.as_ref().map_or(ptr::null(), ptr::from_ref);
        // SAFETY: the word and the timespec outlive the call; the rest is plain values. A refusal
        // (EAGAIN, EINTR, ETIMEDOUT) means: look again, which the caller does in any case.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                word.as_ptr(),
                libc::FUTEX_WAIT_BITSET | libc::FUTEX_PRIVATE_FLAG,
                expected,
                at,
                ptr::null::<u32>(),
                MATCH_ANY,
            );
        }
    }

    /// Wakes the thread that sleeps on `word`.
    pub(in super::super) fn futex_wake(word: &AtomicU32) {
        // SAFETY: the word outlives the call.
        unsafe {
            libc::syscall(
                libc::SYS_futex,
                word.as_ptr(),
                libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG,
                1,
            );
        }
    }

    /// Asks for wake-ups as exact as the kernel can, instead of up to 50 µs later (prctl(2),
    /// PR_SET_TIMERSLACK), and says what the calling thread's slack is now.
    pub(in super::super) fn minimise_timer_slack() -> Option<u64> {
        // SAFETY: both touch the calling thread's slack alone. A refusal is visible in the result.
        let slack = unsafe {
            libc::prctl(libc::PR_SET_TIMERSLACK, 1, 0, 0, 0);
            libc::prctl(libc::PR_GET_TIMERSLACK, 0, 0, 0, 0)
        };
        u64::try_from(slack).ok()
    }
}

/// Runs `spawn` with signals blocked, so that the thread that it starts has them blocked from
/// its first instruction, and handlers run on the threads of the program.
///
/// Not those that a thread brings upon itself: blocked, they would end the process without asking
/// the handler that could have reported the fault, or mended it.
#[cfg(unix)]
pub(crate) fn with_signals_blocked<T>(spawn: impl FnOnce() -> T) -> T {
    use std::mem::MaybeUninit;
    use std::ptr;

    const OWN_FAULTS: [libc::c_int; 6] =
        [libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGSEGV, libc::SIGSYS, libc::SIGTRAP];

    struct Restore(libc::sigset_t);

    impl Drop for Restore {
        fn drop(&mut self) {
            // SAFETY: the mask that was there before.
            unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, &raw const self.0, ptr::null_mut()) };
        }
    }

    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    let mut old = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: both are places for a signal set; `sigfillset` and `pthread_sigmask` fill them.
    let old = unsafe {
        libc::sigfillset(all.as_mut_ptr());
        for own in OWN_FAULTS {
            libc::sigdelset(all.as_mut_ptr(), own);
        }
        if libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), old.as_mut_ptr()) != 0 {
            return spawn();
        }
        old.assume_init()
    };
    let _restore = Restore(old);
    spawn()
}

#[cfg(not(unix))]
pub(super) fn with_signals_blocked<T>(spawn: impl FnOnce() -> T) -> T {
    spawn()
}

/// Asks for the cache line at `at`, which need not be anything's.
#[inline]
pub(super) fn prefetch<T: ?Sized>(at: *const T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint; it faults at no address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = at;
}
