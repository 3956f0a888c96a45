//! Who has to stop, and why.

use std::borrow::Cow;
use std::fmt;
use std::sync::{Arc, OnceLock};

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Provenance;
use super::ambient::with_frames;

/// Why something was cancelled.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// A deadline has passed: this one.
    Deadline(Provenance),
    /// Nobody waits for the result any more: the future was dropped.
    CallerGone,
    /// The service is being shut down.
    Shutdown,
    /// Somebody said so: why.
    Explicit(Cow<'static, str>),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deadline(provenance) => {
                let budget = provenance.budget();
                write!(f, "the deadline of {budget:?} set by {} has passed", provenance.origin())
            }
            Self::CallerGone => f.write_str("the caller is gone"),
            Self::Shutdown => f.write_str("shutting down"),
            Self::Explicit(reason) => f.write_str(reason),
        }
    }
}

/// What was to be done was cancelled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cancelled(Cause);

impl Cancelled {
    pub(crate) fn new(cause: Cause) -> Self {
        Self(cause)
    }

    /// Why.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        &self.0
    }

    /// Whether it was a deadline.
    #[must_use]
    pub fn is_deadline(&self) -> bool {
        matches!(self.0, Cause::Deadline(_))
    }
}

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cancelled: {}", self.0)
    }
}

impl std::error::Error for Cancelled {}

/// Tells work to stop, and why: a tree, in which cancelling a parent cancels its children.
///
/// A [`CancellationToken`] of tokio-util with a [`Cause`]. Each [`scope()`](super::scope()) and each task that
/// [inherits](super::inherit) has one of its own, below that of what it is in, which is made when somebody
/// asks for it.
///
/// # Examples
///
/// ```
/// use deadbeat::deadline::{Cancel, Cause};
///
/// let parent = Cancel::new();
/// let child = parent.child();
/// parent.cancel("no longer wanted");
/// parent.cancel("this comes too late");
/// assert_eq!(child.cause(), Some(Cause::Explicit("no longer wanted".into())));
/// ```
#[derive(Clone)]
pub struct Cancel(Arc<Node>);

struct Node {
    token: CancellationToken,
    cause: OnceLock<Cause>,
    parent: Option<Cancel>,
}

impl Cancel {
    /// One that is nobody's child.
    #[must_use]
    pub fn new() -> Self {
        Self(Arc::new(Node {
            token: CancellationToken::new(),
            cause: OnceLock::new(),
            parent: None,
        }))
    }

    /// That of the scope or task that the caller is in; outside of any, a new one.
    ///
    /// # Complexity
    ///
    /// *O*(scopes around), and allocates for each of them when it is first asked for.
    #[must_use]
    pub fn current() -> Self {
        with_frames(|frames| {
            let mut parent: Option<Self> = None;
            for frame in frames {
                let own = frame.cancel.0.get_or_insert_with(|| match &parent {
                    Some(parent) => parent.child(),
                    None => Self::new(),
                });
                parent = Some(own.clone());
            }
            parent
        })
        .unwrap_or_default()
    }

    /// One that is cancelled with this one, and by itself.
    #[must_use]
    pub fn child(&self) -> Self {
        Self(Arc::new(Node {
            token: self.0.token.child_token(),
            cause: OnceLock::new(),
            parent: Some(self.clone()),
        }))
    }

    /// A token that is cancelled with this one, for code that wants a token. Cancelling it cancels nothing
    /// else.
    #[must_use]
    pub fn token(&self) -> CancellationToken {
        self.0.token.child_token()
    }

