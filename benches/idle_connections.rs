//! What a server's connection costs that does nothing: bytes of resident memory each, at ten thousand.
//!
//! ```text
//! cargo bench --features grpc,serve --bench idle_connections
//! ```
//!
//! Each system serves in a process of its own. The client is made of bytes: the preface of HTTP/2 and settings, and
//! then nothing. `first` is after as many connections were made for the first time, `again` after all were closed and
//! made once more. What the kernel keeps of a socket isn't in it.

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use deadbeat::serve::Server;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use support::is_test;
use tonic::service::Routes;

const SERVES: &str = "DEADBEAT_BENCH_SERVES";
const SYSTEMS: [&str; 2] = ["tonic", "deadbeat"];

/// Of HTTP/2, and settings of which there are none.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

fn main() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).expect("more files");
    if let Ok(system) = std::env::var(SERVES) {
        return serve(&system);
    }
    let wanted = if is_test() { 100 } else { 10_000 };
    let most = limit.maximum.map_or(wanted, |most| usize::try_from(most).unwrap_or(wanted));
    let count = wanted.min(most.saturating_sub(100));
    println!("{count} connections; bytes of resident memory each");
    println!("{:<12}{:>10}{:>10}", "system", "first", "again");
    for system in SYSTEMS {
        let process = Process::start(system);
        // Whatever is allocated once.
        drop(process.connect(count / 10));
        let before = process.resident();
        let first = process.connect(count);
        let of_first = process.resident();
        drop(first);
        std::thread::park_timeout(Duration::from_secs(1));
        let again = process.connect(count);
        let of_again = process.resident();
        drop(again);
        let each = |resident: usize| resident.saturating_sub(before) / count;
        println!("{system:<12}{:>10}{:>10}", each(of_first), each(of_again));
    }
}

fn serve(system: &str) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    println!("{}", listener.local_addr().expect("it is bound"));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        if system == "tonic" {
            listener.set_nonblocking(true).expect("a socket");
            let listener = tokio::net::TcpListener::from_std(listener).expect("a socket");
            let incoming = tonic::transport::server::TcpIncoming::from(listener);
            let mut server = tonic::transport::Server::builder();
            let server = server.add_routes(Routes::default());
            server.serve_with_incoming(incoming).await.expect("it serves");
        } else {
            Server::grpc(Routes::default()).listen(listener).run().await.expect("it serves");
        }
    });
}

struct Process {
    child: Child,
    address: String,
}

impl Process {
    fn start(system: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("it has a path"))
            .env(SERVES, system)
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut address = String::new();
        let mut lines = BufReader::new(child.stdout.take().expect("it is piped"));
        lines.read_line(&mut address).expect("it says where");
        Self { child, address: address.trim().into() }
    }

    /// Connections that have been answered.
    fn connect(&self, count: usize) -> Vec<TcpStream> {
        let connect = |_| {
            let mut io = TcpStream::connect(&self.address).expect("it listens");
            io.write_all(PREFACE).expect("it is connected");
            // The head of its settings, and then what there is.
            io.read_exact(&mut [0; 9]).expect("it answers");
            io
        };
        (0..count).map(connect).collect()
    }

    fn resident(&self) -> usize {
        // For what is still on its way.
        std::thread::park_timeout(Duration::from_millis(500));
        let path = format!("/proc/{}/status", self.child.id());
        let status = std::fs::read_to_string(path).expect("it runs on Linux");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it is told");
        let kib: usize = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kib * 1024
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("it ends");
    }
}
