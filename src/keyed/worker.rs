//! A worker of a keyed stage: it runs the items of a lane, pulls, or sleeps.

use crate::error::ItemError;
use crate::keyed::intake::{Lanes, PulledItem};
use crate::keyed::shared::{KeyedStage, NextWork, StateGuard};
use crate::keyed::state::{Done, Outbox, Terminal};
use crate::par::job::Job;
use crate::par::runner::JobRunner;
use crate::runtime::context::{self, Current, PerCall};
use crate::runtime::control::Control;
use crate::runtime::spin::SpinPolicy;
use crate::sync::{Arc, Instant, Ordering, Parker, bug};
use crate::unwind::{self, Payload};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

/// How long a key's turn is, if its items take less, and of how many items it is at most. The clock is
/// read for each few of them.
const TURN: Duration = Duration::from_micros(20);
const MOST: usize = 64;
const FEW: usize = 4;
/// A turn of one item in so many is timed.
const TIMED: usize = 16;

/// A thread that works.
pub(super) struct KeyedWorker<T, B> {
    thread: usize,
    parker: Parker,
    patience: SpinPolicy,
    /// In closures, and in the source.
    pub(super) here: Rc<PerCall>,
    in_source: Rc<PerCall>,
    /// What it has taken of a lane.
    hand: VecDeque<T>,
    outbox: Outbox<B>,
    /// How many turns it has run.
    turns: usize,
    /// The consumer is to be notified once the lock is released.
    notifies: bool,
}

impl<T, B> KeyedWorker<T, B> {
    pub(super) fn new(thread: usize, control: &Control) -> Self {
        KeyedWorker {
            thread,
            parker: Parker::new(),
            patience: SpinPolicy::new(),
            here: PerCall::new(control.token()),
            in_source: PerCall::new(control.source_token()),
            hand: VecDeque::new(),
            outbox: Outbox::default(),
            turns: 0,
            notifies: false,
        }
    }
}

type WorkerOf<Q, J> = KeyedWorker<(u64, <Q as Lanes>::Item), <J as Job<<Q as Lanes>::Item>>::Batch>;
type RunnerOf<'a, Q, J> = JobRunner<'a, J, <J as Job<<Q as Lanes>::Item>>::State>;

