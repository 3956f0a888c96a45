//! One scenario on every kind of executor: timers need a waker, nothing else.

mod common;

use std::sync::{Arc, Mutex};

use deadbeat::time::{Duration, Instant, sleep, sleep_until};

const MILLI: Duration = Duration::from_millis(1);

/// Sleeps one after another, many at once in order, and cancels.
async fn scenario(spawn: impl Fn(std::pin::Pin<Box<dyn Future<Output = ()> + Send>>)) {
    let start = Instant::now();
    sleep(MILLI).await;
    assert!(start.elapsed() >= MILLI);

    let order: Arc<Mutex<Vec<u32>>> = Arc::default();
    // A shuffle of 0 to 9, far enough apart that executors keep the order, too.
    for i in [3, 9, 0, 6, 1, 8, 2, 5, 7, 4] {
        let order = order.clone();
        let at = start + MILLI * (10 + 8 * i);
        spawn(Box::pin(async move {
            sleep_until(at).await;
            assert!(Instant::now() >= at);
            order.lock().unwrap().push(i);
        }));
    }
    // Cancelled ones in between, before and after they were armed.
    drop(sleep(MILLI));
    for i in 0..200 {
        let mut cancelled = std::pin::pin!(sleep(MILLI * i));
        std::future::poll_fn(|cx| {
            let _ = cancelled.as_mut().poll(cx);
            std::task::Poll::Ready(())
        })
        .await;
    }
    while order.lock().unwrap().len() < 10 {
        assert!(start.elapsed() < Duration::from_secs(10), "stuck");
        sleep(MILLI).await;
    }
    let order = order.lock().unwrap();
    // A busy machine may run a task of a later deadline first: the set is promised, order is likely.
    let swaps = order.windows(2).filter(|pair| pair[0] > pair[1]).count();
    assert!(swaps <= 2, "{order:?}");
}

#[test]
fn tokio_multi_thread() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(scenario(|task| drop(tokio::spawn(task))));
}

#[test]
fn tokio_current_thread() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(scenario(|task| drop(tokio::spawn(task))));
}

#[test]
fn smol() {
    ::smol::block_on(scenario(|task| ::smol::spawn(task).detach()));
}

#[test]
fn no_executor_at_all() {
    deadbeat::block_on(scenario(|task| {
        std::thread::spawn(move || deadbeat::block_on(task));
    }));
}

#[test]
fn by_hand() {
    let manual = deadbeat::Manual::new();
    manual.block_on(scenario(|task| drop(manual.spawn(task))));
}
