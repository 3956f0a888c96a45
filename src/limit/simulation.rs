//! A server under overload, in virtual time: what it gets done that anybody still waits for.
//!
//! ```text
//! cargo test --features http --lib limit::simulation -- --nocapture
//! ```
//!
//! Open loop: Poisson arrivals, deadlines of 200 ms, 16 slots of 20 ms in the mean. What is begun is worked on to
//! its end, though its caller may be gone: the worst case, for a handler that is dropped with its call wastes less.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fmt::Write;
use std::task::Poll;
use std::time::Duration;

use super::core::{Admitted, Arrival, Core, End};
use super::queue::Ticket;
use super::{Order, Settings};
use crate::clock::{Elapsed, Instant};
use crate::deadline::Deadline;

const SLOTS: usize = 16;
const MEAN_MS: f64 = 20.0;
const BUDGET: Duration = Duration::from_millis(200);
const WARM_UP: Duration = Duration::from_secs(3);
const RUN: Duration = Duration::from_secs(33);
const LOADS: [f64; 6] = [0.5, 1.0, 1.5, 2.0, 3.0, 4.0];

#[derive(Clone, Copy, Debug)]
enum Service {
    Fixed,
    Exponential,
    /// Nine in ten of 10 ms, one of 110 ms.
    Bimodal,
}

impl Service {
    fn draw(self, rng: &mut fastrand::Rng) -> Duration {
        let ms = match self {
            Self::Fixed => MEAN_MS,
            Self::Exponential => exponential(rng) * MEAN_MS,
            Self::Bimodal if rng.f64() < 0.1 => 110.0,
            Self::Bimodal => 10.0,
        };
        Duration::from_secs_f64(ms / 1000.0)
    }
}

fn exponential(rng: &mut fastrand::Rng) -> f64 {
    -(1.0 - rng.f64()).ln()
}

#[derive(Clone, Copy, Debug)]
enum System {
    /// A queue that knows nothing: callers time out, and what they have asked for is done all the same.
    Timeouts,
    /// The expired are not begun.
    Expired,
    Ours(Settings),
}

#[derive(Default)]
struct Outcome {
    arrived: u32,
    good: u32,
    /// Begun, and not in time.
    wasted: u32,
    on_arrival: u32,
    later: u32,
    latencies: Vec<Duration>,
    /// How long those took that were rejected.
    refusals: Vec<Duration>,
}

impl Outcome {
    /// Of what could be done in the time.
    fn goodput(&self) -> f64 {
        let slot_time = (RUN - WARM_UP).as_secs_f64() * SLOTS as f64;
        f64::from(self.good) * MEAN_MS / 1000.0 / slot_time
    }

    /// After what time that share of the refusals came at the latest.
    fn refused(&mut self, share: f64) -> Option<Duration> {
        self.refusals.sort_unstable();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_precision_loss,
            clippy::cast_sign_loss,
            reason = "an index"
        )]
        let at = (self.refusals.len() as f64 * share) as usize;
        self.refusals.get(at).copied()
    }

    fn p50(&mut self) -> Duration {
        if self.latencies.is_empty() {
            return Duration::MAX;
        }
        let middle = self.latencies.len() / 2;
        *self.latencies.select_nth_unstable(middle).1
    }
}

struct Call {
    came: Instant<Elapsed>,
    deadline: Deadline,
    state: State,
}

enum State {
    Waiting(Ticket),
    Running(Admitted),
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Ends(usize),
    Expires(usize),
    Arrives,
}

struct Simulation {
    rng: fastrand::Rng,
    system: System,
    service: Service,
    core: Core<usize>,
    calls: Vec<Call>,
    events: BinaryHeap<Reverse<(Instant<Elapsed>, Event)>>,
    now: Instant<Elapsed>,
    outcome: Outcome,
}

fn start() -> Instant<Elapsed> {
    Instant::from_nanos(1)
}

fn simulate(system: System, service: Service, load: f64) -> Outcome {
    let settings = match system {
        System::Ours(settings) => settings,
        _ => Settings::new(SLOTS).quantile(0.0).queue(usize::MAX),
    };
    let mut simulation = Simulation {
        rng: fastrand::Rng::with_seed(7),
        system,
        service,
        core: Core::new(settings),
        calls: Vec::new(),
        events: BinaryHeap::from([Reverse((start(), Event::Arrives))]),
        now: start(),
        outcome: Outcome::default(),
    };
    let pause = MEAN_MS / 1000.0 / SLOTS as f64 / load;
    while let Some(Reverse((now, event))) = simulation.events.pop() {
        if now > start() + RUN {
            break;
        }
        simulation.now = now;
        match event {
            Event::Arrives => {
                let pause = Duration::from_secs_f64(exponential(&mut simulation.rng) * pause);
                simulation.events.push(Reverse((now + pause, Event::Arrives)));
                simulation.arrive();
            }
            Event::Ends(call) => simulation.end(call),
            Event::Expires(call) => {
                if matches!(simulation.calls[call].state, State::Waiting(_)) {
                    simulation.look(call);
                }
            }
        }
    }
    simulation.outcome
}

