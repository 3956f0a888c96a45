//! What a deadline that is everywhere costs.
//!
//! ```text
//! cargo bench --features tasks --bench deadline
//! ```
//!
//! - `deadline/current/{case}`: a read of the ambient deadline, `bare` outside of any scope, `in_scope`
//!   inside. `tokio` is the same with a task-local of tokio that holds an `Instant`; `floor`, a plain
//!   thread-local.
//! - `deadline/scope/{case}`: a future that is ready, put into a scope and polled. `entered` has a deadline
//!   of its own (two reads of the clock: one for the budget, one is the scope's timer looking whether it
//!   has come), `nested` one that is later than that around it. `tokio` is `TASK_LOCAL.scope` without any
//!   timer; `timeout` is `deadbeat::time::timeout`; `floor` is a read of the elapsed clock.
//! - `deadline/pending/{case}`: the same with a future that isn't ready, dropped after one poll: the timer
//!   is armed. `floor` is an armed `sleep_until` of elapsed time.
//! - `deadline/spawn/{case}`: a task on a current-thread runtime, spawned and awaited: `deadbeat::spawn` in
//!   a scope, and `tokio::spawn`, the floor.

mod support;

use std::{
    cell::Cell,
    future::{Future, pending, ready},
    hint::black_box,
    pin::pin,
    task::{Context, Poll, Waker},
    time::Duration,
};

use criterion::{Criterion, criterion_group, criterion_main};
use deadbeat::{
    clock::{Elapsed, Instant},
    deadline::{self, Deadline, scope},
    time::{sleep_until, timeout},
};
use support::group;

const HOUR: Duration = Duration::from_secs(3600);

tokio::task_local! {
    static TOKIO: std::time::Instant;
}

thread_local! {
    static PLAIN: Cell<Deadline> = const { Cell::new(Deadline::NEVER) };
}

fn once<F: Future>(future: F) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(Waker::noop()))
}

fn deadlines(c: &mut Criterion) {
    let mut current = group(c, "deadline/current".into());
    current.bench_function("floor", |b| b.iter(|| PLAIN.get()));
    current.bench_function("bare", |b| b.iter(deadline::current));
    current.bench_function("in_scope", |b| {
        let _ = once(scope(HOUR, async { b.iter(deadline::current) }));
    });
    #[expect(clippy::disallowed_methods, reason = "what people keep there")]
    let at = std::time::Instant::now() + HOUR;
    current.bench_function("tokio", |b| {
        let _ = once(TOKIO.scope(at, async { b.iter(|| TOKIO.get()) }));
    });
    current.finish();

    let mut scopes = group(c, "deadline/scope".into());
    scopes.bench_function("floor", |b| b.iter(Instant::<Elapsed>::now));
    scopes.bench_function("entered", |b| b.iter(|| once(scope(HOUR, ready(black_box(7))))));
    scopes.bench_function("nested", |b| {
        let _ = once(scope(HOUR, async {
            b.iter(|| once(scope(2 * HOUR, ready(black_box(7)))));
        }));
    });
    scopes.bench_function("timeout", |b| b.iter(|| once(timeout(HOUR, ready(black_box(7))))));
    scopes.bench_function("tokio", |b| b.iter(|| once(TOKIO.scope(at, ready(black_box(7))))));
    scopes.finish();

    let mut pendings = group(c, "deadline/pending".into());
    pendings.bench_function("floor", |b| {
        b.iter(|| once(sleep_until(Instant::<Elapsed>::now() + HOUR)));
    });
    pendings.bench_function("entered", |b| b.iter(|| once(scope(HOUR, pending::<()>()))));
    pendings.finish();

    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut spawns = group(c, "deadline/spawn".into());
    spawns.bench_function("floor", |b| {
        b.iter(|| runtime.block_on(async { tokio::spawn(ready(black_box(7))).await }));
    });
    spawns.bench_function("deadbeat", |b| {
        b.iter(|| {
            runtime.block_on(scope(HOUR, async { deadbeat::spawn(ready(black_box(7))).await }))
        });
    });
    spawns.finish();
}

criterion_group!(benches, deadlines);
criterion_main!(benches);
