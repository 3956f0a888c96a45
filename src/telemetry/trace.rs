//! Spans and events, by the `tracing` crate.

use http::Uri;

use super::{Role, Stage};
use crate::deadline::{Blame, Expired, Provenance};

/// The span of a call that has a deadline.
#[derive(Clone, Debug)]
pub(crate) struct Trace {
    #[cfg(feature = "tracing")]
    span: tracing::Span,
}

#[cfg(not(feature = "tracing"))]
#[expect(clippy::unused_self, reason = "nothing is told")]
impl Trace {
    pub(crate) fn new(_: Role, _: &Uri, _: Provenance, _: Option<&str>) -> Self {
        Self {}
    }

    pub(crate) fn run<R>(&self, f: impl FnOnce() -> R) -> R {
        f()
    }

    pub(crate) fn expired(&self, _: Stage, _: &Expired) {}

    pub(crate) fn blames(&self, _: &Blame) {}
}

#[cfg(feature = "tracing")]
mod told {
    use tracing::field::{Empty, display};

    use super::super::{ORIGINS, kind};
    use super::{Blame, Expired, Provenance, Role, Stage, Trace, Uri};

    impl Trace {
        pub(crate) fn new(role: Role, uri: &Uri, limit: Provenance, peer: Option<&str>) -> Self {
            // A macro has to be where the name is.
            macro_rules! span {
                ($name:literal, $kind:literal) => {
                    tracing::info_span!(
                        $name,
                        "otel.kind" = $kind,
                        "rpc.system.name" = Empty,
                        "rpc.method" = Empty,
                        "url.path" = Empty,
                        "server.address" = peer,
                        "deadline.budget" = limit.budget().as_secs_f64(),
                        "deadline.origin" = ORIGINS[kind(limit.origin())],
                        "deadline.stage" = Empty,
                        "deadline.phase" = Empty,
                        "deadline.elapsed" = Empty,
                        "deadline.blame" = Empty,
                        "error.type" = Empty,
                        "otel.status_code" = Empty,
                        "otel.status_description" = Empty,
                    )
                };
            }
            let (span, protocol) = match role {
                Role::Client(protocol) => (span!("deadline.client", "client"), protocol),
                Role::Server(protocol) => (span!("deadline.server", "server"), protocol),
            };
            if protocol == "grpc" {
                span.record("rpc.system.name", protocol);
                span.record("rpc.method", uri.path().trim_start_matches('/'));
            } else {
                span.record("url.path", uri.path());
            }
            Self { span }
        }

        /// In the span.
        pub(crate) fn run<R>(&self, f: impl FnOnce() -> R) -> R {
            self.span.in_scope(f)
        }

        /// An answer that isn't late has told where the time went.
        pub(crate) fn blames(&self, blame: &Blame) {
            self.span.record("deadline.blame", display(blame));
            tracing::info!(parent: &self.span, "a callee has given up: {blame}");
        }

        pub(crate) fn expired(&self, stage: Stage, expired: &Expired) {
            let span = &self.span;
            let (stage, origin) = (stage.name(), ORIGINS[kind(expired.origin())]);
            let phase = expired.phase().map(|phase| phase.name());
            let (elapsed, budget) =
                (expired.elapsed().as_secs_f64(), expired.budget().as_secs_f64());
            span.record("deadline.stage", stage);
            if let Some(phase) = phase {
                span.record("deadline.phase", phase);
            }
            span.record("deadline.elapsed", elapsed);
            span.record("error.type", "deadline_exceeded");
            span.record("otel.status_code", "ERROR");
            span.record("otel.status_description", display(expired));
            tracing::info!(
                parent: span,
                {
                    "deadline.stage" = stage,
                    "deadline.origin" = origin,
                    "deadline.phase" = phase,
                    "deadline.budget" = budget,
                    "deadline.elapsed" = elapsed,
                    "server.address" = expired.peer(),
                    "error.type" = "deadline_exceeded",
                },
                "{expired}"
            );
        }
    }
}
