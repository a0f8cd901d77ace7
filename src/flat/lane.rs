//! The outputs of an item, or of some short ones that follow one another, between the worker that runs their inner
//! iterators and the consumer.
//!
//! The outputs themselves pass without a lock (`outputs.rs`). Three words beside them say when one side must look
//! further, so that an output costs its worker a barrier that is free and a load, and the consumer even less:
//!
//! | word | written by | read by | meaning |
//! | --- | --- | --- | --- |
//! | `alarm` | under the lock: the consumer before it sleeps, an item that fails | the worker, after each output | from so many outputs on it looks under the lock |
//! | `yielded` | the consumer, when it takes | the worker, when its room seems to be used up | so many outputs have left the lane |
//! | `asks` | under the lock: the worker before it sleeps | the consumer, after each store of `yielded` | the worker waits for room |
//!
//! Everything else is under the lock of the lane, which each side takes when it begins, when it ends, and before
//! it sleeps.

use crate::flat::frame::ItemToken;
use crate::flat::outputs::{OutputReader, OutputWriter, outputs};
use crate::runtime::barrier::{Light, heavy};
use crate::sync::{Arc, AtomicBool, AtomicUsize, Mutex, Ordering, Unparker, bug};
use crate::unwind::Payload;
use crossbeam_utils::CachePadded;
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
    /// Its iterator is left for the consumer, or for another worker, to go on with.
    Left,
    Panic(Payload),
}

/// What is left of a lane after its end: how many places are free again, whether to notify the consumer, whether nothing
/// came after what another lane has, and the items that were not started.
pub(super) struct Closed<I> {
    pub(super) free: usize,
    pub(super) notifies: bool,
    pub(super) is_needless: bool,
    pub(super) unstarted: VecDeque<I>,
}

/// In `alarm`: never.
const NEVER: usize = usize::MAX;

/// What the two sides of a lane share.
#[derive(Debug)]
pub(super) struct Lane<I, T> {
    /// The number of its first item in the source.
    pub(super) seq: u64,
    pub(super) token: Arc<ItemToken>,
    alarm: AtomicUsize,
    asks: AtomicBool,
    state: Mutex<LaneState<I, T>>,
    /// On a cache line of its own, because it changes often.
    yielded: CachePadded<AtomicUsize>,
}

#[derive(Debug)]
struct LaneState<I, T> {
    /// Until the consumer takes from this lane.
    reader: Option<OutputReader<T>>,
    /// The items that are not started, and the number of the first of them. Each has one of the places.
    items: VecDeque<I>,
    next: u64,
    /// It had no items from the beginning: it is for the rest of one that was begun before.
    is_rest: bool,
    /// How many of the stage's places this lane holds: no more outputs are made than that, counting the one that is being
    /// made, and not those that were yielded.
    places: usize,
    /// `Some`: nothing is added any more.
    end: Option<LaneEnd>,
    /// The number of outputs that the consumer waits for; `NEVER` while it does not.
    wanted: usize,
    /// Whether the consumer also waits for the end.
    wants_end: bool,
    /// An item before this one has failed.
    unwanted: bool,
    /// The worker, while it waits for room.
    waits: Option<Unparker>,
}

impl<I, T> LaneState<I, T> {
    /// Of a lane without items.
    fn new() -> Self {
        LaneState {
            reader: None,
            items: VecDeque::new(),
            next: 0,
            is_rest: false,
            places: 0,
            end: None,
            wanted: NEVER,
            wants_end: false,
            unwanted: false,
            waits: None,
        }
    }

    /// Whether it has ended by itself.
    fn is_done(&self) -> bool {
        matches!(self.end, Some(LaneEnd::Done))
    }
}

/// A lane that is over and that nobody else has, to be used again: the threads that make lanes and those that drop them are
/// not the same, which an allocator makes dear.
#[derive(Debug)]
pub(super) struct SpareLane<I, T> {
    lane: Arc<Lane<I, T>>,
    writer: OutputWriter<T>,
    reader: OutputReader<T>,
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
    Some,
    Nothing,
    End(LaneEnd),
}

/// The worker's side.
#[derive(Debug)]
pub(super) struct LaneWriter<I, T> {
    pub(super) lane: Arc<Lane<I, T>>,
    outputs: OutputWriter<T>,
    /// The number of the item that is run.
    seq: u64,
    /// How many items are left at most: others may have taken them.
    unstarted: usize,
    /// There is room for outputs up to this number, as far as this side knows.
    room_until: usize,
    light: Light,
}

/// The consumer's side.
#[derive(Debug)]
pub(super) struct LaneReader<I, T> {
    pub(super) lane: Arc<Lane<I, T>>,
    outputs: OutputReader<T>,
    /// It takes up to this number before it makes room for others.
    until: usize,
    /// A part of the places.
    bulk: usize,
    /// It had ended by itself when the consumer came to it.
    is_done: bool,
    light: Light,
}

