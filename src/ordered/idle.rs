//! A thread of a stage that has found nothing to run. It has no permit, and is in one of three states:
//!
//! | state | as long as | it ends |
//! | --- | --- | --- |
//! | watcher | something may need a rescuer, with no event that would say so | when the nap is over (50 µs to 1 ms), or by a call |
//! | backup watcher | the consumer watches | after 20 ms, or by a wake-up |
//! | asleep | neither | by a wake-up |
//!
//! A thread that watches is not on the list of sleepers. It looks at everything after each nap, so only a
//! thread that cannot wait for that calls it.

use crate::ordered::core::{Inline, Progress};
use crate::ordered::sched::{Host, Sched, SchedGuard};
use crate::ordered::worker::{LONGEST_NAP, NAP, PullRefusal, Worker};
use std::time::Duration;

/// After this time a backup watcher checks whether the consumer still watches.
const RELIEF: Duration = Duration::from_millis(20);

impl<I, B> Sched<I, B> {
    /// Watches for the length of a nap, or sleeps until it is woken. The caller has found nothing in this
    /// critical section, and then looks again.
    pub(super) fn idle<'a>(
        &'a self,
        host: &dyn Host<I, B>,
        worker: &mut Worker,
        mut core: SchedGuard<'a, I, B>,
    ) -> SchedGuard<'a, I, B> {
        let me = worker.thread;
        // In the critical section of the look that found nothing. `Core::wake` wakes no thread while no
        // permit is free, and relies on this: work that was made before this section was seen by that look,
        // and work that is made after it finds the permit free.
        worker.release(&mut core);
        // A backup watcher that is awake is none. It may become one again below.
        core.backup_watcher
            .take_if(|backup_watcher| *backup_watcher == me);
        let flows = core.batches != worker.batches;
        worker.batches = core.batches;
        // The consumer takes over only when the stage is at rest, and this thread may have been the last one
        // that was not. No thread pulls any more, so the item that the consumer sleeps for would not come.
        if core.inline == Inline::Wanted && core.is_at_rest() {
            self.signals.rouse();
        }
        // Work may come without an event, if a puller or an owner gets stuck. `flows` says that pullers have
        // held several items since this thread last looked, so the next pull may get stuck with some.
        let unsure = flows || core.open.is_some() || self.is_something_unstarted(&core, me);
        // Asked once, as it ends by the passing of time. If it ended between the two uses below, this thread
        // would leave the watch to the consumer and not become its backup.
        let looked_after = core.is_looked_after();
        // Without a free permit this thread could only borrow one, or rescue with a borrowed one. The
        // consumer sees between two naps whether that is needed, and calls a watcher
        // (`Cursor::look_after_source`).
        let left_to_consumer = !core.permits.is_any_free() && looked_after;
        // The same if all `n` have been in closures for 1 ms: no permit can be borrowed. A thread that
        // finishes, and enters the source while there is unstarted work, calls a watcher
        // (`Sched::leave_watched`).
        let all = core.sight_of_all();
        let in_vain = all.is_some_and(|all| Progress::unmoved(&mut worker.all, all, LONGEST_NAP));
        // A consumer that runs items itself must be watched, except while it has promised to call a watcher
        // itself.
        let inline = core.inline != Inline::Off && !core.watches_itself;
        let to_watch = inline || unsure && !left_to_consumer && !in_vain;
        // One watcher at most: a nap that finds nothing interrupts a thread that works.
        if to_watch && core.watcher.is_none_or(|watcher| watcher == me) {
            // This makes `OPEN` of `ALONE`, which needs no barrier: a puller that sees the old value asks
            // again under the lock (`Sched::get_watched`).
            core.watcher = Some(me);
            core.set_watched(true);
            drop(core);
            // A call that comes before the park is kept by the parker, and ends the nap at once.
            worker.parker.park_timeout(worker.nap);
            worker.nap = (worker.nap * 2).min(LONGEST_NAP);
            return self.core.lock();
        }
        core.watcher.take_if(|watcher| *watcher == me);
        // Before `end_watch`: with a backup watcher the consumer's watch is enough (`Core::is_covered`), and
        // then the heavy barrier is saved.
        let backup_watcher = looked_after && core.backup_watcher.is_none();
        if backup_watcher {
            core.backup_watcher = Some(me);
        }
        // No thread watches any more, and pullers are still told that one does: this thread was the watcher,
        // or none could be called. If a puller holds items after all, this thread goes round again, and
        // watches or rescues. `false`: with more to start this thread would still watch, unless the consumer
        // does or it would be in vain.
        if core.watcher.is_none() && core.is_watched() && core.end_watch(false) {
            return core;
        }
        // The last look and the entry in the list of sleepers are one critical section: the handshake idle /
        // wake. A thread that creates work takes the lock before, and is seen here; or after, and finds this
        // thread listed.
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
        // A thread that woke by itself is still on the list, and a waker would choose it in place of one that
        // sleeps.
        core.roster.woke_up(me);
        core
    }

    /// The last look before a sleep: every condition for which a thread would be woken. Cheap, but not
    /// complete by itself: unclaimed items and what a puller holds are what `idle` watches for.
    fn is_worth_another_look(
        &self,
        host: &dyn Host<I, B>,
        worker: &Worker,
        core: &SchedGuard<'_, I, B>,
    ) -> bool {
        // Only saves a sleep that would end at once: the thread that stops the stage unparks this one.
        if self.signals.is_stopped() {
            return true;
        }
        // Without a free permit this thread could start nothing. A thread that gives one back has looked for
        // work in the same critical section.
        if !core.permits.is_any_free() {
            return false;
        }
        // Both are pushed before the lock is taken for `Core::wake`. So if this look misses an entry, that
        // call comes later, and finds this thread on the list.
        if !core.unowned.is_empty() || core.left.is_some() || !self.copies.is_empty() {
            return true;
        }
        // The slow side of take / aside was passed by a look for work. If it has been answered since, a thread is
        // being woken, and looks.
        if self.is_any_startable(core) {
            return true;
        }
        match worker.refused {
            PullRefusal::No => false,
            // A puller releases the source while it holds the scheduler's lock, after it has looked for a
            // sleeper to wake (`OrderedStage::leave_source`). If it does so before this section, the source
            // is free here; if after, it finds this thread on the list.
            // For `WorkFirst`: this thread had the source, so no other has called a thread for it. The chunk
            // that came first is gone by now, and the thread that took it may be in a long closure.
            PullRefusal::Busy | PullRefusal::WorkFirst => host.is_source_free(),
            // The slow side of yield / room once more, now under the lock. The consumer takes back the
            // request, and then takes the lock and wakes a thread (`Consumer::advance`). Either this sees the
            // request gone, or the consumer finds this thread on the list.
            // And a thread that changes the width either finds this thread on the list too, or is seen here.
            PullRefusal::Room { wake_at, width } => {
                let is_there = self.signals.yielded() >= wake_at || !self.signals.is_room_wanted();
                is_there || self.cost.width() != width
            }
        }
    }
}
