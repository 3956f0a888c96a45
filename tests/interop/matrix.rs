//! `docs/interop.md`: what the tests have seen, as tables.
//!
//! Each test hands in its cells. They are kept in a file, of which [`is_written_anew`] makes the tables, and
//! have to agree with the page as it is, but for numbers and versions.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::peer;

/// Clients of plain HTTP.
const HTTP: [&str; 7] = [
    "curl, HTTP/1.0",
    "curl, HTTP/1.1",
    "Node's http",
    "Python's http.client",
    "curl, HTTP/2, TLS",
    "Node's http2",
    "Python's h2",
];

/// One table of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    Versions,
    /// What our client sends, and what servers make of it.
    Sent,
    /// What clients send, and what our server makes of it.
    Received,
    Malformed,
    OurDeadline,
    TheirDeadline,
    /// Of a server that resets, and so on.
    Resets,
    Tonic,
    Chain,
    /// The same as the four above, over Connect.
    ConnectSent,
    ConnectReceived,
    ConnectOurDeadline,
    ConnectTheirDeadline,
    /// What our channel does, and what peers see of it.
    Channel,
    /// The same at the level of frames.
    ChannelFrames,
    /// What our server does for the calls of peers.
    Serve,
    /// The same at the level of frames.
    ServeFrames,
    /// What it does for clients of plain HTTP.
    ServeHttp,
}

impl Table {
    const ALL: [Self; 18] = [
        Self::Versions,
        Self::Sent,
        Self::Received,
        Self::Malformed,
        Self::OurDeadline,
        Self::TheirDeadline,
        Self::Resets,
        Self::Tonic,
        Self::Chain,
        Self::ConnectSent,
        Self::ConnectReceived,
        Self::ConnectOurDeadline,
        Self::ConnectTheirDeadline,
        Self::Channel,
        Self::ChannelFrames,
        Self::Serve,
        Self::ServeFrames,
        Self::ServeHttp,
    ];

    /// As in the page's marks.
    fn name(self) -> String {
        format!("{self:?}")
    }

    /// The head of the first column, and of the others in order.
    fn columns(self) -> (&'static str, &'static [&'static str]) {
        match self {
            Self::Versions => ("program", &["version"]),
            Self::Sent => {
                ("we have", &["on the wire", "grpcio", "grpc-js", "grpc-go", "connect-es"])
            }
            Self::Received => ("timeout", &["grpcio", "grpc-js", "grpc-go", "connect-es"]),
            Self::Malformed => ("`grpc-timeout`", &["Ignore", "Reject", "Lenient"]),
            Self::OurDeadline | Self::TheirDeadline | Self::Channel | Self::Serve => {
                ("", &["grpcio", "grpc-js", "grpc-go", "connect-es", "Node's http2"])
            }
            Self::ChannelFrames => ("Python's h2", &["our call", "it sees"]),
            Self::ServeFrames => ("Python's h2", &["it sees", "our handler"]),
            Self::ServeHttp => ("", &HTTP),
            Self::Resets => ("the server", &["before", "after"]),
            Self::Tonic => ("", &["before the head", "in a stream of answers", "in an upload"]),
            Self::Chain => ("", &["grpc-js calls us", "we call grpcio"]),
            Self::ConnectSent => ("we have", &["HTTP/1.1", "HTTP/2"]),
            Self::ConnectReceived => ("timeout", &["HTTP/1.1", "HTTP/2"]),
            Self::ConnectOurDeadline | Self::ConnectTheirDeadline => ("", &["HTTP/1.1", "HTTP/2"]),
        }
    }
}

/// What one test has seen.
#[derive(Debug)]
pub(crate) struct Facts {
    test: &'static str,
    cells: Vec<(Table, String, String, String)>,
    /// Where those are that aren't compared.
    varying: Vec<(Table, String, String)>,
}

impl Facts {
    /// Of a test of this name.
    pub(crate) fn of(test: &'static str) -> Self {
        Self { test, cells: vec![], varying: vec![] }
    }

    /// The same as [`Self::add`], of what may be otherwise next time: it isn't compared.
    pub(crate) fn vary(&mut self, table: Table, row: &str, column: &str, text: impl Into<String>) {
        self.varying.push((table, row.into(), column.into()));
        self.add(table, row, column, text);
    }

    /// What was seen is `text`, in this place.
    pub(crate) fn add(&mut self, table: Table, row: &str, column: &str, text: impl Into<String>) {
        let text = text.into();
        println!("{table:?} | {row} | {column} | {text}");
        assert!(table.columns().1.contains(&column), "{table:?} has no column {column}");
        self.cells.push((table, row.into(), column.into(), text));
    }

