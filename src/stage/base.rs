//! The type `Stage`, the options that every stage has, and `Iterator` for stages that borrow nothing.

use crate::cancel::CancelToken;
use crate::error::{Cancelled, NotReady};
use crate::runtime::lazy::Lazy;
use crate::runtime::plan::{Common, ExactPlan, Plan, Resizable};
use crate::runtime::pool::Pool;
use crate::runtime::width::SharedWidth;
use crate::stage::workers_handle::WorkersHandle;
use crate::stats::StageStats;
use crate::sync::Arc;
use std::fmt;
use std::iter::FusedIterator;
use std::time::Duration;

/// An iterator that threads pull or run: made by the methods of [`Fanfold`](crate::Fanfold), and by
/// functions such as [`merge`](crate::merge()).
///
/// Its type parameter, a [`Plan`], says what it does: [`Par`](crate::stage::Par) runs a closure for
/// each item, [`Keyed`](crate::stage::Keyed) does so key by key, [`Merge`](crate::Merge) pulls
/// several sources, and so on. All stages take the same options and have the same terminal calls.
/// Stages that run a closure ([`Parallel`](crate::Parallel)) take more: `in_flight`, `eager`,
/// `isolate`, `limited_by` and others.
///
/// **Lazy**: nothing runs before the first `next()` or terminal call. Until then the stage takes
/// options. No option changes the meaning of another, and only
/// [`unordered`](Self::unordered) changes the order.
///
/// **Owned** parts (`Send + 'static`) make it an ordinary `Iterator`: every adaptor of `std`,
/// `itertools` and `indicatif` chains on, and so does the next stage. **Borrowed** parts work in
/// two ways: through the terminal calls below, which block until all is done, with only further
/// stages (`par_..`) in between; and within [`scoped`](Self::scoped) or a
/// [`scope`](crate::scope()), where everything chains on.
///
/// **Memory**: at most [`in_flight`](Self::in_flight) items are pulled from the source and not yet
/// yielded, including finished ones that wait for their turn; for a stage without a closure, each
/// source's buffer.
///
/// **Drop** starts nothing more, waits for the running closures (at most `n`) and for a source that
/// is in its `next()`, and drops every item and result exactly once. Closures and sources that
/// check [`CancelToken::current`] see it. A borrowed stage (`by_ref`) is not affected when the
/// borrower is dropped, and continues afterwards; likewise a source that is lent to a stage.
///
/// # Panics
///
/// A closure's panic is raised, with its own payload, by the call that would have yielded its item,
/// after everything before it has been yielded; so is a panic of the source. After that the stage
/// yields `None`. For an alternative see [`isolate`](Self::isolate).
///
/// # What a borrowing stage outside a scope looks like to the compiler
///
/// ```compile_fail
/// use fanfold::Fanfold;
///
/// let docs = vec![String::from("a"), String::from("bc")];
/// for len in docs.iter().par_map_ordered(2, |doc| doc.len()) {
///     println!("{len}");
/// }
/// ```
///
/// ```text
/// error[E0597]: `docs` does not live long enough
///   |
/// 4 | let docs = vec![String::from("a"), String::from("bc")];
///   |     ---- binding `docs` declared here
/// 5 | for len in docs.iter().par_map_ordered(2, |doc| doc.len()) {
///   |            ^^^^-------------------------------------------
///   |            |
///   |            borrowed value does not live long enough
///   |            argument requires that `docs` is borrowed for `'static`
/// ```
///
/// For a parameter the error is E0521, "borrowed data escapes outside of function". For a function
/// that returns `impl Iterator<Item = T> + 'a` it has no number: "lifetime may not live long enough
/// .. returning this value requires that `'a` must outlive `'static`". Where the compiler suggests
/// `move`, that does not help: what is moved is still a borrow. The solutions:
///
/// ```
/// use fanfold::Fanfold;
///
/// let docs = vec![String::from("a"), String::from("bc")];
/// let lens = || docs.iter().par_map_ordered(2, |doc| doc.len());
/// // 1. a terminal call
/// lens().for_each(|len| println!("{len}"));
/// // 2. an iterator within a closure
/// lens().scoped(|lens| {
///     for len in lens.filter(|len| *len > 1) {
///         println!("{len}");
///     }
/// });
/// // 3. an iterator within a scope
/// fanfold::scope(|s| {
///     for (len, again) in lens().within(s).zip(lens().within(s)) {
///         assert_eq!(len, again);
///     }
/// });
/// ```
///
/// A method that borrows `self` returns a `Stage<impl Plan<Output = T> + 'a>` for the first two, or
/// takes a [`&'s Scope<'s, '_>`](crate::Scope); or it takes a closure, or `self: &Arc<Self>` and
/// borrows nothing. The recipe "a method that borrows `self`" (`docs/recipes.md`) shows all four.
#[doc(alias("par_map_while", "par_take_while", "par_inspect", "into_source"))]
#[must_use = "a stage is lazy: nothing runs before the first `next()` or a terminal call"]
pub struct Stage<P: Plan> {
    pub(super) lazy: Lazy<P>,
    name: Option<Arc<str>>,
}

