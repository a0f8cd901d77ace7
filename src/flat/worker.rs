//! A worker: it pulls an item and runs its inner iterator to the end, or sleeps.

use crate::error::ItemError;
use crate::flat::begun::{Begun, BegunOf, Run, RunOf, Step};
use crate::flat::frame::ItemFrame;
use crate::flat::lane::{LaneEnd, Room};
use crate::flat::own;
use crate::flat::shared::{FlatStage, NextWork, Places, Pulled, StateGuard, WriterOf};
use crate::par::flat_map::FlatJob;
use crate::runtime::context::{self, Current, FrameGuard, PerCall, Started};
use crate::runtime::control::Control;
use crate::runtime::meter::{Doing, Fate, Totals};
use crate::runtime::permits::Permits;
use crate::runtime::permits::closure::ClosurePermit;
use crate::runtime::spin::SpinPolicy;
use crate::sync::{Arc, Instant, Parker};
use crate::unwind::{self, Payload, catch};
use std::rc::Rc;
use std::time::Duration;

/// An inner iterator that fills its places sooner than this gets more of them.
const SOON: Duration = Duration::from_millis(4);
/// How long a thread sleeps that looks for items which others have not started.
const WATCH: Duration = Duration::from_millis(1);
/// How often it does so if there are none.
const VAIN: u32 = 8;

/// A leased thread.
struct FlatWorker {
    thread: usize,
    /// What it sleeps on, without work or without room. The roster, `control` and lanes have the other half.
    parker: Parker,
    /// Whether it looks around before a sleep.
    patience: SpinPolicy,
    room: SpinPolicy,
    /// How often it has looked in vain for items of other threads.
    vain: u32,
    /// When it has last slept.
    woke: Instant,
    /// When it has begun to fill the room of its lane, and from which output on.
    filling: Instant,
    from: usize,
    in_source: Rc<PerCall>,
}

