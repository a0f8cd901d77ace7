//! The reader: the consumer, or the scheduler that keeps the handle for the consumer.
#![allow(unsafe_code)]

use crate::ordered::chunk::slots::{Chunk, LockProof, Slot, Special, take};
use crate::sync::{Arc, Ordering};
use crate::unwind::{self, Payload};

/// The consumer's handle.
#[derive(Debug)]
pub(in crate::ordered) struct ChunkReader<I, B> {
    pub(super) chunk: Arc<Chunk<I, B>>,
    /// How many results have been taken, and how many are known to be published.
    pub(super) taken: usize,
    pub(super) ready: usize,
}

impl<I, B> ChunkReader<I, B> {
    pub(in crate::ordered) fn chunk(&self) -> &Chunk<I, B> {
        &self.chunk
    }

    /// The `seq` of the next result.
    pub(in crate::ordered) fn seq(&self) -> u64 {
        self.chunk.first + self.taken as u64
    }

    /// What the next result weighs, which must [be ready](Self::is_ready).
    pub(in crate::ordered) fn weight(&self) -> u64 {
        // Relaxed: the Acquire load in `is_ready` comes first, and it is stored before `published`.
        let weight = self.chunk.weights.get(self.taken);
        weight.map_or(0, |weight| weight.load(Ordering::Relaxed))
    }

    /// The chunk, for a thread that runs one of its items a second time.
    pub(in crate::ordered) fn share(&self) -> Arc<Chunk<I, B>> {
        Arc::clone(&self.chunk)
    }

    /// Whether [`take`](Self::take) would return something.
    #[inline]
    pub(in crate::ordered) fn is_ready(&mut self) -> bool {
        // The shared counter is loaded only when everything known has been taken: otherwise its cache line
        // would travel between this core and the owner's for each result.
        if self.taken == self.ready {
            self.ready = self.chunk.published.load(Ordering::Acquire);
        }
        self.taken < self.ready
    }

    /// Whether the next of what [is ready](Self::is_ready) may be something other than a plain result.
    #[inline]
    pub(in crate::ordered) fn may_be_special(&self) -> bool {
        // Relaxed: the Acquire load in `is_ready` comes first, and the flag is set before `published`.
        self.chunk.has_specials.load(Ordering::Relaxed)
    }

    /// Takes the next result, which must [be ready](Self::is_ready) and plain.
    #[inline]
    pub(in crate::ordered) fn take(&mut self) -> B {
        assert!(self.taken < self.ready);
        let index = self.taken;
        self.taken += 1;
        // SAFETY: slots in `[taken, published)` belong to the consumer, and what is not recorded as special
        // is a result.
        unsafe { take(&self.chunk.slots[index]) }
    }

    /// Everything that is ready, one by one, up to the first that may not be a plain result. `all` counts
    /// what was taken in the whole stage, and is continued.
    #[inline]
    pub(in crate::ordered) fn ready<'a>(&'a mut self, all: &'a mut u64) -> ReadyResults<'a, I, B> {
        // No special can come up in between: it would be past `ready`, which is a copy.
        let ready = if self.is_ready() && !self.may_be_special() {
            self.ready
        } else {
            self.taken
        };
        ReadyResults {
            // One check of the bounds for all of them, and none for each result.
            slots: self.chunk.slots[self.taken..ready].iter(),
            count: *all,
            taken: &mut self.taken,
            all,
        }
    }

    /// Takes what is ready, plain or not.
    #[cold]
    pub(in crate::ordered) fn take_any(&mut self) -> Result<B, Special<B>> {
        // Under the lock of the list, and only in chunks that have something recorded.
        match self.chunk.noted(self.taken) {
            Some(special) => {
                self.taken += 1;
                Err(special)
            }
            None => Ok(self.take()),
        }
    }

    /// Whether all results of this chunk have been taken. Certain only under the lock: a thief may be between
    /// lowering `limit` and raising it.
    pub(in crate::ordered) fn is_exhausted(&self, _: &mut LockProof) -> bool {
        // `limit` is compared, not `published`: a thief that takes the rest of the chunk lowers `limit`, and
        // then nothing more comes.
        self.taken == self.chunk.limit.load(Ordering::Acquire)
    }

