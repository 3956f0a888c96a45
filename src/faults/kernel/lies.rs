//! What is said about each clock.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::calls::{are_ours, truth_ns};
use crate::driver::with_signals_blocked;
use crate::faults::line::Line;

/// A clock that can lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Liar {
    Monotonic,
    Boottime,
    Realtime,
    Raw,
}

impl Liar {
    /// That of the kernel's number for a clock.
    pub(super) fn of(clock: libc::clockid_t) -> Option<Self> {
        Some(match clock {
            libc::CLOCK_MONOTONIC | libc::CLOCK_MONOTONIC_COARSE => Self::Monotonic,
            libc::CLOCK_BOOTTIME | libc::CLOCK_BOOTTIME_ALARM => Self::Boottime,
            libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE | libc::CLOCK_REALTIME_ALARM => {
                Self::Realtime
            }
            libc::CLOCK_MONOTONIC_RAW => Self::Raw,
            _ => return None,
        })
    }

    pub(super) fn clock(self) -> libc::clockid_t {
        match self {
            Self::Monotonic => libc::CLOCK_MONOTONIC,
            Self::Boottime => libc::CLOCK_BOOTTIME,
            Self::Realtime => libc::CLOCK_REALTIME,
            Self::Raw => libc::CLOCK_MONOTONIC_RAW,
        }
    }

    pub(super) fn line(self) -> &'static Line {
        &LINES[self as usize]
    }
}

/// One for each liar, in their order.
static LINES: [Line; 4] = [const { Line::new() }; 4];

/// Whether there is anything to look at in [`LINES`], or somebody asks whether there could be.
static ANY: AtomicU32 = AtomicU32::new(0);
const SAID: u32 = 1;
/// Added for as long as somebody asks.
const ASKED: u32 = 2;

/// Whether the truth will do.
#[inline]
pub(super) fn none() -> bool {
    // Ordering: Relaxed, what is looked at then has its own.
    ANY.load(Relaxed) == 0
}

/// Runs `f` while [`none`] is false.
pub(super) fn asking<R>(f: impl FnOnce() -> R) -> R {
    // Ordering: Relaxed, both are for this thread, which sees its own.
    ANY.fetch_add(ASKED, Relaxed);
    let result = f();
    ANY.fetch_sub(ASKED, Relaxed);
    result
}

/// Whether anybody asks here.
pub(super) fn are_heard() -> bool {
    are_ours()
}

pub(super) fn jump(liar: Liar, ns: i64) {
    change(liar, None, |told| told + i128::from(ns));
}

pub(super) fn rate_ppm(liar: Liar, ppm: i64) {
    change(liar, Some(ppm.max(STILL)), |told| told);
}

pub(super) fn clear() {
    with_signals_blocked(|| LINES.iter().for_each(Line::clear));
    // Ordering: Relaxed, as in `change`: the lines are the truth, looked at or not.
    ANY.fetch_and(!SAID, Relaxed);
}

/// A rate of none.
const STILL: i64 = -1_000_000;

/// No handler of a signal may read the clock between begin and end: it would wait for itself.
fn change(liar: Liar, ppm: Option<i64>, next: impl Fn(i128) -> i128) {
    with_signals_blocked(|| {
        liar.line().change(ppm, || truth_ns(liar), |told| saturate(next(told)));
    });
    // Ordering: Relaxed, a thread that doesn't see this yet reads the truth a little longer.
    ANY.fetch_or(SAID, Relaxed);
}

/// A time that the kernel's clocks can show: neither before zero nor beyond 2⁶³ ns.
pub(super) fn saturate(ns: i128) -> u64 {
    u64::try_from(ns.clamp(0, i64::MAX.into())).unwrap_or(0)
}
