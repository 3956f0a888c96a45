//! A cache whose entries expire, one timer for all of them.
//!
//! ```text
//! cargo run --example delay_cache
//! ```
//!
//! A [`DelayQueue`] holds the keys and says which has expired; a map holds the values. What a task
//! has not yet removed is not served either, because `get` looks at the deadline.

use std::collections::HashMap;
use std::future::poll_fn;
use std::hash::Hash;
use std::task::{Context, Poll, ready};

use deadbeat::time::{DelayQueue, Duration, Instant, delay_queue};

/// Values that are kept for `ttl` after they were put in.
struct Cache<K, V> {
    entries: HashMap<K, (V, delay_queue::Key)>,
    expirations: DelayQueue<K>,
    ttl: Duration,
}

impl<K: Clone + Eq + Hash, V> Cache<K, V> {
    fn new(ttl: Duration) -> Self {
        Self { entries: HashMap::new(), expirations: DelayQueue::new(), ttl }
    }

    /// Puts a value in, or in the place of another, and starts its time anew.
    fn insert(&mut self, key: K, value: V) {
        if let Some((old, expiration)) = self.entries.get_mut(&key) {
            *old = value;
            self.expirations.reset(expiration, self.ttl);
        } else {
            let expiration = self.expirations.insert(key.clone(), self.ttl);
            self.entries.insert(key, (value, expiration));
        }
    }

    fn get(&self, key: &K) -> Option<&V> {
        let (value, expiration) = self.entries.get(key)?;
        (Instant::now() < self.expirations.deadline(expiration)).then_some(value)
    }

    fn remove(&mut self, key: &K) -> Option<V> {
        let (value, expiration) = self.entries.remove(key)?;
        self.expirations.remove(&expiration);
        Some(value)
    }

    /// Removes the next entry that expires, as soon as it has. `None` if there is none.
    fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<Option<(K, V)>> {
        let Some(expired) = ready!(self.expirations.poll_expired(cx)) else {
            return Poll::Ready(None);
        };
        let key = expired.into_inner();
        let entry = self.entries.remove(&key);
        Poll::Ready(entry.map(|(value, _)| (key, value)))
    }

    /// Waits for the next entry that expires. In a server, a branch of the `select!` in which the
    /// task that owns the cache takes its requests; nothing is lost when another branch wins.
    async fn expired(&mut self) -> Option<(K, V)> {
        poll_fn(|cx| self.poll_expired(cx)).await
    }
}

fn main() {
    let mut sessions = Cache::new(Duration::from_millis(50));
    deadbeat::block_on(async {
        let start = Instant::now();
        for (id, user) in [(1, "ada"), (2, "grace"), (3, "barbara")] {
            sessions.insert(id, user);
        }
        assert_eq!(sessions.remove(&2), Some("grace"));
        assert_eq!(sessions.get(&1), Some(&"ada"));

        deadbeat::time::sleep(Duration::from_millis(20)).await;
        sessions.insert(1, "ada, again");

        while let Some((id, user)) = sessions.expired().await {
            println!("session {id} of {user} has expired after {:.1?}", start.elapsed());
        }
        assert_eq!(sessions.get(&1), None);
    });
}
