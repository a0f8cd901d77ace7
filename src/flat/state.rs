//! What is under the lock of the stage.

use crate::flat::begun::OwnState;
use crate::flat::lane::{Lane, LaneWriter, SpareLane};
use crate::runtime::roster::Roster;
use crate::sync::{Arc, Instant, bug};
use crate::unwind::Payload;
use std::collections::VecDeque;
use std::time::Duration;

/// If items have not been started after this time, other threads may take them.
const LONG: Duration = Duration::from_micros(200);

/// What is under the lock; see `README.md`.
#[derive(Debug)]
pub(super) struct FlatState<Q, I, T, B> {
    /// `None`: a puller has it, or the source has ended, or the source belongs to the consumer.
    pub(super) source: Option<Box<Q>>,
    /// Nothing more is pulled: the source has ended, or an item has failed.
    pub(super) ended: bool,
    /// The panic of the source.
    pub(super) panic: Option<Payload>,
    /// How many items have been taken by a thread.
    pub(super) begun: u64,
    /// Items that were pulled and that no thread has taken; in the source they come after those of all lanes.
    pub(super) todo: VecDeque<I>,
    /// Items that one thread has taken and another one has stolen, the first one first, each with its lane.
    pub(super) stolen: VecDeque<LaneWriter<I, T>>,
    /// Lanes of several items, and since when a thread has them.
    pub(super) shared: Vec<(Instant, Arc<Lane<I, T>>)>,
    /// A sleeping thread looks at these now and then.
    pub(super) watched: bool,
    /// How many items a thread takes at once.
    pub(super) batch: usize,
    /// The lanes that the consumer has not come to, in the order of their items.
    pub(super) order: VecDeque<Arc<Lane<I, T>>>,
    /// How many places have been taken, less those that workers have given back. `FlatStage::freed` has those of the
    /// consumer.
    pub(super) held: usize,
    /// Lanes that are over, to be used again.
    pub(super) spare: Vec<SpareLane<I, T>>,
    /// The lanes whose workers wait for a place, in the order of their requests.
    pub(super) waiting: VecDeque<Arc<Lane<I, T>>>,
    /// The consumer has yielded everything, and waits for the first output of the next lane.
    pub(super) starves: bool,
    /// A worker has fallen asleep for lack of places since the consumer looked.
    pub(super) full: bool,
    /// How many threads run items.
    pub(super) running: usize,
    /// What the consumer runs itself.
    pub(super) own: OwnState<B>,
    /// The threads, and which of them sleep.
    pub(super) roster: Roster,
}

impl<Q, I, T, B> FlatState<Q, I, T, B> {
    pub(super) fn new(source: Option<Box<Q>>) -> Self {
        FlatState {
            source,
            ended: false,
            panic: None,
            begun: 0,
            todo: VecDeque::new(),
            stolen: VecDeque::new(),
            shared: Vec::new(),
            watched: false,
            batch: 1,
            order: VecDeque::new(),
            held: 0,
            spare: Vec::new(),
            waiting: VecDeque::new(),
            starves: false,
            full: false,
            running: 0,
            own: OwnState::new(),
            roster: Roster::new(),
        }
    }

    /// A lane for so many of the next items, which have a place each, with more of them.
    pub(super) fn lane(&mut self, items: usize, more: usize) -> LaneWriter<I, T> {
        let is_next = self.order.is_empty();
        let starves = is_next && std::mem::take(&mut self.starves) && !bug("starving_is_forgotten");
        let spare = self.spare.pop().unwrap_or_else(SpareLane::new);
        self.held += more;
        let todo = self.todo.drain(..items);
        let writer = spare.open(self.begun, todo, items + more, starves);
        self.begun += items as u64;
        self.order.push_back(Arc::clone(&writer.lane));
        if items > 1 {
            (self.shared).push((Instant::now(), Arc::clone(&writer.lane)));
        }
        writer
    }

    /// A lane for an item that was begun before, with the place that it has.
    pub(super) fn lane_of(&mut self, seq: u64) -> LaneWriter<I, T> {
        // Behind the lane with its first outputs, unless the consumer has come to that.
        let at = self.order.partition_point(|lane| lane.seq <= seq);
        let starves = at == 0 && std::mem::take(&mut self.starves);
        let spare = self.spare.pop().unwrap_or_else(SpareLane::new);
        let writer = spare.open(seq, std::iter::empty(), 1, starves);
        self.order.insert(at, Arc::clone(&writer.lane));
        writer
    }

    /// The lane that the consumer comes to next.
    pub(super) fn next_lane(&self) -> Option<&Arc<Lane<I, T>>> {
        // An item that was handed over comes before all others, and gets its lane when a thread takes it.
        let front = self.order.front();
        front.filter(|_| self.own.handed.is_none())
    }

    /// During the consumer's turn: whether nothing will be left for others when that ends.
    pub(super) fn is_consumers_alone(&self) -> bool {
        let is_done = self.ended && self.todo.is_empty() && self.running == 0;
        is_done && !self.own.has_any()
    }

    /// Whether a thread has items that it has not started.
    pub(super) fn is_any_shared(&self) -> bool {
        self.shared.iter().any(|(_, lane)| lane.has_items())
    }

    /// Whether another thread than this one looks for items that are not started: it is awake, and looks before it sleeps;
    /// or it sleeps only briefly (exchange sleep / wake).
    pub(super) fn is_watched(&self) -> bool {
        self.roster.awake() > 1 || self.watched
    }

    /// Whether there is something to steal.
    pub(super) fn has_old(&self) -> bool {
        let mut shared = self.shared.iter();
        shared.any(|(since, lane)| is_old(*since) && lane.has_items())
    }

    /// Takes the items that were not started from threads that have had them for long. Each gets a lane of its own.
    pub(super) fn steal(&mut self) {
        let mut shared = std::mem::take(&mut self.shared);
        shared.retain(|(since, lane)| {
            let stays = !is_old(*since);
            if !stays {
                self.steal_from(lane);
            }
            stays
        });
        self.shared = shared;
        // They take longer than was thought.
        self.batch = 1;
    }

    fn steal_from(&mut self, lane: &Lane<I, T>) {
        let (seq, items) = lane.steal();
        for (seq, item) in (seq..).zip(items) {
            let spare = self.spare.pop().unwrap_or_else(SpareLane::new);
            let writer = spare.open(seq, std::iter::once(item), 1, false);
            // The consumer may have come to the other lane, which then is not in there.
            let at = self.order.partition_point(|lane| lane.seq < seq);
            self.order.insert(at, Arc::clone(&writer.lane));
            let at = (self.stolen).partition_point(|other| other.lane.seq < seq);
            self.stolen.insert(at, writer);
        }
    }
}

/// Whether items that a thread has taken then have waited for long. In a model they always have, as time does not pass.
fn is_old(since: Instant) -> bool {
    cfg!(loom) || since.elapsed() > LONG
}
