//! From samples to lines: the counter, disciplined by `CLOCK_MONOTONIC`.
//!
//! A sans-IO core. [`observe`](Discipline::observe) takes a [`Sample`] and updates what is known of
//! the rate; [`line`](Discipline::line) then draws the next [`Line`] through the pivot at which it
//! is to begin. The caller samples and publishes, whenever a read meets the horizon and whenever
//! the driver is about to sleep or has woken; the core never asks to be called.
//!
//! # Where a line begins
//!
//! Let *ref* be the interval in which the reference lies at the new pivot: the last anchor carried
//! on by the ticks since, a bracket wide. The *target* is the old line drawn on to the pivot, moved
//! into *ref* if it isn't there. The new line begins
//!
//! 1. at a pivot within the old line's horizon: **exactly at the old line's value**, and slews
//!    towards the target, so that whoever read the old line before the pivot read no more than
//!    whoever reads the new one after it. If the target is ahead by more than a slew within the
//!    horizon covers, it begins at the target: a step, forward only.
//! 2. at a pivot beyond the horizon: nobody can have been served more than the old line's last
//!    value, since readers check the horizon, so **at the target, or at that last value if it is
//!    later**. A silent process meets its clock corrected, and not in the middle of a slew.
//! 3. at a pivot that a sound counter can't have: before the old one, or so far beyond the horizon
//!    that no slew of the reference explains it. What the old line can have served *by now*, as the
//!    reference has it, **is the floor instead of the last value**: so a counter that leaps an hour
//!    doesn't move our time, and one that is reset doesn't stop it.
//!
//! By 1 and 2 no read is behind an earlier one of any thread while the counter is sound, however
//! the reference is slewed or stepped. (Two coincidences are taken for a fault of the counter: a
//! kernel that lets `CLOCK_MONOTONIC` go back, against its promise, by just as much as the process
//! has been silent, give or take a horizon; and one whose `CLOCK_MONOTONIC` stands still, or nearly so, while
//! its `CLOCK_REALTIME` has been set.) After a fault, 3 may begin below what a faulty counter
//! made some threads read: by no more than the old line is long, for beyond its horizon it isn't
//! read. A step back within the horizon is too small for readers to see, too, and makes threads
//! disagree by no more than that. Within one thread the caller holds every read to the ones before.
//!
//! # The rate
//!
//! See [`rate`](super::rate). The rate over the longest baseline is used until a new sample
//! disagrees with it by more than the error bars: over the last interval, or over the last 50 to
//! 100 ms. Then the window restarts. A slight change (at most 500 ppm; NTP at work) is adopted
//! from the interval that showed it. After a greater one (a fast slew, a migrated or restored
//! machine, a fault) nothing is known: until there is a new baseline of 5 ms, lines are short
//! ([`DOUBTFUL_SPAN_NS`]) and run at the slower of the old rate and the one just seen, because what
//! is behind may be stepped forward, and what is ahead must be waited for. A rate that no kernel
//! can have asked for (they end at 10 %) needs two baselines that agree, and counts as a fault.
//!
//! # Jumps
//!
//! Each sample is compared with the one before ([`classify`]). What the kernel's clocks
//! did among themselves is known at once. When counter and reference disagree, it takes the next baseline
//! to tell a leap, after which the rate is what it was, from another rate: until then it is a suspect.
//! (But a counter that went back has leapt, and so has a reference that is further ahead than any slew
//! takes it.)
//!
//! A reference that goes back is *shifted*: from then on it is taken for what it reads and what it has
//! lost, so that nobody waits for it to make up for that. When it leaps forward again, the shift is used
//! up first. In the same way `CLOCK_BOOTTIME`, for elapsed time.
//!
//! # The error bound
//!
//! Each line carries the distance to the farther end of *ref* at its pivot, remaining phase
//! included, and the rate's bound. It holds while rates are what they have been over the last tenth
//! of a second with a sample at either end, by which time any change that matters has been told from
//! the brackets' width. A change by *x* since then adds up to *x* times the horizon: 20 ns for 1 ppm,
//! 1.7 ms for the fastest slew that chrony makes, until the next sample shows it.

mod running;
mod shifts;
mod suspect;

use running::Running;
use shifts::Shifts;
use suspect::{Found, progress};

