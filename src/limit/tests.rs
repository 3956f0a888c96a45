//! The core by itself, with what it has learned.

use std::task::Poll;
use std::time::Duration;

use super::core::{Admitted, Arrival, Core, End, Why};
use super::{Order, Settings};
use crate::clock::{Elapsed, Instant};
use crate::deadline::Deadline;

const MS: Duration = Duration::from_millis(1);

struct Server {
    core: Core<u32>,
    now: Instant<Elapsed>,
}

impl Server {
    fn new(settings: Settings) -> Self {
        Self { core: Core::new(settings), now: Instant::from_nanos(1) }
    }

    fn arrive(&mut self, left: Duration) -> Arrival {
        self.core.arrive(self.now, Deadline::at(self.now + left))
    }

    fn admitted(&mut self, left: Duration) -> Option<Admitted> {
        match self.arrive(left) {
            Arrival::Admitted(admitted) => Some(admitted),
            _ => None,
        }
    }

    /// One after the other: a call of so much, with so much left when it comes. Whether it was run.
    fn call(&mut self, takes: Duration, left: Duration) -> bool {
        let Some(admitted) = self.admitted(left) else {
            self.now += MS;
            return false;
        };
        self.now += takes.min(left);
        let end = if takes <= left { End::Done } else { End::CutOff };
        self.core.release(admitted, end, self.now);
        assert!(self.core.settle(self.now).is_none());
        true
    }

    /// Has it learn that calls take so long.
    fn serving(settings: Settings, takes: Duration) -> Self {
        let mut server = Self::new(settings);
        assert!((0..20).all(|_| server.call(takes, 500 * MS)));
        server
    }
}

