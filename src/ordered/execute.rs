//! What a thread of a stage does with the chunk that it has found: it runs all items of it, and then looks
//! again.
//!
//! The thread is the owner of the chunk and has a permit. It claims one item after the other without a lock,
//! and takes the scheduler's lock once, when it meets the `limit`.

use crate::cancel;
use crate::error::{Cancelled, ItemError};
use crate::ordered::chunk::{ChunkExecutor, ChunkReader, Claim, Special};
use crate::ordered::item_context::ItemContext;
use crate::ordered::sched::{Host, ItemRunner, Sched, SchedGuard};
use crate::ordered::worker::Worker;
use crate::runtime::context::{self, Current};
use crate::runtime::cost::PARTS;
use crate::runtime::life::Scheduler;
use crate::runtime::meter::Fate;
use crate::sync::{Arc, Instant, yield_now};
use crate::unwind::{self, Payload, catch};
use std::rc::Rc;

impl<I, B> Sched<I, B> {
    /// The life of a leased thread, until the stage stops or nothing more will come.
    pub(super) fn work(
        &self,
        host: &dyn Host<I, B>,
        runner: &mut dyn ItemRunner<I, B>,
        thread: usize,
    ) {
        // One frame for all closures, as its token is made only when it is asked for. It is still there when
        // the state is dropped, because that drop is the user's code too.
        let here = Rc::new(ItemContext::new(Arc::clone(&self.signals)));
        let current = context::in_closure(Rc::clone(&here) as Rc<dyn Current>);
        let mut worker = Worker::new(thread, here);
        let unparker = worker.parker.unparker().clone();
        // For a stop, and below with the roster for work. Both come before the first look: a thread that
        // stops the stage or creates work either comes before that look, which sees it, or finds this thread
        // registered.
        self.signals.register(unparker.clone());
        let bug = catch(|| {
            let mut core = self.core.lock();
            core.roster.register(thread, unparker);
            if thread > 0 {
                self.company.has_come();
            }
            while let Some(chunk) = self.find(host, runner, &mut worker, core) {
                core = self.execute(host, runner, chunk, &mut worker);
                // Not in a timed stage, where the rest of a chunk may be left without an owner.
                core.no_more_states |=
                    runner.lacks_state() && self.signals.is_cut() && self.timed.is_none();
            }
        });
        if let Err(bug) = bug {
            // Not a panic of the user's code, because those have been caught: a bug in this crate. The chunk
            // of this thread is lost, and without the cancellation the consumer would wait for its items
            // forever.
            self.signals.stray(Some(bug));
            self.signals.cancel(Cancelled::default());
        }
        self.signals.stray(runner.retire());
        drop(current);
    }

