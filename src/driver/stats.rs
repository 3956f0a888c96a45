//! What a Timekeeper counts.

use std::time::Duration;

use crate::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Buckets of the lateness histogram: powers of two of a nanosecond.
const BUCKETS: usize = 64;

/// Written by the driver and, for kicks, by who kicks. Every ordering is relaxed: these are figures.
#[derive(Debug)]
pub(super) struct Counters {
    fired: AtomicU64,
    kicks: AtomicU64,
    wakes: AtomicU64,
    spurious_wakes: AtomicU64,
    watches: AtomicU64,
    waker_panics: AtomicU64,
    /// Plus one; 0 where it is not known.
    timer_slack: AtomicU64,
    lateness_max: AtomicU64,
    lateness: [AtomicU64; BUCKETS],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            fired: AtomicU64::new(0),
            kicks: AtomicU64::new(0),
            wakes: AtomicU64::new(0),
            spurious_wakes: AtomicU64::new(0),
            watches: AtomicU64::new(0),
            waker_panics: AtomicU64::new(0),
            timer_slack: AtomicU64::new(0),
            lateness_max: AtomicU64::new(0),
            lateness: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }
}

fn bump(counter: &AtomicU64) {
    counter.fetch_add(1, Relaxed);
}

impl Counters {
    pub(super) fn kick(&self) {
        bump(&self.kicks);
    }

    pub(super) fn wake(&self, spurious: bool) {
        bump(&self.wakes);
        if spurious {
            bump(&self.spurious_wakes);
        }
    }

    pub(super) fn watch(&self) {
        bump(&self.watches);
    }

    pub(super) fn waker_panic(&self) {
        bump(&self.waker_panics);
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    pub(super) fn set_timer_slack(&self, slack_ns: Option<u64>) {
        self.timer_slack.store(slack_ns.map_or(0, |ns| ns + 1), Relaxed);
    }

    pub(super) fn fired(&self, lateness_ns: u64) {
        // The driver alone writes these three: no need of an atomic addition.
        self.fired.store(self.fired.load(Relaxed).wrapping_add(1), Relaxed);
        let bucket = &self.lateness[bucket(lateness_ns)];
        bucket.store(bucket.load(Relaxed).wrapping_add(1), Relaxed);
        if lateness_ns > self.lateness_max.load(Relaxed) {
            self.lateness_max.store(lateness_ns, Relaxed);
        }
    }

    pub(super) fn read(&self) -> Stats {
        Stats {
            fired: self.fired.load(Relaxed),
            kicks: self.kicks.load(Relaxed),
            wakes: self.wakes.load(Relaxed),
            spurious_wakes: self.spurious_wakes.load(Relaxed),
            watches: self.watches.load(Relaxed),
            waker_panics: self.waker_panics.load(Relaxed),
            timer_slack: self.timer_slack.load(Relaxed).checked_sub(1).map(Duration::from_nanos),
            lateness: Lateness {
                max_ns: self.lateness_max.load(Relaxed),
                buckets: std::array::from_fn(|i| self.lateness[i].load(Relaxed)),
            },
            ..Stats::default()
        }
    }
}

/// Bucket `n` holds `[2^(n-1), 2^n)` nanoseconds; bucket 0 holds zero, the last one all the rest.
fn bucket(lateness_ns: u64) -> usize {
    ((u64::BITS - lateness_ns.leading_zeros()) as usize).min(BUCKETS - 1)
}

/// What a [`Timekeeper`](crate::Timekeeper) has done so far, and what it holds.
///
/// Figures of different moments: they are read one after another while the driver goes on.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Stats {
    /// How often a timer was armed: a first poll that had to wait, or a deadline moved past a firing.
    pub armed: u64,
    /// How many of those have fired. Those that a [`shutdown`](crate::Timekeeper::shutdown) has ended
    /// are among them, and in [`lateness`](Self::lateness), not late if their deadline was to come.
    pub fired: u64,
    /// How many were cancelled: dropped, or let go in another way, before they fired.
    pub cancelled: u64,
    /// How many are armed now.
    pub live: u64,
    /// How often an arming had to wake the parked driver: one system call each.
    pub kicks: u64,
    /// How often the driver thread woke.
    pub wakes: u64,
    /// Of those wakes, how many found nothing due: the timer that was waited for had been cancelled
    /// or moved, or a well-filled part of the wheel had to be sorted ahead of its time.
    pub spurious_wakes: u64,
    /// How often the driver thread woke only to look whether the process had been kept from running: up
    /// to four times a second while a timer of running time is pending
    /// ([`sleep_running`](crate::time::sleep_running)). Not among the wakes.
    pub watches: u64,
    /// For how long this process is known to have been kept from running: stopped, frozen, starved or
    /// paused, from 50 ms on. In active time: a suspension of the machine isn't part of it.
    pub stalled: Duration,
    /// Whether the driver is woken when a suspension ends, or the wall clock is set; otherwise elapsed
    /// timers that fell due meanwhile fire at the next wake-up for another reason. `None` before that was
    /// first of use: there are neither elapsed timers nor hooks.
    pub wakes_on_resume: Option<bool>,
    /// How many wakers and hooks panicked. The panic is caught, and the driver goes on.
    pub waker_panics: u64,
    /// Timer nodes allocated: the peak of what was live at once, rounded up by thread. They are reused,
    /// not returned.
    pub nodes: u64,
    /// Nodes that stand in the wheel and are not armed: garbage, reused at the next arming or removed
    /// when their slot comes due.
    pub garbage: u64,
    /// Arming shards: the peak of threads that armed at once, and one for threads that are ending.
    pub shards: u64,
    /// The kernel's timer slack of the driver thread: 1 ns if the kernel granted it, else that much is
    /// added to every sleep. `None` before the thread has started, and where there is no such thing.
    pub timer_slack: Option<Duration>,
    /// How late timers were when their wakers were called.
    pub lateness: Lateness,
}

/// A histogram of lateness at the wake call, in powers of two of a nanosecond.
#[derive(Clone, Debug)]
pub struct Lateness {
    max_ns: u64,
    buckets: [u64; BUCKETS],
}

impl Default for Lateness {
    fn default() -> Self {
        Self { max_ns: 0, buckets: [0; BUCKETS] }
    }
}

impl Lateness {
    /// The greatest lateness.
    pub fn max(&self) -> Duration {
        Duration::from_nanos(self.max_ns)
    }

    /// An upper bound of the `quantile` (0 to 1, clamped) of lateness: the end of its bucket, so up
    /// to twice the true value, and never more than [`max`](Self::max).
    pub fn quantile(&self, quantile: f64) -> Duration {
        let total: u64 = self.buckets.iter().sum();
        let mut left = (total as f64 * quantile.clamp(0.0, 1.0)).ceil();
        for (bucket, &count) in self.buckets.iter().enumerate() {
            left -= count as f64;
            if left <= 0.0 && count > 0 {
                let end = if bucket == 0 { 0 } else { (1u64 << bucket) - 1 };
                return Duration::from_nanos(end.min(self.max_ns));
            }
        }
        self.max()
    }
}
