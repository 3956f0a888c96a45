//! Deadlines of scopes, and what inherits them.
#![expect(clippy::async_yields_async, reason = "tasks are to be awaited outside of the scope")]

mod common;

use std::future::{Future, pending, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Poll, Waker};

use common::poll;
use deadbeat::Manual;
use deadbeat::deadline::{self, Cancel, Cause, Deadline, Origin, scope};
use deadbeat::time::{Duration, sleep};
use tokio::sync::oneshot;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);

/// On tokio, and on time that is moved by hand.
fn on_tokio<F: Future>(test: impl FnOnce(Manual) -> F) -> F::Output {
    let manual = Manual::new();
    let _entered = manual.enter();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(test(manual))
}

fn origins_name(provenance: Option<deadline::Provenance>) -> Option<&'static str> {
    match provenance?.origin() {
        Origin::Scope(name) => Some(name),
        _ => None,
    }
}

// Deadlines.

#[test]
fn arithmetic_saturates_and_nothing_makes_one_later() {
    let manual = Manual::new();
    let _entered = manual.enter();
    let soon = Deadline::after(SECOND);
    assert_eq!(Deadline::after(Duration::MAX), Deadline::NEVER);
    assert_eq!(Deadline::NEVER.earlier_by(Duration::MAX), Deadline::NEVER);
    assert_eq!(Deadline::NEVER.remaining(), Duration::MAX);
    assert_eq!(soon.min(Deadline::NEVER), soon);
    assert_eq!(Deadline::NEVER.min(soon), soon);
    assert_eq!(soon.earlier_by(400 * MS).remaining(), 600 * MS);
    assert_eq!(soon.earlier_by(Duration::MAX).remaining(), Duration::ZERO);
    assert!(soon.earlier_by(SECOND).is_expired() && !soon.is_expired());
    manual.fast_forward(SECOND);
    assert!(soon.is_expired() && soon.remaining().is_zero());
    assert!(!Deadline::NEVER.is_expired());
    assert_eq!(format!("{:?}", Deadline::NEVER), "Deadline::NEVER");
}

#[test]
fn a_suspension_counts() {
    let manual = Manual::new();
    let _entered = manual.enter();
    let mut work = pin!(scope(10 * SECOND, pending::<()>()));
    assert!(poll(&mut work, Waker::noop()).is_pending());
    manual.suspend(60 * SECOND);
    let Poll::Ready(Err(expired)) = poll(&mut work, Waker::noop()) else { panic!("not expired") };
    assert!(expired.elapsed() >= 60 * SECOND);
}

// Scopes.

#[test]
fn a_budget_starts_when_the_scope_is_entered() {
    Manual::new().block_on(async {
        let work = scope(SECOND, sleep(800 * MS));
        sleep(10 * SECOND).await;
        work.await.unwrap();
    });
}

#[test]
fn what_has_expired_is_not_begun() {
    Manual::new().block_on(async {
        let deadline = Deadline::after(SECOND);
        sleep(SECOND).await;
        let begun = AtomicBool::new(false);
        let late = scope(deadline, async { begun.store(true, SeqCst) }).await;
        assert_eq!(late.unwrap_err().elapsed(), Duration::ZERO);
        assert!(!begun.load(SeqCst));
        assert!(scope(Duration::ZERO, async {}).await.is_err());
    });
}

#[test]
fn what_is_ready_as_the_deadline_comes_is_ready() {
    Manual::new().block_on(async { scope(SECOND, sleep(SECOND)).await.unwrap() });
}

#[test]
fn an_inner_scope_does_not_take_the_outer_deadline_for_its_own() {
    Manual::new().block_on(async {
        let mut inner_ended = false;
        let outer = scope(SECOND, async {
            let inner = scope(5 * SECOND, sleep(9 * SECOND)).named("inner").await;
            inner_ended = true;
            inner
        });
        let expired = outer.named("outer").await.unwrap_err();
        assert_eq!(expired.origin(), Origin::Scope("outer"));
        assert!(!inner_ended);
    });
}

#[test]
fn a_scope_without_a_name_is_known_by_its_place() {
    Manual::new().block_on(async {
        let expired = scope(SECOND, pending::<()>()).await.unwrap_err();
        assert!(
            expired.to_string().contains("set by the scope at tests/deadline.rs:"),
            "{expired}"
        );
    });
}

#[test]
fn an_expired_scope_stays_so() {
    let manual = Manual::new();
    let _entered = manual.enter();
    let mut work = pin!(scope(SECOND, pending::<()>()));
    assert!(poll(&mut work, Waker::noop()).is_pending());
    manual.fast_forward(SECOND);
    for _ in 0..2 {
        assert!(matches!(poll(&mut work, Waker::noop()), Poll::Ready(Err(_))));
    }
}

