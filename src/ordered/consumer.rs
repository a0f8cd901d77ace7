//! The side of `next()`: what the [`Cursor`] does for every stage, and what it takes the source and the job for: to
//! pull a source that stays on this thread, and to run items here.

use crate::error::{Cancelled, NotReady};
use crate::ordered::core::CONSUMER;
use crate::ordered::cursor::{BULK, Cursor, Look};
use crate::ordered::item_context::ItemContext;
use crate::ordered::shared::OrderedStage;
use crate::ordered::worker::Worker;
use crate::par::job::Job;
use crate::par::runner::JobRunner;
use crate::par::source::Source;
use crate::runtime::barrier::Light;
use crate::runtime::biased::Owner;
use crate::runtime::context::{self, InlineStage};
use crate::runtime::cost::Samples;
use crate::runtime::plan::{Ending, Running};
use crate::runtime::spin::Spin;
use crate::size_hint::{self, Hint};
use crate::sync::{Arc, Instant};
use crate::unwind::{self, Payload};
use std::rc::Rc;

/// The consumer's end of a running stage.
#[allow(unreachable_pub)] // it stands in the signature of `Plan`
pub struct Consumer<S: Source, J: Job<S::Item>>
where
    S::Item: Send,
{
    /// `None` once the stage is over and cleared away.
    pub(crate) shared: Option<Arc<OrderedStage<S, J>>>,
    /// How many items the source said it has.
    hint: Hint,
    /// A source that stays on this thread, and how far it has been pulled.
    pub(super) near: Option<S::Near>,
    pub(super) pulled: u64,
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
fn room_made<S: Source, J: Job<S::Item>>(shared: &Arc<OrderedStage<S, J>>)
where
    S::Item: Send,
{
    shared.signals.room_granted();
    let wake = shared.core.lock().wake();
    shared.act(wake);
}

/// Where the next output comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ready {
    Head,
    Inline,
    /// Nothing is there in time, or nobody wants it any more.
    Late,
    End,
}

/// What the consumer has while it runs items itself ([`inline`](crate::ordered::inline)).
#[derive(Debug)]
pub(crate) struct Inliner<F> {
    pub(crate) owner: Owner<F>,
    pub(crate) stage: InlineStage,
    /// While it times what it runs.
    pub(crate) samples: Option<Samples>,
}

