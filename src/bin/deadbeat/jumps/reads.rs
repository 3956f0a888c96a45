//! What a clock said that was read in a loop.

use super::log::nanos;
use super::truth;
use std::time::Duration;

/// A clock of a system: nanoseconds from anywhere.
pub(super) type Read = Box<dyn FnMut() -> i128 + Send>;

/// What the reads of one clock did. All figures are what it has done at the least: how long a read
/// took is in nobody's disfavour.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reads {
    /// For how long, at most, the clock gave no later time than it had given before.
    pub(super) frozen_ns: u64,
    /// Whether it did so in the end.
    pub(super) is_frozen: bool,
    /// How far it went back.
    back_ns: u64,
    /// How far it went ahead of the true time from one read to the next.
    ahead_ns: u64,
    /// By how much more (or less) than the true time it counted in all.
    gained_ns: i128,
}

/// Reads until `is_over`, a few times a millisecond, on one processor after the other. Tells that
/// whether the clock stands still at the moment.
pub(super) fn watch(mut read: Read, is_over: impl Fn(bool) -> bool) -> Reads {
    let mut processors = Processors::new();
    let mut track = Track::new(Stamp::take(&mut read));
    while !is_over(track.reads.is_frozen) {
        processors.next();
        for _ in 0..5 {
            track.add(Stamp::take(&mut read));
            truth::nap(Duration::from_micros(100));
        }
    }
    track.reads
}

/// A read, between two of the true time.
#[derive(Clone, Copy, Debug)]
struct Stamp {
    before_ns: u64,
    value_ns: i128,
    after_ns: u64,
}

impl Stamp {
    fn take(read: &mut Read) -> Self {
        Self { before_ns: truth::now_ns(), value_ns: read(), after_ns: truth::now_ns() }
    }
}

#[derive(Debug)]
struct Track {
    reads: Reads,
    first: Stamp,
    last: Stamp,
    /// The latest time that it gave.
    latest: Stamp,
}

impl Track {
    fn new(first: Stamp) -> Self {
        Self { reads: Reads::default(), first, last: first, latest: first }
    }

    fn add(&mut self, now: Stamp) {
        let reads = &mut self.reads;
        let step_ns = now.value_ns - self.last.value_ns;
        reads.back_ns = reads.back_ns.max(positive(-step_ns));
        let ahead_ns = step_ns - i128::from(now.after_ns - self.last.before_ns);
        reads.ahead_ns = reads.ahead_ns.max(positive(ahead_ns));
        reads.is_frozen = now.value_ns <= self.latest.value_ns;
        if !reads.is_frozen {
            self.latest = now;
        } else {
            let frozen_ns = now.before_ns.saturating_sub(self.latest.after_ns);
            reads.frozen_ns = reads.frozen_ns.max(frozen_ns);
        }
        let counted_ns = now.value_ns - self.first.value_ns;
        let longest_ns = i128::from(now.after_ns - self.first.before_ns);
        let shortest_ns = i128::from(now.before_ns.saturating_sub(self.first.after_ns));
        reads.gained_ns = counted_ns - counted_ns.clamp(shortest_ns, longest_ns);
        self.last = now;
    }
}

fn positive(ns: i128) -> u64 {
    u64::try_from(ns.max(0)).unwrap_or(u64::MAX)
}

impl Reads {
    /// What they did wrong, if it is to be seen: a millisecond or more.
    pub(super) fn verdict(&self) -> Option<String> {
        let seen_ns = nanos(Duration::from_millis(1));
        let mut verdict = Vec::new();
        if self.back_ns >= seen_ns {
            verdict.push(format!("back {}", span(self.back_ns)));
        }
        let gained_ns = u64::try_from(self.gained_ns.unsigned_abs()).unwrap_or(u64::MAX);
        // Not what a clock that is too fast gains while the reader is preempted.
        if self.ahead_ns >= seen_ns.max(gained_ns / 2) {
            verdict.push(format!("jumped {}", span(self.ahead_ns)));
        }
        if verdict.is_empty() && gained_ns >= seen_ns {
            let verb = if self.gained_ns > 0 { "gained" } else { "lost" };
            verdict.push(format!("{verb} {}", span(gained_ns)));
        }
        (!verdict.is_empty()).then(|| verdict.join(", "))
    }
}

/// Three digits or so, for people.
pub(super) fn span(ns: u64) -> String {
    let us = ns as f64 / 1e3;
    if us < 9_999.5 {
        format!("{us:.0} µs")
    } else if us < 999_950.0 {
        format!("{:.1} ms", us / 1e3)
    } else {
        format!("{:.2} s", us / 1e6)
    }
}

/// Those that the process may use, where a thread can choose.
#[derive(Debug)]
struct Processors {
    #[cfg(target_os = "linux")]
    allowed: Vec<usize>,
    #[cfg(target_os = "linux")]
    next: usize,
}

#[cfg(target_os = "linux")]
impl Processors {
    fn new() -> Self {
        let allowed = rustix::thread::sched_getaffinity(None).map_or(Vec::new(), |set| {
            (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).collect()
        });
        Self { allowed, next: 0 }
    }

    /// Moves the thread to the next one; where that is refused, it stays.
    fn next(&mut self) {
        let Some(cpu) = self.allowed.get(self.next % self.allowed.len().max(1)) else { return };
        let mut set = rustix::thread::CpuSet::new();
        set.set(*cpu);
        let _ = rustix::thread::sched_setaffinity(None, &set);
        self.next += 1;
    }
}

#[cfg(not(target_os = "linux"))]
impl Processors {
    fn new() -> Self {
        Self {}
    }

    fn next(&mut self) {}
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    /// Reads of a millisecond apart, 1 µs long, that gave these times.
    fn reads(values_ms: &[i64]) -> Reads {
        let stamp = |(at, value_ms): (usize, &i64)| {
            let before_ns = at as u64 * MS.unsigned_abs();
            Stamp { before_ns, value_ns: (value_ms * MS).into(), after_ns: before_ns + 1_000 }
        };
        let mut stamps = values_ms.iter().enumerate().map(stamp);
        let mut track = Track::new(stamps.next().expect("one at least"));
        stamps.for_each(|now| track.add(now));
        track.reads
    }

    #[test]
    fn a_sound_clock_has_nothing_to_report() {
        let reads = reads(&[7, 8, 9, 10]);
        assert_eq!((reads, reads.verdict()), (Reads::default(), None));
    }

    #[test]
    fn going_back_is_measured_until_it_is_made_up_for() {
        let reads = reads(&[10, 11, 8, 9, 10, 11, 12]);
        assert_eq!(reads.back_ns, 3_000_000);
        assert_eq!(reads.frozen_ns, 3_999_000);
        assert_eq!(reads.verdict().as_deref(), Some("back 3000 µs"));
    }

    #[test]
    fn a_leap_counts_and_so_does_a_gain_without_one() {
        assert_eq!(reads(&[0, 1, 5000]).verdict().as_deref(), Some("jumped 5.00 s"));
        let double =
            reads(&[0, 2, 4, 6, 8, 30, 32, 34, 36, 38, 40, 42, 44, 60, 62, 64, 66, 68, 70]);
        assert_eq!(double.verdict().as_deref(), Some("gained 52.0 ms"));
        assert!(reads(&[0, 0]).is_frozen && !reads(&[0, 0, 1]).is_frozen);
        assert_eq!(reads(&[0, 0, 0, 0]).verdict().as_deref(), Some("lost 2999 µs"));
    }
}
