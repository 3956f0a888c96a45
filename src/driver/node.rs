//! One timer as its two parties see it: the future that owns it, and the driver that fires it.
//!
//! A node belongs to one future from the moment it is armed until that future gives it back, fired
//! or not. The driver only borrows it. So an owner may write its deadline with a plain store, at any
//! time, and can never hit a stranger's timer; and what the driver still knows of a node after its
//! owner has let go (a place in a wheel, an entry in an inbox) is never more than a hint to look at
//! it again.
//!
//! # The state word
//!
//! Eight bits of phase below 56 bits of generation; the generation grows by one at each arming.
//!
//! | phase | waker slot belongs to | who moves it on |
//! | --- | --- | --- |
//! | `FREE` | owner (empty) | owner arms: `ARMED` |
//! | `ARMED` | nobody (full) | owner: `REGISTERING` to replace the waker, `FREE` to cancel; driver: `FIRING` |
//! | `REGISTERING` | owner | owner: back to `ARMED`; driver: `MISSED` |
//! | `MISSED` | owner | owner: `FIRED`, and its poll is ready |
//! | `FIRING` | driver (to read) | driver: `FIRED`; owner lets go: `ABANDONED` |
//! | `FIRED` | owner (empty) | owner: `FREE` |
//! | `ABANDONED` | driver | driver: `FREE`, and it gives the node back |
//!
//! Whoever moves a node out of `ARMED` takes the waker. `FIRING` lasts for the few instructions
//! in which the driver moves the waker out; it exists so that an owner which looks at that very
//! moment neither waits for the driver nor reuses the slot under it.
//!
//! The generation closes one hole: the driver reads a deadline that is due, the owner cancels and
//! arms the node again with a later one, and the driver's compare-and-swap must fail. To be fooled
//! it would have to sleep between the two for 2^56 armings of one node.
//!
//! # Two promises of the driver
//!
//! `queued` says that the node stands in an inbox: the driver looks at it before it parks. `visit`
//! says that it stands in a wheel: the driver looks at it at that time at the latest. An owner that
//! arms or resets publishes state and deadline *first* and reads the promises *after* a fence; the
//! driver withdraws a promise *first* and reads state and deadline *after* a fence. So at least one
//! of them sees the other (Dekker's protocol), and a node whose promises are good enough needs no
//! push at all: that is what makes an armed and cancelled timeout free of shared work.

use std::mem::{ManuallyDrop, MaybeUninit};
use std::ptr;
use std::task::Waker;

use crate::sync::UnsafeCell;
use crate::sync::atomic::{AtomicU8, AtomicU64, Ordering::*, fence};
use crate::wheel::list::{NIL, NO_SLOT};

/// No visit is promised; also the deadline that never comes.
pub(crate) const NEVER: u64 = u64::MAX;

const PHASE: u64 = 0xff;
const GENERATION: u64 = PHASE + 1;

const FREE: u64 = 0;
const ARMED: u64 = 1;
const REGISTERING: u64 = 2;
const MISSED: u64 = 3;
const FIRING: u64 = 4;
const FIRED: u64 = 5;
const ABANDONED: u64 = 6;

/// A timer's shared half: one cache line, in a chunk that outlives everything that names it.
#[cfg_attr(not(any(deadbeat_loom, deadbeat_shuttle)), repr(align(64)))]
#[derive(Debug)]
pub(crate) struct Node {
    state: AtomicU64,
    deadline: AtomicU64,
    /// When the driver has promised to look here at the latest; the wheel's `when` while linked.
    visit: AtomicU64,
    waker: UnsafeCell<MaybeUninit<Waker>>,
    /// The next node of a free list. Belongs to whoever holds the free node.
    next_free: UnsafeCell<*const Self>,
    /// The driver's alone.
    links: UnsafeCell<Links>,
    pub(crate) index: u32,
    /// The driver's alone, too; beside the links it would cost two bytes of padding too many.
    slot: UnsafeCell<u16>,
    queued: AtomicU8,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Links {
    pub(crate) prev: u32,
    pub(crate) next: u32,
}

// SAFETY: the waker slot, the free-list link and the wheel links each have one owner at a time, as
// the table above and the notes at the fields say; loom checks the hand-overs.
unsafe impl Send for Node {}
// SAFETY: as above.
unsafe impl Sync for Node {}

/// What the owner learns when it looks at its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Still armed: it will fire.
    Pending,
    /// It has fired (or been stopped); the node is still the caller's to let go.
    Fired,
}

