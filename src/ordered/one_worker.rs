//! Without an order, and with a bound too small to pay for wake-ups: one worker runs all items, and neither it nor
//! the consumer sleeps.
//!
//! The consumer may run nothing here, because results that others have ready would wait for its closure (P4). So what
//! is saved is the sleep: as at the head of the line (`head.rs`), the consumer waits for a result and the worker
//! for room without sleep, for a limited time. More workers would only take the few places within the bound,
//! the source and the scheduler's lock from one another, and a consumer that does not sleep takes one of two cores. All
//! permits but one are [kept back](crate::ordered::permits::WidthPermits::keep_one) meanwhile.
//!
//! It begins when the consumer finds nothing and the bound is [that short](crate::runtime::cost::CostModel), and it ends
//!
//! - when the worker has measured items that are longer;
//! - when the consumer has waited in vain: the worker is in a long closure, or in the source, and what comes behind is
//!   for another thread to run;
//! - when nothing was yielded between two looks of the watcher: the same, and the consumer is with its user.
//!
//! All of that is decided under the scheduler's lock, and the last two wake a thread, or are one that is awake. So there
//! is no race but that of idle / wake, which is told in `README.md`.
//!
//! Not where the width may be set while the stage runs (`resize.rs`). Where `n` or the bound is 1, no two items run at once, and the consumer runs all of them (`inline.rs`).

use crate::ordered::consumer::Consumer;
use crate::ordered::core::Inline;
use crate::ordered::head::{LOOKS, PATIENCE};
use crate::ordered::opts::OrderedOpts;
use crate::ordered::sched::{Sched, SchedGuard};
use crate::ordered::shared::OrderedStage;
use crate::ordered::worker::Worker;
use crate::par::job::Job;
use crate::par::source::Source;
use crate::runtime::plan::Common;
use crate::runtime::roster::Wake;
use crate::sync::{Arc, Instant, yield_now};

/// Whether one worker may run all items of such a stage.
pub(super) fn is_allowed(opts: &OrderedOpts, common: &Common) -> bool {
    let is_wide = opts.work.in_flight.is_some_and(|bound| bound > 1);
    let is_plain = !opts.is_timed() && !opts.is_weighed() && !opts.is_resizable(common);
    !opts.ordered && is_wide && is_plain && !opts.work.eager && !opts.takes_part
}

impl<I, B> Sched<I, B> {
    /// Worker, after a chunk: goes on alone, or idles, or ends the mode.
    pub(super) fn check_one_worker(&self, core: &mut SchedGuard<'_, I, B>, worker: &mut Worker) {
        if !self.cost.is_for_one_worker(true) {
            // This thread looks for work next, and wakes the next one if it finds some.
            self.end_one_worker(core);
        } else if core.permits.is_one_too_many() {
            worker.release(core);
        }
    }

    /// All `n` work again. The caller looks for work next, or wakes a thread.
    pub(super) fn end_one_worker(&self, core: &mut SchedGuard<'_, I, B>) {
        if core.inline == Inline::OneWorker {
            core.inline = Inline::Off;
            core.permits.keep_one(false);
            self.signals.end_sleepless();
        }
    }
}

impl<S: Source, J: Job<S::Item>> OrderedStage<S, J>
where
    S::Item: Send,
{
    /// Consumer: begins the mode, if the bound is short.
    fn begin_one_worker(self: &Arc<Self>) -> bool {
        let mut core = self.core.lock();
        let wanted = core.inline == Inline::Off && core.end.is_none() && core.head_pause.is_over();
        if !wanted || !self.cost.is_for_one_worker(false) {
            return false;
        }
        core.inline = Inline::OneWorker;
        core.permits.keep_one(true);
        self.signals.set_nothing_left();
        let wake = if core.watcher.is_none() {
            self.call_watcher(&mut core)
        } else {
            Wake::Nobody
        };
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
    pub(super) fn wait_for_worker(
        &mut self,
        shared: &Arc<OrderedStage<S, J>>,
        since: &mut Option<Instant>,
    ) -> bool {
        let began = match *since {
            Some(began) => began,
            None if shared.signals.is_sleepless() || shared.begin_one_worker() => {
                *since.insert(Instant::now())
            }
            None => return false,
        };
        if began.elapsed() >= PATIENCE {
            let mut core = shared.core.lock();
            shared.end_one_worker(&mut core);
            let wake = core.wake();
            drop(core);
            shared.act(wake);
            return false;
        }
        for _ in 0..LOOKS {
            if self.cursor.may_take(shared) {
                return true;
            }
            std::hint::spin_loop();
        }
        yield_now();
        true
    }
}
