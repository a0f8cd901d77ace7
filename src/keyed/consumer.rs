//! The consumer's side of a keyed stage.

use crate::cancel;
use crate::error::NotReady;
use crate::keyed::intake::Lanes;
use crate::keyed::shared::{KeyedStage, NextWork};
use crate::keyed::state::Terminal;
use crate::keyed::taker::{Found, Taker};
use crate::keyed::worker::KeyedWorker;
use crate::par::job::Job;
use crate::par::runner::JobRunner;
use crate::runtime::context::{self, Current, PerCall};
use crate::runtime::event::{Listener, WaitResult};
use crate::runtime::helm::Helm;
use crate::runtime::lease::Stop;
use crate::runtime::life::Scheduler;
use crate::runtime::meter::{Doing, Fate};
#[cfg(feature = "futures")]
use crate::runtime::plan::Polled;
use crate::runtime::plan::{Ending, Running, WorkOpts, unwanted};
use crate::runtime::session::Session;
use crate::runtime::trace;
use crate::size_hint::{self, Hint};
use crate::sync::{Arc, Instant};
use crate::unwind;
use std::rc::Rc;
#[cfg(feature = "futures")]
use std::task::{Poll, Waker};

/// A keyed stage while it runs. `Q` is a source that its workers pull, `N` one that stays on this thread.
#[allow(unreachable_pub)] // it stands in the signature of `Plan`
pub struct KeyedIter<Q: Lanes, N: Lanes, J: Job<Q::Item>> {
    session: Session,
    /// `Some`: the source stays on this thread, which pulls it.
    near: Option<Box<N>>,
    /// `None` only during the drop.
    taker: Option<Taker<Q, J>>,
    /// The outputs of the item that is being yielded.
    batch: Option<<J::Batch as IntoIterator>::IntoIter>,
    /// How many items are left in the source, as far as it has said.
    hint: Hint,
}

impl<Q: Lanes, N: Lanes, J: Job<Q::Item>> std::fmt::Debug for KeyedIter<Q, N, J> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyedIter")
            .field("over", &self.session.is_over())
            .finish_non_exhaustive()
    }
}

