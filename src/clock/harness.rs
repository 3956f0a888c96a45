//! Scripts for the witnesses, played against what the clock promises.
//!
//! For property tests and fuzz targets: [`decode`] makes a script of any bytes, [`run`] plays it
//! and panics if a promise is broken.

use std::time::Duration;

use super::{Clock, ManualClock, Source, Witness, discipline::SPAN_NS, report::OsReason};

/// One step of a script.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Op {
    /// Time passes, in nanoseconds, and nobody looks.
    Advance(u64),
    /// The time is read.
    Read,
    /// The driver looks at the clock.
    Sample,
    /// Time passes in small steps, with a sample after each.
    Live {
        /// How many steps.
        steps: u8,
        /// How long each is, in nanoseconds.
        step_ns: u64,
    },
    /// A witness runs so many ppm faster or slower from now on.
    Rate(Witness, i64),
    /// A witness jumps, by ticks or nanoseconds.
    Jump(Witness, i64),
    /// Reading a kernel clock takes so many nanoseconds from now on.
    ReadCost(u64),
}

/// Makes a script of bytes. Any bytes make one.
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
        let witness = match kind >> 4 & 3 {
            0 => Witness::Counter,
            1 => Witness::Boottime,
            2 => Witness::Realtime,
            _ => Witness::Monotonic,
        };
        ops.push(match kind & 15 {
            0..3 => Op::Advance(amount(arg(), arg())),
            3..6 => Op::Read,
            6..8 => Op::Sample,
            8..12 => Op::Live { steps: arg(), step_ns: amount(arg(), arg() % 20) },
            12 => Op::Rate(witness, signed(arg(), arg() % 14)),
            13 => Op::Rate(witness, signed(arg(), arg() % 6)),
            14 => Op::Jump(witness, signed(arg(), arg())),
            _ => Op::ReadCost(amount(arg(), arg() % 12)),
        });
    }
    ops
}

/// Plays a script.
///
/// # Panics
///
/// If the clock breaks a promise.
pub fn run(ops: &[Op]) {
    let mut play = Play::new();
    for op in ops {
        play.step(*op);
    }
    play.end();
}

/// It is calm when no rate has changed for so long since an anchor that has seen the rates.
const CALM_NS: u64 = 300_000_000;
/// An anchor has seen the rates when they are what they were for so long before it.
const SEEN_NS: u64 = 100_000_000;

struct Play {
    manual: ManualClock,
    clock: Clock,
    /// The latest time that `now` has served.
    served_ns: u64,
    /// What the reference is made up for.
    shift_ns: u64,
    /// The latest elapsed time.
    elapsed_ns: u64,
    /// The latest that the timebase has served, before it is held to the last.
    raw_ns: u64,
    counter_is_sound: bool,
    counter_stands: bool,
    /// `CLOCK_MONOTONIC` has never been slower than a kernel may make it: an eighth, as for the discipline.
    reference_is_sound: bool,
    /// `CLOCK_MONOTONIC` has gone back since the last look at it.
    reference_went_back: bool,
    /// How long it is since the last change.
    since_ns: u64,
    /// How many anchors there were when the next was one that sees the rates.
    anchors: Option<u64>,
    /// How long it has been calm.
    calm_ns: u64,
    /// What the reference was made up for then.
    calm_shift_ns: u64,
}

impl Play {
    fn new() -> Self {
        let manual = ManualClock::scripted(2_300_000_000);
        let clock = manual.clock();
        Self {
            manual,
            clock,
            served_ns: 0,
            raw_ns: 0,
            shift_ns: 0,
            elapsed_ns: 0,
            counter_is_sound: true,
            counter_stands: false,
            reference_is_sound: true,
            reference_went_back: false,
            since_ns: 0,
            anchors: None,
            calm_ns: 0,
            calm_shift_ns: 0,
        }
    }

    fn step(&mut self, op: Op) {
        match op {
            Op::Advance(ns) => self.advance(ns),
            Op::Read => self.read(),
            Op::Sample => self.sample(),
            Op::Live { steps, step_ns } => {
                for _ in 0..steps {
                    self.advance(step_ns);
                    self.sample();
                    self.read();
                }
            }
            Op::Rate(witness, ppm) => {
                self.manual.set_rate(witness, ppm);
                if witness == Witness::Counter {
                    self.counter_stands = ppm <= -1_000_000;
                }
                self.reference_is_sound &= witness != Witness::Monotonic || ppm >= -125_000;
                self.disturb(witness);
            }
            Op::Jump(witness, distance) => {
                self.manual.jump(witness, distance);
                self.reference_went_back |= witness == Witness::Monotonic && distance < 0;
                self.disturb(witness);
            }
            Op::ReadCost(ns) => {
                self.manual.set_read_cost(Duration::from_nanos(ns));
                self.disturb(Witness::Realtime);
            }
        }
    }

    fn disturb(&mut self, witness: Witness) {
        self.counter_is_sound &= witness != Witness::Counter;
        (self.since_ns, self.anchors, self.calm_ns) = (0, None, 0);
    }

    fn advance(&mut self, ns: u64) {
        self.manual.advance(Duration::from_nanos(ns));
        self.since_ns = self.since_ns.saturating_add(ns);
        let shift_ns = self.manual.held().timebase.shift_ns();
        if shift_ns != self.calm_shift_ns {
            // The reference is not just what a witness reads, but what was made of that.
            self.calm_shift_ns = shift_ns;
            (self.since_ns, self.anchors, self.calm_ns) = (0, None, 0);
        }
        let reanchors = self.clock.stats().reanchors;
        match self.anchors {
            None if self.since_ns >= SEEN_NS => self.anchors = Some(reanchors),
            Some(anchors) if reanchors > anchors => {
                self.calm_ns = self.calm_ns.saturating_add(ns);
            }
            _ => {}
        }
    }

