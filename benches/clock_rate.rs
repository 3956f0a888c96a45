//! How wrong the clock's rate is shortly after start-up, in fresh processes.
//!
//! Runs itself again and again; each child calibrates as a program would, waits for its baseline,
//! and prints the rates in Hz that `deadbeat` and `quanta` have come to. Truth is a bracketed
//! baseline over the whole run. Brackets are this file's own, not the crate's, so that the crate
//! isn't measured by itself.
//!
//! `cargo bench --bench clock_rate [-- PROCESSES]`, 100 for each baseline unless told.

#![allow(missing_docs, unsafe_code, clippy::disallowed_methods, reason = "measures by other means")]
#![allow(clippy::cast_precision_loss, reason = "far beyond what is measured")]

fn main() {
    #[cfg(all(target_arch = "x86_64", target_os = "linux"))]
    rates::main();
    #[cfg(not(all(target_arch = "x86_64", target_os = "linux")))]
    println!("measures the TSC against CLOCK_MONOTONIC: x86-64 Linux only");
}

#[cfg(all(target_arch = "x86_64", target_os = "linux"))]
mod rates {
    use std::{
        env,
        process::Command,
        time::{Duration, Instant},
    };

    use deadbeat::clock::Clock;

    pub(super) fn main() {
        let mut args = env::args().skip(1);
        if let Some(baseline) =
            env::var("DEADBEAT_RATE_BASELINE_MS").ok().and_then(|ms| ms.parse().ok())
        {
            return child(Duration::from_millis(baseline));
        }
        let processes: usize = args.find_map(|arg| arg.parse().ok()).unwrap_or(100);
        // At least ten seconds, or the truth is no better than what it judges.
        let from = bracket();
        let started = Instant::now();
        let mut results = Vec::new();
        for baseline_ms in [5, 100] {
            let (mut ours, mut quantas) = (Vec::new(), Vec::new());
            for _ in 0..processes {
                let (our, quanta) = run_child(baseline_ms);
                ours.push(our);
                quantas.push(quanta);
            }
            results.push((baseline_ms, ours, quantas));
        }
        while started.elapsed() < Duration::from_secs(10) {
            std::thread::sleep(Duration::from_millis(100));
        }
        let truth = hertz(from, bracket());
        println!("truth {truth:.1} Hz over {:?}\n", started.elapsed());
        println!("{:<24}{:>8}{:>12}{:>12}{:>12}", "rate error, ppm", "n", "median", "p90", "max");
        for (baseline_ms, ours, quantas) in results {
            row(&format!("deadbeat {baseline_ms} ms"), &ours, truth);
            row(&format!("quanta (at {baseline_ms} ms)"), &quantas, truth);
        }
    }

    fn row(name: &str, rates: &[f64], truth: f64) {
        let mut ppm: Vec<f64> = rates.iter().map(|hz| ((hz / truth - 1.0) * 1e6).abs()).collect();
        ppm.sort_by(f64::total_cmp);
        let at = |percent: usize| ppm[(ppm.len() - 1) * percent / 100];
        println!("{name:<24}{:>8}{:>12.4}{:>12.4}{:>12.4}", ppm.len(), at(50), at(90), at(100));
    }

    fn run_child(baseline_ms: u64) -> (f64, f64) {
        let output = Command::new(env::current_exe().expect("own path"))
            .env("DEADBEAT_RATE_BASELINE_MS", baseline_ms.to_string())
            .output()
            .expect("own program runs");
        let text = String::from_utf8_lossy(&output.stdout);
        let mut rates = text.split_whitespace().map(|hz| hz.parse().expect("a rate"));
        (rates.next().expect("ours"), rates.next().expect("quanta's"))
    }

    fn child(baseline: Duration) {
        let quanta = quanta::Clock::new();
        let clock = Clock::system();
        let started = Instant::now();
        clock.calibrate();
        // What a program does meanwhile: it reads the time now and then.
        while started.elapsed() < baseline {
            std::thread::sleep(Duration::from_millis(5));
            clock.report();
        }
        let ours = clock.report().counter_hz.expect("the counter is in use");
        // quanta tells its rate by what it makes of many ticks.
        const TICKS: u64 = 1 << 52;
        let quantas =
            TICKS as f64 / (quanta.delta_as_nanos(1 << 60, (1 << 60) + TICKS) as f64 / 1e9);
        println!("{ours} {quantas}");
    }

    /// The narrowest of many: the counter, and CLOCK_MONOTONIC.
    fn bracket() -> (u64, u64) {
        let mut best = (u64::MAX, 0, 0);
        for _ in 0..1000 {
            let before = tsc();
            let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
            // SAFETY: `time` is a valid place for one `timespec`.
            unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
            let after = tsc();
            let ns = time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned();
            best = best.min((after - before, before + (after - before) / 2, ns));
        }
        (best.1, best.2)
    }

    fn hertz(from: (u64, u64), to: (u64, u64)) -> f64 {
        (to.0 - from.0) as f64 / ((to.1 - from.1) as f64 / 1e9)
    }

    fn tsc() -> u64 {
        // SAFETY: both are part of x86-64, and touch no memory.
        unsafe {
            core::arch::x86_64::_mm_lfence();
            core::arch::x86_64::_rdtsc()
        }
    }
}
