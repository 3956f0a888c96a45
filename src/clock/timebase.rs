//! The disciplined clock: witnesses, discipline and the published line, put together.
//!
//! Two stages keep readers out of each other's way. Whoever finds the line too old takes the
//! discipline's lock and samples the witnesses, which takes some hundred nanoseconds, while all
//! others go on reading the line that is in force. Only then comes the write section of the
//! [seqlock](super::seqlock), which holds one reading of the counter and a few multiplications.
//! Those who need the new line, too, wait for it: spinning, then yielding, then sleeping, so that a
//! waiting real-time thread lets the thread run that it waits for.

use std::{process, time::Duration};

use super::{
    Instant,
    classify::{expected_ns, signed_since},
    discipline::{Discipline, MIN_BASELINE_NS, SPAN_NS},
    jump::{Jump, JumpKind, Passed, Record},
    line::Line,
    report::{OsReason, SelfTest},
    seqlock::SeqLock,
    ticks,
    witness::{Bracket, Sample, Witnesses},
};
use crate::sync::{
    atomic::{
        AtomicBool, AtomicI64, AtomicU8, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
    hint, thread,
};

/// What the driver learns from one look at the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reading {
    /// What the clock reads.
    pub(crate) now_ns: u64,
    /// A timer whose deadline is at or before this may fire: at most `now_ns` less the error bound,
    /// and at most `monotonic_ns`.
    pub(crate) safe_ns: u64,
    /// What `CLOCK_MONOTONIC` read during the call; `safe_ns` is at most this and what that clock has
    /// lost by going back.
    pub(crate) monotonic_ns: u64,
}

/// A moment as three witnesses see it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    tick: u64,
    pub(crate) monotonic_ns: u64,
    realtime_ns: u64,
}

/// A line this much younger than its horizon needs no new anchor when sampled: 1 ms of 20.
const FRESH: u64 = 20;

/// How often the first baseline is looked at: a quarter of its length.
const CALIBRATION_STEP_NS: u64 = MIN_BASELINE_NS / 4;

/// An error that no timer can show: waking whoever waits takes longer.
const SLIGHT_ERROR_NS: u64 = 1_000;

const NO: u8 = 0;
const UNDER_WAY: u8 = 1;
const YES: u8 = 2;

/// See the module's doc.
#[derive(Debug)]
pub(crate) struct Timebase<W> {
    line: SeqLock<{ Line::WORDS }>,
    /// Never waited for without a way out, see [`Turn`].
    state: parking_lot::Mutex<State>,
    /// Whether the counter has been looked for: one of the constants below.
    prepared: AtomicU8,
    /// The OS clock's time from which on the first baseline wants another sample.
    calibrate_at_ns: AtomicU64,
    /// Our time less the reference at the last sample.
    offset_ns: AtomicI64,
    slow_reads: AtomicU64,
    /// What `CLOCK_MONOTONIC` and `CLOCK_BOOTTIME` have lost by going back.
    shift_ns: AtomicU64,
    elapsed_shift_ns: AtomicU64,
    /// How many jumps there are on record.
    jumps: AtomicU64,
    /// When the counter may be tested again, by `CLOCK_MONOTONIC`.
    retest_at_ns: AtomicU64,
    /// When the witnesses were sampled last, by `CLOCK_MONOTONIC`.
    sampled_at_ns: AtomicU64,
    /// The process that the lock belongs to, zero before there is any.
    owner: AtomicU64,
    /// This is a child of that process, and the lock will never be free.
    orphaned: AtomicBool,
    witnesses: W,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) discipline: Discipline,
    pub(crate) self_test: SelfTest,
    pub(crate) record: Record,
}

impl<W: Witnesses> Timebase<W> {
    pub(crate) fn new(witnesses: W) -> Self {
        Self {
            line: SeqLock::new(),
            state: parking_lot::Mutex::new(State {
                discipline: Discipline::new(witnesses.are_truth()),
                self_test: SelfTest::default(),
                record: Record::new(),
            }),
            prepared: AtomicU8::new(NO),
            calibrate_at_ns: AtomicU64::new(u64::MAX),
            offset_ns: AtomicI64::new(0),
            slow_reads: AtomicU64::new(0),
            shift_ns: AtomicU64::new(0),
            elapsed_shift_ns: AtomicU64::new(0),
            jumps: AtomicU64::new(0),
            retest_at_ns: AtomicU64::new(u64::MAX),
            sampled_at_ns: AtomicU64::new(0),
            owner: AtomicU64::new(0),
            orphaned: AtomicBool::new(false),
            witnesses,
        }
    }

