//! The learned spin: sleep a little short of the deadline, and spin the rest.
//!
//! The guard, how short, is the 99th percentile of the observed wake latency, learned one wake at a
//! time: a wake later than the guard moves it up by 99 steps, an earlier one down by one. Where the
//! driver is preempted while it spins, spinning makes things worse (a pure spin under contention has
//! the worst tail of all), so it backs off, twice as long each time. Sans I/O.

/// The guard's limits.
const MAX_NS: u64 = 100_000;
const MIN_NS: u64 = 2_000;
/// One step of learning, as a share of the guard: fast enough to follow a change of load within some
/// hundred wakes.
const STEP: u64 = 1024;
const MAX_BACKOFF: u32 = 4096;

#[derive(Debug)]
pub(super) struct Spin {
    guard_ns: u64,
    /// Wakes that are still to be slept through without a spin.
    off: u32,
    /// How many the next preemption adds.
    penalty: u32,
}

impl Spin {
    pub(super) fn new() -> Self {
        Self { guard_ns: 60_000, off: 0, penalty: 16 }
    }

    /// How much before the deadline to wake up; 0: do not spin this time.
    pub(super) fn guard_ns(&mut self) -> u64 {
        if self.off > 0 {
            self.off -= 1;
            return 0;
        }
        self.guard_ns
    }

    /// A sleep ended by itself, this much after the time it was to end at.
    pub(super) fn woke(&mut self, late_ns: u64) {
        let step = (self.guard_ns / STEP).max(4);
        self.guard_ns = if late_ns > self.guard_ns {
            self.guard_ns.saturating_add(99 * step).min(MAX_NS)
        } else {
            self.guard_ns.saturating_sub(step).max(MIN_NS)
        };
    }

    /// A spin ended; `preempted` if the thread lost its processor meanwhile.
    pub(super) fn spun(&mut self, preempted: bool) {
        if preempted {
            self.off = self.penalty;
            self.penalty = (self.penalty * 2).min(MAX_BACKOFF);
        } else if self.penalty > 16 {
            self.penalty -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guard_settles_above_99_percent_of_the_latencies() {
        let mut spin = Spin::new();
        let mut covered = 0;
        for i in 0..200_000u64 {
            // Uniform in 20 to 40 µs.
            let late = 20_000 + i.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 20_000;
            if i >= 100_000 && spin.guard_ns >= late {
                covered += 1;
            }
            spin.woke(late);
        }
        assert!((98_000..=99_900).contains(&covered), "{covered} of 100000");
    }

    #[test]
    fn it_never_spins_longer_than_the_limit() {
        let mut spin = Spin::new();
        (0..100_000).for_each(|_| spin.woke(u64::MAX));
        assert_eq!(spin.guard_ns(), MAX_NS);
    }

    #[test]
    fn preemption_turns_it_off_for_longer_each_time() {
        let mut spin = Spin::new();
        let mut pause = || {
            spin.spun(true);
            (0..).take_while(|_| spin.guard_ns() == 0).count()
        };
        assert_eq!((pause(), pause(), pause()), (16, 32, 64));
    }
}
