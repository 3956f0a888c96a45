//! The owner's half of a timer: arms lazily, looks, moves, and lets go when dropped.

use std::ptr::NonNull;
use std::sync::Arc;
use std::task::{Context, Poll, RawWakerVTable, Waker};

use super::core::{Core, Stopped};
use super::handle::Handle;
use super::local;
use super::node::{Look, Moved, NEVER, Node};
use super::shard::Shard;
use crate::sync::atomic::{Ordering::SeqCst, fence};

/// A timer of one owner, which polls it with the deadline that it keeps itself.
#[derive(Debug)]
pub(crate) struct Timer {
    core: Handle,
    armed: Option<Armed>,
    /// Whose waker the node has; meaningful while armed.
    waker: WakerId,
    /// The deadline was moved since the node was armed, so a firing may be of the old one.
    moved: bool,
    /// The deadline was in the future when it was set, so it is armed without another look.
    ahead: bool,
    /// It has completed.
    done: bool,
}

#[derive(Clone, Copy, Debug)]
struct Armed {
    node: NonNull<Node>,
    /// Where the node goes back to. It lives as long as `core`.
    shard: NonNull<Shard>,
}

// SAFETY: nodes and shards are `Sync`, live as long as `core`, and the pointers are used by `&mut
// self` alone.
unsafe impl Send for Timer {}
// SAFETY: as above; `&self` reads plain fields.
unsafe impl Sync for Timer {}

/// What `Waker::will_wake` compares, kept beside the node so that comparing touches nothing shared.
///
/// Always that of the clone which the node has: a waker may be a borrow of something on the stack,
/// and the next one at the same address another task's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct WakerId(*const (), *const RawWakerVTable);

impl WakerId {
    const NONE: Self = Self(std::ptr::null(), std::ptr::null());

    #[inline]
    fn of(waker: &Waker) -> Self {
        Self(waker.data(), waker.vtable())
    }
}

impl Timer {
    #[inline]
    pub(crate) fn new(core: Handle) -> Self {
        Self { core, armed: None, waker: WakerId::NONE, moved: false, ahead: false, done: false }
    }

    /// Says that the deadline of the first poll is in the future, as far as the creator knows: it is
    /// armed without another look at the clock.
    #[inline]
    pub(crate) fn assume_ahead(&mut self) {
        self.ahead = true;
    }

    #[inline]
    pub(crate) fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Whether it has completed, or has fired and its next poll will complete it.
    pub(crate) fn is_elapsed(&self, deadline: u64) -> bool {
        // SAFETY: nodes live as long as the core.
        let fired =
            || self.armed.is_some_and(|at| unsafe { at.node.as_ref() }.look() == Look::Fired);
        // It may have been fired for an old deadline, ahead of time to spin, or by a shutdown.
        self.done || (fired() && self.may_fire(deadline))
    }

    /// Whether a firing is of the deadline itself, as far as the driver and the clock know.
    pub(super) fn may_fire(&self, deadline: u64) -> bool {
        let exact = !self.moved && self.core.spin.is_none() && !self.core.is_stopped();
        exact || self.core.clock.has_come(deadline)
    }