/// What a change of the deadline asks of the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moved {
    /// Nothing.
    Later,
    /// The driver may sleep too long, and may have to be told of the node.
    Earlier { push: bool },
}

/// What the driver learns when it comes to fire a node.
#[derive(Debug)]
pub(crate) enum Fire {
    /// The waker is the caller's.
    Wake(Waker),
    /// The owner is in its poll at this moment and will find out by itself.
    Seen,
    /// As `Wake`, and the owner has let go meanwhile: the node is the driver's to give back.
    WakeAndReturn(Waker),
    /// It is not armed, or not as it was when the caller looked.
    Changed,
}

/// What the driver sees in a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    state: u64,
    pub(crate) deadline: u64,
}

impl Seen {
    /// Whether somebody waits for this timer.
    pub(crate) fn live(self) -> bool {
        matches!(self.state & PHASE, ARMED | REGISTERING)
    }
}

impl Node {
    pub(crate) fn new(index: u32) -> Self {
        Self {
            state: AtomicU64::new(FREE),
            deadline: AtomicU64::new(NEVER),
            visit: AtomicU64::new(NEVER),
            waker: UnsafeCell::new(MaybeUninit::uninit()),
            next_free: UnsafeCell::new(std::ptr::null()),
            links: UnsafeCell::new(Links { prev: NIL, next: NIL }),
            slot: UnsafeCell::new(NO_SLOT),
            index,
            queued: AtomicU8::new(0),
        }
    }

    // The owner's side.

    /// Arms the node. Returns the state that it is in now, for [`release`](Self::release), and
    /// whether the driver must be told to look at it.
    ///
    /// # Safety
    ///
    /// The node is free and the caller's.
    #[inline]
    pub(crate) unsafe fn arm(&self, deadline: u64, waker: Waker) -> (u64, bool) {
        // Ordering: nobody else writes the state of a free node.
        let state = self.state.load(Relaxed);
        debug_assert_eq!(state & PHASE, FREE);
        // Ordering: the store of the state below publishes it.
        self.deadline.store(deadline, Relaxed);
        // SAFETY: the slot of a free node is its holder's.
        self.waker.with_mut(|slot| unsafe { (*slot).write(waker) });
        // FREE is no bits.
        let armed = state.wrapping_add(GENERATION | ARMED);
        store_then_fence(&self.state, armed);
        (armed, self.needs_push(deadline))
    }

    /// Whether none of the driver's promises covers `deadline`. After a fence.
    #[inline]
    fn needs_push(&self, deadline: u64) -> bool {
        // Ordering: relaxed, behind the fence of Dekker's protocol (module doc).
        self.visit.load(Relaxed) > deadline && self.queued.load(Relaxed) == 0
    }

    /// Notes that the node is about to be pushed to an inbox.
    #[inline]
    pub(crate) fn mark_queued(&self) {
        // Ordering: the push publishes it; only the owner sets it, only the driver clears it.
        self.queued.store(1, Relaxed);
    }

    /// Moves the deadline of an armed node.
    ///
    /// To a later time this is one store: the driver's promises only get better. If the old deadline
    /// fires at the same moment, the owner finds a fired node and a deadline still to come, and arms
    /// anew.
    #[inline]
    pub(crate) fn set_deadline(&self, deadline: u64) -> Moved {
        // Ordering: the owner alone writes it.
        let earlier = deadline < self.deadline.load(Relaxed);
        // Ordering: a driver that reads a later value visits too early, never too late; for an
        // earlier one the fence follows.
        self.deadline.store(deadline, Relaxed);
        if !earlier {
            return Moved::Later;
        }
        // Ordering: Dekker's protocol (module doc).
        fence(SeqCst);
        Moved::Earlier { push: self.needs_push(deadline) }
    }

