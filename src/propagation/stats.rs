//! What the layers count.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::clock::{Elapsed, Instant};
#[cfg(feature = "metrics")]
use crate::deadline::Spent;
use crate::deadline::{Origin, Provenance};
use crate::telemetry::{Handling, Meters, Role, Stage};

/// What a layer has counted, on all its services and connections. A handle: clones count together.
///
/// # Examples
///
/// ```
/// use deadbeat::propagation::http::ServerLayer;
///
/// let layer = ServerLayer::new();
/// let stats = layer.stats();
/// // Serve with `layer`.
/// assert_eq!(stats.expired_on_arrival(), 0);
/// ```
#[derive(Clone)]
pub struct Stats(Arc<Counts>);

struct Counts {
    requests: AtomicU64,
    limited: AtomicU64,
    /// By [`Stage`].
    expired: [AtomicU64; Stage::COUNT],
    /// By [`Handling`].
    malformed: [AtomicU64; Handling::COUNT],
    overruns: AtomicU64,
    longest_overrun_ns: AtomicU64,
    bad_details: AtomicU64,
    bad_blame: AtomicU64,
    meters: Meters,
}

// Ordering: Relaxed, all: numbers that nothing depends on.
impl Stats {
    pub(crate) fn new(role: Role) -> Self {
        Self(Arc::new(Counts {
            requests: AtomicU64::new(0),
            limited: AtomicU64::new(0),
            expired: Default::default(),
            malformed: Default::default(),
            overruns: AtomicU64::new(0),
            longest_overrun_ns: AtomicU64::new(0),
            bad_details: AtomicU64::new(0),
            bad_blame: AtomicU64::new(0),
            meters: Meters::new(role),
        }))
    }

    /// A call has come, or is made.
    pub(crate) fn request(&self) {
        self.0.requests.fetch_add(1, Relaxed);
    }

    /// It has a deadline.
    pub(crate) fn limited(&self, limit: Provenance, now: Instant<Elapsed>) {
        self.0.limited.fetch_add(1, Relaxed);
        self.0.meters.arrived(limit.origin(), limit.deadline().remaining_at(now));
    }

    pub(crate) fn expired(&self, stage: Stage, origin: Origin) {
        self.0.expired[stage as usize].fetch_add(1, Relaxed);
        self.0.meters.expired(stage, origin);
    }

    pub(crate) fn malformed_values(&self, handling: Handling, number: u32) {
        if number > 0 {
            self.0.malformed[handling as usize].fetch_add(number.into(), Relaxed);
            self.0.meters.malformed(handling, number.into());
        }
    }

    pub(crate) fn overrun(&self, by: Duration) {
        self.0.overruns.fetch_add(1, Relaxed);
        self.0.longest_overrun_ns.fetch_max(crate::clock::saturating_ns(by), Relaxed);
        self.0.meters.overrun(by);
    }

    pub(crate) fn removed_details(&self) {
        self.0.bad_details.fetch_add(1, Relaxed);
        self.0.meters.bad_details();
    }

    pub(crate) fn dropped_blame(&self) {
        self.0.bad_blame.fetch_add(1, Relaxed);
        self.0.meters.bad_blame();
    }

    /// A call is over.
    #[cfg(feature = "metrics")]
    pub(crate) fn spent(&self, spent: &Spent) {
        self.0.meters.spent(spent);
    }

    fn expired_at(&self, stage: Stage) -> u64 {
        self.0.expired[stage as usize].load(Relaxed)
    }

    fn malformed_and(&self, handling: Handling) -> u64 {
        self.0.malformed[handling as usize].load(Relaxed)
    }

