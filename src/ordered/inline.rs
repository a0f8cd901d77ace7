//! Work that is too small to pay: the consumer runs it itself.
//!
//! An item of a few nanoseconds costs more to hand over than to run. So when a stage has seen that its
//! items are like that, its consumer borrows the source, and then pulls one item, runs it and yields
//! it, as the sequential adaptor would. Strictly at the head: nothing waits that is finished.
//!
//! | step | who | what |
//! | --- | --- | --- |
//! | [`want_inline`](Sched::want_inline) | a worker, after a chunk | enough tiny items in a row: nobody pulls from now on (`Wanted`) |
//! | [`start_inline`](Consumer::start_inline) | the consumer, when it has taken all that was pulled | the source is [biased] to it, and it gets a permit (`On`) |
//! | [`run_inline`](Consumer::run_inline), [`fold_inline`](Consumer::fold_inline) | the consumer, each item | a visit to the source, the closure, the sink |
//! | [`watch`](OrderedStage::watch) | the watcher, each millisecond | looks whether the consumer moves, unless the source blocks |
//! | [`attend`](Consumer::attend) | the consumer, when it is called | times a few items, or learns that the source has been taken back |
//!
//! If the consumer has not moved between two looks, it is in a long closure, in a source that blocks, or
//! away. The watcher takes the source back, and the stage fans out again; only a consumer that is inside
//! the source cannot be robbed. If it moves slowly it is called, times a few closures, and gives the source
//! back if they pay.
//!
//! # A source that blocks
//!
//! As long as the consumer is inside there is nothing to see, for an hour maybe. So the watcher, which has
//! tried in vain after a nap of full length, notes that the consumer
//! [watches itself](crate::ordered::core::Core::watches_itself) and sleeps without a limit. To try is to
//! call, and who is called hears of it when it comes out, before it runs the item that it got
//! ([`is_called`](biased::Visits::is_called)): then it takes the note back and calls a watcher, who finds it in
//! a long closure, or moving. The item itself is run at once. Both sides write and read the note under the
//! core's lock, and the steps before it are those of a revocation: either the watcher sees that the consumer
//! is out, and has the source, or the consumer sees the call, and then the note. By where it is:
//!
//! | the watcher sees | because it is | what wakes |
//! | --- | --- | --- |
//! | inside | in a source that blocks, and gets an item | the consumer, before it runs that ([`is_out`](OrderedStage::is_out)) |
//! | | the same, and the source ends or panics | the end of the stage wakes all |
//! | | on its way out, as it saw an earlier call | the consumer, which looks whether it still has the source ([`is_lent`](OrderedStage::is_lent)) |
//! | running, away | in a closure, or with its user | nobody has to: the source is taken |
//!
//! `Wanted` ends by itself: if the consumer does not come for what is left, the stage goes on without it.
//!
//! A consumer that runs items counts as one of the `n`: it has a permit as long as it has the source,
//! and if that is taken while a closure runs, until this closure is over.
//!
//! Not for stages without an order (there a consumer that is in a long closure would hold up results
//! that need not wait for it), that a token of the user's may cancel, or what they were started in (a consumer
//! that is inside a blocked source could not hear of it), with states (there are `n` of them, on `n` threads), whose panics are values, whose
//! items are timed,
//! on a pool of the user's (who wants the closures on those threads), or where the light barrier is not
//! free.

use crate::ordered::consumer::{Consumer, InlineStep, Inliner};
use crate::ordered::core::Inline;
use crate::ordered::opts::OrderedOpts;
use crate::ordered::sched::{Sched, SchedGuard};
use crate::ordered::shared::{GuardOf, OrderedStage};
use crate::ordered::worker::{LONGEST_NAP, STUCK, WatchPoint, Worker};
use crate::par::job::Job;
use crate::par::source::Source;
use crate::runtime::barrier::Light;
use crate::runtime::biased::{self, OwnerPlace};
use crate::runtime::context::{self, InlineStage};
use crate::runtime::cost::CostModel;
use crate::runtime::plan::Common;
use crate::runtime::roster::Wake;
use crate::sync::{Arc, Instant};

/// Whether the consumer of such a stage may run items itself: see the head of this file.
pub(crate) fn is_allowed(opts: &OrderedOpts, common: &Common) -> bool {
    let asked_for_threads = common.pool.is_some() || opts.eager || opts.takes_part;
    let is_timed = opts.item_timeout.is_some() || opts.hedge.is_some();
    let plain = opts.ordered && !is_timed;
    let untold = common.tokens.is_empty() && common.drains.is_empty();
    plain && untold && !asked_for_threads && Light::new().free().is_some()
}

