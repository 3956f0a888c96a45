//! What `docs/guarantees.md` says, cell by cell: a file for each kind of layer, and one for what is beside
//! them.

mod channel;
mod finish;
mod http_client;
mod http_server;
#[path = "../common/numbers.rs"]
mod numbers;
mod rpc;
mod tonic_calls;
mod tonic_client;
mod tonic_server;
mod tonic_timeouts;
mod wire;

use std::collections::BTreeSet;
use std::future::Future;
use std::path::{Path, PathBuf};

use deadbeat::time::Duration;

/// Bounds a wait for something that is to come from a real socket or thread.
async fn within<F: Future>(future: F) -> F::Output {
    deadbeat::time::timeout(Duration::from_secs(20), future).await.expect("waited too long")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_path_buf()
}

fn page() -> String {
    std::fs::read_to_string(root().join("docs/guarantees.md")).expect("there is a page")
}

/// What is between backticks and has the form of a test's path: `file::name`, or `directory/file::name`.
fn tests_named(text: &str) -> Vec<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    let is_path = |it: &&str| {
        let (file, name) = it.rsplit_once("::").unwrap_or(("", ""));
        let module = file.split("::").next().unwrap_or_default();
        let is_file = file.contains(['_', '/']) || ["blame", "channel", "finish"].contains(&module);
        name.contains('_') && is_file && it.chars().all(|c| !c.is_uppercase())
    };
    quoted.filter(is_path).collect()
}

/// The names of the tests in a file.
fn tests_in(file: &Path) -> BTreeSet<String> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let is_test = |line: &str| line == "#[test]" || line.starts_with("#[tokio::test");
    lines
        .windows(2)
        .filter(|pair| is_test(pair[0]))
        .filter_map(|pair| {
            let (_, name) = pair[1].split_once("fn ")?;
            Some(name.split('(').next()?.to_owned())
        })
        .collect()
}

fn exists(test: &str) -> bool {
    let (module, name) = test.rsplit_once("::").unwrap_or_default();
    let file = module.split("::").next().unwrap_or_default().to_owned() + ".rs";
    let tests = root().join("tests");
    [tests.join("guarantees").join(&file), tests.join(&file)]
        .iter()
        .any(|file| tests_in(file).contains(name))
}

#[test]
fn every_test_that_the_page_names_exists() {
    let page = page();
    let named = tests_named(&page);
    assert!(named.len() > 100, "only {}", named.len());
    for test in named {
        assert!(exists(test), "no such test: {test}");
    }
}

#[test]
fn every_cell_says_yes_or_no_and_names_a_test() {
    let page = page();
    let mut cells = 0;
    let mut columns = None;
    for line in page.lines() {
        let Some(row) = line.strip_prefix("| ") else {
            columns = None;
            continue;
        };
        let row: Vec<_> = row.trim_end_matches('|').split(" | ").map(str::trim).collect();
        if row[0] == "promise" {
            columns = Some(row.len());
        } else if let Some(columns) = columns
            && !row[0].starts_with("---")
        {
            assert_eq!(row.len(), columns, "{line}");
            for cell in &row[1..] {
                let says =
                    ["**yes**", "**no**", "**partly**"].iter().any(|it| cell.starts_with(it));
                assert!(says && !tests_named(cell).is_empty(), "{}: {cell}", row[0]);
                cells += 1;
            }
        }
    }
    assert!(cells > 90, "only {cells}");
}

#[test]
fn the_page_names_every_test_of_this_directory() {
    let page = page();
    let named: BTreeSet<_> = tests_named(&page).into_iter().collect();
    for file in std::fs::read_dir(root().join("tests/guarantees")).unwrap() {
        let file = file.unwrap().path();
        let module = file.file_stem().unwrap().to_str().unwrap().to_owned();
        for test in tests_in(&file).iter().filter(|_| module != "main") {
            let test = format!("{module}::{test}");
            assert!(named.contains(test.as_str()), "in no cell: {test}");
        }
    }
}
