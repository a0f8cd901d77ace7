//! Items that are timed one by one: those that may run for so long and no longer, and those that
//! run a second time if they are slow ([`hedge_slow`](crate::ordered::copies)).
//!
//! A closure cannot be stopped from outside. What a time limit can do is to decide that its result
//! does not count, to put a failure at the item's place, and to trip the item's token.
//!
//! # Who acts
//!
//! The *owner* times each item: it says when it starts it ([`clock_in`](crate::ordered::chunk::ChunkExecutor::clock_in)),
//! and when the closure has returned it takes that back
//! ([`clock_out`](crate::ordered::chunk::ChunkExecutor::clock_out)); if that took too long, the owner publishes the
//! failure. The *consumer* waits for an item only until that is overdue. Then it takes the place from the
//! owner ([`give_up`](crate::ordered::chunk::Chunk::give_up)), publishes the failure itself, and goes on. One
//! exchange of one word decides between the two, so an item gets one outcome, and the same one whether the
//! consumer was there in time or not: late is late.
//!
//! The consumer sleeps until the next deadline of what runs, and without a limit if nothing does. An item
//! that is started meanwhile may need a timer that there is not. So before it looks at what runs the
//! consumer says that it has none, and passes the heavy barrier ([`Signals::sleep_for`](crate::ordered::signals::Signals::sleep_for));
//! an owner says that it starts an item, passes the light one, and wakes a consumer that sleeps for that item
//! ([`Signals::started`](crate::ordered::signals::Signals::started)). Either the consumer sees the start, or the owner
//! sees the consumer. When it has looked, and its timer is not later than any that such an item could need,
//! the consumer takes back what it said; so a start wakes it once a sleep at most, and only if nothing ran.
//!
//! # What becomes of the owner
//!
//! It is *abandoned*: still in the closure, and still one of the `n`, as whatever the closure uses is still
//! in use. What was left of its chunk is split off in the same critical section that gives up the item, so
//! nothing waits for it; and when it comes back it finds that the place is not its own, drops its
//! result and touches the chunk no more. The stage's end does not wait for a thread that is abandoned, its
//! drop does.

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
use crate::runtime::roster::Wake;
use crate::sync::Instant;
use crate::unwind;
use std::time::Duration;

/// What came of an item that its owner ran.
enum Ran {
    /// It has been published.
    On(Claim),
    /// Its place was another's meanwhile, and so is the chunk.
    Lost,
    /// It failed, and its copy takes care of that.
    Left,
}

