//! Hedged stages: an item that is slow runs a second time, and the first result takes its place.
//!
//! # Who acts
//!
//! The owner of an item keeps a clone of it (the *spare*) while it runs, and times it as in any
//! [timed](crate::engine::timed) stage. The consumer waits for the item; when that is slower than the
//! policy's delay, and the budget allows it, the consumer takes the spare and puts it into `copies`. A
//! worker that has looked everywhere else and found nothing takes it from there and runs it: this is the
//! *copy*. So a copy never keeps an item from being started, unless it is already running.
//!
//! # One result
//!
//! - *Both succeed, or one does.* The place goes to whoever exchanges `since` first: the owner as always,
//!   the copy as one who [gives the item up](crate::engine::run::Run::give_up) for it. The other drops its result.
//! - *The copy fails.* It says so in the [`Race`], and its failure is dropped: the owner's counts.
//! - *The owner fails.* If a copy has been sent and has not failed, the failure is kept in the race and
//!   the owner leaves; the copy publishes its own success, or what was kept. Else the owner publishes.
//!
//! Both of the last are decided under the lock of the race, so of two that fail one sees the other, and
//! no failure is lost. An item that is given up because its time is over drops what was kept.
//!
//! A copy that was sent is always taken by somebody, who then looks whether it is still wanted: also
//! after a cancellation, as the owner may have left its failure to it. Only the end of the stage, after
//! which nobody waits for anything, drops it unseen. For that, workers of a hedged stage stay until its
//! end.

use crate::engine::cancel::Rivals;
use crate::engine::job::Job;
use crate::engine::policy::HedgePolicy;
use crate::engine::race::Race;
use crate::engine::run::{Odd, Run, Share};
use crate::engine::source::Source;
use crate::engine::stage::{OwningOf, RunOf, Shared, steal};
use crate::engine::unwind::{self, Payload, catch};
use crate::engine::worker::Worker;
use crate::sync::{Arc, AtomicUsize, Ordering};
use std::time::Duration;

/// How to clone an item, where that it can be is no longer known.
pub(crate) type CloneItem<I> = fn(&I) -> I;

/// What a hedged stage has beside what any timed one has.
#[derive(Debug)]
pub(crate) struct Hedge<I> {
    pub(crate) policy: HedgePolicy,
    pub(crate) clone: CloneItem<I>,
    /// How many copies have been sent and are not over.
    copies: AtomicUsize,
}

impl<I> Hedge<I> {
    pub(crate) fn new(policy: HedgePolicy, clone: CloneItem<I>) -> Self {
        Hedge {
            policy,
            clone,
            copies: AtomicUsize::new(0),
        }
    }

    pub(crate) fn copies(&self) -> usize {
        self.copies.load(Ordering::Relaxed)
    }
}

/// An item that is to run a second time.
#[derive(Debug)]
pub(crate) struct Copy<I, B> {
    run: Arc<Run<I, B>>,
    since: u64,
    seq: u64,
    item: I,
    rivals: Arc<Rivals>,
}

/// The type of a stage's copies.
pub(crate) type CopyOf<S, J> = Copy<<S as Source>::Item, <J as Job<<S as Source>::Item>>::Batch>;

