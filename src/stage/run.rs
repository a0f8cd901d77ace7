//! Stages without outputs, which are run as a whole.

use crate::ordered::start::Par;
use crate::par::fold::Fold;
use crate::par::for_each::ForEach;
use crate::par::source::Source;
use crate::par::try_for_each::TryForEach;
use crate::stage::base::Stage;

impl<S, F> Stage<Par<S, ForEach<F>>>
where
    S: Source<Item: Send>,
    F: Fn(S::Item) + Send + Sync,
{
    pub(crate) fn run(self) {
        self.for_each(drop);
    }
}

impl<S, E, F> Stage<Par<S, TryForEach<F>>>
where
    S: Source<Item: Send>,
    E: Send,
    F: Fn(S::Item) -> Result<(), E> + Send + Sync,
{
    pub(crate) fn run(self) -> Result<(), E> {
        self.last().map_or(Ok(()), Err)
    }
}

impl<S, A, N, F> Stage<Par<S, Fold<A, N, F>>>
where
    S: Source<Item: Send>,
    A: Send,
    N: Fn() -> A + Send + Sync,
    F: Fn(A, S::Item) -> A + Send + Sync,
{
    pub(crate) fn run(mut self, mut merge: impl FnMut(A, A) -> A) -> A {
        let parts = self.plan().job.parts();
        self.for_each(drop);
        // All workers have ended, and have handed over what they had.
        let merged = parts.merged(&mut merge);
        // Here, and not behind the return: the closures are the user's, and if one of these drops panics, the
        // result would be leaked there.
        drop(parts);
        drop(merge);
        merged
    }
}
