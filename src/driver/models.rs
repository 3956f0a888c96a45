//! The driver's lock-free protocols under loom, one model each, on the real code.
//!
//! Run with
//! `RUSTFLAGS="--cfg deadbeat_loom" cargo test --release --lib models --target-dir target/loom`.
//!
//! loom's threads share one OS thread, so these models take shards by hand and not from
//! thread-locals; and there is no time in them: the driver is given one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::*};
use std::task::{Wake, Waker};

use loom::thread;

use super::core::{Core, Engines, Known, Next, Options};
use super::engine::Fired;
use super::node::{Look, Moved, NEVER};
use super::park::PARKED;
use super::shard::Shard;
use super::timer::{Armed, arm, push, release};
use crate::clock::ManualClock;
use crate::wheel::backlog::Policy;

/// When the driver comes, and deadlines around it.
const NOW: u64 = 1_000_000;
const DUE: u64 = NOW - 10;
const LATER: u64 = NOW + 1_000_000;

struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Relaxed);
    }
}

fn counter() -> (Arc<Count>, Waker) {
    let count = Arc::new(Count(AtomicUsize::new(0)));
    (count.clone(), Waker::from(count))
}

impl Count {
    fn get(&self) -> usize {
        self.0.load(Relaxed)
    }
}

/// A core with one shard, and its engine.
struct World {
    core: Arc<Core>,
    shard: Arc<Shard>,
    engine: Engines,
}

impl World {
    fn new() -> Self {
        let core = Core::new(ManualClock::new().into(), Options::default());
        core.set_running();
        // There is a handle somewhere.
        core.handles.store(1, Relaxed);
        let shard = core.active.adopt_shard();
        let mut engine = Engines::new(0, Policy::FRESH);
        core.active.refresh_shards(&mut engine.active);
        // Without the one for threads that are ending: fewer places to look.
        engine.active.set_shards(vec![shard.clone()]);
        Self { core, shard, engine }
    }
}

/// One visit of the driver.
fn drive(core: &Core, engine: &mut Engines, now: u64) -> usize {
    let mut fired = Vec::new();
    while engine.active.turn(&core.active.pool, now, &mut fired) {}
    engine.active.invariants();
    let count = fired.len();
    fired.into_iter().for_each(|Fired { waker, .. }| waker.wake());
    count
}

/// Whether the driver, if it went to sleep now, would come in time: the promises hold.
fn comes_by(engine: &Engines, deadline: u64) -> bool {
    engine.active.has_mail() || engine.active.next_expiration().is_some_and(|next| next <= deadline)
}

fn model(f: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(f);
}

#[test]
fn an_armed_node_fires_once_whenever_the_driver_comes() {
    model(|| {
        let World { core, shard, mut engine } = World::new();
        let (count, waker) = counter();
        let owner = {
            let (core, shard) = (core.clone(), shard.clone());
            thread::spawn(move || {
                // SAFETY: the only thread that uses the shard.
                let armed = unsafe { arm(&core, &core.active, &shard, DUE, waker) };
                core.ensure_wake(false, DUE).unwrap();
                armed
            })
        };
        drive(&core, &mut engine, NOW);
        let armed = owner.join().unwrap();
        drive(&core, &mut engine, NOW);
        assert_eq!(count.get(), 1);
        // SAFETY: nodes live as long as the core.
        assert_eq!(unsafe { armed.node.as_ref() }.look(), Look::Fired);
    });
}