impl<I, B> Sched<I, B> {
    /// Worker, after a chunk: whether the consumer had better run the items itself.
    pub(crate) fn want_inline(&self, core: &mut SchedGuard<'_, I, B>) {
        let tiny = self.may_inline && core.inline == Inline::Off && self.cost.is_tiny();
        if tiny && self.pulls && core.end.is_none() && core.pause.is_over() {
            core.inline = Inline::Wanted;
        }
    }

    /// Consumer, which has been called and is not in the source: from now on it is to be watched again.
    fn watch_again(&self, core: &mut SchedGuard<'_, I, B>) -> Wake {
        if std::mem::take(&mut core.watches_itself) {
            self.call_watcher(core)
        } else {
            Wake::Nobody
        }
    }

    fn end_inline(&self, core: &mut SchedGuard<'_, I, B>) {
        core.inline = Inline::Off;
        core.watches_itself = false;
        core.pause.begin();
        self.cost.restart();
    }
}

impl<S: Source, J: Job<S::Item>> OrderedStage<S, J>
where
    S::Item: Send,
{
    /// Watcher: whether the consumer, who runs items itself or is about to, gets on.
    pub(crate) fn watch(&self, worker: &mut Worker, core: &mut GuardOf<'_, S, J>) {
        let state = core.inline;
        let count = match (state, &self.origin) {
            (Inline::Wanted, _) => self.signals.yielded(),
            (Inline::On, Some(origin)) => {
                let origin = origin.try_lock();
                let Some(revoker) = origin.as_ref().and_then(|origin| origin.revoker.as_ref())
                else {
                    return;
                };
                revoker.words().seen().0
            }
            _ => {
                worker.seen = None;
                return;
            }
        };
        let at = Instant::now();
        let now = WatchPoint { state, count, at };
        let Some(before) = worker.seen.filter(|seen| seen.state == state) else {
            worker.seen = Some(now);
            return;
        };
        let time = at.duration_since(before.at);
        let moved = count - before.count;
        if moved == 0 && time < STUCK {
            return; // woken early
        }
        worker.seen = Some(now);
        match state {
            Inline::On if moved == 0 => {
                let inside = !self.revoke_inline(core);
                core.watches_itself = inside && time >= LONGEST_NAP;
                worker.seen = worker.seen.filter(|_| !core.watches_itself);
            }
            Inline::On if CostModel::may_pay(moved, time) => self.signals.call_consumer(),
            Inline::Wanted if moved == 0 => self.end_inline(core),
            _ => {}
        }
    }

    /// Watcher: takes the source from the consumer. `false`: that is inside of it, and has been called.
    fn revoke_inline(&self, core: &mut GuardOf<'_, S, J>) -> bool {
        // While it is lent only who has the scheduler's lock touches this one.
        let Some(mut origin) = self.origin.as_ref().and_then(|origin| origin.try_lock()) else {
            return true;
        };
        let Some(revoker) = origin.revoker.take() else {
            return true;
        };
        let words = Arc::clone(revoker.words());
        match revoker.revoke() {
            Ok(iter) => {
                // What it says from now on is as true: it may knock in vain, but get no further.
                let (count, place) = words.seen();
                origin.iter = Some(iter);
                origin.seq = count;
                let running = place == OwnerPlace::Running;
                self.signals.yielded_inline(count - u64::from(running));
                if !running {
                    core.retire_consumer(); // nothing of it runs, and nothing can start
                }
                self.end_inline(core);
                true
            }
            Err(revoker) => {
                origin.revoker = Some(revoker);
                false
            }
        }
    }

    /// Consumer, which has been called while it was in the source, and is about to run what it got there.
    fn is_out(self: &Arc<Self>) {
        let wake = self.watch_again(&mut self.core.lock());
        self.act(wake);
    }

    /// Consumer, which has been called: whether it still has the source, and may go on.
    fn is_lent(self: &Arc<Self>) -> bool {
        let mut core = self.core.lock();
        let wake = self.watch_again(&mut core);
        let on = self.is_still_lent(&core);
        drop(core);
        self.act(wake);
        on
    }

    fn is_still_lent(&self, core: &GuardOf<'_, S, J>) -> bool {
        let origin = self.origin.as_ref().filter(|_| core.inline == Inline::On);
        let mut origin = origin.and_then(|origin| origin.try_lock());
        let Some(revoker) = origin.as_mut().and_then(|origin| origin.revoker.as_mut()) else {
            return false;
        };
        revoker.go_on();
        !self.signals.is_cut()
    }
}

