//! YARPC's `Context-TTL-MS`: an `int` of Go, and not negative.

use super::{Unit, number::Plain};

pub(super) const ALLOWED: &str = "1 to 19 digits";

pub(super) const CODEC: Plain =
    Plain { unit: Unit::Milliseconds, max_digits: 19, decimal: false, zero_expires: true };
