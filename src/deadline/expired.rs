//! The error of a deadline that has passed: whose it was, and where the time went.

use std::fmt;
use std::time::Duration;

use super::blame::{self, Blame, Hop, Waited};
use super::{Deadline, Origin, Provenance};
use crate::clock::{Elapsed, Instant};

/// A part of a call, in the order in which they come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// Before anything is done: waiting for a slot, or for a connection to become ready.
    Queue,
    /// Making a connection.
    Connect,
    /// Sending the request.
    Send,
    /// The request is on its way or at work, and no answer has begun.
    Wait,
    /// The answer has begun, and isn't complete.
    Body,
}

impl Phase {
    pub(crate) const ALL: [Self; 5] =
        [Self::Queue, Self::Connect, Self::Send, Self::Wait, Self::Body];

    /// Its name, in lower case.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Connect => "connect",
            Self::Send => "send",
            Self::Wait => "wait",
            Self::Body => "body",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How long each phase of a call took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent(pub(crate) [Duration; Phase::ALL.len()]);

impl Spent {
    /// In that phase.
    #[must_use]
    pub const fn in_phase(&self, phase: Phase) -> Duration {
        self.0[phase as usize]
    }

    /// In all of them.
    #[must_use]
    pub fn total(&self) -> Duration {
        self.0.iter().fold(Duration::ZERO, |sum, part| sum.saturating_add(*part))
    }

    /// Those that took any time.
    pub fn phases(&self) -> impl Iterator<Item = (Phase, Duration)> {
        Phase::ALL.into_iter().zip(self.0).filter(|(_, took)| !took.is_zero())
    }
}

/// Keeps account of where the time of a call goes.
///
/// Sans-IO: whoever runs the call says when a phase begins. Every moment from the start on belongs to one
/// phase, so the phases add up to the time that has passed.
///
/// # Examples
///
/// ```
/// use deadbeat::clock::{Elapsed, Instant};
/// use deadbeat::deadline::{Ledger, Phase};
/// use deadbeat::time::Duration;
///
/// let start = Instant::<Elapsed>::from_nanos(0);
/// let mut ledger = Ledger::begin(Phase::Queue, start);
/// ledger.enter(Phase::Wait, start + Duration::from_millis(20));
/// let spent = ledger.spent(start + Duration::from_millis(500));
/// assert_eq!(spent.in_phase(Phase::Wait), Duration::from_millis(480));
/// assert_eq!(spent.total(), Duration::from_millis(500));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Ledger {
    phase: Phase,
    since: Instant<Elapsed>,
    spent: Spent,
}

impl Ledger {
    /// Begins with a phase.
    #[must_use]
    pub const fn begin(phase: Phase, now: Instant<Elapsed>) -> Self {
        Self { phase, since: now, spent: Spent([Duration::ZERO; Phase::ALL.len()]) }
    }

    /// The phase now.
    #[must_use]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// Ends the phase, and begins another, or the same again.
    pub fn enter(&mut self, phase: Phase, now: Instant<Elapsed>) {
        self.spent = self.spent(now);
        self.since = self.since.max(now);
        self.phase = phase;
    }

    /// The account up to now.
    #[must_use]
    pub fn spent(&self, now: Instant<Elapsed>) -> Spent {
        let mut spent = self.spent;
        let part = &mut spent.0[self.phase as usize];
        *part = part.saturating_add(now.duration_since(self.since));
        spent
    }
}

/// A deadline has passed.
///
/// Tells which one it was, where that came from, how much time there was, and where it went. Its `Display`
/// is one line of that.
///
/// # Examples
///
/// ```
/// use deadbeat::deadline::{self, Origin};
/// use deadbeat::time::{Duration, sleep};
///
/// # deadbeat::Manual::new().block_on(async {
/// let nap = sleep(Duration::from_secs(9));
/// let expired = deadline::scope(Duration::from_secs(2), nap).named("nap").await.unwrap_err();
/// assert_eq!(expired.origin(), Origin::Scope("nap"));
/// assert_eq!(expired.budget(), Duration::from_secs(2));
/// assert_eq!(expired.elapsed(), Duration::from_secs(2));
/// # });
/// ```
#[derive(Clone, Debug)]
pub struct Expired(Box<Inner>);

