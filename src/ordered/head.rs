//! A bound too small to pay for wake-ups: the consumer runs what is at the head of the line, and the workers
//! what comes after it.
//!
//! If all items within the bound take less than some milliseconds together, a worker is soon without room, and
//! the consumer soon without results. Each would sleep and be woken for every few items, and a wake-up costs
//! as much as many an item. So nobody sleeps. The consumer becomes one of the `n`, and each chunk that is
//! pulled goes to it or to a worker in turn. While the consumer runs the *next* item, nothing is ready that
//! it could yield instead, whatever the workers do; so no result waits for the end of its closure (P4).
//!
//! | step | by | what happens |
//! | --- | --- | --- |
//! | [`wait_at_head`](Consumer::wait_at_head) | the consumer, when it finds nothing | the bound is short: the stage is in the mode [`Head`](Inline::Head) from now on |
//! | [`choose_mode`](Sched::choose_mode) | a worker, after a chunk | gives the consumer its permit, and idles |
//! | [`leave_to_consumer`](Sched::leave_to_consumer) | a worker, in the source | leaves the chunk to the consumer, and pulls another one for itself |
//! | [`take_left`](Sched::take_left) | the consumer, when the next item is in that chunk; or a worker without other work | the consumer gets it on loan (`own.rs`) |
//! | [`run_own`](Consumer::run_own) | the consumer, for each item of it | runs it, and yields it at once |
//! | [`wait_at_head`](Consumer::wait_at_head) | the consumer, if a worker runs the next item | waits without sleep for a limited time; then it leaves the mode, and sleeps |
//! | [`wait_for_yield`](Sched::wait_for_yield) | a worker without room | the same for room |
//! | [`watch_head`](Sched::watch_head) | the watcher, each millisecond | ends the mode if the consumer has taken no chunk since |
//!
//! # Who holds the permit
//!
//! The consumer holds its permit while the mode lasts, also between two items. So that `n` closures can run
//! at once all the same, it gives the permit back before it sleeps, and the watcher takes it from a consumer
//! that is away, or that finds so many results that it never has to wait. The chunk that such a consumer has
//! begun, and the one that was left to it, go to the workers. Only while it is in a closure nothing can be
//! taken from it, and nothing need be: the permit is in use. Then the watcher notes that the consumer
//! [watches itself](crate::ordered::core::Core::watches_itself), and sleeps. That handshake, inside / sleep,
//! is told in `inline.rs`.
//!
//! A thread watches from the moment the consumer has a permit: the worker that gave it has nothing else to
//! do, and where a permit was free a watcher is called. A watcher that finds work calls the next
//! ([`Core::is_consumer_watched`]).
//!
//! # Where this is not done
//!
//! - Without an order: results are ready while the consumer runs an item. See `one_worker.rs`.
//! - With `n` = 1 or a bound of 1: no two items run at once, so the consumer may as well run all of them
//!   (`inline.rs`).
//! - With items or results of more than 4 KiB, for the sake of the user's stack.
//! - In stages whose items are timed, in jobs with states, and where the consumer pulls the source.
//! - Where each closure needs a permit of the user's, for which the consumer would have to wait.
//! - On a pool of the user's, whose threads must run the closures.
//! - Where the width may be set while the stage runs (`resize.rs`).
//! - In a call with a time limit, which must not get stuck in an item.
//! - Where the light barrier is not free.

use crate::ordered::chunk::ChunkExecutor;
use crate::ordered::consumer::Consumer;
use crate::ordered::core::{Core, Inline};
use crate::ordered::item_context::ItemContext;
use crate::ordered::opts::OrderedOpts;
use crate::ordered::sched::{ItemRunner, Sched, SchedGuard};
use crate::ordered::shared::OrderedStage;
use crate::ordered::worker::Worker;
use crate::par::job::Job;
use crate::par::runner::JobRunner;
use crate::par::source::Source;
use crate::runtime::barrier::{Free, Light};
use crate::runtime::context::{self, Current};
use crate::runtime::plan::Common;
use crate::runtime::roster::Wake;
use crate::sync::{Arc, Instant, yield_now};
use std::rc::Rc;
use std::time::Duration;

/// How long the consumer waits for an item that a worker runs, and a worker for room, before they sleep.
pub(super) const PATIENCE: Duration = Duration::from_micros(100);
/// How often either looks before it offers its core, on which the other may be queued. A turn takes some 50 ns.
pub(super) const LOOKS: usize = 100;
/// The same while the consumer does not know the chunk of the next item, which it finds only under the lock.
const FEW_LOOKS: usize = 10;

