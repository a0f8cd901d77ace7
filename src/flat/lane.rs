//! The outputs of one item, between the worker that runs its inner iterator and the consumer.

use crate::flat::frame::ItemToken;
use crate::sync::{Arc, Mutex, Unparker, bug};
use crate::unwind::Payload;
use std::collections::VecDeque;

/// How an inner iterator has ended.
#[derive(Debug)]
pub(super) enum LaneEnd {
    /// By itself.
    Done,
    /// With an output after which nothing counts.
    Last,
    /// It would have gone on, but the stage ends.
    Cut,
    Panic(Payload),
}

/// The outputs of one item. The worker adds them one by one, the consumer takes several at once.
#[derive(Debug)]
pub(super) struct Lane<T> {
    /// The number of the item in the source.
    pub(super) seq: u64,
    pub(super) token: Arc<ItemToken>,
    state: Mutex<LaneState<T>>,
}

#[derive(Debug)]
struct LaneState<T> {
    queue: VecDeque<T>,
    /// How many outputs the consumer has taken and not yielded, at most.
    taken: usize,
    /// How many of the stage's places this lane holds: `queue` and `taken` never have more outputs than that, with
    /// the one that is being made.
    places: usize,
    /// `Some`: nothing is added any more.
    end: Option<LaneEnd>,
    /// The number of outputs that the consumer waits for; `usize::MAX` while it does not.
    wanted: usize,
    /// Whether the consumer also waits for the end.
    wants_end: bool,
    /// The consumer takes from this lane.
    is_head: bool,
    /// An item before this one has failed.
    unwanted: bool,
    /// The worker, while it waits for room.
    waits: Option<Unparker>,
}

/// What a worker finds that has added an output, or looks again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Yes,
    No,
    /// No more outputs are wanted.
    Unwanted,
}

/// What the consumer finds.
#[derive(Debug)]
pub(super) enum Taken {
    /// Some outputs. `over`: the lane has ended by itself, and has no more; it held so many places.
    Some {
        over: Option<usize>,
        wake: Option<Unparker>,
    },
    Nothing,
    /// Nothing is left; the lane held so many places.
    End(LaneEnd, usize),
}

impl<T> LaneState<T> {
    fn room(&self) -> Room {
        if self.unwanted {
            Room::Unwanted
        } else if self.queue.len() + self.taken < self.places {
            Room::Yes
        } else {
            Room::No
        }
    }
}

impl<T> Lane<T> {
    /// With one place. `starves`: the consumer waits for the first output of this lane.
    pub(super) fn new(seq: u64, starves: bool) -> Self {
        let state = LaneState {
            queue: VecDeque::new(),
            taken: 0,
            places: 1,
            end: None,
            wanted: if starves { 1 } else { usize::MAX },
            wants_end: starves,
            is_head: false,
            unwanted: false,
            waits: None,
        };
        Lane {
            seq,
            token: Arc::default(),
            state: Mutex::new(state),
        }
    }

    // ---- the worker

    /// Adds an output. The consumer must be notified if the flag is `true`.
    pub(super) fn push(&self, output: T) -> (bool, Room) {
        let mut state = self.state.lock();
        state.queue.push_back(output);
        let is_wanted = state.queue.len() == state.wanted && !bug("output_is_silent");
        (is_wanted, state.room())
    }

    pub(super) fn room(&self) -> Room {
        self.state.lock().room()
    }

    /// Looks for room, and asks to be woken if there is none (exchange wait / take).
    pub(super) fn ask(&self, worker: &Unparker) -> Room {
        let mut state = self.state.lock();
        let room = state.room();
        state.waits = (room == Room::No).then(|| worker.clone());
        room
    }

    /// How many places the lane has.
    pub(super) fn places(&self) -> usize {
        self.state.lock().places
    }

    /// Gives it places. Returns whom to wake.
    pub(super) fn grow(&self, more: usize) -> Option<Unparker> {
        let mut state = self.state.lock();
        state.places += more;
        state.waits.take()
    }

    /// Nothing more is added. Returns how many places are free again, and whether to notify the consumer.
    pub(super) fn close(&self, end: LaneEnd) -> (usize, bool) {
        let mut state = self.state.lock();
        state.end = Some(end);
        // What is left takes up its places. Also without outputs it takes up one until the consumer comes to it, so
        // that the number of lanes is bounded.
        let left = state.queue.len() + state.taken;
        let held = left.max(usize::from(!state.is_head)).min(state.places);
        let free = state.places - held;
        state.places = held;
        (free, state.wants_end && !bug("end_is_silent"))
    }

    /// An item before this one has failed. Returns whom to wake.
    pub(super) fn forbid(&self) -> Option<Unparker> {
        let mut state = self.state.lock();
        state.unwanted = true;
        if bug("forbid_is_silent") {
            None
        } else {
            state.waits.take()
        }
    }

    // ---- the consumer

    /// The consumer takes from this lane from now on.
    pub(super) fn becomes_head(&self) {
        let mut state = self.state.lock();
        state.is_head = true;
        state.want(usize::MAX, false);
    }

    /// Moves outputs to `to`, which is empty: everything that was taken before has been yielded.
    pub(super) fn take(&self, to: &mut VecDeque<T>) -> Taken {
        let mut state = self.state.lock();
        state.taken = 0;
        state.want(usize::MAX, false);
        if state.queue.is_empty() {
            return match state.end.take() {
                Some(end) => Taken::End(end, std::mem::take(&mut state.places)),
                None => Taken::Nothing,
            };
        }
        let is_done = matches!(state.end, Some(LaneEnd::Done));
        // The worker gets no room for outputs that were taken and are not yielded, so it is a part of them. After the
        // end there is no worker.
        let most = if state.end.is_some() {
            usize::MAX
        } else {
            (state.places / 4).max(1)
        };
        if most >= state.queue.len() {
            // The worker gets the empty queue in exchange, so neither is allocated again.
            std::mem::swap(&mut state.queue, to);
        } else {
            to.extend(state.queue.drain(..most));
        }
        // The first one is yielded at once.
        state.taken = to.len() - 1;
        let wake = if bug("room_is_silent") {
            None
        } else {
            state.waits.take()
        };
        let over = (is_done && state.queue.is_empty()).then(|| std::mem::take(&mut state.places));
        Taken::Some { over, wake }
    }

    /// The consumer is about to wait for this many outputs; and for the end, unless it naps.
    pub(super) fn want(&self, wanted: usize, or_end: bool) {
        self.state.lock().want(wanted, or_end);
    }

    /// Whether there is what the consumer waits for.
    pub(super) fn is_ready(&self, wanted: usize, or_end: bool) -> bool {
        let state = self.state.lock();
        state.queue.len() >= wanted || (or_end && state.end.is_some())
    }

    /// A part of the places, for which a nap may end.
    pub(super) fn bulk(&self) -> usize {
        (self.state.lock().places / 4).max(1)
    }

    /// Whether something has come of a nap.
    pub(super) fn has_several(&self) -> bool {
        let state = self.state.lock();
        state.queue.len() > 1 || state.end.is_some()
    }

    /// What is left at the end of the stage.
    pub(super) fn into_rest(self) -> (VecDeque<T>, Option<LaneEnd>) {
        let state = self.state.into_inner();
        (state.queue, state.end)
    }
}

impl<T> LaneState<T> {
    fn want(&mut self, wanted: usize, or_end: bool) {
        self.wanted = wanted;
        self.wants_end = or_end;
    }
}