/// What came of an item that the consumer wanted to run itself.
pub(crate) enum InlineStep<I, B> {
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
        shared: Arc<OrderedStage<S, J>>,
        near: Option<S::Near>,
        cursor: Cursor<S::Item, J::Batch>,
        hint: Hint,
    ) -> Self {
        Consumer {
            shared: Some(shared),
            hint,
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
            self.cursor.part = Some(shared.core.lock().enlist());
        } else if !shared.signals.is_cancelled() {
            let wake = shared.core.lock().wake();
            shared.act(wake);
        }
    }

    /// Waits until something can be taken, and counts it as yielded, or can be run here.
    #[inline]
    fn advance(&mut self) -> Ready {
        if !self.cursor.is_ready() {
            let next = self.refill();
            if next != Ready::Head {
                return next;
            }
        }
        self.cursor.taken += 1;
        if let Some(shared) = &self.shared {
            if shared.signals.set_yielded(self.cursor.taken, Light::new()) {
                room_made(shared);
            }
        }
        Ready::Head
    }

    /// Waits until there is something to take or to run.
    #[cold]
    #[inline(never)]
    fn refill(&mut self) -> Ready {
        let mut announced = false;
        self.cursor.flows |= self.cursor.taken - self.cursor.waited_at >= BULK;
        self.cursor.waited_at = self.cursor.taken;
        let next = loop {
            let Some(shared) = self.shared.clone() else {
                break Ready::End;
            };
            match self.cursor.look(&shared) {
                Look::Ready => break Ready::Head,
                Look::End => {
                    if announced {
                        shared.signals.awake();
                    }
                    self.cursor.finish(&shared);
                    return Ready::End;
                }
                Look::Nothing => {}
            }
            if self.start_inline(&shared) {
                break Ready::Inline;
            }
            // Looked at before this thread may itself go into the source.
            if context::is_unwanted() {
                if announced {
                    shared.signals.awake();
                }
                context::tell_cut();
                self.cursor.late = self.cursor.until.is_some();
                return Ready::Late;
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
                shared.signals.awake();
                self.cursor.late = true;
                return Ready::Late;
            }
            if announced {
                self.cursor.sleep(&shared);
                announced = false;
            } else {
                context::tell_outer(&shared.signals);
                self.cursor.announce(&shared, &shared);
                announced = true;
            }
        };
        if announced {
            if let Some(shared) = &self.shared {
                shared.signals.awake();
            }
            self.cursor.flows = true; // it was there sooner than a sleep could begin
        }
        next
    }

    // ---- working

    /// Runs something on this thread, if it takes part or if no other can be started. It keeps no
    /// state from one to the next: the consumer may move to another thread in between.
    fn work(&mut self, shared: &Arc<OrderedStage<S, J>>) -> bool {
        let thread = match self.cursor.part {
            Some(thread) => thread,
            None if shared.core.lock().roster.is_nobody() => CONSUMER,
            None => return false,
        };
        let here = Rc::new(ItemContext::new(Arc::clone(&shared.signals)));
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
            .join(self.shared.as_ref().map(|shared| &*shared.signals));
        let mut panic = None;
        if let Some(shared) = self.shared.clone() {
            self.reclaim(&mut shared.core.lock(), true);
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
                    InlineStep::Batch(batch) => self.cursor.open(batch),
                    step => match self.go_on(step) {
                        Some(batch) => self.cursor.open(batch),
                        None => continue,
                    },
                }
            } else {
                match self.advance() {
                    Ready::Inline => continue,
                    Ready::End | Ready::Late => return None,
                    Ready::Head => {}
                }
                let head = self.cursor.head.as_mut()?;
                if head.may_be_special() {
                    self.cursor.take_special(self.shared.as_ref()?)
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

    fn size_hint(&self) -> Hint {
        let over = self.cursor.over;
        let Some(shared) = self.shared.as_ref().filter(|_| !self.is_over()) else {
            return (0, Some(0));
        };
        let items = shared.core.lock().end;
        let (low, high) = size_hint::left(self.hint, items, self.cursor.taken);
        // Less may come than the source has.
        let ending = shared.signals.is_cancelled() || shared.signals.is_draining();
        let (low, high) = J::outputs((if ending { 0 } else { low }, high));
        let rest = self.cursor.rest_of_batch();
        if over {
            return rest;
        }
        size_hint::sum([(low, high), rest].into_iter())
    }
}

impl<S: Source, J: Job<S::Item>> Running for Consumer<S, J>
where
    S::Item: Send,
{
    fn next_until(&mut self, until: Option<Instant>) -> Result<Option<J::Output>, NotReady> {
        self.leave_inline_for_good();
        self.cursor.until = until;
        self.cursor.late = false;
        let output = self.next();
        self.cursor.until = None;
        if std::mem::take(&mut self.cursor.late) {
            return Err(NotReady::new(
                self.is_ordered().then_some(self.cursor.taken),
            ));
        }
        Ok(output)
    }

    /// Folds all outputs: as `next` does, but what is ready is taken in a tight loop.
    fn fold_all<A>(&mut self, init: A, mut f: impl FnMut(A, J::Output) -> A) -> A {
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
            let (signals, light) = (&*shared.signals, Light::new());
            let mut ready = head.ready(&mut self.cursor.taken);
            while let Some(batch) = ready.take() {
                if signals.set_yielded(ready.count(), light) {
                    room_made(shared);
                }
                for output in batch {
                    value = f(value, output);
                }
            }
        }
        value
    }

    fn ending(&self) -> &dyn Ending {
        self
    }
}

impl<S: Source, J: Job<S::Item>> Ending for Consumer<S, J>
where
    S::Item: Send,
{
    fn is_over(&self) -> bool {
        self.cursor.over && self.cursor.batch.is_none()
    }

    fn cut(&self) -> Option<Cancelled> {
        let shared = self.shared.as_ref().filter(|_| self.cursor.over);
        let signals = &shared?.signals;
        let why = signals.why().at(self.cursor.taken - self.cursor.discarded);
        (self.cursor.cut_short || signals.is_drained()).then_some(why)
    }

    fn tell_cut(&self) {
        if let Some(shared) = &self.shared {
            shared.signals.cut_short();
        }
    }
}

impl<S: Source, J: Job<S::Item>> Drop for Consumer<S, J>
where
    S::Item: Send,
{
    fn drop(&mut self) {
        unwind::raise(self.clear());
    }
}
