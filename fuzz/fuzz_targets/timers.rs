//! The driver by hand against a naive model: arm, re-poll, reset, touch, cancel, expire.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| deadbeat::harness::fuzz(bytes));