impl<I, T> SpareLane<I, T> {
    /// One that was never used.
    pub(super) fn new() -> Self {
        let (writer, reader) = outputs();
        let lane = Lane {
            seq: 0,
            token: Arc::default(),
            alarm: AtomicUsize::new(NEVER),
            asks: AtomicBool::new(false),
            state: Mutex::new(LaneState::new()),
            yielded: CachePadded::new(AtomicUsize::new(0)),
        };
        SpareLane {
            lane: Arc::new(lane),
            writer,
            reader,
        }
    }

    /// Opens it for these items, the first of which is number `seq`, with so many places. `starves`: the consumer waits for
    /// the first output of this lane.
    pub(super) fn open(
        self,
        seq: u64,
        items: impl ExactSizeIterator<Item = I>,
        places: usize,
        starves: bool,
    ) -> LaneWriter<I, T> {
        let unstarted = items.len();
        let SpareLane {
            mut lane,
            writer,
            reader,
        } = self;
        let light = Light::new();
        if let Some(lane) = Arc::get_mut(&mut lane) {
            lane.seq = seq;
            let wanted = if starves { 1 } else { NEVER };
            lane.alarm = AtomicUsize::new(wanted);
            lane.yielded = CachePadded::new(AtomicUsize::new(0));
            lane.asks = AtomicBool::new(false);
            let state = lane.state.get_mut();
            let mut memory = std::mem::take(&mut state.items);
            memory.extend(items);
            *state = LaneState {
                reader: Some(reader),
                items: memory,
                next: seq,
                is_rest: unstarted == 0,
                places,
                wanted,
                wants_end: starves,
                ..LaneState::new()
            };
        }
        LaneWriter {
            lane,
            outputs: writer,
            seq,
            unstarted,
            room_until: 0,
            light,
        }
    }
}

impl<I, T> Lane<I, T> {
    /// Stores what the worker must hear of. Under the lock.
    fn set_alarm(&self, state: &LaneState<I, T>) {
        let alarm = if state.unwanted { 0 } else { state.wanted };
        self.alarm.store(alarm, Ordering::Relaxed);
    }

    /// Takes the request for room. Under the lock.
    fn heard(&self, state: &mut LaneState<I, T>) -> Option<Unparker> {
        self.asks.store(false, Ordering::Relaxed);
        state.waits.take()
    }

    /// The items that are not started, for another thread to run, and the number of the first one. Their places go with
    /// them.
    pub(super) fn steal(&self) -> (u64, VecDeque<I>) {
        let mut state = self.state.lock();
        // The first item of a lane stays: the consumer may wait for this lane, as the next one.
        let kept = usize::from(state.next == self.seq && !bug("the_first_is_stolen"));
        let first = state.next + kept as u64;
        let kept = kept.min(state.items.len());
        let items = state.items.split_off(kept);
        state.places -= items.len();
        (first, items)
    }

    /// Whether there is something to steal.
    pub(super) fn has_items(&self) -> bool {
        let state = self.state.lock();
        state.items.len() > usize::from(state.next == self.seq)
    }

    /// Under its lock: looks for room for an output after `len`. Up to `until` there is room.
    fn room(&self, state: &LaneState<I, T>, len: usize, until: &mut usize) -> Room {
        let places = state.places.saturating_sub(state.items.len());
        *until = self.yielded.load(Ordering::Relaxed) + places;
        if state.unwanted {
            Room::Unwanted
        } else if len < *until {
            Room::Yes
        } else {
            Room::No
        }
    }

    /// Gives it places. Returns whom to wake.
    pub(super) fn grow(&self, more: usize) -> Option<Unparker> {
        let mut state = self.state.lock();
        state.places += more;
        self.heard(&mut state)
    }

    /// An item before this one has failed. Returns whom to wake.
    pub(super) fn forbid(&self) -> Option<Unparker> {
        let mut state = self.state.lock();
        state.unwanted = true;
        self.set_alarm(&state);
        if bug("forbid_is_silent") {
            None
        } else {
            self.heard(&mut state)
        }
    }

    /// Before the consumer takes from this lane: whether there is what it waits for.
    pub(super) fn is_ready(&self, wanted: usize, or_end: bool) -> bool {
        let reader = &mut self.state.lock().reader;
        reader
            .as_mut()
            .is_some_and(|reader| reader.is_ready(wanted, or_end))
    }

    /// Whether it has ended by itself.
    fn is_done(&self) -> bool {
        self.state.lock().is_done()
    }

