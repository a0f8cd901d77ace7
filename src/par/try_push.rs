//! `try_push_map_ordered`: nothing counts after the first error, and nobody can miss that.

use crate::error::Cancelled;
use crate::par::job::{Job, sealed::Sealed};

/// The job of [`try_push_map_ordered`](crate::try_push_map_ordered).
#[derive(Clone, Debug)]
pub struct TryPush<F> {
    f: F,
}

impl<F> TryPush<F> {
    pub(crate) fn new(f: F) -> Self {
        TryPush { f }
    }
}

impl<F> Sealed for TryPush<F> {}

impl<I, O, E, F> Job<I> for TryPush<F>
where
    O: Send,
    E: Send + From<Cancelled>,
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

    fn refused(why: Cancelled) -> Option<Result<O, E>> {
        Some(Err(why.into()))
    }

    fn outputs((least, most): (usize, Option<usize>)) -> (usize, Option<usize>) {
        // If any items are left, the first one gives an output.
        (least.min(1), most)
    }
}
