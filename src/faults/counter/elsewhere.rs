//! No trap, and so nobody to lie to: not an x86-64.

use crate::faults::Unsupported;

pub(super) fn enter() -> Result<bool, Unsupported> {
    Err(Unsupported::needs("an x86-64"))
}

pub(super) fn leave() {}

pub(super) fn change(_: Option<i64>, _: impl Fn(u64) -> u64) {}

pub(super) fn skew(_: usize, _: i64) {}

pub(super) fn include_vdso(_: bool) {}

pub(super) fn clear() {}
