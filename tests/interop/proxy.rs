//! nginx between us and the others.

use std::path::PathBuf;

use ::tonic::{Code, Request};
use deadbeat::propagation::grpc::{ClientLayer, ServerLayer};
use serde_json::json;
use tokio::net::TcpStream;
use tokio::process::Child;
use tower::Layer;

use crate::matrix::{Facts, Table};
use crate::peer::{Kind, Peer, free_port, installed, tool};
use crate::resets::outcome_of;
use crate::service::{self, Method, connect, outcome, serve};
use crate::{MS, within};

/// One that runs. Dropping it ends it.
struct Nginx {
    _child: Child,
    at: String,
    prefix: PathBuf,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // What can't be removed stays in target.
        let _ = std::fs::remove_dir_all(&self.prefix);
    }
}

impl Nginx {
    /// `None` if it isn't there.
    async fn start(upstream: &str, more: &str) -> Option<Self> {
        let mut command = tool("nginx")?;
        let at = format!("127.0.0.1:{}", free_port());
        let prefix = installed().join(format!("nginx-{}", at.replace(':', "-")));
        std::fs::create_dir_all(&prefix).expect("a directory");
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|name| format!("{name}_temp_path {name};"))
            .collect();
        let configuration = format!(
            "daemon off; master_process off; pid nginx.pid; error_log stderr crit; events {{}}
             http {{
                 access_log off; {temporary}
                 server {{
                     listen {at} http2;
                     location / {{ grpc_pass grpc://{upstream}; {more} }}
                 }}
             }}"
        );
        std::fs::write(prefix.join("nginx.conf"), configuration).expect("a file");
        let child = command
            .arg("-p")
            .arg(&prefix)
            .args(["-c", "nginx.conf", "-e", "stderr"])
            .spawn()
            .expect("it starts");
        within(async {
            while TcpStream::connect(&at).await.is_err() {
                tokio::time::sleep(MS * 10).await;
            }
        })
        .await;
        Some(Self { _child: child, at, prefix })
    }
}

#[tokio::test]
async fn the_header_passes_and_so_does_our_expiry() {
    let Some(mut peer) = Peer::start(Kind::Http2) else { return };
    let upstream = peer.serve(json!({})).await;
    let Some(nginx) = Nginx::start(&upstream, "").await else { return };
    // As it is, whatever time has passed.
    let mut request = Request::new(());
    request.metadata_mut().insert("grpc-timeout", "987654u".parse().unwrap());
    let calling = tokio::spawn(service::call(connect(&nginx.at).await, Method::Never, request));
    let begun = peer.event("begun").await;
    assert_eq!(begun["timeouts"]["grpc-timeout"], "987654u");
    calling.abort();
    peer.event("over").await;
    let channel = ClientLayer::new().timeout(MS * 1000).layer(connect(&nginx.at).await);
    let (_, result) = within(service::call(channel, Method::Never, Request::new(()))).await;
    assert_eq!(outcome(&result), service::name(Code::DeadlineExceeded), "{result:?}");
    let over = peer.event("over").await;
    let mut facts = Facts::of("nginx_expiry");
    facts.add(Table::Resets, "gets our deadline through nginx", "before", "`grpc-timeout` as sent");
    let after = format!("{}; the server: RST_STREAM {}", outcome(&result), over["rst"]);
    facts.add(Table::Resets, "gets our deadline through nginx", "after", after);
    facts.settle();
}

#[tokio::test]
async fn what_nginx_makes_of_an_upstream_is_our_deadline_once_that_has_passed() {
    let Some(mut peer) = Peer::start(Kind::Http2) else { return };
    let mut facts = Facts::of("nginx");
    let version = match tool("nginx") {
        Some(mut nginx) => nginx.arg("-v").output().await.expect("it runs").stderr,
        None => return,
    };
    let version = String::from_utf8_lossy(&version).trim().replace("nginx version: ", "");
    facts.add(Table::Versions, "nginx", "version", version);
    let head = json!({ "headers": {}, "message": true });
    let reset = json!({ "after_ms": 100, "reset": 8 });
    for (row, method, plan, more) in [
        ("resets with CANCEL, behind nginx (502)", Method::Never, json!([reset]), ""),
        ("resets a stream of answers, behind nginx", Method::Stream, json!([head, reset]), ""),
        ("is too slow for nginx (504)", Method::Never, json!([]), "grpc_read_timeout 300ms;"),
        (
            "is too slow for nginx in a stream of answers",
            Method::Stream,
            json!([head]),
            "grpc_read_timeout 300ms;",
        ),
    ] {
        let steps = plan.as_array().expect("steps").len();
        let upstream = peer.serve(json!({ "plan": plan })).await;
        let Some(nginx) = Nginx::start(&upstream, more).await else { return };
        let early = outcome_of(&mut peer, &nginx.at, method, steps, false).await;
        let code = early.as_ref().expect_err("no clean end").code();
        assert_ne!(code, Code::DeadlineExceeded, "{row}: {early:?}");
        // Of this call, and not of the next.
        peer.event("begun").await;
        for _ in 0..steps {
            peer.event("done").await;
        }
        let late = outcome_of(&mut peer, &nginx.at, method, steps, true).await;
        assert_eq!(outcome(&late), service::name(Code::DeadlineExceeded), "{row}: {late:?}");
        facts.add(Table::Resets, row, "before", outcome(&early));
        facts.add(Table::Resets, row, "after", outcome(&late));
    }
    facts.settle();
}

#[tokio::test]
async fn a_client_behind_nginx_drops_our_handler() {
    for kind in [Kind::GrpcJs, Kind::Grpcio] {
        let Some(peer) = Peer::start(kind) else { return };
        let mut ours = serve(ServerLayer::new()).await;
        let Some(nginx) = Nginx::start(&ours.at, "").await else { return };
        for method in [Method::Never, Method::Stream] {
            let answer = peer.ask(json!({
                "do": "call", "to": nginx.at, "method": method.name(), "timeout_ms": 1000,
            }));
            let answer = answer.await;
            assert_eq!(answer["code"], Code::DeadlineExceeded as i32, "{kind:?}: {answer}");
            assert_eq!(ours.over().await, "dropped");
        }
    }
}
