//! Waiting without an executor.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use super::park::{Parker, Until};
use super::timekeeper::{Timekeeper, with_current_clock};
use crate::clock::{Class, Clock, Instant};
use crate::sync::atomic::AtomicU32;

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on the calling thread, which sleeps while it is pending.
///
/// For tests and for programs without an executor; in an async program, use its own. Timers are on
/// the current [`Timekeeper`] and need nothing else.
///
/// # Examples
///
/// ```
/// use deadbeat::time::{Duration, Instant, sleep};
///
/// let start = Instant::now();
/// deadbeat::block_on(sleep(Duration::from_micros(300)));
/// assert!(start.elapsed() >= Duration::from_micros(300));
/// ```
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    let mut cx = Context::from_waker(&waker);
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(output) => return output,
            Poll::Pending => thread::park(),
        }
    }
}

/// Blocks the calling thread until `deadline` on the current Timekeeper's clock.
///
/// On the system clock the thread sleeps on absolute kernel time by itself, without the driver;
/// on a clock that is moved by hand it waits for that.
///
/// # Timing
///
/// Never returns before `deadline`. The kernel adds the thread's timer slack, 50 µs by default on
/// Linux (see prctl(2), PR_SET_TIMERSLACK), and the time that it takes to wake up. An elapsed deadline
/// that comes while the machine is suspended ends the wait when it resumes.
///
/// # Examples
///
/// ```
/// use deadbeat::time::{Duration, Instant};
///
/// let deadline = Instant::now() + Duration::from_micros(200);
/// deadbeat::sleep_until(deadline);
/// assert!(Instant::now() >= deadline);
/// ```
pub fn sleep_until<C: Class>(deadline: Instant<C>) {
    let clock = with_current_clock(Clock::clone);
    if clock.is_manual() {
        return block_on(Timekeeper::current().sleep_until(deadline));
    }
    let deadline = deadline.as_nanos();
    let parker = Parker::new();
    let mode = parker.mode(C::ELAPSED);
    let word = AtomicU32::new(mode);
    loop {
        let reading = clock.sample();
        let elapsed_ns = clock.now_elapsed().as_nanos();
        if deadline <= if C::ELAPSED { elapsed_ns } else { reading.safe_ns } {
            return;
        }
        let mut until = Until {
            monotonic_now_ns: reading.monotonic_ns,
            boottime_now_ns: clock.kernel_deadline_elapsed(elapsed_ns),
            ..Until::default()
        };
        if C::ELAPSED {
            until.boottime_ns = Some(clock.kernel_deadline_elapsed(deadline));
        } else {
            until.monotonic_ns = Some(clock.kernel_deadline(deadline));
        }
        parker.park(&word, mode, until);
    }
}
