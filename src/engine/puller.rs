//! The side of the source: whoever is in it pulls runs, for itself or for others.

use crate::engine::context;
use crate::engine::job::Job;
use crate::engine::pull::Next;
use crate::engine::run::Filling;
use crate::engine::source::Source;
use crate::engine::stage::{GuardOf, Origin, OwningOf, Shared};
use crate::engine::unwind::catch;
use crate::engine::worker::{Refused, Worker};
use crate::sync::{Arc, Instant, MutexGuard, yield_now};
use std::rc::Rc;

/// How often to try for the source before giving up, if pulls are short.
const SPINS: usize = 200;
/// How many of these before the core is offered.
const TURNS: usize = 50;

/// Pulls one item.
fn next<F: Iterator>(origin: &mut Origin<F>) -> Next<F::Item> {
    match catch(|| origin.iter.as_mut()?.next()) {
        Ok(Some(item)) => {
            origin.seq += 1;
            Next::Item(item)
        }
        Ok(None) => {
            origin.ended = true;
            Next::End
        }
        Err(payload) => {
            origin.ended = true;
            Next::Panicked(payload)
        }
    }
}

/// A larger source is not moved.
const MOVABLE: usize = 256;

/// A source in a local variable, for the time of a loop: the barriers in there would have it loaded
/// and stored for each item where it is at home. Its drop brings it home.
struct AtHand<'a, F> {
    home: &'a mut Option<F>,
    iter: Option<F>,
}

impl<F> Drop for AtHand<'_, F> {
    #[inline]
    fn drop(&mut self) {
        *self.home = self.iter.take();
    }
}

impl<S: Source, J: Job<S::Item>> Shared<S, J>
where
    S::Item: Send,
{
    pub(crate) fn visit(self: &Arc<Self>, worker: &mut Worker) -> Option<OwningOf<S, J>> {
        let origin = self.origin.as_ref()?;
        let mut guard = origin.try_lock();
        if guard.is_none() && self.pace.is_pull_short() {
            // It will be over in a moment, and going to sleep costs more than that.
            for turn in 1..=SPINS {
                if turn % TURNS == 0 {
                    yield_now(); // to whoever is in it, if it has been preempted
                }
                std::hint::spin_loop();
                guard = origin.try_lock();
                if guard.is_some() {
                    break;
                }
            }
        }
        let Some(origin) = guard else {
            worker.refused = Refused::Busy;
            return None;
        };
        self.pull(worker, origin)
    }

    /// Pulls a run.
    fn pull<'a>(
        self: &'a Arc<Self>,
        worker: &mut Worker,
        mut origin: MutexGuard<'a, Origin<S::Far>>,
    ) -> Option<OwningOf<S, J>> {
        worker.refused = Refused::No;
        // A run that was left by who had no permit may have come since this thread looked for one, and
        // perhaps nobody else is there to run it: the consumer, taking part, may have left it and sleep.
        if origin.ended || self.ctl.is_cut() || !self.waiting.is_empty() {
            return None;
        }
        if self.ctl.is_draining() {
            origin.ended = true;
            let seq = origin.seq;
            let mut desk = self.desk.lock();
            self.drained(&mut desk, seq);
            drop(origin); // as in `leave_source`
            drop(desk);
            self.ctl.wake_consumer();
            return None;
        }
        let want = self.want(worker, origin.seq)?;
        let began = Instant::now();
        worker.here.set_in_source();
        let in_source = context::in_source(Rc::clone(&worker.here) as _, self.ctl.inside());
        let first = origin.seq;
        let (run, failed, desk) = match next(&mut origin) {
            Next::Item(item) if want == 1 => {
                drop(in_source);
                let mut desk = self.desk.lock();
                let run = self.single(&mut desk, first, item);
                (Some(run), None, desk)
            }
            Next::Item(item) => self.fill(&mut origin, in_source, first, item, want),
            over => {
                drop(in_source);
                origin.ended = !over.is_interrupted();
                let mut desk = self.desk.lock();
                let failed = (origin.ended)
                    .then(|| self.source_over(&mut desk, first, over))
                    .flatten();
                (None, failed, desk)
            }
        };
        worker.here.forget_token();
        let len = (origin.seq - first).max(1);
        worker.pull = Some(began.elapsed().as_nanos() as f32 / len as f32);
        let pulled = self.leave_source(worker, origin, desk, run);
        if let Some(seq) = failed {
            self.ctl.fail(seq);
        }
        pulled
    }

    /// Pulls more items after the first. Comes back with the desk locked, with a run unless a
    /// rescuer has taken all of it, and with the `seq` at which the source panicked, if it did.
    #[allow(clippy::type_complexity)]
    fn fill<'a>(
        self: &'a Arc<Self>,
        origin: &mut MutexGuard<'a, Origin<S::Far>>,
        in_source: context::Entered,
        first: u64,
        item: S::Item,
        want: usize,
    ) -> (Option<OwningOf<S, J>>, Option<u64>, GuardOf<'a, S, J>) {
        let mut filling = self.open_shared(first, want);
        // One catch around the loop: nothing in it panics but the source.
        let pulled = catch(|| {
            if size_of::<S::Far>() > MOVABLE {
                let iter = &mut origin.iter;
                return self.fill_from(|| iter.as_mut()?.next(), &mut filling, item);
            }
            let mut at_hand = AtHand {
                iter: Some(origin.iter.take()?),
                home: &mut origin.iter,
            };
            self.fill_from(|| at_hand.iter.as_mut()?.next(), &mut filling, item)
        });
        let over = pulled.unwrap_or_else(|payload| Some(Next::Panicked(payload)));
        drop(in_source);
        let over = over.filter(|over| !over.is_interrupted());
        origin.ended = over.is_some();
        origin.seq = first + filling.len() as u64;
        let mut desk = self.desk.lock();
        let run = self.close(&mut desk, filling);
        let failed = over.and_then(|over| self.source_over(&mut desk, origin.seq, over));
        (run, failed, desk)
    }

    /// The loop by itself, for the sake of its registers.
    #[inline(never)]
    fn fill_from(
        self: &Arc<Self>,
        mut next: impl FnMut() -> Option<S::Item>,
        filling: &mut Filling<S::Item, J::Batch>,
        item: S::Item,
    ) -> Option<Next<S::Item>> {
        let (ctl, first) = (&*self.ctl, filling.run().first());
        let mut pen = filling.pen();
        let mut watched = pen.push(item);
        // A batch exists only while nobody starves.
        while !pen.is_full() && !ctl.is_pull_over(first) {
            if !watched {
                if pen.is_sealed() {
                    break;
                }
                self.get_watched(self);
            }
            match next() {
                Some(item) => watched = pen.push(item),
                None => return Some(Next::End),
            }
        }
        None
    }

    fn leave_source<'a>(
        self: &'a Arc<Self>,
        worker: &mut Worker,
        origin: MutexGuard<'a, Origin<S::Far>>,
        mut desk: GuardOf<'a, S, J>,
        mut run: Option<OwningOf<S, J>>,
    ) -> Option<OwningOf<S, J>> {
        let ended = origin.ended;
        let wake = self.pulled(worker, &mut desk, origin.seq, ended, &mut run);
        drop(origin); // who comes next sees what was left
        drop(desk);
        self.act(wake);
        if ended {
            self.ctl.wake_consumer();
        }
        run
    }
}
