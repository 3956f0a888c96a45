//! Timers for those who are not async: a closure that the driver thread runs.

use std::fmt;
use std::sync::Arc;
use std::task::{Wake, Waker};

use super::timekeeper::Timekeeper;
use super::timer::Timer;
use crate::clock::{Class, Instant};
use crate::sync::{Mutex, lock};

/// A closure that runs at a deadline. See [`Timekeeper::call_at`].
///
/// Dropping it cancels, unless it was [`detach`](Self::detach)ed. It is not a future: there is nothing to
/// poll. Once the call has run, [`cancel`](Self::cancel) returns false, and dropping or detaching it does
/// nothing. A call that is running is not waited for.
#[must_use = "dropping it cancels the call"]
pub struct Callback {
    task: Arc<Task>,
    detached: bool,
}

struct Task {
    deadline_ns: u64,
    /// Armed with a waker that holds this very task: the circle is cut by firing or cancelling.
    timer: Mutex<Option<Timer>>,
    call: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        // Both out of their locks before anything of the user's runs.
        let call = lock(&self.call).take();
        let timer = lock(&self.timer).take();
        // The end of a Timekeeper wakes everybody, due or not. Nothing else does: it is armed for
        // its deadline, and never moved.
        let due = timer
            .is_none_or(|timer| !timer.core().is_stopped() || timer.has_come(self.deadline_ns));
        if let Some(call) = call
            && due
        {
            call();
        }
    }
}

impl Timekeeper {
    /// Runs `call` on the driver thread when `deadline` has come.
    ///
    /// `call` must be short and must not block: every later timer of this Timekeeper waits for it. A
    /// panic in it is caught and counted ([`Stats::waker_panics`](crate::Stats::waker_panics)).
    ///
    /// # Timing
    ///
    /// Never before `deadline`; a deadline that has passed is due at once, and still runs on the
    /// driver thread. Never at all if the Timekeeper is [shut down](Self::shutdown) before: `call` is
    /// then dropped. At [`Instant::FAR_FUTURE`] never, either; it is dropped with the handle.
    ///
    /// An elapsed deadline is on the clock that goes on while the machine is suspended: see
    /// [`Sleep`](crate::time::Sleep).
    ///
    /// # Complexity
    ///
    /// *O*(1) to register and to cancel, with two allocations.
    ///
    /// # Panics
    ///
    /// If the Timekeeper was shut down, or if the driver thread can't be started.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::mpsc;
    /// use deadbeat::{Timekeeper, time::Duration};
    ///
    /// let (tx, rx) = mpsc::channel();
    /// let timekeeper = Timekeeper::global();
    /// let at = timekeeper.now() + Duration::from_micros(100);
    /// timekeeper.call_at(at, move || tx.send("called").unwrap()).detach();
    /// assert_eq!(rx.recv(), Ok("called"));
    /// ```
    pub fn call_at<C: Class>(
        &self,
        deadline: Instant<C>,
        call: impl FnOnce() + Send + 'static,
    ) -> Callback {
        let task = Arc::new(Task {
            deadline_ns: deadline.as_nanos(),
            timer: Mutex::new(None),
            call: Mutex::new(Some(Box::new(call))),
        });
        if deadline == Instant::<C>::FAR_FUTURE {
            // Never, so nothing is to keep the call.
            return Callback { task, detached: false };
        }
        let waker = Waker::from(task.clone());
        let mut timer = Timer::new(self.core().clone(), C::ELAPSED);
        let armed = {
            // Under the lock, so that a call which is due at once finds its timer here.
            let mut slot = lock(&task.timer);
            // For the exact deadline and without a look at the clock: nobody polls it, to spin or to
            // find it due.
            let armed = timer.arm(&waker, deadline.as_nanos());
            *slot = Some(timer);
            armed
        };
        if let Err(stopped) = armed {
            panic!("`call_at`: {stopped}");
        }
        Callback { task, detached: false }
    }
}

impl Callback {
    /// Cancels the call. Returns whether that has kept it from running; false if it has run, is
    /// running, or was dropped by a shutdown.
    ///
    /// # Examples
    ///
    /// ```
    /// use deadbeat::{Manual, time::Duration};
    ///
    /// let manual = Manual::new();
    /// let at = manual.now() + Duration::from_secs(1);
    /// let call = manual.timekeeper().call_at(at, || panic!("cancelled"));
    /// assert!(call.cancel());
    /// manual.fast_forward(Duration::from_secs(2));
    /// ```
    pub fn cancel(self) -> bool {
        self.task.cancel()
    }

    /// Lets the call happen without this handle.
    pub fn detach(mut self) {
        self.detached = true;
    }
}

impl Task {
    fn cancel(&self) -> bool {
        // Whoever takes the closure decides; the timer goes after it, outside the lock.
        let call = lock(&self.call).take();
        let timer = lock(&self.timer).take();
        drop(timer);
        call.is_some()
    }
}

impl Drop for Callback {
    fn drop(&mut self) {
        if !self.detached {
            self.task.cancel();
        }
    }
}

impl fmt::Debug for Callback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Callback").field("pending", &lock(&self.task.call).is_some()).finish()
    }
}