#[derive(Clone, Debug)]
struct Inner {
    provenance: Provenance,
    now: Instant<Elapsed>,
    spent: Option<(Phase, Spent)>,
    peer: Option<Box<str>>,
    blame: Option<Blame>,
    whole: bool,
}

impl Expired {
    pub(crate) fn new(provenance: Provenance, now: Instant<Elapsed>) -> Self {
        Self(Box::new(Inner {
            provenance,
            now,
            spent: None,
            peer: None,
            blame: None,
            whole: false,
        }))
    }

    /// With where the time went, as of the same moment.
    #[must_use]
    pub fn with_ledger(mut self, ledger: &Ledger) -> Self {
        self.0.spent = Some((ledger.phase(), ledger.spent(self.0.now)));
        self
    }

    /// With who was waited for.
    #[must_use]
    pub fn with_peer(mut self, peer: impl Into<Box<str>>) -> Self {
        self.0.peer = Some(peer.into());
        self
    }

    /// With what a call that was waited for has to say.
    #[cfg(feature = "http")]
    pub(crate) fn with_blame(mut self, blame: Option<Blame>) -> Self {
        self.0.blame = blame;
        self
    }

    #[cfg(feature = "http")]
    pub(crate) fn with_whole(mut self, whole: bool) -> Self {
        self.0.whole = whole;
        self
    }

    /// The deadline that has passed.
    #[must_use]
    pub fn deadline(&self) -> Deadline {
        self.0.provenance.deadline
    }

    /// What set it.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.0.provenance.origin
    }

    /// The same, and when.
    #[must_use]
    pub fn provenance(&self) -> Provenance {
        self.0.provenance
    }

    /// How much time there was when it was set.
    #[must_use]
    pub fn budget(&self) -> Duration {
        self.0.provenance.budget()
    }

    /// How much had passed since then when the expiry was noticed.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.now - self.0.provenance.set_at
    }

    /// The phase in which it passed, if an account was kept.
    #[must_use]
    pub fn phase(&self) -> Option<Phase> {
        self.0.spent.map(|(phase, _)| phase)
    }

    /// How long each phase took, if an account was kept.
    #[must_use]
    pub fn spent(&self) -> Option<&Spent> {
        self.0.spent.as_ref().map(|(_, spent)| spent)
    }

    /// Who was waited for, if that is known.
    #[must_use]
    pub fn peer(&self) -> Option<&str> {
        self.0.peer.as_deref()
    }

    /// Where the time went further down, if somebody there has told.
    ///
    /// Of a call: what its callee has told. Of a scope, or a call that was served: what was waited for in it,
    /// and what that has told.
    #[must_use]
    pub fn blame(&self) -> Option<&Blame> {
        self.0.blame.as_ref()
    }

    /// The services further down that the call has passed, nearest first, as they tell it.
    #[must_use]
    pub fn hops(&self) -> &[Hop] {
        self.blame().map_or(&[], Blame::hops)
    }

    /// Whether the time that has passed was all that there was, so that trying again is of no use.
    ///
    /// Of a call that was made: whether its deadline was that of its caller as a whole, as in
    /// [`Blame::used_whole_budget`]. Of a call that was served: whether it was the time that its caller had
    /// told. Of a [`scope()`](super::scope()): never, for a scope ends alone, and those around it know what
    /// they have left.
    #[must_use]
    pub fn used_whole_budget(&self) -> bool {
        self.0.whole
    }

    /// What was waited for, unless that is what there is an account of.
    fn waited(&self) -> Option<&Waited> {
        let own = self.0.spent.map(|(phase, spent)| (self.peer(), phase, spent.in_phase(phase)));
        let is_other = |it: &&Waited| Some((it.peer(), it.phase(), it.took())) != own;
        self.blame()?.waited().filter(is_other)
    }
}

