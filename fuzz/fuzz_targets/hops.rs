//! Calls over any number of hops, with any header blocks and settings, against the earliest deadline so far.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| deadbeat::propagation::harness::hops(bytes));
