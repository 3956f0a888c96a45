//! One call, and what everybody told of it.

use super::caller::{Caller, Sight};
use super::event::{End, Event, What};
use super::fleet::Fleet;
use super::story::{Budget, Hop, ITEMS, Scene};
use deadbeat::time::timeout_running;
use std::error::Error;
use std::time::Duration;

/// A call that is over, and all that was begun for it.
#[derive(Debug)]
pub(super) struct Played {
    pub(super) scene: Scene,
    pub(super) sight: Sight,
    log: Vec<(Hop, Event)>,
}

/// If nothing more is told for so long, a hop that the call hasn't come to won't see it any more.
const QUIET: Duration = Duration::from_millis(500);

/// Makes the call, and waits until nobody does anything for it.
///
/// # Errors
///
/// A call that fails otherwise than by its deadline, a service that ends, work that doesn't.
pub(super) async fn play(
    scene: Scene,
    number: u32,
    budget: Budget,
    fleet: &mut Fleet,
    caller: &mut Caller,
) -> Result<Played, Box<dyn Error>> {
    let url = format!(
        "http://127.0.0.1:{}/checkout?call={number}&items={ITEMS}&item_us={}&work={}",
        fleet.gateway,
        scene.item(budget).as_micros(),
        scene.work.name()
    );
    let mut log = Vec::new();
    let listening = listen(scene, number, fleet, &mut log, caller.call(&url));
    let sight = timeout_running(budget.limit(), listening).await;
    fleet.link.set_dead(false);
    match sight {
        Ok(sight) => Ok(Played { scene, sight: sight?, log }),
        Err(_) => Err(format!(
            "{} of {} isn't over after {:?}, the last that was told: {:?}",
            scene.name,
            scene.side.name(),
            budget.limit(),
            log.last()
        )
        .into()),
    }
}

async fn listen(
    scene: Scene,
    number: u32,
    fleet: &mut Fleet,
    log: &mut Vec<(Hop, Event)>,
    call: impl Future<Output = Result<Sight, Box<dyn Error>>>,
) -> Result<Sight, Box<dyn Error>> {
    let mut call = std::pin::pin!(call);
    let mut sight = None;
    loop {
        let (is_settled, is_everywhere) = (is_settled(log), has_arrived(log, Hop::Stock));
        if let Some(sight) = sight.take_if(|_| is_settled && is_everywhere) {
            return Ok(sight);
        }
        let told = tokio::select! {
            seen = &mut call, if sight.is_none() => {
                sight = Some(seen?);
                continue;
            }
            told = timeout_running(QUIET, fleet.next()) => told,
        };
        match told {
            Ok(told) => {
                let (hop, event) = told?;
                if event.what.call() == Some(number) {
                    let has_begun = hop == Hop::Stock && matches!(event.what, What::Item { .. });
                    if scene.is_cut && has_begun {
                        fleet.link.set_dead(true);
                    }
                    log.push((hop, event));
                }
            }
            Err(_) => {
                if let Some(sight) = sight.take_if(|_| is_settled) {
                    return Ok(sight);
                }
            }
        }
    }
}

/// Whether all that has begun is over.
fn is_settled(log: &[(Hop, Event)]) -> bool {
    let count = |is: fn(&What) -> bool| log.iter().filter(|(_, it)| is(&it.what)).count();
    let arrived = count(|it| matches!(it, What::Arrived { .. }));
    let ended = count(|it| matches!(it, What::Ended { .. }));
    let worked = count(|it| matches!(it, What::WorkEnded { .. })) == 1;
    arrived == ended && (worked || !has_arrived(log, Hop::Stock))
}

fn has_arrived(log: &[(Hop, Event)], hop: Hop) -> bool {
    log.iter().any(|(at, it)| *at == hop && matches!(it.what, What::Arrived { .. }))
}

/// What a hop said of the call.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stay<'a> {
    pub(super) arrived_ns: u64,
    pub(super) remaining_us: Option<u64>,
    pub(super) ended_ns: u64,
    pub(super) end: End,
    /// From whom, as which code, what.
    pub(super) heard: Option<(Hop, &'a str, &'a str)>,
}

impl Played {
    fn events(&self, hop: Hop) -> impl Iterator<Item = &Event> {
        self.log.iter().filter(move |(at, _)| *at == hop).map(|(_, event)| event)
    }

    /// `None` if the call never came there; of the client there is what it saw.
    pub(super) fn stay(&self, hop: Hop) -> Option<Stay<'_>> {
        let (arrived_ns, remaining_us) = self.events(hop).find_map(|it| match it.what {
            What::Arrived { remaining_us, .. } => Some((it.at_ns, remaining_us)),
            _ => None,
        })?;
        let (ended_ns, end) = self.events(hop).find_map(|it| match it.what {
            What::Ended { how, .. } => Some((it.at_ns, how)),
            _ => None,
        })?;
        let heard = self.events(hop).find_map(|it| match &it.what {
            What::Heard { from, code, text, .. } => Some((*from, &**code, &**text)),
            _ => None,
        });
        Some(Stay { arrived_ns, remaining_us, ended_ns, end, heard })
    }

    /// When `stock` stopped to work, and how.
    pub(super) fn work_ended(&self) -> Option<(u64, End)> {
        self.events(Hop::Stock).find_map(|it| match it.what {
            What::WorkEnded { how, .. } => Some((it.at_ns, how)),
            _ => None,
        })
    }

    /// How many items `stock` was done with.
    pub(super) fn items(&self) -> usize {
        self.items_after(0)
    }

    /// How many of them when nobody waited any more.
    pub(super) fn items_after_all(&self) -> usize {
        self.items_after(self.sight.ended_ns)
    }

    fn items_after(&self, ns: u64) -> usize {
        let is_item = |it: &&Event| matches!(it.what, What::Item { .. }) && it.at_ns > ns;
        self.events(Hop::Stock).filter(is_item).count()
    }

    /// How long a hop did something when nobody waited any more.
    pub(super) fn ran_on(&self, hop: Hop) -> Duration {
        let handler_ns = self.stay(hop).map_or(0, |stay| stay.ended_ns);
        let work_ns = self.work_ended().filter(|_| hop == Hop::Stock).map_or(0, |(at, _)| at);
        Duration::from_nanos(handler_ns.max(work_ns).saturating_sub(self.sight.ended_ns))
    }

    /// How long after the beginning of the call.
    pub(super) fn since_begin(&self, at_ns: u64) -> Duration {
        Duration::from_nanos(at_ns.saturating_sub(self.sight.began_ns))
    }

    /// How long the caller waited.
    pub(super) fn took(&self) -> Duration {
        self.since_begin(self.sight.ended_ns)
    }
}
