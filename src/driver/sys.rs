//! The system calls of the driver thread: Linux and Android, but for the signal mask, which is Unix.
#![cfg_attr(unix, expect(unsafe_code, reason = "system calls"))]

#[cfg(any(target_os = "linux", target_os = "android"))]
pub(super) use linux::*;

#[cfg(any(target_os = "linux", target_os = "android"))]
mod linux {
    use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
    use std::ptr;
    use std::sync::atomic::AtomicU32;

    const NANOS: u64 = 1_000_000_000;
    /// Every bit: `libc` has FUTEX_BITSET_MATCH_ANY for Linux, and not for Android.
    const MATCH_ANY: u32 = u32::MAX;

    /// Sleeps while `word` is `expected`, until `futex_wake` or the absolute CLOCK_MONOTONIC time.
    /// May return for no reason.
    pub(in super::super) fn futex_wait(word: &AtomicU32, expected: u32, until_ns: Option<u64>) {
        let at = until_ns.map(timespec);
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

    /// Timers of both classes, one that goes off when the wall clock is set or the machine resumes, and
    /// an event by which the driver is called: all that it can wait for at once.
    #[derive(Debug)]
    pub(in super::super) struct Poller {
        event: OwnedFd,
        monotonic: OwnedFd,
        boottime: OwnedFd,
        /// Armed for the end of time, and cancelled whenever CLOCK_REALTIME is set: timerfd_create(2),
        /// TFD_TIMER_CANCEL_ON_SET. The end of a suspension counts as that.
        changes: OwnedFd,
    }

    impl Poller {
        /// `None` if the system refuses a descriptor.
        pub(in super::super) fn new() -> Option<Self> {
            let timer = |clock| {
                // SAFETY: plain values; a descriptor or -1 comes back.
                owned(unsafe {
                    libc::timerfd_create(clock, libc::TFD_CLOEXEC | libc::TFD_NONBLOCK)
                })
            };
            // SAFETY: as above.
            let event = owned(unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) })?;
            let poller = Self {
                event,
                monotonic: timer(libc::CLOCK_MONOTONIC)?,
                boottime: timer(libc::CLOCK_BOOTTIME)?,
                changes: timer(libc::CLOCK_REALTIME)?,
            };
            poller.watch_changes();
            Some(poller)
        }

        /// Sleeps until one of the times has come, the wall clock is set, or somebody calls.
        pub(in super::super) fn wait(&self, monotonic_ns: Option<u64>, boottime_ns: Option<u64>) {
            set(&self.monotonic, monotonic_ns);
            set(&self.boottime, boottime_ns);
            let all = [&self.event, &self.monotonic, &self.boottime, &self.changes];
            let mut polled =
                all.map(|fd| libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 });
            // SAFETY: the array is as long as is said, and borrowed for the call only. A refusal (EINTR)
            // means: look again, which the caller does in any case.
            unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, -1) };
            for (fd, polled) in all.into_iter().zip(polled) {
                if polled.revents != 0 {
                    read(fd);
                }
            }
            if polled[3].revents != 0 {
                self.watch_changes();
            }
        }

        /// Ends a [`wait`](Self::wait), the next one if there is none.
        pub(in super::super) fn call(&self) {
            let one = 1_u64;
            // SAFETY: eight bytes that are there. It fails only when 2^64 - 2 calls are unanswered.
            unsafe { libc::write(self.event.as_raw_fd(), (&raw const one).cast(), 8) };
        }

        fn watch_changes(&self) {
            let flags = libc::TFD_TIMER_ABSTIME | libc::TFD_TIMER_CANCEL_ON_SET;
            arm(&self.changes, flags, Some(i64::MAX as u64));
        }
    }

    fn owned(fd: libc::c_int) -> Option<OwnedFd> {
        // SAFETY: just made, and nobody else's.
        (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
    }

    fn set(timer: &OwnedFd, at_ns: Option<u64>) {
        arm(timer, libc::TFD_TIMER_ABSTIME, at_ns);
    }

    /// Arms a timer for a time, or disarms it. All zeros would disarm it: the origin is the first
    /// nanosecond after.
    fn arm(timer: &OwnedFd, flags: libc::c_int, at_ns: Option<u64>) {
        let zero = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        let at = at_ns.map_or(zero, |ns| timespec(ns.max(1)));
        let spec = libc::itimerspec { it_interval: zero, it_value: at };
        // SAFETY: a valid descriptor and a valid place; the old setting is not asked for.
        unsafe {
            libc::timerfd_settime(timer.as_raw_fd(), flags, &raw const spec, ptr::null_mut())
        };
    }

    /// Takes note, so that it isn't ready any more. A timer that was cancelled by a change says so with
    /// an error.
    fn read(fd: &OwnedFd) {
        let mut count = 0_u64;
        // SAFETY: eight bytes that are ours. It doesn't block.
        unsafe { libc::read(fd.as_raw_fd(), (&raw mut count).cast(), 8) };
    }

    fn timespec(ns: u64) -> libc::timespec {
        libc::timespec {
            tv_sec: libc::time_t::try_from(ns / NANOS).unwrap_or(libc::time_t::MAX),
            tv_nsec: (ns % NANOS) as _,
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