    /// What the owner armed it for.
    #[inline]
    pub(crate) fn deadline(&self) -> u64 {
        // Ordering: the owner alone writes it.
        self.deadline.load(Relaxed)
    }

    /// Looks whether the timer has fired.
    #[inline]
    pub(crate) fn look(&self) -> Look {
        // Ordering: pairs with the driver's release of the waker slot.
        match self.state.load(Acquire) & PHASE {
            ARMED => Look::Pending,
            phase => {
                debug_assert!(matches!(phase, FIRING | FIRED), "phase {phase}");
                Look::Fired
            }
        }
    }

    /// Whether the waker that it was armed with, or that was last put in its place, wakes the same
    /// task as `waker`.
    ///
    /// Compares with the very clone that the node has: another one may be a borrow of something on
    /// the stack, and the next at the same address another task's.
    ///
    /// # Safety
    ///
    /// The caller owns the node and has armed it.
    #[inline]
    pub(crate) unsafe fn has_waker(&self, waker: &Waker) -> bool {
        // The slot was filled, and its bits stay until the owner writes it again: the driver only
        // reads them.
        let clone = self.waker.with(|slot| {
            // SAFETY: if the driver has moved the waker out, the bits are still two pointers, and
            // that is all they are taken for; nothing is dropped.
            unsafe { ManuallyDrop::new((*slot).assume_init_read()) }
        });
        clone.data() == waker.data() && ptr::eq(clone.vtable(), waker.vtable())
    }

    /// Puts another waker in the place of the one that is there.
    ///
    /// # Safety
    ///
    /// The caller owns the node and has armed it.
    pub(crate) unsafe fn replace_waker(&self, waker: Waker) -> Look {
        // Ordering: the owner alone changes the generation.
        let generation = self.state.load(Relaxed) & !PHASE;
        let armed = generation | ARMED;
        let registering = generation | REGISTERING;
        // Ordering: acquire, to own the slot.
        if self.state.compare_exchange(armed, registering, Acquire, Relaxed).is_err() {
            return Look::Fired;
        }
        // SAFETY: REGISTERING makes the slot the owner's, and it is full.
        let old = self.waker.with_mut(|slot| unsafe {
            let old = (*slot).assume_init_read();
            (*slot).write(waker);
            old
        });
        let mut unused = None;
        // Ordering: release hands the slot over; acquire to see a driver that came meanwhile.
        let look = match self.state.compare_exchange(registering, armed, AcqRel, Acquire) {
            Ok(_) => Look::Pending,
            Err(state) => {
                debug_assert_eq!(state, generation | MISSED);
                // SAFETY: MISSED leaves the slot with the owner.
                unused = Some(self.waker.with_mut(|slot| unsafe { (*slot).assume_init_read() }));
                // Ordering: the owner alone acts on a missed node.
                self.state.store(generation | FIRED, Relaxed);
                Look::Fired
            }
        };
        // User code: after the node is whole again.
        drop((old, unused));
        look
    }

