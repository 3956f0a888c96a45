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
//! the reference is slewed or stepped. (One coincidence is taken for a fault of the counter: a
//! kernel that lets `CLOCK_MONOTONIC` go back, against its promise, by just as much as the process
//! has been silent, give or take a horizon.) After a fault, 3 may begin below what a faulty counter
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

use super::{
    Instant,
    classify::{self, APART_NS, Side, signed_since},
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

/// How long nothing new must be seen after a slight change of rate: longer than the recent anchor's age.
const QUIET_NS: u64 = 250_000_000;

/// The counters of so many processors are told apart.
const CPUS: usize = 8;

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
    /// How much `CLOCK_MONOTONIC` has lost by going back.
    shift_ns: u64,
    /// That has changed since the last line: the reference may not be where it was.
    reference_moved: bool,
    /// How much `CLOCK_BOOTTIME` has.
    elapsed_shift_ns: u64,
    /// What was found out and not yet asked for.
    found: Vec<Found>,
    /// How long the counter is left alone when it is given up: longer after each test that came of it.
    exile_ns: u64,
    /// When the counter may be tested again, by the shifted reference.
    retest_at_ns: u64,
}

/// A jump, but for the time at which it was found out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    kind: JumpKind,
    size_ns: i64,
    rate_ppb: i64,
    passed: Passed,
}

impl Found {
    pub(crate) fn at(self, at: Instant) -> Jump {
        let Self { kind, size_ns, rate_ppb, passed } = self;
        Jump { kind, size_ns, rate_ppb, at, passed }
    }
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

#[derive(Debug)]
struct Running {
    window: Window,
    /// The last sample, however wide.
    latest: Anchor,
    rate: Rate,
    /// In doubt, `rate` is that of the window before.
    doubt: Option<Doubt>,
    /// What the rate must stay near, unless two baselines agree that it doesn't.
    nominal: u64,
    /// A disagreement, until it is known what it was.
    suspect: Option<Suspect>,
    /// When the window was restarted last, by the reference.
    restarted_ns: u64,
    /// The last anchors by processor.
    here: [Option<(usize, Anchor)>; CPUS],
    /// `CLOCK_MONOTONIC` against `CLOCK_MONOTONIC_RAW`.
    raw: RawWindow,
}

/// A disagreement between counter and reference: a leap, if the rate is then what it was.
#[derive(Clone, Copy, Debug)]
struct Suspect {
    /// By how much the reference got ahead of the counter.
    ahead_ns: i64,
    /// The counter's rate before, and that of `CLOCK_MONOTONIC_RAW`.
    rate: Rate,
    raw_rate: Option<Rate>,
    passed: Passed,
    /// The counter of this processor agrees with itself.
    consistent_here: bool,
    /// The counter went wrong while the machine was suspended, as counters do.
    excused: bool,
}

/// How `CLOCK_MONOTONIC` runs against the one that nobody slews, since the counter's rate changed.
#[derive(Clone, Copy, Debug, Default)]
struct RawWindow {
    base: Option<Anchor>,
    last: Option<Anchor>,
}

impl RawWindow {
    fn push(&mut self, sample: &Sample) {
        let Some(raw_ns) = sample.raw_ns else { return };
        /// The two are read one right after the other, tens of nanoseconds apart.
        const READS_NS: u64 = 50;
        let anchor = Anchor { tick: raw_ns, half_ticks: READS_NS, ns: sample.monotonic_after_ns };
        self.base.get_or_insert(anchor);
        self.last = Some(anchor);
    }

    fn rate(&self) -> Option<Rate> {
        Rate::between(&self.base?, &self.last?)
    }

