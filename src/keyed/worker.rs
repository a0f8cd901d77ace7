//! A worker of a keyed stage: it runs the items of a lane, pulls, or sleeps.

use crate::error::ItemError;
use crate::keyed::intake::{Lanes, PulledItem};
use crate::keyed::shared::{KeyedStage, NextWork, StateGuard};
use crate::keyed::state::{Done, Outbox, Terminal};
use crate::par::job::Job;
use crate::par::runner::JobRunner;
use crate::runtime::context::{self, Current, PerCall};
use crate::runtime::control::Control;
use crate::runtime::meter::{Doing, Fate, Totals};
use crate::runtime::permits::Permits;
use crate::runtime::spin::SpinPolicy;
use crate::sync::{Arc, Instant, Ordering, Parker, bug};
use crate::unwind::{self, Payload, catch};
use std::collections::VecDeque;
use std::rc::Rc;
use std::time::Duration;

/// How long a key's turn is, if its items take less than that, and how many items it has at most. The clock
/// is read once per `FEW` items.
const TURN: Duration = Duration::from_micros(20);
const MOST: usize = 64;
const FEW: usize = 4;
/// Of turns of one item, one in this many is timed.
const TIMED: usize = 16;

/// A leased thread, or the consumer in its place.
pub(super) struct KeyedWorker<T, B> {
    thread: usize,
    /// What it sleeps on. The roster and `control` have the other half.
    parker: Parker,
    /// Whether it looks around before a sleep.
    patience: SpinPolicy,
    /// The frame of its closures, and that of the source.
    pub(super) here: Rc<PerCall>,
    in_source: Rc<PerCall>,
    /// The items that it has taken from a lane, and has not started.
    hand: VecDeque<T>,
    /// Where it puts the results of this turn.
    outbox: Outbox<B>,
    /// How many turns it has run.
    turns: usize,
    /// The consumer must be notified once the lock is released.
    notifies: bool,
}