    /// Lets go of the node, armed or fired: one compare-and-swap while it is armed.
    ///
    /// Returns whether the timer was cancelled, with its waker, and whether the node is the caller's
    /// to give back. If not, the driver is just firing it and will give it back itself.
    ///
    /// # Safety
    ///
    /// The caller owns the node, `armed` is what [`arm`](Self::arm) returned, and the caller does not
    /// use it afterwards, but to give it back if told so.
    #[inline]
    pub(crate) unsafe fn release(&self, armed: u64) -> (Option<Waker>, bool) {
        debug_assert_eq!(armed & PHASE, ARMED);
        let generation = armed & !PHASE;
        let free = generation | FREE;
        // Ordering: acquire, to own the slot; nothing to publish but the state.
        match self.state.compare_exchange(armed, free, Acquire, Acquire) {
            Ok(_) => {
                // SAFETY: whoever moves a node out of ARMED takes the waker.
                (Some(self.waker.with_mut(|slot| unsafe { (*slot).assume_init_read() })), true)
            }
            Err(state) if state == generation | FIRING => {
                // Ordering: acquire, in case the driver has finished meanwhile.
                let seen = self.state.compare_exchange(
                    generation | FIRING,
                    generation | ABANDONED,
                    Acquire,
                    Acquire,
                );
                if seen.is_ok() {
                    return (None, false);
                }
                // Ordering: fired by now, so the owner's alone.
                self.state.store(free, Relaxed);
                (None, true)
            }
            Err(state) => {
                debug_assert_eq!(state, generation | FIRED);
                // Ordering: a fired node is the owner's alone.
                self.state.store(free, Relaxed);
                (None, true)
            }
        }
    }

    // The free list's side.

    /// # Safety
    ///
    /// The caller holds the free node.
    #[inline]
    pub(crate) unsafe fn set_next_free(&self, next: *const Self) {
        // SAFETY: the holder's field.
        self.next_free.with_mut(|slot| unsafe { *slot = next });
    }

    /// # Safety
    ///
    /// The caller holds the free node.
    #[inline]
    pub(crate) unsafe fn next_free(&self) -> *const Self {
        // SAFETY: the holder's field.
        self.next_free.with(|slot| unsafe { *slot })
    }

    // The driver's side.

    /// Withdraws the promise that an inbox entry was. A fence must follow before [`see`](Self::see).
    #[inline]
    pub(crate) fn clear_queued(&self) {
        // Ordering: the driver's fence follows (module doc).
        self.queued.store(0, Relaxed);
    }

    /// Withdraws the promised visit. A fence must follow before the next [`see`](Self::see).
    #[inline]
    pub(crate) fn clear_visit(&self) {
        // Ordering: the driver's fence follows; or its swap to FIRED, which releases it.
        self.visit.store(NEVER, Relaxed);
    }

    #[inline]
    pub(crate) fn visit(&self) -> u64 {
        // Ordering: the driver alone writes it.
        self.visit.load(Relaxed)
    }

    #[inline]
    pub(crate) fn set_visit(&self, when: u64) {
        // Ordering: a promise; an owner that misses it pushes once too often.
        self.visit.store(when, Relaxed);
    }

    /// Reads state and deadline.
    #[inline]
    pub(crate) fn see(&self) -> Seen {
        // Ordering: acquire, to see the deadline that was stored before the state.
        let state = self.state.load(Acquire);
        // Ordering: as above; a later one may show already, which is as good.
        Seen { state, deadline: self.deadline.load(Relaxed) }
    }

    /// Fires the node if it still is what `seen` says.
    #[inline]
    pub(crate) fn fire(&self, seen: Seen) -> Fire {
        let generation = seen.state & !PHASE;
        let mut state = seen.state;
        loop {
            match state & PHASE {
                ARMED => {
                    // Ordering: acquire for the waker; release for `visit`.
                    match self.state.compare_exchange(state, generation | FIRING, AcqRel, Acquire) {
                        Ok(_) => break,
                        Err(now) => state = now,
                    }
                }
                REGISTERING => {
                    // Ordering: release for `visit`; the owner acquires.
                    match self.state.compare_exchange(state, generation | MISSED, AcqRel, Acquire) {
                        Ok(_) => return Fire::Seen,
                        Err(now) => state = now,
                    }
                }
                _ => return Fire::Changed,
            }
            if state & !PHASE != generation {
                return Fire::Changed;
            }
        }
        // SAFETY: FIRING makes the slot the driver's, and it is full.
        let waker = self.waker.with(|slot| unsafe { (*slot).assume_init_read() });
        // Ordering: release gives the empty slot back; acquire from an owner that has let go.
        match self.state.compare_exchange(generation | FIRING, generation | FIRED, AcqRel, Acquire)
        {
            Ok(_) => Fire::Wake(waker),
            Err(state) => {
                debug_assert_eq!(state, generation | ABANDONED);
                // Ordering: an abandoned node is the driver's alone; the free list publishes it.
                self.state.store(generation | FREE, Relaxed);
                Fire::WakeAndReturn(waker)
            }
        }
    }

