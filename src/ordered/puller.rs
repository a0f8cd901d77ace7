//! The side of the source: whoever is in it pulls runs, for itself or for others.

use crate::ordered::chunk::ChunkWriter;
use crate::ordered::pull::Pulled;
use crate::ordered::shared::{GuardOf, OrderedStage, OwningOf, SourceSlot};
use crate::ordered::worker::{PullRefusal, Worker};
use crate::par::job::Job;
use crate::par::source::Source;
use crate::runtime::context;
use crate::sync::{Arc, Instant, MutexGuard, yield_now};
use crate::unwind::catch;
use std::rc::Rc;

/// How often to try for the source before giving up, if pulls are short.
const SPINS: usize = 200;
/// How many of these before the core is offered.
const TURNS: usize = 50;

/// Pulls one item.
fn next<F: Iterator>(origin: &mut SourceSlot<F>) -> Pulled<F::Item> {
    match catch(|| origin.iter.as_mut()?.next()) {
        Ok(Some(item)) => {
            origin.seq += 1;
            Pulled::Item(item)
        }
        Ok(None) => {
            origin.ended = true;
            Pulled::End
        }
        Err(payload) => {
            origin.ended = true;
            Pulled::Panicked(payload)
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

impl<S: Source, J: Job<S::Item>> OrderedStage<S, J>
where
    S::Item: Send,
{
    pub(crate) fn visit(self: &Arc<Self>, worker: &mut Worker) -> Option<OwningOf<S, J>> {
        let origin = self.origin.as_ref()?;
        let mut guard = origin.try_lock();
        if guard.is_none() && self.cost.is_pull_short() {
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
            worker.refused = PullRefusal::Busy;
            return None;
        };
        self.pull(worker, origin)
    }

    /// Pulls a chunk.
    fn pull<'a>(
        self: &'a Arc<Self>,
        worker: &mut Worker,
        mut origin: MutexGuard<'a, SourceSlot<S::Far>>,
    ) -> Option<OwningOf<S, J>> {
        worker.refused = PullRefusal::No;
        // A chunk that was left by who had no permit may have come since this thread looked for one, and
        // perhaps nobody else is there to run it: the consumer, taking part, may have left it and sleep.
        if origin.ended || self.signals.is_cut() || !self.waiting.is_empty() {
            return None;
        }
        if self.signals.is_draining() {
            origin.ended = true;
            let seq = origin.seq;
            let mut core = self.core.lock();
            self.drained(&mut core, seq);
            drop(origin); // as in `leave_source`
            drop(core);
            self.signals.wake_consumer();
            return None;
        }
        let want = self.want(worker, origin.seq)?;
        let began = Instant::now();
        worker.here.set_in_source();
        let in_source = context::in_source(Rc::clone(&worker.here) as _, self.signals.inside());
        let first = origin.seq;
        let (chunk, failed, core) = match next(&mut origin) {
            Pulled::Item(item) if want == 1 => {
                drop(in_source);
                let mut core = self.core.lock();
                let chunk = self.single(&mut core, first, item);
                (Some(chunk), None, core)
            }
            Pulled::Item(item) => self.fill(&mut origin, in_source, first, item, want),
            over => {
                drop(in_source);
                origin.ended = !over.is_interrupted();
                let mut core = self.core.lock();
                let failed = (origin.ended)
                    .then(|| self.source_over(&mut core, first, over))
                    .flatten();
                (None, failed, core)
            }
        };
        worker.here.forget_token();
        let len = (origin.seq - first).max(1);
        worker.pull = Some(began.elapsed().as_nanos() as f32 / len as f32);
        let pulled = self.leave_source(worker, origin, core, chunk);
        if let Some(seq) = failed {
            self.signals.fail(seq);
        }
        pulled
    }

    /// Pulls more items after the first. Comes back with the state locked, with a chunk unless a
    /// rescuer has taken all of it, and with the `seq` at which the source panicked, if it did.
    #[allow(clippy::type_complexity)]
    fn fill<'a>(
        self: &'a Arc<Self>,
        origin: &mut MutexGuard<'a, SourceSlot<S::Far>>,
        in_source: context::FrameGuard,
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
        let over = pulled.unwrap_or_else(|payload| Some(Pulled::Panicked(payload)));
        drop(in_source);
        let over = over.filter(|over| !over.is_interrupted());
        origin.ended = over.is_some();
        origin.seq = first + filling.len() as u64;
        let mut core = self.core.lock();
        let chunk = self.close(&mut core, filling);
        let failed = over.and_then(|over| self.source_over(&mut core, origin.seq, over));
        (chunk, failed, core)
    }

    /// The loop by itself, for the sake of its registers.
    #[inline(never)]
    fn fill_from(
        self: &Arc<Self>,
        mut next: impl FnMut() -> Option<S::Item>,
        filling: &mut ChunkWriter<S::Item, J::Batch>,
        item: S::Item,
    ) -> Option<Pulled<S::Item>> {
        let (signals, first) = (&*self.signals, filling.chunk().first());
        let mut cursor = filling.cursor();
        let mut watched = cursor.push(item);
        // A batch exists only while nobody starves.
        while !cursor.is_full() && !signals.is_pull_over(first) {
            if !watched {
                if cursor.is_sealed() {
                    break;
                }
                self.get_watched(self);
            }
            match next() {
                Some(item) => watched = cursor.push(item),
                None => return Some(Pulled::End),
            }
        }
        None
    }

    fn leave_source<'a>(
        self: &'a Arc<Self>,
        worker: &mut Worker,
        origin: MutexGuard<'a, SourceSlot<S::Far>>,
        mut core: GuardOf<'a, S, J>,
        mut chunk: Option<OwningOf<S, J>>,
    ) -> Option<OwningOf<S, J>> {
        let ended = origin.ended;
        let wake = self.pulled(worker, &mut core, origin.seq, ended, &mut chunk);
        drop(origin); // who comes next sees what was left
        drop(core);
        self.act(wake);
        if ended {
            self.signals.wake_consumer();
        }
        chunk
    }
}
