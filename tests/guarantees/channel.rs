//! What our own channel keeps.

use std::error::Error as _;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};

use bytes::Bytes;
use deadbeat::channel::{self, Channel};
use deadbeat::clock::{Elapsed, Instant};
use deadbeat::deadline::{Deadline, Phase, scope};
use deadbeat::propagation::grpc::{ClientLayer, Grpc, ServerLayer};
use deadbeat::propagation::http::{self as plain, Http};
use deadbeat::time::{Duration, sleep, sleep_until};
use h2::Reason;
use http::Response;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, error::TryRecvError, unbounded_channel};
use tokio::sync::watch;
use tokio_stream::StreamExt;
use tonic::transport::Server;
use tonic::{Code, Request, Status};
use tower::{BoxError, Service};

use super::rpc::*;
use super::within;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

fn ours(address: SocketAddr, layer: ClientLayer) -> Channel<Grpc> {
    Channel::builder(format!("http://{address}")).layer(layer).build().unwrap()
}

/// Serves with tonic, and accepts only after so long. When it did.
async fn slow_server(
    takes: Duration,
    test: Test,
) -> (SocketAddr, watch::Receiver<Option<Instant<Elapsed>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, accepted) = watch::channel(None);
    let (pass, incoming) = unbounded_channel();
    tokio::spawn(async move {
        loop {
            sleep(takes).await;
            let io = listener.accept().await.map(|(io, _)| io);
            tell.send_replace(Some(Instant::<Elapsed>::now()));
            if pass.send(io).is_err() {
                break;
            }
        }
    });
    let incoming = tokio_stream::wrappers::UnboundedReceiverStream::new(incoming);
    let server = Server::builder().layer(ServerLayer::new()).add_service(test);
    tokio::spawn(server.serve_with_incoming(incoming));
    (address, accepted)
}

#[tokio::test]
async fn the_callee_is_told_what_is_left_when_there_is_a_connection() {
    let (test, mut told) = Test::new();
    let (address, accepted) = slow_server(500 * MS, test).await;
    // So that it is the caller that ends it.
    let channel = ours(address, ClientLayer::new().allowance(Duration::ZERO));
    for connects in [true, false] {
        let caller = Deadline::after(SECOND);
        let call = scope(caller, nap(channel.clone(), 60_000));
        let status = match call.await {
            Ok(answered) => answered.unwrap_err(),
            // Either may be the first to notice.
            Err(expired) => expired.into(),
        };
        assert!(caller.is_expired(), "too early");
        assert_eq!(status.code(), Code::DeadlineExceeded);
        let callee = called(&mut told).await.unwrap();
        if connects {
            // It was told after the server had accepted, and of that time nothing.
            let accepted = accepted.borrow().unwrap();
            assert!(callee.budget() <= caller.instant() - accepted, "{callee:?}");
        }
        let excess = callee.deadline().instant().duration_since(caller.instant());
        println!("connects: {connects}, the callee had {excess:?} more than was left");
        assert!(matches!(next(&mut told).await, Event::Dropped));
    }
    assert_eq!(channel.stats().connections(), 1);
}

#[tokio::test]
async fn a_connection_that_is_not_made_in_time_is_told_apart() {
    // The kernel accepts, and nobody says a preface.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let channel = ours(listener.local_addr().unwrap(), ClientLayer::new().timeout(300 * MS));
    let begun = Instant::<Elapsed>::now();
    let status = nap(channel.clone(), 0).await.unwrap_err();
    assert!(begun.elapsed() >= 300 * MS);
    let expired = expired(&status);
    assert_eq!(expired.phase(), Some(Phase::Connect), "{status:?}");
    let spent = expired.spent().unwrap();
    assert_eq!(spent.total(), expired.elapsed());
    assert!(spent.in_phase(Phase::Connect) >= 250 * MS, "{status:?}");
    assert!(status.message().contains("connect took"), "{status:?}");
    // The attempt goes on for the next.
    let (io, _) = listener.accept().await.unwrap();
    tokio::spawn(async move {
        let mut h2 = h2::server::handshake(io).await.unwrap();
        while let Some(Ok((_, mut respond))) = h2.accept().await {
            respond.send_response(trailers_only(Code::NotFound), true).unwrap();
        }
    });
    let status = nap(channel.clone(), 0).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound, "{status:?}");
    assert_eq!(channel.stats().connections(), 1);
}

#[tokio::test]
async fn an_attempt_to_connect_has_an_end_of_its_own() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = format!("http://{}", listener.local_addr().unwrap());
    let builder = Channel::<Grpc>::builder(target.clone()).connect_timeout(200 * MS);
    let channel = builder.build().unwrap();
    let status = nap(channel.clone(), 0).await.unwrap_err();
    assert_eq!(status.code(), Code::Unavailable);
    let error: &channel::Error = status.source().unwrap().downcast_ref().unwrap();
    assert!(error.is_connect());
    assert!(status.message().contains("200ms"), "{status:?}");
    assert_eq!(channel.stats().connections_failed(), 1);
}

