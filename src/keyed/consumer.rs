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
use crate::runtime::lease::Stop;
use crate::runtime::plan::{Ending, Running, unwanted};
use crate::runtime::session::Session;
use crate::size_hint::{self, Hint};
use crate::sync::{Arc, Instant};
use crate::unwind;
use std::panic::resume_unwind;
use std::rc::Rc;

/// What a keyed stage is while it runs; `Q`: a source that its workers pull, `N`: one that stays on this thread.
#[allow(unreachable_pub)] // it stands in the signature of `Plan`
pub struct KeyedIter<Q: Lanes, N: Lanes, J: Job<Q::Item>> {
    session: Session,
    near: Option<Box<N>>,
    /// `None` only while it is dropped.
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

/// What a user may choose.
#[derive(Clone, Copy, Debug)]
pub(crate) struct KeyedOpts {
    pub(crate) width: usize,
    pub(crate) in_flight: Option<usize>,
    pub(crate) eager: bool,
}

impl<Q, N, J> KeyedIter<Q, N, J>
where
    Q: Lanes<Item: Send> + Send,
    N: Lanes<Item = Q::Item>,
    J: Job<Q::Item>,
{
    /// Starts.
    pub(crate) fn start(
        session: Session,
        listener: Listener,
        opts: KeyedOpts,
        source: Result<Q, N>,
        job: J,
        hint: Hint,
    ) -> Self {
        let (far, near) = match source {
            Ok(far) => (Some(Box::new(far)), None),
            Err(near) => (None, Some(Box::new(near))),
        };
        let (control, leases) = (Arc::clone(session.control()), session.leases().clone());
        let shared = KeyedStage::new(job, opts.width, opts.in_flight, far, control, leases);
        let shared = Arc::new(shared);
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

    fn next_of_batch(&mut self) -> Option<J::Output> {
        let output = self.batch.as_mut()?.next();
        if output.is_none() {
            self.batch = None;
        }
        output
    }

    /// The first output of an item; the others are kept.
    fn open(&mut self, batch: J::Batch) -> Option<J::Output> {
        let mut batch = batch.into_iter();
        let output = batch.next();
        if output.is_some() && batch.size_hint().1 != Some(0) {
            self.batch = Some(batch);
        }
        output
    }

    // ---- what the consumer does itself

    /// Pulls an item from a source that is this thread's. `false`: there is none, or not now.
    fn pull_near(&mut self) -> bool {
        let (Some(intake), Some(taker)) = (&mut self.near, &self.taker) else {
            return false;
        };
        let shared = &taker.shared;
        let mut state = shared.state.lock();
        let may_pull = !shared.control.is_stopped() && !state.ended;
        if !may_pull || shared.held.count() >= shared.bound() {
            return false;
        }
        state.forget_idle(intake.forgotten());
        drop(state);
        let pulled = shared.pull(&mut **intake, &PerCall::new(shared.control.source_token()));
        let mut state = shared.state.lock();
        let admitted = shared.admit(&mut state, pulled);
        let wake = shared.call(&mut state);
        drop(state);
        shared.act(wake);
        if let Err(item) = admitted {
            if let Some(intake) = self.near.take() {
                shared.turned_away(item, *intake);
            }
        }
        true
    }

    /// Where no thread could be started: runs an item, or pulls one. `false`: there is nothing to
    /// do, or others do it. It keeps no state from one to the next: the consumer may move to another thread in
    /// between.
    fn work_alone(&mut self) -> bool {
        let Some(taker) = &self.taker else {
            return false;
        };
        let shared = &taker.shared;
        cancel::keep_time();
        let state = shared.state.lock();
        if !state.roster.is_nobody() {
            return false;
        }
        let mut worker = KeyedWorker::new(usize::MAX, &shared.control);
        match shared.look(&state) {
            NextWork::Run => {
                let here = Rc::clone(&worker.here) as Rc<dyn Current>;
                let _here = context::in_closure(here);
                let mut runner = JobRunner::new(&shared.job);
                // One, as it must deliver.
                drop(shared.run_next(&mut worker, &mut runner, state, 1));
                shared.control.stray(runner.drop_state());
            }
            NextWork::Pull => drop(shared.pull_next(&mut worker, state)),
            NextWork::Full | NextWork::Nothing | NextWork::Over => return false,
        }
        true
    }

    // ---- the end

    /// Nothing more is yielded. Joins the threads, unless one may be stuck in a source that nobody
    /// waits for, or this call has a time: that is for the drop to do.
    fn end(&mut self, timed: bool) {
        let Some(taker) = &self.taker else { return };
        let control = Arc::clone(self.session.control());
        let left = !taker.shared.state.lock().ended || taker.held() > 0;
        let cut_short = left || control.is_drained();
        if timed {
            control.stop();
        } else if !control.is_stopped() {
            self.session.join();
        }
        self.session.end(cut_short);
        let panic = taker.shared.state.lock().panic.take();
        if let Some(panic) = panic.or_else(|| control.take_stray()) {
            resume_unwind(panic);
        }
    }

    /// How many items are still to come, if that is known.
    fn left(&self) -> Option<usize> {
        let taker = self.taker.as_ref()?;
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
        if self.session.is_over() {
            return rest;
        }
        let (low, high) = self.left().map_or(self.hint, |left| (left, Some(left)));
        // Less may come than the source has.
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
                            self.session.end(false);
                            self.open(batch)
                        }
                        Err(Terminal::Panic(panic)) => {
                            self.session.end(false);
                            resume_unwind(panic);
                        }
                    }
                }
                Found::Over => {
                    self.end(until.is_some());
                    None
                }
                Found::Nothing => {
                    // Looked at before this thread may itself go into the source.
                    if context::is_unwanted() {
                        context::tell_cut();
                        return unwanted(until);
                    }
                    if self.pull_near() || self.work_alone() {
                        continue;
                    }
                    match self.taker.as_mut().map(|taker| taker.wait(until)) {
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

impl<Q: Lanes, N: Lanes, J: Job<Q::Item>> Drop for KeyedIter<Q, N, J> {
    fn drop(&mut self) {
        let mut panic = self.session.close();
        if let Some(intake) = self.near.take() {
            unwind::first(&mut panic, intake.dispose());
        }
        unwind::first(&mut panic, unwind::discard(self.batch.take()));
        if let Some(taker) = self.taker.take() {
            unwind::first(&mut panic, taker.dispose());
        }
        unwind::raise(panic);
    }
}