    pub(crate) fn witnesses(&self) -> &W {
        &self.witnesses
    }

    pub(crate) fn slow_reads(&self) -> u64 {
        // Ordering: Relaxed, a statistic.
        self.slow_reads.load(Relaxed)
    }

    /// What `CLOCK_MONOTONIC` has lost by going back.
    pub(crate) fn shift_ns(&self) -> u64 {
        // Ordering: Relaxed. Who sees an older value believes less time to have passed, or sees that
        // line and reference disagree, and samples.
        self.shift_ns.load(Relaxed)
    }

    /// `CLOCK_MONOTONIC`, made up for what it has lost.
    fn reference_ns(&self) -> u64 {
        self.witnesses.monotonic_ns().saturating_add(self.shift_ns())
    }

    /// What `CLOCK_BOOTTIME` has lost by going back.
    pub(crate) fn elapsed_shift_ns(&self) -> u64 {
        // Ordering: Relaxed, as `shift_ns`.
        self.elapsed_shift_ns.load(Relaxed)
    }

    /// `CLOCK_BOOTTIME`, made up for what it has lost.
    pub(crate) fn elapsed_ns(&self) -> u64 {
        // Ordering: Acquire, so that the shift is read first: it grows only after the clock has gone
        // back, and one that is added too early would be seen as a leap.
        let shift_ns = self.elapsed_shift_ns.load(Acquire);
        self.witnesses.boottime_ns().saturating_add(shift_ns)
    }

    /// How many jumps there are on record.
    pub(crate) fn jumps(&self) -> u64 {
        // Ordering: Relaxed, a hint: the record is under the lock.
        self.jumps.load(Relaxed)
    }

    /// Puts a jump on record that shows in no clock.
    pub(crate) fn add_stall(&self, size_ns: u64, at: Instant) {
        let size_ns = i64::try_from(size_ns).unwrap_or(i64::MAX);
        let jump =
            Jump { kind: JumpKind::Stall, size_ns, rate_ppb: 0, at, passed: Passed::default() };
        self.with_state(|state| self.add(state, jump));
    }

    fn add(&self, state: &mut State, jump: Jump) {
        state.record.add(jump);
        // Ordering: Relaxed, see `jumps`.
        self.jumps.store(state.record.len(), Relaxed);
    }

    /// The time, ordered: not before what any thread that this one has heard from had read.
    #[inline(always)]
    pub(crate) fn now_ns(&self) -> u64 {
        match self.read_counter(W::counter) {
            Some(ns) => ns,
            None => self.other_read(),
        }
    }

    /// The time, read at about this place in the program.
    #[inline(always)]
    pub(crate) fn now_unordered_ns(&self) -> u64 {
        match self.read_counter(W::counter_unordered) {
            Some(ns) => ns,
            None => self.other_read(),
        }
    }

    /// The time, ordered, and by how much it may be behind the reference, if that is worth mentioning.
    #[inline(always)]
    pub(crate) fn now_and_lag_ns(&self) -> (u64, u64) {
        let read = self
            .line
            .try_read(|words| (!Line::words_are_os(words)).then(|| self.witnesses.counter()));
        if let Ok((words, tick)) = read {
            let line = Line::from_words(words);
            if line.error_ns <= SLIGHT_ERROR_NS
                && let Some(ns) = line.value(tick)
            {
                return (ns, 0);
            }
        }
        self.other_now_and_lag_ns()
    }

    #[inline(never)]
    fn other_now_and_lag_ns(&self) -> (u64, u64) {
        if let Some((line, stamp)) = self.read_line(W::counter)
            && line.is_os()
            && let Some(ns) = line.value(stamp)
        {
            return (ns, 0);
        }
        let (ns, error_ns) = self.now_and_error_ns();
        (ns, if error_ns <= SLIGHT_ERROR_NS { 0 } else { error_ns })
    }

    /// The time by the line that is in force, if that is one of the counter. This alone is inlined
    /// into callers.
    #[inline(always)]
    fn read_counter(&self, counter: impl FnOnce(&W) -> u64) -> Option<u64> {
        let read = self
            .line
            .try_read(|words| (!Line::words_are_os(words)).then(|| counter(&self.witnesses)));
        let (words, tick) = read.ok()?;
        Line::from_words(words).value(tick)
    }

