//! Whether the counters of all processors read the same.
//!
//! A signal goes from this thread, on the first of the processors that it may use, to a helper on
//! each of the others, and back. The counter that the helper reads must lie between the two that
//! this thread reads, at departure and at arrival. A counter that is off by less than a round trip
//! may pass, but such an error is too small for any program to notice, which learns of another
//! processor's doings no faster.

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    thread,
};

use super::{
    arch::Counter,
    os::{self, Affinity},
    report::Processors,
};

/// Round trips with each processor.
const ROUNDS: u32 = 64;

/// How long the test may take. A helper that doesn't get its processor isn't waited for.
const BUDGET_NS: u64 = 4_000_000;

/// Compares the processors that this thread may use; `None` if that can't be done.
///
/// Moves the calling thread to one of them meanwhile, and lets it go again.
pub(crate) fn compare_processors(counter: &Counter) -> Option<Processors> {
    let affinity = Affinity::of_this_thread()?;
    let mut cpus = affinity.cpus();
    let here = cpus.next()?;
    let others: Vec<usize> = cpus.collect();
    if others.is_empty() || !os::pin_this_thread(here) {
        return None;
    }
    let result = compare_with(counter, others);
    affinity.restore();
    result
}

fn compare_with(counter: &Counter, others: Vec<usize>) -> Option<Processors> {
    let mut result = Processors { allowed: others.len() + 1, compared: 1, ..Default::default() };
    let court = Arc::new(Court::default());
    let count = others.len();
    let helper = {
        let (court, counter) = (court.clone(), counter.clone());
        thread::Builder::new()
            .name("deadbeat-tsc".into())
            .spawn(move || court.return_all(&counter, &others))
    };
    // Not joined: it ends by itself, once it gets its processor and sees that the game is over.
    if helper.is_err() {
        return None;
    }
    let end_ns = os::monotonic_ns().saturating_add(BUDGET_NS);
    let mut ball = 0;
    'processors: for _ in 0..count {
        let mut best: Option<(u64, u64)> = None;
        for _ in 0..ROUNDS {
            let Some(trip) = court.serve(counter, &mut ball, end_ns) else { break 'processors };
            // The helper was not let onto this processor.
            let Some(there) = trip.there else { continue };
            let off = trip.departure.saturating_sub(there).max(there.saturating_sub(trip.arrival));
            result.unsynchronised_ticks = result.unsynchronised_ticks.max(off);
            let round_trip = trip.arrival.saturating_sub(trip.departure);
            let middle = trip.departure.saturating_add(round_trip / 2);
            if best.is_none_or(|(shortest, _)| round_trip < shortest) {
                best = Some((round_trip, there.abs_diff(middle)));
            }
        }
        if let Some((round_trip, offset)) = best {
            result.compared += 1;
            result.worst_offset_ticks = result.worst_offset_ticks.max(offset);
            result.round_trip_ticks = result.round_trip_ticks.max(round_trip);
        }
    }
    // Ordering: Relaxed, it only has to be seen at some time.
    court.over.store(true, Relaxed);
    Some(result)
}

/// Where the ball goes to and fro. Odd numbers are on their way there, even ones on their way back.
#[derive(Default)]
struct Court {
    ball: AtomicU64,
    /// What the helper read, zero if it isn't where it should be.
    there: AtomicU64,
    over: AtomicBool,
}

struct Trip {
    departure: u64,
    there: Option<u64>,
    arrival: u64,
}

impl Court {
    /// One round trip; `None` once time is up.
    fn serve(&self, counter: &Counter, ball: &mut u64, end_ns: u64) -> Option<Trip> {
        *ball += 2;
        let departure = counter.ordered();
        // Ordering: Release, so that the helper reads its counter after this departure.
        self.ball.store(*ball - 1, Release);
        let mut spins = 0_u32;
        // Ordering: Acquire, so that the arrival is read after the helper's counter was.
        while self.ball.load(Acquire) != *ball {
            spins += 1;
            if spins.is_multiple_of(128) && os::monotonic_ns() > end_ns {
                return None;
            }
            std::hint::spin_loop();
        }
        let arrival = counter.ordered();
        // Ordering: Relaxed, after the Acquire above.
        let there = self.there.load(Relaxed);
        Some(Trip { departure, there: (there != 0).then_some(there), arrival })
    }

    fn return_all(&self, counter: &Counter, cpus: &[usize]) {
        let mut ball = 1;
        for &cpu in cpus {
            let is_there = os::pin_this_thread(cpu);
            for _ in 0..ROUNDS {
                // Ordering: Acquire, so that the counter is read after the departure.
                while self.ball.load(Acquire) != ball {
                    // Ordering: Relaxed, nothing comes with it.
                    if self.over.load(Relaxed) {
                        return;
                    }
                    std::hint::spin_loop();
                }
                let there = if is_there { counter.ordered() } else { 0 };
                // Ordering: Relaxed, before the Release below.
                self.there.store(there, Relaxed);
                // Ordering: Release, hands over what was read.
                self.ball.store(ball + 1, Release);
                ball += 2;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processors_are_compared_and_the_thread_is_let_go_again() {
        let Some(counter) = Counter::detect() else { return };
        let before = Affinity::of_this_thread().map(|affinity| affinity.cpus().count());
        let result = compare_processors(&counter);
        let after = Affinity::of_this_thread().map(|affinity| affinity.cpus().count());
        assert_eq!(before, after);
        if let Some(processors) = result {
            assert_eq!(Some(processors.allowed), before);
            assert!(processors.compared <= processors.allowed);
            assert!(processors.worst_offset_ticks <= processors.round_trip_ticks.div_ceil(2));
        }
    }
}