    /// `CLOCK_MONOTONIC`, made up for what it has lost by going back.
    fn reference_ns(&self) -> u64 {
        let shift_ns = self.manual.held().timebase.shift_ns();
        self.manual.witness(Witness::Monotonic).saturating_add(shift_ns)
    }

    fn read(&mut self) {
        let before_ns = self.reference_ns();
        let (raw_ns, error_ns) = self.manual.held().timebase.now_and_error_ns();
        let after_ns = self.reference_ns();
        // It has come out during the read that a leap made up for an earlier one.
        let (before_ns, after_ns) = (before_ns.min(after_ns), before_ns.max(after_ns));
        self.check_raw(raw_ns);
        // That a counter stands still shows to the driver only.
        let same = self.manual.held().timebase.shift_ns() == self.calm_shift_ns;
        if self.calm_ns >= CALM_NS && same && !self.counter_stands {
            assert!(
                (before_ns.saturating_sub(error_ns)..=after_ns.saturating_add(error_ns))
                    .contains(&raw_ns),
                "{raw_ns} is more than {error_ns} from {before_ns}..={after_ns}"
            );
        }
        for now in [self.clock.now(), self.clock.now_unordered()] {
            assert!(now.as_nanos() >= self.served_ns, "now went back");
            self.served_ns = now.as_nanos();
        }
        let raw_ns = self.manual.held().timebase.now_ns();
        self.check_raw(raw_ns);
        let elapsed_ns = self.clock.now_elapsed().as_nanos();
        assert!(elapsed_ns >= self.elapsed_ns, "elapsed time went back");
        self.elapsed_ns = elapsed_ns;
    }

    /// What the timebase reads before it is held to what it has read before: even that goes back
    /// only if a witness does, and by no more than a horizon if it is the counter.
    fn check_raw(&mut self, raw_ns: u64) {
        let shift_ns = self.manual.held().timebase.shift_ns();
        // Once it has been found out that a leap made up for an earlier one.
        let rejoined = std::mem::replace(&mut self.shift_ns, shift_ns) > shift_ns;
        let went_back = std::mem::take(&mut self.reference_went_back) || rejoined;
        let by_counter = self.clock.source() == Source::Counter;
        if went_back && !by_counter {
            self.raw_ns = raw_ns;
        }
        if self.counter_is_sound && self.reference_is_sound && !went_back {
            assert!(raw_ns >= self.raw_ns, "{raw_ns} after {}, the counter is sound", self.raw_ns);
        }
        // A line bends by 500 ppm at most.
        let horizon_ns = SPAN_NS + SPAN_NS / 2000 + 1;
        assert!(
            raw_ns >= self.raw_ns.saturating_sub(horizon_ns),
            "{raw_ns} after {}: more than a horizon",
            self.raw_ns
        );
        self.raw_ns = if went_back { raw_ns } else { self.raw_ns.max(raw_ns) };
    }

    fn sample(&mut self) {
        if matches!(self.clock.source(), Source::Os(OsReason::NotCalibrated)) {
            self.clock.warm_up();
        }
        let reading = self.clock.sample();
        let reference_ns = self.reference_ns();
        assert!(reading.safe_ns <= reference_ns, "{reading:?} at {reference_ns}");
        assert!(reading.safe_ns <= reading.now_ns, "{reading:?}");
        assert!(reading.now_ns >= self.served_ns, "{reading:?}, {} served", self.served_ns);
        self.served_ns = reading.now_ns;
        for deadline_ns in [0, reading.now_ns, u64::MAX] {
            let shift_ns = self.manual.held().timebase.shift_ns();
            let until_ns = self.clock.kernel_deadline(deadline_ns);
            assert!(until_ns.saturating_add(shift_ns) >= deadline_ns);
        }
        let raw_ns = self.manual.held().timebase.now_ns();
        self.check_raw(raw_ns);
    }

    /// Whatever came before: with witnesses that are sound again, the clock recovers.
    fn end(&mut self) {
        for witness in [Witness::Counter, Witness::Monotonic, Witness::Boottime, Witness::Realtime]
        {
            self.manual.set_rate(witness, 0);
        }
        self.counter_stands = false;
        self.manual.set_read_cost(Duration::from_nanos(20));
        self.disturb(Witness::Boottime);
        if self.reference_ns().max(self.served_ns) > u64::MAX / 2 {
            return;
        }
        self.live(2000);
        let ahead_ns = self.raw_ahead_ns();
        assert!(ahead_ns >= -1000, "{ahead_ns} ns, behind after two seconds");
        self.live(1000);
        let then_ns = self.raw_ahead_ns();
        assert!(
            then_ns <= 1000.max(ahead_ns - 400_000),
            "{ahead_ns} ns ahead, a second later {then_ns}"
        );
        assert!(then_ns >= -1000, "{then_ns} ns, behind after three seconds");
    }

    fn live(&mut self, ms: u32) {
        for _ in 0..ms {
            self.advance(1_000_000);
            self.sample();
            self.read();
        }
    }

    /// How far the time is ahead of the reference.
    fn raw_ahead_ns(&self) -> i64 {
        let raw_ns = self.manual.held().timebase.now_ns();
        raw_ns.cast_signed() - self.reference_ns().cast_signed()
    }
}
