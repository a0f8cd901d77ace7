//! The part of the consumer that does not depend on its thread: it takes outputs, waits for them, and makes room.

use crate::flat::frame::ItemToken;
use crate::flat::lane::{LaneEnd, LaneReader, SpareLane, Taken};
use crate::flat::shared::{FlatStage, discard};
use crate::par::flat_map::FlatJob;
use crate::runtime::barrier::Light;
use crate::runtime::event::{Listener, WaitResult};
use crate::runtime::meter::{Fate, WaitNote};
use crate::sync::{Arc, Instant, Ordering, bug};
use crate::unwind::{self, Payload};
use std::collections::VecDeque;
use std::time::Duration;

/// How long the consumer may nap.
const NAP: Duration = Duration::from_millis(1);
/// A sleep that is shorter than this means that outputs flow.
const FLOW: Duration = Duration::from_micros(300);

/// How many lanes it takes at once, if they have ended, and how many it has to be used again.
const TOGETHER: usize = 64;
const SPARES: usize = 64;

/// The consumer's own state; no other thread touches it.
pub(super) struct FlatTaker<Q: Iterator, J: FlatJob<Q::Item>> {
    pub(super) shared: Arc<FlatStage<Q, J>>,
    pub(super) listener: Listener,
    /// The consumer is woken for each output.
    eager: bool,
    /// The lane that is being yielded.
    head: Option<LaneReader<Q::Item, J::Output>>,
    /// Those after it that have ended, as far as they were taken together.
    next: VecDeque<LaneReader<Q::Item, J::Output>>,
    /// Lanes that are over, to be used again.
    spare: Vec<SpareLane<Q::Item, J::Output>>,
    /// How many places have been given back, all in all.
    freed: usize,
    /// How many items are over, and their outputs yielded.
    pub(super) done: u64,
    /// It has found nothing.
    waits: WaitNote,
    pub(super) light: Light,
    /// It has an item in the slot, unless that has been taken from there.
    pub(super) owns: bool,
    /// It has run an item last, and tries to begin the next one before it looks elsewhere.
    pub(super) has_turn: bool,
    /// There is no thread.
    pub(super) alone: bool,
    /// It runs no items any more while there are threads.
    pub(super) refuses: bool,
    /// Of an item that is over, to be used again.
    pub(super) spare_token: Option<Arc<ItemToken>>,
    /// A lane was cut, and this was found.
    pub(super) cut: bool,
    flows: bool,
}

/// What the consumer has found.
pub(super) enum Found {
    /// Outputs, which are in `taken` now.
    Some,
    /// An item that the consumer runs itself.
    Own,
    /// It must wait, or do something itself.
    Nothing,
    /// Nothing after the output that was yielded last counts.
    Last,
    Panic(Payload),
    Over,
}

impl<Q: Iterator, J: FlatJob<Q::Item>> FlatTaker<Q, J> {
    pub(super) fn new(shared: Arc<FlatStage<Q, J>>, listener: Listener, eager: bool) -> Self {
        FlatTaker {
            shared,
            listener,
            eager,
            head: None,
            next: VecDeque::new(),
            spare: Vec::new(),
            freed: 0,
            done: 0,
            waits: WaitNote::default(),
            light: Light::new(),
            owns: false,
            has_turn: false,
            alone: false,
            refuses: false,
            spare_token: None,
            cut: false,
            flows: false,
        }
    }

    /// How many outputs the next calls yield at least.
    pub(super) fn len(&self) -> usize {
        self.head.as_ref().map_or(0, LaneReader::len)
    }

    /// Whether there are lanes that it has not come to.
    pub(super) fn has_more(&self) -> bool {
        !self.next.is_empty()
    }

    /// Whether it has a lane.
    pub(super) fn has_lanes(&self) -> bool {
        self.head.is_some() || self.has_more()
    }

