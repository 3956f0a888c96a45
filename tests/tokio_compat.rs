//! The same code on tokio's paused time and on ours: to migrate is to change the import.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use deadbeat::Manual;
use proptest::prelude::*;

fn on_tokio<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime")
        .block_on(future)
}

fn on_deadbeat<F: Future>(future: F) -> F::Output {
    Manual::new().block_on(future)
}

/// What happened, and how many milliseconds after the start.
type Log = Vec<(&'static str, u128)>;

/// Compiles the functions twice, once with each import, and compares what they return.
macro_rules! the_same_on_both {
    ($(fn $name:ident($($arg:ident: $ty:ty),*) -> $result:ty $body:block)*) => {
        mod with_tokio {
            use tokio::time::*;
            use tokio_util::{future::FutureExt as _, time::DelayQueue};
            use tokio_stream::StreamExt as TimeExt;
            use super::Log;
            $(pub(crate) async fn $name($($arg: $ty),*) -> $result $body)*
        }
        mod with_deadbeat {
            use deadbeat::time::*;
            use deadbeat::time::StreamExt as TimeExt;
            use super::Log;
            $(pub(crate) async fn $name($($arg: $ty),*) -> $result $body)*
        }
    };
}

macro_rules! tests {
    ($($name:ident)*) => {
        $(#[test]
        fn $name() {
            let theirs = on_tokio(with_tokio::$name());
            assert!(!theirs.is_empty());
            assert_eq!(on_deadbeat(with_deadbeat::$name()), theirs);
        })*
    };
}

tests! {
    sleeps_end_in_the_order_of_deadlines
    a_sleep_can_be_reset
    timeouts_elapse_or_do_not
    timeouts_at_the_edges
    intervals_tick_whatever_the_behavior
    intervals_start_and_reset
    an_interval_loses_no_tick_to_select
    delay_queues_hand_out
    streams_time_out
    streams_are_throttled
    instants_behave
}

the_same_on_both! {
    fn sleeps_end_in_the_order_of_deadlines() -> Log {
        let start = Instant::now();
        let log = std::cell::RefCell::new(vec![]);
        let nap = async |name, ms| {
            sleep(Duration::from_millis(ms)).await;
            log.borrow_mut().push((name, start.elapsed().as_millis()));
        };
        let until = async |name, ms| {
            sleep_until(start + Duration::from_millis(ms)).await;
            log.borrow_mut().push((name, start.elapsed().as_millis()));
        };
        tokio::join!(nap("a", 30), nap("b", 10), until("c", 20), nap("d", 0), until("e", 0));
        tokio::join!(until("past", 7), nap("f", 1), nap("g", 100_000), until("h", 90_000));
        log.into_inner()
    }

    fn a_sleep_can_be_reset() -> Log {
        let start = Instant::now();
        let mut log = vec![];
        let mut note = |name| log.push((name, start.elapsed().as_millis()));
        let ms = Duration::from_millis;
        let mut nap = std::pin::pin!(sleep(ms(10)));
        nap.as_mut().reset(start + ms(50));
        assert_eq!(nap.deadline(), start + ms(50));
        nap.as_mut().await;
        assert!(nap.is_elapsed());
        note("later, unpolled");
        nap.as_mut().reset(start + ms(100));
        assert!(!nap.is_elapsed());
        assert!(timeout(ms(10), nap.as_mut()).await.is_err());
        nap.as_mut().reset(start + ms(80));
        nap.as_mut().await;
        note("earlier, polled");
        nap.as_mut().reset(start + ms(100));
        assert!(timeout(ms(10), nap.as_mut()).await.is_err());
        nap.as_mut().reset(start + ms(120));
        nap.as_mut().await;
        note("later, polled");
        nap.as_mut().reset(start);
        nap.as_mut().await;
        note("past");
        log
    }

    fn timeouts_elapse_or_do_not() -> Log {
        let start = Instant::now();
        let mut log = vec![];
        let mut note = |ok: bool| {
            log.push((if ok { "ok" } else { "elapsed" }, start.elapsed().as_millis()));
        };
        let ms = Duration::from_millis;
        for (limit, work) in [(10, 20), (20, 10), (10, 10), (0, 10), (10, 0), (0, 0)] {
            note(timeout(ms(limit), sleep(ms(work))).await.is_ok());
            note(timeout_at(start + ms(limit), sleep(ms(work))).await.is_ok());
            note(sleep(ms(work)).timeout(ms(limit)).await.is_ok());
            note(sleep(ms(work)).timeout_at(Instant::now() + ms(limit)).await.is_ok());
        }
        let nested = timeout(ms(30), timeout(ms(10), sleep(ms(20)))).await;
        note(nested.is_ok_and(|inner| inner.is_err()));
        let nested = timeout(ms(10), timeout(ms(30), sleep(ms(20)))).await;
        note(nested.is_err());
        log
    }

    fn timeouts_at_the_edges() -> Vec<String> {
        let endless = timeout(Duration::MAX, sleep(Duration::from_secs(1))).await;
        let elapsed = timeout(Duration::ZERO, std::future::pending::<()>()).await.unwrap_err();
        let shown = format!("{elapsed}, {elapsed:?}");
        let error = std::io::Error::from(elapsed);
        let mut late = timeout(Duration::from_secs(1), sleep(Duration::from_secs(2)));
        late.get_mut();
        let left = late.into_inner().deadline() - Instant::now();
        vec![
            format!("{endless:?}"),
            shown,
            format!("{:?}", error.kind()),
            format!("{left:?}"),
        ]
    }

    fn intervals_tick_whatever_the_behavior() -> Log {
        let start = Instant::now();
        let mut log = vec![];
        for (name, behavior) in [
            ("burst", MissedTickBehavior::Burst),
            ("delay", MissedTickBehavior::Delay),
            ("skip", MissedTickBehavior::Skip),
        ] {
            let mut interval = interval(Duration::from_millis(50));
            assert_eq!(interval.missed_tick_behavior(), MissedTickBehavior::default());
            interval.set_missed_tick_behavior(behavior);
            assert_eq!(interval.missed_tick_behavior(), behavior);
            assert_eq!(interval.period(), Duration::from_millis(50));
            for work in [0, 20, 50, 60, 0, 200, 49, 0, 0, 150, 51, 1] {
                let due = interval.tick().await;
                log.push((name, start.elapsed().as_millis()));
                log.push(("due", (due - start).as_millis()));
                sleep(Duration::from_millis(work)).await;
            }
        }
        log
    }

    fn intervals_start_and_reset() -> Log {
        let start = Instant::now();
        let mut log = vec![];
        let ms = Duration::from_millis;
        let mut interval = interval_at(start + ms(30), ms(100));
        for round in 0..8 {
            let due = interval.tick().await;
            log.push(("due", (due - start).as_millis()));
            log.push(("now", start.elapsed().as_millis()));
            sleep(ms(20)).await;
            match round {
                0 => interval.reset(),
                1 => interval.reset_immediately(),
                2 => interval.reset_after(ms(10)),
                3 => interval.reset_at(start + ms(1000)),
                4 => interval.reset_at(start + ms(700)),
                _ => {}
            }
        }
        log
    }

    fn an_interval_loses_no_tick_to_select() -> Log {
        let start = Instant::now();
        let mut log = vec![];
        let mut interval = interval(Duration::from_millis(10));
        for _ in 0..20 {
            tokio::select! {
                biased;
                _ = sleep(Duration::from_millis(7)) => log.push(("nap", start.elapsed().as_millis())),
                _ = interval.tick() => log.push(("tick", start.elapsed().as_millis())),
            }
        }
        log
    }

    fn delay_queues_hand_out() -> Log {
        let start = Instant::now();
        let mut log = vec![];
        let ms = Duration::from_millis;
        let mut queue = DelayQueue::with_capacity(4);
        let a = queue.insert("a", ms(40));
        queue.insert("b", ms(10));
        let c = queue.insert("c", ms(20));
        queue.insert_at("d", start + ms(30));
        assert_eq!(queue.deadline(&a), start + ms(40));
        queue.reset(&a, ms(5));
        assert_eq!(queue.peek(), Some(a));
        queue.reset_at(&c, start + ms(60));
        let e = queue.insert("e", ms(50));
        assert_eq!(queue.remove(&e).into_inner(), "e");
        queue.reserve(10);
        assert!(queue.capacity() >= 14);
        queue.compact();
        assert_eq!(queue.capacity(), queue.len());
        assert_eq!(queue.peek(), Some(a));
        while let Some(expired) = std::future::poll_fn(|cx| queue.poll_expired(cx)).await {
            log.push((*expired.get_ref(), start.elapsed().as_millis()));
            log.push(("due", (expired.deadline() - start).as_millis()));
            // By value: tokio gives the same key to the item that takes its place.
            if *expired.get_ref() == "a" {
                queue.insert("at once", Duration::ZERO);
            }
        }
        assert!(queue.is_empty());
        queue.insert("f", ms(50));
        queue.clear();
        queue.shrink_to_fit();
        log.push(("end", queue.len() as u128));
        log
    }

    fn streams_time_out() -> Log {
        use smol::stream::unfold;
        let start = Instant::now();
        let mut log = vec![];
        let gaps = || unfold(vec![30, 5, 70, 10, 0], |mut gaps| async move {
            sleep(Duration::from_millis(gaps.pop()?)).await;
            Some(((), gaps))
        });
        let mut once = Box::pin(TimeExt::timeout(gaps(), Duration::from_millis(20)));
        while let Some(item) = smol::stream::StreamExt::next(&mut once).await {
            log.push((if item.is_ok() { "item" } else { "elapsed" }, start.elapsed().as_millis()));
        }
        let ticks = interval(Duration::from_millis(20));
        let mut often = Box::pin(TimeExt::timeout_repeating(gaps(), ticks));
        while let Some(item) = smol::stream::StreamExt::next(&mut often).await {
            log.push((if item.is_ok() { "item" } else { "elapsed" }, start.elapsed().as_millis()));
        }
        log
    }

    fn streams_are_throttled() -> Log {
        let start = Instant::now();
        let mut log = vec![];
        for ms in [10, 0] {
            let items = smol::stream::iter(["a", "b", "c"]);
            let mut items = Box::pin(TimeExt::throttle(items, Duration::from_millis(ms)));
            while let Some(item) = smol::stream::StreamExt::next(&mut items).await {
                log.push((item, start.elapsed().as_millis()));
            }
        }
        log
    }

    fn instants_behave() -> Vec<Option<Duration>> {
        let (start, ms) = (Instant::now(), Duration::from_millis);
        sleep(ms(10)).await;
        let mut now = Instant::now();
        now += ms(1);
        now -= ms(1);
        let std: std::time::Instant = now.into_std();
        let _ = Instant::from_std(std);
        let _ = Instant::from(std);
        vec![
            Some(start.elapsed()),
            Some(now - start),
            Some(now.duration_since(start)),
            Some(start.duration_since(now)),
            Some(start.saturating_duration_since(now)),
            start.checked_duration_since(now),
            now.checked_duration_since(start),
            start.checked_add(ms(10)).map(|at| at - start),
            now.checked_sub(ms(10)).map(|at| at - start),
            start.checked_add(Duration::MAX).map(|at| at - start),
        ]
    }

    fn interval_ticks(period: u64, behavior: u8, work: Vec<u64>) -> Vec<(Duration, Duration)> {
        let start = Instant::now();
        let mut interval = interval(Duration::from_millis(period));
        interval.set_missed_tick_behavior(match behavior {
            0 => MissedTickBehavior::Burst,
            1 => MissedTickBehavior::Delay,
            _ => MissedTickBehavior::Skip,
        });
        let mut ticks = vec![];
        for work in work {
            let due = interval.tick().await;
            ticks.push((due - start, start.elapsed()));
            sleep(Duration::from_millis(work)).await;
        }
        ticks
    }
}

proptest! {
    /// Tens of milliseconds, so that a tick is on time or late by more than what tokio tolerates.
    #[test]
    fn intervals_tick_at_the_same_times(
        period in (1..10_u64).prop_map(|tens| tens * 10),
        behavior in 0..3_u8,
        work in prop::collection::vec((0..30_u64).prop_map(|tens| tens * 10), 0..30),
    ) {
        let theirs = on_tokio(with_tokio::interval_ticks(period, behavior, work.clone()));
        let ours = on_deadbeat(with_deadbeat::interval_ticks(period, behavior, work));
        prop_assert_eq!(ours, theirs);
    }

    #[test]
    fn delay_queues_hand_out_the_same_items(ops in prop::collection::vec(op(), 0..60)) {
        let theirs = on_tokio(drive_tokio(&ops));
        prop_assert_eq!(drive_deadbeat(&ops), theirs);
    }
}

#[derive(Clone, Copy, Debug)]
enum Op {
    Insert { ms: u64 },
    Reset { pick: usize, ms: u64 },
    Remove { pick: usize },
    Pass { ms: u64 },
    Drain,
}

fn op() -> impl Strategy<Value = Op> {
    let ms = prop_oneof![0..10_u64, 0..300_u64, 0..200_000_u64];
    prop_oneof![
        4 => ms.clone().prop_map(|ms| Op::Insert { ms }),
        2 => (any::<usize>(), ms.clone()).prop_map(|(pick, ms)| Op::Reset { pick, ms }),
        1 => any::<usize>().prop_map(|pick| Op::Remove { pick }),
        2 => ms.prop_map(|ms| Op::Pass { ms }),
        2 => Just(Op::Drain),
    ]
}

/// What came out: when since the start it was due, and its value.
type Drained = Vec<(std::time::Duration, usize)>;

/// Runs the operations on either queue. What is due at one time comes in any order from tokio's, so
/// each batch is sorted.
macro_rules! drive {
    ($ops:ident, $queue:ident, $start:ident, $ms:ident => $pass:expr) => {{
        let mut batches: Vec<(Drained, bool)> = vec![];
        let mut keys = vec![];
        for (value, &op) in $ops.iter().enumerate() {
            match op {
                Op::Insert { ms } => {
                    let key = $queue.insert(value, std::time::Duration::from_millis(ms));
                    keys.push((value, key));
                }
                Op::Reset { pick, ms } if !keys.is_empty() => {
                    let (_, key) = &keys[pick % keys.len()];
                    $queue.reset(key, std::time::Duration::from_millis(ms));
                }
                Op::Remove { pick } if !keys.is_empty() => {
                    let (value, key) = keys.swap_remove(pick % keys.len());
                    let removed = $queue.remove(&key);
                    batches.push((vec![(removed.deadline() - $start, value)], $queue.is_empty()));
                }
                Op::Pass { ms: $ms } => $pass,
                Op::Drain => {
                    let mut batch = vec![];
                    let mut cx = Context::from_waker(Waker::noop());
                    let end = loop {
                        match $queue.poll_expired(&mut cx) {
                            Poll::Ready(Some(expired)) => {
                                keys.retain(|&(value, _)| value != *expired.get_ref());
                                batch.push((expired.deadline() - $start, expired.into_inner()));
                            }
                            Poll::Ready(None) => break true,
                            Poll::Pending => break false,
                        }
                    };
                    batch.sort_unstable();
                    keys.sort_unstable_by_key(|&(value, _)| value);
                    batches.push((batch, end));
                }
                _ => {}
            }
        }
        batches
    }};
}

async fn drive_tokio(ops: &[Op]) -> Vec<(Drained, bool)> {
    let start = tokio::time::Instant::now();
    let mut queue = tokio_util::time::DelayQueue::new();
    drive!(ops, queue, start, ms => {
        tokio::time::advance(std::time::Duration::from_millis(ms)).await;
    })
}

fn drive_deadbeat(ops: &[Op]) -> Vec<(Drained, bool)> {
    let manual = Manual::new();
    let _entered = manual.enter();
    let start = manual.now();
    let mut queue = deadbeat::time::DelayQueue::new();
    drive!(ops, queue, start, ms => {
        manual.fast_forward(std::time::Duration::from_millis(ms));
    })
}

/// What has come by the first poll is ready, although the timer was made before.
#[test]
fn a_sleep_that_is_first_polled_after_its_deadline_is_ready_on_a_manual_clock() {
    let manual = deadbeat::Manual::new();
    let mut cx = Context::from_waker(Waker::noop());
    let mut nap = manual.timekeeper().sleep(Duration::from_secs(1));
    manual.fast_forward(Duration::from_secs(2));
    assert!(Pin::new(&mut nap).poll(&mut cx).is_ready());
    assert_eq!(manual.timekeeper().stats().armed, 0);
}

/// As in tokio, the next poll finds it ready, and nobody is woken for it.
#[test]
fn a_pending_sleep_that_is_reset_to_the_past_is_ready_at_the_next_poll() {
    let manual = deadbeat::Manual::new();
    let mut cx = Context::from_waker(Waker::noop());
    let mut nap = manual.timekeeper().sleep(Duration::from_secs(1));
    assert!(Pin::new(&mut nap).poll(&mut cx).is_pending());
    Pin::new(&mut nap).reset(manual.now() - Duration::from_secs(1));
    assert!(Pin::new(&mut nap).poll(&mut cx).is_ready());
    assert!(Pin::new(&mut nap).poll(&mut cx).is_ready(), "fused");
    assert_eq!(manual.fast_forward(Duration::from_secs(5)), 0);
}
