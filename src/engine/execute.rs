//! What a thread of a stage does with what it has found: it runs all of it, and then looks again.

use crate::engine::cancel;
use crate::engine::context::{self, Current};
use crate::engine::cost::PARTS;
use crate::engine::ctl::Here;
use crate::engine::run::{Claim, Odd, Owning, Taking};
use crate::engine::sched::{Guard, Host, Runner, Sched};
use crate::engine::unwind::{self, Payload, catch};
use crate::engine::worker::Worker;
use crate::error::{Cancelled, Failure};
use crate::sync::{Arc, Instant, yield_now};
use std::rc::Rc;

impl<I, B> Sched<I, B> {
    /// The life of a leased thread.
    pub(crate) fn work(&self, host: &dyn Host<I, B>, runner: &mut dyn Runner<I, B>, thread: usize) {
        let here = Rc::new(Here::new(Arc::clone(&self.ctl)));
        let current = context::in_closure(Rc::clone(&here) as Rc<dyn Current>);
        let mut worker = Worker::new(thread, here);
        let unparker = worker.parker.unparker().clone();
        self.ctl.register(unparker.clone());
        let bug = catch(|| {
            let mut desk = self.desk.lock();
            desk.register(thread, unparker);
            while let Some(run) = self.find(host, runner, &mut worker, desk) {
                desk = self.execute(host, runner, run, &mut worker);
            }
        });
        if let Err(bug) = bug {
            // Not the user's, whose panics have been caught: ours. The consumer must not wait for ever.
            self.ctl.stray(Some(bug));
            self.ctl.cancel(Cancelled::default());
        }
        self.ctl.stray(runner.retire());
        drop(current);
    }

    /// Runs all items of a run that are left to it. Comes back with the desk locked.
    pub(crate) fn execute<'a>(
        &'a self,
        host: &dyn Host<I, B>,
        runner: &mut dyn Runner<I, B>,
        mut run: Owning<I, B>,
        worker: &mut Worker,
    ) -> Guard<'a, I, B> {
        if let Some(timed) = &self.timed {
            return self.execute_timed(host, runner, run, worker, timed);
        }
        let len = run.len().max(1);
        let stride = len.div_ceil(PARTS);
        let mut parts = [0.0; PARTS];
        let mut timed = 0;
        let mut mark = Instant::now();
        run.start();
        loop {
            let before = run.next();
            let claim = runner
                .run_items(self, &mut run, &worker.here, stride)
                .unwrap_or_else(|payload| self.item_panicked(host, &mut run, worker, payload));
            let done = run.next() - before;
            if timed < PARTS {
                let now = Instant::now();
                parts[timed] = now.duration_since(mark).as_nanos() as f32 / done as f32;
                timed += 1;
                mark = now;
            }
            if claim == Claim::Contested {
                let mut desk = self.desk.lock();
                if !run.settle(&mut desk.key) {
                    self.pace.observe(len, &mut parts[..timed], worker.pull);
                    self.want_inline(&mut desk);
                    desk.deactivate(worker.thread);
                    drop(run);
                    return self.give_way(desk);
                }
            }
        }
    }

    /// Between two runs: offers this core to whom the consumer waits for, or to itself. Threads that
    /// wake one another are often put on one core, and would wait there for the end of a time slice.
    pub(crate) fn give_way<'a>(&'a self, desk: Guard<'a, I, B>) -> Guard<'a, I, B> {
        if self.takes_part || !self.ctl.is_consumer_waiting() {
            return desk;
        }
        drop(desk);
        yield_now();
        self.desk.lock()
    }

    /// Publishes out of the loop what is given for the claimed item.
    #[cold]
    pub(crate) fn publish(&self, run: &mut Owning<I, B>, what: Result<B, Odd<B>>) -> Claim {
        let seq = run.seq();
        let (mut hand, arrival) = run.hand();
        self.arrive(arrival);
        let claim = match what {
            Ok(batch) => hand.publish(batch),
            Err(odd) => hand.publish_odd(odd),
        };
        self.ctl.published(seq);
        claim
    }

    /// Unordered stages: hands the run to the consumer. Before its first result is published, so
    /// that at any time a closure runs, or its result is in the consumer's reach.
    #[cold]
    pub(crate) fn arrive(&self, arrival: &mut Option<Taking<I, B>>) {
        if let Some(taking) = arrival.take() {
            self.arrivals.push(taking);
        }
    }

    #[cold]
    fn item_panicked(
        &self,
        host: &dyn Host<I, B>,
        run: &mut Owning<I, B>,
        worker: &mut Worker,
        payload: Payload,
    ) -> Claim {
        let seq = run.seq();
        worker.here.item_over();
        let what = panicked(host, seq, payload);
        if what.is_err() {
            self.ctl.fail(seq);
        }
        self.publish(run, what)
    }

    /// The consumer's thread runs what it finds: one run, as it is alone and must deliver, or all there
    /// is, as one of the `n`. `false`: there is nothing to run, and no other news.
    pub(crate) fn work_here(
        &self,
        host: &dyn Host<I, B>,
        runner: &mut dyn Runner<I, B>,
        mut worker: Worker,
    ) -> bool {
        let mut desk = self.desk.lock();
        desk.set_looked(None); // who works watches nobody, and may itself get stuck in the source
        let (mut found, ended) = (false, desk.end.is_some());
        loop {
            let sought = self.seek(host, &mut worker, desk);
            let again = sought.is_ok() && self.takes_part;
            found |= sought.is_ok();
            desk = match sought {
                Ok(run) => {
                    cancel::keep_time();
                    let _here = context::in_closure(Rc::clone(&worker.here) as Rc<dyn Current>);
                    self.execute(host, runner, run, &mut worker)
                }
                Err(desk) => desk,
            };
            if !again {
                break;
            }
        }
        worker.release(&mut desk);
        found |= !ended && desk.end.is_some();
        drop(desk);
        self.ctl.stray(runner.retire());
        found
    }
}

/// What stands at the place of an item whose closure panicked.
pub(crate) fn panicked<I, B>(
    host: &dyn Host<I, B>,
    seq: u64,
    payload: Payload,
) -> Result<B, Odd<B>> {
    match host.failed(Failure::panicked(seq, &*payload)) {
        Ok(batch) => {
            unwind::bury(payload);
            Ok(batch)
        }
        Err(_) => Err(Odd::Panicked(payload)),
    }
}
