//! Points in time, typed by which time it is.

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    marker::PhantomData,
    ops::{Add, AddAssign, Sub, SubAssign},
    time::Duration,
};

use super::{Clock, Epoch, ticks, with_current};

mod sealed {
    #[expect(unnameable_types, reason = "that is what seals it")]
    pub trait Sealed {}
}

/// The time that the machine was running: `CLOCK_MONOTONIC`'s.
///
/// It stops while the machine is suspended. Timeouts of local work are of this class.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Active {}

/// The time that has passed in the world: `CLOCK_BOOTTIME`'s.
///
/// It goes on while the machine is suspended. Leases, ages of connections and deadlines that a
/// peer has set are of this class, because the peer did not sleep. Where the platform has no such
/// clock (anything but Linux, Android and macOS) it reads the same as [`Active`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Elapsed {}

/// A class of time: [`Active`] or [`Elapsed`].
///
/// Sealed: there is no third.
pub trait Class: sealed::Sealed + Sized + Send + Sync + 'static {
    #[doc(hidden)]
    const NAME: &'static str;

    #[doc(hidden)]
    const ELAPSED: bool;

    #[doc(hidden)]
    fn read(clock: &Clock) -> Instant<Self>;
}

impl sealed::Sealed for Active {}
impl sealed::Sealed for Elapsed {}

impl Class for Active {
    const NAME: &'static str = "Active";
    const ELAPSED: bool = false;

    #[inline]
    fn read(clock: &Clock) -> Instant<Self> {
        clock.now()
    }
}

impl Class for Elapsed {
    const NAME: &'static str = "Elapsed";
    const ELAPSED: bool = true;

    #[inline]
    fn read(clock: &Clock) -> Instant<Self> {
        clock.now_elapsed()
    }
}

/// A point in time, in nanoseconds since the origin of its class's clock.
///
/// Has every method of `tokio::time::Instant`, with two differences: the class of time is part of
/// the type, so that a lease can't be compared with a timeout by accident, and all arithmetic
/// saturates: at the origin, and at [`FAR_FUTURE`](Self::FAR_FUTURE), 584 years after it. No
/// operation panics.
///
/// The origin is that of the kernel's clock (on Linux, the boot), so a value means nothing to
/// another machine, and nothing after a restart of this one.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use deadbeat::clock::ManualClock;
///
/// let manual = ManualClock::new();
/// let clock = manual.clock();
/// let deadline = clock.now() + Duration::from_millis(50);
/// manual.advance(Duration::from_millis(60));
/// assert_eq!(clock.now() - deadline, Duration::from_millis(10));
/// assert_eq!(deadline - clock.now(), Duration::ZERO);
/// ```
pub struct Instant<C: Class = Active> {
    ns: u64,
    class: PhantomData<fn() -> C>,
}

impl<C: Class> Instant<C> {
    /// The latest instant that there is: 2⁶⁴ - 1 ns (584 years) after the origin.
    ///
    /// What arithmetic saturates to. A timer set to it never fires.
    pub const FAR_FUTURE: Self = Self::from_nanos(u64::MAX);

    /// The instant `ns` nanoseconds after the origin.
    #[inline]
    pub const fn from_nanos(ns: u64) -> Self {
        Self { ns, class: PhantomData }
    }

    /// Nanoseconds since the origin.
    #[inline]
    pub const fn as_nanos(self) -> u64 {
        self.ns
    }

    /// Reads the current clock.
    ///
    /// # Timing
    ///
    /// As [`Clock::now`] or [`Clock::now_elapsed`], by class.
    ///
    /// # Examples
    ///
    /// ```
    /// use deadbeat::clock::{Elapsed, Instant};
    ///
    /// let started: Instant = Instant::now();
    /// let leased = Instant::<Elapsed>::now();
    /// assert!(Instant::now() >= started);
    /// assert!(Instant::now() >= leased);
    /// ```
    #[inline]
    pub fn now() -> Self {
        with_current(C::read)
    }

    /// Time from `earlier` until `self`, or zero if `earlier` is later.
    #[inline]
    pub const fn duration_since(&self, earlier: Self) -> Duration {
        Duration::from_nanos(self.ns.saturating_sub(earlier.ns))
    }

