//! [`Interval`] against an oracle that counts in `u128`.

use std::task::{Context, Poll, Waker};
use std::time::Duration;

use super::Bytes;
use crate::Manual;
use crate::clock::Instant;
use crate::time::{Interval, MissedTickBehavior};

/// Runs what the bytes say on an interval: one for the period, then operations.
///
/// # Panics
///
/// If the interval and its oracle disagree.
pub fn interval(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let manual = Manual::new();
    let period = match bytes.span() {
        Duration::ZERO => Duration::MAX,
        period => period,
    };
    let mut interval = manual.timekeeper().interval(period);
    let mut oracle = Oracle {
        next: manual.now().as_nanos().into(),
        period: period.as_nanos(),
        behavior: MissedTickBehavior::Burst,
    };
    while let Some(op) = bytes.next() {
        let now = u128::from(manual.now().as_nanos());
        match op % 16 {
            0..6 => check_tick(&mut interval, &mut oracle, &manual),
            6..11 => {
                // To the end of time, if it comes to that twice.
                let span = if op < 240 { bytes.span() } else { Duration::from_nanos(u64::MAX / 2) };
                manual.fast_forward(span);
            }
            11 => {
                let behavior = match bytes.byte() % 3 {
                    0 => MissedTickBehavior::Burst,
                    1 => MissedTickBehavior::Delay,
                    _ => MissedTickBehavior::Skip,
                };
                interval.set_missed_tick_behavior(behavior);
                oracle.behavior = behavior;
            }
            12 => {
                interval.reset();
                oracle.next = now + oracle.period;
            }
            13 => {
                interval.reset_immediately();
                oracle.next = now;
            }
            14 => {
                let after = bytes.span();
                interval.reset_after(after);
                oracle.next = now + after.as_nanos();
            }
            _ => {
                let at = match op {
                    0..240 => manual.now() - bytes.span(),
                    _ => Instant::FAR_FUTURE,
                };
                interval.reset_at(at);
                oracle.next = at.as_nanos().into();
            }
        }
        assert_eq!(interval.missed_tick_behavior(), oracle.behavior);
        assert_eq!(interval.period(), period);
    }
}

fn check_tick(interval: &mut Interval, oracle: &mut Oracle, manual: &Manual) {
    // What a reset has made due of what is armed, the driver has to fire first.
    manual.fast_forward(Duration::ZERO);
    let tick = interval.poll_tick(&mut Context::from_waker(Waker::noop()));
    let expected = oracle.tick(manual.now());
    assert_eq!(tick, expected.map_or(Poll::Pending, Poll::Ready), "at {:?}", manual.now());
}

struct Oracle {
    next: u128,
    period: u128,
    behavior: MissedTickBehavior,
}

impl Oracle {
    fn tick(&mut self, now: Instant) -> Option<Instant> {
        // Beyond the end of time there is nothing but the end.
        let tick = u64::try_from(self.next).map_or(Instant::FAR_FUTURE, Instant::from_nanos);
        let (due, now) = (u128::from(tick.as_nanos()), u128::from(now.as_nanos()));
        let late = now.checked_sub(due)?;
        self.next = match self.behavior {
            // An eighth, of which the fraction doesn't count.
            MissedTickBehavior::Delay if late > (self.period / 8).min(1_000_000) => {
                now + self.period
            }
            MissedTickBehavior::Skip => now + self.period - late % self.period,
            _ => due + self.period,
        };
        Some(tick)
    }
}