    /// The consumer takes from this lane from now on; `None`: it has not ended, and is not to be `running`. Called once.
    pub(super) fn reader(self: &Arc<Self>, running: bool) -> Option<LaneReader<I, T>> {
        let mut state = self.state.lock();
        let is_done = state.is_done();
        if !is_done && !running {
            return None;
        }
        self.want(&mut state, NEVER, false);
        Some(LaneReader {
            lane: Arc::clone(self),
            outputs: state.reader.take()?,
            until: 0,
            bulk: bulk(state.places),
            is_done,
            light: Light::new(),
        })
    }

    fn want(&self, state: &mut LaneState<I, T>, wanted: usize, or_end: bool) {
        state.wanted = wanted;
        state.wants_end = or_end;
        self.set_alarm(state);
    }

    /// What is left at the end of the stage, if the consumer has not come to this lane.
    pub(super) fn into_rest(self) -> (Option<OutputReader<T>>, Option<LaneEnd>) {
        let state = self.state.into_inner();
        (state.reader, state.end)
    }
}

/// After so many outputs the consumer makes room for others, and for so many a nap may end.
fn bulk(places: usize) -> usize {
    (places / 4).max(1)
}

impl<I, T> LaneWriter<I, T> {
    /// Adds an output. The consumer must be notified if the flag is `true`.
    #[inline]
    pub(super) fn push(&mut self, output: T) -> (bool, Room) {
        self.outputs.push(output);
        self.light.pass(); // pairs with the heavy one in `LaneReader::want`
        let pushed = self.outputs.len();
        if self.lane.alarm.load(Ordering::Relaxed) <= pushed {
            self.alarmed()
        } else if pushed < self.room_until {
            (false, Room::Yes)
        } else {
            (false, self.look_for_room())
        }
    }

    /// The rare part of `push`.
    #[cold]
    fn alarmed(&mut self) -> (bool, Room) {
        let is_wanted = {
            let mut state = self.lane.state.lock();
            let is_wanted = state.wanted <= self.outputs.len();
            if is_wanted {
                state.wanted = NEVER; // It is told once.
                self.lane.set_alarm(&state);
            }
            is_wanted
        };
        (is_wanted && !bug("output_is_silent"), self.look_for_room())
    }

    /// The number of the item that is run.
    pub(super) fn seq(&self) -> u64 {
        self.seq
    }

    /// How many outputs it has got so far.
    pub(super) fn len(&self) -> usize {
        self.outputs.len()
    }

    /// The next item, which the caller starts now.
    pub(super) fn next_item(&mut self) -> Option<I> {
        if self.unstarted == 0 {
            return None;
        }
        let mut state = self.lane.state.lock();
        let item = state.items.pop_front();
        self.unstarted = state.items.len();
        // Another thread may have taken all of them since this one has looked.
        if item.is_some() {
            self.seq = state.next;
            state.next += 1;
        }
        self.lane
            .room(&state, self.outputs.len(), &mut self.room_until);
        item
    }

    /// Looks for room.
    #[inline]
    pub(super) fn room(&mut self) -> Room {
        let pushed = self.outputs.len();
        if pushed < self.room_until && pushed < self.lane.alarm.load(Ordering::Relaxed) {
            Room::Yes
        } else {
            self.look_for_room()
        }
    }

    fn look_for_room(&mut self) -> Room {
        let state = self.lane.state.lock();
        self.lane
            .room(&state, self.outputs.len(), &mut self.room_until)
    }

    /// Looks for room, and asks to be woken if there is none (exchange wait / take).
    pub(super) fn ask(&mut self, worker: &Unparker) -> Room {
        let lane = &self.lane;
        let mut state = lane.state.lock();
        state.waits = Some(worker.clone());
        lane.asks.store(true, Ordering::Relaxed);
        if !bug("no_barrier_before_room_in_lane") {
            heavy(); // pairs with the light one in `LaneReader::tell`
        }
        let room = lane.room(&state, self.outputs.len(), &mut self.room_until);
        if room != Room::No {
            lane.heard(&mut state);
        }
        room
    }

    /// How many places the item that is run has.
    pub(super) fn places(&self) -> usize {
        let state = self.lane.state.lock();
        state.places - state.items.len()
    }

    /// Nothing more is added.
    pub(super) fn close(self, end: LaneEnd) -> Closed<I> {
        let pushed = self.outputs.len();
        let goes_on = matches!(end, LaneEnd::Left);
        let mut state = self.lane.state.lock();
        let is_unread = state.reader.is_some();
        let is_needless = state.is_rest && pushed == 0 && is_unread && matches!(end, LaneEnd::Done);
        state.end = Some(end);
        self.outputs.finish();
        let unstarted = std::mem::take(&mut state.items);
        // What is left takes up its places. Also without outputs it takes up one until the consumer comes to it, so
        // that the number of lanes is bounded; and one that the consumer goes on with, so that it can. But not for a rest
        // without outputs, which would be a second one for its item.
        let left = pushed - self.lane.yielded.load(Ordering::Relaxed);
        let held = left.max(usize::from(is_unread && !is_needless || goes_on));
        let held = held.min(state.places);
        let free = state.places - held;
        state.places = held;
        Closed {
            free,
            notifies: state.wants_end && !bug("end_is_silent"),
            is_needless,
            unstarted,
        }
    }
}