impl<Q, N, J> KeyedIter<Q, N, J>
where
    Q: Lanes<Item: Send> + Send,
    N: Lanes<Item = Q::Item>,
    J: Job<Q::Item>,
{
    /// Starts the stage: the first worker is leased here, and each worker leases the next if there is more to
    /// do.
    pub(super) fn start(
        session: Session,
        listener: Listener,
        opts: WorkOpts,
        source: Result<Q, N>,
        job: J,
        hint: Hint,
    ) -> Self {
        let (far, near) = match source {
            // Boxed, because each pull moves it out of the state and back.
            Ok(far) => (Some(Box::new(far)), None),
            // It stays here, and this thread is the puller.
            Err(near) => (None, Some(Box::new(near))),
        };
        let (control, leases) = (Arc::clone(session.control()), session.leases().clone());
        let mut shared = KeyedStage::new(job, opts.width, opts.in_flight, far, control, leases);
        shared.state.lock().helm = Helm::of(&opts, true);
        shared.limit = opts.limit;
        shared.meter = session.meter().clone();
        shared.meter.note(|meter| {
            let bound = shared.cost.bound();
            meter.start(Instant::now(), opts.width, bound, None);
        });
        let shared = Arc::new(shared);
        if let Some(width) = session.width() {
            shared.follow(width, opts.width);
        }
        // With a source that stays on this thread there is nothing to do yet, and no thread is leased.
        let wake = shared.call(&mut shared.state.lock());
        shared.act(wake);
        KeyedIter {
            session,
            near,
            taker: Some(Taker::new(shared, listener, opts.eager)),
            batch: None,
            hint,
        }
    }

    /// The next output of the item that is being yielded.
    fn next_of_batch(&mut self) -> Option<J::Output> {
        let output = self.batch.as_mut()?.next();
        if output.is_none() {
            self.batch = None;
        }
        output
    }

    /// Returns the first output of an item, and keeps the others.
    fn open(&mut self, batch: J::Batch) -> Option<J::Output> {
        let mut batch = batch.into_iter();
        let output = batch.next();
        if output.is_some() && batch.size_hint().1 != Some(0) {
            self.batch = Some(batch);
        }
        output
    }

    // ---- what the consumer does itself

    /// Pulls an item from a source that belongs to this thread. `false`: there is none, or not now.
    fn pull_near(&mut self) -> bool {
        let (Some(intake), Some(taker)) = (&mut self.near, &self.taker) else {
            return false;
        };
        let shared = &taker.shared;
        // No exchange for room: this thread pulls and makes room, so it need not ask.
        let mut state = shared.state.lock();
        // Checked under the lock, like every start and pull: nothing is pulled once a stop has been seen.
        let may_pull = !shared.control.is_stopped() && !state.ended;
        if !may_pull || shared.held.count() >= shared.bound() {
            return false;
        }
        // The state names the idle lanes, and `pull` drops their keys without the lock.
        state.forget_idle(intake.forgotten());
        drop(state);
        // A new frame for each call, because the consumer may move to another thread in between.
        shared.meter.set(usize::MAX, Doing::Source);
        // Without the lock: this runs the user's code, and workers must get at the state meanwhile.
        let pulled = shared.pull(&mut **intake, &PerCall::new(shared.control.source_token()));
        shared.meter.set(usize::MAX, Doing::Nothing);
        let mut state = shared.state.lock();
        let admitted = shared.admit(&mut state, pulled);
        // In the critical section in which the lane has become ready: a worker that goes to sleep sees it, or
        // is called.
        let wake = shared.call(&mut state);
        drop(state);
        shared.act(wake);
        // The source has ended, or the stage was stopped meanwhile. Dropped without the lock.
        if let Err(item) = admitted {
            if let Some(intake) = self.near.take() {
                shared.turned_away(item, *intake);
            }
        }
        true
    }

    /// If no thread could be started: runs an item, or pulls one. `false`: there is nothing to do, or other
    /// threads do it. No state is kept between two calls, because the consumer may move to another thread in
    /// between.
    fn work_alone(&mut self) -> bool {
        let Some(taker) = &self.taker else {
            return false;
        };
        let shared = &taker.shared;
        // Where no thread can be started, there may be no timer thread either: what is due is tripped here.
        cancel::keep_time();
        let state = shared.state.lock();
        // Also `false` while the first thread is still being started: it counts already.
        if !state.roster.is_nobody() {
            return false;
        }
        // No thread has this number, and it is never put to sleep.
        let mut worker = KeyedWorker::new(usize::MAX, &shared.control);
        // The same rules as for a worker. Only the sleep is not here: the caller waits.
        match shared.look(&state) {
            NextWork::Run => {
                let here = Rc::clone(&worker.here) as Rc<dyn Current>;
                let is_nested = || shared.control.life().is_nested();
                let _here = context::in_own_closure(here, is_nested);
                let mut runner = JobRunner::new(&shared.job);
                // One item, because this thread must deliver its result.
                drop(shared.run_next(&mut worker, &mut runner, state, 1));
                shared.control.stray(runner.drop_state());
            }
            // It may block in the source. But it is the only thread, so nothing else could run meanwhile.
            NextWork::Pull => drop(shared.pull_next(&mut worker, state)),
            NextWork::Full | NextWork::Nothing | NextWork::Over => return false,
        }
        true
    }

    // ---- the end

    /// Nothing more is yielded. Joins the threads, unless one may be stuck in a source that is not awaited
    /// any more, or this call has a time limit. In these cases the drop joins them.
    fn end(&mut self, timed: bool) {
        let Some(taker) = &self.taker else { return };
        let control = Arc::clone(self.session.control());
        // Something is missing if the source has more, or if items were pulled and not yielded.
        let left = !taker.shared.state.lock().ended || taker.held() > 0;
        let cut_short = left || control.is_drained();
        if timed {
            // A worker may still drop its state, for any time; this call must not wait for that.
            control.stop();
        } else if !control.is_stopped() {
            // The source has ended and nothing is in flight, so no thread can be stuck. A stage that was
            // stopped may have one in the source.
            self.session.join();
        }
        self.session.end(cut_short);
        // The panic of the source comes after all results, and before panics that belong to no item.
        let panic = taker.shared.state.lock().panic.take();
        if let Some(panic) = panic {
            trace::resume_unwind(panic);
        }
        if let Some(panic) = control.take_stray() {
            std::panic::resume_unwind(panic);
        }
    }

    /// How many items are still to come, if that is known.
    fn left(&self) -> Option<usize> {
        let taker = self.taker.as_ref()?;
        // Before the end, the number in flight says nothing about what the source still has.
        let ended = taker.shared.state.lock().ended;
        ended.then(|| taker.held())
    }
}