#[tokio::test]
async fn where_nobody_listens_a_call_is_unavailable_and_the_next_tries_again() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let channel = ours(address, ClientLayer::new().timeout(20 * SECOND));
    for failed in 1..=2 {
        let status = nap(channel.clone(), 0).await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        assert!(status.message().contains(&address.to_string()), "{status:?}");
        assert_eq!(channel.stats().connections_failed(), failed);
    }
}

#[tokio::test]
async fn who_would_rather_connect_at_once_does_and_fails_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nowhere = listener.local_addr().unwrap();
    drop(listener);
    let error = ours(nowhere, ClientLayer::new()).connect().await.unwrap_err();
    assert!(error.to_string().contains(&nowhere.to_string()), "{error}");
    let (test, _told) = Test::new();
    let channel = ours(served!(Server::builder(), test), ClientLayer::new());
    for _ in 0..2 {
        channel.connect().await.unwrap();
    }
    nap(channel.clone(), 0).await.unwrap();
    assert_eq!((channel.stats().connections(), channel.stats().connections_failed()), (1, 0));
}

#[tokio::test]
async fn what_is_too_late_is_not_sent_and_connects_nowhere() {
    let (test, mut told) = Test::new();
    let address = served!(Server::builder(), test);
    let channel = ours(address, ClientLayer::new().timeout(SECOND).allowance(SECOND));
    expired(&nap(channel.clone(), 0).await.unwrap_err());
    let channel = ours(address, ClientLayer::new().timeout(Duration::ZERO));
    expired(&nap(channel.clone(), 0).await.unwrap_err());
    assert_eq!(channel.stats().connections(), 0);
    assert!(matches!(told.try_recv(), Err(TryRecvError::Empty)));
}

#[tokio::test]
async fn calls_wait_for_a_stream_before_they_are_told_what_is_left() {
    let (test, mut told) = Test::new();
    let address =
        served!(Server::builder().max_concurrent_streams(1).layer(ServerLayer::new()), test);
    let channel = ours(address, ClientLayer::new().timeout(60 * SECOND));
    let first = tokio::spawn(nap(channel.clone(), 500));
    let free_at = called(&mut told).await.unwrap().set_at() + 500 * MS;
    let mut call = pin!(nap(channel.clone(), 0));
    let begun = begin(call.as_mut()).await;
    call.await.unwrap();
    first.await.unwrap().unwrap();
    assert!(matches!(next(&mut told).await, Event::Dropped));
    let second = called(&mut told).await.unwrap();
    assert!(second.budget() <= 60 * SECOND - (free_at - begun));
    assert!(matches!(next(&mut told).await, Event::Dropped));
    // And end in the queue.
    let held = tokio::spawn(nap(channel.clone(), 60_000));
    called(&mut told).await;
    let status = scope(200 * MS, nap(channel.clone(), 0)).await;
    let status = status.unwrap_or_else(|expired| Err(expired.into())).unwrap_err();
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(matches!(told.try_recv(), Err(TryRecvError::Empty)));
    held.abort();
    // What was given up makes room.
    assert_eq!(nap(channel, 1).await.unwrap(), 1);
}

#[tokio::test]
async fn no_more_streams_are_opened_than_the_peer_allows() {
    let open = Arc::new(Mutex::new((0, 0)));
    let counting = open.clone();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (io, _) = listener.accept().await.unwrap();
        let mut h2 = h2::server::Builder::new()
            .max_concurrent_streams(7)
            .handshake::<_, Bytes>(io)
            .await
            .unwrap();
        while let Some(Ok((_, mut respond))) = h2.accept().await {
            let counting = counting.clone();
            {
                let mut open = counting.lock().unwrap();
                open.0 += 1;
                open.1 = open.0.max(open.1);
            }
            tokio::spawn(async move {
                sleep(5 * MS).await;
                counting.lock().unwrap().0 -= 1;
                respond.send_response(trailers_only(Code::NotFound), true).unwrap();
            });
        }
    });
    let channel = ours(address, ClientLayer::new().timeout(60 * SECOND));
    let calls: Vec<_> = (0..100).map(|_| tokio::spawn(nap(channel.clone(), 0))).collect();
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap_err().code(), Code::NotFound);
    }
    assert_eq!(open.lock().unwrap().1, 7);
}

#[tokio::test]
async fn a_call_that_is_not_answered_fails_with_where_it_waited() {
    let (address, _) = serve_frames(async |_request, _respond| std::future::pending().await).await;
    let channel = ours(address, ClientLayer::new().timeout(300 * MS));
    let begun = Instant::<Elapsed>::now();
    let status = nap(channel, 0).await.unwrap_err();
    assert!(begun.elapsed() >= 300 * MS);
    let expired = expired(&status);
    assert_eq!(expired.phase(), Some(Phase::Wait));
    assert_eq!(expired.spent().unwrap().total(), expired.elapsed());
    assert!(status.message().contains("no answer"), "{status:?}");
}

/// A server that begins to answer, or not, and tells how each stream is reset.
async fn resets(begins: bool) -> (SocketAddr, UnboundedReceiver<Reason>) {
    let (tell, told) = unbounded_channel();
    let (address, _) = serve_frames(move |_request, mut respond| {
        let tell = tell.clone();
        async move {
            let mut body = begins.then(|| respond.send_response(head_of_answer(), false).unwrap());
            let reset = std::future::poll_fn(|cx| match &mut body {
                Some(body) => body.poll_reset(cx),
                None => respond.poll_reset(cx),
            });
            tell.send(reset.await.unwrap()).unwrap();
        }
    })
    .await;
    (address, told)
}