use super::{
    Instant,
    classify::{self, Side},
    jump::{Jump, JumpKind, Passed},
    line::Line,
    rate::{Anchor, Rate, Window},
    report::OsReason,
    ticks,
    witness::{Bracket, Sample},
};

/// The horizon of an ordinary line: how long a read may go without a look at the reference.
pub(crate) const SPAN_NS: u64 = 20_000_000;

const _: () = assert!(SPAN_NS + SPAN_NS / SLIGHT <= Line::MAX_SPAN_NS);

/// The horizon while the rate is in doubt.
pub(crate) const DOUBTFUL_SPAN_NS: u64 = 1_000_000;

/// The shortest baseline that makes a rate.
pub(crate) const MIN_BASELINE_NS: u64 = 5_000_000;

/// The counter isn't used if reading the reference between two readings of it takes longer, at the
/// least: far more than a system call costs, even where reading the counter is emulated.
const MAX_HALF_BRACKET_NS: u64 = 25_000;

/// By how much, in parts of the rate, a slew or a slight change of rate may differ: 500 ppm.
const SLIGHT: u64 = 2000;

/// By how much a kernel may change the rate of `CLOCK_MONOTONIC`: an eighth, a little over the 10 %
/// that Linux accepts.
const KERNEL_LIMIT: u64 = 8;

/// What counter and reference may differ by, besides what a kernel may have slewed, before the
/// counter is taken to have leapt.
const LEAP_NS: u64 = 2 * SPAN_NS;

/// What the reference's own steps add: the kernel dithers its multiplier, some clocks are coarse.
const NOISE_NS: u64 = if cfg!(target_os = "linux") { 16 } else { 120 };

/// This many faults, without a second of soundness between them, and the counter is given up.
const MAX_FAULTS: u32 = 8;

/// How long the counter isn't tried again after it was given up, at first; twice as long each time.
const FIRST_EXILE_NS: u64 = ticks::NANOS_PER_SEC;

/// And at the longest: a little over a quarter of an hour.
const LONGEST_EXILE_NS: u64 = 1024 * FIRST_EXILE_NS;

/// This many first baselines whose halves disagree, and the counter isn't used at all.
const MAX_BASELINES: u32 = 3;

/// How often the discipline did what. Only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) reanchors: u64,
    pub(crate) steps: u64,
    pub(crate) history_resets: u64,
    pub(crate) faults: u64,
}

/// The discipline's state. See the module's doc.
#[derive(Debug)]
pub(crate) struct Discipline {
    phase: Phase,
    /// Brackets up to this width are narrow: twice the narrowest there was, relaxed when it is not
    /// met for a while.
    narrow_ticks: u64,
    counts: Counts,
    /// Faults since the last second of soundness.
    recent_faults: u32,
    /// The last sample of all witnesses, shifted: what the next is compared with.
    last: Option<Sample>,
    /// A clock that goes back was told to, and is followed.
    is_truth: bool,
    shifts: Shifts,
    /// That has changed since the last line: the reference may not be where it was.
    reference_moved: bool,
    /// What was found out and not yet asked for.
    found: Vec<Found>,
    /// How long the counter is left alone when it is given up: longer after each test that came of it.
    exile_ns: u64,
    /// When the counter may be tested again, by the shifted reference.
    retest_at_ns: u64,
}

#[derive(Debug)]
enum Phase {
    /// The OS clock is served.
    Off(OsReason),
    /// The OS clock is served until the first baseline exists.
    Baseline { first: Anchor, middle: Option<Anchor>, attempts: u32 },
    /// The counter is served.
    Running(Box<Running>),
}

/// How the two halves of the first baseline compare.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Baseline {
    pub(crate) rate: Rate,
    pub(crate) halves_apart: u64,
    pub(crate) half_bracket_ns: u64,
}

impl Discipline {
    /// With `is_truth`, no clock is wrong, whatever it does: there is nothing to be made up for.
    pub(crate) const fn new(is_truth: bool) -> Self {
        Self {
            is_truth,
            phase: Phase::Off(OsReason::NotCalibrated),
            narrow_ticks: u64::MAX,
            counts: Counts { reanchors: 0, steps: 0, history_resets: 0, faults: 0 },
            recent_faults: 0,
            last: None,
            shifts: Shifts::NONE,
            reference_moved: false,
            found: Vec::new(),
            exile_ns: FIRST_EXILE_NS,
            retest_at_ns: u64::MAX,
        }
    }

