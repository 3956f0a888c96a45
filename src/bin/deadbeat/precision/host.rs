//! The runtime that a system's tasks run on: the same for every system, each with its own.

use super::kernel::{self, ThreadId};
use super::round::Round;
use clap::ValueEnum;
use parking_lot::Mutex;
use std::io;
use std::sync::Arc;
use std::time::Instant;
use tokio::runtime::{Builder, Handle, Runtime};

/// Which of tokio's runtimes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Flavor {
    /// A worker for every core.
    Multi,
    /// Everything on the main thread.
    Current,
}

impl Flavor {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Multi => "multi",
            Self::Current => "current",
        }
    }
}

/// A tokio runtime with its time driver, which a service would have too, used or not.
#[derive(Debug)]
pub(crate) struct Host {
    runtime: Runtime,
    workers: Arc<Mutex<Vec<ThreadId>>>,
}

impl Host {
    /// Starts a runtime.
    ///
    /// # Errors
    ///
    /// The system's, if it refuses the threads.
    pub(crate) fn new(flavor: Flavor) -> io::Result<Self> {
        Self::start(match flavor {
            Flavor::Multi => Builder::new_multi_thread(),
            Flavor::Current => Builder::new_current_thread(),
        })
    }

    /// Starts a runtime whose timers are tokio's alternative ones, which are multi-threaded only.
    ///
    /// # Errors
    ///
    /// As [`Host::new`].
    #[cfg(tokio_unstable)]
    pub(crate) fn with_alternative_timers() -> io::Result<Self> {
        let mut builder = Builder::new_multi_thread();
        builder.enable_alt_timer();
        Self::start(builder)
    }

    fn start(mut builder: Builder) -> io::Result<Self> {
        let workers = Arc::new(Mutex::new(Vec::new()));
        let started = Arc::clone(&workers);
        let runtime = builder
            .enable_time()
            .on_thread_start(move || started.lock().extend(kernel::current_thread()))
            .build()?;
        Ok(Self { runtime, workers })
    }

    /// The threads that poll the tasks.
    pub(crate) fn workers(&self) -> Vec<ThreadId> {
        let workers = self.workers.lock().clone();
        // The current-thread runtime starts none: it runs on whoever blocks on it.
        if workers.is_empty() { kernel::current_thread().into_iter().collect() } else { workers }
    }

    pub(crate) fn handle(&self) -> &Handle {
        self.runtime.handle()
    }

    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Spawns the tasks of `round`; each waits by `sleep_until`, called as the task first runs.
    pub(crate) fn spawn_round<S, F>(&self, round: &Arc<Round>, sleep_until: S)
    where
        S: Fn(usize, Instant) -> F + Clone + Send + 'static,
        F: Future + Send,
    {
        for task in 0..round.tasks() {
            let (round, sleep_until) = (Arc::clone(round), sleep_until.clone());
            self.runtime.spawn(async move {
                sleep_until(task, round.begin(task)).await;
                round.record(task);
            });
        }
    }
}