#[tokio::test]
async fn a_stream_is_reset_with_cancel_before_and_in_its_answer() {
    for begins in [false, true] {
        let (address, mut told) = resets(begins).await;
        let channel = ours(address, ClientLayer::new().timeout(300 * MS));
        let status = match stream(channel, "/test.Test/Drip", 0).await {
            Ok(mut numbers) => failure(&mut numbers).await,
            Err(status) => status,
        };
        expired(&status);
        assert_eq!(within(told.recv()).await, Some(Reason::CANCEL));
    }
}

#[tokio::test]
async fn an_answer_that_nobody_polls_is_reset_at_the_deadline() {
    let (address, mut told) = resets(true).await;
    let channel = ours(address, ClientLayer::new().timeout(500 * MS));
    let begun = Instant::<Elapsed>::now();
    let mut numbers = stream(channel, "/test.Test/Drip", 0).await.unwrap();
    assert_eq!(within(told.recv()).await, Some(Reason::CANCEL));
    assert!(begun.elapsed() >= 500 * MS);
    let status = within(numbers.message()).await.unwrap_err();
    assert_eq!(expired(&status).phase(), Some(Phase::Body));
}

#[tokio::test]
async fn a_call_that_nobody_polls_is_reset_at_the_deadline() {
    let (address, mut told) = resets(false).await;
    let channel = ours(address, ClientLayer::new().timeout(500 * MS));
    // There is a connection, so that one poll is enough.
    let early = scope(100 * MS, nap(channel.clone(), 0)).await;
    assert!(early.is_err() || early.is_ok_and(|it| it.is_err()));
    assert_eq!(within(told.recv()).await, Some(Reason::CANCEL));
    let begun = Instant::<Elapsed>::now();
    let mut call = pin!(nap(channel, 0));
    begin(call.as_mut()).await;
    assert_eq!(within(told.recv()).await, Some(Reason::CANCEL));
    assert!(begun.elapsed() >= 500 * MS);
    expired(&call.await.unwrap_err());
}

#[tokio::test]
async fn a_call_that_is_given_up_is_reset() {
    let (address, mut told) = resets(false).await;
    let channel = ours(address, ClientLayer::new());
    // Without any deadline.
    let call = tokio::spawn(nap(channel.clone(), 0));
    while channel.stats().connections() == 0 {
        sleep(MS).await;
    }
    sleep(50 * MS).await;
    call.abort();
    assert_eq!(within(told.recv()).await, Some(Reason::CANCEL));
    assert_eq!(channel.stats().resets(), 1);
}

#[tokio::test]
async fn the_connection_survives() {
    let (test, _told) = Test::new();
    let address = served!(Server::builder(), test);
    let channel = ours(address, ClientLayer::new());
    let in_a_second = |call| scope(SECOND, call);
    let late = in_a_second(nap(channel.clone(), 60_000)).await;
    assert!(!matches!(late, Ok(Ok(_))));
    let limited = ours(address, ClientLayer::new().timeout(SECOND));
    for channel in [&limited] {
        let mut numbers = stream(channel.clone(), "/test.Test/Drip", 20).await.unwrap();
        expired(&failure(&mut numbers).await);
        assert_eq!(nap(channel.clone(), 1).await.unwrap(), 1);
        assert_eq!(channel.stats().connections(), 1);
    }
    assert_eq!(nap(channel.clone(), 1).await.unwrap(), 1);
    assert_eq!(channel.stats().connections(), 1);
}

