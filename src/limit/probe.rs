//! Which of the doomed are let through all the same, so that the estimate stays honest.

/// Parts of a probe.
const WHOLE: u32 = 1_000_000;

/// One in so many of the doomed; and while others want the slots, no more than one in so many of those that
/// have got them. So probes go on when nothing else is admitted, and cost little when much is.
#[derive(Debug)]
pub(crate) struct Probes {
    share: u32,
    /// By the doomed.
    due: u32,
    /// By the admitted.
    afforded: u32,
}

impl Probes {
    pub(crate) fn new(share: f64) -> Self {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "between zero and one"
        )]
        let share = (share.clamp(0.0, 1.0) * f64::from(WHOLE)).round() as u32;
        Self { share, due: 0, afforded: WHOLE }
    }

    /// One was admitted that isn't doomed.
    pub(crate) fn admitted(&mut self) {
        // None are saved up: there is no flood after a calm.
        self.afforded = WHOLE.min(self.afforded + self.share);
    }

    /// One is doomed: whether it is a probe. `contended`: somebody else wants its slot.
    pub(crate) fn take(&mut self, contended: bool) -> bool {
        self.due += self.share;
        if self.due < WHOLE {
            return false;
        }
        self.due = WHOLE;
        if contended && self.share < WHOLE {
            if self.afforded < WHOLE {
                return false;
            }
            self.afforded = 0;
        }
        self.due = 0;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_in_fifty_of_the_doomed_is_a_probe() {
        let mut probes = Probes::new(0.02);
        let taken: Vec<_> = (1..=200).filter(|_| probes.take(false)).collect();
        assert_eq!(taken, [50, 100, 150, 200]);
    }

    #[test]
    fn where_slots_are_short_it_is_one_in_fifty_of_the_admitted() {
        let mut probes = Probes::new(0.02);
        let mut taken = 0;
        for _ in 0..1000 {
            probes.admitted();
            taken += (0..10).filter(|_| probes.take(true)).count();
        }
        assert!((19..=21).contains(&taken), "{taken}");
    }

    #[test]
    fn none_and_all_are_shares_too() {
        assert!((0..1000).all(|_| !Probes::new(0.0).take(false)));
        let mut all = Probes::new(1.0);
        assert!((0..1000).all(|_| all.take(true)));
    }
}
