//! What a clock is said to show, as a line over what it does show.

use std::hint;

use crate::clock::seqlock::{Busy, SeqLock};

/// `told = from_told + (true - from_true) * (1 + ppm / 10^6)`, read and changed by any thread.
///
/// Reads wait for a change that another thread has begun, which takes one reading of the clock. All
/// zero is the truth.
#[derive(Debug)]
pub(super) struct Line(SeqLock<3>);

impl Line {
    /// The truth.
    pub(super) const fn new() -> Self {
        Self(SeqLock::new())
    }

    /// What to tell, where `stamp` reads the true clock, after earlier loads.
    pub(super) fn read(&self, mut stamp: impl FnMut() -> u64) -> i128 {
        loop {
            match self.0.try_read(|_| Some(stamp())) {
                Ok((words, now)) => return told(words, now),
                Err(Busy) => hint::spin_loop(),
            }
        }
    }

    /// The first true time at which at least `told` is told; `None` if there is none to come, or
    /// not before 2⁶⁴.
    #[cfg(any(target_env = "gnu", test))]
    pub(super) fn truth(&self, told: u64) -> Option<u64> {
        let [from_true, from_told, ppm] = loop {
            match self.0.try_read(|_| Some(0)) {
                Ok((words, _)) => break words,
                Err(Busy) => hint::spin_loop(),
            }
        };
        let rate = MILLION + i128::from(ppm.cast_signed());
        let ahead = i128::from(told) - i128::from(from_told);
        if ahead <= 0 {
            // That has been.
            let ago = u64::try_from(-ahead).unwrap_or(u64::MAX);
            return Some(from_true.saturating_sub(ago));
        }
        if rate <= 0 {
            return None;
        }
        // Rounded up: what waits for the result mustn't be early.
        let ahead = (ahead * MILLION + rate - 1) / rate;
        u64::try_from(i128::from(from_true) + ahead).ok()
    }

    /// From now on tells `next` of what it tells now, and at `ppm` if that is given.
    ///
    /// Not for signal handlers, nor interrupted by any that reads this line.
    pub(super) fn change(
        &self,
        ppm: Option<i64>,
        mut stamp: impl FnMut() -> u64,
        mut next: impl FnMut(i128) -> u64,
    ) {
        let mut bend = |old: &[u64; 3]| {
            let now = stamp();
            let rate = ppm.map_or(old[2], i64::cast_unsigned);
            Some([now, next(told(*old, now)), rate])
        };
        while self.0.try_write(&mut bend).is_err() {
            hint::spin_loop();
        }
    }

    /// Tells the truth.
    pub(super) fn clear(&self) {
        while self.0.try_write(|_| Some([0; 3])).is_err() {
            hint::spin_loop();
        }
    }
}

const MILLION: i128 = 1_000_000;

fn told([from_true, from_told, ppm]: [u64; 3], now: u64) -> i128 {
    let passed = i128::from(now) - i128::from(from_true);
    let gained = (passed * i128::from(ppm.cast_signed())).div_euclid(MILLION);
    i128::from(from_told) + passed + gained
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: &Line, now: u64) -> i128 {
        line.read(|| now)
    }

    fn keep(told: i128) -> u64 {
        u64::try_from(told).unwrap()
    }

    #[test]
    fn a_new_line_is_the_truth() {
        let line = Line::new();
        for now in [0, 1, u64::MAX] {
            assert_eq!(at(&line, now), i128::from(now));
            assert_eq!(line.truth(now), Some(now));
        }
    }

    #[test]
    fn a_change_of_rate_continues_and_a_jump_adds() {
        let line = Line::new();
        line.change(Some(1_000_000), || 1000, keep);
        assert_eq!((at(&line, 1000), at(&line, 1500)), (1000, 2000));
        line.change(None, || 1500, |told| keep(told) + 7);
        assert_eq!((at(&line, 1500), at(&line, 1600)), (2007, 2207));
        line.change(Some(-1_000_000), || 1600, keep);
        assert_eq!(at(&line, 9000), 2207);
        line.clear();
        assert_eq!(at(&line, 9000), 9000);
    }

    #[test]
    fn what_waits_for_a_told_time_is_never_early() {
        for ppm in [-999_999, -500_000, -83_333, -1, 0, 1, 333, 1_000_000, 7_654_321] {
            let line = Line::new();
            line.change(Some(ppm), || 1_000, |_| 500);
            for until in 501..2_000 {
                let wake = line.truth(until).unwrap();
                assert!(at(&line, wake) >= i128::from(until), "{ppm} {until}");
                assert!(at(&line, wake - 1) < i128::from(until), "{ppm} {until}");
            }
        }
    }

    #[test]
    fn a_clock_that_stands_still_gets_nowhere_and_the_past_has_been() {
        let line = Line::new();
        line.change(Some(-1_000_000), || 1_000, |_| 500);
        assert_eq!(line.truth(501), None);
        assert_eq!(line.truth(499), Some(999));
        assert_eq!(line.truth(500), Some(1000));
        line.change(Some(0), || 1_000, |_| 5_000);
        assert_eq!(line.truth(0), Some(0));
    }
}
