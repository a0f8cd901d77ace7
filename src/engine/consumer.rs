//! The side of `next()`: takes results, restores their order, and knows when to wait and when to
//! end. It alone touches its fields; what it shares with the workers is in `stage.rs`.
//!
//! # Waiting
//!
//! The consumer never sleeps with a result in reach. When it finds nothing it either naps, for a
//! bounded time and only while results flow faster than they can be announced (each wake-up costs
//! its microseconds and pushes a worker off a core), or it announces which `seq` it sleeps for,
//! passes the heavy barrier, looks at everything once more, and sleeps until that very result is
//! published. Before that sleep it sees to it that nobody else sleeps who could bring the result
//! nearer: workers that wait for room, and unstarted items whose puller is stuck in the source.

use crate::engine::barrier::Light;
use crate::engine::cancel::OnCancel;
use crate::engine::census::Alive;
use crate::engine::context;
use crate::engine::ctl::{ANY, Ctl, Here};
use crate::engine::desk::{CONSUMER, Sight, Wake};
use crate::engine::erase::{Seed, Stop, Team};
use crate::engine::hedged::Hedge;
use crate::engine::inline::{Inliner, Step};
use crate::engine::job::Job;
use crate::engine::puller;
use crate::engine::run::Odd;
use crate::engine::source::Source;
use crate::engine::spin::Spin;
use crate::engine::stage::{Plan, Shared, TakingOf, steal};
use crate::engine::timed::Timed;
use crate::engine::unwind::{self, Payload, catch};
use crate::engine::worker::{STUCK, Worker};
use crate::error::{Cancelled, Late};
use crate::sync::{Arc, Instant, Parker};
use std::collections::VecDeque;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::time::Duration;

const NAP: Duration = Duration::from_micros(20);
const LONGEST_NAP: Duration = Duration::from_millis(1);
/// A wait as short as this, or as many results at once, mean that results flow.
const FLOW: Duration = Duration::from_micros(300);
const BULK: u64 = 32;

/// The consumer's end of a running stage.
pub(crate) struct Consumer<S: Source, J: Job<S::Item>>
where
    S::Item: Send,
{
    /// `None` once the stage is over and cleared away.
    pub(crate) shared: Option<Arc<Shared<S, J>>>,
    /// Dropped, and so joined, after `shared`'s last use.
    team: Option<Team>,
    hooks: Vec<OnCancel>,
    parker: Parker,
    /// A source that stays on this thread, and how far it has been pulled.
    near: Option<S::Near>,
    pulled: u64,
    /// The outputs of the item that is being yielded.
    batch: Option<<J::Batch as IntoIterator>::IntoIter>,
    /// The run that is being taken, and in an unordered stage those that have more to come.
    pub(crate) head: Option<TakingOf<S, J>>,
    pub(crate) partial: VecDeque<TakingOf<S, J>>,
    /// How many items have been taken; in an ordered stage also the `seq` of the next.
    pub(crate) taken: u64,
    /// While it runs items itself, because they cost next to nothing.
    pub(crate) inliner: Option<Inliner<S::Far>>,
    pub(crate) over: bool,
    cut_short: bool,
    /// How many of what was taken had not been run.
    discarded: u64,
    /// As which thread it takes part in the work.
    part: Option<usize>,
    /// Set while it does not sleep at all.
    spin: Option<Spin>,
    /// Whether results flow, so that it naps, and for how long the next time.
    flows: bool,
    nap: Duration,
    /// How many items had been taken when it last found nothing.
    waited_at: u64,
    /// What it has seen of the source before its last nap.
    sight: Option<Sight>,
    eager: bool,
    /// Timed stages: before that nothing that runs is overdue or slow.
    pub(crate) check: Option<Instant>,
    /// The call that is being served waits until then, and whether it did so in vain.
    until: Option<Instant>,
    late: bool,
}