    /// The time, however it is to be had.
    #[inline(never)]
    fn other_read(&self) -> u64 {
        self.read(W::counter).unwrap_or_else(|| self.slow_read())
    }

    /// The time by the line that is in force; `None` beyond its horizon, and while it is replaced.
    fn read(&self, counter: impl FnOnce(&W) -> u64) -> Option<u64> {
        let (line, stamp) = self.read_line(counter)?;
        line.value(stamp)
    }

    fn read_line(&self, counter: impl FnOnce(&W) -> u64) -> Option<(Line, u64)> {
        // The OS clock is read inside the read section, too: so the change from one to the other
        // obeys the seqlock's second rule.
        let read = self.line.try_read(|words| {
            Some(if Line::words_are_os(words) {
                self.witnesses.monotonic_ns()
            } else {
                counter(&self.witnesses)
            })
        });
        read.ok().map(|(words, stamp)| (Line::from_words(words), stamp))
    }

    #[cold]
    #[inline(never)]
    fn slow_read(&self) -> u64 {
        // Ordering: Relaxed, a statistic.
        self.slow_reads.fetch_add(1, Relaxed);
        let mut turn = Turn::default();
        loop {
            if let Some(ns) = self.read(W::counter) {
                return ns;
            }
            if let Some(mut state) = self.state.try_lock() {
                // Whoever had the lock before may have published what we wanted.
                return match self.read(W::counter) {
                    Some(ns) => ns,
                    None => self.reanchor(&mut state).now_ns,
                };
            }
            if !self.wait(&mut turn) {
                return self.reference_ns();
            }
        }
    }

    /// The time and how far it may be from the reference.
    pub(crate) fn now_and_error_ns(&self) -> (u64, u64) {
        const ANCHORS: u32 = 3;
        let mut turn = Turn::default();
        let mut anchored = 0;
        loop {
            if let Some((line, stamp)) = self.read_line(W::counter)
                && let Some(ns) = line.value(stamp)
            {
                return (ns, line.error(stamp));
            }
            if let Some(mut state) = self.state.try_lock() {
                // The new line tells, not the reading: what that says is safe was so a while ago.
                // Unless the thread is kept off the processor beyond the horizon each time.
                let reading = self.reanchor(&mut state);
                anchored += 1;
                if anchored == ANCHORS {
                    return (reading.now_ns, reading.now_ns.saturating_sub(reading.safe_ns));
                }
            } else if !self.wait(&mut turn) {
                return (self.reference_ns(), 0);
            }
        }
    }

    /// See [`Clock::sample`](super::Clock::sample).
    pub(crate) fn sample(&self) -> Reading {
        let mut turn = Turn::default();
        loop {
            let mut bracket = None;
            let read = self.read_line(|witnesses| {
                let taken = Bracket::take(witnesses);
                bracket = Some(taken);
                taken.after
            });
            if let Some((line, stamp)) = read
                && let Some(reading) = self.fresh_reading(&line, stamp, bracket)
            {
                return reading;
            }
            if let Some(mut state) = self.state.try_lock() {
                return self.reanchor(&mut state);
            }
            if !self.wait(&mut turn) {
                return self.os_reading(&Line::os(0, self.shift_ns()));
            }
        }
    }

    /// What the witnesses that a jump of `CLOCK_MONOTONIC` doesn't touch read now.
    pub(crate) fn moment(&self) -> Moment {
        Moment {
            tick: self.witnesses.counter(),
            monotonic_ns: self.witnesses.monotonic_ns(),
            realtime_ns: self.witnesses.realtime_ns(),
        }
    }

    /// How long that is ago, by most of the witnesses.
    pub(crate) fn since_ns(&self, then: &Moment) -> u64 {
        let now = self.moment();
        let rate = self.with_state(|state| state.discipline.rate()).flatten();
        let by_counter = rate.and_then(|rate| {
            let ticks = now.tick.checked_sub(then.tick)?;
            i64::try_from(ticks::ns_floor(ticks, rate.mult)).ok()
        });
        expected_ns([
            by_counter,
            Some(signed_since(now.monotonic_ns, then.monotonic_ns)),
            Some(signed_since(now.realtime_ns, then.realtime_ns)),
        ])
    }

    /// Samples all witnesses, however fresh the line is.
    pub(crate) fn look(&self) {
        self.with_state(|state| self.reanchor(state));
    }

