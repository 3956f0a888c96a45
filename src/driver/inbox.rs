//! What a thread has to tell the driver: nodes to look at, by index.
//!
//! One producer (the thread that owns the shard), one consumer (whoever runs the engine). An entry
//! is a hint, so neither order nor duplicates matter; losing one would. The ring needs no atomic
//! read-modify-write; what does not fit goes to an unbounded queue, so that arming never waits.

use crossbeam_queue::SegQueue;
use crossbeam_utils::CachePadded;

use crate::sync::atomic::{AtomicU32, Ordering::*};

#[cfg(not(any(deadbeat_loom, deadbeat_shuttle)))]
const CAPACITY: u32 = 4096;
#[cfg(any(deadbeat_loom, deadbeat_shuttle))]
const CAPACITY: u32 = 2;

/// Undrained entries at which the driver is asked to come, whatever they are due at.
pub(crate) const CROWDED: u32 = CAPACITY / 2;

#[derive(Debug)]
pub(crate) struct Inbox {
    /// Written by the producer.
    tail: CachePadded<AtomicU32>,
    /// Written by the consumer.
    head: CachePadded<AtomicU32>,
    ring: Box<[AtomicU32]>,
    overflow: SegQueue<u32>,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self {
            tail: CachePadded::new(AtomicU32::new(0)),
            head: CachePadded::new(AtomicU32::new(0)),
            ring: (0..CAPACITY).map(|_| AtomicU32::new(0)).collect(),
            overflow: SegQueue::new(),
        }
    }

    /// Adds an entry; says whether the inbox is crowded. *O*(1).
    ///
    /// Only the owner of the shard calls this.
    #[inline]
    pub(crate) fn push(&self, index: u32) -> bool {
        // Ordering: the producer alone writes the tail.
        let tail = self.tail.load(Relaxed);
        // Ordering: acquire, so that the slot has been read before it is written again.
        let waiting = tail.wrapping_sub(self.head.load(Acquire));
        if waiting >= CAPACITY {
            self.overflow.push(index);
            return true;
        }
        // Ordering: the tail publishes it.
        self.ring[(tail % CAPACITY) as usize].store(index, Relaxed);
        // Ordering: release publishes the slot, and what the producer did to the node.
        self.tail.store(tail.wrapping_add(1), Release);
        waiting >= CROWDED
    }

    /// Takes what is there, up to some thousand entries; says whether that was all. *O*(entries).
    ///
    /// Only the holder of the engine calls this.
    pub(crate) fn drain(&self, mut each: impl FnMut(u32)) -> bool {
        // Ordering: acquire the slots; the consumer alone writes the head.
        let tail = self.tail.load(Acquire);
        let mut head = self.head.load(Relaxed);
        if head != tail {
            while head != tail {
                // Ordering: ordered by the tail.
                each(self.ring[(head % CAPACITY) as usize].load(Relaxed));
                head = head.wrapping_add(1);
            }
            // Ordering: release the slots to the producer.
            self.head.store(head, Release);
        }
        // Not without end: there may be a crowd, and its producer may go on.
        for _ in 0..CAPACITY {
            match self.overflow.pop() {
                Some(index) => each(index),
                None => return true,
            }
        }
        self.overflow.is_empty()
    }

    /// Whether there is nothing to drain. Behind a fence, this is the driver's last look before it
    /// parks.
    pub(crate) fn is_empty(&self) -> bool {
        // Ordering: behind the fence; acquire so that a drain that follows finds the entry.
        self.tail.load(Acquire) == self.head.load(Relaxed) && self.overflow.is_empty()
    }
}
