//! `deadbeat jumps`, run as a user would: what it reports, not how fast the machine is.

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

const SYSTEMS: [&str; 6] = ["deadbeat", "tokio", "delay-queue", "std-sleep", "std-park", "quanta"];

fn deadbeat(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_deadbeat"))
        .args(args)
        .current_dir(env!("CARGO_TARGET_TMPDIR"))
        .output()
        .expect("the command starts")
}

/// Runs `jumps --quick` with `args`.
fn jumps(args: &[&str]) -> Output {
    let output = deadbeat(&[&["jumps", "--quick"], args].concat());
    assert!(output.status.success(), "{}", text(&output.stderr));
    output
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("it writes text")
}

/// A file for one test, not there yet.
fn file(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_file(&path);
    path
}

/// The row of a fault that was injected; `None` if it can't be here, which the row then says.
fn row<'a>(json: &'a Value, fault: &str) -> Option<&'a Value> {
    let rows = json["faults"].as_array().expect("faults are a list");
    let row = rows.iter().find(|row| row["fault"] == fault).expect("the fault was asked for");
    if let Some(why) = row.get("skipped") {
        let why = why.as_str().expect("it is said why");
        assert!(!why.is_empty() && row["systems"] == Value::Array(Vec::new()), "{row}");
        eprintln!("skipped: {fault}: {why}");
        return None;
    }
    Some(row)
}

fn system<'a>(row: &'a Value, name: &str) -> &'a Value {
    let systems = row["systems"].as_array().expect("systems are a list");
    systems.iter().find(|system| system["system"] == name).expect("all systems are there")
}

#[test]
fn json_holds_every_fault_and_every_system_in_it() {
    let path = file("jumps.json");
    let output = jumps(&["--json", path.to_str().expect("text")]);
    let json: Value =
        serde_json::from_str(&fs::read_to_string(&path).expect("it was written")).expect("is JSON");
    let rows = json["faults"].as_array().expect("faults are a list");
    let names: Vec<_> = rows.iter().map(|row| row["fault"].as_str().expect("text")).collect();
    assert_eq!(names, ["monotonic-forward", "counter-back"]);
    for name in names {
        let Some(row) = row(&json, name) else { continue };
        assert!(row["injected"].is_string(), "{row}");
        let systems = row["systems"].as_array().expect("systems are a list");
        let names: Vec<_> = systems.iter().map(|system| &system["system"]).collect();
        assert_eq!(names, SYSTEMS);
        for system in systems {
            let keys: Vec<_> = system.as_object().expect("an object").keys().collect();
            let mut expected = [
                "system",
                "early",
                "worst_late_us",
                "frozen_us",
                "panicked",
                "burst",
                "wakeups",
                "class",
            ];
            expected.sort_unstable();
            assert_eq!(keys, expected, "{system}");
            let has_timers = system["system"] != "quanta";
            for key in ["early", "worst_late_us", "burst", "wakeups"] {
                assert_eq!(system[key].is_number(), has_timers, "{key} in {system}");
                assert_eq!(system[key].is_null(), !has_timers, "{key} in {system}");
            }
            assert!(system["frozen_us"].is_u64() && system["panicked"] == false, "{system}");
        }
        assert_eq!(system(row, "deadbeat")["early"], 0, "{row}");
    }

    // The tables have the same.
    let text = text(&output.stdout);
    assert!(text.contains("200 timers from 20ms to 300ms, fault at 100ms, 1 round"), "{text}");
    for column in ["early", "worst late", "frozen", "panicked", "burst", "wake-ups", "class"] {
        assert!(text.contains(column), "no column {column} in\n{text}");
    }
    for row in rows {
        let name = row["fault"].as_str().expect("text");
        let injected = row["injected"].as_str().expect("text");
        assert!(text.contains(&format!("\n{name}: {injected}\n")), "{text}");
        let first = |line: &&str| line.split_whitespace().next() == Some(name);
        assert!(text.lines().any(|line| first(&line)), "{name} isn't in the matrix\n{text}");
    }
    for row in rows.iter().filter(|row| row.get("skipped").is_none()) {
        let name = row["fault"].as_str().expect("text");
        let table = text.split(&format!("\n{name}: ")).nth(1).expect("there is a table");
        let named: Vec<_> = table.lines().skip(2).take(SYSTEMS.len()).collect();
        for (line, system) in named.iter().zip(SYSTEMS) {
            assert_eq!(line.split_whitespace().next(), Some(system), "{text}");
        }
    }
}