impl FlatWorker {
    fn new(thread: usize, control: &Control) -> Self {
        FlatWorker {
            thread,
            parker: Parker::new(),
            patience: SpinPolicy::new(),
            room: SpinPolicy::new(),
            vain: VAIN,
            woke: Instant::now(),
            filling: Instant::now(),
            from: 0,
            in_source: PerCall::new(control.source_token()),
        }
    }
}

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
        // The lock is held from the look to the step that it decides on. Only the steps release it.
        loop {
            state = match self.look(&state) {
                NextWork::Run => match self.take(&mut state) {
                    Some((writer, begun)) => self.run_items(&mut worker, state, writer, begun),
                    None => state,
                },
                NextWork::Steal => {
                    state.steal();
                    state
                }
                NextWork::Pull => self.pull_next(&worker, state),
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

    // ---- items

    /// Runs the items of a lane one after the other, each from its start to its end.
    fn run_items<'a>(
        self: &'a Arc<Self>,
        worker: &mut FlatWorker,
        mut state: StateGuard<'a, Q, J>,
        mut writer: WriterOf<Q, J>,
        begun: Option<BegunOf<Q, J>>,
    ) -> StateGuard<'a, Q, J> {
        self.meter.set(worker.thread, Doing::Run);
        // There may be more: another thread is called before this one may stay long in these items.
        let wake = self.call(&mut state);
        drop(state);
        self.act(wake);
        // One frame for all of them. From the call of an item's closure to the end of its iterator it has that item's
        // token: what is started there is linked to it as long as the iterator is.
        let (started, token, mut begun) = match begun {
            Some(begun) => (begun.started, begun.token, Some(begun.run)),
            None => (Started::default(), Arc::clone(&writer.lane.token), None),
        };
        let frame = ItemFrame::new(&token, &self.control, started);
        let here = context::in_closure(Rc::clone(&frame) as Rc<dyn Current>);
        let in_stage = self.control.span().enter();
        let (began, mut ran, mut permit) = (Instant::now(), 0, None);
        (worker.filling, worker.from) = (began, 0);
        let (mut end, mut left) = (LaneEnd::Done, None);
        let mut next = |writer: &mut WriterOf<Q, J>| {
            let begun = begun.take();
            begun.or_else(|| writer.next_item().map(Run::Item))
        };
        while let Some(mut run) = next(&mut writer) {
            let in_item = self.control.span().item(writer.seq());
            let made = catch(|| self.run_all(worker, &frame, &mut writer, &mut run, &mut permit));
            drop(in_item);
            if let Ok(LaneEnd::Left) = made {
                left = Some(Begun {
                    seq: writer.seq(),
                    token: Arc::clone(&token),
                    started: frame.take_started(),
                    run,
                });
                end = LaneEnd::Left;
                break;
            }
            let instead;
            (end, instead) = self.ended(writer.seq(), run, made);
            if let Some(output) = instead {
                // There is room: it was checked before the iterator was asked.
                let (notifies, _) = writer.push(output);
                if notifies {
                    self.control.notify();
                }
            }
            frame.item_over();
            ran += 1;
            if !matches!(end, LaneEnd::Done) {
                break;
            }
        }
        let took = began.elapsed();
        self.meter.note(|meter| {
            let count = |totals: &mut Totals| totals.ran += ran as u64;
            meter.set_and_count(Instant::now(), worker.thread, Doing::Nothing, count);
        });
        drop(in_stage);
        drop(here);
        let made = self
            .own
            .may
            .then(|| (writer.len() - worker.from, worker.filling.elapsed()));
        let mut state = self.close(writer, end, left);
        self.ran(&mut state, ran, took);
        if let Some((outputs, took)) = made {
            self.note_cost(&mut state, outputs, took);
        }
        // Not before: nothing starts after a failure, and an item may wait for this permit.
        if permit.is_none() {
            return state;
        }
        drop(state);
        drop(permit);
        self.state.lock()
    }

    /// The loop over the outputs of an item. It stops for room before an output is made, and holds no permit
    /// meanwhile.
    fn run_all(
        &self,
        worker: &mut FlatWorker,
        frame: &ItemFrame,
        writer: &mut WriterOf<Q, J>,
        run: &mut RunOf<Q, J>,
        permit: &mut Option<ClosurePermit>,
    ) -> LaneEnd {
        let mut room = writer.room();
        loop {
            if room == Room::No {
                if self.own.is_on() {
                    return LaneEnd::Left;
                }
                room = self.wait_for_room(worker, writer, permit);
            }
            if room == Room::Unwanted || self.control.is_stopped() {
                return LaneEnd::Cut;
            }
            if room == Room::No {
                continue; // It is the consumer's turn.
            }
            if !self.allow(frame, permit) {
                return LaneEnd::Cut;
            }
            room = match self.step(frame, run) {
                Step::Opened => writer.room(),
                Step::Output(output) => {
                    let is_last = J::is_last(&output);
                    let (notifies, room) = writer.push(output);
                    if is_last {
                        return LaneEnd::Last;
                    }
                    // Before the iterator is asked again: it may stay there for any time.
                    if notifies {
                        self.control.notify();
                    }
                    room
                }
                Step::End(end) => return end,
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
    fn step(&self, frame: &ItemFrame, run: &mut RunOf<Q, J>) -> Step<J::Output> {
        let Run::Inner(inner) = run else {
            let Run::Item(item) = std::mem::replace(run, Run::Neither) else {
                return Step::End(LaneEnd::Cut);
            };
            *run = Run::Inner(self.job.open(item));
            return Step::Opened;
        };
        let output = inner.next();
        // What was made of something that was cut short does not count, once nothing more is wanted. Asked only then,
        // because it ends the links of what was started in the item.
        let in_vain = self.control.is_stopped() && frame.over();
        match output {
            None if in_vain => Step::End(LaneEnd::Cut),
            None => Step::End(LaneEnd::Done),
            Some(output) if in_vain => {
                drop(output);
                Step::End(LaneEnd::Cut)
            }
            Some(output) => Step::Output(output),
        }
    }

    /// The same on the consumer's thread.
    pub(super) fn step_here(&self, frame: &ItemFrame, run: &mut RunOf<Q, J>) -> Step<J::Output> {
        if self.control.is_stopped() {
            return Step::End(LaneEnd::Cut);
        }
        let hold = |limit: &Permits| limit.hold(|| frame.token());
        match self.limit.as_ref().map(hold).transpose() {
            Ok(_permit) => self.step(frame, run),
            Err(_) => Step::End(LaneEnd::Cut),
        }
    }

    /// Drops the iterator, and says what stands at the end of its lane, and the output in place of a panic.
    pub(super) fn ended(
        &self,
        seq: u64,
        run: RunOf<Q, J>,
        end: Result<LaneEnd, Payload>,
    ) -> (LaneEnd, Option<J::Output>) {
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
                return (LaneEnd::Cut, None);
            }
            (Ok(_), Some(panic)) => panic,
            (Ok(end), None) => return (end, None),
        };
        self.control.span().panicked(Some(seq), &*panic);
        match self.job.failed(ItemError::panicked(seq, &*panic)) {
            None => (LaneEnd::Panic(panic), None),
            Some(output) => {
                self.meter.note(|meter| meter.fate(Fate::Panicked, 1));
                unwind::bury(panic);
                (LaneEnd::Done, Some(output))
            }
        }
    }

    /// Waits until the consumer has taken outputs, or a place is free that there was none of.
    fn wait_for_room(
        &self,
        worker: &mut FlatWorker,
        writer: &mut WriterOf<Q, J>,
        permit: &mut Option<ClosurePermit>,
    ) -> Room {
        let took = worker.filling.elapsed();
        // A model must not depend on time.
        let places = self.enlarge(writer, !cfg!(loom) && took < SOON);
        if places == Places::More {
            return writer.room();
        }
        if self.own.may {
            self.note_cost(&mut self.state.lock(), writer.len() - worker.from, took);
        }
        if self.own.is_on() {
            if places == Places::Listed {
                self.unlist(&writer.lane);
            }
            return Room::No;
        }
        // Given back, as this may be a long wait: those who run the items before this one may need it.
        *permit = None;
        worker
            .room
            .look(|| writer.room() != Room::No || self.control.is_stopped());
        self.meter.note(|meter| {
            let now = Instant::now();
            meter.full(now, true, self.bound() as u64);
            meter.set(now, worker.thread, Doing::Nothing);
        });
        let room = loop {
            // The request and the last look are one critical section; the flag of a stop is set before the threads are
            // woken for it (exchange wait / take).
            let room = writer.ask(worker.parker.unparker());
            if room != Room::No || self.control.is_stopped() {
                (worker.filling, worker.from) = (Instant::now(), writer.len());
                break room;
            }
            worker.parker.park();
        };
        self.meter.note(|meter| {
            let now = Instant::now();
            meter.full(now, false, self.bound() as u64);
            meter.set(now, worker.thread, Doing::Run);
        });
        if places == Places::Listed {
            self.unlist(&writer.lane);
        }
        room
    }

    // ---- the source

    /// Pulls what this thread can run next. It is the puller meanwhile.
    fn pull_next<'a>(
        &'a self,
        worker: &FlatWorker,
        mut state: StateGuard<'a, Q, J>,
    ) -> StateGuard<'a, Q, J> {
        // Taken out of the state, so there is one puller at a time, and the lock is not held while the source runs.
        let Some(mut source) = state.source.take() else {
            return state;
        };
        self.meter.note(|meter| {
            let now = Instant::now();
            meter.full(now, false, self.bound() as u64);
            meter.set(now, worker.thread, Doing::Source);
        });
        // One frame for all calls.
        let here = self.enter_source(&worker.in_source);
        loop {
            state.held += 1;
            drop(state);
            let pulled = self.pull(&mut *source, &worker.in_source);
            state = self.state.lock();
            // In one critical section with the decision to go into the source again, or to return it: another thread
            // that is about to sleep sees the item, or the source (exchange sleep / wake).
            match self.admit(&mut state, pulled) {
                Ok(()) if self.pulls_more(&state) => {}
                Ok(()) => {
                    self.meter.set(worker.thread, Doing::Nothing);
                    state.source = Some(source);
                    return state;
                }
                Err(item) => {
                    self.meter.set(worker.thread, Doing::Nothing);
                    drop((state, here));
                    self.turned_away(item, source);
                    return self.state.lock();
                }
            }
        }
    }

    /// This thread is in the source.
    pub(super) fn enter_source(&self, here: &Rc<PerCall>) -> FrameGuard {
        context::in_source(Rc::clone(here) as Rc<dyn Current>, &self.inside)
    }

    /// Asks the source for an item, within its frame. Called without the lock.
    pub(super) fn pull<L>(&self, source: &mut L, here: &Rc<PerCall>) -> Pulled<Q::Item>
    where
        L: Iterator<Item = Q::Item>,
    {
        // Checked before the pull, not after: an item that was pulled is run.
        if self.control.ends_source() {
            return Pulled::End;
        }
        let in_stage = self.control.span().enter();
        let pulled = catch(|| source.next());
        drop(in_stage);
        // The frame is used again, so the token of this call is forgotten.
        here.call_over();
        match pulled {
            Ok(Some(item)) => Pulled::Item(item),
            Ok(None) => {
                self.control.source_ended();
                Pulled::End
            }
            Err(panic) => {
                self.control.span().panicked(None, &*panic);
                Pulled::Panic(panic)
            }
        }
    }

    // ---- sleep

    /// There is nothing to do: looks around briefly, then sleeps until it is called.
    fn idle<'a>(
        &'a self,
        worker: &mut FlatWorker,
        mut state: StateGuard<'a, Q, J>,
    ) -> StateGuard<'a, Q, J> {
        if self.own.is_on() {
            let nap = || worker.parker.park_timeout(own::NAP);
            state = match self.watch_own(state, nap) {
                Ok(state) => return state,
                Err(state) => state,
            };
        }
        // A model must not depend on time.
        let is_soon = !cfg!(loom) && worker.woke.elapsed() < SOON;
        if self.look(&state) == NextWork::Full && is_soon && self.widen() {
            return state;
        }
        // While it looks around no thread is called, because this one would find the work itself.
        state.roster.begin_look();
        drop(state);
        // `Over` counts as work: the thread must leave.
        let is_work = |sight| !matches!(sight, NextWork::Full | NextWork::Nothing);
        worker
            .patience
            .look(|| is_work(self.look(&self.state.lock())));
        let mut state = self.state.lock();
        state.roster.end_look();
        // The last look, in one critical section with `fall_asleep`: a thread that creates work later finds this one on
        // the list.
        let sight = self.look(&state);
        if is_work(sight) || sight == NextWork::Full && !self.is_short(&state) {
            return state;
        }
        if sight == NextWork::Full {
            self.meter
                .note(|meter| meter.full(Instant::now(), true, self.bound() as u64));
        }
        state.roster.fall_asleep(worker.thread);
        // It looks again soon, if others have items that they have not started; and a few times after that, because it
        // would be woken for the next ones.
        worker.vain = if state.is_any_shared() {
            0
        } else {
            worker.vain.saturating_add(1)
        };
        let watches = !state.watched && state.batch > 1 && worker.vain <= VAIN;
        state.watched |= watches;
        let is_full = sight == NextWork::Full && !state.full;
        state.full |= is_full;
        drop(state);
        if is_full {
            // The consumer may nap.
            self.control.notify();
        }
        if watches {
            worker.parker.park_timeout(WATCH);
        } else {
            worker.parker.park();
        }
        worker.woke = Instant::now();
        let mut state = self.state.lock();
        state.watched &= !watches;
        state.roster.woke_up(worker.thread);
        state
    }
}
