//! The `deadbeat` command, run as a user would, with rounds small enough for a test.

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// Rounds of a few milliseconds.
const TINY: &[&str] = &["--tasks", "8", "--timeout", "1ms", "--rounds", "2", "--load", "idle"];

fn deadbeat(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_deadbeat"));
    command.args(args).current_dir(env!("CARGO_TARGET_TMPDIR"));
    command
}

/// Runs `precision` with [`TINY`], no plot unless `args` names one, and `args`.
fn precision(args: &[&str]) -> Output {
    let plot: &[&str] = if args.contains(&"--plot") { &[] } else { &["--plot", "none"] };
    let args = [&["precision"], TINY, plot, args].concat();
    let output = deadbeat(&args).output().expect("the command starts");
    assert!(output.status.success(), "{}", stderr(&output));
    output
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("it writes text")
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).expect("it writes text")
}

/// A file for one test, not there yet.
fn file(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_file(&path);
    path
}

#[test]
fn a_table_has_a_row_for_every_system() {
    let output = precision(&["--systems", "tokio,async-io,std-thread,floor"]);
    let text = stdout(&output);
    assert!(text.contains("8 tasks × 1ms staggered, 2 rounds"), "{text}");
    for column in ["n", "early", "mean", "p50", "p90", "p99", "p99.9", "max", "wake-ups", "cpu"] {
        assert!(text.contains(column), "no column {column} in\n{text}");
    }
    for system in ["tokio", "async-io", "std-thread", "kernel", "kernel+wake"] {
        let row = text
            .lines()
            .find(|line| line.split_whitespace().next() == Some(system))
            .unwrap_or_else(|| panic!("no row for {system} in\n{text}"));
        let cells: Vec<_> = row.split_whitespace().collect();
        assert_eq!(cells[1..3], ["16", "0"], "n and early of {system}");
    }
}

#[test]
fn json_holds_the_box_and_a_run_for_every_system_and_load() {
    let output = precision(&["--json", "--systems", "tokio,floor", "--load", "churn=1k"]);
    // Nothing but the one object.
    let json: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    for key in [
        "cpu",
        "cores",
        "kernel",
        "clocksource",
        "timer_slack_ns",
        "hypervisor",
        "governor",
        "idle_driver",
        "rustc",
        "deadbeat",
    ] {
        assert!(json["box"].get(key).is_some(), "no {key} in {}", json["box"]);
    }
    let runs = json["runs"].as_array().expect("runs are a list");
    let names: Vec<_> = runs
        .iter()
        .map(|run| (run["system"].as_str().expect("text"), run["load"].as_str().expect("text")))
        .collect();
    let [tokio, kernel, wake] = ["tokio", "kernel", "kernel+wake"];
    assert_eq!(
        names,
        [
            (tokio, "idle"),
            (kernel, "idle"),
            (wake, "idle"),
            (tokio, "churn=1000"),
            (kernel, "churn=1000"),
            (wake, "churn=1000")
        ]
    );
    for run in runs {
        assert_eq!((&run["n"], &run["early"]), (&16.into(), &0.into()), "{run}");
        let quantiles = ["p50_us", "p90_us", "p99_us", "p999_us", "max_us"]
            .map(|key| run[key].as_f64().unwrap_or_else(|| panic!("no number {key} in {run}")));
        assert!(quantiles.is_sorted() && quantiles[0] >= 0.0, "{run}");
        assert!(run["mean_us"].as_f64().is_some_and(|mean| mean <= quantiles[4]), "{run}");
        for key in ["wakeups", "cpu_ms"] {
            let known = run[key].is_number();
            assert!(known || !cfg!(target_os = "linux") && run[key].is_null(), "{key} in {run}");
        }
    }
}

#[test]
fn what_a_system_cost_is_null_where_it_cannot_be_known() {
    let output = precision(&["--json", "--systems", "std-thread,tokio", "--load", "tasks=1"]);
    let json: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    for run in json["runs"].as_array().expect("runs are a list") {
        let known = run["system"] == "tokio" && run["load"] == "idle" && cfg!(target_os = "linux");
        assert_eq!(run["wakeups"].is_number(), known, "{run}");
    }
}

