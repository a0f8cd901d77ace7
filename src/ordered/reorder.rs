//! The reorder buffer: what waits for its turn, by `seq`. Pure: no thread, no lock, no atomic.
//!
//! Entries are runs, not items, so it is touched once a hand-over. Runs are registered when they
//! are pulled, in the order of the source, so nearly all of them arrive in order and go to a queue;
//! only what a thief splits off an older run is out of order and goes to the heap.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};

#[derive(Debug)]
struct HeapEntry<T> {
    seq: u64,
    value: T,
}

// Only `seq` is compared, and the other way round: the heap's greatest is the earliest.
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
pub(crate) struct Reorder<T> {
    in_order: VecDeque<HeapEntry<T>>,
    heap: BinaryHeap<HeapEntry<T>>,
}

impl<T> Reorder<T> {
    pub(crate) const fn new() -> Self {
        Reorder {
            in_order: VecDeque::new(),
            heap: BinaryHeap::new(),
        }
    }

    /// Adds a value: O(1) in order, O(log len) otherwise.
    pub(crate) fn push(&mut self, seq: u64, value: T) {
        let entry = HeapEntry { seq, value };
        if self.in_order.back().is_none_or(|last| last.seq < seq) {
            self.in_order.push_back(entry);
        } else {
            self.heap.push(entry);
        }
    }

    /// Takes the value of this very `seq`, if it is the earliest.
    pub(crate) fn pop(&mut self, seq: u64) -> Option<T> {
        if self.in_order.front().is_some_and(|entry| entry.seq == seq) {
            self.in_order.pop_front().map(|entry| entry.value)
        } else if self.heap.peek().is_some_and(|entry| entry.seq == seq) {
            self.heap.pop().map(|entry| entry.value)
        } else {
            None
        }
    }

    /// Takes everything, in no order.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = T> + '_ {
        self.in_order
            .drain(..)
            .chain(self.heap.drain())
            .map(|entry| entry.value)
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::Reorder;
    use quickcheck::quickcheck;

    quickcheck! {
        fn any_permutation_comes_out_in_order(keys: Vec<u8>) -> bool {
            let order: Vec<u64> = {
                let mut tagged: Vec<(u8, u64)> = keys.into_iter().zip(0..).collect();
                tagged.sort_unstable();
                tagged.into_iter().map(|(_, seq)| seq).collect()
            };
            let mut reorder = Reorder::new();
            let mut next = 0;
            for &seq in &order {
                reorder.push(seq, seq * 10);
                while let Some(value) = reorder.pop(next) {
                    if value != next * 10 { return false; }
                    next += 1;
                }
            }
            next == order.len() as u64 && reorder.drain().count() == 0
        }
    }

    #[test]
    fn what_is_not_the_earliest_stays() {
        let mut reorder = Reorder::new();
        reorder.push(5, 'b');
        reorder.push(2, 'a');
        assert_eq!(reorder.pop(5), Some('b'));
        assert_eq!(reorder.pop(0), None);
        assert_eq!(reorder.pop(2), Some('a'));
    }
}
