//! A few words, published together, read together with a stamp.
//!
//! Readers take no lock and write nothing. What is special here is the *stamp*: a reading of a
//! counter, taken inside the read section, so that it belongs to the words that it is returned
//! with. The writer reads the same counter inside its write section. Then
//!
//! 1. words are never torn: a reader returns words that one writer wrote;
//! 2. a reader that returns old words has a stamp from before the write section began, that is, not
//!    after the counter reading that the writer took inside it.
//!
//! # Why the second rule holds
//!
//! The writer makes the odd sequence visible, by a full fence, before it reads the counter. So if a
//! reader's *second* load of the sequence comes after its stamp, and still finds the old sequence,
//! then the stamp was taken before the writer's reading. The order of stamp and second load is the
//! difficulty: reading a counter isn't a memory access, so no fence orders it before a later load,
//! and a second `lfence` would cost as much as the first. It is ordered by a data dependency: the
//! sequence is kept twice, and the stamp's top bit chooses which copy the second load reads. The
//! address isn't known before the stamp is. (The Linux kernel orders its vDSO read of arm64's
//! counter by a dependency, too.)
//!
//! Under loom the counter is an atomic that only grows, read by acquiring and releasing increments:
//! this is the property that the fences and the dependency provide.

use crate::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed, Release, SeqCst},
    fence,
};

/// `N` words under a sequence. One cache line, for up to six.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct SeqLock<const N: usize> {
    /// Even: stable. Odd: being written. Both are the same, but for a moment inside the writer.
    sequence: [AtomicU64; 2],
    words: [AtomicU64; N],
}

/// Somebody else is writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Busy;

impl<const N: usize> SeqLock<N> {
    /// All words zero.
    #[cfg(not(any(deadbeat_loom, deadbeat_shuttle)))]
    pub(crate) const fn new() -> Self {
        Self { sequence: [const { AtomicU64::new(0) }; 2], words: [const { AtomicU64::new(0) }; N] }
    }

    /// All words zero. The model checkers' atomics have no constant constructor.
    #[cfg(any(deadbeat_loom, deadbeat_shuttle))]
    pub(crate) fn new() -> Self {
        Self {
            sequence: std::array::from_fn(|_| AtomicU64::new(0)),
            words: std::array::from_fn(|_| AtomicU64::new(0)),
        }
    }

    /// The words, and what `stamp` returned for them; `Busy` while a writer is at it, or if `stamp`
    /// returns `None`.
    ///
    /// `stamp` is told the words, which may be torn: it may use them to choose what to read, but
    /// must not rely on them. It must not return before it has read its counter, and must not begin
    /// to before the loads ahead of it are done (`lfence`, `isb`).
    ///
    /// Wait-free, *O*(`N`).
    #[inline(always)]
    pub(crate) fn try_read(
        &self,
        stamp: impl FnOnce(&[u64; N]) -> Option<u64>,
    ) -> Result<([u64; N], u64), Busy> {
        // Ordering: Acquire, pairs with the Release that ended the write section: the words are at
        // least as new as this sequence.
        let sequence = self.sequence[0].load(Acquire);
        if !sequence.is_multiple_of(2) {
            return Err(Busy);
        }
        // Ordering: Relaxed, because what may be torn is thrown away below.
        let words = std::array::from_fn(|i| self.words[i].load(Relaxed));
        let stamp = stamp(&words).ok_or(Busy)?;
        // Ordering: Acquire, orders the loads of the words before the load of the sequence. A word
        // from a later write section was stored after that section's odd sequence and its fence, so
        // the load below would see that odd sequence or a later one.
        fence(Acquire);
        let copy = usize::from(stamp >> 63 != 0);
        // Ordering: Relaxed after the fence; ordered after the stamp by its address.
        if self.sequence[copy].load(Relaxed) == sequence { Ok((words, stamp)) } else { Err(Busy) }
    }

