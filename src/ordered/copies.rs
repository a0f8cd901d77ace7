//! Hedged stages: a slow item runs a second time, and the first result takes its place.
//!
//! # Who acts
//!
//! The owner of an item keeps a clone of it (the *spare*) while it runs, and times it as in any
//! [timed](crate::ordered::timed) stage. The consumer waits for the item. If that takes longer than the
//! policy's delay, and the budget allows it, the consumer takes the spare and puts it into `copies`. A worker
//! that has looked everywhere else and found nothing takes it from there and runs it: this is the *copy*. So
//! a copy never keeps an item from being started, unless the copy is already running.
//!
//! # One result
//!
//! - *Both succeed, or one does.* The thread that exchanges `since` first gets the place: the owner as
//!   always, and the copy as a thread that [gives the item up](crate::ordered::chunk::Chunk::give_up). The
//!   other one drops its result.
//! - *The copy fails.* It records this in the [`Attempts`], and its failure is dropped: the owner's failure
//!   counts.
//! - *The owner fails.* If a copy has been sent and has not failed, the owner leaves its failure in the
//!   [`Attempts`] and goes on to other work. The copy then publishes its own success, or that failure.
//!   Otherwise the owner publishes its failure.
//!
//! The last two are decided under the lock of the [`Attempts`]. So if both fail, one of them sees the other,
//! and no failure is lost. If the item's time is over, it is given up, and a failure that was left is
//! dropped.
//!
//! A copy that was sent is always taken by a worker, which then checks whether it is still wanted. This holds
//! after a cancellation too, because the owner may have left its failure to the copy. Only the end of the
//! stage, after which nothing is waited for, drops a copy unseen. So the workers of a hedged stage stay until
//! its end.

use crate::ordered::attempts::Attempts;
use crate::ordered::chunk::{Chunk, ChunkExecutor, Special, StealAmount};
use crate::ordered::sched::{Host, ItemRunner, Sched};
use crate::ordered::timing::{Copy, StageHedge};
use crate::ordered::worker::Worker;
use crate::runtime::meter::Event;
use crate::runtime::permits::Permits;
use crate::runtime::roster::Wake;
use crate::sync::{Arc, Ordering, steal};
use crate::unwind::{self, Payload, catch};
use std::time::Duration;

impl<I, B> Sched<I, B> {
    /// Consumer: the item that was started at `since` is slow. Sends a copy, if the policy allows it.
    pub(super) fn send_copy(
        &self,
        host: &dyn Host<I, B>,
        chunk: Arc<Chunk<I, B>>,
        since: u64,
        hedge: &StageHedge<I>,
    ) {
        let mut race = chunk.race().lock();
        // The owner begins an item under this lock too, so what is read here belongs to one item.
        let claimed = race
            .rivals
            .as_ref()
            .is_some_and(|rivals| rivals.is_claimed());
        // Another item is running by now; or the owner has returned; or the run of the owner has claimed the
        // work for itself. In each case a copy would be in vain.
        if race.since != since || chunk.since() != Some(since) || claimed {
            return;
        }
        // The spare is gone if a copy was sent before: one per item.
        let (Some(item), Some(rivals)) = (race.spare.take(), race.rivals.clone()) else {
            return;
        };
        // The budget is asked last, so that nothing is taken from it in vain.
        if !hedge.policy.try_hedge() {
            self.meter
                .note(|meter| meter.count_event(Event::HedgeRefused));
            drop(race);
            // Without the lock: its drop is the user's code.
            self.signals.stray(unwind::discard(item));
            return;
        }
        self.meter.note(|meter| meter.count_event(Event::HedgeSent));
        // Under the lock, before the copy exists for other threads. An owner that fails from now on leaves
        // its failure to it.
        race.sent();
        drop(race);
        // Before the push: the copy counts towards the bound of items in flight, and towards what the end may
        // not wait for.
        hedge.copies.fetch_add(1, Ordering::Relaxed);
        let seq = chunk.first() + chunk.published() as u64;
        self.copies.push(Copy {
            chunk,
            since,
            seq,
            item,
            rivals,
        });
        // After the push: a worker that goes to sleep looks into `copies` under this lock (handshake idle /
        // wake).
        let mut core = self.core.lock();
        let mut wake = core.wake();
        if matches!(wake, Wake::Nobody) && core.is_permit_unused() {
            // The permit is with a thread in the source, which may stay there for an hour. A thread that
            // watches borrows it (`Sched::borrow_permit`).
            wake = self.call_watcher(&mut core);
        }
        drop(core);
        self.act(host, wake);
    }

    /// Worker with nothing else to do: takes a copy. A copy runs a closure, so it needs a permit.
    pub(super) fn take_copy(&self, worker: &Worker) -> Option<Copy<I, B>> {
        worker.permit.as_ref()?;
        steal(&self.copies)
    }