    /// Drops the outputs that were not yielded, and everything else of the stage. Returns the first panic.
    pub(super) fn dispose(self) -> Option<Payload> {
        let mut panic = None;
        // Each part is dropped separately, so that a panic of one does not keep the others from being dropped.
        for lane in self.head.into_iter().chain(self.next) {
            let (lane, reader) = lane.into_rest();
            unwind::first(&mut panic, discard(lane, Some(reader)));
        }
        match Arc::into_inner(self.shared) {
            Some(shared) => unwind::first(&mut panic, shared.dispose()),
            None => debug_assert!(false, "a thread holds something after the join"),
        }
        panic
    }
}

impl<Q, J> FlatTaker<Q, J>
where
    Q: Iterator<Item: Send> + Send,
    J: FlatJob<Q::Item>,
{
    /// The next one of those that were found.
    pub(super) fn next_taken(&mut self) -> Option<J::Output> {
        let head = self.head.as_mut()?;
        let output = head.next()?;
        // The last output of an item makes room for another item: told at once, because the consumer may stay with
        // this output.
        if head.is_over() {
            let (places, next) = self.close_head();
            self.is_done_to(next);
            self.give_back(places);
        }
        Some(output)
    }

    /// Nothing is left in the head. Returns how many places it has held, and the number of the item after it.
    fn close_head(&mut self) -> (usize, u64) {
        let Some(head) = self.head.take() else {
            return (0, 0);
        };
        let (places, next, spare) = head.close();
        if self.spare.len() < SPARES {
            self.spare.extend(spare);
        }
        (places, next)
    }

    /// For the statistics: the items before `next` have ended in this way, and their outputs are yielded.
    pub(super) fn has_ended(&mut self, end: &LaneEnd, next: u64) {
        let fate = match end {
            LaneEnd::Cut | LaneEnd::Left => return,
            LaneEnd::Done => None,
            LaneEnd::Last => Some(Fate::Failed),
            LaneEnd::Panic(_) => Some(Fate::Panicked),
        };
        self.is_done_to(next);
        if let Some(fate) = fate {
            self.shared.meter.note(|meter| meter.fate(fate, 1));
        }
    }

    /// The items before this one are over, and their outputs yielded.
    pub(super) fn is_done_to(&mut self, next: u64) {
        self.done = self.done.max(next);
        self.shared.meter.note(|meter| meter.taken_to(self.done));
    }

    /// These places are free again.
    pub(super) fn give_back(&mut self, places: usize) {
        self.freed += places;
        let shared = &self.shared;
        shared.freed.store(self.freed, Ordering::Relaxed);
        self.light.pass(); // pairs with the heavy one in `FlatStage::is_short`
        if shared.freed_for.load(Ordering::Relaxed) <= self.freed && !bug("places_are_silent") {
            shared.places_are_back();
        }
    }

    /// Goes to the next lane. `false`: there is none now.
    fn advance(&mut self) -> bool {
        if self.next.is_empty() {
            let mut state = self.shared.state.lock();
            state.spare.append(&mut self.spare);
            // Together with those after it that have ended, and so are in nobody's hands any more.
            // Behind one that has not, lanes may still be added (`FlatState::steal`).
            while self.next.len() < TOGETHER && self.next.back().is_none_or(LaneReader::is_done) {
                let front = state.next_lane();
                let Some(reader) = front.and_then(|lane| lane.reader(self.next.is_empty())) else {
                    break;
                };
                state.order.pop_front();
                self.next.push_back(reader);
            }
        }
        self.head = self.next.pop_front();
        self.head.is_some()
    }

    /// Looks for outputs in the head, and goes to the next lane when it has ended.
    pub(super) fn refill(&mut self) -> Found {
        let found = self.look();
        let waits = matches!(found, Found::Nothing);
        self.waits.set(&self.shared.meter, waits);
        found
    }

    fn look(&mut self) -> Found {
        loop {
            let Some(head) = &mut self.head else {
                if self.advance() {
                    continue;
                }
                let state = self.shared.state.lock();
                if !self.shared.is_over(&state) {
                    return Found::Nothing;
                }
                self.cut |= state.own.handed.is_some();
                return Found::Over;
            };
            let (taken, wake) = head.refill();
            if let Some(worker) = wake {
                worker.unpark();
            }
            match taken {
                Taken::Some => {
                    let flows = &self.shared.flows;
                    if !flows.load(Ordering::Relaxed) {
                        flows.store(true, Ordering::Relaxed);
                    }
                    return Found::Some;
                }
                Taken::Nothing => return self.nothing(),
                Taken::End(end) => {
                    let seq = head.lane.seq;
                    let (places, next) = self.close_head();
                    if matches!(end, LaneEnd::Left) {
                        if !self.take_left(seq, places) {
                            self.cut = true;
                            return Found::Over;
                        }
                        if self.owns {
                            return Found::Own;
                        }
                        continue;
                    }
                    self.has_ended(&end, next);
                    self.give_back(places);
                    match end {
                        LaneEnd::Done | LaneEnd::Left => {}
                        // Everything before it was yielded, and nothing after it will be.
                        LaneEnd::Last => return Found::Last,
                        LaneEnd::Panic(panic) => return Found::Panic(panic),
                        LaneEnd::Cut => {
                            self.cut = true;
                            return Found::Over;
                        }
                    }
                }
            }
        }
    }

    /// The head has no outputs now. After a stop it may have no worker either.
    fn nothing(&mut self) -> Found {
        let Some(head) = &self.head else {
            return Found::Nothing;
        };
        self.cut = self
            .shared
            .is_forsaken(&self.shared.state.lock(), &head.lane);
        if self.cut {
            Found::Over
        } else {
            Found::Nothing
        }
    }

    /// Waits until there is something to take, the stage is over, or `until` has come.
    pub(super) fn wait(&mut self, until: Option<Instant>) -> WaitResult {
        let shared = &self.shared;
        let now = Instant::now();
        let naps = self.flows && !self.eager && !self.listener.sleeper.is_polled();
        let mut head = self.head.as_mut();
        // While it naps, a part of the head's places wakes it, or a worker that has no places left.
        let wanted = match &mut head {
            Some(head) if naps => head.bulk(),
            _ => 1,
        };
        if let Some(head) = &head {
            head.want(wanted, !naps);
        }
        {
            let mut state = shared.state.lock();
            // It becomes the head, which can be asked for as much as a nap is worth.
            if head.is_none() && state.next_lane().is_some() {
                return WaitResult::Ready;
            }
            state.starves = head.is_none() && !naps;
            state.full = false;
        }
        let ready = || {
            let state = shared.state.lock();
            let is_full = naps && state.full;
            let is_there = if let Some(head) = &mut head {
                head.is_ready(wanted, !naps) || shared.is_forsaken(&state, &head.lane)
            } else {
                let next = state.next_lane();
                let is_next = next.is_some_and(|next| next.is_ready(wanted, !naps))
                    || FlatStage::<Q, J>::is_next_unheard(&state);
                is_next || shared.is_over(&state) || shared.consumer_begins(&state)
            };
            is_there || is_full || shared.consumer_pulls(&state)
        };
        let limit = naps.then(|| now + NAP).into_iter().chain(until).min();
        let heard = self.listener.wait(ready, limit);
        self.flows = if naps {
            // What is behind the head does not count: it may be stuck for long.
            let is_more = || !shared.state.lock().order.is_empty();
            heard == WaitResult::Ready || head.map_or_else(is_more, LaneReader::has_several)
        } else {
            // In a model time does not pass, and a nap would hide a wake-up that is missing.
            !cfg!(loom) && now.elapsed() < FLOW
        };
        if heard == WaitResult::Late && until.is_none_or(|until| until > Instant::now()) {
            return WaitResult::Ready; // It was a nap.
        }
        if heard != WaitResult::Ready {
            self.waits.set(&self.shared.meter, false); // This thread returns to its user.
        }
        heard
    }
}
