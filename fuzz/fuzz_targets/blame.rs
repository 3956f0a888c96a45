//! Blame of any bytes: what is read is within bounds, and reads the same once it is written again.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| deadbeat::propagation::blame::harness::fuzz(bytes));
