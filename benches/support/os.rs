//! What the measurements ask of Linux: memory, time on a CPU, wake-ups, and a bare sleep.

use std::{fs, time::Duration};

use rustix::time::{ClockId, Timespec, clock_gettime};

use super::now;

#[path = "../../src/bin/deadbeat/precision/kernel/sleeper.rs"]
mod sleeper;

#[allow(unused_imports, reason = "each benchmark uses a part of it")]
pub(crate) use sleeper::Sleeper;

/// Resident memory in bytes. Exact, unlike what `status` says, of which the kernel may keep some
/// pages per thread uncounted.
pub(crate) fn rss() -> u64 {
    let rollup = fs::read_to_string("/proc/self/smaps_rollup").expect("/proc is mounted");
    field(&rollup, "Rss:") * 1024
}

/// Time on a CPU of all threads of this process, ended ones included.
pub(crate) fn cpu() -> Duration {
    duration(clock_gettime(ClockId::ProcessCPUTime))
}

/// What threads have used since they started.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    /// How often one came back from a wait.
    pub(crate) wakes: u64,
    pub(crate) cpu: Duration,
}

impl Usage {
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            wakes: self.wakes.saturating_sub(earlier.wakes),
            cpu: self.cpu.saturating_sub(earlier.cpu),
        }
    }
}

/// What all threads but the calling one have used.
pub(crate) fn others() -> Usage {
    let me = rustix::thread::gettid().as_raw_nonzero().to_string();
    let mut total = Usage::default();
    for task in fs::read_dir("/proc/self/task").expect("/proc is mounted").flatten() {
        if *task.file_name() == *me {
            continue;
        }
        // One that has ended meanwhile counts no more.
        let (Ok(status), Ok(schedstat)) = (
            fs::read_to_string(task.path().join("status")),
            fs::read_to_string(task.path().join("schedstat")),
        ) else {
            continue;
        };
        total.wakes += field(&status, "voluntary_ctxt_switches:");
        let cpu_ns = schedstat.split_whitespace().next().and_then(|ns| ns.parse().ok());
        total.cpu += Duration::from_nanos(cpu_ns.unwrap_or(0));
    }
    total
}

/// The number behind `name`, in what /proc calls a status.
fn field(status: &str, name: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or_else(|| panic!("/proc has no {name}"))
}

fn duration(time: Timespec) -> Duration {
    Duration::new(
        time.tv_sec.try_into().expect("not negative"),
        time.tv_nsec.try_into().expect("less than a second"),
    )
}

/// Lets time pass.
#[expect(clippy::disallowed_methods, reason = "others are measured meanwhile")]
pub(crate) fn pass(time: Duration) {
    std::thread::sleep(time);
}