    /// Begins anew, where it has come to.
    fn restart(&mut self) {
        self.base = self.last;
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Doubt {
    /// The slower rate to run at meanwhile.
    slow_mult: u64,
    /// An implausible rate, waiting for a second baseline to agree.
    candidate: Option<Rate>,
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
            shift_ns: 0,
            reference_moved: false,
            elapsed_shift_ns: 0,
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
        match Anchor::new(&sample.bracket) {
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
        monotonic_ns.saturating_add(self.shift_ns) >= self.retest_at_ns
    }

    /// When a retest is due, `u64::MAX` if none is. By `CLOCK_MONOTONIC` as it is.
    pub(crate) fn retest_at_ns(&self) -> u64 {
        match self.retest_at_ns {
            u64::MAX => u64::MAX,
            at => at.saturating_sub(self.shift_ns),
        }
    }

    /// Puts the next retest off, because one is under way or has failed.
    pub(crate) fn put_off_retest(&mut self, monotonic_ns: u64) {
        let now_ns = monotonic_ns.saturating_add(self.shift_ns);
        self.exile_ns = (self.exile_ns * 2).min(LONGEST_EXILE_NS);
        self.retest_at_ns = now_ns.saturating_add(self.exile_ns);
    }

    /// What to add to `CLOCK_MONOTONIC` and `CLOCK_BOOTTIME`, because they went back.
    pub(crate) fn shifts_ns(&self) -> (u64, u64) {
        (self.shift_ns, self.elapsed_shift_ns)
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
        let Some(anchor) = Anchor::new(&sample.bracket) else {
            self.fault(sample);
            return None;
        };
        let is_narrow = self.judge_width(&sample.bracket);
        match &mut self.phase {
            Phase::Off(_) => None,
            Phase::Baseline { .. } => self.observe_baseline(anchor),
            Phase::Running(running) => {
                running.raw.push(sample);
                let seen = running.observe(anchor, is_narrow, before.as_ref(), sample);
                running.note_place(sample.cpu, anchor);
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
        let mut sample = sample.shifted(self.shift_ns, self.elapsed_shift_ns);
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
            self.shift_monotonic(&last, &mut sample, &passed);
            self.shift_boottime(&last, &mut sample, &passed);
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

    /// Makes up for a `CLOCK_MONOTONIC` that went back, and takes that back when it leaps forward.
    fn shift_monotonic(&mut self, last: &Sample, sample: &mut Sample, passed: &Passed) {
        let lost_ns = last.monotonic_after_ns.saturating_sub(sample.bracket.monotonic_ns);
        let Passed { counter_ns, boottime_ns, realtime_ns, .. } = *passed;
        let expected_ns = classify::expected_ns([counter_ns, Some(boottime_ns), Some(realtime_ns)]);
        let apart_ns = counter_ns.map_or(0, |ns| passed.monotonic_ns.saturating_sub(ns));
        let more = if lost_ns > 0 {
            let due_ns = last.bracket.monotonic_ns.saturating_add(expected_ns);
            due_ns.max(last.monotonic_after_ns) - sample.bracket.monotonic_ns
        } else if apart_ns < 0
            && counter_ns.is_some_and(|ns| is_leap(apart_ns, ns))
            && Side::of(passed) == Side::Counter
        {
            apart_ns.unsigned_abs()
        } else {
            0
        };
        if more > 0 {
            self.reference_moved = true;
            self.shift_ns = self.shift_ns.saturating_add(more);
            *sample = sample.shifted(more, 0);
            let size_ns = i64::try_from(more).map_or(i64::MIN, |ns| -ns);
            self.found(JumpKind::OsRegression, size_ns, *passed);
            return;
        }
        // What it has gained over the others, beyond what a slight slew could.
        let gained_ns =
            passed.monotonic_ns.saturating_sub(i64::try_from(expected_ns).unwrap_or(i64::MAX));
        let slew_ns = i64::try_from(expected_ns / SLIGHT).unwrap_or(i64::MAX);
        let most_ns = slew_ns
            .saturating_add(APART_NS)
            .saturating_add(last.width_ns())
            .saturating_add(sample.width_ns());
        if self.shift_ns == 0 || gained_ns <= most_ns {
            return;
        }
        let back_ns = self.shift_ns.min(gained_ns.unsigned_abs());
        self.reference_moved = true;
        self.shift_ns -= back_ns;
        sample.bracket.monotonic_ns -= back_ns;
        sample.monotonic_after_ns =
            sample.monotonic_after_ns.saturating_sub(back_ns).max(sample.bracket.monotonic_ns);
        if is_leap(gained_ns, counter_ns.unwrap_or(0)) {
            self.found(JumpKind::Restore, gained_ns, *passed);
        }
    }

    /// The same for `CLOCK_BOOTTIME`, which ought to go with the reference at least.
    fn shift_boottime(&mut self, last: &Sample, sample: &mut Sample, passed: &Passed) {
        let reference_ns = sample.bracket.monotonic_ns.saturating_sub(last.bracket.monotonic_ns);
        let due_ns = last.boottime_ns.saturating_add(reference_ns);
        if sample.boottime_ns < last.boottime_ns {
            let more = due_ns - sample.boottime_ns;
            self.elapsed_shift_ns = self.elapsed_shift_ns.saturating_add(more);
            *sample = sample.shifted(0, more);
            // One regression, not two, if the reference went with it.
            if passed.monotonic_ns >= 0 {
                let size_ns = i64::try_from(more).map_or(i64::MIN, |ns| -ns);
                self.found(JumpKind::OsRegression, size_ns, *passed);
            }
        } else if self.elapsed_shift_ns > 0 && sample.boottime_ns > due_ns {
            let back_ns = self.elapsed_shift_ns.min(sample.boottime_ns - due_ns);
            self.elapsed_shift_ns -= back_ns;
            sample.boottime_ns -= back_ns;
        }
    }

    fn found(&mut self, kind: JumpKind, size_ns: i64, passed: Passed) {
        self.found.push(Found { kind, size_ns, rate_ppb: 0, passed });
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
            return Some(Line::os(floor, self.shift_ns));
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

impl Suspect {
    /// What it was, if it was a leap.
    fn kind(&self) -> JumpKind {
        classify::leap(&self.passed, self.ahead_ns, self.consistent_here).0
    }

    /// It was a leap; `None` if the machine was suspended meanwhile, which has been told.
    fn leap(self) -> Option<Found> {
        let (kind, size_ns) = classify::leap(&self.passed, self.ahead_ns, self.consistent_here);
        let found = Found { kind, size_ns, rate_ppb: 0, passed: self.passed };
        (!self.excused).then_some(found)
    }

    /// It was a change of rate, to `rate`, and of `CLOCK_MONOTONIC_RAW`'s to `raw_rate`.
    fn rate(self, rate: Rate, raw_rate: Option<Rate>) -> Found {
        let raw = self.raw_rate.zip(raw_rate).map(|(before, after)| before.change_ppb(&after));
        let (kind, rate_ppb) = classify::rate(self.rate.change_ppb(&rate), raw);
        Found { kind, size_ns: 0, rate_ppb, passed: self.passed }
    }
}

struct Beginning {
    start: u64,
    target: u64,
}

/// Where the reference is.
struct Reference {
    low: u64,
    high: u64,
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

/// How far the counter went from one sample to the next; `None` if it went back within one.
fn progress(rate: Rate, from: &Sample, to: &Sample) -> Option<i64> {
    let (from, to) = (Anchor::new(&from.bracket)?, Anchor::new(&to.bracket)?);
    let ns = |ticks| i64::try_from(ticks::ns_floor(ticks, rate.mult)).unwrap_or(i64::MAX);
    Some(match to.tick.checked_sub(from.tick) {
        Some(forward) => ns(forward),
        None => -ns(from.tick - to.tick),
    })
}

/// Whether counter and reference are further apart than any slew takes them.
fn is_leap(apart_ns: i64, counter_ns: i64) -> bool {
    let most = counter_ns.unsigned_abs() / (KERNEL_LIMIT - 1) + LEAP_NS;
    apart_ns.unsigned_abs() > most
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

/// What a sample showed.
#[derive(Default)]
struct Seen {
    restarted: bool,
    fault: bool,
    /// The rate has held for a second.
    sound: bool,
    /// What it turned out to be that made counter and reference disagree.
    found: Option<Found>,
}

impl Running {
    fn new(first: Anchor, last: Anchor, rate: Rate) -> Self {
        let mut window = Window::new(first);
        window.push(last);
        Self {
            window,
            latest: last,
            rate,
            doubt: None,
            nominal: rate.mult,
            suspect: None,
            restarted_ns: 0,
            here: [None; CPUS],
            raw: RawWindow::default(),
        }
    }

    /// Whether the baseline is shorter than a second.
    fn is_young(&self) -> bool {
        self.doubt.is_some() || self.window.baseline_ns(&self.latest) < ticks::NANOS_PER_SEC
    }

    /// Keeps the anchor as the last of this processor.
    fn note_place(&mut self, cpu: Option<usize>, anchor: Anchor) {
        let Some(cpu) = cpu else { return };
        self.here[cpu % CPUS] = Some((cpu, anchor));
    }

    /// Whether the counter of this processor, and the reference, went as far as each other since they
    /// were last read here, which another processor's since then did not.
    fn is_consistent_here(
        &self,
        rate: Rate,
        sample: &Sample,
        anchor: &Anchor,
        ahead_ns: i64,
    ) -> bool {
        let Some(Some((cpu, before))) = sample.cpu.map(|cpu| self.here[cpu % CPUS]) else {
            return false;
        };
        let Some(ticks) = anchor.tick.checked_sub(before.tick) else { return false };
        // Read here last, it is the very interval that has shown the disagreement.
        if Some(cpu) != sample.cpu || before == self.latest || before.tick == anchor.tick {
            return false;
        }
        let here_ns = signed_since(anchor.ns_since(&before), ticks::ns_floor(ticks, rate.mult));
        here_ns.unsigned_abs() < ahead_ns.unsigned_abs() / 8
    }

    fn observe(
        &mut self,
        anchor: Anchor,
        is_narrow: bool,
        before: Option<&Sample>,
        sample: &Sample,
    ) -> Seen {
        let previous = self.latest;
        let old = self.rate;
        let mut seen = if self.doubt.is_some() {
            self.settle(previous, anchor)
        } else {
            self.check(previous, anchor, is_narrow)
        };
        let was_known = self.suspect.is_none();
        seen.found = self.resolve(&seen, anchor);
        let fresh = before
            .filter(|_| seen.restarted)
            .map(|before| self.suspect(old, before, sample, &anchor));
        if seen.restarted && (was_known || fresh.is_some_and(|fresh| fresh.consistent_here)) {
            self.suspect = fresh;
            seen.fault &= self.suspect.is_none_or(|suspect| !suspect.excused);
            if self.is_certain() {
                seen.found = seen.found.or(self.suspect.take().and_then(Suspect::leap));
            }
        }
        if seen.restarted {
            self.raw.restart();
            self.restarted_ns = anchor.ns;
        }
        self.latest = anchor;
        seen
    }

    /// What a disagreement with the `rate` so far looks like when it is noticed.
    fn suspect(&self, rate: Rate, before: &Sample, sample: &Sample, anchor: &Anchor) -> Suspect {
        let counter_ns = progress(rate, before, sample);
        let passed = classify::passed(before, sample, counter_ns);
        let ahead_ns = passed.monotonic_ns.saturating_sub(counter_ns.unwrap_or(0));
        Suspect {
            ahead_ns,
            rate,
            raw_rate: self.raw.rate(),
            passed,
            consistent_here: self.is_consistent_here(rate, sample, anchor, ahead_ns),
            excused: classify::kernel_clocks(before, sample).boottime_ns > 0,
        }
    }

    /// Whether it needs no other sample to tell that it was a leap: counters don't go back, two counters
    /// are told apart at once, and no rate that a kernel may ask for takes its clock as far ahead as a
    /// restore does. That one mustn't wait: what it makes due fires now, or is forgiven now.
    fn is_certain(&self) -> bool {
        self.suspect.is_some_and(|suspect| {
            let counter_ns = suspect.passed.counter_ns.unwrap_or(0);
            suspect.consistent_here
                || counter_ns < 0
                || is_leap(suspect.ahead_ns, counter_ns) && suspect.kind() == JumpKind::Restore
        })
    }

    /// What the suspect was, once a baseline has told.
    fn resolve(&mut self, seen: &Seen, anchor: Anchor) -> Option<Found> {
        let suspect = self.suspect?;
        let baseline_ns = self.window.baseline_ns(&anchor);
        if seen.restarted || self.doubt.is_some() || baseline_ns < MIN_BASELINE_NS {
            // Not known yet. A rate that has gone back to what it was makes it a leap.
            return None;
        }
        let distance = self.rate.distance(&suspect.rate);
        let bounds = self.rate.bound.saturating_add(suspect.rate.bound);
        let by_rate = |mult: u64| {
            let ns = suspect.passed.monotonic_ns.unsigned_abs();
            ticks::ns_ceil(ticks::ticks_floor(ns, suspect.rate.mult), mult).saturating_add(NOISE_NS)
        };
        let half_ns = suspect.ahead_ns.unsigned_abs() / 2;
        if by_rate(distance.saturating_add(bounds)) < half_ns {
            self.suspect = None;
            return suspect.leap();
        }
        // A slight change is adopted from an interval that it may have come in the middle of, and then
        // once more; until that is over, and the error bars are well apart: a second at the most.
        let is_settled = baseline_ns >= ticks::NANOS_PER_SEC;
        let is_slight = distance <= suspect.rate.mult / SLIGHT;
        if is_slight && anchor.ns.saturating_sub(self.restarted_ns) < QUIET_NS {
            return None;
        }
        let change = suspect.rate.change_ppb(&self.rate).unsigned_abs();
        let raw = suspect.raw_rate.zip(self.raw.rate());
        let is_told = raw.is_none_or(|(before, after)| {
            before.bound_ppb().saturating_add(after.bound_ppb()) <= change / 4
        });
        if distance > bounds.saturating_mul(2) && (is_told || is_settled) {
            self.suspect = None;
            return Some(suspect.rate(self.rate, self.raw.rate().filter(|_| is_told)));
        }
        if is_settled {
            self.suspect = None;
            if suspect.ahead_ns.unsigned_abs() > APART_NS.unsigned_abs() {
                return suspect.leap();
            }
        }
        None
    }

    /// Confirms the rate, or restarts the window.
    fn check(&mut self, previous: Anchor, anchor: Anchor, is_narrow: bool) -> Seen {
        for from in [previous, *self.window.last()] {
            if !self.rate.predicts(&from, &anchor, NOISE_NS) {
                return self.restart(from, anchor);
            }
        }
        let recent = *self.window.recent();
        if is_narrow && Rate::between(&recent, &anchor).is_some_and(|rate| !rate.agrees(&self.rate))
        {
            return self.restart(recent, anchor);
        }
        let sound = self.window.baseline_ns(&anchor) >= ticks::NANOS_PER_SEC;
        let is_better =
            || self.window.rate_to(&anchor).is_some_and(|rate| rate.bound <= self.rate.bound);
        if (is_narrow || is_better())
            && let Some(rate) = self.window.push(anchor)
        {
            self.rate = rate;
        }
        Seen { sound, ..Seen::default() }
    }

    /// The rate has changed since `from`: adopts the new one if it is slight and known well enough,
    /// and is in doubt otherwise.
    fn restart(&mut self, from: Anchor, anchor: Anchor) -> Seen {
        let seen = Rate::between(&from, &anchor);
        let distance = self.distance(seen);
        if distance <= self.rate.mult / SLIGHT && anchor.ns_since(&from) >= MIN_BASELINE_NS {
            // The change may have come anywhere in the interval. Up to there, the counter went at
            // the old rate: that is how far the point is off at which the new rate has begun.
            let off_ns = ticks::ns_ceil(anchor.tick.saturating_sub(from.tick), distance);
            let off_ticks = ticks::ticks_floor(off_ns, self.rate.mult).saturating_add(1);
            let base = Anchor { half_ticks: from.half_ticks.saturating_add(off_ticks), ..from };
            self.window = Window::new(base);
            if let Some(rate) = self.window.push(anchor) {
                self.rate = rate;
            }
            return Seen { restarted: true, ..Seen::default() };
        }
        self.rate = self.rate.doubtful_by(distance);
        self.doubt = Some(Doubt { slow_mult: self.slow_mult(seen), candidate: None });
        self.window = Window::new(anchor);
        Seen { restarted: true, fault: !self.is_plausible(seen), ..Seen::default() }
    }

    /// Ends the doubt, if there is a new baseline and the rate over it can be believed.
    fn settle(&mut self, previous: Anchor, anchor: Anchor) -> Seen {
        let base = *self.window.last();
        let seen = Rate::between(&base, &anchor);
        let slow_mult = self.slow_mult(seen);
        let distance = self.distance(seen);
        let Some(doubt) = &mut self.doubt else { return Seen::default() };
        doubt.slow_mult = slow_mult;
        let off = distance.saturating_add(seen.map_or(0, |rate| rate.bound));
        self.rate.bound = self.rate.bound.max(off);
        let went_back = anchor.ns < base.ns || anchor.tick < base.tick;
        if anchor.ns_since(&base) < MIN_BASELINE_NS && !went_back {
            if anchor.half_ticks < base.half_ticks / 2 {
                self.window = Window::new(anchor);
            }
            return Seen::default();
        }
        let candidate = doubt.candidate.take();
        // A thousandth more than their bounds: a counter that has just changed may still settle.
        let confirmed =
            seen.zip(candidate).is_some_and(|(a, b)| a.doubtful_by(a.mult / 1000).agrees(&b));
        if let Some(rate) = seen
            && (confirmed || self.is_plausible(seen))
        {
            if !rate.predicts(&previous, &anchor, NOISE_NS) {
                // It has changed again, in the middle of the baseline.
                self.window = Window::new(previous);
                return Seen { restarted: true, ..Seen::default() };
            }
            self.window.push(anchor);
            self.rate = rate;
            self.doubt = None;
            if confirmed {
                self.nominal = rate.mult;
            }
            return Seen::default();
        }
        self.doubt = Some(Doubt { slow_mult, candidate: seen });
        self.window = Window::new(anchor);
        Seen { restarted: true, fault: true, ..Seen::default() }
    }

    /// How far the old rate is from the one seen: all of it, if one of the clocks stands still, goes
    /// back or leaps.
    fn distance(&self, seen: Option<Rate>) -> u64 {
        seen.map_or(self.rate.mult, |rate| rate.distance(&self.rate).min(self.rate.mult))
    }

    /// The slower of the old rate and the one seen, but at least half of the old.
    fn slow_mult(&self, seen: Option<Rate>) -> u64 {
        seen.map_or(self.rate.mult, |rate| rate.mult.clamp(self.rate.mult / 2, self.rate.mult))
    }

    /// Whether a kernel may have asked for this rate.
    fn is_plausible(&self, rate: Option<Rate>) -> bool {
        rate.is_some_and(|rate| rate.mult.abs_diff(self.nominal) <= self.nominal / KERNEL_LIMIT)
    }

    /// Where the reference is at `pivot`, by the last sample and the ticks since.
    fn reference_at(&self, pivot: u64, last_try: bool) -> Option<Reference> {
        let anchor = &self.latest;
        let gap = pivot.saturating_sub(anchor.tick);
        let gap_ns = ticks::ns_floor(gap, self.rate.mult);
        let half_ns = ticks::ns_ceil(anchor.half_ticks, self.rate.mult)
            .saturating_add(ticks::ns_ceil(gap, self.rate.bound))
            .saturating_add(NOISE_NS);
        let since_ns = if gap_ns <= DOUBTFUL_SPAN_NS {
            gap_ns
        } else if last_try {
            // Believe as little as possible of what the counter says.
            0
        } else {
            return None;
        };
        Some(Reference {
            low: anchor.ns.saturating_add(since_ns).saturating_sub(half_ns),
            high: anchor.ns.saturating_add(gap_ns).saturating_add(half_ns),
        })
    }

    /// A line from `pivot` at the estimated rate, its beginning still to be decided.
    fn base_line(&self, pivot: u64) -> Line {
        let (mult, span_ns) = match self.doubt {
            Some(doubt) => (doubt.slow_mult.max(1), DOUBTFUL_SPAN_NS),
            None => (self.rate.mult, SPAN_NS),
        };
        Line {
            pivot_tick: pivot,
            pivot_ns: 0,
            mult,
            span_ticks: ticks::ticks_floor(span_ns, mult),
            error_ns: 0,
            error_mult: self.rate.bound.saturating_add(self.rate.mult.abs_diff(mult)),
        }
    }
}
