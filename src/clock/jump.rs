//! What can go wrong with clocks, and the record of what has.

use std::collections::VecDeque;
use std::fmt;

use super::Instant;

/// How the witnesses of time have disagreed: what a [`Jump`] is.
///
/// The witnesses are the processor's counter, `CLOCK_MONOTONIC`, `CLOCK_BOOTTIME` and
/// `CLOCK_REALTIME`, and `CLOCK_MONOTONIC_RAW` for changes of rate. Two clocks that disagree don't
/// tell which of them is wrong; the others do, and where they don't, the kernel's clock is believed,
/// since deadlines are on that one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum JumpKind {
    /// All agree, but the driver woke at least 50 ms after the time that it had asked for: the process
    /// was stopped, frozen, starved or paused. What has fallen due fires, once each.
    Stall,
    /// `CLOCK_BOOTTIME` went on and `CLOCK_MONOTONIC` didn't: the machine was suspended. Elapsed timers
    /// that fell due meanwhile fire now; for active ones, no time has passed.
    Suspend,
    /// `CLOCK_REALTIME` alone moved: the wall clock was set. No timer moves.
    WallStep,
    /// `CLOCK_MONOTONIC` changed its rate, against `CLOCK_MONOTONIC_RAW` too: NTP at work. The rate is
    /// adopted, what is off in phase is slewed.
    Slew,
    /// The counter went ahead of the kernel's clocks. Our time goes on with the kernel's.
    CounterForward,
    /// The counter went back, started anew, or fell behind. Our time goes on with the kernel's.
    CounterBack,
    /// The counters of two processors don't read the same: it depends on where the thread runs.
    CounterSkew,
    /// The counter changed its rate, and the kernel's clocks didn't.
    RateStep,
    /// `CLOCK_MONOTONIC` went ahead of the counter: a virtual machine was restored or migrated, or the
    /// process moved to another time namespace. Our time follows.
    Restore,
    /// A kernel clock that never goes back did, or stood still while the others went on. Our time goes
    /// on with the others.
    OsRegression,
}

impl JumpKind {
    /// Every kind, in the order of their declaration.
    pub const ALL: [Self; 10] = [
        Self::Stall,
        Self::Suspend,
        Self::WallStep,
        Self::Slew,
        Self::CounterForward,
        Self::CounterBack,
        Self::CounterSkew,
        Self::RateStep,
        Self::Restore,
        Self::OsRegression,
    ];

    /// A short name, as in the reports: `counter-forward`, for example.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stall => "stall",
            Self::Suspend => "suspend",
            Self::WallStep => "wall-step",
            Self::Slew => "slew",
            Self::CounterForward => "counter-forward",
            Self::CounterBack => "counter-back",
            Self::CounterSkew => "counter-skew",
            Self::RateStep => "rate-step",
            Self::Restore => "restore",
            Self::OsRegression => "os-regression",
        }
    }

    /// Whether the size of such a jump is a change of rate.
    fn is_of_rate(self) -> bool {
        matches!(self, Self::Slew | Self::RateStep)
    }

    fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for JumpKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How far each witness went between two looks at all of them, in nanoseconds; negative if it went back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Passed {
    /// The processor's counter, at the rate that it had before. `None` if it isn't in use.
    pub counter_ns: Option<i64>,
    /// `CLOCK_MONOTONIC`.
    pub monotonic_ns: i64,
    /// `CLOCK_BOOTTIME`.
    pub boottime_ns: i64,
    /// `CLOCK_REALTIME`.
    pub realtime_ns: i64,
}

/// One event: the witnesses disagreed, or the process didn't run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Jump {
    /// What it was.
    pub kind: JumpKind,
    /// By how much, in nanoseconds: how long the stall or the suspension, how far forward (or, negative,
    /// back) the clock that is named went against the others. Zero for changes of rate.
    pub size_ns: i64,
    /// For changes of rate, by how many parts per billion of the rate before. Positive if the clock that
    /// is named became faster.
    pub rate_ppb: i64,
    /// When it was found out, on our clock.
    pub at: Instant,
    /// What each witness counted since the look before. Zeros for a stall.
    pub passed: Passed,
}

impl fmt::Display for Jump {
    /// As in `restore +2.000000s`.
    #[expect(clippy::cast_precision_loss, reason = "shown with six digits")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind.is_of_rate() {
            write!(f, "{} {:+.3} ppm", self.kind, self.rate_ppb as f64 / 1e3)
        } else {
            write!(f, "{} {:+.6} s", self.kind, self.size_ns as f64 / 1e9)
        }
    }
}

