//! Metrics, told to whatever recorder the program has installed with the `metrics` crate.

use std::time::Duration;

use super::{Handling, Role, Stage};
use crate::deadline::Origin;
#[cfg(feature = "metrics")]
use crate::deadline::Spent;

/// The meters of a layer. They are looked up when the first of them is used.
pub(crate) struct Meters {
    #[cfg(feature = "metrics")]
    role: Role,
    #[cfg(feature = "metrics")]
    handles: std::sync::OnceLock<Box<Handles>>,
}

impl Meters {
    pub(crate) fn new(role: Role) -> Self {
        #[cfg(not(feature = "metrics"))]
        let _ = role;
        Self {
            #[cfg(feature = "metrics")]
            role,
            #[cfg(feature = "metrics")]
            handles: std::sync::OnceLock::new(),
        }
    }
}

#[cfg(not(feature = "metrics"))]
#[expect(clippy::unused_self, reason = "nothing is told")]
impl Meters {
    pub(crate) fn arrived(&self, _: Origin, _: Duration) {}

    pub(crate) fn expired(&self, _: Stage, _: Origin) {}

    pub(crate) fn malformed(&self, _: Handling, _: u64) {}

    pub(crate) fn overrun(&self, _: Duration) {}

    pub(crate) fn bad_details(&self) {}

    pub(crate) fn bad_blame(&self) {}
}

#[cfg(feature = "metrics")]
mod told {
    use metrics::{Counter, Histogram, Unit};

    use super::super::{ORIGINS, kind};
    use super::{Duration, Handling, Meters, Origin, Role, Spent, Stage};
    use crate::deadline::Phase;

    pub(super) struct Handles {
        remaining: [Histogram; ORIGINS.len()],
        expired: [[Counter; ORIGINS.len()]; Stage::ALL.len()],
        malformed: [Counter; Handling::COUNT],
        overrun: Histogram,
        phases: [Histogram; Phase::ALL.len()],
        bad_details: Counter,
        bad_blame: Counter,
    }

    const PROTOCOL: &str = "deadline.protocol";
    const ORIGIN: &str = "deadline.origin";
    const STAGE: &str = "deadline.stage";
    const PHASE: &str = "deadline.phase";
    const HANDLING: &str = "deadline.handling";

    fn counter(name: &'static str, about: &'static str) -> &'static str {
        metrics::describe_counter!(name, Unit::Count, about);
        name
    }

    fn seconds(name: &'static str, about: &'static str) -> &'static str {
        metrics::describe_histogram!(name, Unit::Seconds, about);
        name
    }

    impl Handles {
        fn new(role: Role) -> Self {
            let protocol = role.protocol();
            let (expired, phases) = match role {
                Role::Client(_) => ("deadline.client.expired", "deadline.client.phase.duration"),
                Role::Server(_) => ("deadline.server.expired", "deadline.server.phase.duration"),
            };
            counter(expired, "Calls whose deadline has passed, and bodies of requests");
            seconds(phases, "How long each phase of a call took");
            let phases = Phase::ALL.map(
                |phase| metrics::histogram!(phases, PROTOCOL => protocol, PHASE => phase.name()),
            );
            let expired = Stage::ALL.map(|stage| {
                ORIGINS.map(|origin| {
                    metrics::counter!(
                        expired,
                        PROTOCOL => protocol, STAGE => stage.name(), ORIGIN => origin
                    )
                })
            });
            let is_server = matches!(role, Role::Server(_));
            let of_server = |histogram: &dyn Fn() -> Histogram| {
                if is_server { histogram() } else { Histogram::noop() }
            };
            let name = "deadline.server.remaining";
            let remaining = ORIGINS.map(|origin| {
                of_server(&|| {
                    let name = seconds(name, "What remained of a call's deadline at its arrival");
                    metrics::histogram!(name, PROTOCOL => protocol, ORIGIN => origin)
                })
            });
            let overrun = of_server(&|| {
                let name = seconds(
                    "deadline.server.overrun",
                    "By how much a poll of a handler went over the deadline",
                );
                metrics::histogram!(name, PROTOCOL => protocol)
            });
            let malformed = ["ignored", "lenient", "rejected"].map(|handling| {
                if is_server {
                    let name = counter("deadline.server.malformed", "Values that were malformed");
                    metrics::counter!(name, PROTOCOL => protocol, HANDLING => handling)
                } else {
                    Counter::noop()
                }
            });
            let bad_details = if role == Role::Client("grpc") {
                metrics::counter!(counter(
                    "deadline.client.bad_details",
                    "Answers whose details were no base64, and were removed"
                ))
            } else {
                Counter::noop()
            };
            let bad_blame = if is_server {
                Counter::noop()
            } else {
                let name =
                    counter("deadline.client.bad_blame", "Answers whose blame was malformed");
                metrics::counter!(name, PROTOCOL => protocol)
            };
            Self { remaining, expired, malformed, overrun, phases, bad_details, bad_blame }
        }
    }

    impl Meters {
        fn handles(&self) -> &Handles {
            self.handles.get_or_init(|| Box::new(Handles::new(self.role)))
        }

        pub(crate) fn arrived(&self, origin: Origin, remaining: Duration) {
            self.handles().remaining[kind(origin)].record(remaining);
        }

        pub(crate) fn expired(&self, stage: Stage, origin: Origin) {
            self.handles().expired[stage as usize][kind(origin)].increment(1);
        }

        pub(crate) fn malformed(&self, handling: Handling, number: u64) {
            self.handles().malformed[handling as usize].increment(number);
        }

        pub(crate) fn overrun(&self, by: Duration) {
            self.handles().overrun.record(by);
        }

        pub(crate) fn spent(&self, spent: &Spent) {
            for (phase, took) in spent.phases() {
                self.handles().phases[phase as usize].record(took);
            }
        }

        pub(crate) fn bad_details(&self) {
            self.handles().bad_details.increment(1);
        }

        pub(crate) fn bad_blame(&self) {
            self.handles().bad_blame.increment(1);
        }
    }
}

#[cfg(feature = "metrics")]
use told::Handles;
