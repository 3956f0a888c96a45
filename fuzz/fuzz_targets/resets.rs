//! Resets of a channel, and a peer that reads, stands still, and counts them.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| deadbeat::channel::harness::resets(bytes));
