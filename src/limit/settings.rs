//! What is set.

/// Who is next when a slot is free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Order {
    /// Who has waited for longest. Fair, but under overload everybody has to wait for about as long as their
    /// deadline allows.
    #[default]
    OldestFirst,
    /// The same while no more wait than there are slots; once more do, who came last. Under overload,
    /// those that are served are served at once.
    ///
    /// A burst waits. In overload that goes on, when more have waited than there are slots for five times as
    /// long as service takes, there is room for no more than one in four slots, and the oldest is rejected for
    /// each that comes, as [overtaken](super::Rejected::is_overtaken): it knows within milliseconds, rather
    /// than when it is doomed. That ends when nobody was overtaken for as long. It takes a
    /// [quantile](Settings::quantile), and isn't done in the dark.
    ///
    /// A full queue makes room by rejecting the oldest.
    NewestFirst,
}

/// What a [`Limiter`](super::Limiter) is made with.
///
/// # Examples
///
/// ```
/// use deadbeat::limit::{Limiter, Order, Settings};
///
/// let limiter = Limiter::new(Settings::new(16).order(Order::NewestFirst));
/// // Or only this many at a time:
/// let limiter = Limiter::new(16);
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[must_use]
pub struct Settings {
    pub(super) slots: usize,
    pub(super) queue: usize,
    pub(super) order: Order,
    pub(super) quantile: f64,
    pub(super) probes: f64,
    pub(super) dark: bool,
}

impl Settings {
    /// As many calls as run at the same time.
    ///
    /// # Panics
    ///
    /// If there are none.
    #[track_caller]
    pub fn new(slots: usize) -> Self {
        assert!(slots > 0, "0 slots, where at least one is needed for anything to run");
        Self {
            slots,
            queue: slots.saturating_mul(32),
            order: Order::OldestFirst,
            quantile: 0.95,
            probes: 0.02,
            dark: false,
        }
    }

    /// How many may wait at the most. Default: 32 a slot. With zero, nobody waits. Disabled by:
    /// `usize::MAX`.
    ///
    /// A bound for calls without a deadline, and for memory; calls that have one are turned away by that,
    /// as a rule long before.
    pub fn queue(mut self, most: usize) -> Self {
        self.queue = most;
        self
    }

    /// Who is next. Default: [`Order::OldestFirst`].
    pub fn order(mut self, order: Order) -> Self {
        self.order = order;
        self
    }

    /// A call is doomed if it has less time left than this share of calls are served in. Default: 0.95,
    /// which simulation has chosen. Disabled by: zero, with which only expired calls are rejected.
    ///
    /// It holds where somebody else wants the same slot. A slot that would be idle otherwise is had by any
    /// call that is more likely to be in time than not: there the median counts, if that is less.
    ///
    /// # Panics
    ///
    /// If it isn't from 0 to 1.
    #[track_caller]
    pub fn quantile(mut self, quantile: f64) -> Self {
        assert!(
            (0.0..=1.0).contains(&quantile),
            "a quantile of {quantile}, where 0 to 1 is allowed"
        );
        self.quantile = quantile;
        self
    }

    /// The share of doomed calls that are admitted all the same, to learn whether service has become
    /// faster; while all slots are taken, it is also the share of such calls among the admitted, at the most.
    /// Default: 0.02. Disabled by: zero, and then a slow phase is forgotten only after ten seconds.
    ///
    /// # Panics
    ///
    /// If it isn't from 0 to 1.
    #[track_caller]
    pub fn probes(mut self, share: f64) -> Self {
        assert!((0.0..=1.0).contains(&share), "a share of {share}, where 0 to 1 is allowed");
        self.probes = share;
        self
    }

    /// Whether doomed calls are counted, but not rejected. Default: no. For a trial.
    pub fn dark(mut self, dark: bool) -> Self {
        self.dark = dark;
        self
    }
}

impl From<usize> for Settings {
    /// As [`Settings::new`].
    #[track_caller]
    fn from(slots: usize) -> Self {
        Self::new(slots)
    }
}