#[tokio::test]
async fn an_upload_that_is_idle_or_blocked_ends_with_cancel() {
    for floods in [false, true] {
        for polled in [false, true] {
            // In vain, if it floods: the peer gives it no room.
            let (address, mut told) = uploads(!floods).await;
            let channel = ours(address, ClientLayer::new().timeout(400 * MS));
            let mut grpc = tonic::client::Grpc::new(channel.clone());
            grpc.ready().await.unwrap();
            let numbers = tokio_stream::iter(0..if floods { u64::MAX } else { 1 });
            let numbers = numbers.chain(tokio_stream::pending());
            let call = grpc.streaming(Request::new(numbers), path("/test.Test/Echo"), Numbers);
            let mut call = pin!(call);
            if !polled {
                // Until it is sent; and then no more.
                while channel.stats().connections() == 0 {
                    assert!(
                        call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending()
                    );
                    sleep(MS).await;
                }
                assert!(call.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
            } else {
                let status = within(call.as_mut()).await.map(drop).unwrap_err();
                assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
            }
            let reason = within(told.recv()).await.unwrap().expect_err("a clean end");
            assert_eq!(reason, Reason::CANCEL, "floods: {floods}, polled: {polled}");
        }
    }
}

#[tokio::test]
async fn an_upload_goes_on_while_nobody_polls_the_answer() {
    let (address, mut told) = uploads(true).await;
    let channel = Channel::<Http>::builder(format!("http://{address}")).build().unwrap();
    let body = Full::new(Bytes::from(vec![b'x'; 8 << 20]));
    let request = http::Request::post("http://stock/").body(body).unwrap();
    let mut channel = channel.clone();
    let mut call = pin!(Service::call(&mut channel, request));
    while channel.stats().connections() == 0 {
        poll_once(call.as_mut());
        sleep(MS).await;
    }
    // Now it is sent, and the rest goes by itself.
    poll_once(call.as_mut());
    let ended = within(told.recv()).await.unwrap();
    assert_eq!(ended, Ok(8 << 20));
}

/// Polls a call that isn't answered yet.
fn poll_once<F: Future>(call: std::pin::Pin<&mut F>) {
    assert!(call.poll(&mut Context::from_waker(Waker::noop())).is_pending());
}

#[tokio::test]
async fn both_directions_of_a_stream_go_at_once() {
    let (test, mut told) = Test::new();
    let address = served!(Server::builder(), test);
    let channel = ours(address, ClientLayer::new().timeout(60 * SECOND));
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let (send, numbers) = unbounded_channel();
    let numbers = tokio_stream::wrappers::UnboundedReceiverStream::new(numbers);
    let call = grpc.streaming(Request::new(numbers), path("/test.Test/Echo"), Numbers);
    let mut echoes = within(call).await.unwrap().into_inner();
    for number in 0..100_u64 {
        send.send(number).unwrap();
        assert_eq!(within(echoes.message()).await.unwrap(), Some(number));
    }
    drop(send);
    called(&mut told).await;
    assert!(matches!(next(&mut told).await, Event::Upload(Ok(()))));
    drop(echoes);
    assert!(matches!(next(&mut told).await, Event::Dropped));
}

#[tokio::test]
async fn what_others_make_of_a_deadline_is_the_deadlines_once_it_has_passed() {
    let (address, makes, mut is_answered) = serve_makes().await;
    let channel = ours(address, ClientLayer::new().timeout(60 * SECOND));
    let limited = ours(address, ClientLayer::new().timeout(200 * MS));
    // So that one poll is enough, from here on.
    nap(limited.clone(), 0).await.unwrap_err();
    within(is_answered.recv()).await.unwrap();
    for (it, is) in [
        (Makes::Reset(Reason::CANCEL), Code::Cancelled),
        (Makes::Reset(Reason::INTERNAL_ERROR), Code::Internal),
        (Makes::Reset(Reason::REFUSED_STREAM), Code::Unavailable),
        (Makes::Status(Code::Cancelled), Code::Cancelled),
        (Makes::Status(Code::Unavailable), Code::Unavailable),
        (Makes::Status(Code::Internal), Code::Internal),
        (Makes::Status(Code::DeadlineExceeded), Code::DeadlineExceeded),
        (Makes::Trailers(Code::Cancelled), Code::Cancelled),
        (Makes::Trailers(Code::Unavailable), Code::Unavailable),
        (Makes::Trailers(Code::Internal), Code::Internal),
        (Makes::Cut(Reason::CANCEL), Code::Cancelled),
        (Makes::Cut(Reason::INTERNAL_ERROR), Code::Internal),
        (Makes::Http(502), Code::Unavailable),
        (Makes::Http(503), Code::Unavailable),
        (Makes::Http(504), Code::Unavailable),
        // These are no deadline's, whenever they come.
        (Makes::Reset(Reason::ENHANCE_YOUR_CALM), Code::ResourceExhausted),
        (Makes::Status(Code::NotFound), Code::NotFound),
        (Makes::Trailers(Code::PermissionDenied), Code::PermissionDenied),
        (Makes::Http(401), Code::Unauthenticated),
    ] {
        makes.send_replace(it);
        // Before the deadline it is what it is.
        let early = nap(channel.clone(), 0).await.unwrap_err();
        within(is_answered.recv()).await.unwrap();
        assert_eq!(early.code(), is, "{it:?}: {early:?}");
        // The answer is there before the deadline, and is looked at after it.
        let deadline = Deadline::after(200 * MS);
        let mut call = pin!(unary(limited.clone(), "/test.Test/Nap", 0));
        begin(call.as_mut()).await;
        within(is_answered.recv()).await.unwrap();
        sleep_until(deadline.instant() + 20 * MS).await;
        let late = within(call).await.unwrap_err();
        match is {
            Code::Cancelled | Code::Internal | Code::Unavailable | Code::DeadlineExceeded => {
                expired(&late);
            }
            // Or it hadn't come yet.
            _ => assert!([is, Code::DeadlineExceeded].contains(&late.code()), "{late:?}"),
        }
    }
}

#[tokio::test]
async fn a_connection_that_is_lost_is_made_anew_for_the_next_call() {
    for goaway in [false, true] {
        let (address, count) = closing(goaway).await;
        let channel = ours(address, ClientLayer::new().timeout(20 * SECOND));
        for connections in 1..=3 {
            let status = nap(channel.clone(), 0).await.unwrap_err();
            assert_eq!(status.code(), Code::NotFound, "{status:?}");
            // The other side has closed it by now, or is about to.
            while count.load(SeqCst) < connections {
                sleep(MS).await;
            }
            sleep(50 * MS).await;
            assert_eq!(channel.stats().connections(), connections as u64);
        }
    }
}

/// A server that answers one call on each connection, and then closes it.
async fn closing(goaway: bool) -> (SocketAddr, Arc<std::sync::atomic::AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let count = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let closed = count.clone();
    tokio::spawn(async move {
        while let Ok((io, _)) = listener.accept().await {
            let closed = closed.clone();
            tokio::spawn(async move {
                let mut h2 = h2::server::handshake(io).await.unwrap();
                let (_, mut respond) = h2.accept().await.unwrap().unwrap();
                let answer = trailers_only(Code::NotFound);
                let mut body: h2::SendStream<Bytes> = respond.send_response(answer, false).unwrap();
                body.send_data(Bytes::new(), true).unwrap();
                if goaway {
                    h2.graceful_shutdown();
                    while h2.accept().await.is_some() {}
                } else {
                    // What is written goes out, and then nothing.
                    let _ = tokio::time::timeout(20 * MS, h2.accept()).await;
                }
                drop(h2);
                closed.fetch_add(1, SeqCst);
            });
        }
    });
    (address, count)
}

#[tokio::test]
async fn when_the_last_handle_is_gone_the_connection_is_closed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let channel = ours(address, ClientLayer::new().timeout(20 * SECOND));
    let serving = tokio::spawn(async move {
        let (io, _) = listener.accept().await.unwrap();
        let mut h2 = h2::server::handshake(io).await.unwrap();
        while let Some(Ok((_, mut respond))) = h2.accept().await {
            let respond: &mut h2::server::SendResponse<Bytes> = &mut respond;
            respond.send_response(trailers_only(Code::NotFound), true).unwrap();
        }
    });
    assert_eq!(nap(channel.clone(), 0).await.unwrap_err().code(), Code::NotFound);
    drop(channel);
    within(serving).await.unwrap();
}

