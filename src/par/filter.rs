//! `par_filter`: the item itself, or nothing.

use crate::par::job::{Job, sealed::Sealed};

/// The job of [`par_filter`](crate::Fanfold::par_filter).
#[derive(Clone, Debug)]
pub struct Filter<P> {
    pred: P,
}

impl<P> Filter<P> {
    pub(crate) fn new(pred: P) -> Self {
        Filter { pred }
    }
}

impl<P> Sealed for Filter<P> {}

impl<I, P> Job<I> for Filter<P>
where
    I: Send,
    P: Fn(&I) -> bool + Send + Sync,
{
    type Output = I;
    type Batch = Option<I>;
    type State = ();

    fn state(&self) {}

    #[inline]
    fn run(&self, (): &mut (), item: I) -> (Option<I>, bool) {
        ((self.pred)(&item).then_some(item), false)
    }
}
