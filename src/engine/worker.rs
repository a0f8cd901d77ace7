//! The side of the threads: find something to run, and run it.
//!
//! A worker looks in this order: whole runs that nobody owns; the run of one other worker that has
//! not moved for a while (one slow item must not hold its neighbours, although there is always
//! something new to pull); the source; unclaimed items inside other workers' runs; what a puller
//! that is stuck in the source holds. Then it watches or sleeps (see `desk.rs`).

use crate::engine::cancel;
use crate::engine::context::{self, Current};
use crate::engine::cost::PARTS;
use crate::engine::ctl::Here;
use crate::engine::desk::{CONSUMER, Desk, Inline, Sight, Wake};
use crate::engine::inline::Seen;
use crate::engine::job::Job;
use crate::engine::run::{self, Claim, Odd, Share};
use crate::engine::source::Source;
use crate::engine::stage::{DeskOf, OwningOf, Shared, TakingOf};
use crate::engine::unwind::{self, Payload, catch};
use crate::error::{Cancelled, Failure};
use crate::sync::{Arc, Instant, MutexGuard, Parker, yield_now};
use std::rc::Rc;
use std::time::Duration;

/// The naps of whoever watches: from this, doubled up to that.
const NAP: Duration = Duration::from_micros(50);
pub(crate) const LONGEST_NAP: Duration = Duration::from_millis(1);
/// After so long a deputy looks whether the consumer still watches.
const RELIEF: Duration = Duration::from_millis(20);
/// A steal interrupts other cores; less work than this is left to its owner if that moves on.
const WORTH_STEALING: Duration = Duration::from_micros(25);
/// An owner or a puller that has not moved for so long is stuck, or was preempted.
pub(crate) const STUCK: Duration = Duration::from_micros(40);
/// A busy worker looks after one neighbour, and takes it for stuck after this.
const STALLED: Duration = Duration::from_micros(200);

/// One thread of a stage.
pub(crate) struct Worker<T> {
    pub(crate) thread: usize,
    parker: Parker,
    pub(crate) permit: bool,
    pub(crate) state: Option<T>,
    pub(crate) here: Rc<Here>,
    nap: Duration,
    /// How many items it may pull at once.
    pub(crate) most: usize,
    /// Why the source gave nothing, for the last look before sleep.
    pub(crate) refused: Refused,
    /// The time that an item of the last pull took in the source, in nanoseconds.
    pub(crate) pull: Option<f32>,
    /// What was seen of the open run, of another's run, of all runs, and of the neighbour, and when.
    open: Option<Sight>,
    rich: Option<Sight>,
    all: Option<Sight>,
    neighbour: Option<Sight>,
    next_neighbour: usize,
    /// Since when somebody has been in the source while there was something to run.
    busy_since: Option<Instant>,
    batches: u64,
    /// What was last seen of a consumer that runs items itself.
    pub(crate) seen: Option<Seen>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    No,
    Busy,
    Room { wake_at: u64 },
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
            // Who is alone has nobody to run the rest while it is in the source.
            most: if thread == CONSUMER { 1 } else { usize::MAX },
            refused: Refused::No,
            pull: None,
            open: None,
            rich: None,
            all: None,
            neighbour: None,
            next_neighbour: 0,
            busy_since: None,
            batches: 0,
            seen: None,
        }
    }

    /// Comes out of the source: if a spare thread has borrowed this one's permit, it has none now,
    /// but for one that somebody has given back since.
    pub(crate) fn repay<I, B>(&mut self, desk: &mut Desk<I, B>) {
        if std::mem::take(&mut desk.lent) {
            self.permit = desk.permits > 0;
            desk.permits -= usize::from(self.permit);
        }
    }

    /// Gives the permit back.
    fn release<I, B>(&mut self, desk: &mut Desk<I, B>) {
        desk.permits += usize::from(std::mem::take(&mut self.permit));
    }

    /// Neither works nor watches any more.
    fn leave<I, B>(&mut self, desk: &mut Desk<I, B>) {
        self.release(desk);
        desk.resign(self.thread); // nothing is left to look after
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
    let current = context::in_closure(Rc::clone(&here) as Rc<dyn Current>);
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
        shared.ctl.cancel(Cancelled::default());
    }
    shared.ctl.stray(worker.retire());
    drop(current);
}

