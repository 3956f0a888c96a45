//! The body of a request, on either side.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::protocol::{BoxError, Protocol};
use super::stats::Stats;
use crate::clock::{Elapsed, Instant};
use crate::deadline::ambient;
use crate::deadline::{Expired, Provenance, current};
use crate::telemetry::Stage;
use crate::time::{Sleep, sleep_until};

pin_project! {
    /// The body of a request that has a deadline: from then on it is an error, whoever polls it.
    ///
    /// The deadline is [current](crate::deadline::current) while it is polled, also in another task than
    /// the handler's. With gRPC, the error is a `tonic::Status` of code `DEADLINE_EXCEEDED`.
    ///
    /// # Errors
    ///
    /// The deadline has passed, or the body inside has failed.
    pub struct RequestBody<B, P> {
        #[pin]
        inner: B,
        limit: Option<Upload>,
        side: Side,
        protocol: PhantomData<fn() -> P>,
    }
}

/// Who has it.
#[derive(Clone, Copy)]
pub(crate) enum Side {
    Client,
    Server {
        /// Whether to be cut off is an error.
        must_end: bool,
    },
}

struct Upload {
    provenance: Provenance,
    /// Made when it has to wait.
    sleep: Option<Sleep<Elapsed>>,
    stats: Stats,
    counted: bool,
    sent: Option<Sent>,
}

impl<B, P> RequestBody<B, P> {
    /// One without a deadline.
    pub(crate) fn passing(inner: B, side: Side) -> Self {
        Self { inner, limit: None, side, protocol: PhantomData }
    }

    /// One with, unless there is nothing of it to come.
    pub(crate) fn limited(
        inner: B,
        side: Side,
        provenance: Provenance,
        stats: &Stats,
        sent: Option<Sent>,
    ) -> Self
    where
        B: Body,
    {
        let limit = (!inner.is_end_stream()).then(|| Upload {
            provenance,
            sleep: None,
            stats: stats.clone(),
            counted: false,
            sent,
        });
        Self { limit, ..Self::passing(inner, side) }
    }

    /// The body inside.
    pub fn get_ref(&self) -> &B {
        &self.inner
    }

    /// The same, without the deadline.
    pub fn into_inner(self) -> B {
        self.inner
    }
}

impl Upload {
    fn expire(&mut self) -> Expired {
        if !std::mem::replace(&mut self.counted, true) {
            self.stats.expired(Stage::Upload, self.provenance.origin());
        }
        Expired::new(self.provenance, Instant::now())
    }
}

impl<B, P> Body for RequestBody<B, P>
where
    B: Body,
    B::Error: Into<BoxError>,
    P: Protocol,
{
    type Data = B::Data;
    type Error = P::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, P::Error>>> {
        let mut this = self.project();
        let polled = match this.limit {
            None => this.inner.as_mut().poll_frame(cx),
            Some(upload) => {
                let deadline = upload.provenance.deadline();
                if deadline.is_expired() {
                    return Poll::Ready(Some(Err(P::expired(upload.expire()))));
                }
                let polled = if deadline == current() {
                    this.inner.as_mut().poll_frame(cx)
                } else {
                    let mut frame = Some(ambient::Frame::of(upload.provenance));
                    ambient::Frame::enter(&mut frame, || this.inner.as_mut().poll_frame(cx))
                };
                if polled.is_pending() {
                    let sleep = upload.sleep.get_or_insert_with(|| sleep_until(deadline.instant()));
                    return Pin::new(sleep)
                        .poll(cx)
                        .map(|()| Some(Err(P::expired(upload.expire()))));
                }
                polled
            }
        };
        let ended = match &polled {
            Poll::Ready(None)
                if matches!(this.side, Side::Server { must_end: true })
                    && !this.inner.is_end_stream() =>
            {
                return Poll::Ready(Some(Err(P::incomplete())));
            }
            Poll::Ready(None) => true,
            Poll::Ready(Some(Ok(frame))) => frame.is_trailers() || this.inner.is_end_stream(),
            _ => false,
        };
        if ended && let Some(sent) = this.limit.as_ref().and_then(|upload| upload.sent.as_ref()) {
            sent.set();
        }
        let failed = match this.side {
            Side::Client => P::other,
            Side::Server { .. } => P::upload_failed,
        };
        polled.map(|frame| frame.map(|result| result.map_err(|error| failed(error.into()))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B: fmt::Debug, P> fmt::Debug for RequestBody<B, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBody")
            .field("inner", &self.inner)
            .field("deadline", &self.limit.as_ref().map(|upload| upload.provenance.deadline()))
            .finish_non_exhaustive()
    }
}

/// When a request was sent to its end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sent(Arc<AtomicU64>);

impl Sent {
    /// Not yet.
    const NEVER: u64 = 0;

    fn set(&self) {
        // Ordering: Relaxed, both: a number that is shown.
        self.0.store(Instant::<Elapsed>::now().as_nanos().max(1), Relaxed);
    }

    pub(crate) fn get(&self) -> Option<Instant<Elapsed>> {
        let ns = self.0.load(Relaxed);
        (ns != Self::NEVER).then(|| Instant::from_nanos(ns))
    }
}
