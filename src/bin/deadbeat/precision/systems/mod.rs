//! The systems under measurement, and the floors below them.

mod async_io;
mod deadbeat;
mod kernel;
mod kernel_wake;
mod std_thread;
mod tokio;

use super::host::{Flavor, Host};
use super::kernel::{Sleeper, ThreadId, current_thread};
use super::round::Round;
use std::io;
use std::sync::{Arc, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

/// One way to wait until a deadline.
pub(crate) trait System {
    /// The runtime that the tasks of this system run on, and nobody else's.
    fn host(&self) -> &Host;

    /// Starts the tasks of `round`, each of which waits for its deadline and records.
    ///
    /// # Errors
    ///
    /// The system's, if it refuses threads to a system that needs them.
    fn start(&self, round: &Arc<Round>) -> io::Result<()>;

    /// Where the cost of the timers can be read.
    fn timer_threads(&self) -> TimerThreads;

    /// What arms one timeout of this kind and drops it. Called inside the runtime's context, on
    /// one thread.
    fn arm_and_drop(&self, timeout: Duration) -> Box<dyn FnMut() + Send>;
}

/// The threads that a system's timers run on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TimerThreads {
    /// They do nothing else.
    Own(Vec<ThreadId>),
    /// They also run the tasks.
    Workers(Vec<ThreadId>),
    /// They can't be told.
    Unknown,
}

/// Names a system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `deadbeat::time::sleep_until`.
    Deadbeat,
    /// The same, with the learned spin.
    DeadbeatSpin,
    /// `tokio::time::sleep_until`.
    Tokio,
    /// The same on tokio's alternative timers.
    #[cfg(tokio_unstable)]
    TokioAlt,
    /// `async_io::Timer::at`.
    AsyncIo,
    /// A thread for each task, which parks.
    StdThread,
    /// A bare absolute sleep, read on the thread that slept.
    Kernel,
    /// The same, which wakes a task.
    KernelWake,
}

impl Kind {
    /// All that are compiled in.
    pub(crate) const ALL: &[Self] = &[
        Self::Deadbeat,
        Self::DeadbeatSpin,
        Self::Tokio,
        #[cfg(tokio_unstable)]
        Self::TokioAlt,
        Self::AsyncIo,
        Self::StdThread,
        Self::Kernel,
        Self::KernelWake,
    ];

    /// What both floors are asked for by.
    pub(crate) const FLOOR: &str = "floor";

    /// What is measured unless asked otherwise.
    pub(crate) const DEFAULT: &str = "deadbeat,tokio,floor";

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Deadbeat => "deadbeat",
            Self::DeadbeatSpin => "deadbeat-spin",
            Self::Tokio => "tokio",
            #[cfg(tokio_unstable)]
            Self::TokioAlt => "tokio-alt",
            Self::AsyncIo => "async-io",
            Self::StdThread => "std-thread",
            Self::Kernel => "kernel",
            Self::KernelWake => "kernel+wake",
        }
    }

    /// Whether it is a floor rather than a contender.
    pub(crate) fn is_floor(self) -> bool {
        matches!(self, Self::Kernel | Self::KernelWake)
    }

    /// Whether a timer of this system can be allowed to be late.
    pub(crate) fn takes_slack(self) -> bool {
        matches!(self, Self::Deadbeat | Self::DeadbeatSpin)
    }

    /// Whether it runs on this runtime.
    pub(crate) fn runs_on(self, flavor: Flavor) -> bool {
        match self {
            #[cfg(tokio_unstable)]
            Self::TokioAlt => flavor == Flavor::Multi,
            _ => matches!(flavor, Flavor::Multi | Flavor::Current),
        }
    }

    /// Starts the system, with its own runtime; its timers may be late by `slack`, if it takes that.
    ///
    /// # Errors
    ///
    /// The system's, if it refuses the threads.
    pub(crate) fn start(self, flavor: Flavor, slack: Duration) -> io::Result<Box<dyn System>> {
        Ok(match self {
            Self::Deadbeat => Box::new(deadbeat::Deadbeat::new(Host::new(flavor)?, false, slack)),
            Self::DeadbeatSpin => {
                Box::new(deadbeat::Deadbeat::new(Host::new(flavor)?, true, slack))
            }
            Self::Tokio => Box::new(tokio::Tokio::new(Host::new(flavor)?)),
            #[cfg(tokio_unstable)]
            Self::TokioAlt => Box::new(tokio::Tokio::new(Host::with_alternative_timers()?)),
            Self::AsyncIo => Box::new(async_io::AsyncIo::new(Host::new(flavor)?)),
            Self::StdThread => Box::new(std_thread::StdThread::new(Host::new(flavor)?)),
            Self::Kernel => Box::new(kernel::Kernel::new(Host::new(flavor)?)?),
            Self::KernelWake => Box::new(kernel_wake::KernelWake::new(Host::new(flavor)?)?),
        })
    }
}

/// Polls `future` once, to which it must not be ready, and drops it.
fn poll_and_drop(future: impl Future) {
    let mut context = Context::from_waker(Waker::noop());
    let poll = std::pin::pin!(future).poll(&mut context);
    debug_assert!(matches!(poll, Poll::Pending), "a timeout was over as it was armed");
}

/// What arming costs at the least: a clock read, and a waker cloned and dropped. The floors, which
/// have no timeouts to arm, churn with this.
fn cheapest_arm() -> Box<dyn FnMut() + Send> {
    Box::new(|| {
        std::hint::black_box((super::kernel::now(), Waker::noop().clone()));
    })
}

type Job = Box<dyn FnOnce(&Sleeper) + Send>;

/// A thread that sleeps for the floors, and waits for the next round in between.
#[derive(Debug)]
struct SleeperThread {
    jobs: mpsc::Sender<Job>,
    thread: Option<ThreadId>,
}

impl SleeperThread {
    fn start() -> io::Result<Self> {
        let (jobs, queue) = mpsc::channel::<Job>();
        let (tell, told) = mpsc::channel();
        thread::Builder::new().name("floor".into()).spawn(move || {
            let sleeper = Sleeper::on_this_thread();
            let _ = tell.send(current_thread());
            for job in queue {
                job(&sleeper);
            }
        })?;
        let thread = told.recv().ok().flatten();
        Ok(Self { jobs, thread })
    }

    fn run(&self, job: impl FnOnce(&Sleeper) + Send + 'static) {
        self.jobs.send(Box::new(job)).expect("the thread runs until its sender is dropped");
    }

    fn timer_threads(&self) -> TimerThreads {
        self.thread.map_or(TimerThreads::Unknown, |thread| TimerThreads::Own(vec![thread]))
    }
}
