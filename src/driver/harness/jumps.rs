//! Clocks that lie, timers of both classes armed meanwhile, and what the driver promises all the same.
//!
//! A script moves the scripted clock's witnesses, the real discipline runs on them, and a Timekeeper that
//! is driven by hand runs on that. Checked after every step:
//!
//! - nothing fires before its deadline, by the clock that the deadline is on (P1);
//! - everything fires once at the most, and all that is due has fired after each look (P2);
//! - neither the time nor the elapsed time goes back (P3);
//! - in the end, with witnesses that are sound again, a new timer takes as long as it should, and all
//!   that is left fires (P5).
//!
//! A fuzz target is one line: `fuzz_target!(|bytes: &[u8]| harness::jumps::fuzz(bytes));`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Wake, Waker};

use crate::clock::{Active, Class, Clock, Elapsed, Instant, ManualClock, Witness};
use crate::driver::Manual;
use crate::time::{Duration, Sleep};

/// One step of a script. Whatever it names by number is taken modulo what there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "for tests only")]
pub enum Op {
    /// Time passes, in nanoseconds, and the driver looks at the end of it.
    Pass(u64),
    /// Time passes in small steps, with a look after each.
    Live(u8, u64),
    /// Time passes while the process doesn't run.
    Stall(u64),
    /// The machine is suspended.
    Suspend(u64),
    /// A witness jumps.
    Jump(Witness, i64),
    /// A witness runs so many ppm faster or slower from now on.
    Rate(Witness, i64),
    /// The counter of a processor is off by so many ticks from now on.
    Skew(u8, i64),
    /// Everybody runs on this processor from now on.
    Migrate(u8),
    /// Reading a kernel clock takes so long from now on.
    ReadCost(u64),
    /// Arms a timer of active time.
    Arm(u64),
    /// Arms a timer of elapsed time.
    ArmElapsed(u64),
    /// Arms so many of both, a nanosecond apart.
    Burst(u16, u64),
    /// Moves a timer.
    Reset(u8, u64),
    /// Drops a timer.
    Cancel(u8),
    /// A thread reads the time.
    Read,
}

/// Makes a script of bytes. Any bytes make one.
#[must_use]
pub fn decode(bytes: &[u8]) -> Vec<Op> {
    let mut bytes = bytes.iter().copied();
    let mut ops = Vec::new();
    while let Some(kind) = bytes.next() {
        let mut arg = || bytes.next().unwrap_or(0);
        // A mantissa and an exponent: from nothing to a day and a half.
        let amount = |mantissa: u8, exponent: u8| u64::from(mantissa) << (exponent % 40);
        let signed = |mantissa: u8, exponent: u8| {
            let amount = amount(mantissa >> 1, exponent).cast_signed();
            if mantissa & 1 == 0 { amount } else { -amount }
        };
        let witness = match kind >> 5 {
            0 | 1 => Witness::Counter,
            2 | 3 => Witness::Monotonic,
            4 => Witness::Boottime,
            5 => Witness::Realtime,
            6 => Witness::Raw,
            _ => Witness::Monotonic,
        };
        ops.push(match kind & 31 {
            0..4 => Op::Pass(amount(arg(), arg())),
            4..8 => Op::Live(arg(), amount(arg(), arg() % 20)),
            8 => Op::Stall(amount(arg(), arg() % 34)),
            9 => Op::Suspend(amount(arg(), arg())),
            10..13 => Op::Jump(witness, signed(arg(), arg())),
            13 => Op::Rate(witness, signed(arg(), arg() % 14)),
            14 => Op::Rate(witness, signed(arg(), arg() % 6)),
            15 => Op::Skew(arg(), signed(arg(), arg() % 34)),
            16..18 => Op::Migrate(arg()),
            18 => Op::ReadCost(amount(arg(), arg() % 12)),
            19..23 => Op::Arm(amount(arg(), arg() % 34)),
            23..26 => Op::ArmElapsed(amount(arg(), arg() % 34)),
            26 => Op::Burst(u16::from(arg()) * 4, amount(arg(), arg() % 32)),
            27 => Op::Reset(arg(), amount(arg(), arg() % 34)),
            28 => Op::Cancel(arg()),
            _ => Op::Read,
        });
    }
    ops
}

