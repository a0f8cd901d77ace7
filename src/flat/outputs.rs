//! A queue for one writer and one reader, without a lock: the outputs of one item.
//!
//! The outputs are in segments, which the writer allocates when it needs them, so that a queue that stays short stays
//! small. A slot is written once and read once. One word, `published`, says which slots hold an output: the
//! writer stores it with Release after it has written a slot, and the reader loads it with Acquire before it reads one. The
//! two halves are unique, so each slot belongs to one thread at any time: to the writer from `published` on, to
//! the reader before that.
//!
//! Whether a half must wait, and how it is woken, is not decided here, but in `lane.rs`.
#![allow(unsafe_code)]

use crate::sync::{Arc, AtomicUsize, Mutex, Ordering, UnsafeCell};
use crossbeam_utils::CachePadded;
use std::collections::VecDeque;
use std::fmt;
use std::mem::MaybeUninit;

/// How many outputs the first segment of a queue has, and how many one may have. Each has twice as many as the one
/// before, as long as it has no more bytes than this.
const FIRST: usize = 16;
const FIRST_BYTES: usize = 1 << 12;
const MOST: usize = 1024;
const MOST_BYTES: usize = 1 << 16;

type Slot<T> = UnsafeCell<MaybeUninit<T>>;

/// A number of slots that follow one another.
struct Segment<T>(Box<[Slot<T>]>);

// SAFETY: only the slots are not `Sync` by themselves, and by the rules above each slot is touched by one thread at a
// time. Outputs move between threads; no reference is shared.
unsafe impl<T: Send> Sync for Segment<T> {}

impl<T> Segment<T> {
    fn first() -> Arc<Self> {
        Self::new(FIRST.min(FIRST_BYTES / size_of::<T>().max(1)).max(1))
    }

    fn new(len: usize) -> Arc<Self> {
        let slots = (0..len).map(|_| UnsafeCell::new(MaybeUninit::uninit()));
        Arc::new(Segment(slots.collect()))
    }
}

/// What the two halves share.
struct Shared<T> {
    /// The number of outputs that were written, times two; and 1 more if there will be no others.
    published: CachePadded<AtomicUsize>,
    /// The segments that the reader has not come to.
    next: Mutex<VecDeque<Arc<Segment<T>>>>,
}

/// The half of the thread that makes the outputs.
pub(super) struct OutputWriter<T> {
    shared: Arc<Shared<T>>,
    segment: Arc<Segment<T>>,
    /// How many were written before this segment.
    start: usize,
    written: usize,
}

/// The half of the thread that takes them. Outputs that are not taken are dropped with it.
pub(super) struct OutputReader<T> {
    shared: Arc<Shared<T>>,
    segment: Arc<Segment<T>>,
    /// How many were read before this segment.
    start: usize,
    read: usize,
    /// So many were published when this half has looked.
    seen: usize,
    has_end: bool,
}

impl<T> fmt::Debug for OutputWriter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutputWriter")
            .field("written", &self.written)
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for OutputReader<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutputReader")
            .field("read", &self.read)
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}

/// An empty queue.
pub(super) fn outputs<T>() -> (OutputWriter<T>, OutputReader<T>) {
    let shared = Arc::new(Shared {
        published: CachePadded::new(AtomicUsize::new(0)),
        next: Mutex::default(),
    });
    halves(shared, Segment::first())
}

/// The halves of a queue in which nothing was published, and of which there are no others.
fn halves<T>(
    shared: Arc<Shared<T>>,
    segment: Arc<Segment<T>>,
) -> (OutputWriter<T>, OutputReader<T>) {
    let reader = OutputReader {
        shared: Arc::clone(&shared),
        segment: Arc::clone(&segment),
        start: 0,
        read: 0,
        seen: 0,
        has_end: false,
    };
    let writer = OutputWriter {
        shared,
        segment,
        start: 0,
        written: 0,
    };
    (writer, reader)
}

impl<T> OutputWriter<T> {
    /// How many outputs have been added.
    pub(super) fn len(&self) -> usize {
        self.written
    }

    /// Adds an output. The reader may take it from now on.
    #[inline]
    pub(super) fn push(&mut self, output: T) {
        if self.written - self.start == self.segment.0.len() {
            self.extend();
        }
        self.segment.0[self.written - self.start].with_mut(|slot| {
            // SAFETY: this slot is not published, so it is the writer's, and it was not written before, because
            // `written` only grows.
            unsafe { slot.write(MaybeUninit::new(output)) };
        });
        self.written += 1;
        (self.shared.published).store(self.written << 1, Ordering::Release);
    }

    #[cold]
    fn extend(&mut self) {
        let most = MOST.min(MOST_BYTES / size_of::<T>().max(1));
        let len = self.segment.0.len().saturating_mul(2).min(most).max(1);
        self.segment = Segment::new(len);
        self.start = self.written;
        // Before anything in it is published: the reader then finds it.
        (self.shared.next.lock()).push_back(Arc::clone(&self.segment));
    }

    /// Nothing more is added.
    pub(super) fn finish(self) {
        (self.shared.published).store(self.written << 1 | 1, Ordering::Release);
    }
}

impl<T> OutputReader<T> {
    /// How many outputs there are: those that this half has seen.
    pub(super) fn len(&self) -> usize {
        self.seen - self.read
    }

    /// How many outputs have been taken.
    pub(super) fn taken(&self) -> usize {
        self.read
    }

    /// Whether the last look has found that nothing more will be added.
    pub(super) fn has_end(&self) -> bool {
        self.has_end
    }

    /// Looks what there is now.
    pub(super) fn look(&mut self) {
        let published = self.shared.published.load(Ordering::Acquire);
        self.seen = published >> 1;
        self.has_end = published & 1 == 1;
    }

    /// Looks, and returns whether there are so many outputs, or the end if that counts too.
    pub(super) fn is_ready(&mut self, wanted: usize, or_end: bool) -> bool {
        self.look();
        self.len() >= wanted || (or_end && self.has_end)
    }

    /// Takes the next one of those that the last look has found.
    #[inline]
    pub(super) fn take(&mut self) -> Option<T> {
        if self.read == self.seen {
            return None;
        }
        if self.read - self.start == self.segment.0.len() {
            self.advance();
        }
        let output = self.segment.0[self.read - self.start].with_mut(|slot| {
            // SAFETY: fewer outputs were read than published, so this slot is published and holds an output. It is the
            // reader's, and is read once, because `read` only grows.
            unsafe { slot.cast::<T>().read() }
        });
        self.read += 1;
        Some(output)
    }

    #[cold]
    fn advance(&mut self) {
        let next = self.shared.next.lock().pop_front();
        self.segment = next.expect("a segment is added before what is in it is published");
        self.start = self.read;
    }

    /// The halves of an empty queue with the memory of this one, if everything was taken and the writer is gone.
    pub(super) fn reused(mut self) -> Option<(OutputWriter<T>, OutputReader<T>)> {
        self.look();
        if self.len() > 0 {
            return None;
        }
        let mut shared = Arc::clone(&self.shared);
        let mut segment = Arc::clone(&self.segment);
        drop(self);
        // Nobody else has one of them: the slots are empty, and what was done to them came before this.
        Arc::get_mut(&mut segment)?;
        let alone = Arc::get_mut(&mut shared)?;
        alone.published = CachePadded::new(AtomicUsize::new(0));
        Some(halves(shared, segment))
    }
}

impl<T> Drop for OutputReader<T> {
    fn drop(&mut self) {
        self.look();
        while let Some(output) = self.take() {
            drop(output);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