#[test]
fn every_load_phase_and_runtime_runs() {
    for runtime in ["multi", "current"] {
        let output = precision(&[
            "--systems=tokio,async-io,std-thread,floor",
            "--json",
            "--phase=together",
            "--runtime",
            runtime,
            "--load=cpu=1",
            "--load=tasks=2",
            "--load=churn=20k",
        ]);
        let json: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
        let runs = json["runs"].as_array().expect("runs are a list");
        assert_eq!(runs.len(), 4 * 5);
        assert!(runs.iter().all(|run| run["n"] == 16 && run["early"] == 0), "{runs:?}");
    }
}

#[test]
fn csv_has_a_line_for_every_sample() {
    let path = file("every-sample.csv");
    precision(&["--systems", "kernel+wake,tokio", "--csv", path.to_str().expect("text")]);
    let text = fs::read_to_string(&path).expect("it was written");
    let mut lines = text.lines();
    assert_eq!(lines.next(), Some("system,load,round,deadline_us,lateness_ns"));
    let mut counts = [0; 4];
    for line in lines {
        let [system, load, round, deadline_us, lateness_ns] =
            line.split(',').collect::<Vec<_>>().try_into().expect("five fields");
        assert_eq!(load, "idle");
        deadline_us.parse::<u64>().expect("a number");
        assert!(lateness_ns.parse::<i64>().expect("a number") >= 0, "{line}");
        let round: usize = round.parse().expect("a number");
        counts[round * 2 + usize::from(system == "tokio")] += 1;
    }
    assert_eq!(counts, [8; 4], "8 samples in each of 2 rounds of 2 systems");
}

#[test]
fn the_same_seed_gives_the_same_deadlines() {
    let deadlines = |seed: &str, name: &str| {
        let path = file(name);
        precision(&["--systems=kernel", "--seed", seed, "--csv", path.to_str().expect("text")]);
        let text = fs::read_to_string(&path).expect("it was written");
        let all: Vec<i64> = text
            .lines()
            .skip(1)
            .take(8)
            .map(|line| line.split(',').nth(3).expect("a field").parse().expect("a number"))
            .collect();
        // From the first task's on: rounds start when they start. Cutting to whole µs moves each
        // by less than one.
        all.iter().map(|deadline_us| deadline_us - all[0]).collect::<Vec<_>>()
    };
    let [first, again, other] =
        [("5", "first.csv"), ("5", "again.csv"), ("6", "other.csv")].map(|(s, n)| deadlines(s, n));
    let close = |a: &[i64], b: &[i64]| a.iter().zip(b).all(|(a, b)| a.abs_diff(*b) <= 1);
    assert!(close(&first, &again), "{first:?} and {again:?}");
    assert!(!close(&first, &other), "{first:?} and {other:?}");
}

#[test]
fn an_svg_plot_is_well_formed_and_labelled() {
    let path = file("plot.svg");
    let output = precision(&["--systems=tokio,floor", "--plot", path.to_str().expect("text")]);
    assert!(stderr(&output).contains("plot.svg"), "it says where the plot is");
    let text = fs::read_to_string(&path).expect("it was written");
    let svg = roxmltree::Document::parse(&text).expect("it is XML");
    let texts: Vec<_> =
        svg.descendants().filter(|n| n.is_text()).filter_map(|n| n.text()).map(str::trim).collect();
    for label in ["Task lateness", "lateness, µs", "deadline, s since the start", "50 %", "90 %"] {
        assert!(texts.contains(&label), "no {label} among {texts:?}");
    }
    for system in ["tokio", "kernel", "kernel+wake"] {
        assert!(texts.contains(&system), "no {system} in the legend");
    }
}

#[test]
fn a_png_plot_has_text_and_the_colours_of_the_systems() {
    let path = file("plot.png");
    precision(&["--systems=tokio,kernel+wake", "--plot", path.to_str().expect("text")]);
    let file = std::io::BufReader::new(fs::File::open(&path).expect("it was written"));
    let mut png = png::Decoder::new(file).read_info().expect("it is a PNG");
    let mut pixels = vec![0; png.output_buffer_size()];
    let frame = png.next_frame(&mut pixels).expect("it is whole");
    assert_eq!((frame.color_type, frame.bit_depth), (png::ColorType::Rgb, png::BitDepth::Eight));
    let of_color = |rgb: [u8; 3]| pixels.as_chunks::<3>().0.iter().filter(|&&p| p == rgb).count();
    for color in [[0, 114, 178], [0, 158, 115]] {
        assert!(of_color(color) > 100, "{color:?} is missing");
    }
    // The heading is above both charts, black on white and nothing else.
    let row_bytes = frame.line_size;
    let heading = &pixels[..row_bytes * 40];
    assert!(heading.iter().filter(|&&byte| byte < 64).count() > 100, "the heading has no text");
}

