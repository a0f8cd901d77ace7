//! A bound on what the items in flight weigh together (`in_flight_weight`), beside the one on their number.
//!
//! An item's weight is known only when it was pulled. If it does not fit, the puller keeps it in hand ([`Load`]),
//! and leaves the source: from then on there is no room, until the item fits. So there is one such
//! item at most, it has no `seq` yet, and it is the next one that is pulled. What weighs more than the whole limit
//! fits if nothing else is in flight.
//!
//! The consumer knows no weights. It counts what it has yielded, as in any stage, and the puller knows the weight of
//! each item in flight. In order these come out as they went in, so the puller knows after how many items there is
//! room, and asks to be woken then: the handshake yield / room, as it is. Without an order the consumer also writes
//! down which items it has taken ([`Weights::taken`]); the puller guesses after how many there will be room, by the
//! average, looks again when it is woken, and asks again if need be.
//!
//! A chunk is full when it weighs what a thread's share of the limit allows, so that one chunk does not use up the
//! limit.
//!
//! Only the thread in the source touches the [`Load`], so its lock is held as long as that of the source, and is never
//! waited for. The consumer runs no items in such a stage, unless it is the only thread.

use crate::ordered::signals::Signals;
use crate::sync::{AtomicU64, Mutex, MutexGuard, Ordering};
use std::collections::VecDeque;

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Weights<I> {
    limit: u64,
    /// A chunk that weighs so much is full. Changes with the width.
    full: AtomicU64,
    load: Mutex<Load<I>>,
    /// Unordered stages: what was taken and has not been subtracted yet, as runs of `seq`s.
    taken: Option<Mutex<Vec<Run>>>,
}

/// So many items from `first` on.
#[derive(Clone, Copy, Debug)]
struct Run {
    first: u64,
    len: u64,
}

/// What is in flight.
#[derive(Debug)]
struct Load<I> {
    /// The item that did not fit.
    held: Option<(I, u64)>,
    /// By `seq`. Without an order those in the middle may be gone.
    items: VecDeque<Weighed>,
    /// Of `items`, how many are in flight, and what they weigh.
    count: usize,
    sum: u64,
}

#[derive(Clone, Copy, Debug)]
struct Weighed {
    seq: u64,
    weight: u64,
    taken: bool,
}

impl<I> Load<I> {
    fn fits(&self, weight: u64, limit: u64) -> bool {
        let sum = self.sum.checked_add(weight);
        self.count == 0 || sum.is_some_and(|sum| sum <= limit)
    }

    fn pop(&mut self) {
        if let Some(item) = self.items.pop_front() {
            if !item.taken {
                self.count -= 1;
                self.sum -= item.weight;
            }
        }
    }

    /// Without an order: this item was taken.
    fn take(&mut self, seq: u64) {
        let place = self.items.binary_search_by_key(&seq, |item| item.seq);
        debug_assert!(place.is_ok(), "it was in flight");
        if let Some(item) = place.ok().and_then(|place| self.items.get_mut(place)) {
            item.taken = true;
            self.count -= 1;
            self.sum -= item.weight;
        }
        while self.items.front().is_some_and(|item| item.taken) {
            self.pop();
        }
        // One slow item at the front must not keep all that have passed it.
        if self.items.len() > 2 * self.count + 64 {
            self.items.retain(|item| !item.taken);
        }
    }
}

/// What a chunk may weigh.
fn share(limit: u64, width: usize) -> u64 {
    (limit / 2 / width as u64).max(1)
}

impl<I> Weights<I> {
    /// The stage is so wide from now on.
    pub(super) fn resize(&self, width: usize) {
        self.full.store(share(self.limit, width), Ordering::Relaxed);
    }

    pub(super) fn new(limit: usize, width: usize, ordered: bool) -> Self {
        let limit = limit as u64;
        Weights {
            limit,
            full: AtomicU64::new(share(limit, width)),
            load: Mutex::new(Load {
                held: None,
                items: VecDeque::new(),
                count: 0,
                sum: 0,
            }),
            taken: (!ordered).then(Mutex::default),
        }
    }

    /// Consumer: takes this item. Before it is counted as yielded, so that a puller which sees the count, or asks for
    /// room before it, finds this. Does nothing in an ordered stage.
    pub(super) fn taken(&self, seq: u64) {
        let Some(taken) = &self.taken else { return };
        let mut taken = taken.lock();
        match taken.last_mut() {
            Some(run) if run.first + run.len == seq => run.len += 1,
            _ => taken.push(Run { first: seq, len: 1 }),
        }
    }

