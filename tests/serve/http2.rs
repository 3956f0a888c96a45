//! What ends over HTTP/2 at its deadline, as frames.

use std::convert::Infallible;
use std::future::pending;

use axum::body::Body;
use deadbeat::clock::{Elapsed, Instant};
use deadbeat::deadline;
use deadbeat::propagation::RequestBody;
use deadbeat::propagation::grpc::{self, Grpc};
use deadbeat::propagation::http::{Http, ServerLayer};
use deadbeat::serve::{Incoming, Server};
use deadbeat::time::sleep;
use http::{HeaderMap, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};

use tower::limit::ConcurrencyLimitLayer;
use tower::{Layer, service_fn};

use crate::MS;
use crate::frames::{CANCEL, INTERNAL_ERROR, NO_ERROR, Peer, Seen};
use crate::server::{Drops, Guards, endless, start, stuck};

type Ours = Request<RequestBody<Incoming, Http>>;
type Calls = Request<RequestBody<Incoming, Grpc>>;

const OPEN: u32 = 65_535;

fn answering(
    body: impl Fn(&Guards) -> Body + Clone + Send + 'static,
    guards: Guards,
) -> impl Answering {
    service_fn(move |_: Ours| {
        let body = body(&guards);
        async move { Ok::<_, Infallible>(Response::new(body)) }
    })
}

trait Answering:
    tower::Service<Ours, Response = Response<Body>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + 'static
{
}

impl<S> Answering for S where
    S: tower::Service<Ours, Response = Response<Body>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + 'static
{
}

