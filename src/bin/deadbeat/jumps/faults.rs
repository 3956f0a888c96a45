//! The faults: what they are called, and what is done to the clocks.

/// What is done to the clocks of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Nothing: what the scenario itself shows on this machine.
    None,
    WallForward,
    WallBack,
    MonotonicForward,
    MonotonicBack,
    Suspend,
    MonotonicRate500,
    MonotonicRate83333,
    Strobe,
    CounterForward,
    CounterBack,
    CounterReset,
    CounterSkew,
    CounterRate50,
    CounterRateDouble,
    Stall,
}

impl Fault {
    /// All, in the order of the report.
    pub(crate) const ALL: [Self; 16] = [
        Self::None,
        Self::WallForward,
        Self::WallBack,
        Self::MonotonicForward,
        Self::MonotonicBack,
        Self::Suspend,
        Self::MonotonicRate500,
        Self::MonotonicRate83333,
        Self::Strobe,
        Self::CounterForward,
        Self::CounterBack,
        Self::CounterReset,
        Self::CounterSkew,
        Self::CounterRate50,
        Self::CounterRateDouble,
        Self::Stall,
    ];

    /// Those of `--quick`.
    pub(crate) const QUICK: [Self; 2] = [Self::MonotonicForward, Self::CounterBack];

    /// What is drawn unless asked otherwise.
    pub(crate) const DRAWN: [Self; 2] = [Self::MonotonicForward, Self::MonotonicBack];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::WallForward => "wall-forward",
            Self::WallBack => "wall-back",
            Self::MonotonicForward => "monotonic-forward",
            Self::MonotonicBack => "monotonic-back",
            Self::Suspend => "suspend",
            Self::MonotonicRate500 => "monotonic-rate-500ppm",
            Self::MonotonicRate83333 => "monotonic-rate-83333ppm",
            Self::Strobe => "monotonic-strobe",
            Self::CounterForward => "counter-forward",
            Self::CounterBack => "counter-back",
            Self::CounterReset => "counter-reset",
            Self::CounterSkew => "counter-skew",
            Self::CounterRate50 => "counter-rate-50ppm",
            Self::CounterRateDouble => "counter-rate-x2",
            Self::Stall => "stall",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|fault| fault.name() == name)
    }

    /// What is done, with its size.
    pub(super) fn injected(self) -> &'static str {
        match self {
            Self::None => "nothing",
            Self::WallForward => "CLOCK_REALTIME +1 h",
            Self::WallBack => "CLOCK_REALTIME -1 h",
            Self::MonotonicForward => "CLOCK_MONOTONIC, _RAW and BOOTTIME +3600 s",
            Self::MonotonicBack => "CLOCK_MONOTONIC, _RAW and BOOTTIME -3 s",
            Self::Suspend => "CLOCK_BOOTTIME +1 h",
            Self::MonotonicRate500 => "CLOCK_MONOTONIC, BOOTTIME and REALTIME +500 ppm",
            Self::MonotonicRate83333 => "CLOCK_MONOTONIC, BOOTTIME and REALTIME +83333 ppm",
            Self::Strobe => "CLOCK_MONOTONIC ±200 ms, every 10 ms",
            Self::CounterForward => "counter +5 s",
            Self::CounterBack => "counter -2 s",
            Self::CounterReset => "counter starts from 0",
            Self::CounterSkew => "counter of one processor -1.6 s",
            Self::CounterRate50 => "counter +50 ppm",
            Self::CounterRateDouble => "counter twice as fast",
            Self::Stall => "process stopped for 1 s",
        }
    }
}

#[cfg(target_os = "linux")]
pub(super) use linux::Injector;

#[cfg(target_os = "linux")]
mod linux {
    use super::super::truth;
    use super::Fault;
    use deadbeat::clock::Witness::{self, Boottime, Monotonic, Raw, Realtime};
    use deadbeat::faults::counter::Trap;
    use deadbeat::faults::{Unsupported, kernel, stall};
    use std::time::Duration;

    const SECOND: i64 = 1_000_000_000;
    const MS: i64 = 1_000_000;

    /// Does it, to this process.
    #[derive(Debug)]
    pub(in super::super) struct Injector {
        fault: Fault,
        /// For the faults of the counter. Stays set: threads that are to come inherit it.
        trap: Option<(&'static Trap, Ticks)>,
    }

    /// What the counter counts in a second.
    #[derive(Clone, Copy, Debug)]
    struct Ticks(u64);

    impl Injector {
        /// Prepares everything but the fault itself: to be called before any thread is started that
        /// the fault is for.
        ///
        /// # Errors
        ///
        /// What this can't be done without, here.
        pub(in super::super) fn new(fault: Fault) -> Result<Self, String> {
            let is_of_counter = match fault {
                Fault::None | Fault::Stall => false,
                Fault::WallForward
                | Fault::WallBack
                | Fault::MonotonicForward
                | Fault::MonotonicBack
                | Fault::Suspend
                | Fault::MonotonicRate500
                | Fault::MonotonicRate83333
                | Fault::Strobe => {
                    kernel::jump(Monotonic, 0).map_err(|lacking| lacking.to_string())?;
                    false
                }
                Fault::CounterForward
                | Fault::CounterBack
                | Fault::CounterReset
                | Fault::CounterSkew
                | Fault::CounterRate50
                | Fault::CounterRateDouble => true,
            };
            if fault == Fault::CounterSkew && other_processor().is_none() {
                return Err("this takes two processors".into());
            }
            let trap = if is_of_counter {
                let ticks = Ticks::measure();
                let trap = Trap::set().map_err(|lacking| lacking.to_string())?;
                Some((&*Box::leak(Box::new(trap)), ticks))
            } else {
                None
            };
            Ok(Self { fault, trap })
        }

