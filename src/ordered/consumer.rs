//! The side of `next()`: what the [`Cursor`] does for every stage, and what needs the types of the source and
//! the job: pulling a source that stays on this thread, and running items here.

use crate::error::{Cancelled, NotReady};
use crate::ordered::core::CONSUMER;
use crate::ordered::cursor::{BULK, Cursor, Look};
use crate::ordered::item_context::ItemContext;
use crate::ordered::shared::OrderedStage;
use crate::ordered::signals::Signals;
use crate::ordered::worker::Worker;
use crate::par::job::Job;
use crate::par::runner::JobRunner;
use crate::par::source::Source;
use crate::runtime::barrier::Light;
use crate::runtime::biased::Owner;
use crate::runtime::context::{self, InlineStage};
use crate::runtime::cost::Samples;
use crate::runtime::meter::WaitNote;
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
    pub(super) shared: Option<Arc<OrderedStage<S, J>>>,
    /// How many items the source said it has.
    hint: Hint,
    /// A source that stays on this thread, and how many items have been pulled from it.
    pub(super) near: Option<S::Near>,
    pub(super) pulled: u64,
    /// `Some` while the consumer runs items itself, because they cost next to nothing.
    pub(super) inliner: Option<Inliner<S::Far>>,
    waits: WaitNote,
    /// Everything that does not depend on the types of the source and the job.
    pub(super) cursor: Cursor<S::Item, J::Batch>,
}

impl<S: Source, J: Job<S::Item>> std::fmt::Debug for Consumer<S, J>
where
    S::Item: Send,
{
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Consumer")
            .field("taken", &self.cursor.taken)
            .field("over", &self.cursor.is_over())
            .finish_non_exhaustive()
    }
}

/// There is the room that a puller has asked for: wakes a worker. The slow path of the handshake yield /
/// room.
#[cold]
fn room_made<S: Source, J: Job<S::Item>>(shared: &Arc<OrderedStage<S, J>>)
where
    S::Item: Send,
{
    // First, so that the items that are yielded from now on do not come here again. The worker that is woken
    // asks anew if it still finds no room.
    shared.signals.room_granted();
    // The lock is released at the end of this line. Waking or leasing a thread takes long.
    let wake = shared.core.lock().wake();
    shared.act(wake);
}

/// Where the next output comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ready {
    Head,
    Inline,
    /// The next item is this thread's to run.
    Own,
    /// Nothing is there in time, or the answer is no longer wanted.
    Late,
    End,
}

/// What the consumer has while it runs items itself ([`inline`](crate::ordered::inline)).
#[derive(Debug)]
pub(super) struct Inliner<F> {
    /// The borrower's side of the loan of the source.
    pub(super) owner: Owner<F>,
    /// By which a closure finds its token.
    pub(super) stage: InlineStage,
    /// How many items had been taken when it began.
    pub(super) from: u64,
    /// Whether it is to time what it runs if it is called.
    pub(super) is_timed: bool,
    /// `Some` while it times what it runs.
    pub(super) samples: Option<Samples>,
}

/// What has come of an item that the consumer wanted to run itself.
pub(super) enum InlineStep<I, B> {
    Batch(B),
    /// The item is still to be run: the consumer was called while it pulled it.
    Out(I),
    /// The item gave this, and nothing after it counts.
    Last(B),
    /// The source has ended.
    End,
    /// The consumer was called, or is to time its items.
    Called,
}