    /// Serves the OS clock from the next line on, for `reason`.
    pub(crate) fn retire(&mut self, reason: OsReason) {
        self.phase = Phase::Off(reason);
    }

    /// Begins the first baseline, or one after a [`retest`](Self::is_retest_due).
    pub(crate) fn begin(&mut self, sample: &Sample) {
        let sample = self.compare(sample);
        self.retest_at_ns = u64::MAX;
        match Anchor::of(&sample) {
            Some(first) => {
                self.narrow_ticks = narrow(sample.bracket.width());
                self.recent_faults = 0;
                self.phase = Phase::Baseline { first, middle: None, attempts: 1 };
            }
            None => self.retire(OsReason::CounterWentBack),
        }
    }

    /// Whether the counter, given up for its faults, has been left alone for long enough.
    pub(crate) fn is_retest_due(&self, monotonic_ns: u64) -> bool {
        monotonic_ns.saturating_add(self.shifts.monotonic_ns) >= self.retest_at_ns
    }

    /// When a retest is due, `u64::MAX` if none is. By `CLOCK_MONOTONIC` as it is.
    pub(crate) fn retest_at_ns(&self) -> u64 {
        match self.retest_at_ns {
            u64::MAX => u64::MAX,
            at => at.saturating_sub(self.shifts.monotonic_ns),
        }
    }

    /// Puts the next retest off, because one is under way or has failed.
    pub(crate) fn put_off_retest(&mut self, monotonic_ns: u64) {
        let now_ns = monotonic_ns.saturating_add(self.shifts.monotonic_ns);
        self.exile_ns = (self.exile_ns * 2).min(LONGEST_EXILE_NS);
        self.retest_at_ns = now_ns.saturating_add(self.exile_ns);
    }

    /// What to add to `CLOCK_MONOTONIC` and `CLOCK_BOOTTIME`, because they went back.
    pub(crate) fn shifts_ns(&self) -> (u64, u64) {
        (self.shifts.monotonic_ns, self.shifts.boottime_ns)
    }

    /// The jumps that were found out since the last call.
    pub(crate) fn take_found(&mut self) -> Vec<Found> {
        std::mem::take(&mut self.found)
    }

    /// Why the OS clock is served; `None` if the counter is.
    pub(crate) fn os_reason(&self) -> Option<&OsReason> {
        match &self.phase {
            Phase::Off(reason) => Some(reason),
            Phase::Baseline { .. } => Some(&OsReason::Calibrating),
            Phase::Running(_) => None,
        }
    }

    /// Whether the first baseline has begun and isn't complete.
    pub(crate) fn is_calibrating(&self) -> bool {
        matches!(self.phase, Phase::Baseline { .. })
    }

