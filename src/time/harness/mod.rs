//! Random operations on the types of this module, against naive oracles: for property tests and for
//! fuzzing.
//!
//! A fuzz target is one line: `fuzz_target!(|bytes: &[u8]| harness::delay_queue(bytes));`.

mod delay_queue;
mod interval;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Wake, Waker};
use std::time::Duration;

pub use delay_queue::delay_queue;
pub use interval::interval;

/// Counts the wakes of a task that there isn't.
#[derive(Debug, Default)]
pub(super) struct Wakes(AtomicUsize);

impl Wakes {
    pub(super) fn new() -> (Arc<Self>, Waker) {
        let wakes = Arc::<Self>::default();
        (wakes.clone(), wakes.into())
    }

    /// How many there were since the last call.
    pub(super) fn take(&self) -> usize {
        // Ordering: of one thread.
        self.0.swap(0, Relaxed)
    }
}

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Ordering: of one thread.
        self.0.fetch_add(1, Relaxed);
    }
}

/// Reads operations from bytes; zeros when there are no more.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn next(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    fn byte(&mut self) -> u8 {
        self.next().unwrap_or(0)
    }

    /// A duration that is likely to meet another: few nanoseconds, or a power of two up to 2^38, give or
    /// take one.
    fn span(&mut self) -> Duration {
        let byte = self.byte();
        let n = byte / 8;
        let ns = match byte % 8 {
            0..4 => u64::from(n),
            kind => {
                // From 16 ms on every second power, so that five bits reach minutes.
                let bit = n + n.saturating_sub(24);
                (1_u64 << bit).saturating_add_signed(i64::from(kind) - 6)
            }
        };
        Duration::from_nanos(ns)
    }
}
