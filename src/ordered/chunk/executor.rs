//! The executor: the worker that runs the items of a chunk.
#![allow(unsafe_code)]

use crate::ordered::chunk::reader::ChunkReader;
use crate::ordered::chunk::slots::{Chunk, GIVEN_UP, LockProof, Slot, Special, put, take};
use crate::runtime::barrier::Light;
use crate::sync::{Arc, Ordering, bug};

impl<I, B> Chunk<I, B> {
    /// Relaxed: it becomes visible with the result.
    fn set_weight(&self, index: usize, weight: u64) {
        if let Some(place) = self.weights.get(index) {
            place.store(weight, Ordering::Relaxed);
        }
    }

    /// Takes the place of the item that was started at `since` from its owner. `None`: the owner is done with
    /// that item.
    pub(in crate::ordered) fn give_up(
        &self,
        since: u64,
        _: &mut LockProof,
    ) -> Option<LostItem<'_, I, B>> {
        // Run / give up: one exchange of one word decides. The time identifies the item, so a late attempt
        // cannot hit a later item of the same chunk. Acquire: what the owner published before is visible.
        let order = (Ordering::AcqRel, Ordering::Relaxed);
        let given_up = (self.since).compare_exchange(since, GIVEN_UP, order.0, order.1);
        given_up.is_ok().then_some(LostItem { chunk: self })
    }
}

/// The place of an item that its owner has lost, for the thread that took it.
#[derive(Debug)]
#[must_use]
pub(in crate::ordered) struct LostItem<'a, I, B> {
    pub(super) chunk: &'a Chunk<I, B>,
}

impl<I, B> LostItem<'_, I, B> {
    /// The item's `seq`.
    pub(in crate::ordered) fn seq(&self) -> u64 {
        self.chunk.first + self.chunk.published() as u64
    }

    /// Says what will weigh so much, before it is published.
    pub(in crate::ordered) fn set_weight(&self, weight: u64) {
        self.chunk.set_weight(self.chunk.published(), weight);
    }

    /// Publishes instead of the owner. The rest of the chunk must have been
    /// [split](crate::ordered::chunk::split) off.
    pub(in crate::ordered) fn publish(self, what: Result<B, Special<B>>, _: &mut LockProof) {
        // It cannot change: the owner has lost the right to publish, and this thread has not published yet.
        let index = self.chunk.published();
        assert_eq!(
            self.chunk.closed_at(),
            Some(index + 1),
            "the rest is somebody's"
        );
        match what {
            // SAFETY: the item is claimed and taken, and its result is not published. The owner has lost the
            // right to publish it to the thread that has `self`.
            Ok(batch) => unsafe { put(&self.chunk.slots[index], batch) },
            Err(special) => self.chunk.note(index, special),
        }
        // Release, like the owner's own: the consumer loads it with Acquire, and then reads the slot.
        self.chunk.published.store(index + 1, Ordering::Release);
    }
}

/// The handle of the worker that runs the chunk.
#[derive(Debug)]
pub(in crate::ordered) struct ChunkExecutor<I, B> {
    pub(super) chunk: Arc<Chunk<I, B>>,
    /// Unordered stages: the consumer's handle, until there is a result to take with it.
    pub(in crate::ordered) arrival: Option<ChunkReader<I, B>>,
}

/// Whether the next item belongs to the owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ordered) enum Claim {
    Mine,
    /// The chunk is over, or a thief is at work: [`ChunkExecutor::settle`] decides under the lock.
    Contested,
}

/// A [`ChunkExecutor`] for the duration of a loop, with everything that does not change in registers.
#[derive(Debug)]
pub(in crate::ordered) struct ExecCursor<'a, I, B> {
    pub(super) chunk: &'a Chunk<I, B>,
    pub(super) slots: &'a [Slot<I, B>],
    pub(super) index: usize,
    pub(super) light: Light,
}

