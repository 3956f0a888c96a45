//! What is said about the counter.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};

use super::trap;
use crate::driver::with_signals_blocked;
use crate::faults::line::Line;

/// What one instruction reads.
#[derive(Clone, Copy)]
pub(super) struct Reading {
    pub(super) ticks: u64,
    /// The number of the processor in the lower 12 bits, of its node above.
    pub(super) cpu: u32,
}

static LINE: Line = Line::new();
static SKEW: [AtomicI64; 4096] = [const { AtomicI64::new(0) }; 4096];
static VDSO_TOO: AtomicBool = AtomicBool::new(false);

/// Numbers beyond the array are no processor's.
pub(super) fn skew(cpu: usize, ticks: i64) {
    if let Some(skew) = SKEW.get(cpu) {
        // Ordering: Relaxed, a number of its own.
        skew.store(ticks, Relaxed);
    }
}

pub(super) fn include_vdso(include: bool) {
    // Ordering: Relaxed, a choice of its own.
    VDSO_TOO.store(include, Relaxed);
}

pub(super) fn clear() {
    with_signals_blocked(|| LINE.clear());
    (0..SKEW.len()).for_each(|cpu| skew(cpu, 0));
    include_vdso(false);
}

/// No handler of a signal may read the counter between begin and end: it would wait for itself.
pub(super) fn change(ppm: Option<i64>, next: impl Fn(u64) -> u64) {
    with_signals_blocked(|| {
        trap::truthfully(|| LINE.change(ppm, || trap::read().ticks, |told| next(wrap(told))));
    });
}

/// What to tell the vDSO, or anybody else. Called with the trap off, in the handler of a signal.
pub(super) fn told(vdso: bool) -> Reading {
    let mut reading = trap::read();
    // Ordering: Relaxed, a choice of its own.
    if vdso && !VDSO_TOO.load(Relaxed) {
        return reading;
    }
    let told = LINE.read(|| {
        reading = trap::read();
        reading.ticks
    });
    // Ordering: Relaxed, a number of its own.
    let skew = SKEW[reading.cpu as usize % SKEW.len()].load(Relaxed);
    Reading { ticks: wrap(told).wrapping_add_signed(skew), ..reading }
}

/// A counter has 64 bits.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "it wraps")]
fn wrap(ticks: i128) -> u64 {
    ticks as u64
}
