//! Items that are timed one by one: those that may run only for a limited time, and those that run a second
//! time if they are slow ([`hedge_slow`](crate::ordered::copies)).
//!
//! A closure cannot be stopped from outside. What a time limit can do is to decide that its result does not
//! count, to publish a failure in the item's place, and to trip the item's token.
//!
//! # Who acts
//!
//! The *owner* times each item. It records when it starts the item
//! ([`clock_in`](crate::ordered::chunk::ChunkExecutor::clock_in)), and takes that back when the closure has
//! returned ([`clock_out`](crate::ordered::chunk::ChunkExecutor::clock_out)). If the closure took too long,
//! the owner publishes the failure. The *consumer* waits for an item only until that is overdue. Then it
//! takes the place from the owner ([`give_up`](crate::ordered::chunk::Chunk::give_up)), publishes the failure
//! itself, and goes on. One exchange of one word decides between the two. So an item has one outcome, and a
//! closure that takes too long has the same one whether the consumer comes in time or not.
//!
//! The consumer sleeps until the next deadline of what runs, and without a limit if nothing runs. An item
//! that is started during the sleep may need a timer that the consumer has not set. This is the handshake
//! start / arm. Before the consumer looks at what runs, it stores that it has no timer, and passes the heavy
//! barrier ([`Signals::sleep_for`](crate::ordered::signals::Signals::sleep_for)). An owner stores when it
//! starts the item, passes the light barrier, and wakes a consumer that sleeps for that item
//! ([`Signals::started`](crate::ordered::signals::Signals::started)). So either the consumer sees the start,
//! or the owner sees the consumer. When the consumer has found a timer that is not later than any that such
//! an item could need, it takes the mark back. So a start wakes it at most once per sleep, and only if
//! nothing ran.
//!
//! # What becomes of the owner
//!
//! An owner that has lost its place is *abandoned*. It is still in the closure, and still one of the `n`,
//! because whatever the closure uses is still in use. The rest of its chunk is split off in the critical
//! section in which the item is given up, so no item waits for it. When it comes back it finds that the place
//! is not its own, drops its result, and does not touch the slots of the chunk again. The end of the stage
//! does not wait for an abandoned thread, the drop does.

use crate::error::ItemError;
use crate::ordered::attempts::OwnerFailure;
use crate::ordered::chunk::{Chunk, ChunkExecutor, ChunkReader, Claim, Special, StealAmount};
use crate::ordered::core::Core;
use crate::ordered::execute;
use crate::ordered::sched::{Host, ItemRunner, Sched, SchedGuard};
use crate::ordered::timing::Timed;
use crate::ordered::worker::Worker;
use crate::runtime::cost::PARTS;
use crate::runtime::cost::nanos;
use crate::runtime::meter::Fate;
use crate::runtime::roster::Wake;
use crate::sync::Instant;
use crate::unwind;
use std::time::Duration;

/// What has come of an item that its owner ran.
enum Ran {
    /// The owner has published it, and may have claimed the next one.
    On(Claim),
    /// Another thread has its place, and with that the chunk.
    Lost,
    /// It failed, and its copy takes care of that. The place is still to be published.
    Left,
}

