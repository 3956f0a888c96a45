//! The layers, and programs that nobody here wrote, over loopback: what each sends, what the other makes of
//! it, and how calls end. What is seen is in `docs/interop.md`.
//!
//! `tests/interop/install` installs the programs. A test that lacks one says so and counts as skipped; once
//! the script has run, it fails.

#[path = "../common/mod.rs"]
mod common;
mod matrix;
mod peer;
mod service;

mod chain;
mod channel;
mod connect;
mod curl;
mod expiry;
mod malformed;
mod proxy;
mod resets;
mod serve;
mod serve_http;
mod tonic;
mod values;

use std::time::Duration;

/// A millisecond.
const MS: Duration = Duration::from_millis(1);

/// Waits, but not for ever.
#[track_caller]
fn within<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let at = std::panic::Location::caller();
    async move {
        let waited = tokio::time::timeout(Duration::from_secs(30), future).await;
        waited.unwrap_or_else(|_| panic!("waited too long, at {at}"))
    }
}
