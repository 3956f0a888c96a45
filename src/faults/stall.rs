//! The process stands still while time goes on: nothing lies.
//!
//! That is what a container is to itself whose quota is used up, a virtual machine whose host has
//! others to run, or a program in a debugger. A helper process, forked before, wakes this one up.

use std::time::Duration;

use super::{Unsupported, child, raw};

#[allow(unsafe_code, reason = "writes after a fork")]
mod freezer;

/// How long the helper waits before it does anything: a fork has pages copied as they are written to, and
/// all that runs takes longer until that is over.
const SETTLE: Duration = Duration::from_millis(5);

/// Stops this process, with all its threads, and continues it after `duration`: SIGSTOP and
/// SIGCONT. Returns once it has been.
///
/// Its parent is told by SIGCHLD: a shell takes it for a job that was suspended.
///
/// # Errors
///
/// If no helper could be forked.
pub fn stop(duration: Duration) -> Result<(), Unsupported> {
    let us = this_process();
    child::helper(|| {
        pass(SETTLE);
        signal(us, libc::SIGSTOP);
        pass(duration);
        if is_our_parent(us) {
            signal(us, libc::SIGCONT);
        }
        0
    })?;
    Ok(())
}

/// Freezes this process, with all its threads, and thaws it after `duration`: the cgroup freezer,
/// of version 1 or 2. Returns once it has been.
///
/// No signal reaches it meanwhile, nor does any end it. It is put into a group of its own, and back
/// where it was.
///
/// # Errors
///
/// Without a freezer below /sys/fs/cgroup in which groups may be made, or a helper.
pub fn freeze(duration: Duration) -> Result<(), Unsupported> {
    let freezer = freezer::Freezer::new(this_process())?;
    // The helper is forked here, before: it stays in the group where both are now.
    let code = child::helper(|| {
        pass(SETTLE);
        i32::from(!freezer.freeze_while(|| pass(duration)))
    })?;
    if code == 0 { Ok(()) } else { Err(Unsupported::needs("a freezer that takes this process")) }
}

fn this_process() -> libc::pid_t {
    // SAFETY: asks for a number.
    unsafe { libc::getpid() }
}

fn signal(process: libc::pid_t, signal: libc::c_int) {
    // SAFETY: to our parent, which waits for us: the number is still its.
    unsafe { libc::kill(process, signal) };
}

/// Whether it lives still: ended, it leaves its children to another, and its number in time, too.
fn is_our_parent(process: libc::pid_t) -> bool {
    // SAFETY: asks for a number.
    unsafe { libc::getppid() == process }
}

/// Sleeps, in the helper.
fn pass(duration: Duration) {
    let mut time = libc::timespec {
        tv_sec: duration.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: duration.subsec_nanos() as _,
    };
    let place = (&raw mut time).expose_provenance().cast_signed() as libc::c_long;
    // SAFETY: the kernel reads the time, and writes back what is left of it, which outlives the
    // call.
    while unsafe { raw::syscall(libc::SYS_nanosleep, [place, place, 0, 0, 0, 0]) }
        == -libc::c_long::from(libc::EINTR)
    {}
}
