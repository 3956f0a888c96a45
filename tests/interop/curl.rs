//! curl, which sends the headers that it is told to.

use std::future::pending;
use std::process::Output;

use axum::extract::Request as AxumRequest;
use axum::routing::get;
use axum::{Router, extract::State};
use deadbeat::deadline::Deadline;
use deadbeat::propagation::codec::Header;
use deadbeat::propagation::http::{RequestDeadline, ServerLayer};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::peer::tool;
use super::within;

struct Gone(UnboundedSender<()>);

impl Drop for Gone {
    fn drop(&mut self) {
        // Nobody listens any more, once the test is over.
        let _ = self.0.send(());
    }
}

/// An axum server with the layer: its URL, and whenever a handler of `/never` is dropped.
async fn serve() -> (String, UnboundedReceiver<()>) {
    let (tell, told) = unbounded_channel();
    let app = Router::new()
        .route("/left", get(async |it: Deadline| it.remaining().as_secs().to_string()))
        .route("/wish", get(async |it: AxumRequest| format!("{:?}", it.preferred_wait())))
        .route("/never", get(never))
        .with_state(tell)
        .layer(ServerLayer::new().honour(Header::Prefer));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(axum_serve(listener, app));
    (at, told)
}

async fn never(State(tell): State<UnboundedSender<()>>) -> String {
    let _gone = Gone(tell);
    pending().await
}

/// Both versions of HTTP, by hyper.
async fn axum_serve(listener: TcpListener, app: Router) {
    use hyper_util::rt::{TokioExecutor, TokioIo};
    use hyper_util::server::conn::auto::Builder;
    use hyper_util::service::TowerToHyperService;
    while let Ok((io, _)) = listener.accept().await {
        let service = TowerToHyperService::new(app.clone());
        tokio::spawn(async move {
            let builder = Builder::new(TokioExecutor::new());
            builder.serve_connection(TokioIo::new(io), service).await.map_err(|it| it.to_string())
        });
    }
}

/// Head and body of the answer, and what curl ends with; `None` without curl.
async fn curl(version: &str, arguments: &[&str]) -> Option<Output> {
    let mut command = tool("curl")?;
    command.args(["--silent", "--include", "--noproxy", "*", "--max-time", "20", version]);
    Some(within(command.args(arguments).output()).await.unwrap())
}

const VERSIONS: [&str; 2] = ["--http1.1", "--http2-prior-knowledge"];

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).replace('\r', "").to_lowercase()
}

#[tokio::test]
async fn curl_has_a_504_that_says_why() {
    let (at, mut told) = serve().await;
    for version in VERSIONS {
        let url = format!("{at}/never");
        let arguments = ["--header", "connect-timeout-ms: 50", url.as_str()];
        let Some(answer) = curl(version, &arguments).await else {
            return;
        };
        let answer = text(&answer);
        assert!(answer.lines().next().unwrap().contains(" 504"), "{answer}");
        assert!(answer.contains("\nx-deadline-exceeded: header\n"), "{answer}");
        assert!(answer.contains("set by header `connect-timeout-ms`"), "{answer}");
        within(told.recv()).await.unwrap();
    }
}

#[tokio::test]
async fn curl_says_what_it_would_wait_and_how_long_it_does() {
    let (at, _told) = serve().await;
    for version in VERSIONS {
        let (wish, left) = (format!("{at}/wish"), format!("{at}/left"));
        let Some(answer) = curl(version, &["--header", "Prefer: wait=7", &wish]).await else {
            return;
        };
        // It is no deadline.
        assert!(text(&answer).ends_with("\n\nsome(7s)"), "{}", text(&answer));
        let header = "Connect-Timeout-Ms: 3599999";
        let answer = curl(version, &["--header", header, &left]).await.unwrap();
        let told = text(&answer);
        let told: u64 = told.rsplit('\n').next().unwrap().parse().unwrap();
        assert!(told < 3600, "{told}");
    }
}

#[tokio::test]
async fn a_curl_that_gives_up_drops_our_handler() {
    let (at, mut told) = serve().await;
    for version in VERSIONS {
        let url = format!("{at}/never");
        let Some(answer) = curl(version, &["--max-time", "1", url.as_str()]).await else {
            return;
        };
        // 28: it took too long.
        assert_eq!(answer.status.code(), Some(28));
        within(told.recv()).await.unwrap();
    }
}
