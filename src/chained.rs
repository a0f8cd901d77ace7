//! The adaptors again, as methods of a stage, so that stages chain also where they borrow: a
//! borrowing stage is no `Iterator`, and the next stage takes it over as it is.

use crate::adaptors::by_key::ByKey;
use crate::adaptors::filter::Filter;
use crate::adaptors::filter_map::FilterMap;
use crate::adaptors::flat_map::FlatMap;
use crate::adaptors::init::Init;
use crate::adaptors::local::Local;
use crate::adaptors::map::Map;
use crate::adaptors::try_map::TryMap;
use crate::config::Workers;
use crate::engine::erase::Cx;
use crate::engine::job::Job;
use crate::engine::source::{Nothing, Source};
use crate::stage::Stage;
use std::fmt;
use std::hash::Hash;

/// A stage as the source of the next one. Not an `Iterator`, so that it may borrow.
#[derive(Debug)]
pub struct Chained<S: Source, J: Job<S::Item>>(Stage<S, J>)
where
    S::Item: Send;

/// The iterator that the next stage pulls. It starts in the context of that stage.
pub struct ChainedIter<S: Source, J: Job<S::Item>>
where
    S::Item: Send,
{
    stage: Stage<S, J>,
    cx: Cx,
}

impl<S: Source, J: Job<S::Item>> fmt::Debug for ChainedIter<S, J>
where
    S::Item: Send,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ChainedIter").field(&self.stage).finish()
    }
}

impl<S: Source, J: Job<S::Item>> Iterator for ChainedIter<S, J>
where
    S::Item: Send,
{
    type Item = J::Output;

    #[inline]
    fn next(&mut self) -> Option<J::Output> {
        self.stage.lazy().next_inner(&self.cx)
    }
}

#[diagnostic::do_not_recommend]
impl<S: Source, J: Job<S::Item>> Source for Chained<S, J>
where
    S::Item: Send,
    Stage<S, J>: Send,
{
    type Item = J::Output;
    type Far = ChainedIter<S, J>;
    type Near = Nothing<J::Output>;

    fn place(self, cx: Cx) -> Result<Self::Far, Self::Near> {
        Ok(ChainedIter { stage: self.0, cx })
    }

    fn hint(&self) -> (usize, Option<usize>) {
        self.0.outputs()
    }
}

impl<S: Source, J: Job<S::Item>> Stage<S, J>
where
    S::Item: Send,
{
    /// [`Fanfold::par_map_ordered`](crate::Fanfold::par_map_ordered) on this stage's outputs, also where it borrows.
    #[track_caller]
    pub fn par_map_ordered<O, F>(self, n: impl Into<Workers>, f: F) -> Stage<Chained<S, J>, Map<F>>
    where
        Chained<S, J>: Source<Item = J::Output>,
        F: Fn(J::Output) -> O + Send + Sync,
        O: Send,
    {
        Stage::new(Chained(self), Map::new(f), n.into(), true)
    }

    /// [`Fanfold::par_map_unordered`](crate::Fanfold::par_map_unordered) on this stage's outputs, also where it borrows.
    #[track_caller]
    pub fn par_map_unordered<O, F>(
        self,
        n: impl Into<Workers>,
        f: F,
    ) -> Stage<Chained<S, J>, Map<F>>
    where
        Chained<S, J>: Source<Item = J::Output>,
        F: Fn(J::Output) -> O + Send + Sync,
        O: Send,
    {
        Stage::new(Chained(self), Map::new(f), n.into(), false)
    }

    /// [`Fanfold::par_filter`](crate::Fanfold::par_filter) on this stage's outputs, also where it borrows.
    #[track_caller]
    pub fn par_filter<P>(self, n: impl Into<Workers>, pred: P) -> Stage<Chained<S, J>, Filter<P>>
    where
        Chained<S, J>: Source<Item = J::Output>,
        P: Fn(&J::Output) -> bool + Send + Sync,
    {
        Stage::new(Chained(self), Filter::new(pred), n.into(), true)
    }

    /// [`Fanfold::par_filter_map`](crate::Fanfold::par_filter_map) on this stage's outputs, also where it borrows.
    #[track_caller]
    pub fn par_filter_map<O, F>(
        self,
        n: impl Into<Workers>,
        f: F,
    ) -> Stage<Chained<S, J>, FilterMap<F>>
    where
        Chained<S, J>: Source<Item = J::Output>,
        F: Fn(J::Output) -> Option<O> + Send + Sync,
        O: Send,
    {
        Stage::new(Chained(self), FilterMap::new(f), n.into(), true)
    }

    /// [`Fanfold::par_flat_map`](crate::Fanfold::par_flat_map) on this stage's outputs, also where it borrows.
    #[track_caller]
    pub fn par_flat_map<U, F>(self, n: impl Into<Workers>, f: F) -> Stage<Chained<S, J>, FlatMap<F>>
    where
        Chained<S, J>: Source<Item = J::Output>,
        F: Fn(J::Output) -> U + Send + Sync,
        U: IntoIterator<Item: Send>,
    {
        Stage::new(Chained(self), FlatMap::new(f), n.into(), true)
    }

    /// [`Fanfold::par_map_ordered_init`](crate::Fanfold::par_map_ordered_init) on this stage's outputs, also where it borrows.
    #[track_caller]
    pub fn par_map_ordered_init<T, O, N, F>(
        self,
        n: impl Into<Workers>,
        init: N,
        f: F,
    ) -> Stage<Chained<S, J>, Init<N, F>>
    where
        Chained<S, J>: Source<Item = J::Output>,
        N: Fn() -> T + Send + Sync,
        F: Fn(&mut T, J::Output) -> O + Send + Sync,
        O: Send,
    {
        Stage::new(Chained(self), Init::new(init, f), n.into(), true)
    }

    /// [`Fanfold::try_par_map_ordered`](crate::Fanfold::try_par_map_ordered) on this stage's outputs, also where it borrows.
    #[track_caller]
    pub fn try_par_map_ordered<O, E, F>(
        self,
        n: impl Into<Workers>,
        f: F,
    ) -> Stage<Chained<S, J>, TryMap<F>>
    where
        Chained<S, J>: Source<Item = J::Output>,
        F: Fn(J::Output) -> Result<O, E> + Send + Sync,
        O: Send,
        E: Send,
    {
        Stage::new(Chained(self), TryMap::new(f), n.into(), true)
    }

    /// [`Fanfold::par_map_by_key`](crate::Fanfold::par_map_by_key) on this stage's outputs, also where it borrows.
    #[track_caller]
    pub fn par_map_by_key<K, O, G, F>(
        self,
        n: impl Into<Workers>,
        key: G,
        f: F,
    ) -> ByKey<Chained<S, J>, G, F>
    where
        Chained<S, J>: Source<Item = J::Output>,
        G: FnMut(&J::Output) -> K + Send,
        K: Hash + Eq + Send,
        F: Fn(J::Output) -> O + Send + Sync,
        O: Send,
    {
        ByKey::by_key(Chained(self), n.into(), key, f)
    }

    /// [`Fanfold::local`](crate::Fanfold::local) on this stage: the consumer's thread pulls it.
    pub fn local(self) -> Local<ChainedIter<S, J>> {
        let inner = ChainedIter {
            stage: self,
            cx: Cx::NONE,
        };
        Local::of_stage(inner, |inner, cx| inner.cx = cx)
    }
}
