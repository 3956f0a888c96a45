//! One call: a stream that somebody waits for, or whose reset waits.

use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use h2::client::ResponseFuture;
use h2::{RecvStream, SendStream};
use http::{HeaderMap, Response};
use parking_lot::Mutex;

use super::Error;
use super::connection::Shared;
use super::slots::Slot;

/// Shared by whoever waits for the answer, whoever sends the body, and the timer of the deadline: the first
/// that gives it up [ends](Self::end) it for all.
pub(super) struct Call {
    shared: Arc<Shared>,
    stream: u32,
    parts: Mutex<Parts>,
}

struct Parts {
    answer: Answer,
    /// While it is sent, whoever does that has the stream.
    upload: Upload,
    is_over: bool,
    /// Whether its reset may be sent.
    is_released: bool,
    failure: Option<Error>,
    slot: Option<Slot>,
    /// Whoever waits for the answer.
    reader: Option<Waker>,
    /// Whoever reads what nobody wants.
    drain: Option<Waker>,
}

enum Answer {
    Head(ResponseFuture),
    Body(RecvStream),
    Complete,
}

enum Upload {
    Sending(Option<Waker>),
    /// Given back, and not complete. To be dropped.
    Held(#[expect(dead_code, reason = "held until then")] SendStream<Bytes>),
    Over,
}

/// A piece of an answer.
pub(super) enum Piece {
    Data(Bytes),
    Trailers(HeaderMap),
}

/// Keeps the waker for `cx` in `place`. Returns another that was there, to be dropped outside the lock.
fn keep(place: &mut Option<Waker>, cx: &Context<'_>) -> Option<Waker> {
    match place {
        Some(waker) if waker.will_wake(cx.waker()) => None,
        _ => place.replace(cx.waker().clone()),
    }
}

impl Parts {
    /// Why there will be no more of the answer, if the call has ended on this side.
    fn ended(&self) -> Option<Error> {
        self.is_over.then(|| self.failure.clone().unwrap_or_else(Error::ended))
    }

    /// What is to be dropped outside the lock.
    fn settle(&mut self) -> Option<Slot> {
        let is_complete = matches!((&self.answer, &self.upload), (Answer::Complete, Upload::Over));
        self.slot.take_if(|_| is_complete)
    }
}

impl Call {
    pub(super) fn new(
        shared: Arc<Shared>,
        slot: Slot,
        answer: ResponseFuture,
        is_sent: bool,
    ) -> Arc<Self> {
        let upload = if is_sent { Upload::Over } else { Upload::Sending(None) };
        let stream = answer.stream_id().as_u32();
        Arc::new(Self {
            shared,
            stream,
            parts: Mutex::new(Parts {
                answer: Answer::Head(answer),
                upload,
                is_over: false,
                is_released: false,
                failure: None,
                slot: Some(slot),
                reader: None,
                drain: None,
            }),
        })
    }

