//! Calls that come, run, end and leave at random, against what a limiter promises: for property tests and for
//! fuzzing.
//!
//! A fuzz target is one line: `fuzz_target!(|bytes: &[u8]| harness::limiter(bytes));`.

use std::collections::{BTreeMap, VecDeque};
use std::task::Poll;
use std::time::Duration;

use super::core::{Admitted, Arrival, Core, End, Why};
use super::queue::Ticket;
use super::{Order, Settings};
use crate::clock::{Elapsed, Instant};
use crate::deadline::Deadline;

/// Plays a script: four bytes of settings, then an operation of two bytes each.
///
/// # Panics
///
/// If a promise is broken: more run than there are slots, one runs that has expired, one overtakes another, one
/// waits while a slot is free, one that is doomed is neither rejected nor a probe, or numbers don't add up.
pub fn limiter(bytes: &[u8]) {
    let Some((&[slots, queue, flags, quantile], script)) = bytes.split_first_chunk() else {
        return;
    };
    let settings = Settings::new(usize::from(slots % 8) + 1)
        .queue(usize::from(queue % 32))
        .order(if flags & 1 == 0 { Order::OldestFirst } else { Order::NewestFirst })
        .quantile(f64::from(quantile % 11) / 10.0)
        .probes([0.0, 0.02, 0.5, 1.0][usize::from(flags >> 1 & 3)])
        .dark(flags & 8 != 0);
    let mut play = Play {
        settings,
        core: Core::new(settings),
        now: Instant::from_nanos(1 << 40),
        waiting: BTreeMap::new(),
        order: VecDeque::new(),
        running: Vec::new(),
        came: 0,
        seen: [0; 5],
        left: 0,
    };
    for operation in script.chunks_exact(2) {
        play.step(operation[0], operation[1]);
        play.check();
    }
    play.finish();
}

struct Play {
    settings: Settings,
    core: Core<usize>,
    now: Instant<Elapsed>,
    /// Their tickets, until they have seen their verdict.
    waiting: BTreeMap<usize, (Ticket, Deadline)>,
    /// Those that nothing was decided about, oldest first.
    order: VecDeque<usize>,
    running: Vec<Admitted>,
    came: u64,
    /// Admitted, expired, doomed, full, overtaken.
    seen: [u64; 5],
    left: u64,
}

fn ms(ms: u8) -> Duration {
    Duration::from_millis(ms.into())
}

impl Play {
    fn step(&mut self, operation: u8, argument: u8) {
        let which = usize::from(argument);
        match operation % 8 {
            0..=2 => self.arrive(match argument {
                255 => Deadline::NEVER,
                _ => Deadline::at(self.now + ms(argument)),
            }),
            3 if !self.running.is_empty() => {
                let admitted = self.running.swap_remove(which % self.running.len());
                let end = if operation & 8 == 0 { End::Done } else { End::CutOff };
                self.core.release(admitted, end, self.now);
                self.settle();
            }
            4 => self.now += ms(argument),
            // A long calm, now and then.
            5 => self.now += if argument > 250 { Duration::from_secs(11) } else { ms(1) },
            6 if !self.waiting.is_empty() => {
                let number =
                    *self.waiting.keys().nth(which % self.waiting.len()).expect("one of them");
                self.leave(number);
            }
            7 if !self.waiting.is_empty() => {
                let number =
                    *self.waiting.keys().nth(which % self.waiting.len()).expect("one of them");
                self.look(number);
            }
            _ => {}
        }
    }

    fn arrive(&mut self, deadline: Deadline) {
        let number = usize::try_from(self.came).expect("a few");
        self.came += 1;
        let (queued, running) = self.core.load();
        let is_free = running < self.settings.slots && queued == 0;
        match self.core.arrive(self.now, deadline) {
            Arrival::Admitted(admitted) => {
                assert!(is_free && deadline.instant() > self.now, "{deadline:?} at {:?}", self.now);
                self.seen[0] += 1;
                self.running.push(admitted);
            }
            Arrival::Queued(ticket) => {
                assert!(
                    !is_free && deadline.instant() > self.now,
                    "{deadline:?} at {:?}",
                    self.now
                );
                self.waiting.insert(number, (ticket, deadline));
                self.order.push_back(number);
                // As a future does, which was polled once.
                self.look(number);
                self.settle();
            }
            Arrival::Rejected(why) => self.rejected(why, deadline),
        }
    }