    /// A reading by a line that needs no new anchor; `None` if it is old or visibly wrong, or if the
    /// first baseline wants a sample.
    fn fresh_reading(&self, line: &Line, stamp: u64, bracket: Option<Bracket>) -> Option<Reading> {
        let Some(bracket) = bracket else {
            return self.fresh_os_reading(line, stamp);
        };
        let age = stamp.checked_sub(line.pivot_tick)?;
        if age > line.span_ticks / FRESH || bracket.before < line.pivot_tick {
            return None;
        }
        // Young, but is it right?
        let reference_ns = bracket.monotonic_ns.saturating_add(self.shift_ns());
        let off_ns = line.extended(stamp).abs_diff(reference_ns);
        let allowed_ns =
            line.error(stamp).saturating_add(ticks::ns_ceil(bracket.width(), line.mult));
        if off_ns > allowed_ns {
            return None;
        }
        self.note_offset(line, stamp, &bracket);
        Some(self.reading(line, stamp, bracket.monotonic_ns))
    }

    /// How long the OS clock may be read without a look at the other witnesses: as for the counter.
    const OS_FRESH_NS: u64 = SPAN_NS / FRESH;

    /// The same by the OS clock: at each look, but for those that follow one another closely, the
    /// witnesses are sampled, too.
    fn fresh_os_reading(&self, line: &Line, monotonic_ns: u64) -> Option<Reading> {
        // Ordering: Relaxed, hints: the state behind them is under the lock.
        let calibrate = monotonic_ns >= self.calibrate_at_ns.load(Relaxed);
        let sampled_ns = self.sampled_at_ns.load(Relaxed);
        let fresh = monotonic_ns.checked_sub(sampled_ns).is_some_and(|ns| ns < Self::OS_FRESH_NS);
        (fresh && !calibrate).then(|| Self::os_reading_of(line, monotonic_ns))
    }

    /// A reading by a line, at `tick`; the reference has read `monotonic_ns` during the call.
    fn reading(&self, line: &Line, tick: u64, monotonic_ns: u64) -> Reading {
        let now_ns = line.extended(tick);
        let reference_ns = monotonic_ns.saturating_add(self.shift_ns());
        let safe_ns = now_ns.saturating_sub(line.error(tick)).min(reference_ns);
        Reading { now_ns, safe_ns, monotonic_ns }
    }

    /// A reading of the OS clock by the order to do so.
    fn os_reading(&self, line: &Line) -> Reading {
        Self::os_reading_of(line, self.witnesses.monotonic_ns())
    }

    fn os_reading_of(line: &Line, monotonic_ns: u64) -> Reading {
        let reference_ns = monotonic_ns.saturating_add(line.pivot_tick);
        Reading { now_ns: reference_ns.max(line.pivot_ns), safe_ns: reference_ns, monotonic_ns }
    }

    /// Samples all witnesses and publishes the next line.
    fn reanchor(&self, state: &mut State) -> Reading {
        const TRIES: u32 = 3;
        for attempt in 1..=TRIES {
            let (tries, enough) = state.discipline.bracketing();
            let sample = Sample::take(&self.witnesses, tries, enough);
            self.observe(state, &sample);
            let mut pivot = 0;
            let written = self.line.try_write(|old| {
                pivot = self.witnesses.counter_settled();
                let old = Line::from_words(*old);
                state.discipline.line(&old, pivot, attempt == TRIES).map(Line::into_words)
            });
            match written {
                Ok(Some(words)) => {
                    let line = Line::from_words(words);
                    if line.is_os() {
                        return self.os_reading(&line);
                    }
                    self.note_offset(&line, pivot, &sample.bracket);
                    // Asked again: since the narrowest bracket, microseconds may have passed.
                    return self.reading(&line, pivot, self.witnesses.monotonic_ns());
                }
                Ok(None) => {}
                // Writers hold the lock, so this is the child of a fork that came inside a write
                // section: whoever waits will find that out.
                Err(_) => break,
            }
        }
        self.os_reading(&Line::os(0, self.shift_ns()))
    }

    fn observe(&self, state: &mut State, sample: &Sample) {
        if let Some(baseline) = state.discipline.observe(sample) {
            let width_ns = baseline.half_bracket_ns.saturating_mul(2);
            state.self_test.bracket = Some(Duration::from_nanos(width_ns));
            state.self_test.rates_apart_ppm =
                Some(ticks::ppm(baseline.halves_apart, baseline.rate.mult));
        }
        self.publish_findings(state, sample);
        self.schedule_calibration(state, sample.bracket.monotonic_ns);
    }

