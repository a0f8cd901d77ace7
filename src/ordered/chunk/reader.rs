//! The reader: the consumer, or the scheduler that keeps it for the consumer.
#![allow(unsafe_code)]

use crate::ordered::chunk::slots::{Chunk, LockProof, Slot, Special, take};
use crate::sync::{Arc, Ordering};
use crate::unwind::{self, Payload};

/// The consumer's handle.
#[derive(Debug)]
pub(crate) struct ChunkReader<I, B> {
    pub(super) chunk: Arc<Chunk<I, B>>,
    pub(super) taken: usize,
    pub(super) ready: usize,
}

impl<I, B> ChunkReader<I, B> {
    pub(crate) fn chunk(&self) -> &Chunk<I, B> {
        &self.chunk
    }

    /// The chunk, for whoever runs an item of it a second time.
    pub(crate) fn share(&self) -> Arc<Chunk<I, B>> {
        Arc::clone(&self.chunk)
    }

    /// Whether [`take`](Self::take) would give something.
    #[inline]
    pub(crate) fn is_ready(&mut self) -> bool {
        if self.taken == self.ready {
            self.ready = self.chunk.published.load(Ordering::Acquire);
        }
        self.taken < self.ready
    }

    /// Whether the next of what [is ready](Self::is_ready) may be no plain result.
    #[inline]
    pub(crate) fn may_be_special(&self) -> bool {
        self.chunk.has_specials.load(Ordering::Relaxed)
    }

    /// Takes the next result, which [is ready](Self::is_ready) and plain.
    #[inline]
    pub(crate) fn take(&mut self) -> B {
        assert!(self.taken < self.ready);
        let index = self.taken;
        self.taken += 1;
        // SAFETY: slots in `[taken, published)` are the consumer's, and what is not noted as special
        // is a result.
        unsafe { take(&self.chunk.slots[index]) }
    }

    /// Everything that is ready, one by one, up to the first that may be no plain result. `all` is
    /// a count of everything that has been taken in the stage, and goes on.
    #[inline]
    pub(crate) fn ready<'a>(&'a mut self, all: &'a mut u64) -> ReadyResults<'a, I, B> {
        let ready = if self.is_ready() && !self.may_be_special() {
            self.ready
        } else {
            self.taken
        };
        ReadyResults {
            slots: self.chunk.slots[self.taken..ready].iter(),
            count: *all,
            taken: &mut self.taken,
            all,
        }
    }

    /// Takes what is ready, plain or not.
    #[cold]
    pub(crate) fn take_any(&mut self) -> Result<B, Special<B>> {
        match self.chunk.noted(self.taken) {
            Some(special) => {
                self.taken += 1;
                Err(special)
            }
            None => Ok(self.take()),
        }
    }

    /// Whether everything of this chunk has been taken. Only the lock makes that certain: a thief
    /// may be between lowering `limit` and raising it.
    pub(crate) fn is_exhausted(&self, _: &mut LockProof) -> bool {
        self.taken == self.chunk.limit.load(Ordering::Acquire)
    }

    /// Whether the item that the consumer waits for has been started (or is being discarded).
    pub(crate) fn is_next_claimed(&self, _: &mut LockProof) -> bool {
        self.chunk.started.load(Ordering::Relaxed)
    }

    /// The chunk without its handles, for [`open`](crate::ordered::chunk::open); `Err` while its owner has not let go of it.
    pub(crate) fn recycle(mut self) -> Result<Arc<Chunk<I, B>>, Self> {
        if Arc::get_mut(&mut self.chunk).is_some() {
            Ok(self.chunk)
        } else {
            Err(self)
        }
    }

    /// Drops whatever lies in the slots, each by itself: one that panics must not take others
    /// along. The first panic comes back. All other handles must be gone.
    pub(crate) fn clear(mut self) -> Option<Payload> {
        let mut panic = None;
        if Arc::get_mut(&mut self.chunk).is_none() {
            debug_assert!(false, "somebody holds a chunk of a stage that is over");
            return None;
        }
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
        let end = self
            .chunk
            .closed_at()
            .unwrap_or_else(|| self.chunk.pulled());
        // Who starts a chunk ends it, so it is all or nothing. But for a bug of ours, after which it
        // is better to leak an item than to drop it twice.
        let started = usize::from(self.chunk.started.load(Ordering::Relaxed));
        for slot in self
            .chunk
            .slots
            .get(self.chunk.published() + started..end)
            .unwrap_or_default()
        {
            // SAFETY: there is no other handle, and nobody has started the items in this range.
            let item: I = unsafe { take(slot) };
            unwind::first(&mut panic, unwind::discard(item));
        }
        panic
    }
}

/// See [`ChunkReader::ready`]. Its drop brings the counts home.
pub(crate) struct ReadyResults<'a, I, B> {
    pub(super) slots: std::slice::Iter<'a, Slot<I, B>>,
    pub(super) count: u64,
    pub(super) taken: &'a mut usize,
    pub(super) all: &'a mut u64,
}

impl<I, B> ReadyResults<'_, I, B> {
    /// How many have been taken in the stage.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    #[inline]
    pub(crate) fn take(&mut self) -> Option<B> {
        let slot = self.slots.next()?;
        self.count += 1;
        // SAFETY: as in `ChunkReader::take`.
        Some(unsafe { take(slot) })
    }
}

impl<I, B> Drop for ReadyResults<'_, I, B> {
    fn drop(&mut self) {
        *self.taken += (self.count - *self.all) as usize;
        *self.all = self.count;
    }
}
