//! What the consumer runs itself: at a bound too small to pay for wake-ups, and where there is no thread.
//!
//! With a small bound of the user's a worker is soon without room, and the consumer soon without outputs, and each wakes
//! the other for every few of them. A wake-up costs as much as many an output. So if everything within the bound takes
//! less than [`SHORT`], the consumer has the *turn*: the workers start nothing, and the consumer pulls an item, and
//! yields each output of its iterator when it is made, as the sequential `flat_map` would. It does so only at the head
//! of the line, so no output that is ready waits for the closure of another one (P4).
//!
//! | step | by | what happens |
//! | --- | --- | --- |
//! | [`note_cost`](FlatStage::note_cost) | a worker, after a lane or when that is full | enough outputs in a row were short: the turn is the consumer's |
//! | [`close`](FlatStage::close) with `LaneEnd::Left` | a worker whose lane is full | leaves its iterator to the consumer, which goes on with it when it has taken the outputs before it |
//! | [`take_own`](FlatTaker::take_own) | the consumer, when it has taken everything | takes the next item, or pulls it |
//! | [`run_own`](FlatTaker::run_own) | the consumer, for each output | asks the iterator once, within a frame |
//! | [`watch_own`](FlatStage::watch_own) | one of the workers, each millisecond | ends the turn if the consumer has not moved, or slowly |
//!
//! # What belongs to whom
//!
//! The source stays in the state, where the next thread finds it as soon as the turn is over. An item that the consumer
//! has begun is in `Own::slot`, whose lock the consumer holds exactly while it is inside of that item. So whoever ends
//! the turn takes the item out of the slot, half run, and a worker goes on with it as the head (`OwnState::handed`);
//! unless the consumer is inside. Then it stays with the consumer, which counts as one of the `n` (`OwnState::guest`),
//! and hands it over when it comes out:
//!
//! | exchange | one side | the other side | the race |
//! | --- | --- | --- | --- |
//! | step / end | the consumer releases the slot, and looks at `on`: if the turn is over it [hands over](FlatTaker::answer) what it has | the watcher stores `on`, then tries the slot ([`end_own`](FlatStage::end_own)); if it is locked, the consumer is a guest | the consumer is away with its user, and an item stays in its hands that nobody runs |
//! | idle / own | a consumer without outputs looks whether it may begin something ([`consumer_begins`](FlatStage::consumer_begins)), then sleeps | a worker that idles during the turn notifies it, if there is ([`watch_own`](FlatStage::watch_own)) | both sides sleep, until the turn ends for that |
//!
//! # Where this is not done
//!
//! - Without a bound of the user's: the stage has a larger one instead (*Shares that grow* in `README.md`).
//! - Where each closure needs a permit of the user's, on a pool of the user's, and in `eager` stages.
//! - With items, iterators or outputs of more than 4 KiB, for the sake of the user's stack.
//! - In a call with a time limit, which must not get stuck in an item; after one, never again.

use crate::cancel;
use crate::flat::begun::{Begun, BegunOf, OwnStep, Run, Seen, Step};
use crate::flat::frame::{ItemFrame, ItemToken};
use crate::flat::lane::LaneEnd;
use crate::flat::shared::{FlatStage, Pulled, StateGuard, StateOf};
use crate::flat::taker::FlatTaker;
use crate::par::flat_map::FlatJob;
use crate::runtime::barrier::heavy;
use crate::runtime::context::{self, Current, PerCall, Started};
use crate::runtime::life::Scheduler;
use crate::runtime::meter::Doing;
use crate::runtime::plan::LARGE_ITEM;
use crate::runtime::probe::Probe;
use crate::sync::{Arc, Instant, Ordering, bug};
use crate::unwind::catch;
use std::rc::Rc;
use std::time::Duration;

