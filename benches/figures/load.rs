//! What timers take from the processors: while nothing is due, and while much is.

use std::{
    future::Future,
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::{Duration, Instant},
};

use deadbeat::Timekeeper;

use super::{Measured, size};
use crate::support::{System, arm, is_test, now, os, systems::Deadbeat, waker};

fn window(full: Duration) -> Duration {
    if is_test() { full / 50 } else { full }
}

pub(super) fn deadbeat_wakes() -> Measured {
    let mut before = deadbeat::Stats::default();
    let mut after = deadbeat::Stats::default();
    let stats = || Timekeeper::global().stats();
    let mut measured = waking::<Deadbeat>(&mut || before = stats(), &mut || after = stats());
    measured.note += &format!(
        ", the driver counts {} wakes, {} of them spurious",
        after.wakes - before.wakes,
        after.spurious_wakes - before.spurious_wakes,
    );
    measured
}

pub(super) fn wakes<S: System>() -> Measured {
    waking::<S>(&mut || {}, &mut || {})
}

fn waking<S: System>(before: &mut dyn FnMut(), after: &mut dyn FnMut()) -> Measured {
    let count = size(100_000, 1_000);
    let window = window(Duration::from_secs(5));
    let system = S::start(1);
    let mut rng = fastrand::Rng::with_seed(0);
    system.run(async {
        let waker = waker();
        let timers: Vec<_> = (0..count)
            .map(|_| {
                let timeout = Duration::from_millis(rng.u64(12_000..600_000));
                let mut timer = Box::pin(system.timeout(timeout));
                arm(timer.as_mut(), &waker);
                timer
            })
            .collect();
        // The last threads end, the driver has sorted what it was told of.
        os::pass(window / 5);
        before();
        let used = os::others();
        os::pass(window);
        let used = os::others().since(used);
        after();
        black_box(&timers);
        let seconds = window.as_secs_f64();
        Measured::new(
            used.wakes as f64 / seconds,
            format!("{:.3} ms CPU per second", used.cpu.as_secs_f64() * 1e3 / seconds),
        )
    })
}

const PERIODS: u64 = 50;
const PERIOD_STEP: Duration = Duration::from_micros(20);

/// The deadlines of one sleeper.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Beat {
    next: Instant,
    period: Duration,
}

impl Beat {
    fn all() -> impl Iterator<Item = Self> {
        let begin = now();
        (1..=PERIODS).map(move |n| {
            let period = PERIOD_STEP * u32::try_from(n).expect("a small number");
            Self { next: begin + period, period }
        })
    }

    /// The first one after `now`, in step with those before.
    fn step(&mut self, now: Instant) {
        let late = now.saturating_duration_since(self.next).as_nanos();
        let missed = u32::try_from(late / self.period.as_nanos()).expect("it runs for seconds");
        self.next += self.period * (missed + 1);
    }
}

pub(super) fn sleepers_deadbeat() -> Measured {
    sleepers(|at| deadbeat::time::sleep_until(deadbeat::time::Instant::from_std(at)))
}

pub(super) fn sleepers_slack() -> Measured {
    const SLACK: Duration = Duration::from_micros(50);
    sleepers(|at| {
        deadbeat::time::sleep_until(deadbeat::time::Instant::from_std(at)).with_slack(SLACK)
    })
}

pub(super) fn sleepers_tokio() -> Measured {
    sleepers(|at| tokio::time::sleep_until(at.into()))
}

fn sleepers<F>(sleep_until: impl Fn(Instant) -> F + Copy + Send + 'static) -> Measured
where
    F: Future + Send,
{
    measure(move |run| {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        let runtime = builder.enable_time().build().expect("a runtime");
        let sleepers: Vec<_> = Beat::all()
            .map(|mut beat| {
                let run = run.clone();
                runtime.spawn(async move {
                    while run.goes_on() {
                        sleep_until(beat.next).await;
                        run.woke();
                        beat.step(now());
                    }
                })
            })
            .collect();
        runtime.block_on(async {
            for sleeper in sleepers {
                sleeper.await.expect("it does not panic");
            }
        });
    })
}

pub(super) fn sleepers_kernel() -> Measured {
    measure(|run| {
        let sleeper = os::Sleeper::on_this_thread();
        let mut beats: std::collections::BinaryHeap<_> =
            Beat::all().map(std::cmp::Reverse).collect();
        while run.goes_on() {
            let Some(std::cmp::Reverse(mut beat)) = beats.pop() else { return };
            if now() < beat.next {
                sleeper.sleep_until(beat.next);
            }
            run.woke();
            beat.step(now());
            beats.push(std::cmp::Reverse(beat));
        }
    })
}

/// What the sleepers share with who measures them.
#[derive(Debug, Default)]
struct Run {
    over: AtomicBool,
    woken: AtomicU64,
}

impl Run {
    fn goes_on(&self) -> bool {
        // Ordering: nothing hangs on when they see it; and the count is a figure.
        !self.over.load(Relaxed)
    }

    fn woke(&self) {
        self.woken.fetch_add(1, Relaxed);
    }
}

/// Runs `sleepers` on a thread, and measures the process meanwhile.
fn measure(sleepers: impl FnOnce(&Arc<Run>) + Send + 'static) -> Measured {
    let window = window(Duration::from_secs(3));
    let run = Arc::new(Run::default());
    let thread = {
        let run = run.clone();
        thread::spawn(move || sleepers(&run))
    };
    os::pass(window / 10);
    let read = || (now(), os::cpu(), run.woken.load(Relaxed));
    let (begin, cpu, woken) = read();
    os::pass(window);
    let (end, cpu_then, woken_then) = read();
    run.over.store(true, Relaxed);
    thread.join().expect("it does not panic");
    let seconds = (end - begin).as_secs_f64();
    let woken = (woken_then - woken) as f64 / seconds;
    Measured::new(
        (cpu_then - cpu).as_secs_f64() * 1e3 / seconds,
        format!("{woken:.0} sleeps per second"),
    )
}
