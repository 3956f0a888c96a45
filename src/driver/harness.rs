//! Random operations on the whole driver by hand, against a naive model: for property tests and for
//! fuzzing.
//!
//! A fuzz target is one line: `fuzz_target!(|bytes: &[u8]| harness::fuzz(bytes));`.

pub mod jumps;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Wake, Waker};

use super::manual::{Fired, Manual};
use crate::clock::Instant;
use crate::time::{Duration, Sleep, sleep_until};
use crate::wheel::coalesce;

/// One operation. Whatever it names by number is taken modulo what there is.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_enums, reason = "for tests only")]
pub enum Op {
    /// Arms a timer, with slack.
    Arm(Span, u8),
    /// Arms so many at once, a nanosecond or a span apart: more than fit into one batch.
    Burst(u16, Span),
    /// Polls a timer with another waker: takes note of a firing, arms again after a reset.
    Poll(u16),
    /// Moves a deadline to a time from now on.
    Reset(u16, Span),
    /// Moves a deadline to an earlier time, if need be one that has passed.
    Earlier(u16, Span),
    /// Moves a deadline away by a span.
    Touch(u16, Span),
    /// Drops a timer.
    Cancel(u16),
    /// Moves time, stopping at every deadline.
    Advance(Span),
    /// Moves time at one jump, and then looks.
    Jump(Span),
    /// Moves time to the next deadline.
    Next,
}

/// A distance in time that is likely to be just off a boundary: 2^`bit` ns, and a bit more or less.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    bit: u8,
    offset: i8,
}

impl Span {
    fn ns(self) -> u64 {
        (1u64 << (self.bit % 64)).saturating_add_signed(self.offset.into())
    }
}

impl Op {
    /// Every four bytes are an operation.
    #[must_use]
    pub fn decode([kind, bit, offset, pick]: [u8; 4]) -> Self {
        let span = Span { bit, offset: offset.cast_signed() };
        // Not by years every time, or few timers would see the next operation.
        let short = Span { bit: bit % 36, ..span };
        let pick = u16::from(pick);
        match kind % 32 {
            0..7 => Self::Arm(short, 0),
            7..9 => Self::Arm(short, bit ^ offset),
            9 => Self::Arm(span, offset),
            10 if kind >= 224 => Self::Burst(pick * 8, short),
            10..14 => Self::Poll(pick),
            14..17 => Self::Reset(pick, short),
            17..20 => Self::Earlier(pick, short),
            20..23 => Self::Touch(pick, short),
            23..26 => Self::Cancel(pick),
            26..28 => Self::Advance(short),
            28 => Self::Jump(short),
            29 if kind >= 224 => Self::Advance(span),
            _ => Self::Next,
        }
    }
}

/// Runs what the bytes say on both.
///
/// # Panics
///
/// If the driver and its model disagree.
pub fn fuzz(bytes: &[u8]) {
    let ops: Vec<Op> = bytes.as_chunks().0.iter().copied().map(Op::decode).collect();
    run(&ops);
}

/// Runs `ops` on both.
///
/// # Panics
///
/// If the driver and its model disagree.
pub fn run(ops: &[Op]) {
    let mut model = Model::new();
    for &op in ops {
        model.apply(op);
        model.check();
    }
    // One by one while that doesn't take long, and then at one jump.
    for _ in 0..ONE_BY_ONE {
        if !model.next() {
            break;
        }
        model.check();
    }
    model.apply(Op::Jump(Span { bit: 63, offset: 0 }));
    model.check();
    model.examine();
    model.timers.clear();
    assert_eq!(model.manual.timekeeper().stats().live, 0);
}

#[derive(Default)]
struct Count {
    calls: AtomicUsize,
    /// Those of all wakers.
    all: Arc<AtomicUsize>,
}

impl Count {
    fn get(&self) -> usize {
        self.calls.load(SeqCst)
    }
}

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.calls.fetch_add(1, SeqCst);
        self.all.fetch_add(1, SeqCst);
    }
}

/// One timer, and what the model says of it.
struct Timer {
    sleep: Sleep,
    slack_ns: u64,
    id: u64,
    /// Under which key it stands in `armed`.
    armed: Option<u64>,
    /// The waker of the last poll that was pending, and how often it must have been called.
    count: Arc<Count>,
    wakes: usize,
    /// Wakers of earlier polls, none of which may be called.
    replaced: Vec<Arc<Count>>,
}

impl Timer {
    /// When it should fire.
    fn due(&self) -> u64 {
        coalesce(self.sleep.deadline().as_nanos(), self.slack_ns)
    }
}

/// After so many timers there are no more bursts, or a script could take hours.
const MOST: usize = 4000;
/// Of so many, each is looked at after every operation.
const FEW: usize = 64;
/// How many timers may fire one by one at the end.
const ONE_BY_ONE: usize = 200;

struct Model {
    manual: Manual,
    now: u64,
    timers: Vec<Timer>,
    /// Where in `timers` each is, by id.
    places: BTreeMap<u64, usize>,
    last_id: u64,
    /// By time and id.
    armed: BTreeMap<(u64, u64), ()>,
    log: Vec<Fired>,
    /// How often wakers were called, all together.
    wakes: Arc<AtomicUsize>,
    /// How much of the log has been compared, and how many operations ago.
    compared: usize,
    unexamined: usize,
}

