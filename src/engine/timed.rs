//! Items that may run for so long and no longer.
//!
//! A closure cannot be stopped from outside. What a time limit can do is to decide that its result
//! does not count, to put a failure at the item's place, and to trip the item's token.
//!
//! # Who acts
//!
//! The *owner* times each item: it says when it starts it ([`clock_in`](crate::engine::run::Owning::clock_in)), and when the
//! closure has returned it takes that back ([`clock_out`](crate::engine::run::Owning::clock_out)); if that took too long, the
//! owner publishes the failure. The *consumer* waits for an item only until that is overdue. Then it
//! takes the place from the owner ([`give_up`](crate::engine::run::Run::give_up)), publishes the failure
//! itself, and goes on. One exchange of one word decides between the two, so an item gets one outcome, and
//! the same one whether the consumer was there in time or not: late is late.
//!
//! Nobody has to look for the next deadline while it sleeps: an item that has not been started when
//! the consumer looks cannot be overdue sooner than a whole limit from now.
//!
//! # What becomes of the owner
//!
//! It is *astray*: still in the closure, and still one of the `n`, as whatever the closure uses is still
//! in use. What was left of its run is split off in the same critical section that gives up the item, so
//! nothing waits for it; and when it comes back it finds that the place is not its own, drops its
//! result and touches the run no more. The stage's end does not wait for a thread that is astray, its
//! drop does.

use crate::engine::consumer::Consumer;
use crate::engine::cost::PARTS;
use crate::engine::desk::Wake;
use crate::engine::job::Job;
use crate::engine::run::{Claim, Odd, Share};
use crate::engine::source::Source;
use crate::engine::stage::{OwningOf, RunOf, Shared};
use crate::engine::unwind::{self, catch};
use crate::engine::worker::{Guard, Worker};
use crate::error::Failure;
use crate::sync::{Arc, Instant};
use std::time::Duration;

/// The clock of a timed stage, and its limit.
#[derive(Debug)]
pub(crate) struct Timed {
    limit: Duration,
    born: Instant,
}

impl Timed {
    pub(crate) fn new(limit: Duration) -> Self {
        Timed {
            limit,
            born: Instant::now(),
        }
    }

    /// Now, in ns of the stage's clock; never 0.
    fn now(&self) -> u64 {
        nanos(self.born.elapsed()) | 1
    }

    fn is_overdue(&self, since: u64, now: u64) -> bool {
        now.saturating_sub(since) > nanos(self.limit)
    }

    /// When what was started then will be overdue; `None`: in some centuries.
    fn deadline(&self, since: u64) -> Option<Instant> {
        let started = self.born.checked_add(Duration::from_nanos(since))?;
        started.checked_add(self.limit)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

impl<S: Source, J: Job<S::Item>> Shared<S, J>
where
    S::Item: Send,
{
    /// [`execute`](Self::execute) for a timed stage.
    pub(crate) fn execute_timed<'a>(
        &'a self,
        mut run: OwningOf<S, J>,
        worker: &mut Worker<J::State>,
        timed: &Timed,
    ) -> Guard<'a, S, J> {
        let (len, began) = (run.len().max(1), Instant::now());
        run.start();
        // What is given up must be in the consumer's reach.
        self.arrive(run.hand().1);
        let mut now = timed.now();
        loop {
            let claim = self.run_timed(&mut run, worker, timed, &mut now);
            match claim {
                Some(Claim::Mine) => {}
                Some(Claim::Contested) => {
                    let mut desk = self.desk.lock();
                    if run.settle(&mut desk.key) {
                        continue;
                    }
                    let done = run.next().max(1) as f32;
                    let each = began.elapsed().as_nanos() as f32 / done;
                    self.pace.observe(len, &mut [each; PARTS], worker.pull);
                    desk.deactivate(worker.thread);
                    drop(run);
                    return self.give_way(desk);
                }
                None => {
                    let mut desk = self.desk.lock();
                    desk.astray -= 1;
                    desk.deactivate(worker.thread);
                    drop(run);
                    return desk;
                }
            }
        }
    }

    /// Runs one item. `None`: its place was given up meanwhile, and the run with it.
    fn run_timed(
        &self,
        run: &mut OwningOf<S, J>,
        worker: &mut Worker<J::State>,
        timed: &Timed,
        now: &mut u64,
    ) -> Option<Claim> {
        let (ctl, job, seq) = (&*self.ctl, &self.job, run.seq());
        let item = run.hand().0.take();
        if seq >= ctl.cut() {
            ctl.stray(unwind::discard(item));
            return Some(self.publish(run, Err(Odd::Discarded)));
        }
        let since = *now;
        worker.here.set_seq(seq);
        worker.here.set_deadline(timed.deadline(since));
        run.clock_in(since);
        let state = &mut worker.state;
        let outcome = catch(|| job.run(state.get_or_insert_with(|| job.state()), item));
        *now = timed.now();
        if !run.clock_out(since) {
            worker.here.item_over();
            ctl.stray(unwind::discard(outcome.ok()));
            return None;
        }
        let claim = match outcome {
            Err(payload) => return Some(self.item_panicked(run, worker, payload)),
            Ok((batch, _)) if timed.is_overdue(since, *now) => {
                ctl.stray(unwind::discard(batch));
                let what = self.timed_out(seq, timed);
                if what.is_err() {
                    ctl.fail(seq);
                }
                self.publish(run, what)
            }
            Ok((batch, true)) => {
                ctl.fail(seq);
                self.publish(run, Err(Odd::Last(batch)))
            }
            Ok((batch, false)) => self.publish(run, Ok(batch)),
        };
        worker.here.item_over();
        Some(claim)
    }

    /// What stands at the place of an item that ran for too long.
    fn timed_out(&self, seq: u64, timed: &Timed) -> Result<J::Batch, Odd<J::Batch>> {
        let failed = self.job.failed(Failure::timed_out(seq, timed.limit));
        failed.map_err(Odd::TimedOut)
    }

    /// Consumer: gives up the item that was started then. `false`: it has just returned.
    fn give_up(self: &Arc<Self>, run: &RunOf<S, J>, since: u64, timed: &Timed) -> bool {
        let mut desk = self.desk.lock();
        let Some(given_up) = run.give_up(since, &mut desk.key) else {
            return false;
        };
        let rest = self.split(&mut desk, run, Share::Rest);
        let seq = given_up.seq();
        let what = self.timed_out(seq, timed);
        let failed = what.is_err();
        given_up.publish(what, &mut desk.key);
        desk.astray += 1;
        let wake = match rest {
            Some(rest) => {
                self.waiting.push(rest);
                desk.wake()
            }
            None => Wake::Nobody,
        };
        drop(desk);
        self.act(wake);
        if failed {
            self.ctl.fail(seq);
        }
        true
    }
}

impl<S: Source, J: Job<S::Item>> Consumer<S, J>
where
    S::Item: Send,
{
    /// Gives up what it waits for and is overdue, and sets when to look again. Whether there was any.
    pub(crate) fn give_up_overdue(&mut self, shared: &Arc<Shared<S, J>>) -> bool {
        let Some(timed) = &shared.timed else {
            return false;
        };
        let now = timed.now();
        let mut found = false;
        // What has not been started may be so at any time.
        let mut check = timed.deadline(now);
        for taking in self.head.iter().chain(&self.partial) {
            let Some(since) = taking.run().since() else {
                continue;
            };
            if timed.is_overdue(since, now) {
                found |= shared.give_up(taking.run(), since, timed);
            } else {
                check = timed.deadline(since).into_iter().chain(check).min();
            }
        }
        self.check = check;
        found
    }
}
