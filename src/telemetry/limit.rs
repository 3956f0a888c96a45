//! What limiters tell to metrics.

use std::time::Duration;

/// Why a call was turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    Expired,
    Doomed,
    Full,
    Overtaken,
}

/// The meters of all limiters. They are looked up when the first of them is used.
pub(crate) struct LimitMeters {
    #[cfg(feature = "metrics")]
    handles: std::sync::OnceLock<Handles>,
}

impl LimitMeters {
    pub(crate) const fn new() -> Self {
        Self {
            #[cfg(feature = "metrics")]
            handles: std::sync::OnceLock::new(),
        }
    }
}

#[cfg(not(feature = "metrics"))]
#[expect(clippy::unused_self, reason = "nothing is told")]
impl LimitMeters {
    pub(crate) fn rejected(&self, _: Reason) {}

    pub(crate) fn waited(&self, _: Duration) {}
}

#[cfg(feature = "metrics")]
mod told {
    use metrics::{Counter, Histogram, Unit};

    use super::{Duration, LimitMeters, Reason};

    pub(super) struct Handles {
        rejected: [Counter; 4],
        wait: Histogram,
    }

    const REASON: &str = "deadline.reason";

    impl Handles {
        fn new() -> Self {
            let rejected = "deadline.limit.rejected";
            metrics::describe_counter!(rejected, Unit::Count, "Calls that got no slot");
            let wait = "deadline.limit.wait";
            metrics::describe_histogram!(wait, Unit::Seconds, "How long calls waited for a slot");
            Self {
                rejected: ["expired", "doomed", "full", "overtaken"]
                    .map(|reason| metrics::counter!(rejected, REASON => reason)),
                wait: metrics::histogram!(wait),
            }
        }
    }

    impl LimitMeters {
        fn handles(&self) -> &Handles {
            self.handles.get_or_init(Handles::new)
        }

        pub(crate) fn rejected(&self, reason: Reason) {
            self.handles().rejected[reason as usize].increment(1);
        }

        pub(crate) fn waited(&self, wait: Duration) {
            self.handles().wait.record(wait);
        }
    }
}

#[cfg(feature = "metrics")]
use told::Handles;
