//! The one switch between the real primitives and the model checkers'.
//!
//! Every lock-free protocol of the crate imports its atomics, cells, locks and threads from here.
//! `--cfg deadbeat_loom` and `--cfg deadbeat_shuttle` are this crate's own names, because
//! `--cfg loom` would also change the API of tokio.

#[cfg(deadbeat_loom)]
mod imp {
    pub(crate) use loom::{
        cell::UnsafeCell,
        hint,
        sync::{Arc, Condvar, Mutex, MutexGuard, atomic},
        thread,
    };
    use std::time::Duration;

    /// Locks, whatever panicked before.
    pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap()
    }

    pub(crate) fn wait(condvar: &Condvar, guard: MutexGuard<'_, ()>) {
        drop(condvar.wait(guard));
    }

    /// Without a clock in the model, a timeout is a wait that the model must end otherwise.
    pub(crate) fn wait_timeout(condvar: &Condvar, guard: MutexGuard<'_, ()>, _: Duration) {
        drop(condvar.wait(guard));
    }
}

#[cfg(deadbeat_shuttle)]
mod imp {
    pub(crate) use super::cell::UnsafeCell;
    pub(crate) use shuttle::thread_local;
    pub(crate) use shuttle::{
        hint,
        sync::{Arc, Condvar, Mutex, MutexGuard, atomic},
        thread,
    };
    use std::time::Duration;

    /// Locks, whatever panicked before.
    pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    pub(crate) fn wait(condvar: &Condvar, guard: MutexGuard<'_, ()>) {
        drop(condvar.wait(guard));
    }

    /// Without a clock in the model, any timeout may be over at any time.
    pub(crate) fn wait_timeout(_: &Condvar, guard: MutexGuard<'_, ()>, _: std::time::Duration) {
        drop(guard);
        thread::yield_now();
    }
}

#[cfg(not(any(deadbeat_loom, deadbeat_shuttle)))]
mod imp {
    pub(crate) use super::cell::UnsafeCell;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub(crate) use parking_lot::Condvar;
    pub(crate) use parking_lot::{Mutex, MutexGuard};
    pub(crate) use std::{
        hint,
        sync::{Arc, atomic},
        thread,
    };

    /// Locks, whatever panicked before.
    pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
        mutex.lock()
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub(crate) fn wait(condvar: &Condvar, mut guard: MutexGuard<'_, ()>) {
        condvar.wait(&mut guard);
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    pub(crate) fn wait_timeout(
        condvar: &Condvar,
        mut guard: MutexGuard<'_, ()>,
        timeout: std::time::Duration,
    ) {
        condvar.wait_for(&mut guard, timeout);
    }
}

#[cfg(not(deadbeat_loom))]
mod cell {
    /// `std`'s cell behind loom's interface: access by closure, so that loom can see its extent.
    #[derive(Debug, Default)]
    pub(crate) struct UnsafeCell<T>(std::cell::UnsafeCell<T>);

    impl<T> UnsafeCell<T> {
        pub(crate) const fn new(value: T) -> Self {
            Self(std::cell::UnsafeCell::new(value))
        }

        #[inline(always)]
        pub(crate) fn with<R>(&self, f: impl FnOnce(*const T) -> R) -> R {
            f(self.0.get())
        }

        #[inline(always)]
        pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
            f(self.0.get())
        }
    }
}

pub(crate) use imp::*;
