//! System calls that no library can come between.

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use std::arch::asm;
use std::ffi::c_long;

/// Makes a system call. The result is the kernel's own: an error is a negative `errno`.
///
/// # Safety
///
/// That of the call.
#[cfg(target_arch = "x86_64")]
#[inline]
pub(super) unsafe fn syscall(number: c_long, args: [c_long; 6]) -> c_long {
    let result;
    // SAFETY: the kernel's convention; the call's own demands are the caller's business.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") args[4],
            in("r9") args[5],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// Makes a system call. The result is the kernel's own: an error is a negative `errno`.
///
/// # Safety
///
/// That of the call.
#[cfg(target_arch = "aarch64")]
#[inline]
pub(super) unsafe fn syscall(number: c_long, args: [c_long; 6]) -> c_long {
    let result;
    // SAFETY: the kernel's convention; the call's own demands are the caller's business.
    unsafe {
        asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") args[0] => result,
            in("x1") args[1],
            in("x2") args[2],
            in("x3") args[3],
            in("x4") args[4],
            in("x5") args[5],
            options(nostack),
        );
    }
    result
}

/// Makes a system call. The result is the kernel's own: an error is a negative `errno`.
///
/// On this processor the C library comes between.
///
/// # Safety
///
/// That of the call.
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
pub(super) unsafe fn syscall(number: c_long, [a, b, c, d, e, f]: [c_long; 6]) -> c_long {
    // SAFETY: the caller's.
    match unsafe { libc::syscall(number, a, b, c, d, e, f) } {
        -1 => -c_long::from(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)),
        result => result,
    }
}
