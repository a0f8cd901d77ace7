//! `try_par_filter_map`: at most one output per item, until the first error.

use crate::par::job::{Job, sealed::Sealed};

/// The job of [`try_par_filter_map`](crate::Fanfold::try_par_filter_map).
#[derive(Clone, Debug)]
pub struct TryFilterMap<F> {
    f: F,
}

impl<F> TryFilterMap<F> {
    pub(crate) fn new(f: F) -> Self {
        TryFilterMap { f }
    }
}

impl<F> Sealed for TryFilterMap<F> {}

impl<I, O, E, F> Job<I> for TryFilterMap<F>
where
    O: Send,
    E: Send,
    F: Fn(I) -> Result<Option<O>, E> + Send + Sync,
{
    type Output = Result<O, E>;
    type Batch = Option<Result<O, E>>;
    type State = ();

    fn state(&self) {}

    #[inline]
    fn run(&self, (): &mut (), item: I) -> (Option<Result<O, E>>, bool) {
        let result = (self.f)(item);
        let last = result.is_err();
        (result.transpose(), last)
    }
}