#[tokio::test]
async fn a_stream_whose_window_is_shut_is_reset_at_its_deadline() {
    // From the start; in the middle of a piece; in the middle of one that is larger than any window.
    for (window, piece) in [(0, 8 << 10), (10_000, 8 << 10), (50_000, 1 << 20)] {
        let mut drops = Drops::new();
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        let body = move |guards: &Guards| {
            // What the handler has started ends with it, and is told why.
            let work = deadbeat::spawn(pending::<()>());
            let tell = tell.clone();
            tokio::spawn(async move { tell.send(work.await.unwrap().unwrap_err().is_deadline()) });
            endless(piece, guards.one())
        };
        let service = answering(body, drops.guards());
        let layer = ServerLayer::new();
        let stats = layer.stats();
        let server = start(Server::http(service).deadlines(layer));
        let mut peer = Peer::connect(server.at(), window).await;
        let sent = Instant::<Elapsed>::now();
        let stream = peer.call(&[("connect-timeout-ms", "300")], true).await;
        assert_eq!(peer.next_on(stream).await, Seen::Headers(false));
        assert!(drops.is_none());
        let seen = peer.rest_of(stream).await;
        assert!(Instant::<Elapsed>::now() >= sent + 300 * MS, "early");
        let data: usize =
            seen.iter().map(|it| if let Seen::Data(n, _) = it { *n } else { 0 }).sum();
        assert_eq!(data, window as usize);
        assert_eq!(seen.last(), Some(&Seen::Reset(INTERNAL_ERROR)), "{window}");
        drops.one().await;
        assert_eq!((server.stats.cut_streams(), stats.expired_in_body()), (1, 1));
        assert_eq!(crate::within(told.recv()).await, Some(true));
        // The connection is as good as before.
        assert!(peer.is_alive().await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_larger_than_the_window_is_not_out_of_reach() {
    // All of it in one piece: were it handed over at once, nothing would be left to drop.
    let service = answering(|_| Body::from(vec![b'x'; 1 << 20]), Drops::new().guards());
    let server = start(Server::http(service));
    let mut peer = Peer::connect(server.at(), 1000).await;
    let stream = peer.call(&[("connect-timeout-ms", "300")], true).await;
    assert_eq!(peer.rest_of(stream).await.last(), Some(&Seen::Reset(INTERNAL_ERROR)));
    // To who reads it, it is whole.
    let mut client = Client::connect(server.at()).await;
    assert_eq!(client.get("/", 20_000).await.unwrap().len(), 1 << 20);
}

#[tokio::test]
async fn an_answer_of_which_the_window_takes_a_part_is_reset_at_its_deadline() {
    // The whole answer is there at once, to its trailers or its end: nothing of that may be out of reach.
    let service = service_fn(async |request: Calls| {
        let message = Frame::data(bytes::Bytes::from_static(b"\0\0\0\0\x02hi"));
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", "0".parse().unwrap());
        let mut frames = vec![Ok::<_, Infallible>(message)];
        if request.uri().path() == "/trailers" {
            frames.push(Ok(Frame::trailers(trailers)));
        }
        Ok::<_, Infallible>(Response::new(StreamBody::new(tokio_stream::iter(frames))))
    });
    let layer = grpc::ServerLayer::new();
    let stats = layer.stats();
    let server = start(Server::grpc(service).deadlines(layer));
    let mut peer = Peer::connect(server.at(), 3).await;
    for path in ["/trailers", "/none"] {
        let sent = Instant::<Elapsed>::now();
        let stream = peer.call(&[(":path", path), ("grpc-timeout", "300m")], true).await;
        let seen = peer.rest_of(stream).await;
        assert!(Instant::<Elapsed>::now() >= sent + 300 * MS, "early");
        assert_eq!(seen, [Seen::Headers(false), Seen::Data(3, false), Seen::Reset(CANCEL)]);
    }
    let service = answering(|_| Body::from("hello"), Drops::new().guards());
    let whole = start(Server::http(service));
    let mut peer = Peer::connect(whole.at(), 3).await;
    let stream = peer.call(&[("connect-timeout-ms", "300")], true).await;
    let seen = peer.rest_of(stream).await;
    assert_eq!(seen, [Seen::Headers(false), Seen::Data(3, false), Seen::Reset(INTERNAL_ERROR)]);
    assert_eq!((server.stats.cut_streams(), stats.expired_in_body()), (2, 2));
}

#[tokio::test]
async fn a_body_that_is_cut_is_reset_with_what_nobody_takes_for_an_end() {
    let mut drops = Drops::new();
    let service = answering(|guards| stuck(1, b"half", guards.one()), drops.guards());
    let server = start(Server::http(service));
    let mut peer = Peer::connect(server.at(), OPEN).await;
    let sent = Instant::<Elapsed>::now();
    let stream = peer.call(&[("connect-timeout-ms", "300")], true).await;
    let seen = peer.rest_of(stream).await;
    assert!(Instant::<Elapsed>::now() >= sent + 300 * MS, "early");
    assert_eq!(seen, [Seen::Headers(false), Seen::Data(4, false), Seen::Reset(INTERNAL_ERROR)]);
    drops.one().await;
}

#[tokio::test]
async fn of_grpc_a_stream_ends_with_its_status_between_messages_and_is_reset_within_one() {
    let service = service_fn(async |request: Calls| {
        let whole = request.uri().path() == "/whole";
        let sent: &[u8] = if whole { b"\0\0\0\0\x02hi" } else { b"\0\0\0\0\x05hi" };
        let guard = Drops::new().guards().one();
        Ok::<_, Infallible>(Response::new(stuck(1, sent, guard)))
    });
    let server = start(Server::grpc(service));
    let mut peer = Peer::connect(server.at(), OPEN).await;
    for (path, ends) in [("/whole", Seen::Headers(true)), ("/half", Seen::Reset(CANCEL))] {
        let stream = peer.call(&[(":path", path), ("grpc-timeout", "600m")], false).await;
        let seen = peer.rest_of(stream).await;
        assert_eq!(seen, [Seen::Headers(false), Seen::Data(7, false), ends], "{path}");
    }
}

#[tokio::test]
async fn a_status_that_can_be_written_is_and_one_whose_window_is_shut_does_not_hold_the_stream() {
    let service =
        service_fn(async |_: Calls| pending::<Result<Response<Body>, Infallible>>().await);
    let layer = grpc::ServerLayer::new();
    let stats = layer.stats();
    let server = start(Server::grpc(service).deadlines(layer));
    // An answer without a body needs no window.
    let mut peer = Peer::connect(server.at(), 0).await;
    let stream = peer.call(&[("grpc-timeout", "200m")], false).await;
    // The request isn't complete, and nobody reads it any more.
    let seen = [peer.next_on(stream).await, peer.next_on(stream).await];
    assert_eq!(seen, [Seen::Headers(true), Seen::Reset(NO_ERROR)]);
    assert_eq!(stats.expired_before_headers(), 1);
    // One with a body does, also of what was late when it came.
    let service = service_fn(async |_: Ours| pending::<Result<Response<Body>, Infallible>>().await);
    let server = start(Server::http(service));
    let mut peer = Peer::connect(server.at(), 0).await;
    for ms in ["200", "0"] {
        let stream = peer.call(&[("connect-timeout-ms", ms)], true).await;
        assert_eq!(peer.rest_of(stream).await, [Seen::Headers(false), Seen::Reset(CANCEL)]);
    }
}

#[tokio::test]
async fn an_upload_that_idles_ends_at_the_deadline() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let service = service_fn(move |request: Ours| {
        let tell = tell.clone();
        async move {
            // In a task of its own, so that the end of the call isn't that of the reader.
            tokio::spawn(async move {
                let read = request.into_body().collect().await;
                let _ = tell.send(read.map(|it| it.to_bytes().len()).map_err(|it| it.is_expired()));
            });
            pending::<Result<Response<Body>, Infallible>>().await
        }
    });
    let server = start(Server::http(service));
    let mut peer = Peer::connect(server.at(), OPEN).await;
    let stream = peer.call(&[("connect-timeout-ms", "300")], false).await;
    peer.data(stream, b"half").await;
    let seen = peer.rest_of(stream).await;
    assert!(matches!(seen[..], [Seen::Headers(false), Seen::Data(_, true)]), "{seen:?}");
    assert_eq!(peer.next_on(stream).await, Seen::Reset(NO_ERROR));
    assert_eq!(crate::within(told.recv()).await, Some(Err(true)));
}

#[tokio::test]
async fn an_upload_that_is_reset_without_an_error_is_no_clean_end() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let service = service_fn(move |request: Ours| {
        let tell = tell.clone();
        async move {
            tokio::spawn(async move {
                let mut body = request.into_body();
                let first = body.frame().await;
                let _ = tell.send(first.is_some_and(|it| it.is_ok()));
                let _ = tell.send(body.collect().await.is_ok());
            });
            pending::<Result<Response<Body>, Infallible>>().await
        }
    });
    let server = start(Server::http(service));
    let mut peer = Peer::connect(server.at(), OPEN).await;
    let stream = peer.call(&[], false).await;
    peer.data(stream, b"half").await;
    assert_eq!(crate::within(told.recv()).await, Some(true));
    let mut reset = vec![];
    crate::frames::reset(&mut reset, stream, NO_ERROR);
    peer.send(&reset).await;
    assert_eq!(crate::within(told.recv()).await, Some(false));
}

#[tokio::test]
async fn a_stream_that_is_cut_is_reset_whoever_has_the_body_of_its_request() {
    let (keep, mut kept) = tokio::sync::mpsc::unbounded_channel();
    let service = service_fn(move |request: Ours| {
        let _ = keep.send(request.into_body());
        let answer = stuck(1, b"half", Drops::new().guards().one());
        async move { Ok::<_, Infallible>(Response::new(answer)) }
    });
    let server = start(Server::http(service));
    let mut peer = Peer::connect(server.at(), OPEN).await;
    let stream = peer.call(&[("connect-timeout-ms", "300")], false).await;
    let seen = peer.rest_of(stream).await;
    assert_eq!(seen, [Seen::Headers(false), Seen::Data(4, false), Seen::Reset(INTERNAL_ERROR)]);
    let mut body = kept.recv().await.unwrap();
    assert!(crate::within(body.frame()).await.unwrap().unwrap_err().is_expired());
}

#[tokio::test]
async fn small_messages_that_wait_or_come_after_the_deadline_do_not_end_the_connection() {
    let service = service_fn(async |request: Ours| {
        // It is there, and isn't read.
        let _request = request;
        pending::<Result<Response<Body>, Infallible>>().await
    });
    let server = start(Server::http(service));
    let mut peer = Peer::connect(server.at(), OPEN).await;
    let stream = peer.call(&[("connect-timeout-ms", "60000")], false).await;
    for _ in 0..3000 {
        peer.data(stream, b"small").await;
    }
    assert!(peer.is_alive().await);
    // A client that hasn't seen the end of its call goes on for a while.
    for _ in 0..40 {
        let stream = peer.call(&[("connect-timeout-ms", "20")], false).await;
        while !matches!(peer.next_on(stream).await, Seen::Reset(NO_ERROR)) {}
        for _ in 0..100 {
            peer.data(stream, b"small").await;
        }
    }
    assert!(peer.is_alive().await);
}

#[tokio::test]
async fn what_is_given_up_before_it_is_seen_is_not_begun() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let service = service_fn(move |request: Ours| {
        let _ = tell.send(request.uri().path().to_owned());
        async { Ok::<_, Infallible>(Response::new(Body::from("done"))) }
    });
    let server = start(Server::http(service));
    let mut peer = Peer::connect(server.at(), OPEN).await;
    // All at once, so that they arrive together.
    let mut bytes = vec![];
    for _ in 0..100 {
        let stream = peer.encode_call(&mut bytes, &[(":path", "/gone")], true);
        crate::frames::reset(&mut bytes, stream, CANCEL);
    }
    let last = peer.encode_call(&mut bytes, &[(":path", "/here")], true);
    peer.send(&bytes).await;
    peer.rest_of(last).await;
    assert_eq!(told.recv().await.unwrap(), "/here");
}

