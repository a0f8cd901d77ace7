//! The executor: the worker that runs the items of a chunk.
#![allow(unsafe_code)]

use crate::ordered::chunk::reader::ChunkReader;
use crate::ordered::chunk::slots::{Chunk, GIVEN_UP, LockProof, Slot, Special, put, take};
use crate::runtime::barrier::Light;
use crate::sync::{Arc, Ordering, bug};

impl<I, B> Chunk<I, B> {
    /// Takes the place of the item that was started then from its owner, unless that is done with
    /// it.
    pub(crate) fn give_up(&self, since: u64, _: &mut LockProof) -> Option<LostItem<'_, I, B>> {
        let order = (Ordering::AcqRel, Ordering::Relaxed);
        let given_up = (self.since).compare_exchange(since, GIVEN_UP, order.0, order.1);
        given_up.is_ok().then_some(LostItem { chunk: self })
    }
}

/// The place of an item that its owner has lost, for whoever took it.
#[derive(Debug)]
#[must_use]
pub(crate) struct LostItem<'a, I, B> {
    pub(super) chunk: &'a Chunk<I, B>,
}

impl<I, B> LostItem<'_, I, B> {
    /// The item's `seq`.
    pub(crate) fn seq(&self) -> u64 {
        self.chunk.first + self.chunk.published() as u64
    }

    /// Publishes in place of the owner. The rest of the chunk must have been [split](crate::ordered::chunk::split) off.
    pub(crate) fn publish(self, what: Result<B, Special<B>>, _: &mut LockProof) {
        let index = self.chunk.published();
        assert_eq!(
            self.chunk.closed_at(),
            Some(index + 1),
            "the rest is somebody's"
        );
        match what {
            // SAFETY: the item is claimed and taken, its result not published, and the owner has
            // lost the right to do so to the one who made `self`.
            Ok(batch) => unsafe { put(&self.chunk.slots[index], batch) },
            Err(special) => self.chunk.note(index, special),
        }
        self.chunk.published.store(index + 1, Ordering::Release);
    }
}

/// The handle of the worker that runs it.
#[derive(Debug)]
pub(crate) struct ChunkExecutor<I, B> {
    pub(super) chunk: Arc<Chunk<I, B>>,
    /// In an unordered stage: the consumer's handle, until there is a result to take with it.
    pub(crate) arrival: Option<ChunkReader<I, B>>,
}

/// Whether the next item is the owner's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    Mine,
    /// The chunk is over or a thief is at work: [`ChunkExecutor::settle`] tells, under the lock.
    Contested,
}

/// [`ChunkExecutor`] for the time of a loop, with what does not change in registers.
#[derive(Debug)]
pub(crate) struct ExecCursor<'a, I, B> {
    pub(super) chunk: &'a Chunk<I, B>,
    pub(super) slots: &'a [Slot<I, B>],
    pub(super) index: usize,
    pub(super) light: Light,
}

impl<I, B> ExecCursor<'_, I, B> {
    /// The index of the claimed item.
    #[inline]
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    #[inline]
    pub(super) fn slot(&self) -> &Slot<I, B> {
        // SAFETY: what is claimed lies below `limit`, which is at most the number of slots.
        unsafe { self.slots.get_unchecked(self.index) }
    }

    /// Takes the claimed item; once a claim.
    #[inline]
    pub(crate) fn take(&mut self) -> I {
        // SAFETY: the item is claimed, its result not yet published, and it is taken once.
        unsafe { take(self.slot()) }
    }

    /// Publishes the result of the claimed item, which the consumer may take from now on, and claims
    /// the next.
    #[inline]
    #[must_use]
    pub(crate) fn publish(&mut self, batch: B) -> Claim {
        // SAFETY: the item is claimed and taken, its result not yet published.
        unsafe { put(self.slot(), batch) };
        self.go_on()
    }

    /// Publishes something else in the place of the claimed item's result.
    #[cold]
    #[must_use]
    pub(crate) fn publish_special(&mut self, special: Special<B>) -> Claim {
        self.chunk.note(self.index, special);
        self.go_on()
    }

    #[inline]
    pub(super) fn go_on(&mut self) -> Claim {
        self.index += 1;
        self.chunk.published.store(self.index, Ordering::Release);
        // Pairs with the heavy ones in `split`, `Signals::sleep_for` and `Signals::cancel`.
        self.light.pass();
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

    pub(crate) fn chunk(&self) -> &Arc<Chunk<I, B>> {
        &self.chunk
    }

    pub(crate) fn first(&self) -> u64 {
        self.chunk.first
    }

    /// How many items are left to start, as far as is known now.
    pub(crate) fn len(&self) -> usize {
        let limit = self.chunk.limit.load(Ordering::Relaxed);
        limit.saturating_sub(self.next())
    }

    /// The index of the item that is claimed, and neither published nor settled.
    pub(crate) fn next(&self) -> usize {
        self.chunk.published.load(Ordering::Relaxed)
    }

    /// The `seq` of that item.
    pub(crate) fn seq(&self) -> u64 {
        self.first() + self.next() as u64
    }

    /// Claims the first item.
    pub(crate) fn start(&mut self) {
        self.chunk.started.store(true, Ordering::Relaxed);
        if !bug("no_barrier_at_start") {
            Light::new().pass(); // pairs with the heavy one in `Signals::cancel`
        }
    }

    /// Timed stages: the claimed item is about to run. [`Signals::started`](crate::ordered::signals::Signals::started)
    /// comes next.
    pub(crate) fn clock_in(&self, now: u64) {
        // Release: who takes the place then sees what is published before it.
        self.chunk.since.store(now, Ordering::Release);
        if !bug("no_barrier_at_clock_in") {
            Light::new().pass(); // pairs with the heavy one in `Signals::sleep_for`
        }
    }

    /// It has returned. `false`: its place is another's, and so is the chunk.
    #[must_use]
    pub(crate) fn clock_out(&self, since: u64) -> bool {
        let order = (Ordering::AcqRel, Ordering::Relaxed);
        let returned = (self.chunk.since).compare_exchange(since, 0, order.0, order.1);
        returned.is_ok() || bug("late_result_published")
    }

    /// To go on where it stands, at an item that is claimed.
    #[inline]
    pub(crate) fn cursor(&mut self) -> (ExecCursor<'_, I, B>, &mut Option<ChunkReader<I, B>>) {
        let cursor = ExecCursor {
            index: self.next(),
            slots: &self.chunk.slots,
            chunk: &self.chunk,
            light: Light::new(),
        };
        (cursor, &mut self.arrival)
    }

    /// Decides a contested claim: whether the item may be started after all.
    pub(crate) fn settle(&mut self, _: &mut LockProof) -> bool {
        // No thief is between lowering and raising it: both happen in one critical section.
        self.len() > 0
    }
}
