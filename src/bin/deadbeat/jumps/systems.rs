//! The systems: what each waits by, and what each reads.

use super::log::Log;
use super::reads::Read;
use deadbeat::Timekeeper;
use deadbeat::clock::Clock;
use std::cmp::Ordering;
use std::future::{Future, pending, poll_fn};
use std::pin::pin;
use std::sync::OnceLock;
use std::task::Poll;
use std::time::{Duration, Instant};
use std::{io, thread};
use tokio::runtime::Builder;
use tokio_util::time::DelayQueue;

/// Who keeps time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum System {
    /// `deadbeat::time::sleep_until` and `interval_at`.
    Deadbeat,
    /// `tokio::time`'s of the same names.
    Tokio,
    /// `tokio_util::time::DelayQueue`, one for all.
    DelayQueue,
    /// A thread for each timer: `thread::sleep`, once.
    StdSleep,
    /// A thread for each timer: `thread::park_timeout`, until `Instant::now` is late enough.
    StdPark,
    /// A clock without timers.
    Quanta,
}

impl System {
    pub(crate) const ALL: [Self; 6] = [
        Self::Deadbeat,
        Self::Tokio,
        Self::DelayQueue,
        Self::StdSleep,
        Self::StdPark,
        Self::Quanta,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Deadbeat => "deadbeat",
            Self::Tokio => "tokio",
            Self::DelayQueue => "delay-queue",
            Self::StdSleep => "std-sleep",
            Self::StdPark => "std-park",
            Self::Quanta => "quanta",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|system| system.name() == name)
    }

    pub(super) fn has_timers(self) -> bool {
        self != Self::Quanta
    }

    /// Calibrates what has to be, while the counter can still be trusted.
    pub(super) fn calibrate(self) {
        match self {
            Self::Deadbeat => {
                Clock::system().calibrate();
            }
            Self::Quanta => {
                quanta_clock();
            }
            Self::Tokio | Self::DelayQueue | Self::StdSleep | Self::StdPark => {}
        }
    }

    /// Sets the start of the log, arms everything, and returns; threads go on as long as the process.
    ///
    /// # Errors
    ///
    /// The system's, if it refuses threads.
    pub(super) fn start(self, log: &'static Log) -> io::Result<()> {
        match self {
            Self::Deadbeat => on_runtime(log, move || deadbeat_timers(log)),
            Self::Tokio => on_runtime(log, move || tokio_timers(log)),
            Self::DelayQueue => on_runtime(log, move || delay_queue(log)),
            Self::StdSleep => on_threads(log, sleep),
            Self::StdPark => on_threads(log, park),
            Self::Quanta => {
                log.begin(|| ());
                Ok(())
            }
        }
    }

    /// The clock that its timers are on.
    pub(super) fn reader(self) -> Read {
        match self {
            Self::Deadbeat => {
                let clock = Clock::system();
                Box::new(move || clock.now().as_nanos().into())
            }
            Self::Tokio | Self::DelayQueue => {
                let first = tokio::time::Instant::now();
                Box::new(move || signed(tokio::time::Instant::now(), first, |a, b| a - b))
            }
            Self::StdSleep | Self::StdPark => {
                let first = std_now();
                Box::new(move || signed(std_now(), first, |a, b| a - b))
            }
            Self::Quanta => {
                let clock = quanta_clock();
                let first = clock.now();
                Box::new(move || signed(clock.now(), first, |a, b| a - b))
            }
        }
    }

    /// What it says about the fault, and how often its own thread was woken for nothing.
    pub(super) fn account(self) -> (Option<String>, u64) {
        if self != Self::Deadbeat {
            return (None, 0);
        }
        let jumps = Clock::system().jumps();
        let kinds: Vec<_> = jumps.iter().map(|(kind, ..)| kind.name()).collect();
        let class = (!kinds.is_empty()).then(|| kinds.join(", "));
        (class, TIMEKEEPER.get().map_or(0, |timekeeper| timekeeper.stats().spurious_wakes))
    }
}

/// The difference in nanoseconds, where subtracting the later from the earlier is not to be relied on.
fn signed<T: Ord + Copy>(now: T, first: T, between: impl Fn(T, T) -> Duration) -> i128 {
    let nanos = |duration: Duration| i128::try_from(duration.as_nanos()).unwrap_or(i128::MAX);
    match now.cmp(&first) {
        Ordering::Less => -nanos(between(first, now)),
        _ => nanos(between(now, first)),
    }
}

#[expect(clippy::disallowed_methods, reason = "it is what is judged")]
fn std_now() -> Instant {
    Instant::now()
}

fn quanta_clock() -> &'static quanta::Clock {
    static CLOCK: OnceLock<quanta::Clock> = OnceLock::new();
    CLOCK.get_or_init(quanta::Clock::new)
}

static TIMEKEEPER: OnceLock<Timekeeper> = OnceLock::new();

/// A runtime on a thread of its own, the same for all that need one: tokio's current-thread one, with
/// its time driver, which a service would have, used or not.
fn on_runtime<F: Future>(
    log: &'static Log,
    timers: impl FnOnce() -> F + Send + 'static,
) -> io::Result<()> {
    let runtime = Builder::new_current_thread()
        .enable_time()
        .on_thread_park(move || log.parks())
        .on_thread_unpark(move || log.unparked())
        .build()?;
    thread::Builder::new().name("runtime".into()).spawn(move || {
        runtime.block_on(async {
            timers().await;
            pending::<()>().await;
        });
    })?;
    Ok(())
}