impl<I, B> Sched<I, B> {
    /// [`execute`](Self::execute) for a timed stage. A loop of its own, so that other stages do not pay for
    /// the clock.
    pub(super) fn execute_timed<'a>(
        &'a self,
        host: &dyn Host<I, B>,
        runner: &mut dyn ItemRunner<I, B>,
        mut chunk: ChunkExecutor<I, B>,
        worker: &mut Worker,
        timed: &Timed<I>,
    ) -> SchedGuard<'a, I, B> {
        let (len, first, began) = (chunk.len().max(1), chunk.next(), Instant::now());
        chunk.start();
        // Before the first item, and not before its first result as in other stages: the consumer finds the
        // items that are overdue by way of the chunks that it has.
        self.arrive(chunk.cursor().1);
        // One reading of the clock per item: the end of one is the start of the next.
        let mut now = timed.now();
        loop {
            if !self.may_start(chunk.seq()) {
                let mut core = self.core.lock();
                core.ran += (chunk.next() - first) as u64;
                core.put_aside(worker.thread, chunk);
                return self.give_way(core);
            }
            let ran = self.run_timed(host, runner, &mut chunk, worker, timed, &mut now);
            // The lock is taken only if the chunk is over, or may be.
            let mut core = match ran {
                Ran::On(Claim::Mine) => continue,
                _ => self.core.lock(),
            };
            match ran {
                // Contested: as in `execute`.
                Ran::On(_) => {
                    if chunk.settle(&mut core.key) {
                        continue;
                    }
                    // All parts are the same, so that the estimate believes the average as it is. Only a
                    // chunk that its owner has run to the end is measured.
                    let done = chunk.next().max(1) as f32;
                    let each = began.elapsed().as_nanos() as f32 / done;
                    self.cost.observe(len, &mut [each; PARTS], worker.pull);
                }
                // This thread runs no item any more, so the end of the stage may wait for it again. Under the
                // lock, as the thread that took the place has counted it.
                Ran::Lost => core.abandoned -= 1,
                // The place stays claimed, for the copy to publish. The rest must not wait for that, so it is
                // split off. If the copy has published meanwhile, it has done so itself, and nothing is left
                // here.
                Ran::Left => {
                    if let Some(rest) = self.split(&mut core, chunk.chunk(), StealAmount::Rest) {
                        self.disown(&mut core, rest); // this thread looks there next
                    }
                }
            }
            core.ran += (chunk.next() - first) as u64;
            // In every case: this thread does not touch the chunk again, and thieves must not look for it
            // there.
            core.deactivate(worker.thread);
            drop(chunk);
            return self.give_way(core);
        }
    }

    /// Owner: runs the claimed item. `now` is the time at which it starts, and afterwards that at which it
    /// ended.
    fn run_timed(
        &self,
        host: &dyn Host<I, B>,
        runner: &mut dyn ItemRunner<I, B>,
        chunk: &mut ChunkExecutor<I, B>,
        worker: &mut Worker,
        timed: &Timed<I>,
        now: &mut u64,
    ) -> Ran {
        let (signals, seq) = (&*self.signals, chunk.seq());
        // Its time begins when it has its permit. The token of the wait is not that of the item, which has a
        // deadline, and rivals.
        let admitted = self.admit(&worker.here, seq);
        if self.limit.is_some() {
            worker.here.item_over();
            *now = timed.now().max(*now);
        }
        let item = chunk.cursor().0.take();
        let _permit = match admitted {
            Ok(permit) => permit,
            Err(payload) => {
                signals.span().panicked(Some(seq), &*payload);
                signals.stray(unwind::discard(item));
                let what = execute::panicked(host, seq, payload);
                return Ran::On(self.publish_all(chunk, seq, what));
            }
        };
        // Claim / cut: the item is claimed, and then `cut` is read. The consumer waits for each place of a
        // chunk that has an owner, so the item is published as discarded.
        if seq >= signals.cut() {
            signals.stray(unwind::discard(item));
            return Ran::On(self.publish(chunk, Err(Special::Discarded)));
        }
        let in_stage = signals.span().enter();
        let in_item = signals.span().item(seq);
        let (since, hedge) = (*now, timed.hedge.as_ref());
        // First what the closure may ask for: its token is made from these.
        worker.here.set_seq(seq);
        worker.here.set_deadline(timed.deadline(since));
        // Before `clock_in`: the consumer sends a copy as soon as it sees the start, and needs the spare for
        // it.
        if let Some(hedge) = hedge {
            // The clone is the user's code. Its panic counts as the item's.
            if let Err(payload) = Self::begin_race(chunk, worker, &item, since, hedge) {
                signals.span().panicked(Some(seq), &*payload);
                signals.stray(unwind::discard(item));
                // The clone may have asked for the item's token.
                worker.here.item_over();
                let what = execute::panicked(host, seq, payload);
                return Ran::On(self.publish_all(chunk, seq, what));
            }
        }
        // Start / arm: store `since`, light barrier (in `clock_in`), then load `alarm` and `untimed`. With
        // the two lines swapped, the consumer could look before the store, and sleep without a timer after
        // this load.
        chunk.clock_in(since);
        signals.started(seq);
        let mut weight = 0;
        let outcome = runner.run(item).map(|(batch, last, weighed)| {
            weight = weighed;
            (batch, last)
        });
        drop(in_item);
        drop(in_stage);
        // At least 2 more than the start. `since` identifies an item of the chunk, so no two may have the
        // same; and the lowest bit stays set, so that no time is 0.
        *now = timed.now().max(since + 2);
        (self.meter).note(|meter| meter.item_ran(seq, Duration::from_nanos(*now - since)));
        let in_vain = worker.here.item_over();
        // From here on the item is over as far as the user's code is concerned. Its place may already be
        // another's; the exchange in `clock_out` decides. Until then `what` belongs to this thread alone.
        let mut what = match outcome {
            // Something that the result was made of was cut short, so it is no result.
            Ok((batch, false)) if in_vain => {
                signals.stray(unwind::discard(batch));
                Err(Special::Discarded)
            }
            Ok((batch, false)) => {
                if let Some(hedge) = hedge {
                    // Even if it is too late: the policy must learn that runs take this long.
                    self.record(hedge, Duration::from_nanos(*now - since));
                }
                Ok(batch)
            }
            Ok((batch, true)) => Err(Special::Last(batch)),
            Err(payload) => {
                signals.span().panicked(Some(seq), &*payload);
                Err(Special::Panicked(payload))
            }
        };
        // By the owner's own clock too, so that the outcome does not depend on whether the consumer came in
        // time.
        let late = timed.is_overdue(since, *now);
        if late {
            // Not left to a copy: the time of the item is over, whichever run it is.
            signals.stray(unwind::discard(what));
            what = self.timed_out(host, seq, timed);
            weight = 0;
        } else {
            // Before a panic becomes a value: for the hedge it is a failure, and a copy may still succeed.
            let failed = what.is_err();
            what = what.or_else(|special| match special {
                Special::Panicked(payload) => execute::panicked(host, seq, payload),
                special => Err(special),
            });
            // Of a hedged item the copy may still succeed.
            if failed && what.is_ok() && hedge.is_none() {
                self.meter.note(|meter| meter.fate(Fate::Panicked, 1));
            }
            // Decided under the lock of the `Attempts`, like the failure of the copy: if both fail, the
            // second one finds the first, so one of them publishes.
            if failed && hedge.is_some() {
                match chunk.chunk().race().lock().failed(what) {
                    OwnerFailure::Counts(counts) | OwnerFailure::Over(counts) => what = counts,
                    OwnerFailure::Left => {
                        // `since` is not taken back. By it the copy takes the place (`Chunk::give_up`), and
                        // publishes its own success or the failure that was left.
                        worker.here.set_race(None);
                        return Ran::Left;
                    }
                }
            }
        }
        // Run / give up. A thread that exchanges `since` first has the place, and has split off the rest:
        // after that this thread must not publish, because that would claim an item of the rest.
        let mine = chunk.clock_out(since);
        // After the exchange, as it trips the token of a copy only if the place is this thread's.
        if hedge.is_some() {
            self.end_race(chunk, worker, mine);
        }
        if mine {
            chunk.cursor().0.set_weight(self.park(weight));
            Ran::On(self.publish_all(chunk, seq, what))
        } else {
            // Dropped here, without a lock: it is a value of the user's.
            signals.stray(unwind::discard(what));
            Ran::Lost
        }
    }

    /// Publishes a result or a failure of the claimed item. First the cut, then the place, as in
    /// `item_panicked`.
    fn publish_all(
        &self,
        chunk: &mut ChunkExecutor<I, B>,
        seq: u64,
        what: Result<B, Special<B>>,
    ) -> Claim {
        if what.is_err() {
            self.signals.fail(seq);
        }
        self.publish(chunk, what)
    }

    /// What was split off a chunk whose owner is stuck goes to a thread that has time. Pushed before the
    /// decision which thread to wake, both under the lock: the handshake idle / wake.
    pub(super) fn pass_on(&self, core: &mut Core<I, B>, rest: Option<ChunkExecutor<I, B>>) -> Wake {
        match rest {
            Some(rest) => {
                self.disown(core, rest);
                core.wake()
            }
            None => Wake::Nobody,
        }
    }

    /// Consumer: gives up the item that was started at `since`. `false`: its owner is done with it, and
    /// publishes.
    fn give_up(
        &self,
        host: &dyn Host<I, B>,
        chunk: &Chunk<I, B>,
        since: u64,
        timed: &Timed<I>,
    ) -> bool {
        // One critical section from the exchange to the count. The owner could otherwise return in between,
        // take itself off before it is counted, and leave the rest of its chunk without a thread.
        let mut core = self.core.lock();
        let Some(given_up) = chunk.give_up(since, &mut core.key) else {
            return false;
        };
        // Hedged stages: an owner that fails from now on finds the race over. `left`: it has failed before,
        // and has left the failure in `kept`. That is dropped below, because the item's time is over.
        let (left, kept, rivals) = chunk.race().lock().give_up();
        // Before the place is published: publishing it claims the next item for the owner, which will never
        // run it.
        let rest = self.split(&mut core, chunk, StealAmount::Rest);
        let seq = given_up.seq();
        let what = self.timed_out(host, seq, timed);
        let failed = what.is_err();
        given_up.publish(what, &mut core.key);
        // An owner that has left is not in its closure any more, and does not take itself off.
        core.abandoned += usize::from(!left);
        let wake = self.pass_on(&mut core, rest);
        drop(core);
        // From here on without the lock: waking takes long, and drops and hooks are the user's code.
        self.act(host, wake);
        self.signals.stray(unwind::discard(kept));
        // No run has won, so the tokens of all of them are tripped. `usize::MAX` is the number of none.
        self.signals
            .stray(rivals.and_then(|rivals| rivals.win(usize::MAX)));
        // After the place, and not before it as in `publish_all`: this runs hooks of the user's tokens, and
        // they must not run under the lock. It does no harm, as this thread takes the failure next.
        if failed {
            self.signals.fail(seq);
        }
        true
    }

    /// Consumer: gives up what it waits for and is overdue, has slow items run a second time, and sets in
    /// `again` when to look next. Returns whether it has given up anything.
    pub(super) fn look_at_clocks<'a>(
        &self,
        host: &dyn Host<I, B>,
        runs: impl Iterator<Item = &'a ChunkReader<I, B>>,
        again: &mut Option<Instant>,
    ) -> bool
    where
        I: 'a,
        B: 'a,
    {
        let Some(timed) = &self.timed else {
            return false;
        };
        // One time for all chunks. What is a little later overdue is seen at the next look, for which a timer
        // is set.
        let now = timed.now();
        let limit = timed.limit.map(nanos);
        let hedge = timed.hedge.as_ref();
        let hedge = hedge.and_then(|hedge| Some((hedge, nanos(hedge.policy.delay()?))));
        let (mut found, mut check) = (false, u64::MAX);
        // In order only the head matters; without an order all chunks that have arrived.
        for taking in runs {
            // Not started, or just returned. If it starts later, its owner sees `untimed` and wakes this
            // thread.
            let Some(since) = taking.chunk().since() else {
                continue; // whoever starts it tells
            };
            if let Some(limit) = limit {
                if timed.is_overdue(since, now) {
                    // `false`: the owner was faster, and its result is there or about to be. It wakes this
                    // thread then, as after any item.
                    found |= self.give_up(host, taking.chunk(), since, timed);
                    continue;
                }
                check = check.min(since.saturating_add(limit));
            }
            if let Some((hedge, delay)) = hedge {
                // A copy is sent once per item (`send_copy` finds the spare gone), so no timer is set for a
                // second one.
                let slow = since.saturating_add(delay);
                if slow > now {
                    check = check.min(slow);
                } else {
                    self.send_copy(host, taking.share(), since, hedge); // or not: once an item
                }
            }
        }
        // Start / arm, the consumer's last step: what starts from now on is not late or slow sooner than
        // `soonest`. With a timer that is early enough, no owner need wake this thread for a start.
        let soonest = limit.into_iter().chain(hedge.map(|(_, delay)| delay)).min();
        let soonest = soonest.map_or(u64::MAX, |time| now.saturating_add(time));
        self.signals.set_untimed(check > soonest);
        // `None`: nothing runs that could become late or slow, so the sleep has no limit.
        *again = (check < u64::MAX).then(|| timed.instant(check)).flatten();
        found
    }

    /// What is published in place of an item that ran for too long: a value from an isolated job, or the failure.
    fn timed_out(
        &self,
        host: &dyn Host<I, B>,
        seq: u64,
        timed: &Timed<I>,
    ) -> Result<B, Special<B>> {
        let limit = timed.limit.unwrap_or_default();
        let instead = host.failed(ItemError::timed_out(seq, limit));
        if instead.is_ok() {
            self.meter.note(|meter| meter.fate(Fate::TimedOut, 1));
        }
        instead.map_err(Special::TimedOut)
    }
}