pub(crate) type Guard<'a, S, J> = MutexGuard<'a, DeskOf<S, J>>;

impl<S: Source, J: Job<S::Item>> Shared<S, J>
where
    S::Item: Send,
{
    /// Finds a run to execute; `None` when there will be none any more.
    fn find<'a>(
        self: &'a Arc<Self>,
        worker: &mut Worker<J::State>,
        mut desk: Guard<'a, S, J>,
    ) -> Option<OwningOf<S, J>> {
        loop {
            if self.ctl.is_stopped() {
                return None;
            }
            if desk.watcher == Some(worker.thread) {
                self.watch_consumer(worker, &mut desk);
            }
            desk = match self.seek(worker, desk) {
                Ok(run) => return Some(run),
                Err(desk) => desk,
            };
            if self.borrow_permit(worker, &mut desk) {
                continue;
            }
            let hedge = self.hedge();
            if let Some((copy, hedge)) = self.take_copy(worker).zip(hedge) {
                desk.copying += 1;
                drop(desk);
                self.run_copy(worker, copy, hedge);
                desk = self.desk.lock();
                desk.copying -= 1;
                continue;
            }
            if desk.end.is_some()
                && hedge.is_none()
                && !self.is_something_unstarted(&desk, worker.thread)
            {
                // This thread is not needed any more, and the pool can have it although others are
                // still at it; nor is one that sleeps, which has not heard of the end.
                worker.leave(&mut desk);
                let wake = desk.wake_sleeper();
                drop(desk);
                self.act(wake);
                return None;
            }
            desk = self.idle(worker, desk);
        }
    }

    /// Looks for a run everywhere, once; gives the desk back if there is none.
    fn seek<'a>(
        self: &'a Arc<Self>,
        worker: &mut Worker<J::State>,
        mut desk: Guard<'a, S, J>,
    ) -> Result<OwningOf<S, J>, Guard<'a, S, J>> {
        let me = worker.thread;
        if !worker.permit && desk.permits > 0 {
            desk.permits -= 1;
            worker.permit = true;
        }
        if worker.permit {
            let found = self
                .take_waiting()
                .or_else(|| self.rob_neighbour(worker, &mut desk));
            if let Some(run) = found {
                return Ok(self.leave_for(worker, desk, run));
            }
            let open = desk.end.is_none() && desk.inline == Inline::Off;
            if self.origin.is_some() && open && !self.ctl.is_cut() {
                // In the source this thread watches nobody. Whoever enters it afterwards sees
                // that nobody watches; and if somebody else is in it, this one looks again.
                desk.resign(me);
                let wake = self.leave_watched(&mut desk, me);
                drop(desk);
                self.act(wake);
                if let Some(run) = self.visit_source(worker) {
                    return Ok(run);
                }
                desk = self.desk.lock();
                if worker.refused != Refused::Busy {
                    worker.repay(&mut desk);
                }
            } else {
                worker.refused = Refused::No;
            }
        }
        if worker.permit {
            // Who has just come out of the source may have left a run.
            let found = self
                .take_waiting()
                .or_else(|| self.rob_richest(worker, &mut desk));
            if let Some(run) = found {
                return Ok(self.leave_for(worker, desk, run));
            }
        }
        match self.rescue(worker, &mut desk) {
            Some(run) => Ok(self.leave_for(worker, desk, run)),
            None => Err(desk),
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
        if desk.resign(me) && desk.end_watch() {
            wake = self.call_watcher(&mut desk);
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

    // ---- others' runs

    /// A look at one other worker's run: at the same one while it does not move, else at the next.
    fn rob_neighbour(
        &self,
        worker: &mut Worker<J::State>,
        desk: &mut Guard<'_, S, J>,
    ) -> Option<OwningOf<S, J>> {
        if let Some(before) = worker.neighbour {
            match desk.sight_of(before.thread) {
                Some(now) if now.same(&before) => {
                    if now.at.duration_since(before.at) < STALLED {
                        return None;
                    }
                    worker.neighbour = None;
                    let run = Arc::clone(desk.active(before.thread)?);
                    return self.split(desk, &run, Share::Rest);
                }
                _ => {}
            }
        }
        let next = (worker.next_neighbour + 1) % desk.threads().max(1);
        worker.next_neighbour = next;
        worker.neighbour = if next == worker.thread {
            None
        } else {
            desk.sight_of(next)
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
        let now = desk.sight_of(thread)?;
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
        let share = if stuck { Share::Rest } else { Share::Half };
        self.split(desk, &run, share)
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
        worker.release(&mut desk);
        desk.deputy.take_if(|deputy| *deputy == me);
        let flows = desk.batches != worker.batches;
        worker.batches = desk.batches;
        if desk.inline == Inline::Wanted && desk.is_at_rest() {
            self.ctl.rouse();
        }
        let unsure = flows || desk.open.is_some() || self.is_something_unstarted(&desk, me);
        // Without a permit it would only see what the consumer sees between two naps.
        let left_to_consumer = desk.permits == 0 && desk.is_looked_after();
        // Or if all `n` are long in closures. Who of them is done, and goes into the source, calls.
        let all = desk.sight_of_all();
        let in_vain = all.is_some_and(|all| Sight::unmoved(&mut worker.all, all, LONGEST_NAP));
        let inline = desk.inline != Inline::Off && !desk.watches_itself;
        let to_watch = inline || unsure && !left_to_consumer && !in_vain;
        if to_watch && desk.watcher.is_none_or(|watcher| watcher == me) {
            desk.watcher = Some(me);
            desk.set_watched(true);
            drop(desk);
            worker.parker.park_timeout(worker.nap);
            worker.nap = (worker.nap * 2).min(LONGEST_NAP);
            return self.desk.lock();
        }
        desk.watcher.take_if(|watcher| *watcher == me);
        let deputy = desk.is_looked_after() && desk.deputy.is_none();
        if deputy {
            desk.deputy = Some(me);
        }
        if desk.watcher.is_none() && desk.is_watched() && desk.end_watch() {
            return desk;
        }
        if self.is_worth_another_look(worker, &desk) {
            return desk;
        }
        desk.fall_asleep(me);
        drop(desk);
        if deputy {
            worker.parker.park_timeout(RELIEF);
        } else {
            worker.parker.park();
        }
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
        if !self.waiting.is_empty() || !self.copies.is_empty() {
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
        if let Some(timed) = &self.timed {
            return self.execute_timed(run, worker, timed);
        }
        let len = run.len().max(1);
        let stride = len.div_ceil(PARTS);
        let mut parts = [0.0; PARTS];
        let mut timed = 0;
        let mut mark = Instant::now();
        run.start();
        loop {
            let before = run.next();
            let claim = catch(|| self.run_items(&mut run, worker, stride))
                .unwrap_or_else(|payload| self.item_panicked(&mut run, worker, payload));
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
    pub(crate) fn give_way<'a>(&'a self, desk: Guard<'a, S, J>) -> Guard<'a, S, J> {
        if self.takes_part || !self.ctl.is_consumer_waiting() {
            return desk;
        }
        drop(desk);
        yield_now();
        self.desk.lock()
    }

    /// Runs up to `count` items. What does not change meanwhile is in local variables, as the
    /// barriers would have anything else loaded anew for each item; and the loop is a function by
    /// itself, for the sake of its registers.
    #[inline(never)]
    fn run_items(
        &self,
        run: &mut OwningOf<S, J>,
        worker: &mut Worker<J::State>,
        count: usize,
    ) -> Claim {
        let (ctl, job, here) = (&*self.ctl, &self.job, &*worker.here);
        let first = run.first();
        while run.seq() >= ctl.cut() {
            ctl.stray(unwind::discard(run.hand().0.take()));
            if self.publish(run, Err(Odd::Discarded)) == Claim::Contested {
                return Claim::Contested;
            }
        }
        let (mut hand, arrival) = run.hand();
        let stop = hand.index().saturating_add(count);
        let mut arrives = arrival.is_some();
        let mut item = hand.take();
        // Made where its panic is that of the item, which is dropped by it.
        let state = worker.state.get_or_insert_with(|| job.state());
        loop {
            let seq = first + hand.index() as u64;
            here.set_seq(seq);
            let (batch, last) = job.run(state, item);
            let in_vain = here.item_over();
            if last {
                ctl.fail(seq);
                break self.publish(run, Err(Odd::Last(batch)));
            }
            if in_vain {
                ctl.stray(unwind::discard(batch));
                break self.publish(run, Err(Odd::Discarded));
            }
            if arrives {
                self.arrive(arrival);
                arrives = false;
            }
            let claim = hand.publish(batch);
            if claim == Claim::Contested || hand.index() == stop {
                ctl.published(seq);
                break claim;
            }
            if ctl.is_alarmed(seq + 1) {
                ctl.published(seq);
                if ctl.cut() <= seq + 1 {
                    break claim; // what lies past a cut is dealt with where this begins
                }
            }
            item = hand.take();
        }
    }

    /// Publishes out of the loop what is given for the claimed item.
    #[cold]
    pub(crate) fn publish(
        &self,
        run: &mut OwningOf<S, J>,
        what: Result<J::Batch, Odd<J::Batch>>,
    ) -> Claim {
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
    pub(crate) fn arrive(&self, arrival: &mut Option<TakingOf<S, J>>) {
        if let Some(taking) = arrival.take() {
            self.arrivals.push(taking);
        }
    }

    #[cold]
    fn item_panicked(
        &self,
        run: &mut OwningOf<S, J>,
        worker: &mut Worker<J::State>,
        payload: Payload,
    ) -> Claim {
        let seq = run.seq();
        worker.here.item_over();
        let what = self.panicked(seq, payload);
        if what.is_err() {
            self.ctl.fail(seq);
        }
        self.publish(run, what)
    }

    /// What stands at the place of an item whose closure panicked.
    pub(crate) fn panicked(&self, seq: u64, payload: Payload) -> Result<J::Batch, Odd<J::Batch>> {
        match self.job.failed(Failure::panicked(seq, &*payload)) {
            Ok(batch) => {
                unwind::bury(payload);
                Ok(batch)
            }
            Err(_) => Err(Odd::Panicked(payload)),
        }
    }

    /// The consumer's thread runs what it finds: one run, as it is alone and must deliver, or all there
    /// is, as one of the `n`. `false`: there is nothing to run, and no other news.
    pub(crate) fn work_here(self: &Arc<Self>, mut worker: Worker<J::State>) -> bool {
        let mut desk = self.desk.lock();
        desk.set_looked(None); // who works watches nobody, and may itself get stuck in the source
        let (mut found, ended) = (false, desk.end.is_some());
        loop {
            let sought = self.seek(&mut worker, desk);
            let again = sought.is_ok() && self.takes_part;
            found |= sought.is_ok();
            desk = match sought {
                Ok(run) => {
                    cancel::keep_time();
                    let _here = context::in_closure(Rc::clone(&worker.here) as Rc<dyn Current>);
                    self.execute(run, &mut worker)
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
        self.ctl.stray(worker.retire());
        found
    }
}
