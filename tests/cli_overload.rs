//! `deadbeat overload`, run as a user would: what is counted, not how fast the machine is.

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
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

/// A file that isn't there yet.
fn file(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_file(&path);
    path
}

#[test]
fn the_plot_has_a_line_for_each_system_and_a_point_for_each_load() {
    let path = file("overload.svg");
    let plot = path.to_str().expect("text");
    let args = ["--duration=100ms", "--systems=tonic,deadbeat", "--loads=2,0.5,1", "--plot", plot];
    let output = overload(&args);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(text(&output.stderr).contains("overload.svg"), "it says where the plot is");
    let svg = fs::read_to_string(&path).expect("it was written");
    let svg = roxmltree::Document::parse(&svg).expect("it is XML");
    let texts: Vec<_> =
        svg.descendants().filter(|n| n.is_text()).filter_map(|n| n.text()).map(str::trim).collect();
    for label in ["Overload", "tonic", "deadbeat", "100 %", "2.0x"] {
        assert!(texts.contains(&label), "no {label} among {texts:?}");
    }
    assert!(!texts.contains(&"tonic-limit"), "it was not run");
    let dots = svg.descendants().filter(|n| n.has_tag_name("circle")).count();
    assert_eq!(dots, 2 * 3);
}

#[test]
fn a_plot_may_be_a_png_as_well() {
    let path = file("overload.png");
    let plot = path.to_str().expect("text");
    let output =
        overload(&["--duration=100ms", "--systems=deadbeat", "--loads=1,2", "--plot", plot]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let file = std::io::BufReader::new(fs::File::open(&path).expect("it was written"));
    let mut png = png::Decoder::new(file).read_info().expect("it is a PNG");
    let mut pixels = vec![0; png.output_buffer_size()];
    png.next_frame(&mut pixels).expect("it is whole");
    let color = [213, 94, 0];
    let of_color = pixels.as_chunks::<3>().0.iter().filter(|&&pixel| pixel == color).count();
    assert!(of_color > 100, "its line is missing");
}

#[test]
fn wrong_values_are_refused_with_what_is_allowed() {
    for (arg, allowed) in [
        ("--loads=0", "0.1 to 10"),
        ("--slots=0", "1"),
        ("--service=1h", "1ms"),
        ("--systems=nginx", "tonic-limit"),
        ("--plot=chart.pdf", ".svg or .png"),
        ("--plot=no/such/directory/a.svg", "directory that exists"),
    ] {
        let output = overload(&[arg]);
        assert_eq!(output.status.code(), Some(2), "{arg}");
        let said = text(&output.stderr);
        assert!(said.contains(allowed), "{said}");
    }
}