/// A process of this program that serves with tonic. It ends when this is dropped.
struct Process {
    child: std::process::Child,
    address: SocketAddr,
}

const SERVES: &str = "DEADBEAT_TEST_SERVES";

impl Process {
    fn start() -> Self {
        use std::io::{BufRead, BufReader};
        let name = "channel::serves_in_a_process_of_its_own";
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(SERVES, "1")
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines.map_while(Result::ok).find_map(|line| {
            line.split_once("serves at ").map(|(_, address)| address.parse().unwrap())
        });
        Self { child, address: address.expect("it serves") }
    }

    fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(std::process::Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[tokio::test]
async fn serves_in_a_process_of_its_own() {
    if std::env::var_os(SERVES).is_some() {
        let (test, _told) = Test::new();
        println!("\nserves at {}", served!(Server::builder(), test));
        sleep(120 * SECOND).await;
    }
}

/// Has a server of tonic's stand still, and so many calls expire, while one goes on. How that one ended.
async fn many_expire<S, R>(count: usize, open: impl FnOnce(SocketAddr) -> S) -> Result<u64, Status>
where
    S: Service<http::Request<tonic::body::Body>, Response = Response<R>>,
    S: Clone + Send + 'static,
    S::Error: Into<BoxError> + Send + 'static,
    S::Future: Send,
    R: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let server = Process::start();
    let service = open(server.address);
    nap(service.clone(), 0).await.unwrap();
    let healthy = tokio::spawn(unary(service.clone(), "/test.Test/Nap", 2000));
    sleep(100 * MS).await;
    server.signal("STOP");
    let layer = ClientLayer::new().timeout(100 * MS);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..count {
        calls.spawn(unary(tower::Layer::layer(&layer, service.clone()), "/test.Test/Nap", 60_000));
    }
    while let Some(call) = within(calls.join_next()).await {
        let status = call.unwrap().unwrap_err();
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    }
    server.signal("CONT");
    within(healthy).await.unwrap()
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_expiries_on_a_server_that_stands_still_lose_no_connection() {
    let mut channel = None;
    let healthy = many_expire(10_000, |address| {
        channel.insert(ours(address, ClientLayer::new().peer("nap"))).clone()
    });
    assert_eq!(healthy.await.unwrap(), 2000);
    let stats = channel.unwrap().stats();
    assert_eq!(stats.connections(), 1);
    println!("{stats:?}");
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_tonics_channel_they_do() {
    lose_it(|| many_expire(10_000, |address| endpoint(address).connect_lazy())).await;
}

/// On a machine that is quick enough, or with an h2 that bears more, it may go well: that is said, and is no failure.
async fn lose_it<F: Future<Output = Result<u64, Status>>>(run: impl Fn() -> F) {
    for _ in 0..3 {
        if let Err(status) = run().await {
            println!("{status:?}");
            return;
        }
    }
    println!("not shown: the connection was not lost in three runs");
}

#[cfg(unix)]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_hypers_client_they_do() {
    lose_it(|| {
        many_expire(10_000, |address| {
            let client = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
                .http2_only(true)
                .build_http::<tonic::body::Body>();
            tower::util::MapRequest::new(client, move |mut request: http::Request<_>| {
                *request.uri_mut() = format!("http://{address}{}", request.uri()).parse().unwrap();
                request
            })
        })
    })
    .await;
}

#[tokio::test]
async fn an_allowance_leaves_the_callee_the_time_to_answer_for_itself() {
    let (test, mut told) = Test::new();
    let address = served!(Server::builder().layer(ServerLayer::new()), test);
    let layer = ClientLayer::new().timeout(60 * SECOND).allowance(60 * SECOND - 300 * MS);
    let status = nap(ours(address, layer.clone()), 60_000).await.unwrap_err();
    // In the callee's own words, and not ours.
    assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
    assert!(status.message().contains("header `grpc-timeout`"), "{status:?}");
    assert_eq!(layer.stats().expired_before_headers(), 0);
    let callee = called(&mut told).await.unwrap();
    assert!(callee.budget() <= 300 * MS);
    assert!(matches!(next(&mut told).await, Event::Dropped));
}

#[tokio::test]
async fn a_handler_is_dropped_when_its_call_has_expired() {
    let (test, mut told) = Test::new();
    // Which knows nothing of deadlines: it is the reset that tells it.
    let address = served!(Server::builder(), test);
    let mut numbers =
        stream(ours(address, ClientLayer::new().timeout(SECOND)), "/test.Test/Drip", 20)
            .await
            .unwrap();
    called(&mut told).await;
    expired(&failure(&mut numbers).await);
    assert!(matches!(next(&mut told).await, Event::Dropped));
}

#[tokio::test]
async fn forged_details_make_nobody_panic() {
    for in_trailers in [false, true] {
        let (address, _) = serve_frames(move |_request, mut respond| async move {
            let mut status = http::HeaderMap::new();
            status.insert("grpc-status", "9".parse().unwrap());
            status.insert("grpc-message", "not%20now".parse().unwrap());
            status.insert("grpc-status-details-bin", "!no base64?".parse().unwrap());
            let mut head = head_of_answer();
            if in_trailers {
                let mut body = respond.send_response(head, false).unwrap();
                body.send_data(message(7), false).unwrap();
                body.send_trailers(status).unwrap();
            } else {
                head.headers_mut().extend(status);
                respond.send_response(head, true).unwrap();
            }
        })
        .await;
        let layer = ClientLayer::new().timeout(60 * SECOND);
        let channel = ours(address, layer.clone());
        let status = match stream(channel, "/test.Test/Drip", 0).await {
            Ok(mut numbers) => failure(&mut numbers).await,
            Err(status) => status,
        };
        assert_eq!((status.code(), status.message()), (Code::FailedPrecondition, "not now"));
        assert!(status.details().is_empty());
        assert_eq!(layer.stats().bad_details(), 1, "in trailers: {in_trailers}");
    }
}

#[tokio::test]
async fn generated_clients_take_it_without_a_wrapper() {
    let (test, _told) = Test::new();
    let address = served!(Server::builder(), test);
    let channel = ours(address, ClientLayer::new().timeout(60 * SECOND));
    let channel = is_what_generated_clients_take(channel);
    assert_eq!(nap(channel.clone(), 1).await.unwrap(), 1);
    // And with an interceptor, as their `with_interceptor` does.
    let intercepted =
        tonic::service::interceptor::InterceptedService::new(channel, |mut request: Request<()>| {
            request.set_timeout(Duration::ZERO);
            Ok(request)
        });
    let status = nap(is_what_generated_clients_take(intercepted), 1).await.unwrap_err();
    expired(&status);
}

#[tokio::test]
async fn the_round_trip_is_measured_when_it_connects() {
    let (test, _told) = Test::new();
    let address = served!(Server::builder(), test);
    let channel = ours(address, ClientLayer::new().timeout(60 * SECOND));
    assert_eq!(channel.round_trip(), None);
    nap(channel.clone(), 1).await.unwrap();
    // The answer to the PING comes with the settings, or just after them.
    while channel.round_trip().is_none() {
        sleep(MS).await;
    }
    assert!(channel.round_trip().unwrap() < 20 * SECOND);
}

/// Serves plain HTTP/2 on whatever there is.
async fn serve_plain<T>(io: T)
where
    T: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let service =
        hyper::service::service_fn(async |request: http::Request<hyper::body::Incoming>| {
            let (head, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let names: Vec<_> = head.headers.keys().map(|name| name.as_str()).collect();
            let text = format!("{} {} {} {names:?}", head.method, head.uri, body.len());
            Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from(text))))
        });
    let io = hyper_util::rt::TokioIo::new(io);
    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    // The test may be over.
    let _ = server.serve_connection(io, service).await;
}

