//! All clocks, all faults, timers of both classes: see `deadbeat::harness::jumps`.

#![no_main]

use deadbeat::harness::jumps;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| jumps::fuzz(bytes));
