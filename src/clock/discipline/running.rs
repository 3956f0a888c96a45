//! The counter in use: its rate, what confirms it, and what puts it in doubt.

use super::suspect::{Found, Suspect, is_leap, progress};
use super::{
    Anchor, DOUBTFUL_SPAN_NS, JumpKind, KERNEL_LIMIT, Line, MIN_BASELINE_NS, NOISE_NS, Rate,
    SLIGHT, SPAN_NS, Sample, Window, ticks,
};
use crate::clock::classify::{self, APART_NS, signed_since};

#[derive(Debug)]
pub(super) struct Running {
    window: Window,
    /// The last sample, however wide.
    latest: Anchor,
    /// In doubt, that of the window before.
    pub(super) rate: Rate,
    /// `CLOCK_MONOTONIC_RAW`'s, which nobody slews, over the same baseline: so whatever the reference did
    /// in it, it did to both.
    raw_rate: Option<Rate>,
    doubt: Option<Doubt>,
    /// What the rate must stay near, unless two baselines agree that it doesn't.
    nominal: u64,
    /// A disagreement, until it is known what it was.
    suspect: Option<Suspect>,
    /// When the window was restarted last, by the reference.
    restarted_ns: u64,
    /// The last anchors by processor.
    here: [Option<(usize, Anchor)>; CPUS],
}

#[derive(Clone, Copy, Debug, Default)]
struct Doubt {
    /// The slower rate to run at meanwhile.
    slow_mult: u64,
    /// An implausible rate, waiting for a second baseline to agree.
    candidate: Option<Rate>,
}

/// What a sample showed.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) restarted: bool,
    pub(super) fault: bool,
    /// The rate has held for a second.
    pub(super) sound: bool,
    /// What it turned out to be that made counter and reference disagree.
    pub(super) found: Option<Found>,
}

/// Where the reference is.
pub(super) struct Reference {
    pub(super) low: u64,
    pub(super) high: u64,
}

/// A counter that has slowed down by more than this stands still, as far as the bound goes.
const MUCH_SLOWER: u64 = 64;

/// How long nothing new must be seen after a slight change of rate: longer than the recent anchor's age.
const QUIET_NS: u64 = 250_000_000;

/// By then the raw clock has told whose rate has changed, however long it takes to read.
const LONG_ENOUGH_NS: u64 = 10 * ticks::NANOS_PER_SEC;

/// The counters of so many processors are told apart.
const CPUS: usize = 8;

impl Running {
    pub(super) fn new(first: Anchor, last: Anchor, rate: Rate) -> Self {
        let mut window = Window::new(first);
        window.push(last);
        Self {
            latest: last,
            rate,
            raw_rate: window.raw_rate(),
            window,
            doubt: None,
            nominal: rate.mult,
            suspect: None,
            restarted_ns: 0,
            here: [None; CPUS],
        }
    }

