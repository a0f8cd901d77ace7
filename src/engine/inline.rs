//! Work that is too small to pay: the consumer runs it itself.
//!
//! An item of a few nanoseconds costs more to hand over than to run. So when a stage has seen that its
//! items are like that, its consumer borrows the source, and then pulls one item, runs it and yields
//! it, as the sequential adaptor would. Strictly at the head: nothing waits that is finished.
//!
//! | step | who | what |
//! | --- | --- | --- |
//! | [`want_inline`](Sched::want_inline) | a worker, after a run | enough tiny items in a row: nobody pulls from now on (`Wanted`) |
//! | [`start_inline`](Consumer::start_inline) | the consumer, when it has taken all that was pulled | the source is [lent] to it, and it gets a permit (`On`) |
//! | [`run_inline`](Consumer::run_inline), [`fold_inline`](Consumer::fold_inline) | the consumer, each item | a visit to the source, the closure, the sink |
//! | [`watch`](Shared::watch) | the watcher, each millisecond | looks whether the consumer moves, unless the source blocks |
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
//! [watches itself](crate::engine::desk::Desk::watches_itself) and sleeps without a limit. To try is to
//! call, and who is called hears of it when it comes out, before it runs the item that it got
//! ([`is_called`](lent::Visits::is_called)): then it takes the note back and calls a watcher, who finds it in
//! a long closure, or moving. The item itself is run at once. Both sides write and read the note under the
//! desk's lock, and the steps before it are those of a revocation: either the watcher sees that the consumer
//! is out, and has the source, or the consumer sees the call, and then the note. By where it is:
//!
//! | the watcher sees | because it is | what wakes |
//! | --- | --- | --- |
//! | inside | in a source that blocks, and gets an item | the consumer, before it runs that ([`is_out`](Shared::is_out)) |
//! | | the same, and the source ends or panics | the end of the stage wakes all |
//! | | on its way out, as it saw an earlier call | the consumer, which looks whether it still has the source ([`is_lent`](Shared::is_lent)) |
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

use crate::engine::barrier::Light;
use crate::engine::consumer::{Consumer, Inliner, Step};
use crate::engine::context::{self, InlineStage};
use crate::engine::cost::Pace;
use crate::engine::desk::{Inline, Wake};
use crate::engine::job::Job;
use crate::engine::lent::{self, Place};
use crate::engine::opts::Opts;
use crate::engine::sched::{Guard, Sched};
use crate::engine::source::Source;
use crate::engine::stage::{GuardOf, Shared};
use crate::engine::worker::{LONGEST_NAP, STUCK, Seen, Worker};
use crate::sync::{Arc, Instant};

/// Whether the consumer of such a stage may run items itself: see the head of this file.
pub(crate) fn is_allowed(opts: &Opts) -> bool {
    let asked_for_threads = opts.pool.is_some() || opts.eager || opts.takes_part;
    let is_timed = opts.item_timeout.is_some() || opts.hedge.is_some();
    let plain = opts.ordered && !is_timed;
    let tokens = opts.tokens.is_empty() && opts.drains.is_empty();
    plain && tokens && !asked_for_threads && Light::new().free().is_some()
}

impl<I, B> Sched<I, B> {
    /// Worker, after a run: whether the consumer had better run the items itself.
    pub(crate) fn want_inline(&self, desk: &mut Guard<'_, I, B>) {
        let tiny = self.may_inline && desk.inline == Inline::Off && self.pace.is_tiny();
        if tiny && self.pulls && desk.end.is_none() && desk.pause.is_over() {
            desk.inline = Inline::Wanted;
        }
    }

    /// Consumer, which has been called and is not in the source: from now on it is to be watched again.
    fn watch_again(&self, desk: &mut Guard<'_, I, B>) -> Wake {
        if std::mem::take(&mut desk.watches_itself) {
            self.call_watcher(desk)
        } else {
            Wake::Nobody
        }
    }

    fn end_inline(&self, desk: &mut Guard<'_, I, B>) {
        desk.inline = Inline::Off;
        desk.watches_itself = false;
        desk.pause.begin();
        self.pace.restart();
    }
}

