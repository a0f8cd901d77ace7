//! How a thread of a stage finds something to run.
//!
//! A worker looks in this order: whole runs that nobody owns; the chunk of one other worker that has
//! not moved for a while (one slow item must not hold its neighbours, although there is always
//! something new to pull); the source; unclaimed items inside other workers' runs; what a puller
//! that is stuck in the source holds. Then it watches or sleeps (see `idle.rs` and `core.rs`).

use crate::ordered::chunk::{self, ChunkExecutor, StealAmount};
use crate::ordered::core::{Core, Inline, Progress};
use crate::ordered::sched::{Host, ItemRunner, Sched, SchedGuard};
use crate::ordered::worker::{NAP, PullRefusal, STUCK, Worker};
use crate::runtime::roster::Wake;
use crate::sync::{Arc, Instant};
use std::time::Duration;

/// A steal interrupts other cores; less work than this is left to its owner if that moves on.
const WORTH_STEALING: Duration = Duration::from_micros(25);
/// A busy worker looks after one neighbour, and takes it for stuck after this.
const STALLED: Duration = Duration::from_micros(200);

impl<I, B> Sched<I, B> {
    /// Finds a chunk to execute; `None` when there will be none any more.
    pub(super) fn find<'a>(
        &'a self,
        host: &dyn Host<I, B>,
        runner: &mut dyn ItemRunner<I, B>,
        worker: &mut Worker,
        mut core: SchedGuard<'a, I, B>,
    ) -> Option<ChunkExecutor<I, B>> {
        loop {
            if self.signals.is_stopped() {
                return None;
            }
            if core.watcher == Some(worker.thread) {
                host.watch_consumer(worker, &mut core);
            }
            core = match self.seek(host, worker, core) {
                Ok(chunk) => return Some(chunk),
                Err(core) => core,
            };
            if self.borrow_permit(host, worker, &mut core) {
                continue;
            }
            let hedge = self.hedge();
            if let Some((copy, hedge)) = self.take_copy(worker).zip(hedge) {
                core.copying += 1;
                drop(core);
                self.run_copy(host, runner, worker, copy, hedge);
                core = self.core.lock();
                core.copying -= 1;
                continue;
            }
            if core.end.is_some()
                && hedge.is_none()
                && !self.is_something_unstarted(&core, worker.thread)
            {
                // This thread is not needed any more, and the pool can have it although others are
                // still at it; nor is one that sleeps, which has not heard of the end.
                worker.leave(&mut core);
                let wake = core.wake_sleeper();
                drop(core);
                self.act(host, wake);
                return None;
            }
            core = self.idle(host, worker, core);
        }
    }

    /// Looks for a chunk everywhere, once; gives the core back if there is none.
    pub(super) fn seek<'a>(
        &'a self,
        host: &dyn Host<I, B>,
        worker: &mut Worker,
        mut core: SchedGuard<'a, I, B>,
    ) -> Result<ChunkExecutor<I, B>, SchedGuard<'a, I, B>> {
        let me = worker.thread;
        if worker.permit.is_none() {
            worker.permit = core.permits.take();
        }
        if worker.permit.is_some() {
            let found = self
                .take_waiting()
                .or_else(|| self.rob_neighbour(worker, &mut core));
            if let Some(chunk) = found {
                return Ok(self.leave_for(host, worker, core, chunk));
            }
            let open = core.end.is_none() && core.inline == Inline::Off;
            if self.pulls && open && !self.signals.is_cut() {
                // In the source this thread watches nobody. Whoever enters it afterwards sees
                // that nobody watches; and if somebody else is in it, this one looks again.
                core.resign(me);
                let wake = self.leave_watched(&mut core, me);
                drop(core);
                self.act(host, wake);
                if let Some(chunk) = host.visit_source(worker) {
                    return Ok(chunk);
                }
                core = self.core.lock();
                if worker.refused != PullRefusal::Busy {
                    worker.repay(&mut core);
                }
            } else {
                worker.refused = PullRefusal::No;
            }
        }
        if worker.permit.is_some() {
            // Who has just come out of the source may have left a chunk.
            let found = self
                .take_waiting()
                .or_else(|| self.rob_richest(worker, &mut core));
            if let Some(chunk) = found {
                return Ok(self.leave_for(host, worker, core, chunk));
            }
        }
        match self.rescue(worker, &mut core) {
            Some(chunk) => Ok(self.leave_for(host, worker, core, chunk)),
            None => Err(core),
        }
    }

    /// Takes the permit of a thread that is stuck in the source, where it runs nothing, if there is
    /// something to run: a chunk that nobody owns, or unclaimed items.
    fn borrow_permit(
        &self,
        host: &dyn Host<I, B>,
        worker: &mut Worker,
        core: &mut SchedGuard<'_, I, B>,
    ) -> bool {
        if worker.permit.is_some() || !self.may_lend() {
            return false;
        }
        let work = !self.waiting.is_empty() || core.richest(worker.thread).is_some();
        // Who peeks at the source does so under the scheduler's lock, so this is somebody pulling.
        if !work || core.permits.is_lent() || core.permits.is_any_free() || host.is_source_free() {
            worker.busy_since = None;
            return false;
        }
        let since = *worker.busy_since.get_or_insert_with(Instant::now);
        if since.elapsed() < STUCK {
            return false;
        }
        worker.busy_since = None;
        worker.permit = core.permits.lend();
        true
    }

    /// Leaves the idle state with a chunk: activates it, passes the watch on, wakes the next.
    fn leave_for<'a>(
        &'a self,
        host: &dyn Host<I, B>,
        worker: &mut Worker,
        mut core: SchedGuard<'a, I, B>,
        chunk: ChunkExecutor<I, B>,
    ) -> ChunkExecutor<I, B> {
        let me = worker.thread;
        worker.nap = NAP;
        worker.pull = None;
        core.activate(me, &chunk);
        let more = |core: &Core<I, B>| {
            chunk.len() > 1 || !self.waiting.is_empty() || core.richest(me).is_some()
        };
        let mut wake = Wake::Nobody;
        if core.resign(me) {
            // This thread has no eye for the source while it runs something.
            let borrows = self.may_lend() && more(&core);
            if core.end_watch(borrows) {
                wake = self.call_watcher(&mut core);
            }
        }
        if matches!(wake, Wake::Nobody) && core.permits.is_any_free() && more(&core) {
            wake = core.wake();
        }
        drop(core);
        self.act(host, wake);
        chunk
    }

    /// A look at one other worker's run: at the same one while it does not move, else at the next.
    fn rob_neighbour(
        &self,
        worker: &mut Worker,
        core: &mut SchedGuard<'_, I, B>,
    ) -> Option<ChunkExecutor<I, B>> {
        if let Some(before) = worker.neighbour {
            match core.sight_of(before.thread) {
                Some(now) if now.same(&before) => {
                    if now.at.duration_since(before.at) < STALLED {
                        return None;
                    }
                    worker.neighbour = None;
                    let chunk = Arc::clone(core.active(before.thread)?);
                    return self.split(core, &chunk, StealAmount::Rest);
                }
                _ => {}
            }
        }
        let next = (worker.next_neighbour + 1) % core.threads().max(1);
        worker.next_neighbour = next;
        worker.neighbour = if next == worker.thread {
            None
        } else {
            core.sight_of(next)
        };
        None
    }

    /// Steals from the chunk with the most unclaimed items, if it is worth it or its owner is stuck.
    fn rob_richest(
        &self,
        worker: &mut Worker,
        core: &mut SchedGuard<'_, I, B>,
    ) -> Option<ChunkExecutor<I, B>> {
        let (thread, unclaimed) = core.richest(worker.thread)?;
        let now = core.sight_of(thread)?;
        let chunk = Arc::clone(core.active(thread)?);
        let stuck = Progress::unmoved(&mut worker.rich, now, STUCK);
        let worth = self
            .cost
            .estimate(unclaimed)
            .is_none_or(|work| work >= WORTH_STEALING);
        if !stuck && !worth {
            return None;
        }
        worker.rich = None;
        let share = if stuck {
            StealAmount::Rest
        } else {
            StealAmount::Half
        };
        self.split(core, &chunk, share)
    }

    /// Takes over what a puller holds that is stuck in the source, with its permit if need be.
    fn rescue(
        &self,
        worker: &mut Worker,
        core: &mut SchedGuard<'_, I, B>,
    ) -> Option<ChunkExecutor<I, B>> {
        let open = Arc::clone(&core.open.as_ref()?.chunk);
        let pulled = open.pulled();
        if pulled == 0 {
            return None;
        }
        let now = Progress {
            thread: 0,
            first: open.first(),
            count: pulled,
            at: Instant::now(),
        };
        let stuck = Progress::unmoved(&mut worker.open, now, STUCK);
        if !stuck && !self.signals.is_starving(open.first()) {
            return None;
        }
        let borrow = worker.permit.is_none();
        if borrow && (!self.may_lend() || core.permits.is_lent()) {
            return None;
        }
        let mut chunk = chunk::seal(&open, &mut core.key)?;
        chunk.arrival = core.open.take().and_then(|open| open.arrival);
        if borrow {
            worker.permit = core.permits.lend();
        }
        worker.open = None;
        Some(chunk)
    }
}
