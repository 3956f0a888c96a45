//! What it costs to move the deadline of an armed timer: idle timeouts, keepalives, leases.
//!
//! ```text
//! cargo bench --bench reset
//! ```
//!
//! - `reset/{system}/later`, `earlier`, `same`: one timer, armed for about an hour, is moved by a
//!   microsecond at a time, or to where it is. The deadline is known, no clock is read.
//! - `touch/{system}`: the clock is read, and the timer moved to a minute from then: what every byte
//!   that arrives does to an idle timeout. Ours is an `IdleTimer`; `floor` is the read of our clock,
//!   and an addition.
//!
//! 1000 other timers are armed for the next 60 to 600 s, so that the moved one is not the next to be
//! due, and no system has to be told of it at once. Beware: `futures-timer` reads the clock for every
//! move, and wakes its thread; `async-io` leaves the move to its thread, until a queue is full; `tokio`
//! and `deadbeat` take the timer to its place when the old one comes due.

mod support;

use std::{
    cell::RefCell,
    future::Future,
    hint::black_box,
    ops::{Add, Sub},
    pin::Pin,
    time::{Duration, Instant},
};

use criterion::{
    BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime,
};
use deadbeat::{clock::Clock, time::IdleTimer};
use support::{
    System, arm, group, now, standing,
    systems::{AsyncIo, Deadbeat, Floor, FuturesTimer, LockedMap, MapTimer, Tokio},
    waker,
};

const HOUR: Duration = Duration::from_hours(1);
const IDLE: Duration = Duration::from_mins(1);
const STEP: Duration = Duration::from_micros(1);
/// Steps before the deadline goes back to where it began.
const STEPS: u32 = 600_000_000;
const STANDING: usize = 1000;

/// A system whose timers can be moved.
trait Movable: System {
    type Timer: Future + Send;
    /// How it names a moment.
    type Time: Copy + Add<Duration, Output = Self::Time> + Sub<Duration, Output = Self::Time>;

    fn timer(&self, deadline: Instant) -> Self::Timer;
    fn time(instant: Instant) -> Self::Time;
    fn move_to(timer: Pin<&mut Self::Timer>, deadline: Self::Time);
}

/// How each system makes a timer, and how it moves one.
macro_rules! movable {
    ($system:ty, $timer:ty, $time:ty, $new:expr, $move_to:expr) => {
        impl Movable for $system {
            type Timer = $timer;
            type Time = $time;

            fn timer(&self, deadline: Instant) -> Self::Timer {
                $new(self, deadline)
            }

            fn time(instant: Instant) -> Self::Time {
                instant.into()
            }

            #[inline]
            fn move_to(timer: Pin<&mut Self::Timer>, deadline: Self::Time) {
                $move_to(timer, deadline);
            }
        }
    };
}

movable!(
    Deadbeat,
    deadbeat::time::Sleep,
    deadbeat::time::Instant,
    |_: &Self, deadline: Instant| deadbeat::time::sleep_until(deadline.into()),
    deadbeat::time::Sleep::reset
);
movable!(
    Tokio,
    tokio::time::Sleep,
    tokio::time::Instant,
    |_: &Self, deadline: Instant| tokio::time::sleep_until(deadline.into()),
    tokio::time::Sleep::reset
);
movable!(
    AsyncIo,
    async_io::Timer,
    Instant,
    |_: &Self, deadline| async_io::Timer::at(deadline),
    |mut timer: Pin<&mut async_io::Timer>, deadline| timer.set_at(deadline)
);
movable!(
    FuturesTimer,
    futures_timer::Delay,
    Instant,
    |_: &Self, deadline: Instant| futures_timer::Delay::new(deadline.duration_since(now())),
    |mut timer: Pin<&mut futures_timer::Delay>, deadline: Instant| {
        timer.reset(deadline.saturating_duration_since(now()));
    }
);
movable!(
    LockedMap,
    MapTimer,
    Instant,
    LockedMap::timer,
    |mut timer: Pin<&mut MapTimer>, deadline| timer.move_to(deadline)
);

fn reset<S: Movable>(c: &mut Criterion) {
    let mut group = group(c, format!("reset/{}", S::NAME));
    let begin = now() + HOUR;
    let timer = |system: &S| system.timer(begin);
    let begin = black_box(S::time(begin));
    measure(&mut group, "later", &timer, |timer, step| {
        S::move_to(timer, begin + STEP * step);
    });
    measure(&mut group, "earlier", &timer, |timer, step| {
        S::move_to(timer, begin - STEP * step);
    });
    measure(&mut group, "same", &timer, |timer, _| S::move_to(timer, black_box(begin)));
}

fn touch<S: System, T: Future>(
    c: &mut Criterion,
    timer: impl Fn(&S) -> T,
    mut touch: impl FnMut(Pin<&mut T>),
) {
    let mut group = group(c, "touch".to_owned());
    measure(&mut group, S::NAME, &timer, |timer, _| touch(timer));
}

/// Measures `change` of one timer among others, with a number that grows.
fn measure<S: System, T: Future>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    id: &str,
    timer: &impl Fn(&S) -> T,
    mut change: impl FnMut(Pin<&mut T>, u32),
) {
    let system = RefCell::new(None);
    group.bench_function(id, |b| {
        let mut system = system.borrow_mut();
        let system = system.get_or_insert_with(|| S::start(1));
        system.run(async {
            let others = standing(system, STANDING, 0).await;
            let mut timer = Box::pin(timer(system));
            arm(timer.as_mut(), &waker());
            let mut step = 0;
            b.iter(|| {
                step = if step == STEPS { 0 } else { step + 1 };
                change(timer.as_mut(), step);
            });
            drop(others);
        });
    });
}

fn floor(c: &mut Criterion) {
    let mut group = group(c, "touch".to_owned());
    group.bench_function(Floor::NAME, |b| {
        Floor::start(1);
        let clock = Clock::system();
        b.iter(|| clock.now() + black_box(IDLE));
    });
}

fn all(c: &mut Criterion) {
    floor(c);
    touch(c, |_: &Deadbeat| IdleTimer::new(IDLE), |timer| timer.get_mut().touch());
    touch(
        c,
        |_: &Tokio| tokio::time::sleep(IDLE),
        |timer| timer.reset(tokio::time::Instant::now() + IDLE),
    );
    touch(c, |_: &AsyncIo| async_io::Timer::after(IDLE), |mut timer| timer.set_after(IDLE));
    touch(c, |_: &FuturesTimer| futures_timer::Delay::new(IDLE), |mut timer| timer.reset(IDLE));
    touch(c, |map: &LockedMap| map.timer(now() + IDLE), |mut timer| timer.move_to(now() + IDLE));
    reset::<Deadbeat>(c);
    reset::<Tokio>(c);
    reset::<AsyncIo>(c);
    reset::<FuturesTimer>(c);
    reset::<LockedMap>(c);
}

criterion_group!(benches, all);
criterion_main!(benches);
