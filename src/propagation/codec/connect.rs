//! `connect-timeout-ms`. For a GET it is a header too, not a part of the query.

use super::{Unit, number::Plain};

pub(super) const ALLOWED: &str = "1 to 10 digits";

pub(super) const CODEC: Plain =
    Plain { unit: Unit::Milliseconds, max_digits: 10, decimal: false, zero_expires: true };