impl<S: Source, J: Job<S::Item>> Consumer<S, J>
where
    S::Item: Send,
{
    /// Borrows the source, if that is wanted and nothing else is going on.
    pub(crate) fn start_inline(&mut self, shared: &Arc<OrderedStage<S, J>>) -> bool {
        let Some(origin) = shared.origin.as_ref().filter(|_| shared.may_inline) else {
            return false;
        };
        let mut core = shared.core.lock();
        if core.inline != Inline::Wanted || !core.is_at_rest() || shared.signals.is_cut() {
            return false;
        }
        let Some(mut origin) = origin.try_lock() else {
            return false;
        };
        if origin.ended || origin.seq != self.cursor.taken {
            return false;
        }
        let Some(free) = Light::new().free() else {
            return false;
        };
        let Some(iter) = origin.iter.take() else {
            return false;
        };
        let (revoker, owner) = biased::lend(iter, self.cursor.taken, free);
        origin.revoker = Some(revoker);
        drop(origin);
        core.inline = Inline::On;
        core.set_looked(None);
        core.permit_consumer();
        shared.signals.set_inline(Some(Arc::clone(owner.words())));
        let wake = shared.call_watcher(&mut core);
        drop(core);
        shared.act(wake);
        let words = Arc::clone(owner.words());
        self.inliner = Some(Inliner {
            owner,
            stage: InlineStage::new(shared.signals.token().clone(), words),
            samples: None,
        });
        true
    }

    /// Pulls an item and runs it.
    #[inline]
    pub(crate) fn run_inline(&mut self) -> InlineStep<S::Item, J::Batch> {
        match &self.inliner {
            Some(inliner) if inliner.samples.is_none() => self.run_one(false),
            _ => InlineStep::Called,
        }
    }

    #[inline(always)]
    #[allow(clippy::inline_always)] // what is timed and what is not share no code otherwise
    fn run_one(&mut self, timed: bool) -> InlineStep<S::Item, J::Batch> {
        let (Some(inliner), Some(shared)) = (&mut self.inliner, &self.shared) else {
            return InlineStep::Called;
        };
        let _consumer = inliner.stage.enter();
        let unwinding = Unwinding(&mut self.cursor.over, shared);
        let visit = self.cursor.taken + 1;
        let mut visits = inliner.owner.visits();
        let visited = visits.visit(visit, Iterator::next);
        let Some(Some(item)) = visited else {
            std::mem::forget(unwinding);
            return visited.map_or(InlineStep::Called, |_| InlineStep::End);
        };
        if visits.is_called() {
            std::mem::forget(unwinding);
            return InlineStep::Out(item);
        }
        let began = timed.then(Instant::now);
        let (batch, last) = shared.job.run(&mut shared.job.state(), item);
        if let (Some(began), Some(samples)) = (began, &mut inliner.samples) {
            samples.add(began.elapsed());
        }
        visits.leave(visit);
        std::mem::forget(unwinding);
        self.cursor.taken = visit;
        if last {
            InlineStep::Last(batch)
        } else {
            InlineStep::Batch(batch)
        }
    }

    /// Pulls items, runs them and folds what they give, until something else is to be done first.
    /// What does not change is in local variables, as in `run_items`.
    #[inline]
    pub(crate) fn fold_inline<A>(
        &mut self,
        mut value: A,
        mut f: impl FnMut(A, J::Output) -> A,
    ) -> (A, InlineStep<S::Item, J::Batch>) {
        let (Some(inliner), Some(shared)) = (&mut self.inliner, &self.shared) else {
            return (value, InlineStep::Called);
        };
        if inliner.samples.is_some() {
            return (value, InlineStep::Called);
        }
        let (job, mut visits) = (&shared.job, inliner.owner.visits());
        let mut state = job.state();
        let _consumer = inliner.stage.enter();
        let unwinding = Unwinding(&mut self.cursor.over, shared);
        let mut visit = self.cursor.taken + 1;
        let step = loop {
            let item = match visits.visit(visit, Iterator::next) {
                Some(Some(item)) => item,
                Some(None) => break InlineStep::End,
                None => break InlineStep::Called,
            };
            if visits.is_called() {
                break InlineStep::Out(item);
            }
            let (batch, last) = job.run(&mut state, item);
            visits.leave(visit);
            visit += 1;
            if last {
                break InlineStep::Last(batch);
            }
            value = batch.into_iter().fold(value, &mut f);
        };
        std::mem::forget(unwinding);
        self.cursor.taken = inliner.owner.words().done();
        (value, step)
    }

    /// What is to be done after an item that was run here, or could not be.
    #[cold]
    pub(crate) fn go_on(&mut self, step: InlineStep<S::Item, J::Batch>) -> Option<J::Batch> {
        match step {
            InlineStep::Batch(batch) => Some(batch),
            InlineStep::Out(item) => self.run_out(item),
            InlineStep::Last(batch) => {
                self.stop();
                Some(batch)
            }
            InlineStep::End if context::is_unwanted() => {
                self.leave_inline();
                None
            }
            InlineStep::End => {
                if let Some(shared) = self.shared.clone() {
                    let mut core = shared.core.lock();
                    core.end = Some(self.cursor.taken);
                    self.reclaim(&mut core, true);
                }
                self.finish();
                None
            }
            InlineStep::Called => self.attend(),
        }
    }

    /// Runs what it got in a visit in which it was called. Out of the loops, where a call would cost
    /// registers.
    fn run_out(&mut self, item: S::Item) -> Option<J::Batch> {
        let (Some(inliner), Some(shared)) = (&mut self.inliner, &self.shared) else {
            return None;
        };
        shared.is_out();
        let _consumer = inliner.stage.enter();
        let unwinding = Unwinding(&mut self.cursor.over, shared);
        let (batch, last) = shared.job.run(&mut shared.job.state(), item);
        let visit = self.cursor.taken + 1;
        inliner.owner.visits().leave(visit);
        std::mem::forget(unwinding);
        self.cursor.taken = visit;
        if last {
            self.stop();
        }
        Some(batch)
    }

    /// The consumer was called, for one of several reasons: the source was taken from it; the stage was
    /// cancelled; it is to time a few items, or is doing that.
    fn attend(&mut self) -> Option<J::Batch> {
        let (Some(inliner), Some(shared)) = (&mut self.inliner, &self.shared) else {
            return None;
        };
        let mut on = shared.is_lent();
        match inliner.samples.get_or_insert_default().pays() {
            Some(true) => on = false,
            Some(false) => inliner.samples = None,
            None => {}
        }
        if !on {
            self.leave_inline();
            return None;
        }
        inliner.samples.as_ref()?;
        match self.run_one(true) {
            InlineStep::Called => None, // once more, so that it looks again
            step => self.go_on(step),
        }
    }

    /// Makes the consumer one that only takes results, and wakes somebody who goes on.
    fn leave_inline(&mut self) {
        let Some(shared) = self.shared.clone() else {
            return;
        };
        let mut core = shared.core.lock();
        self.reclaim(&mut core, false);
        shared.signals.room_granted();
        let wake = core.wake();
        drop(core);
        shared.act(wake);
    }

    /// The consumer must not be stuck in an item, as it waits for a time only.
    pub(crate) fn leave_inline_for_good(&mut self) {
        let Some(shared) = self.shared.clone().filter(|shared| shared.may_inline) else {
            return;
        };
        if self.inliner.is_some() {
            self.leave_inline();
        }
        let mut core = shared.core.lock();
        if core.inline == Inline::Wanted {
            shared.end_inline(&mut core);
        }
        core.pause.forever();
        let wake = core.wake();
        drop(core);
        shared.act(wake);
    }

    /// Ends the revoker, and the time in which the consumer runs items.
    pub(crate) fn reclaim(&mut self, core: &mut GuardOf<'_, S, J>, ended: bool) {
        let (Some(inliner), Some(shared)) = (self.inliner.take(), &self.shared) else {
            return;
        };
        shared.signals.set_inline(None);
        shared.signals.yielded_inline(self.cursor.taken);
        core.retire_consumer();
        if core.inline != Inline::On {
            return; // it has been taken
        }
        shared.end_inline(core);
        // While it is lent only who has the scheduler's lock touches this one.
        if let Some(mut origin) = shared.origin.as_ref().and_then(|origin| origin.try_lock()) {
            let revoker = origin.revoker.take();
            origin.iter = revoker.and_then(|revoker| inliner.owner.give_back(revoker));
            origin.seq = self.cursor.taken;
            origin.ended = ended;
        }
    }
}

/// If a closure or the source panics, nothing follows: the stage is stopped.
struct Unwinding<'a, S: Source, J: Job<S::Item>>(&'a mut bool, &'a OrderedStage<S, J>)
where
    S::Item: Send;

impl<S: Source, J: Job<S::Item>> Drop for Unwinding<'_, S, J>
where
    S::Item: Send,
{
    #[cold]
    fn drop(&mut self) {
        *self.0 = true;
        self.1.stop();
    }
}
