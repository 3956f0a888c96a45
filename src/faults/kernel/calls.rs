//! What the C library's functions become. All of it may run in the handler of a signal.

use std::ffi::{CStr, c_int, c_long, c_void};
use std::sync::atomic::{
    AtomicBool, AtomicUsize,
    Ordering::{Acquire, Relaxed, Release},
};
use std::{mem, ptr};

use super::lies::{self, Liar, saturate};
use crate::faults::raw;

/// What [`interpose!`](crate::faults::interpose)'s functions call, with their arguments.
#[doc(hidden)]
#[allow(missing_docs, clippy::missing_safety_doc, reason = "clock_gettime(2) and so on")]
pub mod symbols {
    use super::*;

    #[inline]
    pub unsafe fn clock_gettime(clock: c_int, time: *mut c_void) -> c_int {
        let time = time.cast();
        // SAFETY: the caller's.
        unsafe { if lies::none() { truth(clock, time) } else { told(clock, time) } }
    }

    pub unsafe fn clock_nanosleep(
        clock: c_int,
        flags: c_int,
        time: *const c_void,
        rest: *mut c_void,
    ) -> c_int {
        // SAFETY: the caller's.
        let result = unsafe { nanosleep(clock, flags, time.cast(), rest.cast()) };
        // This one returns its error.
        int(-result)
    }

    pub unsafe fn timerfd_settime(
        fd: c_int,
        flags: c_int,
        new: *const c_void,
        old: *mut c_void,
    ) -> c_int {
        // SAFETY: the caller's.
        int(returned(unsafe { settime(fd, flags, new.cast(), old.cast()) }))
    }

    #[inline]
    pub unsafe fn syscall(number: c_long, args: [c_long; 6]) -> c_long {
        // SAFETY: the caller's.
        returned(unsafe {
            if lies::none() { raw::syscall(number, args) } else { by_number(number, args) }
        })
    }
}

/// Whether the C library's `clock_gettime` is the one above.
pub(super) fn are_ours() -> bool {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a place for one timespec. The kernel knows no such clock, and writes nothing.
    let result = lies::asking(|| unsafe { libc::clock_gettime(ARE_YOU_OURS, &raw mut time) });
    result == 0 && time.tv_sec == YES
}

const ARE_YOU_OURS: libc::clockid_t = 0x4445_4144;
const YES: libc::time_t = 0x4245_4154;

/// The clock itself, in nanoseconds.
pub(super) fn truth_ns(liar: Liar) -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a place for one timespec.
    unsafe { truth(liar.clock(), &raw mut time) };
    // Before 1970: 1970.
    ns(time).unwrap_or(0)
}

type ClockGettime = unsafe extern "C" fn(libc::clockid_t, *mut libc::timespec) -> c_int;

/// The C library's own; 0 until it has been looked for, 1 if it can't be found.
static OWN: AtomicUsize = AtomicUsize::new(0);

/// # Safety
///
/// That of `clock_gettime`.
#[inline]
unsafe fn truth(clock: libc::clockid_t, time: *mut libc::timespec) -> c_int {
    // Ordering: Acquire, pairs with the Release in `look_up`.
    let own = match OWN.load(Acquire) {
        0 => look_up(c"clock_gettime"),
        found => found,
    };
    if own > 1 {
        // SAFETY: it is a function of the C library with this signature, found by its name.
        return unsafe { mem::transmute::<usize, ClockGettime>(own)(clock, time) };
    }
    let args = [clock.into(), address(time), 0, 0, 0, 0];
    // SAFETY: the caller's.
    int(returned(unsafe { raw::syscall(libc::SYS_clock_gettime, args) }))
}

/// Behind ours; 1 if there is none, or while somebody else is at it: looking up may well allocate,
/// and an allocator ask for the time.
#[cold]
fn look_up(name: &CStr) -> usize {
    static BUSY: AtomicBool = AtomicBool::new(false);
    // Ordering: Relaxed, keeps others out and publishes nothing.
    if BUSY.swap(true, Relaxed) {
        return 1;
    }
    // SAFETY: a string that ends; nothing is loaded.
    let found = unsafe { libc::dlsym(libc::RTLD_NEXT, name.as_ptr()) };
    let found = found.expose_provenance().max(1);
    // Ordering: Release, pairs with the Acquire in `truth`: what looking up has set up is visible.
    OWN.store(found, Release);
    found
}

