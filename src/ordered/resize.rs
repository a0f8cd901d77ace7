//! The width of a stage that is set while the stage runs: more permits at once, fewer as closures end.
//!
//! All of it is under the scheduler's lock, on the thread that sets the width ([`SharedWidth`]). *Grow / shrink* in
//! `README.md` tells who does what when. A width that finds itself ([`Helm`](crate::runtime::helm::Helm)) is set in the
//! same way, by a worker between two chunks.
//!
//! # Modes that such a stage does not have
//!
//! In a stage with a handle, or whose width finds itself, the consumer runs no items (`inline.rs`, `head.rs`), and no worker
//! runs all of them (`one_worker.rs`). Whether it may is decided at the start, by the width: `n` = 1, or `n` > 1. And in
//! these modes all is arranged for the consumer, which holds a permit, or for the only worker, and would have to be undone
//! by a thread that sets the width. That could be done; but who asks for a handle has items that are worth a thread each,
//! and what these modes save is the hand-over of items that are not.

use crate::ordered::chunk::StealAmount;
use crate::ordered::sched::{Host, Sched, SchedGuard};
use crate::ordered::shared::OrderedStage;
use crate::ordered::worker::Worker;
use crate::par::job::Job;
use crate::par::source::Source;
use crate::runtime::roster::Wake;
use crate::runtime::width::SharedWidth;
use crate::sync::{Arc, Instant};
use std::cmp::Reverse;

impl<I, B> Sched<I, B> {
    /// Sets the width, and returns which thread is to be woken for it. Each thread that comes wakes the next, as long as
    /// there is something to start and a permit for it.
    pub(super) fn resize(
        &self,
        host: &dyn Host<I, B>,
        core: &mut SchedGuard<'_, I, B>,
        width: usize,
    ) -> Wake {
        let owed = core.resize(width, self.is_in_source(host));
        self.cost.resize(width);
        if let Some(weights) = &self.weights {
            weights.resize(width);
        }
        (self.meter).note(|meter| meter.resize(Instant::now(), width, self.bound()));
        self.recall(core, owed);
        // The default bound may have grown too, so a thread that sleeps for room is woken like any other.
        let more = core.end.is_none() || self.is_something_unstarted(core, usize::MAX);
        if more && !self.signals.is_stopped() {
            core.wake()
        } else {
            Wake::Nobody
        }
    }

    /// Worker, between two chunks: sets the width if that finds itself, and another one is due. Without the lock for a
    /// moment then, so the caller has seen nothing yet.
    #[inline]
    pub(super) fn steer<'a>(
        &'a self,
        host: &dyn Host<I, B>,
        core: SchedGuard<'a, I, B>,
    ) -> SchedGuard<'a, I, B> {
        if core.helm.is_some() {
            self.steer_by_helm(host, core)
        } else {
            core
        }
    }

    #[cold]
    fn steer_by_helm<'a>(
        &'a self,
        host: &dyn Host<I, B>,
        mut core: SchedGuard<'a, I, B>,
    ) -> SchedGuard<'a, I, B> {
        let is_over = core.end.is_some() || self.signals.is_cut();
        let Some(helm) = &mut core.helm else {
            return core;
        };
        let Some(width) = helm.look(&self.meter, is_over) else {
            return core;
        };
        let wake = self.resize(host, &mut core, width);
        drop(core);
        self.act(host, wake);
        // A consumer that pulls may have slept because the bound was full.
        if !self.pulls {
            self.signals.wake_consumer();
        }
        self.core.lock()
    }

    /// Takes from so many threads the items that they have not begun, so that each comes to the lock after the item in
    /// which it is, and pays. Whatever the others do, no more closures begin than end until then. The latest chunks, as
    /// the first results are waited for.
    fn recall(&self, core: &mut SchedGuard<'_, I, B>, owed: usize) {
        if owed == 0 {
            return;
        }
        let mut chunks: Vec<_> = (0..core.threads())
            .filter_map(|thread| core.active(thread).cloned())
            .collect();
        chunks.sort_unstable_by_key(|chunk| Reverse(chunk.first()));
        chunks.truncate(owed);
        // The oldest first, as they are waited for in this order.
        for chunk in chunks.into_iter().rev() {
            // Mostly there is nothing, and then no barrier is passed. A thread that has a permit and no chunk pays before
            // it begins one.
            if chunk.unclaimed() > 0 {
                if let Some(rest) = self.split(core, &chunk, StealAmount::Rest) {
                    self.disown(core, rest);
                }
            }
        }
    }

    /// Whether a thread is in the source, with a permit. The caller holds the scheduler's lock, as does a thread that
    /// only tries the source's.
    fn is_in_source(&self, host: &dyn Host<I, B>) -> bool {
        self.pulls && !host.is_source_free()
    }

    /// A thread with a permit that looks for work: pays if the stage has become narrower.
    pub(super) fn pay_for(
        &self,
        host: &dyn Host<I, B>,
        worker: &mut Worker,
        core: &mut SchedGuard<'_, I, B>,
    ) {
        if core.permits.is_any_owed() {
            let in_source = self.is_in_source(host);
            core.permits.pay(&mut worker.permit, in_source);
        }
    }
}

impl<S: Source, J: Job<S::Item>> OrderedStage<S, J>
where
    S::Item: Send,
{
    /// From now on the stage follows its handles. `width`: what it has.
    pub(super) fn follow(self: &Arc<Self>, handles: &Arc<SharedWidth>, width: usize) {
        let (shared, again) = (Arc::clone(self), Arc::clone(handles));
        let task = self.leases.prepare(move || {
            let width = again.get();
            let mut core = shared.core.lock();
            let wake = shared.resize(&shared, &mut core, width);
            drop(core);
            // Before the wake-up, which may start a thread: others that set the width wait for this.
            shared.follow(&again, width);
            shared.act(wake);
            // A consumer that pulls may have slept because the bound was full.
            if !shared.pulls {
                shared.signals.wake_consumer();
            }
        });
        handles.arm(task, width);
    }
}
