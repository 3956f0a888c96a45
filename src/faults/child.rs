//! Processes of one's own: forks.

use std::any::Any;
use std::ffi::c_int;
use std::io::{self, PipeReader, Read, Write};
use std::os::fd::AsRawFd;
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::Unsupported;
use crate::driver::with_signals_blocked;

/// Runs `f` in a forked child, whose only thread it is on, and returns what it returned.
///
/// What `f` does to the process is gone with the child, which ends as soon as `f` has returned,
/// without destructors or handlers of exit. The child is killed once `limit` has passed (of true
/// time, to 5 ms), and when the thread that called this ends.
///
/// Other threads of the caller don't exist in the child, and a lock that one of them held stays
/// locked there: allocating works, and so do new threads; of the rest, use what no other thread
/// does.
///
/// # Errors
///
/// The message of the panic that ended `f`, or of what else became of the child.
pub fn in_child(limit: Duration, f: impl FnOnce() -> String) -> Result<String, String> {
    let (mut read, mut write) = io::pipe().map_err(|error| format!("no pipe: {error}"))?;
    let child = fork(|| {
        die_with_the_parent();
        let last = Arc::new(Mutex::new(String::new()));
        let heard = Arc::clone(&last);
        // Not printed: where it would go may be locked, and the parent is told.
        panic::set_hook(Box::new(move |panic| *lock(&heard) = panic.to_string()));
        let result = catch_unwind(AssertUnwindSafe(f));
        let (code, text) = match result {
            Ok(text) => (RETURNED, text),
            Err(payload) => (PANICKED, message(&*payload, &lock(&last))),
        };
        match write.write_all(text.as_bytes()) {
            Ok(()) => code,
            Err(_) => MUTE,
        }
    });
    let child = child.map_err(|error| format!("no fork: {error}"))?;
    let (text, status) = listen(&mut read, child, limit);
    match status {
        Ended::Exited(RETURNED) => Ok(text),
        Ended::Exited(PANICKED) => Err(text),
        Ended::Exited(code) => Err(format!("the child ended with code {code}")),
        Ended::Killed(signal) => Err(format!("the child was ended by signal {signal}")),
        Ended::Late => Err(format!("the child took longer than {limit:?}")),
        Ended::Unknown => Err("the child is not ours to wait for".into()),
    }
}

/// Runs `f` in a forked child that no signal disturbs, and waits for it. `f` may use what is safe
/// in the handler of a signal, and nothing else.
pub(super) fn helper(f: impl FnOnce() -> c_int) -> Result<c_int, Unsupported> {
    // Should somebody interrupt the program, he mustn't interrupt its helper.
    let child = with_signals_blocked(|| fork(f));
    let child = child.map_err(|error| Unsupported::because("a fork", &error))?;
    match wait(child, 0) {
        Some(Ended::Exited(code)) => Ok(code),
        _ => {
            Err(Unsupported::needs("a helper process that lives, and is not waited for by others"))
        }
    }
}

const RETURNED: c_int = 0;
const PANICKED: c_int = 1;
const MUTE: c_int = 2;

enum Ended {
    Exited(c_int),
    Killed(c_int),
    Late,
    /// Somebody else has waited for it, or nobody can.
    Unknown,
}

/// Runs `f` in a child, which exits with what it returns; the parent gets the child's number.
fn fork(f: impl FnOnce() -> c_int) -> io::Result<libc::pid_t> {
    // SAFETY: the child goes on with a copy of this thread, and leaves by `_exit`.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => {
            let code = f();
            // SAFETY: ends the child at once, without the destructors of the parent's statics.
            unsafe { libc::_exit(code) }
        }
        child => Ok(child),
    }
}

fn die_with_the_parent() {
    // SAFETY: concerns this process only. Refused, the limit remains.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
}

/// What it says until it has ended.
fn listen(from: &mut PipeReader, child: libc::pid_t, limit: Duration) -> (String, Ended) {
    const STEP: Duration = Duration::from_millis(5);
    let mut said = Vec::new();
    let mut steps = limit.div_duration_f64(STEP);
    loop {
        // Its end shows by its status, not by the pipe's: other children may hold that open.
        let ended = wait(child, libc::WNOHANG);
        while has_more(from, Duration::ZERO) {
            let mut some = [0; 4096];
            match from.read(&mut some) {
                Ok(0) | Err(_) => break,
                Ok(read) => said.extend_from_slice(&some[..read]),
            }
        }
        if let Some(ended) = ended {
            return (String::from_utf8_lossy(&said).into_owned(), ended);
        }
        if steps <= 0.0 {
            // SAFETY: our child, which nobody has waited for: the number is still its.
            unsafe { libc::kill(child, libc::SIGKILL) };
            wait(child, 0);
            return (String::new(), Ended::Late);
        }
        pause(STEP);
        steps -= 1.0;
    }
}

fn has_more(from: &PipeReader, within: Duration) -> bool {
    let mut poll = libc::pollfd { fd: from.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let millis = c_int::try_from(within.as_millis()).unwrap_or(c_int::MAX);
    // SAFETY: one entry, which outlives the call.
    unsafe { libc::poll(&raw mut poll, 1, millis) > 0 }
}

fn pause(time: Duration) {
    let millis = c_int::try_from(time.as_millis()).unwrap_or(c_int::MAX);
    // SAFETY: no entries.
    unsafe { libc::poll(ptr::null_mut(), 0, millis) };
}

/// `None` if it hasn't ended, given that `flags` let it say so.
fn wait(child: libc::pid_t, flags: c_int) -> Option<Ended> {
    let mut status = 0;
    loop {
        // SAFETY: the kernel writes one integer to `status`, which outlives the call.
        match unsafe { libc::waitpid(child, &raw mut status, flags) } {
            0 => return None,
            -1 if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            -1 => return Some(Ended::Unknown),
            _ if libc::WIFEXITED(status) => return Some(Ended::Exited(libc::WEXITSTATUS(status))),
            _ => return Some(Ended::Killed(libc::WTERMSIG(status))),
        }
    }
}

fn message(payload: &(dyn Any + Send), heard: &str) -> String {
    if !heard.is_empty() {
        return heard.to_owned();
    }
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message").to_owned()
}

fn lock(text: &Mutex<String>) -> std::sync::MutexGuard<'_, String> {
    text.lock().unwrap_or_else(PoisonError::into_inner)
}
