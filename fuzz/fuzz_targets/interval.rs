//! An `Interval` of each kind against its definition.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| deadbeat::time::harness::interval(bytes));