    /// Reads the wheel's links.
    #[inline]
    pub(crate) fn links(&self) -> Links {
        // SAFETY: the driver's alone, and called by it alone.
        self.links.with(|links| unsafe { *links })
    }

    /// Which list of the wheel it is in.
    #[inline]
    pub(crate) fn slot(&self) -> u16 {
        // SAFETY: the driver's alone, and called by it alone.
        self.slot.with(|slot| unsafe { *slot })
    }

    #[inline]
    pub(crate) fn set_slot(&self, slot: u16) {
        // SAFETY: the driver's alone, and called by it alone.
        self.slot.with_mut(|place| unsafe { *place = slot });
    }

    /// Changes the wheel's links.
    #[inline]
    pub(crate) fn set_links(&self, change: impl FnOnce(&mut Links)) {
        // SAFETY: the driver's alone, and called by it alone.
        self.links.with_mut(|links| change(unsafe { &mut *links }));
    }
}

/// Stores, and orders the store before every later load: the owner's half of Dekker's protocol.
#[inline(always)]
fn store_then_fence(word: &AtomicU64, value: u64) {
    #[cfg(all(target_arch = "x86_64", not(any(deadbeat_loom, deadbeat_shuttle))))]
    {
        // Ordering: on x86 a locked exchange is a full barrier, and cheaper than store and `mfence`;
        // the compiler's fence keeps the later loads behind it. The language's model promises less of
        // an exchange, so what loom checks is the other branch.
        word.swap(value, SeqCst);
        std::sync::atomic::compiler_fence(SeqCst);
    }
    #[cfg(not(all(target_arch = "x86_64", not(any(deadbeat_loom, deadbeat_shuttle)))))]
    {
        // Ordering: release publishes deadline and waker; the fence is Dekker's.
        word.store(value, Release);
        fence(SeqCst);
    }
}

#[cfg(all(test, not(any(deadbeat_loom, deadbeat_shuttle))))]
mod tests {
    use super::*;

    fn fire(node: &Node) -> bool {
        matches!(node.fire(node.see()), Fire::Wake(_))
    }

    #[test]
    fn a_node_is_one_cache_line() {
        assert_eq!((size_of::<Node>(), align_of::<Node>()), (64, 64));
    }

    #[test]
    fn the_generation_wraps_without_touching_the_phase() {
        const LAST: u64 = u64::MAX >> 8;
        let node = Node::new(0);
        node.state.store(LAST << 8 | FREE, Relaxed);
        // SAFETY: nobody else has the node; it is let go after each firing.
        unsafe {
            for generation in [0, 1, 2] {
                let (armed, _) = node.arm(10, Waker::noop().clone());
                assert_eq!(armed, generation << 8 | ARMED);
                assert!(fire(&node));
                assert_eq!(node.look(), Look::Fired);
                assert!(matches!(node.release(armed), (None, true)));
            }
        }
    }

    #[test]
    fn a_driver_that_looked_before_a_cancel_does_not_fire_what_was_armed_after_it() {
        for generation in [0, u64::MAX >> 8] {
            let node = Node::new(0);
            node.state.store(generation << 8 | FREE, Relaxed);
            // SAFETY: nobody else has the node.
            unsafe {
                let (armed, _) = node.arm(10, Waker::noop().clone());
                let seen = node.see();
                assert!(matches!(node.release(armed), (Some(_), true)));
                let (armed, _) = node.arm(1_000_000, Waker::noop().clone());
                assert!(matches!(node.fire(seen), Fire::Changed));
                assert!(node.see().live());
                drop(node.release(armed));
            }
        }
    }
}
