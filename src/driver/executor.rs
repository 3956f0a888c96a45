//! The executor of a manual Timekeeper: one thread, first woken first run, and time moves only when
//! nothing is left to run.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};

use crate::sync::atomic::{AtomicBool, Ordering::AcqRel, Ordering::Release};
use crate::sync::{Mutex, lock};

type Queue = Arc<Mutex<VecDeque<Arc<Task>>>>;

#[derive(Default)]
pub(super) struct Executor {
    ready: Queue,
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
        task.wake_by_ref();
        JoinHandle { slot }
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
        let mut slot = lock(&self.slot);
        match slot.output.take() {
            Some(output) => Poll::Ready(output),
            None => {
                assert!(!slot.finished, "`JoinHandle` polled after it was ready");
                slot.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}
