//! Envoy's `x-envoy-expected-rq-timeout-ms` and `x-envoy-upstream-rq-timeout-ms`, where zero is no limit.
//!
//! When Envoy is out of time it writes 1 ms, rather than a zero that would mean the opposite. That is
//! longer than what remains, so we don't.

use super::{Unit, number::Plain};

pub(super) const ALLOWED: &str = "1 to 20 digits";

pub(super) const CODEC: Plain =
    Plain { unit: Unit::Milliseconds, max_digits: 20, decimal: false, zero_expires: false };