impl<S: Source, J: Job<S::Item>> Shared<S, J>
where
    S::Item: Send,
{
    /// Consumer: the item that was started then is slow.
    pub(crate) fn send_copy(
        self: &Arc<Self>,
        run: Arc<RunOf<S, J>>,
        since: u64,
        hedge: &Hedge<S::Item>,
    ) {
        let mut race = run.race().lock();
        // The owner begins an item under this lock, so the race is about this one.
        let claimed = race
            .rivals
            .as_ref()
            .is_some_and(|rivals| rivals.is_claimed());
        if race.since != since || run.since() != Some(since) || claimed {
            return;
        }
        let (Some(item), Some(rivals)) = (race.spare.take(), race.rivals.clone()) else {
            return;
        };
        if !hedge.policy.try_hedge() {
            drop(race);
            self.ctl.stray(unwind::discard(item));
            return;
        }
        race.sent();
        drop(race);
        hedge.copies.fetch_add(1, Ordering::Relaxed);
        let seq = run.first() + run.published() as u64;
        self.copies.push(Copy {
            run,
            since,
            seq,
            item,
            rivals,
        });
        let wake = self.desk.lock().wake();
        self.act(wake);
    }

    /// Worker, which has nothing else to do: takes a copy.
    pub(crate) fn take_copy(&self, worker: &Worker<J::State>) -> Option<CopyOf<S, J>> {
        worker.permit.then(|| steal(&self.copies))?
    }

    /// Runs it.
    pub(crate) fn run_copy(
        self: &Arc<Self>,
        worker: &mut Worker<J::State>,
        copy: CopyOf<S, J>,
        hedge: &Hedge<S::Item>,
    ) {
        let (run, since, seq) = (copy.run, copy.since, copy.seq);
        let (ctl, job, timed) = (&*self.ctl, &self.job, self.timed.as_ref());
        let mut success = None;
        let wanted = run.since() == Some(since) && seq < ctl.cut();
        if wanted {
            worker.here.set_seq(seq);
            worker.here.set_race(Some(Arc::clone(&copy.rivals)));
            worker
                .here
                .set_deadline(timed.and_then(|timed| timed.deadline(since)));
            let began = crate::sync::Instant::now();
            let state = &mut worker.state;
            let outcome = catch(|| job.run(state.get_or_insert_with(|| job.state()), copy.item));
            let late = timed.is_some_and(|timed| timed.is_over(since));
            let in_vain = worker.here.item_over();
            match outcome {
                Ok((batch, false)) if !late && !in_vain => {
                    self.record(hedge, began.elapsed());
                    success = Some(batch);
                }
                Ok((batch, _)) => ctl.stray(unwind::discard(batch)),
                Err(payload) => unwind::bury(payload),
            }
        } else {
            ctl.stray(unwind::discard(copy.item));
        }
        let won = if let Some(batch) = success {
            self.publish_for(&run, since, Ok(batch), Some(hedge), worker.here.racer())
        } else {
            let kept = run.race().lock().copy_failed(since);
            if let Some(what) = kept {
                let failed = what.is_err();
                if self.publish_for(&run, since, what, None, usize::MAX) && failed {
                    ctl.fail(seq);
                }
            }
            false
        };
        match (won, wanted) {
            (true, _) => {}
            (false, true) => hedge.policy.end(false),
            (false, false) => hedge.policy.spare(),
        }
        hedge.copies.fetch_sub(1, Ordering::Relaxed);
    }

    /// The copy has a result for the item's place, its own if it has `won`. `false`: it came too late.
    fn publish_for(
        self: &Arc<Self>,
        run: &RunOf<S, J>,
        since: u64,
        what: Result<J::Batch, Odd<J::Batch>>,
        won: Option<&Hedge<S::Item>>,
        racer: usize,
    ) -> bool {
        let mut desk = self.desk.lock();
        let Some(given_up) = run.give_up(since, &mut desk.key) else {
            drop(desk);
            self.ctl.stray(unwind::discard(what));
            return false;
        };
        let (left, kept, rivals) = run.race().lock().give_up();
        let rest = self.split(&mut desk, run, Share::Rest);
        if let Some(hedge) = won {
            hedge.policy.end(true); // before anybody sees the result
        }
        given_up.publish(what, &mut desk.key);
        desk.astray += usize::from(!left);
        let wake = self.pass_on(&mut desk, rest);
        drop(desk);
        self.ctl.stray(unwind::discard(kept));
        self.act(wake);
        self.ctl.wake_consumer();
        self.ctl.stray(rivals.and_then(|rivals| rivals.win(racer)));
        true
    }

    /// Takes the times of what succeeded, and of what was too late.
    pub(crate) fn record(&self, hedge: &Hedge<S::Item>, time: Duration) {
        if hedge.policy.record(time) {
            // From now on there is a delay, by which the consumer has not gone before it fell asleep.
            drop(self.desk.lock());
            self.ctl.wake_consumer();
        }
    }

    /// The owner of an item is about to run it, and keeps a spare. `Err`: the clone panicked.
    pub(crate) fn begin_race(
        run: &OwningOf<S, J>,
        worker: &Worker<J::State>,
        item: &S::Item,
        since: u64,
        hedge: &Hedge<S::Item>,
    ) -> Result<(), Payload> {
        let spare = catch(|| (hedge.clone)(item))?;
        let rivals = Arc::default();
        *run.run().race().lock() = Race::begin(since, spare, &rivals);
        worker.here.set_race(Some(rivals));
        hedge.policy.begin();
        Ok(())
    }

    /// The owner is done with the item, whoever has its place now.
    pub(crate) fn end_race(&self, run: &OwningOf<S, J>, worker: &Worker<J::State>, mine: bool) {
        let (spare, sent) = run.run().race().lock().end();
        self.ctl.stray(unwind::discard(spare));
        let rivals = worker.here.set_race(None);
        if let Some(rivals) = rivals.filter(|_| sent && mine) {
            self.ctl.stray(rivals.win(worker.here.racer()));
        }
    }
}
