//! The side of the threads: find something to run, and run it.
//!
//! A worker looks in this order: whole runs that nobody owns; the run of one other worker that has
//! not moved for a while (one slow item must not hold its neighbours, although there is always
//! something new to pull); the source; unclaimed items inside other workers' runs; what a puller
//! that is stuck in the source holds. Then it watches or sleeps (see `desk.rs`).

use crate::engine::cancel;
use crate::engine::cost::PARTS;
use crate::engine::ctl::{self, Here};
use crate::engine::desk::{Desk, Open, Wake};
use crate::engine::job::Job;
use crate::engine::run::{self, Claim, Odd};
use crate::engine::source::Source;
use crate::engine::stage::{DeskOf, FillingOf, Origin, OwningOf, Shared};
use crate::engine::unwind::{self, Payload, catch};
use crate::error::Failure;
use crate::sync::{Arc, Instant, MutexGuard, Parker};
use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::Duration;

/// The naps of whoever watches: from this, doubled up to that.
const NAP: Duration = Duration::from_micros(50);
const LONGEST_NAP: Duration = Duration::from_millis(1);
/// A steal interrupts other cores; less work than this is left to its owner if that moves on.
const WORTH_STEALING: Duration = Duration::from_micros(25);
/// An owner or a puller that has not moved for so long is stuck, or was preempted.
const STUCK: Duration = Duration::from_micros(40);
/// A busy worker looks after one neighbour, and takes it for stuck after this.
const STALLED: Duration = Duration::from_micros(200);
/// How often to try for the source before giving up, while batches flow.
const SPINS: usize = 200;

/// One thread of a stage.
pub(crate) struct Worker<T> {
    thread: usize,
    parker: Parker,
    permit: bool,
    state: Option<T>,
    here: Rc<Here>,
    nap: Duration,
    /// Why the source gave nothing, for the last look before sleep.
    refused: Refused,
    /// The time that an item of the last pull took in the source, in nanoseconds.
    pull: Option<f32>,
    /// What was seen of the open run, of another's run, and of the neighbour, and when.
    open: Option<Sight>,
    rich: Option<Sight>,
    neighbour: Option<Sight>,
    next_neighbour: usize,
    /// Since when somebody has been in the source while there was something to run.
    busy_since: Option<Instant>,
    batches: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refused {
    No,
    Busy,
    Room { wake_at: u64 },
}

/// How far somebody was at some time.
#[derive(Clone, Copy, Debug)]
struct Sight {
    thread: usize,
    first: u64,
    count: usize,
    at: Instant,
}

impl Sight {
    fn same(&self, other: &Sight) -> bool {
        (self.thread, self.first, self.count) == (other.thread, other.first, other.count)
    }

    /// Whether nothing has moved for `limit` since `old`; keeps the older of two equal sights.
    fn unmoved(old: &mut Option<Sight>, now: Sight, limit: Duration) -> bool {
        match old {
            Some(before) if before.same(&now) => now.at.duration_since(before.at) >= limit,
            _ => {
                *old = Some(now);
                false
            }
        }
    }
}

impl<T> Worker<T> {
    pub(crate) fn new(thread: usize, here: Rc<Here>) -> Self {
        Worker {
            thread,
            parker: Parker::new(),
            permit: false,
            state: None,
            here,
            nap: NAP,
            refused: Refused::No,
            pull: None,
            open: None,
            rich: None,
            neighbour: None,
            next_neighbour: thread,
            busy_since: None,
            batches: 0,
        }
    }

    /// Comes out of the source: if a spare thread has borrowed this one's permit, it has none now,
    /// but for one that somebody has given back since.
    fn repay<I, B>(&mut self, desk: &mut Desk<I, B>) {
        if std::mem::take(&mut desk.lent) {
            self.permit = desk.permits > 0;
            desk.permits -= usize::from(self.permit);
        }
    }

