//! What it costs that the clock is disciplined, while nothing jumps.

#![expect(unsafe_code, reason = "the floor is what the processor and the C library have")]

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use criterion::{BenchmarkGroup, Criterion, measurement::WallTime};
use deadbeat::{
    Timekeeper,
    clock::{Clock, Preference},
    time::sleep,
};

use super::SEED;
use crate::support::{
    System, Timeouts, arm_and_cancel, group,
    systems::{Deadbeat, Floor},
    waker,
};

/// How often a timer fires where the clock is `driven`.
const EVERY: Duration = Duration::from_millis(1);

pub(super) fn all(c: &mut Criterion) {
    eprintln!("seed {SEED}");
    floors(c);
    // Alone comes first: the driver has not been started then.
    let own = || Clock::builder().preference(Preference::Auto).build();
    let own_os = || Clock::builder().preference(Preference::Os).build();
    on_clock(c, "process", Clock::system);
    on_clock(c, "own", own);
    on_clock(c, "own-os", own_os);
}

fn on_clock(c: &mut Criterion, name: &str, clock: impl FnOnce() -> Clock) {
    let clock = clock();
    clock.calibrate();
    let timekeeper = if name == "process" {
        Timekeeper::global()
    } else {
        Timekeeper::builder().clock(clock.clone()).build()
    };
    rows(group(c, format!("read/{name}")), &timekeeper, |b| {
        b.iter(|| black_box(clock.now()));
    });
    let (mut timeouts, waker) = (Timeouts::new(SEED), waker());
    rows(group(c, format!("arm/{name}")), &timekeeper, |b| {
        let _entered = timekeeper.enter();
        b.iter(|| arm_and_cancel(&Deadbeat, black_box(timeouts.next()), &waker));
    });
    eprintln!("{name}: from the {}, {:?}", clock.source(), clock.stats());
}

/// The same measurement alone, and while a driver is at work.
fn rows(
    mut group: BenchmarkGroup<'_, WallTime>,
    timekeeper: &Timekeeper,
    mut row: impl FnMut(&mut criterion::Bencher<'_>),
) {
    group.bench_function("alone", &mut row);
    group.bench_function("driven", |b| {
        let _ticking = Ticking::start(timekeeper.clone());
        row(b);
    });
    group.finish();
}

/// A thread whose timers fire, until this is dropped.
struct Ticking {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Ticking {
    fn start(timekeeper: Timekeeper) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let ticks = async move {
            // Ordering: there is nothing else to see.
            while !stopped.load(Relaxed) {
                sleep(EVERY).await;
            }
        };
        let thread = thread::spawn(move || deadbeat::block_on(timekeeper.scope(ticks)));
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Ticking {
    fn drop(&mut self) {
        // Ordering: as above.
        self.stop.store(true, Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("it only sleeps");
        }
    }
}

fn floors(c: &mut Criterion) {
    let mut group = group(c, "floor".to_owned());
    #[cfg(target_arch = "x86_64")]
    group.bench_function("lfence_rdtsc", |b| {
        b.iter(|| {
            // SAFETY: both are part of x86-64, and touch no memory.
            black_box(unsafe {
                core::arch::x86_64::_mm_lfence();
                core::arch::x86_64::_rdtsc()
            })
        });
    });
    group.bench_function("clock_gettime", |b| {
        b.iter(|| {
            let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            // SAFETY: `time` is a valid place for one `timespec`.
            unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
            black_box(time.tv_nsec)
        });
    });
    group.bench_function("vdso", |b| b.iter(|| black_box(super::now())));
    let (mut timeouts, waker) = (Timeouts::new(SEED), waker());
    let mut floor = None;
    group.bench_function("arm", |b| {
        let floor = floor.get_or_insert_with(|| Floor::start(1));
        b.iter(|| arm_and_cancel(floor, black_box(timeouts.next()), &waker));
    });
    group.finish();
}
