//! An allocator that counts, in a file of its own because it can't do without `unsafe`.
#![expect(unsafe_code, reason = "`GlobalAlloc` is an unsafe trait")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

/// The system's allocator, and how many bytes it has given out.
#[derive(Debug)]
pub(crate) struct Counting {
    allocated: AtomicU64,
    freed: AtomicU64,
}

impl Counting {
    pub(crate) const fn new() -> Self {
        Self { allocated: AtomicU64::new(0), freed: AtomicU64::new(0) }
    }

    /// Bytes allocated and not freed, without what the allocator adds for itself.
    pub(crate) fn live(&self) -> u64 {
        // Ordering: figures.
        self.allocated.load(Relaxed).wrapping_sub(self.freed.load(Relaxed))
    }
}

// SAFETY: every call is the system allocator's, with the same arguments and results.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // Ordering: figures, here and below.
        self.allocated.fetch_add(layout.size() as u64, Relaxed);
        // SAFETY: the caller's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        self.allocated.fetch_add(layout.size() as u64, Relaxed);
        // SAFETY: the caller's. Handed on, because zeroed memory may never become resident.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        self.freed.fetch_add(layout.size() as u64, Relaxed);
        // SAFETY: the caller's.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        self.allocated.fetch_add(new_size as u64, Relaxed);
        self.freed.fetch_add(layout.size() as u64, Relaxed);
        // SAFETY: the caller's. Handed on, because pages may be moved rather than copied.
        unsafe { System.realloc(place, layout, new_size) }
    }
}
