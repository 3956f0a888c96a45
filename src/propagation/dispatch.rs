//! A call to a service that has to become ready first.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Request;
use pin_project_lite::pin_project;
use tower_service::Service;

pin_project! {
    /// Waiting for the service, then for its answer.
    #[project = Step]
    pub(crate) enum Dispatch<S, B, F> {
        Queued { service: S, request: Option<Request<B>> },
        Called { #[pin] future: F },
        /// Dropped, or never begun.
        Over,
    }
}

impl<S, B, F> Dispatch<S, B, F> {
    pub(crate) fn new(service: S, request: Request<B>) -> Self {
        Self::Queued { service, request: Some(request) }
    }

    /// Takes the service out, and leaves one in its place that nobody has made ready.
    pub(crate) fn through(service: &mut S, request: Request<B>) -> Self
    where
        S: Clone,
    {
        let clone = service.clone();
        Self::new(std::mem::replace(service, clone), request)
    }

    /// Never to be begun: takes the request out.
    pub(crate) fn abandon(mut self: Pin<&mut Self>) -> Option<Request<B>> {
        let request = match self.as_mut().project() {
            Step::Queued { request, .. } => request.take(),
            _ => None,
        };
        self.set(Self::Over);
        request
    }

    pub(crate) fn is_queued(&self) -> bool {
        matches!(self, Self::Queued { .. })
    }
}

impl<S, B, F> Dispatch<S, B, F>
where
    S: Service<Request<B>, Future = F>,
    F: Future<Output = Result<S::Response, S::Error>>,
{
    /// Whether the service can be called: it is waiting for that, and is ready.
    pub(crate) fn poll_ready(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), S::Error>> {
        match self.project() {
            Step::Queued { service, .. } => service.poll_ready(cx),
            _ => Poll::Ready(Ok(())),
        }
    }

    /// Calls it, once it is ready.
    pub(crate) fn call(self: Pin<&mut Self>) {
        self.call_if(|_| true);
    }

    /// The same, if `prepare` still wants to.
    pub(crate) fn call_if(mut self: Pin<&mut Self>, prepare: impl FnOnce(&mut Request<B>) -> bool) {
        let Step::Queued { service, request } = self.as_mut().project() else { return };
        let mut request = request.take().expect("called once");
        if prepare(&mut request) {
            let future = service.call(request);
            self.set(Self::Called { future });
        }
    }

    pub(crate) fn poll_called(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<S::Response, S::Error>> {
        match self.project() {
            Step::Called { future } => future.poll(cx),
            _ => panic!("polled after it was ready"),
        }
    }

    /// All of it, for who has nothing to do between.
    pub(crate) fn poll(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<S::Response, S::Error>> {
        if self.is_queued() {
            ready!(self.as_mut().poll_ready(cx))?;
            self.as_mut().call();
        }
        self.poll_called(cx)
    }
}
