//! Timeouts at the end of a chain of calls.

use std::future::Future;
use std::time::Duration;

use super::{Instant, Timeout, timeout, timeout_at};

/// [`timeout`](timeout()) and [`timeout_at`] as methods of every future, as
/// `tokio_util::future::FutureExt` has them.
///
/// # Examples
///
/// ```
/// use deadbeat::time::{Duration, FutureExt};
///
/// # deadbeat::Manual::new().block_on(async {
/// let answer = async { 42 }.timeout(Duration::from_millis(10)).await;
/// assert_eq!(answer, Ok(42));
/// # });
/// ```
pub trait FutureExt: Future {
    /// As [`timeout`](timeout())`(duration, self)`.
    #[inline]
    fn timeout(self, duration: Duration) -> Timeout<Self>
    where
        Self: Sized,
    {
        timeout(duration, self)
    }

    /// As [`timeout_at`]`(deadline, self)`.
    ///
    /// # Examples
    ///
    /// ```
    /// use deadbeat::time::{Duration, FutureExt, Instant};
    ///
    /// # deadbeat::Manual::new().block_on(async {
    /// let deadline = Instant::now() + Duration::from_millis(10);
    /// assert!(std::future::pending::<()>().timeout_at(deadline).await.is_err());
    /// assert_eq!(Instant::now(), deadline);
    /// # });
    /// ```
    #[inline]
    fn timeout_at(self, deadline: Instant) -> Timeout<Self>
    where
        Self: Sized,
    {
        timeout_at(deadline, self)
    }
}

impl<F: Future + ?Sized> FutureExt for F {}
