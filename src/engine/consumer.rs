//! The side of `next()`: what the [`Cursor`] does for every stage, and what it takes the source and the job for: to
//! pull a source that stays on this thread, and to run items here.

use crate::engine::barrier::Light;
use crate::engine::context::{self, InlineStage};
use crate::engine::cost::Samples;
use crate::engine::ctl::Here;
use crate::engine::cursor::{BULK, Cursor, Look};
use crate::engine::desk::CONSUMER;
use crate::engine::job::Job;
use crate::engine::lent::Hand;
use crate::engine::pull;
use crate::engine::runner::JobRunner;
use crate::engine::source::Source;
use crate::engine::spin::Spin;
use crate::engine::stage::Shared;
use crate::engine::unwind::{self, Payload, catch};
use crate::engine::worker::Worker;
use crate::error::{Cancelled, Late};
use crate::sync::{Arc, Instant};
use std::panic::resume_unwind;
use std::rc::Rc;
use std::time::Duration;

/// The consumer's end of a running stage.
pub(crate) struct Consumer<S: Source, J: Job<S::Item>>
where
    S::Item: Send,
{
    /// `None` once the stage is over and cleared away.
    pub(crate) shared: Option<Arc<Shared<S, J>>>,
    /// A source that stays on this thread, and how far it has been pulled.
    near: Option<S::Near>,
    pulled: u64,
    /// While it runs items itself, because they cost next to nothing.
    pub(crate) inliner: Option<Inliner<S::Far>>,
    pub(crate) cursor: Cursor<S::Item, J::Batch>,
}

impl<S: Source, J: Job<S::Item>> std::fmt::Debug for Consumer<S, J>
where
    S::Item: Send,
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer")
            .field("taken", &self.cursor.taken)
            .field("over", &self.cursor.over)
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

/// Where the next output comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Head,
    Inline,
    /// Nothing is there in time, or nobody wants it any more.
    Late,
    End,
}

/// What the consumer has while it runs items itself ([`inline`](crate::engine::inline)).
#[derive(Debug)]
pub(crate) struct Inliner<F> {
    pub(crate) hand: Hand<F>,
    pub(crate) stage: InlineStage,
    /// While it times what it runs.
    pub(crate) samples: Option<Samples>,
}

/// What came of an item that the consumer wanted to run itself.
pub(crate) enum Step<I, B> {
    Batch(B),
    /// It is still to be run: somebody has called while it was being pulled.
    Out(I),
    /// It gave this, and nothing after it counts.
    Last(B),
    /// The source has ended.
    End,
    /// Somebody has called, or items are to be timed.
    Called,
}

