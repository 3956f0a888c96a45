//! The executor of a manual Timekeeper: one thread, first woken first run, and time moves only when
//! nothing is left to run.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, Wake, Waker};

use crate::sync::atomic::{AtomicBool, Ordering::AcqRel, Ordering::Release};
use crate::sync::{Mutex, lock};

type Queue = Arc<Mutex<VecDeque<Arc<Task>>>>;

#[derive(Default)]
pub(super) struct Executor {
    ready: Queue,
    /// All tasks, to end them with the executor: they may wait where nothing else ever drops them, in
    /// the ready queue or as the waker of a timer that they own.
    tasks: Mutex<Tasks>,
    /// A `block_on` is going on.
    running: AtomicBool,
}

#[derive(Default)]
struct Tasks {
    all: Vec<Weak<Task>>,
    /// At which length those that have ended are removed next.
    prune_at: usize,
}

impl Tasks {
    fn add(&mut self, task: &Arc<Task>) {
        if self.all.len() >= self.prune_at {
            self.all.retain(|task| task.strong_count() > 0);
            self.prune_at = (2 * self.all.len()).max(64);
        }
        self.all.push(Arc::downgrade(task));
    }
}

/// Says that the executor is free again, however its `block_on` ends.
struct Running<'a>(&'a AtomicBool);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        // Ordering: whoever runs it next sees what was done.
        self.0.store(false, Release);
    }
}

struct Task {
    /// `None` is the future of `block_on` itself, or a task that has ended.
    future: Mutex<Option<Pin<Box<dyn Future<Output = ()> + Send>>>>,
    main: bool,
    queued: AtomicBool,
    ready: Queue,
}

impl Task {
    fn new(future: Option<Pin<Box<dyn Future<Output = ()> + Send>>>, ready: &Queue) -> Arc<Self> {
        Arc::new(Self {
            main: future.is_none(),
            future: Mutex::new(future),
            queued: AtomicBool::new(false),
            ready: ready.clone(),
        })
    }
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Ordering: whoever sets it queues the task; acquires and releases what the wake tells of.
        if !self.queued.swap(true, AcqRel) {
            lock(&self.ready).push_back(self.clone());
        }
    }
}

impl Executor {
    /// Runs `future` and all tasks; calls `idle` when nothing is left to run.
    pub(super) fn block_on<F: Future>(&self, future: F, mut idle: impl FnMut()) -> F::Output {
        // A task that is being polled here would not be found by another who polls, and miss its wake.
        // Ordering: acquires from the one who ran it last.
        assert!(
            !self.running.swap(true, AcqRel),
            "`Manual::block_on` within `Manual::block_on`, or on two threads at once"
        );
        let _running = Running(&self.running);
        let mut future = pin!(future);
        let main = Task::new(None, &self.ready);
        let main_waker = Waker::from(main.clone());
        main.wake_by_ref();
        loop {
            let next = lock(&self.ready).pop_front();
            let Some(task) = next else {
                idle();
                continue;
            };
            // Ordering: release, before the poll: a wake from now on queues it again.
            task.queued.store(false, Release);
            if Arc::ptr_eq(&task, &main) {
                if let Poll::Ready(output) =
                    future.as_mut().poll(&mut Context::from_waker(&main_waker))
                {
                    return output;
                }
            } else if !task.main {
                let waker = Waker::from(task.clone());
                // Taken out while it is polled: it may wake or abort itself.
                let taken = lock(&task.future).take();
                if let Some(mut running) = taken
                    && running.as_mut().poll(&mut Context::from_waker(&waker)).is_pending()
                {
                    *lock(&task.future) = Some(running);
                }
            }
        }
    }

    pub(super) fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send,
    {
        let slot = Arc::new(Mutex::new(Slot { output: None, waker: None, finished: false }));
        let result = slot.clone();
        let task = Task::new(
            Some(Box::pin(async move {
                let output = future.await;
                let waker = {
                    let mut slot = lock(&result);
                    slot.output = Some(output);
                    slot.finished = true;
                    slot.waker.take()
                };
                if let Some(waker) = waker {
                    waker.wake();
                }
            })),
            &self.ready,
        );
        lock(&self.tasks).add(&task);
        task.wake_by_ref();
        JoinHandle { slot }
    }
}

impl Drop for Executor {
    fn drop(&mut self) {
        let tasks = std::mem::take(&mut *lock(&self.tasks)).all;
        // Each out of its lock first: what a future owns is user data.
        for task in tasks.iter().filter_map(Weak::upgrade) {
            let future = lock(&task.future).take();
            drop(future);
        }
        let ready = std::mem::take(&mut *lock(&self.ready));
        drop(ready);
    }
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Executor").field("ready", &lock(&self.ready).len()).finish()
    }
}

#[derive(Debug)]
struct Slot<T> {
    output: Option<T>,
    waker: Option<Waker>,
    finished: bool,
}

/// The result of a task of [`Manual::spawn`](crate::Manual::spawn): a future of its output. Dropping
/// it leaves the task running.
#[derive(Debug)]
pub struct JoinHandle<T> {
    slot: Arc<Mutex<Slot<T>>>,
}

impl<T> JoinHandle<T> {
    /// Whether the task has ended.
    pub fn is_finished(&self) -> bool {
        lock(&self.slot).finished
    }
}

impl<T> Future for JoinHandle<T> {
    type Output = T;

    /// # Panics
    ///
    /// If polled again after it was ready.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        // Cloned before, and the old one dropped after, because both are user code.
        let mut waker = Some(cx.waker().clone());
        let mut slot = lock(&self.slot);
        match slot.output.take() {
            Some(output) => Poll::Ready(output),
            None => {
                assert!(!slot.finished, "`JoinHandle` polled after it was ready");
                std::mem::swap(&mut slot.waker, &mut waker);
                drop(slot);
                drop(waker);
                Poll::Pending
            }
        }
    }
}
