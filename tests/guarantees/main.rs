//! What `docs/guarantees.md` says, cell by cell: a file or directory for each kind of layer, for our own channel and
//! server, and for what is beside them.

mod channel;
mod finish;
mod http_client;
mod http_server;
#[path = "../common/numbers.rs"]
mod numbers;
mod rpc;
mod serve;
#[path = "../serve/server.rs"]
#[allow(dead_code, reason = "the tests here use a part of it")]
mod server;
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

/// What is between backticks and has the form of a test's path.
fn tests_named(text: &str) -> Vec<&str> {
    let quoted = text.split('`').skip(1).step_by(2);
    let is_path = |it: &&str| {
        let (file, name) = it.rsplit_once("::").unwrap_or(("", ""));
        let module = file.split("::").next().unwrap_or_default();
        let is_file =
            file.contains(['_', '/']) || ["blame", "channel", "finish", "serve"].contains(&module);
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

/// Whether there is such a test, and where its path says: `serve/http2::name` in `tests/serve/http2.rs`;
/// `serve::answers::name` here, in `serve/answers.rs`; and `blame::loopback::name` in `tests/blame.rs`, where
/// modules may be within the file.
fn exists(test: &str) -> bool {
    let tests = root().join("tests");
    let (module, name) = test.rsplit_once("::").unwrap_or_default();
    let (krate, _) = module.split_once("::").unwrap_or((module, ""));
    let files = if module.contains('/') {
        vec![tests.join(module)]
    } else {
        vec![tests.join("guarantees").join(module.replace("::", "/")), tests.join(krate)]
    };
    files.iter().any(|file| tests_in(&file.with_extension("rs")).contains(name))
}

#[test]
fn a_test_is_looked_for_where_its_path_says() {
    let name = "a_body_that_is_cut_is_reset_with_what_nobody_takes_for_an_end";
    assert!(exists(&format!("serve/http2::{name}")));
    for elsewhere in ["serve/http1", "serve::http2", "serve", "http2", "channel::ends"] {
        assert!(!exists(&format!("{elsewhere}::{name}")), "{elsewhere}");
    }
    assert!(!exists("channel::the_connection_survives"));
    assert!(exists("channel::connections::the_connection_survives"));
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
    assert!(cells > 160, "only {cells}");
}

/// The files below a directory, with the modules that they are.
fn modules(directory: &Path, within: &str) -> Vec<(String, PathBuf)> {
    let mut all = vec![];
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        if path.is_dir() {
            all.extend(modules(&path, &format!("{within}{name}::")));
        } else if name == "mod" {
            all.push((within.to_owned(), path));
        } else {
            all.push((format!("{within}{name}::"), path));
        }
    }
    all
}

#[test]
fn the_page_names_every_test_of_this_directory() {
    let page = page();
    let named: BTreeSet<_> = tests_named(&page).into_iter().collect();
    let modules = modules(&root().join("tests/guarantees"), "");
    assert!(modules.iter().any(|(module, _)| module == "channel::bursts::"), "{modules:?}");
    for (module, file) in modules.iter().filter(|(module, _)| module != "main::") {
        for test in tests_in(file) {
            let test = format!("{module}{test}");
            assert!(named.contains(test.as_str()), "in no cell: {test}");
        }
    }
}
