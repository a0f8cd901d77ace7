//! [`CancelHook`]: the registration of a closure that is called when a token is tripped.

use crate::cancel::node::Node;
use crate::sync::Arc;
use std::fmt;

/// The registration of a hook: dropping it deregisters the hook.
///
/// Made by [`CancelToken::on_cancel`](crate::CancelToken::on_cancel). The drop never blocks: a hook
/// that is running on another thread at that moment finishes, but none starts afterwards.
///
/// # Examples
///
/// ```
/// let token = fanfold::CancelToken::new();
/// let guard = token.on_cancel(|| unreachable!("deregistered"));
/// drop(guard);
/// token.cancel();
/// ```
#[doc(alias("OnCancel", "DropGuard"))]
#[must_use = "dropping it deregisters the hook at once: bind it to a name (`let _hook = ..`, not `let _ = ..`), or \
              `detach` it"]
pub struct CancelHook {
    pub(super) entry: Option<(Arc<Node>, u64)>,
}

impl CancelHook {
    /// Keeps the hook registered for the life of the token.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::CancelToken;
    ///
    /// // Ties two unrelated tokens together.
    /// let (token, other) = (CancelToken::new(), CancelToken::new());
    /// let tied = other.clone();
    /// token.on_cancel(move || tied.cancel()).detach();
    ///
    /// token.cancel();
    /// assert!(other.is_cancelled());
    /// ```
    pub fn detach(mut self) {
        self.entry = None;
    }
}

impl Drop for CancelHook {
    fn drop(&mut self) {
        if let Some((node, number)) = self.entry.take() {
            let hook = node.links.lock().hooks.remove(&number);
            drop(hook); // User code, so after the lock is released.
        }
    }
}

impl fmt::Debug for CancelHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelHook").finish_non_exhaustive()
    }
}
