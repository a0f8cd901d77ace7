//! The slots of a chunk, and its counters.
#![allow(unsafe_code)]

use crate::error::ItemError;
use crate::ordered::attempts::Attempts;
use crate::sync::{AtomicBool, AtomicU64, AtomicUsize, Mutex, Ordering, UnsafeCell};
use crate::unwind::Payload;
use crossbeam_utils::CachePadded;
use std::fmt;
use std::mem::{ManuallyDrop, MaybeUninit};

/// The chunk is still being filled, and a thread watches over it.
pub(super) const OPEN: usize = usize::MAX;
/// The same, but no thread watches.
pub(super) const ALONE: usize = usize::MAX - 1;
/// A rescuer is about to load `pulled`.
pub(super) const SEALING: usize = usize::MAX - 2;

/// In `since`: the owner has lost the item's place.
pub(super) const GIVEN_UP: u64 = u64::MAX;

/// What an item's slot holds: the item, its result, or nothing. `repr(C)`, so that both are at its start.
#[repr(C)]
pub(super) union Place<I, B> {
    _item: ManuallyDrop<I>,
    _batch: ManuallyDrop<B>,
}

pub(super) type Slot<I, B> = UnsafeCell<MaybeUninit<Place<I, B>>>;

/// Writes a value into an empty slot.
/// # Safety
///
/// By the rules in the head of `chunk.rs`, the slot is the caller's, and empty. `T` is `I` or `B`.
#[inline]
pub(super) unsafe fn put<T, I, B>(slot: &Slot<I, B>, value: T) {
    slot.with_mut(|slot| {
        // SAFETY: promised by the caller; both types fit in the slot, at its start.
        unsafe { slot.cast::<T>().write(value) };
    });
}

/// Moves the value out of a slot.
/// # Safety
///
/// By the rules in the head of `chunk.rs`, the slot is the caller's, and holds a `T`. Afterwards it is empty.
#[inline]
pub(super) unsafe fn take<T, I, B>(slot: &Slot<I, B>) -> T {
    slot.with_mut(|slot| {
        // SAFETY: promised by the caller.
        unsafe { slot.cast::<T>().read() }
    })
}

/// How many bytes an item and its result take.
pub(in crate::ordered) const fn slot_bytes<I, B>() -> usize {
    size_of::<Place<I, B>>()
}

/// Anything other than a plain result.
#[derive(Debug)]
pub(in crate::ordered) enum Special<B> {
    /// A result; nothing after it counts.
    Last(B),
    /// The item's closure panicked.
    Panicked(Payload),
    /// The item's closure ran for too long.
    TimedOut(ItemError),
    /// The item was dropped: it came after a failure, or the stage was cancelled.
    Discarded,
}

/// Proof that the caller holds the scheduler's lock. There is one per stage, inside that lock.
#[derive(Debug)]
pub(in crate::ordered) struct LockProof(pub(super) ());

impl LockProof {
    /// Must be called once per stage: two proofs would prove nothing.
    pub(in crate::ordered) const fn new() -> Self {
        LockProof(())
    }
}

/// What an owner may leave to a copy: what it would have published.
pub(in crate::ordered) type RaceOf<I, B> = Attempts<I, Result<B, Special<B>>>;

