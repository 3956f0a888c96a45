//! What was seen, told to a person.

use super::bars::Ink;
use super::event::End;
use super::overload::Overload;
use super::play::Played;
use super::story::{Budget, Hop, ITEMS, RUSH, SLOTS, Side};
use http::StatusCode;
use humantime::format_duration;
use std::io::{self, Write};
use std::time::Duration;

/// The longest line of a text that has to be broken.
const WIDE: usize = 100;

/// What there is to know before.
pub(super) fn open(out: &mut impl Write, budget: Budget) -> io::Result<()> {
    writeln!(
        out,
        "One call through three services, each a process of its own, and {} for all of it.\n\n  \
         client --HTTP--> gateway --gRPC--> orders --gRPC--> stock\n\n\
         Each hop is told what is left, less {} that its caller keeps for the way back.",
        format_duration(budget.0),
        ms(budget.allowance())
    )
}

/// A call, when it is over.
pub(super) fn scene(
    out: &mut impl Write,
    budget: Budget,
    ink: Ink,
    played: &Played,
) -> io::Result<()> {
    match played.scene.name {
        "in-time" => in_time(out, budget, ink, played),
        "slow" => slow(out, budget, ink, played),
        _ => Ok(()),
    }
}

fn in_time(out: &mut impl Write, budget: Budget, ink: Ink, played: &Played) -> io::Result<()> {
    writeln!(
        out,
        "\n1. In time: {ITEMS} items at {} each ({})\n",
        ms(budget.quick_item()),
        format_args!("{} used, {} left", ink.used, ink.left)
    )?;
    bars(out, budget, ink, played)?;
    let sight = &played.sight;
    if sight.status == Some(StatusCode::OK) {
        writeln!(out, "\n  The client has its answer after {}: {}.", ms(played.took()), sight.text)
    } else {
        let text = &sight.text;
        writeln!(out, "\n  It was too late on this machine, try a longer --budget: {text}")
    }
}

fn slow(out: &mut impl Write, budget: Budget, ink: Ink, played: &Played) -> io::Result<()> {
    let (item, all) = (budget.slow_item(), budget.slow_item() * ITEMS);
    writeln!(out, "\n2. `stock` turns slow: {} an item, {} for all\n", ms(item), ms(all))?;
    bars(out, budget, ink, played)?;
    for hop in [Hop::Orders, Hop::Gateway] {
        if let Some((from, code, text)) = played.stay(hop).and_then(|stay| stay.heard) {
            blame(out, hop, from, code, text)?;
        }
    }
    let sight = &played.sight;
    let status = sight.status.map_or("gave up".into(), |status| status.to_string());
    blame(out, Hop::Client, Hop::Gateway, &status, &sight.text)?;
    let Some((at_ns, end)) = played.work_ended() else { return Ok(()) };
    let (at, took) = (played.since_begin(at_ns), played.took());
    let how = match end {
        End::Stopped => "was dropped at the await where it was",
        End::Done => "was done",
    };
    let when = if at <= took {
        format!("{} before the client had its answer", ms(took - at))
    } else {
        format!("{} after the client had its answer", ms(at - took))
    };
    writeln!(
        out,
        "\n  The work of `stock` {how}, {when}:\n  {} of {ITEMS} items done, {} of them when nobody waited any more.",
        played.items(),
        played.items_after_all()
    )
}

/// What a call to the next hop came to: what each hop has told on a line of its own.
fn blame(out: &mut impl Write, hop: Hop, next: Hop, code: &str, text: &str) -> io::Result<()> {
    write!(out, "\n  {hop}, of its call to {next}: {code}")?;
    for (index, told) in text.split("; ").enumerate() {
        let (indent, mut column) = (if index == 0 { 4 } else { 6 }, WIDE);
        for word in told.split_whitespace() {
            let width = word.chars().count() + 1;
            if column + width > WIDE {
                write!(out, "\n{:width$}", "", width = indent - 1)?;
                column = indent - 1;
            }
            write!(out, " {word}")?;
            column += width;
        }
    }
    writeln!(out)
}

fn bars(out: &mut impl Write, budget: Budget, ink: Ink, played: &Played) -> io::Result<()> {
    let line = |out: &mut dyn Write, hop: Hop, began, ended: Duration, remaining: Duration| {
        let bar = ink.bar(budget.0, began, ended, began + remaining);
        writeln!(out, "  {hop:<8}{bar}  has {:>6}, took {:>6}", ms(remaining), ms(ended - began))
    };
    line(out, Hop::Client, Duration::ZERO, played.took(), budget.0)?;
    for hop in [Hop::Gateway, Hop::Orders, Hop::Stock] {
        let Some(stay) = played.stay(hop) else { continue };
        let Some(remaining_us) = stay.remaining_us else { continue };
        let (began, ended) =
            (played.since_begin(stay.arrived_ns), played.since_begin(stay.ended_ns));
        line(out, hop, began, ended.max(began), Duration::from_micros(remaining_us))?;
    }
    Ok(())
}

