//! Scopes nested at random against sums.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| deadbeat::deadline::harness::scopes(bytes));
