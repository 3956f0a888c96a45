//! What is counted.

use std::time::Duration;

/// What a [`Limiter`](super::Limiter) has counted, and what it sees now.
///
/// Each call is in one of the numbers of those that were admitted or rejected, unless it has left the queue by
/// itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Calls that have got a slot.
    pub admitted: u64,
    /// Those of them that are [probes](super::Settings::probes).
    pub probes: u64,
    /// Calls that wait now.
    pub queued: usize,
    /// Calls that have a slot now.
    pub running: usize,
    /// Calls whose deadline had passed: when they came, when it was their turn, or in between.
    pub rejected_expired: u64,
    /// Calls that had too little time left when they came. [In the dark](super::Settings::dark), those that
    /// would have been rejected; they are in the other numbers as well.
    pub rejected_doomed_on_arrival: u64,
    /// The same when it was their turn.
    pub rejected_doomed_at_dequeue: u64,
    /// Calls for which there was no place in the queue.
    pub rejected_full: u64,
    /// Calls that those have overtaken which came later, in overload that went on: with
    /// [`Order::NewestFirst`](super::Order::NewestFirst).
    pub rejected_overtaken: u64,
    /// In what time calls are served, by the [quantile](super::Settings::quantile) that is set. `None` if
    /// there were too few of late to tell.
    pub service_time: Option<Duration>,
    /// The longest that a call has waited which then got a slot.
    pub longest_wait: Duration,
    /// How many wakers have panicked. The panic is caught.
    pub waker_panics: u64,
}
