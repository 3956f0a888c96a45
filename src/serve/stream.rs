//! A stream of HTTP/2: the task of a call, from its head to the end of its answer.
//!
//! It has the deadline of its call, and one timer for all of it, so that it doesn't depend on being woken by
//! anybody else: a handler's answer whose window is shut isn't.

use std::error::Error as StdError;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::header::{CONTENT_LENGTH, DATE};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::body::Incoming;
use super::date::date;
use super::registry::Connection;
use super::served::BoxError;
use super::stats::Event;
use crate::clock::Elapsed;
use crate::deadline::Deadline;
use crate::hop;
use crate::propagation::server::{ResponseBody, ServerFuture};
use crate::propagation::{Protocol, RequestBody};
use crate::time::{Sleep, sleep_until};

/// No more than this of a body is asked room for at once: the size of a frame, unless a peer asks for more.
const PIECE: usize = 16 << 10;

pin_project! {
    /// A stream that is reset at its deadline.
    ///
    /// It is polled once more before that, so that an answer or a status that can be sent is.
    pub(super) struct Stream<S, F, R, P: Protocol> {
        #[pin]
        state: State<S, F, R, P>,
        deadline: Deadline,
        // Made when it has to wait.
        sleep: Option<Sleep<Elapsed>>,
        counted: Counted,
        is_over: bool,
    }

    impl<S, F, R, P: Protocol> PinnedDrop for Stream<S, F, R, P> {
        fn drop(this: Pin<&mut Self>) {
            let mut this = this.project();
            // Else it has panicked.
            if !*this.is_over {
                this.state.as_mut().cut(false);
            }
            if let Step::Answer { body, rest, .. } = this.state.project() {
                body.give_up();
                if !rest.is_empty() {
                    this.counted.0.not_taken();
                }
            }
        }
    }
}

pin_project! {
    #[project = Step]
    enum State<S, F, R, P: Protocol> {
        Handler {
            #[pin]
            future: ServerFuture<S, RequestBody<Incoming, P>, F, P>,
            is_head: bool,
            reply: SendResponse<Bytes>,
        },
        Answer {
            #[pin]
            body: ResponseBody<R, P>,
            to: SendStream<Bytes>,
            // Whether nobody takes it for complete if it is cut: it lacks its trailers; or is what is answered in
            // the handler's place, and its head says all.
            is_told: bool,
            // What there was no room for, and whether the answer ends with it.
            rest: Bytes,
            is_last: bool,
        },
    }
}

/// How a stream is over.
#[derive(Debug)]
enum End {
    /// All is sent, or the client has gone.
    Done,
    /// What is left isn't sent any more.
    Cut,
    Failed(Reason),
}

impl<S, R, P> Stream<S, S::Future, R, P>
where
    S: Service<Request<RequestBody<Incoming, P>>, Response = Response<R>>,
    P: Protocol,
{
    pub(super) fn new(
        future: ServerFuture<S, RequestBody<Incoming, P>, S::Future, P>,
        is_head: bool,
        reply: SendResponse<Bytes>,
        connection: Arc<Connection>,
    ) -> Self {
        connection.stream_begins();
        let deadline = future.deadline();
        // The timer here is for all.
        let state = State::Handler { future: future.woken(), is_head, reply };
        Self { state, deadline, sleep: None, counted: Counted(connection), is_over: false }
    }
}

impl<S, R, P> Future for Stream<S, S::Future, R, P>
where
    S: Service<Request<RequestBody<Incoming, P>>, Response = Response<R>>,
    S::Error: Into<BoxError>,
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
    P: Protocol,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        let was_answered = matches!(*this.state, State::Answer { .. });
        let mut end = this.state.as_mut().poll(*this.deadline, cx);
        if end.is_pending() && !this.deadline.is_never() {
            let at = this.deadline.instant();
            let sleep = this.sleep.get_or_insert_with(|| sleep_until(at));
            ready!(Pin::new(sleep).poll(cx));
            this.state.as_mut().come_due();
            end = this.state.as_mut().poll(*this.deadline, cx);
            if end.is_pending() {
                end = Poll::Ready(End::Cut);
            }
        }
        let end = ready!(end);
        *this.is_over = true;
        match end {
            End::Done => {}
            End::Cut => {
                this.counted.0.count(Event::CutStream);
                this.state.cut(was_answered);
            }
            End::Failed(reason) => this.state.reset(reason),
        }
        Poll::Ready(())
    }
}

impl<S, F, R, P: Protocol> State<S, F, R, P> {
    fn come_due(self: Pin<&mut Self>) {
        match self.project() {
            Step::Handler { future, .. } => future.come_due(),
            Step::Answer { body, .. } => body.come_due(),
        }
    }

    /// With INTERNAL_ERROR in place of what Node's client takes for the end of an answer that is complete.
    fn reset(self: Pin<&mut Self>, reason: Reason) {
        match self.project() {
            Step::Handler { reply, .. } => reply.send_reset(reason),
            Step::Answer { to, is_told, .. } => to.send_reset(match reason {
                Reason::NO_ERROR | Reason::CANCEL if !*is_told => Reason::INTERNAL_ERROR,
                reason => reason,
            }),
        }
    }

