//! `par_flat_map`: many outputs per item, which come out while they are made.

use crate::error::ItemError;
use crate::par::job::sealed::Sealed;

/// What opens an item into an iterator, whose items a stage yields. Sealed: only the crate implements it.
pub trait FlatJob<I>: Send + Sync + Sized + Sealed {
    /// The type that the stage yields.
    type Output: Send;

    /// The iterator over the outputs of one item. It is `Send`, because the consumer runs it where there is no
    /// thread, and may move.
    #[doc(hidden)]
    type Inner: Iterator<Item = Self::Output> + Send;

    #[doc(hidden)]
    fn open(&self, item: I) -> Self::Inner;

    /// Whether nothing after this output counts.
    #[doc(hidden)]
    fn is_last(_: &Self::Output) -> bool {
        false
    }

    /// The output in place of the rest of an item that panicked; `None` raises the panic itself.
    #[doc(hidden)]
    fn failed(&self, _: ItemError) -> Option<Self::Output> {
        None
    }
}

/// The job of [`par_flat_map`](crate::Fanfold::par_flat_map).
#[derive(Clone, Debug)]
pub struct FlatMap<F> {
    f: F,
}

impl<F> FlatMap<F> {
    pub(crate) fn new(f: F) -> Self {
        FlatMap { f }
    }
}

impl<F> Sealed for FlatMap<F> {}

impl<I, U, F> FlatJob<I> for FlatMap<F>
where
    U: IntoIterator<Item: Send, IntoIter: Send>,
    F: Fn(I) -> U + Send + Sync,
{
    type Output = U::Item;
    type Inner = U::IntoIter;

    fn open(&self, item: I) -> U::IntoIter {
        (self.f)(item).into_iter()
    }
}

/// The job of [`try_par_flat_map`](crate::Fanfold::try_par_flat_map).
#[derive(Clone, Debug)]
pub struct TryFlatMap<F> {
    f: F,
}

impl<F> TryFlatMap<F> {
    pub(crate) fn new(f: F) -> Self {
        TryFlatMap { f }
    }
}

impl<F> Sealed for TryFlatMap<F> {}

impl<I, U, O, E, F> FlatJob<I> for TryFlatMap<F>
where
    U: IntoIterator<Item = Result<O, E>, IntoIter: Send>,
    O: Send,
    E: Send,
    F: Fn(I) -> Result<U, E> + Send + Sync,
{
    type Output = Result<O, E>;
    type Inner = TryInner<U::IntoIter, E>;

    fn open(&self, item: I) -> Self::Inner {
        match (self.f)(item) {
            Ok(outputs) => TryInner::Opened(outputs.into_iter()),
            Err(error) => TryInner::Failed(Some(error)),
        }
    }

    fn is_last(output: &Self::Output) -> bool {
        output.is_err()
    }
}

/// The outputs of an item, or why there are none.
#[allow(unreachable_pub)] // it stands in the signature of a public trait
#[derive(Debug)]
pub enum TryInner<N, E> {
    Opened(N),
    Failed(Option<E>),
}

impl<O, E, N: Iterator<Item = Result<O, E>>> Iterator for TryInner<N, E> {
    type Item = Result<O, E>;

    fn next(&mut self) -> Option<Result<O, E>> {
        match self {
            TryInner::Opened(outputs) => outputs.next(),
            TryInner::Failed(error) => error.take().map(Err),
        }
    }
}

/// A job with panics as values; see [`isolate`](crate::Stage::isolate).
#[derive(Clone, Debug)]
pub struct IsolatedFlat<J> {
    job: J,
}

impl<J> IsolatedFlat<J> {
    pub(crate) fn new(job: J) -> Self {
        IsolatedFlat { job }
    }
}

impl<J> Sealed for IsolatedFlat<J> {}

impl<I, J: FlatJob<I>> FlatJob<I> for IsolatedFlat<J> {
    type Output = Result<J::Output, ItemError>;
    type Inner = AsOk<J::Inner>;

    fn open(&self, item: I) -> Self::Inner {
        AsOk(self.job.open(item))
    }

    fn is_last(output: &Self::Output) -> bool {
        output.as_ref().is_ok_and(J::is_last)
    }

    fn failed(&self, why: ItemError) -> Option<Self::Output> {
        Some(Err(why))
    }
}

/// The items of an iterator, as `Ok`.
#[allow(unreachable_pub)] // it stands in the signature of a public trait
#[derive(Debug)]
pub struct AsOk<I>(I);

impl<I: Iterator> Iterator for AsOk<I> {
    type Item = Result<I::Item, ItemError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.next().map(Ok)
    }
}