impl<I, T> LaneReader<I, T> {
    /// How many outputs the next calls of `next` return at least.
    pub(super) fn len(&self) -> usize {
        self.until - self.outputs.taken()
    }

    /// The next one of those that `refill` has found.
    #[inline]
    pub(super) fn next(&mut self) -> Option<T> {
        if self.outputs.taken() == self.until {
            return None;
        }
        self.outputs.take()
    }

    /// Looks for outputs. The first of them is yielded at once.
    pub(super) fn refill(&mut self) -> (Taken, Option<Unparker>) {
        self.outputs.look();
        let ready = self.outputs.len();
        if ready == 0 {
            let wake = self.tell(self.outputs.taken());
            let end = if self.outputs.has_end() {
                self.lane.state.lock().end.take()
            } else {
                None
            };
            return (end.map_or(Taken::Nothing, Taken::End), wake);
        }
        // The worker gets no room for outputs that wait here, so they are a part of what there is. After the end there is
        // no worker.
        let most = if self.outputs.has_end() {
            ready
        } else {
            self.bulk
        };
        self.until = self.outputs.taken() + ready.min(most);
        (Taken::Some, self.tell(self.outputs.taken() + 1))
    }

    /// So many outputs have left the lane. Returns whom to wake.
    fn tell(&mut self, yielded: usize) -> Option<Unparker> {
        self.lane.yielded.store(yielded, Ordering::Relaxed);
        self.light.pass(); // pairs with the heavy one in `LaneWriter::ask`
        if !self.lane.asks.load(Ordering::Relaxed) || bug("room_is_silent") {
            return None;
        }
        let mut state = self.lane.state.lock();
        self.bulk = bulk(state.places);
        self.lane.heard(&mut state)
    }

    /// Whether it had ended by itself when the consumer came to it.
    pub(super) fn is_done(&self) -> bool {
        self.is_done
    }

    /// Whether nothing is left, and nothing will come: all outputs were taken, and it has ended by itself.
    pub(super) fn is_over(&self) -> bool {
        let is_empty = self.outputs.has_end() && self.outputs.len() == 0;
        is_empty && (self.is_done || self.lane.is_done())
    }

    /// How many places it held, the number of the item after those that it had, and its memory if nobody else has it.
    /// Nothing is left in it.
    pub(super) fn close(self) -> (usize, u64, Option<SpareLane<I, T>>) {
        let mut state = self.lane.state.lock();
        let places = std::mem::take(&mut state.places);
        // None was started from a lane that is for the rest of an item.
        let next = state.next.max(self.lane.seq + 1);
        drop(state);
        (places, next, self.reused())
    }

    fn reused(self) -> Option<SpareLane<I, T>> {
        let (writer, reader) = self.outputs.reused()?;
        let mut lane = self.lane;
        let token = &mut Arc::get_mut(&mut lane)?.token;
        // The frame of its item may still be there.
        match Arc::get_mut(token) {
            Some(token) => *token = ItemToken::default(),
            None => *token = Arc::default(),
        }
        Some(SpareLane {
            lane,
            writer,
            reader,
        })
    }

    /// The consumer is about to wait for so many outputs; and for the end, unless it naps. It must look once more.
    pub(super) fn want(&self, wanted: usize, or_end: bool) {
        let wanted = self.outputs.taken() + wanted;
        {
            let mut state = self.lane.state.lock();
            self.lane.want(&mut state, wanted, or_end);
        }
        heavy(); // pairs with the light one in `LaneWriter::push`
    }

    /// Whether there is what the consumer waits for.
    pub(super) fn is_ready(&mut self, wanted: usize, or_end: bool) -> bool {
        self.outputs.is_ready(wanted, or_end)
    }

    /// A part of the places, for which a nap may end.
    pub(super) fn bulk(&mut self) -> usize {
        self.bulk = bulk(self.lane.state.lock().places);
        self.bulk
    }

    /// Whether something has come of a nap.
    pub(super) fn has_several(&mut self) -> bool {
        self.is_ready(2, true)
    }

    /// What is left at the end of the stage.
    pub(super) fn into_rest(self) -> (Arc<Lane<I, T>>, OutputReader<T>) {
        (self.lane, self.outputs)
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
