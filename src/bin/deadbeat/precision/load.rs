//! What else the machine does while deadlines are met.

use super::kernel::now;
use super::systems::System;
use std::fmt;
use std::hint;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A load, in the same process and for as long as the round.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Load {
    /// Nothing else.
    Idle,
    /// So many threads that never stop computing.
    Cpu(u64),
    /// So many tasks on the workers of the runtime that compute for 50 to 100 µs, then yield.
    Tasks(u64),
    /// So many timeouts a second, of the measured system's kind: polled once, then dropped.
    Churn(u64),
}

/// How each load is written, and what its number may be.
const FORMS: &str = "idle, cpu=N (1 to 1024 busy threads), tasks=N (1 to 100000 busy tasks) or \
                     churn=RATE (1 to 100M timeouts a second; k and M are understood)";

impl FromStr for Load {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("allowed: {FORMS}");
        if text == "idle" {
            return Ok(Self::Idle);
        }
        let (kind, number) = text.split_once('=').ok_or_else(wrong)?;
        let number = parse_number(number).ok_or_else(wrong)?;
        match kind {
            "cpu" if (1..=1024).contains(&number) => Ok(Self::Cpu(number)),
            "tasks" if (1..=100_000).contains(&number) => Ok(Self::Tasks(number)),
            "churn" if (1..=100_000_000).contains(&number) => Ok(Self::Churn(number)),
            _ => Err(wrong()),
        }
    }
}

/// A whole number, of thousands if a `k` follows, of millions if an `M`.
fn parse_number(text: &str) -> Option<u64> {
    let (digits, unit) = match text.strip_suffix('k') {
        Some(digits) => (digits, 1_000),
        None => text.strip_suffix('M').map_or((text, 1), |digits| (digits, 1_000_000)),
    };
    digits.parse::<u64>().ok()?.checked_mul(unit)
}

impl fmt::Display for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle => f.write_str("idle"),
            Self::Cpu(threads) => write!(f, "cpu={threads}"),
            Self::Tasks(tasks) => write!(f, "tasks={tasks}"),
            Self::Churn(rate) => write!(f, "churn={rate}"),
        }
    }
}

impl Load {
    /// Starts the load around `system`; it lasts until what is returned is stopped or dropped.
    pub(crate) fn start(self, system: &dyn System, timeout: Duration) -> Running {
        let stop = Arc::new(AtomicBool::new(false));
        let mut running =
            Running { stop, threads: Vec::new(), churned: Arc::default(), since: now() };
        match self {
            Self::Idle => {}
            Self::Cpu(threads) => {
                for _ in 0..threads {
                    let stop = Arc::clone(&running.stop);
                    running.threads.push(thread::spawn(move || {
                        while !stopped(&stop) {
                            hint::spin_loop();
                        }
                    }));
                }
            }
            Self::Tasks(tasks) => {
                for seed in 0..tasks {
                    system.host().handle().spawn(busy_task(Arc::clone(&running.stop), seed));
                }
            }
            Self::Churn(rate) => {
                let arm = system.arm_and_drop(timeout);
                let runtime = system.host().handle().clone();
                let stop = Arc::clone(&running.stop);
                let churned = Arc::clone(&running.churned);
                running.threads.push(thread::spawn(move || {
                    let _entered = runtime.enter();
                    churn(rate, arm, &stop, &churned);
                }));
            }
        }
        running
    }
}

/// A load that is under way.
#[derive(Debug)]
pub(crate) struct Running {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    churned: Arc<AtomicU64>,
    since: Instant,
}

impl Running {
    /// Ends the load; tells how many timeouts were armed and dropped, and in how long.
    pub(crate) fn stop(mut self) -> (u64, Duration) {
        self.end();
        // Ordering: the thread that counted has been joined.
        (self.churned.load(Ordering::Relaxed), self.since.elapsed())
    }

    fn end(&mut self) {
        // Ordering: a request to stop, which publishes nothing.
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            thread.thread().unpark();
            // One that panicked has said so on standard error.
            let _ = thread.join();
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

fn stopped(stop: &AtomicBool) -> bool {
    // Ordering: see `Running::end`.
    stop.load(Ordering::Relaxed)
}

/// Computes in spells of 50 to 100 µs, as a request handler that never waits would.
async fn busy_task(stop: Arc<AtomicBool>, seed: u64) {
    let mut rng = fastrand::Rng::with_seed(seed);
    while !stopped(&stop) {
        let until = now() + Duration::from_micros(rng.u64(50..=100));
        while now() < until && !stopped(&stop) {
            hint::spin_loop();
        }
        tokio::task::yield_now().await;
    }
}

/// Arms and drops `rate` timeouts a second, in small bursts; one that falls behind catches up.
fn churn(rate: u64, mut arm: impl FnMut(), stop: &AtomicBool, churned: &AtomicU64) {
    const BURST: Duration = Duration::from_micros(200);
    let start = now();
    let mut done = 0;
    while !stopped(stop) {
        let due = start.elapsed().as_nanos() * u128::from(rate) / 1_000_000_000;
        while u128::from(done) < due && !stopped(stop) {
            arm();
            done += 1;
        }
        // Ordering: read once this thread has been joined.
        churned.store(done, Ordering::Relaxed);
        thread::park_timeout(BURST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_read_back_as_they_are_written() {
        for text in ["idle", "cpu=2", "tasks=1000", "churn=250000"] {
            assert_eq!(text.parse::<Load>().map(|load| load.to_string()), Ok(text.into()));
        }
    }

    #[test]
    fn thousands_and_millions_may_be_abbreviated() {
        assert_eq!("churn=250k".parse(), Ok(Load::Churn(250_000)));
        assert_eq!("churn=2M".parse(), Ok(Load::Churn(2_000_000)));
    }

    #[test]
    fn what_is_no_load_is_refused_with_what_is() {
        for text in ["", "busy", "cpu", "cpu=", "cpu=0", "cpu=-1", "cpu=1025", "tasks=1e3"] {
            let error = text.parse::<Load>().expect_err(text);
            assert!(error.contains("idle, cpu=N"), "{error}");
        }
        for text in ["churn=k", "churn=101M", "churn=99999999999999999999", "churn=99999999999M"] {
            text.parse::<Load>().expect_err(text);
        }
    }

    #[test]
    fn churn_never_exceeds_its_rate() {
        let (stop, churned) = (AtomicBool::new(false), AtomicU64::new(0));
        let start = now();
        churn(
            1_000_000,
            || {
                stop.store(start.elapsed() > Duration::from_millis(5), Ordering::Relaxed);
            },
            &stop,
            &churned,
        );
        let (done, allowed) = (churned.into_inner(), start.elapsed().as_micros());
        assert!(done > 0 && u128::from(done) <= allowed, "{done} of {allowed}");
    }
}
