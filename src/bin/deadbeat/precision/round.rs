//! One round of one system: what its tasks share, and where they leave what they saw.

use super::kernel::now;
use crate::interrupt;
use parking_lot::Mutex;
use std::future::poll_fn;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::task::{Poll, Waker};
use std::time::Instant;

/// Deadlines, and a place for the lateness of each, allocated before the round starts.
#[derive(Debug)]
pub(crate) struct Round {
    deadlines: Box<[Instant]>,
    lateness_ns: Box<[AtomicI64]>,
    /// Tasks that have not recorded yet.
    remaining: AtomicUsize,
    armed_late: AtomicUsize,
    waiter: Mutex<Option<Waker>>,
}

impl Round {
    pub(crate) fn new(deadlines: Box<[Instant]>) -> Self {
        Self {
            lateness_ns: deadlines.iter().map(|_| AtomicI64::new(0)).collect(),
            remaining: AtomicUsize::new(deadlines.len()),
            armed_late: AtomicUsize::new(0),
            waiter: Mutex::new(None),
            deadlines,
        }
    }

    /// How many tasks the round has.
    pub(crate) fn tasks(&self) -> usize {
        self.deadlines.len()
    }

    /// The deadline of a task, asked for by the task as it begins to wait.
    pub(crate) fn begin(&self, task: usize) -> Instant {
        let deadline = self.deadlines[task];
        if now() >= deadline {
            // Ordering: a statistic, read after the round; nothing hangs on it.
            self.armed_late.fetch_add(1, Ordering::Relaxed);
        }
        deadline
    }

    /// Records that a task runs again, now.
    pub(crate) fn record(&self, task: usize) {
        let now = now();
        let deadline = self.deadlines[task];
        let late = now.saturating_duration_since(deadline).as_nanos();
        let early = deadline.saturating_duration_since(now).as_nanos();
        let lateness_ns =
            i64::try_from(late).unwrap_or(i64::MAX) - i64::try_from(early).unwrap_or(i64::MAX);
        // Ordering: published by the decrement below.
        self.lateness_ns[task].store(lateness_ns, Ordering::Relaxed);
        // Ordering: Release publishes the sample to whoever sees that none remain.
        if self.remaining.fetch_sub(1, Ordering::Release) == 1 {
            let waiter = self.waiter.lock().take();
            if let Some(waiter) = waiter {
                waiter.wake();
            }
        }
    }

    /// Waits until every task has recorded, and returns `true`; or `false` as soon as the command
    /// is interrupted.
    pub(crate) async fn finished(&self) -> bool {
        poll_fn(|context| {
            let mut waiter = self.waiter.lock();
            // Ordering: Acquire, so that every sample is seen. The last task takes the waiter
            // after its decrement, and under the lock: it is seen here, or it finds the waker.
            if self.remaining.load(Ordering::Acquire) == 0 {
                return Poll::Ready(true);
            }
            *waiter = Some(context.waker().clone());
            drop(waiter);
            if interrupt::raised_or_register(context.waker()) {
                Poll::Ready(false)
            } else {
                Poll::Pending
            }
        })
        .await
    }

    /// The tasks by deadline, the earliest first.
    pub(crate) fn by_deadline(&self) -> Vec<(usize, Instant)> {
        let mut order: Vec<_> = self.deadlines.iter().copied().enumerate().collect();
        order.sort_by_key(|&(_, deadline)| deadline);
        order
    }

    /// Deadline and lateness of every task, in ns and negative if early; of a finished round.
    pub(crate) fn samples(&self) -> impl Iterator<Item = (Instant, i64)> {
        // Ordering: `finished` has acquired what the tasks stored.
        self.deadlines
            .iter()
            .zip(&self.lateness_ns)
            .map(|(&deadline, lateness_ns)| (deadline, lateness_ns.load(Ordering::Relaxed)))
    }

    /// How many tasks began to wait when their deadline was over.
    pub(crate) fn armed_late(&self) -> usize {
        // Ordering: see `begin`.
        self.armed_late.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::Context;
    use std::time::Duration;

    #[test]
    fn a_round_is_finished_when_every_task_has_recorded() {
        let start = now();
        let round = Round::new([start, start + Duration::from_secs(3600)].into());
        let mut finished = std::pin::pin!(round.finished());
        let mut context = Context::from_waker(Waker::noop());
        assert!(finished.as_mut().poll(&mut context).is_pending());
        round.record(0);
        assert!(finished.as_mut().poll(&mut context).is_pending());
        round.record(1);
        assert_eq!(finished.as_mut().poll(&mut context), Poll::Ready(true));

        let lateness: Vec<_> = round.samples().map(|(_, lateness_ns)| lateness_ns).collect();
        assert!(lateness[0] >= 0, "late: {lateness:?}");
        assert!(lateness[1] < -3_000_000_000_000, "early by most of an hour: {lateness:?}");
    }

    #[test]
    fn tasks_that_begin_too_late_are_counted() {
        let start = now();
        let round = Round::new([start, start + Duration::from_secs(3600)].into());
        round.begin(0);
        round.begin(1);
        assert_eq!(round.armed_late(), 1);
    }
}