    /// Subtracts what was yielded.
    fn refresh(&self, load: &mut Load<I>, signals: &Signals) {
        match &self.taken {
            None => {
                let yielded = signals.yielded();
                while load.items.front().is_some_and(|item| item.seq < yielded) {
                    load.pop();
                }
            }
            Some(taken) => {
                for run in std::mem::take(&mut *taken.lock()) {
                    (run.first..run.first + run.len).for_each(|seq| load.take(seq));
                }
            }
        }
    }

    /// Whether the next item may fit. The caller is in the source, as for all that follows.
    pub(super) fn has_room(&self, signals: &Signals) -> bool {
        let mut load = self.load.lock();
        self.refresh(&mut load, signals);
        // With nothing in hand this is a guess: the lightest item that counts.
        let next = load.held.as_ref().map_or(1, |(_, weight)| *weight);
        load.fits(next, self.limit)
    }

    /// What the items in flight weighed when that was last looked at, and the limit.
    pub(super) fn seen(&self) -> (u64, u64) {
        (self.load.lock().sum, self.limit)
    }

    /// Whether an item was pulled and has no place yet.
    pub(super) fn is_holding(&self) -> bool {
        self.load.lock().held.is_some()
    }

    /// Takes the item back that has no place yet.
    pub(super) fn take_held(&self) -> Option<I> {
        Some(self.load.lock().held.take()?.0)
    }

    /// The count of yielded items from which on there is room for the next item, and for about half a chunk of
    /// `len` such items: a thread should not be woken for each. `yielded`, or less: there is room now. It never is
    /// more than what was pulled, as then nothing is in flight.
    pub(super) fn room_at(&self, signals: &Signals, len: usize) -> u64 {
        let mut load = self.load.lock();
        // First, so that it is not ahead of what is subtracted.
        let yielded = signals.yielded();
        self.refresh(&mut load, signals);
        let next = load.held.as_ref().map_or(1, |(_, weight)| *weight);
        if load.fits(next, self.limit) {
            return 0;
        }
        if next > self.limit {
            return yielded + load.count as u64; // alone
        }
        let chunk = next
            .saturating_mul(len as u64)
            .min(self.full.load(Ordering::Relaxed));
        let surplus = load.sum - self.limit.saturating_sub(next.max(chunk / 2)).min(load.sum);
        if self.taken.is_some() {
            let average = (load.sum / load.count as u64).max(1);
            return yielded + surplus.div_ceil(average).clamp(1, load.count as u64);
        }
        let mut gone = 0;
        for item in &load.items {
            gone += item.weight;
            if gone >= surplus {
                return item.seq + 1;
            }
        }
        load.items.back().map_or(0, |last| last.seq + 1)
    }

    /// The puller begins a chunk at `seq`.
    pub(super) fn hand<'a>(&'a self, signals: &'a Signals, seq: u64) -> Hand<'a, I> {
        let mut load = self.load.lock();
        self.refresh(&mut load, signals);
        Hand {
            weights: self,
            signals,
            load,
            seq,
            chunk: 0,
        }
    }

    /// What is in hand at the end of the stage.
    pub(super) fn into_held(self) -> Option<I> {
        Some(self.load.into_inner().held?.0)
    }
}

/// The load, in the hands of the puller while it fills a chunk.
pub(super) struct Hand<'a, I> {
    weights: &'a Weights<I>,
    signals: &'a Signals,
    load: MutexGuard<'a, Load<I>>,
    /// Of the next item.
    seq: u64,
    chunk: u64,
}

impl<I> Hand<'_, I> {
    /// The item that was in hand, and its weight.
    pub(super) fn take_held(&mut self) -> Option<(I, u64)> {
        self.load.held.take()
    }

    /// The item becomes the next one of the chunk. `None`: it does not fit, and is kept in hand.
    #[must_use]
    pub(super) fn add(&mut self, item: I, weight: u64) -> Option<I> {
        if !self.load.fits(weight, self.weights.limit) {
            self.weights.refresh(&mut self.load, self.signals);
            if !self.load.fits(weight, self.weights.limit) {
                self.load.held = Some((item, weight));
                return None;
            }
        }
        self.load.items.push_back(Weighed {
            seq: self.seq,
            weight,
            taken: false,
        });
        self.load.count += 1;
        self.load.sum += weight;
        self.seq += 1;
        self.chunk = self.chunk.saturating_add(weight);
        Some(item)
    }

    /// Whether the chunk is heavy enough, or nothing more would fit.
    pub(super) fn is_full(&self) -> bool {
        self.chunk >= self.weights.full.load(Ordering::Relaxed)
            || !self.load.fits(1, self.weights.limit)
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
