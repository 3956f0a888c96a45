//! Many timers of the same moment.

use std::{
    future::Future,
    hint::{black_box, spin_loop},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use super::{Measured, size};
use crate::support::{
    Count, System, arm, is_test, now, os,
    systems::{AsyncIo, Deadbeat, Tokio},
};

/// A system that takes a moment to wait for.
pub(super) trait At: System {
    fn sleep_until(&self, deadline: Instant) -> impl Future + Send + use<Self>;
}

impl At for Deadbeat {
    fn sleep_until(&self, deadline: Instant) -> impl Future + Send + use<> {
        deadbeat::time::sleep_until(deadbeat::time::Instant::from_std(deadline))
    }
}

impl At for Tokio {
    fn sleep_until(&self, deadline: Instant) -> impl Future + Send + use<> {
        tokio::time::sleep_until(deadline.into())
    }
}

impl At for AsyncIo {
    fn sleep_until(&self, deadline: Instant) -> impl Future + Send + use<> {
        async_io::Timer::at(deadline)
    }
}

/// Arms `count` timers for `deadline`.
///
/// # Panics
///
/// If that takes too long.
fn crowd<S: At>(
    system: &S,
    count: usize,
    deadline: Instant,
    waker: &Waker,
) -> Vec<Pin<Box<impl Future + use<S>>>> {
    let timers = (0..count)
        .map(|_| {
            let mut timer = Box::pin(system.sleep_until(deadline));
            arm(timer.as_mut(), waker);
            timer
        })
        .collect();
    assert!(now() + SETTLE < deadline, "this machine is too slow to arm {count} timers in time");
    timers
}

/// What a driver has to sort the last of a crowd.
const SETTLE: Duration = Duration::from_millis(200);

/// How long it is going to be in arming so many.
fn lead(count: usize) -> Duration {
    2 * SETTLE + Duration::from_micros(2) * u32::try_from(count).expect("not that many")
}

pub(super) fn storm<S: At>() -> Measured {
    const EVERY: Duration = Duration::from_micros(20);
    const FRESH: Duration = Duration::from_millis(1);
    let count = size(1_000_000, 10_000);
    let system = S::start(1);
    system.run(async {
        let fired = Arc::new(Count::default());
        let moment = now() + lead(count);
        let crowd = crowd(&system, count, moment, &Waker::from(fired.clone()));
        // Made beforehand: the thread that arms is to do nothing else meanwhile.
        let stamps: Vec<_> = (0..size(500_000, 50_000)).map(|_| Stamp::new(moment)).collect();
        let mut fresh = Vec::with_capacity(stamps.len());
        os::pass((moment - Duration::from_millis(2)).saturating_duration_since(now()));
        let mut next = now();
        for stamp in &stamps {
            while now() < next {
                spin_loop();
            }
            next = (next + EVERY).max(now());
            let deadline = now() + FRESH;
            let mut timer = Box::pin(system.sleep_until(deadline));
            let waker = Waker::from(stamp.clone());
            let armed = timer.as_mut().poll(&mut Context::from_waker(&waker)).is_pending();
            // Else this thread was not on a processor for a millisecond, which is nobody's lateness.
            if armed {
                fresh.push((deadline, timer, stamp));
            }
            if fired.get() == count as u64 {
                break;
            }
        }
        let over = now();
        assert_eq!(fired.get(), count as u64, "the storm is not over");
        while fresh.iter().any(|(.., stamp)| stamp.get().is_none()) {
            os::pass(FRESH);
        }
        let mut late: Vec<Duration> = fresh
            .iter()
            .filter(|(deadline, ..)| (moment..=over).contains(deadline))
            .filter_map(|(deadline, _, stamp)| {
                Some(stamp.get()?.saturating_duration_since(*deadline))
            })
            .collect();
        late.sort_unstable();
        black_box(crowd);
        let quantile = |q: f64| {
            // Nothing, if the storm was over at once.
            let rank = (late.len() as f64 * q).ceil().max(1.0) - 1.0;
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank")]
            late.get(rank as usize).map_or(f64::NAN, |late| late.as_secs_f64() * 1e6)
        };
        let note = format!(
            "p50 {:.0}, p99 {:.0}, max {:.0}; {} fresh ones in a storm of {:.0} ms",
            quantile(0.5),
            quantile(0.99),
            quantile(1.0),
            late.len(),
            (over - moment).as_secs_f64() * 1e3
        );
        Measured::new(quantile(0.999), note)
    })
}

/// A waker that writes down when it was called.
#[derive(Debug)]
struct Stamp {
    zero: Instant,
    /// Nanoseconds from then; 0: not called.
    at_ns: AtomicU64,
}

impl Stamp {
    fn new(moment: Instant) -> Arc<Self> {
        let zero = moment - Duration::from_secs(1);
        Arc::new(Self { zero, at_ns: AtomicU64::new(0) })
    }

    fn get(&self) -> Option<Instant> {
        // Ordering: the value is all there is.
        match self.at_ns.load(Relaxed) {
            0 => None,
            ns => Some(self.zero + Duration::from_nanos(ns)),
        }
    }
}

impl Wake for Stamp {
    fn wake(self: Arc<Self>) {
        let ns = now().saturating_duration_since(self.zero).as_nanos();
        // Ordering: as above.
        self.at_ns.store(u64::try_from(ns).expect("seconds"), Relaxed);
    }
}

pub(super) fn expiry<S: At>() -> Measured {
    let count = size(100_000, 1_000);
    let rounds = if is_test() { 1 } else { 20 };
    let system = S::start(1);
    let mut total = Duration::ZERO;
    let mut wall = Duration::ZERO;
    system.run(async {
        for _ in 0..rounds {
            let last = Arc::new(Last::new(count as u64));
            let moment = now() + lead(count);
            let crowd = crowd(&system, count, moment, &Waker::from(last.clone()));
            os::pass((moment - SETTLE / 2).saturating_duration_since(now()));
            let before = os::others().cpu;
            while !last.has_come() {
                thread::park();
            }
            wall += now().saturating_duration_since(moment);
            // Until the driver sleeps again, so that all that it did is on its account.
            os::pass(Duration::from_millis(5));
            total += os::others().cpu.saturating_sub(before);
            drop(crowd);
        }
    });
    let each = |time: Duration| time.as_secs_f64() * 1e9 / (rounds * count) as f64;
    Measured::new(each(total), format!("by the clock {:.1}; {rounds} × {count}", each(wall)))
}

/// A waker that unparks a thread when it is called for the last time.
struct Last {
    left: AtomicU64,
    thread: Thread,
}

impl Last {
    fn new(count: u64) -> Self {
        Self { left: AtomicU64::new(count), thread: thread::current() }
    }

    fn has_come(&self) -> bool {
        // Ordering: unparking orders it.
        self.left.load(Relaxed) == 0
    }
}

impl Wake for Last {
    fn wake(self: Arc<Self>) {
        // Ordering: as above.
        if self.left.fetch_sub(1, Relaxed) == 1 {
            self.thread.unpark();
        }
    }
}
