//! The adaptors as methods of a stage, so that stages chain even where they borrow: a borrowing
//! stage is not an `Iterator`, and the next stage takes it over as it is.

use crate::config::Workers;
use crate::flat::plan::Flat;
use crate::keyed::plan::Keyed;
use crate::ordered::start::Par;
use crate::par::filter::Filter;
use crate::par::filter_map::FilterMap;
use crate::par::flat_map::{FlatMap, TryFlatMap};
use crate::par::fold::Fold;
use crate::par::for_each::ForEach;
use crate::par::init::Init;
use crate::par::local::Local;
use crate::par::map::Map;
use crate::par::source::{Nothing, Source};
use crate::par::try_filter::TryFilter;
use crate::par::try_filter_map::TryFilterMap;
use crate::par::try_for_each::TryForEach;
use crate::par::try_init::TryInit;
use crate::par::try_map::TryMap;
use crate::runtime::plan::{Plan, SendPlan};
use crate::runtime::scope::ScopeContext;
use crate::stage::base::Stage;
use std::fmt;
use std::hash::Hash;

/// A stage as the source of the next one. Not an `Iterator`, so that it may borrow.
#[derive(Debug)]
pub struct Chained<P: Plan>(Stage<P>);

/// The iterator that the next stage pulls. It starts in the context of that stage.
pub struct ChainedIter<P: Plan> {
    stage: Stage<P>,
    cx: ScopeContext,
}

impl<P: Plan> fmt::Debug for ChainedIter<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ChainedIter").field(&self.stage).finish()
    }
}

impl<P: Plan> Iterator for ChainedIter<P> {
    type Item = P::Output;

    #[inline]
    fn next(&mut self) -> Option<P::Output> {
        self.stage.lazy.next_inner(&self.cx)
    }
}

#[diagnostic::do_not_recommend]
impl<P: SendPlan> Source for Chained<P> {
    type Item = P::Output;
    type Far = ChainedIter<P>;
    type Near = Nothing<P::Output>;

    fn place(self, cx: ScopeContext) -> Result<Self::Far, Self::Near> {
        Ok(ChainedIter { stage: self.0, cx })
    }

    fn hint(&self) -> (usize, Option<usize>) {
        self.0.lazy.size_hint()
    }
}

impl<P: Plan<Output: Send>> Stage<P> {
    /// [`Fanfold::par_map_ordered`](crate::Fanfold::par_map_ordered) on this stage's outputs, even
    /// if it borrows.
    #[track_caller]
    pub fn par_map_ordered<O, F>(
        self,
        n: impl Into<Workers>,
        f: F,
    ) -> Stage<Par<Chained<P>, Map<F>>>
    where
        Chained<P>: Source<Item = P::Output>,
        F: Fn(P::Output) -> O + Send + Sync,
        O: Send,
    {
        Stage::of(Par::new(Chained(self), Map::new(f), n.into(), true))
    }

    /// [`Fanfold::par_map_unordered`](crate::Fanfold::par_map_unordered) on this stage's outputs,
    /// even if it borrows.
    #[track_caller]
    pub fn par_map_unordered<O, F>(
        self,
        n: impl Into<Workers>,
        f: F,
    ) -> Stage<Par<Chained<P>, Map<F>>>
    where
        Chained<P>: Source<Item = P::Output>,
        F: Fn(P::Output) -> O + Send + Sync,
        O: Send,
    {
        Stage::of(Par::new(Chained(self), Map::new(f), n.into(), false))
    }

    /// [`Fanfold::par_filter`](crate::Fanfold::par_filter) on this stage's outputs, even if it borrows.
    #[track_caller]
    pub fn par_filter<F>(self, n: impl Into<Workers>, pred: F) -> Stage<Par<Chained<P>, Filter<F>>>
    where
        Chained<P>: Source<Item = P::Output>,
        F: Fn(&P::Output) -> bool + Send + Sync,
    {
        Stage::of(Par::new(Chained(self), Filter::new(pred), n.into(), true))
    }

    /// [`Fanfold::par_filter_map`](crate::Fanfold::par_filter_map) on this stage's outputs, even if
    /// it borrows.
    #[track_caller]
    pub fn par_filter_map<O, F>(
        self,
        n: impl Into<Workers>,
        f: F,
    ) -> Stage<Par<Chained<P>, FilterMap<F>>>
    where
        Chained<P>: Source<Item = P::Output>,
        F: Fn(P::Output) -> Option<O> + Send + Sync,
        O: Send,
    {
        Stage::of(Par::new(Chained(self), FilterMap::new(f), n.into(), true))
    }

