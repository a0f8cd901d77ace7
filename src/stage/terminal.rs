//! The terminal calls: they block until everything is done, so that a stage may borrow.

use crate::runtime::plan::Plan;
use crate::stage::base::Stage;
use std::cmp::Ordering;
use std::iter::{Product, Sum};

impl<P: Plan> Stage<P> {
    /// Collects all outputs.
    ///
    /// Blocks until everything is done, so that source and closure may borrow. A stage that a token
    /// cuts short returns what there was by then, as if that were all: see
    /// [`cancel_on`](Self::cancel_on), and [`fail_on`](Self::fail_on) to get an error instead. The
    /// same holds for all terminal calls.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let (docs, limit) = (vec!["a", "bc"], 10);
    /// let sums: Vec<usize> = docs.iter().par_map_ordered(8, |doc| doc.len() + limit).collect();
    /// assert_eq!(sums, [11, 12]);
    /// ```
    pub fn collect<B: FromIterator<P::Output>>(self) -> B {
        self.lazy.drain(|outputs| outputs.collect())
    }

    /// Calls `f` with each output, on this thread, as soon as it is ready.
    pub fn for_each<F: FnMut(P::Output)>(self, f: F) {
        self.lazy.drain(|outputs| outputs.for_each(f));
    }

    /// Folds all outputs into one value, on this thread; see [`Iterator::fold`].
    pub fn fold<B, F: FnMut(B, P::Output) -> B>(self, init: B, f: F) -> B {
        self.lazy.drain(|outputs| outputs.fold(init, f))
    }

    /// Folds all outputs into one, starting with the first; see [`Iterator::reduce`].
    pub fn reduce<F: FnMut(P::Output, P::Output) -> P::Output>(self, f: F) -> Option<P::Output> {
        self.lazy.drain(|outputs| outputs.reduce(f))
    }

    /// Counts the outputs.
    pub fn count(self) -> usize {
        self.lazy.drain(|outputs| outputs.count())
    }

    /// The last output.
    pub fn last(self) -> Option<P::Output> {
        self.lazy.drain(|outputs| outputs.last())
    }

    /// The sum of all outputs.
    pub fn sum<T: Sum<P::Output>>(self) -> T {
        self.lazy.drain(|outputs| outputs.sum())
    }

    /// The product of all outputs.
    pub fn product<T: Product<P::Output>>(self) -> T {
        self.lazy.drain(|outputs| outputs.product())
    }

    /// The smallest output; the first if there are several.
    pub fn min(self) -> Option<P::Output>
    where
        P::Output: Ord,
    {
        self.lazy.drain(|outputs| outputs.min())
    }

    /// The largest output; the last if there are several.
    pub fn max(self) -> Option<P::Output>
    where
        P::Output: Ord,
    {
        self.lazy.drain(|outputs| outputs.max())
    }

    /// The output with the smallest key; the first if there are several.
    pub fn min_by_key<B: Ord, F: FnMut(&P::Output) -> B>(self, f: F) -> Option<P::Output> {
        self.lazy.drain(|outputs| outputs.min_by_key(f))
    }

    /// The output with the largest key; the last if there are several.
    pub fn max_by_key<B: Ord, F: FnMut(&P::Output) -> B>(self, f: F) -> Option<P::Output> {
        self.lazy.drain(|outputs| outputs.max_by_key(f))
    }

    /// The smallest output by the comparison `f`; the first if there are several.
    pub fn min_by<F>(self, f: F) -> Option<P::Output>
    where
        F: FnMut(&P::Output, &P::Output) -> Ordering,
    {
        self.lazy.drain(|outputs| outputs.min_by(f))
    }

    /// The largest output by the comparison `f`; the last if there are several.
    pub fn max_by<F>(self, f: F) -> Option<P::Output>
    where
        F: FnMut(&P::Output, &P::Output) -> Ordering,
    {
        self.lazy.drain(|outputs| outputs.max_by(f))
    }

    /// Collects the outputs that `f` accepts into one collection, and the others into another.
    pub fn partition<B, F>(self, f: F) -> (B, B)
    where
        B: Default + Extend<P::Output>,
        F: FnMut(&P::Output) -> bool,
    {
        self.lazy.drain(|outputs| outputs.partition(f))
    }