impl<I, B> Sched<I, B> {
    /// [`execute`](Self::execute) for a timed stage.
    pub(super) fn execute_timed<'a>(
        &'a self,
        host: &dyn Host<I, B>,
        runner: &mut dyn ItemRunner<I, B>,
        mut chunk: ChunkExecutor<I, B>,
        worker: &mut Worker,
        timed: &Timed<I>,
    ) -> SchedGuard<'a, I, B> {
        let (len, began) = (chunk.len().max(1), Instant::now());
        chunk.start();
        // What is given up must be in the consumer's reach.
        self.arrive(chunk.cursor().1);
        let mut now = timed.now();
        loop {
            let ran = self.run_timed(host, runner, &mut chunk, worker, timed, &mut now);
            let mut core = match ran {
                Ran::On(Claim::Mine) => continue,
                _ => self.core.lock(),
            };
            match ran {
                Ran::On(_) => {
                    if chunk.settle(&mut core.key) {
                        continue;
                    }
                    let done = chunk.next().max(1) as f32;
                    let each = began.elapsed().as_nanos() as f32 / done;
                    self.cost.observe(len, &mut [each; PARTS], worker.pull);
                }
                Ran::Lost => core.abandoned -= 1,
                Ran::Left => {
                    if let Some(rest) = self.split(&mut core, chunk.chunk(), StealAmount::Rest) {
                        self.waiting.push(rest); // this thread looks there next
                    }
                }
            }
            core.deactivate(worker.thread);
            drop(chunk);
            return self.give_way(core);
        }
    }

    /// Runs one item.
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
        let item = chunk.cursor().0.take();
        if seq >= signals.cut() {
            signals.stray(unwind::discard(item));
            return Ran::On(self.publish(chunk, Err(Special::Discarded)));
        }
        let (since, hedge) = (*now, timed.hedge.as_ref());
        worker.here.set_seq(seq);
        worker.here.set_deadline(timed.deadline(since));
        if let Some(hedge) = hedge {
            if let Err(payload) = Self::begin_race(chunk, worker, &item, since, hedge) {
                signals.stray(unwind::discard(item));
                let what = execute::panicked(host, seq, payload);
                return Ran::On(self.publish_all(chunk, seq, what));
            }
        }
        chunk.clock_in(since);
        signals.started(seq);
        let outcome = runner.run(item);
        // Later than the start in any case, so that no two items of a chunk have the same.
        *now = timed.now().max(since + 2);
        let in_vain = worker.here.item_over();
        let mut what = match outcome {
            Ok((batch, false)) if in_vain => {
                signals.stray(unwind::discard(batch));
                Err(Special::Discarded)
            }
            Ok((batch, false)) => {
                if let Some(hedge) = hedge {
                    self.record(hedge, Duration::from_nanos(*now - since));
                }
                Ok(batch)
            }
            Ok((batch, true)) => Err(Special::Last(batch)),
            Err(payload) => Err(Special::Panicked(payload)),
        };
        let late = timed.is_overdue(since, *now);
        if late {
            signals.stray(unwind::discard(what));
            what = timed_out(host, seq, timed);
        } else {
            let failed = what.is_err();
            what = what.or_else(|special| match special {
                Special::Panicked(payload) => execute::panicked(host, seq, payload),
                special => Err(special),
            });
            if failed && hedge.is_some() {
                match chunk.chunk().race().lock().failed(what) {
                    OwnerFailure::Counts(counts) | OwnerFailure::Over(counts) => what = counts,
                    OwnerFailure::Left => {
                        worker.here.set_race(None);
                        return Ran::Left;
                    }
                }
            }
        }
        let mine = chunk.clock_out(since);
        if hedge.is_some() {
            self.end_race(chunk, worker, mine);
        }
        if mine {
            Ran::On(self.publish_all(chunk, seq, what))
        } else {
            signals.stray(unwind::discard(what));
            Ran::Lost
        }
    }

    /// Publishes what is a failure or is none.
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

    /// What was split off a chunk whose owner is stuck goes to whoever has time.
    pub(super) fn pass_on(&self, core: &mut Core<I, B>, rest: Option<ChunkExecutor<I, B>>) -> Wake {
        match rest {
            Some(rest) => {
                self.waiting.push(rest);
                core.wake()
            }
            None => Wake::Nobody,
        }
    }

    /// Consumer: gives up the item that was started then. `false`: it has just returned.
    fn give_up(
        &self,
        host: &dyn Host<I, B>,
        chunk: &Chunk<I, B>,
        since: u64,
        timed: &Timed<I>,
    ) -> bool {
        let mut core = self.core.lock();
        let Some(given_up) = chunk.give_up(since, &mut core.key) else {
            return false;
        };
        let (left, kept, rivals) = chunk.race().lock().give_up();
        let rest = self.split(&mut core, chunk, StealAmount::Rest);
        let seq = given_up.seq();
        let what = timed_out(host, seq, timed);
        let failed = what.is_err();
        given_up.publish(what, &mut core.key);
        core.abandoned += usize::from(!left);
        let wake = self.pass_on(&mut core, rest);
        drop(core);
        self.act(host, wake);
        self.signals.stray(unwind::discard(kept));
        self.signals
            .stray(rivals.and_then(|rivals| rivals.win(usize::MAX)));
        if failed {
            self.signals.fail(seq);
        }
        true
    }

    /// Consumer: gives up what it waits for and is overdue, has run again what is slow, and sets when to look
    /// again. Whether anything was given up.
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
        let now = timed.now();
        let limit = timed.limit.map(nanos);
        let hedge = timed.hedge.as_ref();
        let hedge = hedge.and_then(|hedge| Some((hedge, nanos(hedge.policy.delay()?))));
        let (mut found, mut check) = (false, u64::MAX);
        for taking in runs {
            let Some(since) = taking.chunk().since() else {
                continue; // whoever starts it tells
            };
            if let Some(limit) = limit {
                if timed.is_overdue(since, now) {
                    found |= self.give_up(host, taking.chunk(), since, timed);
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
        self.signals.set_untimed(check > soonest);
        *again = (check < u64::MAX).then(|| timed.instant(check)).flatten();
        found
    }
}

/// What stands at the place of an item that ran for too long.
fn timed_out<I, B>(host: &dyn Host<I, B>, seq: u64, timed: &Timed<I>) -> Result<B, Special<B>> {
    let limit = timed.limit.unwrap_or_default();
    let failed = host.failed(ItemError::timed_out(seq, limit));
    failed.map_err(Special::TimedOut)
}
