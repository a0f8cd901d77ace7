//! `try_par_for_each`: no output but the first error.

use crate::par::job::{Job, sealed::Sealed};

/// The job of [`try_par_for_each`](crate::Fanfold::try_par_for_each).
pub(crate) struct TryForEach<F> {
    f: F,
}

impl<F> TryForEach<F> {
    pub(crate) fn new(f: F) -> Self {
        TryForEach { f }
    }
}

impl<F> Sealed for TryForEach<F> {}

impl<I, E, F> Job<I> for TryForEach<F>
where
    E: Send,
    F: Fn(I) -> Result<(), E> + Send + Sync,
{
    type Output = E;
    type Batch = Option<E>;
    type State = ();

    const IS_SILENT: bool = true;

    fn state(&self) {}

    #[inline]
    fn run(&self, (): &mut (), item: I) -> (Option<E>, bool) {
        let error = (self.f)(item).err();
        let last = error.is_some();
        (error, last)
    }
}
