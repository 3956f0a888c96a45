//! A test of a retry policy that takes hours, in a millisecond.
//!
//! ```text
//! cargo run --example virtual_time
//! cargo test --example virtual_time
//! ```
//!
//! On a [`Manual`] Timekeeper time stands still while there is something to do, and leaps to the next
//! deadline when there isn't. So the test is exact, and the same every time.

use deadbeat::Manual;
use deadbeat::clock::Clock;
use deadbeat::time::{Duration, Instant, sleep, timeout};

/// Tries again after `first`, then after twice as long, and so on, but never after more than `most`.
#[derive(Clone, Copy, Debug)]
struct Backoff {
    first: Duration,
    most: Duration,
    /// How long one try may take.
    attempt_timeout: Duration,
    /// When no other try is begun.
    give_up_after: Duration,
}

/// The last try has failed, or would have begun too late.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct GaveUp;

impl Backoff {
    /// Calls `attempt` until it succeeds. Production code: nothing here knows of tests.
    async fn retry<T, E>(
        self,
        mut attempt: impl AsyncFnMut() -> Result<T, E>,
    ) -> Result<T, GaveUp> {
        let start = Instant::now();
        let mut wait = self.first;
        loop {
            if let Ok(Ok(done)) = timeout(self.attempt_timeout, attempt()).await {
                return Ok(done);
            }
            if start.elapsed() + wait > self.give_up_after {
                return Err(GaveUp);
            }
            sleep(wait).await;
            wait = self.most.min(2 * wait);
        }
    }
}

const BACKOFF: Backoff = Backoff {
    first: Duration::from_secs(1),
    most: Duration::from_mins(5),
    attempt_timeout: Duration::from_secs(10),
    give_up_after: Duration::from_hours(1),
};

#[cfg_attr(test, test)]
fn waits_twice_as_long_each_time_up_to_the_most_and_gives_up_after_an_hour() {
    Manual::new().block_on(async {
        let start = Instant::now();
        let mut began = vec![];
        let gave_up = BACKOFF.retry(async || {
            began.push(start.elapsed().as_secs());
            Err::<(), _>("refused")
        });
        assert_eq!(gave_up.await, Err(GaveUp));
        let doubling = [0, 1, 3, 7, 15, 31, 63, 127, 255, 511];
        let every_five_minutes = (811..=3600).step_by(300);
        assert_eq!(began, doubling.into_iter().chain(every_five_minutes).collect::<Vec<_>>());
    });
}

#[cfg_attr(test, test)]
fn an_attempt_that_hangs_costs_its_timeout_and_no_more() {
    Manual::new().block_on(async {
        let start = Instant::now();
        let mut tries = 0;
        let answer = BACKOFF.retry(async || {
            tries += 1;
            if tries < 3 {
                std::future::pending::<()>().await;
            }
            Ok::<_, ()>(tries)
        });
        assert_eq!(answer.await, Ok(3));
        // 10 s and 10 s for two that hung, 1 s and 2 s between them.
        assert_eq!(start.elapsed(), Duration::from_secs(23));
    });
}

fn main() {
    // This one is not moved by hand.
    let clock = Clock::system();
    let start = clock.now();
    waits_twice_as_long_each_time_up_to_the_most_and_gives_up_after_an_hour();
    an_attempt_that_hangs_costs_its_timeout_and_no_more();
    println!("more than an hour has passed, in {:.1?}", clock.now() - start);
}
