//! The options of stages that run a closure for each item.

use crate::hedge::HedgePolicy;
use crate::ordered::start::Par;
use crate::par::in_flight_weight::InFlightWeight;
use crate::par::isolated::Isolated;
use crate::par::job::Job;
use crate::par::parked_weight::{ParkedWeight, Weighable};
use crate::par::source::Source;
use crate::runtime::permits::Permits;
use crate::runtime::plan::{Parallel, WorkOpts};
use crate::stage::base::Stage;
use std::time::Duration;

impl<P: Parallel> Stage<P> {
    /// Bounds how many items may be in flight: pulled from the source and not yet yielded.
    ///
    /// Queued, running and parked (finished, but waiting for an earlier one) items count. The bound
    /// is exact, even while `next()` blocks: item `i + k` is not pulled before item `i` has been
    /// yielded. With a bound below `n`, no more than that many closures run.
    ///
    /// The default is the number of items that the workers are measured to do in 4 ms, but at least
    /// 16 per worker and at most 65,536; in a wide stage at most 32,768 per worker if these fit
    /// into 16 MiB. With a small bound and uneven work, workers idle behind a slow head: `16 * n`
    /// keeps them busy where 5 % of the items take ten times as long.
    ///
    /// In an ordered stage the thread that calls `next()` may run closures too, as one of the `n`:
    /// that of the next item, if all items within the bound together take less than about 16 ms, and
    /// each less than 0.2 ms; and all of them, if they take less than about 16 µs together, or if `k`
    /// or `n` is 1. Threads would otherwise wake one another for every few items. Not in stages with
    /// a state, a time limit for items, or a pool of their own.
    ///
    /// # Panics
    ///
    /// If `k` is 0, or after the first `next()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let squares = (0..1_000_u64).par_map_ordered(4, |x| x * x).in_flight(16);
    /// assert_eq!(squares.take(3).collect::<Vec<_>>(), [0, 1, 4]); // at most 19 were pulled
    /// ```
    #[doc(alias("buffer", "capacity", "bound", "backpressure"))]
    #[track_caller]
    pub fn in_flight(self, k: usize) -> Self {
        assert!(
            k > 0,
            "in_flight must be at least 1: write in_flight(1) for one item at a time, or leave it \
             out for the default"
        );
        self.with(|plan| plan.work_opts().in_flight = Some(k))
    }

    /// Wakes the consumer for each result, even when results flow so fast that it would rather nap.
    ///
    /// Without this, a consumer that has to wait while results flow checks again after at most 1
    /// ms, which saves a wake-up (a few microseconds of every core) per result.
    ///
    /// # Panics
    ///
    /// After the first `next()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// assert_eq!((0..100).par_map_ordered(2, |x| x).eager().last(), Some(99));
    /// ```
    #[track_caller]
    pub fn eager(self) -> Self {
        self.with(|plan| plan.work_opts().eager = true)
    }

