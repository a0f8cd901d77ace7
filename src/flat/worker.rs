//! A worker: it pulls an item and runs its inner iterator to the end, or sleeps.

use crate::error::ItemError;
use crate::flat::frame::ItemFrame;
use crate::flat::lane::{LaneEnd, Room};
use crate::flat::shared::{FlatStage, LaneOf, NextWork, Opened, Places, Pulled, StateGuard};
use crate::par::flat_map::FlatJob;
use crate::runtime::context::{self, Current, PerCall};
use crate::runtime::control::Control;
use crate::runtime::permits::closure::ClosurePermit;
use crate::runtime::spin::SpinPolicy;
use crate::sync::{Arc, Instant, Parker};
use crate::unwind::{self, Payload, catch};
use std::rc::Rc;
use std::time::Duration;

/// An inner iterator that fills its places sooner than this gets more of them.
const SOON: Duration = Duration::from_millis(4);

/// A leased thread.
struct FlatWorker {
    thread: usize,
    /// What it sleeps on, without work or without room. The roster, `control` and lanes have the other half.
    parker: Parker,
    /// Whether it looks around before a sleep.
    patience: SpinPolicy,
    room: SpinPolicy,
    in_source: Rc<PerCall>,
}

impl FlatWorker {
    fn new(thread: usize, control: &Control) -> Self {
        FlatWorker {
            thread,
            parker: Parker::new(),
            patience: SpinPolicy::new(),
            room: SpinPolicy::new(),
            in_source: PerCall::new(control.source_token()),
        }
    }
}

/// An item on its way: first the item, then its inner iterator.
pub(super) enum Run<I, N> {
    Item(I),
    Inner(N),
    /// It is being opened, or that has panicked.
    Neither,
}

/// With its lane.
pub(super) type Begun<Q, J> = (Arc<LaneOf<Q, J>>, RunOf<Q, J>);

pub(super) type RunOf<Q, J> =
    Run<<Q as Iterator>::Item, <J as FlatJob<<Q as Iterator>::Item>>::Inner>;