/// Items, results and the counters over them.
pub(in crate::ordered) struct Chunk<I, B> {
    pub(super) first: u64,
    /// Written by the puller; see the head of `chunk.rs`.
    pub(super) pulled: CachePadded<AtomicUsize>,
    /// Written by the owner.
    pub(super) published: CachePadded<AtomicUsize>,
    /// Written under the scheduler's lock.
    pub(super) limit: CachePadded<AtomicUsize>,
    /// An owner runs the chunk, or has run it.
    pub(super) started: AtomicBool,
    /// Timed stages: when the claimed item was started, in ns of the stage's clock and never 0. A 0 means
    /// that it was not started, or has returned.
    pub(super) since: AtomicU64,
    /// Hedged stages: the running item and its copy.
    pub(super) race: Mutex<RaceOf<I, B>>,
    /// How many items a rescuer found pulled. Not the same as `limit`, which a thief may have lowered since.
    pub(super) sealed: AtomicUsize,
    /// `true` if `specials` is not empty. Set before the first of them is published.
    pub(super) has_specials: AtomicBool,
    /// By index. A list, because a chunk rarely has more than one.
    pub(super) specials: Mutex<Vec<(usize, Special<B>)>>,
    /// By index, if results have weights: what they weigh. Stored before they are published.
    pub(super) weights: Vec<AtomicU64>,
    weighs: bool,
    /// May be longer than the chunk: it keeps its size when the chunk is used again.
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

// SAFETY: only the slots are not `Sync` by themselves, and by the rules above each slot is touched by one
// thread at a time. Items and results move between threads; no reference is shared.
unsafe impl<I: Send, B: Send> Sync for Chunk<I, B> {}

impl<I, B> Chunk<I, B> {
    /// An empty chunk. [`open`](crate::ordered::chunk::open) gives it a place and its handles.
    pub(in crate::ordered) fn new(weighs: bool) -> Self {
        Chunk {
            weights: Vec::new(),
            weighs,
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

    /// Makes room for as many weights as results, all of them 0.
    pub(super) fn reset_weights(&mut self, capacity: usize) {
        if self.weighs {
            self.weights.clear();
            self.weights.resize_with(capacity, AtomicU64::default);
        }
    }

    /// The `seq` of its first slot.
    pub(in crate::ordered) fn first(&self) -> u64 {
        self.first
    }

    /// How many items have been pulled into it.
    pub(in crate::ordered) fn pulled(&self) -> usize {
        self.pulled.load(Ordering::Acquire)
    }

    /// How many results there are.
    pub(in crate::ordered) fn published(&self) -> usize {
        self.published.load(Ordering::Acquire)
    }

    /// The value of `limit` once the chunk is closed or sealed.
    pub(super) fn closed_at(&self) -> Option<usize> {
        match self.limit.load(Ordering::Acquire) {
            OPEN | ALONE | SEALING => None,
            limit => Some(limit),
        }
    }

    /// How many items of a closed chunk are not claimed. The first item always belongs to the owner, even
    /// before it starts.
    pub(in crate::ordered) fn unclaimed(&self) -> usize {
        self.closed_at()
            .map_or(0, |limit| limit.saturating_sub(self.published() + 1))
    }

    /// Whether a closure of this chunk may be running.
    pub(in crate::ordered) fn is_started(&self) -> bool {
        // `started` alone is not enough: it stays `true` after the last item.
        self.started.load(Ordering::Relaxed)
            && self
                .closed_at()
                .is_some_and(|limit| self.published() < limit)
    }

    /// Whether the puller may still add items: the chunk is neither closed nor sealed.
    pub(super) fn is_filling(&self) -> bool {
        matches!(self.limit.load(Ordering::Relaxed), OPEN | ALONE)
    }

    /// While the chunk is filled: records whether a thread watches over what the puller holds.
    pub(in crate::ordered) fn set_watched(&self, watched: bool, _: &mut LockProof) {
        // Only between `OPEN` and `ALONE`. A rescuer's or the puller's own `limit` must not be overwritten;
        // all of them are stored under the lock that `LockProof` stands for, so the check cannot be outdated.
        if self.is_filling() {
            let limit = if watched { OPEN } else { ALONE };
            // Relaxed: the puller orders its load by the barrier in `push`, and nothing else depends on this
            // value.
            self.limit.store(limit, Ordering::Relaxed);
        }
    }

    /// The running item and its copy.
    pub(in crate::ordered) fn race(&self) -> &Mutex<RaceOf<I, B>> {
        &self.race
    }

    /// When the running item was started.
    pub(in crate::ordered) fn since(&self) -> Option<u64> {
        let since = self.since.load(Ordering::Relaxed);
        (since != 0 && since != GIVEN_UP).then_some(since)
    }

    /// Records something other than a plain result, before it is published.
    #[cold]
    pub(super) fn note(&self, index: usize, special: Special<B>) {
        self.specials.lock().push((index, special));
        // It becomes visible by the release store of `published`, or by what hands the chunk on.
        self.has_specials.store(true, Ordering::Relaxed);
    }

    /// Takes what was recorded for this index.
    #[cold]
    pub(super) fn noted(&self, index: usize) -> Option<Special<B>> {
        let mut specials = self.specials.lock();
        let place = specials.iter().position(|(other, _)| *other == index)?;
        Some(specials.remove(place).1)
    }
}