    /// What is left isn't sent any more. `is_begun`: the head of the answer was sent in an earlier poll.
    ///
    /// What isn't reset here is when it is dropped, with CANCEL, and a head of just now goes out before that. One that
    /// has begun is reset at once: whoever has the body of its request, and with what h2 keeps of the answer. So is one
    /// of which CANCEL wouldn't tell.
    fn cut(mut self: Pin<&mut Self>, is_begun: bool) {
        if let Step::Answer { is_told, .. } = self.as_mut().project()
            && (is_begun || !*is_told)
        {
            self.reset(Reason::CANCEL);
        }
    }
}

impl<S, R, P> State<S, S::Future, R, P>
where
    S: Service<Request<RequestBody<Incoming, P>>, Response = Response<R>>,
    S::Error: Into<BoxError>,
    R: Body<Data = Bytes>,
    R::Error: Into<BoxError>,
    P: Protocol,
{
    fn poll(mut self: Pin<&mut Self>, deadline: Deadline, cx: &mut Context<'_>) -> Poll<End> {
        if let Step::Handler { future, is_head, reply } = self.as_mut().project() {
            let answer = match future.poll(cx) {
                Poll::Ready(Ok(answer)) => answer,
                Poll::Ready(Err(error)) => {
                    return Poll::Ready(End::Failed(reason(&*error.into())));
                }
                // Whether the client has reset it.
                Poll::Pending => return reply.poll_reset(cx).map(|_| End::Done),
            };
            let (mut head, body) = answer.into_parts();
            if head.status.is_informational() {
                // It would be none of the last (RFC 9110, 15.2).
                return Poll::Ready(End::Failed(Reason::INTERNAL_ERROR));
            }
            let is_told = P::needs_trailers(&head) || body.is_ours();
            hop::strip(&mut head.headers);
            head.headers.entry(DATE).or_insert_with(date);
            let is_empty = body.is_end_stream();
            let is_bare = [StatusCode::NO_CONTENT, StatusCode::NOT_MODIFIED].contains(&head.status);
            if !is_empty
                && !is_bare
                && let Some(length) = body.size_hint().exact()
            {
                head.headers.entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(length));
            }
            // These have no content, whatever the handler says (RFC 9110, 6.4.1).
            let is_last = is_empty || is_bare || *is_head;
            let Ok(to) = reply.send_response(Response::from_parts(head, ()), is_last) else {
                return Poll::Ready(End::Failed(Reason::INTERNAL_ERROR));
            };
            if is_last {
                body.needless();
                return Poll::Ready(End::Done);
            }
            self.set(Self::Answer { body, to, is_told, rest: Bytes::new(), is_last });
        }
        let Step::Answer { mut body, to, rest, is_last, .. } = self.project() else {
            unreachable!("it has been answered")
        };
        loop {
            while !rest.is_empty() {
                let room = match poll_room(to, rest.len().min(PIECE), cx) {
                    Poll::Ready(Some(room)) => room,
                    Poll::Ready(None) => return Poll::Ready(End::Done),
                    Poll::Pending => return to.poll_reset(cx).map(|_| End::Done),
                };
                let piece = rest.split_to(room.min(rest.len()));
                let is_last = *is_last && rest.is_empty();
                if to.send_data(piece, is_last).is_err() || is_last {
                    return Poll::Ready(End::Done);
                }
            }
            match body.as_mut().poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        *is_last = body.is_end_stream();
                        *rest = data;
                        if rest.is_empty() && *is_last {
                            let _ = to.send_data(Bytes::new(), true);
                            return Poll::Ready(End::Done);
                        }
                    }
                    Err(frame) => {
                        let Ok(trailers) = frame.into_trailers() else { continue };
                        return Poll::Ready(match to.send_trailers(trailers) {
                            Ok(()) => End::Done,
                            Err(_) => End::Failed(Reason::INTERNAL_ERROR),
                        });
                    }
                },
                Poll::Ready(Some(Err(_))) if deadline.is_expired() => return Poll::Ready(End::Cut),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(End::Failed(reason(&error))),
                Poll::Ready(None) => {
                    let _ = to.send_data(Bytes::new(), true);
                    return Poll::Ready(End::Done);
                }
                Poll::Pending => return to.poll_reset(cx).map(|_| End::Done),
            }
        }
    }
}

/// Room for `wanted` bytes, or for less; `None` if the client has gone.
///
/// Only what there is room for is handed to h2: what it keeps beyond that is out of reach, and so would be the
/// stream's end behind it.
fn poll_room(
    to: &mut SendStream<Bytes>,
    wanted: usize,
    cx: &mut Context<'_>,
) -> Poll<Option<usize>> {
    to.reserve_capacity(wanted);
    loop {
        match to.capacity() {
            0 => match ready!(to.poll_capacity(cx)) {
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Poll::Ready(None),
            },
            room => return Poll::Ready(Some(room)),
        }
    }
}

/// What a stream is reset with that has failed so: what its error says, if that is one of h2's.
fn reason(error: &(dyn StdError + 'static)) -> Reason {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(error) = error.downcast_ref::<h2::Error>() {
            // It isn't that all went well, as when another stream that is handed on was reset with that.
            return match error.reason() {
                None | Some(Reason::NO_ERROR) => Reason::INTERNAL_ERROR,
                Some(reason) => reason,
            };
        }
        next = error.source();
    }
    Reason::INTERNAL_ERROR
}

/// A stream of a connection's, as long as this lives.
struct Counted(Arc<Connection>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.stream_ends();
    }
}
