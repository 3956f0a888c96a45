//! How often a read is behind a value that another thread had already published.
//!
//! One thread reads and stores what it has read, releasing; the other loads that, acquiring, and
//! reads in turn. Its own reading must not be less. The counter is the same for all; what differs is
//! whether the processor may take the reading before the load ahead of it.
//!
//! `cargo bench --bench causality [-- READS]`, 25 million reads unless told.

#![allow(missing_docs, clippy::disallowed_methods, reason = "measures the others, too")]

use std::{
    env,
    sync::atomic::{
        AtomicBool, AtomicU64,
        Ordering::{Acquire, Relaxed, Release},
    },
    thread,
    time::Instant,
};

use deadbeat::clock::Clock;

fn main() {
    let reads = env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(25_000_000);
    let clock = Clock::system();
    println!("{}\n", clock.calibrate());
    println!("{:<24}{:>12}{:>12}{:>12}", "clock", "reads", "behind", "worst ns");

    measure("deadbeat ordered", reads, || clock.now().as_nanos());
    measure("deadbeat unordered", reads, || clock.now_unordered().as_nanos());
    let start = Instant::now();
    measure("std", reads, || u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
    let quanta = quanta::Clock::new();
    let start = quanta.raw();
    measure("quanta", reads, || quanta.delta_as_nanos(start, quanta.raw()));
}

fn measure(name: &str, reads: u64, read_ns: impl Fn() -> u64 + Sync) {
    let published = AtomicU64::new(0);
    let over = AtomicBool::new(false);
    let (mut behind, mut worst_ns) = (0_u64, 0_u64);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Relaxed) {
                published.store(read_ns(), Release);
            }
        });
        for _ in 0..reads {
            let floor_ns = published.load(Acquire);
            let now_ns = read_ns();
            if now_ns < floor_ns {
                behind += 1;
                worst_ns = worst_ns.max(floor_ns - now_ns);
            }
        }
        over.store(true, Relaxed);
    });
    println!("{name:<24}{reads:>12}{behind:>12}{worst_ns:>12}");
}
