//! A thread of a stage that has found nothing: it watches for a while, or sleeps until it is woken.

use crate::ordered::core::{Inline, Progress};
use crate::ordered::sched::{Host, Sched, SchedGuard};
use crate::ordered::worker::{LONGEST_NAP, NAP, PullRefusal, Worker};
use std::time::Duration;

/// After so long a backup watcher looks whether the consumer still watches.
const RELIEF: Duration = Duration::from_millis(20);

impl<I, B> Sched<I, B> {
    /// Watches for a while, or sleeps until woken.
    pub(super) fn idle<'a>(
        &'a self,
        host: &dyn Host<I, B>,
        worker: &mut Worker,
        mut core: SchedGuard<'a, I, B>,
    ) -> SchedGuard<'a, I, B> {
        let me = worker.thread;
        worker.release(&mut core);
        core.backup_watcher
            .take_if(|backup_watcher| *backup_watcher == me);
        let flows = core.batches != worker.batches;
        worker.batches = core.batches;
        if core.inline == Inline::Wanted && core.is_at_rest() {
            self.signals.rouse();
        }
        let unsure = flows || core.open.is_some() || self.is_something_unstarted(&core, me);
        // Asked once: in between it may come to an end, and nobody would watch.
        let looked_after = core.is_looked_after();
        // Without a permit it would only see what the consumer sees between two naps.
        let left_to_consumer = !core.permits.is_any_free() && looked_after;
        // Or if all `n` are long in closures. Who of them is done, and goes into the source, calls.
        let all = core.sight_of_all();
        let in_vain = all.is_some_and(|all| Progress::unmoved(&mut worker.all, all, LONGEST_NAP));
        let inline = core.inline != Inline::Off && !core.watches_itself;
        let to_watch = inline || unsure && !left_to_consumer && !in_vain;
        if to_watch && core.watcher.is_none_or(|watcher| watcher == me) {
            core.watcher = Some(me);
            core.set_watched(true);
            drop(core);
            worker.parker.park_timeout(worker.nap);
            worker.nap = (worker.nap * 2).min(LONGEST_NAP);
            return self.core.lock();
        }
        core.watcher.take_if(|watcher| *watcher == me);
        let backup_watcher = looked_after && core.backup_watcher.is_none();
        if backup_watcher {
            core.backup_watcher = Some(me);
        }
        if core.watcher.is_none() && core.is_watched() && core.end_watch(false) {
            return core;
        }
        if self.is_worth_another_look(host, worker, &core) {
            return core;
        }
        core.roster.fall_asleep(me);
        drop(core);
        if backup_watcher {
            worker.parker.park_timeout(RELIEF);
        } else {
            worker.parker.park();
        }
        worker.nap = NAP;
        let mut core = self.core.lock();
        core.roster.woke_up(me);
        core
    }

    /// The last look before a sleep without a limit: every condition that could wake.
    fn is_worth_another_look(
        &self,
        host: &dyn Host<I, B>,
        worker: &Worker,
        core: &SchedGuard<'_, I, B>,
    ) -> bool {
        if self.signals.is_stopped() {
            return true;
        }
        if !core.permits.is_any_free() {
            return false; // whoever gives a permit back looks for more first
        }
        if !self.waiting.is_empty() || !self.copies.is_empty() {
            return true;
        }
        match worker.refused {
            PullRefusal::No => false,
            // Whoever leaves the source does so under the scheduler's lock.
            PullRefusal::Busy => host.is_source_free(),
            PullRefusal::Room { wake_at } => {
                self.signals.yielded() >= wake_at || !self.signals.is_room_wanted()
            }
        }
    }
}