/// # Safety
///
/// That of `clock_gettime`.
unsafe fn told(clock: libc::clockid_t, time: *mut libc::timespec) -> c_int {
    if clock == ARE_YOU_OURS {
        // SAFETY: it is `are_ours` that asks.
        unsafe { (*time).tv_sec = YES };
        return 0;
    }
    let Some(liar) = Liar::of(clock) else {
        // SAFETY: the caller's.
        return unsafe { truth(clock, time) };
    };
    let mut result = 0;
    let told = liar.line().read(|| {
        let mut now = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: a place for one timespec.
        result = unsafe { truth(clock, &raw mut now) };
        ns(now).unwrap_or(0)
    });
    if result == 0 {
        // SAFETY: the caller's.
        unsafe { time.write(timespec(saturate(told))) };
    }
    result
}

/// # Safety
///
/// That of `clock_nanosleep`.
unsafe fn nanosleep(
    clock: c_int,
    flags: c_int,
    time: *const libc::timespec,
    rest: *mut libc::timespec,
) -> c_long {
    let mut place = None;
    let mut time = time;
    if !lies::none() && flags & libc::TIMER_ABSTIME != 0 {
        // SAFETY: the caller's.
        time = unsafe { to_truth(clock, time, &mut place) };
    }
    let args = [clock.into(), flags.into(), address(time), address(rest), 0, 0];
    // SAFETY: the caller's; `place` outlives the call.
    unsafe { raw::syscall(libc::SYS_clock_nanosleep, args) }
}

/// # Safety
///
/// That of `timerfd_settime`.
unsafe fn settime(
    fd: c_int,
    flags: c_int,
    new: *const libc::itimerspec,
    old: *mut libc::itimerspec,
) -> c_long {
    let mut place = None;
    let mut new = new;
    let is_absolute = !lies::none() && flags & libc::TFD_TIMER_ABSTIME != 0 && !new.is_null();
    if is_absolute && let Some(clock) = clock_of(fd) {
        // SAFETY: the caller's.
        let mut spec = unsafe { new.read() };
        let is_to_stop = spec.it_value.tv_sec == 0 && spec.it_value.tv_nsec == 0;
        if !is_to_stop {
            let mut at = None;
            // SAFETY: `spec` is one.
            spec.it_value = unsafe { *to_truth(clock, &raw const spec.it_value, &mut at) };
            // Zero would stop it.
            if spec.it_value.tv_sec == 0 {
                spec.it_value.tv_nsec = spec.it_value.tv_nsec.max(1);
            }
            new = ptr::from_ref(place.insert(spec));
        }
    }
    let args = [fd.into(), flags.into(), address(new), address(old), 0, 0];
    // SAFETY: the caller's; `place` outlives the call.
    unsafe { raw::syscall(libc::SYS_timerfd_settime, args) }
}

/// # Safety
///
/// That of the call.
unsafe fn by_number(number: c_long, mut args: [c_long; 6]) -> c_long {
    let mut place = None;
    // SAFETY: each converts what the call's own manual says is there.
    unsafe {
        match number {
            libc::SYS_futex => {
                if let Some(clock) = futex_clock(int(args[1])) {
                    args[3] = address(to_truth(clock, pointer(args[3]), &mut place));
                }
            }
            libc::SYS_clock_gettime => {
                // The C library's sets `errno`; here the result is the kernel's.
                return match told(int(args[0]), place_at(args[1])) {
                    0 => 0,
                    _ => -c_long::from(*libc::__errno_location()),
                };
            }
            libc::SYS_clock_nanosleep => {
                let (time, rest) = (pointer(args[2]), place_at(args[3]));
                return nanosleep(int(args[0]), int(args[1]), time, rest);
            }
            libc::SYS_timerfd_settime => {
                let (new, old) = (pointer(args[2]), place_at(args[3]));
                return settime(int(args[0]), int(args[1]), new, old);
            }
            _ => {}
        }
        raw::syscall(number, args)
    }
}

