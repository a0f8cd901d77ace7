//! The slots of a chunk, and its counters.
#![allow(unsafe_code)]

use crate::error::ItemError;
use crate::ordered::attempts::Attempts;
use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, Mutex, Ordering, UnsafeCell};
use crate::unwind::Payload;
use crossbeam_utils::CachePadded;
use std::fmt;
use std::mem::{ManuallyDrop, MaybeUninit};

/// The chunk is still being filled, and somebody watches.
pub(super) const OPEN: usize = usize::MAX;
/// The same, and nobody watches.
pub(super) const ALONE: usize = usize::MAX - 1;
/// A rescuer is looking at what has been pulled.
pub(super) const SEALING: usize = usize::MAX - 2;

/// In `since`: the owner has lost the item's place.
pub(super) const GIVEN_UP: u64 = u64::MAX;

/// What lies at an item's place.
#[repr(C)]
pub(super) union Place<I, B> {
    _item: ManuallyDrop<I>,
    _batch: ManuallyDrop<B>,
}

pub(super) type Slot<I, B> = UnsafeCell<MaybeUninit<Place<I, B>>>;

/// # Safety
///
/// By the rules in the module's head, the slot is the caller's, and empty. `T` is `I` or `B`.
#[inline]
pub(super) unsafe fn put<T, I, B>(slot: &Slot<I, B>, value: T) {
    slot.with_mut(|slot| {
        // SAFETY: promised by the caller; both types fit in the slot, at its start.
        unsafe { slot.cast::<T>().write(value) };
    });
}

/// # Safety
///
/// By the rules in the module's head, the slot is the caller's, holds a `T`, and is empty
/// afterwards.
#[inline]
pub(super) unsafe fn take<T, I, B>(slot: &Slot<I, B>) -> T {
    slot.with_mut(|slot| {
        // SAFETY: promised by the caller.
        unsafe { slot.cast::<T>().read() }
    })
}

/// How many bytes an item and its result take.
pub(crate) const fn slot_bytes<I, B>() -> usize {
    size_of::<Place<I, B>>()
}

/// What is not a plain result.
#[derive(Debug)]
pub(crate) enum Special<B> {
    /// A result, and nothing after it counts.
    Last(B),
    /// The item's closure panicked.
    Panicked(Payload),
    /// The item's closure ran for too long.
    TimedOut(ItemError),
    /// The item was dropped: it stood past a failure, or the stage was cancelled.
    Discarded,
}

/// Proof that the caller holds the scheduler's lock. There is one a stage, inside that lock.
#[derive(Debug)]
pub(crate) struct LockProof(pub(super) ());

impl LockProof {
    /// One a stage: two would prove nothing.
    pub(crate) const fn new() -> Self {
        LockProof(())
    }
}

/// What a chunk's owner may leave to a copy is what it would have published.
pub(crate) type RaceOf<I, B> = Attempts<I, Result<B, Special<B>>>;

/// Items, results and the counters over them.
pub(crate) struct Chunk<I, B> {
    pub(super) first: u64,
    pub(super) pulled: CachePadded<AtomicUsize>,
    pub(super) published: CachePadded<AtomicUsize>,
    pub(super) limit: CachePadded<AtomicUsize>,
    /// An owner runs it, or did.
    pub(super) started: AtomicBool,
    /// Timed stages: when the claimed item was started, in ns of the stage's clock and never 0; 0: it
    /// was not, or has returned.
    pub(super) since: AtomicU64,
    /// Hedged stages: that item and its copy.
    pub(super) race: Mutex<RaceOf<I, B>>,
    /// What a rescuer found pulled. Not `limit`: a thief may have lowered that since.
    pub(super) sealed: AtomicUsize,
    /// Set, before the first of them is published, when `specials` is not empty.
    pub(super) has_specials: AtomicBool,
    pub(super) specials: Mutex<Vec<(usize, Special<B>)>>,
    pub(super) slots: Vec<Slot<I, B>>,
}