impl<P: Plan> fmt::Debug for Stage<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stage")
            .field("operator", &P::NAME)
            .field("name", &self.name)
            .field("state", &self.lazy.state())
            .finish_non_exhaustive()
    }
}

impl<P: Plan> Stage<P> {
    pub(crate) fn of(plan: P) -> Self {
        Stage {
            lazy: Lazy::new(plan, Common::here()),
            name: None,
        }
    }

    /// Sets an option that all stages have.
    #[track_caller]
    pub(super) fn set(mut self, set: impl FnOnce(&mut Common)) -> Self {
        match self.lazy.idle_mut() {
            Some(idle) => set(&mut idle.common),
            None => too_late(),
        }
        self
    }

    /// The plan, before the first `next()`.
    #[track_caller]
    pub(crate) fn plan(&mut self) -> &mut P {
        match self.lazy.idle_mut() {
            Some(idle) => &mut idle.plan,
            None => too_late(),
        }
    }

    /// Sets an option of the plan.
    #[track_caller]
    pub(crate) fn with(mut self, set: impl FnOnce(&mut P)) -> Self {
        set(self.plan());
        self
    }

    /// Changes the plan and keeps the options. `last` makes the final output of a stage that fails
    /// on a token.
    #[track_caller]
    pub(crate) fn map_plan<Q: Plan>(
        self,
        map: impl FnOnce(P) -> Q,
        last: Option<fn(Cancelled) -> Q::Output>,
    ) -> Stage<Q> {
        let fails = self.lazy.has_last();
        let Some(idle) = self.lazy.into_idle() else {
            too_late()
        };
        let mut lazy = Lazy::new(map(idle.plan), idle.common);
        if let Some(last) = last.filter(|_| fails) {
            lazy.set_last(last);
        }
        Stage {
            lazy,
            name: self.name,
        }
    }

