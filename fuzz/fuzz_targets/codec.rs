//! Any bytes to every codec against its grammar; what is written, and chains of hops, against the time
//! that is left.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| deadbeat::propagation::codec::harness::fuzz(bytes));