impl<Q, N, J> Iterator for KeyedIter<Q, N, J>
where
    Q: Lanes<Item: Send> + Send,
    N: Lanes<Item = Q::Item>,
    J: Job<Q::Item>,
{
    type Item = J::Output;

    fn next(&mut self) -> Option<J::Output> {
        self.next_until(None).ok()?
    }

    fn size_hint(&self) -> Hint {
        let rest = self
            .batch
            .as_ref()
            .map_or((0, Some(0)), Iterator::size_hint);
        // Nothing but the outputs of the last item is left.
        if self.session.is_over() {
            return rest;
        }
        let (low, high) = self.left().map_or(self.hint, |left| (left, Some(left)));
        // Fewer outputs may come than the source has items.
        let control = self.session.control();
        let ending = control.is_stopped() || control.is_draining();
        let items = J::outputs((if ending { 0 } else { low }, high));
        size_hint::sum([items, rest].into_iter())
    }
}

impl<Q, N, J> Running for KeyedIter<Q, N, J>
where
    Q: Lanes<Item: Send> + Send,
    N: Lanes<Item = Q::Item>,
    J: Job<Q::Item>,
{
    fn next_until(&mut self, until: Option<Instant>) -> Result<Option<J::Output>, NotReady> {
        // Outputs of an item that was begun come first, also after the end.
        if let Some(output) = self.next_of_batch() {
            return Ok(Some(output));
        }
        while !self.session.is_over() {
            let Some(taker) = &mut self.taker else { break };
            let output = match taker.take() {
                Found::Result(result) => {
                    self.hint = size_hint::one_less(self.hint);
                    match result {
                        Ok(batch) => self.open(batch),
                        Err(Terminal::Last(batch)) => {
                            // A failure: its worker has stopped the stage already, so nothing has to be
                            // stopped here.
                            taker.shared.meter.note(|meter| meter.fate(Fate::Failed, 1));
                            self.session.end(false);
                            self.open(batch)
                        }
                        // Everything before it was yielded, and nothing after it will be.
                        Err(Terminal::Panic(panic)) => {
                            taker
                                .shared
                                .meter
                                .note(|meter| meter.fate(Fate::Panicked, 1));
                            self.session.end(false);
                            trace::resume_unwind(panic);
                        }
                    }
                }
                // No result is left, and none can come any more.
                Found::Over => {
                    self.end(until.is_some());
                    None
                }
                Found::Nothing => {
                    // Checked before this thread may itself go into the source.
                    if context::is_unwanted() {
                        context::tell_cut();
                        return unwanted(until);
                    }
                    // Each of them may have produced a result, or given a worker something to do: look again
                    // before waiting.
                    if self.pull_near() || self.work_alone() {
                        continue;
                    }
                    // The last look before the sleep is in there (exchange deliver / wait).
                    match self.taker.as_mut().map(|taker| taker.wait(until)) {
                        // Nothing is lost: the next call goes on from here.
                        Some(WaitResult::Late) => return Err(NotReady::new(None)),
                        Some(WaitResult::Unwanted) => return unwanted(until),
                        Some(WaitResult::Ready) | None => None,
                    }
                }
            };
            if output.is_some() {
                return Ok(output);
            }
        }
        Ok(None)
    }

    fn ending(&self) -> &dyn Ending {
        &self.session
    }
}

#[cfg(feature = "futures")]
impl<Q, N, J> Polled for KeyedIter<Q, N, J>
where
    Q: Lanes<Item: Send> + Send,
    N: Lanes<Item = Q::Item>,
    J: Job<Q::Item>,
{
    fn poll_output(&mut self, waker: &Waker) -> Poll<Option<J::Output>> {
        // First the waker, then the look (poll / call).
        if let Some(taker) = &mut self.taker {
            taker.listener.sleeper.begin_poll(waker);
        }
        let output = self.next_until(Some(Instant::now()));
        if let Some(taker) = &mut self.taker {
            taker.listener.sleeper.end_poll();
        }
        output.map_or(Poll::Pending, Poll::Ready)
    }
}

impl<Q: Lanes, N: Lanes, J: Job<Q::Item>> Drop for KeyedIter<Q, N, J> {
    fn drop(&mut self) {
        // First the hooks and the threads: until they are joined, threads use everything that is dropped
        // below.
        let mut panic = self.session.close();
        if let Some(intake) = self.near.take() {
            unwind::first(&mut panic, intake.dispose());
        }
        // Each part is dropped separately, so that a panic of one does not keep the others from being
        // dropped.
        unwind::first(&mut panic, unwind::discard(self.batch.take()));
        // After the join this is the only handle on the stage.
        if let Some(taker) = self.taker.take() {
            taker.shared.meter.note(|meter| meter.close(taker.total));
            unwind::first(&mut panic, taker.dispose());
        }
        unwind::raise(panic);
    }
}