#[test]
fn a_node_that_is_cancelled_while_it_expires_fires_or_is_cancelled_and_comes_back_once() {
    model(|| {
        let World { core, shard, mut engine } = World::new();
        let (count, waker) = counter();
        // SAFETY: as above.
        let armed = unsafe { arm(&core, &core.active, &shard, DUE, waker) };
        let owner = {
            // SAFETY: the owner's node; it lives as long as the core.
            thread::spawn(move || unsafe { release(armed, true).is_some() })
        };
        let fired = drive(&core, &mut engine, NOW);
        let cancelled = owner.join().unwrap();
        assert_eq!(fired + usize::from(cancelled), 1, "fired {fired}, cancelled {cancelled}");
        assert_eq!(count.get(), fired);
        // Free again, and only once.
        let (_, waker) = counter();
        // SAFETY: this thread uses the shard alone now.
        let (a, b) = unsafe {
            (
                arm(&core, &core.active, &shard, LATER, waker.clone()),
                arm(&core, &core.active, &shard, LATER, waker),
            )
        };
        assert_ne!(a.node, b.node);
        assert_eq!(a.node, armed.node);
    });
}

#[test]
fn a_node_that_is_armed_again_in_its_old_place_is_not_lost() {
    model(|| {
        let World { core, shard, mut engine } = World::new();
        let (_, waker) = counter();
        // SAFETY: as above.
        let first = unsafe { arm(&core, &core.active, &shard, DUE, waker) };
        drive(&core, &mut engine, DUE - 1);
        // SAFETY: the owner's.
        unsafe { release(first, true) }.unwrap();
        // Dead, in the wheel, due at DUE. The driver removes it while the owner arms it for later.
        let (count, waker) = counter();
        let owner = {
            let (core, shard) = (core.clone(), shard.clone());
            thread::spawn(move || {
                // SAFETY: as above.
                unsafe { arm(&core, &core.active, &shard, LATER, waker) };
                core.ensure_wake(false, LATER).unwrap();
            })
        };
        drive(&core, &mut engine, NOW);
        owner.join().unwrap();
        assert!(comes_by(&engine, LATER), "nobody will look at it");
        assert_eq!(count.get(), 0, "early");
        drive(&core, &mut engine, LATER);
        assert_eq!(count.get(), 1);
    });
}

#[test]
fn a_waker_that_is_replaced_while_the_node_expires_is_the_one_that_counts() {
    model(|| {
        let World { core, shard, mut engine } = World::new();
        let (old, waker) = counter();
        // SAFETY: as above.
        let armed = unsafe { arm(&core, &core.active, &shard, DUE, waker) };
        let (new, waker) = counter();
        let owner = thread::spawn(move || {
            // SAFETY: the owner's armed node.
            unsafe { armed.node.as_ref().replace_waker(waker) }
        });
        drive(&core, &mut engine, NOW);
        match owner.join().unwrap() {
            // It will hear of it through the new waker: it must have been called, or be there still.
            Look::Pending => {
                drive(&core, &mut engine, NOW);
                assert_eq!((old.get(), new.get()), (0, 1));
            }
            // The poll itself was ready.
            Look::Fired => assert_eq!(new.get(), 0),
        }
    });
}

#[test]
fn a_deadline_that_is_moved_earlier_is_kept() {
    model(|| {
        let World { core, shard, mut engine } = World::new();
        let (count, waker) = counter();
        // SAFETY: as above.
        let armed = unsafe { arm(&core, &core.active, &shard, LATER, waker) };
        let owner = {
            let (core, shard) = (core.clone(), shard.clone());
            thread::spawn(move || {
                // SAFETY: lives as long as the core.
                let node = unsafe { armed.node.as_ref() };
                let Moved::Earlier { push: tell } = node.set_deadline(DUE) else { panic!() };
                if tell {
                    push(&core, &shard, node);
                }
                core.ensure_wake(false, DUE).unwrap();
            })
        };
        drive(&core, &mut engine, 0);
        owner.join().unwrap();
        assert!(
            comes_by(&engine, DUE),
            "it would sleep until {:?}",
            engine.active.next_expiration()
        );
        drive(&core, &mut engine, NOW);
        assert_eq!(count.get(), 1);
    });
}

