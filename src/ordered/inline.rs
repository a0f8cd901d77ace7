//! Work that is too small to pay for a second thread: the consumer runs it itself.
//!
//! An item of a few nanoseconds costs more to hand over than to run. So when a stage has seen that its items
//! are like that, its consumer borrows the source, and then pulls one item, runs it and yields it, as the
//! sequential adaptor would. The same if all items within a small bound are that cheap together. It does so
//! only at the head of the line, so no finished result waits.
//!
//! | step | by | what happens |
//! | --- | --- | --- |
//! | [`want_inline`](Sched::want_inline) | a worker, after a chunk | enough items in a row were tiny: no worker pulls from now on (`Wanted`) |
//! | [`start_inline`](Consumer::start_inline) | the consumer, once it has taken everything that was pulled | the source is [biased] to it, and it gets a permit (`On`) |
//! | [`run_inline`](Consumer::run_inline), [`fold_inline`](Consumer::fold_inline) | the consumer, for each item | a visit to the source, the closure, the sink |
//! | [`watch`](OrderedStage::watch) | the watcher, each millisecond | checks whether the consumer moves, unless the source blocks |
//! | [`watch`](OrderedStage::watch) | the watcher | takes the source back if the consumer is with its user in a quarter of all looks |
//! | [`attend`](Consumer::attend) | the consumer, when it is called | times a few items, or learns that the source has been taken back |
//!
//! If the consumer has not moved between two looks, it is in a long closure, in a source that blocks, or away
//! with its user. Then the watcher takes the source back and the stage fans out again. On a busy machine another
//! program may have its core, for milliseconds; then it keeps the source
//! ([`probe`](crate::runtime::probe)). Only while the
//! consumer is inside the source, the source cannot be taken. If the consumer moves slowly, it is called,
//! times a few closures, and returns the source if fanning out pays for them.
//!
//! # A source that blocks
//!
//! While the consumer is inside the source there is nothing to see, perhaps for an hour. So a watcher that
//! has tried in vain, after a nap of full length, notes that the consumer [watches
//! itself](crate::ordered::core::Core::watches_itself), and sleeps without a limit. The attempt has called
//! the consumer, and a called consumer notices it when it comes out, before it runs the item that it got
//! ([`is_called`](biased::Visits::is_called)). Then it removes the note and calls a watcher, which finds it
//! in a long closure, or moving; meanwhile the consumer runs the item. Both sides read and write the note
//! under the scheduler's lock, and the steps before it are those of a revocation. So either the watcher sees
//! that the consumer is outside, and has the source; or the consumer sees the call, and then the note. By the
//! place of the consumer:
//!
//! | the watcher sees | because the consumer is | what wakes the watcher |
//! | --- | --- | --- |
//! | inside | in a source that blocks, and gets an item | the consumer, before it runs the item ([`is_out`](OrderedStage::is_out)) |
//! | | the same, and the source ends or panics: it stays inside, so that nobody asks the source again | the end of the stage wakes all threads |
//! | | on its way out, because it saw an earlier call | the consumer, which checks whether it still has the source ([`is_lent`](OrderedStage::is_lent)) |
//! | running, away | in a closure, or with its user | nothing: the watcher has taken the source, and goes on |
//!
//! `Wanted` ends by itself: if the consumer does not come for what is left, the stage continues without it.
//!
//! A consumer that runs items counts as one of the `n` threads. It has a permit as long as it has the source,
//! and if the source is taken while a closure runs, until that closure is over.
//!
//! # Where this is not done
//!
//! - Without an order, unless `n` or the bound is 1: a consumer in a long closure would hold up results that need not
//!   wait for it.
//! - In stages that a token of the user's may cancel, or the end of what they were started in: a consumer
//!   inside a blocked source could not learn of it.
//! - In jobs with states (there are `n` of them, on `n` threads), in those whose panics are values, and in
//!   stages whose items are timed.
//! - With items or results of more than 4 KiB, for the sake of the user's stack.
//! - Where each closure needs a permit of the user's: the consumer would have to wait for it.
//! - On a pool of the user's: its threads must run the closures.
//! - Where a subscriber wants the stage's span or its panics (feature `tracing`): to enter the span for each item costs
//!   more than such items, and around the loops that would be around the user's sink too.
//! - Where the light barrier is not free.