    pub(crate) fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running(_))
    }

    pub(crate) fn rate(&self) -> Option<Rate> {
        match &self.phase {
            Phase::Running(running) => Some(running.rate),
            _ => None,
        }
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// How many brackets to try, and which width is enough.
    ///
    /// As long as the baseline is short, the rate is only as good as its ends: then it is worth a
    /// microsecond, once in a millisecond, to have one that is hardly wider than the narrowest.
    pub(crate) fn bracketing(&self) -> (u32, u64) {
        match &self.phase {
            Phase::Off(_) | Phase::Baseline { .. } => (16, 0),
            Phase::Running(running) if running.is_young() => (16, self.narrow_ticks / 16 * 9),
            Phase::Running(_) => (4, self.narrow_ticks),
        }
    }

    /// Takes note of a sample. Returns the first baseline if this completes it.
    ///
    /// *O*(1); allocates only when it finds a jump.
    pub(crate) fn observe(&mut self, sample: &Sample) -> Option<Baseline> {
        let before = self.last;
        let sample = &self.compare(sample);
        let Some(anchor) = Anchor::of(sample) else {
            self.fault(sample);
            return None;
        };
        let is_narrow = self.judge_width(&sample.bracket);
        match &mut self.phase {
            Phase::Off(_) => None,
            Phase::Baseline { .. } => self.observe_baseline(anchor),
            Phase::Running(running) => {
                let seen = running.observe(anchor, is_narrow, before.as_ref(), sample);
                self.counts.history_resets += u64::from(seen.restarted);
                self.found.extend(seen.found);
                if seen.fault {
                    self.fault(sample);
                } else if seen.sound {
                    self.recent_faults = 0;
                }
                None
            }
        }
    }

    /// Compares the kernel's clocks with what they read before, and shifts those that went back.
    /// Returns the sample as it is to be taken.
    fn compare(&mut self, sample: &Sample) -> Sample {
        let mut sample = self.shifts.applied(sample);
        let Some(last) = self.last else {
            self.last = Some(sample);
            return sample;
        };
        let counter_ns = match &self.phase {
            Phase::Running(running) => progress(running.rate, &last, &sample),
            _ => None,
        };
        // As they are, for the record.
        let passed = classify::passed(&last, &sample, counter_ns);
        if !self.is_truth {
            let shift_ns = self.shifts.monotonic_ns;
            self.found.extend(self.shifts.shift_monotonic(&last, &mut sample, &passed));
            self.reference_moved |= self.shifts.monotonic_ns != shift_ns;
            self.found.extend(self.shifts.shift_boottime(&last, &mut sample, &passed));
        }
        let kernel = classify::kernel_clocks(&last, &sample);
        if kernel.boottime_ns > 0 {
            self.found(JumpKind::Suspend, kernel.boottime_ns, passed);
        }
        // If the reference alone moved, it is that that did.
        let passed_now = classify::passed(&last, &sample, counter_ns);
        let apart_ns = counter_ns.map_or(0, |ns| passed_now.monotonic_ns.saturating_sub(ns));
        let by_reference = apart_ns.unsigned_abs() > kernel.realtime_ns.unsigned_abs() / 2
            && Side::of(&passed_now) == Side::Counter;
        if kernel.realtime_ns != 0 && !by_reference {
            self.found(JumpKind::WallStep, kernel.realtime_ns, passed);
        }
        self.last = Some(sample);
        sample
    }

    fn found(&mut self, kind: JumpKind, size_ns: i64, passed: Passed) {
        self.found.push(Found::new(kind, size_ns, passed));
    }

    /// Begins the first baseline anew, or ends it: at 5 ms, if its halves agree.
    fn observe_baseline(&mut self, anchor: Anchor) -> Option<Baseline> {
        let Phase::Baseline { first, middle, attempts } = &mut self.phase else { return None };
        if anchor.tick <= first.tick || anchor.ns < first.ns {
            self.retire(OsReason::CounterWentBack);
            return None;
        }
        let Some(between) = *middle else {
            if anchor.ns_since(first) >= MIN_BASELINE_NS / 2 {
                *middle = Some(anchor);
            }
            return None;
        };
        if anchor.ns_since(first) < MIN_BASELINE_NS
            || anchor.ns_since(&between) < MIN_BASELINE_NS / 4
        {
            return None;
        }
        let (Some(rate), Some(early), Some(late)) = (
            Rate::between(first, &anchor),
            Rate::between(first, &between),
            Rate::between(&between, &anchor),
        ) else {
            self.retire(OsReason::CounterWentBack);
            return None;
        };
        let half_bracket_ns = ticks::ns_ceil(anchor.half_ticks, rate.mult);
        let baseline = Baseline { rate, halves_apart: early.distance(&late), half_bracket_ns };
        if half_bracket_ns > MAX_HALF_BRACKET_NS {
            self.retire(OsReason::CounterSlow { bracket_ns: half_bracket_ns.saturating_mul(2) });
        } else if early.agrees(&late) {
            self.phase = Phase::Running(Box::new(Running::new(*first, anchor, rate)));
        } else if *attempts < MAX_BASELINES {
            (*first, *middle, *attempts) = (anchor, None, *attempts + 1);
            return None;
        } else {
            self.retire(OsReason::RatesDisagree);
        }
        Some(baseline)
    }

    /// Whether the bracket is narrow enough to measure a rate by, by a standard that adapts.
    fn judge_width(&mut self, bracket: &Bracket) -> bool {
        let width = bracket.width();
        if width <= self.narrow_ticks {
            self.narrow_ticks = self.narrow_ticks.min(narrow(width));
            true
        } else {
            self.narrow_ticks = self.narrow_ticks.saturating_add(self.narrow_ticks / 8 + 1);
            false
        }
    }

    fn fault(&mut self, sample: &Sample) {
        self.counts.faults += 1;
        self.recent_faults += 1;
        if self.recent_faults > MAX_FAULTS && self.is_running() {
            self.retire(OsReason::CounterFaulty { faults: self.counts.faults });
            self.retest_at_ns = sample.bracket.monotonic_ns.saturating_add(self.exile_ns);
        }
    }

    /// The line to publish, beginning at `pivot`, which the caller has read inside the write
    /// section; `old` is the line that is in force there.
    ///
    /// `None` if the sample is so old at the pivot that it should be repeated (the thread was
    /// preempted, or the counter has leapt), unless `last_try`.
    pub(crate) fn line(&mut self, old: &Line, pivot: u64, last_try: bool) -> Option<Line> {
        let Phase::Running(running) = &mut self.phase else {
            let moved = std::mem::take(&mut self.reference_moved);
            let last = self.last.filter(|_| !moved);
            let reference_ns = last.map(|sample| sample.bracket.monotonic_ns);
            let floor = if old.is_os() { old.pivot_ns } else { served(old, pivot, reference_ns) };
            return Some(Line::os(floor, self.shifts.monotonic_ns));
        };
        let reference = running.reference_at(pivot, last_try)?;
        let mut line = running.base_line(pivot);
        let step_ns = ticks::ns_floor(line.span_ticks, line.mult / SLIGHT);

        let begin = if old.is_os() {
            // Nobody who read the OS clock has seen more than the upper end.
            Beginning { start: reference.high.max(old.pivot_ns), target: reference.high }
        } else {
            let target = old.extended(pivot).clamp(reference.low, reference.high);
            match old.value(pivot) {
                Some(value) if target.saturating_sub(value) > step_ns => {
                    self.counts.steps += 1;
                    Beginning { start: target, target }
                }
                Some(value) => Beginning { start: value, target },
                None => {
                    let witness = (!self.reference_moved).then_some(reference.high);
                    Beginning { start: target.max(served(old, pivot, witness)), target }
                }
            }
        };
        self.reference_moved = false;
        self.counts.reanchors += 1;

        line.pivot_ns = begin.start.min(Line::MAX_PIVOT_NS);
        // A change that shows in no bracket may have been as large as what passes for noise.
        line.error_ns = begin
            .start
            .saturating_sub(reference.low)
            .max(reference.high.saturating_sub(begin.start))
            .saturating_add(NOISE_NS)
            // A reading is of the last tick.
            .saturating_add(ticks::ns_ceil(1, line.mult));
        line.slew(begin.start, begin.target);
        Some(line)
    }
}