    /// Gives each item a span of its own, in which its closure runs. Needs the feature `tracing`.
    ///
    /// The span is `fanfold::item`, with the `seq` of the item, below the span of the stage. The option changes neither
    /// order, laziness nor bounds. The items of a chunk are run one by one then, and each costs what the subscriber takes
    /// for a span: microseconds, mostly. An item of [`par_flat_map`](crate::Fanfold::par_flat_map) that another thread
    /// goes on with has a span on each of them, and so has the copy of a [hedged](Self::hedge_slow) item.
    ///
    /// **What the feature tells without this option**: each stage, [`group`](crate::group()) and
    /// [hedge](crate::Fanfold::hedge), and each source with several readers, has a span `fanfold::stage` (level `INFO`,
    /// target `fanfold`) with the fields `name`, `operator`, `width` and `in_flight`, as far as they are known. Its parent
    /// is the span that is current where and when the stage is made, whichever thread runs it. It opens with the first
    /// `next()`, and closes when the stage has ended and its threads are joined. Closures and sources run in it, on
    /// whichever thread, so what they log lies below it, and stages that they make are its children. The stages of a
    /// chain are siblings. Threads that are leased for a stage have the subscriber of the thread that starts it.
    ///
    /// Each panic that is caught in a closure, a task, a replica or a source is told by one event, at the level `WARN`,
    /// with the fields `seq` (where it is known; of a task or a replica, its number), `stage` (the name, or else the
    /// operator) and `panic` (its message). A stage that meets the same panic again further out does not repeat it.
    /// Panics in the drop of a value are not told, nor are those of closures that a merge or a window calls while its
    /// user waits.
    ///
    /// If a subscriber wants these spans or warnings, the thread that calls `next()` does not run tiny items itself. If
    /// none does, the feature costs a look at one word for each chunk.
    ///
    /// # Panics
    ///
    /// After the first `next()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let lens = ["a", "bc"].into_iter().par_map_ordered(2, |page| {
    ///     tracing::info!(page, "fetched"); // fanfold::stage{name="fetch"}:fanfold::item{seq=0}, or seq=1
    ///     page.len()
    /// });
    /// assert_eq!(lens.named("fetch").trace_items().sum::<usize>(), 3);
    /// ```
    #[cfg(feature = "tracing")]
    #[doc(alias("span", "instrument"))]
    #[track_caller]
    pub fn trace_items(self) -> Self {
        self.set(|common| common.made.with_items())
    }

    /// Runs each closure while it holds one of these permits, which other stages, groups and threads may share.
    ///
    /// So at most [`total`](Permits::total) closures run at once in all stages that are limited by them; `n` stays the
    /// limit of this stage. A worker that has found no permit waits for it, first come, first served. Meanwhile
    /// finished results come out, and the order is unaffected. An item that waits has not begun: if the stage fails
    /// before it, is cancelled or is dropped, the wait ends at once, and the item is dropped without being run.
    ///
    /// The source needs no permit, nor do the stages before and after this one, so a chain may share permits. The
    /// time of an [`item_timeout`](Self::item_timeout) begins with the closure, and a closure that has timed out holds
    /// its permit until it returns. A copy of [`hedge_slow`](Self::hedge_slow) holds one too; it is not run if none is
    /// free.
    ///
    /// **A stage in a closure must not share its permits**, unless there are more of them than the outer closures ever
    /// hold: once these hold all, no inner closure can start, and no outer one can end. Limit only the innermost
    /// stage. Debug builds panic instead of waiting: see [dead-locks](Permits#dead-locks).
    ///
    /// The last call counts. To hold permits of another kind, or more than one, [acquire](Permits::acquire) them in
    /// the closure.
    ///
    /// # Panics
    ///
    /// After the first `next()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{Fanfold, Permits};
    ///
    /// // Two stages of a chain, of which at most three closures run at once.
    /// let cores = Permits::new(3);
    /// let parsed = ["1", "2", "3"].into_iter().par_filter_map(8, |text| text.parse().ok());
    /// let squares = parsed.limited_by(&cores).par_map_ordered(8, |x: u32| x * x).limited_by(&cores);
    /// assert_eq!(squares.collect::<Vec<_>>(), [1, 4, 9]);
    /// ```
    #[doc(alias("semaphore", "permits", "concurrency_limit"))]
    #[track_caller]
    pub fn limited_by(self, permits: &Permits) -> Self {
        self.with(|plan| plan.work_opts().limit = Some(permits.clone()))
    }