    /// [`Fanfold::par_flat_map`](crate::Fanfold::par_flat_map) on this stage's outputs, even if it borrows.
    #[track_caller]
    pub fn par_flat_map<U, F>(
        self,
        n: impl Into<Workers>,
        f: F,
    ) -> Stage<Flat<Chained<P>, FlatMap<F>>>
    where
        Chained<P>: Source<Item = P::Output>,
        F: Fn(P::Output) -> U + Send + Sync,
        U: IntoIterator<Item: Send, IntoIter: Send>,
    {
        Stage::of(Flat::new(Chained(self), FlatMap::new(f), n.into()))
    }

    /// [`Fanfold::par_map_ordered_init`](crate::Fanfold::par_map_ordered_init) on this stage's
    /// outputs, even if it borrows.
    #[track_caller]
    pub fn par_map_ordered_init<T, O, N, F>(
        self,
        n: impl Into<Workers>,
        init: N,
        f: F,
    ) -> Stage<Par<Chained<P>, Init<N, F>>>
    where
        Chained<P>: Source<Item = P::Output>,
        N: Fn() -> T + Send + Sync,
        F: Fn(&mut T, P::Output) -> O + Send + Sync,
        O: Send,
    {
        Stage::of(Par::new(Chained(self), Init::new(init, f), n.into(), true))
    }

    /// [`Fanfold::try_par_map_ordered`](crate::Fanfold::try_par_map_ordered) on this stage's
    /// outputs, even if it borrows.
    #[track_caller]
    pub fn try_par_map_ordered<O, E, F>(
        self,
        n: impl Into<Workers>,
        f: F,
    ) -> Stage<Par<Chained<P>, TryMap<F>>>
    where
        Chained<P>: Source<Item = P::Output>,
        F: Fn(P::Output) -> Result<O, E> + Send + Sync,
        O: Send,
        E: Send,
    {
        Stage::of(Par::new(Chained(self), TryMap::new(f), n.into(), true))
    }

    /// [`Fanfold::try_par_map_unordered`](crate::Fanfold::try_par_map_unordered) on this stage's
    /// outputs, even if it borrows.
    #[track_caller]
    pub fn try_par_map_unordered<O, E, F>(
        self,
        n: impl Into<Workers>,
        f: F,
    ) -> Stage<Par<Chained<P>, TryMap<F>>>
    where
        Chained<P>: Source<Item = P::Output>,
        F: Fn(P::Output) -> Result<O, E> + Send + Sync,
        O: Send,
        E: Send,
    {
        Stage::of(Par::new(Chained(self), TryMap::new(f), n.into(), false))
    }

    /// [`Fanfold::try_par_filter`](crate::Fanfold::try_par_filter) on this stage's outputs, even if
    /// it borrows.
    #[track_caller]
    pub fn try_par_filter<E, F>(
        self,
        n: impl Into<Workers>,
        pred: F,
    ) -> Stage<Par<Chained<P>, TryFilter<F>>>
    where
        Chained<P>: Source<Item = P::Output>,
        F: Fn(&P::Output) -> Result<bool, E> + Send + Sync,
        E: Send,
    {
        Stage::of(Par::new(
            Chained(self),
            TryFilter::new(pred),
            n.into(),
            true,
        ))
    }

    /// [`Fanfold::try_par_filter_map`](crate::Fanfold::try_par_filter_map) on this stage's outputs,
    /// even if it borrows.
    #[track_caller]
    pub fn try_par_filter_map<O, E, F>(
        self,
        n: impl Into<Workers>,
        f: F,
    ) -> Stage<Par<Chained<P>, TryFilterMap<F>>>
    where
        Chained<P>: Source<Item = P::Output>,
        F: Fn(P::Output) -> Result<Option<O>, E> + Send + Sync,
        O: Send,
        E: Send,
    {
        Stage::of(Par::new(
            Chained(self),
            TryFilterMap::new(f),
            n.into(),
            true,
        ))
    }

    /// [`Fanfold::try_par_flat_map`](crate::Fanfold::try_par_flat_map) on this stage's outputs, even
    /// if it borrows.
    #[track_caller]
    pub fn try_par_flat_map<U, O, E, F>(
        self,
        n: impl Into<Workers>,
        f: F,
    ) -> Stage<Flat<Chained<P>, TryFlatMap<F>>>
    where
        Chained<P>: Source<Item = P::Output>,
        F: Fn(P::Output) -> Result<U, E> + Send + Sync,
        U: IntoIterator<Item = Result<O, E>, IntoIter: Send>,
        O: Send,
        E: Send,
    {
        Stage::of(Flat::new(Chained(self), TryFlatMap::new(f), n.into()))
    }

    /// [`Fanfold::try_par_map_ordered_init`](crate::Fanfold::try_par_map_ordered_init) on this
    /// stage's outputs, even if it borrows.
    #[track_caller]
    pub fn try_par_map_ordered_init<T, O, E, N, F>(
        self,
        n: impl Into<Workers>,
        init: N,
        f: F,
    ) -> Stage<Par<Chained<P>, TryInit<N, F>>>
    where
        Chained<P>: Source<Item = P::Output>,
        N: Fn() -> Result<T, E> + Send + Sync,
        F: Fn(&mut T, P::Output) -> Result<O, E> + Send + Sync,
        O: Send,
        E: Send,
    {
        Stage::of(Par::new(
            Chained(self),
            TryInit::new(init, f),
            n.into(),
            true,
        ))
    }

