//! The reorder buffer: what waits for its turn, by `seq`. Pure: no thread, no lock, no atomic operation.
//!
//! Entries are chunks, not items, so it is used once per chunk. Chunks are registered when they are opened,
//! in the order of the source, so nearly all of them arrive in order and go to a queue. Only what a thief
//! splits off an older chunk is out of order, and goes to the heap.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};

#[derive(Debug)]
struct HeapEntry<T> {
    seq: u64,
    value: T,
}

// Only `seq` is compared, in reverse: the greatest entry of the heap is the earliest one.
impl<T> PartialEq for HeapEntry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.seq == other.seq
    }
}
impl<T> Eq for HeapEntry<T> {}
impl<T> PartialOrd for HeapEntry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl<T> Ord for HeapEntry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        other.seq.cmp(&self.seq)
    }
}

/// Values by `seq`, each `seq` at most once.
#[derive(Debug)]
pub(super) struct Reorder<T> {
    in_order: VecDeque<HeapEntry<T>>,
    heap: BinaryHeap<HeapEntry<T>>,
}

impl<T> Reorder<T> {
    pub(super) const fn new() -> Self {
        Reorder {
            in_order: VecDeque::new(),
            heap: BinaryHeap::new(),
        }
    }

    /// Adds a value: O(1) in order, O(log len) otherwise.
    pub(super) fn push(&mut self, seq: u64, value: T) {
        let entry = HeapEntry { seq, value };
        // Anything later than the last of the queue extends it, so the queue stays sorted without a search.
        if self.in_order.back().is_none_or(|last| last.seq < seq) {
            self.in_order.push_back(entry);
        } else {
            self.heap.push(entry);
        }
    }

    /// Takes the value with exactly this `seq`, if it is the earliest.
    pub(super) fn pop(&mut self, seq: u64) -> Option<T> {
        // Both are sorted, so only their first entries can have this `seq`.
        if self.in_order.front().is_some_and(|entry| entry.seq == seq) {
            self.in_order.pop_front().map(|entry| entry.value)
        } else if self.heap.peek().is_some_and(|entry| entry.seq == seq) {
            self.heap.pop().map(|entry| entry.value)
        } else {
            None
        }
    }

    /// Takes the earliest value.
    pub(super) fn pop_first(&mut self) -> Option<T> {
        let queued = self.in_order.front().map(|entry| entry.seq);
        let heaped = self.heap.peek().map(|entry| entry.seq);
        self.pop(queued.into_iter().chain(heaped).min()?)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.in_order.is_empty() && self.heap.is_empty()
    }

    /// Takes everything, in no particular order.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = T> + '_ {
        self.in_order
            .drain(..)
            .chain(self.heap.drain())
            .map(|entry| entry.value)
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