#[test]
fn the_default_plot_is_said_and_written() {
    let path = file("deadbeat-precision.svg");
    let output = deadbeat(&[&["precision", "--systems=kernel"], TINY].concat())
        .output()
        .expect("the command starts");
    assert!(output.status.success());
    assert_eq!(stderr(&output), "plot: deadbeat-precision.svg\n");
    assert!(path.exists());
}

/// A wrong value is refused with status 2; the message names the flag, the value, what is allowed.
#[track_caller]
fn refused(args: &[&str], flag: &str, value: &str, allowed: &str) {
    let output = deadbeat(args).output().expect("the command starts");
    let message = stderr(&output);
    assert_eq!(output.status.code(), Some(2), "{message}");
    assert!(output.stdout.is_empty());
    for part in [flag, &format!("'{value}'"), allowed] {
        assert!(message.contains(part), "no {part} in: {message}");
    }
}

#[test]
fn wrong_values_are_refused_with_what_is_allowed() {
    for (flag, value, allowed) in [
        ("--systems", "tokyo", "tokio"),
        ("--systems", "", "floor"),
        ("--tasks", "0", "1 to 100000"),
        ("--tasks", "many", "1 to 100000"),
        ("--timeout", "50", "1us to 1h"),
        ("--timeout", "2h", "1us to 1h"),
        ("--rounds", "0", "1 to 1000000"),
        ("--phase", "random", "staggered, together"),
        ("--runtime", "single", "multi, current"),
        ("--load", "heavy", "idle, cpu=N"),
        ("--load", "cpu=0", "1 to 1024"),
        ("--slack", "2s", "0s to 1s"),
        ("--seed", "-", "0 to"),
        ("--plot", "chart.pdf", ".svg or .png"),
        ("--plot", "no/such/directory/a.svg", "directory that exists"),
        ("--csv", "no/such/directory/a.csv", "can be written"),
    ] {
        refused(&["precision", &format!("{flag}={value}")], flag, value, allowed);
    }
    for (flag, value, allowed) in [
        ("--systems", "-tokio", "tokio"),
        ("--tasks", "-5", "1 to 100000"),
        ("--timeout", "-5ms", "1us to 1h"),
        ("--rounds", "-1", "1 to 1000000"),
        ("--phase", "-random", "staggered, together"),
        ("--runtime", "-1", "multi, current"),
        ("--load", "-1", "idle, cpu=N"),
        ("--slack", "-1ms", "0s to 1s"),
        ("--seed", "-1", "0 to"),
        ("--plot", "-1", ".svg or .png"),
        // The value is missing.
        ("--tasks", "--json", "1 to 100000"),
    ] {
        refused(&["precision", flag, value], flag, value, allowed);
    }
    refused(&["clock", "--watch", "--interval", "-1s"], "--interval", "-1s", "10ms to 1day");
    let interval = ["clock", "--watch", "--interval=1ms"];
    refused(&interval, "--interval", "1ms", "10ms to 1day");
    let rounds = ["precision", "--tasks=100000", "--rounds=1000000"];
    refused(&rounds, "--rounds", "1000000", "50000000");
}