    /// Drops the state; it may panic.
    fn retire(&mut self) -> Option<Payload> {
        unwind::discard(self.state.take())
    }
}

/// The life of a leased thread.
pub(crate) fn work<S: Source, J: Job<S::Item>>(shared: &Arc<Shared<S, J>>, thread: usize)
where
    S::Item: Send,
{
    let here = Rc::new(Here::new(Arc::clone(&shared.ctl)));
    let current = cancel::enter(Rc::clone(&here) as Rc<dyn cancel::Current>);
    let mut worker = Worker::new(thread, here);
    let unparker = worker.parker.unparker().clone();
    shared.ctl.register(unparker.clone());
    let bug = catch(|| {
        let mut desk = shared.desk.lock();
        desk.register(thread, unparker);
        while let Some(run) = shared.find(&mut worker, desk) {
            desk = shared.execute(run, &mut worker);
        }
    });
    if let Err(bug) = bug {
        // Not the user's, whose panics have been caught: ours. The consumer must not wait for ever.
        shared.ctl.stray(Some(bug));
        shared.ctl.cancel();
    }
    shared.ctl.stray(worker.retire());
    drop(current);
}

pub(crate) type Guard<'a, S, J> = MutexGuard<'a, DeskOf<S, J>>;

/// What a visit to the source gave.
enum Pulled<R> {
    Run(R),
    Nothing,
}

impl<S: Source, J: Job<S::Item>> Shared<S, J>
where
    S::Item: Send,
{
    /// Finds a run to execute; `None` when the stage stops.
    fn find<'a>(
        self: &'a Arc<Self>,
        worker: &mut Worker<J::State>,
        mut desk: Guard<'a, S, J>,
    ) -> Option<OwningOf<S, J>> {
        let me = worker.thread;
        loop {
            if self.ctl.is_stopped() {
                return None;
            }
            if !worker.permit && desk.permits > 0 {
                desk.permits -= 1;
                worker.permit = true;
            }
            if worker.permit {
                let found = match self.take_waiting() {
                    Some(run) => Some(run),
                    None => self.rob_neighbour(worker, &mut desk),
                };
                if let Some(run) = found {
                    return Some(self.leave_for(worker, desk, run));
                }
                if self.origin.is_some() && desk.end.is_none() && !self.ctl.is_cut() {
                    // In the source this thread watches nobody. Whoever enters it afterwards sees
                    // that nobody watches; and if somebody else is in it, this one looks again.
                    if desk.watcher == Some(me) {
                        desk.watcher = None;
                        self.ctl.unwatch();
                    }
                    drop(desk);
                    if let Pulled::Run(run) = self.visit_source(worker) {
                        return Some(run);
                    }
                    desk = self.desk.lock();
                    if worker.refused != Refused::Busy {
                        worker.repay(&mut desk);
                    }
                    if !worker.permit {
                        continue;
                    }
                } else {
                    worker.refused = Refused::No;
                }
                if let Some(run) = self.rob_richest(worker, &mut desk) {
                    return Some(self.leave_for(worker, desk, run));
                }
            }
            if let Some(run) = self.rescue(worker, &mut desk) {
                return Some(self.leave_for(worker, desk, run));
            }
            if self.borrow_permit(worker, &mut desk) {
                continue;
            }
            desk = self.idle(worker, desk);
        }
    }

    /// Takes the permit of a thread that is stuck in the source, where it runs nothing, if there is
    /// something to run: a run that nobody owns, or unclaimed items.
    fn borrow_permit(&self, worker: &mut Worker<J::State>, desk: &mut Guard<'_, S, J>) -> bool {
        let Some(origin) = self
            .origin
            .as_ref()
            .filter(|_| !worker.permit && !J::STATEFUL)
        else {
            return false;
        };
        let work = !self.waiting.is_empty() || desk.richest(worker.thread).is_some();
        // Who peeks at the source does so under the desk's lock, so this is somebody pulling.
        if !work || desk.lent || desk.permits > 0 || origin.try_lock().is_some() {
            worker.busy_since = None;
            return false;
        }
        let since = *worker.busy_since.get_or_insert_with(Instant::now);
        if since.elapsed() < STUCK {
            return false;
        }
        worker.busy_since = None;
        desk.lent = true;
        worker.permit = true;
        true
    }

