//! The deadline of a request, for who has the request.

use std::time::Duration;

use http::Extensions;

use crate::deadline::{Deadline, Limit, Provenance};

/// What the server layer leaves in a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Received {
    pub(crate) provenance: Option<Provenance>,
    pub(crate) preference: Option<Duration>,
}

/// What was given a call before it is made.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Given(pub(crate) Limit);

impl Given {
    #[inline]
    pub(crate) fn point(self) -> Option<Deadline> {
        match self.0 {
            Limit::At(deadline) => Some(deadline),
            Limit::After(_) => None,
        }
    }
}

/// Deadlines of requests: of those that a server has received, and of those that a client is about to
/// make.
///
/// For `http::Request`, `http::request::Parts`, and with feature `grpc` for `tonic::Request`.
///
/// # Examples
///
/// ```
/// use deadbeat::propagation::http::RequestDeadline;
/// use deadbeat::time::Duration;
///
/// let mut request = http::Request::new(());
/// // The client layer makes it half a second from when the call is made, or less.
/// request.set_deadline(Duration::from_millis(500));
/// ```
pub trait RequestDeadline {
    #[doc(hidden)]
    fn all_extensions(&self) -> &Extensions;

    #[doc(hidden)]
    fn all_extensions_mut(&mut self) -> &mut Extensions;

    /// Where the deadline of a request that was received comes from; `None` if it has none, or has passed
    /// no server layer.
    fn provenance(&self) -> Option<Provenance> {
        self.all_extensions().get::<Received>().and_then(|received| received.provenance)
    }

    /// The deadline of a request that was received: that of the call, whatever scope this is asked in.
    fn deadline(&self) -> Deadline {
        self.provenance().map_or(Deadline::NEVER, |provenance| provenance.deadline())
    }

    /// How long the client would like to wait for a request that was received, by its `Prefer: wait`; `None`
    /// if it doesn't say, or [`Header::Prefer`] is not honoured. This is no deadline.
    ///
    /// [`Header::Prefer`]: super::codec::Header::Prefer
    fn preferred_wait(&self) -> Option<Duration> {
        self.all_extensions().get::<Received>().and_then(|received| received.preference)
    }

    /// Gives a request that is to be sent a deadline: a point in time, or a [`Duration`] from when the client
    /// layer is called. What is [current](crate::deadline::current) then counts if it is earlier.
    fn set_deadline(&mut self, limit: impl Into<Limit>) {
        self.all_extensions_mut().insert(Given(limit.into()));
    }
}

impl<B> RequestDeadline for http::Request<B> {
    fn all_extensions(&self) -> &Extensions {
        self.extensions()
    }

    fn all_extensions_mut(&mut self) -> &mut Extensions {
        self.extensions_mut()
    }
}

impl RequestDeadline for http::request::Parts {
    fn all_extensions(&self) -> &Extensions {
        &self.extensions
    }

    fn all_extensions_mut(&mut self) -> &mut Extensions {
        &mut self.extensions
    }
}

#[cfg(feature = "grpc")]
impl<T> RequestDeadline for tonic::Request<T> {
    fn all_extensions(&self) -> &Extensions {
        self.extensions()
    }

    fn all_extensions_mut(&mut self) -> &mut Extensions {
        self.extensions_mut()
    }
}

/// The deadline of the request that is being served, as an extractor of axum's; [`Deadline::NEVER`] if it
/// has none.
///
/// # Examples
///
/// ```
/// use axum::{Router, routing::get};
/// use deadbeat::deadline::Deadline;
/// use deadbeat::propagation::http::ServerLayer;
///
/// async fn report(deadline: Deadline) -> String {
///     format!("{:?} left", deadline.remaining())
/// }
///
/// let app: Router = Router::new().route("/report", get(report)).layer(ServerLayer::new());
/// ```
#[cfg(feature = "axum")]
impl<S: Sync> axum_core::extract::FromRequestParts<S> for Deadline {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(
        parts: &mut http::request::Parts,
        _: &S,
    ) -> Result<Self, Self::Rejection> {
        Ok(parts.deadline())
    }
}