    /// Whether the chunk of the item that the consumer waits for has an owner. The owner publishes a result
    /// for that item, or a mark that it was discarded.
    pub(in crate::ordered) fn is_next_claimed(&self, _: &mut LockProof) -> bool {
        // Claim / cut: the caller has passed the heavy barrier, which pairs with the light one in
        // `ChunkExecutor::start`.
        self.chunk.started.load(Ordering::Relaxed)
    }

    /// The chunk without its handles, for [`open`](crate::ordered::chunk::open). `Err`: its owner has not let
    /// go of it.
    pub(in crate::ordered) fn recycle(mut self) -> Result<Arc<Chunk<I, B>>, Self> {
        // `get_mut` proves that this is the last handle, and orders everything that the others have done
        // before.
        if Arc::get_mut(&mut self.chunk).is_some() {
            Ok(self.chunk)
        } else {
            Err(self)
        }
    }

    /// Drops everything in the slots, each value separately, so that one that panics does not keep the others
    /// from being dropped. Returns the first panic.
    pub(in crate::ordered) fn clear(mut self) -> Option<Payload> {
        let mut panic = None;
        // Called after the join, so this is the last handle. If a bug says otherwise, a leak is the safe way
        // out.
        if Arc::get_mut(&mut self.chunk).is_none() {
            debug_assert!(false, "somebody holds a chunk of a stage that is over");
            return None;
        }
        // First the results that were not taken.
        while self.is_ready() {
            unwind::first(
                &mut panic,
                match self.take_any() {
                    Ok(batch) | Err(Special::Last(batch)) => unwind::discard(batch),
                    Err(Special::Discarded | Special::TimedOut(_)) => None,
                    Err(Special::Panicked(payload)) => {
                        unwind::bury(payload);
                        None
                    }
                },
            );
        }
        // Then the items that were not started. A chunk that was still open has `pulled` of them.
        let end = self
            .chunk
            .closed_at()
            .unwrap_or_else(|| self.chunk.pulled());
        // A worker that starts a chunk also ends it, so all items are started or none. After a bug in this
        // crate it is better to leak an item than to drop it twice: the one that may have been taken is
        // skipped.
        let started = usize::from(self.chunk.started.load(Ordering::Relaxed));
        for slot in self
            .chunk
            .slots
            .get(self.chunk.published() + started..end)
            .unwrap_or_default()
        {
            // SAFETY: there is no other handle, and no item in this range was started.
            let item: I = unsafe { take(slot) };
            unwind::first(&mut panic, unwind::discard(item));
        }
        panic
    }
}

/// See [`ChunkReader::ready`]. Its drop brings the counts home.
pub(in crate::ordered) struct ReadyResults<'a, I, B> {
    pub(super) slots: std::slice::Iter<'a, Slot<I, B>>,
    pub(super) count: u64,
    pub(super) taken: &'a mut usize,
    pub(super) all: &'a mut u64,
}

impl<I, B> ReadyResults<'_, I, B> {
    /// How many results were taken in the whole stage.
    pub(in crate::ordered) fn count(&self) -> u64 {
        self.count
    }

    /// Takes the next result. Its slot is not touched again.
    #[inline]
    pub(in crate::ordered) fn take(&mut self) -> Option<B> {
        let slot = self.slots.next()?;
        self.count += 1;
        // SAFETY: as in `ChunkReader::take`.
        Some(unsafe { take(slot) })
    }

    /// Counts all that are left as taken, without a look at them: they have nothing to drop.
    pub(in crate::ordered) fn skip(&mut self) {
        self.count += self.slots.len() as u64;
        self.slots = [].iter();
    }
}

// Also when the user's code panics between two results.
impl<I, B> Drop for ReadyResults<'_, I, B> {
    fn drop(&mut self) {
        *self.taken += (self.count - *self.all) as usize;
        *self.all = self.count;
    }
}
