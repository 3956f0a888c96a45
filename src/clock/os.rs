//! The operating system's clocks.
//!
//! On unix they are read through libc's `clock_gettime` symbol rather than through a system call
//! or a vDSO lookup of our own: it is as fast, and a preloaded library or a test binary that
//! defines the symbol then owns our time too.

pub(crate) use affinity::{Affinity, cpu, pin_this_thread};
pub(crate) use imp::{boottime_ns, monotonic_ns, raw_ns, realtime_ns};

#[cfg(unix)]
mod imp {
    use crate::clock::ticks::NANOS_PER_SEC;

    #[cfg(any(target_os = "macos", target_os = "ios"))]
    mod id {
        // On Darwin, MONOTONIC goes on while the machine sleeps; UPTIME is the one that stops, and
        // what `std` uses.
        pub(super) const ACTIVE: libc::clockid_t = libc::CLOCK_UPTIME_RAW;
        pub(super) const ELAPSED: libc::clockid_t = libc::CLOCK_MONOTONIC;
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    mod id {
        pub(super) const ACTIVE: libc::clockid_t = libc::CLOCK_MONOTONIC;
        pub(super) const ELAPSED: libc::clockid_t = libc::CLOCK_BOOTTIME;
    }

    #[cfg(not(any(
        target_os = "macos",
        target_os = "ios",
        target_os = "linux",
        target_os = "android"
    )))]
    mod id {
        pub(super) const ACTIVE: libc::clockid_t = libc::CLOCK_MONOTONIC;
        pub(super) const ELAPSED: libc::clockid_t = libc::CLOCK_MONOTONIC;
    }

    /// `CLOCK_MONOTONIC`: the time that the machine ran.
    #[inline]
    pub(crate) fn monotonic_ns() -> u64 {
        read(id::ACTIVE)
    }

    /// `CLOCK_BOOTTIME`: the time that has passed, suspension included.
    #[inline]
    pub(crate) fn boottime_ns() -> u64 {
        read(id::ELAPSED)
    }

    /// `CLOCK_REALTIME`: nanoseconds since the Unix epoch, as far as the machine knows.
    #[inline]
    pub(crate) fn realtime_ns() -> u64 {
        read(libc::CLOCK_REALTIME)
    }

    /// `CLOCK_MONOTONIC_RAW`: the kernel's clock as nobody has slewed it.
    #[inline]
    pub(crate) fn raw_ns() -> Option<u64> {
        #[cfg(any(target_os = "linux", target_os = "android"))]
        return Some(read(libc::CLOCK_MONOTONIC_RAW));
        #[cfg(not(any(target_os = "linux", target_os = "android")))]
        None
    }

    #[inline]
    fn read(id: libc::clockid_t) -> u64 {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` is a valid place for one `timespec`, borrowed for the call only. The call
        // can fail only for an unknown clock; these exist on every supported system, and if one did
        // not, `time` would stay zero, which is a stopped clock rather than undefined behaviour.
        unsafe { libc::clock_gettime(id, &raw mut time) };
        // A time before the origin (a realtime clock set to 1969) reads as the origin.
        let secs = u64::try_from(time.tv_sec).unwrap_or(0);
        let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
        secs.saturating_mul(NANOS_PER_SEC).saturating_add(nanos)
    }
}

#[cfg(not(unix))]
mod imp {
    #![expect(clippy::disallowed_methods, reason = "this is where the OS clock is read")]

    use std::{
        sync::OnceLock,
        time::{Instant, SystemTime},
    };

    use crate::clock::ticks::saturating_ns;

    /// `std`'s clock, counted from the first read in this process.
    ///
    /// Starts at one day, so that a little before the start can be expressed.
    pub(crate) fn monotonic_ns() -> u64 {
        const START_NS: u64 = 86_400_000_000_000;
        static START: OnceLock<Instant> = OnceLock::new();
        START_NS.saturating_add(saturating_ns(START.get_or_init(Instant::now).elapsed()))
    }

    /// The same as [`monotonic_ns`]: `std` offers no clock that is known to count suspension.
    pub(crate) fn boottime_ns() -> u64 {
        monotonic_ns()
    }

    /// Nanoseconds since the Unix epoch, as far as the machine knows.
    pub(crate) fn raw_ns() -> Option<u64> {
        None
    }

    pub(crate) fn realtime_ns() -> u64 {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, saturating_ns)
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod affinity {
    /// The processors that a thread may use.
    pub(crate) struct Affinity(libc::cpu_set_t);

    impl Affinity {
        /// `None` if the machine has more processors than the set can hold, or this isn't allowed.
        pub(crate) fn of_this_thread() -> Option<Self> {
            // SAFETY: an empty set is all zeros.
            let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
            // SAFETY: `set` is as large as is said, and borrowed for the call only.
            let result = unsafe { libc::sched_getaffinity(0, size_of_val(&set), &raw mut set) };
            (result == 0).then_some(Self(set))
        }

        /// Their numbers.
        pub(crate) fn cpus(&self) -> impl Iterator<Item = usize> {
            (0..8 * size_of::<libc::cpu_set_t>()).filter(|cpu| {
                // SAFETY: the number is within the set.
                unsafe { libc::CPU_ISSET(*cpu, &self.0) }
            })
        }

        /// Lets the thread use them again.
        pub(crate) fn restore(&self) {
            set_affinity(&self.0);
        }
    }

    /// Moves this thread to a processor. `false` if it isn't allowed there.
    pub(crate) fn pin_this_thread(cpu: usize) -> bool {
        // SAFETY: an empty set is all zeros.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        if cpu >= 8 * size_of_val(&set) {
            return false;
        }
        // SAFETY: the number is within the set.
        unsafe { libc::CPU_SET(cpu, &mut set) };
        set_affinity(&set)
    }

    /// The processor that this thread runs on at the moment.
    #[inline]
    pub(crate) fn cpu() -> Option<usize> {
        // SAFETY: no arguments, no effects.
        usize::try_from(unsafe { libc::sched_getcpu() }).ok()
    }

    fn set_affinity(set: &libc::cpu_set_t) -> bool {
        // SAFETY: `set` is as large as is said, and borrowed for the call only.
        unsafe { libc::sched_setaffinity(0, size_of_val(set), set) == 0 }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod affinity {
    /// Not known here: the system doesn't let a thread choose its processor.
    pub(crate) enum Affinity {}

    impl Affinity {
        pub(crate) fn of_this_thread() -> Option<Self> {
            None
        }

        pub(crate) fn cpus(&self) -> impl Iterator<Item = usize> {
            std::iter::empty()
        }

        pub(crate) fn restore(&self) {}
    }

    pub(crate) fn cpu() -> Option<usize> {
        None
    }

    pub(crate) fn pin_this_thread(_cpu: usize) -> bool {
        false
    }
}