#[tokio::test]
async fn what_has_no_deadline_is_not_cut() {
    let drops = Drops::new();
    let service = answering(|guards| stuck(1, b"half", guards.one()), drops.guards());
    let server = start(Server::http(service));
    let mut peer = Peer::connect(server.at(), OPEN).await;
    let free = peer.call(&[], true).await;
    let bound = peer.call(&[("connect-timeout-ms", "200")], true).await;
    assert_eq!(peer.next_on(free).await, Seen::Headers(false));
    assert_eq!(peer.rest_of(bound).await.last(), Some(&Seen::Reset(INTERNAL_ERROR)));
    assert!(peer.is_alive().await);
    assert_eq!(server.stats.cut_streams(), 1);
}

#[tokio::test]
async fn arrival_is_before_the_queue_of_a_limit() {
    let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
    let service = service_fn(move |_: Ours| {
        let _ = tell.send(deadline::current().remaining());
        async {
            sleep(1000 * MS).await;
            Ok::<_, Infallible>(Response::new(Body::from("done")))
        }
    });
    let service = ConcurrencyLimitLayer::new(1).layer(service);
    let layer = ServerLayer::new();
    let stats = layer.stats();
    let server = start(Server::http(service).deadlines(layer));
    let mut peer = Peer::connect(server.at(), OPEN).await;
    // All at once, so that they arrive together.
    let mut bytes = vec![];
    let [first, next, late] = ["20000", "20000", "300"]
        .map(|ms| peer.encode_call(&mut bytes, &[("connect-timeout-ms", ms)], true));
    peer.send(&bytes).await;
    for stream in [late, first, next] {
        assert!(matches!(peer.rest_of(stream).await.last(), Some(Seen::Data(_, true))));
    }
    let first = told.recv().await.unwrap();
    let next = told.recv().await.unwrap();
    // Whatever the second has waited is gone from its time; the third was never handled.
    assert!(first - next >= 500 * MS, "{first:?} {next:?}");
    assert!(told.try_recv().is_err());
    assert_eq!(stats.expired_on_arrival(), 1);
}