async fn text(channel: &mut Channel<Http>, request: http::Request<Full<Bytes>>) -> String {
    let answer = within(Service::call(channel, request)).await.unwrap();
    let body = within(answer.into_body().collect()).await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

#[tokio::test]
async fn plain_http_is_called_with_what_its_version_allows() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((io, _)) = listener.accept().await {
            tokio::spawn(serve_plain(io));
        }
    });
    let layer = plain::ClientLayer::new().timeout(60 * SECOND);
    let builder = Channel::<Http>::builder(format!("http://{address}")).layer(layer);
    let mut channel = builder.build().unwrap();
    let get = http::Request::get("/apples?ripe")
        .header("connection", "keep-alive, x-hop")
        .header("x-hop", "1")
        .header("host", "elsewhere")
        .body(Full::default());
    let told = text(&mut channel, get.unwrap()).await;
    assert_eq!(told, format!("GET http://{address}/apples?ripe 0 [\"connect-timeout-ms\"]"));
    let post = http::Request::post("http://stock/apples").body(Full::from("ripe")).unwrap();
    let told = text(&mut channel, post).await;
    let names = "[\"connect-timeout-ms\", \"content-length\"]";
    assert!(told.starts_with("POST http://stock/apples 4"), "{told}");
    assert!(
        told.contains("content-length") && told.contains("connect-timeout-ms"),
        "{told} {names}"
    );
}

