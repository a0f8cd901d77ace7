//! The writer: the thread that pulls items into a chunk.
#![allow(unsafe_code)]

use crate::ordered::chunk::executor::ChunkExecutor;
use crate::ordered::chunk::reader::ChunkReader;
use crate::ordered::chunk::slots::{Chunk, LockProof, OPEN, SEALING, Slot, Special, put, take};
use crate::runtime::barrier::{Light, heavy};
use crate::sync::{Arc, AtomicBool, AtomicU64, AtomicUsize, Ordering, UnsafeCell};
use crate::unwind::Payload;
use crossbeam_utils::CachePadded;
use std::mem::MaybeUninit;

/// Gives an unused chunk a place, beginning at `first`, with room for `capacity` items.
///
/// The chunk must have no other handle. A recycled one has none (see [`ChunkReader::recycle`]).
pub(in crate::ordered) fn open<I, B>(
    mut chunk: Arc<Chunk<I, B>>,
    first: u64,
    capacity: usize,
) -> (ChunkWriter<I, B>, ChunkReader<I, B>) {
    // Through `&mut`: no thread can see the chunk yet, so the counters need no atomic stores.
    let inner = Arc::get_mut(&mut chunk).expect("an unused chunk has one handle");
    inner.first = first;
    inner.pulled = CachePadded::new(AtomicUsize::new(0));
    inner.published = CachePadded::new(AtomicUsize::new(0));
    inner.limit = CachePadded::new(AtomicUsize::new(OPEN));
    inner.started = AtomicBool::new(false);
    inner.since = AtomicU64::new(0);
    inner.has_specials = AtomicBool::new(false);
    inner.reset_weights(capacity);
    // Slots are kept with the chunk. They are empty: a chunk is recycled only after everything in it was
    // taken.
    if inner.slots.len() < capacity {
        inner
            .slots
            .resize_with(capacity, || UnsafeCell::new(MaybeUninit::uninit()));
    }
    let taking = ChunkReader {
        chunk: Arc::clone(&chunk),
        taken: 0,
        ready: 0,
    };
    (ChunkWriter { chunk, capacity }, taking)
}

/// The puller's handle.
#[derive(Debug)]
pub(in crate::ordered) struct ChunkWriter<I, B> {
    pub(super) chunk: Arc<Chunk<I, B>>,
    pub(super) capacity: usize,
}

/// A [`ChunkWriter`] for the duration of a loop, with everything that does not change in registers.
#[derive(Debug)]
pub(in crate::ordered) struct WriteCursor<'a, I, B> {
    pub(super) chunk: &'a Chunk<I, B>,
    pub(super) slots: &'a [Slot<I, B>],
    pub(super) len: usize,
    pub(super) light: Light,
}

impl<I, B> WriteCursor<'_, I, B> {
    /// Whether the chunk has as many items as it may have.
    #[inline]
    pub(in crate::ordered) fn is_full(&self) -> bool {
        self.len >= self.slots.len()
    }

    /// Adds an item; the chunk must not be full. `false`: the puller must do something before it enters the
    /// source again. If the chunk is not [sealed](Self::is_sealed), it must call a thread to watch.
    #[inline]
    #[must_use]
    pub(in crate::ordered) fn push(&mut self, item: I) -> bool {
        // SAFETY: slots at and past `pulled` belong to the puller, and are empty.
        unsafe { put(&self.slots[self.len], item) };
        self.len += 1;
        // Release: a rescuer, and later the owner, load it with Acquire and then read the slot.
        self.chunk.pulled.store(self.len, Ordering::Release);
        // The fast side of fill / seal and of pull / watch: store `pulled`, barrier, load `limit`.
        self.light.pass(); // pairs with the heavy ones in `seal` and `Core::end_watch`
        self.chunk.limit.load(Ordering::Relaxed) == OPEN
    }

    /// Whether a rescuer has sealed the chunk. Then no item can be added; [settle](ChunkWriter::settle) comes
    /// next.
    pub(in crate::ordered) fn is_sealed(&self) -> bool {
        !self.chunk.is_filling()
    }
}