/// Counts the polls of a wait. Twice is what it takes: to arm, and to find that it is over.
async fn counted<F: Future>(log: &Log, wait: F) -> F::Output {
    let mut wait = pin!(wait);
    let mut polls = 0;
    poll_fn(|context| {
        log.polled();
        polls += 1;
        let poll = wait.as_mut().poll(context);
        if polls > 1 && poll.is_pending() {
            log.wasted();
        }
        poll
    })
    .await
}

/// The tasks of a system that has sleeps: one for each timer, and a chain of short ones.
fn spawn_sleeps<A, S, F>(log: &'static Log, sleep_at: A, sleep: S)
where
    A: Fn(Duration) -> F,
    S: Fn(Duration) -> F + Send + 'static,
    F: Future + Send + 'static,
{
    for timer in 0..log.plan.timers {
        let wait = sleep_at(log.plan.lead + log.plan.offset(timer));
        tokio::spawn(async move {
            counted(log, wait).await;
            log.fired(timer);
        });
    }
    tokio::spawn(async move {
        loop {
            let due = log.due_in(log.plan.link);
            counted(log, sleep(log.plan.link)).await;
            log.linked(due);
        }
    });
}

async fn deadbeat_timers(log: &'static Log) {
    let timekeeper = TIMEKEEPER.get_or_init(|| Timekeeper::builder().name("jumps").build());
    // Starts its thread.
    timekeeper.sleep_until(timekeeper.now() + Duration::from_millis(20)).await;
    let now = log.begin(|| timekeeper.now());
    spawn_sleeps(
        log,
        |after| timekeeper.sleep_until(now + after),
        |after| timekeeper.sleep_until(timekeeper.now() + after),
    );
    let _entered = timekeeper.enter();
    let mut interval = deadbeat::time::interval_at(now + log.plan.lead, log.plan.period);
    tokio::spawn(async move {
        loop {
            counted(log, interval.tick()).await;
            log.tick();
        }
    });
}

async fn tokio_timers(log: &'static Log) {
    let now = log.begin(tokio::time::Instant::now);
    spawn_sleeps(log, |after| tokio::time::sleep_until(now + after), tokio::time::sleep);
    let mut interval = tokio::time::interval_at(now + log.plan.lead, log.plan.period);
    tokio::spawn(async move {
        loop {
            counted(log, interval.tick()).await;
            log.tick();
        }
    });
}

async fn delay_queue(log: &'static Log) {
    enum Item {
        Timer(usize),
        Tick,
        Link(super::log::Due),
    }
    let mut queue = DelayQueue::new();
    let plan = &log.plan;
    let now = log.begin(tokio::time::Instant::now);
    for timer in 0..plan.timers {
        queue.insert_at(Item::Timer(timer), now + plan.lead + plan.offset(timer));
    }
    queue.insert_at(Item::Tick, now + plan.lead);
    queue.insert(Item::Link(log.due_in(plan.link)), plan.link);
    tokio::spawn(async move {
        loop {
            let mut was_pending = false;
            let expired = poll_fn(|context| {
                log.polled();
                let poll = queue.poll_expired(context);
                // It is never empty.
                if std::mem::replace(&mut was_pending, poll.is_pending()) && poll.is_pending() {
                    log.wasted();
                }
                match poll {
                    Poll::Ready(Some(expired)) => Poll::Ready(expired.into_inner()),
                    Poll::Ready(None) | Poll::Pending => Poll::Pending,
                }
            });
            match expired.await {
                Item::Timer(timer) => log.fired(timer),
                Item::Tick => {
                    log.tick();
                    queue.insert(Item::Tick, log.plan.period);
                }
                Item::Link(due) => {
                    log.linked(due);
                    queue.insert(Item::Link(log.due_in(log.plan.link)), log.plan.link);
                }
            }
        }
    });
}

/// A thread for each timer, one for the interval, and one for the chain.
fn on_threads(log: &'static Log, wait: fn(&Log, Instant)) -> io::Result<()> {
    // Enough for what the threads do.
    const STACK_BYTES: usize = 64 * 1024;
    let thread = || thread::Builder::new().stack_size(STACK_BYTES);
    let plan = log.plan;
    let now = log.begin(std_now);
    for timer in 0..plan.timers {
        let until = now + plan.lead + plan.offset(timer);
        thread().spawn(move || {
            wait(log, until);
            log.fired(timer);
        })?;
    }
    thread().spawn(move || {
        wait(log, now + plan.lead);
        loop {
            log.tick();
            wait(log, std_now() + plan.period);
        }
    })?;
    thread().spawn(move || {
        loop {
            let due = log.due_in(plan.link);
            wait(log, std_now() + plan.link);
            log.linked(due);
        }
    })?;
    Ok(())
}

#[expect(clippy::disallowed_methods, reason = "it is what is judged")]
fn sleep(_: &Log, until: Instant) {
    thread::sleep(until.saturating_duration_since(std_now()));
}

fn park(log: &Log, until: Instant) {
    let mut parked = false;
    loop {
        let left = until.saturating_duration_since(std_now());
        if left.is_zero() {
            return;
        }
        if parked {
            log.wasted();
        }
        thread::park_timeout(left);
        parked = true;
    }
}
