//! What timers leave in memory, and what they take.

use std::{
    future::{Future, pending},
    hint::black_box,
    pin::Pin,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    task::Waker,
    thread,
    time::Duration,
};

use super::{Measured, size};
use crate::support::{
    System,
    alloc::Counting,
    arm, os,
    systems::{AsyncIo, Deadbeat, Pingora, Tokio},
    waker,
};

#[global_allocator]
static HEAP: Counting = Counting::new();

const TIMEOUT: Duration = Duration::from_secs(300);
const MIB: f64 = 1024.0 * 1024.0;

/// A place for a timer that is allocated once, however many timers go through it.
type Place<T> = Pin<Box<Option<T>>>;

fn places<T>(count: usize) -> Vec<Place<T>> {
    (0..count).map(|_| Box::pin(None)).collect()
}

/// Drops what was there, and arms another.
fn renew<T: Future>(place: &mut Place<T>, timer: T, waker: &Waker) {
    place.set(Some(timer));
    arm(place.as_mut().as_pin_mut().expect("just set"), waker);
}

pub(super) fn cancelled_here<S: System>() -> Measured {
    const LIVE: usize = 1000;
    let system = S::start(1);
    let rounds = size(10_000_000, 20_000) / LIVE;
    system.run(async {
        let waker = waker();
        let mut places = places(LIVE);
        let mut run = |rounds: usize| {
            for _ in 0..rounds {
                for place in &mut places {
                    renew(place, system.timeout(TIMEOUT), &waker);
                }
            }
        };
        // Not of interest: what the first timers bring in, code and threads among it. What it takes
        // to hold a thousand is.
        arm(Box::pin(system.timeout(TIMEOUT)).as_mut(), &waker);
        os::pass(Duration::from_millis(100));
        let before = os::rss();
        run(rounds);
        growth(before, rounds * LIVE)
    })
}

pub(super) fn cancelled_there<S: System>() -> Measured {
    const BATCH: usize = 256;
    const BATCHES: usize = 4;
    let system = S::start(2);
    let make = system.clone();
    let make = move || make.timeout(TIMEOUT);
    let rounds = size(10_000_000, 20_000) / BATCH;
    system.run(async {
        let waker = waker();
        let (full, full_there) = sync_channel(BATCHES);
        let (empty_there, empty) = sync_channel(BATCHES);
        let there = system.clone();
        let canceller =
            thread::spawn(move || there.run(async { cancel(&full_there, &empty_there) }));
        for _ in 0..BATCHES {
            full.send(places(BATCH)).expect("the other thread runs");
        }
        arm(Box::pin(make()).as_mut(), &waker);
        os::pass(Duration::from_millis(100));
        let before = os::rss();
        for _ in 0..rounds {
            let mut batch: Vec<Place<_>> = empty.recv().expect("the other thread runs");
            for place in &mut batch {
                renew(place, make(), &waker);
            }
            full.send(batch).expect("the other thread runs");
        }
        let measured = growth(before, rounds * BATCH);
        drop(full);
        drop(empty);
        canceller.join().expect("it does not panic");
        measured
    })
}

fn cancel<T>(full: &Receiver<Vec<Place<T>>>, empty: &SyncSender<Vec<Place<T>>>) {
    for mut batch in full {
        for place in &mut batch {
            place.set(None);
        }
        if empty.send(batch).is_err() {
            return;
        }
    }
}

fn growth(before: u64, timers: usize) -> Measured {
    // Less than before counts as less.
    let growth = os::rss() as f64 - before as f64;
    Measured::new(
        growth / MIB,
        format!("{timers} timers, {:.1} MiB in all", os::rss() as f64 / MIB),
    )
}

pub(super) fn bytes_deadbeat() -> Measured {
    let future = deadbeat::time::sleep(TIMEOUT);
    bytes::<Deadbeat>(&format!("Sleep {} bytes", size_of_val(&future)))
}

pub(super) fn bytes_tokio() -> Measured {
    bytes::<Tokio>(&format!(
        "Sleep {}, Timeout {}",
        size_of::<tokio::time::Sleep>(),
        size_of::<tokio::time::Timeout<std::future::Pending<()>>>()
    ))
}

pub(super) fn bytes_async_io() -> Measured {
    bytes::<AsyncIo>(&format!("Timer {}", size_of::<async_io::Timer>()))
}

pub(super) fn bytes_pingora() -> Measured {
    let future = pingora_timeout::fast_timeout::fast_timeout(TIMEOUT, pending::<()>());
    bytes::<Pingora>(&format!("Timeout {}", size_of_val(&future)))
}

fn bytes<S: System>(note: &str) -> Measured {
    let count = size(1_000_000, 10_000);
    let system = S::start(1);
    let mut rng = fastrand::Rng::with_seed(0);
    system.run(async {
        let waker = waker();
        let mut timers: Vec<_> = (0..count)
            .map(|_| {
                let timeout = Duration::from_millis(rng.u64(60_000..600_000));
                Box::pin(system.timeout(timeout))
            })
            .collect();
        let (heap, rss) = (HEAP.live(), os::rss());
        for timer in &mut timers {
            arm(timer.as_mut(), &waker);
        }
        // Until they are where they wait.
        os::pass(Duration::from_millis(500));
        let per_timer = |bytes: u64, before: u64| (bytes as f64 - before as f64) / count as f64;
        let heap = per_timer(HEAP.live(), heap);
        let rss = per_timer(os::rss(), rss);
        black_box(&timers);
        Measured::new(heap, format!("resident {rss:.1}, {count} live; {note}"))
    })
}