impl<I, B> ChunkWriter<I, B> {
    pub(in crate::ordered) fn chunk(&self) -> &Arc<Chunk<I, B>> {
        &self.chunk
    }

    /// How many items were added. Relaxed, because only this handle changes the count.
    pub(in crate::ordered) fn len(&self) -> usize {
        self.chunk.pulled.load(Ordering::Relaxed)
    }

    /// The cursor, behind the items that were added so far.
    #[inline]
    pub(in crate::ordered) fn cursor(&mut self) -> WriteCursor<'_, I, B> {
        WriteCursor {
            len: self.len(),
            slots: &self.chunk.slots[..self.capacity],
            chunk: &self.chunk,
            light: Light::new(),
        }
    }

    /// Ends the filling. `Err`: a rescuer was faster.
    pub(in crate::ordered) fn close(self, _: &mut LockProof) -> Result<ChunkExecutor<I, B>, Self> {
        // No barrier is needed here: a rescuer seals under the same lock.
        if !self.chunk.is_filling() {
            return Err(self);
        }
        // Release: thieves and the consumer load it with Acquire.
        self.chunk.limit.store(self.len(), Ordering::Release);
        // The puller's handle becomes the owner's, so the owner is unique too.
        Ok(ChunkExecutor::new(self.chunk))
    }

    /// Makes this a chunk with a panic at the place of its only item: the source's own panic.
    pub(in crate::ordered) fn panicked(self, payload: Payload, _: &mut LockProof) {
        // First what is recorded, then the counters: the consumer may take it as soon as it sees `published`.
        self.chunk.note(0, Special::Panicked(payload));
        self.chunk.pulled.store(1, Ordering::Relaxed);
        self.chunk.limit.store(1, Ordering::Release);
        self.chunk.published.store(1, Ordering::Release);
    }

    /// After a seal: the item that the rescuer has missed, if there is one.
    pub(in crate::ordered) fn settle(self, _: &mut LockProof) -> Option<I> {
        // The rescuer has stored `sealed` in one critical section with the seal, so the lock makes it
        // visible.
        let sealed = self.chunk.sealed.load(Ordering::Relaxed);
        debug_assert!(self.len() - sealed <= 1);
        // The rescuer's load of `pulled` came after the store of the last item: it has that one too.
        if sealed >= self.len() {
            return None;
        }
        // SAFETY: in a sealed chunk, slots at and past `sealed` belong to the puller alone, which has put an
        // item there.
        Some(unsafe { take(&self.chunk.slots[sealed]) })
    }
}

/// Takes over a chunk whose puller is stuck in the source, with everything that was pulled so far.
/// The slow side of fill / seal.
pub(in crate::ordered) fn seal<I, B>(
    chunk: &Arc<Chunk<I, B>>,
    _: &mut LockProof,
) -> Option<ChunkExecutor<I, B>> {
    // Without an item there is nothing to take over, and the chunk must stay open for the puller.
    if !chunk.is_filling() || chunk.pulled() == 0 {
        return None;
    }
    // The order matters: store `limit`, barrier, load `pulled`. A puller that adds an item behind the barrier
    // sees that the chunk is not `OPEN`; one that has added it before is seen here.
    chunk.limit.store(SEALING, Ordering::Relaxed);
    heavy(); // pairs with the light one in `WriteCursor::push`
    let pulled = chunk.pulled();
    chunk.sealed.store(pulled, Ordering::Relaxed);
    // From now on the chunk is closed for everyone but the puller, which asks under the lock (`settle`).
    chunk.limit.store(pulled, Ordering::Release);
    Some(ChunkExecutor::new(Arc::clone(chunk)))
}

/// A chunk of this many items, each of them its own index, that no other thread has seen.
#[cfg(test)]
pub(in crate::ordered) fn filled(
    items: usize,
    key: &mut LockProof,
) -> (ChunkExecutor<usize, ()>, ChunkReader<usize, ()>) {
    let (mut filling, taking) = open(Arc::new(Chunk::new(false)), 0, items);
    for item in 0..items {
        assert!(filling.cursor().push(item));
    }
    (filling.close(key).expect("nobody seals"), taking)
}