    /// Owner: runs all items of a chunk that are left to it. Returns with the lock, because the next step
    /// needs it in any case: the search for more.
    pub(super) fn execute<'a>(
        &'a self,
        host: &dyn Host<I, B>,
        runner: &mut dyn ItemRunner<I, B>,
        mut chunk: ChunkExecutor<I, B>,
        worker: &mut Worker,
    ) -> SchedGuard<'a, I, B> {
        if let Some(timed) = &self.timed {
            return self.execute_timed(host, runner, chunk, worker, timed);
        }
        // The chunk is timed in up to `PARTS` parts, with five readings of the clock. A preemption spoils one
        // part only.
        let len = chunk.len().max(1);
        // With a permit for each item, or a look at what is parked, they are run one by one.
        let span = self.signals.span();
        let one_by_one = self.limit.is_some() || self.parked.is_some() || span.has_items();
        let stride = if one_by_one { 1 } else { len.div_ceil(PARTS) };
        let mut parts = [0.0; PARTS];
        let mut timed = 0;
        let first = chunk.next();
        let mut mark = Instant::now();
        // Claims the first item. From now on the consumer of a cancelled stage waits for this chunk; what is
        // past the cut by then is published as discarded.
        chunk.start();
        loop {
            let before = chunk.next();
            if !self.may_start(chunk.seq()) {
                let mut core = self.core.lock();
                self.cost
                    .observe(before.max(1), &mut parts[..timed], worker.pull);
                core.ran += (before - first) as u64;
                core.put_aside(worker.thread, chunk);
                return self.give_way(core);
            }
            let (permit, ran) = match self.admit(&worker.here, chunk.seq()) {
                Ok(permit) => {
                    let _stage = span.enter();
                    let _item = span.item(chunk.seq());
                    let ran = runner.run_items(self, &mut chunk, &worker.here, stride);
                    (permit, ran)
                }
                Err(payload) => {
                    let item = chunk.cursor().0.take();
                    self.signals.stray(unwind::discard(item));
                    (None, Err(payload))
                }
            };
            // After a panic the item is still claimed: something must be published in its place, or the
            // consumer would wait for it.
            let claim = ran.unwrap_or_else(|payload| {
                self.item_panicked(host, &mut chunk, &worker.here, payload)
            });
            // Only now, as it may go to an item that waits for it, and nothing starts after a failure.
            drop(permit);
            // An item that was dropped after a wait has left its token behind.
            if self.limit.is_some() {
                worker.here.item_over();
            }
            // At least one: `run_items` publishes the item that is claimed when it is called.
            let done = chunk.next() - before;
            if timed < PARTS {
                let now = Instant::now();
                parts[timed] = now.duration_since(mark).as_nanos() as f32 / done as f32;
                timed += 1;
                mark = now;
            }
            // Claim / steal: the item is at or past `limit` as far as was seen. A thief may be about to raise
            // that again, so only the lock decides.
            if claim == Claim::Contested {
                let mut core = self.core.lock();
                if !chunk.settle(&mut core.key) {
                    // Nothing is left. Everything below is in this one critical section, so that the
                    // consumer, which recycles the chunk under the lock, finds either both handles of this
                    // thread or none. First the estimate, then the decision that reads it.
                    self.cost.observe(len, &mut parts[..timed], worker.pull);
                    core.ran += (chunk.next() - first) as u64;
                    self.choose_mode(&mut core, worker);
                    core.deactivate(worker.thread);
                    drop(chunk);
                    return self.give_way(core);
                }
            }
        }
    }

    /// Between two chunks: offers this core to the thread that the consumer waits for, or to the consumer.
    /// The kernel often puts threads that wake one another on one core, where the second would wait for the
    /// end of a time slice. The consumer counts as waiting also if it was called and has not come, or has not
    /// had its first few results.
    pub(super) fn give_way<'a>(&'a self, core: SchedGuard<'a, I, B>) -> SchedGuard<'a, I, B> {
        // Not where the consumer takes part: it runs items itself, and offers between chunks of one item cost
        // more than they gave there.
        if self.takes_part || !self.signals.is_consumer_waiting() {
            return core;
        }
        // The lock is free meanwhile: the thread that gets the core may need it first.
        drop(core);
        yield_now();
        self.core.lock()
    }

    /// Publishes for the claimed item, outside of the loop: a result, or something else than a plain result.
    #[cold]
    pub(super) fn publish(
        &self,
        chunk: &mut ChunkExecutor<I, B>,
        what: Result<B, Special<B>>,
    ) -> Claim {
        let seq = chunk.seq();
        let (mut cursor, arrival) = chunk.cursor();
        // The order of the three steps matters: the chunk must be in the consumer's reach before it has a
        // result; and the consumer must be woken after the result is there (publish / sleep). `publish`
        // passes the light barrier in between. `alarm` is not asked, as this is rare.
        self.arrive(arrival);
        let claim = match what {
            Ok(batch) => cursor.publish(batch),
            Err(special) => cursor.publish_special(special),
        };
        self.signals.published(seq);
        claim
    }

    /// Unordered stages: hands the chunk to the consumer, before its first result is published. So at any
    /// time the closure is seen as running, or its result is in the consumer's reach: the consumer of a
    /// cancelled stage asks in this order, and ends if it finds neither (`Cursor::look_around`).
    #[cold]
    pub(super) fn arrive(&self, arrival: &mut Option<ChunkReader<I, B>>) {
        if let Some(taking) = arrival.take() {
            self.arrivals.push(taking);
        }
    }

    #[cold]
    pub(super) fn item_panicked(
        &self,
        host: &dyn Host<I, B>,
        chunk: &mut ChunkExecutor<I, B>,
        here: &ItemContext,
        payload: Payload,
    ) -> Claim {
        let seq = chunk.seq();
        // The item's token is forgotten, as after any item. Whether something in the item was cut short does
        // not matter, because a panic counts in any case.
        here.item_over();
        self.signals.span().panicked(Some(seq), &*payload);
        let what = panicked(host, seq, payload);
        // First the cut, then the place: when the consumer sees the panic, the items after it are not wanted
        // any more. A value in its place, from an isolated job, is no failure.
        if what.is_err() {
            self.signals.fail(seq);
        } else {
            self.meter.note(|meter| meter.fate(Fate::Panicked, 1));
        }
        self.publish(chunk, what)
    }

    /// Consumer: runs what it finds on its own thread. If it is the only thread, that is one chunk, because
    /// it must then deliver the results; if it is one of the `n`, it is everything there is. `false`: there
    /// was nothing to run, and nothing else is new.
    pub(super) fn work_here(
        &self,
        host: &dyn Host<I, B>,
        runner: &mut dyn ItemRunner<I, B>,
        mut worker: Worker,
    ) -> bool {
        let mut core = self.core.lock();
        // Withdrawn before it works: a puller must not rely on a watcher that may be in the source for an
        // hour.
        core.set_looked(None);
        // The source may end without an item. That is new for the caller too: it must look again and not
        // sleep.
        let (mut found, ended) = (false, core.end.is_some());
        loop {
            let sought = self.seek(host, &mut worker, core);
            let again = sought.is_ok() && self.takes_part;
            found |= sought.is_ok();
            core = match sought {
                Ok(chunk) => {
                    // Where no thread can be started there may be no timer thread either, so deadlines are
                    // checked here.
                    cancel::keep_time();
                    // Only around the closures. A visit to the source has its own frame.
                    let is_nested = || self.signals.is_nested();
                    let here = Rc::clone(&worker.here) as Rc<dyn Current>;
                    let _here = context::in_own_closure(here, is_nested);
                    self.execute(host, runner, chunk, &mut worker)
                }
                Err(core) => core,
            };
            if !again {
                break;
            }
        }
        // The last search found nothing in this same critical section, or there is no other thread. So no
        // wake-up is missed: see `idle.rs`.
        worker.release(&mut core);
        found |= !ended && core.end.is_some();
        drop(core);
        // The state is dropped after each call, as the consumer may move to another thread in between.
        self.signals.stray(runner.retire());
        found
    }
}

/// What is published in place of an item whose closure panicked: a value if the job makes one of it, or the
/// panic.
pub(super) fn panicked<I, B>(
    host: &dyn Host<I, B>,
    seq: u64,
    payload: Payload,
) -> Result<B, Special<B>> {
    match host.failed(ItemError::panicked(seq, &*payload)) {
        Ok(batch) => {
            unwind::bury(payload);
            Ok(batch)
        }
        Err(_) => Err(Special::Panicked(payload)),
    }
}
