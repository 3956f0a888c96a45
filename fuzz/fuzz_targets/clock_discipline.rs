//! Scripted witnesses against what the clock promises.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| deadbeat::clock::harness::run(&deadbeat::clock::harness::decode(
    bytes
)));
