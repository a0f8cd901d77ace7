//! Items that are timed one by one: those that may run for so long and no longer, and those that
//! run a second time if they are slow ([`hedged`](crate::engine::hedged)).
//!
//! A closure cannot be stopped from outside. What a time limit can do is to decide that its result
//! does not count, to put a failure at the item's place, and to trip the item's token.
//!
//! # Who acts
//!
//! The *owner* times each item: it says when it starts it ([`clock_in`](crate::engine::run::Owning::clock_in)),
//! and when the closure has returned it takes that back
//! ([`clock_out`](crate::engine::run::Owning::clock_out)); if that took too long, the owner publishes the
//! failure. The *consumer* waits for an item only until that is overdue. Then it takes the place from the
//! owner ([`give_up`](crate::engine::run::Run::give_up)), publishes the failure itself, and goes on. One
//! exchange of one word decides between the two, so an item gets one outcome, and the same one whether the
//! consumer was there in time or not: late is late.
//!
//! The consumer sleeps until the next deadline of what runs, and without a limit if nothing does. An item
//! that is started meanwhile may need a timer that there is not. So before it looks at what runs the
//! consumer says that it has none, and passes the heavy barrier ([`Ctl::sleep_for`](crate::engine::ctl::Ctl::sleep_for));
//! an owner says that it starts an item, passes the light one, and wakes a consumer that sleeps for that item
//! ([`Ctl::started`](crate::engine::ctl::Ctl::started)). Either the consumer sees the start, or the owner
//! sees the consumer. When it has looked, and its timer is not later than any that such an item could need,
//! the consumer takes back what it said; so a start wakes it once a sleep at most, and only if nothing ran.
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
use crate::engine::hedged::Hedge;
use crate::engine::job::Job;
use crate::engine::race::Failed;
use crate::engine::run::{Claim, Odd, Share};
use crate::engine::source::Source;
use crate::engine::stage::{DeskOf, OwningOf, RunOf, Shared};
use crate::engine::unwind::{self, catch};
use crate::engine::worker::{Guard, Worker};
use crate::error::Failure;
use crate::sync::{Arc, Instant};
use std::time::Duration;

/// The clock of a timed stage, and what it is for.
#[derive(Debug)]
pub(crate) struct Timed<I> {
    limit: Option<Duration>,
    pub(crate) hedge: Option<Hedge<I>>,
    born: Instant,
}

impl<I> Timed<I> {
    /// `None`: for nothing.
    pub(crate) fn new(limit: Option<Duration>, hedge: Option<Hedge<I>>) -> Option<Self> {
        (limit.is_some() || hedge.is_some()).then(|| Timed {
            limit,
            hedge,
            born: Instant::now(),
        })
    }

    /// Now, in ns of the stage's clock; never 0.
    fn now(&self) -> u64 {
        nanos(self.born.elapsed()) | 1
    }

    fn is_overdue(&self, since: u64, now: u64) -> bool {
        self.limit
            .is_some_and(|limit| now.saturating_sub(since) > nanos(limit))
    }

    /// Whether what was started then is overdue now.
    pub(crate) fn is_over(&self, since: u64) -> bool {
        self.is_overdue(since, self.now())
    }

    /// When what was started then will be overdue; `None`: never, or in some centuries.
    pub(crate) fn deadline(&self, since: u64) -> Option<Instant> {
        self.instant(since)?.checked_add(self.limit?)
    }