    /// Leaves the idle state with a run: activates it, passes the watch on, wakes the next.
    fn leave_for<'a>(
        self: &'a Arc<Self>,
        worker: &mut Worker<J::State>,
        mut desk: Guard<'a, S, J>,
        run: OwningOf<S, J>,
    ) -> OwningOf<S, J> {
        let me = worker.thread;
        worker.nap = NAP;
        worker.pull = None;
        desk.activate(me, &run);
        let mut wake = Wake::Nobody;
        if desk.watcher == Some(me) {
            desk.watcher = None;
            self.ctl.set_unwatched();
            if desk.open.as_ref().is_some_and(|open| open.run.pulled() > 0) {
                wake = self.call_watcher(&mut desk);
            }
        }
        if matches!(wake, Wake::Nobody) && desk.permits > 0 {
            let more = run.len() > 1 || !self.waiting.is_empty() || desk.richest(me).is_some();
            if more {
                wake = desk.wake();
            }
        }
        drop(desk);
        self.act(wake);
        run
    }

    pub(crate) fn call_watcher(&self, desk: &mut Guard<'_, S, J>) -> Wake {
        self.ctl.set_watched();
        desk.call_watcher(self.origin.is_some() && !J::STATEFUL)
    }

    // ---- the source

    fn visit_source(self: &Arc<Self>, worker: &mut Worker<J::State>) -> Pulled<OwningOf<S, J>> {
        let Some(origin) = &self.origin else {
            return Pulled::Nothing;
        };
        let mut guard = origin.try_lock();
        if guard.is_none() && self.pace.len() > 1 {
            // A pull of tiny items is over in a moment, and going to sleep costs more than that.
            for _ in 0..SPINS {
                std::hint::spin_loop();
                guard = origin.try_lock();
                if guard.is_some() {
                    break;
                }
            }
        }
        match guard {
            Some(origin) => self.pull(worker, origin, usize::MAX),
            None => {
                worker.refused = Refused::Busy;
                Pulled::Nothing
            }
        }
    }

    /// Pulls a run of at most `most` items.
    fn pull<'a>(
        self: &'a Arc<Self>,
        worker: &mut Worker<J::State>,
        mut origin: MutexGuard<'a, Origin<S::Far>>,
        most: usize,
    ) -> Pulled<OwningOf<S, J>> {
        worker.refused = Refused::No;
        if origin.ended || self.ctl.is_cut() {
            return Pulled::Nothing;
        }
        let mut room = self.room(origin.seq);
        if room == 0 {
            let wake_at = self.ask_for_room(origin.seq);
            room = self.room(origin.seq);
            if room == 0 {
                worker.refused = Refused::Room { wake_at };
                return Pulled::Nothing;
            }
            self.ctl.room_granted();
        }
        let want = self.pace.len().min(room).min(most);
        let began = Instant::now();
        let in_source = ctl::in_source(&self.ctl);
        let first = origin.seq;
        let (run, failed, desk) = match next(&mut origin) {
            Next::Item(item) if want == 1 => {
                let mut desk = self.desk.lock();
                let run = self.single(&mut desk, first, item);
                (Some(run), None, desk)
            }
            Next::Item(item) => self.fill(&mut origin, first, item, want),
            over => {
                let mut desk = self.desk.lock();
                let failed = self.source_over(&mut desk, first, over);
                (None, failed, desk)
            }
        };
        drop(in_source);
        let len = (origin.seq - first).max(1);
        worker.pull = Some(began.elapsed().as_nanos() as f32 / len as f32);
        let pulled = self.leave_source(worker, origin, desk, run);
        if let Some(seq) = failed {
            self.ctl.fail(seq);
        }
        pulled
    }

    /// Pulls more items after the first. Comes back with the desk locked, and with a run unless a
    /// rescuer has taken all of it.
    fn fill<'a>(
        self: &'a Arc<Self>,
        origin: &mut MutexGuard<'a, Origin<S::Far>>,
        first: u64,
        item: S::Item,
        want: usize,
    ) -> (Option<OwningOf<S, J>>, Option<u64>, Guard<'a, S, J>) {
        let mut filling = self.open_shared(first, want);
        let mut open = filling.push(item);
        // One catch around the loop: nothing in it panics but the source.
        let pulled = catch(|| {
            // A batch exists only while nobody starves.
            while open && filling.len() < want && !self.ctl.is_cut() && !self.ctl.is_starving(first)
            {
                if !self.ctl.is_watched() {
                    self.get_watched();
                }
                match origin.iter.next() {
                    Some(item) => {
                        origin.seq += 1;
                        open = filling.push(item);
                    }
                    None => {
                        origin.ended = true;
                        return Some(Next::End);
                    }
                }
            }
            None
        });
        let over = pulled.unwrap_or_else(|payload| {
            origin.ended = true;
            Some(Next::Panicked(payload))
        });
        let mut desk = self.desk.lock();
        let run = self.close(&mut desk, filling);
        let failed = over.and_then(|over| self.source_over(&mut desk, origin.seq, over));
        (run, failed, desk)
    }

    /// Puller: nobody looks after what it holds, so somebody is called to.
    #[cold]
    pub(crate) fn get_watched(self: &Arc<Self>) {
        let mut desk = self.desk.lock();
        let wake = self.call_watcher(&mut desk);
        drop(desk);
        self.act(wake);
    }

    /// Opens a run that others may see while it is filled.
    pub(crate) fn open_shared(&self, first: u64, want: usize) -> FillingOf<S, J> {
        let mut desk = self.desk.lock();
        let (filling, arrival) = self.open(&mut desk, first, want);
        desk.batches += 1;
        desk.open = Some(Open {
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

    fn leave_source<'a>(
        self: &'a Arc<Self>,
        worker: &mut Worker<J::State>,
        origin: MutexGuard<'a, Origin<S::Far>>,
        mut desk: Guard<'a, S, J>,
        mut run: Option<OwningOf<S, J>>,
    ) -> Pulled<OwningOf<S, J>> {
        worker.repay(&mut desk);
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
        drop(origin);
        if let Some(owning) = run.take() {
            if worker.permit {
                desk.activate(worker.thread, &owning);
                more |= owning.len() > 1;
                run = Some(owning);
            } else {
                self.waiting.push(owning);
            }
        }
        let wake = if more { desk.wake() } else { Wake::Nobody };
        drop(desk);
        self.act(wake);
        if ended {
            self.ctl.wake_consumer();
        }
        run.map_or(Pulled::Nothing, Pulled::Run)
    }

    /// Asks the consumer for a wake-up when there is room: for half a run, not for every item.
    fn ask_for_room(&self, seq: u64) -> u64 {
        let bound = self.pace.bound();
        let half = (self.pace.len() as u64).min(bound) / 2;
        let wake_at = (seq + half.max(1)).saturating_sub(bound);
        self.ctl.wait_for_room(wake_at);
        wake_at
    }

    // ---- others' runs

    /// A look at one other worker's run: at the same one while it does not move, else at the next.
    fn rob_neighbour(
        &self,
        worker: &mut Worker<J::State>,
        desk: &mut Guard<'_, S, J>,
    ) -> Option<OwningOf<S, J>> {
        if let Some(before) = worker.neighbour {
            match sight_of(desk, before.thread) {
                Some(now) if now.same(&before) => {
                    if now.at.duration_since(before.at) < STALLED {
                        return None;
                    }
                    worker.neighbour = None;
                    let run = Arc::clone(desk.active(before.thread)?);
                    return self.split(desk, &run);
                }
                _ => {}
            }
        }
        let next = (worker.next_neighbour + 1) % desk.threads().max(1);
        worker.next_neighbour = next;
        worker.neighbour = if next == worker.thread {
            None
        } else {
            sight_of(desk, next)
        };
        None
    }

    /// Steals from the run with the most unclaimed items, if it is worth it or its owner is stuck.
    fn rob_richest(
        &self,
        worker: &mut Worker<J::State>,
        desk: &mut Guard<'_, S, J>,
    ) -> Option<OwningOf<S, J>> {
        let (thread, unclaimed) = desk.richest(worker.thread)?;
        let now = sight_of(desk, thread)?;
        let run = Arc::clone(desk.active(thread)?);
        let stuck = Sight::unmoved(&mut worker.rich, now, STUCK);
        let worth = self
            .pace
            .estimate(unclaimed)
            .is_none_or(|work| work >= WORTH_STEALING);
        if !stuck && !worth {
            return None;
        }
        worker.rich = None;
        self.split(desk, &run)
    }

    /// Takes over what a puller holds that is stuck in the source, with its permit if need be.
    fn rescue(
        &self,
        worker: &mut Worker<J::State>,
        desk: &mut Guard<'_, S, J>,
    ) -> Option<OwningOf<S, J>> {
        let open = Arc::clone(&desk.open.as_ref()?.run);
        let pulled = open.pulled();
        if pulled == 0 {
            return None;
        }
        let now = Sight {
            thread: 0,
            first: open.first(),
            count: pulled,
            at: Instant::now(),
        };
        let stuck = Sight::unmoved(&mut worker.open, now, STUCK);
        if !stuck && !self.ctl.is_starving(open.first()) {
            return None;
        }
        // The consumer of a local source has no permit to lend, and a state cannot be lent.
        let borrow = !worker.permit;
        if borrow && (self.origin.is_none() || J::STATEFUL || desk.lent) {
            return None;
        }
        let mut run = run::seal(&open, &mut desk.key)?;
        run.arrival = desk.open.take().and_then(|open| open.arrival);
        if borrow {
            desk.lent = true;
            worker.permit = true;
        }
        worker.open = None;
        Some(run)
    }

    // ---- nothing to do

    /// Watches for a while, or sleeps until woken.
    fn idle<'a>(
        &'a self,
        worker: &mut Worker<J::State>,
        mut desk: Guard<'a, S, J>,
    ) -> Guard<'a, S, J> {
        let me = worker.thread;
        if worker.permit {
            desk.permits += 1;
            worker.permit = false;
        }
        let flows = desk.batches != worker.batches;
        worker.batches = desk.batches;
        let to_watch =
            flows || desk.open.is_some() || !self.waiting.is_empty() || desk.richest(me).is_some();
        if to_watch && desk.watcher.is_none_or(|watcher| watcher == me) {
            desk.watcher = Some(me);
            self.ctl.set_watched();
            drop(desk);
            worker.parker.park_timeout(worker.nap);
            worker.nap = (worker.nap * 2).min(LONGEST_NAP);
            return self.desk.lock();
        }
        if desk.watcher == Some(me) {
            desk.watcher = None;
        }
        if desk.watcher.is_none() && self.ctl.is_watched() {
            self.ctl.set_unwatched();
            if desk.open.as_ref().is_some_and(|open| open.run.pulled() > 0) {
                return desk;
            }
        }
        if self.is_worth_another_look(worker, &desk) {
            return desk;
        }
        desk.fall_asleep(me);
        drop(desk);
        worker.parker.park();
        worker.nap = NAP;
        let mut desk = self.desk.lock();
        desk.woke_up(me);
        desk
    }

    /// The last look before a sleep without a limit: every condition that could wake.
    fn is_worth_another_look(&self, worker: &Worker<J::State>, desk: &Guard<'_, S, J>) -> bool {
        if self.ctl.is_stopped() {
            return true;
        }
        if desk.permits == 0 {
            return false; // whoever gives a permit back looks for more first
        }
        if !self.waiting.is_empty() {
            return true;
        }
        match worker.refused {
            Refused::No => false,
            // Whoever leaves the source does so under the desk's lock.
            Refused::Busy => self
                .origin
                .as_ref()
                .is_some_and(|origin| origin.try_lock().is_some()),
            Refused::Room { wake_at } => {
                self.ctl.yielded() >= wake_at || !self.ctl.is_room_wanted()
            }
        }
    }

    // ---- running

    /// Runs all items of a run that are left to it. Comes back with the desk locked.
    pub(crate) fn execute<'a>(
        &'a self,
        mut run: OwningOf<S, J>,
        worker: &mut Worker<J::State>,
    ) -> Guard<'a, S, J> {
        let len = run.len().max(1);
        let stride = len.div_ceil(PARTS);
        let mut parts = [0.0; PARTS];
        let mut timed = 0;
        let mut done = 0;
        let mut mark = Instant::now();
        loop {
            let before = done;
            let flow = catch(|| self.run_items(&mut run, worker, stride, &mut done));
            if done > before && timed < PARTS {
                let now = Instant::now();
                parts[timed] = now.duration_since(mark).as_nanos() as f32 / (done - before) as f32;
                timed += 1;
                mark = now;
            }
            match flow {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(())) => {
                    let mut desk = self.desk.lock();
                    if run.settle(&mut desk.key) {
                        continue;
                    }
                    self.pace.observe(len, &mut parts[..timed], worker.pull);
                    desk.deactivate(worker.thread);
                    drop(run);
                    return desk;
                }
                Err(payload) => self.item_panicked(&mut run, worker, payload),
            }
        }
    }

    /// Runs up to `count` items; breaks where the run ends or a thief is at work.
    fn run_items(
        &self,
        run: &mut OwningOf<S, J>,
        worker: &mut Worker<J::State>,
        count: usize,
        done: &mut usize,
    ) -> ControlFlow<()> {
        // What does not change while the run lasts, in registers: the barriers in between would
        // have it loaded for each item.
        let (ctl, job, here) = (&*self.ctl, &self.job, &*worker.here);
        let first = run.first();
        for _ in 0..count {
            let Claim::Mine(index) = run.claim() else {
                return ControlFlow::Break(());
            };
            let seq = first + index as u64;
            let item = run.take(index);
            if seq >= ctl.cut() {
                ctl.stray(unwind::discard(item));
                self.publish_odd(run, index, Odd::Discarded);
                continue;
            }
            here.set_seq(seq);
            let state = worker.state.get_or_insert_with(|| job.state());
            let (batch, last) = job.run(state, item);
            if last {
                ctl.fail(seq);
                self.publish_odd(run, index, Odd::Last(batch));
            } else {
                self.arrive(run);
                run.publish(index, batch);
                ctl.published(seq);
            }
            here.item_over();
            *done += 1;
        }
        ControlFlow::Continue(())
    }

    #[cold]
    fn publish_odd(&self, run: &mut OwningOf<S, J>, index: usize, odd: Odd<J::Batch>) {
        self.arrive(run);
        run.publish_odd(index, odd);
        self.ctl.published(run.first() + index as u64);
    }

    /// Unordered stages: hands the run to the consumer. Before its first result is published, so
    /// that at any time a closure runs, or its result is in the consumer's reach.
    #[inline]
    fn arrive(&self, run: &mut OwningOf<S, J>) {
        if run.arrival.is_some() {
            if let Some(taking) = run.arrival.take() {
                self.arrivals.push(taking);
            }
        }
    }

    #[cold]
    fn item_panicked(
        &self,
        run: &mut OwningOf<S, J>,
        worker: &mut Worker<J::State>,
        payload: Payload,
    ) {
        let index = run.current();
        let seq = run.first() + index as u64;
        let failure = Failure::panicked(seq, &*payload);
        if let Ok(batch) = self.job.failed(failure) {
            unwind::bury(payload);
            self.arrive(run);
            run.publish(index, batch);
            self.ctl.published(seq);
        } else {
            self.ctl.fail(seq);
            self.publish_odd(run, index, Odd::Panicked(payload));
        }
        worker.here.item_over();
    }

    /// Consumer, when no thread could be started: pulls one item, or takes a waiting run, and
    /// runs it here. `false`: there is nothing to run.
    pub(crate) fn work_alone(self: &Arc<Self>, mut worker: Worker<J::State>) -> bool {
        worker.permit = true;
        let mut run = self.take_waiting();
        if run.is_none() {
            if let Some(origin) = self.origin.as_ref().and_then(|origin| origin.try_lock()) {
                if let Pulled::Run(pulled) = self.pull(&mut worker, origin, 1) {
                    run = Some(pulled);
                }
            }
        }
        let Some(run) = run else { return false };
        let _closure = ctl::in_closure();
        let _here = cancel::enter(Rc::clone(&worker.here) as Rc<dyn cancel::Current>);
        drop(self.execute(run, &mut worker));
        self.ctl.stray(worker.retire());
        true
    }
}

/// How far a thread is in its run; `None` if it has left nothing unclaimed.
fn sight_of<I, B>(desk: &Desk<I, B>, thread: usize) -> Option<Sight> {
    let run = desk.active(thread).filter(|run| run.unclaimed() > 0)?;
    Some(Sight {
        thread,
        first: run.first(),
        count: run.claimed(),
        at: Instant::now(),
    })
}

/// What a source answers.
pub(crate) enum Next<I> {
    Item(I),
    End,
    Panicked(Payload),
}

/// Pulls one item.
fn next<F: Iterator>(origin: &mut Origin<F>) -> Next<F::Item> {
    match catch(|| origin.iter.next()) {
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