#[cfg(unix)]
#[tokio::test]
async fn a_unix_socket_is_called_by_its_path() {
    let path = std::env::temp_dir().join(format!("deadbeat-{}.sock", std::process::id()));
    // None may be left from an earlier run.
    let _ = std::fs::remove_file(&path);
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    tokio::spawn(async move {
        while let Ok((io, _)) = listener.accept().await {
            tokio::spawn(serve_plain(io));
        }
    });
    let builder = Channel::<Http>::builder(format!("unix:{}", path.display()));
    let mut channel = builder.build().unwrap();
    let told = text(&mut channel, http::Request::get("/").body(Full::default()).unwrap()).await;
    assert_eq!(told, "GET http://localhost/ 0 []");
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn outside_a_runtime_a_call_fails() {
    let channel = ours("127.0.0.1:1".parse().unwrap(), ClientLayer::new());
    let status = deadbeat::block_on(unary(channel, "/test.Test/Nap", 0)).unwrap_err();
    assert!(status.message().contains("tokio runtime"), "{status:?}");
}

#[cfg(feature = "tls")]
mod tls {
    use super::*;
    use std::sync::Arc;

    use channel::rustls::pki_types::PrivateKeyDer;
    use channel::rustls::{ClientConfig, RootCertStore, ServerConfig, crypto::ring};

    /// Two sides that trust each other; the server agrees on what it is told to.
    fn configs(alpn: &[u8]) -> (Arc<ClientConfig>, Arc<ServerConfig>) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let chain = vec![made.cert.der().clone()];
        let mut roots = RootCertStore::empty();
        roots.add(chain[0].clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let client = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let mut server = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        server.alpn_protocols = vec![alpn.to_vec()];
        (Arc::new(client), Arc::new(server))
    }

    async fn serve(config: Arc<ServerConfig>, takes: Duration) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((io, _)) = listener.accept().await {
                let acceptor = tokio_rustls::TlsAcceptor::from(config.clone());
                tokio::spawn(async move {
                    sleep(takes).await;
                    if let Ok(io) = acceptor.accept(io).await {
                        serve_plain(io).await;
                    }
                });
            }
        });
        format!("https://localhost:{port}")
    }

    #[tokio::test]
    async fn a_channel_with_tls_speaks_it_and_its_deadline_covers_that() {
        let (client, server) = configs(b"h2");
        let target = serve(server.clone(), Duration::ZERO).await;
        let builder = Channel::<Http>::builder(target.clone()).tls(client.clone());
        let mut channel = builder.build().unwrap();
        let request = || http::Request::get("/").body(Full::default()).unwrap();
        let told = text(&mut channel, request()).await;
        assert_eq!(told, format!("GET {target}/ 0 []"));
        // A handshake that takes too long.
        let target = serve(server, 60 * SECOND).await;
        let layer = plain::ClientLayer::new().timeout(300 * MS);
        let builder = Channel::<Http>::builder(target).tls(client).layer(layer);
        let mut channel = builder.build().unwrap();
        let error = within(Service::call(&mut channel, request())).await.unwrap_err();
        let expired = error.expired().expect("it was too late");
        assert_eq!(expired.phase(), Some(Phase::Connect));
    }

    #[tokio::test]
    async fn who_is_not_trusted_or_speaks_no_http_2_is_not_called() {
        let (client, _) = configs(b"h2");
        let (trusted, stranger) = configs(b"http/1.1");
        for (client, why) in [(client, "certificate"), (trusted, "ALPN")] {
            let target = serve(stranger.clone(), Duration::ZERO).await;
            let mut channel = Channel::<Http>::builder(target).tls(client).build().unwrap();
            let request = http::Request::get("/").body(Full::<Bytes>::default()).unwrap();
            let error = within(Service::call(&mut channel, request)).await.unwrap_err();
            let text = error.to_string();
            let is_told = text.contains(why) || text.contains("NoApplicationProtocol");
            assert!(text.contains("no connection to localhost:") && is_told, "{text}");
        }
    }
}

/// A service that asks the next one.
#[derive(Clone)]
struct Relay(Channel<Grpc>);

impl tonic::server::NamedService for Relay {
    const NAME: &str = "test.Test";
}

impl tonic::server::UnaryService<u64> for Relay {
    type Response = u64;
    type Future = Answer<u64>;

    fn call(&mut self, request: Request<u64>) -> Answer<u64> {
        let next = self.0.clone();
        Box::pin(async move {
            Ok(tonic::Response::new(unary(next, "/test.Test/Nap", request.into_inner()).await?))
        })
    }
}