impl Simulation {
    fn arrive(&mut self) {
        let index = self.calls.len();
        let (came, deadline) = (self.now, Deadline::at(self.now + BUDGET));
        // What the server is told of it.
        let told = match self.system {
            System::Timeouts => Deadline::NEVER,
            _ => deadline,
        };
        self.calls.push(Call { came, deadline, state: State::Over });
        if self.counts(index) {
            self.outcome.arrived += 1;
        }
        match self.core.arrive(came, told) {
            Arrival::Admitted(admitted) => self.run(index, admitted),
            Arrival::Queued(ticket) => {
                self.calls[index].state = State::Waiting(ticket);
                self.events.push(Reverse((told.instant(), Event::Expires(index))));
                self.settle();
                self.look(index);
            }
            Arrival::Rejected(_) => {
                if self.counts(index) {
                    self.outcome.on_arrival += 1;
                    self.outcome.refusals.push(Duration::ZERO);
                }
            }
        }
    }

    fn counts(&self, call: usize) -> bool {
        self.calls[call].came >= start() + WARM_UP
    }

    fn run(&mut self, call: usize, admitted: Admitted) {
        let ends = self.now + self.service.draw(&mut self.rng);
        self.calls[call].state = State::Running(admitted);
        self.events.push(Reverse((ends, Event::Ends(call))));
    }

    /// As the future of one that waits does.
    fn look(&mut self, call: usize) {
        let State::Waiting(ticket) = std::mem::replace(&mut self.calls[call].state, State::Over)
        else {
            panic!("it doesn't wait");
        };
        let mut ticket = Some(ticket);
        match self.core.look(&mut ticket, &mut Some(call), self.now) {
            Poll::Pending => {
                let ticket = ticket.expect("it waits");
                self.calls[call].state = State::Waiting(ticket);
            }
            Poll::Ready((Ok(admitted), _)) => self.run(call, admitted),
            Poll::Ready((Err(_), _)) => {
                if self.counts(call) {
                    self.outcome.later += 1;
                    self.outcome.refusals.push(self.now - self.calls[call].came);
                }
            }
        }
    }

    fn settle(&mut self) {
        while let Some(waker) = self.core.settle(self.now) {
            if let Some(call) = waker {
                self.look(call);
            }
        }
    }

    fn end(&mut self, call: usize) {
        let State::Running(admitted) = std::mem::replace(&mut self.calls[call].state, State::Over)
        else {
            panic!("it doesn't run");
        };
        self.core.release(admitted, End::Done, self.now);
        if self.counts(call) {
            if self.now <= self.calls[call].deadline.instant() {
                self.outcome.good += 1;
                self.outcome.latencies.push(self.now - self.calls[call].came);
            } else {
                self.outcome.wasted += 1;
            }
        }
        self.settle();
    }
}

fn on_every_service(name: &str, system: System, check: impl Fn(Service, f64, &mut Outcome)) {
    for service in [Service::Fixed, Service::Exponential, Service::Bimodal] {
        let mut line = format!("| {name} | {service:?} |");
        let mut refused = format!("| {name}, refused after | {service:?} |");
        for load in LOADS {
            let mut outcome = simulate(system, service, load);
            let (goodput, p50) = (outcome.goodput() * 100.0, outcome.p50());
            match p50 {
                Duration::MAX => write!(line, " {goodput:.1} |").unwrap(),
                _ => write!(line, " {goodput:.1} ({}) |", p50.as_millis()).unwrap(),
            }
            match (outcome.refused(0.5), outcome.refused(0.95)) {
                (Some(p50), Some(p95)) => {
                    write!(refused, " {} / {} |", p50.as_millis(), p95.as_millis()).unwrap();
                }
                _ => refused += " – |",
            }
            check(service, load, &mut outcome);
        }
        println!("{line}");
        println!("{refused}");
    }
}

#[test]
fn under_overload_all_that_is_done_is_of_use() {
    println!("goodput in % of capacity (median latency of it in ms), by load: {LOADS:?}");
    on_every_service("timeouts alone", System::Timeouts, |_, load, outcome| {
        assert!(load < 1.5 || outcome.goodput() < 0.3, "{}", outcome.goodput());
    });
    on_every_service("rejecting the expired", System::Expired, |_, _, _| ());
    let ours = Settings::new(SLOTS);
    on_every_service("oldest first", System::Ours(ours), |service, load, outcome| {
        let goodput = outcome.goodput();
        if load >= 1.5 {
            assert!(goodput >= 0.95, "{service:?} at {load}: {goodput}");
            let rejected = outcome.on_arrival + outcome.later;
            let early = f64::from(outcome.on_arrival) / f64::from(rejected);
            assert!(early > 0.75, "{service:?} at {load}: {early} of the rejected on arrival");
        } else {
            assert!(goodput >= load * 0.95, "{service:?} at {load}: {goodput}");
        }
    });
    let newest = ours.order(Order::NewestFirst);
    on_every_service("newest first", System::Ours(newest), |service, load, outcome| {
        let (goodput, p50) = (outcome.goodput(), outcome.p50());
        assert!(goodput >= 0.92 * load.min(1.0), "{service:?} at {load}: {goodput}");
        assert!(load < 1.5 || goodput >= 0.95, "{service:?} at {load}: {goodput}");
        assert!(
            load < 1.5 || p50 <= 2 * Duration::from_millis(20),
            "{service:?} at {load}: {p50:?}"
        );
        if load >= 1.5 {
            let [p50, p95] = [0.5, 0.95].map(|share| outcome.refused(share).unwrap().as_millis());
            assert!(p50 <= 5 && p95 <= 15, "{service:?} at {load}: {p50} and {p95} ms");
        }
    });
}

#[test]
#[ignore = "shows what the default was chosen by"]
fn quantiles_compared() {
    for quantile in [0.5, 0.75, 0.9, 0.95, 0.99, 1.0] {
        let ours = Settings::new(SLOTS).quantile(quantile);
        on_every_service(&quantile.to_string(), System::Ours(ours), |_, _, _| ());
    }
}
