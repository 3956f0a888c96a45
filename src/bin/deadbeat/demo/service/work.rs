//! What `stock` does for a call: item by item, each of which takes some time.

use crate::demo::event::{End, What};
use crate::demo::proto::Order;
use deadbeat::deadline::Cancel;
use deadbeat::time::{Instant, sleep};
use std::time::Duration;

/// Tells of each item, and when it is dropped, and whether it was done with all of them then.
#[derive(Debug)]
pub(super) struct Work {
    call: u32,
    items: u32,
    item: Duration,
    how: End,
}

impl Work {
    pub(super) fn new(order: &Order) -> Self {
        let item = Duration::from_micros(order.item_us.into());
        Self { call: order.call, items: order.items, item, how: End::Stopped }
    }

    /// Each item is awaited: what is dropped stops there.
    pub(super) async fn run(mut self) -> u32 {
        for _ in 0..self.items {
            sleep(self.item).await;
            What::Item { call: self.call }.tell();
        }
        self.how = End::Done;
        self.items
    }

    /// Nothing stops a thread: it asks before each item whether it should.
    pub(super) fn run_blocking(mut self) -> u32 {
        for done in 0..self.items {
            if Cancel::current().is_cancelled() {
                return done;
            }
            deadbeat::sleep_until(Instant::now() + self.item);
            What::Item { call: self.call }.tell();
        }
        self.how = End::Done;
        self.items
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        What::WorkEnded { call: self.call, how: self.how }.tell();
    }
}