#[test]
fn no_limit_sets_no_deadline() {
    Manual::new().block_on(async {
        for limit in [Deadline::NEVER, Deadline::after(Duration::MAX)] {
            scope(limit, async { assert!(deadline::current().is_never()) }).await.unwrap();
        }
        let endless = scope(Duration::MAX, async { deadline::provenance() });
        assert_eq!(endless.await.unwrap(), None);
    });
}

#[test]
fn after_a_panic_what_was_current_is_again() {
    let manual = Manual::new();
    let _entered = manual.enter();
    let mut outer = pin!(scope(
        SECOND,
        poll_fn(|_| {
            let mut inner = pin!(scope(MS, async { panic!("on purpose") }));
            let before = deadline::current();
            assert!(catch_unwind(AssertUnwindSafe(|| poll(&mut inner, Waker::noop()))).is_err());
            assert_eq!(deadline::current(), before);
            Poll::<()>::Pending
        })
    ));
    assert!(poll(&mut outer, Waker::noop()).is_pending());
    assert!(deadline::current().is_never());
}

#[test]
fn a_scope_takes_its_deadline_from_thread_to_thread() {
    let mut work = Box::pin(
        scope(
            3600 * SECOND,
            poll_fn(|_| {
                assert_eq!(origins_name(deadline::provenance()), Some("long"));
                Poll::<()>::Pending
            }),
        )
        .named("long"),
    );
    for _ in 0..3 {
        work = std::thread::spawn(move || {
            assert!(poll(&mut work, Waker::noop()).is_pending());
            assert!(deadline::current().is_never());
            work
        })
        .join()
        .unwrap();
    }
}

#[test]
fn a_scope_allocates_nothing() {
    let manual = Manual::new();
    let _entered = manual.enter();
    let run = || {
        let mut work = pin!(scope(SECOND, scope(MS, async { deadline::current() })));
        assert!(matches!(poll(&mut work, Waker::noop()), Poll::Ready(Ok(Ok(_)))));
        let mut work = pin!(scope(SECOND, pending::<()>()));
        assert!(poll(&mut work, Waker::noop()).is_pending());
    };
    // The first of a thread does.
    run();
    assert_eq!(allocation_counter::measure(run).count_total, 0);
}

// Tasks.

#[test]
fn a_task_of_tokio_inherits_nothing() {
    on_tokio(|_| async {
        let task = scope(SECOND, async { tokio::spawn(async { deadline::current() }) });
        assert_eq!(task.await.unwrap().await.unwrap(), Deadline::NEVER);
    });
}

#[test]
fn a_spawned_task_ends_at_the_deadline_and_knows_whose_it_was() {
    on_tokio(|manual| async move {
        let task = scope(SECOND, async {
            let inherited = deadline::current();
            deadbeat::spawn(async move {
                assert_eq!(deadline::current(), inherited);
                deadbeat::spawn(pending::<()>()).await.unwrap()
            })
        });
        let task = task.named("request").await.unwrap();
        manual.advance(SECOND).await;
        let cancelled = task.await.unwrap();
        // Which of the two is polled first is up to the runtime.
        let cancelled = match cancelled {
            Ok(grandchild) => grandchild.unwrap_err(),
            Err(cancelled) => cancelled,
        };
        assert!(cancelled.is_deadline());
        assert_eq!(
            cancelled.to_string(),
            "cancelled: the deadline of 1s set by scope `request` has passed"
        );
    });
}

#[test]
fn tasks_go_on_when_the_parent_completes_and_end_when_it_is_dropped() {
    on_tokio(|manual| async move {
        for dropped in [false, true] {
            let (tell, told) = oneshot::channel();
            let mut work = Box::pin(scope(60 * SECOND, async move {
                let task = deadbeat::spawn(sleep(SECOND));
                let _ = tell.send(task);
                if dropped {
                    pending::<()>().await;
                }
            }));
            assert_eq!(poll(&mut work, Waker::noop()).is_pending(), dropped);
            drop(work);
            let task = told.await.unwrap();
            manual.advance(SECOND).await;
            match task.await.unwrap() {
                Ok(()) => assert!(!dropped),
                Err(cancelled) => {
                    assert_eq!((cancelled.cause(), dropped), (&Cause::CallerGone, true));
                }
            }
        }
    });
}

#[test]
fn what_was_cancelled_is_not_begun() {
    on_tokio(|_| async {
        let task = scope(SECOND, async {
            Cancel::current().cancel("no longer wanted");
            deadbeat::spawn(async { panic!("begun") })
        });
        let cancelled = task.await.unwrap().await.unwrap().unwrap_err();
        assert_eq!(cancelled.cause(), &Cause::Explicit("no longer wanted".into()));
    });
}

