//! The public face of what is fed by threads of its own: read-ahead, merges, windows by time. As
//! [`Stage`](crate::Stage) is for the parallel adaptors.

use crate::engine::cancel::CancelToken;
use crate::engine::erase::{InScope, Lazy, Scope, Start};
use crate::engine::hub::Common;
use crate::engine::pool::Pool;
use crate::error::Cancelled;
use std::fmt;
use std::iter::FusedIterator;

/// What a [`Fed`] iterator is before and while it runs. Sealed: only the crate implements it.
pub trait Feed: Start {
    /// What `Debug` calls it.
    #[doc(hidden)]
    const NAME: &'static str;

    /// The options that all have.
    #[doc(hidden)]
    fn common(&self) -> &Common;

    /// The same, to be set.
    #[doc(hidden)]
    fn common_mut(&mut self) -> &mut Common;

    /// The hint before the first `next()`.
    #[doc(hidden)]
    fn hint(&self) -> (usize, Option<usize>);

    /// The hint while it runs.
    #[doc(hidden)]
    fn left(running: &Self::Running) -> (usize, Option<usize>);
}

/// An iterator whose sources are pulled by threads of their own.
///
/// **Lazy**: no thread is leased and nothing is pulled before the first `next()` or terminal call;
/// until then it takes options. **Owned** sources (`Send + 'static`) make it an ordinary
/// `Iterator`. **Borrowed** ones work as in a [`Stage`](crate::Stage): through the terminal calls
/// below, which block until all is done, and within a [`scope`](crate::scope()).
///
/// **Drop** stops the threads and drops every item that was not taken exactly once. It waits for a
/// source that blocks in `next()`, as its thread cannot be taken out of it; a source that looks at
/// [`CancelToken::current`](crate::CancelToken::current) hears of it, and so does a stage or another
/// of these inside the source.
///
/// # Panics
///
/// A panic of a source is raised by the `next()` that would have yielded its item, with its own
/// payload, after everything that the source gave before.
#[must_use = "it is lazy: nothing runs before the first `next()` or a terminal call"]
pub struct Fed<P: Feed>(Lazy<P>);

impl<P: Feed> fmt::Debug for Fed<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = if self.0.plan().is_some() {
            "idle"
        } else if self.0.running().is_some() {
            "running"
        } else {
            "over"
        };
        f.debug_struct(P::NAME)
            .field("state", &state)
            .finish_non_exhaustive()
    }
}

impl<P: Feed> Fed<P> {
    pub(crate) fn new(plan: P) -> Self {
        Fed(Lazy::new(Box::new(plan)))
    }

    /// Sets an option.
    #[track_caller]
    pub(crate) fn set(mut self, set: impl FnOnce(&mut P)) -> Self {
        set(self.plan());
        self
    }

    /// What is described so far.
    #[track_caller]
    pub(crate) fn plan(&mut self) -> &mut P {
        match self.0.plan_mut() {
            Some(plan) => plan,
            None => panic!("options go before the first `next()`"),
        }
    }

    /// What was described, to be described otherwise.
    #[track_caller]
    pub(crate) fn into_plan(self) -> P {
        match self.0.into_plan() {
            Some(plan) => *plan,
            None => panic!("options go before the first `next()`"),
        }
    }

    fn hint(&self) -> (usize, Option<usize>) {
        let (low, high) = match (self.0.plan(), self.0.running()) {
            (Some(plan), _) if plan.common().is_cancelled() => (0, plan.hint().1),
            (Some(plan), _) => plan.hint(),
            (None, Some(running)) => P::left(running),
            (None, None) => (0, Some(0)),
        };
        let more = usize::from(self.0.has_last());
        let high = high.and_then(|high| high.checked_add(more));
        // The sources may lie; this must not contradict itself, nor make a `collect` of what a token
        // will end ask for all memory.
        let low = if isize::try_from(low).is_ok() { low } else { 0 };
        (high.map_or(low, |high| low.min(high)), high)
    }

    /// Names it, for [`testing::assert_quiescent`](crate::testing::assert_quiescent).
    ///
    /// # Panics
    ///
    /// After the first `next()`.
    #[track_caller]
    pub fn named(self, name: impl Into<String>) -> Self {
        self.set(|plan| plan.common_mut().name = Some(name.into()))
    }

    /// Leases the threads from `pool` instead of the [global](Pool::global) one.
    ///
    /// # Panics
    ///
    /// After the first `next()`.
    #[track_caller]
    pub fn on(self, pool: &Pool) -> Self {
        self.set(|plan| plan.common_mut().pool = Some(pool.clone()))
    }

    /// Ends it early when `token` is tripped, without a word.
    ///
    /// Then nothing new is pulled. What is there already is yielded, then `None`. A source that blocks
    /// is not waited for until the drop. May be called for several tokens. An early end looks like any other:
    /// ask [`is_cut_short`](Self::is_cut_short), or `token.check()?` behind a terminal call, or use
    /// [`fail_on`](Self::fail_on).
    ///
    /// What starts inside a closure of a stage, a task of a group or the like is a part of that, and ends early
    /// with it as with a token of its own; see [`detached`](Self::detached).
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
    /// let mut numbers = (0..).readahead(8).cancel_on(&token);
    /// assert_eq!(numbers.next(), Some(0));
    /// token.cancel();
    /// assert!(numbers.count() <= 9);
    /// ```
    #[track_caller]
    pub fn cancel_on(self, token: &CancelToken) -> Self {
        self.set(|plan| plan.common_mut().tokens.push(token.clone()))
    }