    fn instant(&self, nanos: u64) -> Option<Instant> {
        self.born.checked_add(Duration::from_nanos(nanos))
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// What came of an item that its owner ran.
enum Ran {
    /// It has been published.
    On(Claim),
    /// Its place was another's meanwhile, and so is the run.
    Lost,
    /// It failed, and its copy takes care of that.
    Left,
}

impl<S: Source, J: Job<S::Item>> Shared<S, J>
where
    S::Item: Send,
{
    /// What a hedged stage has for that.
    pub(crate) fn hedge(&self) -> Option<&Hedge<S::Item>> {
        self.timed.as_ref()?.hedge.as_ref()
    }

    /// [`execute`](Self::execute) for a timed stage.
    pub(crate) fn execute_timed<'a>(
        &'a self,
        mut run: OwningOf<S, J>,
        worker: &mut Worker<J::State>,
        timed: &Timed<S::Item>,
    ) -> Guard<'a, S, J> {
        let (len, began) = (run.len().max(1), Instant::now());
        run.start();
        // What is given up must be in the consumer's reach.
        self.arrive(run.hand().1);
        let mut now = timed.now();
        loop {
            let ran = self.run_timed(&mut run, worker, timed, &mut now);
            let mut desk = match ran {
                Ran::On(Claim::Mine) => continue,
                _ => self.desk.lock(),
            };
            match ran {
                Ran::On(_) => {
                    if run.settle(&mut desk.key) {
                        continue;
                    }
                    let done = run.next().max(1) as f32;
                    let each = began.elapsed().as_nanos() as f32 / done;
                    self.pace.observe(len, &mut [each; PARTS], worker.pull);
                }
                Ran::Lost => desk.astray -= 1,
                Ran::Left => {
                    if let Some(rest) = self.split(&mut desk, run.run(), Share::Rest) {
                        self.waiting.push(rest); // this thread looks there next
                    }
                }
            }
            desk.deactivate(worker.thread);
            drop(run);
            return self.give_way(desk);
        }
    }

    /// Runs one item.
    fn run_timed(
        &self,
        run: &mut OwningOf<S, J>,
        worker: &mut Worker<J::State>,
        timed: &Timed<S::Item>,
        now: &mut u64,
    ) -> Ran {
        let (ctl, job, seq) = (&*self.ctl, &self.job, run.seq());
        let item = run.hand().0.take();
        if seq >= ctl.cut() {
            ctl.stray(unwind::discard(item));
            return Ran::On(self.publish(run, Err(Odd::Discarded)));
        }
        let (since, hedge) = (*now, timed.hedge.as_ref());
        worker.here.set_seq(seq);
        worker.here.set_deadline(timed.deadline(since));
        if let Some(hedge) = hedge {
            if let Err(payload) = Self::begin_race(run, worker, &item, since, hedge) {
                ctl.stray(unwind::discard(item));
                let what = self.panicked(seq, payload);
                return Ran::On(self.publish_all(run, seq, what));
            }
        }
        run.clock_in(since);
        ctl.started(seq);
        let state = &mut worker.state;
        let outcome = catch(|| job.run(state.get_or_insert_with(|| job.state()), item));
        // Later than the start in any case, so that no two items of a run have the same.
        *now = timed.now().max(since + 2);
        let in_vain = worker.here.item_over();
        let mut what = match outcome {
            Ok((batch, false)) if in_vain => {
                ctl.stray(unwind::discard(batch));
                Err(Odd::Discarded)
            }
            Ok((batch, false)) => {
                if let Some(hedge) = hedge {
                    self.record(hedge, Duration::from_nanos(*now - since));
                }
                Ok(batch)
            }
            Ok((batch, true)) => Err(Odd::Last(batch)),
            Err(payload) => Err(Odd::Panicked(payload)),
        };
        let late = timed.is_overdue(since, *now);
        if late {
            ctl.stray(unwind::discard(what));
            what = self.timed_out(seq, timed);
        } else {
            let failed = what.is_err();
            what = what.or_else(|odd| match odd {
                Odd::Panicked(payload) => self.panicked(seq, payload),
                odd => Err(odd),
            });
            if failed && hedge.is_some() {
                match run.run().race().lock().failed(what) {
                    Failed::Counts(counts) | Failed::Over(counts) => what = counts,
                    Failed::Left => {
                        worker.here.set_race(None);
                        return Ran::Left;
                    }
                }
            }
        }
        let mine = run.clock_out(since);
        if hedge.is_some() {
            self.end_race(run, worker, mine);
        }
        if mine {
            Ran::On(self.publish_all(run, seq, what))
        } else {
            ctl.stray(unwind::discard(what));
            Ran::Lost
        }
    }