impl<Q, J> KeyedStage<Q, J>
where
    Q: Lanes<Item: Send> + Send,
    J: Job<Q::Item>,
{
    /// What a leased thread does.
    pub(super) fn work(self: &Arc<Self>, thread: usize) {
        let mut worker = KeyedWorker::new(thread, &self.control);
        let mut runner = JobRunner::new(&self.job);
        let unparker = worker.parker.unparker().clone();
        self.control.register(unparker.clone());
        let here = context::in_closure(Rc::clone(&worker.here) as Rc<dyn Current>);
        let mut state = self.state.lock();
        state.roster.register(thread, unparker);
        state.coming = false;
        loop {
            state = match self.look(&state) {
                NextWork::Run => self.run_next(&mut worker, &mut runner, state, self.turn()),
                NextWork::Pull => self.pull_next(&mut worker, state),
                NextWork::Full | NextWork::Nothing => self.idle(&mut worker, state),
                NextWork::Over => {
                    let wake = self.call(&mut state);
                    drop(state);
                    self.act(wake);
                    self.notify(&mut worker);
                    break;
                }
            };
        }
        self.control.stray(runner.drop_state());
        drop(here);
    }

    fn notify(&self, worker: &mut WorkerOf<Q, J>) {
        if std::mem::take(&mut worker.notifies) {
            self.control.notify();
        }
    }

    // ---- closures

    /// How many items make a turn.
    fn turn(&self) -> usize {
        let item = self
            .cost
            .estimate(1)
            .map_or(u128::MAX, |item| item.as_nanos().max(1));
        (TURN.as_nanos() / item).clamp(1, MOST as u128) as usize
    }

    /// Runs the next items, so many at most, of the first ready lane.
    pub(super) fn run_next<'a>(
        self: &'a Arc<Self>,
        worker: &mut WorkerOf<Q, J>,
        runner: &mut RunnerOf<'_, Q, J>,
        mut state: StateGuard<'a, Q, J>,
        most: usize,
    ) -> StateGuard<'a, Q, J> {
        let Some(lane) = state.start(most, &mut worker.hand) else {
            return state;
        };
        let has_outbox = worker.hand.len() > 1;
        if has_outbox {
            let outbox = (worker.thread, Arc::clone(&worker.outbox));
            state.outboxes.push(outbox);
        }
        let wake = self.call(&mut state);
        drop(state);
        self.notify(worker);
        self.act(wake);
        let failed = self.run_hand(worker, runner);
        let mut state = self.state.lock();
        if failed {
            self.control.forbid(); // nothing starts after it; the rest of it comes when the lock is released
        }
        if has_outbox {
            state
                .outboxes
                .retain(|(thread, _)| *thread != worker.thread);
        }
        worker.notifies |= state.deliver(&mut worker.outbox.lock());
        state.finish(lane, &mut worker.hand);
        // After a stop the consumer waits for nobody to run closures. It may have had the last results
        // from the outbox, so that there is nothing to notify it of.
        worker.notifies |= self.control.is_stopped() && !bug("last_one_is_silent");
        if failed {
            drop(state);
            self.control.fail();
            state = self.state.lock();
        }
        state
    }

    /// Runs what the worker has in hand, as long as its turn lasts. Whether the stage has failed.
    fn run_hand(&self, worker: &mut WorkerOf<Q, J>, runner: &mut RunnerOf<'_, Q, J>) -> bool {
        let count = worker.hand.len();
        // Models have to be without what hangs on time.
        let is_timed = (count > 1 || worker.turns % TIMED == 0) && !cfg!(loom);
        worker.turns += 1;
        let began = is_timed.then(Instant::now);
        let mut failed = false;
        while let Some((seq, item)) = worker.hand.pop_front() {
            let done = self.run_one(runner, seq, item);
            let in_vain = worker.here.call_over() && self.control.is_stopped();
            failed = done.is_err();
            match done {
                Ok(batch) if in_vain => self.control.stray(unwind::discard(batch)),
                done => worker.outbox.lock().push_back(done),
            }
            if failed || worker.hand.is_empty() || self.control.is_stopped() {
                break;
            }
            if self.starves.load(Ordering::Relaxed) {
                self.control.notify();
            }
            let is_long = |began: Instant| began.elapsed() > FEW as u32 * TURN;
            if worker.hand.len() % FEW == 0 && began.is_some_and(is_long) {
                break;
            }
        }
        if let Some(began) = began {
            let each = began.elapsed().as_nanos() as f32 / (count - worker.hand.len()) as f32;
            self.cost.observe(self.cost.len(), &mut [each; 4], None);
        }
        failed
    }

    fn run_one(&self, runner: &mut RunnerOf<'_, Q, J>, seq: u64, item: Q::Item) -> Done<J::Batch> {
        match runner.run_one(item) {
            Ok((batch, false)) => Ok(batch),
            Ok((batch, true)) => Err(Terminal::Last(batch)),
            Err(payload) => self.panicked(seq, payload),
        }
    }

    /// What stands at the place of an item whose closure panicked.
    #[cold]
    fn panicked(&self, seq: u64, payload: Payload) -> Done<J::Batch> {
        match self.job.failed(ItemError::panicked(seq, &*payload)) {
            Ok(batch) => {
                unwind::bury(payload);
                Ok(batch)
            }
            Err(_) => Err(Terminal::Panic(payload)),
        }
    }

    // ---- the source

    /// Pulls an item and puts it into its lane.
    pub(super) fn pull_next<'a>(
        self: &'a Arc<Self>,
        worker: &mut WorkerOf<Q, J>,
        mut state: StateGuard<'a, Q, J>,
    ) -> StateGuard<'a, Q, J> {
        let Some(mut intake) = state.intake.take() else {
            return state;
        };
        state.forget_idle(intake.forgotten());
        drop(state);
        self.notify(worker);
        let pulled = self.pull(&mut *intake, &worker.in_source);
        let mut state = self.state.lock();
        match self.admit(&mut state, pulled) {
            Ok(()) => {
                state.intake = Some(intake);
                state
            }
            Err(item) => {
                drop(state);
                self.turned_away(item, *intake);
                self.state.lock()
            }
        }
    }

    pub(super) fn pull<L>(&self, intake: &mut L, here: &Rc<PerCall>) -> PulledItem<Q::Item>
    where
        L: Lanes<Item = Q::Item>,
    {
        self.control.stray(intake.forget());
        if self.control.ends_source() {
            return PulledItem::End;
        }
        let pulled = {
            let here = Rc::clone(here) as Rc<dyn Current>;
            let _entered = context::in_source(here, &self.inside);
            intake.pull()
        };
        here.call_over();
        match pulled {
            PulledItem::End if context::is_unwanted() => PulledItem::Later,
            pulled => pulled,
        }
    }

    // ---- sleep

    /// Finds nothing to do: looks for a moment, then sleeps until it is called.
    fn idle<'a>(
        &'a self,
        worker: &mut WorkerOf<Q, J>,
        mut state: StateGuard<'a, Q, J>,
    ) -> StateGuard<'a, Q, J> {
        state.looking += 1;
        drop(state);
        self.notify(worker);
        let is_work = |sight| !matches!(sight, NextWork::Full | NextWork::Nothing);
        worker
            .patience
            .look(|| is_work(self.look(&self.state.lock())));
        let mut state = self.state.lock();
        state.looking -= 1;
        let sight = self.look(&state);
        if is_work(sight) || (sight == NextWork::Full && self.held.ask(self.bound())) {
            return state;
        }
        state.roster.fall_asleep(worker.thread);
        drop(state);
        worker.parker.park();
        let mut state = self.state.lock();
        // Else it was woken to stop, or for nothing.
        if !state.roster.woke_up(worker.thread) {
            state.coming = false;
        }
        state
    }
}
