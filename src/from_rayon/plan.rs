//! `ordered`: a parallel iterator of rayon as a stage.

use crate::config::Workers;
use crate::from_rayon::consumer::OrderedIter;
use crate::from_rayon::drive::Inner;
use crate::from_rayon::outcome::{Isolating, Outcome, Raising};
use crate::from_rayon::relay::Relay;
use crate::ordered::opts::OrderedOpts;
use crate::runtime::event::Listener;
use crate::runtime::plan::{Common, ExactPlan, Parallel, Plan, Resizable, WorkOpts};
use crate::runtime::scope::StartPermit;
use crate::runtime::session::Session;
use crate::size_hint::Hint;
use crate::stage::Stage;
use rayon::iter::IndexedParallelIterator;
use std::fmt;
use std::marker::PhantomData;

/// Gets the results of a parallel iterator in order, while it runs.
pub trait FromRayon: IndexedParallelIterator {
    /// Runs this parallel iterator on `n` threads, and yields its results in order, each as soon as its turn has come.
    ///
    /// What rayon would run from `collect` is run by fanfold's threads instead, item by item, within a bound: item
    /// `i + k` is not begun before item `i` has been yielded ([`in_flight`](Stage::in_flight)). So it can be endless as
    /// well as long, a loop over it may `break`, and a pool of rayon with a single thread, in which it is called, is not
    /// in its way. Lazy: nothing runs before the first `next()` or terminal call, but for what the adaptors of rayon do
    /// when they are made.
    ///
    /// Where it borrows (`par_iter`), it is used like any [`Stage`] that borrows: by a terminal call, within
    /// [`scoped`](Stage::scoped) or a [`scope`](crate::scope()), or in front of another stage.
    ///
    /// **Memory**: by default the bound of a stage, and half as many results more that are on their way to the consumer. A
    /// bound of yours holds for all of them together.
    ///
    /// **Threads**: `n`, and one more that keeps what rayon lends. `fold` and the calls that are made of it
    /// (`for_each`, `sum`, `count`, ..) need no such thread, and are the fastest. If no thread can be started, the first
    /// `next()` runs everything, and keeps the results.
    ///
    /// **Groups**: items are split off one by one. With `map_init`, `map_with` and the like there would be a new value
    /// for each; `with_min_len(k)` keeps `k` items together, whose results then come out together.
    ///
    /// `skip` of rayon runs what it skips on rayon's global pool, or, where the first `next()` is called on a thread of
    /// rayon's, on a thread of its own. The end waits for that.
    ///
    /// # Panics
    ///
    /// If `n` is 0. A panic of an item is raised, with its own payload, by the call that would have yielded its result.
    ///
    /// # Errors
    ///
    /// None.
    ///
    /// # Complexity
    ///
    /// Per item, what a stage costs, a `split_at` of rayon's producer and an iterator of one item; some 20 µs once.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::from_rayon::FromRayon;
    /// use rayon::prelude::*;
    ///
    /// let words = ["to", "be", "or", "not"];
    /// let lens = || words.par_iter().map(|word| word.len()).ordered(2);
    /// assert_eq!(lens().collect::<Vec<_>>(), [2, 2, 2, 3]);
    /// // in a loop, while the rest is run
    /// lens().scoped(|lens| {
    ///     for (place, len) in lens.enumerate() {
    ///         assert_eq!(len, words[place].len());
    ///     }
    /// });
    /// ```
    #[doc(alias("par_iter", "into_seq", "sequential", "rayon"))]
    #[track_caller]
    fn ordered(self, n: impl Into<Workers>) -> Stage<Ordered<Self>> {
        Stage::of(Ordered {
            iter: self,
            opts: OrderedOpts::new(n.into(), true),
            outcome: PhantomData,
        })
    }
}

impl<I: IndexedParallelIterator> FromRayon for I {}

/// The plan of a [`Stage`] that runs a parallel iterator of rayon: what [`ordered`](FromRayon::ordered) makes.
pub struct Ordered<I, W = Raising> {
    iter: I,
    opts: OrderedOpts,
    outcome: PhantomData<fn() -> W>,
}

impl<I, W> fmt::Debug for Ordered<I, W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ordered")
            .field("opts", &self.opts)
            .finish_non_exhaustive()
    }
}

impl<I, W> Plan for Ordered<I, W>
where
    I: IndexedParallelIterator,
    W: Outcome<I::Item>,
{
    type Output = W::Output;
    type Running = OrderedIter<I, W>;

    const NAME: &'static str = "ordered";

    fn size_hint(&self) -> Hint {
        let len = self.iter.len();
        (len, Some(len))
    }

    fn start(self, common: Common, start_permit: StartPermit) -> Option<Box<Self::Running>> {
        let (listener, carrier) = (Listener::new(), Listener::new());
        // The inner stage has the options, and this one what ends it.
        let outer = Common {
            name: common.name.clone(),
            pool: common.pool.clone(),
            tokens: common.tokens.clone(),
            drains: common.drains.clone(),
            detached: common.detached,
            ..Common::default()
        };
        let session = Session::start(start_permit, outer, Self::NAME, |alive| {
            Relay::new(listener.event(), carrier.event(), alive)
        })?;
        let inner = Inner {
            iter: self.iter,
            opts: self.opts,
            common,
        };
        Some(Box::new(OrderedIter::new(
            inner, session, listener, carrier,
        )))
    }
}

impl<I, W> Parallel for Ordered<I, W>
where
    I: IndexedParallelIterator,
    W: Outcome<I::Item>,
{
    type Isolated = Ordered<I, Isolating<W>>;

    fn work_opts(&mut self) -> &mut WorkOpts {
        &mut self.opts.work
    }

    fn isolated(self) -> Self::Isolated {
        Ordered {
            iter: self.iter,
            opts: self.opts,
            outcome: PhantomData,
        }
    }
}

impl<I, W> Resizable for Ordered<I, W>
where
    I: IndexedParallelIterator,
    W: Outcome<I::Item>,
{
}

impl<I: IndexedParallelIterator> ExactPlan for Ordered<I> {}