    /// Time from `earlier` until `self`, or `None` if `earlier` is later.
    #[inline]
    pub const fn checked_duration_since(&self, earlier: Self) -> Option<Duration> {
        match self.ns.checked_sub(earlier.ns) {
            Some(ns) => Some(Duration::from_nanos(ns)),
            None => None,
        }
    }

    /// Time from `earlier` until `self`, or zero if `earlier` is later.
    ///
    /// The same as [`duration_since`](Self::duration_since), which saturates too.
    #[inline]
    pub const fn saturating_duration_since(&self, earlier: Self) -> Duration {
        self.duration_since(earlier)
    }

    /// Time from `self` until now on the current clock, or zero if `self` is in the future.
    #[inline]
    pub fn elapsed(&self) -> Duration {
        Self::now().duration_since(*self)
    }

    /// `self + duration`, or `None` if that is beyond [`FAR_FUTURE`](Self::FAR_FUTURE).
    #[inline]
    pub fn checked_add(&self, duration: Duration) -> Option<Self> {
        self.ns.checked_add(ticks::checked_ns(duration)?).map(Self::from_nanos)
    }

    /// `self - duration`, or `None` if that is before the origin.
    #[inline]
    pub fn checked_sub(&self, duration: Duration) -> Option<Self> {
        self.ns.checked_sub(ticks::checked_ns(duration)?).map(Self::from_nanos)
    }

    /// `self + duration`, at most [`FAR_FUTURE`](Self::FAR_FUTURE).
    #[inline]
    #[must_use]
    pub const fn saturating_add(self, duration: Duration) -> Self {
        Self::from_nanos(self.ns.saturating_add(ticks::saturating_ns(duration)))
    }

    /// `self - duration`, at least the origin.
    #[inline]
    #[must_use]
    pub const fn saturating_sub(self, duration: Duration) -> Self {
        Self::from_nanos(self.ns.saturating_sub(ticks::saturating_ns(duration)))
    }
}

impl Instant {
    /// The instant at which `std`'s clock reads `std`, on the current clock. Saturates.
    ///
    /// On the system's clock, one pair of moments, taken once in a process, relates the two for good:
    /// there and [back](Self::into_std) is exact, and what comes from `std` is at its moment of
    /// CLOCK_MONOTONIC or some tens of nanoseconds after it, never before. (Should that clock go back,
    /// against its promise, the relation changes by as much.) A clock that is moved by
    /// hand has no such relation: there, `std`'s now is now, and distances from it are carried over.
    #[inline]
    pub fn from_std(std: std::time::Instant) -> Self {
        with_current(|clock| here_and_now(clock).ours(std))
    }

    /// The instant of `std`'s clock at which the current clock reads `self`.
    ///
    /// As [`from_std`](Self::from_std). What `std` can't express becomes about thirty years from the
    /// pair of moments, or that moment if it lies before.
    #[inline]
    pub fn into_std(self) -> std::time::Instant {
        with_current(|clock| here_and_now(clock).std(self))
    }
}

/// What relates `clock` to `std`'s.
fn here_and_now(clock: &Clock) -> Epoch {
    if clock.is_manual() {
        #[expect(clippy::disallowed_methods, reason = "the conversion is about this very clock")]
        let std = std::time::Instant::now();
        Epoch { std, ours: clock.now() }
    } else {
        // What that clock has lost by going back, it is behind us by.
        let Epoch { std, ours } = Epoch::of(clock);
        Epoch { std, ours: ours + clock.shift() }
    }
}

impl From<std::time::Instant> for Instant {
    fn from(std: std::time::Instant) -> Self {
        Self::from_std(std)
    }
}

impl From<Instant> for std::time::Instant {
    fn from(instant: Instant) -> Self {
        instant.into_std()
    }
}

impl<C: Class> Add<Duration> for Instant<C> {
    type Output = Self;

    #[inline]
    fn add(self, duration: Duration) -> Self {
        self.saturating_add(duration)
    }
}

impl<C: Class> AddAssign<Duration> for Instant<C> {
    #[inline]
    fn add_assign(&mut self, duration: Duration) {
        *self = *self + duration;
    }
}

impl<C: Class> Sub<Duration> for Instant<C> {
    type Output = Self;

    #[inline]
    fn sub(self, duration: Duration) -> Self {
        self.saturating_sub(duration)
    }
}

