//! The trap: the kernel turns each reading of the counter into a SIGSEGV, whose handler stands in.
//!
//! The handler reads the true counter with the trap off for its thread. It makes raw system calls
//! and uses atomics, and nothing else.

use std::arch::x86_64::{__cpuid, __rdtscp};
use std::ffi::{c_int, c_long, c_void};
use std::ops::Range;
use std::sync::OnceLock;
use std::{io, mem, ptr};

use super::decode::{Read, decode};
use super::lies::{self, Reading};
use super::vdso;
use crate::faults::{Unsupported, raw};

/// Traps this thread's readings, and says whether they were before.
pub(super) fn enter() -> Result<bool, Unsupported> {
    if !has_rdtscp() {
        return Err(Unsupported::needs("a processor that has rdtscp"));
    }
    let was = mode().map_err(|error| Unsupported::because("a kernel with PR_SET_TSC", &error))?;
    let installed = HANDLER.get_or_init(|| {
        let _ = VDSO.get_or_init(vdso::range);
        install().map_err(|error| error.raw_os_error().unwrap_or(0))
    });
    if let Err(errno) = installed {
        let error = io::Error::from_raw_os_error(*errno);
        return Err(Unsupported::because("a handler of SIGSEGV", &error));
    }
    set_mode(libc::PR_TSC_SIGSEGV);
    Ok(was == libc::PR_TSC_SIGSEGV)
}

/// Ends the trap for this thread.
pub(super) fn leave() {
    set_mode(libc::PR_TSC_ENABLE);
}

/// Runs `f` with the trap off for this thread.
pub(super) fn truthfully<R>(f: impl FnOnce() -> R) -> R {
    let trapped = mode().is_ok_and(|mode| mode == libc::PR_TSC_SIGSEGV);
    if !trapped {
        return f();
    }
    set_mode(libc::PR_TSC_ENABLE);
    let result = f();
    set_mode(libc::PR_TSC_SIGSEGV);
    result
}

/// Reads the counter, after all earlier loads. Trapped, unless the trap is off.
#[inline]
pub(super) fn read() -> Reading {
    let mut cpu = 0;
    // SAFETY: `enter` has found the instruction; nobody gets here without it.
    let ticks = unsafe { __rdtscp(&raw mut cpu) };
    Reading { ticks, cpu }
}

static VDSO: OnceLock<Range<u64>> = OnceLock::new();
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();
static HANDLER: OnceLock<Result<(), i32>> = OnceLock::new();

fn has_rdtscp() -> bool {
    const EXTENDED: u32 = 0x8000_0001;
    __cpuid(0x8000_0000).eax >= EXTENDED && __cpuid(EXTENDED).edx & 1 << 27 != 0
}

fn mode() -> io::Result<c_int> {
    let mut mode: c_int = 0;
    // SAFETY: the kernel writes one integer to `mode`, which outlives the call.
    let result = unsafe { prctl(libc::PR_GET_TSC, (&raw mut mode).expose_provenance()) };
    if result == 0 { Ok(mode) } else { Err(error(result)) }
}

/// Can't fail where [`mode`] doesn't.
fn set_mode(mode: c_int) {
    // SAFETY: concerns this thread's readings of the counter only, which `on_segv` stands in for.
    unsafe { prctl(libc::PR_SET_TSC, mode.unsigned_abs() as usize) };
}

/// # Safety
///
/// That of the operation.
unsafe fn prctl(operation: c_int, argument: usize) -> c_long {
    let argument = argument.cast_signed() as c_long;
    // SAFETY: the caller's.
    unsafe { raw::syscall(libc::SYS_prctl, [operation.into(), argument, 0, 0, 0, 0]) }
}

fn error(result: c_long) -> io::Error {
    io::Error::from_raw_os_error(i32::try_from(-result).unwrap_or(0))
}

