//! `par_for_each`: no output.

use crate::par::job::{Job, sealed::Sealed};
use std::iter::Empty;

/// The job of [`par_for_each`](crate::Fanfold::par_for_each).
pub(crate) struct ForEach<F> {
    f: F,
}

impl<F> ForEach<F> {
    pub(crate) fn new(f: F) -> Self {
        ForEach { f }
    }
}

impl<F> Sealed for ForEach<F> {}

impl<I, F> Job<I> for ForEach<F>
where
    F: Fn(I) + Send + Sync,
{
    type Output = ();
    type Batch = Empty<()>;
    type State = ();

    const IS_SILENT: bool = true;

    fn state(&self) {}

    #[inline]
    fn run(&self, (): &mut (), item: I) -> (Empty<()>, bool) {
        (self.f)(item);
        (std::iter::empty(), false)
    }

    fn outputs(_: (usize, Option<usize>)) -> (usize, Option<usize>) {
        (0, Some(0))
    }
}
