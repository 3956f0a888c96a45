//! The processor's counter, and the order in which it is read.
//!
//! The counter itself is read by [`quanta`]. It reads it without any fence, so that the processor
//! may take the reading before loads that the program did earlier; what is here adds the order.

/// A counter that ticks at a constant rate on all processors alike, or so its maker says.
#[derive(Clone, Debug)]
pub(crate) struct Counter(quanta::Clock);

impl Counter {
    /// The counter, if this processor has one that is fit for keeping time.
    ///
    /// # Timing
    ///
    /// The first call in a process runs `quanta`'s own calibration, whose result isn't used here:
    /// 0.6 ms mostly, 200 ms at worst.
    pub(crate) fn detect() -> Option<Self> {
        let counter = Self(quanta::Clock::new());
        counter.is_the_processors().then_some(counter)
    }

    /// Reads the counter after all earlier loads are done.
    #[inline(always)]
    pub(crate) fn ordered(&self) -> u64 {
        after_loads();
        self.0.raw()
    }

    /// Reads the counter after all earlier loads are done and all earlier stores visible, given
    /// that a sequentially consistent fence has followed those stores.
    #[inline(always)]
    pub(crate) fn settled(&self) -> u64 {
        after_stores();
        self.0.raw()
    }

    /// Reads the counter at about this place in the program.
    #[inline(always)]
    pub(crate) fn unordered(&self) -> u64 {
        self.0.raw()
    }

    /// Whether `quanta` reads the TSC rather than the OS clock: it chooses by CPUID (invariant TSC
    /// and `rdtscp`), and doesn't tell. Two readings of our own must enclose its.
    #[cfg(target_arch = "x86_64")]
    fn is_the_processors(&self) -> bool {
        // SAFETY: every x86-64 processor has `rdtsc`, and reading it has no other effect. (An OS
        // that forbids it to this process has ended the process in `quanta::Clock::new`.)
        let own = || unsafe { core::arch::x86_64::_rdtsc() };
        (0..4).any(|_| {
            after_loads();
            let before = own();
            let theirs = self.ordered();
            after_loads();
            (before..=own()).contains(&theirs)
        })
    }

    /// `quanta` reads the virtual counter, which every such processor has, wherever user code may.
    #[cfg(target_arch = "aarch64")]
    fn is_the_processors(&self) -> bool {
        cfg!(not(target_os = "ios"))
    }

    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    fn is_the_processors(&self) -> bool {
        false
    }
}

/// Nothing after this begins before all loads ahead of it are done.
#[inline(always)]
fn after_loads() {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE2 is part of x86-64. (On AMD, `lfence` waits since Linux made it, in 2018.)
    unsafe {
        core::arch::x86_64::_mm_lfence();
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: waits, and touches neither memory nor registers.
    unsafe {
        core::arch::asm!("isb", options(nostack, preserves_flags));
    }
}

/// As [`after_loads`], and all stores ahead of the caller's fence are visible.
#[inline(always)]
fn after_stores() {
    // On x86 the fence has emptied the store buffer. On arm64 it has only put the stores in order
    // with later accesses to memory, of which the counter is none: `dsb` waits for them.
    #[cfg(target_arch = "aarch64")]
    // SAFETY: waits, and touches neither memory nor registers.
    unsafe {
        core::arch::asm!("dsb ish", options(nostack, preserves_flags));
    }
    after_loads();
}
