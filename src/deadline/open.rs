//! A scope without its future.

use std::pin::Pin;
use std::task::{Context, Poll};

use super::ambient::Frame;
use super::{Expired, Provenance};
use crate::clock::{Elapsed, Instant};
use crate::time::{Sleep, sleep_until};

/// A scope that has been entered: what a future runs in, and then what comes of it.
///
/// Dropping it cancels what has inherited from it, unless it is [complete](Self::complete).
pub(crate) struct Open {
    frame: Option<Frame>,
    /// Otherwise the deadline is that of a scope further out, or somebody else keeps it.
    keeps_time: bool,
    /// Whether who keeps it says that it has come.
    #[cfg(feature = "serve")]
    is_due: bool,
    /// Made when it has to wait.
    sleep: Option<Sleep<Elapsed>>,
}

impl Open {
    pub(crate) fn new(frame: Frame, keeps_time: bool) -> Self {
        Self {
            frame: Some(frame),
            keeps_time,
            #[cfg(feature = "serve")]
            is_due: false,
            sleep: None,
        }
    }

    /// With this deadline, whatever is around.
    #[cfg(feature = "http")]
    pub(crate) fn with(provenance: Provenance) -> Self {
        Self::new(Frame::of(provenance), true)
    }

    /// Leaves it to whoever polls it to say when the deadline [has come](Self::come_due).
    #[cfg(feature = "serve")]
    pub(crate) fn leave_time(&mut self) {
        self.keeps_time = false;
    }

    /// To be polled once more, then.
    #[cfg(feature = "serve")]
    pub(crate) fn come_due(&mut self) {
        self.is_due = true;
    }

    /// Runs `f` inside.
    pub(crate) fn enter<R>(&mut self, f: impl FnOnce() -> R) -> R {
        Frame::enter(&mut self.frame, f)
    }

    /// Whether its own deadline has come; what has inherited from it is then cancelled. To be polled after
    /// what runs in it.
    pub(crate) fn poll_expired(&mut self, cx: &mut Context<'_>) -> Poll<Expired> {
        #[cfg(feature = "serve")]
        if self.is_due {
            return Poll::Ready(self.expire(Instant::now()));
        }
        if !self.keeps_time {
            return Poll::Pending;
        }
        let at = self.provenance().deadline().instant();
        let sleep = self.sleep.get_or_insert_with(|| sleep_until(at));
        Pin::new(sleep).poll(cx).map(|()| self.expire(Instant::now()))
    }

    /// Takes note that it has.
    pub(crate) fn expire(&self, now: Instant<Elapsed>) -> Expired {
        let provenance = self.provenance();
        #[cfg(feature = "tasks")]
        self.cancel();
        let expired = Expired::new(provenance, now);
        #[cfg(feature = "http")]
        let expired = expired.with_blame(
            self.inside().and_then(|inside| inside.blame_for(provenance.deadline())).cloned(),
        );
        expired
    }

    /// What calls inside have left.
    #[cfg(feature = "http")]
    pub(crate) fn inside(&self) -> Option<&super::ambient::Inside> {
        self.frame.as_ref().map(|frame| &frame.inside)
    }

    /// What has inherited from it ends, since its deadline has passed.
    #[cfg(feature = "tasks")]
    fn cancel(&self) {
        if let Some(frame) = &self.frame {
            frame.cancel.cancel(super::Cause::Deadline(self.provenance()));
        }
    }

    /// Has `f` drop what runs inside, since its deadline has passed: calls that are under way leave what they
    /// were waiting for.
    #[cfg(feature = "http")]
    pub(crate) fn give_up(&mut self, f: impl FnOnce()) {
        // First: what is dropped would take it for a caller that is gone.
        #[cfg(feature = "tasks")]
        self.cancel();
        super::ambient::giving_up(&mut self.frame, f);
    }

    /// Of one that keeps a deadline.
    pub(crate) fn provenance(&self) -> Provenance {
        let frame = self.frame.as_ref().expect("it is in its place between polls");
        frame.provenance.expect("who keeps a deadline has one")
    }

    /// What ran in it is done: what has inherited from it goes on.
    pub(crate) fn complete(mut self) {
        self.frame = None;
    }
}

#[cfg(feature = "tasks")]
impl Drop for Open {
    fn drop(&mut self) {
        if let Some(frame) = &self.frame {
            frame.cancel.cancel(super::Cause::CallerGone);
        }
    }
}
