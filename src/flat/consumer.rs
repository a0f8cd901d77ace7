//! The consumer's side.

use crate::error::NotReady;
use crate::flat::begun::OwnStep;
use crate::flat::shared::FlatStage;
use crate::flat::taker::{FlatTaker, Found};
use crate::par::flat_map::FlatJob;
use crate::runtime::barrier;
use crate::runtime::context;
use crate::runtime::event::{Listener, WaitResult};
use crate::runtime::lease::Stop;
#[cfg(feature = "futures")]
use crate::runtime::plan::Polled;
use crate::runtime::plan::{Ending, Running, WorkOpts, unwanted};
use crate::runtime::session::Session;
use crate::runtime::trace;
use crate::size_hint::Hint;
use crate::sync::{Arc, Instant};
use crate::unwind;
#[cfg(feature = "futures")]
use std::task::{Poll, Waker};

/// A running stage. `Q` is a source that its workers pull, `N` one that stays on this thread.
#[allow(unreachable_pub)] // it stands in the signature of `Plan`
pub struct FlatIter<Q: Iterator, N, J: FlatJob<Q::Item>> {
    session: Session,
    /// `Some`: the source stays on this thread, which pulls it.
    near: Option<Box<N>>,
    /// `None` only during the drop.
    taker: Option<FlatTaker<Q, J>>,
}

impl<Q: Iterator, N, J: FlatJob<Q::Item>> std::fmt::Debug for FlatIter<Q, N, J> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FlatIter")
            .field("over", &self.session.is_over())
            .finish_non_exhaustive()
    }
}

impl<Q, N, J> FlatIter<Q, N, J>
where
    Q: Iterator<Item: Send> + Send,
    N: Iterator<Item = Q::Item>,
    J: FlatJob<Q::Item>,
{
    /// Starts the stage: the first worker is leased here, and each worker calls the next if there is more to do.
    pub(super) fn start(
        session: Session,
        listener: Listener,
        opts: WorkOpts,
        may_own: bool,
        source: Result<Q, N>,
        job: J,
    ) -> Self {
        // Registers the process for the heavy barrier.
        barrier::prepare();
        let (far, near) = match source {
            // Boxed, because each pull moves it out of the state and back.
            Ok(far) => (Some(Box::new(far)), None),
            Err(near) => (None, Some(Box::new(near))),
        };
        let (control, leases) = (Arc::clone(session.control()), session.leases().clone());
        let eager = opts.eager;
        let width = opts.width;
        let mut shared = FlatStage::new(job, opts, may_own && !eager, far, control, leases);
        shared.meter = session.meter().clone();
        shared
            .meter
            .note(|meter| meter.start(Instant::now(), width, shared.bound() as u64, None));
        let shared = Arc::new(shared);
        let wake = shared.call(&mut shared.state.lock());
        shared.act(wake);
        FlatIter {
            session,
            near,
            taker: Some(FlatTaker::new(shared, listener, eager)),
        }
    }

    // ---- what the consumer does itself

    /// Pulls an item from a source that belongs to this thread. `false`: there is none, or not now.
    fn pull_near(&mut self) -> bool {
        let (Some(source), Some(taker)) = (&mut self.near, &self.taker) else {
            return false;
        };
        let shared = &taker.shared;
        let mut state = shared.state.lock();
        // Checked under the lock, like every pull.
        if !shared.consumer_pulls(&state) {
            return false;
        }
        state.held += 1;
        drop(state);
        let pulled = taker.pull_here(&mut **source);
        let mut state = shared.state.lock();
        let admitted = shared.admit(&mut state, pulled);
        let wake = shared.call(&mut state);
        drop(state);
        shared.act(wake);
        // The source has ended, or the stage was stopped meanwhile. Dropped without the lock.
        if let Err(item) = admitted {
            if let Some(source) = self.near.take() {
                shared.turned_away(item, source);
            }
        }
        true
    }

    // ---- the end

    /// Nothing more is yielded. Joins the threads, unless one may be stuck in a source or an iterator that is not
    /// awaited any more, or this call has a time limit. In these cases the drop joins them.
    fn end(&mut self, timed: bool) {
        let Some(taker) = &mut self.taker else { return };
        let control = Arc::clone(self.session.control());
        let (left, begun) = {
            let state = taker.shared.state.lock();
            let is_any = state.own.has_any() || !state.order.is_empty();
            let has_more = is_any || !state.todo.is_empty();
            let left = !state.ended || taker.cut || taker.has_more() || has_more;
            (left, state.begun)
        };
        // The last item may have been left, and the lane for the rest of it taken away, as there was nothing in it.
        if !left {
            taker.is_done_to(begun);
        }
        let cut_short = left || control.is_drained();
        if timed {
            control.stop();
        } else if !control.is_stopped() {
            self.session.join();
        }
        self.session.end(cut_short);
        // The panic of the source comes after all outputs, and before panics that belong to no item.
        let panic = taker.shared.state.lock().panic.take();
        if let Some(panic) = panic {
            trace::resume_unwind(panic);
        }
        if let Some(panic) = control.take_stray() {
            std::panic::resume_unwind(panic);
        }
    }
}