/// Plays what the bytes say.
///
/// # Panics
///
/// If a promise is broken.
pub fn fuzz(bytes: &[u8]) {
    run(&decode(bytes));
}

/// Plays a script.
///
/// # Panics
///
/// If a promise is broken.
pub fn run(ops: &[Op]) {
    let mut play = Play::new();
    for &op in ops {
        play.step(op);
        play.check();
    }
    play.end();
}

/// What a timer's waker saw.
#[derive(Debug)]
struct Seen {
    clock: Clock,
    elapsed: bool,
    deadline_ns: AtomicU64,
    wakes: AtomicUsize,
}

impl Seen {
    fn now_ns(&self) -> u64 {
        if self.elapsed { self.clock.now_elapsed().as_nanos() } else { self.clock.now().as_nanos() }
    }
}

impl Wake for Seen {
    fn wake(self: Arc<Self>) {
        let (now_ns, deadline_ns) = (self.now_ns(), self.deadline_ns.load(SeqCst));
        // A panic in here would be caught: it is told by a count that can't be.
        let early = if now_ns < deadline_ns { 1000 } else { 0 };
        self.wakes.fetch_add(1 + early, SeqCst);
    }
}

enum Nap {
    Active(Sleep<Active>),
    Elapsed(Sleep<Elapsed>),
}

struct Timer {
    nap: Nap,
    seen: Arc<Seen>,
}

impl Timer {
    fn new(manual: &Manual, elapsed: bool, after_ns: u64) -> Self {
        let clock = manual.clock().clock();
        let seen = Seen {
            clock: clock.clone(),
            elapsed,
            deadline_ns: AtomicU64::new(0),
            wakes: AtomicUsize::new(0),
        };
        let timekeeper = manual.timekeeper();
        let after = Duration::from_nanos(after_ns);
        let nap = if elapsed {
            Nap::Elapsed(timekeeper.sleep_until(clock.now_elapsed() + after))
        } else {
            Nap::Active(timekeeper.sleep_until(clock.now() + after))
        };
        let mut timer = Self { nap, seen: Arc::new(seen) };
        timer.note_deadline();
        timer
    }

    fn deadline_ns(&self) -> u64 {
        match &self.nap {
            Nap::Active(sleep) => sleep.deadline().as_nanos(),
            Nap::Elapsed(sleep) => sleep.deadline().as_nanos(),
        }
    }

    fn note_deadline(&mut self) {
        self.seen.deadline_ns.store(self.deadline_ns(), SeqCst);
    }

    fn reset(&mut self, after_ns: u64) {
        fn to<C: Class>(sleep: &mut Sleep<C>, now_ns: u64, after_ns: u64) {
            let at = Instant::<C>::from_nanos(now_ns.saturating_add(after_ns));
            Pin::new(sleep).reset(at);
        }
        let now_ns = self.seen.now_ns();
        match &mut self.nap {
            Nap::Active(sleep) => to(sleep, now_ns, after_ns),
            Nap::Elapsed(sleep) => to(sleep, now_ns, after_ns),
        }
        self.note_deadline();
    }

    /// Polls, and says whether it is over.
    fn poll(&mut self) -> bool {
        let waker = Waker::from(self.seen.clone());
        let mut cx = Context::from_waker(&waker);
        let poll = match &mut self.nap {
            Nap::Active(sleep) => Pin::new(sleep).poll(&mut cx),
            Nap::Elapsed(sleep) => Pin::new(sleep).poll(&mut cx),
        };
        if poll == Poll::Ready(()) {
            let (now_ns, deadline_ns) = (self.seen.now_ns(), self.deadline_ns());
            assert!(now_ns >= deadline_ns, "ready at {now_ns}, due {deadline_ns}");
        }
        poll.is_ready()
    }
}

