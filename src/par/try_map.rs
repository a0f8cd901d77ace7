//! `try_par_map_ordered`: nothing counts after the first error.

use crate::par::job::{Job, sealed::Sealed};

/// The job of [`try_par_map_ordered`](crate::Fanfold::try_par_map_ordered).
#[derive(Clone, Debug)]
pub struct TryMap<F> {
    f: F,
}

impl<F> TryMap<F> {
    pub(crate) fn new(f: F) -> Self {
        TryMap { f }
    }
}

impl<F> Sealed for TryMap<F> {}

impl<I, O, E, F> Job<I> for TryMap<F>
where
    O: Send,
    E: Send,
    F: Fn(I) -> Result<O, E> + Send + Sync,
{
    type Output = Result<O, E>;
    type Batch = Option<Result<O, E>>;
    type State = ();

    fn state(&self) {}

    #[inline]
    fn run(&self, (): &mut (), item: I) -> (Option<Result<O, E>>, bool) {
        let result = (self.f)(item);
        let last = result.is_err();
        (Some(result), last)
    }

    fn outputs((least, most): (usize, Option<usize>)) -> (usize, Option<usize>) {
        // If any items are left, the first one gives an output.
        (least.min(1), most)
    }
}