/// The clock of an absolute deadline, if the operation has one.
fn futex_clock(operation: c_int) -> Option<c_int> {
    const LOCK_PI2: c_int = 13;
    let realtime = operation & libc::FUTEX_CLOCK_REALTIME != 0;
    match operation & !(libc::FUTEX_PRIVATE_FLAG | libc::FUTEX_CLOCK_REALTIME) {
        libc::FUTEX_LOCK_PI => Some(libc::CLOCK_REALTIME),
        libc::FUTEX_WAIT_BITSET | libc::FUTEX_WAIT_REQUEUE_PI | LOCK_PI2 => {
            Some(if realtime { libc::CLOCK_REALTIME } else { libc::CLOCK_MONOTONIC })
        }
        _ => None,
    }
}

/// `time` on `clock`, in true time: put into `place`, or where it was if there is nothing to
/// convert.
///
/// # Safety
///
/// `time` is null, or a timespec.
unsafe fn to_truth(
    clock: c_int,
    time: *const libc::timespec,
    place: &mut Option<libc::timespec>,
) -> *const libc::timespec {
    let Some(liar) = Liar::of(clock) else { return time };
    // SAFETY: the caller's.
    let Some(told) = (unsafe { time.as_ref() }).and_then(|time| ns(*time)) else {
        // None, or one that the kernel will refuse.
        return time;
    };
    ptr::from_ref(place.insert(timespec(liar.line().truth(told).unwrap_or(u64::MAX))))
}

/// The clock of a timerfd, as the kernel describes it.
fn clock_of(fd: c_int) -> Option<c_int> {
    let mut path = [0; 40];
    {
        use std::io::Write as _;
        write!(&mut path[..39], "/proc/self/fdinfo/{fd}").ok()?;
    }
    let mut text = [0; 512];
    // SAFETY: the path ends with a zero, the buffer is as long as is said, and the descriptor is
    // this function's own.
    let read = unsafe {
        let flags = c_long::from(libc::O_RDONLY | libc::O_CLOEXEC);
        let here = c_long::from(libc::AT_FDCWD);
        let info = raw::syscall(libc::SYS_openat, [here, address(path.as_ptr()), flags, 0, 0, 0]);
        if info < 0 {
            return None;
        }
        let room = text.len().cast_signed() as c_long;
        let read = raw::syscall(libc::SYS_read, [info, address(text.as_mut_ptr()), room, 0, 0, 0]);
        raw::syscall(libc::SYS_close, [info, 0, 0, 0, 0, 0]);
        read
    };
    let text = str::from_utf8(text.get(..usize::try_from(read).ok()?)?).ok()?;
    text.lines().find_map(|line| line.strip_prefix("clockid:"))?.trim().parse().ok()
}

const SECOND: u64 = 1_000_000_000;

/// `None` before zero, and if it isn't a time; saturates.
fn ns(time: libc::timespec) -> Option<u64> {
    let (secs, ns) = (u64::try_from(time.tv_sec).ok()?, u64::try_from(time.tv_nsec).ok()?);
    (ns < SECOND).then(|| secs.saturating_mul(SECOND).saturating_add(ns))
}

fn timespec(ns: u64) -> libc::timespec {
    // Both fit: they are less than what they are made of, which is 2⁶⁴ ns.
    libc::timespec { tv_sec: (ns / SECOND).cast_signed(), tv_nsec: (ns % SECOND).cast_signed() }
}

/// As the C library returns what the kernel does: an error is -1, and in `errno`.
#[inline]
fn returned(result: c_long) -> c_long {
    if !(-4095..0).contains(&result) {
        return result;
    }
    // SAFETY: this thread's own.
    unsafe { *libc::__errno_location() = int(-result) };
    -1
}

#[expect(clippy::cast_possible_truncation, reason = "an int, passed in a register")]
fn int(register: c_long) -> c_int {
    register as c_int
}

fn address<T>(at: *const T) -> c_long {
    at.expose_provenance().cast_signed() as c_long
}

fn pointer<T>(register: c_long) -> *const T {
    register as *const T
}

fn place_at<T>(register: c_long) -> *mut T {
    pointer::<T>(register).cast_mut()
}
