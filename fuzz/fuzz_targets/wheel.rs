//! A `Wheel`, and a bare wheel with its backlogs, against sorted maps.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| deadbeat::wheel::harness::fuzz(bytes));
