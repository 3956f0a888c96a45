//! The processor's counter lies: x86-64.
//!
//! The kernel is asked to forbid `rdtsc` and `rdtscp` to a thread (prctl(2), PR_SET_TSC), and a
//! handler of the SIGSEGV that each of them then causes tells what it was told to. What the
//! kernel's own code in this process reads (the vDSO's `clock_gettime`) is the truth, unless asked
//! otherwise: so the kernel's clocks stay right, and whoever reads the counter itself is deceived.
//!
//! A trapped reading takes about 2 µs, including those of the vDSO: `Instant::now` does, too.
//!
//! The trap is the thread's, and that of each thread, process and *program* that it starts from
//! then on; the lies are the process's, and may be changed while others read. A thread that blocks
//! SIGSEGV ends the process by its first reading, and so does a program that a trapped thread
//! executes, unless it sets a trap first thing: run commands from another thread.

use std::marker::PhantomData;
use std::sync::MutexGuard;

use super::Unsupported;

#[cfg(target_arch = "x86_64")]
mod decode;
#[cfg(target_arch = "x86_64")]
mod lies;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "a signal handler")]
mod trap;
#[cfg(target_arch = "x86_64")]
#[allow(unsafe_code, reason = "reads the headers that the kernel left")]
mod vdso;

#[cfg(not(target_arch = "x86_64"))]
#[path = "counter/elsewhere.rs"]
mod trap;
#[cfg(not(target_arch = "x86_64"))]
use trap as lies;

/// Readings of the counter by this thread, and by those that it starts, are trapped.
///
/// Dropping it ends that for this thread. It doesn't for threads that were started meanwhile: they
/// go on reading what [`jump`](Self::jump) and its kin have last said; [`clear`](Self::clear) makes
/// that the truth.
///
/// What it says is said for the process: there may be more than one `Trap`, in one thread or
/// several, and each changes the same lies. `&Trap` may be sent to other threads.
#[derive(Debug)]
pub struct Trap {
    was: bool,
    /// Not `Send`: it is about the thread that set it. `Sync`: what it says is not.
    _this_thread: PhantomData<MutexGuard<'static, ()>>,
}

impl Trap {
    /// Sets the trap for this thread.
    ///
    /// Installs a handler of SIGSEGV, once; it stays, and hands on what isn't its business to the
    /// one that was there before.
    ///
    /// # Errors
    ///
    /// If this isn't an x86-64 with `rdtscp`, or the kernel refuses.
    pub fn set() -> Result<Self, Unsupported> {
        trap::enter().map(|was| Self { was, _this_thread: PhantomData })
    }

    /// The counter jumps forward, or back. It wraps.
    pub fn jump(&self, ticks: i64) {
        lies::change(None, |told| told.wrapping_add_signed(ticks));
    }

    /// The counter starts anew from `ticks`.
    pub fn set_value(&self, ticks: u64) {
        lies::change(None, |_| ticks);
    }

    /// From now on the counter ticks this many millionths faster (or slower) than in truth, without
    /// a step: 1 000 000 is twice as fast, -1 000 000 is standing still, and less is going back.
    pub fn rate_ppm(&self, ppm: i64) {
        lies::change(Some(ppm), |told| told);
    }

    /// On the processor of this number, the counter is ahead of what it would be by `ticks`, or
    /// behind. For all of them, it is zero at first. Numbers from 4096 on are ignored.
    pub fn skew(&self, cpu: usize, ticks: i64) {
        lies::skew(cpu, ticks);
    }

    /// Whether the kernel's code in this process is deceived as well: then the kernel's clocks
    /// follow, as far as their owner lets them. (It holds them where they are while the counter is
    /// behind the kernel's last look at it, at most a tick of the kernel ago.)
    pub fn include_vdso(&self, include: bool) {
        lies::include_vdso(include);
    }

    /// The truth again, for everything above. The trap stays.
    pub fn clear(&self) {
        lies::clear();
    }
}

impl Drop for Trap {
    fn drop(&mut self) {
        if !self.was {
            trap::leave();
        }
    }
}
