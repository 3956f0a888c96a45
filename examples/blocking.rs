//! Timers without async: closures that the driver thread runs, and a sleep that blocks.
//!
//! ```text
//! cargo run --example blocking
//! ```
//!
//! A worker samples something at a fixed rate, and a watchdog speaks up when it is stuck.

use std::sync::mpsc::{self, Sender};

use deadbeat::time::{Duration, Instant};
use deadbeat::{Callback, Timekeeper, sleep_until};

/// How often the worker samples.
const PERIOD: Duration = Duration::from_millis(20);
/// How long it may take for a sample.
const STUCK_AFTER: Duration = Duration::from_millis(50);

/// Reports a step that takes too long, while it is still going on.
struct Watchdog {
    timekeeper: Timekeeper,
    reports: Sender<String>,
}

impl Watchdog {
    /// Watches a step until what is returned is dropped: that cancels the call.
    fn watch(&self, step: &str) -> Callback {
        let report = format!("{step} takes more than {STUCK_AFTER:?}");
        let reports = self.reports.clone();
        let at = self.timekeeper.now() + STUCK_AFTER;
        // On the driver thread, so it must be short and must not block: it hands over to a channel.
        self.timekeeper.call_at(at, move || drop(reports.send(report)))
    }
}

fn main() {
    let (reports, inbox) = mpsc::channel();
    let watchdog = Watchdog { timekeeper: Timekeeper::current(), reports };

    let start = Instant::now();
    for step in 0..10_u32 {
        // From the start, not from the last wake-up: lateness doesn't add up.
        let due = start + step * PERIOD;
        sleep_until(due);
        println!("sample {step:2} at {:6.2?}, {:.0?} late", due - start, due.elapsed());

        let _watched = watchdog.watch(&format!("sample {step}"));
        if step == 5 {
            // As if the device had hung.
            sleep_until(Instant::now() + 2 * STUCK_AFTER);
        }
    }

    drop(watchdog);
    for report in inbox {
        println!("watchdog: {report}");
    }
}
