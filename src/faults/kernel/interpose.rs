//! The macro that puts our functions into the C library's place.

/// Defines the C library's `clock_gettime`, `clock_nanosleep`, `timerfd_settime` and `syscall` for
/// this program, so that [`faults::kernel`](crate::faults::kernel) can make them lie.
///
/// Put it once into a binary, or into one file of a test crate, at the top or in a module. Defines
/// nothing but for glibc on Linux on x86-64 and aarch64.
///
/// `syscall` takes any number of arguments in C. Defined here with the most that the kernel takes,
/// six behind the number: on these two processors integers and pointers are passed in the same
/// places either way, and what a caller has left out is read from where it might have been, and not
/// used by the call.
#[doc(hidden)]
#[macro_export]
macro_rules! __deadbeat_interpose {
    () => {
        #[cfg(all(
            target_os = "linux",
            target_env = "gnu",
            any(target_arch = "x86_64", target_arch = "aarch64")
        ))]
        #[allow(unsafe_code, missing_docs, unreachable_pub, clippy::missing_safety_doc)]
        mod __deadbeat_interposed {
            use ::core::ffi::{c_int, c_long, c_void};

            use $crate::faults::kernel::symbols;

            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn clock_gettime(clock: c_int, time: *mut c_void) -> c_int {
                // SAFETY: the caller's.
                unsafe { symbols::clock_gettime(clock, time) }
            }

            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn clock_nanosleep(
                clock: c_int,
                flags: c_int,
                time: *const c_void,
                rest: *mut c_void,
            ) -> c_int {
                // SAFETY: the caller's.
                unsafe { symbols::clock_nanosleep(clock, flags, time, rest) }
            }

            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn timerfd_settime(
                fd: c_int,
                flags: c_int,
                new: *const c_void,
                old: *mut c_void,
            ) -> c_int {
                // SAFETY: the caller's.
                unsafe { symbols::timerfd_settime(fd, flags, new, old) }
            }

            #[unsafe(no_mangle)]
            pub unsafe extern "C" fn syscall(
                number: c_long,
                a: c_long,
                b: c_long,
                c: c_long,
                d: c_long,
                e: c_long,
                f: c_long,
            ) -> c_long {
                // SAFETY: the caller's.
                unsafe { symbols::syscall(number, [a, b, c, d, e, f]) }
            }
        }
    };
}