impl<I, B> ExecCursor<'_, I, B> {
    /// The index of the claimed item.
    #[inline]
    pub(in crate::ordered) fn index(&self) -> usize {
        self.index
    }

    /// The slot of the claimed item.
    #[inline]
    pub(super) fn slot(&self) -> &Slot<I, B> {
        // SAFETY: a claimed item is below `limit`, which is at most the number of slots.
        unsafe { self.slots.get_unchecked(self.index) }
    }

    /// Takes the claimed item. Must be called once per claim.
    #[inline]
    pub(in crate::ordered) fn take(&mut self) -> I {
        // SAFETY: the item is claimed, its result not yet published, and it is taken once.
        unsafe { take(self.slot()) }
    }

    /// Says what the result of the claimed item will weigh, before it is published.
    #[inline]
    pub(in crate::ordered) fn set_weight(&self, weight: u64) {
        self.chunk.set_weight(self.index, weight);
    }

    /// Publishes the result of the claimed item, and claims the next one. The consumer may take the result
    /// from now on.
    #[inline]
    #[must_use]
    pub(in crate::ordered) fn publish(&mut self, batch: B) -> Claim {
        // SAFETY: the item is claimed and taken, its result not yet published.
        unsafe { put(self.slot(), batch) };
        self.go_on()
    }

    /// Publishes something other than a plain result for the claimed item.
    #[cold]
    #[must_use]
    pub(in crate::ordered) fn publish_special(&mut self, special: Special<B>) -> Claim {
        self.chunk.note(self.index, special);
        self.go_on()
    }

    /// The fast side of publish / sleep, claim / steal and claim / cut, with one store and one barrier for
    /// all of them.
    #[inline]
    pub(super) fn go_on(&mut self) -> Claim {
        // The counter is kept in a register, and only stored: no other thread writes `published` as long as
        // the item is the owner's.
        self.index += 1;
        // Release: the consumer, and a thief, load it with Acquire before they touch the slots.
        self.chunk.published.store(self.index, Ordering::Release);
        // Pairs with the heavy barriers in `split`, `Signals::sleep_for` and `Signals::is_cut_off`.
        self.light.pass();
        // A `limit` at or below the item may be a thief's that is still being raised, so this alone decides
        // nothing.
        if self.index < self.chunk.limit.load(Ordering::Relaxed) {
            Claim::Mine
        } else {
            Claim::Contested
        }
    }
}

impl<I, B> ChunkExecutor<I, B> {
    pub(super) fn new(chunk: Arc<Chunk<I, B>>) -> Self {
        ChunkExecutor {
            chunk,
            arrival: None,
        }
    }

    pub(in crate::ordered) fn chunk(&self) -> &Arc<Chunk<I, B>> {
        &self.chunk
    }

    /// The `seq` of the chunk's first item, whether it was run or not.
    pub(in crate::ordered) fn first(&self) -> u64 {
        self.chunk.first
    }

    /// How many items are left to start, as far as known.
    pub(in crate::ordered) fn len(&self) -> usize {
        let limit = self.chunk.limit.load(Ordering::Relaxed);
        limit.saturating_sub(self.next())
    }

    /// The index of the item that is claimed, and neither published nor settled.
    pub(in crate::ordered) fn next(&self) -> usize {
        self.chunk.published.load(Ordering::Relaxed)
    }

    /// The `seq` of that item.
    pub(in crate::ordered) fn seq(&self) -> u64 {
        self.first() + self.next() as u64
    }

    /// Claims the first item.
    pub(in crate::ordered) fn start(&mut self) {
        // Claim / cut: store `started`, barrier, and then the loop loads the cut.
        self.chunk.started.store(true, Ordering::Relaxed);
        if !bug("no_barrier_at_start") {
            Light::new().pass(); // pairs with the heavy one in `Signals::is_cut_off`
        }
    }

    /// Gives up the claim of an item that was not begun: the chunk counts as unstarted, until somebody starts
    /// it again.
    pub(in crate::ordered) fn unclaim(&mut self) {
        self.chunk.started.store(false, Ordering::Relaxed);
    }

    /// Timed stages: the claimed item is about to run.
    /// [`Signals::started`](crate::ordered::signals::Signals::started) comes next.
    pub(in crate::ordered) fn clock_in(&self, now: u64) {
        // Release: a thread that takes the place then sees what was published before it.
        self.chunk.since.store(now, Ordering::Release);
        if !bug("no_barrier_at_clock_in") {
            Light::new().pass(); // pairs with the heavy one in `Signals::sleep_for`
        }
    }

    /// The item's closure has returned. `false`: another thread has its place, and the chunk with it.
    #[must_use]
    pub(in crate::ordered) fn clock_out(&self, since: u64) -> bool {
        // The other side of run / give up: only one of the two exchanges finds this `since`.
        let order = (Ordering::AcqRel, Ordering::Relaxed);
        let returned = (self.chunk.since).compare_exchange(since, 0, order.0, order.1);
        returned.is_ok() || bug("late_result_published")
    }

    /// The cursor, at the claimed item.
    #[inline]
    pub(in crate::ordered) fn cursor(
        &mut self,
    ) -> (ExecCursor<'_, I, B>, &mut Option<ChunkReader<I, B>>) {
        let cursor = ExecCursor {
            // After a claim that was settled under the lock, or at the start, the claimed item is the one at
            // `published`.
            index: self.next(),
            slots: &self.chunk.slots,
            chunk: &self.chunk,
            light: Light::new(),
        };
        (cursor, &mut self.arrival)
    }

    /// Decides a contested claim: whether the item may be started after all.
    pub(in crate::ordered) fn settle(&mut self, _: &mut LockProof) -> bool {
        // A thief lowers and raises the limit in one critical section, so none is between the two now.
        self.len() > 0
    }
}
