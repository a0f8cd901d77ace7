//! A thread of a stage that has found nothing: it watches for a while, or sleeps until it is woken.

use crate::engine::desk::{Inline, Sight};
use crate::engine::sched::{Guard, Host, Sched};
use crate::engine::worker::{LONGEST_NAP, NAP, Refused, Worker};
use std::time::Duration;

/// After so long a deputy looks whether the consumer still watches.
const RELIEF: Duration = Duration::from_millis(20);

impl<I, B> Sched<I, B> {
    /// Watches for a while, or sleeps until woken.
    pub(crate) fn idle<'a>(
        &'a self,
        host: &dyn Host<I, B>,
        worker: &mut Worker,
        mut desk: Guard<'a, I, B>,
    ) -> Guard<'a, I, B> {
        let me = worker.thread;
        worker.release(&mut desk);
        desk.deputy.take_if(|deputy| *deputy == me);
        let flows = desk.batches != worker.batches;
        worker.batches = desk.batches;
        if desk.inline == Inline::Wanted && desk.is_at_rest() {
            self.ctl.rouse();
        }
        let unsure = flows || desk.open.is_some() || self.is_something_unstarted(&desk, me);
        // Asked once: in between it may come to an end, and nobody would watch.
        let looked_after = desk.is_looked_after();
        // Without a permit it would only see what the consumer sees between two naps.
        let left_to_consumer = desk.permits == 0 && looked_after;
        // Or if all `n` are long in closures. Who of them is done, and goes into the source, calls.
        let all = desk.sight_of_all();
        let in_vain = all.is_some_and(|all| Sight::unmoved(&mut worker.all, all, LONGEST_NAP));
        let inline = desk.inline != Inline::Off && !desk.watches_itself;
        let to_watch = inline || unsure && !left_to_consumer && !in_vain;
        if to_watch && desk.watcher.is_none_or(|watcher| watcher == me) {
            desk.watcher = Some(me);
            desk.set_watched(true);
            drop(desk);
            worker.parker.park_timeout(worker.nap);
            worker.nap = (worker.nap * 2).min(LONGEST_NAP);
            return self.desk.lock();
        }
        desk.watcher.take_if(|watcher| *watcher == me);
        let deputy = looked_after && desk.deputy.is_none();
        if deputy {
            desk.deputy = Some(me);
        }
        if desk.watcher.is_none() && desk.is_watched() && desk.end_watch(false) {
            return desk;
        }
        if self.is_worth_another_look(host, worker, &desk) {
            return desk;
        }
        desk.fall_asleep(me);
        drop(desk);
        if deputy {
            worker.parker.park_timeout(RELIEF);
        } else {
            worker.parker.park();
        }
        worker.nap = NAP;
        let mut desk = self.desk.lock();
        desk.woke_up(me);
        desk
    }

    /// The last look before a sleep without a limit: every condition that could wake.
    fn is_worth_another_look(
        &self,
        host: &dyn Host<I, B>,
        worker: &Worker,
        desk: &Guard<'_, I, B>,
    ) -> bool {
        if self.ctl.is_stopped() {
            return true;
        }
        if desk.permits == 0 {
            return false; // whoever gives a permit back looks for more first
        }
        if !self.waiting.is_empty() || !self.copies.is_empty() {
            return true;
        }
        match worker.refused {
            Refused::No => false,
            // Whoever leaves the source does so under the desk's lock.
            Refused::Busy => host.is_source_free(),
            Refused::Room { wake_at } => {
                self.ctl.yielded() >= wake_at || !self.ctl.is_room_wanted()
            }
        }
    }
}
