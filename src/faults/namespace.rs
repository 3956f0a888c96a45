//! The kernel's clocks jump, for all that is in this process and its children: time namespaces.
//!
//! time_namespaces(7). The kernel converts all timed waits itself, those that have begun excepted:
//! they end when they would have. So there is no better picture of a machine that was restored
//! ([`jump`] both clocks) or was suspended (`CLOCK_BOOTTIME` only).
//!
//! `CLOCK_MONOTONIC_RAW` goes with `CLOCK_MONOTONIC`. The wall clock and the processor's counter do
//! not.

use std::ffi::c_int;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;

use super::Unsupported;

/// Makes `CLOCK_MONOTONIC` and `CLOCK_BOOTTIME` jump by this much, forward or back.
///
/// May be repeated; jumps add up. There is no way back but the opposite jump. Other processes than
/// the children to come don't notice.
///
/// # Errors
///
/// If the process has a second thread (see [`in_child`](super::in_child)); if it isn't allowed to;
/// if the kernel has no time namespaces; if a clock would come to be before zero, or later than
/// some 146 years. Then no clock has jumped.
pub fn jump(monotonic_ns: i64, boottime_ns: i64) -> Result<(), Unsupported> {
    leave_for_a_fresh_one()?;
    // What it says now is what the last one said.
    let text = fs::read_to_string(OFFSETS)
        .map_err(|error| Unsupported::because("/proc/self/timens_offsets", &error))?;
    let mut offsets = String::new();
    for (clock, number, ns) in [("monotonic", "1", monotonic_ns), ("boottime", "7", boottime_ns)] {
        let ns = offset_ns(&text, clock, number) + i128::from(ns);
        let (secs, rest) = (ns.div_euclid(SECOND), ns.rem_euclid(SECOND));
        offsets += &format!("{clock} {secs} {rest}\n");
    }
    fs::write(OFFSETS, offsets).map_err(|error| {
        Unsupported::because("CAP_SYS_TIME, and a time that the kernel can show", &error)
    })?;
    let namespace = File::open("/proc/self/ns/time_for_children")
        .map_err(|error| Unsupported::because("/proc/self/ns/time_for_children", &error))?;
    // SAFETY: takes a descriptor that is open, and changes what the clocks of this process show.
    if unsafe { libc::setns(namespace.as_raw_fd(), CLONE_NEWTIME) } != 0 {
        let error = io::Error::last_os_error();
        let needs = match error.raw_os_error() {
            Some(libc::EUSERS) => "a process without a second thread",
            _ => "CAP_SYS_ADMIN",
        };
        return Err(Unsupported::because(needs, &error));
    }
    Ok(())
}

const CLONE_NEWTIME: c_int = 0x80;
const OFFSETS: &str = "/proc/self/timens_offsets";
const SECOND: i128 = 1_000_000_000;

/// A namespace for children that has no process yet, so that its offsets can be set.
fn leave_for_a_fresh_one() -> Result<(), Unsupported> {
    // SAFETY: concerns children to come, until `setns`.
    if unsafe { libc::unshare(CLONE_NEWTIME) } == 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    let needs = match error.raw_os_error() {
        Some(libc::EPERM) => "CAP_SYS_ADMIN",
        _ => "a kernel with time namespaces",
    };
    Err(Unsupported::because(needs, &error))
}

/// What the kernel says the offset is: a line with the clock's name, or its number, and seconds and
/// nanoseconds.
fn offset_ns(text: &str, clock: &str, number: &str) -> i128 {
    let fields = text.lines().find_map(|line| {
        let mut fields = line.split_whitespace();
        fields.next().filter(|name| *name == clock || *name == number)?;
        let mut next = || fields.next()?.parse::<i128>().ok();
        Some((next()?, next()?))
    });
    fields.map_or(0, |(secs, ns)| secs * SECOND + ns)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_are_read_with_their_signs() {
        let text = "monotonic          -3 500000000\nboottime           7         0\n";
        assert_eq!(offset_ns(text, "monotonic", "1"), -2_500_000_000);
        assert_eq!(offset_ns(text, "boottime", "7"), 7_000_000_000);
        assert_eq!(offset_ns("", "boottime", "7"), 0);
    }
}
