//! The clients, each of which makes calls one after the other, on one connection as long as it may.

use std::process::Stdio;

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use super::service::At;
use crate::peer::{Kind, Peer, tool};
use crate::within;

/// What is sent besides the head.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sends {
    Nothing,
    /// The beginning of an upload that then idles.
    Half,
    /// An upload without an end, as fast as it is taken.
    All,
}

/// What is called.
#[derive(Clone, Debug)]
pub(super) struct Call {
    path: &'static str,
    ms: Option<u32>,
    sends: Sends,
    reads: bool,
}

impl Call {
    pub(super) fn to(path: &'static str) -> Self {
        Self { path, ms: None, sends: Sends::Nothing, reads: true }
    }

    /// With `connect-timeout-ms`.
    pub(super) fn within(self, ms: u32) -> Self {
        Self { ms: Some(ms), ..self }
    }

    pub(super) fn sends(self, sends: Sends) -> Self {
        Self { sends, ..self }
    }

    /// Reads nothing of the answer's body until it is told to.
    pub(super) fn reads_later(self) -> Self {
        Self { reads: false, ..self }
    }

    fn json(&self) -> Value {
        let sends = match self.sends {
            Sends::Nothing => "nothing",
            Sends::Half => "half",
            Sends::All => "all",
        };
        let mut headers = json!({});
        if let Some(ms) = self.ms {
            headers["connect-timeout-ms"] = json!(ms.to_string());
        }
        json!({ "path": self.path, "headers": headers, "sends": sends, "reads": self.reads })
    }
}

/// What has become of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Seen {
    /// 0 without a head.
    pub(super) status: u64,
    /// `x-deadline-exceeded`.
    pub(super) why: Option<String>,
    /// How much of the body.
    pub(super) data: u64,
    /// Whether that was all of it, as the client sees it.
    pub(super) ended: bool,
    /// In the client's words.
    pub(super) error: Option<String>,
}

impl Seen {
    fn of(said: &Value) -> Self {
        let mut error = said["error"].as_str().map(str::to_owned);
        if let (Some(text), Some(rst @ 1..)) = (&mut error, said["rst"].as_u64())
            && !text.contains("RST")
        {
            *text = format!("{text}, RST_STREAM {rst}");
        }
        Self {
            status: said["status"].as_u64().unwrap_or(0),
            why: said["why"].as_str().map(str::to_owned),
            data: said["data"].as_u64().unwrap_or_else(|| panic!("{said}")),
            ended: said["ended"].as_bool().unwrap_or_else(|| panic!("{said}")),
            error,
        }
    }
}

/// Which.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Client {
    Curl10,
    Curl1,
    Node1,
    Python1,
    Curl2,
    Node2,
    Python2,
}

impl Client {
    pub(super) const ALL: [Self; 7] = [
        Self::Curl10,
        Self::Curl1,
        Self::Node1,
        Self::Python1,
        Self::Curl2,
        Self::Node2,
        Self::Python2,
    ];

    /// As a column of the matrix.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Curl10 => "curl, HTTP/1.0",
            Self::Curl1 => "curl, HTTP/1.1",
            Self::Node1 => Kind::Http.name(),
            Self::Python1 => Kind::HttpClient.name(),
            Self::Curl2 => "curl, HTTP/2, TLS",
            Self::Node2 => Kind::Http2.name(),
            Self::Python2 => Kind::Frames.name(),
        }
    }

    /// Whether a connection outlives its first call.
    pub(super) fn keeps_alive(self) -> bool {
        self != Self::Curl10
    }

    /// It can't say how long an upload is, nor that it doesn't know.
    pub(super) fn uploads(self) -> bool {
        self != Self::Curl10
    }

    pub(super) fn is_http2(self) -> bool {
        matches!(self, Self::Curl2 | Self::Node2 | Self::Python2)
    }

    /// Makes them all. What doesn't read does once `read` is ready, which is also when calls are over that are
    /// to end. `None` if the client isn't installed.
    pub(super) async fn calls(
        self,
        at: &At,
        calls: &[Call],
        read: impl Future<Output = ()>,
    ) -> Option<Vec<Seen>> {
        let plain = || format!("http://{}", at.plain);
        let (kind, version) = match self {
            Self::Curl10 => return curl("--http1.0", &plain(), calls, read).await,
            Self::Curl1 => return curl("--http1.1", &plain(), calls, read).await,
            // Without TLS, curl 7.88 makes no second call on a connection, to no server.
            Self::Curl2 => {
                return curl("--http2", &format!("https://{}", at.tls), calls, read).await;
            }
            Self::Node1 => (Kind::Http, 1),
            Self::Node2 => (Kind::Http, 2),
            Self::Python1 => (Kind::HttpClient, 1),
            Self::Python2 => (Kind::Frames, 2),
        };
        let peer = Peer::start(kind)?;
        let texts: Vec<_> = calls.iter().map(Call::json).collect();
        let command = json!({ "do": "calls", "to": at.plain, "version": version, "calls": texts });
        let said = peer.ask(command);
        read.await;
        peer.ask(json!({ "do": "read" })).await;
        let said = said.await;
        let seen = said["seen"].as_array().unwrap_or_else(|| panic!("{said}"));
        Some(seen.iter().map(Seen::of).collect())
    }
}

/// What it tells of each call: all but the body.
const TOLD: &str =
    "%{stderr}\ntold %{exitcode} %{http_code} %{size_download} %header{x-deadline-exceeded}\n";

async fn curl(
    version: &str,
    url: &str,
    calls: &[Call],
    read: impl Future<Output = ()>,
) -> Option<Vec<Seen>> {
    let mut command = tool("curl")?;
    for (n, call) in calls.iter().enumerate() {
        if n > 0 {
            command.arg("--next");
        }
        command.args(["--silent", "--noproxy", "*", "--insecure", version]);
        command.args(["--write-out", TOLD]);
        // Nobody reads its output until it is told to, and so it reads nothing when that is full.
        command.args(["--output", if call.reads { "/dev/null" } else { "-" }]);
        if let Some(ms) = call.ms {
            command.args(["--header", &format!("connect-timeout-ms: {ms}")]);
        }
        match call.sends {
            Sends::Nothing => drop(command.args(["--max-time", "20"])),
            // Without a time of its own it reads also while there is nothing to send.
            Sends::Half => drop(command.args(["--upload-file", "."])),
            Sends::All => drop(command.args(["--upload-file", "/dev/zero"])),
        }
        command.arg(format!("{url}{}", call.path));
    }
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("it is piped");
    // It may not take any.
    let _ = stdin.write_all(b"half").await;
    read.await;
    // Over HTTP/2, curl 7.88 doesn't go on before it can send.
    let stdin = (version != "--http2").then_some(stdin);
    let output = within(child.wait_with_output()).await.expect("it ends");
    drop(stdin);
    let told = String::from_utf8_lossy(&output.stderr);
    let seen: Vec<_> =
        told.lines().filter_map(|line| line.strip_prefix("told ")).map(seen_by_curl).collect();
    assert_eq!(seen.len(), calls.len(), "{told}");
    Some(seen)
}

fn seen_by_curl(line: &str) -> Seen {
    let mut words = line.split(' ');
    let mut number = || words.next().and_then(|it| it.parse::<u64>().ok());
    let (Some(code), Some(status), Some(data)) = (number(), number(), number()) else {
        panic!("{line}")
    };
    let why = words.next().filter(|it| !it.is_empty()).map(str::to_owned);
    let error = (code != 0).then(|| format!("exit code {code}"));
    Seen { status, why, data, ended: code == 0, error }
}