struct Play {
    clock: ManualClock,
    manual: Manual,
    timers: Vec<Timer>,
    now_ns: u64,
    elapsed_ns: u64,
}

impl Play {
    fn new() -> Self {
        let clock = ManualClock::scripted(2_300_000_000);
        let manual = Manual::with_clock(clock.clone());
        clock.clock().warm_up();
        let mut play = Self { clock, manual, timers: Vec::new(), now_ns: 0, elapsed_ns: 0 };
        // As after the start: the first baseline.
        play.live(10, 1_000_000);
        play
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Pass(ns) => self.pass(ns),
            Op::Live(steps, ns) => self.live(u32::from(steps), ns),
            Op::Stall(ns) => {
                self.manual.stall(Duration::from_nanos(ns));
            }
            Op::Suspend(ns) => {
                self.manual.suspend(Duration::from_nanos(ns));
            }
            Op::Jump(witness, distance) => self.clock.jump(witness, distance),
            Op::Rate(witness, ppm) => self.clock.set_rate(witness, ppm),
            Op::Skew(cpu, ticks) => self.clock.set_skew(usize::from(cpu % 8), ticks),
            Op::Migrate(cpu) => self.clock.migrate(usize::from(cpu % 8)),
            Op::ReadCost(ns) => self.clock.set_read_cost(Duration::from_nanos(ns)),
            Op::Arm(ns) => self.arm(false, ns),
            Op::ArmElapsed(ns) => self.arm(true, ns),
            Op::Burst(count, ns) => {
                for i in 0..u64::from(count) {
                    self.arm(i % 2 == 1, ns.saturating_add(i));
                }
            }
            Op::Reset(pick, ns) => {
                if let Some(i) = usize::from(pick).checked_rem(self.timers.len()) {
                    self.timers[i].reset(ns);
                    if self.timers[i].poll() {
                        self.timers.swap_remove(i);
                    }
                }
            }
            Op::Cancel(pick) => {
                if let Some(i) = usize::from(pick).checked_rem(self.timers.len()) {
                    let timer = self.timers.swap_remove(i);
                    let seen = timer.seen.clone();
                    drop(timer);
                    assert_eq!(seen.wakes.load(SeqCst), 0, "cancelling woke somebody");
                }
            }
            Op::Read => {}
        }
    }

    fn arm(&mut self, elapsed: bool, after_ns: u64) {
        /// More than fit into a turn; and few enough that a script is quick.
        const MOST: usize = 2000;
        if self.timers.len() < MOST {
            let mut timer = Timer::new(&self.manual, elapsed, after_ns);
            if !timer.poll() {
                self.timers.push(timer);
            }
        }
    }

    fn live(&mut self, steps: u32, ns: u64) {
        for _ in 0..steps {
            self.pass(ns);
        }
    }

    /// Time passes, and the driver looks.
    fn pass(&mut self, ns: u64) {
        self.clock.advance(Duration::from_nanos(ns));
        let clock = self.clock.clock();
        let (safe_ns, elapsed_ns) = (clock.sample().safe_ns, clock.now_elapsed().as_nanos());
        let due = |timer: &Timer| {
            timer.deadline_ns() <= if timer.seen.elapsed { elapsed_ns } else { safe_ns }
        };
        // What is safe may have become less: the driver's own look may show that a rate is in doubt. It
        // is settled a few looks later.
        for look in 0.. {
            self.manual.fast_forward(Duration::ZERO);
            self.settle();
            let late = self.timers.iter().filter(|timer| due(timer)).count();
            if late == 0 {
                break;
            }
            let now_ns = clock.sample().safe_ns;
            assert!(
                look < 20,
                "{late} timers were due at {safe_ns}, and have not fired at {now_ns}"
            );
            self.clock.advance(Duration::from_millis(1));
        }
    }

    /// Whoever was woken polls, and is over.
    fn settle(&mut self) {
        self.timers.retain_mut(|timer| {
            let wakes = timer.seen.wakes.load(SeqCst);
            assert!(wakes < 1000, "woken before its deadline");
            assert!(wakes <= 1, "woken {wakes} times");
            if wakes == 0 {
                return true;
            }
            // A reset may have come between the firing and the poll; else it is over.
            timer.seen.wakes.store(0, SeqCst);
            !timer.poll()
        });
    }

    fn check(&mut self) {
        // What a step has fired besides.
        self.settle();
        let clock = self.clock.clock();
        let (now_ns, elapsed_ns) = (clock.now().as_nanos(), clock.now_elapsed().as_nanos());
        assert!(now_ns >= self.now_ns, "time went back from {} to {now_ns}", self.now_ns);
        assert!(
            elapsed_ns >= self.elapsed_ns,
            "elapsed time went back from {} to {elapsed_ns}",
            self.elapsed_ns
        );
        (self.now_ns, self.elapsed_ns) = (now_ns, elapsed_ns);
    }

    /// With witnesses that are sound again, timers take as long as they should.
    fn end(&mut self) {
        for witness in [
            Witness::Counter,
            Witness::Monotonic,
            Witness::Boottime,
            Witness::Realtime,
            Witness::Raw,
        ] {
            self.clock.set_rate(witness, 0);
        }
        (0..8).for_each(|cpu| self.clock.set_skew(cpu, 0));
        self.clock.set_read_cost(Duration::from_nanos(20));
        if self.now_ns.max(self.elapsed_ns) > u64::MAX / 2
            || self.clock.witness(Witness::Monotonic) > u64::MAX / 2
        {
            return;
        }
        self.live(300, 10_000_000);
        self.check();
        self.expect_punctual(false);
        self.expect_punctual(true);
        // All that is left fires, in its time.
        while let Some(next) = self.manual.next_deadline() {
            if next.as_nanos() > u64::MAX / 2 {
                return;
            }
            let left = self.timers.len();
            self.manual.advance_to_next();
            self.settle();
            assert!(self.timers.len() < left, "{left} timers left, and none fires at {next:?}");
        }
        assert!(self.timers.is_empty(), "{} timers that nobody will fire", self.timers.len());
        assert_eq!(self.manual.timekeeper().stats().live, 0);
    }

    /// A new timer of 100 ms fires within 101 ms, and what the clock is ahead of its reference.
    fn expect_punctual(&mut self, elapsed: bool) {
        let clock = self.clock.clock();
        let ahead_ns = if elapsed {
            let raw_ns = self.clock.held().timebase.elapsed_ns();
            clock.now_elapsed().as_nanos() - raw_ns
        } else {
            let reading = clock.sample();
            clock.now().as_nanos().saturating_sub(reading.safe_ns)
        };
        let mut timer = Timer::new(&self.manual, elapsed, 100_000_000);
        assert!(!timer.poll());
        let most_ms = 101 + ahead_ns / 1_000_000 * 11 / 10;
        let took_ms = (1..=most_ms).find(|_| {
            self.pass(1_000_000);
            timer.seen.wakes.load(SeqCst) > 0
        });
        let took_ms = took_ms.unwrap_or_else(|| panic!("100 ms take more than {most_ms} ms"));
        assert!(took_ms >= 99, "100 ms took {took_ms} ms");
        assert!(timer.poll());
    }
}

#[cfg(all(test, not(any(deadbeat_loom, deadbeat_shuttle))))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        // A case plays some seconds of time, a millisecond at a time.
        #![proptest_config(ProptestConfig {
            cases: ProptestConfig::default().cases / 4,
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn no_script_of_clock_faults_breaks_a_promise(
            bytes in prop::collection::vec(any::<u8>(), 0..120),
        ) {
            fuzz(&bytes);
        }
    }
}
