//! The system's witnesses: the processor's counter and the kernel's clocks.

use std::sync::OnceLock;

use super::{
    Preference,
    arch::Counter,
    os,
    report::{OsReason, SelfTest},
    selftest,
    witness::Witnesses,
};

/// See the module's doc.
#[derive(Debug)]
pub(crate) struct Os {
    preference: Preference,
    /// Set before the first line that needs it is published.
    counter: OnceLock<Counter>,
}

impl Os {
    pub(crate) const fn new(preference: Preference) -> Self {
        Self { preference, counter: OnceLock::new() }
    }

    /// Looks for the counter, and tests it.
    ///
    /// # Errors
    ///
    /// Why it isn't to be used.
    pub(crate) fn prepare(&self, self_test: &mut SelfTest) -> Result<(), OsReason> {
        match &self.preference {
            Preference::Os => return Err(OsReason::Requested),
            Preference::Unknown(value) => return Err(OsReason::BadOverride(value.clone())),
            Preference::Auto | Preference::Counter => {}
        }
        let counter = Counter::detect().ok_or(OsReason::NoCounter)?;
        self_test.processors = selftest::compare_processors(&counter);
        let ticks = self_test.processors.map_or(0, |cpus| cpus.unsynchronised_ticks);
        if ticks > 0 && self.preference == Preference::Auto {
            return Err(OsReason::CounterUnsynchronised { ticks });
        }
        // Only the one call that prepares gets here.
        let _ = self.counter.set(counter);
        Ok(())
    }
}

impl Witnesses for Os {
    #[inline(always)]
    fn counter(&self) -> u64 {
        self.counter.get().map_or(0, Counter::ordered)
    }

    #[inline(always)]
    fn counter_unordered(&self) -> u64 {
        self.counter.get().map_or(0, Counter::unordered)
    }

    fn counter_settled(&self) -> u64 {
        self.counter.get().map_or(0, Counter::settled)
    }

    #[inline(always)]
    fn monotonic_ns(&self) -> u64 {
        os::monotonic_ns()
    }

    fn boottime_ns(&self) -> u64 {
        os::boottime_ns()
    }

    fn realtime_ns(&self) -> u64 {
        os::realtime_ns()
    }

    fn raw_ns(&self) -> Option<u64> {
        os::raw_ns()
    }

    fn cpu(&self) -> Option<usize> {
        os::cpu()
    }
}
