//! Stages that borrow, as iterators.

use crate::engine::erase::{InScope, Scope, scoped};
use crate::engine::job::Job;
use crate::engine::source::Source;
use crate::error::Late;
use crate::stage::Stage;
use std::fmt;
use std::iter::FusedIterator;
use std::time::Duration;

/// Runs `f` with a scope in which stages may borrow what lives outside of it, and be iterators.
///
/// When `f` returns (or panics) every stage of the scope is stopped and joined, also one that was
/// forgotten (`mem::forget`); closures that run are waited for. What is created inside the
/// closure of the scope cannot be borrowed, as with [`std::thread::scope`].
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
pub struct Scoped<'scope, S: Source, J: Job<S::Item>>
where
    S::Item: Send,
{
    stage: Stage<S, J>,
    scope: InScope<'scope>,
}

impl<'scope, S: Source, J: Job<S::Item>> Scoped<'scope, S, J>
where
    S::Item: Send,
{
    pub(crate) fn new(stage: Stage<S, J>, scope: InScope<'scope>) -> Self {
        Scoped { stage, scope }
    }
}

impl<S: Source, J: Job<S::Item>> fmt::Debug for Scoped<'_, S, J>
where
    S::Item: Send,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Scoped").field(&self.stage).finish()
    }
}

impl<'scope, S, J> Scoped<'scope, S, J>
where
    S: Source + 'scope,
    S::Item: Send + 'scope,
    J: Job<S::Item> + 'scope,
    J::Output: 'scope,
{
    /// The next output, if it is there in `time`; see [`Stage::next_within`].
    ///
    /// # Panics
    ///
    /// As `next()`.
    ///
    /// # Errors
    ///
    /// [`Late`], which names the item that was waited for.
    pub fn next_within(&mut self, time: Duration) -> Result<Option<J::Output>, Late> {
        let stage = self.stage.lazy();
        stage.ask_scoped(&self.scope, |running| running.next_within(time))
    }
}

impl<S: Source, J: Job<S::Item>> Scoped<'_, S, J>
where
    S::Item: Send,
{
    /// Whether it has ended before its source did, because a token was tripped; see
    /// [`Stage::is_cut_short`].
    pub fn is_cut_short(&self) -> bool {
        self.stage.is_cut_short()
    }
}

impl<'scope, S, J> Iterator for Scoped<'scope, S, J>
where
    S: Source + 'scope,
    S::Item: Send + 'scope,
    J: Job<S::Item> + 'scope,
    J::Output: 'scope,
{
    type Item = J::Output;

    #[inline]
    fn next(&mut self) -> Option<J::Output> {
        self.stage.lazy().next_scoped(&self.scope)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.stage.outputs()
    }
}

impl<'scope, S, J> FusedIterator for Scoped<'scope, S, J>
where
    S: Source + 'scope,
    S::Item: Send + 'scope,
    J: Job<S::Item> + 'scope,
    J::Output: 'scope,
{
}