    pub(super) fn stream(&self) -> u32 {
        self.stream
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The head of the answer.
    pub(super) fn poll_head(&self, cx: &mut Context<'_>) -> Poll<Result<Response<()>, Error>> {
        let mut parts = self.parts.lock();
        if let Some(error) = parts.ended() {
            return Poll::Ready(Err(error));
        }
        let Answer::Head(answer) = &mut parts.answer else {
            return Poll::Ready(Err(Error::ended()));
        };
        let head = match std::pin::Pin::new(answer).poll(cx) {
            Poll::Ready(Ok(head)) => head,
            Poll::Pending => {
                let old = keep(&mut parts.reader, cx);
                drop(parts);
                drop(old);
                return Poll::Pending;
            }
            Poll::Ready(Err(error)) => {
                parts.answer = Answer::Complete;
                let slot = parts.settle();
                drop(parts);
                drop(slot);
                return Poll::Ready(Err(Error::http2(error)));
            }
        };
        let (head, body) = head.into_parts();
        let is_end = body.is_end_stream();
        parts.answer = if is_end { Answer::Complete } else { Answer::Body(body) };
        let slot = parts.settle();
        drop(parts);
        drop(slot);
        self.shared.answered(self.stream);
        Poll::Ready(Ok(Response::from_parts(head, ())))
    }

    /// The next piece of its body.
    pub(super) fn poll_piece(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, Error>>> {
        let mut parts = self.parts.lock();
        if let Some(error) = parts.ended() {
            return Poll::Ready(Some(Err(error)));
        }
        let Answer::Body(body) = &mut parts.answer else { return Poll::Ready(None) };
        let Poll::Ready(polled) = poll_piece(body, cx) else {
            let old = keep(&mut parts.reader, cx);
            drop(parts);
            drop(old);
            return Poll::Pending;
        };
        if !matches!(&polled, Some(Ok(Piece::Data(_)))) || body.is_end_stream() {
            let body = std::mem::replace(&mut parts.answer, Answer::Complete);
            let slot = parts.settle();
            drop(parts);
            drop((body, slot));
        }
        Poll::Ready(polled)
    }

    pub(super) fn is_end_stream(&self) -> bool {
        let parts = self.parts.lock();
        match &parts.answer {
            Answer::Body(body) => body.is_end_stream(),
            // Cut off isn't complete.
            Answer::Complete => !parts.is_over,
            Answer::Head(_) => false,
        }
    }

    /// Whether the body is to be sent no further. If so, the stream goes to [`Self::give_back`].
    pub(super) fn poll_over(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut parts = self.parts.lock();
        if parts.is_over {
            return Poll::Ready(());
        }
        let old = match &mut parts.upload {
            Upload::Sending(waker) => keep(waker, cx),
            _ => None,
        };
        drop(parts);
        drop(old);
        Poll::Pending
    }

    /// The body has been sent to its end, or the peer wants no more of it.
    pub(super) fn sent(&self) {
        let mut parts = self.parts.lock();
        let upload = std::mem::replace(&mut parts.upload, Upload::Over);
        let slot = parts.settle();
        drop(parts);
        drop((upload, slot));
    }

    /// It hasn't.
    pub(super) fn give_back(&self, stream: SendStream<Bytes>) {
        let mut parts = self.parts.lock();
        let (upload, slot) = if parts.is_released {
            (std::mem::replace(&mut parts.upload, Upload::Over), parts.settle())
        } else {
            (std::mem::replace(&mut parts.upload, Upload::Held(stream)), None)
        };
        drop(parts);
        drop((upload, slot));
    }

    /// The body has failed, and the call with it.
    pub(super) fn fail(self: &Arc<Self>, error: Error) {
        self.parts.lock().failure = Some(error);
        self.end();
    }

    /// Nobody waits for it any more.
    pub(super) fn end(self: &Arc<Self>) {
        let mut parts = self.parts.lock();
        if parts.slot.is_none() || std::mem::replace(&mut parts.is_over, true) {
            return;
        }
        let sender = match &mut parts.upload {
            Upload::Sending(waker) => waker.take(),
            _ => None,
        };
        let reader = parts.reader.take();
        drop(parts);
        for waiting in [sender, reader].into_iter().flatten() {
            waiting.wake();
        }
        self.shared.bury(self);
    }

    /// Its stream is reset, unless it has ended.
    pub(super) fn release(&self) {
        let mut parts = self.parts.lock();
        parts.is_released = true;
        let answer = std::mem::replace(&mut parts.answer, Answer::Complete);
        let upload = match &parts.upload {
            Upload::Held(_) => Some(std::mem::replace(&mut parts.upload, Upload::Over)),
            _ => None,
        };
        let (slot, drain) = (parts.settle(), parts.drain.take());
        drop(parts);
        // The last handle of a stream that isn't complete resets it, with CANCEL.
        drop((answer, upload, slot));
        if let Some(drain) = drain {
            drain.wake();
        }
    }

    /// Whether nothing of it is left to be ended.
    pub(super) fn is_complete(&self) -> bool {
        self.parts.lock().slot.is_none()
    }

    /// Reads what nobody wants, since it takes up the window of the connection. Ready when the stream has
    /// ended, and whether by itself.
    pub(super) fn poll_drained(&self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut parts = self.parts.lock();
        loop {
            if parts.is_released {
                return Poll::Ready(false);
            }
            let is_sent = matches!(parts.upload, Upload::Over);
            let has_ended = match &mut parts.answer {
                // With its upload open it would be reset all the same.
                Answer::Complete if !is_sent => break,
                Answer::Complete => true,
                Answer::Head(head) => match std::pin::Pin::new(head).poll(cx) {
                    Poll::Pending => break,
                    Poll::Ready(Ok(head)) => {
                        parts.answer = Answer::Body(head.into_body());
                        false
                    }
                    // The stream is gone, with its upload.
                    Poll::Ready(Err(_)) => true,
                },
                Answer::Body(body) => match poll_piece(body, cx) {
                    Poll::Pending => break,
                    Poll::Ready(Some(Ok(Piece::Data(_)))) => false,
                    Poll::Ready(Some(Err(_))) => true,
                    Poll::Ready(_) => {
                        let answer = std::mem::replace(&mut parts.answer, Answer::Complete);
                        // A handle to a stream: to drop it runs nothing of anybody's.
                        drop(answer);
                        false
                    }
                },
            };
            if has_ended {
                parts.is_released = true;
                let answer = std::mem::replace(&mut parts.answer, Answer::Complete);
                let upload = match &parts.upload {
                    Upload::Held(_) => Some(std::mem::replace(&mut parts.upload, Upload::Over)),
                    _ => None,
                };
                let slot = parts.settle();
                drop(parts);
                drop((answer, upload, slot));
                return Poll::Ready(true);
            }
        }
        let old = keep(&mut parts.drain, cx);
        drop(parts);
        drop(old);
        Poll::Pending
    }
}

/// The window is given back at once: who reads decides how much there is by reading.
fn poll_piece(body: &mut RecvStream, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, Error>>> {
    match ready!(body.poll_data(cx)) {
        Some(Ok(data)) => {
            // An error: the stream is gone, and its window with it.
            let _ = body.flow_control().release_capacity(data.len());
            Poll::Ready(Some(Ok(Piece::Data(data))))
        }
        Some(Err(error)) => Poll::Ready(Some(Err(Error::http2(error)))),
        None => match ready!(body.poll_trailers(cx)) {
            Ok(trailers) => Poll::Ready(trailers.map(|trailers| Ok(Piece::Trailers(trailers)))),
            Err(error) => Poll::Ready(Some(Err(Error::http2(error)))),
        },
    }
}
