//! What was seen, as JSON: docs/demo.md says what each member is.

use super::event::End;
use super::overload::Overload;
use super::play::Played;
use super::story::{Budget, Hop, ITEMS, SLOTS, Side};
use super::waiting::Waiting;
use serde::Serialize;
use std::io::{self, Write};
use std::time::Duration;

#[derive(Serialize)]
struct Document<'a> {
    budget_us: u64,
    allowance_us: u64,
    items: u32,
    calls: Vec<Call<'a>>,
    overload: Option<Rush<'a>>,
}

#[derive(Serialize)]
struct Call<'a> {
    scene: &'a str,
    side: Side,
    item_us: u64,
    caller: Caller<'a>,
    hops: Vec<Stay<'a>>,
    work: Option<Work>,
}

#[derive(Serialize)]
struct Caller<'a> {
    status: Option<u16>,
    deadline_exceeded: bool,
    after_us: u64,
    text: &'a str,
    blame: Vec<Waited<'a>>,
}

#[derive(Serialize)]
struct Waited<'a> {
    who: &'a str,
    on: Option<&'a str>,
    waited_ms: f64,
    budget_ms: f64,
}

#[derive(Serialize)]
struct Rush<'a> {
    calls: usize,
    slots: usize,
    item_us: u64,
    in_time: usize,
    in_time_p50_us: u64,
    too_late: usize,
    rejected: usize,
    told_p50_us: u64,
    told_p95_us: u64,
    told_max_us: u64,
    text: Option<&'a str>,
}

#[derive(Serialize)]
struct Stay<'a> {
    hop: Hop,
    arrived_us: u64,
    remaining_us: Option<u64>,
    ended_us: u64,
    end: End,
    heard: Option<Heard<'a>>,
    ran_on_us: u64,
}

#[derive(Serialize)]
struct Heard<'a> {
    from: Hop,
    code: &'a str,
    text: &'a str,
}

#[derive(Serialize)]
struct Work {
    items: usize,
    items_after: usize,
    ended_us: u64,
    end: End,
}

/// Writes one object.
pub(super) fn write(
    out: &mut impl Write,
    budget: Budget,
    calls: &[Played],
    overload: Option<&Overload>,
) -> io::Result<()> {
    let document = Document {
        budget_us: us(budget.0),
        allowance_us: us(budget.allowance()),
        items: ITEMS,
        calls: calls.iter().map(|played| call(budget, played)).collect(),
        overload: overload.map(|seen| rush(budget, seen)),
    };
    serde_json::to_writer_pretty(&mut *out, &document)?;
    writeln!(out)
}

fn call(budget: Budget, played: &Played) -> Call<'_> {
    let sight = &played.sight;
    Call {
        scene: played.scene.name,
        side: played.scene.side,
        item_us: us(played.scene.item(budget)),
        caller: Caller {
            status: sight.status.map(|status| status.as_u16()),
            deadline_exceeded: sight.is_deadline_exceeded,
            after_us: us(played.took()),
            text: &sight.text,
            blame: sight.blame.iter().map(waited).collect(),
        },
        hops: Hop::ALL.iter().filter_map(|&hop| stay(budget, played, hop)).collect(),
        work: played.work_ended().map(|(at_ns, end)| Work {
            items: played.items(),
            items_after: played.items_after_all(),
            ended_us: us(played.since_begin(at_ns)),
            end,
        }),
    }
}

fn waited(waiting: &Waiting) -> Waited<'_> {
    Waited {
        who: &waiting.who,
        on: waiting.on.as_deref(),
        waited_ms: ms(waiting.waited),
        budget_ms: ms(waiting.budget),
    }
}

fn rush(budget: Budget, seen: &Overload) -> Rush<'_> {
    Rush {
        calls: seen.calls(),
        slots: SLOTS.into(),
        item_us: us(budget.rush_item()),
        in_time: seen.in_time.len(),
        in_time_p50_us: us(seen.in_time.percentile(50)),
        too_late: seen.too_late,
        rejected: seen.rejected.len(),
        told_p50_us: us(seen.rejected.percentile(50)),
        told_p95_us: us(seen.rejected.percentile(95)),
        told_max_us: us(seen.rejected.max()),
        text: seen.text.as_deref(),
    }
}

fn stay(budget: Budget, played: &Played, hop: Hop) -> Option<Stay<'_>> {
    if hop == Hop::Client {
        return Some(Stay {
            hop,
            arrived_us: 0,
            remaining_us: Some(us(budget.0)),
            ended_us: us(played.took()),
            end: if played.sight.status.is_some() { End::Done } else { End::Stopped },
            heard: None,
            ran_on_us: 0,
        });
    }
    let stay = played.stay(hop)?;
    Some(Stay {
        hop,
        arrived_us: us(played.since_begin(stay.arrived_ns)),
        remaining_us: stay.remaining_us,
        ended_us: us(played.since_begin(stay.ended_ns)),
        end: stay.end,
        heard: stay.heard.map(|(from, code, text)| Heard { from, code, text }),
        ran_on_us: us(played.ran_on(hop)),
    })
}

/// To a microsecond.
fn ms(duration: Duration) -> f64 {
    us(duration) as f64 / 1e3
}

fn us(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
