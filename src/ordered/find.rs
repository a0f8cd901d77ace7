//! How a thread of a stage finds something to run.
//!
//! A worker looks in this order: whole chunks without an owner; the chunk of one other worker that has not
//! moved for a while (one slow item must not hold up those behind it, although there is always something new
//! to pull); the source; unclaimed items in the chunks of other workers; what a puller holds that is stuck in
//! the source. Then it watches or sleeps (see `idle.rs` and `core.rs`).
//!
//! All of it is under the scheduler's lock, except the visit to the source and the run of a copy. Those
//! release the lock, and what may have changed meanwhile is looked at again.

use crate::ordered::chunk::{self, Chunk, ChunkExecutor, StealAmount};
use crate::ordered::core::{Core, Inline, Progress};
use crate::ordered::sched::{Host, ItemRunner, Sched, SchedGuard};
use crate::ordered::worker::{NAP, PullRefusal, STUCK, Worker};
use crate::runtime::meter::Event;
use crate::runtime::roster::Wake;
use crate::sync::{Arc, Instant};
use std::time::Duration;

/// A steal interrupts other cores. Less work than this is left to its owner, as long as that makes progress.
const WORTH_STEALING: Duration = Duration::from_micros(25);
/// A worker that has other work checks one neighbour, and takes it for stuck after this time. Longer than
/// `STUCK`, which is for threads that have nothing else to do.
const STALLED: Duration = Duration::from_micros(200);

