//! What the timers of a process did, by the true clock.
//!
//! Every ordering is relaxed: these are figures, read when all is over.

use super::truth;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

/// What is waited for, and when the fault happens; all but the lead from the start on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// So many timers, all armed ahead of the start.
    pub(super) timers: usize,
    /// Time to arm them in.
    pub(super) lead: Duration,
    /// When the first of them is due, and the last.
    pub(super) first: Duration,
    pub(super) last: Duration,
    /// Of the interval.
    pub(super) period: Duration,
    /// How long each of the timers is that are armed one after another, all the time.
    pub(super) link: Duration,
    pub(super) fault_at: Duration,
    /// When all should be over, and when it is cut short.
    pub(super) end: Duration,
    pub(super) limit: Duration,
}

impl Plan {
    pub(crate) const FULL: Self = Self {
        timers: 1000,
        lead: Duration::from_millis(150),
        first: Duration::from_millis(100),
        last: Duration::from_millis(1500),
        period: Duration::from_millis(10),
        link: Duration::from_millis(20),
        fault_at: Duration::from_millis(300),
        end: Duration::from_millis(1600),
        limit: Duration::from_millis(6000),
    };

    pub(crate) const QUICK: Self = Self {
        timers: 200,
        lead: Duration::from_millis(50),
        first: Duration::from_millis(20),
        last: Duration::from_millis(300),
        fault_at: Duration::from_millis(100),
        end: Duration::from_millis(350),
        ..Self::FULL
    };

    /// When a timer is due.
    pub(super) fn offset(&self, timer: usize) -> Duration {
        let share = timer as f64 / (self.timers - 1).max(1) as f64;
        self.first + (self.last - self.first).mul_f64(share)
    }
}

/// When something is due, on both clocks that it is judged by.
#[derive(Clone, Copy, Debug)]
pub(super) struct Due {
    true_ns: u64,
    told_ns: u64,
}

impl Due {
    fn after(self, offset: Duration) -> Self {
        let ns = nanos(offset);
        Self { true_ns: self.true_ns + ns, told_ns: self.told_ns + ns }
    }
}

/// What the timers of a process did.
#[derive(Debug)]
pub(super) struct Log {
    pub(super) plan: Plan,
    start: OnceLock<Due>,
    /// The true time of each timer's fire; 0 until then.
    fires: Vec<AtomicU64>,
    pending: AtomicUsize,
    early: AtomicU64,
    latest_link_ns: AtomicI64,
    ticks: AtomicU64,
    polls: AtomicU64,
    wasted: AtomicU64,
    woken: AtomicBool,
    polls_when_woken: AtomicU64,
}

/// One timer's part.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fire {
    /// When it was due, in ns from the start.
    pub(super) due_ns: u64,
    /// When it fired, as far as it has.
    pub(super) fired_ns: Option<i64>,
}

impl Log {
    /// Of a system that has timers, or none.
    pub(super) fn new(plan: Plan, has_timers: bool) -> Self {
        let timers = if has_timers { plan.timers } else { 0 };
        Self {
            plan,
            start: OnceLock::new(),
            fires: (0..timers).map(|_| AtomicU64::new(0)).collect(),
            pending: AtomicUsize::new(timers),
            early: AtomicU64::new(0),
            latest_link_ns: AtomicI64::new(0),
            ticks: AtomicU64::new(0),
            polls: AtomicU64::new(0),
            wasted: AtomicU64::new(0),
            woken: AtomicBool::new(false),
            polls_when_woken: AtomicU64::new(0),
        }
    }

    /// Sets the start: a lead from now. `read` reads the clock of the system; what it returns is as
    /// much before the start.
    pub(super) fn begin<T>(&self, read: impl Fn() -> T) -> T {
        const ENOUGH_NS: u64 = 20_000;
        let mut tries = 0;
        loop {
            // The judge's clocks first: nobody who keeps to his own can be early by them.
            let now = Due { true_ns: truth::now_ns(), told_ns: truth::told_ns() };
            let read = read();
            let width_ns = truth::now_ns() - now.true_ns;
            tries += 1;
            if width_ns <= ENOUGH_NS || tries == 100 {
                self.start.get_or_init(|| now.after(self.plan.lead));
                return read;
            }
        }
    }

    /// When it all starts, by the true clock; `None` until that is known.
    pub(super) fn start_ns(&self) -> Option<u64> {
        self.start.get().map(|start| start.true_ns)
    }

    /// When something is due that is armed now.
    pub(super) fn due_in(&self, duration: Duration) -> Due {
        Due { true_ns: truth::now_ns(), told_ns: truth::told_ns() }.after(duration)
    }

    /// A timer fires, now.
    pub(super) fn fired(&self, timer: usize) {
        let now_ns = truth::now_ns();
        let start = *self.start.get().expect("timers are armed after the start is set");
        self.judge(start.after(self.plan.offset(timer)), now_ns);
        self.fires[timer].store(now_ns, Relaxed);
        self.pending.fetch_sub(1, Relaxed);
    }

