//! Hedged stages: an item that is slow runs a second time, and the first result takes its place.
//!
//! # Who acts
//!
//! The owner of an item keeps a clone of it (the *spare*) while it runs, and times it as in any
//! [timed](crate::ordered::timed) stage. The consumer waits for the item; when that is slower than the
//! policy's delay, and the budget allows it, the consumer takes the spare and puts it into `copies`. A
//! worker that has looked everywhere else and found nothing takes it from there and runs it: this is the
//! *copy*. So a copy never keeps an item from being started, unless it is already running.
//!
//! # One result
//!
//! - *Both succeed, or one does.* The place goes to whoever exchanges `since` first: the owner as always,
//!   the copy as one who [gives the item up](crate::ordered::chunk::Chunk::give_up) for it. The other drops its result.
//! - *The copy fails.* It says so in the [`Attempts`], and its failure is dropped: the owner's counts.
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

use crate::ordered::attempts::Attempts;
use crate::ordered::chunk::{Chunk, ChunkExecutor, Special, StealAmount};
use crate::ordered::sched::{Host, ItemRunner, Sched};
use crate::ordered::timing::{Copy, StageHedge};
use crate::ordered::worker::Worker;
use crate::sync::{Arc, Ordering, steal};
use crate::unwind::{self, Payload, catch};
use std::time::Duration;

impl<I, B> Sched<I, B> {
    /// Consumer: the item that was started then is slow.
    pub(crate) fn send_copy(
        &self,
        host: &dyn Host<I, B>,
        chunk: Arc<Chunk<I, B>>,
        since: u64,
        hedge: &StageHedge<I>,
    ) {
        let mut race = chunk.race().lock();
        // The owner begins an item under this lock, so the race is about this one.
        let claimed = race
            .rivals
            .as_ref()
            .is_some_and(|rivals| rivals.is_claimed());
        if race.since != since || chunk.since() != Some(since) || claimed {
            return;
        }
        let (Some(item), Some(rivals)) = (race.spare.take(), race.rivals.clone()) else {
            return;
        };
        if !hedge.policy.try_hedge() {
            drop(race);
            self.signals.stray(unwind::discard(item));
            return;
        }
        race.sent();
        drop(race);
        hedge.copies.fetch_add(1, Ordering::Relaxed);
        let seq = chunk.first() + chunk.published() as u64;
        self.copies.push(Copy {
            chunk,
            since,
            seq,
            item,
            rivals,
        });
        let wake = self.core.lock().wake();
        self.act(host, wake);
    }

    /// Worker, which has nothing else to do: takes a copy.
    pub(crate) fn take_copy(&self, worker: &Worker) -> Option<Copy<I, B>> {
        worker.permit.then(|| steal(&self.copies))?
    }

    /// Runs it.
    pub(crate) fn run_copy(
        &self,
        host: &dyn Host<I, B>,
        runner: &mut dyn ItemRunner<I, B>,
        worker: &mut Worker,
        copy: Copy<I, B>,
        hedge: &StageHedge<I>,
    ) {
        let (chunk, since, seq) = (copy.chunk, copy.since, copy.seq);
        let (signals, timed) = (&*self.signals, self.timed.as_ref());
        let mut success = None;
        let wanted = chunk.since() == Some(since) && seq < signals.cut();
        if wanted {
            worker.here.set_seq(seq);
            worker.here.set_race(Some(Arc::clone(&copy.rivals)));
            worker
                .here
                .set_deadline(timed.and_then(|timed| timed.deadline(since)));
            let began = crate::sync::Instant::now();
            let outcome = runner.run(copy.item);
            let late = timed.is_some_and(|timed| timed.is_over(since));
            let in_vain = worker.here.item_over();
            match outcome {
                Ok((batch, false)) if !late && !in_vain => {
                    self.record(hedge, began.elapsed());
                    success = Some(batch);
                }
                Ok((batch, _)) => signals.stray(unwind::discard(batch)),
                Err(payload) => unwind::bury(payload),
            }
        } else {
            signals.stray(unwind::discard(copy.item));
        }
        let won = if let Some(batch) = success {
            self.publish_for(
                host,
                &chunk,
                since,
                Ok(batch),
                Some((hedge, worker.here.racer())),
            )
        } else {
            let kept = chunk.race().lock().copy_failed(since);
            if let Some(what) = kept {
                let failed = what.is_err();
                if self.publish_for(host, &chunk, since, what, None) && failed {
                    signals.fail(seq);
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

    /// The copy has a result for the item's place, its own if it has `won`, as which racer. `false`: it came too late.
    fn publish_for(
        &self,
        host: &dyn Host<I, B>,
        chunk: &Chunk<I, B>,
        since: u64,
        what: Result<B, Special<B>>,
        won: Option<(&StageHedge<I>, usize)>,
    ) -> bool {
        let mut core = self.core.lock();
        let Some(given_up) = chunk.give_up(since, &mut core.key) else {
            drop(core);
            self.signals.stray(unwind::discard(what));
            return false;
        };
        let (left, kept, rivals) = chunk.race().lock().give_up();
        let rest = self.split(&mut core, chunk, StealAmount::Rest);
        if let Some((hedge, _)) = won {
            hedge.policy.end(true); // before anybody sees the result
        }
        given_up.publish(what, &mut core.key);
        core.abandoned += usize::from(!left);
        let wake = self.pass_on(&mut core, rest);
        drop(core);
        self.signals.stray(unwind::discard(kept));
        self.act(host, wake);
        self.signals.wake_consumer();
        let racer = won.map_or(usize::MAX, |(_, racer)| racer);
        self.signals
            .stray(rivals.and_then(|rivals| rivals.win(racer)));
        true
    }

    /// Takes the times of what succeeded, and of what was too late.
    pub(crate) fn record(&self, hedge: &StageHedge<I>, time: Duration) {
        if hedge.policy.record(time) {
            // From now on there is a delay, by which the consumer has not gone before it fell asleep.
            drop(self.core.lock());
            self.signals.wake_consumer();
        }
    }

    /// The owner of an item is about to run it, and keeps a spare. `Err`: the clone panicked.
    pub(crate) fn begin_race(
        chunk: &ChunkExecutor<I, B>,
        worker: &Worker,
        item: &I,
        since: u64,
        hedge: &StageHedge<I>,
    ) -> Result<(), Payload> {
        let spare = catch(|| (hedge.clone)(item))?;
        let rivals = Arc::default();
        *chunk.chunk().race().lock() = Attempts::begin(since, spare, &rivals);
        worker.here.set_race(Some(rivals));
        hedge.policy.begin();
        Ok(())
    }

    /// The owner is done with the item, whoever has its place now.
    pub(crate) fn end_race(&self, chunk: &ChunkExecutor<I, B>, worker: &Worker, mine: bool) {
        let (spare, sent) = chunk.chunk().race().lock().end();
        self.signals.stray(unwind::discard(spare));
        let rivals = worker.here.set_race(None);
        if let Some(rivals) = rivals.filter(|_| sent && mine) {
            self.signals.stray(rivals.win(worker.here.racer()));
        }
    }
}