impl fmt::Display for Expired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (elapsed, budget) = (Short(self.elapsed()), Short(self.budget()));
        write!(f, "deadline exceeded after {elapsed} of {budget}, set by {}", self.origin())?;
        match (self.waited(), &self.0.spent) {
            (Some(waited), _) => write!(f, ": {waited}")?,
            (None, Some((phase, spent))) => {
                f.write_str(": ")?;
                blame::waited(f, *phase, self.peer(), spent.in_phase(*phase))?;
                let mut before = spent.phases().filter(|(other, _)| other != phase).peekable();
                if before.peek().is_some() {
                    f.write_str(" (")?;
                    for (i, (phase, took)) in before.enumerate() {
                        let comma = if i > 0 { ", " } else { "" };
                        write!(f, "{comma}{phase} {}", Short(took))?;
                    }
                    f.write_str(")")?;
                }
            }
            (None, None) => {}
        }
        blame::hops(f, self.hops())
    }
}

impl std::error::Error for Expired {}

impl From<Expired> for std::io::Error {
    fn from(expired: Expired) -> Self {
        Self::new(std::io::ErrorKind::TimedOut, expired)
    }
}

/// A duration with four digits at the most.
pub(crate) struct Short(pub(crate) Duration);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ns = self.0.as_nanos();
        let digits = ns.checked_ilog10().unwrap_or(0);
        let unit = 10_u128.pow(digits.saturating_sub(3));
        let rounded = u64::try_from(ns / unit * unit).map_or(Duration::MAX, Duration::from_nanos);
        write!(f, "{rounded:?}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn at(ms: u32) -> Instant<Elapsed> {
        Instant::from_nanos(1) + MS * ms
    }

    fn expired(now: u32) -> Expired {
        Expired::new(Provenance::new(Deadline::at(at(500)), Origin::Call, at(0)), at(now))
    }

    #[test]
    fn it_says_where_the_time_went() {
        let mut ledger = Ledger::begin(Phase::Queue, at(0));
        ledger.enter(Phase::Connect, at(1));
        ledger.enter(Phase::Wait, at(20));
        let expired = expired(501).with_ledger(&ledger).with_peer("10.0.0.7:50051");
        assert_eq!(
            expired.to_string(),
            "deadline exceeded after 501ms of 500ms, set by the call's timeout: no answer from \
             10.0.0.7:50051 for 481ms (queue 1ms, connect 19ms)"
        );
        assert_eq!(expired.spent().unwrap().total(), expired.elapsed());
    }

    #[test]
    fn without_an_account_it_says_what_it_knows() {
        let text = "deadline exceeded after 512ms of 500ms, set by the call's timeout";
        assert_eq!(expired(512).to_string(), text);
        let late = std::io::Error::from(expired(512));
        assert_eq!((late.kind(), late.to_string()), (std::io::ErrorKind::TimedOut, text.into()));
    }

    #[test]
    fn phases_add_up_whatever_the_clock_does() {
        let mut ledger = Ledger::begin(Phase::Queue, at(10));
        ledger.enter(Phase::Send, at(5));
        ledger.enter(Phase::Wait, at(30));
        ledger.enter(Phase::Send, at(40));
        let spent = ledger.spent(at(60));
        assert_eq!(spent.total(), 50 * MS);
        assert_eq!(spent.in_phase(Phase::Send), 40 * MS);
    }

    #[test]
    fn durations_are_short() {
        let text = |ns| Short(Duration::from_nanos(ns)).to_string();
        assert_eq!(text(0), "0ns");
        assert_eq!(text(1_234_567), "1.234ms");
        assert_eq!(text(500_012_345), "500ms");
        assert_eq!(text(12_345_678_901), "12.34s");
        assert_eq!(Short(Duration::MAX).to_string(), format!("{:?}", Duration::MAX));
    }
}
