//! `deadbeat demo`, run as a user would: who was told what, and who worked on; not how fast the machine is.

use serde_json::Value;
use std::process::{Command, Output};

const HOPS: [&str; 4] = ["client", "gateway", "orders", "stock"];
const WAYS: [&str; 4] = ["handler", "task", "thread", "dead-link"];

fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_deadbeat"));
    command.arg("demo").args(args).env("LC_ALL", "C.UTF-8");
    command
}

fn demo(args: &[&str]) -> Output {
    command(args).output().expect("the command starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("it writes text")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("it is a list")
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("no number: {value}"))
}

fn hop<'a>(call: &'a Value, name: &str) -> &'a Value {
    let hops = list(&call["hops"]);
    hops.iter().find(|hop| hop["hop"] == name).unwrap_or_else(|| panic!("no {name} in {call}"))
}

fn call<'a>(calls: &'a [Value], scene: &str, side: &str) -> &'a Value {
    let is_it = |call: &&Value| call["scene"] == scene && call["side"] == side;
    calls.iter().find(is_it).unwrap_or_else(|| panic!("no {scene} of {side}"))
}

/// What the call with a deadline that travels has to be like, whatever comes of it.
fn travels(call: &Value) {
    let hops = list(&call["hops"]);
    let names: Vec<_> = hops.iter().map(|hop| &hop["hop"]).collect();
    assert_eq!(names, HOPS, "{call}");
    for pair in hops.windows(2) {
        assert!(number(&pair[0]["arrived_us"]) <= number(&pair[1]["arrived_us"]), "{call}");
        assert!(number(&pair[0]["remaining_us"]) > number(&pair[1]["remaining_us"]), "{call}");
    }
}

/// That the chain has come back, as far as it had the time to: on a machine that is busy elsewhere, a hop may
/// give up before it has heard what the next one has to tell.
fn blames(call: &Value) {
    let told = call["caller"]["text"].as_str().expect("text");
    let blame = list(&call["caller"]["blame"]);
    assert!(!blame.is_empty(), "{call}");
    let number = |of: &Value, name: &str| of[name].as_f64().unwrap_or_else(|| panic!("{of}"));
    for (waiting, pair) in blame.iter().zip(HOPS.windows(2)) {
        assert_eq!(waiting["who"], pair[0], "{call}");
        assert!(waiting["on"] == pair[1], "{call}");
        assert!(told.contains(&format!("no answer from {} for ", pair[1])), "{told}");
    }
    for pair in blame.windows(2) {
        assert!(number(&pair[0], "budget_ms") > number(&pair[1], "budget_ms"), "{call}");
        assert!(number(&pair[0], "waited_ms") >= number(&pair[1], "waited_ms"), "{call}");
    }
    if let Some(last) = blame.get(3) {
        assert_eq!((&last["who"], &last["on"]), (&"stock".into(), &Value::Null), "{call}");
        assert!(told.contains("; stock: wait took "), "{told}");
    }
}

/// That those are turned away who can't be in time, and that they are told so before those are served who can.
fn sheds(overload: &Value) {
    let of = |name: &str| number(&overload[name]);
    assert_eq!(of("calls"), of("in_time") + of("rejected") + of("too_late"), "{overload}");
    assert!(of("in_time") > 0 && of("rejected") > 0, "{overload}");
    assert!(of("told_p50_us") < of("in_time_p50_us"), "{overload}");
    assert!(overload["text"].as_str().expect("text").starts_with("rejected: "), "{overload}");
}

