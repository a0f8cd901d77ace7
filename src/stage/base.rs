//! The type, with the options that every stage has, and `Iterator` where nothing is borrowed.

use crate::cancel::CancelToken;
use crate::error::{Cancelled, NotReady};
use crate::runtime::lazy::Lazy;
use crate::runtime::plan::{Common, ExactPlan, Plan, Running};
use crate::runtime::pool::Pool;
use crate::size_hint;
use crate::sync::Arc;
use std::fmt;
use std::iter::FusedIterator;
use std::time::Duration;

/// Whatever is pulled by threads, or run on them: made by the methods of [`Fanfold`](crate::Fanfold), and by
/// [`merge`](crate::merge()) and its like.
///
/// What it does is told by its type parameter, a [`Plan`]: [`Par`](crate::stage::Par) runs a closure for each item,
/// [`Keyed`](crate::stage::Keyed) does so key by key, [`Merge`](crate::Merge) pulls several sources, and so on. All of them
/// take the same options and have the same terminal calls; some take more: `in_flight`, `eager` and `isolate` are for
/// stages that run a closure ([`Parallel`](crate::Parallel)).
///
/// **Lazy**: nothing runs before the first `next()` or terminal call. Until then it takes options, each named by its
/// plain noun. No option changes the meaning of another, and none but [`unordered`](Self::unordered) changes the order.
///
/// **Owned** parts (`Send + 'static`) make it an ordinary `Iterator`: every adaptor of `std`,
/// `itertools` and `indicatif` chains on, and so does the next stage. **Borrowed** parts work in
/// two ways: through the terminal calls below, which block until all is done, with no more than further stages
/// (`par_..`) in between, and within a [`scope`](crate::scope()), where everything chains on.
///
/// **Memory**: at most [`in_flight`](Self::in_flight) items are pulled from the source and not yet
/// yielded, finished ones that wait for their turn included; of what runs no closure, each source's buffer.
///
/// **Drop** stops admission, waits for the closures that run (at most `n`) and for a source that is in its
/// `next()`, and drops every item and result exactly once; what has not started never does. Closures and
/// sources that look at [`CancelToken::current`] hear of it. A stage that is lent (`by_ref`) is not touched
/// by the drop of who borrowed it, and goes on behind it.
///
/// # Panics
///
/// A closure's panic is raised by the call that would have yielded its item, with its own payload,
/// after everything before it has been yielded; so is a panic of the source. After that the stage
/// yields `None`. See [`isolate`](Self::isolate) for another way.
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
/// For a parameter it is E0521, "borrowed data escapes outside of function"; for what a function returns
/// as `impl Iterator<Item = T> + 'a` it is "lifetime may not live long enough .. returning this value requires that
/// `'a` must outlive `'static`", without a number. Where the compiler suggests `move`, that does not help:
/// what is moved is still a borrow. The two ways out:
///
/// ```
/// use fanfold::Fanfold;
///
/// let docs = vec![String::from("a"), String::from("bc")];
/// // 1. a terminal call
/// docs.iter().par_map_ordered(2, |doc| doc.len()).for_each(|len| println!("{len}"));
/// // 2. a scope
/// fanfold::scope(|s| {
///     for len in docs.iter().par_map_ordered(2, |doc| doc.len()).within(s) {
///         println!("{len}");
///     }
/// });
/// ```
///
/// A method that borrows `self` cannot return such a stage as it is. Four ways, each of which compiles:
///
/// ```
/// use fanfold::{Fanfold, Plan, Scope, Stage};
/// use std::sync::Arc;
///
/// struct Docs(Vec<String>);
///
/// impl Docs {
///     // a scope comes from outside
///     fn within<'s>(&'s self, s: &'s Scope<'s, '_>) -> impl Iterator<Item = usize> + 's {
///         self.0.iter().par_map_ordered(2, |doc| doc.len()).within(s)
///     }
///     // a stage goes out, for a terminal call
///     fn stage<'a>(&'a self) -> Stage<impl Plan<Output = usize> + 'a> {
///         self.0.iter().par_map_ordered(2, |doc| doc.len())
///     }
///     // nothing is borrowed
///     fn owned(self: &Arc<Self>) -> impl Iterator<Item = usize> + use<> {
///         let docs = Arc::clone(self);
///         (0..self.0.len()).par_map_ordered(2, move |at| docs.0[at].len())
///     }
///     // the caller's code comes in
///     fn each(&self, mut f: impl FnMut(usize)) {
///         self.0.iter().par_map_ordered(2, |doc| doc.len()).for_each(|len| f(len));
///     }
/// }
///
/// let docs = Arc::new(Docs(vec![String::from("a"), String::from("bc")]));
/// assert_eq!(fanfold::scope(|s| docs.within(s).sum::<usize>()), 3);
/// assert_eq!(docs.stage().sum::<usize>() + docs.owned().sum::<usize>(), 6);
/// docs.each(|len| assert!(len > 0));
/// ```
#[must_use = "a stage is lazy: nothing runs before the first `next()` or a terminal call"]
pub struct Stage<P: Plan> {
    pub(super) lazy: Lazy<P>,
    name: Option<Arc<str>>,
}

