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

use crate::engine::cost::PARTS;
use crate::engine::desk::{Desk, Wake};
use crate::engine::execute;
use crate::engine::race::Failed;
use crate::engine::run::{Claim, Odd, Owning, Run, Share, Taking};
use crate::engine::sched::{Guard, Host, Runner, Sched};
use crate::engine::timing::{Timed, nanos};
use crate::engine::unwind;
use crate::engine::worker::Worker;
use crate::error::Failure;
use crate::sync::Instant;
use std::time::Duration;

/// What came of an item that its owner ran.
enum Ran {
    /// It has been published.
    On(Claim),
    /// Its place was another's meanwhile, and so is the run.
    Lost,
    /// It failed, and its copy takes care of that.
    Left,
}

impl<I, B> Sched<I, B> {
    /// [`execute`](Self::execute) for a timed stage.
    pub(crate) fn execute_timed<'a>(
        &'a self,
        host: &dyn Host<I, B>,
        runner: &mut dyn Runner<I, B>,
        mut run: Owning<I, B>,
        worker: &mut Worker,
        timed: &Timed<I>,
    ) -> Guard<'a, I, B> {
        let (len, began) = (run.len().max(1), Instant::now());
        run.start();
        // What is given up must be in the consumer's reach.
        self.arrive(run.hand().1);
        let mut now = timed.now();
        loop {
            let ran = self.run_timed(host, runner, &mut run, worker, timed, &mut now);
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
        host: &dyn Host<I, B>,
        runner: &mut dyn Runner<I, B>,
        run: &mut Owning<I, B>,
        worker: &mut Worker,
        timed: &Timed<I>,
        now: &mut u64,
    ) -> Ran {
        let (ctl, seq) = (&*self.ctl, run.seq());
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
                let what = execute::panicked(host, seq, payload);
                return Ran::On(self.publish_all(run, seq, what));
            }
        }
        run.clock_in(since);
        ctl.started(seq);
        let outcome = runner.run(item);
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
            what = timed_out(host, seq, timed);
        } else {
            let failed = what.is_err();
            what = what.or_else(|odd| match odd {
                Odd::Panicked(payload) => execute::panicked(host, seq, payload),
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
    fn publish_all(&self, run: &mut Owning<I, B>, seq: u64, what: Result<B, Odd<B>>) -> Claim {
        if what.is_err() {
            self.ctl.fail(seq);
        }
        self.publish(run, what)
    }

    /// What was split off a run whose owner is stuck goes to whoever has time.
    pub(crate) fn pass_on(&self, desk: &mut Desk<I, B>, rest: Option<Owning<I, B>>) -> Wake {
        match rest {
            Some(rest) => {
                self.waiting.push(rest);
                desk.wake()
            }
            None => Wake::Nobody,
        }
    }

    /// Consumer: gives up the item that was started then. `false`: it has just returned.
    fn give_up(
        &self,
        host: &dyn Host<I, B>,
        run: &Run<I, B>,
        since: u64,
        timed: &Timed<I>,
    ) -> bool {
        let mut desk = self.desk.lock();
        let Some(given_up) = run.give_up(since, &mut desk.key) else {
            return false;
        };
        let (left, kept, rivals) = run.race().lock().give_up();
        let rest = self.split(&mut desk, run, Share::Rest);
        let seq = given_up.seq();
        let what = timed_out(host, seq, timed);
        let failed = what.is_err();
        given_up.publish(what, &mut desk.key);
        desk.astray += usize::from(!left);
        let wake = self.pass_on(&mut desk, rest);
        drop(desk);
        self.act(host, wake);
        self.ctl.stray(unwind::discard(kept));
        self.ctl
            .stray(rivals.and_then(|rivals| rivals.win(usize::MAX)));
        if failed {
            self.ctl.fail(seq);
        }
        true
    }

    /// Consumer: gives up what it waits for and is overdue, has run again what is slow, and sets when to look
    /// again. Whether anything was given up.
    pub(crate) fn look_at_clocks<'a>(
        &self,
        host: &dyn Host<I, B>,
        runs: impl Iterator<Item = &'a Taking<I, B>>,
        again: &mut Option<Instant>,
    ) -> bool
    where
        I: 'a,
        B: 'a,
    {
        let Some(timed) = &self.timed else {
            return false;
        };
        let now = timed.now();
        let limit = timed.limit.map(nanos);
        let hedge = timed.hedge.as_ref();
        let hedge = hedge.and_then(|hedge| Some((hedge, nanos(hedge.policy.delay()?))));
        let (mut found, mut check) = (false, u64::MAX);
        for taking in runs {
            let Some(since) = taking.run().since() else {
                continue; // whoever starts it tells
            };
            if let Some(limit) = limit {
                if timed.is_overdue(since, now) {
                    found |= self.give_up(host, taking.run(), since, timed);
                    continue;
                }
                check = check.min(since.saturating_add(limit));
            }
            if let Some((hedge, delay)) = hedge {
                let slow = since.saturating_add(delay);
                if slow > now {
                    check = check.min(slow);
                } else {
                    self.send_copy(host, taking.share(), since, hedge); // or not: once an item
                }
            }
        }
        // What starts from now on is not late sooner than that.
        let soonest = limit.into_iter().chain(hedge.map(|(_, delay)| delay)).min();
        let soonest = soonest.map_or(u64::MAX, |time| now.saturating_add(time));
        self.ctl.set_untimed(check > soonest);
        *again = (check < u64::MAX).then(|| timed.instant(check)).flatten();
        found
    }
}

/// What stands at the place of an item that ran for too long.
fn timed_out<I, B>(host: &dyn Host<I, B>, seq: u64, timed: &Timed<I>) -> Result<B, Odd<B>> {
    let limit = timed.limit.unwrap_or_default();
    let failed = host.failed(Failure::timed_out(seq, limit));
    failed.map_err(Odd::TimedOut)
}
