//! A reference to a Timekeeper's core that costs nothing for the global one.

use std::fmt;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::ptr;
use std::sync::Arc;

use super::core::Core;

/// Counted, unless the core lives as long as the process: then a clone is a copy, and threads that
/// create timers share no counter.
pub(crate) struct Handle(ManuallyDrop<Arc<Core>>);

impl Handle {
    /// Takes over a counted reference. That of an immortal core is never given back.
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self(ManuallyDrop::new(core))
    }

    /// A handle of an immortal core.
    ///
    /// # Safety
    ///
    /// `core` is from [`Arc::into_raw`], its options say that it is immortal, and that reference is
    /// never given back.
    #[inline]
    pub(super) unsafe fn immortal(core: *const Core) -> Self {
        // SAFETY: the caller's; `Drop` gives nothing back, so this copy is not counted.
        Self(ManuallyDrop::new(unsafe { Arc::from_raw(core) }))
    }

    /// Borrows from a place that holds a reference.
    ///
    /// # Safety
    ///
    /// `core` came from [`as_ptr`](Self::as_ptr) of a handle that still exists.
    #[inline]
    pub(super) unsafe fn clone_raw(core: *const Core) -> Self {
        // SAFETY: the caller's; not dropped here, so the count stays as it is.
        let borrowed = Self(ManuallyDrop::new(unsafe { Arc::from_raw(core) }));
        let cloned = borrowed.clone();
        std::mem::forget(borrowed);
        cloned
    }

    pub(super) fn as_ptr(&self) -> *const Core {
        Arc::as_ptr(&self.0)
    }
}

impl Clone for Handle {
    #[inline]
    fn clone(&self) -> Self {
        if self.options.immortal {
            // SAFETY: an immortal core is never freed, so an uncounted copy never dangles, and `Drop`
            // does not give it back.
            Self(unsafe { ptr::read(&raw const self.0) })
        } else {
            Self(self.0.clone())
        }
    }
}

impl Drop for Handle {
    #[inline]
    fn drop(&mut self) {
        if !self.options.immortal {
            // SAFETY: dropped once, here, and not used afterwards.
            unsafe { ManuallyDrop::drop(&mut self.0) }
        }
    }
}

impl Deref for Handle {
    type Target = Arc<Core>;

    #[inline]
    fn deref(&self) -> &Arc<Core> {
        &self.0
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