impl<P: Plan> fmt::Debug for Stage<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let running = || {
            self.lazy
                .running()
                .is_some_and(|running| !running.ending().is_over())
        };
        let state = match self.lazy.idle() {
            Some(_) => "idle",
            None if running() => "running",
            None => "over",
        };
        f.debug_struct("Stage")
            .field("operator", &P::NAME)
            .field("name", &self.name)
            .field("state", &state)
            .finish_non_exhaustive()
    }
}

impl<P: Plan> Stage<P> {
    pub(crate) fn of(plan: P) -> Self {
        Stage {
            lazy: Lazy::new(plan, Common::default()),
            name: None,
        }
    }

    /// Sets an option that all have.
    #[track_caller]
    fn set(mut self, set: impl FnOnce(&mut Common)) -> Self {
        match self.lazy.idle_mut() {
            Some(idle) => set(&mut idle.common),
            None => too_late(),
        }
        self
    }

    /// What is described so far.
    #[track_caller]
    pub(crate) fn plan(&mut self) -> &mut P {
        match self.lazy.idle_mut() {
            Some(idle) => &mut idle.plan,
            None => too_late(),
        }
    }

    /// Sets an option of its own.
    #[track_caller]
    pub(crate) fn with(mut self, set: impl FnOnce(&mut P)) -> Self {
        set(self.plan());
        self
    }

    /// Becomes another plan, with the same options. What a stage that fails on a token yields last is made by
    /// `last`.
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

