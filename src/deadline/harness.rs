//! Scopes nested at random, against a model that only does sums: for property tests and for fuzzing.
//!
//! A fuzz target is one line: `fuzz_target!(|bytes: &[u8]| harness::scopes(bytes));`.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;

use super::{Deadline, Limit, Origin, scope};
use crate::Manual;
use crate::clock::{Elapsed, Instant};
use crate::time::{Duration, sleep};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];

/// How deep scopes nest at the most: what polls them is on the stack.
const MOST_DEPTH: usize = 24;

#[derive(Clone, Debug)]
enum Step {
    Sleep(u64),
    /// Notes what is current.
    Look,
    Scope {
        limit: Bound,
        name: usize,
        body: Vec<Self>,
    },
}

#[derive(Clone, Copy, Debug)]
enum Bound {
    After(u64),
    /// So long from the very beginning.
    At(u64),
    Never,
}

/// What was seen, in the order in which it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// The time, the deadline that is current then, and who set it.
    Look(u64, Option<(u64, &'static str)>),
    /// A scope has ended: the time, and if it has expired, by whose deadline, and how long after that
    /// was set.
    Ended(u64, Option<(&'static str, u64)>),
}

/// A script of bytes: played, and compared.
///
/// # Panics
///
/// If scopes don't do what the model says.
pub fn scopes(bytes: &[u8]) {
    let mut bytes = bytes.iter().copied();
    let steps = decode(&mut bytes, 0);
    let seen = RefCell::new(Vec::new());
    let manual = Manual::new();
    let origin = manual.timekeeper().clock().now_elapsed();
    manual.block_on(play(&steps, origin, &seen));
    let mut model = Model::default();
    let unwound = model.play(&steps, 0);
    assert!(unwound.is_none(), "nobody is left to expire");
    assert_eq!(*seen.borrow(), model.seen, "{steps:?}");
}

/// Until the end of the scope, or of the script.
fn decode(bytes: &mut impl Iterator<Item = u8>, depth: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    while let Some(byte) = bytes.next() {
        let n = u64::from(byte / 8);
        match byte % 8 {
            0 | 1 => steps.push(Step::Sleep(n)),
            2 => steps.push(Step::Look),
            3 if depth > 0 => break,
            kind if depth < MOST_DEPTH => {
                let limit = match kind {
                    4 => Bound::At(n * 4),
                    5 if n > 29 => Bound::Never,
                    _ => Bound::After(n),
                };
                let name = usize::from(byte / 64);
                steps.push(Step::Scope { limit, name, body: decode(bytes, depth + 1) });
            }
            _ => {}
        }
    }
    steps
}

fn play<'a>(
    steps: &'a [Step],
    origin: Instant<Elapsed>,
    seen: &'a RefCell<Vec<Seen>>,
) -> Pin<Box<dyn Future<Output = ()> + 'a>> {
    let ms = move |duration: Duration| u64::try_from(duration.as_millis()).expect("short");
    let since = move |instant: Instant<Elapsed>| ms(instant - origin);
    let name = |origin| match origin {
        Origin::Scope(name) => name,
        other => panic!("nobody of that name: {other}"),
    };
    Box::pin(async move {
        for step in steps {
            match step {
                Step::Sleep(time) => sleep(Duration::from_millis(*time)).await,
                Step::Look => {
                    let current = super::provenance().map(|provenance| {
                        assert_eq!(provenance.deadline(), super::current());
                        (since(provenance.deadline().instant()), name(provenance.origin()))
                    });
                    assert_eq!(current.is_none(), super::current().is_never());
                    seen.borrow_mut().push(Seen::Look(since(Instant::now()), current));
                }
                Step::Scope { limit, name: index, body } => {
                    let limit = match *limit {
                        Bound::After(time) => Limit::After(Duration::from_millis(time)),
                        Bound::At(at) => {
                            Limit::At(Deadline::at(origin + Duration::from_millis(at)))
                        }
                        Bound::Never => Limit::At(Deadline::NEVER),
                    };
                    let ended = scope(limit, play(body, origin, seen)).named(NAMES[*index]).await;
                    let expired =
                        ended.err().map(|expired| (name(expired.origin()), ms(expired.elapsed())));
                    seen.borrow_mut().push(Seen::Ended(since(Instant::now()), expired));
                }
            }
        }
    })
}

#[derive(Debug, Default)]
struct Model {
    now: u64,
    /// Of each scope that is entered, outermost first: its deadline, if it is its own; its name; and when
    /// it was entered.
    stack: Vec<(Option<u64>, &'static str, u64)>,
    seen: Vec<Seen>,
}

impl Model {
    /// The deadline that counts, and the scope whose it is: of the earliest, the outermost.
    fn earliest(&self) -> Option<(u64, usize)> {
        let own = |(index, scope): (usize, &(Option<u64>, _, _))| Some((scope.0?, index));
        self.stack.iter().enumerate().filter_map(own).min()
    }

    /// Returns the scope that has expired meanwhile, if one has that is further out than `depth`.
    fn play(&mut self, steps: &[Step], depth: usize) -> Option<usize> {
        for step in steps {
            match step {
                Step::Sleep(0) => {}
                Step::Sleep(time) => {
                    let wakes = self.now + time;
                    if let Some((deadline, whose)) = self.earliest()
                        && deadline < wakes
                    {
                        self.now = self.now.max(deadline);
                        return Some(whose);
                    }
                    self.now = wakes;
                }
                Step::Look => {
                    let current =
                        self.earliest().map(|(deadline, whose)| (deadline, self.stack[whose].1));
                    self.seen.push(Seen::Look(self.now, current));
                }
                Step::Scope { limit, name, body } => {
                    let deadline = match *limit {
                        Bound::After(time) => Some(self.now + time),
                        Bound::At(at) => Some(at),
                        Bound::Never => None,
                    };
                    let earliest = self.earliest().map(|(deadline, _)| deadline);
                    let own = deadline.filter(|own| earliest.is_none_or(|outer| *own < outer));
                    let entered = self.now;
                    if own.is_some_and(|own| own <= self.now) {
                        self.seen.push(Seen::Ended(self.now, Some((NAMES[*name], 0))));
                        continue;
                    }
                    self.stack.push((own, NAMES[*name], entered));
                    let whose = self.play(body, depth + 1);
                    self.stack.pop();
                    let expired = match whose {
                        Some(whose) if whose == depth => Some((NAMES[*name], self.now - entered)),
                        Some(outer) => return Some(outer),
                        None => None,
                    };
                    self.seen.push(Seen::Ended(self.now, expired));
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn nested_scopes_do_what_the_model_says(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            super::scopes(&bytes);
        }
    }
}