        /// Does it; a fault that goes on does so until that true time.
        ///
        /// # Errors
        ///
        /// What is lacking after all.
        pub(in super::super) fn inject(&self, until_ns: u64) -> Result<(), Unsupported> {
            // What has been due by what was told up to now is due.
            truth::told_ns();
            match self.fault {
                Fault::None => {}
                Fault::WallForward => kernel::jump(Realtime, 3600 * SECOND)?,
                Fault::WallBack => kernel::jump(Realtime, -3600 * SECOND)?,
                Fault::MonotonicForward => jump_all(3600 * SECOND)?,
                Fault::MonotonicBack => jump_all(-3 * SECOND)?,
                Fault::Suspend => kernel::jump(Boottime, 3600 * SECOND)?,
                Fault::MonotonicRate500 => slew(500)?,
                Fault::MonotonicRate83333 => slew(83_333)?,
                Fault::Strobe => strobe(until_ns)?,
                Fault::Stall => stall::stop(Duration::from_secs(1))?,
                Fault::CounterForward
                | Fault::CounterBack
                | Fault::CounterReset
                | Fault::CounterSkew
                | Fault::CounterRate50
                | Fault::CounterRateDouble => {
                    let (trap, ticks) = self.trap.expect("it is set for these");
                    of_counter(self.fault, trap, ticks);
                }
            }
            Ok(())
        }
    }

    fn of_counter(fault: Fault, trap: &Trap, ticks: Ticks) {
        match fault {
            Fault::CounterForward => trap.jump(ticks.in_ms(5_000)),
            Fault::CounterBack => trap.jump(ticks.in_ms(-2_000)),
            Fault::CounterReset => trap.set_value(0),
            Fault::CounterSkew => {
                if let Some(cpu) = other_processor() {
                    trap.skew(cpu, ticks.in_ms(-1_600));
                }
            }
            Fault::CounterRate50 => trap.rate_ppm(50),
            Fault::CounterRateDouble => trap.rate_ppm(1_000_000),
            other => unreachable!("{other:?} is no fault of the counter"),
        }
    }

    /// All clocks that the kernel derives from the same count.
    fn jump_all(ns: i64) -> Result<(), Unsupported> {
        [Monotonic, Raw, Boottime].into_iter().try_for_each(|clock| kernel::jump(clock, ns))
    }

    /// As NTP does: all but the raw clock.
    fn slew(ppm: i64) -> Result<(), Unsupported> {
        let slewed: [Witness; 3] = [Monotonic, Boottime, Realtime];
        slewed.into_iter().try_for_each(|clock| kernel::rate_ppm(clock, ppm))
    }

    fn strobe(until_ns: u64) -> Result<(), Unsupported> {
        kernel::jump(Monotonic, 200 * MS)?;
        let mut next = -400 * MS;
        while truth::now_ns() < until_ns {
            truth::nap(Duration::from_millis(10));
            truth::told_ns();
            kernel::jump(Monotonic, next)?;
            next = -next;
        }
        kernel::clear();
        Ok(())
    }

    impl Ticks {
        fn measure() -> Self {
            let counter = quanta::Clock::new();
            let (start_ns, start) = (truth::now_ns(), counter.raw());
            truth::nap(Duration::from_millis(20));
            let (end_ns, end) = (truth::now_ns(), counter.raw());
            let ticks = u128::from(end.saturating_sub(start)) * 1_000_000_000;
            let ns = u128::from(end_ns.saturating_sub(start_ns)).max(1);
            Self(u64::try_from(ticks / ns).unwrap_or(u64::MAX))
        }

        fn in_ms(self, ms: i64) -> i64 {
            let ticks = i128::from(self.0) * i128::from(ms) / 1_000;
            i64::try_from(ticks).unwrap_or(i64::MAX)
        }
    }

    /// The second of those that this process may use.
    fn other_processor() -> Option<usize> {
        let set = rustix::thread::sched_getaffinity(None).ok()?;
        (0..rustix::thread::CpuSet::MAX_CPU).filter(|cpu| set.is_set(*cpu)).nth(1)
    }
}

#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
pub(super) struct Injector;

#[cfg(not(target_os = "linux"))]
impl Injector {
    pub(super) fn new(fault: Fault) -> Result<Self, String> {
        if fault == Fault::None { Ok(Self) } else { Err("this takes Linux".into()) }
    }

    pub(super) fn inject(&self, _until_ns: u64) -> Result<(), String> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_has_a_name_of_its_own() {
        for fault in Fault::ALL {
            assert_eq!(Fault::named(fault.name()), Some(fault));
        }
        assert_eq!(Fault::named("leap-second"), None);
    }
}
