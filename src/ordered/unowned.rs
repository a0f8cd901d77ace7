//! Whole chunks without an owner: what a thread has pulled and may not run, and what is split off a chunk whose owner
//! does not come to it for long.
//!
//! The earliest is taken first, whenever it came. What is split off is older than what has been pulled since, and with a
//! local source that may be all that is within the bound: behind that, the consumer would wait for it as if there were
//! no order (P4).

use crate::ordered::chunk::ChunkExecutor;
use crate::ordered::core::Core;
use crate::ordered::sched::Sched;
use crate::sync::Ordering;

impl<I, B> Sched<I, B> {
    /// Leaves a chunk to any thread. The caller wakes one, or looks for work itself.
    pub(super) fn disown(&self, core: &mut Core<I, B>, chunk: ChunkExecutor<I, B>) {
        core.unowned.push(chunk.seq(), chunk);
        self.is_any_unowned.store(true, Ordering::Relaxed);
    }

    /// Takes the earliest chunk without an owner. It counts as run from this critical section on, before another
    /// thread can look.
    pub(super) fn adopt(&self, core: &mut Core<I, B>) -> Option<ChunkExecutor<I, B>> {
        let chunk = core.unowned.pop_first()?;
        if core.unowned.is_empty() {
            self.is_any_unowned.store(false, Ordering::Relaxed);
        }
        Some(chunk)
    }

    /// Puller, which holds the source's lock and not the scheduler's. A chunk that was left before the source was
    /// released is seen, by that lock; one that is left meanwhile may be missed.
    pub(super) fn is_any_unowned(&self) -> bool {
        self.is_any_unowned.load(Ordering::Relaxed)
    }
}