/// Whether the consumer of such a stage may run items at the head of the line: see the head of this file.
pub(super) fn is_allowed(opts: &OrderedOpts, common: &Common) -> Option<Free> {
    let asked_for_threads =
        common.pool.is_some() || opts.is_resizable(common) || opts.work.eager || opts.takes_part;
    let is_wide = opts.work.width > 1 && opts.work.in_flight.is_some_and(|bound| bound > 1);
    let free = opts.work.limit.is_none() && !opts.is_weighed();
    let allowed = opts.ordered && is_wide && !opts.is_timed() && free && !asked_for_threads;
    Light::new().free().filter(|_| allowed)
}

impl<I, B> Core<I, B> {
    /// Whether a thread watches over the consumer's part, or over the only worker's, or none has to.
    pub(super) fn is_consumer_watched(&self) -> bool {
        !matches!(self.inline, Inline::Head | Inline::OneWorker)
            || self.watches_itself
            || self.watcher.is_some()
    }
}

impl<I, B> Sched<I, B> {
    /// Worker, after a chunk: who runs what comes next?
    pub(super) fn choose_mode(&self, core: &mut SchedGuard<'_, I, B>, worker: &mut Worker) {
        self.want_inline(core);
        if core.inline == Inline::OneWorker {
            self.check_one_worker(core, worker);
        }
        if core.inline != Inline::Head {
            return;
        }
        if core.lent.is_none() && !self.cost.is_bound_short(true) {
            // This thread looks for work next, so it need not wake one for what was left.
            self.end_head(core);
        } else if !core.has_consumer_permit() {
            core.give_consumer(worker.permit.take());
        }
    }

    /// Worker, about to leave the source with a chunk: leaves it to the consumer, if that has none yet, and if
    /// there is room for another one. `more`: the source has not ended. Returns the chunk otherwise.
    pub(super) fn leave_to_consumer(
        &self,
        worker: &mut Worker,
        core: &mut Core<I, B>,
        chunk: ChunkExecutor<I, B>,
        seq: u64,
        more: bool,
    ) -> Option<ChunkExecutor<I, B>> {
        // Not twice in a row, or a fast consumer would have the worker do nothing but pull. Not without a
        // permit of its own, as then it could not run the next chunk. And not to a consumer that is in a long
        // closure.
        let wanted = core.inline == Inline::Head
            && core.has_consumer_permit()
            && !core.watches_itself
            && core.left.is_none();
        if !wanted || !more || worker.has_left || worker.permit.is_none() || self.room(seq) == 0 {
            return Some(chunk);
        }
        self.signals.set_left(chunk.first());
        core.left = Some(chunk);
        worker.has_left = true;
        None
    }

    /// Takes what was left to the consumer.
    pub(super) fn take_left(&self, core: &mut Core<I, B>) -> Option<ChunkExecutor<I, B>> {
        let chunk = core.left.take()?;
        self.signals.set_nothing_left();
        Some(chunk)
    }

    /// Puller: the consumer is at work, and makes room from moment to moment. Waits for a limited time for as much as
    /// is worth a chunk, and returns the room.
    pub(super) fn wait_for_yield(&self, seq: u64) -> usize {
        let worth = usize::try_from(self.cost.worth_waking()).unwrap_or(usize::MAX);
        // Mostly there is room, and then the clock is not read.
        let mut began = None;
        loop {
            for _ in 0..LOOKS {
                let room = self.room(seq);
                if room >= worth {
                    return room;
                }
                std::hint::spin_loop();
            }
            let began = *began.get_or_insert_with(Instant::now);
            if began.elapsed() >= PATIENCE || !self.signals.is_sleepless() {
                return self.room(seq);
            }
            yield_now();
        }
    }

    /// The consumer runs nothing at the head of the line any more. It has no chunk on loan. What was left to it
    /// is for the workers: the caller looks for work next, or wakes a thread.
    pub(super) fn end_head(&self, core: &mut SchedGuard<'_, I, B>) {
        if core.inline != Inline::Head {
            return;
        }
        debug_assert!(core.lent.is_none(), "the consumer has a chunk");
        core.inline = Inline::Off;
        core.watches_itself = false;
        self.signals.end_sleepless();
        if let Some(chunk) = core.left.take() {
            self.disown(core, chunk);
        }
        core.retire_consumer();
    }

    /// Watcher: the consumer has taken no chunk for a nap of full length. It is away, or has so many results that
    /// it need not run items; or it is in a long closure.
    pub(super) fn watch_head(&self, core: &mut SchedGuard<'_, I, B>) {
        if let Some(revoker) = core.lent.take() {
            match revoker.revoke() {
                Ok(chunk) => {
                    if let Some(rest) = core.returned(chunk) {
                        self.disown(core, rest);
                    }
                }
                // In a closure. It has been called, and calls a watcher when it comes out.
                Err(revoker) => {
                    core.lent = Some(revoker);
                    core.watches_itself = true;
                    return;
                }
            }
        }
        core.head_pause.begin();
        self.end_head(core);
    }
}

