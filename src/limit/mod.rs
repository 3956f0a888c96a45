//! So many calls at once, with a queue that knows deadlines.
//!
//! Under overload, a server that works on whatever has waited for longest works on calls whose callers are
//! about to give up, and most of what it does is for nothing. A [`Limiter`] doesn't begin what can't be in time,
//! and says so at once, so that the caller can try elsewhere; what it begins is of use.
//!
//! ```
//! use deadbeat::limit::Limiter;
//! use deadbeat::propagation::http::{LimitLayer, ServerLayer};
//! use deadbeat::time::{Duration, sleep};
//! use http::{Request, Response, StatusCode};
//! use http_body_util::{BodyExt, Empty};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # type Body = Empty<bytes::Bytes>;
//! # deadbeat::Manual::new().block_on(async {
//! let limiter = Limiter::new(16);
//! let server = LimitLayer::new(limiter.clone()).layer(service_fn(async |_: Request<_>| {
//!     sleep(Duration::from_millis(60)).await;
//!     Ok::<_, std::convert::Infallible>(Response::new(Body::new()))
//! }));
//! let server = ServerLayer::new().layer(server);
//! let call = async |timeout| {
//!     let request = Request::get("/").header("connect-timeout-ms", timeout);
//!     server.clone().oneshot(request.body(Body::new()).unwrap()).await.unwrap()
//! };
//!
//! for _ in 0..10 {
//!     assert_eq!(call("500").await.status(), StatusCode::OK);
//! }
//! let answer = call("45").await;
//! assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
//! let why = answer.into_body().collect().await.unwrap().to_bytes();
//! assert_eq!(why, "rejected: 45ms left, service takes 60ms");
//! assert_eq!(limiter.stats().rejected_doomed_on_arrival, 1);
//! # });
//! ```
//!
//! # How it decides
//!
//! The deadline of a call is the one that is [current](crate::deadline::current) when it comes: put the layer
//! within a `ServerLayer`. What it goes by is how long the last 128 calls have taken, from the moment they got a
//! slot until they gave it back, none of them longer than ten seconds ago. With fewer than eight it knows
//! nothing, and dooms nobody.
//!
//! - **Expired**: the deadline has passed. Always rejected: on arrival, when it comes while the call waits, and
//!   when it is its turn.
//! - **Doomed**: less is left than calls take, by the [quantile](Settings::quantile) that is set; on arrival,
//!   than that and the wait that is to be expected, the mean service time of all who are ahead, by all slots. Where nobody else wants the slot, the
//!   median counts: a call that is more likely to be in time than not is worth a slot that is idle.
//! - **Probes**: a small [share](Settings::probes) of the doomed is admitted all the same. When service becomes
//!   faster, it is they who show it.
//! - **Full**: so many wait that no more [may](Settings::queue).
//! - **Overtaken**: with [`Order::NewestFirst`], in overload that goes on, by calls that came later.
//!
//! Only the last two are for calls without a deadline: they are never doomed.
//!
//! A call that is cut off, by its deadline or since its caller is gone, counts as if it had taken a
//! quarter longer, if it has already taken longer than the median, and not at all otherwise: nobody knows how
//! long it would have taken.
//!
//! # What is answered
//!
//! | | gRPC | HTTP |
//! | --- | --- | --- |
//! | expired | DEADLINE_EXCEEDED | 504, with [`x-deadline-exceeded`](crate::propagation::http::DEADLINE_EXCEEDED) |
//! | doomed, full, overtaken | UNAVAILABLE | 503 |
//!
//! The message says why, with figures.

mod body;
mod core;
mod crowd;
mod estimate;
mod future;
#[cfg(any(test, fuzzing))]
#[doc(hidden)]
pub mod harness;
mod layer;
mod limiter;
mod probe;
mod queue;
mod rejected;
mod service;
mod settings;
#[cfg(test)]
mod simulation;
mod stats;
#[cfg(test)]
mod tests;

pub use body::ResponseBody;
pub use future::LimitFuture;
pub use layer::LimitLayer;
pub use limiter::{Acquire, Limiter, Permit};
pub use rejected::Rejected;
pub use service::Limit;
pub use settings::{Order, Settings};
pub use stats::Stats;
