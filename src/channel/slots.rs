//! As many streams as the peer allows.

use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

/// The streams that a connection may have open at a time: those of calls, and those whose reset waits.
///
/// HTTP/2 libraries queue what is more than that, after its header was written. Here it waits before.
#[derive(Debug)]
pub(super) struct Slots {
    free: Arc<Semaphore>,
    limit: Mutex<Limit>,
}

#[derive(Debug, Default)]
struct Limit {
    now: usize,
    /// So many are taken that aren't there any more.
    debt: usize,
}

/// One stream. Dropping it lets another be opened.
#[derive(Debug)]
pub(super) struct Slot {
    slots: Arc<Slots>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Slots {
    /// None yet.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self { free: Arc::new(Semaphore::new(0)), limit: Mutex::default() })
    }

    /// How many there may be, from now on.
    pub(super) fn set_limit(&self, limit: usize) {
        let mut is = self.limit.lock();
        let mut more = limit.saturating_sub(is.now);
        if limit < is.now {
            let fewer = is.now - limit;
            is.debt += fewer - self.free.forget_permits(fewer);
        }
        let forgiven = more.min(is.debt);
        is.debt -= forgiven;
        more -= forgiven;
        is.now = limit;
        drop(is);
        // Outside the lock: it wakes those who wait.
        if more > 0 {
            self.free.add_permits(more);
        }
    }

    /// There will be none any more.
    pub(super) fn close(&self) {
        self.free.close();
    }

    fn hold(self: &Arc<Self>, permit: OwnedSemaphorePermit) -> Slot {
        Slot { slots: self.clone(), permit: Some(permit) }
    }

    /// One, if there is one and nobody waits for it.
    pub(super) fn try_take(self: &Arc<Self>) -> Option<Slot> {
        match self.free.clone().try_acquire_owned() {
            Ok(permit) => Some(self.hold(permit)),
            Err(TryAcquireError::NoPermits | TryAcquireError::Closed) => None,
        }
    }

    /// One, in turn. `None` if there are none any more.
    pub(super) async fn take(self: &Arc<Self>) -> Option<Slot> {
        self.free.clone().acquire_owned().await.ok().map(|permit| self.hold(permit))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let permit = self.permit.take().expect("it is dropped once");
        let mut limit = self.slots.limit.lock();
        if limit.debt > 0 {
            limit.debt -= 1;
            permit.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_that_shrinks_holds_as_slots_come_back() {
        let slots = Slots::new();
        assert!(slots.try_take().is_none());
        slots.set_limit(4);
        let mut taken: Vec<_> = std::iter::from_fn(|| slots.try_take()).collect();
        assert_eq!(taken.len(), 4);
        slots.set_limit(2);
        taken.pop();
        taken.pop();
        assert!(slots.try_take().is_none());
        taken.pop();
        assert!(slots.try_take().is_some());
        slots.set_limit(1);
        slots.set_limit(3);
        drop(taken);
        assert_eq!(std::iter::from_fn(|| slots.try_take()).collect::<Vec<_>>().len(), 3);
    }
}