#[test]
fn each_class_is_named_and_no_timer_is_early_or_lost() {
    let faults = [
        ("monotonic-forward", "restore"),
        ("monotonic-back", "os-regression"),
        ("suspend", "suspend"),
        ("wall-back", "wall-step"),
        ("counter-back", "counter-back"),
    ];
    let names = faults.map(|(fault, _)| fault).join(",");
    let output = jumps(&["--fault", &names, "--json", "-"]);
    // Nothing but the one object.
    let json: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    let clock = deadbeat(&["clock", "--json"]);
    let clock: Value = serde_json::from_slice(&clock.stdout).expect("it is JSON");
    for (fault, class) in faults {
        let Some(row) = row(&json, fault) else { continue };
        for name in SYSTEMS.iter().filter(|name| **name != "quanta") {
            let system = system(row, name);
            assert_eq!(system["early"], 0, "{name} under {fault}: {system}");
            // More than the fault itself, and how busy the machine may be.
            let late_us = system["worst_late_us"].as_i64().expect("a number");
            assert!(late_us < 5_000_000, "{name} under {fault}: {system}");
        }
        // Without the counter there are fewer witnesses, and fewer classes.
        if clock["source"]["source"] == "counter" {
            let classes = system(row, "deadbeat")["class"].as_str().unwrap_or_default();
            assert!(classes.split(", ").any(|named| named == class), "{fault}: {classes}");
        }
    }
}

#[test]
fn the_plot_has_a_panel_for_each_fault_and_a_lane_for_each_system() {
    let path = file("jumps.svg");
    let plot = path.to_str().expect("text");
    let output = jumps(&["--fault=none,stall", "--plot", plot]);
    assert!(text(&output.stderr).contains("jumps.svg"), "it says where the plot is");
    let svg = fs::read_to_string(&path).expect("it was written");
    let svg = roxmltree::Document::parse(&svg).expect("it is XML");
    let texts: Vec<_> =
        svg.descendants().filter(|n| n.is_text()).filter_map(|n| n.text()).map(str::trim).collect();
    let count = |label: &str| texts.iter().filter(|text| **text == label).count();
    assert_eq!(count("Clock jumps"), 1);
    assert_eq!(count("none: nothing"), 1, "{texts:?}");
    let panels = 1 + count("stall: process stopped for 1 s");
    for lane in SYSTEMS.iter().filter(|name| **name != "quanta") {
        assert_eq!(count(lane), panels, "{lane} in {texts:?}");
    }
    assert_eq!(count("quanta"), 0, "it has no timers");
    let dots = svg.descendants().filter(|n| n.has_tag_name("circle")).count();
    assert_eq!(dots, panels * 5 * 200, "a dot for each fire");
}

#[test]
fn wrong_values_are_refused_with_what_is_allowed() {
    for (flag, value, allowed) in [
        ("--fault", "leap-second", "monotonic-forward"),
        ("--fault", "", "counter-back"),
        ("--rounds", "0", "1 to 1000"),
        ("--rounds", "-1", "1 to 1000"),
        ("--json", "no/such/directory/a.json", "can be written"),
        ("--plot", "chart.pdf", ".svg or .png"),
        ("--plot", "no/such/directory/a.svg", "directory that exists"),
    ] {
        let output = deadbeat(&["jumps", &format!("{flag}={value}")]);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(output.stdout.is_empty());
        for part in [flag, &format!("'{value}'"), allowed] {
            assert!(message.contains(part), "no {part} in: {message}");
        }
    }
}

#[cfg(unix)]
#[test]
fn interrupted_it_reports_the_runs_that_were() {
    use std::process::Stdio;
    let mut child = Command::new(env!("CARGO_BIN_EXE_deadbeat"))
        .args(["jumps", "--quick", "--fault=none", "--rounds=1000"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts");
    // It has a child of its own once the handler is in place.
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    while fs::read_to_string(&children).is_ok_and(|children| children.is_empty()) {
        assert!(child.try_wait().expect("it is ours").is_none(), "it ended");
        std::thread::yield_now();
    }
    let sent = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(sent.expect("every Unix has kill").success());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
    assert!(text(&output.stdout).contains("fault"), "{}", text(&output.stdout));
}
