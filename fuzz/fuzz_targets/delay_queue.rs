//! A `DelayQueue` against a sorted list.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| deadbeat::time::harness::delay_queue(bytes));