/// If all outputs within the bound take less than this, threads do not pay.
const SHORT: Duration = Duration::from_millis(1);
/// If they seem to take more than this, to the watcher, the turn ends. In that time are the source and the user, too.
const SLOW: Duration = Duration::from_millis(4);
/// So many outputs in a row are believed.
const EVIDENCE: usize = 16;
/// How long the watcher naps.
pub(super) const NAP: Duration = Duration::from_millis(1);
/// A consumer that has not moved for so many naps is away, or in a long closure.
const PATIENCE: u32 = 2;

impl<Q, J> FlatStage<Q, J>
where
    Q: Iterator<Item: Send> + Send,
    J: FlatJob<Q::Item>,
{
    /// Whether items of these types may be run on the consumer's thread.
    pub(super) fn is_small() -> bool {
        size_of::<BegunOf<Q, J>>() + size_of::<J::Output>() <= LARGE_ITEM
    }

    /// Worker: outputs have been made, in such a time. Gives the consumer the turn, if threads do not pay. Only where it
    /// may have that.
    pub(super) fn note_cost(&self, state: &mut StateOf<Q, J>, outputs: usize, took: Duration) {
        let Some(bound) = self.in_flight else {
            return;
        };
        // A model must not depend on time.
        let took = if cfg!(loom) { Duration::ZERO } else { took };
        let all = took.as_nanos() * bound as u128 / outputs.max(1) as u128;
        let own = &mut state.own;
        own.short = if all < SHORT.as_nanos() {
            own.short + outputs.max(1)
        } else {
            0
        };
        let may = if cfg!(loom) {
            own.turns > 0
        } else {
            own.short >= EVIDENCE && own.pause.is_over()
        };
        // What was handed over is a worker's to run, which would wait for the end of the turn.
        let is_free = !own.has && !own.guest && own.handed.is_none();
        if may && !self.own.is_on() && is_free {
            own.turns -= 1;
            own.seen = None;
            self.own.on.store(true, Ordering::Relaxed);
        }
    }

    /// Whether items have been begun that a worker may have to go on with.
    pub(super) fn is_any_left(&self, state: &StateOf<Q, J>) -> bool {
        self.own.may && state.own.has_any() && !bug("left_is_forgotten")
    }

    /// Takes away the lane for the rest of an item, which gave no more outputs. `starves`: the consumer waits for it.
    pub(super) fn remove_rest(state: &mut StateOf<Q, J>, seq: u64, starves: bool) {
        let after = state.order.partition_point(|lane| lane.seq <= seq);
        // The one before it, with the first outputs, may be there too.
        state.order.remove(after - 1);
        state.starves |= starves && !bug("rest_is_forgotten");
    }

    /// Whether the lane that the consumer waits for was taken away, and the next one, which was there before, has not heard
    /// that it is waited for.
    pub(super) fn is_next_unheard(state: &StateOf<Q, J>) -> bool {
        state.starves && state.next_lane().is_some() && !bug("next_is_unheard")
    }

    /// Whether the consumer, when it has taken everything, runs what comes next.
    fn is_consumers_turn(&self, state: &StateOf<Q, J>) -> bool {
        self.own.is_on() || state.roster.is_nobody()
    }

    /// Whether there is something that a consumer without a lane may begin itself.
    pub(super) fn consumer_begins(&self, state: &StateOf<Q, J>) -> bool {
        let is_free = state.order.is_empty() && state.own.handed.is_none();
        let pulls = state.source.is_some() && !state.ended;
        let may = self.is_consumers_turn(state) && is_free && !self.control.is_stopped();
        may && (!state.todo.is_empty() || pulls)
    }

    /// Worker without work, during the consumer's turn: watches it for the length of a nap, and ends the turn if the
    /// consumer does not come. `nap` sleeps. `Err`: another one watches.
    pub(super) fn watch_own<'a>(
        &'a self,
        mut state: StateGuard<'a, Q, J>,
        nap: impl FnOnce(),
    ) -> Result<StateGuard<'a, Q, J>, StateGuard<'a, Q, J>> {
        let notifies = self.consumer_begins(&state);
        let watches = !state.own.is_watched;
        state.own.is_watched = true;
        if notifies {
            drop(state);
            self.control.notify(); // exchange idle / own
            state = self.state.lock();
        }
        if !watches {
            return Err(state);
        }
        drop(state);
        nap();
        let mut state = self.state.lock();
        state.own.is_watched = false;
        if self.own.is_on() && self.is_slow(&mut state) {
            state.own.pause.begin();
            self.end_own(&mut state);
        }
        Ok(state)
    }

    /// Whether the consumer has not moved for long, or moves so slowly that threads would pay.
    fn is_slow(&self, state: &mut StateOf<Q, J>) -> bool {
        if cfg!(loom) {
            return true; // A model must not depend on time.
        }
        let (steps, at) = (self.own.steps.load(Ordering::Relaxed), Instant::now());
        let now = Seen {
            steps,
            at,
            still: 0,
        };
        let own = &mut state.own;
        let Some(before) = own.seen.replace(now) else {
            return false;
        };
        let moved = steps.wrapping_sub(before.steps);
        if moved == 0 {
            // Another program may have its core.
            if own.probe.as_mut().is_some_and(Probe::waits) {
                return false;
            }
            let still = before.still + 1;
            own.seen = Some(Seen { still, ..now });
            return still >= PATIENCE;
        }
        if let Some(probe) = &mut own.probe {
            probe.forget();
        }
        let bound = self.in_flight.unwrap_or(usize::MAX) as u128;
        let all = at.duration_since(before.at).as_nanos() * bound / moved as u128;
        all > SLOW.as_nanos()
    }

    /// The workers run what comes next. The caller looks for work, or calls one.
    fn end_own(&self, state: &mut StateOf<Q, J>) {
        self.own.on.store(false, Ordering::Relaxed);
        state.own.short = 0;
        state.own.probe = None;
        if !state.own.has {
            if !state.own.pulls {
                self.free_place(state);
            }
            return;
        }
        if !bug("no_barrier_before_slot") {
            heavy(); // pairs with the light one in `FlatTaker::stepped`
        }
        let Some(mut slot) = self.own.slot.try_lock() else {
            state.own.guest = !bug("guest_is_stuck");
            return;
        };
        state.own.has = false;
        self.meter.set(usize::MAX, Doing::Nothing);
        match slot.take() {
            None => self.free_place(state), // It is over.
            begun => state.own.hand_over(begun),
        }
    }

    /// The place of the items that the consumer runs is free.
    fn free_place(&self, state: &mut StateOf<Q, J>) {
        if std::mem::take(&mut state.own.place) {
            self.free(state, 1);
        }
    }
}