    /// Runs the copy, and publishes what comes of it.
    pub(super) fn run_copy(
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
        // It may be late: the owner may have returned, or a failure may have come before the item. Even then
        // what the owner has left must be looked for, below.
        let wanted = chunk.since() == Some(since) && seq < signals.cut();
        // A copy never waits: where permits are scarce, the item itself may need the next one.
        let limit = self.limit.as_ref().filter(|_| wanted);
        let permit = limit.map(Permits::try_hold);
        let wanted = wanted && !matches!(permit, Some(None));
        if wanted {
            // The same context as for any item, except that its token races against the owner's.
            worker.here.set_seq(seq);
            worker.here.set_race(Some(Arc::clone(&copy.rivals)));
            worker
                .here
                .set_deadline(timed.and_then(|timed| timed.deadline(since)));
            let began = crate::sync::Instant::now();
            let in_stage = signals.span().enter();
            let in_item = signals.span().item(seq);
            let outcome = runner.run(copy.item);
            drop(in_item);
            drop(in_stage);
            // A result that is later than the item's limit does not count, whichever run it is from. The time
            // runs from the owner's start.
            let late = timed.is_some_and(|timed| timed.is_over(since));
            let in_vain = worker.here.item_over();
            drop(permit);
            match outcome {
                // Only a plain success can win. A failure, or the last result of a try stage, is left to the
                // owner's run.
                Ok((batch, false, weight)) if !late && !in_vain => {
                    self.record(hedge, began.elapsed());
                    success = Some((batch, weight));
                }
                Ok((batch, ..)) => signals.stray(unwind::discard(batch)),
                Err(payload) => {
                    signals.span().panicked(Some(seq), &*payload);
                    unwind::bury(payload);
                }
            }
        } else {
            signals.stray(unwind::discard(copy.item));
        }
        let won = if let Some((batch, weight)) = success {
            self.publish_for(
                host,
                &chunk,
                since,
                (Ok(batch), weight),
                Some((hedge, worker.here.racer())),
            )
        } else {
            // One critical section of the [`Attempts`] decides which side takes care of the owner's failure:
            // either it is here already, or the owner will see that the copy has failed.
            let kept = chunk.race().lock().copy_failed(since);
            if let Some(what) = kept {
                let failed = what.is_err();
                if self.publish_for(host, &chunk, since, (what, 0), None) && failed {
                    signals.fail(seq);
                }
            }
            false
        };
        // The policy counts each copy once: as won, as run in vain, or as never run.
        match (won, wanted) {
            (true, _) => {}
            (false, true) => hedge.policy.end(false),
            (false, false) => hedge.policy.spare(),
        }
        hedge.copies.fetch_sub(1, Ordering::Relaxed);
        if !self.pulls {
            // It is the consumer that pulls, and it may have fallen asleep for want of the room that this copy has
            // taken. Taken and released, so that it has either announced its sleep, and is woken, or looks afterwards.
            drop(self.core.lock());
            self.signals.wake_consumer();
        }
    }

    /// The copy has a result for the item's place. `won`: it is the copy's own, and this is the racer that it
    /// ran as; otherwise it is the failure that the owner has left. Returns `false` if it is too late.
    fn publish_for(
        &self,
        host: &dyn Host<I, B>,
        chunk: &Chunk<I, B>,
        since: u64,
        (what, weight): (Result<B, Special<B>>, u64),
        won: Option<(&StageHedge<I>, usize)>,
    ) -> bool {
        // One critical section, from giving up to publishing: no thread may see the place given up and the
        // rest of the chunk still attached to it.
        let mut core = self.core.lock();
        // Run / give up: if the exchange fails, the owner (or a timeout) has the place.
        let Some(given_up) = chunk.give_up(since, &mut core.key) else {
            drop(core);
            self.signals.stray(unwind::discard(what));
            return false;
        };
        // `left`: the owner has gone already, and left what is in `kept`.
        let (left, kept, rivals) = chunk.race().lock().give_up();
        // The owner will not continue this chunk, so what it has not started becomes a chunk of its own.
        let rest = self.split(&mut core, chunk, StealAmount::Rest);
        if let Some((hedge, _)) = won {
            hedge.policy.end(true); // Before any thread can see the result.
            self.meter.note(|meter| meter.count_event(Event::HedgeWon));
        }
        given_up.set_weight(self.park(weight));
        given_up.publish(what, &mut core.key);
        // An owner that has not left is still in its closure, and still one of the `n`.
        core.abandoned += usize::from(!left);
        let wake = self.pass_on(&mut core, rest);
        drop(core);
        // From here without the lock: drops and hooks are the user's code, and waking takes long.
        self.signals.stray(unwind::discard(kept));
        self.act(host, wake);
        self.signals.wake_consumer();
        let racer = won.map_or(usize::MAX, |(_, racer)| racer);
        // Last: the token of the run that has lost is tripped, so that it gives up.
        self.signals
            .stray(rivals.and_then(|rivals| rivals.win(racer)));
        true
    }

    /// Records the times of a success, and of one that came too late.
    pub(super) fn record(&self, hedge: &StageHedge<I>, time: Duration) {
        if hedge.policy.record(time) {
            // From now on the policy knows a delay. The consumer may have fallen asleep before, without a
            // timer for it.
            // Taken and released, so that the consumer has either announced its sleep, and is woken, or looks
            // at the delay afterwards.
            drop(self.core.lock());
            self.signals.wake_consumer();
        }
    }

    /// Owner: about to run an item, keeps a spare of it. `Err`: the clone panicked.
    pub(super) fn begin_race(
        chunk: &ChunkExecutor<I, B>,
        worker: &Worker,
        item: &I,
        since: u64,
        hedge: &StageHedge<I>,
    ) -> Result<(), Payload> {
        // Before the lock, as it is the user's code.
        let spare = catch(|| (hedge.clone)(item))?;
        let rivals = Arc::default();
        // It replaces what was there of the item before, which is over.
        *chunk.chunk().race().lock() = Attempts::begin(since, spare, &rivals);
        worker.here.set_race(Some(rivals));
        hedge.policy.begin();
        Ok(())
    }

    /// The owner is done with the item, whichever thread has its place now.
    pub(super) fn end_race(&self, chunk: &ChunkExecutor<I, B>, worker: &Worker, mine: bool) {
        let (spare, sent) = chunk.chunk().race().lock().end();
        self.signals.stray(unwind::discard(spare));
        let rivals = worker.here.set_race(None);
        // A copy may still run. Its token is tripped, if the place is the owner's.
        if let Some(rivals) = rivals.filter(|_| sent && mine) {
            self.signals.stray(rivals.win(worker.here.racer()));
        }
    }
}