    /// A timer of the chain fires, now.
    pub(super) fn linked(&self, due: Due) {
        let now_ns = truth::now_ns();
        self.judge(due, now_ns);
        self.latest_link_ns.fetch_max(signed(now_ns) - signed(due.true_ns), Relaxed);
    }

    /// Early is what neither clock has called due yet.
    fn judge(&self, due: Due, now_ns: u64) {
        if now_ns < due.true_ns && truth::told_ns() < due.told_ns {
            self.early.fetch_add(1, Relaxed);
        }
    }

    /// The interval ticks.
    pub(super) fn tick(&self) {
        self.ticks.fetch_add(1, Relaxed);
    }

    /// A task is polled.
    pub(super) fn polled(&self) {
        self.polls.fetch_add(1, Relaxed);
    }

    /// Somebody was woken for nothing.
    pub(super) fn wasted(&self) {
        self.wasted.fetch_add(1, Relaxed);
    }

    /// The runtime comes back from a wait.
    pub(super) fn unparked(&self) {
        self.woken.store(true, Relaxed);
        self.polls_when_woken.store(self.polls.load(Relaxed), Relaxed);
    }

    /// The runtime is about to wait.
    pub(super) fn parks(&self) {
        let polls = self.polls.load(Relaxed);
        if self.woken.swap(false, Relaxed) && polls == self.polls_when_woken.load(Relaxed) {
            self.wasted();
        }
    }

    pub(super) fn is_over(&self) -> bool {
        self.pending.load(Relaxed) == 0
    }

    pub(super) fn early(&self) -> u64 {
        self.early.load(Relaxed)
    }

    /// Wakes for nothing, and ticks above what is due by now.
    pub(super) fn wakeups(&self) -> u64 {
        let passed_ns = truth::now_ns().saturating_sub(self.start_ns().unwrap_or(0));
        let due = passed_ns / nanos(self.plan.period) + 1;
        self.ticks.load(Relaxed).saturating_sub(due) + self.wasted.load(Relaxed)
    }

    /// How late the latest timer was; one that hasn't fired is, by as much as it is by now.
    pub(super) fn worst_late_ns(&self) -> i64 {
        let start_ns = self.start_ns().unwrap_or(0);
        let now_ns = signed(truth::now_ns()) - signed(start_ns);
        self.fires()
            .map(|fire| fire.fired_ns.unwrap_or(now_ns) - signed(fire.due_ns))
            .fold(self.latest_link_ns.load(Relaxed), i64::max)
    }

    pub(super) fn fires(&self) -> impl Iterator<Item = Fire> {
        let start_ns = signed(self.start_ns().unwrap_or(0));
        self.fires.iter().enumerate().map(move |(timer, fired)| {
            let fired_ns = fired.load(Relaxed);
            Fire {
                due_ns: nanos(self.plan.offset(timer)),
                fired_ns: (fired_ns > 0).then(|| signed(fired_ns) - start_ns),
            }
        })
    }

    /// The most that fired within [`WINDOW`].
    pub(super) fn burst(&self) -> u64 {
        burst(self.fires().filter_map(|fire| fire.fired_ns).collect())
    }
}

/// What counts as one moment.
pub(super) const WINDOW: Duration = Duration::from_millis(10);

fn burst(mut fired_ns: Vec<i64>) -> u64 {
    fired_ns.sort_unstable();
    let window_ns = signed(nanos(WINDOW));
    let mut first = 0;
    let mut most = 0;
    for (last, at_ns) in fired_ns.iter().enumerate() {
        while at_ns - fired_ns[first] >= window_ns {
            first += 1;
        }
        most = most.max(last - first + 1);
    }
    most as u64
}

pub(super) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

fn signed(ns: u64) -> i64 {
    i64::try_from(ns).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_the_most_within_a_window_wherever_it_begins() {
        const MS: i64 = 1_000_000;
        assert_eq!(burst(vec![]), 0);
        assert_eq!(burst(vec![0, 10 * MS, 20 * MS]), 1);
        assert_eq!(burst(vec![0, 11 * MS, 9 * MS, 20 * MS, 18 * MS]), 3);
    }

    #[test]
    fn timers_are_spread_from_first_to_last() {
        let plan = Plan::FULL;
        assert_eq!(plan.offset(0), plan.first);
        assert_eq!(plan.offset(plan.timers - 1), plan.last);
    }

    #[test]
    fn what_fires_before_both_clocks_say_so_is_early() {
        let log = Log::new(Plan { timers: 2, lead: Duration::ZERO, ..Plan::QUICK }, true);
        log.begin(|| ());
        log.fired(1);
        assert_eq!((log.early(), log.is_over(), log.burst()), (1, false, 1));
        let due = log.due_in(Duration::ZERO);
        log.linked(due);
        assert_eq!(log.early(), 1);
    }
}
