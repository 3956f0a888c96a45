//! What a call's deadline was spent on further down: what its callees have told of it.
//!
//! For people to read. It has come over the wire, so it may be wrong, or a lie: nothing is decided by it.

use std::fmt;
use std::time::Duration;

use super::expired::Short;
use super::{Expired, Phase, Spent};

/// What was waited for when a deadline passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waited {
    pub(crate) peer: Option<Box<str>>,
    pub(crate) phase: Phase,
    pub(crate) took: Duration,
}

impl Waited {
    /// For whom, if that is known.
    #[must_use]
    pub fn peer(&self) -> Option<&str> {
        self.peer.as_deref()
    }

    /// How far the call to it had come.
    #[must_use]
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// How long that phase had taken.
    #[must_use]
    pub fn took(&self) -> Duration {
        self.took
    }
}

impl fmt::Display for Waited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        waited(f, self.phase, self.peer(), self.took)
    }
}

/// What a phase was spent on, in words.
pub(super) fn waited(
    f: &mut fmt::Formatter<'_>,
    phase: Phase,
    peer: Option<&str>,
    took: Duration,
) -> fmt::Result {
    let took = Short(took);
    match (phase, peer) {
        (Phase::Wait, Some(peer)) => write!(f, "no answer from {peer} for {took}"),
        (Phase::Wait, None) => write!(f, "no answer for {took}"),
        (_, Some(peer)) => write!(f, "{phase} took {took}, to {peer}"),
        (_, None) => write!(f, "{phase} took {took}"),
    }
}

/// One service that a call has passed, as that tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hop {
    pub(crate) service: Option<Box<str>>,
    pub(crate) path: Option<Box<str>>,
    pub(crate) set_by: Option<Box<str>>,
    pub(crate) budget: Duration,
    pub(crate) elapsed: Duration,
    pub(crate) phase: Option<Phase>,
    pub(crate) spent: Spent,
    pub(crate) waited: Option<Waited>,
    pub(crate) whole: bool,
    /// Some are missing between the hop before and this one.
    pub(crate) after_gap: bool,
}

impl Hop {
    /// What a service has to tell of a call of its own.
    #[must_use]
    pub fn of(expired: &Expired) -> Self {
        Self {
            service: None,
            path: None,
            set_by: Some(expired.origin().to_string().into()),
            budget: expired.budget(),
            elapsed: expired.elapsed(),
            phase: expired.phase(),
            spent: expired.spent().copied().unwrap_or_default(),
            waited: expired.blame().and_then(Blame::waited).cloned(),
            whole: expired.used_whole_budget(),
            after_gap: false,
        }
    }

    /// With the name of the service.
    #[must_use]
    pub fn with_service(mut self, name: impl Into<Box<str>>) -> Self {
        self.service = Some(name.into());
        self
    }

    /// With the path of the request, or the name of the method.
    #[must_use]
    pub fn with_path(mut self, path: impl Into<Box<str>>) -> Self {
        self.path = Some(path.into());
        self
    }

    /// The service: what it calls itself, or what its caller calls it.
    #[must_use]
    pub fn service(&self) -> Option<&str> {
        self.service.as_deref()
    }

    /// The path of the request, if the service [tells](crate::propagation::blame) it.
    #[must_use]
    pub fn path(&self) -> Option<&str> {
        self.path.as_deref()
    }

    /// What set the deadline there, in words: an [`Origin`](super::Origin).
    #[must_use]
    pub fn set_by(&self) -> Option<&str> {
        self.set_by.as_deref()
    }

    /// How much time there was.
    #[must_use]
    pub fn budget(&self) -> Duration {
        self.budget
    }

    /// How much of it had passed.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// The phase of its own call in which it ended.
    #[must_use]
    pub fn phase(&self) -> Option<Phase> {
        self.phase
    }

    /// How long each phase of that took.
    #[must_use]
    pub fn spent(&self) -> &Spent {
        &self.spent
    }

    /// What it was waiting for: a call that it had made itself.
    #[must_use]
    pub fn waited(&self) -> Option<&Waited> {
        self.waited.as_ref()
    }

    /// Whether it says that it has used up all that its caller had told it. See
    /// [`Blame::used_whole_budget`].
    #[must_use]
    pub fn used_whole_budget(&self) -> bool {
        self.whole
    }
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.after_gap {
            f.write_str("...; ")?;
        }
        f.write_str(self.service().unwrap_or("a callee"))?;
        if let Some(path) = self.path() {
            write!(f, " {path}")?;
        }
        let budget = Short(self.budget);
        match (&self.waited, self.phase) {
            (Some(waited), _) => write!(f, ": {waited} of {budget}"),
            (None, Some(phase)) => {
                write!(f, ": {phase} took {} of {budget}", Short(self.spent.in_phase(phase)))
            }
            (None, None) => write!(f, ": expired after {} of {budget}", Short(self.elapsed)),
        }
    }
}

/// Where the time of a call went that somebody else has given up, or that has failed since somebody had:
/// what was waited for here, and what the callees have told, nearest first.
///
/// `propagation::http::blame` and `propagation::grpc::blame` find it in an answer, [`Expired::blame`] in an
/// expiry. Its `Display` is one line of that. The strings in it are printable ASCII, and short.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blame(Box<Inner>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Inner {
    waited: Option<Waited>,
    hops: Vec<Hop>,
    whole: bool,
}

impl Blame {
    #[cfg(any(feature = "http", test))]
    pub(crate) fn new(waited: Option<Waited>, hops: Vec<Hop>, whole: bool) -> Self {
        Self(Box::new(Inner { waited, hops, whole }))
    }

    /// What was waited for here.
    #[must_use]
    pub fn waited(&self) -> Option<&Waited> {
        self.0.waited.as_ref()
    }

    /// What the callees have told, nearest first: [at most 8](crate::propagation::blame::MAX_HOPS).
    #[must_use]
    pub fn hops(&self) -> &[Hop] {
        &self.0.hops
    }

    /// Whether the callee was told all that its caller had left, less the allowance, and has used it up.
    /// Then trying again is of no use: there is no time for it, and the one that waits for the caller is about
    /// to give up.
    ///
    /// It takes three things. The deadline of the call is that of the caller as a whole: the
    /// [current](super::current) one where the call was made, or the point in time that the request was
    /// given. A timeout for this call alone, of the endpoint or of a try, leaves the caller more. What the
    /// callee was told is all of that, less the allowance and what rounding took, and not a
    /// [cap](crate::propagation::codec::Encoder::cap). And the callee has said that it was that time which
    /// ran out, there or in a call of its own of which all this holds; not, say, its own maximum.
    #[must_use]
    pub fn used_whole_budget(&self) -> bool {
        self.0.whole
    }

    #[cfg(feature = "http")]
    pub(crate) fn into_hops(self) -> Vec<Hop> {
        self.0.hops
    }
}

impl fmt::Display for Blame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.waited() {
            Some(waited) => waited.fmt(f)?,
            None => f.write_str("no answer")?,
        }
        hops(f, self.hops())
    }
}

impl std::error::Error for Blame {}

/// What the callees have told, after what is known here.
pub(super) fn hops(f: &mut fmt::Formatter<'_>, hops: &[Hop]) -> fmt::Result {
    hops.iter().try_for_each(|hop| write!(f, "; {hop}"))
}