impl Model {
    fn new() -> Self {
        let manual = Manual::new();
        let now = manual.now().as_nanos();
        Self {
            manual,
            now,
            timers: vec![],
            places: BTreeMap::new(),
            last_id: 0,
            armed: BTreeMap::new(),
            log: vec![],
            wakes: Arc::default(),
            compared: 0,
            unexamined: 0,
        }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Arm(span, slack) => {
                let slack_ns = if slack == 0 { 0 } else { 1 << (slack % 40) };
                self.create(self.now.saturating_add(span.ns()), slack_ns);
            }
            Op::Burst(count, span) => {
                let (start, step) = (self.now.saturating_add(span.ns()), span.ns() % 1000);
                let room = MOST.saturating_sub(self.timers.len());
                for i in (0..u64::from(count)).take(room) {
                    self.create(start.saturating_add(i * step), 0);
                }
            }
            Op::Poll(pick) => {
                if let Some(i) = self.pick(pick) {
                    self.poll(i);
                }
            }
            Op::Reset(pick, span) => self.reset(pick, |now, _| now.saturating_add(span.ns())),
            Op::Earlier(pick, span) => self.reset(pick, |_, old| old.saturating_sub(span.ns())),
            Op::Touch(pick, span) => self.reset(pick, |_, old| old.saturating_add(span.ns())),
            Op::Cancel(pick) => {
                if let Some(i) = self.pick(pick) {
                    let timer = self.timers.swap_remove(i);
                    self.places.remove(&timer.id);
                    if let Some(moved) = self.timers.get(i) {
                        self.places.insert(moved.id, i);
                    }
                    timer.armed.map(|at| self.armed.remove(&(at, timer.id)));
                    drop(timer.sleep);
                    let called = timer.count.get();
                    assert_eq!(called, timer.wakes, "cancelling woke somebody");
                }
            }
            Op::Advance(span) => self.advance(span.ns()),
            Op::Jump(span) => {
                // What is in an inbox when it falls due comes with the next batch, not in its order.
                self.advance(0);
                self.now = self.now.saturating_add(span.ns());
                self.manual.clock().advance(Duration::from_nanos(span.ns()));
                let expected = self.expire(|_, now| now);
                assert_eq!(self.manual.fast_forward(Duration::ZERO), expected);
            }
            Op::Next => {
                self.next();
            }
        }
    }

    fn create(&mut self, deadline: u64, slack_ns: u64) {
        let _entered = self.manual.enter();
        let sleep =
            sleep_until(Instant::from_nanos(deadline)).with_slack(Duration::from_nanos(slack_ns));
        self.last_id += 1;
        self.places.insert(self.last_id, self.timers.len());
        self.timers.push(Timer {
            sleep,
            slack_ns,
            id: self.last_id,
            armed: None,
            count: Arc::default(),
            wakes: 0,
            replaced: vec![],
        });
        self.poll(self.timers.len() - 1);
    }

    fn pick(&self, pick: u16) -> Option<usize> {
        usize::from(pick).checked_rem(self.timers.len())
    }

    fn poll(&mut self, i: usize) {
        let timer = &mut self.timers[i];
        let count = Arc::new(Count { all: self.wakes.clone(), ..Count::default() });
        let waker = Waker::from(count.clone());
        let pending =
            Pin::new(&mut timer.sleep).poll(&mut Context::from_waker(&waker)).is_pending();
        assert_eq!(pending, self.now < timer.due(), "at {} due {}", self.now, timer.due());
        if !pending && let Some(at) = timer.armed.take() {
            // It was moved to the past, and the poll came before the driver.
            self.armed.remove(&(at, timer.id));
        }
        if pending {
            if timer.armed.is_none() {
                let at = timer.due().min(u64::MAX - 1);
                timer.armed = Some(at);
                self.armed.insert((at, timer.id), ());
            }
            let old = std::mem::replace(&mut timer.count, count);
            if timer.wakes == 0 {
                timer.replaced.push(old);
            }
            timer.wakes = 0;
        } else {
            assert!(timer.sleep.is_elapsed());
            assert_eq!(count.get(), 0, "ready, and woken for it");
        }
    }

    fn reset(&mut self, pick: u16, to: impl FnOnce(u64, u64) -> u64) {
        let Some(i) = self.pick(pick) else { return };
        let timer = &mut self.timers[i];
        let deadline = to(self.now, timer.sleep.deadline().as_nanos());
        Pin::new(&mut timer.sleep).reset(Instant::from_nanos(deadline));
        if let Some(at) = timer.armed {
            self.armed.remove(&(at, timer.id));
            let at = timer.due().min(u64::MAX - 1);
            timer.armed = Some(at);
            self.armed.insert((at, timer.id), ());
        }
    }

    fn advance(&mut self, ns: u64) {
        let start = self.now;
        self.now = start.saturating_add(ns);
        let expected = self.expire(|due, _| due.max(start));
        assert_eq!(self.manual.fast_forward(Duration::from_nanos(ns)), expected);
    }

    /// Returns whether there was another deadline.
    fn next(&mut self) -> bool {
        let next = self.armed.first_key_value().map(|(&(at, _), ())| at);
        let next = next.filter(|&at| at < u64::MAX - 1);
        assert_eq!(self.manual.next_deadline().map(Instant::as_nanos), next);
        if let Some(at) = next {
            self.now = self.now.max(at);
            self.expire(|_, now| now);
        }
        assert_eq!(self.manual.advance_to_next().map(Instant::as_nanos), next);
        next.is_some()
    }

    /// Notes what fires by now, and when. Returns how many.
    fn expire(&mut self, when: impl Fn(u64, u64) -> u64) -> usize {
        let mut later = self.armed.split_off(&(self.now.saturating_add(1), 0));
        if self.now == u64::MAX {
            later.clear();
        }
        let due = std::mem::replace(&mut self.armed, later);
        for &(at, id) in due.keys() {
            let timer = &mut self.timers[self.places[&id]];
            timer.armed = None;
            timer.wakes = 1;
            self.log.push(Fired {
                deadline: Instant::from_nanos(at),
                at: Instant::from_nanos(when(at, self.now)),
            });
        }
        due.len()
    }

    fn check(&mut self) {
        assert_eq!(self.manual.now().as_nanos(), self.now);
        let stats = self.manual.timekeeper().stats();
        assert_eq!(stats.live, self.armed.len() as u64);
        assert_eq!(stats.fired, self.log.len() as u64);
        assert_eq!(self.wakes.load(SeqCst), self.log.len(), "not a wake for each firing");
        self.unexamined += 1;
        // A look at each is for small crowds, and for large ones now and then.
        if self.unexamined * FEW >= self.timers.len() {
            self.examine();
        }
    }

    /// Looks at each timer, and at what has fired since the last time.
    fn examine(&mut self) {
        self.unexamined = 0;
        let log = self.manual.fired();
        assert_eq!(log.len(), self.log.len());
        for (i, (log, expected)) in log.iter().zip(&self.log).enumerate().skip(self.compared) {
            assert_eq!(log, expected, "firing {i}, since {}", self.compared);
        }
        self.compared = log.len();
        for timer in &self.timers {
            assert_eq!(timer.count.get(), timer.wakes, "due {}", timer.due());
            assert!(timer.replaced.iter().all(|count| count.get() == 0));
        }
        let live = self.timers.iter().filter(|timer| timer.armed.is_some()).count();
        assert_eq!(live, self.armed.len());
    }
}