impl<S: Source, J: Job<S::Item>> OrderedStage<S, J>
where
    S::Item: Send,
{
    /// Consumer: begins the mode, if the bound is short.
    fn begin_head(self: &Arc<Self>) -> bool {
        let mut core = self.core.lock();
        let wanted = core.inline == Inline::Off && core.end.is_none() && core.head_pause.is_over();
        if !wanted || !self.cost.is_bound_short(false) {
            return false;
        }
        core.inline = Inline::Head;
        self.signals.set_nothing_left();
        // Mostly all are in use. Then the next worker that ends a chunk gives its own.
        let permit = core.permits.take();
        let mut wake = Wake::Nobody;
        if permit.is_some() && core.watcher.is_none() {
            wake = self.call_watcher(&mut core);
        }
        core.give_consumer(permit);
        drop(core);
        self.act(wake);
        true
    }
}

impl<S: Source, J: Job<S::Item>> Consumer<S, J>
where
    S::Item: Send,
{
    /// It has found nothing: waits for a limited time without a sleep, if a sleep would cost more. `false`: it does
    /// not wait, or no longer. `since`: when this wait began.
    pub(super) fn wait_at_head(
        &mut self,
        shared: &Arc<OrderedStage<S, J>>,
        since: &mut Option<Instant>,
    ) -> bool {
        if shared.may_wait && self.cursor.until.is_none() {
            return self.wait_for_worker(shared, since);
        }
        if shared.may_help.is_none() || self.cursor.until.is_some() {
            return false;
        }
        let began = match *since {
            Some(began) => began,
            None if shared.signals.is_sleepless() || shared.begin_head() => {
                *since.insert(Instant::now())
            }
            None => return false,
        };
        if began.elapsed() >= PATIENCE {
            // About to sleep. Another thread may have use for its permit, and for what was left to it.
            let mut core = shared.core.lock();
            self.leave_head(shared, &mut core);
            let wake = core.wake();
            drop(core);
            shared.act(wake);
            return false;
        }
        let known = self.cursor.head.is_some();
        for _ in 0..if known { LOOKS } else { FEW_LOOKS } {
            if self.cursor.is_ready() || shared.signals.is_left(self.cursor.taken) {
                return true;
            }
            std::hint::spin_loop();
        }
        yield_now();
        true
    }

    /// Ends the mode, and gives back what it has begun. The caller wakes a thread.
    pub(super) fn leave_head(
        &mut self,
        shared: &Arc<OrderedStage<S, J>>,
        core: &mut SchedGuard<'_, S::Item, J::Batch>,
    ) {
        if let Some(rest) = self.cursor.own.take().and_then(|own| own.end(core)) {
            shared.disown(core, rest);
        }
        shared.end_head(core);
    }

    /// Runs the next item, which is its own. `false`: the chunk was taken from it.
    pub(super) fn run_own(&mut self) -> bool {
        let (Some(own), Some(shared)) = (&mut self.cursor.own, &self.shared) else {
            return false;
        };
        // A new one for each item, because the consumer may move to another thread in between.
        let here = Rc::new(ItemContext::new(Arc::clone(&shared.signals)));
        let mut runner = JobRunner::new(&shared.job);
        let is_nested = || shared.signals.is_nested();
        let current = context::in_own_closure(Rc::clone(&here) as Rc<dyn Current>, is_nested);
        let span = shared.signals.span();
        let in_stage = span.enter();
        let step = own.run(|chunk| {
            // A panic is caught, and published at its place, as on any thread.
            let in_item = span.item(chunk.seq());
            let claim = runner.run_items(&shared.sched, chunk, &here, 1);
            drop(in_item);
            claim
                .unwrap_or_else(|payload| shared.sched.item_panicked(shared, chunk, &here, payload))
        });
        drop(in_stage);
        drop(current);
        if step.called {
            self.answer();
        }
        step.ran
    }

    /// It was called: the chunk was taken from it, or a watcher sleeps until it is out of its closure.
    #[cold]
    fn answer(&mut self) {
        let Some(shared) = self.shared.clone() else {
            return;
        };
        let mut core = shared.core.lock();
        let wake = shared.watch_again(&mut core);
        match &mut core.lent {
            Some(revoker) => revoker.go_on(),
            None => self.cursor.own = None,
        }
        drop(core);
        shared.act(wake);
    }
}
