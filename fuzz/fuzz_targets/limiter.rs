//! Calls that come, run, end and leave, against what a limiter promises.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| deadbeat::limit::harness::limiter(bytes));
