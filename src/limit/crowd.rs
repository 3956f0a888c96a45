//! Whether overload is a burst, or goes on: for [`Order::NewestFirst`](super::Order), which lets a burst wait, and in
//! lasting overload tells those that are overtaken at once.
//!
//! A queue that has been longer than the slots for so long stands: it is no burst any more, which would have been worked
//! off. From then on it has less room, until nobody has been without for as long (as with CoDel, RFC 8289, it is by time
//! and not by length that the one is told from the other).

use std::time::Duration;

use crate::clock::{Elapsed, Instant};

/// How long it takes, in times that service takes.
const PATIENCE: u32 = 5;

/// For how many there is room in a queue that stands, by slots: enough to keep those busy at 1.5 times what they can do,
/// as simulation has shown, and few enough that a call is overtaken within a quarter of what service takes then.
const ROOM: usize = 4;

#[derive(Debug, Default)]
pub(crate) enum Crowd {
    #[default]
    None,
    /// Ever since, more have waited than there are slots.
    Since(Instant<Elapsed>),
    Standing {
        /// When one was overtaken last.
        last: Instant<Elapsed>,
    },
}

impl Crowd {
    /// So many wait now.
    pub(crate) fn see(
        &mut self,
        waiting: usize,
        slots: usize,
        service: Duration,
        now: Instant<Elapsed>,
    ) {
        let patience = service.saturating_mul(PATIENCE);
        *self = match *self {
            Self::None | Self::Since(_) if waiting <= slots => Self::None,
            Self::None => Self::Since(now),
            Self::Since(since) if now.duration_since(since) < patience => Self::Since(since),
            Self::Since(_) => Self::Standing { last: now },
            Self::Standing { .. } if waiting > room(slots) => Self::Standing { last: now },
            Self::Standing { last } if now.duration_since(last) < patience => return,
            Self::Standing { .. } => Self::None,
        };
    }

    pub(crate) fn is_standing(&self) -> bool {
        matches!(self, Self::Standing { .. })
    }
}

/// In a queue that stands.
pub(crate) fn room(slots: usize) -> usize {
    slots.div_ceil(ROOM)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_burst_does_not_stand_and_what_goes_on_does_until_it_is_over() {
        let start = Instant::from_nanos(1 << 30);
        let mut crowd = Crowd::default();
        let mut see = |waiting, ms| {
            crowd.see(waiting, 16, 20 * MS, start + ms * MS);
            crowd.is_standing()
        };
        assert!(!see(300, 0));
        assert!(!see(17, 99));
        // Worked off.
        assert!(!see(16, 99));
        assert!(!see(17, 100));
        assert!(!see(17, 199));
        assert!(see(17, 200));
        // While there are some without room.
        assert!(see(5, 290));
        assert!(see(4, 389));
        assert!(!see(4, 390));
        assert!(!see(300, 391));
    }

    #[test]
    fn there_is_always_room_for_one() {
        assert_eq!((room(1), room(4), room(5), room(16)), (1, 1, 2, 4));
    }
}
