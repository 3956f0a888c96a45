//! Who waited for whom when the time was up: the blame that came back, hop by hop.

use super::story::{Budget, Hop};
use deadbeat::deadline::{Blame, Expired, Spent, Waited};
use std::time::Duration;

/// One of the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Waiting {
    pub(super) who: String,
    /// For whose answer; `None`: it was at work itself.
    pub(super) on: Option<String>,
    pub(super) waited: Duration,
    /// Of how much time that it had.
    pub(super) budget: Duration,
}

/// As the answer has told it: the caller first, and last the one that was at work.
pub(super) fn chain(budget: Budget, blame: &Blame) -> Vec<Waiting> {
    let caller = blame.waited().map(|waited| waiting(Hop::Client.name(), waited, budget.0));
    let callees = blame.hops().iter().map(|hop| {
        let who = hop.service().unwrap_or("a callee");
        match (hop.waited(), hop.phase()) {
            (Some(waited), _) => waiting(who, waited, hop.budget()),
            (None, phase) => Waiting {
                who: who.into(),
                on: None,
                waited: phase.map_or(hop.elapsed(), |phase| hop.spent().in_phase(phase)),
                budget: hop.budget(),
            },
        }
    });
    caller.into_iter().chain(callees).collect()
}

/// As the caller has seen it alone, when nobody had told anything before its own time was up.
pub(super) fn own(budget: Budget, expired: &Expired) -> Vec<Waiting> {
    if let Some(blame) = expired.blame() {
        return chain(budget, blame);
    }
    let waited = expired.spent().map_or(expired.elapsed(), Spent::total);
    vec![Waiting {
        who: Hop::Client.name().into(),
        on: expired.peer().map(str::to_owned),
        waited,
        budget: budget.0,
    }]
}

fn waiting(who: &str, waited: &Waited, budget: Duration) -> Waiting {
    let on = waited.peer().map(str::to_owned);
    Waiting { who: who.into(), on, waited: waited.took(), budget }
}