    /// Ends it early when `token` is tripped, with an error: what is there comes out, then one `Err`, then
    /// nothing; see [`Stage::fail_on`](crate::Stage::fail_on).
    ///
    /// For items that are `Result`s whose error is made from [`Cancelled`].
    ///
    /// # Panics
    ///
    /// After the first `next()`.
    ///
    /// # Errors
    ///
    /// None here; in what it yields, as said.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::{CancelToken, Cancelled, Fanfold};
    ///
    /// let token = CancelToken::new();
    /// let mut rows = (0..).map(Ok::<u32, Cancelled>).readahead(8).fail_on(&token);
    /// assert_eq!(rows.next(), Some(Ok(0)));
    /// token.cancel();
    /// assert!(rows.last().unwrap().is_err());
    /// ```
    #[track_caller]
    pub fn fail_on<T, E>(mut self, token: &CancelToken) -> Self
    where
        P: Start<Output = Result<T, E>>,
        E: From<Cancelled>,
    {
        self.0.set_last(|why| Err(why.into()));
        self.cancel_on(token)
    }

    /// Asks the sources for no more when `token` is tripped; everything that was pulled comes out.
    ///
    /// A call of a source's `next()` that is under way is waited for, as it may have taken something
    /// already; [`CancelToken::current`] is tripped in it. See [`Stage::drain_on`](crate::Stage::drain_on).
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
    /// let (stop, mut done) = (CancelToken::new(), 0);
    /// let mut queue = (0..).readahead(8).drain_on(&stop);
    /// while let Some(job) = queue.next() {
    ///     assert_eq!(job, done); // none is missing
    ///     done += 1;
    ///     if job == 100 {
    ///         stop.cancel();
    ///     }
    /// }
    /// assert!(done > 100 && queue.is_cut_short());
    /// ```
    #[track_caller]
    pub fn drain_on(self, token: &CancelToken) -> Self {
        self.set(|plan| plan.common_mut().drains.push(token.clone()))
    }

    /// Makes it one by itself, although it starts in the middle of something; see
    /// [`Stage::detached`](crate::Stage::detached).
    ///
    /// # Panics
    ///
    /// After the first `next()`.
    #[track_caller]
    pub fn detached(self) -> Self {
        self.set(|plan| plan.common_mut().detached = true)
    }

    /// Whether it has ended before its sources did, because a token was tripped; see
    /// [`Stage::is_cut_short`](crate::Stage::is_cut_short).
    pub fn is_cut_short(&self) -> bool {
        self.0.cut().is_some()
    }

    /// Puts it within a scope, so that it is an iterator although it borrows. The last option.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let words = vec![String::from("to"), String::from("be")];
    /// fanfold::scope(|s| {
    ///     let ahead = words.iter().readahead(8).within(s);
    ///     assert!(ahead.eq(&["to", "be"]));
    /// });
    /// ```
    pub fn within<'scope>(self, scope: &'scope Scope<'scope, '_>) -> Within<'scope, P>
    where
        P: 'scope,
    {
        Within {
            fed: self,
            scope: InScope::new(scope),
        }
    }

    /// Collects all items. Blocks until all is done, so that the sources may borrow, as all
    /// terminal calls do. Where a token cuts it short that is what there was by then, as if it were all: see
    /// [`cancel_on`](Self::cancel_on), and [`fail_on`](Self::fail_on) for one that says so.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let words = vec![String::from("to"), String::from("be")];
    /// let ahead: Vec<&String> = words.iter().readahead(8).collect();
    /// assert_eq!(ahead, ["to", "be"]);
    /// ```
    pub fn collect<B: FromIterator<P::Output>>(self) -> B {
        self.0.drain(|outputs| outputs.collect())
    }

    /// Calls `f` with each item, on this thread, as soon as it is there.
    pub fn for_each<F: FnMut(P::Output)>(self, f: F) {
        self.0.drain(|outputs| outputs.for_each(f));
    }

    /// Calls `f` with each item until it fails; see [`Iterator::try_for_each`]. What is left is
    /// dropped.
    ///
    /// # Errors
    ///
    /// The first that `f` returns.
    pub fn try_for_each<E, F>(self, f: F) -> Result<(), E>
    where
        F: FnMut(P::Output) -> Result<(), E>,
    {
        self.0.drain(|mut outputs| outputs.try_for_each(f))
    }

    /// Folds all items into one value, on this thread; see [`Iterator::fold`].
    pub fn fold<B, F: FnMut(B, P::Output) -> B>(self, init: B, f: F) -> B {
        self.0.drain(|outputs| outputs.fold(init, f))
    }

    /// Counts the items.
    pub fn count(self) -> usize {
        self.0.drain(|outputs| outputs.count())
    }
}

impl<P: Feed + 'static> Iterator for Fed<P> {
    type Item = P::Output;

    #[inline]
    fn next(&mut self) -> Option<P::Output> {
        self.0.next_owned()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.hint()
    }
}

impl<P: Feed + 'static> FusedIterator for Fed<P> {}

/// The same within a [`scope`](crate::scope()): an iterator that may borrow; made by
/// [`Fed::within`].
#[must_use = "it is lazy: nothing runs before the first `next()`"]
pub struct Within<'scope, P: Feed> {
    fed: Fed<P>,
    scope: InScope<'scope>,
}

impl<P: Feed> fmt::Debug for Within<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Within").field(&self.fed).finish()
    }
}

impl<P: Feed> Within<'_, P> {
    /// Whether it has ended before its sources did, because a token was tripped.
    pub fn is_cut_short(&self) -> bool {
        self.fed.is_cut_short()
    }
}

impl<'scope, P: Feed + 'scope> Iterator for Within<'scope, P> {
    type Item = P::Output;

    #[inline]
    fn next(&mut self) -> Option<P::Output> {
        self.fed.0.next_scoped(&self.scope)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.fed.hint()
    }
}

impl<'scope, P: Feed + 'scope> FusedIterator for Within<'scope, P> {}