    /// Turns a closure's panic into a value: yields `Ok(output)`, or `Err(`[`ItemError`]`)` at the
    /// position of an item whose closure panicked; the other items go on.
    ///
    /// The panic hook still prints its message at once. A panic of the source is still raised. A
    /// worker's state ([`par_map_ordered_init`](crate::Fanfold::par_map_ordered_init)) is kept
    /// after a panic. If `init` panics, its item is the one that failed, and `init` is called again
    /// for the worker's next item.
    ///
    /// [`ItemError`]: crate::ItemError
    ///
    /// # Panics
    ///
    /// After the first `next()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let results: Vec<_> = (0..4)
    ///     .par_map_ordered(2, |x| if x == 2 { panic!("two") } else { x })
    ///     .isolate()
    ///     .collect();
    /// assert_eq!(results[1], Ok(1));
    /// assert_eq!(results[2].as_ref().unwrap_err().message(), "two");
    /// assert_eq!(results[3], Ok(3));
    /// ```
    #[doc(alias("catch_unwind", "catch_panic"))]
    #[track_caller]
    pub fn isolate(self) -> Stage<P::Isolated> {
        self.map_plan(P::isolated, Some(|why| Err(why.into())))
    }
}

impl<S: Source, J: Job<S::Item>> Stage<Par<S, J>>
where
    S::Item: Send,
{
    /// Yields results as they arrive.
    ///
    /// Everything else stays the same. An error or a panic ends the stage when it arrives.
    ///
    /// # Panics
    ///
    /// After the first `next()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let mut even: Vec<u32> = (0..10).par_filter(3, |x| x % 2 == 0).unordered().collect();
    /// even.sort();
    /// assert_eq!(even, [0, 2, 4, 6, 8]);
    /// ```
    #[track_caller]
    pub fn unordered(self) -> Self {
        self.with(|plan| plan.opts.ordered = false)
    }

    /// Bounds what the items in flight weigh together: those that were pulled from the source and not yet yielded.
    ///
    /// `weight` is called once for each item, when it was pulled, on the thread that pulls. The unit is yours: bytes,
    /// mostly. `limit` and weights are `usize`, as `len()` is, and the weights of [`Permits`]. For memory, let the
    /// weight be what an item keeps until it is yielded: its own bytes or those of its result, whichever are more.
    ///
    /// The sum never exceeds `limit`, even while `next()` blocks, with one exception: an item that weighs more goes
    /// alone. An item that does not fit waits in the hand of the thread that has pulled it, and nothing is pulled
    /// behind it; so the memory is that of `limit` and one item, and of what the user holds. Items of weight 0 are
    /// not limited by this.
    ///
    /// The bound on the number of items ([`in_flight`](Self::in_flight), or its default) holds too. Order and laziness
    /// are unaffected. An item whose result counts as yielded is no longer in flight, also if its closure runs on
    /// after an [`item_timeout`](Self::item_timeout). The clones of [`hedge_slow`](Self::hedge_slow) are not weighed:
    /// there is one for each closure that runs. With many threads, choose a limit of several items for each of them,
    /// or they wait. The last call counts.
    ///
    /// # Panics
    ///
    /// If `limit` is 0, or after the first `next()`. A panic of `weight` counts as one of the source.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// // However large the blocks are, at most 64 MiB of them are in memory, and one block in hand.
    /// let blocks = [1, 1_000, 20].map(|len| vec![7_u8; len]);
    /// let sums = blocks
    ///     .into_iter()
    ///     .par_map_ordered(4, |block| block.iter().map(|byte| u64::from(*byte)).sum())
    ///     .in_flight_weight(64 << 20, |block: &Vec<u8>| block.len());
    /// assert_eq!(sums.collect::<Vec<u64>>(), [7, 7_000, 140]);
    /// ```
    #[doc(alias("bytes", "memory", "budget", "backpressure"))]
    #[track_caller]
    pub fn in_flight_weight<W>(self, limit: usize, weight: W) -> Stage<Par<S, InFlightWeight<J, W>>>
    where
        W: Fn(&S::Item) -> usize + Send + Sync,
    {
        assert!(
            limit > 0,
            "the limit of in_flight_weight must be at least 1: leave it out for no limit"
        );
        self.map_job(|job| InFlightWeight::new(job, weight))
            .with(|plan| plan.opts.in_flight_weight = Some(limit))
    }

    /// Bounds what finished results weigh together while they wait: for their turn, or for `next()`.
    ///
    /// `weight` is called once for each output, on the thread that has run the closure. The unit is yours: bytes,
    /// mostly. While results of `limit` or more wait, no closure starts, except that of the item whose turn is next,
    /// which never waits for this. So results weigh less than `limit` and those of `n + 1` closures: what ran when the
    /// limit was reached still adds its results, and so does the next item. Without an order any result may be taken,
    /// so no item is an exception, and it is those of `n` closures.
    ///
    /// It is for results that are much larger than their items: archives that are unpacked, names whose files are
    /// read. It bounds nothing else, so items are pulled as usual, up to [`in_flight`](Self::in_flight) and
    /// [`in_flight_weight`](Self::in_flight_weight), with which it may be combined. Failures weigh nothing. Order and
    /// laziness are unaffected. The last call counts. [`par_flat_map`](crate::Fanfold::par_flat_map) has neither of the
    /// two: its `in_flight` counts outputs.
    ///
    /// Put it before [`isolate`](Self::isolate), as `weight` sees what the closure returns.
    ///
    /// # Panics
    ///
    /// If `limit` is 0, or after the first `next()`. A panic of `weight` counts as one of the closure.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let unpack = |len: usize| vec![7_u8; len];
    /// let files = [10_000, 1, 100].into_iter().par_map_ordered(4, unpack);
    /// let files = files.parked_weight(64 << 20, |file| file.len());
    /// assert_eq!(files.map(|file| file.len()).collect::<Vec<_>>(), [10_000, 1, 100]);
    /// ```
    #[doc(alias("bytes", "memory", "budget", "reorder"))]
    #[track_caller]
    pub fn parked_weight<W>(self, limit: usize, weight: W) -> Stage<Par<S, ParkedWeight<J, W>>>
    where
        J::Batch: Weighable<J::Output>,
        W: Fn(&J::Output) -> usize + Send + Sync,
    {
        assert!(
            limit > 0,
            "the limit of parked_weight must be at least 1: leave it out for no limit"
        );
        self.map_job(|job| ParkedWeight::new(job, weight))
            .with(|plan| plan.opts.parked_weight = Some(limit))
    }

    /// Limits how long an item's closure may run: an item that takes longer fails at its position.
    ///
    /// The time starts when the closure starts on the item, not while the item waits. When it is
    /// over, the item's [token](crate::CancelToken::current) is tripped and its position is freed:
    /// the failure is yielded there at once, and the following items go on. What the closure
    /// returns afterwards is dropped. The limit is accurate to about a millisecond; 0 is not allowed.
    ///
    /// A closure **cannot be stopped from outside**. If it goes on after its time, it still counts
    /// against `n`, as the resources it uses are still in use, and the drop of the stage still
    /// waits for it. So give the closure a way out: let it check its token, or give its sockets a
    /// timeout slightly shorter than this one. If `n` closures never return, no worker is left to
    /// run the rest; to notice that, use [`next_within`](Self::next_within).
    ///
    /// Costs about 50 ns per item, for the clock.
    ///
    /// # Panics
    ///
    /// If `time` is 0, or after the first `next()`. The stage panics at the position of an item
    /// that has timed out, with a message that names it. With [`isolate`](Self::isolate) it yields
    /// an `Err(`[`ItemError`]`)` that says [`is_timeout`](crate::ItemError::is_timeout) instead,
    /// and goes on.
    ///
    /// [`ItemError`]: crate::ItemError
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{CancelToken, Fanfold};
    /// use std::time::Duration;
    ///
    /// let answers: Vec<_> = [0, 3_600, 0]
    ///     .into_iter()
    ///     .par_map_ordered(2, |secs| CancelToken::current().sleep(Duration::from_secs(secs)))
    ///     .item_timeout(Duration::from_millis(100))
    ///     .isolate()
    ///     .collect();
    /// assert_eq!(answers[0], Ok(Ok(())));
    /// assert!(answers[1].as_ref().is_err_and(|failure| failure.is_timeout()));
    /// assert_eq!(answers[2], Ok(Ok(())));
    /// ```
    #[doc(alias = "timeout")]
    #[track_caller]
    pub fn item_timeout(self, time: Duration) -> Self {
        assert!(
            !time.is_zero(),
            "item_timeout must be more than 0: leave it out for no limit"
        );
        self.with(|plan| plan.opts.item_timeout = Some(time))
    }

    /// Runs a slow item a second time, and takes the first result, to cut the latency tail.
    ///
    /// When `next()` waits for an item for longer than the policy's delay and a worker is idle,
    /// that worker runs a clone of the item. The first result takes the item's position; the other
    /// is dropped, and its [token](crate::CancelToken::current) tripped. In an ordered stage this
    /// works for the item at the head, in an [unordered](Self::unordered) one for any item.
    ///
    /// **`f` must be safe to run twice**, even at the same time, and both runs may finish: right
    /// for a read or an idempotent write, wrong for a payment. It helps if an item is slow by
    /// chance; if the item itself is slow, so is its copy.
    ///
    /// A copy counts against `n`, and takes the place of an item in flight. The policy's
    /// [budget](HedgePolicy) limits the number of copies; when it is spent, items go on unhedged.
    /// An item and its copy can agree on which does the work: see [`hedge::claim`](crate::hedge::claim).
    ///
    /// Costs a clone of each item, an allocation, and about 100 ns.
    ///
    /// # Panics
    ///
    /// After the first `next()`. If the item and its copy both panic, the item's panic is raised at
    /// its position; if one of them succeeds, that result counts.
    ///
    /// # Errors
    ///
    /// In a [`try_`](crate::Fanfold::try_par_map_ordered) stage likewise: the item's error is
    /// yielded if its copy, if there is one, fails too. (In other stages, such as
    /// [`par_map_unordered`](crate::Fanfold::par_map_unordered), a `Result` is an ordinary value:
    /// the first one counts.)
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{CancelToken, Fanfold, HedgePolicy};
    /// use std::sync::atomic::{AtomicBool, Ordering};
    /// use std::time::Duration;
    ///
    /// let stuck = AtomicBool::new(true);
    /// let fetch = |page: u32| {
    ///     if page == 2 && stuck.swap(false, Ordering::Relaxed) {
    ///         CancelToken::current().wait(); // this server does not answer, but the next one will
    ///     }
    ///     page * 10
    /// };
    /// let policy = HedgePolicy::after(Duration::from_millis(5));
    /// let pages: Vec<_> = (0..5).par_map_ordered(2, fetch).hedge_slow(&policy).collect();
    /// assert_eq!(pages, [0, 10, 20, 30, 40]);
    /// assert_eq!(policy.stats().won, 1);
    /// ```
    #[doc(alias("hedged", "speculative"))]
    #[track_caller]
    pub fn hedge_slow(self, policy: &HedgePolicy) -> Self
    where
        S::Item: Clone,
    {
        self.with(|plan| {
            plan.clone = Some(S::Item::clone);
            plan.opts.hedge = Some(policy.clone());
        })
    }

    /// The same stage, with another job that yields the same.
    #[track_caller]
    fn map_job<K>(self, map: impl FnOnce(J) -> K) -> Stage<Par<S, K>>
    where
        K: Job<S::Item, Output = J::Output>,
    {
        let last = self.lazy.last();
        self.map_plan(|plan| plan.map_job(map), last)
    }

    /// Makes the consumer's thread one of the `n`.
    pub(crate) fn taking_part(self) -> Self {
        self.with(|plan| plan.opts.takes_part = true)
    }

    /// Runs all items even if the work in which the stage was started ends.
    pub(crate) fn running_all(self) -> Self {
        self.with(|plan| plan.opts.runs_all = true)
    }
}

impl<S: Source, J: Job<S::Item>> Parallel for Par<S, J>
where
    S::Item: Send,
{
    type Isolated = Par<S, Isolated<J>>;

    fn work_opts(&mut self) -> &mut WorkOpts {
        &mut self.opts.work
    }

    fn isolated(self) -> Self::Isolated {
        self.map_job(Isolated::new)
    }
}
