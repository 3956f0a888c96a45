//! The deadline that is current where the calling thread is.
//!
//! A thread has a stack of frames: what polls a future in a scope pushes the scope's and takes it off
//! again when the poll returns or panics. Frames are moved, never pointed to.

use std::cell::{Cell, RefCell};

#[cfg(feature = "http")]
use super::Blame;
use super::{Deadline, Provenance};

/// What holds inside a scope.
#[derive(Debug)]
pub(crate) struct Frame {
    /// The deadline, which may be that of a scope further out; `None`: there is none.
    pub(crate) provenance: Option<Provenance>,
    #[cfg(feature = "http")]
    pub(crate) inside: Inside,
    /// Made when somebody asks for it.
    #[cfg(feature = "tasks")]
    pub(crate) cancel: super::cancel::Lazy,
}

/// What calls that were made inside have left.
#[cfg(feature = "http")]
#[derive(Debug, Default)]
pub(crate) struct Inside {
    /// The last of those whose time was up, and what their deadline was.
    left: Option<(Blame, Deadline)>,
    /// Whether what is further out has to do with another call.
    is_call: bool,
}

#[cfg(feature = "http")]
impl Inside {
    /// Why the last call has failed whose time was up, if that was all until `deadline`.
    pub(crate) fn blame_for(&self, deadline: Deadline) -> Option<&Blame> {
        self.left.as_ref().filter(|(_, its)| *its >= deadline).map(|(blame, _)| blame)
    }

    /// The same, however much time it had.
    pub(crate) fn blame(&self) -> Option<&Blame> {
        self.left.as_ref().map(|(blame, _)| blame)
    }
}

impl Frame {
    /// Inside what is current: `own` counts if it is earlier. Returns whether it is.
    pub(crate) fn nested(own: Option<Provenance>) -> (Self, bool) {
        let ambient = provenance();
        let (provenance, is_own) = match (own, ambient) {
            (Some(own), Some(ambient)) if ambient.deadline <= own.deadline => {
                (Some(ambient), false)
            }
            (Some(own), _) => (Some(own), true),
            (None, ambient) => (ambient, false),
        };
        (Self::over(provenance), is_own)
    }

    /// Whatever is current.
    #[cfg(feature = "http")]
    pub(crate) fn of(provenance: Provenance) -> Self {
        let mut frame = Self::over(Some(provenance));
        frame.inside.is_call = true;
        frame
    }

    fn over(provenance: Option<Provenance>) -> Self {
        Self {
            provenance,
            #[cfg(feature = "http")]
            inside: Inside::default(),
            #[cfg(feature = "tasks")]
            cancel: super::cancel::Lazy::default(),
        }
    }

    pub(crate) fn deadline(&self) -> Deadline {
        self.provenance.map_or(Deadline::NEVER, |it| it.deadline)
    }

    /// Runs `f` inside. The frame is out of its place meanwhile.
    #[inline]
    pub(crate) fn enter<R>(slot: &mut Option<Self>, f: impl FnOnce() -> R) -> R {
        let Some(frame) = slot.take() else { return f() };
        let deadline = frame.deadline();
        let mut frame = Some(frame);
        let pushed = FRAMES.try_with(|frames| frames.borrow_mut().extend(frame.take()));
        if pushed.is_err() {
            // The thread is ending, and has no frames any more: nothing is current.
            *slot = frame;
            return f();
        }
        let outer = CURRENT.replace(deadline);
        let _entered = Entered { slot, outer };
        f()
    }
}

/// Leaves with whatever is around, up to the call that is served, why a call has failed that had `deadline`.
#[cfg(feature = "http")]
pub(crate) fn leave(blame: &Blame, deadline: Deadline) {
    // A thread that is ending has nobody to tell.
    let _ = FRAMES.try_with(|frames| {
        for frame in frames.borrow_mut().iter_mut().rev() {
            frame.inside.left = Some((blame.clone(), deadline));
            if frame.inside.is_call {
                break;
            }
        }
    });
}

/// Runs `f`, which drops what runs inside of `slot` since its deadline has passed.
#[cfg(feature = "http")]
pub(crate) fn giving_up(slot: &mut Option<Frame>, f: impl FnOnce()) {
    struct Over(bool);
    impl Drop for Over {
        fn drop(&mut self) {
            GIVING_UP.set(self.0);
        }
    }
    let _over = Over(GIVING_UP.replace(true));
    Frame::enter(slot, f);
}

/// Whether what is dropped now is dropped since a deadline has passed.
#[cfg(feature = "http")]
pub(crate) fn is_giving_up() -> bool {
    GIVING_UP.get()
}

struct Entered<'a> {
    slot: &'a mut Option<Frame>,
    outer: Deadline,
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        CURRENT.set(self.outer);
        *self.slot = FRAMES.try_with(|frames| frames.borrow_mut().pop()).ok().flatten();
    }
}

thread_local! {
    /// That of the last frame.
    static CURRENT: Cell<Deadline> = const { Cell::new(Deadline::NEVER) };
    static FRAMES: RefCell<Vec<Frame>> = const { RefCell::new(Vec::new()) };
    #[cfg(feature = "http")]
    static GIVING_UP: Cell<bool> = const { Cell::new(false) };
}

/// Hands out the frames of this thread, outermost first: none while it is ending.
#[cfg(feature = "tasks")]
pub(crate) fn with_frames<R>(f: impl FnOnce(&mut [Frame]) -> R) -> R {
    let mut f = Some(f);
    let done = FRAMES.try_with(|frames| f.take().map(|f| f(&mut frames.borrow_mut())));
    match done {
        Ok(Some(result)) => result,
        _ => f.take().expect("not called")(&mut []),
    }
}

/// The deadline of whatever the caller takes part in; [`Deadline::NEVER`] if nobody has set one.
///
/// # Complexity
///
/// *O*(1): a read of a thread-local, a nanosecond or two.
///
/// # Examples
///
/// ```
/// use deadbeat::deadline::{self, Deadline};
/// use deadbeat::time::Duration;
///
/// assert_eq!(deadline::current(), Deadline::NEVER);
/// # deadbeat::Manual::new().block_on(async {
/// deadline::scope(Duration::from_secs(1), async {
///     // A longer one inside changes nothing.
///     deadline::scope(Duration::from_secs(5), async {
///         assert_eq!(deadline::current().remaining(), Duration::from_secs(1));
///     }).await
/// }).await.unwrap().unwrap();
/// # });
/// ```
#[inline]
#[must_use]
pub fn current() -> Deadline {
    CURRENT.get()
}

/// The same with where it comes from; `None` if there is no deadline.
///
/// # Examples
///
/// ```
/// use deadbeat::deadline::{self, Origin};
/// use deadbeat::time::Duration;
///
/// # deadbeat::Manual::new().block_on(async {
/// deadline::scope(Duration::from_secs(1), async {
///     let provenance = deadline::provenance().unwrap();
///     assert_eq!(provenance.origin(), Origin::Scope("checkout"));
///     assert_eq!(provenance.budget(), Duration::from_secs(1));
/// }).named("checkout").await.unwrap();
/// # });
/// ```
#[must_use]
pub fn provenance() -> Option<Provenance> {
    if current().is_never() {
        return None;
    }
    FRAMES
        .try_with(|frames| frames.borrow().last().and_then(|frame| frame.provenance))
        .ok()
        .flatten()
}
