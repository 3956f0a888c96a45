//! An hour's timers, all due at once.

use std::{
    future::Future,
    hint::{black_box, spin_loop},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Wake, Waker},
    time::Duration,
};

use super::{Failed, Measured, SEED, jump, now, run, size, wait_until};
use crate::support::{
    Count, System, arm, os,
    systems::{Deadbeat, Tokio},
};

const HOUR: Duration = Duration::from_secs(3600);
const HOUR_NS: i64 = 3_600_000_000_000;
/// None is due before: they are armed and sorted in less.
const NOT_BEFORE: Duration = Duration::from_secs(20);
const EVERY: Duration = Duration::from_micros(100);
const FRESH: Duration = Duration::from_millis(1);
/// How long the fresh ones are armed before the jump. So a driver is about to look at the clock when it
/// comes: a wait that has begun isn't cut short by a lie, as it would be by the kernel.
const LEAD: Duration = Duration::from_millis(20);
/// How long to wait for the last. Longer than a driver may sleep that nothing has called before the jump, and
/// that takes all that is armed after it for later than its end.
const LIMIT: Duration = Duration::from_secs(30);

pub(super) fn line() -> Result<String, Failed> {
    let part = |system| {
        run("million", system).map(|Measured { values: [all_ms, p999_us], note }| {
            format!("{all_ms:.0} ms until all have fired, fresh ones late p99.9 {p999_us:.0} µs ({note})")
        })
    };
    Ok(format!("{} | tokio {}", part(Deadbeat::NAME)?, part(Tokio::NAME)?))
}

pub(super) fn measure(system: &str) -> Result<Measured, Failed> {
    if system == Tokio::NAME { storm::<Tokio>() } else { storm::<Deadbeat>() }
}

fn storm<S: System>() -> Result<Measured, Failed> {
    // Refused here or not at all.
    jump(0)?;
    let count = size(1_000_000, 10_000);
    let system = S::start(1);
    system.run(async {
        let mut rng = fastrand::Rng::with_seed(SEED);
        let fired = Arc::new(Count::default());
        let waker = Waker::from(fired.clone());
        let begin = now();
        let crowd: Vec<_> = (0..count)
            .map(|_| {
                let spread = rng.u64(0..u64::try_from((HOUR - NOT_BEFORE).as_nanos()).expect("fits"));
                // Due within the hour from `begin`, less what arming takes.
                let ahead = (NOT_BEFORE + Duration::from_nanos(spread)).saturating_sub(now() - begin);
                let mut timer = Box::pin(system.timeout(ahead));
                arm(timer.as_mut(), &waker);
                timer
            })
            .collect();
        // Made beforehand: the thread that arms is to do nothing else meanwhile.
        let stamps: Vec<_> = (0..LIMIT.as_micros() / EVERY.as_micros())
            .map(|_| Arc::new(Stamp::default()))
            .collect();
        let mut fresh = Vec::with_capacity(stamps.len());
        // A driver sorts meanwhile what was armed.
        os::pass(Duration::from_millis(500));
        let begin = now();
        let mut next = begin;
        let mut last_armed = begin;
        let mut jumped = None;
        let mut early = 0;
        let mut before = os::Usage::default();
        let mut all = None;
        for stamp in &stamps {
            while all.is_none() && now() < next {
                if let Some(moment) = jumped
                    && fired.get() == count as u64
                {
                    all = Some(now() - moment);
                }
                spin_loop();
            }
            if all.is_some() {
                break;
            }
            // Not if this thread was kept off its processor: no fresh one would be pending, and the driver
            // asleep until the first of the crowd.
            if jumped.is_none() && next - begin >= LEAD && now() - last_armed < FRESH / 2 {
                early = fired.get();
                before = os::others();
                jumped = Some(now());
                jump(HOUR_NS)?;
            }
            next = (next + EVERY).max(now());
            let armed_at = now();
            last_armed = armed_at;
            let mut timer = Box::pin(system.timeout(FRESH));
            let waker = Waker::from(stamp.clone());
            // Ready at once if this thread was not on a processor for a millisecond, or if the clock
            // has noticed the jump just now: that is nobody's lateness.
            if timer.as_mut().poll(&mut Context::from_waker(&waker)).is_pending() {
                fresh.push((armed_at + FRESH, timer, stamp));
            }
        }
        let Some(all) = all else {
            let left = count as u64 - fired.get();
            return Err(Failed::Broken(format!("{left} of {count} have not fired in {LIMIT:?}")));
        };
        let used = os::others().since(before);
        let limit = now() + LIMIT;
        while fresh.iter().any(|(.., stamp)| stamp.get().is_none()) && now() < limit {
            wait_until(now() + FRESH);
        }
        let late_ns: Vec<i128> = fresh
            .iter()
            .filter(|(due, ..)| jumped.is_some_and(|moment| *due >= moment + FRESH))
            .filter_map(|(due, _, stamp)| {
                Some(stamp.get()?.as_nanos().cast_signed() - due.as_nanos().cast_signed())
            })
            .collect();
        let lost = fresh.iter().filter(|(.., stamp)| stamp.get().is_none()).count();
        let ahead = late_ns.iter().filter(|ns| **ns < 0).count();
        let mut late_us: Vec<f64> = late_ns.iter().map(|ns| (*ns).max(0) as f64 / 1e3).collect();
        late_us.sort_by(f64::total_cmp);
        black_box(crowd);
        let note = format!(
            "p50 {:.0}, p99 {:.0}, max {:.0}; {} fresh ones, {ahead} of them ahead, {lost} lost; {count} \
             timers, {early} of them early; the driver took {:.0} ms of CPU in {} wakes",
            quantile(&late_us, 0.5),
            quantile(&late_us, 0.99),
            quantile(&late_us, 1.0),
            late_us.len(),
            used.cpu.as_secs_f64() * 1e3,
            used.wakes,
        );
        Ok(Measured { values: [all.as_secs_f64() * 1e3, quantile(&late_us, 0.999)], note })
    })
}

/// Of sorted values; nothing, if there are none.
fn quantile(sorted: &[f64], q: f64) -> f64 {
    let rank = (sorted.len() as f64 * q).ceil().max(1.0) - 1.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rank")]
    sorted.get(rank as usize).copied().unwrap_or(f64::NAN)
}

/// A waker that writes down when it was called, by the judge's clock. 0: it wasn't.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Stamp(AtomicU64);

impl Stamp {
    fn get(&self) -> Option<Duration> {
        // Ordering: the value is all there is.
        Some(self.0.load(Relaxed)).filter(|ns| *ns != 0).map(Duration::from_nanos)
    }
}

impl Wake for Stamp {
    fn wake(self: Arc<Self>) {
        // Ordering: as above.
        self.0.store(u64::try_from(now().as_nanos()).expect("centuries"), Relaxed);
    }
}
