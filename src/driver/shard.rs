//! What one thread arms with: a free list, and an inbox to the driver.
//!
//! A shard has at most one owner thread at a time; a thread that ends leaves its shard, with all
//! nodes, to the next thread that comes. Nodes that are given back by other threads gather on a
//! stack of their own, which the owner takes whole when its free list is empty.

use std::ptr;

use crossbeam_utils::CachePadded;

use super::inbox::Inbox;
use super::node::Node;
use super::pool::{CHUNK, Pool};
use crate::sync::UnsafeCell;
use crate::sync::atomic::{AtomicPtr, AtomicU64, Ordering::*};

#[derive(Debug)]
pub(crate) struct Shard {
    pub(super) inbox: Inbox,
    returned: CachePadded<AtomicPtr<Node>>,
    local: CachePadded<UnsafeCell<Local>>,
    /// How often a node was armed here. Written by the owner.
    armed: AtomicU64,
}

/// The owner thread's alone.
#[derive(Debug)]
struct Local {
    free: *const Node,
    /// Nodes of the newest chunk that have never been used.
    fresh: *const Node,
    fresh_left: u32,
}

// SAFETY: `local` is touched by the owner thread alone (the callers' contract); all else is `Sync`.
unsafe impl Sync for Shard {}
// SAFETY: the pointers are to nodes, which are `Sync`; ownership moves whole.
unsafe impl Send for Shard {}

impl Shard {
    pub(super) fn new() -> Self {
        Self {
            inbox: Inbox::new(),
            returned: CachePadded::new(AtomicPtr::new(ptr::null_mut())),
            local: CachePadded::new(UnsafeCell::new(Local {
                free: ptr::null(),
                fresh: ptr::null(),
                fresh_left: 0,
            })),
            armed: AtomicU64::new(0),
        }
    }

    /// Takes a free node. *O*(1), amortised over the growth of the pool.
    ///
    /// # Safety
    ///
    /// The caller is the owner of the shard, and `pool` is the one that it always uses.
    #[inline]
    pub(super) unsafe fn acquire(&self, pool: &Pool) -> &Node {
        // Ordering: the owner alone writes it; readers want a figure, not an order.
        self.armed.store(self.armed.load(Relaxed).wrapping_add(1), Relaxed);
        self.local.with_mut(|local| {
            // SAFETY: the owner's alone.
            let local = unsafe { &mut *local };
            if local.free.is_null() {
                self.refill(local, pool);
            }
            // SAFETY: nodes live as long as the pool; a free one is its list's holder's.
            unsafe {
                let node = &*local.free;
                local.free = node.next_free();
                node
            }
        })
    }

    /// Makes the free list non-empty: from what came back, else from fresh nodes, one at a time.
    #[cold]
    fn refill(&self, local: &mut Local, pool: &Pool) {
        // Ordering: acquire what the givers did to the nodes.
        local.free = self.returned.swap(ptr::null_mut(), Acquire);
        if !local.free.is_null() {
            return;
        }
        if local.fresh_left == 0 {
            local.fresh = pool.grow(self).as_ptr();
            local.fresh_left = CHUNK;
        }
        local.free = local.fresh;
        local.fresh_left -= 1;
        // SAFETY: within the chunk or one past its end.
        local.fresh = unsafe { local.fresh.add(1) };
        // SAFETY: nobody has had it before.
        unsafe { (*local.free).set_next_free(ptr::null()) };
    }

    /// Gives a node back from the owner's thread. *O*(1).
    ///
    /// # Safety
    ///
    /// The caller is the owner of the shard and holds the free node, which is of this shard.
    #[inline]
    pub(super) unsafe fn give_back_here(&self, node: &Node) {
        self.local.with_mut(|local| {
            // SAFETY: the owner's alone; the node is the caller's.
            unsafe {
                node.set_next_free((*local).free);
                (*local).free = node;
            }
        });
    }

    /// Gives a node back from anywhere. *O*(1) but for contention.
    ///
    /// # Safety
    ///
    /// The caller holds the free node, which is of this shard.
    pub(super) unsafe fn give_back(&self, node: &Node) {
        // Ordering: the exchange below orders it.
        let mut head = self.returned.load(Relaxed);
        loop {
            // SAFETY: the caller's until the exchange succeeds.
            unsafe { node.set_next_free(head) };
            // Ordering: release what was done to the node. The list is only ever taken whole, so
            // an old head that comes back means the same list.
            match self.returned.compare_exchange_weak(
                head,
                ptr::from_ref(node).cast_mut(),
                Release,
                Relaxed,
            ) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    pub(super) fn armed(&self) -> u64 {
        // Ordering: a figure.
        self.armed.load(Relaxed)
    }
}