    /// Replaces the words by what `next` makes of them, or leaves them if it returns `None`.
    ///
    /// `next` runs inside the write section: it should read the counter and little else, because
    /// readers are turned away until it returns. If it panics, the words are left as they were.
    ///
    /// Returns what `next` returned; `Busy` if another writer is at it.
    pub(crate) fn try_write(
        &self,
        next: impl FnOnce(&[u64; N]) -> Option<[u64; N]>,
    ) -> Result<Option<[u64; N]>, Busy> {
        let section = self.begin()?;
        // Ordering: Relaxed, because `begin` has acquired what earlier writers released.
        let old = std::array::from_fn(|i| self.words[i].load(Relaxed));
        let new = next(&old);
        if let Some(words) = &new {
            for (place, word) in self.words.iter().zip(words) {
                // Ordering: Relaxed, between the fence of `begin` and the Release of the end.
                place.store(*word, Relaxed);
            }
        }
        drop(section);
        Ok(new)
    }

    fn begin(&self) -> Result<Section<'_, N>, Busy> {
        // Ordering: Relaxed, a guess that the exchange checks.
        let sequence = self.sequence[0].load(Relaxed);
        if !sequence.is_multiple_of(2) {
            return Err(Busy);
        }
        let odd = sequence.wrapping_add(1);
        // Ordering: Acquire, pairs with the end of the write section before this one.
        if self.sequence[0].compare_exchange(sequence, odd, Acquire, Relaxed).is_err() {
            return Err(Busy);
        }
        // Ordering: Relaxed, the fence below is for both copies.
        self.sequence[1].store(odd, Relaxed);
        // Ordering: SeqCst. As a Release it keeps the stores of the words behind the odd sequence;
        // as a full fence it makes that sequence visible before `next` reads the counter.
        fence(SeqCst);
        Ok(Section { lock: self, even: odd.wrapping_add(1) })
    }
}

/// A write section; ends when dropped.
struct Section<'a, const N: usize> {
    lock: &'a SeqLock<N>,
    even: u64,
}

impl<const N: usize> Drop for Section<'_, N> {
    fn drop(&mut self) {
        // Ordering: Release, the words are visible to whoever sees the section ended. The second
        // copy first: a reader that finds the first copy even finds the second so, too.
        self.lock.sequence[1].store(self.even, Release);
        self.lock.sequence[0].store(self.even, Release);
    }
}

#[cfg(all(test, not(any(deadbeat_loom, deadbeat_shuttle))))]
mod tests {
    use super::*;

    #[test]
    fn is_one_cache_line() {
        assert_eq!(size_of::<SeqLock<6>>(), 64);
    }

    #[test]
    fn reads_what_was_written_whichever_copy_the_stamp_chooses() {
        let lock = SeqLock::<2>::new();
        assert_eq!(lock.try_write(|old| Some([old[0] + 1, 7])), Ok(Some([1, 7])));
        for stamp in [0, u64::MAX] {
            assert_eq!(lock.try_read(|_| Some(stamp)), Ok(([1, 7], stamp)));
        }
    }

    #[test]
    fn a_reader_is_turned_away_while_a_writer_is_at_it() {
        let lock = SeqLock::<1>::new();
        lock.try_write(|_| {
            assert_eq!(lock.try_read(|_| Some(0)), Err(Busy));
            assert_eq!(lock.try_write(|_| None), Err(Busy));
            None
        })
        .unwrap();
        assert_eq!(lock.try_read(|_| Some(0)), Ok(([0], 0)));
    }

    #[test]
    fn a_reader_that_a_writer_overtook_is_turned_away_whichever_copy_it_reads() {
        for stamp in [0, u64::MAX] {
            let lock = SeqLock::<1>::new();
            let read = lock.try_read(|_| {
                lock.try_write(|_| Some([1])).unwrap();
                Some(stamp)
            });
            assert_eq!(read, Err(Busy));
        }
    }

    #[test]
    fn a_writer_that_panics_leaves_the_words_and_the_lock_as_they_were() {
        let lock = SeqLock::<1>::new();
        let caught = std::panic::catch_unwind(|| lock.try_write(|_| panic!("in the section")));
        assert!(caught.is_err());
        assert_eq!(lock.try_read(|_| Some(0)), Ok(([0], 0)));
        assert_eq!(lock.try_write(|_| Some([5])), Ok(Some([5])));
    }
}

#[cfg(all(test, deadbeat_loom))]
mod models {
    use super::*;
    use crate::sync::{Arc, atomic::Ordering::AcqRel, thread};

    /// The counter: read by all, only grows.
    struct Counter(AtomicU64);

