//! `try_par_filter`: the item itself, or nothing, until the first error.

use crate::par::job::{Job, sealed::Sealed};

/// The job of [`try_par_filter`](crate::Fanfold::try_par_filter).
#[derive(Clone, Debug)]
pub struct TryFilter<P> {
    pred: P,
}

impl<P> TryFilter<P> {
    pub(crate) fn new(pred: P) -> Self {
        TryFilter { pred }
    }
}

impl<P> Sealed for TryFilter<P> {}

impl<I, E, P> Job<I> for TryFilter<P>
where
    I: Send,
    E: Send,
    P: Fn(&I) -> Result<bool, E> + Send + Sync,
{
    type Output = Result<I, E>;
    type Batch = Option<Result<I, E>>;
    type State = ();

    fn state(&self) {}

    #[inline]
    fn run(&self, (): &mut (), item: I) -> (Option<Result<I, E>>, bool) {
        match (self.pred)(&item) {
            Ok(keep) => (keep.then_some(Ok(item)), false),
            Err(error) => {
                // Here, and not behind the return: if this drop panics, the error would be leaked there.
                drop(item);
                (Some(Err(error)), true)
            }
        }
    }
}
