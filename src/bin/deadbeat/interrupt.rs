//! Ctrl-C: the first asks the command to stop and report, the second ends it at once.

use parking_lot::{Condvar, Mutex};
use std::task::Waker;
use std::time::Duration;

/// The exit status of an interrupted command: 128 + SIGINT, as shells have it.
pub(crate) const EXIT_STATUS: u8 = 130;

static STATE: Mutex<State> = Mutex::new(State { raised: false, waker: None });
static RAISED: Condvar = Condvar::new();

struct State {
    raised: bool,
    /// The one task that waits: the command's own, on the main thread.
    waker: Option<Waker>,
}

/// Starts to listen for Ctrl-C, and for the signals that ask a process to end.
pub(crate) fn install() -> Result<(), ctrlc::Error> {
    ctrlc::set_handler(|| {
        let mut state = STATE.lock();
        if state.raised {
            std::process::exit(EXIT_STATUS.into());
        }
        state.raised = true;
        RAISED.notify_all();
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    })
}

/// Whether Ctrl-C was pressed.
pub(crate) fn raised() -> bool {
    STATE.lock().raised
}

/// Whether Ctrl-C was pressed; if not, `waker` is woken when it is.
pub(crate) fn raised_or_register(waker: &Waker) -> bool {
    let mut state = STATE.lock();
    if !state.raised {
        state.waker = Some(waker.clone());
    }
    state.raised
}

/// Waits for `interval`, or until Ctrl-C; returns whether it was Ctrl-C.
pub(crate) fn wait(interval: Duration) -> bool {
    let mut state = STATE.lock();
    RAISED.wait_while_for(&mut state, |state| !state.raised, interval);
    state.raised
}
