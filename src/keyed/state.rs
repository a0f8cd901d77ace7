//! The state: what waits, runs and is done, under one lock.

use crate::runtime::roster::{Roster, Wake};
use crate::sync::{Arc, Mutex};
use crate::unwind::Payload;
use std::collections::VecDeque;

/// So many keys may be kept without an item in flight, as they often come again.
pub(super) const KEPT: usize = 64;
/// So many bytes a queue may keep without a use for them.
const SHORT: usize = 1024;

/// The items of one key.
#[derive(Debug)]
pub(super) struct KeyLane<T> {
    pub(super) queue: VecDeque<T>,
    /// A worker has some of its items in hand.
    pub(super) runs: bool,
    /// In the list of those that have nothing to do.
    pub(super) listed: bool,
}

impl<T> KeyLane<T> {
    pub(super) fn new() -> Self {
        KeyLane {
            queue: VecDeque::new(),
            runs: false,
            listed: false,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && !self.runs
    }

    /// Moves its first items to `hand`. What a queue needs no more of its memory it does not keep, as
    /// each lane may have been a long one once.
    pub(super) fn take(&mut self, most: usize, hand: &mut VecDeque<T>) {
        let count = self.queue.len().min(most);
        hand.extend(self.queue.drain(..count));
        let unused = self.queue.capacity().saturating_sub(4 * self.queue.len());
        if unused.saturating_mul(size_of::<T>()) > SHORT {
            self.queue.shrink_to(2 * self.queue.len());
        }
    }
}

/// What an item gave.
pub(super) type Done<B> = Result<B, Terminal<B>>;

/// What ends the stage when its turn comes.
#[derive(Debug)]
pub(super) enum Terminal<B> {
    /// Nothing after this counts.
    Last(B),
    Panic(Payload),
}

/// Where a worker puts the results of what it has in hand, for the consumer to take before the worker
/// comes back to the state.
pub(super) type Outbox<B> = Arc<Mutex<VecDeque<Done<B>>>>;

/// What is under the lock; see `README.md`.
#[derive(Debug)]
pub(super) struct KeyedState<Q, T, B> {
    /// `None`: a puller has it, or the source has ended, or it is the consumer's.
    pub(super) intake: Option<Q>,
    pub(super) ended: bool,
    /// That of the source or of `key`.
    pub(super) panic: Option<Payload>,
    /// By the numbers that the intake gives them.
    pub(super) lanes: Vec<KeyLane<T>>,
    pub(super) ready: VecDeque<usize>,
    /// Lanes that have come to have nothing to do; perhaps they have again.
    pub(super) idle: Vec<usize>,
    /// How many workers run closures.
    pub(super) running: usize,
    pub(super) done: VecDeque<Done<B>>,
    /// Of those who have more than one item in hand, with their numbers.
    pub(super) outboxes: Vec<(usize, Outbox<B>)>,
    pub(super) wanted: usize,
    pub(super) roster: Roster,
    /// A thread is on its way.
    pub(super) coming: bool,
    /// How many look for a moment before they sleep.
    pub(super) looking: usize,
}

impl<Q, T, B> KeyedState<Q, T, B> {
    pub(super) fn new(intake: Option<Q>) -> Self {
        KeyedState {
            intake,
            ended: false,
            panic: None,
            lanes: Vec::new(),
            ready: VecDeque::new(),
            idle: Vec::new(),
            running: 0,
            done: VecDeque::new(),
            outboxes: Vec::new(),
            wanted: 1,
            roster: Roster::new(),
            coming: false,
            looking: 0,
        }
    }

    /// Puts an item into its lane.
    pub(super) fn admit(&mut self, lane: usize, item: T) {
        if lane == self.lanes.len() {
            self.lanes.push(KeyLane::new());
        }
        let lane_of = &mut self.lanes[lane];
        lane_of.queue.push_back(item);
        if lane_of.queue.len() == 1 && !lane_of.runs {
            self.ready.push_back(lane);
        }
    }

    /// Takes the next items, so many at most, of the first ready lane.
    pub(super) fn start(&mut self, most: usize, hand: &mut VecDeque<T>) -> Option<usize> {
        let lane = self.ready.pop_front()?;
        let lane_of = &mut self.lanes[lane];
        lane_of.take(most, hand);
        lane_of.runs = true;
        self.running += 1;
        Some(lane)
    }

    /// A worker is done with this lane for now. What it has not started goes back.
    pub(super) fn finish(&mut self, lane: usize, hand: &mut VecDeque<T>) {
        self.running -= 1;
        let lane_of = &mut self.lanes[lane];
        lane_of.runs = false;
        while let Some(item) = hand.pop_back() {
            lane_of.queue.push_front(item);
        }
        if !lane_of.queue.is_empty() {
            self.ready.push_back(lane);
        } else if !lane_of.listed {
            lane_of.listed = true;
            self.idle.push(lane);
        }
    }

    /// Puts these results to what is done. Whether to notify the consumer.
    pub(super) fn deliver(&mut self, results: &mut VecDeque<Done<B>>) -> bool {
        let before = self.done.len();
        self.done.append(results);
        before < self.wanted && self.done.len() >= self.wanted
    }

    /// Whether there is a result that is still on a outbox.
    pub(super) fn is_any_in_outboxes(&self) -> bool {
        self.outboxes
            .iter()
            .any(|(_, outbox)| !outbox.lock().is_empty())
    }

    /// Moves all that is done to `taken`, which is empty. What is on outboxes comes last: of a key that
    /// has something there what came before may be in `done`.
    pub(super) fn take_done(&mut self, taken: &mut VecDeque<Done<B>>) {
        std::mem::swap(taken, &mut self.done);
        for (_, outbox) in &self.outboxes {
            taken.append(&mut outbox.lock());
        }
    }

    /// Forgets the lanes that have nothing to do, if they are many. Their numbers go to `forgotten`.
    pub(super) fn forget_idle(&mut self, forgotten: &mut Vec<usize>) {
        if self.idle.len() > KEPT {
            for lane in self.idle.drain(..) {
                let lane_of = &mut self.lanes[lane];
                lane_of.listed = false;
                if lane_of.is_idle() {
                    forgotten.push(lane);
                }
            }
        }
    }

    /// There is something for another thread to do; `most`: how many there may be for it, with 0 it
    /// is for one that sleeps.
    pub(super) fn call(&mut self, most: usize) -> Wake {
        let wake = match self.roster.pop_sleeper() {
            Some((_, wake)) => wake,
            None => self.roster.grow(most),
        };
        self.coming |= !matches!(wake, Wake::Nobody);
        wake
    }
}