impl<S: Source, J: Job<S::Item>> std::fmt::Debug for Consumer<S, J>
where
    S::Item: Send,
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer")
            .field("taken", &self.taken)
            .field("over", &self.over)
            .finish_non_exhaustive()
    }
}

/// A worker asked to be woken for room, and there is some.
#[cold]
fn room_made<S: Source, J: Job<S::Item>>(shared: &Arc<Shared<S, J>>)
where
    S::Item: Send,
{
    shared.ctl.room_granted();
    let wake = shared.desk.lock().wake();
    shared.act(wake);
}

/// What a look for results gave.
enum Look {
    Ready,
    Nothing,
    End,
}

/// Where the next output comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Head,
    Inline,
    /// Nothing is there in time, or nobody wants it any more.
    Late,
    End,
}

impl<S: Source, J: Job<S::Item>> Consumer<S, J>
where
    S::Item: Send,
{
    pub(crate) fn start(plan: Plan<S, J>, seed: Seed) -> Box<Self> {
        crate::engine::barrier::prepare();
        let Plan {
            source,
            job,
            opts,
            clone,
        } = plan;
        let parker = Parker::new();
        let alive = Alive::new(opts.name.as_deref().unwrap_or("a stage without a name"));
        let ctl = Arc::new(Ctl::new(parker.unparker().clone(), alive));
        let pool = opts
            .pool
            .clone()
            .unwrap_or_else(crate::engine::pool::Pool::global);
        let cx = seed.cx();
        let link = (!opts.detached).then(|| seed.link()).flatten();
        let linked = link.is_some();
        let team = seed.team(pool, Arc::clone(&ctl) as Arc<dyn Stop>);
        let (far, near) = match source.place(cx) {
            Ok(far) => (Some(far), None),
            Err(near) => (None, Some(near)),
        };
        let shared = team.as_ref().map(|team| {
            let crew = team.crew().clone();
            let hedge = opts.hedge.clone().zip(clone);
            let hedge = hedge.map(|(policy, clone)| Hedge::new(policy, clone));
            let timed = Timed::new(opts.item_timeout, hedge);
            let ctl = Arc::clone(&ctl);
            Arc::new(Shared::<S, J>::new(
                job, far, &opts, linked, timed, ctl, crew,
            ))
        });
        if let Some(link) = link {
            let (outer, whole) = (Arc::clone(&ctl), opts.runs_all);
            let inherited = link.on_trip(move |why| {
                if whole {
                    outer.warn(why);
                } else {
                    outer.cancel(why);
                }
            });
            ctl.inherit(inherited);
        }
        let cancels = opts.tokens.iter().map(|token| {
            let ctl = Arc::clone(&ctl);
            token.on_trip(move |why| ctl.cancel(why))
        });
        let drains = opts.drains.iter().map(|token| {
            let ctl = Arc::clone(&ctl);
            token.on_trip(move |why| ctl.drain(why))
        });
        let hooks = cancels.chain(drains);
        let mut consumer = Box::new(Consumer {
            hooks: hooks.collect(),
            over: shared.is_none(),
            shared,
            team,
            parker,
            near,
            pulled: 0,
            batch: None,
            head: None,
            partial: VecDeque::new(),
            taken: 0,
            inliner: None,
            cut_short: false,
            discarded: 0,
            part: None,
            spin: None,
            flows: false,
            nap: NAP,
            waited_at: 0,
            sight: None,
            eager: opts.eager,
            check: None,
            until: None,
            late: false,
        });
        if opts.takes_part && consumer.near.is_none() {
            consumer.part = consumer
                .shared
                .as_ref()
                .map(|shared| shared.desk.lock().enlist());
        } else {
            consumer.man();
        }
        consumer.spin = Some(Spin::begin());
        consumer
    }

    /// Leases the first thread; each one that finds more to do leases the next.
    fn man(&mut self) {
        let Some(shared) = &self.shared else { return };
        if self.near.is_none() && !shared.ctl.is_cancelled() {
            let wake = shared.desk.lock().wake();
            shared.act(wake);
        }
    }

    /// How many items have been handed over.
    pub(crate) fn taken(&self) -> u64 {
        self.taken
    }

    pub(crate) fn is_over(&self) -> bool {
        self.over && self.batch.is_none()
    }

    /// Whether less may come than the source has.
    pub(crate) fn is_ending(&self) -> bool {
        let ctl = self.shared.as_ref().map(|shared| &shared.ctl);
        ctl.is_some_and(|ctl| ctl.is_cancelled() || ctl.is_draining())
    }

    /// Why it ended before its source did, if it did so by a token.
    pub(crate) fn cut(&self) -> Option<Cancelled> {
        let shared = self.shared.as_ref().filter(|_| self.over);
        let ctl = &shared?.ctl;
        let why = ctl.why().at(self.taken - self.discarded);
        (self.cut_short || ctl.is_drained()).then_some(why)
    }

    /// It was cut short, and whoever uses it is not told so by what it yields.
    pub(crate) fn tell_cut(&self) {
        if let Some(shared) = &self.shared {
            shared.ctl.cut_short();
        }
    }

    /// How many outputs are left of the item that is being yielded.
    pub(crate) fn rest_of_batch(&self) -> (usize, Option<usize>) {
        self.batch
            .as_ref()
            .map_or((0, Some(0)), Iterator::size_hint)
    }

    /// How many items the source had, if that is known.
    pub(crate) fn items(&self) -> Option<u64> {
        self.shared.as_ref()?.desk.lock().end
    }

    /// The next output, or [`Late`] if it is not there in time.
    pub(crate) fn next_within(&mut self, time: Duration) -> Result<Option<J::Output>, Late> {
        self.leave_inline_for_good();
        self.until = Instant::now().checked_add(time);
        self.late = false;
        let output = self.next();
        self.until = None;
        if std::mem::take(&mut self.late) {
            return Err(Late::new(self.is_ordered().then_some(self.taken)));
        }
        Ok(output)
    }

    /// Folds all outputs: as `next` does, but what is ready is taken in a tight loop.
    pub(crate) fn fold_all<A>(&mut self, init: A, mut f: impl FnMut(A, J::Output) -> A) -> A {
        let mut value = init;
        while let Some(output) = self.next() {
            value = f(value, output);
            if self.over || self.batch.is_some() {
                continue;
            }
            while self.inliner.is_some() {
                let step;
                (value, step) = self.fold_inline(value, &mut f);
                if let Some(batch) = self.go_on(step) {
                    value = batch.into_iter().fold(value, &mut f);
                }
                if self.over {
                    return value;
                }
            }
            let (Some(head), Some(shared)) = (&mut self.head, &self.shared) else {
                continue;
            };
            let (ctl, light) = (&*shared.ctl, Light::new());
            let mut ready = head.ready(&mut self.taken);
            while let Some(batch) = ready.take() {
                if ctl.set_yielded(ready.count(), light) {
                    room_made(shared);
                }
                for output in batch {
                    value = f(value, output);
                }
            }
        }
        value
    }

    /// Waits until something can be taken, and counts it as yielded, or can be run here.
    #[inline]
    fn advance(&mut self) -> Next {
        if !self.head.as_mut().is_some_and(|head| head.is_ready()) {
            let next = self.refill();
            if next != Next::Head {
                return next;
            }
        }
        self.taken += 1;
        if let Some(shared) = &self.shared {
            if shared.ctl.set_yielded(self.taken, Light::new()) {
                room_made(shared);
            }
        }
        Next::Head
    }

    /// Waits until there is something to take or to run.
    #[cold]
    #[inline(never)]
    fn refill(&mut self) -> Next {
        let mut announced = false;
        self.flows |= self.taken - self.waited_at >= BULK;
        self.waited_at = self.taken;
        let next = loop {
            let Some(shared) = self.shared.clone() else {
                break Next::End;
            };
            match self.look(&shared) {
                Look::Ready => break Next::Head,
                Look::End => {
                    if announced {
                        shared.ctl.awake();
                    }
                    drop(shared);
                    self.finish();
                    return Next::End;
                }
                Look::Nothing => {}
            }
            if self.start_inline(&shared) {
                break Next::Inline;
            }
            // Looked at before this thread may itself go into the source.
            if context::is_unwanted() {
                if announced {
                    shared.ctl.awake();
                }
                context::tell_cut();
                self.late = self.until.is_some();
                return Next::Late;
            }
            if self.work(&shared) || self.pull_near(&shared) {
                continue;
            }
            if self.look_at_clocks(&shared) {
                continue;
            }
            let late = self.until.is_some_and(|until| until <= Instant::now());
            if !announced && !late && (self.spin() || self.take_nap(&shared)) {
                continue;
            }
            if announced && late {
                shared.ctl.awake();
                self.late = true;
                return Next::Late;
            }
            if announced {
                self.sleep(&shared);
                announced = false;
            } else {
                context::tell_outer(&shared.ctl);
                self.announce(&shared);
                announced = true;
            }
        };
        if announced {
            if let Some(shared) = &self.shared {
                shared.ctl.awake();
            }
            self.flows = true; // it was there sooner than a sleep could begin
        }
        next
    }

    // ---- looking

    fn look(&mut self, shared: &Arc<Shared<S, J>>) -> Look {
        if shared.ordered {
            self.look_at_head(shared)
        } else {
            self.look_around(shared)
        }
    }

    fn look_at_head(&mut self, shared: &Arc<Shared<S, J>>) -> Look {
        if self.head.as_mut().is_some_and(|head| head.is_ready()) {
            return Look::Ready;
        }
        let mut desk = shared.desk.lock();
        loop {
            if let Some(head) = self.head.take() {
                if !head.is_exhausted(&mut desk.key) {
                    self.head = Some(head);
                    break;
                }
                desk.recycle(head);
            }
            self.head = desk.order.pop(self.taken);
            if self.head.is_none() {
                break;
            }
        }
        if self.head.as_mut().is_some_and(|head| head.is_ready()) {
            return Look::Ready;
        }
        match &self.head {
            None if desk.end.is_some_and(|end| end <= self.taken) => Look::End,
            None if shared.ctl.is_cancelled() => {
                self.cut_short = true;
                Look::End
            }
            // Who runs the next item has claimed it, or will see the cut: see `Ctl::cancel`.
            Some(head) if shared.ctl.is_cancelled() && !head.is_next_claimed(&mut desk.key) => {
                self.cut_short = true;
                Look::End
            }
            _ => Look::Nothing,
        }
    }

    fn look_around(&mut self, shared: &Arc<Shared<S, J>>) -> Look {
        if let Some(mut head) = self.head.take() {
            if head.is_ready() {
                self.head = Some(head);
                return Look::Ready;
            }
            let mut desk = shared.desk.lock();
            if head.is_exhausted(&mut desk.key) {
                desk.recycle(head);
            } else {
                self.partial.push_back(head);
            }
        }
        self.partial
            .extend(std::iter::from_fn(|| steal(&shared.arrivals)));
        if let Some(place) = self.partial.iter_mut().position(|run| run.is_ready()) {
            self.head = self.partial.remove(place);
            return Look::Ready;
        }
        let mut desk = shared.desk.lock();
        for place in (0..self.partial.len()).rev() {
            if self.partial[place].is_exhausted(&mut desk.key) {
                if let Some(run) = self.partial.remove(place) {
                    desk.recycle(run);
                }
            }
        }
        let all = desk.end.is_some_and(|end| end <= self.taken);
        let cancelled = shared.ctl.is_cancelled()
            && !desk.is_any_started()
            && shared.arrivals.is_empty()
            && !self.partial.iter_mut().any(|run| run.is_ready());
        self.cut_short |= cancelled && !all;
        if all || cancelled {
            Look::End
        } else {
            Look::Nothing
        }
    }

    // ---- working

    /// Pulls a source that is this thread's, head first: stops as soon as something is ready.
    /// `false`: there was nothing to do.
    fn pull_near(&mut self, shared: &Arc<Shared<S, J>>) -> bool {
        let Some(near) = &mut self.near else {
            return false;
        };
        if shared.ctl.is_cut() || shared.desk.lock().end.is_some() {
            return false;
        }
        if shared.ctl.is_draining() {
            shared.drained(&mut shared.desk.lock(), self.pulled);
            return true;
        }
        let want = shared
            .pace
            .len_at(self.pulled)
            .min(shared.room(self.pulled));
        if want == 0 {
            return false;
        }
        let here = Rc::new(Here::new(Arc::clone(&shared.ctl)));
        here.set_in_source();
        let in_source = context::in_source(Rc::clone(&here) as _, shared.ctl.inside());
        let mut filling = None;
        let mut over = None;
        let first = self.pulled;
        loop {
            let item = match catch(|| near.next()) {
                Ok(Some(item)) => item,
                Ok(None) => {
                    over = Some(puller::Next::End);
                    break;
                }
                Err(payload) => {
                    over = Some(puller::Next::Panicked(payload));
                    break;
                }
            };
            self.pulled += 1;
            let filling = filling.get_or_insert_with(|| shared.open_shared(first, want));
            let mut pen = filling.pen();
            let watched = pen.push(item);
            if pen.is_full() || pen.is_sealed() {
                break;
            }
            let ready = self.head.as_mut().is_some_and(|head| head.is_ready());
            if ready || shared.ctl.is_cut() || shared.ctl.is_draining() {
                break;
            }
            if !watched {
                shared.get_watched();
            }
        }
        drop(in_source);
        over.take_if(|over| over.is_interrupted());
        let mut desk = shared.desk.lock();
        if let Some(run) = filling.and_then(|filling| shared.close(&mut desk, filling)) {
            shared.waiting.push(run);
        }
        let failed = over.and_then(|over| shared.source_over(&mut desk, self.pulled, over));
        let wake = desk.wake();
        drop(desk);
        shared.act(wake);
        if let Some(seq) = failed {
            shared.ctl.fail(seq);
        }
        true
    }

    /// Runs something on this thread, if it takes part or if no other can be started. It keeps no
    /// state from one to the next: the consumer may move to another thread in between.
    fn work(&mut self, shared: &Arc<Shared<S, J>>) -> bool {
        let thread = match self.part {
            Some(thread) => thread,
            None if shared.desk.lock().is_alone() => CONSUMER,
            None => return false,
        };
        let here = Rc::new(Here::new(Arc::clone(&shared.ctl)));
        let worked = shared.work_here(Worker::new(thread, here));
        if worked && self.part.is_some() {
            self.spin = Some(Spin::begin()); // the others will be done as soon
        }
        worked
    }

    // ---- waiting

    /// Before the first result: waits for a [moment](Spin). On an otherwise idle machine it is there
    /// sooner than this thread could be woken. `false`: does not, or no longer.
    fn spin(&mut self) -> bool {
        if self.taken > 0 && self.part.is_none() {
            self.spin = None;
        }
        self.spin = self.spin.filter(|spin| spin.turn());
        self.spin.is_some()
    }

    /// Naps if results flow. `false`: does not.
    fn take_nap(&mut self, shared: &Arc<Shared<S, J>>) -> bool {
        if self.eager || !self.flows {
            return false;
        }
        self.look_after_source(shared);
        shared.ctl.set_napping(true);
        self.parker.park_timeout(self.nap);
        shared.ctl.set_napping(false);
        let pays = matches!(self.look(shared), Look::Ready | Look::End);
        if pays && !shared.ctl.is_room_wanted() {
            self.nap = (self.nap * 2).min(LONGEST_NAP);
        } else {
            self.flows = pays && self.nap > NAP;
            self.nap = (self.nap / 2).max(NAP);
        }
        true
    }

    /// Does what a thread that watches would do, so that none has to be woken for it as long as this
    /// one comes by: has somebody been stuck in the source since the last nap?
    fn look_after_source(&mut self, shared: &Arc<Shared<S, J>>) {
        let Some(origin) = &shared.origin else {
            return; // here it is this thread that would be stuck
        };
        let mut desk = shared.desk.lock();
        let now = Sight {
            thread: CONSUMER,
            first: desk.pulls,
            count: desk.open.as_ref().map_or(0, |open| open.run.pulled()),
            at: Instant::now(),
        };
        desk.set_looked(Some(now.at));
        // Who peeks at the source does so under the desk's lock, so this is somebody pulling.
        let wake = if origin.try_lock().is_none()
            && Sight::unmoved(&mut self.sight, now, STUCK)
            && shared.is_something_unstarted(&desk, CONSUMER)
        {
            shared.call_watcher(&mut desk)
        } else {
            Wake::Nobody
        };
        drop(desk);
        shared.act(wake);
    }

    /// Is about to sleep without a limit: says so, and sees to it that somebody works, and that
    /// somebody watches.
    fn announce(&mut self, shared: &Arc<Shared<S, J>>) {
        let mut desk = shared.desk.lock();
        desk.set_looked(None);
        shared.ctl.set_untimed(true); // until it has looked at the clocks
        // Its heavy barrier pairs with the light one in `Pen::push` as well.
        shared
            .ctl
            .sleep_for(if shared.ordered { self.taken } else { ANY });
        let unwatched = !desk.is_watched() && shared.is_something_unstarted(&desk, CONSUMER);
        let wake = if unwatched || desk.is_something_in_hand() {
            shared.call_watcher(&mut desk)
        } else if shared.ctl.is_room_wanted() || desk.is_unmanned() {
            shared.ctl.room_granted();
            desk.wake()
        } else {
            Wake::Nobody
        };
        drop(desk);
        shared.act(wake);
    }

    fn sleep(&mut self, shared: &Arc<Shared<S, J>>) {
        let began = Instant::now();
        match self.until.into_iter().chain(self.check).min() {
            Some(limit) => {
                let limit = limit.saturating_duration_since(began);
                self.parker.park_timeout(limit);
            }
            None => self.parker.park(),
        }
        shared.ctl.awake();
        self.flows = began.elapsed() < FLOW;
    }

    // ---- ending

    /// Nothing is left to yield. At the source's end nothing is running any more but the drops of
    /// states, which a call with a time does not wait for; after a cancellation somebody may still be
    /// in the source. Both are left to the drop. So is the drop of the source: it may be a stage of
    /// that kind.
    #[cold]
    pub(crate) fn finish(&mut self) {
        self.over = true;
        let astray = |shared: &Arc<Shared<S, J>>| {
            shared.desk.lock().astray > 0 || shared.hedge().is_some_and(|hedge| hedge.copies() > 0)
        };
        let timed = self.until.is_some();
        if self.cut_short || timed || self.shared.as_ref().is_some_and(astray) {
            self.stop();
        } else if let Some(team) = &self.team {
            team.join();
        }
        let stray = self
            .shared
            .as_ref()
            .and_then(|shared| shared.ctl.take_stray());
        if let Some(panic) = stray {
            resume_unwind(panic);
        }
    }

    /// Nothing more is yielded, though closures may still run: they are joined by the drop.
    #[cold]
    pub(crate) fn stop(&mut self) {
        self.over = true;
        if let Some(shared) = &self.shared {
            shared.stop();
        }
    }

    /// Stops, joins, and drops everything, each thing by itself; the first panic comes back.
    fn clear(&mut self) -> Option<Payload> {
        self.hooks.clear();
        if let Some(shared) = &self.shared {
            shared.ctl.disinherit();
        }
        if let Some(team) = &self.team {
            team.join();
        }
        let mut panic = None;
        if let Some(shared) = self.shared.clone() {
            self.reclaim(&mut shared.desk.lock(), true);
        }
        if let Some(shared) = self.shared.take() {
            let takings = self.head.take().into_iter().chain(self.partial.drain(..));
            for taking in takings.collect::<Vec<_>>() {
                shared.desk.lock().order.push(u64::MAX, taking);
            }
            match Arc::into_inner(shared) {
                Some(shared) => unwind::first(&mut panic, shared.dispose()),
                None => debug_assert!(false, "a thread holds something after the join"),
            }
        }
        unwind::first(&mut panic, unwind::discard(self.near.take()));
        panic
    }
}

