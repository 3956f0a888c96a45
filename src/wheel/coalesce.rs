//! Where timers with slack meet.

/// The roundest time within `[when_ns, when_ns + slack_ns]`: the one with the most trailing zero
/// bits, which is unique.
///
/// For timers that may be late by `slack_ns`. Those that are due about the same time meet on one
/// value, and so cost one wake; and a wheel takes a round time from the slot that it was put in
/// first, at the start of which it is due, without moving it from level to level.
///
/// Never before `when_ns`. The end of the range saturates at `u64::MAX`. *O*(1).
///
/// # Examples
///
/// ```
/// use deadbeat::wheel::coalesce;
///
/// assert_eq!(coalesce(1_000_000, 50_000), 1 << 20);
/// assert_eq!(coalesce(1_040_000, 50_000), 1 << 20);
/// assert_eq!(coalesce(1_000_000, 0), 1_000_000);
/// ```
#[inline]
#[must_use]
pub const fn coalesce(when_ns: u64, slack_ns: u64) -> u64 {
    if slack_ns == 0 {
        // What nearly all timers have.
        return when_ns;
    }
    let Some(before) = when_ns.checked_sub(1) else { return 0 };
    let end = when_ns.saturating_add(slack_ns);
    // Above their highest difference, `end` and what is just out of range agree; at it, `end` has a
    // one and the other a zero. So `end`, cleared below that bit, is in range, and nothing rounder
    // lies between.
    let bit = (before ^ end).ilog2();
    end >> bit << bit
}