#[test]
fn the_clock_is_shown_as_text_and_as_json() {
    let output = deadbeat(&["clock"]).output().expect("the command starts");
    assert!(output.status.success());
    let text = stdout(&output);
    assert!(text.starts_with("source  "), "{text}");
    let value = |name: &str| {
        text.lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))
            .unwrap_or_else(|| panic!("no {name} in\n{text}"))
            .trim_start()
    };
    assert!(value("offset").ends_with(" from CLOCK_MONOTONIC"), "{text}");
    assert!(value("real time").ends_with("s ahead of CLOCK_MONOTONIC"), "{text}");
    for part in ["constant rate", "processors", "bracket", "rates"] {
        let verdict = value(part).split(':').next().expect("there is a first");
        assert!(["passed", "failed", "not done"].contains(&verdict), "{part} in\n{text}");
    }
    assert!(!value("jumps").is_empty(), "{text}");
    // The rate has an error where it has a bound.
    assert_eq!(text.contains("\nrate change "), text.contains("\nrate   "), "{text}");

    let output = deadbeat(&["clock", "--json"]).output().expect("the command starts");
    let json: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    let source = &json["source"];
    let is_counter = source["source"] == "counter";
    assert!(is_counter || source["source"] == "os", "{json}");
    assert!(is_counter == source["reason"].is_null(), "{json}");
    assert!(json["error_bound_ns"].is_u64() && json["booted_unix_ns"].is_u64(), "{json}");
    assert_eq!(json["rate_change_ppm"].is_f64(), is_counter, "{json}");
    assert!(json["jumps"]["total"].is_u64() && json["jumps"]["kinds"].is_array(), "{json}");
    if is_counter {
        assert_eq!(json["self_test"]["verdicts"]["rates"], "passed", "{json}");
    }
}

#[test]
fn the_clock_says_why_it_is_not_the_counter() {
    let output = deadbeat(&["clock", "--json"])
        .env("DEADBEAT_CLOCK", "os")
        .output()
        .expect("the command starts");
    let json: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!(json["source"]["source"], "os", "{json}");
    assert_eq!(json["source"]["reason"], "asked for", "{json}");
    assert_eq!(json["self_test"]["verdicts"]["rates"], "not done", "{json}");
    assert!(json["rate_change_ppm"].is_null(), "{json}");
}

#[cfg(unix)]
mod interrupted {
    use super::*;
    use std::io::{BufRead, BufReader, Read};
    use std::process::Child;

    fn start(args: &[&str]) -> Child {
        deadbeat(args)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the command starts")
    }

    /// Sends SIGINT, as Ctrl-C does, and waits for the end.
    fn interrupt(child: Child) -> Output {
        let sent = Command::new("kill")
            .args(["-INT", &child.id().to_string()])
            .status()
            .expect("every Unix has kill");
        assert!(sent.success());
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
        output
    }

    /// Waits until the file has a line for a sample.
    fn wait_for_samples(path: &Path) {
        while fs::read_to_string(path).map_or(0, |text| text.lines().count()) < 2 {
            std::thread::yield_now();
        }
    }

    #[test]
    fn between_rounds_it_reports_the_rounds_that_were() {
        let (csv, plot) = (file("interrupted.csv"), file("interrupted.svg"));
        let child = start(&[
            "precision",
            "--systems=kernel",
            "--tasks=4",
            "--timeout=1ms",
            "--rounds=100000",
            "--load=idle",
            "--json",
            "--csv",
            csv.to_str().expect("text"),
            "--plot",
            plot.to_str().expect("text"),
        ]);
        wait_for_samples(&csv);
        let output = interrupt(child);
        let json: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
        let n = json["runs"][0]["n"].as_u64().expect("a number");
        assert!(n > 0 && n.is_multiple_of(4) && n < 400_000, "{n} samples");
        let lines = fs::read_to_string(&csv).expect("it was written").lines().count();
        assert_eq!(lines as u64, n + 1, "the file has the same samples");
        assert!(plot.exists());
    }

    #[test]
    fn within_a_round_it_does_not_wait_for_the_rest() {
        let csv = file("within.csv");
        // The heading is written when the handler is in place, the round an hour long.
        let child = start(&[
            "precision",
            "--systems=tokio,kernel+wake",
            "--timeout=1h",
            "--plot=none",
            "--csv",
            csv.to_str().expect("text"),
            "--load=idle",
        ]);
        while fs::read(&csv).map_or(0, |bytes| bytes.len()) == 0 {
            std::thread::yield_now();
        }
        let text = stdout(&interrupt(child));
        assert_eq!(text.matches("no round was finished").count(), 2, "{text}");
    }

    #[test]
    fn a_watched_clock_ends() {
        let mut child = start(&["clock", "--watch", "--interval=10ms", "--json"]);
        let mut out = BufReader::new(child.stdout.take().expect("it is piped"));
        let mut line = String::new();
        for _ in 0..2 {
            line.clear();
            out.read_line(&mut line).expect("it goes on");
            serde_json::from_str::<Value>(&line).expect("each line is JSON");
        }
        interrupt(child);
        out.read_to_string(&mut line).expect("it ends");
    }
}
