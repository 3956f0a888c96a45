//! The fuzz targets' corpus, replayed: what fuzzing has found worth keeping, `cargo test` sees too.

use std::fs;
use std::path::Path;

#[cfg(feature = "http")]
use crate::limit;
use crate::{clock, deadline, driver, propagation, time, wheel};

#[test]
fn the_wheel_agrees_with_sorted_maps_on_its_corpus() {
    replay("wheel", wheel::harness::fuzz);
}

#[test]
fn the_driver_agrees_with_its_model_on_its_corpus() {
    replay("timers", driver::harness::fuzz);
}

#[test]
fn no_script_of_the_clocks_corpus_breaks_a_promise() {
    replay("clock_discipline", |bytes| clock::harness::run(&clock::harness::decode(bytes)));
}

#[test]
fn no_script_of_clock_faults_in_the_corpus_breaks_a_promise() {
    replay("clock_jumps", driver::harness::jumps::fuzz);
}

#[test]
fn a_delay_queue_agrees_with_a_sorted_map_on_its_corpus() {
    replay("delay_queue", time::harness::delay_queue);
}

#[test]
fn an_interval_agrees_with_its_definition_on_its_corpus() {
    replay("interval", time::harness::interval);
}

#[test]
fn the_codecs_agree_with_their_grammars_on_their_corpus() {
    replay("codec", propagation::codec::harness::fuzz);
}

#[test]
fn nested_scopes_do_what_their_model_says_on_its_corpus() {
    replay("scopes", deadline::harness::scopes);
}

#[test]
fn blame_reads_as_it_was_written_on_its_corpus() {
    replay("blame", propagation::blame::harness::fuzz);
}

#[cfg(feature = "http")]
#[test]
fn no_hop_has_more_than_the_one_before_on_its_corpus() {
    replay("hops", propagation::harness::hops);
}

#[cfg(feature = "channel")]
#[test]
fn no_peer_is_overrun_with_resets_on_its_corpus() {
    replay("resets", crate::channel::harness::resets);
}

#[cfg(feature = "http")]
#[test]
fn a_limiter_keeps_its_promises_on_its_corpus() {
    replay("limiter", limit::harness::limiter);
}

/// Runs every script that is kept for `target`.
fn replay(target: &str, run: impl Fn(&[u8])) {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    if !fuzz.exists() {
        // It is a package of its own, so this one is published without it.
        return;
    }
    let mut scripts = fs::read_dir(fuzz.join("corpus").join(target))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "script"))
        .collect::<Vec<_>>();
    assert!(!scripts.is_empty());
    scripts.sort();
    for script in scripts {
        // Shown if it fails.
        println!("{}", script.display());
        run(&fs::read(script).unwrap());
    }
}