    fn rejected(&mut self, why: Why, deadline: Deadline) {
        match why {
            Why::Expired => {
                assert!(deadline.instant() <= self.now);
                self.seen[1] += 1;
            }
            Why::Doomed { remaining, service, wait } => {
                assert!(!deadline.is_never() && !self.settings.dark);
                assert!(remaining < service + wait, "{why:?}");
                self.seen[2] += 1;
            }
            Why::Full { waiting } => {
                assert!(waiting >= self.settings.queue, "{why:?}");
                self.seen[3] += 1;
            }
            Why::Overtaken { .. } => panic!("nobody has come after it"),
        }
    }

    fn settle(&mut self) {
        loop {
            let before = self.order.len();
            let Some(waker) = self.core.settle(self.now) else { break };
            let number = waker.expect("it was looked at, so it is woken");
            let index = self.order.iter().position(|it| *it == number).expect("it waits");
            match self.settings.order {
                Order::OldestFirst => assert_eq!(index, 0, "one was overtaken"),
                // From an end; and from the front, while there is no overload.
                Order::NewestFirst => assert!(
                    index == 0 || index == before - 1 && before > self.settings.slots.min(1),
                    "{index} of {before}"
                ),
            }
            self.order.remove(index);
        }
    }

    fn look(&mut self, number: usize) {
        let (ticket, deadline) = self.waiting.remove(&number).expect("it waits");
        let mut ticket = Some(ticket);
        match self.core.look(&mut ticket, &mut Some(number), self.now) {
            Poll::Pending => {
                assert!(self.order.contains(&number), "it was decided, and isn't told");
                assert!(deadline.instant() > self.now);
                self.waiting.insert(number, (ticket.expect("it waits"), deadline));
            }
            Poll::Ready((Ok(admitted), _)) => {
                assert!(deadline.instant() > self.now, "it has expired, and runs");
                self.seen[0] += 1;
                self.running.push(admitted);
            }
            Poll::Ready((Err(why), _)) => {
                self.order.retain(|it| *it != number);
                self.rejected_late(why, deadline);
                self.settle();
            }
        }
    }

    /// It was decided before, when less or more was known.
    fn rejected_late(&mut self, why: Why, deadline: Deadline) {
        match why {
            Why::Full { .. } => assert_eq!(self.settings.order, Order::NewestFirst),
            Why::Overtaken { .. } => {
                assert_eq!(self.settings.order, Order::NewestFirst);
                assert!(!self.settings.dark && self.settings.quantile > 0.0);
            }
            Why::Doomed { .. } => assert!(!deadline.is_never() && !self.settings.dark),
            Why::Expired => assert!(deadline.instant() <= self.now),
        }
        self.seen[match why {
            Why::Expired => 1,
            Why::Doomed { .. } => 2,
            Why::Full { .. } => 3,
            Why::Overtaken { .. } => 4,
        }] += 1;
    }

    fn leave(&mut self, number: usize) {
        let (ticket, _) = self.waiting.remove(&number).expect("it waits");
        self.core.cancel(ticket);
        self.order.retain(|it| *it != number);
        self.left += 1;
        self.settle();
    }

    fn check(&mut self) {
        let (queued, running) = self.core.load();
        assert_eq!(queued, self.order.len());
        assert!(running <= self.settings.slots, "{running} run");
        assert!(running >= self.running.len());
        assert!(queued <= self.settings.queue, "{queued} wait");
        assert!(queued == 0 || running == self.settings.slots, "{queued} wait, and {running} run");
    }

    /// All end: then nobody is left.
    fn finish(mut self) {
        while !self.waiting.is_empty() || !self.running.is_empty() {
            for number in self.waiting.keys().copied().collect::<Vec<_>>() {
                self.look(number);
            }
            if let Some(admitted) = self.running.pop() {
                self.now += ms(1);
                self.core.release(admitted, End::Done, self.now);
                self.settle();
            }
            self.check();
        }
        assert_eq!(self.core.load(), (0, 0));
        let stats = self.core.stats(self.now);
        assert_eq!(self.seen.iter().sum::<u64>() + self.left, self.came);
        assert_eq!(stats.admitted, self.seen[0]);
        if !self.settings.dark && self.left == 0 {
            let doomed = stats.rejected_doomed_on_arrival + stats.rejected_doomed_at_dequeue;
            let (full, overtaken) = (stats.rejected_full, stats.rejected_overtaken);
            assert_eq!([stats.rejected_expired, doomed, full, overtaken], self.seen[1..]);
        }
        assert!(stats.probes <= stats.admitted);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn every_promise_is_kept(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
            super::limiter(&bytes);
        }
    }
}
