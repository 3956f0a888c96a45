//! The two clocks that fires are judged by: the true one, which no fault touches, and the one that
//! the process is told.
//!
//! What is true is CLOCK_MONOTONIC, asked past the C library, which is what lies. What is told is
//! `std::time::Instant`, which on Linux is CLOCK_MONOTONIC asked through it; made up for what it loses by
//! going back, since a clock that does so is wrong from then on, and time goes on.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The true time, in nanoseconds from anywhere.
#[cfg(target_os = "linux")]
pub(super) fn now_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let secs = u64::try_from(time.tv_sec).unwrap_or(0);
    secs.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// The true time, in nanoseconds from anywhere. Nothing lies here.
#[cfg(not(target_os = "linux"))]
pub(super) fn now_ns() -> u64 {
    told_now_ns()
}

/// Waits until that true time, however long a wait takes.
pub(super) fn sleep_until(true_ns: u64) {
    loop {
        let left_ns = true_ns.saturating_sub(now_ns());
        if left_ns == 0 {
            return;
        }
        nap(Duration::from_nanos(left_ns));
    }
}

/// Sleeps for about as long; a relative wait, which the kernel times by what is true.
#[expect(clippy::disallowed_methods, reason = "no timer of those that are judged")]
pub(super) fn nap(duration: Duration) {
    thread::sleep(duration);
}

/// The told time, in nanoseconds from anywhere: the furthest that it has come, carried on by the true
/// time.
///
/// Before the clock is set back, somebody has to ask: what nobody has seen doesn't count.
pub(super) fn told_ns() -> u64 {
    /// The most that the told time was ever ahead of the true one.
    static AHEAD: AtomicU64 = AtomicU64::new(0);
    let (told_ns, true_ns) = (told_now_ns(), now_ns());
    let ahead_ns = told_ns.saturating_sub(true_ns);
    // Ordering: a figure of its own.
    true_ns.saturating_add(AHEAD.fetch_max(ahead_ns, Ordering::Relaxed).max(ahead_ns))
}

#[expect(clippy::disallowed_methods, reason = "the clock that lies")]
fn told_now_ns() -> u64 {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    // A wide margin, should it go back before it was first asked.
    const MARGIN_NS: u64 = 1 << 60;
    let now = Instant::now();
    let origin = *ORIGIN.get_or_init(|| now);
    let ahead = u64::try_from(now.saturating_duration_since(origin).as_nanos());
    let behind = u64::try_from(origin.saturating_duration_since(now).as_nanos());
    MARGIN_NS.saturating_add(ahead.unwrap_or(MARGIN_NS)).saturating_sub(behind.unwrap_or(MARGIN_NS))
}
