//! Work done while the clock jumps to and fro.

use std::{
    future::{Future, pending},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{
            AtomicBool,
            Ordering::{Acquire, Relaxed, Release},
        },
    },
    task::{Context, Wake, Waker},
    thread,
    time::Duration,
};

use deadbeat::{
    clock::Clock,
    time::{Sleep, sleep, timeout},
};

use super::{Failed, Measured, SEED, jump, now, run, size, wait_until};
use crate::support::{System, Timeouts, is_test, systems::Deadbeat, waker};

/// How far, and how often.
const JUMP_NS: i64 = 200_000_000;
const EVERY: Duration = Duration::from_millis(10);
/// Between two sleeps of the open loop.
const ARRIVALS: Duration = Duration::from_micros(50);
/// How many may be under way. More than 20 ms of arrivals, while none sleeps longer than 0.5 ms.
const PLACES: usize = 4096;
/// Timeouts of the closed loop between two looks at the open one.
const BATCH: usize = 64;

const CASES: [&str; 3] = ["silent", "quiet", "strobe"];

pub(super) fn line() -> Result<String, Failed> {
    let mut runs: [Vec<Measured>; 3] = Default::default();
    for _ in 0..size(3, 1) {
        for (case, runs) in CASES.iter().zip(&mut runs) {
            runs.push(run("strobe", case)?);
        }
    }
    let [silent, quiet, strobe] = runs.map(|runs| {
        let values = [0, 1].map(|i| median(runs.iter().map(|run| run.values[i]).collect()));
        // That of the last run, as an example.
        Measured { values, note: runs.last().map(|run| run.note.clone()).unwrap_or_default() }
    });
    let ratio = |i: usize| strobe.values[i] / quiet.values[i];
    let case = |name: &str, Measured { values: [cancelled, fired], note }: &Measured| {
        format!("{name} {cancelled:.0} cancelled, {fired:.0} fired per second: {note}")
    };
    Ok(format!(
        "{:.2} of quiet (cancelled {:.2}, fired {:.2}; {}s; {} | {}; {})",
        ratio(0).min(ratio(1)),
        ratio(0),
        ratio(1),
        length().as_secs_f64(),
        case("strobe", &strobe),
        case("quiet", &quiet),
        case("silent", &silent),
    ))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Of one run.
fn length() -> Duration {
    Duration::from_millis(if is_test() { 200 } else { 2500 })
}

pub(super) fn measure(case: &str) -> Result<Measured, Failed> {
    Deadbeat::start(1);
    let clock = Clock::system();
    clock.calibrate();
    match case {
        "silent" => {}
        // Said once beforehand, so that it is refused here or not at all.
        _ => jump(0)?,
    }
    let by_ns = if case == "strobe" { JUMP_NS } else { 0 };
    let over = Arc::new(AtomicBool::new(false));
    let strober = (case != "silent").then(|| {
        let over = over.clone();
        thread::spawn(move || strobe(by_ns, &over))
    });
    let (ours, jumps) = (clock.now(), clock.jumps().total());
    let start = now();
    let mut work = Work::new(start);
    work.go_on(start + length());
    let took = now() - start;
    // On a clock that stands still, nothing would end.
    let done = (work.cancelled, work.fired);
    work.finish(now() + Duration::from_secs(1));
    // Ordering: there is nothing else to see.
    over.store(true, Relaxed);
    let jumped = strober.map_or(Ok(0), |it| it.join().expect("it does nothing but jump"))?;
    let note = format!(
        "{jumped} jumps made, {} on record, {} leapt over, {} refused, {} unfired, \
         clock {:+.0} ms, from the {}",
        clock.jumps().total() - jumps,
        work.leapt,
        work.refused,
        work.live.len(),
        ((clock.now() - ours).as_secs_f64() - (now() - start).as_secs_f64()) * 1e3,
        clock.source(),
    );
    let rate = |count: u64| count as f64 / took.as_secs_f64();
    Ok(Measured { values: [rate(done.0), rate(done.1)], note })
}

/// Jumps forward and back until it is over. How often it did.
fn strobe(by_ns: i64, over: &AtomicBool) -> Result<u64, Failed> {
    let mut next = now();
    let mut jumps = 0;
    // Ordering: as above.
    while !over.load(Relaxed) {
        next += EVERY;
        wait_until(next);
        jump(if jumps % 2 == 0 { by_ns } else { -by_ns })?;
        jumps += 1;
    }
    Ok(jumps)
}

/// What the one thread does.
struct Work {
    timeouts: Timeouts,
    rng: fastrand::Rng,
    waker: Waker,
    /// Where the sleeps of the open loop are, and those of them that are free or under way.
    places: Vec<Place>,
    free: Vec<usize>,
    live: Vec<usize>,
    next: Duration,
    cancelled: u64,
    fired: u64,
    /// Timeouts of 10 ms and more that were over at the first poll, because the clock leapt.
    leapt: u64,
    /// Sleeps that found no place.
    refused: u64,
}

struct Place {
    sleep: Pin<Box<Option<Sleep>>>,
    called: Arc<Called>,
    waker: Waker,
}

/// A waker that tells that it was called.
#[derive(Default)]
struct Called(AtomicBool);

impl Wake for Called {
    fn wake(self: Arc<Self>) {
        // Ordering: release what the driver did before.
        self.0.store(true, Release);
    }
}

impl Work {
    fn new(start: Duration) -> Self {
        let place = |_| {
            let called = Arc::new(Called::default());
            Place { sleep: Box::pin(None), waker: Waker::from(called.clone()), called }
        };
        Self {
            timeouts: Timeouts::new(SEED),
            rng: fastrand::Rng::with_seed(SEED),
            waker: waker(),
            places: (0..PLACES).map(place).collect(),
            free: (0..PLACES).collect(),
            live: Vec::with_capacity(PLACES),
            next: start,
            cancelled: 0,
            fired: 0,
            leapt: 0,
            refused: 0,
        }
    }

    fn go_on(&mut self, until: Duration) {
        loop {
            let now = now();
            if now >= until {
                return;
            }
            while self.next <= now {
                self.next += ARRIVALS;
                self.arrive();
            }
            self.collect();
            for _ in 0..BATCH {
                let timeout = pin!(timeout(self.timeouts.next(), pending::<()>()));
                let armed = timeout.poll(&mut Context::from_waker(&self.waker)).is_pending();
                self.cancelled += u64::from(armed);
                self.leapt += u64::from(!armed);
            }
        }
    }

    /// Waits for what is still under way.
    fn finish(&mut self, until: Duration) {
        while !self.live.is_empty() && now() < until {
            wait_until(now() + Duration::from_millis(1));
            self.collect();
        }
    }

    /// Arms a sleep.
    fn arrive(&mut self) {
        let time = Duration::from_micros(self.rng.u64(50..=500));
        let Some(index) = self.free.pop() else {
            self.refused += 1;
            return;
        };
        self.places[index].sleep.set(Some(sleep(time)));
        if self.places[index].is_over() {
            self.fired += 1;
            self.free.push(index);
        } else {
            self.live.push(index);
        }
    }

    /// Polls those that were woken.
    fn collect(&mut self) {
        let Self { places, free, live, fired, .. } = self;
        live.retain(|&index| {
            let place = &mut places[index];
            // Ordering: acquire what the driver did before.
            let over = place.called.0.swap(false, Acquire) && place.is_over();
            if over {
                *fired += 1;
                free.push(index);
            }
            !over
        });
    }
}

impl Place {
    /// Polls the sleep, and takes it away if it is ready.
    fn is_over(&mut self) -> bool {
        let mut cx = Context::from_waker(&self.waker);
        let over =
            self.sleep.as_mut().as_pin_mut().is_none_or(|sleep| sleep.poll(&mut cx).is_ready());
        if over {
            self.sleep.set(None);
        }
        over
    }
}