impl<S: Source, J: Job<S::Item>> Consumer<S, J>
where
    S::Item: Send,
{
    pub(crate) fn new(
        shared: Option<Arc<Shared<S, J>>>,
        near: Option<S::Near>,
        cursor: Cursor<S::Item, J::Batch>,
    ) -> Self {
        Consumer {
            shared,
            near,
            pulled: 0,
            inliner: None,
            cursor,
        }
    }

    /// Becomes one of the threads, or leases the first; each one that finds more to do leases the next.
    pub(crate) fn join_in(&mut self, takes_part: bool) {
        let Some(shared) = &self.shared else { return };
        if self.near.is_some() {
            return;
        }
        if takes_part {
            self.cursor.part = Some(shared.desk.lock().enlist());
        } else if !shared.ctl.is_cancelled() {
            let wake = shared.desk.lock().wake();
            shared.act(wake);
        }
    }

    /// How many items have been handed over.
    pub(crate) fn taken(&self) -> u64 {
        self.cursor.taken
    }

    pub(crate) fn is_over(&self) -> bool {
        self.cursor.over && self.cursor.batch.is_none()
    }

    /// Whether less may come than the source has.
    pub(crate) fn is_ending(&self) -> bool {
        let ctl = self.shared.as_ref().map(|shared| &shared.ctl);
        ctl.is_some_and(|ctl| ctl.is_cancelled() || ctl.is_draining())
    }

    /// Why it ended before its source did, if it did so by a token.
    pub(crate) fn cut(&self) -> Option<Cancelled> {
        let shared = self.shared.as_ref().filter(|_| self.cursor.over);
        let ctl = &shared?.ctl;
        let why = ctl.why().at(self.cursor.taken - self.cursor.discarded);
        (self.cursor.cut_short || ctl.is_drained()).then_some(why)
    }

    /// It was cut short, and whoever uses it is not told so by what it yields.
    pub(crate) fn tell_cut(&self) {
        if let Some(shared) = &self.shared {
            shared.ctl.cut_short();
        }
    }

    /// How many outputs are left of the item that is being yielded.
    pub(crate) fn rest_of_batch(&self) -> (usize, Option<usize>) {
        self.cursor.rest_of_batch()
    }

    /// How many items the source had, if that is known.
    pub(crate) fn items(&self) -> Option<u64> {
        self.shared.as_ref()?.desk.lock().end
    }

    /// The next output, or [`Late`] if it is not there in time.
    pub(crate) fn next_within(&mut self, time: Duration) -> Result<Option<J::Output>, Late> {
        self.leave_inline_for_good();
        self.cursor.until = Instant::now().checked_add(time);
        self.cursor.late = false;
        let output = self.next();
        self.cursor.until = None;
        if std::mem::take(&mut self.cursor.late) {
            return Err(Late::new(self.is_ordered().then_some(self.cursor.taken)));
        }
        Ok(output)
    }

    /// Folds all outputs: as `next` does, but what is ready is taken in a tight loop.
    pub(crate) fn fold_all<A>(&mut self, init: A, mut f: impl FnMut(A, J::Output) -> A) -> A {
        let mut value = init;
        while let Some(output) = self.next() {
            value = f(value, output);
            if self.cursor.over || self.cursor.batch.is_some() {
                continue;
            }
            while self.inliner.is_some() {
                let step;
                (value, step) = self.fold_inline(value, &mut f);
                if let Some(batch) = self.go_on(step) {
                    value = batch.into_iter().fold(value, &mut f);
                }
                if self.cursor.over {
                    return value;
                }
            }
            let (Some(head), Some(shared)) = (&mut self.cursor.head, &self.shared) else {
                continue;
            };
            let (ctl, light) = (&*shared.ctl, Light::new());
            let mut ready = head.ready(&mut self.cursor.taken);
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
        if !self.cursor.is_ready() {
            let next = self.refill();
            if next != Next::Head {
                return next;
            }
        }
        self.cursor.taken += 1;
        if let Some(shared) = &self.shared {
            if shared.ctl.set_yielded(self.cursor.taken, Light::new()) {
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
        self.cursor.flows |= self.cursor.taken - self.cursor.waited_at >= BULK;
        self.cursor.waited_at = self.cursor.taken;
        let next = loop {
            let Some(shared) = self.shared.clone() else {
                break Next::End;
            };
            match self.cursor.look(&shared) {
                Look::Ready => break Next::Head,
                Look::End => {
                    if announced {
                        shared.ctl.awake();
                    }
                    self.cursor.finish(&shared);
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
                self.cursor.late = self.cursor.until.is_some();
                return Next::Late;
            }
            if self.work(&shared) || S::LOCAL && self.pull_near(&shared) {
                continue;
            }
            if self.cursor.look_at_clocks(&shared, &shared) {
                continue;
            }
            let late = self
                .cursor
                .until
                .is_some_and(|until| until <= Instant::now());
            if !announced && !late && (self.cursor.spin() || self.cursor.take_nap(&shared, &shared))
            {
                continue;
            }
            if announced && late {
                shared.ctl.awake();
                self.cursor.late = true;
                return Next::Late;
            }
            if announced {
                self.cursor.sleep(&shared);
                announced = false;
            } else {
                context::tell_outer(&shared.ctl);
                self.cursor.announce(&shared, &shared);
                announced = true;
            }
        };
        if announced {
            if let Some(shared) = &self.shared {
                shared.ctl.awake();
            }
            self.cursor.flows = true; // it was there sooner than a sleep could begin
        }
        next
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
                    over = Some(pull::Next::End);
                    break;
                }
                Err(payload) => {
                    over = Some(pull::Next::Panicked(payload));
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
            let ready = self.cursor.is_ready();
            if ready || shared.ctl.is_cut() || shared.ctl.is_draining() {
                break;
            }
            if !watched {
                shared.get_watched(shared);
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
        let thread = match self.cursor.part {
            Some(thread) => thread,
            None if shared.desk.lock().is_alone() => CONSUMER,
            None => return false,
        };
        let here = Rc::new(Here::new(Arc::clone(&shared.ctl)));
        let worked = {
            let mut runner = JobRunner::new(&shared.job);
            shared.work_here(shared, &mut runner, Worker::new(thread, here))
        };
        if worked && self.cursor.part.is_some() {
            self.cursor.spin = Some(Spin::begin()); // the others will be done as soon
        }
        worked
    }

    // ---- ending

    /// Nothing is left to yield.
    #[cold]
    pub(crate) fn finish(&mut self) {
        if let Some(shared) = &self.shared {
            self.cursor.finish(shared);
        }
    }

    /// Nothing more is yielded, though closures may still run: they are joined by the drop.
    #[cold]
    pub(crate) fn stop(&mut self) {
        if let Some(shared) = &self.shared {
            self.cursor.stop(shared);
        }
    }

    /// Stops, joins, and drops everything, each thing by itself; the first panic comes back.
    fn clear(&mut self) -> Option<Payload> {
        self.cursor
            .join(self.shared.as_ref().map(|shared| &*shared.ctl));
        let mut panic = None;
        if let Some(shared) = self.shared.clone() {
            self.reclaim(&mut shared.desk.lock(), true);
        }
        if let Some(shared) = self.shared.take() {
            self.cursor.put_back(&shared);
            match Arc::into_inner(shared) {
                Some(shared) => unwind::first(&mut panic, shared.dispose()),
                None => debug_assert!(false, "a thread holds something after the join"),
            }
        }
        unwind::first(&mut panic, unwind::discard(self.near.take()));
        panic
    }

    fn is_ordered(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.ordered)
    }
}

impl<S: Source, J: Job<S::Item>> Iterator for Consumer<S, J>
where
    S::Item: Send,
{
    type Item = J::Output;

    #[inline]
    fn next(&mut self) -> Option<J::Output> {
        if self.cursor.batch.is_some() {
            if let Some(output) = self.cursor.next_of_batch() {
                return Some(output);
            }
        }
        while !self.cursor.over {
            let output = if self.inliner.is_some() {
                match self.run_inline() {
                    Step::Batch(batch) => self.cursor.open(batch),
                    step => match self.go_on(step) {
                        Some(batch) => self.cursor.open(batch),
                        None => continue,
                    },
                }
            } else {
                match self.advance() {
                    Next::Inline => continue,
                    Next::End | Next::Late => return None,
                    Next::Head => {}
                }
                let head = self.cursor.head.as_mut()?;
                if head.may_be_odd() {
                    self.cursor.take_odd(self.shared.as_ref()?)
                } else {
                    let batch = head.take();
                    self.cursor.open(batch)
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
