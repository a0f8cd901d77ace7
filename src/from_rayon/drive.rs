//! Runs a parallel iterator: the stage inside, in the one call in which rayon lends its producer.

use crate::cancel::CancelToken;
use crate::error::Cancelled;
use crate::from_rayon::handover::{Ended, Handover};
use crate::from_rayon::outcome::Outcome;
use crate::from_rayon::pieces::{Piece, Pieces, RunGroup, RunOne};
use crate::ordered::opts::OrderedOpts;
use crate::ordered::start::Par;
use crate::par::job::Job;
use crate::runtime::event::Listener;
use crate::runtime::lazy::{Lazy, Outputs};
use crate::runtime::life::Scheduler;
use crate::runtime::plan::{Common, Plan};
use crate::unwind::catch;
use rayon::iter::IndexedParallelIterator;
use rayon::iter::plumbing::{Producer, ProducerCallback};
use std::collections::VecDeque;
use std::marker::PhantomData;

/// A parallel iterator, and all that the stage inside needs.
pub(super) struct Inner<I> {
    pub(super) iter: I,
    pub(super) opts: OrderedOpts,
    pub(super) common: Common,
}

impl<I: IndexedParallelIterator> Inner<I> {
    /// Ends the inner stage with these tokens, and with nothing else.
    pub(super) fn end_with(&mut self, ends: &CancelToken, drains: &CancelToken) {
        self.common.tokens = vec![ends.clone()];
        self.common.drains = vec![drains.clone()];
        self.common.detached = true;
    }

    /// Runs the inner stage for this sink, to its end.
    pub(super) fn run<W, S>(self, sink: S) -> S::Value
    where
        W: Outcome<I::Item>,
        S: Sink<W::Output>,
    {
        let Inner { iter, opts, common } = self;
        let len = iter.len();
        iter.with_producer(InProducer::<W, S> {
            len,
            opts,
            common,
            sink,
            outcome: PhantomData,
        })
    }
}

/// What is done with the outputs of the inner stage, whose type only rayon knows.
pub(super) trait Sink<O> {
    type Value;

    fn run<P: Plan<Output = O>>(self, outputs: Outputs<'_, P>) -> Self::Value;
}

/// What rayon calls with its producer. The producer may borrow from the frame of that call, so everything that touches
/// it is started and joined in here.
struct InProducer<W, S> {
    len: usize,
    opts: OrderedOpts,
    common: Common,
    sink: S,
    outcome: PhantomData<fn() -> W>,
}

impl<T, W, S> ProducerCallback<T> for InProducer<W, S>
where
    T: Send,
    W: Outcome<T>,
    S: Sink<W::Output>,
{
    type Output = S::Value;

    fn callback<P: Producer<Item = T>>(mut self, producer: P) -> S::Value {
        // The bound is one of items, so no group is so long that there would be room for less than two: a group counts
        // as yielded when its first item is, and its others are still there.
        let most = self
            .opts
            .work
            .in_flight
            .map_or(usize::MAX, |bound| bound / 2);
        let step = producer.min_len().min(most).max(1);
        let pieces = Pieces::new(producer, self.len, step);
        if step == 1 {
            return self.with_job(pieces, RunOne);
        }
        self.opts.work.in_flight = self.opts.work.in_flight.map(|bound| bound / step - 1);
        self.with_job(pieces, RunGroup)
    }
}

impl<W, S> InProducer<W, S> {
    fn with_job<T, P, J>(self, source: Pieces<P>, job: J) -> S::Value
    where
        T: Send,
        P: Producer<Item = T>,
        J: Job<Piece<P>, Output = T>,
        W: Outcome<T>,
        S: Sink<W::Output>,
    {
        let plan = Par {
            source,
            job: W::job::<Piece<P>, J>(job),
            opts: self.opts,
            clone: None,
        };
        let sink = self.sink;
        // The call that joins before it returns, also where it unwinds.
        Lazy::new(plan, self.common).lend(|outputs| sink.run(outputs))
    }
}

/// Folds the outputs on this thread.
pub(super) struct Folds<A, F> {
    pub(super) init: A,
    pub(super) f: F,
}

impl<O, A, F: FnMut(A, O) -> A> Sink<O> for Folds<A, F> {
    type Value = (A, Option<Cancelled>);

    fn run<P: Plan<Output = O>>(self, mut outputs: Outputs<'_, P>) -> Self::Value {
        let value = outputs.fold_all(self.init, self.f);
        (value, outputs.cut())
    }
}

/// A result was a panic.
pub(super) struct Failed;

/// Carries the outputs to the consumer.
pub(super) struct Carries<'a, O> {
    pub(super) handover: &'a Handover<O>,
    pub(super) listener: Listener,
}

impl<O> Sink<O> for Carries<'_, O> {
    /// Why it was cut short; or it has failed, and the consumer knows.
    type Value = Result<Option<Cancelled>, Failed>;

    fn run<P: Plan<Output = O>>(mut self, mut outputs: Outputs<'_, P>) -> Self::Value {
        let mut hands = VecDeque::new();
        // Room first: what was taken out of the inner stage is in nobody's bound but the queue's.
        while let Some(room) = self.handover.wait_for_room(&mut self.listener) {
            let got = catch(|| {
                let first = outputs.next();
                let is_there = first.is_some();
                hands.extend(first);
                // Only what is there, so that no result waits here for a later one.
                while is_there && hands.len() < room {
                    match outputs.next_ready() {
                        Some(output) => hands.push_back(output),
                        None => break,
                    }
                }
                is_there
            });
            if !hands.is_empty() {
                self.handover.give(&mut hands, outputs.bound());
            }
            match got {
                Ok(true) => {}
                Ok(false) => break,
                Err(panic) => {
                    // Now: what the inner stage leaves behind may panic when it is dropped, and that belongs to no item.
                    self.handover.end(Ended::Panicked(panic));
                    return Err(Failed);
                }
            }
        }
        Ok(outputs.cut())
    }
}

/// The work of the carrier.
pub(super) fn carry<I, W>(inner: Inner<I>, handover: &Handover<W::Output>, listener: Listener)
where
    I: IndexedParallelIterator,
    W: Outcome<I::Item>,
{
    match catch(|| inner.run::<W, _>(Carries { handover, listener })) {
        Ok(Ok(cut)) => handover.end(Ended::Quietly(cut)),
        Ok(Err(Failed)) => {}
        Err(panic) => {
            handover.relay().life().stray(Some(panic));
            handover.end(Ended::Quietly(None));
        }
    }
}