impl<Q, J> FlatTaker<Q, J>
where
    Q: Iterator<Item: Send> + Send,
    J: FlatJob<Q::Item>,
{
    /// If it is the consumer's turn: takes the next item, or pulls it. The consumer has nothing else to take. `false`: no.
    pub(super) fn take_own(&mut self) -> bool {
        debug_assert!(!self.owns && !self.has_lanes());
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state.lock();
        state.own.has = false;
        if !shared.consumer_begins(&state) {
            // First, as it still counts as one that runs its last item, and the workers begin others.
            shared.meter.set(usize::MAX, Doing::Nothing);
            self.has_turn = false;
            if state.own.place {
                shared.free_place(&mut state);
                let wake = shared.call(&mut state);
                drop(state);
                shared.act(wake);
            }
            return false;
        }
        self.alone = state.roster.is_nobody();
        if let Some(item) = state.todo.pop_front() {
            shared.free_place(&mut state); // The item has its own.
            self.begin_own(&mut state, item);
            return true;
        }
        let Some(mut source) = state.source.take() else {
            shared.meter.set(usize::MAX, Doing::Nothing);
            return false;
        };
        if !std::mem::replace(&mut state.own.place, true) {
            state.held += 1;
        }
        if state.own.probe.is_none() && !self.alone {
            state.own.probe = Probe::here();
        }
        state.own.pulls = true;
        drop(state);
        let pulled = self.pull_here(&mut *source);
        let mut state = shared.state.lock();
        state.own.pulls = false;
        match pulled {
            Pulled::Item(item) if shared.is_consumers_turn(&state) && !state.ended => {
                state.source = Some(source);
                shared.meter.note(|meter| meter.pulled(1));
                self.begin_own(&mut state, item);
            }
            pulled => {
                state.own.place = false; // It goes with the item, or is free.
                let turned_away = match shared.admit(&mut state, pulled) {
                    Ok(()) => {
                        state.source = Some(source);
                        None
                    }
                    Err(item) => Some((item, source)),
                };
                let wake = shared.call(&mut state);
                drop(state);
                shared.act(wake);
                if let Some((item, source)) = turned_away {
                    shared.turned_away(item, source);
                }
            }
        }
        true
    }

    /// Asks a source for an item, on this thread.
    pub(super) fn pull_here<L>(&self, source: &mut L) -> Pulled<Q::Item>
    where
        L: Iterator<Item = Q::Item>,
    {
        let shared = &self.shared;
        // A new frame for each call, because the consumer may move to another thread in between.
        let here = PerCall::new(shared.control.source_token());
        shared.meter.set(usize::MAX, Doing::Source);
        let entered = shared.enter_source(&here);
        let pulled = shared.pull(source, &here);
        drop(entered);
        shared.meter.set(usize::MAX, Doing::Nothing);
        match pulled {
            // The stage's own outputs are not wanted for now, and the source is asked again later.
            Pulled::End if context::is_unwanted() => Pulled::Later,
            pulled => pulled,
        }
    }

    fn begin_own(&mut self, state: &mut StateOf<Q, J>, item: Q::Item) {
        let seq = state.begun;
        state.begun += 1;
        let begun = Begun {
            seq,
            token: self.spare_token.take().unwrap_or_default(),
            started: Started::default(),
            run: Run::Item(item),
        };
        self.put_in_slot(state, begun);
    }

    fn put_in_slot(&mut self, state: &mut StateOf<Q, J>, begun: BegunOf<Q, J>) {
        // Nobody else has it: the turn is the consumer's, and the slot is empty.
        *self.shared.own.slot.lock() = Some(begun);
        self.shared.meter.set(usize::MAX, Doing::Run);
        (state.own.has, state.own.place) = (true, true);
        (self.owns, self.has_turn) = (true, true);
    }

    /// A worker has left this item behind the lane that has just ended, which has held so many places. One of them goes
    /// on with the item. `false`: it is not run any more.
    pub(super) fn take_left(&mut self, seq: u64, places: usize) -> bool {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state.lock();
        if shared.control.is_stopped() {
            return false;
        }
        // A worker has gone on with it, in the next lane, and may have left it again behind that.
        let goes_on = state.order.front().is_some_and(|next| next.seq == seq);
        let left = if goes_on && !bug("left_twice") {
            None
        } else {
            state.own.left.remove(&seq)
        };
        let Some(left) = left else {
            drop(state);
            if !goes_on {
                self.is_done_to(seq + 1);
            }
            self.give_back(places); // It is in that lane, or a worker has found nothing but its end.
            return true;
        };
        if shared.is_consumers_turn(&state) {
            self.put_in_slot(&mut state, left);
            drop(state);
        } else {
            state.own.handed = Some(left);
            let wake = shared.call(&mut state);
            drop(state);
            shared.act(wake);
        }
        self.give_back(places - 1);
        true
    }

    /// One step of the item that this thread runs: up to its next output.
    pub(super) fn run_own(&mut self) -> OwnStep<J::Output> {
        if self.alone {
            // Where no thread can be started, there may be no timer thread either: what is due is tripped here.
            cancel::keep_time();
        }
        let shared = &self.shared;
        let own = &shared.own;
        let mut slot = own.slot.lock();
        let Some(begun) = slot.as_mut() else {
            drop(slot);
            (self.owns, self.has_turn) = (false, false);
            return OwnStep::Nothing;
        };
        let Begun {
            seq,
            token,
            started,
            run,
        } = begun;
        // A new frame for each step, because the consumer may move to another thread in between.
        let frame = ItemFrame::new(token, &shared.control, started.take());
        let is_nested = || shared.control.life().is_nested();
        let here = context::in_own_closure(Rc::clone(&frame) as Rc<dyn Current>, is_nested);
        let in_stage = shared.control.span().enter();
        let in_item = shared.control.span().item(*seq);
        let step = catch(|| match shared.step_here(&frame, run) {
            // A new item: its first output.
            Step::Opened => shared.step_here(&frame, run),
            step => step,
        });
        drop(in_item);
        drop(in_stage);
        let (end, output) = match step {
            Ok(Step::Output(output)) if !J::is_last(&output) => {
                drop(here);
                *started = frame.take_started();
                drop((frame, slot));
                self.stepped();
                return OwnStep::Output(output);
            }
            Ok(Step::Output(output)) => (Ok(LaneEnd::Last), Some(output)),
            Ok(Step::End(end)) => (Ok(end), None),
            Ok(Step::Opened) => unreachable!("it is opened once"),
            Err(panic) => (Err(panic), None),
        };
        let run = std::mem::replace(run, Run::Neither);
        let seq = *seq;
        let (end, failed) = shared.ended(seq, run, end);
        drop(here);
        frame.item_over();
        drop(frame);
        let token = slot.take().map(|begun| begun.token);
        drop(slot);
        // To be used again, if nobody else has it.
        self.spare_token = token.and_then(|mut token| {
            *Arc::get_mut(&mut token)? = ItemToken::default();
            Some(token)
        });
        self.owns = false;
        self.shared.meter.note(|meter| meter.ran(1));
        self.has_ended(&end, seq + 1);
        self.stepped();
        match (end, output.or(failed)) {
            (LaneEnd::Done | LaneEnd::Left, None) => OwnStep::Nothing,
            (LaneEnd::Done | LaneEnd::Left, Some(output)) => OwnStep::Output(output),
            (LaneEnd::Last, Some(output)) => OwnStep::Last(output),
            // From the drop of the iterator, behind its last output.
            (LaneEnd::Panic(panic), Some(output)) => {
                self.shared.control.stray(Some(panic));
                OwnStep::Last(output)
            }
            (LaneEnd::Panic(panic), None) => OwnStep::Panic(panic),
            (LaneEnd::Last, None) | (LaneEnd::Cut, _) => {
                self.cut = true;
                OwnStep::Cut
            }
        }
    }

    /// A step is over, and the slot is released.
    fn stepped(&mut self) {
        let own = &self.shared.own;
        // Only this thread stores it.
        let steps = own.steps.load(Ordering::Relaxed).wrapping_add(1);
        own.steps.store(steps, Ordering::Relaxed);
        self.light.pass(); // pairs with the heavy one in `FlatStage::end_own`
        if !own.is_on() && !self.alone {
            self.answer();
        }
    }

    /// The turn is over: hands over what it has.
    #[cold]
    fn answer(&mut self) {
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state.lock();
        if shared.own.is_on() {
            return; // It has begun anew, or has just begun.
        }
        shared.meter.set(usize::MAX, Doing::Nothing);
        state.own.guest = false;
        state.own.has = false;
        (self.owns, self.has_turn) = (false, false);
        // `None`: it is over, or was taken from there, and the place with it.
        match shared.own.slot.lock().take() {
            None => shared.free_place(&mut state),
            begun => state.own.hand_over(begun),
        }
        let wake = shared.call(&mut state);
        drop(state);
        shared.act(wake);
    }

    /// The consumer waits for a limited time from now on, so it must not get stuck in an item.
    pub(super) fn refuse_own(&mut self) {
        if self.alone || !self.shared.own.may || self.refuses {
            return;
        }
        self.refuses = true;
        let shared = Arc::clone(&self.shared);
        let mut state = shared.state.lock();
        state.own.pause.forever();
        if !shared.own.is_on() {
            return;
        }
        shared.end_own(&mut state);
        drop(state);
        self.answer();
    }
}

#[cfg(all(test, loom))]
mod models;