impl<T, B> KeyedWorker<T, B> {
    pub(super) fn new(thread: usize, control: &Control) -> Self {
        KeyedWorker {
            thread,
            parker: Parker::new(),
            patience: SpinPolicy::new(),
            // Children of two tokens, because a drain trips that of the source alone.
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
    /// What a leased thread does from its start to its end.
    pub(super) fn work(self: &Arc<Self>, thread: usize) {
        let mut worker = KeyedWorker::new(thread, &self.control);
        let mut runner = JobRunner::new(&self.job);
        // Registered with `control` for a stop, and with the roster for work. Both come before the first
        // look, so a stop that comes after the look wakes this thread.
        let unparker = worker.parker.unparker().clone();
        self.control.register(unparker.clone());
        let here = context::in_closure(Rc::clone(&worker.here) as Rc<dyn Current>);
        let mut state = self.state.lock();
        state.roster.register(thread, unparker);
        // The lock is held from the look to the step that it decides on. Only the steps release it.
        loop {
            state = self.steer(state);
            state = match self.look(&state) {
                NextWork::Run => self.run_next(&mut worker, &mut runner, state, self.turn()),
                NextWork::Pull => self.pull_next(&mut worker, state),
                NextWork::Full | NextWork::Nothing => self.idle(&mut worker, state),
                NextWork::Over => {
                    // A chain: each thread that leaves wakes the next sleeper, which finds the same and
                    // leaves too.
                    let wake = self.call(&mut state);
                    drop(state);
                    self.act(wake);
                    self.notify(&mut worker);
                    break;
                }
            };
        }
        // Dropped within the closure's frame, as the state's drop is the user's code.
        self.control.stray(runner.drop_state());
        drop(here);
    }

    /// Notifies the consumer if that is due. Never called under the lock: the consumer would wake up only to
    /// wait for it.
    fn notify(&self, worker: &mut WorkerOf<Q, J>) {
        if std::mem::take(&mut worker.notifies) {
            self.control.notify();
        }
    }

    // ---- closures

    /// How many items make a turn. With an unknown cost it is one.
    fn turn(&self) -> usize {
        let item = self
            .cost
            .estimate(1)
            .map_or(u128::MAX, |item| item.as_nanos().max(1));
        (TURN.as_nanos() / item).clamp(1, MOST as u128) as usize
    }

    /// Runs the next items of the first ready lane, `most` of them at most.
    pub(super) fn run_next<'a>(
        self: &'a Arc<Self>,
        worker: &mut WorkerOf<Q, J>,
        runner: &mut RunnerOf<'_, Q, J>,
        mut state: StateGuard<'a, Q, J>,
        most: usize,
    ) -> StateGuard<'a, Q, J> {
        // The lane is this worker's until `finish`: no other worker starts an item of the key.
        let Some(lane) = state.start(most, &mut worker.hand) else {
            return state;
        };
        let items = worker.hand.len();
        self.meter.set(worker.thread, Doing::Run);
        // With a single item the outbox is not listed: the worker comes back with the result at once, so the
        // consumer would gain nothing.
        let has_outbox = worker.hand.len() > 1;
        // Listed under the lock in which the items are taken, so that the consumer can find every result that
        // exists.
        if has_outbox {
            let outbox = (worker.thread, Arc::clone(&worker.outbox));
            state.outboxes.push(outbox);
        }
        // There may be other ready lanes, or the source: another thread is called before this one may stay
        // long in a closure.
        let wake = self.call(&mut state);
        drop(state);
        self.notify(worker);
        self.act(wake);
        let failed = self.run_hand(worker, runner);
        // In this one critical section the stage stops, the results are delivered, and the lane becomes ready
        // again. So no item of this key starts after a failure, and no result of the key overtakes these.
        let mut state = self.state.lock();
        if failed {
            // Nothing starts after it. The rest of the stop follows when the lock is released.
            self.control.forbid();
        }
        // First off the list, then emptied, both under this lock: the consumer finds each result either in
        // the outbox or in `done`.
        if has_outbox {
            state
                .outboxes
                .retain(|(thread, _)| *thread != worker.thread);
        }
        worker.notifies |= state.deliver(&mut worker.outbox.lock());
        state.ran += (items - worker.hand.len()) as u64;
        self.meter.note(|meter| {
            let count = |totals: &mut Totals| totals.ran = state.ran;
            meter.set_and_count(Instant::now(), worker.thread, Doing::Nothing, count);
        });
        // Items that the turn did not reach go back to the front of their lane.
        state.finish(lane, &mut worker.hand);
        self.settle_recall(&state);
        // Exchange last / stop: after a stop the consumer waits until no closure runs. It may have taken the
        // last results from the outbox, so `deliver` alone may have nothing to notify it of.
        worker.notifies |= self.control.is_stopped() && !bug("last_one_is_silent");
        // Without the lock, because tokens are tripped, whose hooks are the user's code.
        if failed {
            drop(state);
            self.control.fail();
            state = self.state.lock();
        }
        state
    }

