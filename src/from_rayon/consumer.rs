//! The side of `next()`.

use crate::error::{Cancelled, NotReady};
use crate::from_rayon::drive::{Folds, Inner, carry};
use crate::from_rayon::handover::{Ended, Found, Handover, Shares};
use crate::from_rayon::outcome::Outcome;
use crate::from_rayon::relay::Relay;
use crate::runtime::event::{Listener, WaitResult};
use crate::runtime::life::Scheduler;
use crate::runtime::plan::{Ending, Running, unwanted};
use crate::runtime::session::Session;
use crate::runtime::trace::resume_unwind;
use crate::size_hint::Hint;
use crate::sync::{Arc, Instant};
use crate::unwind;
use rayon::iter::IndexedParallelIterator;
use std::collections::VecDeque;
use std::fmt;

/// The running state of an [`Ordered`](crate::from_rayon::Ordered) stage.
#[allow(unreachable_pub)] // it stands in the signature of `Plan`
pub struct OrderedIter<I, W>
where
    I: IndexedParallelIterator,
    W: Outcome<I::Item>,
{
    /// Until the first result is asked for: a fold runs it on this thread, everything else on the carrier.
    inner: Option<Inner<I>>,
    /// How the places of the bound are divided where there is a carrier.
    shares: Shares,
    /// The carrier's, until it is leased.
    carrier: Option<Listener>,
    /// Results that were taken out of the queue.
    hands: VecDeque<W::Output>,
    /// How many outputs are left, as rayon says.
    left: usize,
    cut: Option<Cancelled>,
    listener: Listener,
    handover: Arc<Handover<W::Output>>,
    session: Session<Relay>,
}

impl<I, W> fmt::Debug for OrderedIter<I, W>
where
    I: IndexedParallelIterator,
    W: Outcome<I::Item>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OrderedIter")
            .field("left", &self.left)
            .finish_non_exhaustive()
    }
}

impl<I, W> OrderedIter<I, W>
where
    I: IndexedParallelIterator,
    W: Outcome<I::Item>,
{
    pub(super) fn new(
        mut inner: Inner<I>,
        session: Session<Relay>,
        listener: Listener,
        carrier: Listener,
    ) -> Self {
        let relay = session.control();
        inner.end_with(relay.ends(), relay.drains());
        let shares = Shares::of(inner.opts.work.in_flight, inner.opts.work.width);
        OrderedIter {
            left: inner.iter.len(),
            inner: Some(inner),
            shares,
            carrier: Some(carrier),
            hands: VecDeque::new(),
            cut: None,
            listener,
            handover: Arc::new(Handover::new(shares, Arc::clone(relay))),
            session,
        }
    }

    /// Starts the carrier, unless that was done.
    fn launch(&mut self) {
        let (Some(mut inner), Some(listener)) = (self.inner.take(), self.carrier.take()) else {
            return;
        };
        inner.opts.work.in_flight = self.shares.inner;
        let handover = Arc::clone(&self.handover);
        let leases = self.session.leases().clone();
        let is_in_rayon = rayon::current_thread_index().is_some();
        let carried = move || {
            let is_leased = rayon::current_thread_index().is_none();
            match (is_in_rayon && is_leased).then(pool_of_one) {
                Some(Some(pool)) => {
                    let task = leases.prepare(|| carry::<I, W>(inner, &handover, listener));
                    pool.install(|| task.run());
                }
                _ => carry::<I, W>(inner, &handover, listener),
            }
        };
        if let Err(task) = self.session.leases().lease(carried) {
            self.handover.set_unbounded();
            task.run();
        }
    }

    /// Nothing more comes.
    fn end(&mut self, cut: Option<Cancelled>) {
        // The carrier is on its way out.
        self.session.join();
        self.cut = cut;
        self.session.end(cut.is_some());
    }

    #[inline]
    fn take(&mut self) -> Option<W::Output> {
        let output = self.hands.pop_front()?;
        self.left = self.left.saturating_sub(1);
        Some(output)
    }
}