#[tokio::test]
async fn trailers_come_through_after_large_pieces() {
    let service = service_fn(async |_: Ours| {
        let mut trailers = HeaderMap::new();
        trailers.insert("x-sum", "7".parse().unwrap());
        let frames = [
            Ok::<_, Infallible>(Frame::data(bytes::Bytes::from(vec![1; 40_000]))),
            Ok(Frame::data(bytes::Bytes::from(vec![2; 3]))),
            Ok(Frame::trailers(trailers)),
        ];
        Ok::<_, Infallible>(Response::new(StreamBody::new(tokio_stream::iter(frames))))
    });
    let server = start(Server::http(service));
    let mut client = Client::connect(server.at()).await;
    let body = client.ask("/", 20_000).await.unwrap().into_body();
    let body = crate::within(body.collect()).await.unwrap();
    assert_eq!(body.trailers().unwrap()["x-sum"], "7");
    let expected: Vec<u8> = [vec![1; 40_000], vec![2; 3]].concat();
    assert_eq!(body.to_bytes(), expected);
}

/// hyper's.
struct Client(hyper::client::conn::http2::SendRequest<Body>);

impl Client {
    async fn connect(at: std::net::SocketAddr) -> Self {
        let io = tokio::net::TcpStream::connect(at).await.unwrap();
        let io = hyper_util::rt::TokioIo::new(io);
        let executor = hyper_util::rt::TokioExecutor::new();
        let (sender, connection) =
            hyper::client::conn::http2::handshake(executor, io).await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    async fn ask(&mut self, path: &str, ms: u32) -> hyper::Result<Response<hyper::body::Incoming>> {
        let request = Request::get(format!("http://a{path}"))
            .header("connect-timeout-ms", ms)
            .body(Body::empty())
            .unwrap();
        crate::within(self.0.send_request(request)).await
    }

    async fn get(&mut self, path: &str, ms: u32) -> hyper::Result<bytes::Bytes> {
        let body = self.ask(path, ms).await?.into_body();
        crate::within(body.collect()).await.map(|body| body.to_bytes())
    }
}