fn install() -> io::Result<()> {
    let (mut old, mut new) = (mem::MaybeUninit::<libc::sigaction>::uninit(), NONE);
    // SAFETY: both are places for an action; the handler has the signature that its flag asks for.
    // What was there is known before the handler can run: it is asked for first.
    unsafe {
        if libc::sigaction(libc::SIGSEGV, ptr::null(), old.as_mut_ptr()) != 0 {
            return Err(io::Error::last_os_error());
        }
        let _ = PREVIOUS.set(old.assume_init());
        new.sa_sigaction = on_segv as *const () as usize;
        // On the stack that the thread has for the purpose, or an overflow couldn't be reported.
        new.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
        // No other handler may read the counter while this one has the trap off.
        libc::sigfillset(&raw mut new.sa_mask);
        if libc::sigaction(libc::SIGSEGV, &raw const new, ptr::null_mut()) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// An action of zeros: the default one.
// SAFETY: it is made of integers and an optional function.
static NONE: libc::sigaction = unsafe { mem::zeroed() };

/// Its name in the kernel; the fault that isn't one of an address.
const SI_KERNEL: c_int = 0x80;

extern "C" fn on_segv(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel hands over both, and nobody else has them until this returns.
    let (code, registers) = unsafe {
        let context = context.cast::<libc::ucontext_t>();
        ((*info).si_code, &mut (*context).uc_mcontext.gregs)
    };
    match trapped(code, registers) {
        Some(read) => stand_in(read, registers),
        // SAFETY: as they came.
        None => unsafe { pass_on(signal, code, info, context) },
    }
}

type Registers = [libc::greg_t; 23];

fn register(name: c_int) -> usize {
    name.unsigned_abs() as usize
}

/// The instruction, if that is why we are here.
fn trapped(code: c_int, registers: &Registers) -> Option<Read> {
    if code != SI_KERNEL {
        return None;
    }
    let at = registers[register(libc::REG_RIP)].cast_unsigned();
    decode(|offset| {
        let byte = at.wrapping_add(offset) as *const u8;
        // SAFETY: the processor has read the instruction from there, up to the byte that decides
        // what it is, and `decode` asks for none behind that.
        unsafe { byte.read_volatile() }
    })
}

fn stand_in(read: Read, registers: &mut Registers) {
    let place = registers[register(libc::REG_RIP)].cast_unsigned();
    let in_vdso = VDSO.get().is_some_and(|vdso| vdso.contains(&place));
    set_mode(libc::PR_TSC_ENABLE);
    let told = lies::told(in_vdso);
    set_mode(libc::PR_TSC_SIGSEGV);
    let (low, high) = (told.ticks & 0xffff_ffff, told.ticks >> 32);
    registers[register(libc::REG_RAX)] = low.cast_signed();
    registers[register(libc::REG_RDX)] = high.cast_signed();
    if read.tells_cpu {
        registers[register(libc::REG_RCX)] = told.cpu.into();
    }
    registers[register(libc::REG_RIP)] = place.wrapping_add(read.length).cast_signed();
}

/// A fault of another kind: to whoever was there before.
///
/// # Safety
///
/// The arguments are the handler's.
unsafe fn pass_on(signal: c_int, code: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    let previous = PREVIOUS.get().unwrap_or(&NONE);
    // SAFETY: what is called was installed for this signal, with the signature that its flag tells.
    // Else the default action is, and the fault happens again; a signal that was sent doesn't.
    unsafe {
        match previous.sa_sigaction {
            libc::SIG_DFL | libc::SIG_IGN => {
                libc::sigaction(signal, &raw const NONE, ptr::null_mut());
                if code <= 0 {
                    libc::raise(signal);
                }
            }
            handler if previous.sa_flags & libc::SA_SIGINFO != 0 => {
                type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);
                mem::transmute::<usize, Handler>(handler)(signal, info, context);
            }
            handler => mem::transmute::<usize, extern "C" fn(c_int)>(handler)(signal),
        }
    }
}