    /// Runs the items in the worker's hand, as long as its turn lasts. Returns whether the stage has failed.
    fn run_hand(&self, worker: &mut WorkerOf<Q, J>, runner: &mut RunnerOf<'_, Q, J>) -> bool {
        let count = worker.hand.len();
        // A model must not depend on time.
        // Reading the clock costs about as much as a tiny item, so single items are timed only now and then.
        let is_timed = (count > 1 || worker.turns % TIMED == 0) && !cfg!(loom);
        worker.turns += 1;
        let began = is_timed.then(Instant::now);
        let mut failed = false;
        let _stage = self.control.span().enter();
        while let Some((seq, item)) = worker.hand.pop_front() {
            let ran = match &self.limit {
                None => Ok(self.run_one(runner, seq, item)),
                Some(limit) => self.run_limited(limit, &worker.here, runner, seq, item),
            };
            let done = match ran {
                Ok(done) => done,
                Err(item) => {
                    worker.hand.push_front((seq, item));
                    break;
                }
            };
            // A result that was made of something that was cut short does not count once the stage is over.
            let in_vain = worker.here.call_over() && self.control.is_stopped();
            failed = done.is_err();
            match done {
                // Dropped here, without any lock.
                Ok(batch) if in_vain => self.control.stray(unwind::discard(batch)),
                // The outbox has its own lock: the consumer takes from it without waiting for this worker.
                done => worker.outbox.lock().push_back((seq, done)),
            }
            // Checked before each item, so that a stop does not wait for the rest of the turn.
            // And before a closure too many would begin (exchange run / recall).
            let recalled = self.recalls.load(Ordering::Relaxed);
            if failed || worker.hand.is_empty() || self.control.is_stopped() || recalled {
                break;
            }
            // Exchange outbox / wait: first the result, then this load. If the consumer sleeps until the
            // first result, it is notified. If it stores `starves` only later, its look into the outboxes
            // finds the result.
            if self.starves.load(Ordering::Relaxed) {
                self.control.notify();
            }
            // A turn that has become long gives the rest back: other threads cannot start these items while
            // they are in this hand.
            let is_long = |began: Instant| began.elapsed() > FEW as u32 * TURN;
            if worker.hand.len() % FEW == 0 && began.is_some_and(is_long) {
                break;
            }
        }
        // Only what was run is counted: a stop, or a turn that became long, may have ended this early. All
        // four parts are the same, so that the estimate believes the sample as it is.
        let done = count - worker.hand.len();
        if let Some(began) = began.filter(|_| done > 0) {
            let each = began.elapsed().as_nanos() as f32 / done as f32;
            self.cost.observe(self.cost.len(), &mut [each; 4], None);
        }
        failed
    }

    /// Runs an item while it holds a permit. `Err`: the stage has stopped while it waited for that, so it has not
    /// been started.
    fn run_limited(
        &self,
        limit: &Permits,
        here: &PerCall,
        runner: &mut RunnerOf<'_, Q, J>,
        seq: u64,
        item: Q::Item,
    ) -> Result<Done<J::Batch>, Q::Item> {
        let permit = match catch(|| limit.hold(|| here.token())) {
            Ok(permit) => permit.ok(),
            // The wait would be a dead-lock.
            Err(payload) => {
                self.control.stray(unwind::discard(item));
                return Ok(self.panicked(seq, payload));
            }
        };
        if permit.is_none() || self.control.is_stopped() {
            return Err(item);
        }
        let done = self.run_one(runner, seq, item);
        // Before the permit is given back, to an item that may wait for it: nothing starts after a failure.
        if done.is_err() {
            self.control.forbid();
        }
        Ok(done)
    }

    fn run_one(&self, runner: &mut RunnerOf<'_, Q, J>, seq: u64, item: Q::Item) -> Done<J::Batch> {
        let in_item = self.control.span().item(seq);
        let timed = self.meter.get().filter(|meter| meter.times_items());
        let began = timed.map(|_| Instant::now());
        let ran = runner.run_one(item);
        if let Some((meter, began)) = timed.zip(began) {
            meter.item_ran(seq, began.elapsed());
        }
        drop(in_item);
        match ran {
            Ok((batch, false)) => Ok(batch),
            Ok((batch, true)) => Err(Terminal::Last(batch)),
            Err(payload) => self.panicked(seq, payload),
        }
    }

    /// What stands at the place of an item whose closure panicked: a value if the job makes one of it, or the
    /// panic.
    #[cold]
    fn panicked(&self, seq: u64, payload: Payload) -> Done<J::Batch> {
        self.control.span().panicked(Some(seq), &*payload);
        match self.job.failed(ItemError::panicked(seq, &*payload)) {
            Ok(batch) => {
                self.meter.note(|meter| meter.fate(Fate::Panicked, 1));
                unwind::bury(payload);
                Ok(batch)
            }
            Err(_) => Err(Terminal::Panic(payload)),
        }
    }

    // ---- the source

