//! Limited stages: each closure holds one of the user's [`Permits`](crate::Permits) while it runs.
//!
//! The owner of a chunk waits for the permit between the claim of an item and its closure, and publishes the result
//! before it gives the permit back, one item after the other. To all others a thread that waits is in a closure: it
//! counts as one of the `n`, what it has not claimed can be stolen from it, and results that are done come out
//! meanwhile. The differences are:
//!
//! - The wait ends when the item's token is tripped, and whoever does that has stored the cut before. So the item is
//!   at or past the cut then, and is dropped like one that was never claimed.
//! - The time of a timed item begins when it has its permit. A copy never waits: it is dropped if no permit is free.
//! - The consumer never waits, as it runs no items itself in such a stage, unless it is the only thread
//!   ([`inline`](crate::ordered::inline::is_allowed), [`head`](crate::ordered::head::is_allowed)).
//! - The wait counts in what items cost, so the more they wait, the shorter chunks are.
//!
//! The permits of the width ([`permits`](crate::ordered::permits)) are others: a thread has one of those, too.

use crate::ordered::item_context::ItemContext;
use crate::ordered::sched::Sched;
use crate::runtime::context::Current;
use crate::runtime::permits::closure::ClosurePermit;
use crate::unwind::{Payload, catch};

impl<I, B> Sched<I, B> {
    /// Owner: waits for what the claimed item may only run with. `Ok(None)`: nothing, or the item is past a cut, and
    /// must not run. `Err`: the wait would be a dead-lock.
    #[inline]
    pub(super) fn admit(
        &self,
        here: &ItemContext,
        seq: u64,
    ) -> Result<Option<ClosurePermit>, Payload> {
        if self.limit.is_none() {
            return Ok(None);
        }
        self.wait_for_permit(here, seq)
    }

    fn wait_for_permit(
        &self,
        here: &ItemContext,
        seq: u64,
    ) -> Result<Option<ClosurePermit>, Payload> {
        let Some(limit) = self.limit.as_ref().filter(|_| seq < self.signals.cut()) else {
            return Ok(None);
        };
        // What the token depends on. No time runs yet, and no other run of the item exists.
        here.set_seq(seq);
        here.set_deadline(None);
        here.set_race(None);
        let permit = catch(|| limit.hold(|| here.token()))?.ok();
        debug_assert!(permit.is_some() || self.signals.cut() <= seq, "not cut");
        Ok(permit)
    }
}