impl<Q, J> FlatStage<Q, J>
where
    Q: Iterator<Item: Send> + Send,
    J: FlatJob<Q::Item>,
{
    /// What a leased thread does from its start to its end.
    pub(super) fn work(self: &Arc<Self>, thread: usize) {
        let mut worker = FlatWorker::new(thread, &self.control);
        // Registered with `control` for a stop, and with the roster for work. Both come before the first look, so a
        // stop that comes after the look wakes this thread.
        let unparker = worker.parker.unparker().clone();
        self.control.register(unparker.clone());
        let mut state = self.state.lock();
        state.roster.register(thread, unparker);
        // It has arrived: from now on it calls the next thread itself.
        state.coming = false;
        // The lock is held from the look to the step that it decides on. Only the steps release it.
        loop {
            state = match self.look(&state) {
                NextWork::Run => match state.todo.pop_front() {
                    Some(opened) => self.run_item(&mut worker, state, opened),
                    None => state,
                },
                NextWork::Pull => self.pull_next(&mut worker, state),
                NextWork::Full | NextWork::Nothing => self.idle(&mut worker, state),
                NextWork::Over => {
                    // A chain: each thread that leaves wakes the next sleeper, which finds the same and leaves too.
                    let wake = self.call(&mut state);
                    drop(state);
                    self.act(wake);
                    return;
                }
            };
        }
    }

    // ---- an item

    /// Runs an item from its start to its end.
    fn run_item<'a>(
        self: &'a Arc<Self>,
        worker: &mut FlatWorker,
        mut state: StateGuard<'a, Q, J>,
        (lane, item): Opened<Q, J>,
    ) -> StateGuard<'a, Q, J> {
        // There may be more: another thread is called before this one may stay long in this item.
        let wake = self.call(&mut state);
        drop(state);
        self.act(wake);
        let frame = ItemFrame::new(&lane.token, &self.control);
        // One frame from the call of the closure to the end of its iterator: what is started there is linked to it as
        // long as the iterator is.
        let here = context::in_closure(Rc::clone(&frame) as Rc<dyn Current>);
        let (mut run, mut permit) = (Run::Item(item), None);
        let end = catch(|| self.run_all(worker, &frame, &lane, &mut run, &mut permit));
        let end = self.ended(&lane, run, end);
        // Before the permit is given back, to an item that may wait for it: nothing starts after a failure.
        self.close(&lane, end);
        frame.over();
        lane.token.forget();
        drop((permit, here));
        self.state.lock()
    }

    /// The loop over the outputs of an item. It stops for room before an output is made, and holds no permit
    /// meanwhile.
    fn run_all(
        &self,
        worker: &mut FlatWorker,
        frame: &ItemFrame,
        lane: &Arc<LaneOf<Q, J>>,
        run: &mut RunOf<Q, J>,
        permit: &mut Option<ClosurePermit>,
    ) -> LaneEnd {
        let mut room = lane.room();
        let mut began = Instant::now();
        loop {
            if room == Room::No {
                room = self.wait_for_room(worker, lane, permit, &mut began);
            }
            if room == Room::Unwanted || self.control.is_stopped() || !self.allow(frame, permit) {
                return LaneEnd::Cut;
            }
            room = match self.step(frame, lane, run) {
                Ok(room) => room,
                Err(end) => return end,
            };
        }
    }

    /// Waits for a permit, if the stage is limited and this thread has none. `false`: the item is not wanted any more.
    fn allow(&self, frame: &ItemFrame, permit: &mut Option<ClosurePermit>) -> bool {
        match &self.limit {
            Some(limit) if permit.is_none() => {
                *permit = limit.hold(|| frame.token()).ok();
                permit.is_some() && !self.control.is_stopped()
            }
            _ => true,
        }
    }

    /// Opens the item, or asks its iterator once.
    pub(super) fn step(
        &self,
        frame: &ItemFrame,
        lane: &LaneOf<Q, J>,
        run: &mut RunOf<Q, J>,
    ) -> Result<Room, LaneEnd> {
        let Run::Inner(inner) = run else {
            let Run::Item(item) = std::mem::replace(run, Run::Neither) else {
                return Err(LaneEnd::Cut);
            };
            *run = Run::Inner(self.job.open(item));
            return Ok(lane.room());
        };
        let output = inner.next();
        // What was made of something that was cut short does not count, once nothing more is wanted. Asked only then,
        // because it ends the links of what was started in the item.
        let in_vain = self.control.is_stopped() && frame.over();
        match output {
            None if in_vain => Err(LaneEnd::Cut),
            None => Err(LaneEnd::Done),
            Some(output) if in_vain => {
                drop(output);
                Err(LaneEnd::Cut)
            }
            Some(output) => {
                let is_last = J::is_last(&output);
                let (notifies, room) = lane.push(output);
                if is_last {
                    return Err(LaneEnd::Last);
                }
                // Before the iterator is asked again: it may stay there for any time.
                if notifies {
                    self.control.notify();
                }
                Ok(room)
            }
        }
    }

    /// Drops the iterator, and says what stands at the end of its lane.
    pub(super) fn ended(
        &self,
        lane: &LaneOf<Q, J>,
        run: RunOf<Q, J>,
        end: Result<LaneEnd, Payload>,
    ) -> LaneEnd {
        let dropped = match run {
            Run::Item(item) => unwind::discard(item),
            Run::Inner(inner) => unwind::discard(inner),
            Run::Neither => None,
        };
        let panic = match (end, dropped) {
            (Err(panic), lost) => {
                lost.into_iter().for_each(unwind::bury);
                panic
            }
            // It belongs to no output that anybody will see.
            (Ok(LaneEnd::Cut), dropped) => {
                self.control.stray(dropped);
                return LaneEnd::Cut;
            }
            (Ok(_), Some(panic)) => panic,
            (Ok(end), None) => return end,
        };
        match self.job.failed(ItemError::panicked(lane.seq, &*panic)) {
            None => LaneEnd::Panic(panic),
            Some(output) => {
                unwind::bury(panic);
                // There is room: it was checked before the iterator was asked.
                let (notifies, _) = lane.push(output);
                if notifies {
                    self.control.notify();
                }
                LaneEnd::Done
            }
        }
    }

    /// Waits until the consumer has taken outputs, or a place is free that there was none of.
    fn wait_for_room(
        &self,
        worker: &mut FlatWorker,
        lane: &Arc<LaneOf<Q, J>>,
        permit: &mut Option<ClosurePermit>,
        began: &mut Instant,
    ) -> Room {
        // A model must not depend on time.
        let is_soon = !cfg!(loom) && began.elapsed() < SOON;
        let places = self.enlarge(lane, is_soon);
        if places == Places::More {
            return lane.room();
        }
        // Given back, as this may be a long wait: those who run the items before this one may need it.
        *permit = None;
        let is_over = || lane.room() != Room::No || self.control.is_stopped();
        worker.room.look(is_over);
        let room = loop {
            // The request and the last look are one critical section; the flag of a stop is set before the threads are
            // woken for it (exchange wait / take).
            let room = lane.ask(worker.parker.unparker());
            if room != Room::No || self.control.is_stopped() {
                *began = Instant::now();
                break room;
            }
            worker.parker.park();
        };
        if places == Places::Listed {
            self.unlist(lane);
        }
        room
    }

    // ---- the source

    /// Pulls an item and runs it. This thread is the puller meanwhile.
    fn pull_next<'a>(
        self: &'a Arc<Self>,
        worker: &mut FlatWorker,
        mut state: StateGuard<'a, Q, J>,
    ) -> StateGuard<'a, Q, J> {
        // Taken out of the state, so there is one puller at a time, and the lock is not held while the source runs.
        let Some(mut source) = state.source.take() else {
            return state;
        };
        state.held += 1;
        drop(state);
        let pulled = self.pull(&mut *source, &worker.in_source);
        let mut state = self.state.lock();
        // In one critical section with the return of the source: lanes are in the order of their items, and a thread
        // that is about to sleep sees the source (exchange sleep / wake).
        match self.admit(&mut state, pulled) {
            Ok(opened) => {
                state.source = Some(source);
                match opened {
                    Some(opened) => self.run_item(worker, state, opened),
                    None => state,
                }
            }
            Err(item) => {
                drop(state);
                self.turned_away(item, source);
                self.state.lock()
            }
        }
    }

    /// Asks the source for an item. Called without the lock.
    pub(super) fn pull<L>(&self, source: &mut L, here: &Rc<PerCall>) -> Pulled<Q::Item>
    where
        L: Iterator<Item = Q::Item>,
    {
        // Checked before the pull, not after: an item that was pulled is run.
        if self.control.ends_source() {
            return Pulled::End;
        }
        let pulled = {
            let here = Rc::clone(here) as Rc<dyn Current>;
            let _entered = context::in_source(here, &self.inside);
            catch(|| source.next())
        };
        // The frame is used again, so the token of this call is forgotten.
        here.call_over();
        match pulled {
            Ok(Some(item)) => Pulled::Item(item),
            // Not the end: the stage's own outputs are not wanted for now, and the source is asked again later.
            Ok(None) if context::is_unwanted() => Pulled::Later,
            Ok(None) => Pulled::End,
            Err(panic) => Pulled::Panic(panic),
        }
    }

    // ---- sleep

    /// There is nothing to do: looks around briefly, then sleeps until it is called.
    fn idle<'a>(
        &'a self,
        worker: &mut FlatWorker,
        mut state: StateGuard<'a, Q, J>,
    ) -> StateGuard<'a, Q, J> {
        // While it looks around no thread is called, because this one would find the work itself.
        state.looking += 1;
        drop(state);
        // `Over` counts as work: the thread must leave.
        let is_work = |sight| !matches!(sight, NextWork::Full | NextWork::Nothing);
        worker
            .patience
            .look(|| is_work(self.look(&self.state.lock())));
        let mut state = self.state.lock();
        state.looking -= 1;
        // The last look, in one critical section with `fall_asleep`: a thread that creates work later finds this one on
        // the list.
        let sight = self.look(&state);
        if is_work(sight) {
            return state;
        }
        state.roster.fall_asleep(worker.thread);
        let is_full = sight == NextWork::Full && !state.full;
        state.full |= is_full;
        drop(state);
        if is_full {
            // The consumer may nap.
            self.control.notify();
        }
        worker.parker.park();
        let mut state = self.state.lock();
        // Taken off the list: it was called, and has arrived. Otherwise it woke for a stop, or for nothing.
        if !state.roster.woke_up(worker.thread) {
            state.coming = false;
        }
        state
    }
}