fn reason(arrival: Arrival) -> Why {
    match arrival {
        Arrival::Rejected(why) => why,
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_has_less_than_service_takes_is_doomed_on_arrival() {
    let mut server = Server::serving(Settings::new(1), 20 * MS);
    assert!(matches!(reason(server.arrive(19 * MS)), Why::Doomed { wait: Duration::ZERO, .. }));
    let running = server.admitted(21 * MS).unwrap();
    // With one ahead, and another.
    let Why::Doomed { remaining, service, wait } = reason(server.arrive(39 * MS)) else { panic!() };
    assert_eq!(remaining, 39 * MS);
    for known in [service, wait] {
        assert!(known >= 20 * MS && known < 21 * MS, "{known:?}");
    }
    assert!(matches!(server.arrive(45 * MS), Arrival::Queued(_)));
    assert!(matches!(reason(server.arrive(59 * MS)), Why::Doomed { .. }));
    // Without a deadline, nobody is.
    assert!(matches!(server.core.arrive(server.now, Deadline::NEVER), Arrival::Queued(_)));
    server.core.release(running, End::Done, server.now);
}

#[test]
fn who_has_waited_for_too_long_is_doomed_when_it_is_its_turn() {
    let mut server = Server::serving(Settings::new(1), 20 * MS);
    let running = server.admitted(500 * MS).unwrap();
    let Arrival::Queued(first) = server.arrive(50 * MS) else { panic!() };
    let Arrival::Queued(second) = server.arrive(500 * MS) else { panic!() };
    server.now += 35 * MS;
    server.core.release(running, End::Done, server.now);
    while server.core.settle(server.now).is_some() {}
    let mut verdict = |ticket| {
        let Poll::Ready((verdict, _)) = server.core.look(&mut Some(ticket), &mut None, server.now)
        else {
            panic!("it waits")
        };
        verdict
    };
    assert!(matches!(verdict(first), Err(Why::Doomed { wait: Duration::ZERO, .. })));
    assert!(verdict(second).is_ok());
    assert_eq!(server.core.stats(server.now).rejected_doomed_at_dequeue, 1);
}

#[test]
fn after_a_slow_phase_probes_show_that_it_is_over() {
    let mut server = Server::serving(Settings::new(4), 20 * MS);
    // Slower than anybody can wait for: all are cut off, and then doomed.
    let ran = (0..1000).filter(|_| server.call(800 * MS, 200 * MS)).count();
    assert!(ran > 20, "{ran}");
    let probes = (0..1000).filter(|_| server.call(800 * MS, 200 * MS)).count();
    assert!((15..=60).contains(&probes), "{probes} of 1000 doomed calls were run");
    // Fast again.
    let began = server.now;
    let doomed = (0..100_000).take_while(|_| !(0..3).all(|_| server.call(20 * MS, 200 * MS)));
    let doomed = doomed.count();
    assert!(server.now - began < Duration::from_secs(11), "{doomed} calls were doomed");
    assert!((0..1000).all(|_| server.call(20 * MS, 200 * MS)));
}

#[test]
fn in_the_dark_the_doomed_are_counted_once_and_run() {
    let mut server = Server::serving(Settings::new(1).dark(true), 20 * MS);
    let running = server.admitted(MS).unwrap();
    let Arrival::Queued(waiting) = server.arrive(30 * MS) else { panic!() };
    server.now += 15 * MS;
    server.core.release(running, End::Done, server.now);
    while server.core.settle(server.now).is_some() {}
    let looked = server.core.look(&mut Some(waiting), &mut None, server.now);
    assert!(matches!(looked, Poll::Ready((Ok(_), _))));
    let stats = server.core.stats(server.now);
    assert_eq!((stats.rejected_doomed_on_arrival, stats.rejected_doomed_at_dequeue), (2, 0));
    assert_eq!((stats.admitted, stats.probes), (22, 0));
}

#[test]
fn a_full_queue_rejects_the_newcomer_or_the_oldest() {
    for (order, is_newcomer) in [(Order::OldestFirst, true), (Order::NewestFirst, false)] {
        let mut server = Server::new(Settings::new(1).queue(2).order(order));
        server.admitted(500 * MS).unwrap();
        let Arrival::Queued(oldest) = server.arrive(500 * MS) else { panic!() };
        let Arrival::Queued(_) = server.arrive(500 * MS) else { panic!() };
        let third = server.arrive(500 * MS);
        while server.core.settle(server.now).is_some() {}
        if is_newcomer {
            assert_eq!(reason(third), Why::Full { waiting: 2 });
        } else {
            assert!(matches!(third, Arrival::Queued(_)));
            let looked = server.core.look(&mut Some(oldest), &mut None, server.now);
            assert!(matches!(looked, Poll::Ready((Err(Why::Full { waiting: 2 }), _))));
        }
        assert_eq!(server.core.stats(server.now).rejected_full, 1);
    }
}

#[test]
fn under_overload_the_newest_is_next() {
    let mut server = Server::new(Settings::new(1).order(Order::NewestFirst));
    let running = server.admitted(500 * MS).unwrap();
    let mut tickets = Vec::new();
    for number in 0..3 {
        let Arrival::Queued(ticket) = server.arrive(500 * MS) else { panic!() };
        let mut ticket = Some(ticket);
        assert!(server.core.look(&mut ticket, &mut Some(number), server.now).is_pending());
        tickets.push(ticket);
    }
    server.core.release(running, End::Done, server.now);
    assert_eq!(server.core.settle(server.now), Some(Some(2)));
    assert_eq!(server.core.settle(server.now), None);
}

#[test]
fn in_overload_that_goes_on_the_oldest_knows_soon_and_in_a_burst_it_waits() {
    let mut server = Server::serving(Settings::new(4).order(Order::NewestFirst), 20 * MS);
    let running: Vec<_> = (0..4).map(|_| server.admitted(500 * MS).unwrap()).collect();
    let mut tickets: Vec<_> = (0..5)
        .map(|_| match server.arrive(500 * MS) {
            Arrival::Queued(ticket) => Some(ticket),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(server.core.settle(server.now), None);
    // Five times as long as service takes, and a little: quantiles are rounded up.
    server.now += 101 * MS;
    let Arrival::Queued(newest) = server.arrive(500 * MS) else { panic!() };
    while server.core.settle(server.now).is_some() {}
    for ticket in &mut tickets {
        let looked = server.core.look(ticket, &mut None, server.now);
        let Poll::Ready((Err(Why::Overtaken { waited }), _)) = looked else {
            panic!("{looked:?}");
        };
        assert_eq!(waited, 101 * MS);
    }
    assert_eq!(server.core.stats(server.now).rejected_overtaken, 5);
    // What has come last is next, as if nobody had waited.
    for running in running {
        server.core.release(running, End::Done, server.now);
    }
    while server.core.settle(server.now).is_some() {}
    let looked = server.core.look(&mut Some(newest), &mut None, server.now);
    assert!(matches!(looked, Poll::Ready((Ok(_), _))));
    // After a calm in which all was forgotten, a burst waits again.
    server.now += Duration::from_secs(11);
    for _ in 0..3 {
        server.admitted(500 * MS).unwrap();
    }
    for _ in 0..20 {
        assert!(matches!(server.arrive(500 * MS), Arrival::Queued(_)));
        assert_eq!(server.core.settle(server.now), None);
    }
}

#[test]
fn what_was_cut_off_early_says_nothing() {
    let mut server = Server::serving(Settings::new(1).quantile(0.5).probes(1.0), 20 * MS);
    let before = server.core.stats(server.now).service_time;
    for _ in 0..200 {
        server.call(20 * MS, 5 * MS);
    }
    assert_eq!(server.core.stats(server.now).service_time, before);
}

#[test]
fn a_slot_that_was_granted_and_not_taken_goes_to_the_next() {
    let mut server = Server::new(Settings::new(1));
    let running = server.admitted(500 * MS).unwrap();
    let Arrival::Queued(first) = server.arrive(10 * MS) else { panic!() };
    let Arrival::Queued(second) = server.arrive(500 * MS) else { panic!() };
    server.core.release(running, End::Done, server.now);
    while server.core.settle(server.now).is_some() {}
    // Its task was polled too late.
    server.now += 10 * MS;
    let looked = server.core.look(&mut Some(first), &mut None, server.now);
    assert!(matches!(looked, Poll::Ready((Err(Why::Expired), _))));
    while server.core.settle(server.now).is_some() {}
    let looked = server.core.look(&mut Some(second), &mut None, server.now);
    assert!(matches!(looked, Poll::Ready((Ok(_), _))));
}