struct Beginning {
    start: u64,
    target: u64,
}

/// The latest time that `old` can have served to a reader whose counter was sound, at a `pivot`
/// outside of it; `reference_ns` is the latest that the reference can be, if it can be trusted.
fn served(old: &Line, pivot: u64, reference_ns: Option<u64>) -> u64 {
    if let Some(value) = old.value(pivot) {
        return value;
    }
    let last = old.last_ns();
    let Some(reference_ns) = reference_ns else { return last };
    // How long the old line has been in force, by the reference and by the counter.
    let by_reference = reference_ns.saturating_sub(old.pivot_ns.saturating_sub(old.error_ns));
    let by_counter = old.extended(pivot) - old.pivot_ns;
    let at_most = by_reference.saturating_add(by_reference / (KERNEL_LIMIT - 1));
    if pivot >= old.pivot_tick && by_counter <= at_most.saturating_add(LEAP_NS) {
        return last;
    }
    // The counter can't be right, so the old line was read for as long as the reference says.
    last.min(old.pivot_ns.saturating_add(by_reference).saturating_add(old.error_ns))
}

/// Twice the narrowest, and a little for counters whose brackets are a tick or two.
fn narrow(width: u64) -> u64 {
    width.saturating_mul(2).saturating_add(4)
}

impl Line {
    /// Bends the line from `start` towards `target`, to arrive at the horizon if 500 ppm suffice.
    fn slew(&mut self, start: u64, target: u64) {
        let most = self.mult / SLIGHT;
        let bend = |phase| ticks::mult_nearest(phase, self.span_ticks).min(most);
        if target >= start {
            self.mult += bend(target - start);
        } else {
            self.mult -= bend(start - target);
        }
    }
}