/// The two sides, and what is different in their code.
pub(super) fn compare(out: &mut impl Write, budget: Budget, calls: &[Played]) -> io::Result<()> {
    let compared: Vec<_> =
        calls.iter().filter(|it| !matches!(it.scene.name, "in-time" | "slow")).collect();
    if compared.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\n3. The same slow `stock`, with deadlines that travel and with tonic's own timeouts: what\n   \
         still ran when nobody waited any more\n\n  {:<24}{:<10}{:<22}{:>8}  {:>8}{:>8}{:>8}{:>7}",
        "the work of `stock`",
        "side",
        "the caller saw",
        "after",
        "gateway",
        "orders",
        "stock",
        "items"
    )?;
    for name in ["handler", "task", "thread", "dead-link"] {
        let mut what = match name {
            "handler" => "in its handler",
            "task" => "in a task it spawns",
            "thread" => "on a blocking thread",
            _ => "behind a link gone dead",
        };
        for played in compared.iter().filter(|it| it.scene.name == name) {
            row(out, what, played)?;
            what = "";
        }
    }
    let total = |side| {
        let of_side = compared.iter().filter(|it| it.scene.side == side);
        of_side.map(|it| it.items_after_all()).sum::<usize>()
    };
    let timeout = format_duration(budget.0);
    writeln!(
        out,
        "\n  Items done for nobody: {} with deadlines that travel, {} without.\n\n\
         What is different between the two:\n\n  \
         deadbeat  {timeout} set once, at the client, by a ClientLayer; channel::Channel from each service\n            \
         to the next, serve::Server for each; deadbeat::spawn, deadbeat::spawn_blocking\n  \
         tonic     {timeout} each: tokio::time::timeout at the client, Endpoint::timeout and\n            \
         Server::timeout at each hop; tokio::spawn, tokio::task::spawn_blocking\n\n\
         In its handler, both stop: a client that gives up hangs up, and each hop drops what it does\n\
         for it. A task or a thread isn't part of what is dropped. Behind a dead link nobody hears that\n\
         somebody hung up, and a timeout there began when the call came, not when it was made. A thread\n\
         that is told to stop finishes the item that it is at.",
        total(Side::Deadbeat),
        total(Side::Tonic)
    )
}

/// More calls than can be done.
pub(super) fn overload(out: &mut impl Write, budget: Budget, seen: &Overload) -> io::Result<()> {
    writeln!(
        out,
        "\n4. More calls than `stock` can do: {SLOTS} at once, {} each; and {RUSH} times as many as that makes,\n   \
         each with {}, straight from the client. A limiter stands before the work\n",
        ms(budget.rush_item()),
        format_duration(budget.0)
    )?;
    writeln!(
        out,
        "  {} calls in {}: {} served in time, {} rejected, {} too late",
        seen.calls(),
        format_duration(budget.rush()),
        seen.in_time.len(),
        seen.rejected.len(),
        seen.too_late
    )?;
    writeln!(
        out,
        "  served:   half of them within {}, all within {}",
        ms(seen.in_time.percentile(50)),
        ms(seen.in_time.max())
    )?;
    let Some(text) = &seen.text else { return Ok(()) };
    writeln!(
        out,
        "  rejected: half of them were told within {}, 95 of 100 within {}; the first one:\n            {text}",
        ms(seen.rejected.percentile(50)),
        ms(seen.rejected.percentile(95))
    )
}

fn row(out: &mut impl Write, what: &str, played: &Played) -> io::Result<()> {
    let sight = &played.sight;
    let saw = match (sight.status, sight.is_deadline_exceeded) {
        (Some(status), true) => format!("{} DEADLINE_EXCEEDED", status.as_u16()),
        (Some(status), false) => status.to_string(),
        (None, true) => "DEADLINE_EXCEEDED".into(),
        (None, false) => "nothing, and gave up".into(),
    };
    writeln!(
        out,
        "  {what:<24}{:<10}{saw:<22}{:>8}  {:>8}{:>8}{:>8}{:>7}",
        played.scene.side.name(),
        ms(played.took()),
        ms(played.ran_on(Hop::Gateway)),
        ms(played.ran_on(Hop::Orders)),
        ms(played.ran_on(Hop::Stock)),
        played.items_after_all()
    )
}

/// Milliseconds, with a digit after the point if they are few.
fn ms(duration: Duration) -> String {
    let ms = duration.as_secs_f64() * 1e3;
    if duration.is_zero() {
        "0".into()
    } else if ms < 9.95 {
        format!("{ms:.1}ms")
    } else {
        format!("{ms:.0}ms")
    }
}