    impl Counter {
        fn read(&self) -> u64 {
            // Ordering: AcqRel, what fences and dependency provide; see the module's doc.
            self.0.fetch_add(1, AcqRel)
        }
    }

    /// A line: `[pivot, value at the pivot, slope]`.
    fn value([pivot, start, slope]: [u64; 3], tick: u64) -> u64 {
        start + (tick - pivot) * slope
    }

    /// Changes the slope, continuing at the counter's reading inside the write section.
    fn bend(lock: &SeqLock<3>, counter: &Counter, slope: u64) -> Result<u64, Busy> {
        lock.try_write(|old| {
            let pivot = counter.read();
            Some([pivot, value(*old, pivot), slope])
        })
        .map(|line| line.unwrap()[1])
    }

    #[test]
    fn words_are_never_torn() {
        // Both copies of the sequence; and a stamp that orders nothing.
        for stamp in [0, u64::MAX] {
            let seen = std::sync::Mutex::new(std::collections::BTreeSet::new());
            let seen = std::sync::Arc::new(seen);
            let all = seen.clone();
            loom::model(move || {
                let lock = Arc::new(SeqLock::<2>::new());
                let reader = {
                    let lock = lock.clone();
                    thread::spawn(move || lock.try_read(|_| Some(stamp)))
                };
                lock.try_write(|_| Some([1, 1])).unwrap();
                lock.try_write(|_| Some([2, 2])).unwrap();
                let read = reader.join().unwrap().map(|(words, _)| words);
                if let Ok([a, b]) = read {
                    assert_eq!(a, b);
                }
                seen.lock().unwrap().insert(read.ok());
            });
            // That the model did explore.
            let all = all.lock().unwrap();
            assert_eq!(all.len(), 4, "{all:?}");
        }
    }

    #[test]
    fn a_read_is_never_behind_one_that_another_thread_has_published() {
        // Three threads with sixteen accesses each take hours without a bound. Within this one, a
        // pivot read outside the section is found, and a copy that isn't marked, and an end that
        // doesn't release.
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        // So that both copies of the sequence are chosen.
        for origin in [0, 1 << 63] {
            model.check(move || never_behind(origin));
        }
    }

    fn never_behind(origin: u64) {
        let lock = Arc::new(SeqLock::<3>::new());
        lock.try_write(|_| Some([origin, 0, 4])).unwrap();
        let counter = Arc::new(Counter(AtomicU64::new(origin)));
        let published = Arc::new(AtomicU64::new(0));

        let writer = {
            let (lock, counter) = (lock.clone(), counter.clone());
            thread::spawn(move || bend(&lock, &counter, 1).map(drop))
        };
        let publisher = {
            let (lock, counter, published) = (lock.clone(), counter.clone(), published.clone());
            thread::spawn(move || {
                if let Ok((line, tick)) = lock.try_read(|_| Some(counter.read())) {
                    // Ordering: Release, pairs with the Acquire below.
                    published.store(value(line, tick), Release);
                }
            })
        };
        // Ordering: Acquire, so that this read comes after the published one.
        let floor = published.load(Acquire);
        if let Ok((line, tick)) = lock.try_read(|_| Some(counter.read())) {
            assert!(line[0] <= tick, "a line from the future");
            assert!(value(line, tick) >= floor);
        }
        writer.join().unwrap().unwrap();
        publisher.join().unwrap();
    }

    #[test]
    fn of_two_writers_each_continues_the_line_or_is_turned_away() {
        loom::model(|| {
            let lock = Arc::new(SeqLock::<3>::new());
            lock.try_write(|_| Some([0, 0, 4])).unwrap();
            let counter = Arc::new(Counter(AtomicU64::new(0)));
            let other = {
                let (lock, counter) = (lock.clone(), counter.clone());
                thread::spawn(move || bend(&lock, &counter, 1))
            };
            let mine = bend(&lock, &counter, 2);
            let theirs = other.join().unwrap();
            assert!(mine.is_ok() || theirs.is_ok());
            let (line, tick) = lock.try_read(|_| Some(counter.read())).unwrap();
            for start in [mine, theirs].into_iter().flatten() {
                assert!(value(line, tick) >= start);
            }
        });
    }
}
