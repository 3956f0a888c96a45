//! The other programs, each a process that is told what to do by lines of JSON.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::oneshot;

use crate::{common, within};

/// Which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Grpcio,
    GrpcJs,
    GrpcGo,
    Connect,
    Http2,
    Frames,
    /// HTTP by Node, of both versions.
    Http,
    HttpClient,
}

/// Those that speak gRPC.
pub(crate) const GRPC: [Kind; 4] = [Kind::Grpcio, Kind::GrpcJs, Kind::GrpcGo, Kind::Connect];

impl Kind {
    /// As a column of the matrix.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Grpcio => "grpcio",
            Self::GrpcJs => "grpc-js",
            Self::GrpcGo => "grpc-go",
            Self::Connect => "connect-es",
            Self::Http2 => "Node's http2",
            Self::Frames => "Python's h2",
            Self::Http => "Node's http",
            Self::HttpClient => "Python's http.client",
        }
    }

    /// What runs, and the script that it runs.
    fn program(self) -> (PathBuf, Option<&'static str>) {
        match self {
            Self::Grpcio => (installed().join("venv/bin/python"), Some("grpcio.py")),
            Self::Frames => (installed().join("venv/bin/python"), Some("frames.py")),
            Self::HttpClient => (installed().join("venv/bin/python"), Some("http_client.py")),
            Self::GrpcGo => (installed().join("grpc_go"), None),
            Self::GrpcJs => ("node".into(), Some("grpc_js.cjs")),
            Self::Connect => ("node".into(), Some("connect.cjs")),
            Self::Http2 => ("node".into(), Some("http2.cjs")),
            Self::Http => ("node".into(), Some("http.cjs")),
        }
    }

    /// What has to be there.
    fn needs(self) -> PathBuf {
        match self {
            Self::Grpcio | Self::Frames | Self::HttpClient | Self::GrpcGo => self.program().0,
            Self::GrpcJs => installed().join("node_modules/@grpc/grpc-js"),
            Self::Connect => installed().join("node_modules/@connectrpc/connect-node"),
            Self::Http2 | Self::Http => which("node"),
        }
    }
}

/// Where `tests/interop/install` puts things.
pub(crate) fn installed() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("target/interop")
}

/// Where a program is; one that is nowhere isn't where this says.
fn which(program: &str) -> PathBuf {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).map(|path| path.join(program)).find(|it| it.exists());
    found.unwrap_or_else(|| program.into())
}

/// Whether `path` is there. Says that its test is skipped if not.
///
/// # Panics
///
/// If all should be there.
fn is_there(name: &str, path: &Path) -> bool {
    if !path.exists() {
        assert!(!installed().join("complete").exists(), "no {name}, though all was installed");
        common::skip(&format!("no {name}: see tests/interop/install"));
        return false;
    }
    true
}

/// A program of Debian's; `None` if it isn't there.
pub(crate) fn tool(name: &str) -> Option<Command> {
    let path = which(name);
    is_there(name, &path).then(|| {
        let mut command = Command::new(path);
        command.kill_on_drop(true);
        command
    })
}

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Value>>>>;

/// One that runs. Dropping it ends it.
pub(crate) struct Peer {
    _child: Child,
    commands: UnboundedSender<Value>,
    waiting: Waiting,
    next: Mutex<u64>,
    events: UnboundedReceiver<Value>,
}

impl Peer {
    /// `None` if it isn't installed.
    pub(crate) fn start(kind: Kind) -> Option<Self> {
        if !is_there(kind.name(), &kind.needs()) {
            return None;
        }
        let (program, script) = kind.program();
        let peers = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/interop/peers");
        let mut child = Command::new(program)
            .args(script.map(|script| peers.join(script)))
            .env("NODE_PATH", installed().join("node_modules"))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("it starts");
        let mut stdin = child.stdin.take().expect("it is piped");
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
        let (commands, mut to_send) = unbounded_channel::<Value>();
        let (tell, events) = unbounded_channel();
        let waiting = Waiting::default();
        tokio::spawn(async move {
            while let Some(command) = to_send.recv().await {
                stdin.write_all(format!("{command}\n").as_bytes()).await.expect("it listens");
            }
        });
        let answers = waiting.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let line: Value = serde_json::from_str(&line).expect("a line of JSON");
                let id = line["id"].as_u64();
                let waits = id.and_then(|id| answers.lock().unwrap().remove(&id));
                // Nobody listens any more, once the test is over.
                let _ = match waits {
                    Some(waits) => waits.send(line).map_err(drop),
                    None => tell.send(line).map_err(drop),
                };
            }
        });
        Some(Self { _child: child, commands, waiting, next: Mutex::new(0), events })
    }

    /// Has it do something. Returns its answer, which comes also if nobody waits for it.
    #[track_caller]
    pub(crate) fn ask(&self, mut command: Value) -> impl Future<Output = Value> + use<> {
        let mut next = self.next.lock().unwrap();
        *next += 1;
        command["id"] = json!(*next);
        let (tell, told) = oneshot::channel();
        self.waiting.lock().unwrap().insert(*next, tell);
        self.commands.send(command).expect("it runs");
        let told = within(told);
        async move { told.await.expect("it runs") }
    }

    /// Has it serve. Returns where.
    pub(crate) async fn serve(&self, command: Value) -> String {
        let mut command = command;
        command["do"] = json!("serve");
        let answer = self.ask(command).await;
        format!("127.0.0.1:{}", answer["port"].as_u64().unwrap_or_else(|| panic!("{answer}")))
    }

    /// Its version, in its own words.
    pub(crate) async fn version(&self) -> String {
        let answer = self.ask(json!({ "do": "version" })).await;
        answer["version"].as_str().expect("a version").into()
    }

    /// The next event of that name.
    pub(crate) async fn event(&mut self, name: &str) -> Value {
        within(async {
            loop {
                let event = self.events.recv().await.expect("it runs");
                if event["event"] == name {
                    return event;
                }
            }
        })
        .await
    }

    /// The same, if it comes soon.
    pub(crate) async fn event_soon(&mut self, name: &str) -> Option<Value> {
        tokio::time::timeout(crate::MS * 300, self.event(name)).await.ok()
    }
}

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("loopback has ports");
    listener.local_addr().expect("it is bound").port()
}