use crate::ordered::consumer::{Consumer, InlineStep, Inliner, fold_batch};
use crate::ordered::core::{CONSUMER, Core, Inline};
use crate::ordered::gain::{Counts, Verdict};
use crate::ordered::opts::OrderedOpts;
use crate::ordered::sched::{Sched, SchedGuard};
use crate::ordered::shared::{GuardOf, OrderedStage};
use crate::ordered::signals::Signals;
use crate::ordered::worker::{LONGEST_NAP, STUCK, WatchPoint, Worker};
use crate::par::job::Job;
use crate::par::source::Source;
use crate::runtime::barrier::Light;
use crate::runtime::biased::{self, OwnerPlace, Visit};
use crate::runtime::context::{self, InlineStage};
use crate::runtime::meter::{Doing, Fate, Meter};
use crate::runtime::plan::Common;
use crate::runtime::probe::Probe;
use crate::runtime::roster::Wake;
use crate::runtime::session::Session;
use crate::sync::{Arc, Instant};

/// Whether the consumer of such a stage may run items itself: see the head of this file.
pub(super) fn is_allowed(opts: &OrderedOpts, common: &Common) -> bool {
    let asked_for_threads =
        common.pool.is_some() || opts.is_resizable(common) || opts.work.eager || opts.takes_part;
    // Where no two items run at once, none can be done while the consumer runs one: there without an order too.
    let one_by_one = opts.work.width == 1 || opts.work.in_flight == Some(1);
    let plain = (opts.ordered || one_by_one)
        && !opts.is_timed()
        && opts.work.limit.is_none()
        && !opts.is_weighed();
    let untold = common.tokens.is_empty() && common.drains.is_empty();
    plain && untold && !asked_for_threads && Light::new().free().is_some()
}

impl<I, B> Sched<I, B> {
    /// Worker, after a chunk: makes the consumer run the items itself if that is better.
    pub(super) fn want_inline(&self, core: &mut SchedGuard<'_, I, B>) {
        // Only once: `Wanted` and `On` belong to a switch that is already under way.
        let may = match core.inline {
            Inline::Off => true,
            Inline::Head => core.lent.is_none(),
            Inline::Wanted | Inline::On | Inline::OneWorker => false,
        };
        // For good after a call with a time limit, which must not get stuck in an item: not on trial either.
        let may = may && self.may_inline && !core.pause.is_forever();
        if !may || !self.pulls || core.end.is_some() {
            return;
        }
        // `pause` spaces the attempts, so that a stage whose costs change does not switch back and forth.
        let tiny = self.cost.is_tiny()
            && core.pause.is_over()
            && !core.gain.is_for_threads(Instant::now());
        if tiny || self.is_doubtful(core) {
            core.gain.begin(!tiny);
            self.end_head(core);
            core.inline = Inline::Wanted;
        }
    }

    /// Whether the threads may not be worth it.
    fn is_doubtful(&self, core: &mut Core<I, B>) -> bool {
        // Not while the consumer is what the workers wait for: it would only have more to do.
        if core.inline == Inline::Off && self.signals.is_room_wanted() {
            core.gain.cool();
            return false;
        }
        let counts = Counts {
            yielded: self.signals.yielded(),
            ran: core.ran,
        };
        let times = self.cost.times();
        let short = core.inline == Inline::Head;
        times.is_some_and(|times| core.gain.is_doubtful(Instant::now(), counts, times, short))
    }

    /// Consumer: it was called, and is not in the source. From now on a thread must watch it again.
    pub(super) fn watch_again(&self, core: &mut SchedGuard<'_, I, B>) -> Wake {
        // Taken under the scheduler's lock, under which the watcher writes it: either the watcher finds the
        // consumer outside, or this finds the note (inside / sleep).
        if std::mem::take(&mut core.watches_itself) {
            self.call_watcher(core)
        } else {
            Wake::Nobody
        }
    }

    /// The consumer runs no more items: the stage fans out again, after a pause, and measures anew.
    fn end_inline(&self, core: &mut SchedGuard<'_, I, B>) {
        core.inline = Inline::Off;
        core.watches_itself = false;
        // After a trial everything is as before.
        if !core.gain.is_tried() {
            core.pause.begin();
            self.cost.restart();
        }
        core.gain.end(Instant::now());
    }
}

