//! How a thread of a stage finds something to run.
//!
//! A worker looks in this order: whole runs that nobody owns; the run of one other worker that has
//! not moved for a while (one slow item must not hold its neighbours, although there is always
//! something new to pull); the source; unclaimed items inside other workers' runs; what a puller
//! that is stuck in the source holds. Then it watches or sleeps (see `idle.rs` and `desk.rs`).

use crate::engine::desk::{Desk, Inline, Sight, Wake};
use crate::engine::run::{self, Owning, Share};
use crate::engine::sched::{Guard, Host, Runner, Sched};
use crate::engine::worker::{NAP, Refused, STUCK, Worker};
use crate::sync::{Arc, Instant};
use std::time::Duration;

/// A steal interrupts other cores; less work than this is left to its owner if that moves on.
const WORTH_STEALING: Duration = Duration::from_micros(25);
/// A busy worker looks after one neighbour, and takes it for stuck after this.
const STALLED: Duration = Duration::from_micros(200);

impl<I, B> Sched<I, B> {
    /// Finds a run to execute; `None` when there will be none any more.
    pub(crate) fn find<'a>(
        &'a self,
        host: &dyn Host<I, B>,
        runner: &mut dyn Runner<I, B>,
        worker: &mut Worker,
        mut desk: Guard<'a, I, B>,
    ) -> Option<Owning<I, B>> {
        loop {
            if self.ctl.is_stopped() {
                return None;
            }
            if desk.watcher == Some(worker.thread) {
                host.watch_consumer(worker, &mut desk);
            }
            desk = match self.seek(host, worker, desk) {
                Ok(run) => return Some(run),
                Err(desk) => desk,
            };
            if self.borrow_permit(host, worker, &mut desk) {
                continue;
            }
            let hedge = self.hedge();
            if let Some((copy, hedge)) = self.take_copy(worker).zip(hedge) {
                desk.copying += 1;
                drop(desk);
                self.run_copy(host, runner, worker, copy, hedge);
                desk = self.desk.lock();
                desk.copying -= 1;
                continue;
            }
            if desk.end.is_some()
                && hedge.is_none()
                && !self.is_something_unstarted(&desk, worker.thread)
            {
                // This thread is not needed any more, and the pool can have it although others are
                // still at it; nor is one that sleeps, which has not heard of the end.
                worker.leave(&mut desk);
                let wake = desk.wake_sleeper();
                drop(desk);
                self.act(host, wake);
                return None;
            }
            desk = self.idle(host, worker, desk);
        }
    }

    /// Looks for a run everywhere, once; gives the desk back if there is none.
    pub(crate) fn seek<'a>(
        &'a self,
        host: &dyn Host<I, B>,
        worker: &mut Worker,
        mut desk: Guard<'a, I, B>,
    ) -> Result<Owning<I, B>, Guard<'a, I, B>> {
        let me = worker.thread;
        if !worker.permit && desk.permits > 0 {
            desk.permits -= 1;
            worker.permit = true;
        }
        if worker.permit {
            let found = self
                .take_waiting()
                .or_else(|| self.rob_neighbour(worker, &mut desk));
            if let Some(run) = found {
                return Ok(self.leave_for(host, worker, desk, run));
            }
            let open = desk.end.is_none() && desk.inline == Inline::Off;
            if self.pulls && open && !self.ctl.is_cut() {
                // In the source this thread watches nobody. Whoever enters it afterwards sees
                // that nobody watches; and if somebody else is in it, this one looks again.
                desk.resign(me);
                let wake = self.leave_watched(&mut desk, me);
                drop(desk);
                self.act(host, wake);
                if let Some(run) = host.visit_source(worker) {
                    return Ok(run);
                }
                desk = self.desk.lock();
                if worker.refused != Refused::Busy {
                    worker.repay(&mut desk);
                }
            } else {
                worker.refused = Refused::No;
            }
        }
        if worker.permit {
            // Who has just come out of the source may have left a run.
            let found = self
                .take_waiting()
                .or_else(|| self.rob_richest(worker, &mut desk));
            if let Some(run) = found {
                return Ok(self.leave_for(host, worker, desk, run));
            }
        }
        match self.rescue(worker, &mut desk) {
            Some(run) => Ok(self.leave_for(host, worker, desk, run)),
            None => Err(desk),
        }
    }

    /// Takes the permit of a thread that is stuck in the source, where it runs nothing, if there is
    /// something to run: a run that nobody owns, or unclaimed items.
    fn borrow_permit(
        &self,
        host: &dyn Host<I, B>,
        worker: &mut Worker,
        desk: &mut Guard<'_, I, B>,
    ) -> bool {
        if worker.permit || !self.may_lend() {
            return false;
        }
        let work = !self.waiting.is_empty() || desk.richest(worker.thread).is_some();
        // Who peeks at the source does so under the desk's lock, so this is somebody pulling.
        if !work || desk.lent || desk.permits > 0 || host.is_source_free() {
            worker.busy_since = None;
            return false;
        }
        let since = *worker.busy_since.get_or_insert_with(Instant::now);
        if since.elapsed() < STUCK {
            return false;
        }
        worker.busy_since = None;
        desk.lent = true;
        worker.permit = true;
        true
    }

    /// Leaves the idle state with a run: activates it, passes the watch on, wakes the next.
    fn leave_for<'a>(
        &'a self,
        host: &dyn Host<I, B>,
        worker: &mut Worker,
        mut desk: Guard<'a, I, B>,
        run: Owning<I, B>,
    ) -> Owning<I, B> {
        let me = worker.thread;
        worker.nap = NAP;
        worker.pull = None;
        desk.activate(me, &run);
        let more = |desk: &Desk<I, B>| {
            run.len() > 1 || !self.waiting.is_empty() || desk.richest(me).is_some()
        };
        let mut wake = Wake::Nobody;
        if desk.resign(me) {
            // This thread has no eye for the source while it runs something.
            let borrows = self.may_lend() && more(&desk);
            if desk.end_watch(borrows) {
                wake = self.call_watcher(&mut desk);
            }
        }
        if matches!(wake, Wake::Nobody) && desk.permits > 0 && more(&desk) {
            wake = desk.wake();
        }
        drop(desk);
        self.act(host, wake);
        run
    }

    /// A look at one other worker's run: at the same one while it does not move, else at the next.
    fn rob_neighbour(
        &self,
        worker: &mut Worker,
        desk: &mut Guard<'_, I, B>,
    ) -> Option<Owning<I, B>> {
        if let Some(before) = worker.neighbour {
            match desk.sight_of(before.thread) {
                Some(now) if now.same(&before) => {
                    if now.at.duration_since(before.at) < STALLED {
                        return None;
                    }
                    worker.neighbour = None;
                    let run = Arc::clone(desk.active(before.thread)?);
                    return self.split(desk, &run, Share::Rest);
                }
                _ => {}
            }
        }
        let next = (worker.next_neighbour + 1) % desk.threads().max(1);
        worker.next_neighbour = next;
        worker.neighbour = if next == worker.thread {
            None
        } else {
            desk.sight_of(next)
        };
        None
    }

    /// Steals from the run with the most unclaimed items, if it is worth it or its owner is stuck.
    fn rob_richest(&self, worker: &mut Worker, desk: &mut Guard<'_, I, B>) -> Option<Owning<I, B>> {
        let (thread, unclaimed) = desk.richest(worker.thread)?;
        let now = desk.sight_of(thread)?;
        let run = Arc::clone(desk.active(thread)?);
        let stuck = Sight::unmoved(&mut worker.rich, now, STUCK);
        let worth = self
            .pace
            .estimate(unclaimed)
            .is_none_or(|work| work >= WORTH_STEALING);
        if !stuck && !worth {
            return None;
        }
        worker.rich = None;
        let share = if stuck { Share::Rest } else { Share::Half };
        self.split(desk, &run, share)
    }

    /// Takes over what a puller holds that is stuck in the source, with its permit if need be.
    fn rescue(&self, worker: &mut Worker, desk: &mut Guard<'_, I, B>) -> Option<Owning<I, B>> {
        let open = Arc::clone(&desk.open.as_ref()?.run);
        let pulled = open.pulled();
        if pulled == 0 {
            return None;
        }
        let now = Sight {
            thread: 0,
            first: open.first(),
            count: pulled,
            at: Instant::now(),
        };
        let stuck = Sight::unmoved(&mut worker.open, now, STUCK);
        if !stuck && !self.ctl.is_starving(open.first()) {
            return None;
        }
        let borrow = !worker.permit;
        if borrow && (!self.may_lend() || desk.lent) {
            return None;
        }
        let mut run = run::seal(&open, &mut desk.key)?;
        run.arrival = desk.open.take().and_then(|open| open.arrival);
        if borrow {
            desk.lent = true;
            worker.permit = true;
        }
        worker.open = None;
        Some(run)
    }
}
