//! What time it is, so that processes of one machine can compare.

/// Nanoseconds of CLOCK_MONOTONIC, which all processes of a machine read alike. What is told by
/// [`deadbeat::time::Instant`] starts with the process.
#[cfg(target_os = "linux")]
pub(super) fn now_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let secs = u64::try_from(time.tv_sec).unwrap_or(0);
    secs.saturating_mul(1_000_000_000).saturating_add(u64::try_from(time.tv_nsec).unwrap_or(0))
}

/// Nanoseconds by the clock on the wall: the one that `std` has which all processes read alike. If it is
/// set meanwhile, the figures are off by that.
#[cfg(not(target_os = "linux"))]
#[expect(clippy::disallowed_methods, reason = "ours starts with the process")]
pub(super) fn now_ns() -> u64 {
    let time = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    time.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}
