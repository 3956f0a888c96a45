//! `deadbeat demo`: what deadlines that travel are worth.
//!
//! A client asks `gateway`, which asks `orders`, which asks `stock`: three services in processes of their own,
//! over loopback. Once in time, once with a `stock` that has turned slow; and then the latter on two sides,
//! deadlines that travel and tonic's own timeouts, for each of the ways in which a service may do its work. Last,
//! more calls than `stock` can do ([`overload`]).
//!
//! Nothing is told that wasn't seen: the services report what happens as it does ([`event`]), the parent puts
//! it together ([`play`]). *When nobody waited any more* is when the client's call has returned.

mod bars;
mod caller;
mod event;
mod fleet;
mod json;
mod link;
mod moment;
mod narrate;
mod overload;
mod play;
mod service;
mod story;
mod waiting;

#[allow(clippy::all, clippy::use_self, unnameable_types, unreachable_pub, reason = "generated")]
mod proto {
    include!("proto/shop.rs");
}

pub(crate) use service::{SERVICE, Settings as ServiceSettings, run as run_service};
pub(crate) use story::{Budget, Hop, Side};

use crate::interrupt;
use bars::Ink;
use caller::Caller;
use deadbeat::clock::{Clock, JumpKind};
use fleet::Fleet;
use indicatif::{ProgressBar, ProgressStyle};
use overload::Overload;
use play::{Played, play};
use std::error::Error;
use std::future::poll_fn;
use std::io::{self, Write};
use std::task::Poll;
use story::Scene;

/// How often a call is made, at the most, if the machine stands still meanwhile: a virtual one may be paused
/// for seconds, and then nothing that it shows is about deadlines.
const TRIES: u32 = 3;

/// What to do.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) budget: Budget,
    pub(crate) json: bool,
}

/// Plays all scenes, and tells of each; after Ctrl-C, of those that were.
///
/// # Errors
///
/// A process or port that the system refuses, a service that fails.
pub(crate) fn run(settings: &Settings) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut calls, mut overload) = (Vec::new(), None);
    let played = runtime.block_on(async {
        tokio::select! {
            played = play_all(settings, &mut calls, &mut overload) => played,
            () = interrupted() => Ok(()),
        }
    });
    let mut out = io::stdout().lock();
    if settings.json {
        json::write(&mut out, settings.budget, &calls, overload.as_ref())?;
    } else {
        narrate::compare(&mut out, settings.budget, &calls)?;
        if let Some(overload) = &overload {
            narrate::overload(&mut out, settings.budget, overload)?;
        }
    }
    out.flush()?;
    played
}

async fn play_all(
    settings: &Settings,
    calls: &mut Vec<Played>,
    overload: &mut Option<Overload>,
) -> Result<(), Box<dyn Error>> {
    let (budget, scenes, ink) = (settings.budget, Scene::all(), Ink::of_locale());
    // Hidden unless standard error is a terminal.
    let progress = ProgressBar::new(scenes.len() as u64 + 1).with_style(
        ProgressStyle::with_template("{msg:28} {bar:32} {pos}/{len} scenes")
            .expect("the template is valid"),
    );
    if !settings.json {
        narrate::open(&mut io::stdout(), budget)?;
    }
    let mut stage: Option<(Fleet, Caller)> = None;
    let mut numbers = 1..;
    for scene in scenes {
        progress.set_message(format!("{}, {}", scene.name, scene.side.name()));
        let (fleet, caller) = match &mut stage {
            Some((fleet, caller)) if fleet.side == scene.side => (fleet, caller),
            stage => {
                let fleet = Fleet::start(scene.side, budget).await?;
                let (fleet, caller) = stage.insert((fleet, Caller::new(scene.side, budget)));
                (fleet, caller)
            }
        };
        let mut again = TRIES - 1;
        let played = loop {
            let (before, number) = (stalls(), numbers.next().expect("they don't end"));
            let played = play(scene, number, budget, fleet, caller).await?;
            if again == 0 || stalls() == before {
                break played;
            }
            again -= 1;
            progress.suspend(|| eprintln!("the machine stood still during a call, so once more"));
        };
        if !settings.json {
            progress.suspend(|| narrate::scene(&mut io::stdout(), budget, ink, &played))?;
        }
        calls.push(played);
        progress.inc(1);
    }
    drop(stage);
    progress.set_message("overload");
    let mut again = TRIES - 1;
    loop {
        let before = stalls();
        let seen = overload::play(budget).await?;
        if again == 0 || stalls() == before {
            *overload = Some(seen);
            break;
        }
        again -= 1;
        progress.suspend(|| eprintln!("the machine stood still during the calls, so once more"));
    }
    progress.finish_and_clear();
    Ok(())
}

/// How often this process has been unable to run for a while, by what its clock knows.
fn stalls() -> u64 {
    let jumps = Clock::system().jumps();
    jumps.count(JumpKind::Stall) + jumps.count(JumpKind::Suspend)
}

async fn interrupted() {
    poll_fn(|cx| {
        if interrupt::raised_or_register(cx.waker()) { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}