    /// Whether it has been cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.0.token.is_cancelled()
    }

    /// Why it has been cancelled: the first cause counts.
    #[must_use]
    pub fn cause(&self) -> Option<Cause> {
        if !self.is_cancelled() {
            return None;
        }
        let mut node = Some(self);
        while let Some(Self(it)) = node {
            if let Some(cause) = it.cause.get() {
                return Some(cause.clone());
            }
            node = it.parent.as_ref();
        }
        unreachable!("tokens are cancelled here alone, with a cause")
    }

    /// Cancels it, for `reason`. Nothing, if it was cancelled before.
    pub fn cancel(&self, reason: impl Into<Cow<'static, str>>) {
        self.cancel_for(Cause::Explicit(reason.into()));
    }

    /// The same, for any cause.
    pub fn cancel_for(&self, cause: Cause) {
        if !self.is_cancelled() {
            // The cause first, so that whoever is woken finds it.
            let _ = self.0.cause.set(cause);
            self.0.token.cancel();
        }
    }

    /// Waits until it is cancelled.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn cancelled(&self) -> Cause {
        self.0.token.cancelled().await;
        self.known_cause()
    }

    /// Once it is cancelled.
    pub(crate) fn known_cause(&self) -> Cause {
        self.cause().unwrap_or_else(|| unreachable!("it was cancelled"))
    }

    pub(crate) fn own_token(&self) -> CancellationToken {
        self.0.token.clone()
    }

    /// Runs `f` on a task of its own once this is cancelled; at once, if it has been. Dropping the guard
    /// before that takes it back, unless it is [detached](AfterCancel::detach).
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// use deadbeat::deadline::Cancel;
    ///
    /// # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    /// # runtime.block_on(async {
    /// let (tell, told) = tokio::sync::oneshot::channel();
    /// let cancel = Cancel::new();
    /// let guard = cancel.after_cancel(move |cause| tell.send(cause.to_string()).unwrap());
    /// cancel.cancel("enough");
    /// assert_eq!(told.await.unwrap(), "enough");
    /// # drop(guard);
    /// # });
    /// ```
    pub fn after_cancel(&self, f: impl FnOnce(Cause) + Send + 'static) -> AfterCancel {
        let this = self.clone();
        AfterCancel {
            task: tokio::spawn(async move { f(this.cancelled().await) }),
            detached: false,
        }
    }
}

impl Default for Cancel {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Cancel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Cancel").field("cause", &self.cause()).finish_non_exhaustive()
    }
}

/// Keeps what is to be run after a cancellation. See [`Cancel::after_cancel`].
#[derive(Debug)]
#[must_use = "dropping it takes the function back"]
pub struct AfterCancel {
    task: JoinHandle<()>,
    detached: bool,
}

impl AfterCancel {
    /// Leaves it in place.
    pub fn detach(mut self) {
        self.detached = true;
    }
}

impl Drop for AfterCancel {
    fn drop(&mut self) {
        if !self.detached {
            self.task.abort();
        }
    }
}

/// That of a frame, if anybody has asked for it.
#[derive(Debug, Default)]
pub(crate) struct Lazy(Option<Cancel>);

impl Lazy {
    pub(crate) fn ready(cancel: Cancel) -> Self {
        Self(Some(cancel))
    }

    pub(crate) fn cancel(&self, cause: Cause) {
        if let Some(cancel) = &self.0 {
            cancel.cancel_for(cause);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against a list of parents: what is cancelled is what has a cancelled ancestor, and the cause is
        /// its own, or that of the nearest that has one.
        #[test]
        fn a_tree_is_cancelled_from_where_it_is_cut(
            ops in prop::collection::vec((any::<bool>(), any::<prop::sample::Index>()), 1..60),
        ) {
            let mut nodes = vec![Cancel::new()];
            let mut model: Vec<(Option<usize>, Option<usize>)> = vec![(None, None)];
            let cause = |model: &[(Option<usize>, Option<usize>)], node: usize| {
                let mut at = Some(node);
                while let Some(node) = at {
                    if model[node].1.is_some() {
                        return model[node].1;
                    }
                    at = model[node].0;
                }
                None
            };
            for (step, (grow, index)) in ops.into_iter().enumerate() {
                let node = index.index(nodes.len());
                if grow {
                    let child = nodes[node].child();
                    nodes.push(child);
                    model.push((Some(node), None));
                } else {
                    nodes[node].cancel(step.to_string());
                    if cause(&model, node).is_none() {
                        model[node].1 = Some(step);
                    }
                }
                for (index, node) in nodes.iter().enumerate() {
                    let expected = cause(&model, index);
                    prop_assert_eq!(node.is_cancelled(), expected.is_some());
                    let expected = expected.map(|step| Cause::Explicit(step.to_string().into()));
                    prop_assert_eq!(node.cause(), expected);
                }
            }
        }
    }
}
