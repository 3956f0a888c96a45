//! Who wants to be told of clock jumps.

use std::fmt;
use std::sync::Arc;

use super::core::Core;
use super::handle::Handle;
use super::timekeeper::Timekeeper;
use crate::clock::{Jump, JumpKind};
use crate::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use crate::sync::{Mutex, lock};

type Call = dyn Fn(&Jump) + Send + Sync;

/// The hooks of a Timekeeper, and how many jumps of its clock have been dealt with.
pub(super) struct Hooks {
    calls: Mutex<Vec<(u64, Arc<Call>)>>,
    /// How many there are.
    count: AtomicUsize,
    seen: AtomicU64,
    next_id: AtomicU64,
}

impl Hooks {
    /// For a clock that has had so many jumps.
    pub(super) fn new(seen: u64) -> Self {
        Self {
            calls: Mutex::new(Vec::new()),
            count: AtomicUsize::new(0),
            seen: AtomicU64::new(seen),
            next_id: AtomicU64::new(0),
        }
    }

    /// Whether there is anybody to be told.
    pub(super) fn any(&self) -> bool {
        // Ordering: Relaxed; who adds the first summons the driver.
        self.count.load(Relaxed) > 0
    }

    fn add(&self, call: Arc<Call>) -> u64 {
        // Ordering: Relaxed, a source of numbers.
        let id = self.next_id.fetch_add(1, Relaxed);
        let mut calls = lock(&self.calls);
        calls.push((id, call));
        self.count.store(calls.len(), Relaxed);
        id
    }

    fn remove(&self, id: u64) {
        let mut calls = lock(&self.calls);
        let at = calls.iter().position(|(of, _)| *of == id);
        let call = at.map(|at| calls.remove(at));
        self.count.store(calls.len(), Relaxed);
        // User data is dropped outside the lock.
        drop(calls);
        drop(call);
    }
}

impl Core {
    /// Looks what the clock has found since the last call, and tells those who want to know, outside all
    /// locks. Returns by how much the reference leapt ahead.
    pub(super) fn attend_to_jumps(&self) -> u64 {
        // Ordering: Relaxed: the driver's alone, or under the lock of who drives by hand.
        let seen = self.hooks.seen.load(Relaxed);
        let Some((len, jumps)) = self.clock.jumps_since(seen) else { return 0 };
        self.hooks.seen.store(len, Relaxed);
        let calls = if self.hooks.any() { lock(&self.hooks.calls).clone() } else { Vec::new() };
        for jump in &jumps {
            for (_, call) in &calls {
                self.shielded(|| call(jump));
            }
        }
        self.shielded(|| drop(calls));
        leap_ns(&jumps)
    }
}

fn leap_ns(jumps: &[Jump]) -> u64 {
    let restores = jumps.iter().filter(|jump| jump.kind == JumpKind::Restore);
    restores.fold(0, |sum, jump| sum.saturating_add(u64::try_from(jump.size_ns).unwrap_or(0)))
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks").field("count", &self.count).finish_non_exhaustive()
    }
}

impl Timekeeper {
    /// Calls `hook` for every jump of this Timekeeper's clock that is found out from now on, and for
    /// every stall of this process: on the driver thread, before what fell due meanwhile fires. For a
    /// [`Manual`](crate::Manual) Timekeeper, on the thread that moves time.
    ///
    /// Dropping the returned guard ends that, unless it is [detached](JumpHook::detach). As wakers and
    /// callbacks, `hook` should be short: timers wait for it. If it panics, that is caught and
    /// counted ([`Stats::waker_panics`](crate::Stats::waker_panics)).
    ///
    /// While there are hooks, the driver is woken by a step of the wall clock and by the end of a
    /// suspension where the system can do that (Linux); otherwise jumps are found out when it wakes for
    /// a timer, or a thread reads the time beyond the [horizon](crate::clock#promises). What has
    /// happened so far: [`Clock::jumps`](crate::clock::Clock::jumps).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::{Arc, Mutex};
    /// use deadbeat::Manual;
    /// use deadbeat::clock::JumpKind;
    /// use deadbeat::time::Duration;
    ///
    /// let manual = Manual::new();
    /// let seen = Arc::new(Mutex::new(Vec::new()));
    /// let hook = manual.timekeeper().on_jump({
    ///     let seen = seen.clone();
    ///     move |jump| seen.lock().unwrap().push(jump.kind)
    /// });
    /// manual.suspend(Duration::from_secs(3600));
    /// manual.stall(Duration::from_secs(2));
    /// assert_eq!(*seen.lock().unwrap(), [JumpKind::Suspend, JumpKind::Stall]);
    /// drop(hook);
    /// ```
    #[must_use = "dropping it removes the hook"]
    pub fn on_jump(&self, hook: impl Fn(&Jump) + Send + Sync + 'static) -> JumpHook {
        let core = self.core().clone();
        let id = core.hooks.add(Arc::new(hook));
        // Or there would be nobody to notice. A Timekeeper that is stopped calls nobody.
        let _ = core.kick();
        core.summon();
        JumpHook { core, id, detached: false }
    }
}

/// Keeps a hook in place. See [`Timekeeper::on_jump`].
#[must_use = "dropping it removes the hook"]
pub struct JumpHook {
    core: Handle,
    id: u64,
    detached: bool,
}

impl JumpHook {
    /// Leaves the hook in place for as long as the Timekeeper exists.
    pub fn detach(mut self) {
        self.detached = true;
    }
}

impl Drop for JumpHook {
    fn drop(&mut self) {
        if !self.detached && !self.core.is_forked() {
            self.core.hooks.remove(self.id);
        }
    }
}

impl fmt::Debug for JumpHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JumpHook").field("id", &self.id).finish_non_exhaustive()
    }
}