    /// Pulls an item and puts it into its lane. This thread is the puller meanwhile.
    pub(super) fn pull_next<'a>(
        self: &'a Arc<Self>,
        worker: &mut WorkerOf<Q, J>,
        mut state: StateGuard<'a, Q, J>,
    ) -> StateGuard<'a, Q, J> {
        // Taken out of the state, so there is one puller at a time, and the lock is not held while the source
        // runs.
        let Some(mut intake) = state.intake.take() else {
            return state;
        };
        // The keys are dropped by the puller, in `pull`, and only then are the numbers used again.
        state.forget_idle(intake.forgotten());
        drop(state);
        // A notification that is due must not wait until the source returns.
        self.notify(worker);
        self.meter.note(|meter| {
            let now = Instant::now();
            meter.full(now, false, self.cost.bound());
            meter.set(now, worker.thread, Doing::Source);
        });
        let pulled = self.pull(&mut *intake, &worker.in_source);
        self.meter.set(worker.thread, Doing::Nothing);
        let mut state = self.state.lock();
        // In one critical section with the return of the source: a thread that is about to sleep sees the
        // item or the source (exchange sleep / wake).
        match self.admit(&mut state, pulled) {
            Ok(()) => {
                state.intake = Some(intake);
                state
            }
            Err(item) => {
                // The source is dropped here, without the lock. `ended` or the stop is set already, so no
                // thread looks for it.
                drop(state);
                self.turned_away(item, *intake);
                self.state.lock()
            }
        }
    }

    /// Asks the source for an item. Called without the lock.
    pub(super) fn pull<L>(&self, intake: &mut L, here: &Rc<PerCall>) -> PulledItem<Q::Item>
    where
        L: Lanes<Item = Q::Item>,
    {
        // Dropped by the thread that has the source, as `key` may be the user's code too.
        self.control.stray(intake.forget());
        // Checked before the pull, not after: an item that was pulled is run.
        if self.control.ends_source() {
            return PulledItem::End;
        }
        let pulled = {
            let here = Rc::clone(here) as Rc<dyn Current>;
            let _entered = context::in_source(here, &self.inside);
            let _stage = self.control.span().enter();
            intake.pull()
        };
        // The frame is used again, so the token of this call is forgotten.
        here.call_over();
        // Not the end: the stage's own results are not wanted for now, and the source is asked again later.
        match pulled {
            PulledItem::End if context::is_unwanted() => PulledItem::Later,
            PulledItem::End => {
                self.control.source_ended();
                PulledItem::End
            }
            PulledItem::Panic(payload) => {
                self.control.span().panicked(None, &*payload);
                PulledItem::Panic(payload)
            }
            pulled => pulled,
        }
    }

    // ---- sleep

    /// There is nothing to do: looks around briefly, then sleeps until it is called.
    fn idle<'a>(
        &'a self,
        worker: &mut WorkerOf<Q, J>,
        mut state: StateGuard<'a, Q, J>,
    ) -> StateGuard<'a, Q, J> {
        // While it looks around no thread is called, because this one would find the work itself. Counted
        // under the lock, in the critical section of the look that found nothing.
        state.roster.begin_look();
        drop(state);
        // Due before the sleep, and without the lock.
        self.notify(worker);
        // `Over` counts as work: the thread must leave.
        let is_work = |sight| !matches!(sight, NextWork::Full | NextWork::Nothing);
        worker
            .patience
            .look(|| is_work(self.look(&self.state.lock())));
        let mut state = self.state.lock();
        // From now on others may call a thread again. This one sees everything until then in its last look.
        state.roster.end_look();
        // The last look, in one critical section with `fall_asleep`: a thread that creates work later finds
        // this one on the list.
        let sight = self.look(&state);
        // Without room: asks for it (exchange ask / sub). `true`: there is room after all.
        if is_work(sight) || (sight == NextWork::Full && self.held.ask(self.bound())) {
            return state;
        }
        if sight == NextWork::Full {
            self.meter
                .note(|meter| meter.full(Instant::now(), true, self.cost.bound()));
        }
        // In the critical section of the last look. A wake-up that comes before the park is kept by the
        // parker.
        state.roster.fall_asleep(worker.thread);
        drop(state);
        worker.parker.park();
        let mut state = self.state.lock();
        state.roster.woke_up(worker.thread);
        state
    }
}