/// How often each kind of jump was seen, and the last of each. See [`Clock::jumps`](super::Clock::jumps).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Jumps {
    kinds: [Seen; JumpKind::ALL.len()],
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    count: u64,
    last: Option<Jump>,
}

impl Jumps {
    /// How often this kind was seen.
    pub fn count(&self, kind: JumpKind) -> u64 {
        self.kinds[kind.index()].count
    }

    /// The last of this kind.
    pub fn last(&self, kind: JumpKind) -> Option<Jump> {
        self.kinds[kind.index()].last
    }

    /// How many jumps were seen in all.
    pub fn total(&self) -> u64 {
        self.kinds.iter().map(|seen| seen.count).sum()
    }

    /// The kinds that were seen, how often, and the last of each.
    pub fn iter(&self) -> impl Iterator<Item = (JumpKind, u64, Jump)> {
        JumpKind::ALL.into_iter().filter_map(|kind| {
            let seen = &self.kinds[kind.index()];
            seen.last.map(|last| (kind, seen.count, last))
        })
    }
}

/// So many are kept for who comes late to read them.
const KEPT: usize = 64;

/// The record: counts, the last of each kind, and the last few of all.
#[derive(Debug)]
pub(crate) struct Record {
    jumps: Box<Jumps>,
    recent: VecDeque<Jump>,
    /// How many there were in all: the next has this number.
    next: u64,
}

impl Record {
    pub(crate) fn new() -> Self {
        Self { jumps: Box::default(), recent: VecDeque::new(), next: 0 }
    }

    pub(crate) fn add(&mut self, jump: Jump) {
        let seen = &mut self.jumps.kinds[jump.kind.index()];
        *seen = Seen { count: seen.count + 1, last: Some(jump) };
        if self.recent.len() == KEPT {
            self.recent.pop_front();
        }
        self.recent.push_back(jump);
        self.next += 1;
    }

    pub(crate) fn jumps(&self) -> &Jumps {
        &self.jumps
    }

    /// How many there were.
    pub(crate) fn len(&self) -> u64 {
        self.next
    }

    /// Those from number `from` on that are still kept, oldest first.
    pub(crate) fn since(&self, from: u64) -> impl Iterator<Item = Jump> + '_ {
        let new = usize::try_from(self.next.saturating_sub(from)).unwrap_or(KEPT);
        self.recent.iter().skip(self.recent.len().saturating_sub(new)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jump(kind: JumpKind, size_ns: i64) -> Jump {
        let (at, passed) = (Instant::from_nanos(0), Passed::default());
        Jump { kind, size_ns, rate_ppb: 0, at, passed }
    }

    #[test]
    fn every_kind_has_its_own_place_and_name() {
        for (i, kind) in JumpKind::ALL.into_iter().enumerate() {
            assert_eq!(kind.index(), i);
            assert!(JumpKind::ALL.iter().filter(|other| other.name() == kind.name()).count() == 1);
        }
    }

    #[test]
    fn the_record_counts_all_and_keeps_the_last_few() {
        let mut record = Record::new();
        for n in 0..100 {
            record.add(jump(JumpKind::Stall, 2 * n));
            record.add(jump(JumpKind::Suspend, 2 * n + 1));
        }
        assert_eq!((record.len(), record.jumps().total()), (200, 200));
        assert_eq!(record.jumps().count(JumpKind::Suspend), 100);
        assert_eq!(record.jumps().last(JumpKind::Suspend).map(|jump| jump.size_ns), Some(199));
        assert_eq!(record.jumps().last(JumpKind::Restore), None);
        assert_eq!(record.jumps().iter().count(), 2);
        let kept: Vec<i64> = record.since(0).map(|jump| jump.size_ns).collect();
        assert_eq!(kept, (136..200).collect::<Vec<_>>());
        assert_eq!(record.since(198).count(), 2);
        assert_eq!(record.since(200).count(), 0);
    }

    #[test]
    fn a_jump_reads_as_its_kind_and_size() {
        assert_eq!(jump(JumpKind::WallStep, -1_500_000).to_string(), "wall-step -0.001500 s");
        let slew = Jump { rate_ppb: 50_250, ..jump(JumpKind::Slew, 0) };
        assert_eq!(slew.to_string(), "slew +50.250 ppm");
    }
}
