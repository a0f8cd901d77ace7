//! `par_filter_map`: at most one output per item.

use crate::par::job::{Job, sealed::Sealed};

/// The job of [`par_filter_map`](crate::Fanfold::par_filter_map).
#[derive(Clone, Debug)]
pub struct FilterMap<F> {
    f: F,
}

impl<F> FilterMap<F> {
    pub(crate) fn new(f: F) -> Self {
        FilterMap { f }
    }
}

impl<F> Sealed for FilterMap<F> {}

impl<I, O, F> Job<I> for FilterMap<F>
where
    O: Send,
    F: Fn(I) -> Option<O> + Send + Sync,
{
    type Output = O;
    type Batch = Option<O>;
    type State = ();

    fn state(&self) {}

    #[inline]
    fn run(&self, (): &mut (), item: I) -> (Option<O>, bool) {
        ((self.f)(item), false)
    }
}