    /// Names the stage, for `Debug` and for
    /// [`testing::assert_quiescent`](crate::testing::assert_quiescent).
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
    /// let stage = (0..3).par_map_unordered(2, |x| x).named("fetch");
    /// assert!(format!("{stage:?}").contains("fetch"));
    /// ```
    #[doc(alias = "name")]
    #[track_caller]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        let name: Arc<str> = name.into().into();
        self.name = Some(Arc::clone(&name));
        self.set(|common| common.name = Some(name))
    }

    /// Leases the threads from `pool` instead of the [global](Pool::global) one.
    ///
    /// # Panics
    ///
    /// After the first `next()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{Fanfold, Pool};
    ///
    /// let pool = Pool::builder().stack_size(32 << 20).build();
    /// assert_eq!((0..9).par_map_unordered(2, |x| x).on(&pool).count(), 9);
    /// ```
    #[doc(alias("pool", "install", "spawn_on"))]
    #[track_caller]
    pub fn on(self, pool: &Pool) -> Self {
        self.set(|common| common.pool = Some(pool.clone()))
    }

    /// Ends the stage early and silently when `token` is tripped.
    ///
    /// Then no new item is started: items that were pulled and not started are dropped. The stage
    /// waits for the running closures, yields the finished results up to the first gap, then
    /// `None`. It does not wait for a source that blocks. May be called for several tokens.
    ///
    /// **An early end looks like any other end**: a `collect` returns what there was. To
    /// distinguish it, call [`is_cut_short`](Self::is_cut_short) on the stage, or `token.check()?`
    /// after a terminal call; or use [`fail_on`](Self::fail_on), which ends with an `Err`. To lose
    /// nothing that was pulled, see [`drain_on`](Self::drain_on).
    ///
    /// A stage that starts inside other work (a closure of another stage, a task of a group or the
    /// like) is part of that work, and ends early with it as with a token of its own; see
    /// [`detached`](Self::detached).
    ///
    /// # Panics
    ///
    /// After the first `next()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{CancelToken, Fanfold};
    ///
    /// let token = CancelToken::new();
    /// let mut numbers = (0..).par_map_ordered(2, |x: u64| x).cancel_on(&token);
    /// assert_eq!(numbers.next(), Some(0));
    /// token.cancel();
    /// assert!(numbers.by_ref().count() < 100_000);
    /// assert!(numbers.is_cut_short());
    /// ```
    #[doc(alias("take_until", "with_cancellation_token"))]
    #[track_caller]
    pub fn cancel_on(self, token: &CancelToken) -> Self {
        self.set(|common| common.tokens.push(token.clone()))
    }

    /// Ends the stage early with an error when `token` is tripped: yields what is done, then one
    /// `Err`, then `None`.
    ///
    /// Otherwise as [`cancel_on`](Self::cancel_on). The error is made from a [`Cancelled`], which
    /// says why ([`is_deadline`](Cancelled::is_deadline)) and where ([`seq`](Cancelled::seq)). So a
    /// `collect::<Result<Vec<_>, _>>()` never looks complete when it is not. The `Err` also comes
    /// if another token cuts the stage short, its own or that of the work in which it runs. May be
    /// called for several tokens.
    ///
    /// For a stage that yields `Result`s whose error can be made from [`Cancelled`]. An
    /// [isolated](Self::isolate) stage is one: its error is an [`ItemError`](crate::ItemError) that
    /// [`is_cancelled`](crate::ItemError::is_cancelled).
    ///
    /// # Panics
    ///
    /// After the first `next()`.
    ///
    /// # Errors
    ///
    /// None here; the stage yields the error, as described.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{CancelToken, Cancelled, Fanfold};
    /// use std::time::Duration;
    ///
    /// let token = CancelToken::new().with_timeout(Duration::from_millis(5));
    /// let endless = (0..).try_par_map_ordered(2, |x: u64| Ok(x)).fail_on(&token);
    /// let why: Cancelled = endless.collect::<Result<Vec<_>, _>>().unwrap_err();
    /// assert!(why.is_deadline());
    /// println!("{why}"); // the deadline has passed before item 51234 was done
    /// ```
    #[track_caller]
    pub fn fail_on<T, E>(self, token: &CancelToken) -> Self
    where
        P: Plan<Output = Result<T, E>>,
        E: From<Cancelled>,
    {
        self.failing_when_cut().cancel_on(token)
    }

    /// If the stage is cut short, by whatever token, it ends with an error.
    pub(crate) fn failing_when_cut<T, E>(mut self) -> Self
    where
        P: Plan<Output = Result<T, E>>,
        E: From<Cancelled>,
    {
        self.lazy.set_last(|why| Err(why.into()));
        self
    }

    /// Stops pulling the source when `token` is tripped; everything that was pulled is run and yielded.
    ///
    /// For an orderly stop: Ctrl-C in a program that reads a queue loses nothing. The stage waits
    /// for a running call of the source's `next()`, as it may have taken something already.
    /// [`CancelToken::current`] is tripped in that call, so a source that obeys it returns at once.
    /// Then the stage [is cut short](Self::is_cut_short), and a [`fail_on`](Self::fail_on) stage
    /// reports it. To stop without waiting, use a second token with [`cancel_on`](Self::cancel_on).
    /// In a chain, set it on the stage next to the source: the later stages end when that one has
    /// ended. May be called for several tokens.
    ///
    /// # Panics
    ///
    /// After the first `next()`.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{CancelToken, Fanfold};
    ///
    /// let (stop, mut queue) = (CancelToken::new(), 0..);
    /// let pulled = std::sync::atomic::AtomicUsize::new(0);
    /// let source = queue.by_ref().inspect(|_| { pulled.fetch_add(1, std::sync::atomic::Ordering::Relaxed); });
    /// let mut done = 0;
    /// source.par_map_ordered(4, |job: usize| job).drain_on(&stop).for_each(|job| {
    ///     done += 1;
    ///     if job == 100 {
    ///         stop.cancel();
    ///     }
    /// });
    /// assert_eq!(done, pulled.into_inner()); // the queue continues with the next item
    /// assert_eq!(queue.next(), Some(done));
    /// ```
    #[doc(alias("graceful", "shutdown", "signal", "ctrl_c"))]
    #[track_caller]
    pub fn drain_on(self, token: &CancelToken) -> Self {
        self.set(|common| common.drains.push(token.clone()))
    }

    /// Detaches the stage from the work in which it starts.
    ///
    /// Otherwise a stage that starts inside a closure of another stage, a task of a
    /// [`group`](crate::group()), a replica of a hedge or a sink is part of that work: it ends
    /// early when the work is cancelled, fails, is dropped or runs out of time, as if
    /// [`CancelToken::current`] had been given to [`cancel_on`](Self::cancel_on). The link ends
    /// when the closure returns, so a stage that a closure returns lives on in any case.
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
    /// // Work that was begun is recorded, even if the request is given up.
    /// let record = |id: u32| (0..3).par_map_ordered(2, move |part| id * 10 + part).detached().count();
    /// assert!((0..4).par_map_ordered(2, record).all(|parts| parts == 3));
    /// ```
    #[track_caller]
    pub fn detached(self) -> Self {
        self.set(|common| common.detached = true)
    }

    /// What the stage does, and what limits it: asked for before it starts, and at any time from then on, also after its
    /// end.
    ///
    /// A stage that was not asked for statistics does not pay for them. With them it reads the clock twice for each chunk of
    /// items and twice for each pull, not for each item. `docs/faster.md` ("Why is my pipeline not faster?") says what to do
    /// with them.
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
    /// let mut squares = (0..1000_u64).par_map_ordered(2, |x| x * x).named("square");
    /// let stats = squares.stats();
    /// assert_eq!(squares.sum::<u64>(), 332_833_500);
    /// let all = stats.snapshot();
    /// assert_eq!((all.admitted, all.yielded), (1000, 1000));
    /// ```
    #[doc(alias("metrics", "statistics", "monitor"))]
    #[track_caller]
    pub fn stats(&mut self) -> StageStats {
        let name = self.name.clone();
        let Some(idle) = self.lazy.idle_mut() else {
            too_late()
        };
        let meter = idle.common.meter.fill();
        StageStats::new(name.unwrap_or_else(|| P::NAME.into()), Arc::clone(meter))
    }

    /// A handle that sets the width while the stage runs: how many closures run at once.
    ///
    /// A stage that was asked for a handle never runs items on the consumer's thread, however cheap they are: ask only
    /// where each item is worth a thread. Without [`in_flight`](Self::in_flight) the bound follows the width, as if the
    /// stage had begun with it; a bound of yours stays. Order and laziness do not change.
    ///
    /// # Panics
    ///
    /// After the first `next()`, and if the width finds itself ([`Workers::auto`](crate::Workers::auto)).
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let mut pages = (0..100).par_map_ordered(2, |page| page * page);
    /// let workers = pages.workers_handle();
    /// assert_eq!(pages.next(), Some(0));
    /// workers.set(8); // at once
    /// assert!(pages.by_ref().take(50).eq((1..=50).map(|page| page * page)));
    /// workers.set(1); // as closures end
    /// assert!(pages.eq((51..100).map(|page| page * page)));
    /// assert_eq!(workers.get(), 1);
    /// ```
    #[doc(alias("resize", "set_workers", "set_num_threads", "dynamic", "autoscale"))]
    #[track_caller]
    pub fn workers_handle(&mut self) -> WorkersHandle
    where
        P: Resizable,
    {
        let Some(idle) = self.lazy.idle_mut() else {
            too_late()
        };
        let work = idle.plan.work_opts();
        assert!(
            work.auto.is_none(),
            "the width of this stage finds itself (Workers::auto), so there is no handle on it; give the stage a \
             number to set its width by hand"
        );
        let width = (idle.common.width).get_or_insert_with(|| SharedWidth::new(work.width));
        WorkersHandle::new(Arc::clone(width))
    }

    /// Whether the stage ended before its source did, because a token was tripped.
    ///
    /// Ask after the stage has yielded `None`; before that it is `false`. An end by an item's `Err` or by
    /// a panic does not count. Nor does what a time limit leaves out while the stage goes on: an item
    /// that was too late ([`item_timeout`](Self::item_timeout)) fails, and a source that was silent
    /// for too long ([`SourceOptions::timeout`](crate::SourceOptions::timeout)) is in the
    /// [report](crate::fan_in::MergeReport::timed_out) of its merge.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{CancelToken, Fanfold};
    ///
    /// let token = CancelToken::new();
    /// let mut stage = (0..9).par_map_ordered(2, |x| x).cancel_on(&token);
    /// assert_eq!(stage.by_ref().count(), 9);
    /// token.cancel();
    /// assert!(!stage.is_cut_short()); // nothing was missing by then
    /// ```
    pub fn is_cut_short(&self) -> bool {
        self.lazy.cut().is_some()
    }
}

