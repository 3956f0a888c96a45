//! While the answer is sent.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::Permit;

/// The slot of a call, which is cut off unless it is complete.
#[derive(Debug)]
pub(super) struct Slot(Option<Permit>);

impl Slot {
    pub(super) fn new(permit: Permit) -> Self {
        Self(Some(permit))
    }

    pub(super) fn complete(&mut self) {
        self.0 = None;
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if let Some(permit) = self.0.take() {
            permit.abandon();
        }
    }
}

pin_project! {
    /// The body of an answer of a [`Limit`](super::Limit): the handler's, which holds the call's slot until it
    /// has ended or is dropped; or what is answered in its place.
    ///
    /// # Errors
    ///
    /// Those of the body inside.
    #[derive(Debug)]
    pub struct ResponseBody<B> {
        #[pin]
        source: Source<B>,
        slot: Option<Slot>,
    }
}

pin_project! {
    #[project = Projected]
    #[derive(Debug)]
    enum Source<B> {
        Handler { #[pin] body: B },
        Whole { rest: Option<Bytes> },
    }
}

impl<B> ResponseBody<B> {
    pub(super) fn whole(bytes: Bytes) -> Self {
        let rest = (!bytes.is_empty()).then_some(bytes);
        Self { source: Source::Whole { rest }, slot: None }
    }

    pub(super) fn passing(body: B, slot: Option<Slot>) -> Self {
        Self { source: Source::Handler { body }, slot }
    }
}

impl<B: Body<Data = Bytes>> Body for ResponseBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let mut body = match this.source.project() {
            Projected::Whole { rest } => {
                return Poll::Ready(rest.take().map(|rest| Ok(Frame::data(rest))));
            }
            Projected::Handler { body } => body,
        };
        let frame = ready!(body.as_mut().poll_frame(cx));
        let has_ended = match &frame {
            None => true,
            Some(Ok(frame)) => frame.is_trailers() || body.is_end_stream(),
            Some(Err(_)) => {
                *this.slot = None;
                false
            }
        };
        if has_ended && let Some(mut slot) = this.slot.take() {
            slot.complete();
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Handler { body } => body.is_end_stream(),
            Source::Whole { rest } => rest.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Handler { body } => body.size_hint(),
            Source::Whole { rest } => {
                SizeHint::with_exact(rest.as_ref().map_or(0, |rest| rest.len() as u64))
            }
        }
    }
}
