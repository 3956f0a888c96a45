//! The owner's half of a timer: arms lazily, looks, moves, and lets go when dropped.

use std::mem;
use std::ptr::NonNull;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::core::{Core, Stopped};
use super::handle::Handle;
use super::lane::Lane;
use super::local;
use super::node::{Look, Moved, NEVER, Node};
use super::shard::Shard;
use super::spin::Spin;
use crate::sync::atomic::{Ordering::SeqCst, fence};

/// A timer of one owner, which polls it with the deadline that it keeps itself.
#[derive(Debug)]
pub(crate) struct Timer {
    core: Handle,
    armed: Option<Armed>,
    /// Its deadlines are of elapsed time.
    elapsed: bool,
    /// The deadline was moved since the node was armed, so a firing may be of the old one.
    moved: bool,
    /// The deadline was in the future when it was set, so it is armed without another look.
    ahead: bool,
    /// The deadline was moved to an earlier time, which the next poll compares with the clock.
    sooner: bool,
    /// It has completed.
    done: bool,
}

/// A node that has been armed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Armed {
    pub(super) node: NonNull<Node>,
    /// Where the node goes back to. It lives as long as `core`.
    shard: NonNull<Shard>,
    /// The state in which it was armed.
    state: u64,
}

// SAFETY: nodes and shards are `Sync`; who uses one says that they still exist.
unsafe impl Send for Armed {}
// SAFETY: as above.
unsafe impl Sync for Armed {}

impl Timer {
    #[inline]
    pub(crate) fn new(core: Handle, elapsed: bool) -> Self {
        Self { core, armed: None, elapsed, moved: false, ahead: false, sooner: false, done: false }
    }

    #[inline]
    fn lane(&self) -> &Lane {
        self.core.lane(self.elapsed)
    }

    /// Whether the deadline has come, after a look at the clock.
    #[inline]
    pub(crate) fn has_come(&self, deadline: u64) -> bool {
        self.lane().has_come(&self.core.clock, deadline)
    }

    /// What timers of this kind have learned about spinning, if they do.
    #[inline]
    fn spin(&self) -> Option<&Spin> {
        self.core.spin.as_ref().filter(|_| !self.elapsed)
    }

    /// Says that the deadline of the first poll is in the future, as far as the creator knows: it is
    /// armed without another look at the clock, unless that is moved by hand.
    #[inline]
    pub(crate) fn assume_ahead(&mut self) {
        self.ahead = true;
    }

    #[inline]
    pub(crate) fn core(&self) -> &Handle {
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
    fn may_fire(&self, deadline: u64) -> bool {
        let exact = !self.moved && self.spin().is_none() && !self.core.is_stopped();
        exact || self.has_come(deadline)
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
        // SAFETY: the node is this timer's, and armed. The clone is user code, before anything changes.
        let look = unsafe {
            if node.has_waker(cx.waker()) {
                node.look()
            } else {
                node.replace_waker(cx.waker().clone())
            }
        };
        match look {
            // In a forked child nobody fires it: as after a shutdown.
            Look::Pending if !self.core.is_forked() => {
                if mem::take(&mut self.sooner) && self.has_come(deadline) {
                    self.release();
                    self.done = true;
                    return Poll::Ready(Ok(()));
                }
                Poll::Pending
            }
            Look::Pending | Look::Fired => self.poll_fired(cx, deadline),
        }
    }

    #[inline]
    fn poll_unarmed(&mut self, cx: &Context<'_>, deadline: u64) -> Poll<Result<(), Stopped>> {
        // One branch for what nearly all timers are: new, on the system's time, without spin.
        let mut due = deadline;
        if !mem::take(&mut self.ahead) || self.core.looks_twice {
            match self.look_before_arming(deadline) {
                Some(at) => due = at,
                None => return Poll::Ready(Ok(())),
            }
        }
        match self.arm(cx.waker(), due) {
            Ok(()) => Poll::Pending,
            // Assumed to be ahead when it was created, it may have come since.
            Err(_) if self.has_come(deadline) => {
                self.done = true;
                Poll::Ready(Ok(()))
            }
            Err(stopped) => Poll::Ready(Err(stopped)),
        }
    }

    /// When to arm for; `None` if it is over.
    fn look_before_arming(&mut self, deadline: u64) -> Option<u64> {
        self.done = self.done || self.has_come(deadline);
        if self.done {
            return None;
        }
        let Some(spin) = self.spin() else { return Some(deadline) };
        let due = deadline.saturating_sub(spin.lead_ns());
        if due <= self.core.clock.now().as_nanos() {
            self.spin_until(deadline);
            return None;
        }
        Some(due)
    }

    fn poll_fired(&mut self, cx: &Context<'_>, deadline: u64) -> Poll<Result<(), Stopped>> {
        // SAFETY: nodes live as long as the core.
        let due = self.armed.map_or(0, |armed| unsafe { armed.node.as_ref() }.deadline());
        self.release();
        if due < deadline
            && !self.moved
            && let Some(spin) = self.spin()
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
        while !self.has_come(deadline) {
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
        self.moved = false;
        let core = &self.core;
        // User code, before anything is taken.
        let waker = waker.clone();
        // SAFETY: `with_shard` makes us the owner.
        self.armed = Some(core.with_shard(self.elapsed, |lane, shard| unsafe {
            arm(core, lane, shard, deadline, waker)
        }));
        let woken = core.ensure_wake(self.elapsed, deadline);
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
            self.sooner = true;
            if tell {
                self.core.with_shard(self.elapsed, |_, shard| push(&self.core, shard, node));
            }
            // A Timekeeper that is stopped has fired the node, and the next poll says so.
            let _ = self.core.ensure_wake(self.elapsed, deadline);
        }
    }

    /// Cancels, or takes note of the firing. *O*(1): one compare-and-swap, no lock, nobody woken.
    /// Returns whether it was cancelled.
    #[inline]
    pub(crate) fn release(&mut self) -> bool {
        let Some(armed) = self.armed.take() else { return false };
        // SAFETY: nodes and shards live as long as the core; the node is this timer's until here.
        let waker = unsafe { release(armed, local::owns(self.elapsed, armed.shard.as_ptr())) };
        // The waker is dropped on return: user code, last of all.
        waker.is_some()
    }
}

/// Arms a node of `shard`; [`Core::ensure_wake`] must follow.
///
/// # Safety
///
/// The caller is the owner of the shard, which is one of `lane`'s, which is one of `core`'s.
#[inline]
pub(super) unsafe fn arm(
    core: &Arc<Core>,
    lane: &Lane,
    shard: &Shard,
    deadline: u64,
    waker: Waker,
) -> Armed {
    // SAFETY: the caller's; a shard knows one pool.
    let node = unsafe { shard.acquire(&lane.pool) };
    // SAFETY: just acquired.
    let (state, tell) = unsafe { node.arm(deadline, waker) };
    if tell {
        push(core, shard, node);
    }
    Armed { node: NonNull::from(node), shard: NonNull::from(shard), state }
}

/// Cancels a node or takes note of its firing, and gives it back to its shard. Returns its waker if it
/// was cancelled.
///
/// # Safety
///
/// The caller owns the node, and does not use it afterwards; with `here`, it owns the shard, too. The
/// core still exists.
#[inline]
pub(super) unsafe fn release(Armed { node, shard, state }: Armed, here: bool) -> Option<Waker> {
    // SAFETY: the caller's; nodes and shards live as long as the core.
    unsafe {
        let (node, shard) = (node.as_ref(), shard.as_ref());
        let (waker, ours) = node.release(state);
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