    /// [`Fanfold::par_for_each`](crate::Fanfold::par_for_each) on this stage's outputs, even if it
    /// borrows.
    #[track_caller]
    pub fn par_for_each<F>(self, n: impl Into<Workers>, f: F)
    where
        Chained<P>: Source<Item = P::Output>,
        F: Fn(P::Output) + Send + Sync,
    {
        Stage::of(Par::new(Chained(self), ForEach::new(f), n.into(), false)).run();
    }

    /// [`Fanfold::try_par_for_each`](crate::Fanfold::try_par_for_each) on this stage's outputs,
    /// even if it borrows.
    ///
    /// # Errors
    ///
    /// The first `Err` of `f` to arrive.
    #[track_caller]
    pub fn try_par_for_each<E, F>(self, n: impl Into<Workers>, f: F) -> Result<(), E>
    where
        Chained<P>: Source<Item = P::Output>,
        F: Fn(P::Output) -> Result<(), E> + Send + Sync,
        E: Send,
    {
        Stage::of(Par::new(Chained(self), TryForEach::new(f), n.into(), false)).run()
    }

    /// [`Fanfold::par_fold`](crate::Fanfold::par_fold) on this stage's outputs, even if it borrows.
    #[track_caller]
    pub fn par_fold<A, N, F, M>(self, n: impl Into<Workers>, init: N, fold: F, merge: M) -> A
    where
        Chained<P>: Source<Item = P::Output>,
        N: Fn() -> A + Send + Sync,
        F: Fn(A, P::Output) -> A + Send + Sync,
        M: FnMut(A, A) -> A,
        A: Send,
    {
        Stage::of(Par::new(
            Chained(self),
            Fold::new(init, fold),
            n.into(),
            false,
        ))
        .run(merge)
    }

    /// [`Fanfold::par_map_by_key`](crate::Fanfold::par_map_by_key) on this stage's outputs, even if
    /// it borrows.
    #[track_caller]
    pub fn par_map_by_key<K, O, G, F>(
        self,
        n: impl Into<Workers>,
        key: G,
        f: F,
    ) -> Stage<Keyed<Chained<P>, G, Map<F>>>
    where
        Chained<P>: Source<Item = P::Output>,
        G: FnMut(&P::Output) -> K + Send,
        K: Hash + Eq + Send,
        F: Fn(P::Output) -> O + Send + Sync,
        O: Send,
    {
        Stage::of(Keyed::new(Chained(self), key, Map::new(f), n.into()))
    }

    /// [`Fanfold::try_par_map_by_key`](crate::Fanfold::try_par_map_by_key) on this stage's outputs,
    /// even if it borrows.
    #[track_caller]
    pub fn try_par_map_by_key<K, O, E, G, F>(
        self,
        n: impl Into<Workers>,
        key: G,
        f: F,
    ) -> Stage<Keyed<Chained<P>, G, TryMap<F>>>
    where
        Chained<P>: Source<Item = P::Output>,
        G: FnMut(&P::Output) -> K + Send,
        K: Hash + Eq + Send,
        F: Fn(P::Output) -> Result<O, E> + Send + Sync,
        O: Send,
        E: Send,
    {
        Stage::of(Keyed::new(Chained(self), key, TryMap::new(f), n.into()))
    }

    /// [`Fanfold::par_map_by_key_init`](crate::Fanfold::par_map_by_key_init) on this stage's
    /// outputs, even if it borrows.
    #[track_caller]
    pub fn par_map_by_key_init<K, T, O, G, N, F>(
        self,
        n: impl Into<Workers>,
        key: G,
        init: N,
        f: F,
    ) -> Stage<Keyed<Chained<P>, G, Init<N, F>>>
    where
        Chained<P>: Source<Item = P::Output>,
        G: FnMut(&P::Output) -> K + Send,
        K: Hash + Eq + Send,
        N: Fn() -> T + Send + Sync,
        F: Fn(&mut T, P::Output) -> O + Send + Sync,
        O: Send,
    {
        Stage::of(Keyed::new(Chained(self), key, Init::new(init, f), n.into()))
    }
}

impl<P: Plan> Stage<P> {
    /// [`Fanfold::local`](crate::Fanfold::local) on this stage: the consumer's thread pulls it.
    pub fn local(self) -> Local<ChainedIter<P>> {
        let inner = ChainedIter {
            stage: self,
            cx: ScopeContext::NONE,
        };
        Local::of_stage(inner, |inner, cx| inner.cx = cx)
    }
}
