//! What a thread of a stage does with what it has found: it runs all of it, and then looks again.

use crate::cancel;
use crate::error::{Cancelled, ItemError};
use crate::ordered::chunk::{ChunkExecutor, ChunkReader, Claim, Special};
use crate::ordered::item_context::ItemContext;
use crate::ordered::sched::{Host, ItemRunner, Sched, SchedGuard};
use crate::ordered::worker::Worker;
use crate::runtime::context::{self, Current};
use crate::runtime::cost::PARTS;
use crate::runtime::life::Scheduler;
use crate::sync::{Arc, Instant, yield_now};
use crate::unwind::{self, Payload, catch};
use std::rc::Rc;

impl<I, B> Sched<I, B> {
    /// The life of a leased thread.
    pub(super) fn work(
        &self,
        host: &dyn Host<I, B>,
        runner: &mut dyn ItemRunner<I, B>,
        thread: usize,
    ) {
        let here = Rc::new(ItemContext::new(Arc::clone(&self.signals)));
        let current = context::in_closure(Rc::clone(&here) as Rc<dyn Current>);
        let mut worker = Worker::new(thread, here);
        let unparker = worker.parker.unparker().clone();
        self.signals.register(unparker.clone());
        let bug = catch(|| {
            let mut core = self.core.lock();
            core.roster.register(thread, unparker);
            while let Some(chunk) = self.find(host, runner, &mut worker, core) {
                core = self.execute(host, runner, chunk, &mut worker);
            }
        });
        if let Err(bug) = bug {
            // Not the user's, whose panics have been caught: ours. The consumer must not wait for ever.
            self.signals.stray(Some(bug));
            self.signals.cancel(Cancelled::default());
        }
        self.signals.stray(runner.retire());
        drop(current);
    }

    /// Runs all items of a chunk that are left to it. Comes back with the state locked.
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
        let len = chunk.len().max(1);
        let stride = len.div_ceil(PARTS);
        let mut parts = [0.0; PARTS];
        let mut timed = 0;
        let mut mark = Instant::now();
        chunk.start();
        loop {
            let before = chunk.next();
            let claim = runner
                .run_items(self, &mut chunk, &worker.here, stride)
                .unwrap_or_else(|payload| self.item_panicked(host, &mut chunk, worker, payload));
            let done = chunk.next() - before;
            if timed < PARTS {
                let now = Instant::now();
                parts[timed] = now.duration_since(mark).as_nanos() as f32 / done as f32;
                timed += 1;
                mark = now;
            }
            if claim == Claim::Contested {
                let mut core = self.core.lock();
                if !chunk.settle(&mut core.key) {
                    self.cost.observe(len, &mut parts[..timed], worker.pull);
                    self.want_inline(&mut core);
                    core.deactivate(worker.thread);
                    drop(chunk);
                    return self.give_way(core);
                }
            }
        }
    }

    /// Between two runs: offers this core to whom the consumer waits for, or to itself. Threads that
    /// wake one another are often put on one core, and would wait there for the end of a time slice.
    pub(super) fn give_way<'a>(&'a self, core: SchedGuard<'a, I, B>) -> SchedGuard<'a, I, B> {
        if self.takes_part || !self.signals.is_consumer_waiting() {
            return core;
        }
        drop(core);
        yield_now();
        self.core.lock()
    }

    /// Publishes out of the loop what is given for the claimed item.
    #[cold]
    pub(super) fn publish(
        &self,
        chunk: &mut ChunkExecutor<I, B>,
        what: Result<B, Special<B>>,
    ) -> Claim {
        let seq = chunk.seq();
        let (mut cursor, arrival) = chunk.cursor();
        self.arrive(arrival);
        let claim = match what {
            Ok(batch) => cursor.publish(batch),
            Err(special) => cursor.publish_special(special),
        };
        self.signals.published(seq);
        claim
    }

    /// Unordered stages: hands the chunk to the consumer. Before its first result is published, so
    /// that at any time a closure runs, or its result is in the consumer's reach.
    #[cold]
    pub(super) fn arrive(&self, arrival: &mut Option<ChunkReader<I, B>>) {
        if let Some(taking) = arrival.take() {
            self.arrivals.push(taking);
        }
    }

    #[cold]
    fn item_panicked(
        &self,
        host: &dyn Host<I, B>,
        chunk: &mut ChunkExecutor<I, B>,
        worker: &mut Worker,
        payload: Payload,
    ) -> Claim {
        let seq = chunk.seq();
        worker.here.item_over();
        let what = panicked(host, seq, payload);
        if what.is_err() {
            self.signals.fail(seq);
        }
        self.publish(chunk, what)
    }

    /// The consumer's thread runs what it finds: one chunk, as it is alone and must deliver, or all there
    /// is, as one of the `n`. `false`: there is nothing to run, and no other news.
    pub(super) fn work_here(
        &self,
        host: &dyn Host<I, B>,
        runner: &mut dyn ItemRunner<I, B>,
        mut worker: Worker,
    ) -> bool {
        let mut core = self.core.lock();
        core.set_looked(None); // who works watches nobody, and may itself get stuck in the source
        let (mut found, ended) = (false, core.end.is_some());
        loop {
            let sought = self.seek(host, &mut worker, core);
            let again = sought.is_ok() && self.takes_part;
            found |= sought.is_ok();
            core = match sought {
                Ok(chunk) => {
                    cancel::keep_time();
                    let _here = context::in_closure(Rc::clone(&worker.here) as Rc<dyn Current>);
                    self.execute(host, runner, chunk, &mut worker)
                }
                Err(core) => core,
            };
            if !again {
                break;
            }
        }
        worker.release(&mut core);
        found |= !ended && core.end.is_some();
        drop(core);
        self.signals.stray(runner.retire());
        found
    }
}

/// What stands at the place of an item whose closure panicked.
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
