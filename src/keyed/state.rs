//! The state of a keyed stage, under one lock: what waits, what runs, and what is done.

use crate::runtime::helm::Helm;
use crate::runtime::roster::Roster;
use crate::sync::{Arc, Mutex};
use crate::unwind::Payload;
use std::collections::VecDeque;

/// How many keys without an item in flight are kept, because they often come again.
pub(super) const KEPT: usize = 64;
/// How many unused bytes a queue may keep.
const SHORT: usize = 1024;

/// The items of one key.
#[derive(Debug)]
pub(super) struct KeyLane<T> {
    pub(super) queue: VecDeque<T>,
    /// A worker has taken some of its items. Until it returns, no other worker may start an item of this key.
    pub(super) runs: bool,
    /// The lane is in the list of idle ones.
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

    /// Whether its key may be forgotten.
    pub(super) fn is_idle(&self) -> bool {
        self.queue.is_empty() && !self.runs
    }

    /// Moves its first items to `hand`. A queue returns memory that it does not need, because each lane may
    /// have been long at some time.
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

/// What items gave, each with its number in the source.
pub(super) type Results<B> = VecDeque<(u64, Done<B>)>;

/// Where a worker puts the results of the items in its hand. The consumer can take them there before the
/// worker comes back to the state.
pub(super) type Outbox<B> = Arc<Mutex<Results<B>>>;

/// What is under the lock; see `README.md`.
#[derive(Debug)]
pub(super) struct KeyedState<Q, T, B> {
    /// `None`: a puller has it, or the source has ended, or the source belongs to the consumer.
    pub(super) intake: Option<Q>,
    pub(super) ended: bool,
    /// The panic of the source or of `key`.
    pub(super) panic: Option<Payload>,
    /// By the numbers that the source gives to keys.
    pub(super) lanes: Vec<KeyLane<T>>,
    /// Lanes with waiting items of which no worker has any, the oldest first.
    pub(super) ready: VecDeque<usize>,
    /// Lanes that have run empty; some of them have items again.
    pub(super) idle: Vec<usize>,
    /// How many closures may run at once. May change while the stage runs.
    pub(super) width: usize,
    /// `Some`: it finds itself.
    pub(super) helm: Option<Box<Helm>>,
    /// How many workers run closures, and how many items have been run.
    pub(super) running: usize,
    pub(super) ran: u64,
    /// Results that the consumer has not taken yet, in the order of each key.
    pub(super) done: Results<B>,
    /// The outboxes of the workers that have taken more than one item, with the numbers of these workers.
    pub(super) outboxes: Vec<(usize, Outbox<B>)>,
    /// How many results the consumer waits for.
    pub(super) wanted: usize,
    /// The threads, and which of them sleep.
    pub(super) roster: Roster,
}

impl<Q, T, B> KeyedState<Q, T, B> {
    pub(super) fn new(intake: Option<Q>, width: usize) -> Self {
        KeyedState {
            intake,
            ended: false,
            panic: None,
            lanes: Vec::new(),
            ready: VecDeque::new(),
            idle: Vec::new(),
            width,
            helm: None,
            running: 0,
            ran: 0,
            done: VecDeque::new(),
            outboxes: Vec::new(),
            wanted: 1,
            roster: Roster::new(),
        }
    }

    /// Puts an item into its lane, which becomes ready if it was idle.
    pub(super) fn admit(&mut self, lane: usize, item: T) {
        // A new key gets the next number, or that of a forgotten key, whose lane is still there and empty.
        if lane == self.lanes.len() {
            self.lanes.push(KeyLane::new());
        }
        let lane_of = &mut self.lanes[lane];
        lane_of.queue.push_back(item);
        // Exactly when the lane becomes ready: with more items it is in the queue already, and with `runs`
        // its worker will queue it.
        if lane_of.queue.len() == 1 && !lane_of.runs {
            self.ready.push_back(lane);
        }
    }

    /// Takes the next items of the first ready lane, `most` of them at most. Returns the lane.
    pub(super) fn start(&mut self, most: usize, hand: &mut VecDeque<T>) -> Option<usize> {
        let lane = self.ready.pop_front()?;
        let lane_of = &mut self.lanes[lane];
        lane_of.take(most, hand);
        lane_of.runs = true;
        self.running += 1;
        Some(lane)
    }

    /// A worker is done with this lane for now, and what it has not started goes back.
    pub(super) fn finish(&mut self, lane: usize, hand: &mut VecDeque<T>) {
        self.running -= 1;
        let lane_of = &mut self.lanes[lane];
        lane_of.runs = false;
        // From the last to the first, to the front: in the old order, and before what was pulled meanwhile.
        while let Some(item) = hand.pop_back() {
            lane_of.queue.push_front(item);
        }
        // At the back of the queue, so that other keys get their turn.
        if !lane_of.queue.is_empty() {
            self.ready.push_back(lane);
        } else if !lane_of.listed {
            // Listed at most once. It stays in the list when it gets items again; `forget_idle` checks.
            lane_of.listed = true;
            self.idle.push(lane);
        }
    }

    /// Adds results to what is done. Returns whether the consumer must be notified.
    pub(super) fn deliver(&mut self, results: &mut Results<B>) -> bool {
        // The caller adds them in the critical section in which the lane becomes ready again. So a later
        // result of the key, which can be in another outbox only after that, finds these here.
        let before = self.done.len();
        self.done.append(results);
        // Only by the delivery that reaches `wanted`: later ones find a consumer that has been notified. The
        // other side sets `wanted` and looks under the same lock (exchange deliver / wait).
        before < self.wanted && self.done.len() >= self.wanted
    }

    /// Whether there is a result that is still in an outbox.
    pub(super) fn is_any_in_outboxes(&self) -> bool {
        self.outboxes
            .iter()
            .any(|(_, outbox)| !outbox.lock().is_empty())
    }

    /// Moves everything that is done to `taken`, which is empty. The outboxes come last: earlier results of a
    /// key that has results in an outbox may be in `done`.
    pub(super) fn take_done(&mut self, taken: &mut Results<B>) {
        // The swap also returns the memory of `taken`, so neither queue is allocated again and again.
        std::mem::swap(taken, &mut self.done);
        for (_, outbox) in &self.outboxes {
            taken.append(&mut outbox.lock());
        }
    }

    /// Forgets idle lanes if they are many. Their numbers go to `forgotten`, and the source drops their keys
    /// later, without the lock.
    pub(super) fn forget_idle(&mut self, forgotten: &mut Vec<usize>) {
        if self.idle.len() > KEPT {
            for lane in self.idle.drain(..) {
                let lane_of = &mut self.lanes[lane];
                // The ones that have items again were listed before, and are listed anew when they run empty.
                lane_of.listed = false;
                if lane_of.is_idle() {
                    forgotten.push(lane);
                }
            }
        }
    }
}