    /// Puts on record what the discipline has found, and tells everybody what went back.
    fn publish_findings(&self, state: &mut State, sample: &Sample) {
        let (shift_ns, elapsed_shift_ns) = state.discipline.shifts_ns();
        // Ordering: Relaxed, see `shift_ns`.
        self.shift_ns.store(shift_ns, Relaxed);
        // Ordering: Release, see `elapsed_ns`.
        self.elapsed_shift_ns.store(elapsed_shift_ns, Release);
        // Ordering: Relaxed, hints, as above.
        self.sampled_at_ns.store(sample.bracket.monotonic_ns, Relaxed);
        self.retest_at_ns.store(state.discipline.retest_at_ns(), Relaxed);
        let at = Instant::from_nanos(sample.bracket.monotonic_ns.saturating_add(shift_ns));
        for found in state.discipline.take_found() {
            self.add(state, found.at(at));
        }
    }

    fn schedule_calibration(&self, state: &State, now_ns: u64) {
        let at_ns = if state.discipline.is_calibrating() {
            now_ns.saturating_add(CALIBRATION_STEP_NS)
        } else {
            u64::MAX
        };
        // Ordering: Relaxed, a hint: the state behind it is under the lock.
        self.calibrate_at_ns.store(at_ns, Relaxed);
    }

    /// Until when by `CLOCK_MONOTONIC` to sleep, so that it is safe to fire at `deadline_ns` of our
    /// clock: never before that, but for what that clock has lost by going back.
    pub(crate) fn kernel_deadline(&self, deadline_ns: u64) -> u64 {
        // `u64::MAX` is never, whatever the clocks have lost.
        if deadline_ns == u64::MAX {
            return deadline_ns;
        }
        let (lag_ns, shift_ns) = (self.lag_ns(), self.shift_ns());
        let at_ns = deadline_ns.saturating_sub(shift_ns);
        if lag_ns > MIN_BASELINE_NS {
            // The rate is in doubt, so next to nothing is known: in a baseline's time it will be. Who
            // slept for all of that would sleep for seconds on end.
            // Ordering: Relaxed, the caller has just sampled.
            let soon_ns = self.sampled_at_ns.load(Relaxed).saturating_add(MIN_BASELINE_NS);
            return at_ns.max(soon_ns);
        }
        deadline_ns.saturating_add(lag_ns).saturating_sub(shift_ns)
    }

    /// How much later than our clock the reference may be.
    fn lag_ns(&self) -> u64 {
        let Some((line, stamp)) = self.read_line(W::counter) else { return 0 };
        // Ordering: Relaxed, an estimate.
        let offset_ns = self.offset_ns.load(Relaxed);
        let error_ns = line.error(stamp);
        if line.is_os() { 0 } else { error_ns.saturating_add_signed(offset_ns.saturating_neg()) }
    }

    /// Notes how far the line is from the reference, where that was read: in the middle of the
    /// bracket, which may be some time before `tick`.
    fn note_offset(&self, line: &Line, tick: u64, bracket: &Bracket) {
        let since = tick.saturating_sub(bracket.before.midpoint(bracket.after));
        let ours_ns = line.extended(tick).saturating_sub(ticks::ns_floor(since, line.mult));
        let reference_ns = bracket.monotonic_ns.saturating_add(self.shift_ns());
        // Ordering: Relaxed, an estimate.
        self.offset_ns.store(signed_since(ours_ns, reference_ns), Relaxed);
    }

    /// Our time less `CLOCK_MONOTONIC`.
    pub(crate) fn offset_ns(&self) -> i64 {
        // Ordering: Relaxed, an estimate.
        self.offset_ns.load(Relaxed).saturating_add_unsigned(self.shift_ns())
    }

    /// Begins the first baseline, the first time that this is called: `prepare` decides whether
    /// there will be one. Others wait until it has returned, but in a child that was forked meanwhile,
    /// where nobody goes on with it.
    pub(crate) fn warm_up(&self, prepare: impl FnOnce(&W, &mut SelfTest) -> Result<(), OsReason>) {
        let mut turn = Turn::default();
        // Before there is anything to wait for.
        // Ordering: Relaxed, only compared with the same process's own idea of itself.
        let _ = self.owner.compare_exchange(0, u64::from(process::id()), Relaxed, Relaxed);
        // Ordering: Acquire, to see what was prepared.
        while let Err(phase) = self.prepared.compare_exchange(NO, UNDER_WAY, Acquire, Acquire) {
            if phase == YES || !self.wait(&mut turn) {
                return;
            }
        }
        let mut self_test = SelfTest::default();
        let prepared = prepare(&self.witnesses, &mut self_test);
        self.with_state(|state| {
            state.self_test = self_test;
            match prepared {
                Ok(()) => self.begin(state),
                Err(reason) => state.discipline.retire(reason),
            }
        });
        // Ordering: Release, what was prepared.
        self.prepared.store(YES, Release);
    }

