//! `par_fold`: a value per worker, to which its items are added.

use crate::par::job::{Job, sealed::Sealed};
use crate::sync::{Arc, Mutex};
use crate::unwind;
use std::iter::Empty;

/// The job of [`par_fold`](crate::Fanfold::par_fold).
pub(crate) struct Fold<A, N, F> {
    parts: Arc<Parts<A, N>>,
    fold: F,
}

/// What the workers and the caller of a fold share.
pub(crate) struct Parts<A, N> {
    init: N,
    /// The values of the workers that have ended.
    done: Mutex<Vec<A>>,
}

/// The value of a worker. Its drop, at the worker's end, hands it over.
pub(crate) struct Part<A, N> {
    /// `None` before the first item, and after a panic.
    value: Option<A>,
    parts: Arc<Parts<A, N>>,
}

impl<A, N: Fn() -> A, F> Fold<A, N, F> {
    pub(crate) fn new(init: N, fold: F) -> Self {
        let done = Mutex::new(Vec::new());
        Fold {
            parts: Arc::new(Parts { init, done }),
            fold,
        }
    }

    pub(crate) fn parts(&self) -> Arc<Parts<A, N>> {
        Arc::clone(&self.parts)
    }
}

impl<A, N: Fn() -> A> Parts<A, N> {
    /// Merges the values of all workers.
    pub(crate) fn merged(&self, merge: &mut impl FnMut(A, A) -> A) -> A {
        let mut merged = None;
        // One by one, and without the lock: `merge` may panic, and then the others are dropped here below.
        while let Some(value) = self.take() {
            merged = Some(match merged {
                Some(merged) => merge(merged, value),
                None => value,
            });
        }
        merged.unwrap_or_else(|| (self.init)())
    }

    fn take(&self) -> Option<A> {
        self.done.lock().pop()
    }
}

impl<A, N> Drop for Parts<A, N> {
    /// Each value separately, as its drop may panic. There are some left if the fold or `merge` panicked.
    fn drop(&mut self) {
        let mut panic = None;
        let left = std::mem::take(&mut *self.done.lock());
        for value in left {
            unwind::first(&mut panic, unwind::discard(value));
        }
        unwind::raise(panic);
    }
}

impl<A, N> Drop for Part<A, N> {
    fn drop(&mut self) {
        self.parts.done.lock().extend(self.value.take());
    }
}

impl<A, N, F> Sealed for Fold<A, N, F> {}

impl<I, A, N, F> Job<I> for Fold<A, N, F>
where
    A: Send,
    N: Fn() -> A + Send + Sync,
    F: Fn(A, I) -> A + Send + Sync,
{
    type Output = ();
    type Batch = Empty<()>;
    type State = Part<A, N>;

    const STATEFUL: bool = true;
    const IS_SILENT: bool = true;

    fn state(&self) -> Part<A, N> {
        Part {
            value: None,
            parts: self.parts(),
        }
    }

    fn is_usable(part: &Part<A, N>) -> bool {
        part.value.is_some()
    }

    fn run(&self, part: &mut Part<A, N>, item: I) -> (Empty<()>, bool) {
        let value = part.value.take().unwrap_or_else(|| (self.parts.init)());
        part.value = Some((self.fold)(value, item));
        (std::iter::empty(), false)
    }

    fn outputs(_: (usize, Option<usize>)) -> (usize, Option<usize>) {
        (0, Some(0))
    }
}
