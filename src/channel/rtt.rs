//! How long a round trip takes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The round trip to an endpoint, as measured on its connections. A handle: clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Rtt(Arc<AtomicU64>);

impl Rtt {
    pub(super) fn observe(&self, took: Duration) {
        let ns = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX).max(1);
        // Ordering: Relaxed, all: a number that nothing depends on. One connection at a time measures.
        let before = self.0.load(Relaxed);
        // RFC 6298: the smoothed round-trip time, of which a sample makes an eighth.
        let now = if before == 0 { ns } else { before - before / 8 + ns / 8 };
        self.0.store(now.max(1), Relaxed);
    }

    pub(super) fn get(&self) -> Option<Duration> {
        let ns = self.0.load(Relaxed);
        (ns != 0).then(|| Duration::from_nanos(ns))
    }
}