impl<S: Source, J: Job<S::Item>> OrderedStage<S, J>
where
    S::Item: Send,
{
    /// Watcher: checks whether a consumer that runs items itself, or is about to, makes progress.
    pub(super) fn watch(&self, worker: &mut Worker, core: &mut GuardOf<'_, S, J>) {
        let state = core.inline;
        let (count, place) = match (state, &self.origin) {
            (Inline::Wanted | Inline::OneWorker, _) => (self.signals.yielded(), None),
            (Inline::Head, _) => (core.lends, None),
            (Inline::On, Some(origin)) => {
                // While the source is lent, only a thread with the scheduler's lock touches its slot, so this
                // succeeds.
                let origin = origin.try_lock();
                let Some(revoker) = origin.as_ref().and_then(|origin| origin.revoker.as_ref())
                else {
                    return;
                };
                let (count, place) = revoker.words().seen();
                self.meter.note(|meter| note_place(meter, place));
                (count, Some(place))
            }
            _ => {
                worker.seen = None;
                return;
            }
        };
        let at = Instant::now();
        let now = WatchPoint { state, count, at };
        // The first look only takes note. Progress is the difference of two looks.
        let Some(before) = worker.seen.filter(|seen| seen.state == state) else {
            worker.seen = Some(now);
            return;
        };
        let time = at.duration_since(before.at);
        let moved = count - before.count;
        // Two looks in a row that are too close to each other say nothing, so the older one stays.
        if moved == 0 && time < STUCK {
            return; // woken early
        }
        let is_patient = matches!(state, Inline::Head | Inline::OneWorker);
        if is_patient && moved == 0 && time < LONGEST_NAP {
            return; // The older look stays.
        }
        worker.seen = Some(now);
        if let Some(probe) = &mut core.probe {
            if moved > 0 {
                probe.forget();
            } else if state == Inline::On && probe.waits() {
                return; // Another program has its core.
            }
        }
        match state {
            // It is in a long closure, in the source, or away. Only if it is inside the source this fails,
            // and has called it.
            Inline::On if moved == 0 => {
                let inside = !self.revoke_inline(core);
                // After a nap of full length only: a source that pauses briefly is not one that blocks.
                core.watches_itself = inside && time >= LONGEST_NAP;
                // Forgotten before the long sleep, or the first look after it would take an old count for a
                // standstill.
                worker.seen = worker.seen.filter(|_| !core.watches_itself);
            }
            Inline::On if core.gain.judge(at, moved, time) == Verdict::FanOut => {
                self.revoke_inline(core);
            }
            // It moves, but it is with its user for much of the time, in which items could run.
            Inline::On if worker.absence.is_long(place, moved, time) => {
                self.revoke_inline(core);
            }
            // It moves, but slowly: it is to time some closures.
            Inline::On if !core.gain.is_tried() && self.cost.may_pay(moved, time) => {
                self.signals.call_consumer();
            }
            Inline::Head if moved == 0 => {
                self.watch_head(core);
                worker.seen = None;
            }
            // The worker is stuck, or the consumer stays away.
            Inline::OneWorker if moved == 0 => {
                core.head_pause.begin();
                self.end_one_worker(core);
                worker.seen = None;
            }
            // It does not come for what is left, so the workers continue.
            Inline::Wanted if moved == 0 => self.end_inline(core),
            _ => {}
        }
    }

    /// Watcher: takes the source from the consumer. `false`: the consumer is inside, and has been called.
    fn revoke_inline(&self, core: &mut GuardOf<'_, S, J>) -> bool {
        // While the source is lent, its slot is only touched under the scheduler's lock, which this thread
        // holds.
        let Some(mut origin) = self.origin.as_ref().and_then(|origin| origin.try_lock()) else {
            return true;
        };
        let Some(revoker) = origin.revoker.take() else {
            return true;
        };
        let words = Arc::clone(revoker.words());
        match revoker.revoke() {
            Ok(iter) => {
                // From now on the counts stay true: the consumer may still try to enter, but gets no further.
                let (count, place) = words.seen();
                origin.iter = Some(iter);
                // Each visit pulled one item, so the count of visits is the `seq` of the next item.
                origin.seq = count;
                // If a closure runs, its item has been pulled and is not yielded yet; the consumer keeps its
                // permit until it is.
                let running = place == OwnerPlace::Running;
                self.signals.yielded_inline(count - u64::from(running));
                if !running {
                    core.retire_consumer(); // Nothing of it runs, and nothing can start.
                    self.meter.set(CONSUMER, Doing::Nothing);
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

    /// Consumer: it was called while it was inside the source, and is about to run the item that it got
    /// there.
    fn is_out(self: &Arc<Self>) {
        self.meter
            .note(|meter| note_place(meter, OwnerPlace::Running));
        let wake = self.watch_again(&mut self.core.lock());
        self.act(wake);
    }

    /// Consumer: it was called. Whether it still has the source, and may continue.
    fn is_lent(self: &Arc<Self>) -> bool {
        let mut core = self.core.lock();
        let wake = self.watch_again(&mut core);
        // One critical section: a call is cleared only under the lock under which loans end.
        let on = self.is_still_lent(&core);
        drop(core);
        self.act(wake);
        on
    }

    /// Clears the call, and checks whether there is still a reason for it.
    fn is_still_lent(&self, core: &GuardOf<'_, S, J>) -> bool {
        let origin = self.origin.as_ref().filter(|_| core.inline == Inline::On);
        let mut origin = origin.and_then(|origin| origin.try_lock());
        let Some(revoker) = origin.as_mut().and_then(|origin| origin.revoker.as_mut()) else {
            return false;
        };
        // First cleared, then the reason is checked: a thread that cancels stores the cut before it calls
        // (`OwnerWords::call` has the fences).
        revoker.go_on();
        !self.signals.is_cut()
    }
}

impl<S: Source, J: Job<S::Item>> Consumer<S, J>
where
    S::Item: Send,
{
    /// Borrows the source, if that is wanted and nothing else is under way.
    pub(super) fn start_inline(&mut self, shared: &Arc<OrderedStage<S, J>>) -> bool {
        let Some(origin) = shared.origin.as_ref().filter(|_| shared.may_inline) else {
            return false;
        };
        let mut core = shared.core.lock();
        // At rest: no worker runs a closure or pulls. So there is no result that the consumer could miss, and
        // a permit is free.
        if core.inline != Inline::Wanted || !core.is_at_rest() || shared.signals.is_cut() {
            return false;
        }
        let Some(mut origin) = origin.try_lock() else {
            return false;
        };
        // Everything that was pulled has been yielded; otherwise the consumer would run ahead of its own
        // order.
        if origin.ended || origin.seq != self.cursor.taken {
            return false;
        }
        let Some(free) = Light::new().free() else {
            return false;
        };
        let Some(iter) = origin.iter.take() else {
            return false;
        };
        // The count of visits starts at the items taken, so that it is always the `seq` of the next item.
        let (revoker, owner) = biased::lend(iter, self.cursor.taken, free);
        // The revoker takes the place of the source in the slot. A thread that holds the scheduler's lock can
        // revoke it from now on.
        origin.revoker = Some(revoker);
        drop(origin);
        core.inline = Inline::On;
        // Takes microseconds, which nobody waits for: the stage is at rest.
        core.probe = Probe::here();
        // From now on this thread may be stuck in a closure or in the source, so it watches nothing itself.
        core.set_looked(None);
        core.permit_consumer();
        // So that a cancellation can call it (`Signals::call_consumer`).
        shared.signals.set_inline(Some(Arc::clone(owner.words())));
        // One thread stays awake to watch it.
        let wake = shared.call_watcher(&mut core);
        let is_timed = !core.gain.is_tried();
        shared.meter.set(CONSUMER, Doing::Run);
        drop(core);
        shared.act(wake);
        // The lookup by which a closure finds its token: see `runtime/context.rs`.
        let words = Arc::clone(owner.words());
        self.inliner = Some(Inliner {
            owner,
            stage: InlineStage::new(shared.signals.token().clone(), words),
            from: self.cursor.taken,
            is_timed,
            samples: None,
        });
        true
    }

    /// Pulls an item and runs it.
    #[inline]
    pub(super) fn run_inline(&mut self) -> InlineStep<S::Item, J::Batch> {
        match &self.inliner {
            // While items are timed, `attend` runs them one by one.
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
        // On this thread `CancelToken::current` finds this stage while one of its closures runs.
        let _consumer = inliner.stage.enter();
        // Forgotten on every way out except an unwind.
        let unwinding = Unwinding(&mut self.cursor.session);
        let visit = self.cursor.taken + 1;
        let mut visits = inliner.owner.visits();
        // The fast side of inline / take over: the store of `entered`, the barrier and the load of `called`
        // are in there.
        let item = match visits.visit(visit, Iterator::next) {
            Visit::Found(item) => item,
            Visit::Nothing => {
                std::mem::forget(unwinding);
                return InlineStep::End;
            }
            Visit::Called => {
                std::mem::forget(unwinding);
                return InlineStep::Called;
            }
        };
        // Called while it was inside, perhaps for long. The item is run out there, after a watcher has been
        // called (inside / sleep).
        if visits.is_called() {
            std::mem::forget(unwinding);
            return InlineStep::Out(item);
        }
        let began = timed.then(Instant::now);
        let (batch, last) = shared.job.run(&mut shared.job.state(), item);
        if let (Some(began), Some(samples)) = (began, &mut inliner.samples) {
            samples.add(began.elapsed());
        }
        // The closure has returned: from now on the consumer counts as away, with its user.
        visits.leave(visit);
        std::mem::forget(unwinding);
        self.cursor.taken = visit;
        if last {
            InlineStep::Last(batch)
        } else {
            InlineStep::Batch(batch)
        }
    }

    /// Pulls items, runs them, and folds what they give, until something else must be done first. What does
    /// not change is in local variables, as in `run_items`.
    #[inline]
    pub(super) fn fold_inline<A>(
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
        let unwinding = Unwinding(&mut self.cursor.session);
        let mut visit = self.cursor.taken + 1;
        // The same steps as in `run_one`, without anything that is the same for each item.
        let step = loop {
            let item = match visits.visit(visit, Iterator::next) {
                Visit::Found(item) => item,
                Visit::Nothing => break InlineStep::End,
                Visit::Called => break InlineStep::Called,
            };
            if visits.is_called() {
                break InlineStep::Out(item);
            }
            let (batch, last) = job.run(&mut state, item);
            // Before the sink gets the batch: the sink is the user's, and may take long. The consumer counts
            // as away by then, and the source can be taken from it.
            visits.leave(visit);
            visit += 1;
            if last {
                break InlineStep::Last(batch);
            }
            value = fold_batch(batch, value, &mut f, &shared.signals);
        };
        std::mem::forget(unwinding);
        // Read back from the shared word, so that the loop needs only one register for the count.
        self.cursor.taken = inliner.owner.words().done();
        (value, step)
    }

    /// What must be done after an item that was run here, or could not be.
    #[cold]
    pub(super) fn go_on(&mut self, step: InlineStep<S::Item, J::Batch>) -> Option<J::Batch> {
        match step {
            InlineStep::Batch(batch) => Some(batch),
            InlineStep::Out(item) => self.run_out(item),
            InlineStep::Last(batch) => {
                self.last_inline();
                Some(batch)
            }
            // The `None` was no end: what the source waited for is no longer wanted. The source is returned,
            // and asked again later.
            InlineStep::End if context::is_unwanted() => {
                self.leave_inline();
                None
            }
            InlineStep::End => {
                // The source has ended for the workers too. They see `end` under this lock, and leave.
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

    /// Runs the item that it got in a visit in which it was called. Outside the loops, where a call would
    /// cost registers.
    fn run_out(&mut self, item: S::Item) -> Option<J::Batch> {
        let (Some(inliner), Some(shared)) = (&mut self.inliner, &self.shared) else {
            return None;
        };
        // First the watcher, then the closure: this is the promise of a consumer that watches itself.
        shared.is_out();
        let _consumer = inliner.stage.enter();
        let unwinding = Unwinding(&mut self.cursor.session);
        let (batch, last) = shared.job.run(&mut shared.job.state(), item);
        let visit = self.cursor.taken + 1;
        inliner.owner.visits().leave(visit);
        std::mem::forget(unwinding);
        self.cursor.taken = visit;
        if last {
            self.last_inline();
        }
        Some(batch)
    }

    /// Nothing after the item that was run here counts.
    fn last_inline(&mut self) {
        if let Some(shared) = &self.shared {
            shared.meter.note(|meter| meter.fate(Fate::Failed, 1));
        }
        self.stop();
    }

    /// The consumer was called, for one of several reasons: the source was taken from it; the stage was
    /// cancelled; it is to time a few items; or it is already timing them.
    fn attend(&mut self) -> Option<J::Batch> {
        let (Some(inliner), Some(shared)) = (&mut self.inliner, &self.shared) else {
            return None;
        };
        // Clears the call, so that it is not called again for the same reason.
        let mut on = shared.is_lent();
        // Any call begins the timing. If it had another reason, that costs eight timed items.
        // On trial it is judged by its rate.
        if inliner.is_timed {
            let samples = inliner.samples.get_or_insert_with(|| shared.cost.samples());
            match samples.pays() {
                Some(true) => on = false,
                Some(false) => inliner.samples = None,
                None => {}
            }
        }
        if !on {
            self.leave_inline();
            return None;
        }
        inliner.samples.as_ref()?;
        // One item per call of this function: between two of them its result goes to the user.
        match self.run_one(true) {
            InlineStep::Called => None, // Once more, so that it looks again.
            step => self.go_on(step),
        }
    }

    /// Makes the consumer one that only takes results, and wakes a worker to continue.
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

    /// The consumer waits for a limited time from now on, so it must not get stuck in an item.
    pub(super) fn leave_inline_for_good(&mut self) {
        let may = |shared: &Arc<OrderedStage<S, J>>| shared.may_inline || shared.may_help.is_some();
        let Some(shared) = self.shared.clone().filter(may) else {
            return;
        };
        if self.inliner.is_some() {
            self.leave_inline();
        }
        let mut core = shared.core.lock();
        // The switch has not happened yet: it is called off, so that the workers pull again.
        if core.inline == Inline::Wanted {
            shared.end_inline(&mut core);
        }
        self.leave_head(&shared, &mut core);
        core.pause.forever();
        core.head_pause.forever();
        let wake = core.wake();
        drop(core);
        shared.act(wake);
    }

    /// Ends the loan, and the time in which the consumer runs items.
    pub(super) fn reclaim(&mut self, core: &mut GuardOf<'_, S, J>, ended: bool) {
        let (Some(inliner), Some(shared)) = (self.inliner.take(), &self.shared) else {
            return;
        };
        // From here on nothing calls this consumer. What it has yielded must be in `yielded` before a worker
        // pulls again.
        shared.signals.set_inline(None);
        shared.signals.yielded_inline(self.cursor.taken);
        // Not `taken`, which an unwind has left behind.
        let ran = inliner.owner.words().done() - inliner.from;
        core.ran += ran;
        shared.meter.note(|meter| {
            meter.pulled(ran);
            meter.ran_to(core.ran);
            meter.ran_own(ran);
            meter.set(Instant::now(), CONSUMER, Doing::Nothing);
        });
        core.retire_consumer();
        // The watcher has taken the source, and has ended it on the stage's side already.
        if core.inline != Inline::On {
            return;
        }
        shared.end_inline(core);
        // While the source is lent, its slot is only touched under the scheduler's lock, which this thread
        // holds.
        if let Some(mut origin) = shared.origin.as_ref().and_then(|origin| origin.try_lock()) {
            // Both halves of the loan meet here, so no barrier is needed to end it.
            let revoker = origin.revoker.take();
            origin.iter = revoker.and_then(|revoker| inliner.owner.give_back(revoker));
            origin.seq = self.cursor.taken;
            origin.ended = ended;
        }
    }
}

/// For the statistics: a consumer that runs items itself was seen there. It does not say so itself, for the sake of its
/// speed, so the time until the next look counts as spent there, too.
fn note_place(meter: &Meter, place: OwnerPlace) {
    let doing = match place {
        OwnerPlace::Inside => Doing::Source,
        OwnerPlace::Running => Doing::Run,
        OwnerPlace::Away => Doing::Nothing,
    };
    meter.set(Instant::now(), CONSUMER, doing);
}

/// Stops the stage if a closure or the source panics: nothing follows then.
struct Unwinding<'a>(&'a mut Session<Signals>);

impl Drop for Unwinding<'_> {
    #[cold]
    fn drop(&mut self) {
        self.0.meter().note(Meter::unwound);
        self.0.stop(false);
    }
}
