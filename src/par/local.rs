//! `.local()`: a source that stays on the consumer's thread.

use crate::par::source::{Nothing, Source};
use crate::runtime::scope::ScopeContext;

/// A source that only the consumer's thread pulls; made by [`local`](crate::Fanfold::local).
///
/// It is not an `Iterator`: the adaptors of `std` go before `.local()`, a stage after it.
#[derive(Clone, Debug)]
#[must_use = "a source is lazy: put a stage behind it"]
pub struct Local<S> {
    inner: S,
    /// If the source is a stage, tells it the context in which it starts.
    enter: Option<fn(&mut S, ScopeContext)>,
}

impl<S> Local<S> {
    pub(crate) fn new(inner: S) -> Self {
        Local { inner, enter: None }
    }

    pub(crate) fn of_stage(inner: S, enter: fn(&mut S, ScopeContext)) -> Self {
        Local {
            inner,
            enter: Some(enter),
        }
    }
}

impl<S: Iterator> Source for Local<S> {
    type Item = S::Item;
    type Far = Nothing<S::Item>;
    type Near = S;
    const LOCAL: bool = true;

    fn place(mut self, cx: ScopeContext) -> Result<Self::Far, S> {
        if let Some(enter) = self.enter {
            enter(&mut self.inner, cx);
        }
        Err(self.inner)
    }

    fn hint(&self) -> (usize, Option<usize>) {
        self.inner.size_hint()
    }
}
