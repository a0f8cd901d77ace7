//! The side of the source: whoever is in it pulls runs, for itself or for others.

use crate::engine::context;
use crate::engine::desk::{Open, Wake};
use crate::engine::job::Job;
use crate::engine::source::Source;
use crate::engine::stage::{DeskOf, FillingOf, Origin, OwningOf, Shared};
use crate::engine::unwind::{Payload, catch};
use crate::engine::worker::{Guard, Refused, Worker};
use crate::sync::{Arc, Instant, MutexGuard, yield_now};
use std::rc::Rc;

/// How often to try for the source before giving up, if pulls are short.
const SPINS: usize = 200;
/// How many of these before the core is offered.
const TURNS: usize = 50;

/// What a source answers.
pub(crate) enum Next<I> {
    Item(I),
    End,
    Panicked(Payload),
}

impl<I> Next<I> {
    /// Whether this is no end: what the source waited for, it did not wait out, as nobody wants the stage's own
    /// results for now. Asked outside of the source.
    pub(crate) fn is_interrupted(&self) -> bool {
        matches!(self, Next::End) && context::is_unwanted()
    }
}

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
    pub(crate) fn visit_source(
        self: &Arc<Self>,
        worker: &mut Worker<J::State>,
    ) -> Option<OwningOf<S, J>> {
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
        worker: &mut Worker<J::State>,
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
        let mut room = self.room(origin.seq);
        if room == 0 {
            let wake_at = self.ask_for_room(origin.seq);
            room = self.room(origin.seq);
            if room == 0 {
                worker.refused = Refused::Room { wake_at };
                return None;
            }
            self.ctl.room_granted();
        }
        let want = self.pace.len_at(origin.seq).min(room).min(worker.most);
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
    ) -> (Option<OwningOf<S, J>>, Option<u64>, Guard<'a, S, J>) {
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
        filling: &mut FillingOf<S, J>,
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
                self.get_watched();
            }
            match next() {
                Some(item) => watched = pen.push(item),
                None => return Some(Next::End),
            }
        }
        None
    }

    /// Puller: nobody looks after what it holds, so somebody is called to.
    #[cold]
    pub(crate) fn get_watched(self: &Arc<Self>) {
        let mut desk = self.desk.lock();
        let wake = if desk.tell_puller() {
            Wake::Nobody // the consumer has come back
        } else {
            self.call_watcher(&mut desk)
        };
        drop(desk);
        self.act(wake);
    }

    /// Puller: goes into the source, where it may get stuck. Others' items are not to hang on that.
    pub(crate) fn leave_watched(&self, desk: &mut Guard<'_, S, J>, me: usize) -> Wake {
        let watched = desk.is_watched() || desk.batches == 0 || desk.is_covered();
        if watched || !self.is_something_unstarted(desk, me) {
            return Wake::Nobody;
        }
        self.call_watcher(desk)
    }

    /// Whether there are items that a thread with nothing else to do could start, now or as soon as
    /// somebody is found to be stuck; but for what that thread runs itself.
    pub(crate) fn is_something_unstarted(&self, desk: &DeskOf<S, J>, but: usize) -> bool {
        desk.is_something_in_hand() || !self.waiting.is_empty() || desk.richest(but).is_some()
    }

    /// Opens a run that others may see while it is filled.
    pub(crate) fn open_shared(&self, first: u64, want: usize) -> FillingOf<S, J> {
        let mut desk = self.desk.lock();
        let (filling, arrival) = self.open(&mut desk, first, want);
        desk.batches += 1;
        desk.show(Open {
            run: Arc::clone(filling.run()),
            arrival,
        });
        filling
    }

    /// Ends the filling of a shared run. `None`: a rescuer has it, with all its items.
    pub(crate) fn close(
        &self,
        desk: &mut Guard<'_, S, J>,
        filling: FillingOf<S, J>,
    ) -> Option<OwningOf<S, J>> {
        let last = filling.run().first() + filling.len() as u64 - 1;
        match filling.close(&mut desk.key) {
            Ok(mut run) => {
                run.arrival = desk.open.take().and_then(|open| open.arrival);
                Some(run)
            }
            Err(sealed) => {
                let item = sealed.settle(&mut desk.key)?;
                Some(self.single(desk, last, item))
            }
        }
    }

    /// The source has no more, for one reason or the other. `Some`: it panicked at this `seq`,
    /// which is to be [failed](ctl::Ctl::fail) once no lock is held.
    #[must_use]
    pub(crate) fn source_over(
        &self,
        desk: &mut Guard<'_, S, J>,
        seq: u64,
        over: Next<S::Item>,
    ) -> Option<u64> {
        if let Next::Panicked(payload) = over {
            self.source_panicked(desk, seq, payload);
            Some(seq)
        } else {
            desk.end = Some(seq);
            None
        }
    }

    /// The source is asked for no more, as the stage drains.
    pub(crate) fn drained(&self, desk: &mut DeskOf<S, J>, seq: u64) {
        desk.end = Some(seq);
        self.ctl.set_drained();
    }

    fn leave_source<'a>(
        self: &'a Arc<Self>,
        worker: &mut Worker<J::State>,
        origin: MutexGuard<'a, Origin<S::Far>>,
        mut desk: Guard<'a, S, J>,
        mut run: Option<OwningOf<S, J>>,
    ) -> Option<OwningOf<S, J>> {
        worker.repay(&mut desk);
        desk.pulls += 1;
        let mut more = !origin.ended && !self.ctl.is_cut();
        if more && self.room(origin.seq) == 0 {
            more = false;
            if desk.permits > 0 {
                // Somebody idles, and would pull if there were room.
                self.ask_for_room(origin.seq);
                if self.room(origin.seq) > 0 {
                    self.ctl.room_granted();
                    more = true;
                }
            }
        }
        let ended = origin.ended;
        if let Some(owning) = run.take() {
            if worker.permit {
                desk.activate(worker.thread, &owning);
                more |= owning.len() > 1;
                run = Some(owning);
            } else {
                self.waiting.push(owning);
            }
        }
        drop(origin); // who comes next sees what was left
        let wake = if more { desk.wake() } else { Wake::Nobody };
        drop(desk);
        self.act(wake);
        if ended {
            self.ctl.wake_consumer();
        }
        run
    }

    /// Asks the consumer for a wake-up when there is room: for half a run, not for every item.
    fn ask_for_room(&self, seq: u64) -> u64 {
        let bound = self.bound();
        let wake_at = (seq + self.pace.worth_waking()).saturating_sub(bound);
        self.ctl.wait_for_room(wake_at);
        wake_at
    }

    pub(crate) fn call_watcher(&self, desk: &mut Guard<'_, S, J>) -> Wake {
        desk.set_watched(true);
        desk.call_watcher(self.spare)
    }
}
