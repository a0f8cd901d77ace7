//! The terminal calls: they block until everything is done, so that a stage may borrow.

use crate::runtime::plan::Plan;
use crate::stage::base::Stage;
use std::cmp::Ordering;
use std::iter::{Product, Sum};
use std::ops::ControlFlow;

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
    #[doc(alias = "par_partition")]
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
    /// holds for `all`, `find`, `find_map`, `position`, `nth`, `try_fold` and `try_for_each`.
    #[doc(alias = "par_any")]
    pub fn any<F: FnMut(P::Output) -> bool>(self, f: F) -> bool {
        self.lazy.drain(|mut outputs| outputs.any(f))
    }

    /// Whether `f` accepts all outputs; stops at the first that it rejects. See [`any`](Self::any).
    #[doc(alias = "par_all")]
    pub fn all<F: FnMut(P::Output) -> bool>(self, f: F) -> bool {
        self.lazy.drain(|mut outputs| outputs.all(f))
    }

    /// The first output that `f` accepts. See [`any`](Self::any).
    #[doc(alias("par_find", "find_first", "find_any"))]
    pub fn find<F: FnMut(&P::Output) -> bool>(self, f: F) -> Option<P::Output> {
        self.lazy.drain(|mut outputs| outputs.find(f))
    }

    /// The first `Some` that `f` returns. See [`any`](Self::any).
    pub fn find_map<B, F: FnMut(P::Output) -> Option<B>>(self, f: F) -> Option<B> {
        self.lazy.drain(|mut outputs| outputs.find_map(f))
    }

    /// The position of the first output that `f` accepts. See [`any`](Self::any).
    #[doc(alias("position_first", "position_any"))]
    pub fn position<F: FnMut(P::Output) -> bool>(self, f: F) -> Option<usize> {
        self.lazy.drain(|mut outputs| outputs.position(f))
    }

    /// The output at position `n`, counted from 0; drops those before it. See [`any`](Self::any).
    pub fn nth(self, n: usize) -> Option<P::Output> {
        self.lazy.drain(|mut outputs| outputs.nth(n))
    }

    /// Whether the outputs are equal to the items of `other`, in the same order; stops at the first
    /// difference.
    pub fn eq<I>(self, other: I) -> bool
    where
        I: IntoIterator,
        P::Output: PartialEq<I::Item>,
    {
        self.lazy.drain(|outputs| outputs.eq(other))
    }

    /// Folds the outputs into one value, on this thread, until `f` fails; `f` returns a
    /// `Result<B, E>`, an `Option<B>` or a `ControlFlow<C, B>`. See [`any`](Self::any).
    ///
    /// # Errors
    ///
    /// The first failure of `f`; no further output is taken after it.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let bytes = [100_u8, 100, 100];
    /// let sum = bytes.iter().par_map_ordered(2, |x| x / 2).try_fold(0_u8, |sum, x| sum.checked_add(x));
    /// assert_eq!(sum, Some(150));
    /// let sum = bytes.iter().par_map_ordered(2, |x| *x).try_fold(0_u8, |sum, x| sum.checked_add(x));
    /// assert_eq!(sum, None);
    /// ```
    pub fn try_fold<B, F, R>(self, init: B, mut f: F) -> R
    where
        F: FnMut(B, P::Output) -> R,
        R: TryOutput<Value = B>,
    {
        self.lazy.drain(|outputs| {
            let mut value = init;
            for output in outputs {
                value = match f(value, output).value() {
                    Ok(value) => value,
                    Err(failure) => return failure,
                };
            }
            R::of(value)
        })
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
        R: TryOutput<Value = ()>,
    {
        self.try_fold((), |(), output| f(output))
    }
}

/// What the closures of [`Stage::try_for_each`] and [`Stage::try_fold`] may return, in place of the
/// unstable `std::ops::Try`: a `Result`, an `Option` or a `ControlFlow`. Sealed.
pub trait TryOutput: Sized + sealed::Sealed {
    /// What it holds if it is no failure.
    type Value;

    /// The value, or itself if it is a failure.
    #[doc(hidden)]
    fn value(self) -> Result<Self::Value, Self>;

    /// What holds this value.
    #[doc(hidden)]
    fn of(value: Self::Value) -> Self;
}

mod sealed {
    #[allow(unnameable_types)]
    pub trait Sealed {}
    impl<T, E> Sealed for Result<T, E> {}
    impl<T> Sealed for Option<T> {}
    impl<B, C> Sealed for std::ops::ControlFlow<B, C> {}
}

impl<T, E> TryOutput for Result<T, E> {
    type Value = T;

    fn value(self) -> Result<T, Self> {
        self.map_err(Err)
    }

    fn of(value: T) -> Self {
        Ok(value)
    }
}

impl<T> TryOutput for Option<T> {
    type Value = T;

    fn value(self) -> Result<T, Self> {
        self.ok_or(None)
    }

    fn of(value: T) -> Self {
        Some(value)
    }
}

impl<B, C> TryOutput for ControlFlow<B, C> {
    type Value = C;

    fn value(self) -> Result<C, Self> {
        match self {
            ControlFlow::Continue(value) => Ok(value),
            ControlFlow::Break(_) => Err(self),
        }
    }

    fn of(value: C) -> Self {
        ControlFlow::Continue(value)
    }
}