impl<S: Source, J: Job<S::Item>> Shared<S, J>
where
    S::Item: Send,
{
    /// Watcher: whether the consumer, who runs items itself or is about to, gets on.
    pub(crate) fn watch(&self, worker: &mut Worker, desk: &mut GuardOf<'_, S, J>) {
        let state = desk.inline;
        let count = match (state, &self.origin) {
            (Inline::Wanted, _) => self.ctl.yielded(),
            (Inline::On, Some(origin)) => {
                let origin = origin.try_lock();
                let Some(loan) = origin.as_ref().and_then(|origin| origin.loan.as_ref()) else {
                    return;
                };
                loan.words().seen().0
            }
            _ => {
                worker.seen = None;
                return;
            }
        };
        let at = Instant::now();
        let now = Seen { state, count, at };
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
                let inside = !self.revoke_inline(desk);
                desk.watches_itself = inside && time >= LONGEST_NAP;
                worker.seen = worker.seen.filter(|_| !desk.watches_itself);
            }
            Inline::On if Pace::may_pay(moved, time) => self.ctl.call_consumer(),
            Inline::Wanted if moved == 0 => self.end_inline(desk),
            _ => {}
        }
    }

    /// Watcher: takes the source from the consumer. `false`: that is inside of it, and has been called.
    fn revoke_inline(&self, desk: &mut GuardOf<'_, S, J>) -> bool {
        // While it is lent only who has the desk's lock touches this one.
        let Some(mut origin) = self.origin.as_ref().and_then(|origin| origin.try_lock()) else {
            return true;
        };
        let Some(loan) = origin.loan.take() else {
            return true;
        };
        let words = Arc::clone(loan.words());
        match loan.revoke() {
            Ok(iter) => {
                // What it says from now on is as true: it may knock in vain, but get no further.
                let (count, place) = words.seen();
                origin.iter = Some(iter);
                origin.seq = count;
                let running = place == Place::Running;
                self.ctl.yielded_inline(count - u64::from(running));
                if !running {
                    desk.retire_consumer(); // nothing of it runs, and nothing can start
                }
                self.end_inline(desk);
                true
            }
            Err(loan) => {
                origin.loan = Some(loan);
                false
            }
        }
    }

    /// Consumer, which has been called while it was in the source, and is about to run what it got there.
    fn is_out(self: &Arc<Self>) {
        let wake = self.watch_again(&mut self.desk.lock());
        self.act(wake);
    }

    /// Consumer, which has been called: whether it still has the source, and may go on.
    fn is_lent(self: &Arc<Self>) -> bool {
        let mut desk = self.desk.lock();
        let wake = self.watch_again(&mut desk);
        let on = self.is_still_lent(&desk);
        drop(desk);
        self.act(wake);
        on
    }

    fn is_still_lent(&self, desk: &GuardOf<'_, S, J>) -> bool {
        let origin = self.origin.as_ref().filter(|_| desk.inline == Inline::On);
        let mut origin = origin.and_then(|origin| origin.try_lock());
        let Some(loan) = origin.as_mut().and_then(|origin| origin.loan.as_mut()) else {
            return false;
        };
        loan.go_on();
        !self.ctl.is_cut()
    }
}