#[cfg(all(test, not(any(deadbeat_loom, deadbeat_shuttle))))]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        // A quarter of what is asked for: a case is some hundred operations on up to some thousand timers.
        #![proptest_config(ProptestConfig {
            cases: ProptestConfig::default().cases / 4,
            failure_persistence: None,
            ..ProptestConfig::default()
        })]

        #[test]
        fn the_driver_agrees_with_a_sorted_map(
            ops in prop::collection::vec(any::<[u8; 4]>().prop_map(Op::decode), 0..150),
        ) {
            run(&ops);
        }
    }

    #[test]
    fn storms_keep_the_order_of_deadlines() {
        let span = |bit, offset| Span { bit, offset };
        for bit in [4, 13, 20, 30] {
            run(&[
                Op::Burst(1500, span(bit, 77)),
                Op::Burst(700, span(bit + 1, -3)),
                Op::Arm(span(bit, 1), 0),
                Op::Cancel(5),
                Op::Touch(9, span(bit, 0)),
                Op::Earlier(1400, span(bit - 1, 0)),
                Op::Jump(span(bit + 3, 0)),
            ]);
        }
    }

    #[test]
    fn the_end_of_time_is_reached_without_a_panic() {
        let far = Span { bit: 63, offset: 0 };
        let second = Span { bit: 30, offset: 0 };
        run(&[
            Op::Arm(far, 0),
            Op::Touch(0, far),
            Op::Arm(second, 39),
            Op::Arm(far, 39),
            Op::Advance(far),
            Op::Arm(far, 0),
            Op::Next,
            Op::Advance(far),
            Op::Poll(0),
            Op::Reset(0, second),
            Op::Poll(0),
            Op::Next,
        ]);
    }

    #[test]
    fn a_node_found_moved_in_a_storm_fires_before_what_the_batch_has_passed() {
        // Two nodes of cancelled timers serve again. They are in the wheel under their old deadlines;
        // when these come, so do timers that are due after the new ones.
        let span = |bit, offset| Span { bit, offset };
        let mut ops = vec![
            Op::Burst(1872, span(25, 0)),
            Op::Advance(span(23, 0)),
            Op::Touch(0, span(23, 0)),
            Op::Arm(span(23, 0), 0),
            Op::Arm(span(23, 0), 23),
            Op::Next,
            Op::Next,
            Op::Cancel(0),
            Op::Cancel(10),
            Op::Burst(1024, span(26, -24)),
        ];
        ops.extend([Op::Next; 200]);
        ops.push(Op::Jump(span(63, 0)));
        run(&ops);
    }
}