    /// How many outputs are left.
    pub(super) fn outputs(&self) -> (usize, Option<usize>) {
        let (low, high) = match (self.lazy.idle(), self.lazy.running()) {
            (Some(idle), _) if idle.common.is_cancelled() => (0, idle.plan.size_hint().1),
            (Some(idle), _) => idle.plan.size_hint(),
            (None, Some(running)) => running.size_hint(),
            (None, None) => (0, Some(0)),
        };
        // The last word of one that is cut short takes the place of an item, if there was one more.
        let more = usize::from(self.lazy.has_last());
        size_hint::honest((low, high.and_then(|high| high.checked_add(more))))
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

    /// Ends the stage early when `token` is tripped, without a word.
    ///
    /// Then no new item is started: what was pulled and not started is dropped. The closures that run are
    /// waited for, and what is finished without a gap is yielded, then `None`. A source that blocks is not
    /// waited for. May be called for several tokens.
    ///
    /// **An early end looks like any other end**: a `collect` gives what there was. To tell it apart, ask
    /// [`is_cut_short`](Self::is_cut_short) of the stage, or `token.check()?` behind a terminal call; or
    /// use [`fail_on`](Self::fail_on), which ends with an `Err`. To lose nothing that was pulled, see
    /// [`drain_on`](Self::drain_on).
    ///
    /// A stage that starts inside a closure of another stage, a task of a group or the like is a part of that,
    /// and ends early with it as with a token of its own; see [`detached`](Self::detached).
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

    /// Ends the stage early when `token` is tripped, with an error: what is done comes out, then one
    /// `Err`, then nothing.
    ///
    /// As [`cancel_on`](Self::cancel_on) otherwise. The error is made of a [`Cancelled`], which says why
    /// ([`is_deadline`](Cancelled::is_deadline)) and where ([`seq`](Cancelled::seq)). So a
    /// `collect::<Result<Vec<_>, _>>()` is never taken for complete when it is not. The `Err` comes also if
    /// the stage is cut short by another token, of its own or of what it runs in. May be called for
    /// several tokens.
    ///
    /// For a stage that yields `Result`s whose error is made from [`Cancelled`]; those of an
    /// [isolated](Self::isolate) one are, as a [`ItemError`](crate::ItemError) that
    /// [`is_cancelled`](crate::ItemError::is_cancelled).
    ///
    /// # Panics
    ///
    /// After the first `next()`.
    ///
    /// # Errors
    ///
    /// None here; in the stage, as said.
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
    pub fn fail_on<T, E>(mut self, token: &CancelToken) -> Self
    where
        P: Plan<Output = Result<T, E>>,
        E: From<Cancelled>,
    {
        self.lazy.set_last(|why| Err(why.into()));
        self.cancel_on(token)
    }

    /// Asks the source for no more when `token` is tripped; everything that was pulled is run and yielded.
    ///
    /// For an orderly stop: Ctrl-C in a program that reads a queue loses nothing. A call of the source's
    /// `next()` that is under way is waited for, as it may have taken something already;
    /// [`CancelToken::current`] is tripped in it, so a source that heeds that comes out at once. Then the
    /// stage [is cut short](Self::is_cut_short), and a [`fail_on`](Self::fail_on) stage says so. A second
    /// token for [`cancel_on`](Self::cancel_on) is for who does not want to wait. In a chain it belongs to the
    /// stage next to the source: those behind it end when it has ended. May be called for several tokens.
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
    /// assert_eq!(done, pulled.into_inner()); // and the next that the queue gives is the next one
    /// assert_eq!(queue.next(), Some(done));
    /// ```
    #[track_caller]
    pub fn drain_on(self, token: &CancelToken) -> Self {
        self.set(|common| common.drains.push(token.clone()))
    }

    /// Makes the stage one by itself, although it starts in the middle of something.
    ///
    /// Without it a stage that starts inside a closure of another stage, a task of a
    /// [`group`](crate::group()), a replica of a hedge or a sink is a part of that: it ends early when
    /// that is cancelled, fails, is dropped or runs out of time, as if [`CancelToken::current`] had been
    /// given to [`cancel_on`](Self::cancel_on). The link ends when the closure returns, so a stage that a closure
    /// returns lives on in any case.
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
    /// // What was begun is put on record, also when the request is given up.
    /// let record = |id: u32| (0..3).par_map_ordered(2, move |part| id * 10 + part).detached().count();
    /// assert!((0..4).par_map_ordered(2, record).all(|parts| parts == 3));
    /// ```
    #[track_caller]
    pub fn detached(self) -> Self {
        self.set(|common| common.detached = true)
    }

    /// Whether the stage has ended before its source did, because a token was tripped.
    ///
    /// To be asked when the stage has said `None`; before that it is `false`. An end by an `Err` or a panic
    /// is told by that, and is none of these.
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
    /// The next output, if it is there in `time`; [`NotReady`] otherwise.
    ///
    /// Nothing is lost by a late answer: call it again, go on with `next()`, or drop the stage (which
    /// waits for the closures that run). A time of 0 takes what is ready. Starts a stage that has not
    /// been started. From the first call on all items are run by the workers, also
    /// tiny ones.
    ///
    /// A [local](crate::Fanfold::local) source is pulled by the calling thread, so the time does not
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
        self.outputs()
    }
}

impl<P: ExactPlan + 'static> ExactSizeIterator for Stage<P> {
    fn len(&self) -> usize {
        // The lower bound falls to 0 when the stage is cancelled; this is what it would have been.
        self.outputs().1.unwrap_or(0)
    }
}

impl<P: Plan + 'static> FusedIterator for Stage<P> {}