    /// Collects pairs into two collections.
    pub fn unzip<A, B, FromA, FromB>(self) -> (FromA, FromB)
    where
        FromA: Default + Extend<A>,
        FromB: Default + Extend<B>,
        P: Plan<Output = (A, B)>,
    {
        self.lazy.drain(|outputs| outputs.unzip())
    }

    /// Whether `f` accepts any output; stops at the first.
    ///
    /// The method of `std` takes `&mut self`; this one takes the stage, so that it may borrow. To
    /// use the stage afterwards, write `stage.by_ref().any(f)`, which needs owned parts. The same
    /// holds for `all`, `find`, `find_map`, `position` and `try_for_each`.
    pub fn any<F: FnMut(P::Output) -> bool>(self, f: F) -> bool {
        self.lazy.drain(|mut outputs| outputs.any(f))
    }

    /// Whether `f` accepts all outputs; stops at the first that it rejects. See [`any`](Self::any).
    pub fn all<F: FnMut(P::Output) -> bool>(self, f: F) -> bool {
        self.lazy.drain(|mut outputs| outputs.all(f))
    }

    /// The first output that `f` accepts. See [`any`](Self::any).
    pub fn find<F: FnMut(&P::Output) -> bool>(self, f: F) -> Option<P::Output> {
        self.lazy.drain(|mut outputs| outputs.find(f))
    }

    /// The first `Some` that `f` returns. See [`any`](Self::any).
    pub fn find_map<B, F: FnMut(P::Output) -> Option<B>>(self, f: F) -> Option<B> {
        self.lazy.drain(|mut outputs| outputs.find_map(f))
    }

    /// The position of the first output that `f` accepts. See [`any`](Self::any).
    pub fn position<F: FnMut(P::Output) -> bool>(self, f: F) -> Option<usize> {
        self.lazy.drain(|mut outputs| outputs.position(f))
    }

    /// Calls `f` with each output until one fails; `f` returns a `Result<(), E>`, an `Option<()>`
    /// or a `ControlFlow<B>`. See [`any`](Self::any).
    ///
    /// # Errors
    ///
    /// The first failure of `f`; no further output is taken after it.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    /// use std::io::Write;
    ///
    /// let mut out = Vec::new();
    /// (0..3).par_map_ordered(2, |x| x * x).try_for_each(|square| writeln!(out, "{square}"))?;
    /// assert_eq!(out, b"0\n1\n4\n");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn try_for_each<F, R>(self, mut f: F) -> R
    where
        F: FnMut(P::Output) -> R,
        R: TryOutput,
    {
        self.lazy.drain(|outputs| {
            for output in outputs {
                let answer = f(output);
                if answer.is_failure() {
                    return answer;
                }
            }
            R::success()
        })
    }
}

/// What the closure of [`Stage::try_for_each`] may return, in place of the unstable
/// `std::ops::Try`. Sealed.
pub trait TryOutput: sealed::Sealed {
    /// Whether to stop.
    #[doc(hidden)]
    fn is_failure(&self) -> bool;

    /// The value to return after the last output.
    #[doc(hidden)]
    fn success() -> Self;
}

mod sealed {
    #[allow(unnameable_types)]
    pub trait Sealed {}
    impl<E> Sealed for Result<(), E> {}
    impl Sealed for Option<()> {}
    impl<B> Sealed for std::ops::ControlFlow<B, ()> {}
}

impl<E> TryOutput for Result<(), E> {
    fn is_failure(&self) -> bool {
        self.is_err()
    }

    fn success() -> Self {
        Ok(())
    }
}

impl TryOutput for Option<()> {
    fn is_failure(&self) -> bool {
        self.is_none()
    }

    fn success() -> Self {
        Some(())
    }
}

impl<B> TryOutput for std::ops::ControlFlow<B, ()> {
    fn is_failure(&self) -> bool {
        self.is_break()
    }

    fn success() -> Self {
        std::ops::ControlFlow::Continue(())
    }
}
