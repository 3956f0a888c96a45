//! Whether this process is still the one in which a Timekeeper was made, and where its global one is.
//!
//! A forked child has a copy of every Timekeeper and none of their threads: what it arms on one never
//! fires, and a lock that another thread held at that moment is never released. So each Timekeeper
//! remembers the *epoch* that it was made in, and the paths that arm compare it with the process's
//! before they do anything else. A child is in epoch 0 until it makes a Timekeeper of its own, and then
//! in one that none of its ancestors was in.
//!
//! The epoch stands in a page of which a child gets zeros instead of a copy (madvise(2),
//! `MADV_WIPEONFORK`, Linux 4.14). So nothing runs at the fork itself, and a look costs one load of a
//! line that nobody writes. Where there is no such thing, a fork is not noticed.

use std::ptr;
// Not through `crate::sync`: no protocol to model, and model checkers' atomics can't be statics.
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering::Relaxed};

use super::core::Core;

/// What a child gets zeros of. A page to itself, of the largest size that a machine of this kind may
/// have, and so in the anonymous part of the program's zero-initialised data.
#[derive(Debug)]
#[cfg_attr(any(target_arch = "x86_64", target_arch = "x86"), repr(align(4096)))]
#[cfg_attr(not(any(target_arch = "x86_64", target_arch = "x86")), repr(align(65536)))]
struct Page {
    /// 0 in a child that has made no Timekeeper yet.
    epoch: AtomicU64,
    /// The global Timekeeper; null as long as there is none.
    global: AtomicPtr<Core>,
}

static PAGE: Page = Page { epoch: AtomicU64::new(0), global: AtomicPtr::new(ptr::null_mut()) };

/// The place of this process's global Timekeeper.
#[inline]
pub(super) fn global() -> &'static AtomicPtr<Core> {
    &PAGE.global
}

/// Whether the process is still in `epoch`.
#[inline]
pub(super) fn is_epoch(epoch: u64) -> bool {
    // Ordering: written before any Timekeeper exists whose epoch could be compared.
    PAGE.epoch.load(Relaxed) == epoch
}

/// The epoch of this process, for a Timekeeper that is being made; begins one if need be. Without a
/// lock, which a fork might copy locked.
pub(super) fn epoch() -> u64 {
    /// The last one that this process or an ancestor has begun.
    static LAST: AtomicU64 = AtomicU64::new(0);

    // Ordering: the values are all that matters.
    let epoch = PAGE.epoch.load(Relaxed);
    if epoch != 0 {
        return epoch;
    }
    wipe_on_fork();
    let fresh = LAST.fetch_add(1, Relaxed) + 1;
    PAGE.epoch.compare_exchange(0, fresh, Relaxed, Relaxed).map_or_else(|first| first, |_| fresh)
}

/// May be called again. A refusal leaves an ordinary page, and forks unnoticed.
#[cfg(all(target_os = "linux", not(miri)))]
fn wipe_on_fork() {
    let page = (&raw const PAGE).cast_mut().cast();
    // SAFETY: changes what a child finds in whole pages, which hold nothing but `PAGE`: it is as large
    // as its alignment, and all zeros are a value of it.
    unsafe { libc::madvise(page, size_of::<Page>(), libc::MADV_WIPEONFORK) };
}

#[cfg(not(all(target_os = "linux", not(miri))))]
fn wipe_on_fork() {}
