//! What discipline costs while clocks behave, and what jumps of `CLOCK_MONOTONIC` cost when they don't.
//!
//! ```text
//! cargo bench --features faults --bench clock_jumps                 # all, about a minute
//! cargo bench --features faults --bench clock_jumps -- read/        # rows that contain this
//! cargo bench --features faults --bench clock_jumps -- strobe
//! DEADBEAT_CLOCK=os cargo bench --features faults --bench clock_jumps -- /process/
//! ```
//!
//! # Time per operation
//!
//! - `read/{clock}/{case}`: `Clock::now`.
//! - `arm/{clock}/{case}`: a timeout on a Timekeeper with that clock, created, polled once to `Pending`
//!   and dropped, as in `arm_cancel`.
//!
//! The clocks are `process`, which is `Clock::system`; and two of a builder: `own`, on the counter, and
//! `own-os`, which prefers the OS clock. The cases are
//!
//! - `alone`: no timer fires. In `read`, the clock is anchored anew by its own reads only, one in 20 ms.
//!   In `arm`, the driver also wakes now and then to look at what was cancelled.
//! - `driven`: on another thread a task sleeps 1 ms again and again, on a Timekeeper with this clock,
//!   so its driver looks at the kernel's clocks, and publishes a new line, some 900 times a second.
//!
//! A builder's clocks hold their reads to a maximum that all threads share, the process's to one of each
//! thread, and that is most of the difference between `own` and `process`. So `own` is to be compared with
//! `own-os`; and `process` with itself under `DEADBEAT_CLOCK=os`. The floor is `floor/lfence_rdtsc`, the
//! bare counter, `floor/clock_gettime`, the C library's function, and `floor/vdso`, the same without it.
//! In this program the C library's functions are replaced by ones that can lie, which costs an OS
//! clock a load, a branch and an indirect call, and hardly anything to a clock on the counter.
//! `floor/arm` is an ordered read of the process's clock, and a waker cloned and dropped.
//!
//! # Single figures
//!
//! Each run has a process of its own, since clocks don't forget. They are timed by the kernel's own
//! `CLOCK_MONOTONIC`, which doesn't jump.
//!
//! - `strobe`: how much one thread gets done while `CLOCK_MONOTONIC` jumps 200 ms forward and 200 ms
//!   back in turns, every 10 ms, divided by what it does while that clock is said to jump by nothing as often;
//!   the latter reads the clock through the same detour. The thread arms and cancels
//!   timeouts of 10 ms to 10 s as fast as it can (closed loop); and every 50 µs of true time, whatever has
//!   become of the others, it arms a sleep of 50 to 500 µs, which it polls once woken (open loop). The figure
//!   is the smaller of the two ratios, of timeouts cancelled and of sleeps fired per second. The goal is
//!   0.9. `silent` is a run in which nothing is said of any clock at all. Medians of three runs each, in
//!   turns.
//! - `million`: a million timers are armed, spread evenly at random over the hour to come, with a waker that
//!   only counts; then `CLOCK_MONOTONIC` jumps an hour forward. How long until all have fired; and
//!   how late the others are at their wake calls that another thread arms meanwhile, one every 100 µs
//!   for 1 ms ahead, beginning 20 ms before the jump. Those count that are armed after it; and of them, those
//!   that fire ahead of true time count as not late: their deadlines were fixed before the
//!   clock had noticed. tokio's million is polled once each on a thread that has entered a runtime with
//!   two workers, not from tasks; deadbeat's likewise, without a runtime.
//!
//! What can't be done here is skipped, with one line. Linux only.

#[cfg(target_os = "linux")]
#[path = "clock_jumps/mod.rs"]
mod clock_jumps;
#[cfg(target_os = "linux")]
mod support;

#[cfg(target_os = "linux")]
deadbeat::faults::interpose!();

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    clock_jumps::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("the clocks that jump here are Linux's");
}