impl<C: Class> SubAssign<Duration> for Instant<C> {
    #[inline]
    fn sub_assign(&mut self, duration: Duration) {
        *self = *self - duration;
    }
}

impl<C: Class> Sub for Instant<C> {
    type Output = Duration;

    #[inline]
    fn sub(self, earlier: Self) -> Duration {
        self.duration_since(earlier)
    }
}

// By hand, because `derive` would ask the marker for what only `ns` needs.

impl<C: Class> Clone for Instant<C> {
    #[inline]
    fn clone(&self) -> Self {
        *self
    }
}

impl<C: Class> Copy for Instant<C> {}

impl<C: Class> PartialEq for Instant<C> {
    #[inline]
    fn eq(&self, other: &Self) -> bool {
        self.ns == other.ns
    }
}

impl<C: Class> Eq for Instant<C> {}

impl<C: Class> PartialOrd for Instant<C> {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<C: Class> Ord for Instant<C> {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        self.ns.cmp(&other.ns)
    }
}

impl<C: Class> Hash for Instant<C> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.ns.hash(state);
    }
}

impl<C: Class> fmt::Debug for Instant<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (secs, nanos) = (self.ns / ticks::NANOS_PER_SEC, self.ns % ticks::NANOS_PER_SEC);
        write!(f, "{}({secs}.{nanos:09}s)", C::NAME)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn is_eight_bytes_and_plain_data() {
        fn plain<T: Copy + Send + Sync + Unpin + Hash + Ord + 'static>() -> usize {
            size_of::<T>()
        }
        assert_eq!(plain::<Instant>(), 8);
        assert_eq!(plain::<Instant<Elapsed>>(), 8);
    }

    #[test]
    fn arithmetic_saturates_at_both_ends() {
        let (origin, last) = (Instant::<Active>::from_nanos(0), Instant::<Active>::FAR_FUTURE);
        assert_eq!(last + Duration::from_nanos(1), last);
        assert_eq!(origin + Duration::MAX, last);
        assert_eq!(origin - Duration::from_nanos(1), origin);
        assert_eq!(last - Duration::MAX, origin);
        assert_eq!(origin - last, Duration::ZERO);
        assert_eq!(last - origin, Duration::from_nanos(u64::MAX));
        let mut at = last;
        at += Duration::MAX;
        assert_eq!(at, last);
        at -= Duration::MAX;
        assert_eq!(at, origin);
    }

    #[test]
    fn checked_arithmetic_tells_what_saturating_arithmetic_hides() {
        let (origin, last) = (Instant::<Active>::from_nanos(0), Instant::<Active>::FAR_FUTURE);
        assert_eq!(last.checked_add(Duration::from_nanos(1)), None);
        assert_eq!(origin.checked_add(Duration::MAX), None);
        assert_eq!(origin.checked_sub(Duration::from_nanos(1)), None);
        assert_eq!(origin.checked_duration_since(last), None);
        assert_eq!(origin.checked_add(SECOND), Some(Instant::from_nanos(1_000_000_000)));
        assert_eq!(
            Instant::<Active>::from_nanos(5).checked_duration_since(Instant::from_nanos(3)),
            Some(Duration::from_nanos(2)),
        );
    }

    #[test]
    fn std_and_back_is_off_by_no_more_than_the_reads_take() {
        let start = Instant::<Active>::now();
        let returned = Instant::from_std((start + SECOND).into_std());
        let spent = start.elapsed();
        let error = returned.duration_since(start + SECOND).max((start + SECOND) - returned);
        assert!(error <= spent, "{error:?} off, {spent:?} spent");
    }

    #[test]
    fn what_std_cannot_express_neither_panics_nor_becomes_the_past() {
        let far: std::time::Instant = Instant::<Active>::FAR_FUTURE.into();
        assert!(Instant::from(far) > Instant::now() + SECOND);
        let origin: std::time::Instant = Instant::<Active>::from_nanos(0).into();
        assert!(Instant::from_std(origin) <= Instant::now());
    }

    #[test]
    fn debug_shows_the_class_and_seconds() {
        assert_eq!(
            format!("{:?}", Instant::<Active>::from_nanos(1_000_000_002)),
            "Active(1.000000002s)"
        );
        assert_eq!(format!("{:?}", Instant::<Elapsed>::from_nanos(0)), "Elapsed(0.000000000s)");
    }
}
