//! What the measurement asks of the operating system: the time, a bare sleep, what a thread cost.
//!
//! One clock times every system: `std::time::Instant`, which is CLOCK_MONOTONIC on Linux. The
//! library's own clock would be a judge in its own cause.

use std::time::{Duration, Instant};

/// The time, on the clock that all systems are measured with.
#[expect(clippy::disallowed_methods, reason = "the judge's clock is not the library's")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

/// Names a thread to the kernel.
pub(crate) type ThreadId = u32;

/// What threads have used since they started.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Usage {
    /// How often a thread came back from a wait: its voluntary context switches.
    pub(crate) wakeups: u64,
    /// Time on a CPU.
    pub(crate) cpu: Duration,
}

impl Usage {
    /// What was used between `earlier` and this.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            wakeups: self.wakeups.saturating_sub(earlier.wakeups),
            cpu: self.cpu.saturating_sub(earlier.cpu),
        }
    }
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.wakeups += other.wakeups;
        self.cpu += other.cpu;
    }
}

/// What `threads` have used together; `None` where the kernel doesn't tell, or one has ended.
pub(crate) fn usage(threads: &[ThreadId]) -> Option<Usage> {
    let mut total = Usage::default();
    for &thread in threads {
        total += imp::usage(thread)?;
    }
    Some(total)
}

pub(crate) use imp::{FLOOR_NOTE, Sleeper, current_thread, thread_named};

#[cfg(target_os = "linux")]
mod sleeper;

#[cfg(target_os = "linux")]
mod imp {
    use super::{ThreadId, Usage};
    use std::fs;
    use std::time::Duration;

    pub(crate) use super::sleeper::Sleeper;

    /// What to know about the floor on this platform.
    pub(crate) const FLOOR_NOTE: Option<&str> = None;

    /// The calling thread.
    pub(crate) fn current_thread() -> Option<ThreadId> {
        rustix::thread::gettid().as_raw_nonzero().get().try_into().ok()
    }

    /// The first thread of this process with that name, of which the kernel keeps 15 bytes.
    pub(crate) fn thread_named(name: &str) -> Option<ThreadId> {
        fs::read_dir("/proc/self/task").ok()?.flatten().find_map(|task| {
            let comm = fs::read_to_string(task.path().join("comm")).ok()?;
            (comm.trim_end() == &name[..name.len().min(15)])
                .then(|| task.file_name().to_str()?.parse().ok())?
        })
    }

    pub(super) fn usage(thread: ThreadId) -> Option<Usage> {
        let task = format!("/proc/self/task/{thread}");
        let status = fs::read_to_string(format!("{task}/status")).ok()?;
        let wakeups = status
            .lines()
            .find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?
            .trim()
            .parse()
            .ok()?;
        // The first of its three fields is the time on a CPU, in ns.
        let schedstat = fs::read_to_string(format!("{task}/schedstat")).ok()?;
        let cpu_ns = schedstat.split_whitespace().next()?.parse().ok()?;
        Some(Usage { wakeups, cpu: Duration::from_nanos(cpu_ns) })
    }
}

#[cfg(not(target_os = "linux"))]
mod imp {
    use super::{ThreadId, Usage, now};
    use std::time::Instant;

    /// What to know about the floor on this platform.
    pub(crate) const FLOOR_NOTE: Option<&str> = Some(
        "the floors sleep by std::thread::sleep here: an absolute sleep is used on Linux only",
    );

    /// Sleeps with what `std` has.
    #[derive(Debug)]
    pub(crate) struct Sleeper;

    impl Sleeper {
        /// A sleeper for the calling thread.
        pub(crate) fn on_this_thread() -> Self {
            Self
        }

        /// Sleeps until `deadline`.
        #[expect(clippy::disallowed_methods, reason = "the floor is a bare sleep")]
        pub(crate) fn sleep_until(&self, deadline: Instant) {
            std::thread::sleep(deadline.saturating_duration_since(now()));
        }
    }

    /// The calling thread: not known here.
    pub(crate) fn current_thread() -> Option<ThreadId> {
        None
    }

    /// Threads can't be found by name here.
    pub(crate) fn thread_named(_: &str) -> Option<ThreadId> {
        None
    }

    pub(super) fn usage(_: ThreadId) -> Option<Usage> {
        None
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_sleeper_wakes_no_earlier_than_asked() {
        let sleeper = Sleeper::on_this_thread();
        for wait_us in [0, 1, 50, 500] {
            let deadline = now() + Duration::from_micros(wait_us);
            sleeper.sleep_until(deadline);
            assert!(now() >= deadline, "woke early from a sleep of {wait_us} µs");
        }
    }

    #[test]
    fn the_kernel_counts_the_wakes_of_a_thread() {
        let thread = current_thread().expect("Linux has thread ids");
        let before = usage(&[thread]).expect("/proc is mounted");
        let sleeper = Sleeper::on_this_thread();
        for _ in 0..5 {
            sleeper.sleep_until(now() + Duration::from_micros(200));
        }
        let used = usage(&[thread]).expect("/proc is mounted").since(before);
        assert!(used.wakeups >= 5, "{used:?}");
    }

    #[test]
    fn a_thread_is_found_by_its_name() {
        let (found, other) = std::thread::Builder::new()
            .name("a-name-longer-than-15".into())
            .spawn(|| (thread_named("a-name-longer-than-15"), current_thread()))
            .expect("threads can be started")
            .join()
            .expect("it does not panic");
        assert_eq!(found, other);
        assert_eq!(thread_named("no such thread"), None);
    }
}