impl<S: Source, J: Job<S::Item>> Consumer<S, J>
where
    S::Item: Send,
{
    pub(super) fn new(
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
            waits: WaitNote::default(),
            cursor,
        }
    }

    /// Becomes one of the threads, or leases the first one. Each thread that finds more to do than it can do
    /// itself leases the next.
    pub(super) fn join_in(&mut self, takes_part: bool) {
        let Some(shared) = &self.shared else { return };
        // There is nothing for a worker to do before this thread has pulled a chunk.
        if self.near.is_some() {
            return;
        }
        if takes_part {
            // Counted as one of the `n`, so one thread fewer is leased. It begins to work when it finds no
            // result.
            self.cursor.part = Some(shared.core.lock().enlist());
        } else if !shared.signals.is_cancelled() {
            let wake = shared.core.lock().wake();
            shared.act(wake);
        }
    }

    /// Waits until a result can be taken, and counts it as yielded; or until items can be run here.
    #[inline]
    fn advance(&mut self) -> Ready {
        // Most results are taken here, without a lock: the head knows how far its owner has published.
        while !self.cursor.is_ready() {
            if self.cursor.has_own() && self.run_own() {
                continue;
            }
            match self.refill() {
                Ready::Head => break,
                Ready::Own => {}
                next => return next,
            }
        }
        // Counted before it is taken out, which the caller does at once: a puller may use the room already.
        self.cursor.taken += 1;
        if let Some(shared) = &self.shared {
            if let Some(head) = self.cursor.head.as_ref().filter(|_| shared.tells) {
                shared.tell(head);
            }
            // Yield / room: the store of `yielded`, the light barrier and the load of `wake_at` are in there.
            if shared.signals.set_yielded(self.cursor.taken, Light::new()) {
                room_made(shared);
            }
            if shared.tells {
                shared.told(shared, self.cursor.taken);
            }
        }
        Ready::Head
    }

    /// Takes a result that a look has found.
    #[inline]
    pub(super) fn take_ready(&mut self) -> Option<J::Output> {
        // Does not wait, as it is ready.
        let Ready::Head = self.advance() else {
            return None;
        };
        let head = self.cursor.head.as_mut()?;
        // `None` for an item without outputs, behind which there may be another one.
        if head.may_be_special() {
            self.cursor.take_special(self.shared.as_ref()?)
        } else {
            let batch = head.take();
            self.cursor.open(batch)
        }
    }

    /// Takes all results that are ready at once, as they have no outputs.
    fn skip_ready(&mut self) {
        let (Some(head), Some(shared)) = (&mut self.cursor.head, &self.shared) else {
            return;
        };
        head.ready(&mut self.cursor.taken).skip();
        if shared.signals.set_yielded(self.cursor.taken, Light::new()) {
            room_made(shared);
        }
    }

    /// Waits until there is something to take or to run.
    ///
    /// This is the slow side of the handshake publish / sleep. The consumer announces what it sleeps for,
    /// passes the heavy barrier, and then goes through the whole loop once more. It sleeps only if it finds
    /// nothing in that second round either. A result that is published in between is found in that round, or
    /// its owner sees the announcement and wakes the consumer. Every way out with an announcement takes it
    /// back, or workers would go on waking a consumer that is awake.
    #[cold]
    #[inline(never)]
    fn refill(&mut self) -> Ready {
        let ready = self.wait_for_ready();
        if let Some(shared) = &self.shared {
            self.waits.set(&shared.meter, false);
        }
        ready
    }

    /// The loop of `refill`.
    fn wait_for_ready(&mut self) -> Ready {
        // Announced, and not yet slept: the current round is the last look.
        let mut announced = false;
        let mut since = None;
        // Many results since the last wait mean that more will come soon.
        self.cursor.flows |= self.cursor.taken - self.cursor.waited_at >= BULK;
        self.cursor.waited_at = self.cursor.taken;
        let next = loop {
            // A clone, because the steps below borrow all of `self`.
            let Some(shared) = self.shared.clone() else {
                break Ready::End;
            };
            // First what is finished: each of the later steps may take long.
            match self.cursor.look(&shared) {
                Look::Ready => break Ready::Head,
                Look::Own => break Ready::Own,
                Look::End => {
                    // From here this thread may join the others, and takes no result that they could wake it
                    // for.
                    if announced {
                        shared.signals.awake();
                    }
                    self.cursor.finish(&shared);
                    return Ready::End;
                }
                Look::Nothing => {}
            }
            self.waits.set(&shared.meter, true);
            // Only after the look, so that no finished result is left behind.
            if self.start_inline(&shared) {
                break Ready::Inline;
            }
            // Checked before this thread may itself go into the source.
            if context::is_unwanted() {
                if announced {
                    shared.signals.awake();
                }
                context::tell_cut();
                // A `None` that is no end for a call without a time limit; a call with one returns
                // `NotReady`.
                self.cursor.late = self.cursor.until.is_some();
                return Ready::Late;
            }
            // After each of these a result may be there, so the loop looks again before it thinks of
            // sleeping.
            if self.work(&shared) || S::LOCAL && self.pull_near(&shared) {
                continue;
            }
            // A `None` that is no end: there is nothing to wait for. Never announced, as only this thread pulls.
            if S::LOCAL && self.is_dry() {
                return Ready::Late;
            }
            // Timed stages, and after an announcement too: a start that comes later finds the consumer
            // `untimed`, and wakes it.
            if self.cursor.look_at_clocks(&shared, &shared) {
                continue;
            }
            // A call whose time is over still announces once, below: that makes sure that a thread works
            // meanwhile.
            let late = self
                .cursor
                .until
                .is_some_and(|until| until <= Instant::now());
            // A short wait and a nap end by themselves, so no worker has to know of them, and none pays for a
            // wake-up.
            if !announced
                && !late
                && (self.wait_at_head(&shared, &mut since)
                    || self.cursor.spin()
                    || self.cursor.take_nap(&shared, &shared))
            {
                continue;
            }
            // The last look before the time limit was in vain too.
            if announced && late {
                if self.cursor.sleeper.is_polled() {
                    self.cursor.announced = true;
                } else {
                    shared.signals.awake();
                }
                self.cursor.late = true;
                return Ready::Late;
            }
            // The last look was in vain. `sleep` takes the announcement back when it returns.
            if announced {
                self.cursor.sleep(&shared);
                announced = false;
            } else {
                // What is around this thread may end while it sleeps. Registered first, so that the second
                // round sees an end that came before.
                context::tell_outer(&shared.signals);
                self.cursor.announce(&shared, &shared);
                announced = true;
            }
        };
        if announced {
            if let Some(shared) = &self.shared {
                shared.signals.awake();
            }
            // It came sooner than a sleep could begin.
            self.cursor.flows = true;
        }
        next
    }

    // ---- working

    /// Runs something on this thread, if it takes part or if no other thread can be started. No state is kept
    /// between two calls, because the consumer may move to another thread in between.
    pub(super) fn work(&mut self, shared: &Arc<OrderedStage<S, J>>) -> bool {
        let thread = match self.cursor.part {
            Some(thread) => thread,
            // No thread exists, so nothing can steal from this one: it is not on the roster, and its chunk is
            // not shown.
            None if shared.core.lock().roster.is_nobody() => CONSUMER,
            None => return false,
        };
        let here = Rc::new(ItemContext::new(Arc::clone(&shared.signals)));
        let worked = {
            let mut runner = JobRunner::new(&shared.job);
            shared.work_here(shared, &mut runner, Worker::new(thread, here))
        };
        if worked && self.cursor.part.is_some() {
            // The other threads run their last items, and will be done about as soon.
            self.cursor.spin = Spin::begin();
        }
        worked
    }

    // ---- ending

    /// Nothing is left to yield.
    #[cold]
    pub(super) fn finish(&mut self) {
        if let Some(shared) = &self.shared {
            self.cursor.finish(shared);
        }
    }

    /// Nothing more is yielded, though closures may still run. The drop joins them.
    #[cold]
    pub(super) fn stop(&mut self) {
        self.cursor.stop();
    }

    /// Stops, joins, and drops everything, each thing separately. Returns the first panic.
    fn clear(&mut self) -> Option<Payload> {
        // The order is that of *How a stage ends* in `README.md`: hooks, join, results and items, source,
        // job.
        let mut panic = self.cursor.session.close();
        if let Some(shared) = self.shared.clone() {
            // A borrowed source goes back to its slot, so that it is dropped with the rest.
            let mut core = shared.core.lock();
            // An unwind in the middle of items that ran here has left `taken` behind.
            let taken = (self.inliner.as_ref()).map_or(0, |inliner| inliner.owner.words().done());
            self.reclaim(&mut core, true);
            self.leave_head(&shared, &mut core);
            shared.meter.note(|meter| {
                meter.ran_to(core.ran);
                meter.close(taken.max(self.cursor.taken));
            });
            drop(core);
        }
        // After the join this is the only handle on the stage.
        if let Some(shared) = self.shared.take() {
            self.cursor.put_back(&shared);
            match Arc::into_inner(shared) {
                Some(shared) => unwind::first(&mut panic, shared.dispose()),
                None => debug_assert!(false, "a thread holds something after the join"),
            }
        }
        // A source that stays on this thread was never in the slot.
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
        // An item that was begun is yielded to its last output, also after the end of the stage.
        if self.cursor.batch.is_some() {
            if let Some(output) = self.cursor.next_of_batch() {
                return Some(output);
            }
        }
        while !self.cursor.is_over() {
            let output = if self.inliner.is_some() {
                // While the consumer has the source, no chunk has a result that comes before its items.
                match self.run_inline() {
                    InlineStep::Batch(batch) => self.cursor.open(batch),
                    // The rare steps are over there, out of this loop.
                    step => match self.go_on(step) {
                        Some(batch) => self.cursor.open(batch),
                        None => continue,
                    },
                }
            } else {
                match self.advance() {
                    // The source is borrowed now: the next round takes the other branch.
                    Ready::Inline => continue,
                    Ready::End | Ready::Late => return None,
                    Ready::Head | Ready::Own => {}
                }
                let head = self.cursor.head.as_mut()?;
                // Two ways, because nearly every chunk has only plain results: those are taken without a
                // search.
                if head.may_be_special() {
                    self.cursor.take_special(self.shared.as_ref()?)
                } else {
                    let batch = head.take();
                    if J::IS_SILENT {
                        self.skip_ready();
                        continue;
                    }
                    // `None` is an item without output, as from a filter: the loop goes on to the next item.
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
        // The last item may still have outputs when no more items come.
        let over = self.cursor.is_over();
        let Some(shared) = self.shared.as_ref().filter(|_| !self.is_over()) else {
            return (0, Some(0));
        };
        let items = shared.core.lock().end;
        let (low, high) = size_hint::left(self.hint, items, self.cursor.taken);
        // Fewer outputs may come than the source has items.
        let ending = shared.signals.is_cancelled() || shared.signals.is_draining();
        let (low, high) = J::outputs((if ending { 0 } else { low }, high));
        let rest = self.cursor.rest_of_batch();
        if over {
            return rest;
        }
        size_hint::sum([(low, high), rest].into_iter())
    }
}

/// Folds the outputs of an item, and counts it if there are none.
#[inline]
pub(super) fn fold_batch<B: IntoIterator, A>(
    batch: B,
    value: A,
    f: &mut impl FnMut(A, B::Item) -> A,
    signals: &Signals,
) -> A {
    let mut outputs = batch.into_iter();
    let Some(first) = outputs.next() else {
        signals.no_output();
        return value;
    };
    let value = f(value, first);
    outputs.fold(value, f)
}

impl<S: Source, J: Job<S::Item>> Running for Consumer<S, J>
where
    S::Item: Send,
{
    fn next_until(&mut self, until: Option<Instant>) -> Result<Option<J::Output>, NotReady> {
        // A consumer that waits for a limited time must not get stuck in an item, or in the source.
        self.leave_inline_for_good();
        // Only for this call: each wait below looks at it.
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

    #[inline]
    fn next_ready(&mut self) -> Option<J::Output> {
        if self.cursor.batch.is_some() {
            return self.cursor.next_of_batch();
        }
        let is_here = self.inliner.is_none() && !self.cursor.is_over() && self.cursor.is_ready();
        if is_here { self.take_ready() } else { None }
    }

    fn bound(&self) -> Option<usize> {
        let shared = self.shared.as_ref()?;
        usize::try_from(shared.bound()).ok()
    }

    /// Folds all outputs: like `next`, but what is ready is taken in a tight loop.
    fn fold_all<A>(&mut self, init: A, mut f: impl FnMut(A, J::Output) -> A) -> A {
        let mut value = init;
        // `next` does everything that is rare: it waits, wakes, raises panics, and ends. Between two calls of
        // it, the loops below take what they can take without any of that.
        while let Some(output) = self.next() {
            value = f(value, output);
            // The rest of an item that gave several outputs: `next` yields it.
            if self.cursor.is_over() || self.cursor.batch.is_some() {
                continue;
            }
            while self.inliner.is_some() {
                let step;
                (value, step) = self.fold_inline(value, &mut f);
                if let Some(batch) = self.go_on(step) {
                    let signals = self.cursor.session.control();
                    value = fold_batch(batch, value, &mut f, signals);
                }
                if self.cursor.is_over() {
                    return value;
                }
            }
            // The chunk of that output, which is likely to have more. Without one, `next` looks for the next.
            let (Some(head), Some(shared)) = (&mut self.cursor.head, &self.shared) else {
                continue;
            };
            if shared.tells {
                continue;
            }
            // In local variables: each barrier would otherwise have them loaded again.
            let (signals, light) = (&*shared.signals, Light::new());
            // Its drop brings the counts home, also if `f` panics.
            let mut ready = head.ready(&mut self.cursor.taken);
            while let Some(batch) = ready.take() {
                // For each item, before its outputs are used, as in `advance`. `cursor.taken` is behind until
                // the drop of `ready`.
                if signals.set_yielded(ready.count(), light) {
                    room_made(shared);
                }
                value = fold_batch(batch, value, &mut f, signals);
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
        // The last item may still have outputs to yield.
        self.cursor.is_over() && self.cursor.batch.is_none()
    }

    fn cut(&self) -> Option<Cancelled> {
        // The place of the cut: how many items were run and yielded before it.
        let why = self.cursor.session.cut()?;
        // Only what has really been run counts as done before the cut.
        Some(why.at(self.cursor.taken - self.cursor.discarded))
    }

    fn tell_cut(&self) {
        self.cursor.session.tell_cut();
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
