//! Handlers that are finished, though nobody waits for them any more.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll};

use tower_layer::Layer;
use tower_service::Service;

use crate::deadline::detach;

/// Lets handlers go on to their end when the deadline has passed, or the caller is gone: finish and
/// discard.
///
/// Put it within a `ServerLayer`, around the routes that need it: a handler that must not be left half done
/// then goes on as a task of its own, while its caller has been answered, and its result is dropped. It has
/// no deadline from then on ([`current`](crate::deadline::current) is `NEVER`): calls that it makes are not
/// limited, those that it has made already are. What it has started with
/// [`inherit`](crate::deadline#what-inherits) is cancelled.
///
/// These tasks are [tracked](crate::deadline::tracked), and bounded in number by that: one too many is
/// dropped. So is one outside a tokio runtime.
///
/// The handler has to be `Send + 'static`. It costs one allocation a call.
///
/// # Examples
///
/// ```
/// use axum::{Router, routing::post};
/// use deadbeat::propagation::http::{FinishLayer, ServerLayer};
///
/// let orders = post(async || "ordered").layer(FinishLayer::new());
/// let app: Router = Router::new().route("/orders", orders).layer(ServerLayer::new());
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct FinishLayer;

impl FinishLayer {
    /// One.
    #[must_use]
    pub const fn new() -> Self {
        Self
    }
}

impl<S> Layer<S> for FinishLayer {
    type Service = Finish<S>;

    fn layer(&self, inner: S) -> Finish<S> {
        Finish { inner }
    }
}

/// The service of a [`FinishLayer`].
#[derive(Clone, Debug)]
pub struct Finish<S> {
    inner: S,
}

impl<S, R> Service<R> for Finish<S>
where
    S: Service<R>,
    S::Future: Send + 'static,
    S::Response: Send + 'static,
    S::Error: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = FinishFuture<S::Response, S::Error>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: R) -> Self::Future {
        FinishFuture { rest: Some(Box::pin(self.inner.call(request))), has_begun: false }
    }
}

type Handler<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;

/// The future of a [`Finish`].
#[must_use = "futures do nothing unless polled"]
pub struct FinishFuture<T: Send + 'static, E: Send + 'static> {
    rest: Option<Handler<T, E>>,
    has_begun: bool,
}

impl<T: Send + 'static, E: Send + 'static> Future for FinishFuture<T, E> {
    type Output = Result<T, E>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.has_begun = true;
        let rest = self.rest.as_mut().expect("not polled after it was ready");
        let polled = rest.as_mut().poll(cx);
        if polled.is_ready() {
            self.rest = None;
        }
        polled
    }
}

impl<T: Send + 'static, E: Send + 'static> Drop for FinishFuture<T, E> {
    fn drop(&mut self) {
        if let Some(rest) = self.rest.take()
            && self.has_begun
            && !std::thread::panicking()
            && tokio::runtime::Handle::try_current().is_ok()
        {
            // One too many is dropped.
            let _ = detach(async {
                // Nobody waits for the result.
                let _ = rest.await;
            });
        }
    }
}

impl<T: Send + 'static, E: Send + 'static> fmt::Debug for FinishFuture<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FinishFuture").field("has_begun", &self.has_begun).finish_non_exhaustive()
    }
}
