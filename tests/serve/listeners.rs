//! Several listeners, and what holds on each.

use deadbeat::deadline::Deadline;
use deadbeat::propagation::http::ServerLayer;
use deadbeat::serve::{Address, Listener, Peer as Who, Server};
use deadbeat::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::http1::response;
use crate::server::run;

/// Answers with how much time it has, in whole seconds, rounded.
fn telling() -> axum::Router {
    axum::Router::new().fallback(async |deadline: Deadline| {
        let left = deadline.remaining() + Duration::from_millis(500);
        left.as_secs().to_string()
    })
}

const ASK: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\nconnect-timeout-ms: 100000\r\n\r\n";

#[tokio::test]
async fn each_listener_has_trust_of_its_own() {
    let (outside, inside) =
        (Listener::bind("127.0.0.1:0").unwrap(), Listener::bind("127.0.0.1:0").unwrap());
    let server = Server::http(telling())
        .deadlines(ServerLayer::new().default_timeout(Duration::from_secs(20)))
        .listen(outside)
        .listen(inside.trusted(true));
    let addresses: Vec<_> = server.addresses().unwrap();
    let server = run(server);
    for (address, left) in addresses.iter().zip(["20", "100"]) {
        let mut io = TcpStream::connect(address.tcp().unwrap()).await.unwrap();
        io.write_all(ASK).await.unwrap();
        assert!(response(&mut io).await.ends_with(left), "{left}");
    }
    assert_eq!(server.stats.accepted(), 2);
}

#[tokio::test]
#[cfg(unix)]
async fn unix_sockets_are_listened_on_beside_tcp_bound_by_whom_ever() {
    let directory = std::env::temp_dir().join(format!("deadbeat-serve-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let paths = [directory.join("bound"), directory.join("std"), directory.join("tokio")];
    let server = Server::http(telling())
        .listen(tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap())
        .listen(Listener::bind_unix(&paths[0]).unwrap())
        .listen(std::os::unix::net::UnixListener::bind(&paths[1]).unwrap())
        .listen(tokio::net::UnixListener::bind(&paths[2]).unwrap());
    assert_eq!(server.addresses().unwrap()[1], Address::Unix(Some(paths[0].clone())));
    let server = run(server);
    for path in &paths {
        let mut io = tokio::net::UnixStream::connect(path).await.unwrap();
        io.write_all(ASK).await.unwrap();
        assert!(response(&mut io).await.ends_with("100"));
    }
    let mut io = TcpStream::connect(server.at()).await.unwrap();
    io.write_all(ASK).await.unwrap();
    assert!(response(&mut io).await.ends_with("100"));
    std::fs::remove_dir_all(directory).unwrap();
}

#[tokio::test]
async fn a_request_tells_who_made_it_if_it_is_to() {
    for tells in [false, true] {
        let app = axum::Router::new().fallback(async |request: axum::extract::Request| {
            let who = request.extensions().get::<Who>();
            who.map_or("nobody".into(), |who| {
                format!("{} {}", who.address.tcp().unwrap(), who.trusted)
            })
        });
        let listener = Listener::bind("127.0.0.1:0").unwrap().trusted(true);
        let server = run(Server::http(app).peers(tells).listen(listener));
        let mut io = TcpStream::connect(server.at()).await.unwrap();
        io.write_all(ASK).await.unwrap();
        let us = io.local_addr().unwrap();
        let expected = if tells { format!("{us} true") } else { "nobody".into() };
        assert!(response(&mut io).await.ends_with(&expected));
    }
}

#[tokio::test]
async fn a_server_needs_something_to_listen_on() {
    let error = Server::http(telling()).run().await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
}