    /// Publishes what is a failure or is none.
    fn publish_all(
        &self,
        run: &mut OwningOf<S, J>,
        seq: u64,
        what: Result<J::Batch, Odd<J::Batch>>,
    ) -> Claim {
        if what.is_err() {
            self.ctl.fail(seq);
        }
        self.publish(run, what)
    }

    /// What stands at the place of an item that ran for too long.
    fn timed_out(&self, seq: u64, timed: &Timed<S::Item>) -> Result<J::Batch, Odd<J::Batch>> {
        let limit = timed.limit.unwrap_or_default();
        let failed = self.job.failed(Failure::timed_out(seq, limit));
        failed.map_err(Odd::TimedOut)
    }

    /// What was split off a run whose owner is stuck goes to whoever has time.
    pub(crate) fn pass_on(&self, desk: &mut DeskOf<S, J>, rest: Option<OwningOf<S, J>>) -> Wake {
        match rest {
            Some(rest) => {
                self.waiting.push(rest);
                desk.wake()
            }
            None => Wake::Nobody,
        }
    }

    /// Consumer: gives up the item that was started then. `false`: it has just returned.
    fn give_up(self: &Arc<Self>, run: &RunOf<S, J>, since: u64, timed: &Timed<S::Item>) -> bool {
        let mut desk = self.desk.lock();
        let Some(given_up) = run.give_up(since, &mut desk.key) else {
            return false;
        };
        let (left, kept, rivals) = run.race().lock().give_up();
        let rest = self.split(&mut desk, run, Share::Rest);
        let seq = given_up.seq();
        let what = self.timed_out(seq, timed);
        let failed = what.is_err();
        given_up.publish(what, &mut desk.key);
        desk.astray += usize::from(!left);
        let wake = self.pass_on(&mut desk, rest);
        drop(desk);
        self.act(wake);
        self.ctl.stray(unwind::discard(kept));
        self.ctl
            .stray(rivals.and_then(|rivals| rivals.win(usize::MAX)));
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
    /// Gives up what it waits for and is overdue, has run again what is slow, and sets when to look
    /// again. Whether anything was given up.
    pub(crate) fn look_at_clocks(&mut self, shared: &Arc<Shared<S, J>>) -> bool {
        let Some(timed) = &shared.timed else {
            return false;
        };
        let now = timed.now();
        let limit = timed.limit.map(nanos);
        let hedge = timed.hedge.as_ref();
        let hedge = hedge.and_then(|hedge| Some((hedge, nanos(hedge.policy.delay()?))));
        let (mut found, mut check) = (false, u64::MAX);
        for taking in self.head.iter().chain(&self.partial) {
            let Some(since) = taking.run().since() else {
                continue; // whoever starts it tells
            };
            if let Some(limit) = limit {
                if timed.is_overdue(since, now) {
                    found |= shared.give_up(taking.run(), since, timed);
                    continue;
                }
                check = check.min(since.saturating_add(limit));
            }
            if let Some((hedge, delay)) = hedge {
                let slow = since.saturating_add(delay);
                if slow > now {
                    check = check.min(slow);
                } else {
                    shared.send_copy(taking.share(), since, hedge); // or not: once an item
                }
            }
        }
        // What starts from now on is not late sooner than that.
        let soonest = limit.into_iter().chain(hedge.map(|(_, delay)| delay)).min();
        let soonest = soonest.map_or(u64::MAX, |time| now.saturating_add(time));
        shared.ctl.set_untimed(check > soonest);
        self.check = (check < u64::MAX).then(|| timed.instant(check)).flatten();
        found
    }
}