#[test]
fn json_tells_who_knew_of_the_deadline_and_who_worked_on() {
    let output = demo(&["--json", "--budget=800ms"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    // Nothing but the one object.
    let json: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
    assert_eq!((number(&json["budget_us"]), number(&json["items"])), (800_000, 60));
    let calls = list(&json["calls"]);
    let scenes: Vec<_> = calls.iter().map(|call| call["scene"].as_str().expect("text")).collect();
    assert_eq!(scenes, [&["in-time", "slow"][..], &WAYS, &WAYS].concat());

    let in_time = call(calls, "in-time", "deadbeat");
    travels(in_time);
    assert_eq!(in_time["caller"]["status"], 200, "{in_time}");
    assert_eq!((&in_time["work"]["items"], &in_time["work"]["end"]), (&60.into(), &"done".into()));

    let slow = call(calls, "slow", "deadbeat");
    travels(slow);
    assert!(slow["caller"]["deadline_exceeded"] == true, "{slow}");
    assert_eq!(hop(slow, "orders")["heard"]["code"], "DEADLINE_EXCEEDED", "{slow}");
    assert!(list(&in_time["caller"]["blame"]).is_empty(), "{in_time}");
    blames(slow);
    assert_eq!(hop(slow, "stock")["end"], "stopped", "{slow}");

    sheds(&json["overload"]);

    for way in WAYS {
        let [ours, tonics] = ["deadbeat", "tonic"].map(|side| call(calls, way, side));
        travels(ours);
        assert!(ours["caller"]["deadline_exceeded"] == true, "{ours}");
        assert!(tonics["caller"]["deadline_exceeded"] == false, "{tonics}");
        for service in &HOPS[1..] {
            assert!(hop(tonics, service)["remaining_us"].is_null(), "{tonics}");
        }
        assert_eq!(ours["work"]["end"], "stopped", "{ours}");
        // The one that it was at; where the machine was busy elsewhere, that may be one more.
        let [ours_after, tonics_after] =
            [ours, tonics].map(|it| number(&it["work"]["items_after"]));
        assert!(ours_after <= 2, "{way}: {ours}");
        match way {
            "handler" => assert_eq!(tonics["work"]["end"], "stopped", "{tonics}"),
            "dead-link" => {
                let [ours_us, tonics_us] =
                    [ours, tonics].map(|it| number(&hop(it, "stock")["ran_on_us"]));
                assert!(tonics_us > ours_us, "{ours}\n{tonics}");
            }
            _ => {
                assert_eq!(tonics["work"]["end"], "done", "{tonics}");
                assert!(tonics_after > 10, "{way}: {tonics}");
            }
        }
    }
}

#[test]
fn the_story_has_bars_that_shrink_the_blame_and_both_sides() {
    let output = demo(&["--budget=300ms"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let text = text(&output.stdout);
    let bars: Vec<_> = text.lines().filter(|line| line.contains('█')).skip(1).collect();
    assert_eq!(bars.len(), 8, "two calls of four hops each\n{text}");
    for bars in bars.chunks(4) {
        let starts: Vec<_> = bars
            .iter()
            .zip(HOPS)
            .map(|(line, hop)| {
                let bar = line.trim_start().strip_prefix(hop).expect("hops are in order");
                assert!(bar.contains(" has ") && bar.contains(" took "), "{line}");
                line.chars().take_while(|it| !"█░".contains(*it)).count()
            })
            .collect();
        assert!(starts.is_sorted(), "{text}");
        let widths: Vec<_> =
            bars.iter().map(|line| line.chars().filter(|it| "█░".contains(*it)).count()).collect();
        assert!(widths.iter().rev().is_sorted() && widths[0] == 50, "{text}");
    }
    for part in [
        "1. In time",
        "2. `stock` turns slow",
        "3. The same slow `stock`",
        "client, of its call to gateway: 504 Gateway Timeout",
        "no answer from gateway for ",
        "4. More calls than `stock` can do",
        " served in time, ",
        "rejected: half of them were told within ",
        "Items done for nobody: ",
        "in a task it spawns",
        "behind a link gone dead",
        "What is different between the two",
    ] {
        assert!(text.contains(part), "no {part} in\n{text}");
    }
    assert!(!text.contains('\u{1b}'), "escapes, and it is no terminal\n{text}");
}

#[test]
fn wrong_values_are_refused_with_what_is_allowed() {
    for args in [["--budget=1ms"], ["--budget=11s"], ["--budget=-1s"], ["--budget=soon"]] {
        let output = demo(&args);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(output.stdout.is_empty());
        let value = args[0].split_once('=').expect("it has one").1;
        for part in ["--budget", &format!("'{value}'"), "100ms to 10s"] {
            assert!(message.contains(part), "no {part} in: {message}");
        }
    }
}

#[cfg(target_os = "linux")]
mod ended {
    use super::*;
    use std::fs;
    use std::path::Path;
    use std::process::{Child, Stdio};

    fn start(args: &[&str]) -> Child {
        let mut command = command(args);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the command starts")
    }

    /// The services, once all of them are there: then also the handler of Ctrl-C is in place.
    fn services(child: &mut Child) -> Vec<String> {
        let path = format!("/proc/{0}/task/{0}/children", child.id());
        loop {
            let children = fs::read_to_string(&path).expect("the command runs");
            let children: Vec<_> = children.split_whitespace().map(str::to_owned).collect();
            if children.len() == 3 {
                return children;
            }
            assert!(child.try_wait().expect("it is ours").is_none(), "it ended");
            std::thread::yield_now();
        }
    }

    fn signal(child: &Child, name: &str) {
        let sent = Command::new("kill").args([name, &child.id().to_string()]).status();
        assert!(sent.expect("every Unix has kill").success());
    }

    #[test]
    fn interrupted_it_reports_the_calls_that_were() {
        let mut child = start(&["--json", "--budget=10s"]);
        services(&mut child);
        signal(&child, "-INT");
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(output.status.code(), Some(130), "{}", text(&output.stderr));
        let json: Value = serde_json::from_slice(&output.stdout).expect("it is JSON");
        assert!(list(&json["calls"]).len() < 10, "{json}");
    }

    #[test]
    fn no_service_outlives_the_command() {
        let mut child = start(&["--budget=10s"]);
        let services = services(&mut child);
        signal(&child, "-KILL");
        child.wait().expect("it ends");
        // Whoever takes them over may be slow to bury them.
        let is_gone = |pid: &String| {
            let stat = fs::read_to_string(Path::new("/proc").join(pid).join("stat"));
            stat.map_or(true, |stat| stat.contains(") Z "))
        };
        for _ in 0..1_000 {
            if services.iter().all(is_gone) {
                return;
            }
            let nap = Command::new("sleep").arg("0.01").status();
            assert!(nap.expect("every Unix has sleep").success());
        }
        panic!("{services:?} go on");
    }
}