impl<I, B> fmt::Debug for Chunk<I, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chunk")
            .field("first", &self.first)
            .field("pulled", &self.pulled)
            .field("published", &self.published)
            .field("limit", &self.limit)
            .finish_non_exhaustive()
    }
}

// SAFETY: the slots are the only part that is not `Sync` by itself, and by the rules above a slot is
// touched by one thread at a time: items and results move between threads, no reference is shared.
unsafe impl<I: Send, B: Send> Sync for Chunk<I, B> {}

impl<I, B> Chunk<I, B> {
    /// An empty run. [`open`](crate::ordered::chunk::open) gives it a place and its handles.
    pub(crate) fn new() -> Self {
        Chunk {
            first: 0,
            pulled: CachePadded::new(AtomicUsize::new(0)),
            published: CachePadded::new(AtomicUsize::new(0)),
            limit: CachePadded::new(AtomicUsize::new(0)),
            started: AtomicBool::new(false),
            since: AtomicU64::new(0),
            race: Mutex::new(Attempts::default()),
            sealed: AtomicUsize::new(0),
            has_specials: AtomicBool::new(false),
            specials: Mutex::new(Vec::new()),
            slots: Vec::new(),
        }
    }

    /// The `seq` of its first slot.
    pub(crate) fn first(&self) -> u64 {
        self.first
    }

    /// How many items have been pulled into it.
    pub(crate) fn pulled(&self) -> usize {
        self.pulled.load(Ordering::Acquire)
    }

    /// How many results there are.
    pub(crate) fn published(&self) -> usize {
        self.published.load(Ordering::Acquire)
    }

    /// `limit`, once the chunk is closed or sealed.
    pub(super) fn closed_at(&self) -> Option<usize> {
        match self.limit.load(Ordering::Acquire) {
            OPEN | ALONE | SEALING => None,
            limit => Some(limit),
        }
    }

    /// How many items of a closed chunk nobody has claimed. The first is always its owner's.
    pub(crate) fn unclaimed(&self) -> usize {
        self.closed_at()
            .map_or(0, |limit| limit.saturating_sub(self.published() + 1))
    }

    /// Whether a closure of this chunk may be running.
    pub(crate) fn is_started(&self) -> bool {
        self.started.load(Ordering::Relaxed)
            && self
                .closed_at()
                .is_some_and(|limit| self.published() < limit)
    }

    /// Whether its puller may still add to it: it is neither closed nor sealed.
    pub(super) fn is_filling(&self) -> bool {
        matches!(self.limit.load(Ordering::Relaxed), OPEN | ALONE)
    }

    /// While it is filled: whether somebody looks after what the puller has in hand.
    pub(crate) fn set_watched(&self, watched: bool, _: &mut LockProof) {
        if self.is_filling() {
            let limit = if watched { OPEN } else { ALONE };
            self.limit.store(limit, Ordering::Relaxed);
        }
    }

    /// The item that is being run, and its copy.
    pub(crate) fn race(&self) -> &Mutex<RaceOf<I, B>> {
        &self.race
    }

    /// When the item that is being run was started.
    pub(crate) fn since(&self) -> Option<u64> {
        let since = self.since.load(Ordering::Relaxed);
        (since != 0 && since != GIVEN_UP).then_some(since)
    }

    /// Notes what is not a plain result, before it is published.
    #[cold]
    pub(super) fn note(&self, index: usize, special: Special<B>) {
        self.specials.lock().push((index, special));
        // Published by the release store of `published`, or of whatever hands the chunk on.
        self.has_specials.store(true, Ordering::Relaxed);
    }

    /// Takes what was noted for this index.
    #[cold]
    pub(super) fn noted(&self, index: usize) -> Option<Special<B>> {
        let mut specials = self.specials.lock();
        let place = specials.iter().position(|(other, _)| *other == index)?;
        Some(specials.remove(place).1)
    }
}