    /// Requests that the layer has seen while it was on.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.0.requests.load(Relaxed)
    }

    /// Those of them that had a deadline.
    #[must_use]
    pub fn with_deadline(&self) -> u64 {
        self.0.limited.load(Relaxed)
    }

    /// Calls that were never begun: on a server, answered without calling the handler; on a client, not
    /// sent. Those that expired while they waited for the service inside are among them.
    #[must_use]
    pub fn expired_on_arrival(&self) -> u64 {
        self.expired_at(Stage::Arrival) + self.expired_at(Stage::Queue)
    }

    /// Calls whose deadline passed after they were begun, and before there was an answer.
    #[must_use]
    pub fn expired_before_headers(&self) -> u64 {
        self.expired_at(Stage::Headers)
    }

    /// Calls whose deadline passed after the answer had begun.
    #[must_use]
    pub fn expired_in_body(&self) -> u64 {
        self.expired_at(Stage::Body)
    }

    /// Request bodies that were ended by the deadline. Their calls are counted as well, by what became of
    /// them.
    #[must_use]
    pub fn expired_in_upload(&self) -> u64 {
        self.expired_at(Stage::Upload)
    }

    /// Malformed values that were ignored. A server's.
    #[must_use]
    pub fn malformed(&self) -> u64 {
        self.malformed_and(Handling::Ignored)
    }

    /// Malformed values that were accepted. A server's.
    #[must_use]
    pub fn lenient(&self) -> u64 {
        self.malformed_and(Handling::Lenient)
    }

    /// Calls that were rejected since a value was malformed. A server's.
    #[must_use]
    pub fn rejected(&self) -> u64 {
        self.malformed_and(Handling::Rejected)
    }

    /// Polls of a handler, or of the body of its answer, that began before the deadline and ended after it.
    /// A server's.
    #[must_use]
    pub fn overruns(&self) -> u64 {
        self.0.overruns.load(Relaxed)
    }

    /// By how much the longest of those did.
    #[must_use]
    pub fn longest_overrun(&self) -> Duration {
        Duration::from_nanos(self.0.longest_overrun_ns.load(Relaxed))
    }

    /// Answers whose `grpc-status-details-bin` was removed, since it wasn't base64. A client's, of gRPC.
    #[must_use]
    pub fn bad_details(&self) -> u64 {
        self.0.bad_details.load(Relaxed)
    }

    /// Answers whose [blame](super::blame) was malformed, and was dropped. A client's.
    #[must_use]
    pub fn bad_blame(&self) -> u64 {
        self.0.bad_blame.load(Relaxed)
    }
}

impl fmt::Debug for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stats")
            .field("requests", &self.requests())
            .field("with_deadline", &self.with_deadline())
            .field("expired_on_arrival", &self.expired_on_arrival())
            .field("expired_before_headers", &self.expired_before_headers())
            .field("expired_in_body", &self.expired_in_body())
            .field("expired_in_upload", &self.expired_in_upload())
            .field("malformed", &self.malformed())
            .field("lenient", &self.lenient())
            .field("rejected", &self.rejected())
            .field("overruns", &self.overruns())
            .field("longest_overrun", &self.longest_overrun())
            .field("bad_details", &self.bad_details())
            .field("bad_blame", &self.bad_blame())
            .finish()
    }
}

/// Turns layers off and on while they run: a handle, whose clones are one switch.
///
/// A layer that is off passes calls on as they are: it neither looks at headers nor writes them. Calls that
/// have begun aren't touched.
///
/// # Examples
///
/// ```
/// use deadbeat::propagation::http::{ClientLayer, ServerLayer, Switch};
///
/// let deadlines = Switch::new();
/// let server = ServerLayer::new().switch(&deadlines);
/// let client = ClientLayer::new().switch(&deadlines);
/// deadlines.set(false);
/// ```
#[derive(Clone, Debug)]
pub struct Switch(Arc<AtomicBool>);

impl Switch {
    /// One that is on.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(AtomicBool::new(true)))
    }

    /// Turns it on or off.
    pub fn set(&self, on: bool) {
        // Ordering: Relaxed: calls that come at the same time may go either way.
        self.0.store(on, Relaxed);
    }

    /// Whether it is on.
    #[must_use]
    pub fn is_on(&self) -> bool {
        // Ordering: as above.
        self.0.load(Relaxed)
    }
}

impl Default for Switch {
    fn default() -> Self {
        Self::new()
    }
}
