//! Stages that borrow, as iterators.

use crate::error::NotReady;
use crate::runtime::lazy::Outputs;
use crate::runtime::plan::Plan;
use crate::runtime::scope::{InScope, Scope, scoped};
use crate::stage::base::Stage;
use std::fmt;
use std::iter::FusedIterator;
use std::time::Duration;

/// Runs `f` with a scope in which stages may borrow from outside the scope and still be iterators.
///
/// When `f` returns (or panics), every stage of the scope is stopped and joined, even one that was
/// forgotten (`mem::forget`); running closures are waited for. Values created inside the scope's
/// closure cannot be borrowed, as with [`std::thread::scope`].
///
/// # Examples
///
/// ```
/// use fanfold::Fanfold;
///
/// let docs = vec![String::from("one two"), String::from("three")];
/// let needle = String::from("t");
/// let mut found = Vec::new();
/// fanfold::scope(|s| {
///     for hits in docs.iter().par_map_ordered(8, |d| d.matches(&needle).count()).within(s) {
///         found.push(hits);
///     }
/// });
/// assert_eq!(found, [1, 1]);
/// ```
pub fn scope<'env, F, T>(f: F) -> T
where
    F: for<'scope> FnOnce(&'scope Scope<'scope, 'env>) -> T,
{
    scoped(f)
}

/// A stage within a [`scope`]: an iterator that may borrow; made by [`Stage::within`].
#[must_use = "a stage is lazy: nothing runs before the first `next()`"]
pub struct Scoped<'scope, P: Plan> {
    pub(super) stage: Stage<P>,
    pub(super) scope: InScope<'scope>,
}

impl<P: Plan> Scoped<'_, P> {
    /// Whether the stage ended before its sources did, because a token was tripped; see
    /// [`Stage::is_cut_short`].
    pub fn is_cut_short(&self) -> bool {
        self.stage.is_cut_short()
    }
}

impl<P: Plan> Stage<P> {
    /// Puts the stage into a scope, which makes it an iterator although it borrows. The last option.
    ///
    /// In a chain of stages, put only the last one into the scope; those before it come along.
    /// Before anything that is not a stage (a `readahead`, or a `filter` of `std`), the stages in
    /// front of it must also be put into the scope: `.within(s).readahead(8).within(s)`.
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let words = ["to", "be", "or"];
    /// fanfold::scope(|s| {
    ///     let long = words.iter().par_map_ordered(2, |word| word.len()).within(s);
    ///     assert_eq!(long.sum::<usize>(), 6);
    /// });
    /// ```
    pub fn within<'scope>(self, scope: &'scope Scope<'scope, '_>) -> Scoped<'scope, P>
    where
        P: 'scope,
    {
        Scoped {
            stage: self,
            scope: InScope::new(scope),
        }
    }

    /// Calls `f` with the outputs as an iterator, although the stage may borrow.
    ///
    /// Returns what `f` returns. For a borrowing stage with something other than a further stage
    /// behind it: an adaptor of `std` or `itertools`, a [`readahead`](crate::Fanfold::readahead), a
    /// `for` loop, sinks. When `f` returns (or panics), the stage is stopped and joined, and what
    /// `f` did not take is dropped. Lazy: nothing runs before `f` asks for an output. For several
    /// stages at once, see [`scope`].
    ///
    /// # Examples
    ///
    /// ```
    /// use fanfold::Fanfold;
    ///
    /// let (words, least) = (["to", "be", "or", "not"], 3);
    /// let lens = || words.iter().par_map_ordered(2, |word| word.len());
    /// assert_eq!(lens().scoped(|lens| lens.filter(|len| *len >= least).count()), 1);
    /// // a further stage may follow what lies in between
    /// let sum: usize = lens().scoped(|lens| lens.skip(1).par_map_ordered(2, |len| len * least).sum());
    /// assert_eq!(sum, 21);
    /// // and a loop
    /// lens().scoped(|lens| {
    ///     for (place, len) in lens.enumerate() {
    ///         assert_eq!(len, words[place].len());
    ///     }
    /// });
    /// ```
    #[doc(alias("scope", "borrowed"))]
    pub fn scoped<R>(self, f: impl FnOnce(Outputs<'_, P>) -> R) -> R {
        self.lazy.lend(f)
    }
}

impl<P: Plan> fmt::Debug for Scoped<'_, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Scoped").field(&self.stage).finish()
    }
}

impl<'scope, P: Plan + 'scope> Scoped<'scope, P> {
    /// The next output if it is ready within `time`; see [`Stage::next_within`].
    ///
    /// # Panics
    ///
    /// As `next()`.
    ///
    /// # Errors
    ///
    /// [`NotReady`], which names the item that was waited for.
    pub fn next_within(&mut self, time: Duration) -> Result<Option<P::Output>, NotReady> {
        self.stage.lazy.next_scoped_within(&self.scope, time)
    }
}

impl<'scope, P: Plan + 'scope> Iterator for Scoped<'scope, P> {
    type Item = P::Output;

    #[inline]
    fn next(&mut self) -> Option<P::Output> {
        self.stage.lazy.next_scoped(&self.scope)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.stage.lazy.size_hint()
    }
}

impl<'scope, P: Plan + 'scope> FusedIterator for Scoped<'scope, P> {}
