//! Sends the body of a request.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use h2::{Reason, SendStream};
use http_body::Body;

use super::Error;
use super::call::Call;
use crate::propagation::protocol::BoxError;

/// Sends a body as the peer's window lets it, until it is complete or the call is over.
///
/// It stands on its own feet: once it has to wait, it is a task, so that it goes on while nobody polls the call.
pub(super) struct Upload<B> {
    /// Boxed, as it may move to a task when it has been polled already.
    body: Pin<Box<B>>,
    stream: Option<SendStream<Bytes>>,
    call: Arc<Call>,
}

impl<B> Upload<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    pub(super) fn new(body: B, stream: SendStream<Bytes>, call: Arc<Call>) -> Self {
        Self { body: Box::pin(body), stream: Some(stream), call }
    }

    /// Ready when it is over, however.
    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let stream = self.stream.as_mut().expect("not polled after it was ready");
        loop {
            // One byte, so as to be told when there is room: frames are buffered whole.
            stream.reserve_capacity(1);
            while stream.capacity() == 0 {
                match ready!(stream.poll_capacity(cx)) {
                    Some(Ok(_)) => {}
                    // The peer has ended the stream. That it had enough is no failure.
                    Some(Err(error)) if error.reason() == Some(Reason::NO_ERROR) => {
                        return Poll::Ready(Ok(()));
                    }
                    Some(Err(error)) => return Poll::Ready(Err(Error::http2(error))),
                    None => return Poll::Ready(Ok(())),
                }
            }
            if let Poll::Ready(reset) = stream.poll_reset(cx) {
                return Poll::Ready(match reset {
                    Ok(Reason::NO_ERROR) => Ok(()),
                    Ok(reason) => Err(Error::http2(reason.into())),
                    Err(error) => Err(Error::http2(error)),
                });
            }
            match ready!(self.body.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(mut data) => {
                        let is_end = self.body.is_end_stream();
                        let data = data.copy_to_bytes(data.remaining());
                        if data.is_empty() && !is_end {
                            continue;
                        }
                        stream.send_data(data, is_end).map_err(Error::http2)?;
                        if is_end {
                            return Poll::Ready(Ok(()));
                        }
                    }
                    Err(frame) => {
                        let Ok(trailers) = frame.into_trailers() else { continue };
                        stream.reserve_capacity(0);
                        stream.send_trailers(trailers).map_err(Error::http2)?;
                        return Poll::Ready(Ok(()));
                    }
                },
                Some(Err(error)) => return Poll::Ready(Err(Error::body(error.into()))),
                None => {
                    stream.send_data(Bytes::new(), true).map_err(Error::http2)?;
                    return Poll::Ready(Ok(()));
                }
            }
        }
    }
}

impl<B> Future for Upload<B>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        if this.call.poll_over(cx).is_ready() {
            if let Some(stream) = this.stream.take() {
                this.call.give_back(stream);
            }
            return Poll::Ready(());
        }
        let sent = ready!(this.poll_sent(cx));
        let stream = this.stream.take().expect("as above");
        match sent {
            Ok(()) => {
                drop(stream);
                this.call.sent();
            }
            // It is the answer that tells why the peer has ended the stream.
            Err(error) if error.reason().is_some() => {
                drop(stream);
                this.call.sent();
            }
            Err(error) => {
                this.call.fail(error);
                this.call.give_back(stream);
            }
        }
        Poll::Ready(())
    }
}

impl<B> Drop for Upload<B> {
    fn drop(&mut self) {
        // The runtime is shutting down, or the body has panicked: nobody sends the rest.
        if let Some(stream) = self.stream.take() {
            self.call.end();
            self.call.give_back(stream);
        }
    }
}