impl<S: Source, J: Job<S::Item>> Iterator for Consumer<S, J>
where
    S::Item: Send,
{
    type Item = J::Output;

    #[inline]
    fn next(&mut self) -> Option<J::Output> {
        if self.batch.is_some() {
            if let Some(output) = self.next_of_batch() {
                return Some(output);
            }
        }
        while !self.over {
            let output = if self.inliner.is_some() {
                match self.run_inline() {
                    Step::Batch(batch) => self.open(batch),
                    step => match self.go_on(step) {
                        Some(batch) => self.open(batch),
                        None => continue,
                    },
                }
            } else {
                match self.advance() {
                    Next::Inline => continue,
                    Next::End | Next::Late => return None,
                    Next::Head => {}
                }
                let head = self.head.as_mut()?;
                if head.may_be_odd() {
                    self.take_odd()
                } else {
                    let batch = head.take();
                    self.open(batch)
                }
            };
            if output.is_some() {
                return output;
            }
        }
        None
    }

    fn fold<A, F: FnMut(A, J::Output) -> A>(mut self, init: A, f: F) -> A {
        let value = self.fold_all(init, f);
        drop(self); // as in `Lazy::drain`
        value
    }
}

// In several functions, so that an unoptimized build does not hold a dozen copies of a large output
// in one frame.
impl<S: Source, J: Job<S::Item>> Consumer<S, J>
where
    S::Item: Send,
{
    fn is_ordered(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.ordered)
    }

    fn next_of_batch(&mut self) -> Option<J::Output> {
        let output = self.batch.as_mut()?.next();
        if output.is_none() {
            self.batch = None;
        }
        output
    }

    #[cold]
    fn take_odd(&mut self) -> Option<J::Output> {
        match self.head.as_mut()?.take_any() {
            Ok(batch) => self.open(batch),
            Err(Odd::Last(batch)) => {
                self.stop();
                self.open(batch)
            }
            Err(Odd::Panicked(payload)) => {
                self.stop();
                resume_unwind(payload)
            }
            Err(Odd::TimedOut(failure)) => {
                self.stop();
                panic!(
                    "{failure}: give it longer with item_timeout, or isolate() the stage to get an \
                     Err in its place and go on"
                )
            }
            Err(Odd::Discarded) => {
                self.cut_short = true;
                self.discarded += 1;
                if self.is_ordered() {
                    self.stop();
                }
                None
            }
        }
    }

    #[inline]
    fn open(&mut self, batch: J::Batch) -> Option<J::Output> {
        let mut batch = batch.into_iter();
        let output = batch.next();
        if output.is_some() && batch.size_hint().1 != Some(0) {
            self.batch = Some(batch);
        }
        output
    }
}

impl<S: Source, J: Job<S::Item>> Drop for Consumer<S, J>
where
    S::Item: Send,
{
    fn drop(&mut self) {
        if let Some(panic) = self.clear() {
            if std::thread::panicking() {
                unwind::bury(panic);
            } else {
                resume_unwind(panic);
            }
        }
    }
}