    /// Whether the baseline is shorter than a second.
    pub(super) fn is_young(&self) -> bool {
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

    /// Takes note of a sample; `before` is the one before it.
    pub(super) fn observe(
        &mut self,
        anchor: Anchor,
        is_narrow: bool,
        before: Option<&Sample>,
        sample: &Sample,
    ) -> Seen {
        let previous = self.latest;
        let (old, old_raw) = (self.rate, self.raw_rate);
        let mut seen = if self.doubt.is_some() {
            self.settle(previous, anchor)
        } else {
            self.check(previous, anchor, is_narrow)
        };
        let was_known = self.suspect.is_none();
        seen.found = self.resolve(&seen, anchor);
        let fresh = before
            .filter(|_| seen.restarted)
            .map(|before| self.suspect((old, old_raw), before, sample, &anchor));
        if seen.restarted && (was_known || fresh.is_some_and(|fresh| fresh.consistent_here)) {
            self.suspect = fresh;
            seen.fault &= self.suspect.is_none_or(|suspect| !suspect.excused);
            if self.is_certain() {
                seen.found = seen.found.or(self.suspect.take().and_then(Suspect::leap));
            }
        }
        if seen.restarted {
            self.restarted_ns = anchor.ns;
        }
        self.latest = anchor;
        self.note_place(sample.cpu, anchor);
        seen
    }

    /// What a disagreement with the rates so far looks like when it is noticed.
    fn suspect(
        &self,
        (rate, raw_rate): (Rate, Option<Rate>),
        before: &Sample,
        sample: &Sample,
        anchor: &Anchor,
    ) -> Suspect {
        let counter_ns = progress(rate, before, sample);
        let passed = classify::passed(before, sample, counter_ns);
        let ahead_ns = passed.monotonic_ns.saturating_sub(counter_ns.unwrap_or(0));
        let half_ticks =
            |sample: &Sample| Anchor::new(&sample.bracket).map_or(0, |anchor| anchor.half_ticks);
        Suspect {
            ahead_ns,
            within_ns: ticks::ns_ceil(
                half_ticks(before).saturating_add(anchor.half_ticks),
                rate.mult,
            ),
            rate,
            raw_rate,
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
            ticks::ns_ceil(ticks::ticks_floor(ns, suspect.rate.mult), mult)
                .saturating_add(suspect.within_ns)
                .saturating_add(NOISE_NS)
        };
        // What is less is the noise of a machine that is busy, or of the rate.
        let least_ns = APART_NS.unsigned_abs().saturating_add(suspect.within_ns);
        let is_apart = suspect.ahead_ns.unsigned_abs() > least_ns;
        let half_ns = suspect.ahead_ns.unsigned_abs() / 2;
        if by_rate(distance.saturating_add(bounds)) < half_ns {
            self.suspect = None;
            return is_apart.then(|| suspect.leap()).flatten();
        }
        // A slight change is adopted from an interval that it may have come in the middle of, and then
        // once more; until that is over, and the error bars are well apart: a second at the most.
        let is_settled = baseline_ns >= ticks::NANOS_PER_SEC;
        let is_slight = distance <= suspect.rate.mult / SLIGHT;
        if is_slight && anchor.ns.saturating_sub(self.restarted_ns) < QUIET_NS {
            return None;
        }
        let change = suspect.rate.change_ppb(&self.rate).unsigned_abs();
        let raw = suspect.raw_rate.zip(self.raw_rate);
        let is_told = raw.is_none_or(|(before, after)| {
            before.bound_ppb().saturating_add(after.bound_ppb()) <= change / 4
        });
        if distance > bounds.saturating_mul(2) {
            if !is_told && baseline_ns < LONG_ENOUGH_NS {
                return None;
            }
            self.suspect = None;
            return Some(suspect.rate(self.rate, self.raw_rate));
        }
        if is_settled {
            // What either may have been is neither.
            self.suspect = None;
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
        if is_narrow || is_better() {
            self.push(anchor);
        }
        Seen { sound, ..Seen::default() }
    }

    /// Appends to the baseline, and goes by it.
    fn push(&mut self, anchor: Anchor) {
        if let Some(rate) = self.window.push(anchor) {
            self.rate = rate;
            self.raw_rate = self.window.raw_rate();
        }
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
            let base = from.wider_by(off_ticks);
            self.window = Window::new(base);
            self.push(anchor);
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
        // Behind what has put it in doubt: no leap, as a rule, so it may well be as far as that.
        let far = self.rate.mult.saturating_mul(MUCH_SLOWER);
        let distance = seen.map_or(self.rate.mult, |rate| rate.distance(&self.rate).min(far));
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
            self.raw_rate = self.window.raw_rate();
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
    pub(super) fn reference_at(&self, pivot: u64, last_try: bool) -> Option<Reference> {
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
    pub(super) fn base_line(&self, pivot: u64) -> Line {
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
