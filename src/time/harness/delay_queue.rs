//! [`DelayQueue`] against a sorted map.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use super::{Bytes, Wakes};
use crate::Manual;
use crate::clock::Instant;
use crate::time::DelayQueue;
use crate::time::delay_queue::Key;

/// Runs what the bytes say on a queue.
///
/// # Panics
///
/// If the queue and its oracle disagree: in what comes out, when and in which order; in what a key
/// names; or if the task isn't woken for what it waits for.
pub fn delay_queue(bytes: &[u8]) {
    let mut bytes = Bytes(bytes);
    let mut model = Model::new();
    while let Some(op) = bytes.next() {
        model.apply(op, &mut bytes);
        model.check();
    }
    model.manual.fast_forward(std::time::Duration::from_hours(1));
    model.check();
    while model.is_due() {
        model.poll();
        model.check();
    }
}

struct Model {
    manual: Manual,
    /// Every item has a value of its own.
    queue: DelayQueue<u32>,
    values: u32,
    ordered: u64,
    /// By deadline and order.
    items: BTreeMap<(Instant, u64), (Key, u32)>,
    stale: Vec<Key>,
    /// Whether the task waits, and then whether the last poll has found the queue empty.
    waits: Option<bool>,
    wakes: Arc<Wakes>,
    waker: Waker,
}

impl Model {
    fn new() -> Self {
        let manual = Manual::new();
        let (wakes, waker) = Wakes::new();
        let queue = {
            let _entered = manual.enter();
            DelayQueue::new()
        };
        Self {
            manual,
            queue,
            values: 0,
            ordered: 0,
            items: BTreeMap::new(),
            stale: vec![],
            waits: None,
            wakes,
            waker,
        }
    }

    fn apply(&mut self, op: u8, bytes: &mut Bytes<'_>) {
        let now = self.manual.now();
        match op % 32 {
            0..5 => {
                let timeout = bytes.span();
                let key = self.queue.insert(self.values, timeout);
                self.inserted(now + timeout, key);
            }
            5..8 => {
                let at = match op % 32 {
                    5 => Instant::FAR_FUTURE,
                    _ => now - bytes.span(),
                };
                let key = self.queue.insert_at(self.values, at);
                self.inserted(at, key);
            }
            8..11 => {
                if let Some((at, key, value)) = self.take(bytes.byte()) {
                    let removed = self.queue.remove(&key);
                    assert_eq!((removed.key(), removed.deadline()), (key, at));
                    assert_eq!(removed.into_inner(), value);
                    self.stale.push(key);
                }
            }
            11..16 => {
                if let Some((was, key, value)) = self.take(bytes.byte()) {
                    let at = match op % 32 {
                        11..13 => now + bytes.span(),
                        13..15 => now - bytes.span(),
                        // The last place among equals.
                        _ => was,
                    };
                    self.queue.reset_at(&key, at);
                    self.note(at, key, value);
                }
            }
            16..18 => {
                let pick = usize::from(bytes.byte());
                if let Some(key) = self.stale.get(pick % self.stale.len().max(1)) {
                    assert!(self.queue.try_remove(key).is_none());
                    assert!(self.queue.try_deadline(key).is_none());
                    assert!(self.queue.try_reset_at(key, now).is_err());
                }
            }
            18..23 => {
                self.manual.fast_forward(bytes.span());
            }
            23 => {
                self.manual.advance_to_next();
            }
            24 => match bytes.byte() {
                0..128 => {
                    self.queue.compact();
                    assert_eq!(self.queue.capacity(), self.queue.len());
                }
                128..192 => self.queue.shrink_to_fit(),
                additional => self.queue.reserve(additional.into()),
            },
            25 => {
                self.queue.clear();
                let items = std::mem::take(&mut self.items);
                self.stale.extend(items.into_values().map(|(key, _)| key));
            }
            26 => {
                // Another task takes over.
                (self.wakes, self.waker) = Wakes::new();
                self.poll();
            }
            _ => self.poll(),
        }
    }

    fn inserted(&mut self, at: Instant, key: Key) {
        assert!(!self.stale.contains(&key), "a stale key names another item");
        assert!(self.items.values().all(|&(other, _)| other != key), "two items of one name");
        self.note(at, key, self.values);
        self.values += 1;
    }

    fn note(&mut self, at: Instant, key: Key, value: u32) {
        assert_eq!(self.queue.deadline(&key), at);
        self.items.insert((at, self.ordered), (key, value));
        self.ordered += 1;
    }

    /// Forgets one of the items.
    fn take(&mut self, pick: u8) -> Option<(Instant, Key, u32)> {
        let pick = usize::from(pick) % self.items.len().max(1);
        let (&at, &(key, value)) = self.items.iter().nth(pick)?;
        self.items.remove(&at);
        Some((at.0, key, value))
    }

    fn is_due(&self) -> bool {
        self.items.first_key_value().is_some_and(|(&(at, _), _)| at <= self.manual.now())
    }

    fn poll(&mut self) {
        let polled = self.queue.poll_expired(&mut Context::from_waker(&self.waker));
        self.wakes.take();
        self.waits = None;
        match polled {
            Poll::Ready(Some(expired)) => {
                assert!(self.is_due(), "early: {expired:?}");
                let ((at, _), (key, value)) = self.items.pop_first().expect("one is due");
                assert_eq!((expired.deadline(), expired.key()), (at, key));
                assert_eq!(expired.into_inner(), value);
                self.stale.push(key);
            }
            Poll::Ready(None) => {
                assert!(self.items.is_empty());
                self.waits = Some(true);
            }
            Poll::Pending => {
                assert!(!self.items.is_empty());
                assert!(!self.is_due(), "late at {:?}", self.manual.now());
                self.waits = Some(false);
            }
        }
    }

    fn check(&mut self) {
        self.queue.invariants();
        assert_eq!(self.queue.len(), self.items.len());
        assert_eq!(self.queue.is_empty(), self.items.is_empty());
        assert!(self.queue.capacity() >= self.queue.len());
        let first = self.items.first_key_value().map(|(_, &(key, _))| key);
        // Not always, so that what it remembers has time to go stale.
        if !self.ordered.is_multiple_of(3) {
            assert_eq!(self.queue.peek(), first);
        }
        let news = match self.waits {
            None => false,
            Some(found_empty) => found_empty != self.items.is_empty() || self.is_due(),
        };
        if self.wakes.take() > 0 {
            self.waits = None;
        } else {
            assert!(!news, "a lost wake-up at {:?}", self.manual.now());
        }
    }
}
