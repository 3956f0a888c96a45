//! What a channel counts.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// What a channel has counted, on all its connections. A handle: clones count together.
#[derive(Clone)]
pub struct Stats(pub(super) Arc<Counts>);

#[derive(Default)]
pub(super) struct Counts {
    connections: AtomicU64,
    failed: AtomicU64,
    resets: AtomicU64,
    withheld: AtomicU64,
    spared: AtomicU64,
}

// Ordering: Relaxed, all: numbers that nothing depends on.
impl Counts {
    pub(super) fn connected(&self) {
        self.connections.fetch_add(1, Relaxed);
    }

    pub(super) fn failed(&self) {
        self.failed.fetch_add(1, Relaxed);
    }

    pub(super) fn reset(&self) {
        self.resets.fetch_add(1, Relaxed);
    }

    pub(super) fn withheld(&self) {
        self.withheld.fetch_add(1, Relaxed);
    }

    pub(super) fn spared(&self) {
        self.spared.fetch_add(1, Relaxed);
    }
}

impl Stats {
    /// Connections that were made.
    #[must_use]
    pub fn connections(&self) -> u64 {
        self.0.connections.load(Relaxed)
    }

    /// Connections that weren't: refused, or not in time.
    #[must_use]
    pub fn connections_failed(&self) -> u64 {
        self.0.failed.load(Relaxed)
    }

    /// Streams that were reset, since their calls had failed or were given up.
    #[must_use]
    pub fn resets(&self) -> u64 {
        self.0.resets.load(Relaxed)
    }

    /// Those of which the reset had to wait.
    #[must_use]
    pub fn resets_withheld(&self) -> u64 {
        self.0.withheld.load(Relaxed)
    }

    /// Those of them that ended by themselves meanwhile, and needed none.
    #[must_use]
    pub fn resets_spared(&self) -> u64 {
        self.0.spared.load(Relaxed)
    }
}

impl fmt::Debug for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stats")
            .field("connections", &self.connections())
            .field("connections_failed", &self.connections_failed())
            .field("resets", &self.resets())
            .field("resets_withheld", &self.resets_withheld())
            .field("resets_spared", &self.resets_spared())
            .finish()
    }
}
