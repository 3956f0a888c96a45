//! Figures that are one number each, and not a time per operation: memory, processor time, lateness.
//!
//! ```text
//! cargo bench --bench figures                    # all, about two minutes
//! cargo bench --bench figures -- storm           # one or more
//! ```
//!
//! Each prints one line, `name: value unit (detail)`. The value is deadbeat's; the detail has what
//! explains it, and behind `|` the other systems, measured by the same code. Each system is measured
//! in a process of its own, so that nobody finds memory or threads that another has left. "Armed" is
//! as in `arm_cancel`: polled once to `Pending`.
//!
//! - `rss_cancelled_here`: growth of resident memory by 10 million timeouts of 300 s that are armed
//!   and cancelled on one thread, at most 1000 being live at once. The floor is 0.
//! - `rss_cancelled_there`: the same, cancelled by another thread, which gets them over a bounded
//!   channel in batches; at most 1024 are live.
//! - `driver_wakes`: how often per second any thread but the measuring one wakes up, as the kernel
//!   counts, and the processor time of these threads, while 100 000 timers are armed, none of which
//!   is due within 10 s. Over 5 s. The floor is 0.
//! - `sleepers_cpu`: processor time of the whole process per second while 50 sleepers wait again and
//!   again, with periods of 20, 40, ... 1000 µs, on absolute deadlines, of which those that have passed
//!   are skipped. All are tasks of one thread, a current-thread tokio runtime. `kernel`, the floor,
//!   is one thread that takes all these deadlines in one row of absolute sleeps, and wakes no task.
//!   Mind the wake-ups per second beside it: who is late sleeps less often.
//! - `bytes_per_timer`: bytes allocated per timer at a million live, without the future (and the box
//!   that the measurement puts it in): pool, wheel and everything else.
//! - `storm`: a million timers fall due at the same moment; meanwhile a timer of 1 ms is armed every
//!   20 µs on another thread. How late these fresh ones were at the wake call, for those due between that
//!   moment and the last firing of the million. `kernel` precision is the floor: see `deadbeat
//!   precision`.
//! - `expiry_real`: processor time per timer of all but the measuring thread while 100 000 timers,
//!   armed and settled before, fall due at the same moment, with a waker that counts.
//!
//! Linux only.

#[cfg(target_os = "linux")]
#[path = "figures/mod.rs"]
mod figures;
#[cfg(target_os = "linux")]
mod support;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    figures::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("the figures are read from /proc, which is Linux's");
}