/// Where an adaptor may ask rayon to run something while the producer is lent, as `skip` does. The threads of the pool
/// around the consumer may all wait for this stage. `None`: no thread can be started for it.
fn pool_of_one() -> Option<rayon::ThreadPool> {
    rayon::ThreadPoolBuilder::new().num_threads(1).build().ok()
}

impl<I, W> Iterator for OrderedIter<I, W>
where
    I: IndexedParallelIterator,
    W: Outcome<I::Item>,
{
    type Item = W::Output;

    #[inline]
    fn next(&mut self) -> Option<W::Output> {
        match self.take() {
            None => self.next_until(None).ok()?,
            some => some,
        }
    }

    fn size_hint(&self) -> Hint {
        if self.session.is_over() {
            return (0, Some(0));
        }
        let relay = self.session.control();
        let is_ending = relay.ends().is_cancelled() || relay.drains().is_cancelled();
        let low = if is_ending { 0 } else { self.left };
        (low, Some(self.left))
    }
}

impl<I, W> Running for OrderedIter<I, W>
where
    I: IndexedParallelIterator,
    W: Outcome<I::Item>,
{
    #[inline(never)]
    fn next_until(&mut self, until: Option<Instant>) -> Result<Option<W::Output>, NotReady> {
        self.launch();
        loop {
            if let Some(output) = self.take() {
                return Ok(Some(output));
            }
            if self.session.is_over() {
                return Ok(None);
            }
            match self.handover.take(&mut self.hands, true) {
                Found::Results => continue,
                Found::Nothing => {}
                Found::Ended(Ended::Quietly(cut)) => {
                    self.end(cut);
                    // What belongs to no item, such as a drop, counts as the end of the source.
                    unwind::raise(self.session.control().life().take_stray());
                    return Ok(None);
                }
                Found::Ended(Ended::Panicked(panic)) => {
                    self.end(None);
                    resume_unwind(panic);
                }
            }
            match self.handover.wait(&mut self.listener, until) {
                WaitResult::Ready => {}
                WaitResult::Unwanted => {
                    self.handover.withdraw();
                    return unwanted(until);
                }
                WaitResult::Late => {
                    self.handover.withdraw();
                    return Err(NotReady::new(None));
                }
            }
        }
    }

    fn fold_all<A>(&mut self, init: A, mut f: impl FnMut(A, W::Output) -> A) -> A {
        // Nothing was asked for yet, and all is asked for now: then no thread is needed to keep rayon's producer.
        if let Some(inner) = self.inner.take() {
            let (value, cut) = inner.run::<W, _>(Folds { init, f });
            self.left = 0;
            self.end(cut);
            return value;
        }
        let mut value = init;
        for output in self.by_ref() {
            value = f(value, output);
        }
        value
    }

    fn ending(&self) -> &dyn Ending {
        self
    }
}

impl<I, W> Ending for OrderedIter<I, W>
where
    I: IndexedParallelIterator,
    W: Outcome<I::Item>,
{
    fn is_over(&self) -> bool {
        self.session.is_over()
    }

    fn cut(&self) -> Option<Cancelled> {
        self.cut
    }

    fn tell_cut(&self) {
        self.session.tell_cut();
    }
}

impl<I, W> Drop for OrderedIter<I, W>
where
    I: IndexedParallelIterator,
    W: Outcome<I::Item>,
{
    fn drop(&mut self) {
        let mut panic = self.session.close();
        // Each by itself, so that a panic loses none of the others.
        let mut queued = VecDeque::new();
        if let Found::Ended(Ended::Panicked(payload)) = self.handover.take(&mut queued, false) {
            unwind::bury(payload);
        }
        for output in self.hands.drain(..).chain(queued) {
            unwind::first(&mut panic, unwind::discard(output));
        }
        unwind::first(&mut panic, unwind::discard(self.inner.take()));
        unwind::raise(panic);
    }
}