impl<Q, N, J> Iterator for FlatIter<Q, N, J>
where
    Q: Iterator<Item: Send> + Send,
    N: Iterator<Item = Q::Item>,
    J: FlatJob<Q::Item>,
{
    type Item = J::Output;

    fn next(&mut self) -> Option<J::Output> {
        self.next_until(None).ok()?
    }

    fn size_hint(&self) -> Hint {
        let taken = self.taker.as_ref().map_or(0, FlatTaker::len);
        (taken, self.session.is_over().then_some(taken))
    }
}

impl<Q, N, J> Running for FlatIter<Q, N, J>
where
    Q: Iterator<Item: Send> + Send,
    N: Iterator<Item = Q::Item>,
    J: FlatJob<Q::Item>,
{
    fn next_until(&mut self, until: Option<Instant>) -> Result<Option<J::Output>, NotReady> {
        while let Some(taker) = &mut self.taker {
            if let Some(output) = taker.next_taken() {
                return Ok(Some(output));
            }
            if self.session.is_over() {
                break;
            }
            if until.is_some() {
                taker.refuse_own();
            }
            if taker.owns || taker.has_turn {
                // Checked before this thread may itself go into user code.
                if context::is_unwanted() {
                    context::tell_cut();
                    return unwanted(until);
                }
                if taker.owns || taker.take_own() {
                    let step = taker.owns.then(|| taker.run_own());
                    match step {
                        Some(OwnStep::Output(output)) => return Ok(Some(output)),
                        Some(OwnStep::Last(output)) => {
                            self.session.stop(false);
                            return Ok(Some(output));
                        }
                        Some(OwnStep::Panic(panic)) => {
                            self.session.stop(false);
                            trace::resume_unwind(panic);
                        }
                        Some(OwnStep::Cut) => self.end(until.is_some()),
                        Some(OwnStep::Nothing) | None => {}
                    }
                    continue;
                }
            }
            match taker.refill() {
                Found::Some | Found::Own => {}
                Found::Last => self.session.stop(false),
                // Everything before it was yielded, and nothing after it will be.
                Found::Panic(panic) => {
                    self.session.stop(false);
                    trace::resume_unwind(panic);
                }
                Found::Over => self.end(until.is_some()),
                Found::Nothing => {
                    // Checked before this thread may itself go into the source.
                    if context::is_unwanted() {
                        context::tell_cut();
                        return unwanted(until);
                    }
                    // Each of them may have made something: look again before waiting.
                    let has_lane = taker.has_lanes();
                    if !has_lane && taker.take_own() || self.pull_near() {
                        continue;
                    }
                    // The last look before the sleep is in there (exchange push / wait).
                    match self.taker.as_mut().map(|taker| taker.wait(until)) {
                        // Nothing is lost: the next call goes on from here.
                        Some(WaitResult::Late) => return Err(NotReady::new(None)),
                        Some(WaitResult::Unwanted) => return unwanted(until),
                        Some(WaitResult::Ready) | None => {}
                    }
                }
            }
        }
        Ok(None)
    }

    fn ending(&self) -> &dyn Ending {
        &self.session
    }
}

#[cfg(feature = "futures")]
impl<Q, N, J> Polled for FlatIter<Q, N, J>
where
    Q: Iterator<Item: Send> + Send,
    N: Iterator<Item = Q::Item>,
    J: FlatJob<Q::Item>,
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

impl<Q: Iterator, N, J: FlatJob<Q::Item>> Drop for FlatIter<Q, N, J> {
    fn drop(&mut self) {
        // First the hooks and the threads: until they are joined, threads use everything that is dropped below.
        let mut panic = self.session.close();
        unwind::first(&mut panic, unwind::discard(self.near.take()));
        // After the join this is the only handle on the stage.
        if let Some(taker) = self.taker.take() {
            taker.shared.meter.note(|meter| meter.close(taker.done));
            unwind::first(&mut panic, taker.dispose());
        }
        unwind::raise(panic);
    }
}