    /// Whether the counter, given up for its faults, has been left alone for long enough.
    pub(crate) fn is_retest_due(&self, monotonic_ns: u64) -> bool {
        // Ordering: Relaxed, a hint.
        monotonic_ns >= self.retest_at_ns.load(Relaxed)
    }

    /// Tests the counter again if that is due, and begins a baseline if it is fit. One caller at a time
    /// does.
    pub(crate) fn retest(&self, prepare: impl FnOnce(&W, &mut SelfTest) -> Result<(), OsReason>) {
        let claimed = self.with_state(|state| {
            let now_ns = self.witnesses.monotonic_ns();
            let due = state.discipline.is_retest_due(now_ns);
            if due {
                state.discipline.put_off_retest(now_ns);
                // Ordering: Relaxed, a hint.
                self.retest_at_ns.store(state.discipline.retest_at_ns(), Relaxed);
            }
            due
        });
        if claimed != Some(true) {
            return;
        }
        let mut self_test = SelfTest::default();
        let prepared = prepare(&self.witnesses, &mut self_test);
        self.with_state(|state| {
            state.self_test = self_test;
            if prepared.is_ok() {
                self.begin(state);
            }
        });
    }

    fn begin(&self, state: &mut State) {
        let (tries, enough) = state.discipline.bracketing();
        let sample = Sample::take(&self.witnesses, tries, enough);
        state.discipline.begin(&sample);
        self.publish_findings(state, &sample);
        self.schedule_calibration(state, sample.bracket.monotonic_ns);
    }

    /// Why the OS clock is served, if it is; `Forked` in a child that lost its lock.
    pub(crate) fn os_reason(&self) -> Option<OsReason> {
        // Ordering: Acquire, pairs with the Release in `wait`.
        if self.orphaned.load(Acquire) {
            return Some(OsReason::Forked);
        }
        self.with_state(|state| state.discipline.os_reason().cloned())
            .unwrap_or(Some(OsReason::Forked))
    }

    /// Runs `f` on the state; `None` in a child that lost its lock.
    pub(crate) fn with_state<R>(&self, f: impl FnOnce(&mut State) -> R) -> Option<R> {
        let mut turn = Turn::default();
        loop {
            if let Some(mut state) = self.state.try_lock() {
                return Some(f(&mut state));
            }
            if !self.wait(&mut turn) {
                return None;
            }
        }
    }

    /// Waits a little. `false` if it is in vain: the thread that has the lock exists in the parent
    /// of this process only.
    fn wait(&self, turn: &mut Turn) -> bool {
        // Ordering: Acquire, pairs with the Release below.
        if self.orphaned.load(Acquire) {
            return false;
        }
        if turn.wait() {
            return true;
        }
        // Ordering: Relaxed, see `warm_up`.
        let owner = self.owner.load(Relaxed);
        if owner != 0 && owner != u64::from(process::id()) {
            // Ordering: Release, for form: nothing else is published with it.
            self.orphaned.store(true, Release);
            return false;
        }
        true
    }
}

/// How long a thread has waited for another: in theory a hundred nanoseconds, unless that one was
/// preempted.
#[derive(Debug, Default)]
struct Turn(u32);

impl Turn {
    /// Waits a little longer than the last time. `false` if that is suspiciously long by now.
    fn wait(&mut self) -> bool {
        const SPINS: u32 = 100;
        const YIELDS: u32 = 100;
        self.0 = self.0.saturating_add(1);
        if self.0 <= SPINS {
            hint::spin_loop();
        } else if self.0 <= SPINS + YIELDS {
            thread::yield_now();
        } else {
            // Yielding doesn't make a real-time thread give way to an ordinary one.
            #[expect(clippy::disallowed_methods, reason = "waits for a thread, not for a time")]
            std::thread::sleep(Duration::from_micros(50));
            return false;
        }
        true
    }
}