impl<S: Source, J: Job<S::Item>> Consumer<S, J>
where
    S::Item: Send,
{
    /// Borrows the source, if that is wanted and nothing else is going on.
    pub(crate) fn start_inline(&mut self, shared: &Arc<Shared<S, J>>) -> bool {
        let Some(origin) = shared.origin.as_ref().filter(|_| shared.may_inline) else {
            return false;
        };
        let mut desk = shared.desk.lock();
        if desk.inline != Inline::Wanted || !desk.is_at_rest() || shared.ctl.is_cut() {
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
        let (loan, hand) = lent::lend(iter, self.cursor.taken, free);
        origin.loan = Some(loan);
        drop(origin);
        desk.inline = Inline::On;
        desk.set_looked(None);
        desk.permit_consumer();
        shared.ctl.set_inline(Some(Arc::clone(hand.words())));
        let wake = shared.call_watcher(&mut desk);
        drop(desk);
        shared.act(wake);
        let words = Arc::clone(hand.words());
        self.inliner = Some(Inliner {
            hand,
            stage: InlineStage::new(shared.ctl.token().clone(), words),
            samples: None,
        });
        true
    }

    /// Pulls an item and runs it.
    #[inline]
    pub(crate) fn run_inline(&mut self) -> Step<S::Item, J::Batch> {
        match &self.inliner {
            Some(inliner) if inliner.samples.is_none() => self.run_one(false),
            _ => Step::Called,
        }
    }

    #[inline(always)]
    #[allow(clippy::inline_always)] // what is timed and what is not share no code otherwise
    fn run_one(&mut self, timed: bool) -> Step<S::Item, J::Batch> {
        let (Some(inliner), Some(shared)) = (&mut self.inliner, &self.shared) else {
            return Step::Called;
        };
        let _consumer = inliner.stage.enter();
        let unwinding = Unwinding(&mut self.cursor.over, shared);
        let visit = self.cursor.taken + 1;
        let mut visits = inliner.hand.visits();
        let visited = visits.visit(visit, Iterator::next);
        let Some(Some(item)) = visited else {
            std::mem::forget(unwinding);
            return visited.map_or(Step::Called, |_| Step::End);
        };
        if visits.is_called() {
            std::mem::forget(unwinding);
            return Step::Out(item);
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
            Step::Last(batch)
        } else {
            Step::Batch(batch)
        }
    }

    /// Pulls items, runs them and folds what they give, until something else is to be done first.
    /// What does not change is in local variables, as in `run_items`.
    #[inline]
    pub(crate) fn fold_inline<A>(
        &mut self,
        mut value: A,
        mut f: impl FnMut(A, J::Output) -> A,
    ) -> (A, Step<S::Item, J::Batch>) {
        let (Some(inliner), Some(shared)) = (&mut self.inliner, &self.shared) else {
            return (value, Step::Called);
        };
        if inliner.samples.is_some() {
            return (value, Step::Called);
        }
        let (job, mut visits) = (&shared.job, inliner.hand.visits());
        let mut state = job.state();
        let _consumer = inliner.stage.enter();
        let unwinding = Unwinding(&mut self.cursor.over, shared);
        let mut visit = self.cursor.taken + 1;
        let step = loop {
            let item = match visits.visit(visit, Iterator::next) {
                Some(Some(item)) => item,
                Some(None) => break Step::End,
                None => break Step::Called,
            };
            if visits.is_called() {
                break Step::Out(item);
            }
            let (batch, last) = job.run(&mut state, item);
            visits.leave(visit);
            visit += 1;
            if last {
                break Step::Last(batch);
            }
            value = batch.into_iter().fold(value, &mut f);
        };
        std::mem::forget(unwinding);
        self.cursor.taken = inliner.hand.words().done();
        (value, step)
    }

    /// What is to be done after an item that was run here, or could not be.
    #[cold]
    pub(crate) fn go_on(&mut self, step: Step<S::Item, J::Batch>) -> Option<J::Batch> {
        match step {
            Step::Batch(batch) => Some(batch),
            Step::Out(item) => self.run_out(item),
            Step::Last(batch) => {
                self.stop();
                Some(batch)
            }
            Step::End if context::is_unwanted() => {
                self.leave_inline();
                None
            }
            Step::End => {
                if let Some(shared) = self.shared.clone() {
                    let mut desk = shared.desk.lock();
                    desk.end = Some(self.cursor.taken);
                    self.reclaim(&mut desk, true);
                }
                self.finish();
                None
            }
            Step::Called => self.attend(),
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
        inliner.hand.visits().leave(visit);
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
            Step::Called => None, // once more, so that it looks again
            step => self.go_on(step),
        }
    }

    /// Makes the consumer one that only takes results, and wakes somebody who goes on.
    fn leave_inline(&mut self) {
        let Some(shared) = self.shared.clone() else {
            return;
        };
        let mut desk = shared.desk.lock();
        self.reclaim(&mut desk, false);
        shared.ctl.room_granted();
        let wake = desk.wake();
        drop(desk);
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
        let mut desk = shared.desk.lock();
        if desk.inline == Inline::Wanted {
            shared.end_inline(&mut desk);
        }
        desk.pause.forever();
        let wake = desk.wake();
        drop(desk);
        shared.act(wake);
    }

    /// Ends the loan, and the time in which the consumer runs items.
    pub(crate) fn reclaim(&mut self, desk: &mut GuardOf<'_, S, J>, ended: bool) {
        let (Some(inliner), Some(shared)) = (self.inliner.take(), &self.shared) else {
            return;
        };
        shared.ctl.set_inline(None);
        shared.ctl.yielded_inline(self.cursor.taken);
        desk.retire_consumer();
        if desk.inline != Inline::On {
            return; // it has been taken
        }
        shared.end_inline(desk);
        // While it is lent only who has the desk's lock touches this one.
        if let Some(mut origin) = shared.origin.as_ref().and_then(|origin| origin.try_lock()) {
            let loan = origin.loan.take();
            origin.iter = loan.and_then(|loan| inliner.hand.give_back(loan));
            origin.seq = self.cursor.taken;
            origin.ended = ended;
        }
    }
}

/// If a closure or the source panics, nothing follows: the stage is stopped.
struct Unwinding<'a, S: Source, J: Job<S::Item>>(&'a mut bool, &'a Shared<S, J>)
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