#[test]
fn a_deadline_that_is_moved_later_fires_at_the_old_time_or_the_new_one() {
    model(|| {
        let World { core, shard, mut engine } = World::new();
        let (count, waker) = counter();
        // SAFETY: as above.
        let armed = unsafe { arm(&core, &core.active, &shard, DUE, waker) };
        let owner = thread::spawn(move || {
            // SAFETY: lives as long as the core.
            let node = unsafe { armed.node.as_ref() };
            assert_eq!(node.set_deadline(LATER), Moved::Later);
        });
        drive(&core, &mut engine, NOW);
        owner.join().unwrap();
        if count.get() == 0 {
            assert!(comes_by(&engine, LATER));
            drive(&core, &mut engine, LATER);
        }
        assert_eq!(count.get(), 1);
    });
}

#[test]
fn a_driver_that_parks_was_kicked_or_knows_of_every_node() {
    model(|| {
        let World { core, shard, mut engine } = World::new();
        let (count, waker) = counter();
        let owner = {
            let (core, shard) = (core.clone(), shard.clone());
            thread::spawn(move || {
                // SAFETY: as above.
                unsafe { arm(&core, &core.active, &shard, DUE, waker) };
                core.ensure_wake(false, DUE).unwrap();
            })
        };
        // The driver, about to sleep until LATER; it has been asleep before.
        core.retract_wake();
        drive(&core, &mut engine, 0);
        let next = engine.active.next_expiration().unwrap_or(LATER);
        let parks = core.publish_wake(
            Next { active: next, elapsed: NEVER },
            PARKED,
            &engine,
            Known::default(),
        );
        owner.join().unwrap();
        if parks && next > DUE {
            assert!(!core.is_parked(), "asleep until {next}, and nobody has called");
        }
        core.retract_wake();
        drive(&core, &mut engine, NOW);
        assert_eq!(count.get(), 1);
    });
}

#[test]
fn a_kick_gets_a_parked_driver_up() {
    model(|| {
        let World { core, shard, mut engine } = World::new();
        let (count, waker) = counter();
        let owner = {
            let (core, shard) = (core.clone(), shard.clone());
            thread::spawn(move || {
                // SAFETY: as above.
                unsafe { arm(&core, &core.active, &shard, DUE, waker) };
                core.ensure_wake(false, DUE).unwrap();
            })
        };
        // A sleep without end: the model fails if nobody ends it.
        while count.get() == 0 {
            core.retract_wake();
            drive(&core, &mut engine, NOW);
            if count.get() == 0
                && core.publish_wake(
                    Next { active: NEVER, elapsed: NEVER },
                    PARKED,
                    &engine,
                    Known::default(),
                )
            {
                let until = super::park::Until::default();
                core.parker.park(core.parked(), PARKED, until);
            }
        }
        owner.join().unwrap();
        assert_eq!(count.get(), 1);
    });
}

#[test]
fn a_driver_that_retires_leaves_nothing_behind() {
    use super::core::{IDLE, RUNNING};
    model(|| {
        let World { core, shard, mut engine } = World::new();
        core.retract_wake();
        let (_, waker) = counter();
        let owner = {
            let (core, shard) = (core.clone(), shard.clone());
            thread::spawn(move || {
                // SAFETY: as above.
                unsafe { arm(&core, &core.active, &shard, DUE, waker) };
                // Where `ensure_wake` would start a thread, it tells so here.
                core.must_start(DUE)
            })
        };
        drive(&core, &mut engine, 0);
        core.no_driver(IDLE);
        let stays = engine.have_news(&core);
        if stays {
            core.set_running();
            core.retract_wake();
        }
        let starts = owner.join().unwrap();
        let knows = comes_by(&engine, DUE);
        assert!(starts || knows, "no driver, and nobody starts one");
        assert!(core.phase() == if stays { RUNNING } else { IDLE });
    });
}

