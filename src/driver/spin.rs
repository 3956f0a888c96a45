//! The learned spin: be woken a little before the deadline, and spin the rest in the poll.
//!
//! A wake-up costs tens of microseconds twice over: the kernel wakes the driver, the driver wakes
//! the executor. So a timer of a Timekeeper with spin is armed for its deadline less a *lead*, and the
//! poll that comes of it spins on the clock for what is left. The driver knows nothing of this.
//!
//! The lead is the 99th percentile of the observed latency from the time that the timer was armed
//! for to the poll, learned one poll at a time: one that comes later than the lead moves it up by 99
//! steps, one that comes earlier down by one. Where a poll comes later by more than a lead
//! ought to be, the processors are busy and spinning makes it worse (a pure spin under contention
//! has the worst tail of all), so it backs off, twice as long each time.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

/// The lead's limits, and where it starts.
const MAX_LEAD_NS: u64 = 150_000;
const MIN_LEAD_NS: u64 = 2_000;
const FIRST_LEAD_NS: u64 = 80_000;
/// One step of learning, as a share of the lead: fast enough to follow a change of load within some
/// hundred polls.
const STEP: u64 = 1024;
/// For how many armings the first back-off lasts, and the longest.
const MIN_PENALTY: u32 = 16;
const MAX_PENALTY: u32 = 4096;

/// What the polls of a Timekeeper's timers have learned. Every ordering is relaxed, and an update
/// that races with another may be lost: these are estimates.
#[derive(Debug)]
pub(super) struct Spin {
    lead_ns: AtomicU64,
    /// Armings that are still to go without a lead.
    off: AtomicU32,
    /// How many the next overload adds.
    penalty: AtomicU32,
}

impl Spin {
    pub(super) fn new() -> Self {
        Self {
            lead_ns: AtomicU64::new(FIRST_LEAD_NS),
            off: AtomicU32::new(0),
            penalty: AtomicU32::new(MIN_PENALTY),
        }
    }

    /// How much before its deadline to arm a timer.
    pub(super) fn lead_ns(&self) -> u64 {
        let off = self.off.load(Relaxed);
        if off > 0 {
            self.off.store(off - 1, Relaxed);
            return 0;
        }
        self.lead_ns.load(Relaxed)
    }

    /// A timer that was armed for `lead_ns` before its deadline was polled `late_ns` after that.
    pub(super) fn polled(&self, lead_ns: u64, late_ns: u64) {
        if lead_ns == 0 {
            return;
        }
        let lead = self.lead_ns.load(Relaxed);
        let step = (lead / STEP).max(4);
        let lead = if late_ns > lead {
            lead.saturating_add(99 * step).min(MAX_LEAD_NS)
        } else {
            lead.saturating_sub(step).max(MIN_LEAD_NS)
        };
        self.lead_ns.store(lead, Relaxed);
        let penalty = self.penalty.load(Relaxed);
        if late_ns > 4 * MAX_LEAD_NS {
            // Once for all the polls that one stall has made late.
            if self.off.load(Relaxed) == 0 {
                self.off.store(penalty, Relaxed);
                self.penalty.store((penalty * 2).min(MAX_PENALTY), Relaxed);
            }
        } else if penalty > MIN_PENALTY {
            self.penalty.store(penalty - 1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lead_settles_above_99_percent_of_the_latencies() {
        let spin = Spin::new();
        let mut covered = 0;
        for i in 0..200_000u64 {
            // Uniform in 20 to 40 µs.
            let late = 20_000 + i.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 20_000;
            if i >= 100_000 && spin.lead_ns() >= late {
                covered += 1;
            }
            spin.polled(1, late);
        }
        assert!((98_000..=99_900).contains(&covered), "{covered} of 100000");
    }

    #[test]
    fn the_lead_has_its_limits() {
        let spin = Spin::new();
        (0..100_000).for_each(|_| spin.polled(1, 2 * MAX_LEAD_NS));
        assert_eq!(spin.lead_ns(), MAX_LEAD_NS);
        (0..100_000).for_each(|_| spin.polled(1, 0));
        assert_eq!(spin.lead_ns(), MIN_LEAD_NS);
    }

    #[test]
    fn overload_turns_it_off_for_longer_each_time() {
        let spin = Spin::new();
        let pause = || {
            spin.polled(1, 10 * MAX_LEAD_NS);
            (0..).take_while(|_| spin.lead_ns() == 0).count()
        };
        assert_eq!((pause(), pause(), pause()), (16, 32, 64));
    }

    #[test]
    fn one_stall_that_makes_many_late_counts_once() {
        let spin = Spin::new();
        (0..100).for_each(|_| spin.polled(1, 10 * MAX_LEAD_NS));
        assert_eq!((0..).take_while(|_| spin.lead_ns() == 0).count(), 16);
    }
}
