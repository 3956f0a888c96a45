//! What was seen, as JSON.
//!
//! One object: `budget_us`, `allowance_us`, `items`, and `calls`, a list in the order in which they were
//! made. Of each call:
//!
//! - `scene`: `in-time`, `slow`; then for each side `handler`, `task`, `thread`, `dead-link`. `side`:
//!   `deadbeat`, `tonic`. `item_us`: how long `stock` takes for an item.
//! - `caller`: `status`, of HTTP, null if it gave up; `deadline_exceeded`, whether it was told so; `after_us`;
//!   `text`, which is the blame.
//! - `hops`: for each that the call came to, from `client` on: `hop`, `arrived_us` after the call began,
//!   `remaining_us` as it was told then (null: it wasn't), `ended_us`, `end` (`done` or `stopped`), `heard`
//!   (what the call to the next came to, if it failed: `from`, `code`, `text`), `ran_on_us`: for how long it
//!   did something when nobody waited any more.
//! - `work`, of `stock`: `items` that were done, `items_after` nobody waited any more, `ended_us`, `end`. Null
//!   if the call never came there.

use super::event::End;
use super::play::Played;
use super::story::{Budget, Hop, ITEMS};
use serde_json::{Value, json};
use std::time::Duration;

pub(super) fn document(budget: Budget, calls: &[Played]) -> Value {
    json!({
        "budget_us": us(budget.0),
        "allowance_us": us(budget.allowance()),
        "items": ITEMS,
        "calls": calls.iter().map(|played| call(budget, played)).collect::<Vec<_>>(),
    })
}

fn call(budget: Budget, played: &Played) -> Value {
    let sight = &played.sight;
    json!({
        "scene": played.scene.name,
        "side": played.scene.side,
        "item_us": us(played.scene.item(budget)),
        "caller": {
            "status": sight.status.map(|status| status.as_u16()),
            "deadline_exceeded": sight.is_deadline_exceeded,
            "after_us": us(played.took()),
            "text": sight.text,
        },
        "hops": Hop::ALL.iter().filter_map(|&at| hop(budget, played, at)).collect::<Vec<_>>(),
        "work": played.work_ended().map(|(at_ns, end)| json!({
            "items": played.items(),
            "items_after": played.items_after_all(),
            "ended_us": us(played.since_begin(at_ns)),
            "end": end,
        })),
    })
}

fn hop(budget: Budget, played: &Played, hop: Hop) -> Option<Value> {
    if hop == Hop::Client {
        let end = if played.sight.status.is_some() { End::Done } else { End::Stopped };
        return Some(json!({
            "hop": hop,
            "arrived_us": 0,
            "remaining_us": us(budget.0),
            "ended_us": us(played.took()),
            "end": end,
            "heard": null,
            "ran_on_us": 0,
        }));
    }
    let stay = played.stay(hop)?;
    let heard =
        stay.heard.map(|(from, code, text)| json!({"from": from, "code": code, "text": text}));
    Some(json!({
        "hop": hop,
        "arrived_us": us(played.since_begin(stay.arrived_ns)),
        "remaining_us": stay.remaining_us,
        "ended_us": us(played.since_begin(stay.ended_ns)),
        "end": stay.end,
        "heard": heard,
        "ran_on_us": us(played.ran_on(hop)),
    }))
}

fn us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
