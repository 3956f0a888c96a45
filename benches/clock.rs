//! What it costs to read the time.
//!
//! Each figure is a read whose result is used and nothing else; the loop adds a fraction of a
//! nanosecond. `ordered` is what arming a timer pays, `unordered` what a stopwatch pays. The raw
//! counter is the floor for both; it isn't converted to nanoseconds. The first read in 20 ms
//! re-anchors, so that its cost is in the figures as it is in a program that reads all the time.

#![allow(
    missing_docs,
    unsafe_code,
    clippy::disallowed_methods,
    reason = "measures the others, too"
)]

use std::{hint::black_box, time::Instant};

use criterion::{Criterion, criterion_group, criterion_main};
use deadbeat::clock::{Clock, Preference};

fn reads(c: &mut Criterion) {
    let clock = Clock::system();
    clock.calibrate();
    eprintln!("{}", clock.report());
    let os = Clock::builder().preference(Preference::Os).build();
    let quanta = quanta::Clock::new();

    let mut group = c.benchmark_group("clock");
    group.bench_function("ordered", |b| b.iter(|| black_box(clock.now())));
    group.bench_function("unordered", |b| b.iter(|| black_box(clock.now_unordered())));
    group.bench_function("elapsed", |b| b.iter(|| black_box(clock.now_elapsed())));
    group.bench_function("current", |b| {
        b.iter(|| black_box(deadbeat::clock::Instant::<deadbeat::clock::Active>::now()))
    });
    group.bench_function("os", |b| b.iter(|| black_box(os.now())));
    group.bench_function("std", |b| b.iter(|| black_box(Instant::now())));
    group.bench_function("quanta", |b| b.iter(|| black_box(quanta.now())));
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
    #[cfg(target_os = "linux")]
    for (name, id) in [("monotonic", libc::CLOCK_MONOTONIC), ("boottime", libc::CLOCK_BOOTTIME)] {
        group.bench_function(name, |b| {
            b.iter(|| {
                let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
                // SAFETY: `time` is a valid place for one `timespec`.
                unsafe { libc::clock_gettime(id, &raw mut time) };
                black_box(time.tv_nsec)
            });
        });
    }
    group.finish();
    eprintln!("{}", clock.report());
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(std::time::Duration::from_millis(300))
        .measurement_time(std::time::Duration::from_secs(2));
    targets = reads
}
criterion_main!(benches);
