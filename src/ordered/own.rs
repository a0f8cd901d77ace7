//! The chunk that the consumer runs at the head of the line (see `head.rs`).
//!
//! The consumer returns from `next()` after each item of it, and may then stay with its user for any time. So
//! the chunk is only on loan: between two items, a thread that holds the scheduler's lock can take it back,
//! with what is left in it. The loan is that of [`biased`], and one visit is one item:
//!
//! | the thread finds the consumer | what happens |
//! | --- | --- |
//! | away | it has the chunk, and another worker runs the rest |
//! | inside: in the closure of an item | the chunk stays; the consumer was called, and looks under the lock when it comes out |
//!
//! Thieves take the upper half of this chunk as of any other: for them, the consumer is its owner.

use crate::ordered::chunk::{ChunkExecutor, Claim};
use crate::ordered::core::{CONSUMER, Core};
use crate::runtime::barrier::Free;
use crate::runtime::biased::{self, Owner, Visit};
use crate::sync::bug;

/// See the head of this file.
#[derive(Debug)]
pub(super) struct OwnChunk<I, B> {
    owner: Owner<ChunkExecutor<I, B>>,
    /// How many items have been run, or begun.
    visits: u64,
    /// The next item is not its own, as far as is known: only the lock decides.
    contested: bool,
}

/// What became of the next item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OwnStep {
    /// It was run. Otherwise the chunk may belong to another thread by now.
    pub(super) ran: bool,
    /// Another thread has called the consumer.
    pub(super) called: bool,
}

impl<I, B> OwnChunk<I, B> {
    /// Lends a chunk to the consumer, which is the caller.
    pub(super) fn lend(core: &mut Core<I, B>, mut chunk: ChunkExecutor<I, B>, free: Free) -> Self {
        core.activate(CONSUMER, &chunk);
        core.lent_at = chunk.next();
        chunk.start();
        let (revoker, owner) = biased::lend(chunk, 0, free);
        core.lent = Some(revoker);
        core.lends += 1;
        OwnChunk {
            owner,
            visits: 0,
            contested: false,
        }
    }

    /// Whether it must look under the lock before its next item.
    #[inline]
    pub(super) fn is_contested(&self) -> bool {
        self.contested
    }

    /// Runs the next item, unless the chunk was taken back.
    pub(super) fn run(&mut self, f: impl FnOnce(&mut ChunkExecutor<I, B>) -> Claim) -> OwnStep {
        self.visits += 1;
        let mut visits = self.owner.visits();
        let Visit::Found(claim) = visits.visit(self.visits, |chunk| Some(f(chunk))) else {
            return OwnStep {
                ran: false,
                called: true,
            };
        };
        // From now on the consumer counts as away.
        visits.leave(self.visits);
        self.contested = claim == Claim::Contested;
        OwnStep {
            ran: true,
            // A thread that could not take the chunk, because of this visit, has called before it slept
            // (inside / sleep).
            called: !bug("nobody_answers") && visits.is_called(),
        }
    }

    /// Ends the loan from the consumer's side. `None`: the chunk is over, or was taken back before.
    pub(super) fn end(self, core: &mut Core<I, B>) -> Option<ChunkExecutor<I, B>> {
        let chunk = self.owner.give_back(core.lent.take()?)?;
        core.returned(chunk)
    }
}

impl<I, B> Core<I, B> {
    /// A chunk that was on loan. `None`: nothing is left of it.
    pub(super) fn returned(
        &mut self,
        mut chunk: ChunkExecutor<I, B>,
    ) -> Option<ChunkExecutor<I, B>> {
        // In one critical section with the end of the loan, as with a worker's chunk: the consumer recycles
        // it under this lock, and finds either all handles or none.
        self.ran += (chunk.next() - self.lent_at) as u64;
        self.deactivate(CONSUMER);
        if !chunk.settle(&mut self.key) {
            return None;
        }
        // Its next item was claimed and not begun. Whoever runs the rest claims it again.
        chunk.unclaim();
        Some(chunk)
    }
}
