//! `deadbeat overload`, run as a user would: what is counted, not how fast the machine is.

use serde_json::Value;
use std::process::{Command, Output};

fn overload(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_deadbeat"));
    command.arg("overload").args(args).output().expect("the command starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("it writes text")
}

#[test]
fn every_system_is_run_at_every_load() {
    let args = ["--duration=400ms", "--slots=4", "--loads=0.5,3", "--json"];
    let output = overload(&args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let all: Value = serde_json::from_slice(&output.stdout).expect("it writes JSON");
    let runs = all["runs"].as_array().expect("a list");
    let names: Vec<_> = runs.iter().map(|run| run["system"].as_str().expect("a name")).collect();
    assert_eq!(
        names,
        [
            "tonic",
            "tonic",
            "tonic-limit",
            "tonic-limit",
            "deadbeat",
            "deadbeat",
            "deadbeat-newest",
            "deadbeat-newest"
        ]
    );
    let number = |run: &Value, name: &str| run[name].as_f64().unwrap_or_else(|| panic!("{run}"));
    for run in runs {
        assert_eq!(number(run, "capacity"), 200.0);
        assert!([100.0, 600.0].contains(&number(run, "offered")), "{run}");
        for name in ["goodput", "wasted", "p50_ms", "p99_ms"] {
            assert!(number(run, name) >= 0.0, "{run}");
        }
        // Only a limiter rejects.
        let rejected = number(run, "rejected_expired") + number(run, "rejected_doomed");
        let is_ours = run["system"].as_str().is_some_and(|it| it.starts_with("deadbeat"));
        assert_eq!(rejected > 0.0, is_ours && number(run, "offered") > 200.0, "{run}");
    }
}

#[test]
fn the_table_has_a_row_for_each() {
    let args = ["--duration=100ms", "--systems=deadbeat", "--loads=1,2"];
    let output = overload(&args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let table = text(&output.stdout);
    assert_eq!(table.lines().filter(|line| line.starts_with("deadbeat ")).count(), 2, "{table}");
}

#[test]
fn wrong_values_are_refused_with_what_is_allowed() {
    for (arg, allowed) in [
        ("--loads=0", "0.1 to 10"),
        ("--slots=0", "1"),
        ("--service=1h", "1ms"),
        ("--systems=nginx", "tonic-limit"),
    ] {
        let output = overload(&[arg]);
        assert_eq!(output.status.code(), Some(2), "{arg}");
        let said = text(&output.stderr);
        assert!(said.contains(allowed), "{said}");
    }
}