impl<B> Service<http::Request<B>> for Relay
where
    B: http_body::Body + Send + 'static,
    B::Error: Into<BoxError> + Send,
{
    type Response = http::Response<tonic::body::Body>;
    type Error = std::convert::Infallible;
    type Future =
        std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<B>) -> Self::Future {
        let relay = self.clone();
        Box::pin(async move { Ok(tonic::server::Grpc::new(Numbers).unary(relay, request).await) })
    }
}

#[tokio::test]
async fn blame_travels_back_by_itself() {
    let trusted = |name: &'static str| ServerLayer::new().trusted(true).name(name);
    let (test, _told) = Test::new();
    let stock = served!(Server::builder().layer(trusted("stock")), test);
    let to_stock = ours(stock, ClientLayer::new().peer("stock"));
    let orders = served!(Server::builder().layer(trusted("orders")), Relay(to_stock.clone()));
    let to_orders = ours(orders, ClientLayer::new().peer("orders"));
    // Once there and back, so that both round trips are known.
    while to_stock.round_trip().is_none() || to_orders.round_trip().is_none() {
        assert_eq!(scope(20 * SECOND, nap(to_orders.clone(), 1)).await.unwrap().unwrap(), 1);
    }
    // Nobody here has set an allowance. On a machine that stalls for longer than it is, the answer may be late.
    for attempt in 1.. {
        let call = unary(to_orders.clone(), "/test.Test/Nap", 60_000);
        let status = match scope(200 * MS, call).await {
            Ok(answer) => answer.unwrap_err(),
            Err(expired) => expired.into(),
        };
        assert_eq!(status.code(), Code::DeadlineExceeded);
        let told = deadbeat::propagation::grpc::blame(&status).map(ToString::to_string);
        println!("{status:?}\n{told:?}");
        if told.is_some_and(|told| {
            told.contains("orders: no answer from stock for") && told.contains("stock: wait took")
        }) {
            return;
        }
        assert!(attempt < 60, "nothing was told: {status:?}");
    }
}

#[tokio::test]
async fn calls_that_wait_for_a_stream_go_elsewhere_after_a_goaway() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for first in [true, false] {
            let (io, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut h2 = h2::server::Builder::new()
                    .max_concurrent_streams(1)
                    .handshake::<_, Bytes>(io)
                    .await
                    .unwrap();
                while let Some(Ok((_, mut respond))) = h2.accept().await {
                    if first {
                        // It is drained while it works.
                        h2.graceful_shutdown();
                    }
                    tokio::spawn(async move {
                        sleep(if first { 300 * MS } else { MS }).await;
                        respond.send_response(trailers_only(Code::NotFound), true).unwrap();
                    });
                }
            });
        }
    });
    let channel = ours(address, ClientLayer::new().timeout(20 * SECOND));
    let calls: Vec<_> = (0..20).map(|_| tokio::spawn(nap(channel.clone(), 0))).collect();
    for call in calls {
        let status = call.await.unwrap().unwrap_err();
        assert_eq!(status.code(), Code::NotFound, "{status:?}");
    }
    assert_eq!(channel.stats().connections(), 2);
}

#[test]
fn an_attempt_that_is_lost_with_its_runtime_is_made_again() {
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let channel = ours(address, ClientLayer::new());
    let first = runtime();
    let call = scope(50 * MS, unary(channel.clone(), "/test.Test/Nap", 0));
    assert!(!matches!(first.block_on(call), Ok(Ok(_))));
    drop(first);
    let second = runtime();
    second.block_on(async {
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        tokio::spawn(async move {
            while let Ok((io, _)) = listener.accept().await {
                tokio::spawn(async move {
                    // The first is gone.
                    let Ok(mut h2) = h2::server::handshake(io).await else { return };
                    while let Some(Ok((_, mut respond))) = h2.accept().await {
                        let _: Result<h2::SendStream<Bytes>, _> =
                            respond.send_response(trailers_only(Code::NotFound), true);
                    }
                });
            }
        });
        assert_eq!(nap(channel, 0).await.unwrap_err().code(), Code::NotFound);
    });
}

#[tokio::test]
async fn a_body_that_fails_ends_its_call_also_while_resets_wait() {
    let (address, _) = serve_frames(async |_request, _respond| std::future::pending().await).await;
    let mut channel = Channel::<Http>::builder(format!("http://{address}")).build().unwrap();
    // None of these has a deadline, and all are given up: their resets have to wait.
    let get = || http::Request::get("http://stock/").body(Full::<Bytes>::default()).unwrap();
    let mut given_up = tokio::task::JoinSet::new();
    for _ in 0..50 {
        given_up.spawn(Service::call(&mut channel, get()));
    }
    while channel.stats().connections() == 0 {
        sleep(MS).await;
    }
    sleep(50 * MS).await;
    given_up.shutdown().await;
    assert!(channel.stats().resets_withheld() > 0);
    let pieces = tokio_stream::once(Ok(http_body::Frame::data(Bytes::from_static(b"x")))).chain(
        tokio_stream::once(()).then(async |()| {
            sleep(50 * MS).await;
            Err(std::io::Error::other("it is torn"))
        }),
    );
    let body = http_body_util::StreamBody::new(pieces);
    let request = http::Request::post("http://stock/").body(Box::pin(body)).unwrap();
    let error = within(Service::call(&mut channel, request)).await.unwrap_err();
    assert!(error.to_string().contains("it is torn"), "{error}");
}
