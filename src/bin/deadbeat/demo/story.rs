//! What is played: who takes part, and how long everything takes, in parts of the budget.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// Who takes part in a call, in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Hop {
    /// Who calls, and waits.
    #[value(skip)]
    Client,
    /// HTTP.
    Gateway,
    /// gRPC.
    Orders,
    /// gRPC: what turns slow.
    Stock,
}

/// Whose deadlines or timeouts there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Side {
    /// Deadlines that travel.
    Deadbeat,
    /// Tonic's own timeouts, and tokio's where tonic has none.
    Tonic,
}

/// Where `stock` does its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Work {
    /// In the future of its handler.
    Handler,
    /// In a task that the handler spawns, and waits for.
    Task,
    /// On a thread for blocking work, which the handler waits for.
    Thread,
}

/// One call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scene {
    pub(super) name: &'static str,
    pub(super) side: Side,
    pub(super) is_slow: bool,
    pub(super) work: Work,
    /// The link between `orders` and `stock` goes dead while `stock` works: nothing comes through any more,
    /// and nobody is told.
    pub(super) is_cut: bool,
}

/// Everything is told in parts of this, so that a longer one is the same story, slower.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget(pub(crate) Duration);

/// How many items a basket has.
pub(super) const ITEMS: u32 = 60;

/// How many calls `stock` works on at once when it is overloaded.
pub(super) const SLOTS: u16 = 4;

/// How many times as many are made as it can do.
pub(super) const RUSH: u32 = 3;

/// So many are made: the rush is as long as twenty of them.
pub(super) const RUSH_CALLS: u32 = SLOTS as u32 * 20 * RUSH;

impl Hop {
    pub(super) const ALL: [Self; 4] = [Self::Client, Self::Gateway, Self::Orders, Self::Stock];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Gateway => "gateway",
            Self::Orders => "orders",
            Self::Stock => "stock",
        }
    }
}

impl Side {
    pub(super) const BOTH: [Self; 2] = [Self::Deadbeat, Self::Tonic];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Deadbeat => "deadbeat",
            Self::Tonic => "tonic",
        }
    }
}

impl Work {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Handler => "handler",
            Self::Task => "task",
            Self::Thread => "thread",
        }
    }
}

impl Scene {
    const SLOW: Self = Self {
        name: "slow",
        side: Side::Deadbeat,
        is_slow: true,
        work: Work::Handler,
        is_cut: false,
    };

    /// All, in order.
    pub(super) fn all() -> Vec<Self> {
        let mut all = vec![Self { name: "in-time", is_slow: false, ..Self::SLOW }, Self::SLOW];
        for side in Side::BOTH {
            let slow = Self { side, ..Self::SLOW };
            all.push(Self { name: "handler", ..slow });
            all.push(Self { name: "task", work: Work::Task, ..slow });
            all.push(Self { name: "thread", work: Work::Thread, ..slow });
            all.push(Self { name: "dead-link", is_cut: true, ..slow });
        }
        all
    }

    /// How long `stock` takes for an item.
    pub(super) fn item(&self, budget: Budget) -> Duration {
        if self.is_slow { budget.slow_item() } else { budget.quick_item() }
    }
}

impl Budget {
    /// What `gateway` takes for its own part.
    pub(super) fn of_gateway(self) -> Duration {
        self.0 * 8 / 100
    }

    /// What `orders` takes for its own part.
    pub(super) fn of_orders(self) -> Duration {
        self.0 * 12 / 100
    }

    /// All of them take a quarter of the budget.
    pub(super) fn quick_item(self) -> Duration {
        self.0 / 4 / ITEMS
    }

    /// All of them take three times the budget.
    pub(super) fn slow_item(self) -> Duration {
        self.0 * 3 / ITEMS
    }

    /// What each call takes that is one of too many.
    pub(super) fn rush_item(self) -> Duration {
        self.0 / 10
    }

    /// How long there are too many.
    pub(super) fn rush(self) -> Duration {
        self.rush_item() * 20
    }

    /// What each hop keeps of its time for the way back of an answer.
    pub(super) fn allowance(self) -> Duration {
        self.0 / 20
    }

    /// By then, everything that was begun is over.
    pub(super) fn limit(self) -> Duration {
        self.0 * 5 + Duration::from_secs(20)
    }
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}