#[test]
fn a_driver_that_retires_has_looked_at_what_was_armed_where_it_stood() {
    use super::core::IDLE;
    model(|| {
        let World { core, shard, mut engine } = World::new();
        let (_, waker) = counter();
        // SAFETY: as above.
        let first = unsafe { arm(&core, &core.active, &shard, DUE, waker.clone()) };
        drive(&core, &mut engine, 0);
        // SAFETY: the owner's.
        unsafe { release(first, true) }.unwrap();
        core.retract_wake();
        // Dead, in the wheel. Armed again for later it is pushed nowhere.
        let owner = {
            let (core, shard) = (core.clone(), shard.clone());
            thread::spawn(move || {
                // SAFETY: as above.
                unsafe { arm(&core, &core.active, &shard, LATER, waker) };
                core.must_start(LATER)
            })
        };
        let mut last = [0; 2];
        let retires = !core.any_pending(&mut last) && {
            core.no_driver(IDLE);
            !(engine.have_news(&core) || core.any_pending(&mut last))
        };
        let starts = owner.join().unwrap();
        assert!(starts || !retires, "no driver, and nobody starts one");
    });
}

#[test]
fn an_order_reaches_a_driver_that_goes_to_sleep() {
    model(|| {
        let World { core, engine, .. } = World::new();
        core.retract_wake();
        let other = {
            let core = core.clone();
            thread::spawn(move || {
                core.stop_requested.store(true, Release);
                core.summon();
            })
        };
        let seen = core.stop_requested.load(Acquire);
        let parks = !seen
            && core.publish_wake(
                Next { active: NEVER, elapsed: NEVER },
                PARKED,
                &engine,
                Known::default(),
            );
        other.join().unwrap();
        assert!(!parks || !core.is_parked(), "asleep for ever, with an order");
    });
}

#[test]
fn an_inbox_loses_nothing_when_it_wraps_and_overflows() {
    use super::inbox::Inbox;
    model(|| {
        let inbox = Arc::new(Inbox::new());
        let producer = {
            let inbox = inbox.clone();
            thread::spawn(move || {
                (0..4).for_each(|i| {
                    inbox.push(i);
                });
            })
        };
        let mut seen = Vec::new();
        inbox.drain(|i| seen.push(i));
        producer.join().unwrap();
        inbox.drain(|i| seen.push(i));
        seen.sort_unstable();
        assert_eq!(seen, [0, 1, 2, 3]);
        assert!(inbox.is_empty());
    });
}

#[test]
fn nodes_that_others_give_back_are_found_once_each() {
    model(|| {
        let World { core, shard, .. } = World::new();
        let (_, waker) = counter();
        // SAFETY: as above.
        let armed: Vec<Armed> = (0..2)
            .map(|_| unsafe { arm(&core, &core.active, &shard, LATER, waker.clone()) })
            .collect();
        let others: Vec<_> = armed
            .iter()
            .map(|&armed| {
                // SAFETY: a timer that has moved to another thread is cancelled there.
                thread::spawn(move || unsafe {
                    assert!(release(armed, false).is_some());
                })
            })
            .collect();
        // The owner goes on arming meanwhile.
        // SAFETY: as above.
        let mut all = vec![unsafe { arm(&core, &core.active, &shard, LATER, waker.clone()) }.node];
        others.into_iter().for_each(|other| other.join().unwrap());
        // SAFETY: as above.
        all.extend(
            (0..2).map(|_| unsafe { arm(&core, &core.active, &shard, LATER, waker.clone()) }.node),
        );
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 3, "a node was given out twice");
    });
}

#[test]
fn a_node_that_is_armed_while_the_driver_stops_is_fired_or_refused() {
    model(|| {
        let World { core, shard, mut engine } = World::new();
        core.retract_wake();
        let (count, waker) = counter();
        let owner = {
            let (core, shard) = (core.clone(), shard.clone());
            thread::spawn(move || {
                // SAFETY: as above.
                unsafe { arm(&core, &core.active, &shard, LATER, waker) };
                core.ensure_wake(false, LATER).is_err()
            })
        };
        let fired = core.stop(&mut engine);
        fired.into_iter().flatten().for_each(|Fired { waker, .. }| waker.wake());
        let refused = owner.join().unwrap();
        assert!(refused || count.get() == 1, "armed for ever on a driver that has stopped");
    });
}
