//! The second floor: the same sleeps, and a waker that each hands on to a task.

use super::{SleeperThread, System, TimerThreads, cheapest_arm};
use crate::precision::host::Host;
use crate::precision::kernel::now;
use crate::precision::round::Round;
use parking_lot::Mutex;
use std::future::poll_fn;
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

#[derive(Debug)]
pub(super) struct KernelWake {
    host: Host,
    sleeper: SleeperThread,
}

impl KernelWake {
    pub(super) fn new(host: Host) -> io::Result<Self> {
        Ok(Self { host, sleeper: SleeperThread::start()? })
    }
}

impl System for KernelWake {
    fn host(&self) -> &Host {
        &self.host
    }

    fn start(&self, round: &Arc<Round>) -> io::Result<()> {
        let gates: Arc<[Gate]> = (0..round.tasks()).map(|_| Gate::default()).collect();
        let order = round.by_deadline();
        let sleeper_gates = Arc::clone(&gates);
        self.sleeper.run(move |sleeper| {
            for (task, deadline) in order {
                if now() < deadline {
                    sleeper.sleep_until(deadline);
                }
                sleeper_gates[task].open();
            }
        });
        self.host.spawn_round(round, move |task, _| {
            let gates = Arc::clone(&gates);
            poll_fn(move |context| gates[task].poll(context))
        });
        Ok(())
    }

    fn timer_threads(&self) -> TimerThreads {
        self.sleeper.timer_threads()
    }

    fn arm_and_drop(&self, _: Duration) -> Box<dyn FnMut() + Send> {
        cheapest_arm()
    }
}

/// What one task waits at.
#[derive(Debug, Default)]
struct Gate {
    state: Mutex<GateState>,
}

#[derive(Debug, Default)]
struct GateState {
    open: bool,
    waker: Option<Waker>,
}

impl Gate {
    fn open(&self) {
        let mut state = self.state.lock();
        state.open = true;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn poll(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.state.lock();
        if state.open {
            return Poll::Ready(());
        }
        state.waker = Some(context.waker().clone());
        Poll::Pending
    }
}