impl<I, B> Sched<I, B> {
    /// Finds a chunk to execute. `None`: the thread must leave, because the stage stops or nothing more will
    /// come.
    pub(super) fn find<'a>(
        &'a self,
        host: &dyn Host<I, B>,
        runner: &mut dyn ItemRunner<I, B>,
        worker: &mut Worker,
        mut core: SchedGuard<'a, I, B>,
    ) -> Option<ChunkExecutor<I, B>> {
        loop {
            core = self.steer(host, core);
            // First of all, as this comes after each park too: the thread that stops the stage has set the
            // flag, and then unparked this one. The permit and the watch are not given back, because no
            // thread needs them any more.
            if self.signals.is_stopped() {
                return None;
            }
            // What is left is before the failed item, and others have it in hand. This thread would only fail
            // it as well. What was put aside waits for a thread with a state: there is one, which has parked what
            // stood in the way.
            if core.no_more_states && !runner.has_state() {
                self.leave(host, worker, core);
                return None;
            }
            // Before the look for work: if the consumer is stuck, this takes the source from it, and the look
            // below finds the source free.
            if core.watcher == Some(worker.thread) {
                host.watch_consumer(worker, &mut core);
            }
            core = match self.seek(host, worker, core) {
                Ok(chunk) => return Some(chunk),
                Err(core) => core,
            };
            // Only after a look in vain. In the next round the look has a permit, and can take what it saw.
            if self.borrow_permit(host, worker, &mut core) {
                continue;
            }
            let hedge = self.hedge();
            // Behind all other work, so that a copy keeps no item from being started.
            if let Some((copy, hedge)) = self.take_copy(worker).zip(hedge) {
                // Counted in the critical section in which it was taken, and until the next one. In between a
                // watcher would otherwise take this thread for one whose permit is unused.
                core.copying += 1;
                drop(core);
                self.run_copy(host, runner, worker, copy, hedge);
                core = self.core.lock();
                core.copying -= 1;
                continue;
            }
            // The workers of a hedged stage stay: the consumer may still send copies, and each must find a
            // thread. In any other stage, after the end, no work comes except from what is asked for here.
            if core.end.is_some()
                && hedge.is_none()
                && core.aside.is_empty()
                && !self.is_something_unstarted(&core, worker.thread)
            {
                // This thread is not needed any more, so the pool gets it back while others still run their
                // items.
                self.leave(host, worker, core);
                return None;
            }
            if core.is_wider(worker.permit.as_ref()) {
                continue;
            }
            core = self.idle(host, worker, core);
        }
    }

    /// The thread leaves the stage. A sleeping one has not heard of the reason. It is woken to leave too, and
    /// wakes the next one; or it has a state, and finds what this thread was woken for.
    fn leave(&self, host: &dyn Host<I, B>, worker: &mut Worker, mut core: SchedGuard<'_, I, B>) {
        worker.leave(&mut core);
        let wake = core.wake_sleeper();
        drop(core);
        self.act(host, wake);
    }

    /// Looks for a chunk everywhere, once. `Err` returns the lock: there is none. A thread with a chunk has
    /// been entered in `Core::active`, and has woken the next one if it leaves work behind.
    pub(super) fn seek<'a>(
        &'a self,
        host: &dyn Host<I, B>,
        worker: &mut Worker,
        mut core: SchedGuard<'a, I, B>,
    ) -> Result<ChunkExecutor<I, B>, SchedGuard<'a, I, B>> {
        let me = worker.thread;
        let mut resigned = false;
        // Without a permit only `rescue` is left, which may borrow one.
        if worker.permit.is_none() {
            worker.permit = core.permits.take();
        } else {
            self.pay_for(host, worker, &mut core);
        }
        if worker.permit.is_some() {
            // A waiting chunk is older than everything that is still to be pulled, so the consumer needs it
            // first.
            let found = self
                .take_aside(&mut core)
                .or_else(|| self.adopt(&mut core))
                .or_else(|| self.rob_neighbour(worker, &mut core));
            if let Some(chunk) = found {
                return Ok(self.leave_for(host, worker, core, chunk, resigned));
            }
            if self.may_pull(&core) {
                // In the source this thread cannot watch. A puller that comes after it finds its chunk
                // `ALONE`, and calls a watcher. For a puller that is inside now, `leave_watched` looks at
                // what it holds. This look needs no heavy barrier, unlike that of `end_watch`: if it misses
                // an item, that puller still has the source, so the visit below finds it busy. Then this
                // thread looks at the open chunk again before it sleeps (`rescue`, `idle`), or passes the
                // barrier after all before it runs something (`leave_for`).
                resigned = core.resign(me);
                let wake = self.leave_watched(&mut core, me);
                // The lock is released: the source's lock comes before it in the order of locks, and the
                // source may block. From here to the next `lock` this thread counts as one whose permit is
                // unused, which another may borrow.
                drop(core);
                self.act(host, wake);
                let mut pulled = host.visit_source(worker);
                // One was left to the consumer, and the next one is this thread's.
                if worker.has_left {
                    pulled = host.visit_source(worker);
                    worker.has_left = false;
                }
                if let Some(chunk) = pulled {
                    // `Sched::pulled` has shown the chunk to thieves, and has repaid the permit.
                    return Ok(chunk);
                }
                core = self.core.lock();
                // It was in the source, if only for a moment, so its permit may have been lent. If another
                // thread has entered the source since, and it is the permit of that one, the roles are
                // exchanged: this thread gives up its own, and the other keeps one that was void. The number
                // is the same, and neither runs anything. A thread that found the source busy was not in it,
                // and must not repay for the one inside.
                if worker.refused == PullRefusal::Busy {
                    // The lock was free meanwhile, and the stage may have become narrower.
                    self.pay_for(host, worker, &mut core);
                } else {
                    worker.repay(&mut core);
                }
            } else {
                // It must not wait for a source that it may not enter: the last look before a sleep asks
                // this.
                worker.refused = PullRefusal::No;
            }
        }
        // The permit may be gone by now, if it was lent and no other was free.
        if worker.permit.is_some() {
            // A thread that has just come out of the source may have left a chunk: a puller without a permit
            // does so.
            let found = self
                .take_aside(&mut core)
                .or_else(|| self.adopt(&mut core))
                .or_else(|| self.take_left(&mut core))
                .or_else(|| self.rob_richest(worker, &mut core));
            if let Some(chunk) = found {
                return Ok(self.leave_for(host, worker, core, chunk, resigned));
            }
        }
        // With or without a permit: a rescuer without one borrows that of the puller.
        match self.rescue(worker, &mut core) {
            Some(chunk) => Ok(self.leave_for(host, worker, core, chunk, resigned)),
            None => Err(core),
        }
    }

    /// Idle thread without a permit: takes that of a thread that is stuck in the source, where it runs
    /// nothing, if there is something to run: a whole chunk, unclaimed items, or a copy. The thread in the
    /// source learns of it when it comes out (`WidthPermits::repay`).
    fn borrow_permit(
        &self,
        host: &dyn Host<I, B>,
        worker: &mut Worker,
        core: &mut SchedGuard<'_, I, B>,
    ) -> bool {
        if worker.permit.is_some() || !self.may_lend() {
            return false;
        }
        let work = self.is_something_whole(core, worker.thread);
        // A thread that only tries the source's lock holds the scheduler's lock meanwhile, as this one does
        // now. So if the source is not free, a thread is pulling, and has a permit. One thread at a time is
        // in the source, so if a permit is lent already, there is no second one to borrow.
        if !work || !core.permits.may_lend() || core.permits.is_any_free() || host.is_source_free()
        {
            worker.busy_since = None;
            return false;
        }
        // The time counts over several looks of this thread, with naps in between. The source may have been
        // left and entered again since, so this is a guess. A wrong one does no harm: the permit that is void
        // then belongs to a thread that runs nothing. When it comes out it takes a free one, or leaves its
        // chunk without an owner.
        let since = *worker.busy_since.get_or_insert_with(Instant::now);
        if since.elapsed() < STUCK {
            return false;
        }
        worker.busy_since = None;
        worker.permit = core.permits.lend();
        true
    }

    /// Leaves the search with a chunk: shows it to thieves, passes the watch on, wakes the next thread.
    /// `resigned`: the thread gave up its watch on its way to the source, without a barrier.
    fn leave_for<'a>(
        &'a self,
        host: &dyn Host<I, B>,
        worker: &mut Worker,
        mut core: SchedGuard<'a, I, B>,
        chunk: ChunkExecutor<I, B>,
        resigned: bool,
    ) -> ChunkExecutor<I, B> {
        let me = worker.thread;
        // The next watch begins with short naps. This chunk was not pulled just now, so it says nothing about
        // the source.
        worker.nap = NAP;
        worker.pull = None;
        // Before `end_watch`, which asks whether a thread has a permit and runs nothing: this one runs
        // something now.
        core.activate(me, &chunk);
        // Work that is left for another thread. The first item of the chunk is this thread's.
        let more = |core: &Core<I, B>| chunk.len() > 1 || self.is_something_whole(core, me);
        let mut wake = Wake::Nobody;
        let resigned = core.resign(me) || resigned;
        if resigned && core.watcher.is_none() {
            // While it runs something, this thread does not see what happens in the source. Another must
            // watch if a puller holds items; or if there is more to run, and a thread in the source keeps the
            // permit that it needs.
            let borrows = self.may_lend() && more(&core);
            if core.end_watch(borrows) || !core.is_consumer_watched() {
                wake = self.call_watcher(&mut core);
            }
        }
        // Nobody pulls, and nobody may be awake who would end that if this thread gets stuck in its item.
        let wanted = core.inline == Inline::Wanted && core.watcher.is_none();
        // One wake-up is enough: a thread that was called to watch looks for work first, and wakes the next
        // if it finds some. Without a free permit no thread could run anything.
        if matches!(wake, Wake::Nobody) && core.permits.is_any_free() {
            let worth = wanted || more(&core) || self.is_pull_left(host, &core);
            wake = if worth { core.wake() } else { Wake::Nobody };
        }
        drop(core);
        self.act(host, wake);
        chunk
    }

    /// Whether another thread might pull, and may not know of it. A thread that is woken for room may have found
    /// something else, and the request for that room is gone then. While there is a request, the consumer wakes a
    /// thread. (Where the width changes, the default bound does too, so a request says nothing there.)
    fn is_pull_left(&self, host: &dyn Host<I, B>, core: &Core<I, B>) -> bool {
        let unasked = self.resizable || !self.signals.is_room_wanted();
        self.may_pull(core) && unasked && host.is_source_free()
    }

    fn may_pull(&self, core: &Core<I, B>) -> bool {
        // With `Wanted` or `On` the source is the consumer's, or is to be.
        let open = core.end.is_none() && !matches!(core.inline, Inline::Wanted | Inline::On);
        self.pulls && open && !self.signals.is_cut()
    }

    /// Looks at the chunk of one other worker: at the same one as long as it does not move, then at the next.
    /// So each look costs some loads, whatever the number of workers. Steals everything if the owner is
    /// stuck.
    fn rob_neighbour(
        &self,
        worker: &mut Worker,
        core: &mut SchedGuard<'_, I, B>,
    ) -> Option<ChunkExecutor<I, B>> {
        if let Some(before) = worker.neighbour {
            match core.sight_of(before.thread) {
                Some(now) if now.same(&before) => {
                    // Not for long enough: this thread compares again at its next search.
                    if now.at.duration_since(before.at) < STALLED {
                        return None;
                    }
                    // All of it, and not half: the owner is in one item, and may not come to the others for
                    // long.
                    worker.neighbour = None;
                    let chunk = Arc::clone(core.active(before.thread)?);
                    return self.rob(core, &chunk, StealAmount::Rest);
                }
                _ => {}
            }
        }
        // It has moved, or has nothing left to steal: the next worker's turn. What is seen of it now is
        // compared at a later search.
        let next = (worker.next_neighbour + 1) % core.threads().max(1);
        worker.next_neighbour = next;
        worker.neighbour = if next == worker.thread {
            None
        } else {
            core.sight_of(next)
        };
        None
    }

    /// Takes a part of another worker's chunk.
    fn rob(
        &self,
        core: &mut SchedGuard<'_, I, B>,
        chunk: &Chunk<I, B>,
        amount: StealAmount,
    ) -> Option<ChunkExecutor<I, B>> {
        let stolen = self.split(core, chunk, amount)?;
        self.meter.note(|meter| meter.count_event(Event::Steal));
        Some(stolen)
    }

    /// Steals from the chunk with the most unclaimed items, if that is worth a heavy barrier or its owner is
    /// stuck. Only for a thread that has found the source closed, busy or without room.
    fn rob_richest(
        &self,
        worker: &mut Worker,
        core: &mut SchedGuard<'_, I, B>,
    ) -> Option<ChunkExecutor<I, B>> {
        let (thread, unclaimed) = core.richest(worker.thread)?;
        let now = core.sight_of(thread)?;
        let chunk = Arc::clone(core.active(thread)?);
        // By two looks of this thread, at least `STUCK` apart, with the same sight.
        let stuck = Progress::unmoved(&mut worker.rich, now, STUCK);
        // If the cost is unknown, an item may take seconds, so the steal is worth it.
        let worth = self
            .cost
            .estimate(unclaimed)
            .is_none_or(|work| work >= WORTH_STEALING);
        if !stuck && !worth {
            return None;
        }
        // The chunk is about to change, so the old sight says nothing about it.
        worker.rich = None;
        // `Half`, if the owner makes progress: both have something to do then.
        let share = if stuck {
            StealAmount::Rest
        } else {
            StealAmount::Half
        };
        self.rob(core, &chunk, share)
    }

    /// Rescuer: takes over what a puller holds that is stuck in the source, with the puller's permit if it
    /// has none. The slow side of fill / seal is in `chunk::seal`.
    fn rescue(
        &self,
        worker: &mut Worker,
        core: &mut SchedGuard<'_, I, B>,
    ) -> Option<ChunkExecutor<I, B>> {
        // `open` is set when the chunk is shown, and taken when it is closed or sealed, all under this lock.
        // So the puller has not closed this chunk, and does not before this thread is done.
        let open = Arc::clone(&core.open.as_ref()?.chunk);
        let pulled = open.pulled();
        // The chunk is shown before its first item is in it, so there may be nothing to take over yet.
        if pulled == 0 {
            return None;
        }
        // There is one open chunk at a time, so `first` identifies it, and the thread's number does not
        // matter.
        let now = Progress {
            thread: 0,
            first: open.first(),
            count: pulled,
            at: Instant::now(),
        };
        // At once if the consumer sleeps for these items: then nothing is gained by waiting for the puller.
        let stuck = Progress::unmoved(&mut worker.open, now, STUCK);
        if !stuck && !self.signals.is_starving(open.first()) {
            return None;
        }
        // Before the seal, which cannot be taken back. If a permit is lent already, that of this puller is
        // void, and there is none to run the items with; nor is there while the stage is owed some.
        let borrow = worker.permit.is_none();
        if borrow && (!self.may_lend() || !core.permits.may_lend()) {
            return None;
        }
        // In one critical section: the chunk gets its owner, and is not open any more. With `open` left in
        // place, these items would still count as held by the puller.
        let mut chunk = chunk::seal(&open, &mut core.key)?;
        // Unordered stages: the consumer's handle goes with the items.
        chunk.arrival = core.open.take().and_then(|open| open.arrival);
        if borrow {
            worker.permit = core.permits.lend();
        }
        worker.open = None;
        Some(chunk)
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