#[test]
fn blocking_work_is_told() {
    on_tokio(|manual| async move {
        let (tell, told) = oneshot::channel();
        let task = scope(SECOND, async {
            deadbeat::spawn_blocking(move || {
                let cancel = Cancel::current();
                let (woken, wait) = mpsc::channel();
                let token = cancel.token();
                tell.send(deadline::current()).unwrap();
                let waiter = std::thread::spawn(move || {
                    deadbeat::block_on(token.cancelled());
                    woken.send(()).unwrap();
                });
                wait.recv().unwrap();
                waiter.join().unwrap();
                cancel.cause()
            })
        });
        let task = task.await.unwrap();
        assert_eq!(told.await.unwrap().remaining(), SECOND);
        manual.advance(SECOND).await;
        assert!(matches!(task.await.unwrap(), Ok(Some(Cause::Deadline(_)))));

        let late = scope(SECOND, async {
            Cancel::current().cancel("no longer wanted");
            deadbeat::spawn_blocking(|| panic!("begun"))
        });
        assert!(late.await.unwrap().await.unwrap().is_err());
    });
}

#[test]
fn what_is_detached_or_shielded_outlives_its_caller() {
    on_tokio(|manual| async move {
        let done = Arc::new(Mutex::new(Vec::new()));
        let note = |what: &'static str| {
            let done = done.clone();
            async move {
                sleep(2 * SECOND).await;
                done.lock().unwrap().push((what, deadline::current().remaining()));
            }
        };
        let (commit, rollback, endless) = (note("commit"), note("rollback"), pending::<()>());
        let mut request = Box::pin(scope(SECOND, async {
            deadline::detach(commit).unwrap();
            deadline::shield(5 * SECOND, rollback).unwrap();
            let endless = deadline::shield(3 * SECOND, endless).unwrap();
            endless.await
        }));
        assert!(poll(&mut request, Waker::noop()).is_pending());
        drop(request);
        assert_eq!(deadline::tracked().len(), 3);
        manual.advance(3 * SECOND).await;
        deadline::tracked().idle().await;
        let mut done = done.lock().unwrap().clone();
        done.sort_unstable();
        assert_eq!(done, [("commit", Duration::MAX), ("rollback", 3 * SECOND)]);

        // No more than may be; and nothing is lost.
        deadline::tracked().set_limit(1);
        let one = deadline::detach(sleep(SECOND)).unwrap();
        let full = deadline::shield(SECOND, async { 7 }).unwrap_err();
        assert_eq!(full.to_string(), "1 tasks go on without a caller already, the most that may");
        assert_eq!(full.into_inner().await, 7);
        deadline::tracked().set_limit(1024);
        manual.advance(SECOND).await;
        one.await.unwrap();
    });
}

// Cancellation.

#[test]
fn the_scopes_around_are_the_ancestors() {
    on_tokio(|_| async {
        let (outer, inner) = scope(SECOND, async {
            let inner = scope(SECOND / 2, async { Cancel::current() }).await.unwrap();
            (Cancel::current(), inner)
        })
        .await
        .unwrap();
        inner.cancel("only this");
        assert!(!outer.is_cancelled());
        let sibling = outer.child();
        outer.cancel_for(Cause::Shutdown);
        assert_eq!(sibling.cancelled().await, Cause::Shutdown);
        assert_eq!(inner.cause(), Some(Cause::Explicit("only this".into())));
    });
}

#[test]
fn an_expired_scope_cancels_with_its_deadline() {
    Manual::new().block_on(async {
        let mut told = None;
        let work = scope(SECOND, async {
            told = Some(Cancel::current());
            pending::<()>().await;
        });
        assert!(work.named("work").await.is_err());
        let Some(Cause::Deadline(provenance)) = told.unwrap().cause() else {
            panic!("no deadline")
        };
        assert_eq!((provenance.origin(), provenance.budget()), (Origin::Scope("work"), SECOND));
    });
}

#[test]
fn a_token_that_is_given_away_cancels_nothing_else() {
    let cancel = Cancel::new();
    cancel.token().cancel();
    assert_eq!((cancel.is_cancelled(), cancel.cause()), (false, None));
    let token = cancel.token();
    cancel.cancel("enough");
    assert!(token.is_cancelled());
}

#[test]
fn what_is_to_be_run_after_a_cancellation_can_be_taken_back() {
    on_tokio(|manual| async move {
        let cancel = Cancel::new();
        let ran = Arc::new(AtomicBool::new(false));
        let run = |ran: &Arc<AtomicBool>| {
            let ran = ran.clone();
            move |_| ran.store(true, SeqCst)
        };
        drop(cancel.after_cancel(run(&ran)));
        cancel.cancel("enough");
        manual.advance(SECOND).await;
        assert!(!ran.load(SeqCst));
        // By now it is run at once.
        cancel.after_cancel(run(&ran)).detach();
        manual.advance(SECOND).await;
        assert!(ran.load(SeqCst));
    });
}