    /// Keeps them, and compares them with the page. Says where they differ.
    ///
    /// # Panics
    ///
    /// If the page lacks one.
    pub(crate) fn settle(self) {
        let file = results().join(format!("{}.json", self.test));
        let cells: Vec<Value> = self
            .cells
            .iter()
            .map(|(table, row, column, text)| json!([table.name(), row, column, text]))
            .collect();
        std::fs::create_dir_all(results()).expect("a directory");
        std::fs::write(file, Value::from(cells).to_string()).expect("a file");
        if std::env::var_os("DEADBEAT_INTEROP_ANEW").is_some() {
            return;
        }
        let page = cells_of(&std::fs::read_to_string(page()).expect("docs/interop.md"));
        for (table, row, column, text) in self.cells {
            let place = (table, row.clone(), column.clone());
            if table == Table::Versions || self.varying.contains(&place) {
                continue;
            }
            let Some(on_page) = page.get(&(table.name(), row.clone(), column.clone())) else {
                panic!("docs/interop.md lacks {table:?}, {row}, {column}: tests/interop/remake");
            };
            if without_numbers(on_page) != without_numbers(&text) {
                // Peers may be of other versions, and many of their ends are races.
                println!("docs/interop.md, {table:?}, {row}, {column}: was {text}, is {on_page}");
            }
        }
    }
}

fn page() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/interop.md")
}

fn results() -> PathBuf {
    peer::installed().join("results")
}

fn without_numbers(text: &str) -> String {
    let mut short = String::new();
    for letter in text.chars() {
        match letter {
            '0'..='9' | '.' if short.ends_with('#') => {}
            '0'..='9' => short.push('#'),
            _ => short.push(letter),
        }
    }
    short
}

fn mark(table: Table) -> String {
    format!("<!-- {} -->\n", table.name())
}

const END: &str = "<!-- end -->";

/// The cells of a page by table, row and column.
fn cells_of(page: &str) -> BTreeMap<(String, String, String), String> {
    let mut cells = BTreeMap::new();
    for table in Table::ALL {
        let Some((_, rest)) = page.split_once(&mark(table)) else { continue };
        let (inside, _) = rest.split_once(END).expect("a table ends");
        let mut lines = inside.lines().map(|line| {
            line.trim_matches('|')
                .split(" | ")
                .map(|cell| cell.trim().to_owned())
                .collect::<Vec<_>>()
        });
        let head = lines.next().expect("a table has a head");
        for line in lines.skip(1).filter(|line| line.len() > 1) {
            for (column, text) in head.iter().zip(&line).skip(1) {
                cells.insert((table.name(), line[0].clone(), column.clone()), text.clone());
            }
        }
    }
    cells
}

/// Writes the tables of the page anew. By `tests/interop/remake`, after all the others.
#[test]
#[ignore = "it writes what the others have seen into docs/interop.md"]
fn is_written_anew() {
    let mut cells = vec![];
    let mut files: Vec<_> = std::fs::read_dir(results())
        .expect("the others have run")
        .map(|file| file.expect("a file").path())
        .collect();
    files.sort();
    for file in files {
        let text = std::fs::read_to_string(file).expect("a file");
        let more: Vec<[String; 4]> = serde_json::from_str(&text).expect("cells");
        cells.extend(more);
    }
    let mut text = std::fs::read_to_string(page()).expect("docs/interop.md");
    for table in Table::ALL {
        let (first, columns) = table.columns();
        let mut lines = vec![format!("| {first} | {} |", columns.join(" | "))];
        lines.push(format!("|{}", " --- |".repeat(columns.len() + 1)));
        let cells = || cells.iter().filter(|[name, ..]| *name == table.name());
        let mut rows: Vec<&str> = vec![];
        for [_, row, ..] in cells() {
            if !rows.contains(&row.as_str()) {
                rows.push(row);
            }
        }
        for row in rows {
            let found = |column: &&str| {
                let it = cells().find(|[_, of, at, _]| of == row && at == column);
                it.map_or("–", |[.., text]| text)
            };
            let texts: Vec<_> = columns.iter().map(found).collect();
            lines.push(format!("| {row} | {} |", texts.join(" | ")));
        }
        let mark = mark(table);
        let (before, rest) = text.split_once(&mark).expect("the page has all tables");
        let (_, after) = rest.split_once(END).expect("a table ends");
        text = format!("{before}{mark}{}\n{END}{after}", lines.join("\n"));
    }
    std::fs::write(page(), text).expect("docs/interop.md");
}

#[test]
fn a_page_is_read_as_it_is_written() {
    let page =
        "<!-- Sent -->\n| we have | grpcio |\n| --- | --- |\n| 1 s | `9u`, 1.5 ms |\n<!-- end -->";
    let cells = cells_of(page);
    let cell = &cells[&("Sent".into(), "1 s".into(), "grpcio".into())];
    assert_eq!(without_numbers(cell), "`#u`, # ms");
}
