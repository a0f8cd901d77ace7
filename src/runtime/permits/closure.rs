//! The permit that a closure of a limited stage holds while it runs.

use crate::cancel::CancelToken;
use crate::error::Cancelled;
use crate::runtime::holds::{self, HoldGuard};
use crate::runtime::permits::{Permit, Permits};

/// A permit that this thread gives back when its closure returns. Unlike a [`Permit`] it is not sent elsewhere, so
/// what the closure waits for can be judged by it.
#[derive(Debug)]
pub(crate) struct ClosurePermit {
    permit: Permit,
    /// In debug builds: the closure's entry among what is held around this thread.
    hold: Option<HoldGuard>,
}

impl Permits {
    /// Waits for a permit for the closure that this thread is about to run. The token is made only for a wait.
    pub(crate) fn hold(
        &self,
        token: impl FnOnce() -> CancelToken,
    ) -> Result<ClosurePermit, Cancelled> {
        if let Some(permit) = self.try_hold() {
            return Ok(permit);
        }
        self.acquire_under(&[&token()], 1).map(ClosurePermit::new)
    }

    /// The same without a wait.
    pub(crate) fn try_hold(&self) -> Option<ClosurePermit> {
        self.try_acquire(1).map(ClosurePermit::new)
    }
}

impl ClosurePermit {
    fn new(permit: Permit) -> Self {
        let hold = holds::hold();
        if let Some(hold) = &hold {
            let mut line = permit.permits.0.line.lock();
            line.note(hold.number(), permit.weight);
        }
        ClosurePermit { permit, hold }
    }
}

impl Drop for ClosurePermit {
    fn drop(&mut self) {
        // Before the permit is given back: in between, the permits in use are more than is known of, and no wait is
        // taken for stuck.
        if let Some(hold) = self.hold.take() {
            self.permit.permits.0.line.lock().forget(hold.number());
        }
    }
}