    /// Waits for `deadline`: looks and arms at the first call, and again if the deadline has moved
    /// past a firing. Fused.
    ///
    /// # Errors
    ///
    /// The Timekeeper was shut down before the deadline, or this is a forked child.
    #[inline]
    pub(crate) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        deadline: u64,
    ) -> Poll<Result<(), Stopped>> {
        let Some(armed) = self.armed else {
            return self.poll_unarmed(cx, deadline);
        };
        // SAFETY: nodes live as long as the core.
        let node = unsafe { armed.node.as_ref() };
        let id = WakerId::of(cx.waker());
        let look = if id == self.waker {
            node.look()
        } else {
            // User code, before anything changes.
            let waker = cx.waker().clone();
            self.waker = WakerId::of(&waker);
            // SAFETY: the node is this timer's, and armed.
            unsafe { node.replace_waker(waker) }
        };
        match look {
            // In a forked child nobody fires it: as after a shutdown.
            Look::Pending if !self.core.is_forked() => Poll::Pending,
            Look::Pending | Look::Fired => self.poll_fired(cx, deadline),
        }
    }

    #[inline]
    fn poll_unarmed(&mut self, cx: &Context<'_>, deadline: u64) -> Poll<Result<(), Stopped>> {
        if self.done || (!self.ahead && self.core.clock.has_come(deadline)) {
            self.done = true;
            return Poll::Ready(Ok(()));
        }
        self.ahead = false;
        let mut due = deadline;
        if let Some(spin) = &self.core.spin {
            due = deadline.saturating_sub(spin.lead_ns());
            if due <= self.core.clock.now().as_nanos() {
                self.spin_until(deadline);
                return Poll::Ready(Ok(()));
            }
        }
        match self.arm(cx.waker(), due) {
            Ok(()) => Poll::Pending,
            // Assumed to be ahead when it was created, it may have come since.
            Err(_) if self.core.clock.has_come(deadline) => {
                self.done = true;
                Poll::Ready(Ok(()))
            }
            Err(stopped) => Poll::Ready(Err(stopped)),
        }
    }

    fn poll_fired(&mut self, cx: &Context<'_>, deadline: u64) -> Poll<Result<(), Stopped>> {
        // SAFETY: nodes live as long as the core.
        let due = self.armed.map_or(0, |armed| unsafe { armed.node.as_ref() }.deadline());
        self.release();
        if due < deadline
            && !self.moved
            && let Some(spin) = &self.core.spin
        {
            let late = self.core.clock.now().as_nanos().saturating_sub(due);
            spin.polled(deadline - due, late);
        }
        if self.moved || due < deadline || self.core.is_stopped() {
            // It may have been the old deadline, or ahead of it to spin, or the end of the Timekeeper.
            return self.poll_unarmed(cx, deadline);
        }
        self.done = true;
        Poll::Ready(Ok(()))
    }

    /// Spins up to the deadline, which is less than a lead away.
    #[cold]
    fn spin_until(&mut self, deadline: u64) {
        while !self.core.clock.has_come(deadline) {
            std::hint::spin_loop();
        }
        self.done = true;
    }

    /// Arms the node for exactly `deadline`, come or not.
    ///
    /// # Errors
    ///
    /// The Timekeeper was shut down, or this is a forked child.
    #[inline]
    pub(super) fn arm(&mut self, waker: &Waker, deadline: u64) -> Result<(), Stopped> {
        // Before anything that takes a lock.
        if self.core.is_forked() {
            return Err(Stopped::Forked);
        }
        let deadline = deadline.min(NEVER - 1);
        // User code, before anything is taken.
        let waker = waker.clone();
        self.waker = WakerId::of(&waker);
        self.moved = false;
        let core = &self.core;
        self.armed = Some(core.with_shard(|shard| {
            // SAFETY: `with_shard` makes us the owner.
            let node = unsafe { arm(core, shard, deadline, waker) };
            Armed { node: NonNull::from(node), shard: NonNull::from(shard) }
        }));
        let woken = core.ensure_wake(deadline);
        if woken.is_err() {
            self.release();
        }
        woken
    }

    /// Moves the timer to another deadline, completed or not. An armed one: one store if it is later.
    /// *O*(1) either way.
    #[inline]
    pub(crate) fn move_to(&mut self, deadline: u64) {
        self.done = false;
        self.ahead = false;
        let Some(armed) = self.armed else { return };
        let deadline = deadline.min(NEVER - 1);
        // SAFETY: nodes live as long as the core.
        let node = unsafe { armed.node.as_ref() };
        self.moved = true;
        if self.core.is_forked() {
            // The next poll says so.
            return;
        }
        if let Moved::Earlier { push: tell } = node.set_deadline(deadline) {
            if tell {
                self.core.with_shard(|shard| push(&self.core, shard, node));
            }
            // A Timekeeper that is stopped has fired the node, and the next poll says so.
            let _ = self.core.ensure_wake(deadline);
        }
    }

    /// Cancels, or takes note of the firing. *O*(1): one compare-and-swap, no lock, nobody woken.
    /// Returns whether it was cancelled.
    #[inline]
    pub(crate) fn release(&mut self) -> bool {
        let Some(Armed { node, shard }) = self.armed.take() else { return false };
        // SAFETY: nodes and shards live as long as the core; the node is this timer's until here.
        let waker = unsafe { release(node.as_ref(), shard.as_ref(), local::owns(shard.as_ptr())) };
        // The waker is dropped on return: user code, last of all.
        waker.is_some()
    }
}

/// Arms a node of `shard`; [`Core::ensure_wake`] must follow.
///
/// # Safety
///
/// The caller is the owner of the shard, which is one of `core`'s.
#[inline]
pub(super) unsafe fn arm<'a>(
    core: &'a Arc<Core>,
    shard: &'a Shard,
    deadline: u64,
    waker: Waker,
) -> &'a Node {
    // SAFETY: the caller's; a shard knows one pool.
    let node = unsafe { shard.acquire(&core.pool) };
    // SAFETY: just acquired.
    if unsafe { node.arm(deadline, waker) } {
        push(core, shard, node);
    }
    node
}

/// Cancels a node or takes note of its firing, and gives it back to its shard. Returns its waker if it
/// was cancelled.
///
/// # Safety
///
/// The caller owns the node, which is of `shard`, and does not use it afterwards; with `here`, it
/// owns the shard, too.
#[inline]
pub(super) unsafe fn release(node: &Node, shard: &Shard, here: bool) -> Option<Waker> {
    // SAFETY: the caller's.
    unsafe {
        let (waker, ours) = node.release();
        match (ours, here) {
            (true, true) => shard.give_back_here(node),
            (true, false) => shard.give_back(node),
            // The driver is just firing it, and gives it back.
            (false, _) => {}
        }
        waker
    }
}

/// Tells the driver of a node.
pub(super) fn push(core: &Arc<Core>, shard: &Shard, node: &Node) {
    node.mark_queued();
    let crowded = shard.inbox.push(node.index);
    // Ordering: Dekker's protocol of `core`: pushed, then `next_wake` is read.
    fence(SeqCst);
    if crowded {
        // Only a parked driver is called; an awake one comes anyway.
        let _ = core.kick();
    }
}

impl Drop for Timer {
    #[inline]
    fn drop(&mut self) {
        self.release();
    }
}
