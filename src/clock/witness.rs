//! What can be asked for the time, and one look at all of it.

/// The clocks that bear witness: a counter, and the kernel's three.
///
/// An implementation guarantees that
///
/// * `counter` is read after all loads that the program did before, `counter_settled` also after
///   all stores that a sequentially consistent fence separates from it are visible;
/// * nothing panics, and no value is too strange: any of them may stand still, jump or go back.
pub(crate) trait Witnesses {
    /// The counter, in order.
    fn counter(&self) -> u64;

    /// The counter, at about this place in the program.
    fn counter_unordered(&self) -> u64 {
        self.counter()
    }

    /// The counter, after all stores ahead of a fence are visible.
    fn counter_settled(&self) -> u64 {
        self.counter()
    }

    /// `CLOCK_MONOTONIC` in nanoseconds: the reference.
    fn monotonic_ns(&self) -> u64;

    /// `CLOCK_BOOTTIME` in nanoseconds.
    fn boottime_ns(&self) -> u64;

    /// `CLOCK_REALTIME` in nanoseconds since 1970.
    fn realtime_ns(&self) -> u64;

    /// `CLOCK_MONOTONIC_RAW` in nanoseconds, which nobody slews; `None` where there is none.
    fn raw_ns(&self) -> Option<u64>;

    /// On which processor the thread runs, if that is known.
    fn cpu(&self) -> Option<usize>;

    /// Whether the kernel's clocks are right by definition, whatever they do.
    fn are_truth(&self) -> bool {
        false
    }
}

/// A reading of the reference between two of the counter: at some tick from `before` to `after`,
/// `CLOCK_MONOTONIC` was `monotonic_ns`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bracket {
    pub(crate) before: u64,
    pub(crate) monotonic_ns: u64,
    pub(crate) after: u64,
}

impl Bracket {
    /// One bracketed reading.
    #[inline]
    pub(crate) fn take(witnesses: &impl Witnesses) -> Self {
        Self {
            before: witnesses.counter(),
            monotonic_ns: witnesses.monotonic_ns(),
            after: witnesses.counter(),
        }
    }

    /// The narrowest of up to `tries`, or the first that is at most `enough` ticks wide.
    pub(crate) fn narrowest(witnesses: &impl Witnesses, tries: u32, enough: u64) -> Self {
        let mut best = Self::take(witnesses);
        for _ in 1..tries {
            if best.width() <= enough {
                break;
            }
            let next = Self::take(witnesses);
            if next.width() < best.width() {
                best = next;
            }
        }
        best
    }

    /// Ticks from before to after; `u64::MAX` if the counter went back meanwhile.
    #[inline]
    pub(crate) fn width(&self) -> u64 {
        self.after.checked_sub(self.before).unwrap_or(u64::MAX)
    }
}

/// All witnesses, sampled together: the bracket first, the others right behind it, between two readings
/// of the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sample {
    pub(crate) bracket: Bracket,
    pub(crate) boottime_ns: u64,
    pub(crate) realtime_ns: u64,
    pub(crate) raw_ns: Option<u64>,
    /// The reference again, behind all others.
    pub(crate) monotonic_after_ns: u64,
    /// Where the bracket was read, if that is known.
    pub(crate) cpu: Option<usize>,
}

impl Sample {
    /// Asks all witnesses; the bracket as [`Bracket::narrowest`].
    pub(crate) fn take(witnesses: &impl Witnesses, tries: u32, enough: u64) -> Self {
        let cpu = witnesses.cpu();
        let bracket = Bracket::narrowest(witnesses, tries, enough);
        Self {
            bracket,
            cpu: cpu.filter(|_| witnesses.cpu() == cpu),
            boottime_ns: witnesses.boottime_ns(),
            realtime_ns: witnesses.realtime_ns(),
            raw_ns: witnesses.raw_ns(),
            monotonic_after_ns: witnesses.monotonic_ns(),
        }
    }

    /// How long it took to read the kernel's clocks.
    pub(crate) fn width_ns(&self) -> i64 {
        let ns = self.monotonic_after_ns.saturating_sub(self.bracket.monotonic_ns);
        i64::try_from(ns).unwrap_or(i64::MAX)
    }

    /// The same with the kernel's clocks that went back set forward again, by as much as they lost.
    pub(crate) fn shifted(self, monotonic_ns: u64, boottime_ns: u64) -> Self {
        let bracket = Bracket {
            monotonic_ns: self.bracket.monotonic_ns.saturating_add(monotonic_ns),
            ..self.bracket
        };
        Self {
            bracket,
            boottime_ns: self.boottime_ns.saturating_add(boottime_ns),
            monotonic_after_ns: self.monotonic_after_ns.saturating_add(monotonic_ns),
            ..self
        }
    }
}
