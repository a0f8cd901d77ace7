//! The writer: whoever pulls items into a chunk.
#![allow(unsafe_code)]

use crate::ordered::chunk::executor::ChunkExecutor;
use crate::ordered::chunk::reader::ChunkReader;
use crate::ordered::chunk::slots::{Chunk, LockProof, OPEN, SEALING, Slot, Special, put, take};
use crate::runtime::barrier::{Light, heavy};
use crate::sync::{Arc, AtomicBool, AtomicU64, AtomicUsize, Ordering, UnsafeCell};
use crate::unwind::Payload;
use crossbeam_utils::CachePadded;
use std::mem::MaybeUninit;

/// Gives an unused chunk a place, from `first` on, with room for `capacity` items.
///
/// The chunk must have no other handle; a recycled one has none (see [`ChunkReader::recycle`]).
pub(crate) fn open<I, B>(
    mut chunk: Arc<Chunk<I, B>>,
    first: u64,
    capacity: usize,
) -> (ChunkWriter<I, B>, ChunkReader<I, B>) {
    let inner = Arc::get_mut(&mut chunk).expect("an unused chunk has one handle");
    inner.first = first;
    inner.pulled = CachePadded::new(AtomicUsize::new(0));
    inner.published = CachePadded::new(AtomicUsize::new(0));
    inner.limit = CachePadded::new(AtomicUsize::new(OPEN));
    inner.started = AtomicBool::new(false);
    inner.since = AtomicU64::new(0);
    inner.has_specials = AtomicBool::new(false);
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
pub(crate) struct ChunkWriter<I, B> {
    pub(super) chunk: Arc<Chunk<I, B>>,
    pub(super) capacity: usize,
}

/// [`ChunkWriter`] for the time of a loop, with what does not change in registers.
#[derive(Debug)]
pub(crate) struct WriteCursor<'a, I, B> {
    pub(super) chunk: &'a Chunk<I, B>,
    pub(super) slots: &'a [Slot<I, B>],
    pub(super) len: usize,
    pub(super) light: Light,
}

impl<I, B> WriteCursor<'_, I, B> {
    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.len >= self.slots.len()
    }

    /// Adds an item; the chunk must not be full. `false`: before the puller enters the source again,
    /// it must call somebody to watch, if the chunk is not [sealed](Self::is_sealed) anyway.
    #[inline]
    #[must_use]
    pub(crate) fn push(&mut self, item: I) -> bool {
        // SAFETY: slots at and past `pulled` are the puller's, and empty.
        unsafe { put(&self.slots[self.len], item) };
        self.len += 1;
        self.chunk.pulled.store(self.len, Ordering::Release);
        self.light.pass(); // pairs with the heavy ones in `seal` and `Core::end_watch`
        self.chunk.limit.load(Ordering::Relaxed) == OPEN
    }

    /// Whether a rescuer has sealed the chunk: no more can be added; [settle](ChunkWriter::settle).
    pub(crate) fn is_sealed(&self) -> bool {
        !self.chunk.is_filling()
    }
}

impl<I, B> ChunkWriter<I, B> {
    pub(crate) fn chunk(&self) -> &Arc<Chunk<I, B>> {
        &self.chunk
    }

    pub(crate) fn len(&self) -> usize {
        self.chunk.pulled.load(Ordering::Relaxed)
    }

    #[inline]
    pub(crate) fn cursor(&mut self) -> WriteCursor<'_, I, B> {
        WriteCursor {
            len: self.len(),
            slots: &self.chunk.slots[..self.capacity],
            chunk: &self.chunk,
            light: Light::new(),
        }
    }

    /// Ends the filling. `Err`: a rescuer was faster.
    pub(crate) fn close(self, _: &mut LockProof) -> Result<ChunkExecutor<I, B>, Self> {
        if !self.chunk.is_filling() {
            return Err(self);
        }
        // Release, for thieves and for the consumer, who load it with Acquire.
        self.chunk.limit.store(self.len(), Ordering::Release);
        Ok(ChunkExecutor::new(self.chunk))
    }

    /// Makes this a chunk of no item but a panic in its place: the source's own.
    pub(crate) fn panicked(self, payload: Payload, _: &mut LockProof) {
        self.chunk.note(0, Special::Panicked(payload));
        self.chunk.pulled.store(1, Ordering::Relaxed);
        self.chunk.limit.store(1, Ordering::Release);
        self.chunk.published.store(1, Ordering::Release);
    }

    /// After a seal: the item that the rescuer did not get, if there is one.
    pub(crate) fn settle(self, _: &mut LockProof) -> Option<I> {
        // The rescuer sealed within one critical section.
        let sealed = self.chunk.sealed.load(Ordering::Relaxed);
        debug_assert!(self.len() - sealed <= 1);
        if sealed >= self.len() {
            return None;
        }
        // SAFETY: slots at and past `sealed` of a sealed run are nobody's but the puller's, who has
        // put an item there.
        Some(unsafe { take(&self.chunk.slots[sealed]) })
    }
}

/// Takes over a chunk whose puller is stuck in the source, with what it has pulled so far.
pub(crate) fn seal<I, B>(
    chunk: &Arc<Chunk<I, B>>,
    _: &mut LockProof,
) -> Option<ChunkExecutor<I, B>> {
    if !chunk.is_filling() || chunk.pulled() == 0 {
        return None;
    }
    chunk.limit.store(SEALING, Ordering::Relaxed);
    heavy(); // pairs with the light one in `WriteCursor::push`
    let pulled = chunk.pulled();
    chunk.sealed.store(pulled, Ordering::Relaxed);
    chunk.limit.store(pulled, Ordering::Release);
    Some(ChunkExecutor::new(Arc::clone(chunk)))
}

/// A chunk of this many items, each its own index, that nobody else has seen.
#[cfg(test)]
pub(crate) fn filled(
    items: usize,
    key: &mut LockProof,
) -> (ChunkExecutor<usize, ()>, ChunkReader<usize, ()>) {
    let (mut filling, taking) = open(Arc::new(Chunk::new()), 0, items);
    for item in 0..items {
        assert!(filling.cursor().push(item));
    }
    (filling.close(key).expect("nobody seals"), taking)
}