#[cold]
#[track_caller]
fn too_late() -> ! {
    panic!("options of a stage go before its first `next()`")
}

impl<P: Plan + 'static> Stage<P> {
    /// The next output if it is ready within `time`; [`NotReady`] otherwise.
    ///
    /// Nothing is lost if it is late: call this again, go on with `next()`, or drop the stage
    /// (which waits for the running closures). A time of 0 takes what is ready. Starts the stage if
    /// it has not been started. From the first call on the workers run all items, even tiny ones.
    ///
    /// The calling thread pulls a [local](crate::Fanfold::local) source, so the time limit does not
    /// hold while that blocks.
    ///
    /// # Panics
    ///
    /// As `next()`.
    ///
    /// # Errors
    ///
    /// [`NotReady`], which names the item that was waited for.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    /// use std::time::Duration;
    ///
    /// let mut pages = (0..3).par_map_ordered(2, |page| page * 10);
    /// let mut got = Vec::new();
    /// loop {
    ///     match pages.next_within(Duration::from_secs(5)) {
    ///         Ok(Some(page)) => got.push(page),
    ///         Ok(None) => break,
    ///         Err(late) => eprintln!("still waiting: {late}"),
    ///     }
    /// }
    /// assert_eq!(got, [0, 10, 20]);
    /// ```
    #[doc(alias("recv_timeout", "next_timeout"))]
    pub fn next_within(&mut self, time: Duration) -> Result<Option<P::Output>, NotReady> {
        self.lazy.next_owned_within(time)
    }
}

impl<P: Plan + 'static> Iterator for Stage<P> {
    type Item = P::Output;

    #[inline]
    fn next(&mut self) -> Option<P::Output> {
        self.lazy.next_owned()
    }

    fn fold<A, F: FnMut(A, P::Output) -> A>(self, init: A, f: F) -> A {
        self.lazy.drain(|outputs| outputs.fold(init, f))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.lazy.size_hint()
    }
}

impl<P: ExactPlan + 'static> ExactSizeIterator for Stage<P> {
    fn len(&self) -> usize {
        // The lower bound falls to 0 when the stage is cancelled; the upper one is the original length.
        self.lazy.size_hint().1.unwrap_or(0)
    }
}

impl<P: Plan + 'static> FusedIterator for Stage<P> {}
