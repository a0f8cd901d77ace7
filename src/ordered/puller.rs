//! The side of the source: the thread in it (the puller) pulls chunks, for itself or for others. `pull.rs`
//! has what it does with the other threads.

use crate::ordered::chunk::ChunkWriter;
use crate::ordered::pull::Pulled;
use crate::ordered::shared::{GuardOf, OrderedStage, OwningOf, SourceSlot};
use crate::ordered::weight::Hand;
use crate::ordered::worker::{PullRefusal, Worker};
use crate::par::job::Job;
use crate::par::source::Source;
use crate::runtime::context;
use crate::runtime::meter::Doing;
use crate::runtime::trace::Entered;
use crate::sync::{Arc, Instant, MutexGuard, yield_now};
use crate::unwind::catch;
use std::rc::Rc;
use std::time::Duration;

/// For how long a thread tries to get into the source before it gives up, if pulls are short.
const PATIENCE: Duration = Duration::from_micros(30);
/// After this many attempts it offers its core once.
const TURNS: usize = 50;

/// A larger source is not moved out of its slot.
const MOVABLE: usize = 256;

/// A source in a local variable for the duration of a loop. In its slot, the barriers of the loop would have
/// it loaded and stored for each item. The drop brings it home, on unwind too.
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
    /// Worker: enters the source if it is free, and pulls a chunk if there is room. The caller does not hold
    /// the scheduler's lock: the source's lock comes before it in the order of locks, and the source may
    /// block.
    pub(super) fn visit(self: &Arc<Self>, worker: &mut Worker) -> Option<OwningOf<S, J>> {
        // `try_lock`, not `lock`: the puller may be in there for an hour, and a thread that waited for it
        // could not run what becomes ready meanwhile.
        let origin = self.origin.as_ref()?;
        let mut guard = origin.try_lock();
        if guard.is_none() && self.cost.is_pull_short() {
            // It will be over in a moment, and a sleep with its wake-up costs more than that.
            let began = Instant::now();
            for turn in 1.. {
                if turn % TURNS == 0 {
                    if began.elapsed() > PATIENCE {
                        break;
                    }
                    yield_now(); // The puller may have been preempted, perhaps by this thread.
                }
                std::hint::spin_loop();
                guard = origin.try_lock();
                if guard.is_some() {
                    break;
                }
            }
        }
        let Some(origin) = guard else {
            // For the last look before a sleep: a source that is busy now may be free by then.
            worker.refused = PullRefusal::Busy;
            return None;
        };
        self.pull(worker, origin)
    }

    /// The next item: the one in hand, or one that `pull` gives. Its panic is caught here, under the source's lock, so
    /// that the lock and the `seq` stay whole; and so is that of the closure that weighs it.
    pub(super) fn next(
        &self,
        hand: &mut Option<Hand<'_, S::Item>>,
        pull: impl FnOnce() -> Option<S::Item>,
    ) -> Pulled<S::Item> {
        let Some(hand) = hand else {
            return match catch(pull) {
                Ok(item) => item.map_or(Pulled::End, Pulled::Item),
                Err(payload) => Pulled::Panicked(payload),
            };
        };
        let weighed = |item| {
            let weight = self.job.item_weight(&item);
            (item, weight as u64)
        };
        match catch(|| hand.take_held().or_else(|| pull().map(weighed))) {
            Ok(Some((item, weight))) => hand.add(item, weight).map_or(Pulled::Held, Pulled::Item),
            Ok(None) => Pulled::End,
            Err(payload) => Pulled::Panicked(payload),
        }
    }

    /// Tells what has come of a visit to the source, if it is a panic at this position.
    pub(super) fn tell_panic(&self, seq: u64, pulled: &Pulled<S::Item>) {
        if let Pulled::Panicked(payload) = pulled {
            self.signals.span().panicked(Some(seq), &**payload);
        }
    }

    /// Pulls a chunk. Comes here with the source's lock, and leaves with neither lock.
    fn pull<'a>(
        self: &'a Arc<Self>,
        worker: &mut Worker,
        mut origin: MutexGuard<'a, SourceSlot<S::Far>>,
    ) -> Option<OwningOf<S, J>> {
        loop {
            // If it gives nothing, then not because another thread was faster.
            worker.refused = PullRefusal::No;
            // A chunk without an owner may have come since this thread looked for one: a puller without a permit
            // leaves it there *before* it releases the source. If this thread went in and blocked now, perhaps no
            // thread would be left to run that chunk; a consumer that takes part may have left it and sleep.
            if origin.ended || self.signals.is_cut() {
                return None;
            }
            if self.is_any_unowned() {
                worker.refused = PullRefusal::WorkFirst;
                return None;
            }
            // What is in hand was pulled, so it is run.
            if self.signals.is_draining() && !self.is_holding() {
                origin.ended = true;
                // The source's lock is held, so no item is pulled after this `seq`.
                let seq = origin.seq;
                let mut core = self.core.lock();
                self.drained(&mut core, seq);
                drop(origin); // The order is that of `leave_source`.
                drop(core);
                // It may wait for exactly the item that will not come.
                self.signals.wake_consumer();
                return None;
            }
            let mut want = self.want(worker, origin.seq)?;
            if want > 1 && !self.company.is_here() {
                self.ask_for_company(self);
                want = 1;
            }
            // From here on this thread may be stuck in user code, for any time. It holds the source's lock and no
            // other that anyone waits for.
            let began = Instant::now();
            self.meter
                .note(|meter| meter.set(began, worker.thread, Doing::Source));
            worker.here.set_in_source();
            // A closure that the source calls sees the source's token, and a wait in there ends when the stage
            // does.
            let in_source = (
                context::in_source(Rc::clone(&worker.here) as _, self.signals.inside()),
                self.signals.span().enter(),
            );
            let first = origin.seq;
            let mut hand = self.hand(first);
            // A chunk of one item is not shown to other threads while it is filled: it is full at once, and
            // nothing of it can get stuck in the source.
            let (chunk, failed, core) = match self.next(&mut hand, || origin.iter.as_mut()?.next())
            {
                Pulled::Item(item) if want == 1 => {
                    origin.seq += 1;
                    drop((in_source, hand));
                    let mut core = self.core.lock();
                    let chunk = self.single(&mut core, first, item);
                    (Some(chunk), None, core)
                }
                Pulled::Item(item) => self.fill(&mut origin, in_source, hand, first, item, want),
                // It waits for room, like a thread that comes later.
                Pulled::Held => {
                    drop((in_source, hand));
                    worker.here.forget_token();
                    self.meter.set(worker.thread, Doing::Nothing);
                    continue;
                }
                over => {
                    self.tell_panic(first, &over);
                    drop((in_source, hand));
                    // An interrupted source has not ended: it is asked again later.
                    origin.ended = !over.is_interrupted();
                    let mut core = self.core.lock();
                    let failed = (origin.ended)
                        .then(|| self.source_over(&mut core, first, over))
                        .flatten();
                    (None, failed, core)
                }
            };
            // The source's token, if it has asked for one, is of no more interest.
            worker.here.forget_token();
            let len = (origin.seq - first).max(1);
            self.meter.note(|meter| {
                meter.pulled_from(first, origin.seq - first);
                self.note_weight(meter);
            });
            // An average over the chunk, for the cost model. It includes the time in which the source blocked.
            worker.pull = Some(began.elapsed().as_nanos() as f32 / len as f32);
            let pulled = self.leave_source(worker, origin, core, chunk);
            // Without any lock, because it runs hooks of the user's tokens.
            if let Some(seq) = failed {
                self.signals.fail(seq);
            }
            return pulled;
        }
    }

    /// Pulls more items after the first. Returns with the state locked. The chunk is `None` if a rescuer has
    /// taken all of it, and the `seq` is where the source panicked, if it did.
    #[allow(clippy::type_complexity)]
    fn fill<'a>(
        self: &'a Arc<Self>,
        origin: &mut MutexGuard<'a, SourceSlot<S::Far>>,
        in_source: (context::FrameGuard, Entered<'_>),
        mut hand: Option<Hand<'_, S::Item>>,
        first: u64,
        item: S::Item,
        want: usize,
    ) -> (Option<OwningOf<S, J>>, Option<u64>, GuardOf<'a, S, J>) {
        // From here on a rescuer may take over what has been pulled.
        let mut filling = self.open_shared(first, want);
        // One `catch` around the whole loop, not one per item: nothing in it panics except the source.
        // The item in `filling` at a panic has been pushed already, so no item is lost by the unwind.
        let pulled = catch(|| {
            if let Some(hand) = &mut hand {
                let (iter, mut stopped) = (&mut origin.iter, false);
                let next = || {
                    stopped = hand.is_full();
                    if stopped {
                        return None;
                    }
                    let item = iter.as_mut()?.next()?;
                    let weight = self.job.item_weight(&item);
                    let added = hand.add(item, weight as u64);
                    stopped = added.is_none();
                    added
                };
                let over = self.fill_from(next, &mut filling, item);
                return over.filter(|_| !stopped);
            }
            if size_of::<S::Far>() > MOVABLE {
                let iter = &mut origin.iter;
                return self.fill_from(|| iter.as_mut()?.next(), &mut filling, item);
            }
            // A copy of the source in registers. Only this thread uses it, because it holds the source's
            // lock.
            let mut at_hand = AtHand {
                iter: Some(origin.iter.take()?),
                home: &mut origin.iter,
            };
            self.fill_from(|| at_hand.iter.as_mut()?.next(), &mut filling, item)
        });
        let over = pulled.unwrap_or_else(|payload| Some(Pulled::Panicked(payload)));
        if let Some(over) = &over {
            self.tell_panic(first + filling.len() as u64, over);
        }
        drop(hand);
        // First outside of the source, as `is_interrupted` must be asked there.
        drop(in_source);
        let over = over.filter(|over| !over.is_interrupted());
        origin.ended = over.is_some();
        // `pulled` counts each item that was added, also those that a rescuer has taken.
        origin.seq = first + filling.len() as u64;
        // The source's lock is still held: the chunk becomes visible before another thread can pull what
        // follows it.
        let mut core = self.core.lock();
        let chunk = self.close(&mut core, filling);
        let failed = over.and_then(|over| self.source_over(&mut core, origin.seq, over));
        (chunk, failed, core)
    }

    /// The loop alone, so that the compiler keeps its variables in registers.
    #[inline(never)]
    fn fill_from(
        self: &Arc<Self>,
        mut next: impl FnMut() -> Option<S::Item>,
        filling: &mut ChunkWriter<S::Item, J::Batch>,
        item: S::Item,
    ) -> Option<Pulled<S::Item>> {
        let (signals, first) = (&*self.signals, filling.chunk().first());
        let mut cursor = filling.cursor();
        // The first item was pulled before the chunk was opened; it may already be too late to pull more.
        let mut watched = cursor.push(item);
        // A loop of several items is worth its latency only while no thread waits for the first ones:
        // `is_pull_over` says if the consumer sleeps for one of them. Its load pairs with the barrier in
        // `push`.
        while !cursor.is_full() && !signals.is_pull_over(first) {
            // `push` saw that the chunk is not `OPEN`: it was sealed, and the last item must be settled; or
            // no thread watches, and one is called before this thread goes back into the source.
            if !watched {
                // A rescuer has the items, so nothing more can be added. `close` brings back what it has
                // missed.
                if cursor.is_sealed() {
                    break;
                }
                self.get_watched(self);
                // A thread was refused just now, and no other is there.
                if !self.company.is_here() {
                    break;
                }
            }
            match next() {
                Some(item) => watched = cursor.push(item),
                // Whether this is an end or an interruption is asked outside of the source.
                None => return Some(Pulled::End),
            }
        }
        None
    }

    /// Leaves the source. The chunk that it returns is for this thread to run.
    fn leave_source<'a>(
        self: &'a Arc<Self>,
        worker: &mut Worker,
        origin: MutexGuard<'a, SourceSlot<S::Far>>,
        mut core: GuardOf<'a, S, J>,
        mut chunk: Option<OwningOf<S, J>>,
    ) -> Option<OwningOf<S, J>> {
        // A copy: the slot is released before the last use.
        let ended = origin.ended;
        // In the same critical section in which the chunk becomes visible, so that no sleeper misses it.
        let wake = self.pulled(worker, &mut core, origin.seq, ended, &mut chunk);
        // The source first, and while the scheduler's lock is held: a thread that goes to sleep tries the
        // source's lock under the scheduler's (handshake idle / wake). So it finds the source free, or is on
        // the list when `pulled` looks for a sleeper.
        drop(origin);
        drop(core);
        // Without locks, as it may start a thread.
        self.act(wake);
        // A consumer may sleep for an item past the end. It looks at `end` under the lock that was just
        // released.
        if ended {
            self.signals.wake_consumer();
        }
        chunk
    }
}
